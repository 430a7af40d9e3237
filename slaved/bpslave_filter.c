/*
 * The seccomp filters of a process that leaves: read by ptrace and judged (doc/move.md). Nobody
 * else on a node may read them: it takes CAP_SYS_ADMIN and no filter of one's own, and all
 * that lives in the node's namespaces has the node's. A child of ours does it, which traces the
 * process for a moment: one that does not stop, or filters that are long, keep that one busy, and
 * not us. Runs in bpslave.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "slaved/bpslave_filter.h"
#include "slaved/filter_run.h"
#include "vmadump/blob/filters.h"
#include "vmadump/carry.h"

#define READ_MS 3000   /* until it has stopped and is read */
#define READERS_MAX 64 /* at once */
#define CAP_SYS_ADMIN_BIT 21

/* What the child writes before the filters. */
struct result {
	int32_t err;
	uint32_t len;
	char text[LOCAL_TEXT_MAX];
};
struct filter_reader {
	filters_fn fn;
	void *arg;
	int pidfd; /* owned: of the child, which is reaped as every child of ours */
	int fd;	   /* owned */
	struct event *readable, *late; /* owned */
	size_t have;
	struct {
		struct result r;
		uint8_t bytes[FILTERS_MAX];
	} in;
};

static unsigned readers;
/* Of its first thread: so many are the place's, and so many its own. */
struct has {
	uint32_t place, n;
};

uint64_t filters_id(const uint8_t *bytes, size_t len)
{
	uint64_t id = 0;
	size_t n;

	for (size_t at = 0; (n = filters_next(bytes, len, at)) > 0; at += n)
		id = filters_mix(id, bytes + at, n);
	return id;
}

/* -- which it has */

/* Those that bpinit has are this place's, the node's own before all, and of everybody here. */
static uint32_t of_place(uint32_t most)
{
	static struct {
		int32_t pid;
		uint32_t n;
	} init;
	struct proc_ids ids;

	/* bpinit may have got its own since: then it has one more. */
	if ((init.pid != init_pid() || init.n != most) && proc_read_ids(init_pid(), &ids) == 0) {
		init.pid = init_pid();
		init.n = ids.filters;
	}
	return init.n;
}

/* As the kernel asks for of who sets one. */
static bool may_set(const struct proc_ids *ids)
{
	return ids->no_new_privs || ids->cap_eff >> CAP_SYS_ADMIN_BIT & 1;
}

/* One that differs from the first, as it is seen here; why it cannot go, or "". */
static void refuse_thread(const struct proc_ids *ids, const struct filter_move *how,
			  char text[LOCAL_TEXT_MAX])
{
	if (ids->seccomp == SECCOMP_MODE_STRICT)
		snprintf(text, LOCAL_TEXT_MAX,
			 "thread %d is in seccomp's strict mode; it cannot move", ids->host_pid);
	else if (how->fork)
		snprintf(text, LOCAL_TEXT_MAX,
			 "thread %d has a seccomp filter of its own; it cannot be carried",
			 ids->host_pid);
	else if (!may_set(ids))
		snprintf(text, LOCAL_TEXT_MAX,
			 "thread %d has a seccomp filter that it could not set again; it cannot "
			 "move",
			 ids->host_pid);
}

/* Threads may have filters of their own. 1: some have others than the first; -1: with the reason.
 */
static int other_threads(const struct proc_ids *ids, const struct filter_move *how,
			 char text[LOCAL_TEXT_MAX])
{
	char path[48];
	struct dirent *e;
	int found = 0;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/task", ids->host_pid);
	dir = opendir(path);
	while (dir && !text[0] && (e = readdir(dir))) {
		struct proc_ids its;

		if (e->d_name[0] == '.' || proc_read_ids(atoi(e->d_name), &its) < 0 ||
		    (its.seccomp == ids->seccomp && its.filters == ids->filters))
			continue;
		its.host_pid = atoi(e->d_name);
		refuse_thread(&its, how, text);
		found = 1;
	}
	if (dir)
		closedir(dir);
	return text[0] ? -1 : found;
}

/* How many its first thread has of its own; or -errno with the reason in text. */
static int count(const struct proc_ids *ids, const struct filter_move *how, struct has *ret,
		 char text[LOCAL_TEXT_MAX])
{
	uint32_t place = ids->seccomp == SECCOMP_MODE_FILTER ? of_place(ids->filters) : 0;
	int each = 0;

	if (ids->seccomp == SECCOMP_MODE_STRICT) {
		snprintf(text, LOCAL_TEXT_MAX, "it is in seccomp's strict mode; it cannot move");
		return -ENOTSUP;
	}
	/* When all are parked they stand still for it. Then, where no filter is on everybody, the
	 * blob has compared their modes, which is enough. */
	if (ids->threads > 1 && (ids->seccomp || how->fork || !how->asks || how->each))
		each = other_threads(ids, how, text);
	if (each < 0)
		return -ENOTSUP;
	ret->place = place < ids->filters ? place : ids->filters;
	ret->n = ids->filters - ret->place;
	if (ret->n && !may_set(ids)) {
		snprintf(text, LOCAL_TEXT_MAX,
			 "it has a seccomp filter that it could not set again; it cannot move");
		return -ENOTSUP;
	}
	return ret->n || each;
}

/* -- read and judged by a child */

/* One by which it asks us, or the blob whoever has put it there: of no other kind are those. */
static bool is_packets(int pidfd, const char *number)
{
	cleanup_fd int fd = (int)syscall(SYS_pidfd_getfd, pidfd, atoi(number), 0);
	socklen_t len = sizeof(int);
	int type = 0;

	return fd >= 0 && getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) == 0 &&
	       type == SOCK_SEQPACKET;
}

/* Anything but files, pipes and devices that a path leads to. */
static bool has_objects(int32_t host_pid, bool asks)
{
	static const char uffd[] = "anon_inode:[userfaultfd]"; /* for pages that go ahead */
	cleanup_fd int pidfd = (int)syscall(SYS_pidfd_open, host_pid, 0);
	char path[40], to[64];
	bool found = false;
	struct dirent *e;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/fd", host_pid);
	dir = opendir(path);
	while (dir && !found && (e = readdir(dir))) {
		ssize_t n = readlinkat(dirfd(dir), e->d_name, to, sizeof(to) - 1);

		to[n > 0 ? n : 0] = '\0';
		found = n > 0 && strncmp(to, "pipe:", 5) != 0 && strcmp(to, uffd) != 0 &&
			(to[0] != '/' || strncmp(to, "/memfd:", 7) == 0) &&
			!(asks && strncmp(to, "socket:", 7) == 0 && is_packets(pidfd, e->d_name));
	}
	if (dir)
		closedir(dir);
	return found;
}

/* What they do not allow, as an error. */
static void judge(const uint8_t *bytes, const struct filter_move *m, struct result *r)
{
	enum filter_verdict why = FILTER_ALLOWS;
	const char *call = filters_judge(bytes, r->len, m, &why);

	if (!call)
		return;
	r->err = ENOTSUP;
	if (why == FILTER_DENIES || why == FILTER_ERRNO)
		snprintf(r->text, sizeof(r->text),
			 "its seccomp filter does not allow %s(), which a move needs", call);
	else
		snprintf(r->text, sizeof(r->text),
			 "its seccomp filter is too long to tell whether it allows %s()", call);
}

static _Noreturn void child(int32_t host_pid, struct filter_move m, struct has has, int to)
{
	static uint8_t bytes[FILTERS_MAX] __attribute__((aligned(8)));
	struct vmad_err err = {0};
	struct result r = {0};

	signal(SIGCHLD, SIG_DFL); /* the loop's handler has nobody to tell here */
	if (dup2(to, 3) < 0 || syscall(SYS_close_range, 4u, ~0u, 0u) < 0)
		_exit(1);
	m.objects = has_objects(host_pid, m.asks);
	m.sealed = has_vm_flag(host_pid, "sl");
	if (vmad_filters_pid(host_pid, has.place, has.n, filters_restart, bytes, &r.len, &err) <
	    0) {
		r.err = err.code ? err.code : EIO;
		snprintf(r.text, sizeof(r.text), "%s", err.text);
	} else {
		judge(bytes, &m, &r);
	}
	r.len = r.err ? 0 : r.len;
	_exit(write_full(3, &r, sizeof(r)) < 0 || write_full(3, bytes, r.len) < 0);
}

void filters_cancel(struct filter_reader *r)
{
	if (!r)
		return;
	/* What it holds goes on with its end. */
	if (r->pidfd >= 0)
		syscall(SYS_pidfd_send_signal, r->pidfd, SIGKILL, NULL, 0);
	close_fd(r->pidfd);
	free_event(&r->readable);
	free_event(&r->late);
	close_fd(r->fd);
	free(r);
	readers--;
}

static void answer(struct filter_reader *r, int err, const char *text)
{
	struct filter_answer a = {.err = err};
	filters_fn fn = r->fn;
	void *arg = r->arg;

	snprintf(a.text, sizeof(a.text), "%s", text);
	if (err == 0) {
		a.bytes = malloc(r->in.r.len);
		a.len = r->in.r.len;
		a.err = a.bytes ? 0 : ENOMEM;
	}
	if (a.bytes)
		memcpy(a.bytes, r->in.bytes, a.len);
	filters_cancel(r);
	fn(arg, &a);
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
	struct filter_reader *r = arg;
	ssize_t n = read(fd, (char *)&r->in + r->have, sizeof(r->in) - r->have);

	(void)what;
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n > 0) {
		r->have += (size_t)n;
		if (r->have < sizeof(r->in.r) || r->in.r.len > FILTERS_MAX ||
		    r->have < sizeof(r->in.r) + r->in.r.len)
			return;
	} else {
		return answer(r, EIO, "its seccomp filters could not be read");
	}
	r->in.r.text[sizeof(r->in.r.text) - 1] = '\0';
	answer(r, r->in.r.err, r->in.r.text);
}

static void on_late(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	answer(arg, EBUSY, "it does not stop for its seccomp filters to be read");
}

static int start(struct filter_reader *r, int32_t host_pid, const struct filter_move *how,
		 struct has has)
{
	pid_t pid;
	int end[2];

	if (pipe2(end, O_CLOEXEC) < 0)
		return -errno;
	r->fd = end[0];
	fcntl(r->fd, F_SETFL, O_NONBLOCK);
	r->readable = watch_fd(r->fd, EV_READ, on_readable, r);
	r->late = new_timer(on_late, r);
	pid = r->readable && r->late ? fork() : -1;
	if (pid == 0)
		child(host_pid, *how, has, end[1]);
	close_fd(end[1]);
	if (pid < 0)
		return -EAGAIN;
	r->pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	start_timer(r->late, READ_MS);
	return 0;
}

int filters_want(const struct proc_ids *ids, const struct filter_move *how, filters_fn fn,
		 void *arg, struct filter_reader **ret_reader, char text[LOCAL_TEXT_MAX])
{
	struct has has = {0, 0};
	int e = count(ids, how, &has, text);
	struct filter_reader *r;

	if (e <= 0)
		return e;
	r = readers < READERS_MAX ? malloc(sizeof(*r)) : NULL;
	if (!r) {
		snprintf(text, LOCAL_TEXT_MAX, "too many with seccomp filters at once");
		return -EAGAIN;
	}
	readers++;
	r->fn = fn;
	r->arg = arg;
	r->fd = r->pidfd = -1;
	r->readable = r->late = NULL;
	r->have = 0;
	e = start(r, ids->host_pid, how, has);
	if (e < 0) {
		snprintf(text, LOCAL_TEXT_MAX, "its seccomp filters: %s", strerror(-e));
		filters_cancel(r);
		return e;
	}
	*ret_reader = r;
	return 0;
}

/* -- LOCAL_LOOK */

struct looking {
	uint32_t client, id;
};

static void on_look(void *arg, const struct filter_answer *a)
{
	struct looking l = *(struct looking *)arg;

	free(arg);
	free(a->bytes);
	if (a->err)
		local_error(l.client, l.id, LOCAL_LOOK, a->err, a->text);
	else
		local_answer(l.client, l.id, LOCAL_LOOK, "", 0);
}

/* Its number, as we see it: a pidfd names a process in every namespace. 0: it is none. */
static int32_t pid_of(int pidfd)
{
	char path[40], text[512], *at;
	cleanup_fd int fd = -1;
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", pidfd);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	text[n > 0 ? n : 0] = '\0';
	at = strstr(text, "\nPid:\t");
	return at ? atoi(at + 6) : 0;
}

void filters_look(uint32_t client, uint32_t id, const struct local_look *ask, uid_t uid, int pidfd)
{
	const struct filter_move how = {.ahead = ask->flags & LOCAL_LOOK_AHEAD,
					.exec = ask->flags & LOCAL_LOOK_EXEC,
					.locks = ask->flags & LOCAL_LOOK_LOCKS};
	char text[LOCAL_TEXT_MAX] = "";
	struct filter_reader *reader = NULL;
	struct looking *l = NULL;
	int32_t pid = pid_of(pidfd);
	struct proc_ids ids;
	struct has has;
	int e;

	/* One that is not there, or has none, is for whoever asks to find. */
	e = pid > 0 && proc_read_ids(pid, &ids) == 0 ? count(&ids, &how, &has, text) : 0;
	/* It is stopped for it: not somebody else's. */
	if (e > 0 && uid != 0 && (ids.uid[0] != uid || ids.uid[1] != uid || ids.uid[2] != uid)) {
		snprintf(text, sizeof(text),
			 "it has a seccomp filter, and is another user's; it cannot move");
		e = -EPERM;
	}
	l = e > 0 ? malloc(sizeof(*l)) : NULL;
	if (l) {
		*l = (struct looking){client, id};
		e = filters_want(&ids, &how, on_look, l, &reader, text);
	}
	if (reader)
		return;
	free(l);
	if (e < 0)
		local_error(client, id, LOCAL_LOOK, -e, text);
	else
		local_answer(client, id, LOCAL_LOOK, "", 0);
}

/* -- at the target */

int filters_file(const Bproc__MoveStart *s, int *ret_fd)
{
	cleanup_fd int fd = -1;
	int e = 0;

	*ret_fd = -1;
	if (s->filters.len == 0 || s->kind == MOVE_LIVE)
		return 0;
	if (s->filters.len > FILTERS_MAX)
		return -EBADMSG;
	fd = memfd_create("bproc filters", MFD_CLOEXEC);
	e = fd < 0 ? -errno : write_full(fd, s->filters.data, s->filters.len);
	if (e == 0)
		*ret_fd = take_fd(fd);
	return e;
}
