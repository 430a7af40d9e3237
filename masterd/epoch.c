/*
 * The epoch of this master: a number greater than that of every master before.
 * It is on disk before anybody hears of it. Runs in bpmaster.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "libbproc/sysio.h"
#include "master.h"

static uint32_t read_epoch(const char *path)
{
	cleanup_fd int fd = open(path, O_RDONLY | O_CLOEXEC);
	char buf[32];
	ssize_t n;

	if (fd < 0)
		return 0;
	n = read(fd, buf, sizeof(buf) - 1);
	buf[n > 0 ? n : 0] = '\0';
	return (uint32_t)strtoul(buf, NULL, 10);
}

int epoch_next(const char *dir, uint32_t *ret_epoch, struct bproc_err *err)
{
	char path[CONFIG_PATH_MAX + 16], tmp[CONFIG_PATH_MAX + 16], buf[32];
	/* Seconds since 1970, so that a lost file does not make the epoch fall back. */
	uint32_t epoch = (uint32_t)time(NULL), old;
	cleanup_fd int fd = -1;
	int r;

	if (mkdir(dir, 0755) < 0 && errno != EEXIST)
		return bproc_err_set(err, errno, "%s: %s", dir, strerror(errno));
	snprintf(path, sizeof(path), "%s/epoch", dir);
	snprintf(tmp, sizeof(tmp), "%s/epoch.new", dir);
	old = read_epoch(path);
	if (epoch <= old)
		epoch = old + 1;
	fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (fd < 0)
		return bproc_err_set(err, errno, "%s: %s", tmp, strerror(errno));
	snprintf(buf, sizeof(buf), "%u\n", epoch);
	r = write_full(fd, buf, strlen(buf));
	if (r == 0 && (fsync(fd) < 0 || rename(tmp, path) < 0))
		r = -errno;
	if (r < 0)
		return bproc_err_set(err, -r, "%s: %s", path, strerror(-r));
	*ret_epoch = epoch;
	return 0;
}
