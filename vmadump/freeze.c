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
 * them return to where they were by themselves. Between 2 and 4 a SIGKILL to us would
 * leave the first thread with registers of ours; that is 0.1 ms.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/rseq.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "vmadump/blob/refuse.h"
#include "vmadump/freeze.h"

#define CS_64 0x33
#define VDSO_LOOK 4096u /* the shortest that there is */
#define READ_TRIES 8

static uint64_t max64(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

/* -- what shows from outside */

static const char *line_of(const char *text, const char *key)
{
	const char *at = strstr(text, key);

	return at ? at + strlen(key) : NULL;
}

static int check_status(struct trace *t)
{
	char path[40], text[8192];
	const char *s;
	ssize_t n;
	int fd;

	snprintf(path, sizeof path, "/proc/%d/status", t->pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
	if (fd >= 0)
		close(fd);
	if (n <= 0)
		return trace_fail(t, ESRCH, "there is no process %d", t->pid);
	text[n] = 0;
	s = line_of(text, "\nTgid:\t");
	if (s && atoi(s) != t->pid)
		return trace_fail(t, EINVAL, "%d is a thread of process %d", t->pid, atoi(s));
	s = line_of(text, "\nState:\t");
	if (s && (*s == 'Z' || *s == 'X')) {
		s = line_of(text, "\nThreads:\t");
		return trace_refuse(t, s && atoi(s) > 1 ? REFUSE_FIRST_THREAD : REFUSE_ZOMBIE);
	}
	if (!line_of(text, "\nVmSize:"))
		return trace_refuse(t, REFUSE_KERNEL_THREAD);
	s = line_of(text, "\nTracerPid:\t");
	if (s && atoi(s))
		return trace_refuse(t, REFUSE_TRACED, atoi(s));
	s = line_of(text, "\nSeccomp:\t");
	if (s && atoi(s))
		return trace_refuse(t, REFUSE_SECCOMP);
	return 0;
}

void freeze_gadget(struct trace *t)
{
	static uint64_t offset; /* in every vdso of this kernel; 1: none was found */
	const uint8_t *own = (const uint8_t *)getauxval(AT_SYSINFO_EHDR);
	char path[40], line[512];
	FILE *f;

	if (own && !offset) {
		offset = 1;
		for (uint32_t i = 64; i + 1 < VDSO_LOOK; i++)
			if (own[i] == 0x0f && own[i + 1] == 0x05) {
				offset = i;
				break;
			}
	}
	t->gadget = 0;
	snprintf(path, sizeof path, "/proc/%d/maps", t->pid);
	f = offset > 1 ? fopen(path, "re") : NULL;
	while (f && fgets(line, sizeof line, f))
		if (strstr(line, "[vdso]"))
			t->gadget = strtoull(line, NULL, 16) + offset;
	if (f)
		fclose(f);
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
	uint64_t low, base, thread_len, pending, len;
	uint32_t npending;
};

static void plan(const struct trace *t, struct layout *l)
{
	uint64_t longest = 0, bytes;

	for (uint32_t i = 0; i < t->n; i++) {
		longest = max64(longest, t->task[i].xsave_size);
		l->npending += t->task[i].npending;
	}
	l->thread_len = BLOB_THREAD_LEN(longest);
	bytes = (t->n - 1) * l->thread_len;
	l->pending = bytes;
	bytes += l->npending * sizeof(struct blob_pending);
	bytes = (bytes + 4095) & ~4095ull;
	l->base = bytes; /* relative to low until that is known */
	l->len = bytes + BLOB_SIZE;
}

/* The first thread maps it, in one of the places where nothing should be. */
static int map_there(struct freeze *f, struct layout *l)
{
	int64_t ret = -ENOMEM;

	for (unsigned i = 0; i < BLOB_TRIES; i++) {
		const uint64_t arg[6] = {
			BLOB_ADDR + i * BLOB_APART,
			l->len,
			PROT_READ | PROT_WRITE | PROT_EXEC,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE,
			(uint64_t)-1,
			0,
		};

		if (trace_syscall(&f->t, SYS_mmap, arg, &ret) < 0)
			return -1;
		if (ret != -EEXIST)
			break;
	}
	if (ret < 0)
		return trace_fail(&f->t, (int)-ret, "no room for the blob in process %d: %s",
				  f->t.pid, strerror((int)-ret));
	f->low = l->low = (uint64_t)ret;
	f->len = l->len;
	l->base += l->low;
	l->pending += l->low;
	f->self = l->base + BLOB_CODE_MAX;
	return 0;
}

/* A socketpair of its own making, one end of which we take: no name, no right but ptrace's. */
static int open_channel(struct freeze *f, int pidfd, int *ret_other)
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
	f->far = end[0];
	*ret_other = end[1];
	f->chan = (int)syscall(SYS_pidfd_getfd, pidfd, end[1], 0);
	if (f->chan < 0)
		return trace_fail(&f->t, errno, "a descriptor of process %d: %s", f->t.pid,
				  strerror(errno));
	return 0;
}

static void fill_thread(const struct freeze *f, const struct task *task, struct blob_thread *b,
			uint64_t at, const struct layout *l)
{
	memset(b, 0, sizeof *b);
	b->self = at;
	b->stack = at + l->thread_len;
	b->blob = f->self;
	b->tid = task->tid;
	b->sigmask = task->mask;
	b->regs = task->regs;
	b->rseq_addr = task->rseq.addr;
	b->rseq_len = task->rseq.len;
	b->rseq_sig = task->rseq.sig;
	b->xsave_size = task->xsave_size;
	memcpy(b->xsave, task->xsave, task->xsave_size);
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

		fill_thread(f, &t->task[i], (void *)(all + at), l->low + at, l);
		restart_settle(&t->task[i], &((struct blob_thread *)(void *)(all + at))->regs);
	}
	p = (void *)(all + (l->pending - l->low));
	for (uint32_t i = 0; i < t->n; i++) {
		if (t->task[i].npending)
			memcpy(p, t->task[i].pending, t->task[i].npending * sizeof *p);
		p += t->task[i].npending;
	}
	r = trace_write(t, l->low, all, bytes);
	free(all);
	return r;
}

static int write_blob(struct freeze *f, const struct layout *l, int other, uint32_t dump_flags)
{
	struct task *first = f->t.task;
	size_t len;
	const void *code = vmad_blob_bytes(&len);
	struct blob b = {
		.magic = BLOB_MAGIC,
		.base = l->base,
		.self = f->self,
		.verb = BLOB_PARK,
		.chan = f->far,
		.far = other,
		.fd = -1,
		.dump_flags = dump_flags,
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
		.stopped = f->t.group_stop,
	};

	if (first->xsave_size > sizeof b.xsave)
		return trace_fail(&f->t, ENOTSUP, "the CPU's register area is too large");
	restart_settle(first, &b.regs);
	b.xsave_size = first->xsave_size;
	memcpy(b.xsave, first->xsave, first->xsave_size);
	if (vmad_env(&b.env) < 0)
		b.env = (struct blob_env){0}; /* it asks for itself */
	b.env.nspecial = 0;		      /* its vdso lies elsewhere than ours */
	return trace_write(&f->t, l->base, code, len) < 0 ||
			       trace_write(&f->t, f->self, &b, sizeof b) < 0
		       ? -1
		       : write_threads(f, l);
}

/* Every thread to its entry, with every signal blocked. */
static int send_in(struct freeze *f, const struct layout *l)
{
	const uint64_t all = ~0ull;

	for (uint32_t i = 0; i < f->t.n; i++) {
		struct task *task = &f->t.task[i];
		struct blob_regs r = task->regs;

		r.ip = i ? l->base + BLOB_THREAD_ENTRY : l->base;
		r.di = i ? l->low + (i - 1) * l->thread_len : f->self;
		r.ax = 0;
		r.orig_ax = (uint64_t)-1;
		r.flags &= ~0x500ul; /* TF, DF */
		if (trace_set_regs(&f->t, task, &r) < 0)
			return -1;
		if (ptrace(PTRACE_SETSIGMASK, task->tid, (void *)sizeof all, &all) < 0)
			return trace_fail(&f->t, errno, "thread %d: %s", task->tid,
					  strerror(errno));
	}
	return trace_continue(&f->t);
}

/* Whatever was done to it is undone; the error that led here is kept. */
static void take_back(struct freeze *f, int other)
{
	struct vmad_err *err = f->t.err, scratch;
	int e = errno;

	f->t.err = &scratch;
	if (other >= 0) {
		const uint64_t arg[6] = {(uint64_t)other};
		int64_t ret;

		trace_syscall(&f->t, SYS_close, arg, &ret);
	}
	freeze_leave(f);
	f->t.err = err;
	errno = e;
}

static int put_in(struct freeze *f, uint32_t dump_flags)
{
	struct layout l = {0};
	int pidfd = -1, other = -1, r = -1;

	for (uint32_t i = 0; i < f->t.n; i++) {
		if (f->t.task[i].regs.cs != CS_64)
			return trace_refuse(&f->t, REFUSE_32BIT);
		if (leave_sequence(&f->t, &f->t.task[i]) < 0)
			return -1;
	}
	plan(&f->t, &l);
	pidfd = (int)syscall(SYS_pidfd_open, f->t.pid, 0);
	if (pidfd < 0)
		return trace_fail(&f->t, errno, "process %d: %s", f->t.pid, strerror(errno));
	if (map_there(f, &l) == 0 && open_channel(f, pidfd, &other) == 0 &&
	    write_blob(f, &l, other, dump_flags) == 0)
		r = send_in(f, &l);
	close(pidfd);
	if (r < 0)
		take_back(f, other);
	return r;
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

int freeze_enter(struct freeze *f, pid_t pid, uint32_t dump_flags, struct vmad_err *err)
{
	int r;

	*f = (struct freeze){.t = {.pid = pid, .err = err}, .chan = -1, .far = -1};
	if (pid == getpid())
		return trace_refuse(&f->t, REFUSE_SELF);
	if (check_status(&f->t) < 0)
		return -1;
	freeze_gadget(&f->t);
	vmad_prepare();
	f->since_us = freeze_now_us();
	r = stop_and_read(&f->t);
	if (r == 0)
		r = put_in(f, dump_flags);
	if (r < 0) {
		int e = errno;

		trace_detach(&f->t);
		errno = e;
	}
	return r;
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
	int r = trace_interrupt(t);

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
	return r;
}

void freeze_free(struct freeze *f)
{
	if (f->chan >= 0)
		close(f->chan);
	f->chan = -1;
	trace_free(&f->t);
}
