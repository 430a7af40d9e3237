/*
 * What a process has used, from /proc (used.h). In bpslave and in bpinit, each with the numbers
 * of its own pid namespace.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "slaved/procfile.h"
#include "slaved/used.h"

#define NS_PER_S 1000000000ull
#define US_PER_S 1000000ull

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

	if (proc_file(AT_FDCWD, pid, "stat", stat, sizeof(stat)) > 0 &&
	    used_parse(stat, ret_used, ret_start_ns))
		return;
	*ret_used = (struct chan_used){0};
	if (ret_start_ns)
		*ret_start_ns = UINT64_MAX;
}
