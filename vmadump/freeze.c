/*
 * How a running process comes into the park and out of it. Library code; runs in
 * whoever dumps.
 *
 *	1 every thread is stopped by ptrace and its registers are read
 *	2 the first thread maps memory and makes a socketpair; one end becomes ours
 *	3 the blob and a block for each other thread are written there
 *	4 all threads go on in the blob, where they wait, with every signal blocked
 *
 * From 4 on nothing depends on us: when our end of the socketpair is closed, all of
 * them return to where they were by themselves. Between 2 and 4 our end would leave the
 * first thread with registers of ours, or to a single step that nobody waits for: all
 * signals wait meanwhile, and only a SIGKILL can hit it; that is 0.1 ms.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/rseq.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "vmadump/blob/refuse.h"
#include "vmadump/freeze.h"

#define CS_64 0x33
#define READ_TRIES 8
#define BUSY_TRIES 50
#define BUSY_NAP_NS 2000000

static uint64_t max64(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

/* -- registers, as an image is to have them */

/*
 * A thread that is taken out of a restartable sequence begins it anew, where the
 * kernel would send it.
 */
static int leave_sequence(struct trace *t, struct task *task)
{
	struct rseq_cs cs;
	uint64_t at;

	if (!task->rseq.addr)
		return 0;
	if (trace_get(t, task->rseq.addr + offsetof(struct rseq, rseq_cs), &at, sizeof at) < 0)
		return -1;
	if (!at)
		return 0;
	if (trace_get(t, at, &cs, sizeof cs) < 0)
		return -1;
	if (task->regs.ip - cs.start_ip < cs.post_commit_offset)
		task->regs.ip = cs.abort_ip;
	return 0;
}

/* -- what is written into it */

struct layout {
	uint64_t low, base, thread_len, pending, more, len;
	uint32_t npending;
};

static void plan(const struct freeze *f, struct layout *l)
{
	const struct trace *t = &f->t;
	uint64_t longest = 0, bytes;

	for (uint32_t i = 0; i < t->n; i++) {
		longest = max64(longest, t->task[i].xsave_size);
		l->npending += t->task[i].npending;
	}
	l->thread_len = BLOB_THREAD_LEN(longest);
	bytes = (t->n - 1) * l->thread_len;
	l->pending = bytes;
	bytes += l->npending * sizeof(struct blob_pending);
	l->more = bytes;
	bytes += f->filters_len + (f->root ? strlen(f->root) + 1 : 0);
	bytes = (bytes + 4095) & ~4095ull;
	l->base = bytes; /* relative to low until that is known */
	l->len = bytes + BLOB_SIZE;
}

static int map_there(struct freeze *f, struct layout *l)
{
	if (freeze_room(f, l->base, l->len) < 0) /* relative to low, as yet */
		return -1;
	l->low = f->low;
	l->base += l->low;
	l->pending += l->low;
	l->more += l->low;
	f->self = l->base + BLOB_CODE_MAX;
	return 0;
}

/* 0 to 2 are its stdin, stdout and stderr, even if they are closed now. */
static int above_stdio(struct freeze *f, int fd)
{
	const uint64_t dup_arg[6] = {(uint64_t)fd, F_DUPFD_CLOEXEC, 3};
	const uint64_t close_arg[6] = {(uint64_t)fd};
	int64_t up, ret;

	if (fd > 2)
		return fd;
	if (trace_syscall(&f->t, SYS_fcntl, dup_arg, &up) < 0 ||
	    trace_syscall(&f->t, SYS_close, close_arg, &ret) < 0)
		return -1;
	return up < 0 ? trace_fail(&f->t, (int)-up, "no descriptors are left in process %d",
				   f->t.pid)
		      : (int)up;
}

/* A socketpair of its own making, one end of which we take: no name, no right but ptrace's. */
static int open_channel(struct freeze *f, int pidfd)
{
	const uint64_t arg[6] = {AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, f->self};
	int64_t ret;
	int end[2];

	if (trace_syscall(&f->t, SYS_socketpair, arg, &ret) < 0)
		return -1;
	if (ret < 0)
		return trace_fail(&f->t, (int)-ret, "no descriptors are left in process %d: %s",
				  f->t.pid, strerror((int)-ret));
	if (trace_get(&f->t, f->self, end, sizeof end) < 0)
		return -1;
	f->other = end[1];
	f->far = above_stdio(f, end[0]);
	if (f->far < 0)
		return -1;
	f->chan = (int)syscall(SYS_pidfd_getfd, pidfd, end[1], 0);
	if (f->chan < 0)
		return trace_fail(&f->t, errno, "a descriptor of process %d: %s", f->t.pid,
				  strerror(errno));
	return 0;
}

void freeze_thread(const struct task *task, struct blob_thread *b)
{
	memset(b, 0, sizeof *b);
	b->tid = task->tid;
	b->sigmask = task->mask;
	b->regs = task->regs;
	b->rseq_addr = task->rseq.addr;
	b->rseq_len = task->rseq.len;
	b->rseq_sig = task->rseq.sig;
	b->xsave_size = task->xsave_size;
	memcpy(b->xsave, task->xsave, task->xsave_size);
	restart_settle(task, &b->regs);
}

/* The blocks of all threads and the signals, as one piece. */
static int write_threads(struct freeze *f, const struct layout *l)
{
	struct trace *t = &f->t;
	uint64_t bytes = l->base - l->low;
	uint8_t *all = bytes ? aligned_alloc(64, bytes) : NULL;
	struct blob_pending *p;
	int r;

	if (!bytes)
		return 0;
	if (!all)
		return trace_fail(t, ENOMEM, "%s", strerror(ENOMEM));
	memset(all, 0, bytes);
	for (uint32_t i = 1; i < t->n; i++) {
		uint64_t at = (i - 1) * l->thread_len;
		struct blob_thread *b = (void *)(all + at);

		freeze_thread(&t->task[i], b);
		b->self = l->low + at;
		b->stack = b->self + l->thread_len;
		b->blob = f->self;
	}
	p = (void *)(all + (l->pending - l->low));
	for (uint32_t i = 0; i < t->n; i++) {
		if (t->task[i].npending)
			memcpy(p, t->task[i].pending, t->task[i].npending * sizeof *p);
		p += t->task[i].npending;
	}
	if (f->filters_len)
		memcpy(all + (l->more - l->low), f->filters, f->filters_len);
	if (f->root)
		strcpy((char *)all + (l->more - l->low) + f->filters_len, f->root);
	r = trace_write(t, l->low, all, bytes);
	free(all);
	return r;
}

static int write_blob(struct freeze *f, const struct layout *l)
{
	struct task *first = f->t.task;
	size_t len;
	const void *code = vmad_blob_bytes(&len);
	struct blob b = {
		/* env is empty: it asks for itself, and for no more than it needs. */
		.magic = BLOB_MAGIC,
		.base = l->base,
		.self = f->self,
		.verb = BLOB_PARK,
		.chan = f->far,
		.far = f->other,
		.fd = -1,
		.dump_flags = f->flags & VMAD_DUMP_ALL,
		.regs_given = 1,
		.mask_given = 1,
		.hide_fd = {f->far, -1, -1, -1},
		.regs = first->regs,
		.sigmask = first->mask,
		.rseq_addr = first->rseq.addr,
		.rseq_len = first->rseq.len,
		.rseq_sig = first->rseq.sig,
		.low = l->low,
		.threads = l->low,
		.nthreads = f->t.n - 1,
		.thread_len = (uint32_t)l->thread_len,
		.pending = l->pending,
		.npending = l->npending,
		.seccomp = l->more,
		.seccomp_len = f->filters_len,
		.root = l->more + f->filters_len,
		.root_len = f->root ? (uint32_t)strlen(f->root) + 1 : 0,
		.stopped = f->t.group_stop,
	};

	if (first->xsave_size > sizeof b.xsave)
		return trace_fail(&f->t, ENOTSUP, "the CPU's register area is too large");
	restart_settle(first, &b.regs);
	if (f->stay.its_bound) { /* it frees itself of that */
		b.cpus_len = sizeof b.cpus;
		memcpy(b.cpus, &f->stay.its, sizeof b.cpus);
	}
	b.xsave_size = first->xsave_size;
	memcpy(b.xsave, first->xsave, first->xsave_size);
	return trace_write(&f->t, l->base, code, len) < 0 ||
			       trace_write(&f->t, f->self, &b, sizeof b) < 0
		       ? -1
		       : write_threads(f, l);
}

/* A SIGSTOP that came meanwhile is sent again when it is out of here, or elsewhere. */
static int let_go(struct trace *t)
{
	uint32_t sig = t->stop_after;

	t->stop_after = 0;
	trace_detach(t);
	t->stop_after = sig;
	return 0;
}

/* Every thread to its entry, with every signal blocked; and, if it is to leave, let go of. */
static int send_in(struct freeze *f, const struct layout *l)
{
	for (uint32_t i = 0; i < f->t.n; i++) {
		struct task *task = &f->t.task[i];
		struct blob_regs r = task->regs;

		r.ip = i ? l->base + BLOB_THREAD_ENTRY : l->base;
		r.di = i ? l->low + (i - 1) * l->thread_len : f->self;
		r.ax = 0;
		r.orig_ax = (uint64_t)-1;
		r.flags &= ~0x500ul; /* TF, DF */
		if (trace_set_regs(&f->t, task, &r) < 0 || (i && trace_block(&f->t, task) < 0))
			return -1;
	}
	/* What ends in its park is not to be led out; but a detach leaves a stop as it is. */
	f->loose = f->to_leave || (f->ends && !f->t.group_stop && !f->t.options);
	return f->loose ? let_go(&f->t) : trace_continue(&f->t);
}

/* Whatever was done to it is undone; the error that led here is kept. */
static void take_back(struct freeze *f)
{
	struct vmad_err *err = f->t.err, scratch;
	int e = errno;

	f->t.err = &scratch;
	if (f->other >= 0) {
		const uint64_t arg[6] = {(uint64_t)f->other};
		int64_t ret;

		trace_syscall(&f->t, SYS_close, arg, &ret);
	}
	freeze_leave(f);
	f->t.err = err;
	errno = e;
}

static int put_in(struct freeze *f)
{
	struct layout l = {0};
	int pidfd = -1, r = -1;

	for (uint32_t i = 0; i < f->t.n; i++) {
		if (f->t.task[i].regs.cs != CS_64)
			return trace_refuse(&f->t, REFUSE_32BIT);
		if (leave_sequence(&f->t, &f->t.task[i]) < 0)
			return -1;
	}
	if (freeze_filters(f) < 0)
		return -1;
	plan(f, &l);
	pidfd = (int)syscall(SYS_pidfd_open, f->t.pid, 0);
	if (pidfd < 0)
		return trace_fail(&f->t, errno, "process %d: %s", f->t.pid, strerror(errno));
	if (trace_block(&f->t, f->t.task) == 0 && map_there(f, &l) == 0 &&
	    open_channel(f, pidfd) == 0 && write_blob(f, &l) == 0)
		r = send_in(f, &l);
	close(pidfd);
	if (r < 0)
		take_back(f);
	return r;
}

/*
 * One that has come by a move may still be on its way out of the blob that brought it; one
 * that is dumped or moved by another stays in it.
 */
static int in_blob(const struct trace *t)
{
	for (uint32_t i = 0; i < t->n; i++)
		if (t->task[i].regs.ip - BLOB_ADDR < BLOB_TRIES * BLOB_APART)
			return 1;
	return 0;
}

/* All threads stopped, and what they were doing known. */
static int stop_and_read(struct trace *t)
{
	int r = 0, again = 1;

	for (int tries = 0; r == 0 && again; tries++) {
		if (tries == READ_TRIES)
			return trace_fail(t, EAGAIN, "process %d does not hold still", t->pid);
		again = 0;
		r = trace_stop(t);
		if (r == 0)
			r = trace_read(t);
		for (uint32_t i = 0; r == 0 && !again && i < t->n; i++) {
			again = restart_find(t, &t->task[i]);
			r = again < 0 ? -1 : 0;
		}
	}
	return r;
}

uint64_t freeze_now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

static int hold(struct freeze *f)
{
	const struct timespec nap = {.tv_nsec = BUSY_NAP_NS};

	for (int tries = 0; tries < BUSY_TRIES; tries++) {
		trace_listen(&f->t);
		f->since_us = freeze_now_us();
		if (stop_and_read(&f->t) < 0)
			return -1;
		if (!in_blob(&f->t))
			return 0;
		trace_detach(&f->t);
		trace_free(&f->t);
		nanosleep(&nap, NULL);
	}
	return trace_fail(&f->t, EBUSY, "process %d is being dumped or moved", f->t.pid);
}

/* What is pending for the process it takes along itself, from its first thread. */
static int check_leaving(struct trace *t)
{
	if (t->group_stop)
		return trace_refuse(t, REFUSE_STOPPED, (int)t->group_stop);
	t->task->npending = 0;
	return 0;
}

int freeze_enter(struct freeze *f, pid_t pid, unsigned flags, int to_leave, struct vmad_err *err)
{
	sigset_t was;
	int r;

	*f = (struct freeze){.t = {.pid = pid, .err = err},
			     .chan = -1,
			     .far = -1,
			     .other = -1,
			     .to_leave = to_leave};
	if (pid == getpid())
		return trace_refuse(&f->t, REFUSE_SELF);
	f->ends = flags & VMAD_KILL;
	f->flags = flags;
	if (freeze_look(f) < 0)
		return -1;
	if (!(flags & FREEZE_LOOKED) && freeze_look_more(f) < 0)
		return -1;
	freeze_gadget(f);
	stay_here(&f->stay, f->threads == 1 ? pid : 0);
	r = hold(f);
	if (r == 0)
		freeze_gadget_now(f);
	if (r == 0 && to_leave)
		r = check_leaving(&f->t);
	if (r == 0 && flags & FREEZE_JUDGED)
		r = freeze_look_again(f);
	if (r == 0) {
		trace_shield(&was);
		r = put_in(f);
		trace_unshield(&was);
	}
	if (r < 0) {
		int e = errno;

		stay_free_it(&f->stay);
		trace_detach(&f->t);
		stay_end(&f->stay);
		errno = e;
	}
	return r;
}

int freeze_again(struct freeze *f)
{
	struct trace *t = &f->t;

	for (uint32_t i = 0; i < t->n; i++)
		if (!t->task[i].seized && trace_seize(t, &t->task[i]) < 0)
			return -1;
	return 0;
}

static int close_there(struct freeze *f)
{
	const uint64_t close_arg[6] = {(uint64_t)f->far};
	const uint64_t unmap_arg[6] = {f->low, f->len};
	int64_t ret;
	int r = 0;

	if (f->far >= 0)
		r = trace_syscall(&f->t, SYS_close, close_arg, &ret);
	if (r == 0 && f->len)
		r = trace_syscall(&f->t, SYS_munmap, unmap_arg, &ret);
	return r;
}

int freeze_leave(struct freeze *f)
{
	struct trace *t = &f->t;
	sigset_t was;
	int r;

	trace_shield(&was);
	r = trace_interrupt(t);
	if (r == 0)
		r = close_there(f);
	/* With the registers as they were read the kernel restarts what it interrupted. */
	for (uint32_t i = 0; i < t->n; i++) {
		struct task *task = &t->task[i];

		if (trace_set_regs(t, task, &task->regs) < 0 ||
		    ptrace(PTRACE_SETSIGMASK, task->tid, (void *)sizeof task->mask, &task->mask) <
			    0)
			r = -1;
	}
	trace_detach(t);
	trace_unshield(&was);
	return r;
}

void freeze_free(struct freeze *f)
{
	if (f->chan >= 0)
		close(f->chan);
	f->chan = -1;
	stay_end(&f->stay);
	trace_free(&f->t);
	free(f->filters);
	free(f->root);
	f->filters = NULL;
	f->root = NULL;
}
