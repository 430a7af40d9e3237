/*
 * vmad_restore(): an image becomes a child of the caller. Library code; runs in
 * whoever restores, and up to the blob in the child.
 *
 * The child is cloned with the image's pid and reads and judges the image itself
 * (blob/restore.c), with what rights it has. When all is in place it waits in the blob;
 * we take the blob out by ptrace and set its registers, or, where we may not, tell it
 * to go on by itself with the blob left in it.
 */
#include <elf.h>
#include <errno.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmadump/blob/image.h"
#include "vmadump/chan.h"
#include "vmadump/freeze.h"
#include "vmadump/pack.h"
#include "vmadump/tree.h"

#define NEED_NOTE_LEN (12 + 8 + IMAGE_NEED_LEN)

struct ahead {
	uint8_t *p;
	uint64_t n;
	uint32_t pid;
};

static int read_all(struct trace *t, int fd, uint8_t *p, uint64_t n)
{
	while (n) {
		ssize_t r = read(fd, p, n);

		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0)
			return trace_fail(t, errno, "reading the image: %s", strerror(errno));
		if (r == 0)
			return trace_fail(t, EBADMSG, "the image is cut short in its head");
		p += r;
		n -= (uint64_t)r;
	}
	return 0;
}

/*
 * The pid has to be known before there is a process that could read. It is in the
 * first note; what is read to get there is handed on. All else is the child's.
 */
static int read_ahead(struct trace *t, struct source *s, struct ahead *a)
{
	const int fd = s->fd;
	uint8_t first[IMAGE_PREFIX], *p;
	uint64_t at;

	memcpy(first, s->first, s->nfirst);
	if (read_all(t, fd, first + s->nfirst, sizeof first - s->nfirst) < 0)
		return -1;
	at = get64(first + 72);
	if (memcmp(first, "\177ELF\2\1\1", 7) != 0 || get16(first + 16) != ET_CORE ||
	    at < IMAGE_PREFIX || at > IMAGE_HEAD_MAX)
		return trace_fail(t, EBADMSG, "not an image, or damaged: it does not begin as one");
	a->n = at + NEED_NOTE_LEN;
	p = a->p = malloc(a->n);
	if (!p)
		return trace_fail(t, ENOMEM, "%s", strerror(ENOMEM));
	memcpy(p, first, sizeof first);
	if (read_all(t, fd, p + sizeof first, a->n - sizeof first) < 0)
		return -1;
	/* Before a process is made for it, under an id that may be in use here. */
	if (get16(first + 18) != EM_X86_64)
		return trace_fail(t, ENOEXEC,
				  "the image is of machine type %u, this is %u (x86-64)",
				  get16(first + 18), EM_X86_64);
	p += at;
	if (get32(p) != 8 || get32(p + 4) != IMAGE_NEED_LEN || get32(p + 8) != IMAGE_NOTE_NEED ||
	    memcmp(p + 12, IMAGE_NAME, 8) != 0)
		return trace_fail(t, EBADMSG,
				  "not an image, or damaged: it is a core file, but not one of "
				  "vmadump");
	if (get32(p + 20 + NEED_VERSION) != IMAGE_VERSION)
		return trace_fail(t, ENOEXEC, "the image has version %u, this reads %u",
				  get32(p + 20 + NEED_VERSION), IMAGE_VERSION);
	a->pid = get32(p + 20 + NEED_PID);
	if (a->pid < 1 || a->pid > 1u << 22)
		return trace_fail(t, EBADMSG, "not an image, or damaged: its pid");
	return 0;
}

/* In the child. Nothing of libc that remembers which process it is in. */
static _Noreturn void become(int fd, int chan, const struct ahead *a, const struct stay *stay)
{
	struct blob *b = vmad_blob_map();

	if (!b)
		_exit(127);
	b->verb = BLOB_RESTORE;
	b->fd = fd;
	b->chan = chan;
	b->ahead = (uint64_t)a->p;
	b->ahead_len = a->n;
	b->restore_flags = BLOB_RESTORE_ALONE;
	if (stay->own_bound) {
		b->cpus_len = sizeof b->cpus;
		memcpy(b->cpus, &stay->own, sizeof b->cpus);
	}
	vmad_blob_call(b);
	_exit(127);
}

static pid_t clone_with(struct trace *t, pid_t want, int new_pid)
{
	struct clone_args a = {
		.exit_signal = SIGCHLD,
		.set_tid = (uint64_t)&want,
		.set_tid_size = new_pid ? 0 : 1,
	};
	long r;

	if (new_pid)
		a.set_tid = 0;
	r = syscall(SYS_clone3, &a, sizeof a);
	if (r >= 0)
		return (pid_t)r;
	if (errno == EEXIST)
		return trace_fail(t, EEXIST, "process id %d is in use", want);
	if (errno == EPERM)
		return trace_fail(t, EPERM,
				  "a process with the id %d needs CAP_CHECKPOINT_RESTORE in this "
				  "pid namespace",
				  want);
	return trace_fail(t, errno, "a process with the id %d: %s", want, strerror(errno));
}

/* Registers of one thread, the first one's in struct blob. */
static int set_thread(struct trace *t, struct task *task, const struct blob_regs *regs,
		      const uint8_t *xsave, uint64_t len, uint64_t mask)
{
	uint8_t have[BLOB_XSAVE_MAX];
	struct iovec v = {have, sizeof have};

	/* The kernel takes nothing but a whole area: how long that is, it says. */
	if (ptrace(PTRACE_GETREGSET, task->tid, (void *)NT_X86_XSTATE, &v) < 0 || len > v.iov_len)
		return trace_fail(t, EIO, "the registers of thread %d", task->tid);
	memset(have, 0, v.iov_len);
	memcpy(have, xsave, len);
	if (ptrace(PTRACE_SETREGSET, task->tid, (void *)NT_X86_XSTATE, &v) < 0)
		return trace_fail(t, errno, "the registers of thread %d: %s", task->tid,
				  strerror(errno));
	if (trace_set_regs(t, task, regs) < 0)
		return -1;
	if (ptrace(PTRACE_SETSIGMASK, task->tid, (void *)sizeof mask, &mask) < 0)
		return trace_fail(t, errno, "thread %d: %s", task->tid, strerror(errno));
	return 0;
}

/* Mostly in the order of the image, whose number of it is i. */
static struct task *task_of(struct trace *t, uint32_t i, pid_t tid)
{
	if (i < t->n && t->task[i].tid == tid)
		return &t->task[i];
	for (i = 0; i < t->n; i++)
		if (t->task[i].tid == tid)
			return &t->task[i];
	return NULL;
}

static int set_threads(struct trace *t, const struct blob *b)
{
	uint8_t *all;
	uint64_t bytes = (uint64_t)b->nthreads * b->thread_len;
	int r;

	/* Its user, who may be another than ours, can write there: nothing of it is believed. */
	if (b->nthreads + 1 != t->n ||
	    (b->nthreads && b->thread_len < sizeof(struct blob_thread)))
		return trace_fail(t, EIO, "process %d has other threads than it should", t->pid);
	all = aligned_alloc(64, bytes + 64);
	if (!all)
		return trace_fail(t, ENOMEM, "%s", strerror(ENOMEM));
	r = bytes ? trace_get(t, b->threads, all, bytes) : 0;
	for (uint32_t i = 0; r == 0 && i < b->nthreads; i++) {
		const struct blob_thread *bt = (void *)(all + (uint64_t)i * b->thread_len);
		struct task *task = task_of(t, i + 1, bt->tid);

		r = task && bt->xsave_size <= BLOB_XSAVE_MAX &&
				    bt->xsave_size <= b->thread_len - sizeof *bt
			    ? set_thread(t, task, &bt->regs, bt->xsave, bt->xsave_size, bt->sigmask)
			    : trace_fail(t, EIO, "thread %d", bt->tid);
	}
	free(all);
	return r;
}

static uint64_t vdso_of(const struct blob *b)
{
	for (uint32_t i = 0; i < b->env.nspecial && i < BLOB_SPECIALS; i++)
		if (b->env.special[i].kind == SPECIAL_VDSO)
			return b->env.special[i].start;
	return 0;
}

/* It may run where the image says, or, if there is no such processor here, anywhere. */
static void free_of_processor(pid_t pid, const struct blob *b)
{
	cpu_set_t all;

	memset(&all, 0xff, sizeof all);
	if (b->cpus_len == sizeof b->cpus &&
	    sched_setaffinity(pid, sizeof b->cpus, (const void *)b->cpus) < 0)
		sched_setaffinity(pid, sizeof all, &all);
}

/* Its channel and the blob go, and every thread is set to where the image has it. */
static int take_out(struct trace *t, uint64_t self)
{
	struct blob b;
	uint64_t low;
	int64_t ret;

	if (trace_get(t, self, &b, sizeof b) < 0)
		return -1;
	low = b.low ? b.low : b.base;
	if (b.magic != BLOB_MAGIC || b.xsave_size > sizeof b.xsave)
		return trace_fail(t, EIO, "process %d is not as it was made", t->pid);
	if (freeze_gadget_in(t, vdso_of(&b))) {
		const uint64_t close_arg[6] = {(uint64_t)b.chan};
		const uint64_t unmap_arg[6] = {low, b.arena.base + b.arena.size - low};

		if (b.seccomp_len && revive_filters(t, &b) < 0)
			return -1;
		/* Last: the registers and the stack of all are in there. */
		if (set_threads(t, &b) < 0 || trace_syscall(t, SYS_close, close_arg, &ret) < 0 ||
		    trace_syscall(t, SYS_munmap, unmap_arg, &ret) < 0)
			return -1;
		free_of_processor(t->pid, &b);
		return set_thread(t, t->task, &b.regs, b.xsave, b.xsave_size, b.sigmask);
	}
	return 1;
}

/* It is all there and waits. Lets it run. */
int revive_let_go(struct trace *t, int chan, const struct chan_msg *m)
{
	struct vmad_err *err = t->err, unused;
	uint64_t self = m->move_id;
	int r;

	/* A process with rights that we do not have cannot be stopped by us. */
	t->err = &unused;
	r = trace_stop(t);
	t->err = err;
	if (r < 0)
		trace_detach(t);
	if (r == 0) {
		for (uint32_t i = 0; i < t->n; i++) {
			struct iovec v = {&t->task[i].regs, sizeof t->task[i].regs};

			ptrace(PTRACE_GETREGSET, t->task[i].tid, (void *)NT_PRSTATUS, &v);
		}
		r = take_out(t, self);
		if (r == 0 && m->flags)
			t->stop_after = m->flags;
		trace_detach(t);
		if (r <= 0)
			return r;
	}
	if (chan_order(chan, CHAN_RESUME, -1) < 0)
		return trace_fail(t, errno, "process %d: %s", t->pid, strerror(errno));
	return 0;
}

static int finish(struct trace *t, int chan, struct chan_msg *m)
{
	if (m->type == CHAN_MEMBER)
		return tree_revive(t, chan, m);
	return source_whole(t->source, t) < 0 ? -1 : revive_let_go(t, chan, m);
}

static pid_t make(struct trace *t, int fd, unsigned flags, const struct ahead *a)
{
	struct chan_msg m = {0};
	struct stay stay;
	int end[2], status;
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, end) < 0)
		return trace_fail(t, errno, "socketpair: %s", strerror(errno));
	trace_listen(t);
	stay_here(&stay, 0); /* which the new process inherits */
	pid = clone_with(t, (pid_t)a->pid, flags & VMAD_NEW_PID);
	if (pid == 0) {
		close(end[0]);
		become(fd, end[1], a, &stay);
	}
	close(end[1]);
	t->pid = pid;
	if (pid > 0 && (chan_answer(t, end[0], &m) < 0 || finish(t, end[0], &m) < 0)) {
		int e = errno;

		kill(pid, SIGKILL);
		while (waitpid(pid, &status, __WALL) < 0 && errno == EINTR)
			;
		errno = e;
		pid = -1;
	}
	close(end[0]);
	stay_end(&stay);
	return pid;
}

pid_t vmad_restore(int fd, unsigned flags, struct vmad_err *err)
{
	struct source s;
	struct trace t = {.source = &s, .err = err};
	struct ahead a = {0};
	pid_t pid = -1;
	int e;

	if (flags & ~(unsigned)VMAD_NEW_PID)
		return trace_fail(&t, EINVAL, "vmadump: flags");
	if (source_open(&s, fd, &t) < 0)
		return -1;
	if (read_ahead(&t, &s, &a) == 0)
		pid = make(&t, s.fd, flags, &a);
	source_close(&s, pid, &t);
	e = errno;
	free(a.p);
	trace_free(&t);
	errno = e;
	return pid;
}
