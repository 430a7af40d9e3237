/*
 * Has the kernel what it takes to see which pages of another process were written, without that
 * one being stopped: asynchronous write-protection by userfaultfd and PAGEMAP_SCAN, Linux 6.7.
 * Library code.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vmadump/blob/dump_scan.h"
#include "vmadump/live.h"

#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1
#endif

static int has_scan(void)
{
	struct scan_region r;
	struct scan_arg a = {.size = sizeof a,
			     .vec = (uint64_t)(uintptr_t)&r,
			     .vec_len = 1,
			     .anyof = SCAN_PRESENT,
			     .report = SCAN_PRESENT};
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	int ok = fd >= 0 && ioctl(fd, SCAN_IOCTL, &a) >= 0;

	if (fd >= 0)
		close(fd);
	return ok;
}

/* In a mode that serves faults of user space only, which any user may have. */
static int has_tracking(void)
{
	struct uffdio_api api = {.api = UFFD_API, .features = LIVE_UFFD_FEATURES};
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);
	int ok = fd >= 0 && ioctl(fd, UFFDIO_API, &api) == 0;

	if (fd >= 0)
		close(fd);
	return ok;
}

const char *live_probe(void)
{
	const char *without = secure_getenv("BPROC_WITHOUT");

	if (without && strcmp(without, "live") == 0)
		return "pages do not go ahead: BPROC_WITHOUT says so";
	if (!has_scan())
		return "pages do not go ahead: the kernel has no PAGEMAP_SCAN (Linux 6.7)";
	if (!has_tracking())
		return "pages do not go ahead: the kernel has no asynchronous write-protection by "
		       "userfaultfd (Linux 6.7), or does not allow it";
	return NULL;
}
