/*
 * The limits of a process, as /proc has them in words. Runs in bpslave.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "bpslave.h"

/* "name   soft   hard   units", in the order of the kernel's table (fs/proc/base.c). */
int proc_parse_limits(const char *text, uint64_t ret_rlim[16][2])
{
	static const char *const names[16] = {
		[RLIMIT_CPU] = "Max cpu time",
		[RLIMIT_FSIZE] = "Max file size",
		[RLIMIT_DATA] = "Max data size",
		[RLIMIT_STACK] = "Max stack size",
		[RLIMIT_CORE] = "Max core file size",
		[RLIMIT_RSS] = "Max resident set",
		[RLIMIT_NPROC] = "Max processes",
		[RLIMIT_NOFILE] = "Max open files",
		[RLIMIT_MEMLOCK] = "Max locked memory",
		[RLIMIT_AS] = "Max address space",
		[RLIMIT_LOCKS] = "Max file locks",
		[RLIMIT_SIGPENDING] = "Max pending signals",
		[RLIMIT_MSGQUEUE] = "Max msgqueue size",
		[RLIMIT_NICE] = "Max nice priority",
		[RLIMIT_RTPRIO] = "Max realtime priority",
		[RLIMIT_RTTIME] = "Max realtime timeout",
	};
	uint64_t rlim[16][2];

	for (int r = 0; r < 16; r++) {
		const char *p = strstr(text, names[r]);
		char word[2][32];

		/* "Max file size" is also the end of nothing else: each name stands at a line. */
		if (!p || sscanf(p + strlen(names[r]), "%31s %31s", word[0], word[1]) != 2)
			return -EBADMSG;
		for (int k = 0; k < 2; k++)
			rlim[r][k] = strcmp(word[k], "unlimited") == 0
					     ? RLIM_INFINITY
					     : strtoull(word[k], NULL, 10);
	}
	memcpy(ret_rlim, rlim, sizeof(rlim));
	return 0;
}

/* Where bpslave may not ask the kernel: another user's process, without CAP_SYS_RESOURCE. */
int proc_read_limits(int32_t host_pid, uint64_t ret_rlim[16][2])
{
	cleanup_fd int fd = -1;
	char path[32], text[4096];
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d/limits", host_pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	if (n < 0)
		return -errno;
	text[n] = '\0';
	return proc_parse_limits(text, ret_rlim);
}
