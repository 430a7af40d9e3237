/*
 * Start and end of a daemon (daemon.h). Runs in bpmaster and bpslave.
 */
#include <errno.h>
#include <sched.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "daemon.h"
#include "sysio.h"

int daemon_run_dir(struct bproc_err *err)
{
	if (mkdir(run_dir(), 0755) < 0 && errno != EEXIST)
		return bproc_err_set(err, errno, "%s: %s", run_dir(), strerror(errno));
	return 0;
}

int daemon_lock(const char *name, struct bproc_err *err)
{
	cleanup_fd int fd = -1;
	char path[256], pid[32];
	ssize_t n;

	if (snprintf(path, sizeof(path), "%s/%s.pid", run_dir(), name) >= (int)sizeof(path))
		return bproc_err_set(err, ENAMETOOLONG, "%s: too long", run_dir());
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
	if (fd < 0)
		return bproc_err_set(err, errno, "%s: %s", path, strerror(errno));
	if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		n = read(fd, pid, sizeof(pid) - 1);
		pid[n > 0 ? n : 0] = '\0';
		pid[strcspn(pid, "\n")] = '\0';
		return bproc_err_set(err, EBUSY, "%s: another %s is running, pid %s", path, name,
				     *pid ? pid : "unknown");
	}
	snprintf(pid, sizeof(pid), "%d\n", (int)getpid());
	if (ftruncate(fd, 0) < 0 || write_full(fd, pid, strlen(pid)) < 0)
		return bproc_err_set(err, EIO, "%s: cannot write", path);
	return take_fd(fd);
}

void daemon_notify(const char *state)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	cleanup_fd int fd = -1;
	size_t n;

	if (!path || (path[0] != '/' && path[0] != '@'))
		return;
	n = strlen(path);
	if (n >= sizeof(a.sun_path))
		return;
	memcpy(a.sun_path, path, n);
	if (a.sun_path[0] == '@') /* abstract */
		a.sun_path[0] = '\0';
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd >= 0)
		sendto(fd, state, strlen(state), MSG_NOSIGNAL, (struct sockaddr *)&a,
		       (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n));
}

static void stop_loop(evutil_socket_t sig, short what, void *arg)
{
	(void)sig;
	(void)what;
	daemon_notify("STOPPING=1");
	event_base_loopexit(arg, NULL);
}

int daemon_signals(struct event_base *base, struct daemon_signals *ret_signals)
{
	struct daemon_signals s;

	signal(SIGPIPE, SIG_IGN);
	s.term = evsignal_new(base, SIGTERM, stop_loop, base);
	s.intr = evsignal_new(base, SIGINT, stop_loop, base);
	if (!s.term || !s.intr || event_add(s.term, NULL) < 0 || event_add(s.intr, NULL) < 0) {
		daemon_signals_free(&s);
		return -ENOMEM;
	}
	*ret_signals = s;
	return 0;
}

void daemon_signals_free(struct daemon_signals *s)
{
	if (s->term)
		event_free(s->term);
	if (s->intr)
		event_free(s->intr);
	*s = (struct daemon_signals){0};
}

int daemon_cpu(const char *which, struct bproc_err *err)
{
	cpu_set_t may, one;
	char *end = NULL;
	long cpu = which ? strtol(which, &end, 10) : -1;

	if (which && strcmp(which, "any") == 0)
		return 0;
	/* Over 1024 processors the set is too small: then none is chosen for us. */
	if (sched_getaffinity(0, sizeof(may), &may) < 0)
		return which ? bproc_err_set(err, errno, "processor %s: %s", which, strerror(errno))
			     : 0;
	for (int i = 0; !which && i < CPU_SETSIZE; i++)
		if (CPU_ISSET(i, &may))
			cpu = i;
	if (cpu < 0 || cpu >= CPU_SETSIZE || !CPU_ISSET(cpu, &may) ||
	    (which && (end == which || *end)))
		return bproc_err_set(err, EINVAL, "%s: not a processor that may be used",
				     which ? which : "none");
	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	sched_setaffinity(0, sizeof(one), &one);
	return 0;
}
