/*
 * Stopping a process by ptrace and reading the registers of its threads. Library code; runs in
 * whoever dumps or restores. PTRACE_SEIZE, so nothing shows to the process or its parent but the
 * time that it takes.
 */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "vmadump/blob/refuse.h"
#include "vmadump/trace.h"

#define STOP_MS 2000 /* a thread that does not stop for so long sleeps in the kernel */
#define SPINS 8
#define LIST_BYTES 4096
#define GIVE_UP 4000 /* naps of half a millisecond */
#ifndef PTRACE_EVENT_STOP
#define PTRACE_EVENT_STOP 128
#endif
#define GET_DISPATCH 0x4211 /* PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG, Linux 6.4 */
#define GET_RSEQ 0x420f /* PTRACE_GET_RSEQ_CONFIGURATION, Linux 5.13 */

_Static_assert(sizeof(struct blob_regs) == sizeof(struct user_regs_struct), "same registers");

static int fill_err(struct trace *t, int code, const char *fmt, va_list ap)
{
	if (t->err) {
		t->err->code = code;
		vsnprintf(t->err->text, sizeof t->err->text, fmt, ap);
	}
	errno = code;
	return -1;
}

int trace_fail(struct trace *t, int code, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	fill_err(t, code, fmt, ap);
	va_end(ap);
	return -1;
}

#define REFUSAL_TEXT(name, text) [name] = text,
static const char *const refusals[REFUSAL_COUNT] = {REFUSALS(REFUSAL_TEXT)};

int trace_refuse(struct trace *t, int why, ...)
{
	va_list ap;

	va_start(ap, why);
	fill_err(t, ENOTSUP, refusals[why], ap);
	va_end(ap);
	return -1;
}

static struct task *find(struct trace *t, pid_t tid)
{
	for (uint32_t i = 0; i < t->n; i++)
		if (t->task[i].tid == tid)
			return &t->task[i];
	return NULL;
}

static struct task *add(struct trace *t, pid_t tid)
{
	if (t->n == t->room) {
		uint32_t room = t->room ? 2 * t->room : 8;
		struct task *p = realloc(t->task, room * sizeof *p);

		if (!p) {
			trace_fail(t, ENOMEM, "%s", strerror(ENOMEM));
			return NULL;
		}
		t->task = p;
		t->room = room;
	}
	t->task[t->n] = (struct task){.tid = tid};
	t->highest = tid > t->highest ? tid : t->highest;
	return &t->task[t->n++];
}

static void drop(struct trace *t, struct task *task)
{
	free(task->xsave);
	free(task->pending);
	*task = t->task[--t->n];
}

/* Mostly threads are listed by rising numbers, and then there is nothing to look for. */
static int known(struct trace *t, pid_t tid)
{
	return tid <= t->highest && find(t, tid) != NULL;
}

static int seize(struct trace *t, pid_t tid)
{
	struct task *task;
	long r = ptrace(PTRACE_SEIZE, tid, NULL, (void *)t->options);

	if (r < 0 && errno == EPERM && t->optional) {
		t->options = 0;
		t->optional = 0;
		r = ptrace(PTRACE_SEIZE, tid, NULL, NULL);
	}
	if (r < 0) {
		if (errno == ESRCH)
			return 0; /* it has ended since */
		if (errno == EPERM && t->options)
			return trace_refuse(t, REFUSE_SECCOMP_READ);
		return trace_fail(t, errno, "process %d cannot be stopped: %s", t->pid,
				  strerror(errno));
	}
	task = add(t, tid);
	if (!task) {
		ptrace(PTRACE_DETACH, tid, NULL, NULL);
		return -1;
	}
	task->seized = 1;
	ptrace(PTRACE_INTERRUPT, tid, NULL, NULL);
	return 1;
}

/* linux_dirent64, as getdents64(2) has it. */
struct entry {
	uint64_t ino, off;
	uint16_t len;
	uint8_t type;
	char name[];
};

/* Of one piece of the list of threads: how many are seized now that were not, or -1. */
static int seize_listed(struct trace *t, const char *list, long n, uint32_t *next)
{
	int found = 0;

	for (long at = 0; at < n;) {
		const struct entry *e = (const void *)(list + at);
		pid_t tid = atoi(e->name);
		int r;

		at += e->len;
		if (tid <= 0)
			continue;
		if (*next < t->n && t->task[*next].tid == tid) { /* as it was listed before */
			++*next;
			continue;
		}
		if (known(t, tid))
			continue;
		r = seize(t, tid);
		if (r < 0)
			return -1;
		found += r;
	}
	return found;
}

/* Seizes what is not seized yet; how many those were, or -1. */
static int seize_new(struct trace *t)
{
	char path[40], list[LIST_BYTES] __attribute__((aligned(8)));
	uint32_t next = 0;
	int found = 0, r = 0, fd;
	long n;

	snprintf(path, sizeof path, "/proc/%d/task", t->pid);
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return trace_fail(t, errno == ENOENT ? ESRCH : errno, "there is no process %d",
				  t->pid);
	while (r >= 0 && (n = syscall(SYS_getdents64, fd, list, sizeof list)) > 0) {
		r = seize_listed(t, list, n, &next);
		found += r;
	}
	close(fd);
	return r < 0 ? -1 : found;
}

static uint64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

/* What waitpid() said of a thread. */
static void take_status(struct trace *t, struct task *task, int status)
{
	int sig;

	if (!WIFSTOPPED(status)) { /* it has ended */
		drop(t, task);
		return;
	}
	sig = WSTOPSIG(status);
	if (status >> 16 == PTRACE_EVENT_STOP) {
		task->stopped = 1;
		if (sig != SIGTRAP)
			t->group_stop = (uint32_t)sig;
		return;
	}
	/* A signal was on its way: it is delivered, and the stop comes in front of its handler. */
	ptrace(PTRACE_CONT, task->tid, NULL, (void *)(long)sig);
}

static int wait_stopped(struct trace *t)
{
	uint64_t until = 0;
	unsigned tries = 0;

	for (uint32_t i = 0; i < t->n;) {
		int status;
		pid_t r;

		if (t->task[i].stopped) {
			i++;
			continue;
		}
		r = waitpid(t->task[i].tid, &status, __WALL | WNOHANG);
		if (r > 0) {
			take_status(t, &t->task[i], status);
			tries = 0;
			continue;
		}
		if (r < 0 && errno != EINTR) { /* reaped by another thread's exec: gone */
			drop(t, &t->task[i]);
			continue;
		}
		if (tries++ == SPINS)
			until = now_ms() + STOP_MS;
		if (tries > SPINS && now_ms() > until)
			return trace_fail(t, EBUSY,
					  "thread %d of process %d does not stop: it waits in the "
					  "kernel and cannot be interrupted",
					  t->task[i].tid, t->pid);
		trace_pause(t, tries);
	}
	if (t->n == 0)
		return trace_fail(t, ESRCH, "process %d has ended", t->pid);
	return 0;
}

static int first_thread_first(struct trace *t)
{
	struct task *first = find(t, t->pid), swap;

	if (!first)
		return trace_refuse(t, REFUSE_FIRST_THREAD);
	swap = *first;
	*first = t->task[0];
	t->task[0] = swap;
	return 0;
}

int trace_stop(struct trace *t)
{
	int r = 0;

	/* Mostly it is alone: then one look at the list of threads is enough. */
	if (t->n == 0 && ((r = seize(t, t->pid)) < 0 || (r > 0 && wait_stopped(t) < 0)))
		return -1;
	/* What is stopped makes no thread; so a look that finds nothing new has found all. */
	do {
		r = seize_new(t);
		if (r >= 0 && wait_stopped(t) < 0)
			r = -1;
	} while (r > 0);
	if (r == 0)
		r = first_thread_first(t);
	return r;
}

int trace_interrupt(struct trace *t)
{
	for (uint32_t i = 0; i < t->n; i++)
		if (!t->task[i].stopped)
			ptrace(PTRACE_INTERRUPT, t->task[i].tid, NULL, NULL);
	return wait_stopped(t);
}

static int add_pending(struct trace *t, struct task *task, uint64_t tid, const siginfo_t *info,
		       uint32_t n)
{
	struct blob_pending *p;

	if (task->npending + n > BLOB_PENDING_MAX)
		return trace_refuse(t, REFUSE_PENDING, (unsigned long)BLOB_PENDING_MAX);
	p = realloc(task->pending, (task->npending + n) * sizeof *p);
	if (!p)
		return trace_fail(t, ENOMEM, "%s", strerror(ENOMEM));
	task->pending = p;
	for (p += task->npending; n; n--, p++, info++, task->npending++) {
		p->tid = tid;
		memcpy(p->info, info, sizeof p->info);
	}
	return 0;
}

/* Reads them without taking them: the process may go on. */
static int read_pending(struct trace *t, struct task *task, int shared)
{
	struct trace_peek a = {.flags = (uint32_t)shared, .nr = 8};
	siginfo_t info[8];
	long got;

	memset(info, 0, sizeof info);
	while ((got = ptrace(PTRACE_PEEKSIGINFO, task->tid, &a, info)) > 0) {
		if (add_pending(t, task, shared ? 0 : (uint64_t)task->tid, info, (uint32_t)got) < 0)
			return -1;
		a.off += (uint64_t)got;
	}
	return 0;
}

static int read_xsave(struct trace *t, struct task *task)
{
	struct iovec v = {.iov_len = BLOB_XSAVE_MAX};

	v.iov_base = task->xsave = malloc(v.iov_len);
	if (!task->xsave)
		return trace_fail(t, ENOMEM, "%s", strerror(ENOMEM));
	if (ptrace(PTRACE_GETREGSET, task->tid, (void *)NT_X86_XSTATE, &v) < 0)
		return trace_fail(t, errno, "the registers of thread %d: %s", task->tid,
				  strerror(errno));
	task->xsave_size = v.iov_len;
	return 0;
}

/* What the blob calls would be a signal to it, or its death. */
static int dispatches(const struct task *task)
{
	uint64_t how[4] = {0}; /* struct ptrace_sud_config: the first is PR_SYS_DISPATCH_* */

	return ptrace(GET_DISPATCH, task->tid, (void *)sizeof how, how) == 0 && how[0];
}

static int read_one(struct trace *t, struct task *task)
{
	struct iovec v = {&task->regs, sizeof task->regs};

	free(task->xsave);
	task->xsave = NULL;
	task->npending = 0;
	if (ptrace(PTRACE_GETREGSET, task->tid, (void *)NT_PRSTATUS, &v) < 0 ||
	    ptrace(PTRACE_GETSIGMASK, task->tid, (void *)sizeof task->mask, &task->mask) < 0)
		return trace_fail(t, errno, "the registers of thread %d: %s", task->tid,
				  strerror(errno));
	if (v.iov_len != sizeof task->regs)
		return trace_refuse(t, REFUSE_32BIT);
	if (dispatches(task))
		return trace_refuse(t, REFUSE_DISPATCH, (int)task->tid);
	if (ptrace(GET_RSEQ, task->tid, (void *)sizeof task->rseq, &task->rseq) < 0)
		memset(&task->rseq, 0, sizeof task->rseq);
	if (read_pending(t, task, 0) < 0 || (task == t->task && read_pending(t, task, 1) < 0))
		return -1;
	return read_xsave(t, task);
}

int trace_resume(struct trace *t, struct task *task, int request)
{
	if (ptrace(request, task->tid, NULL, NULL) < 0)
		return trace_fail(t, errno, "thread %d: %s", task->tid, strerror(errno));
	task->stopped = 0;
	return 0;
}

int trace_stop_one(struct trace *t, struct task *task)
{
	ptrace(PTRACE_INTERRUPT, task->tid, NULL, NULL);
	return wait_stopped(t) < 0 ? -1 : read_one(t, task);
}

int trace_read(struct trace *t)
{
	int r = 0;

	for (uint32_t i = 0; r == 0 && i < t->n; i++)
		r = read_one(t, &t->task[i]);
	return r;
}

int trace_continue(struct trace *t)
{
	int r = 0;

	for (uint32_t i = 0; r == 0 && i < t->n; i++)
		r = trace_resume(t, &t->task[i], PTRACE_CONT);
	return r;
}

int trace_serve(struct trace *t)
{
	for (uint32_t i = 0; i < t->n; i++) {
		struct task *task = &t->task[i];
		int status;

		if (!task->seized || task->stopped ||
		    waitpid(task->tid, &status, __WALL | WNOHANG) <= 0)
			continue;
		if (!WIFSTOPPED(status))
			return 1;
		/* The blob blocks all that can be blocked; a stop waits until it is out. */
		if (status >> 16 == 0 && WSTOPSIG(status) == SIGSTOP)
			t->stop_after = SIGSTOP;
		ptrace(PTRACE_CONT, task->tid, NULL, NULL);
	}
	return 0;
}

/* For a detach it has to stop once more. One that does not is let go when this process ends. */
static void stop_one(struct trace *t, struct task *task)
{
	int status;

	for (unsigned tries = 0; !task->stopped && tries < GIVE_UP; tries++) {
		pid_t r = waitpid(task->tid, &status, __WALL | WNOHANG);

		if (r == 0) {
			trace_pause(t, tries);
			continue;
		}
		if (r < 0 || !WIFSTOPPED(status))
			return;
		if (status >> 16 == PTRACE_EVENT_STOP)
			task->stopped = 1;
		else
			ptrace(PTRACE_CONT, task->tid, NULL, (void *)(long)WSTOPSIG(status));
	}
}

void trace_detach(struct trace *t)
{
	for (uint32_t i = 0; i < t->n; i++)
		if (t->task[i].seized && !t->task[i].stopped)
			ptrace(PTRACE_INTERRUPT, t->task[i].tid, NULL, NULL);
	for (uint32_t i = 0; i < t->n; i++)
		if (t->task[i].seized)
			stop_one(t, &t->task[i]);
	/* While they are held: not one step is made before it. */
	if (t->stop_after)
		kill(t->pid, (int)t->stop_after);
	t->stop_after = 0;
	for (uint32_t i = 0; i < t->n; i++) {
		/* One before it may have ended all of them by now. Until its end is known here that
		 * of its process is kept from whoever waits, who may be us. */
		if (t->task[i].seized && ptrace(PTRACE_DETACH, t->task[i].tid, NULL, NULL) < 0 &&
		    errno == ESRCH && t->task[i].tid != t->pid)
			waitpid(t->task[i].tid, NULL, __WALL);
		t->task[i].seized = 0;
	}
}

int trace_seize(struct trace *t, struct task *task)
{
	if (ptrace(PTRACE_SEIZE, task->tid, NULL, NULL) < 0)
		return trace_fail(t, errno, "thread %d of process %d: %s", task->tid, t->pid,
				  strerror(errno));
	task->seized = 1;
	task->stopped = 0;
	return 0;
}

void trace_free(struct trace *t)
{
	while (t->n)
		drop(t, t->task);
	free(t->task);
	t->task = NULL;
	t->room = 0;
	trace_deafen(t);
}
