/* A file of /proc/PID (procfile.h). In bpslave and in bpinit. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "libbproc/sysio.h"
#include "slaved/procfile.h"

ssize_t proc_file(int proc, int32_t pid, const char *file, char *buf, size_t size)
{
	cleanup_fd int fd = -1;
	char path[48];
	ssize_t n;

	snprintf(path, sizeof(path), "%s%d/%s", proc == AT_FDCWD ? "/proc/" : "", pid, file);
	fd = openat(proc, path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, buf, size - 1);
	if (n < 0)
		n = -errno;
	buf[n > 0 ? n : 0] = '\0';
	return n;
}
