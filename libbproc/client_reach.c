/*
 * The bpslave of this machine: found, and waited for when it was killed, since another one is about
 * to come. In every process that uses the library.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "libbproc/client.h"
#include "libbproc/sysio.h"

/* One that was killed is started again after RestartSec (packaging/), and then has to begin. */
#define RESTART_MS 5000
#define RESTART_NAP_MS 10
#define BEGINS_MS 50 /* its socket is unlinked and made again */
#define AGAIN_MAX 3  /* bpslaves of which a move is asked after the first */

/* A bpslave that begins makes its socket anew. bpinit's stays, also while there is none. */
static bool is_set_up(void)
{
	char path[108];

	snprintf(path, sizeof(path), "%s/%s", run_dir(), INIT_SOCK);
	return access(path, F_OK) == 0;
}

static int socket_path(char path[108], struct bproc_err *err)
{
	if (snprintf(path, 108, "%s/%s", run_dir(), LOCAL_SOCK) >= 108)
		return bproc_err_set(err, ENAMETOOLONG, "path of %s in %s is too long", LOCAL_SOCK,
				     run_dir());
	return 0;
}

/*
 * One that was stopped took its socket away. If nobody listens at it, it was killed, and another
 * one is about to come, which is waited for.
 */
static int connect_waiting(const char *path)
{
	const struct timespec nap = {.tv_nsec = RESTART_NAP_MS * 1000000};
	int fd, most = BEGINS_MS;

	for (int ms = 0;; ms += RESTART_NAP_MS) {
		fd = unix_connect(path);
		if (fd == -ECONNREFUSED)
			most = RESTART_MS;
		else if (fd != -ENOENT || !is_set_up())
			return fd;
		if (ms >= most)
			return -ECONNREFUSED;
		nanosleep(&nap, NULL);
	}
}

int client_connect(struct bproc_err *err)
{
	char path[108]; /* what sun_path holds */
	int fd, up, e = socket_path(path, err);

	if (e < 0)
		return e;
	fd = connect_waiting(path);
	switch (-fd) {
	case ENOENT:
	case ENOTDIR:
		return bproc_err_set(err, ENOSYS, "BProc is not set up here: no %s", path);
	case ECONNREFUSED:
		return bproc_err_set(err, ECONNREFUSED, "bpslave is not running here (%s)", path);
	}
	if (fd < 0)
		return bproc_err_set(err, -fd, "%s: %s", path, strerror(-fd));
	/* Numbers 0 to 2 are somebody's stdin, stdout, stderr, even if closed now. */
	if (fd < 3) {
		up = fcntl(fd, F_DUPFD_CLOEXEC, 3);
		close_fd(fd);
		fd = up;
	}
	return fd < 0 ? bproc_err_set(err, errno, "%s: %s", path, strerror(errno)) : fd;
}

static void who_listens(struct timespec *ret)
{
	struct bproc_err err;
	struct stat st = {0};
	char path[108];

	if (socket_path(path, &err) == 0 && stat(path, &st) < 0)
		st = (struct stat){0};
	*ret = st.st_ctim;
}

void client_mark(struct client_mark *m)
{
	who_listens(&m->since);
	m->times = 0;
	m->busy = 0;
}

bool client_again(int e, struct client_mark *m)
{
	const struct timespec nap = {.tv_nsec = RESTART_NAP_MS * 1000000};
	struct bproc_err err;
	struct timespec now;
	int fd, was = errno; /* the caller's, of what has failed */

	if (e >= 0 || m->times == AGAIN_MAX)
		return false;
	/* What the last one had begun is being undone. */
	if (e == -EBUSY && m->times > 0 && m->busy++ < RESTART_MS / RESTART_NAP_MS) {
		nanosleep(&nap, NULL);
		return true;
	}
	fd = client_connect(&err);
	close_fd(fd);
	errno = was;
	if (fd < 0)
		return false;
	who_listens(&now);
	if (now.tv_sec == m->since.tv_sec && now.tv_nsec == m->since.tv_nsec)
		return false;
	m->since = now;
	m->times++;
	return true;
}
