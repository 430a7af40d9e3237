/*
 * What of a process cannot be carried, found while it runs. Library code; runs in whoever dumps,
 * and in a child of that.
 *
 * To look at a descriptor or a mapping takes some 10 us, and a process that is stopped for the
 * look and then refused has stood still for nothing. One that has very many is looked at before:
 * the child takes copies of its descriptors under the same numbers (pidfd_getfd(2), ptrace's
 * right), and the blob looks at those and at /proc as it does in the process itself: one table of
 * refusals. What changes meanwhile is found when it is stopped, as ever. A child, since numbers
 * are wanted, and what is copied must be gone again whatever happens.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmadump/tree.h"

#define LIST_BYTES 4096
#define OWN_FDS 8 /* that the child keeps above those of the process */

struct entry { /* linux_dirent64, as getdents64(2) has it */
	uint64_t ino, off;
	uint16_t len;
	uint8_t type;
	char name[];
};

/* Out of the way of all numbers that the process has. */
static int lift(int fd, int above)
{
	return fcntl(fd, F_DUPFD_CLOEXEC, above);
}

/* Its descriptors, each under its number. 0, or -1: not all of them could be had. */
static int copy_all(int pidfd, int list, int above)
{
	char buf[LIST_BYTES] __attribute__((aligned(8)));
	long n;

	while ((n = syscall(SYS_getdents64, list, buf, sizeof buf)) > 0) {
		for (long at = 0; at < n;) {
			const struct entry *e = (const void *)(buf + at);
			int fd = atoi(e->name), got;

			at += e->len;
			if (e->name[0] == '.')
				continue;
			if (fd >= above)
				return -1;
			got = (int)syscall(SYS_pidfd_getfd, pidfd, fd, 0);
			if (got < 0 && errno == EBADF) /* closed since */
				continue;
			if (got < 0 || (got != fd && dup3(got, fd, O_CLOEXEC) < 0))
				return -1;
			if (got != fd)
				close(got);
		}
	}
	return n < 0 ? -1 : 0;
}

/* What the child is to do. */
struct order {
	pid_t pid;
	int pidfd, out, above, leaves;
	unsigned away, flags;
	int head;	  /* where its head goes; -1: nowhere */
	int share;	  /* what tree_alone() says of its memory; -1; owned */
	uint8_t *threads; /* with that: blocks of all of them, thread_len apart */
	uint32_t nthreads, thread_len;
};

/* In the child. Nothing of libc that remembers which process it is in. */
static _Noreturn void look(struct order *o)
{
	struct rlimit most;
	char path[40];
	struct blob *b;
	int list;

	if (getrlimit(RLIMIT_NOFILE, &most) == 0) {
		most.rlim_cur = most.rlim_max;
		setrlimit(RLIMIT_NOFILE, &most);
		/* Its table may be as large as there is room for, and hold less. */
		if ((rlim_t)o->above + OWN_FDS > most.rlim_max)
			o->above = (int)most.rlim_max - OWN_FDS;
	}
	snprintf(path, sizeof path, "/proc/%d/fd", o->pid);
	o->pidfd = lift(o->pidfd, o->above);
	o->out = lift(o->out, o->above);
	o->head = o->head < 0 ? -1 : lift(o->head, o->above);
	o->share = o->share < 0 ? -1 : lift(o->share, o->above);
	list = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	list = list < 0 ? -1 : lift(list, o->above);
	b = vmad_blob_map();
	if (o->pidfd < 0 || o->out < 0 || list < 0 || !b)
		_exit(1);
	syscall(SYS_close_range, 0, o->above - 1, 0);
	if (copy_all(o->pidfd, list, o->above) < 0)
		_exit(1);
	close(list);
	close(o->pidfd);
	b->verb = BLOB_LOOK;
	b->chan = o->out;
	b->fd = b->hide_fd[0] = o->head;
	b->look_at = o->pid;
	b->look_leaves = (uint32_t)o->leaves;
	b->order = o->share < 0 ? 0 : o->share;
	b->look_away = o->away;
	/* Those are no refusal then; whose they are is looked at when it is stopped. */
	b->dump_flags = o->flags & DUMP_LOCKS ? DUMP_LOCKS | DUMP_FLOCKS : 0;
	b->threads = (uint64_t)(uintptr_t)o->threads + o->thread_len; /* the first is before them */
	b->nthreads = o->nthreads ? o->nthreads - 1 : 0;
	b->thread_len = o->thread_len;
	_exit(vmad_blob_call(b) < 0);
}

static pid_t make(struct order *o)
{
	struct clone_args a = {0}; /* no signal when it ends: it is nobody's business */
	long r = syscall(SYS_clone3, &a, sizeof a);

	if (r == 0)
		look(o);
	return (pid_t)r;
}

/* How many texts it has told; -1: it has not come to its end. */
static int run(const struct freeze *f, struct order *o, void (*told)(const char *text, void *arg),
	       void *arg)
{
	char text[CHAN_TEXT_MAX];
	int end[2], n = 0, status = -1;
	pid_t child = -1;

	o->pidfd = (int)syscall(SYS_pidfd_open, o->pid, 0);
	if (o->pidfd < 0)
		return -1;
	if (pipe2(end, O_CLOEXEC) < 0) {
		close(o->pidfd);
		return -1;
	}
	o->out = end[1];
	o->share = tree_alone(f, o->leaves);
	child = make(o);
	close(end[1]);
	if (o->share >= 0)
		close(o->share);
	close(o->pidfd);
	/* Whole texts: a pipe takes so few bytes at once. */
	while (child > 0 && read(end[0], text, sizeof text) == (ssize_t)sizeof text) {
		text[sizeof text - 1] = 0;
		if (told)
			told(text, arg);
		n++;
	}
	close(end[0]);
	while (child > 0 && waitpid(child, &status, __WALL) < 0 && errno == EINTR)
		;
	return n || status == 0 ? n : -1;
}

int aside_look(const struct freeze *f, int leaves, unsigned away,
	       void (*told)(const char *text, void *arg), void *arg)
{
	struct order o = {.pid = f->t.pid,
			  .above = f->fds,
			  .leaves = leaves,
			  .away = away,
			  .flags = f->flags,
			  .head = -1};

	return run(f, &o, told, arg);
}

void freeze_name(pid_t pid, pid_t tid, char name[16])
{
	char path[48];
	ssize_t n;
	int fd;

	snprintf(path, sizeof path, "/proc/%d/task/%d/comm", pid, tid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? 0 : read(fd, name, 15);
	if (n > 0 && name[n - 1] == '\n')
		name[n - 1] = 0;
	if (fd >= 0)
		close(fd);
}

int aside_head(const struct freeze *f, unsigned away, int fd)
{
	struct order o = {.pid = f->t.pid,
			  .above = f->fds,
			  .leaves = 1,
			  .away = away,
			  .head = fd,
			  .nthreads = f->t.n};
	uint64_t longest = 0;
	int r;

	for (uint32_t i = 0; i < f->t.n; i++)
		longest = f->t.task[i].xsave_size > longest ? f->t.task[i].xsave_size : longest;
	o.thread_len = BLOB_THREAD_LEN(longest);
	o.threads = aligned_alloc(64, (size_t)o.thread_len * o.nthreads);
	if (!o.threads)
		return -1;
	for (uint32_t i = 0; i < o.nthreads; i++) {
		struct blob_thread *b = (void *)(o.threads + (size_t)i * o.thread_len);

		freeze_thread(&f->t.task[i], b);
		freeze_name(f->t.pid, b->tid, b->name);
	}
	r = run(f, &o, NULL, NULL);
	free(o.threads);
	return r < 0 ? -1 : 0;
}

void freeze_first(const char *text, void *arg)
{
	struct trace *t = arg;

	if (t->err && t->err->code == 0)
		trace_fail(t, ENOTSUP, "%s", text);
}

/* What can be known to be refused is so before it is stopped. */
int freeze_look_aside(struct freeze *f)
{
	if (f->t.err)
		f->t.err->code = 0;
	if (aside_look(f, f->to_leave, 0, freeze_first, &f->t) <= 0)
		return 0; /* or what could not be looked at so */
	errno = ENOTSUP;
	return -1;
}
