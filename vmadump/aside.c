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

#include "vmadump/freeze.h"

#define LIST_BYTES 4096
#define ABOVE 3 /* descriptors that the child keeps above those of the process */

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
static int copy_all(int pidfd, int list)
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

/* In the child. Nothing of libc that remembers which process it is in. */
static _Noreturn void look(pid_t pid, int pidfd, int out, int above, int leaves)
{
	struct rlimit most;
	char path[40];
	struct blob *b;
	int list;

	if (getrlimit(RLIMIT_NOFILE, &most) == 0) {
		most.rlim_cur = most.rlim_max;
		setrlimit(RLIMIT_NOFILE, &most);
	}
	snprintf(path, sizeof path, "/proc/%d/fd", pid);
	pidfd = lift(pidfd, above);
	out = lift(out, above);
	list = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	list = list < 0 ? -1 : lift(list, above);
	b = vmad_blob_map();
	if (pidfd < 0 || out < 0 || list < 0 || !b)
		_exit(1);
	syscall(SYS_close_range, 0, above - 1, 0);
	if (copy_all(pidfd, list) < 0)
		_exit(1);
	close(list);
	close(pidfd);
	b->verb = BLOB_LOOK;
	b->chan = out;
	b->look_at = pid;
	b->look_leaves = (uint32_t)leaves;
	_exit(vmad_blob_call(b) < 0);
}

static pid_t make(pid_t pid, int pidfd, int out, int above, int leaves)
{
	struct clone_args a = {0}; /* no signal when it ends: it is nobody's business */
	long r = syscall(SYS_clone3, &a, sizeof a);

	if (r == 0)
		look(pid, pidfd, out, above, leaves);
	return (pid_t)r;
}

int aside_look(pid_t pid, int above, int leaves, void (*told)(const char *text, void *arg),
	       void *arg)
{
	char text[CHAN_TEXT_MAX];
	int end[2], n = 0, pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	pid_t child;

	if (pidfd < 0)
		return 0;
	if (pipe2(end, O_CLOEXEC) < 0) {
		close(pidfd);
		return 0;
	}
	child = make(pid, pidfd, end[1], above, leaves);
	close(end[1]);
	close(pidfd);
	/* Whole texts: a pipe takes so few bytes at once. */
	while (child > 0 && read(end[0], text, sizeof text) == (ssize_t)sizeof text) {
		text[sizeof text - 1] = 0;
		told(text, arg);
		n++;
	}
	close(end[0]);
	while (child > 0 && waitpid(child, NULL, __WALL) < 0 && errno == EINTR)
		;
	return n;
}

static void first_only(const char *text, void *arg)
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
	if (aside_look(f->t.pid, f->fds, f->to_leave, first_only, &f->t) == 0)
		return 0;
	errno = ENOTSUP;
	return -1;
}
