/*
 * What a process has used, from /proc (used.h). In bpslave and in bpinit, each with the numbers
 * of its own pid namespace.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "libbproc/sysio.h"
#include "slaved/used.h"

#define NS_PER_S 1000000000ull
#define US_PER_S 1000000ull

static bool slurp(int32_t pid, const char *file, char *buf, size_t size)
{
	cleanup_fd int fd = -1;
	char path[48];
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d/%s", pid, file);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, buf, size - 1);
	buf[n > 0 ? n : 0] = '\0';
	return n > 0;
}

bool used_parse(const char *stat, struct chan_used *ret_used, uint64_t *ret_start_ns)
{
	const char *end = strrchr(stat, ')'); /* the name may hold anything, even ") R 1" */
	uint64_t hz = (uint64_t)sysconf(_SC_CLK_TCK);
	unsigned long utime, stime;
	long cutime, cstime;
	unsigned long long start;

	if (!end ||
	    sscanf(end + 1,
		   " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu %ld %ld %*d %*d %*d %*d "
		   "%llu",
		   &utime, &stime, &cutime, &cstime, &start) != 5)
		return false;
	*ret_used = (struct chan_used){.utime_us = (utime + (uint64_t)cutime) * US_PER_S / hz,
				       .stime_us = (stime + (uint64_t)cstime) * US_PER_S / hz};
	if (ret_start_ns)
		*ret_start_ns = start * (NS_PER_S / hz);
	return true;
}

void used_read(int32_t pid, struct chan_used *ret_used, uint64_t *ret_start_ns)
{
	char stat[1024];

	if (slurp(pid, "stat", stat, sizeof(stat)) && used_parse(stat, ret_used, ret_start_ns))
		return;
	*ret_used = (struct chan_used){0};
	if (ret_start_ns)
		*ret_start_ns = UINT64_MAX;
}

void used_read_peak(int32_t pid, struct chan_used *used)
{
	static const char name[] = "\nVmHWM:";
	char status[2048];
	const char *p = slurp(pid, "status", status, sizeof(status)) ? strstr(status, name) : NULL;

	if (p)
		used->maxrss_kb = strtoull(p + sizeof(name) - 1, NULL, 10);
}
