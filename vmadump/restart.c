/*
 * A system call that was interrupted by the stop, where the kernel does not just begin it
 * anew; first of all, one that waits for a length of time. Library
 * code; runs in whoever dumps.
 *
 * The kernel keeps what is left of the time in the thread, where nobody can read it. The
 * process itself goes on for just that (restart_syscall). A copy of it cannot: there the
 * call begins anew, or says EINTR where the program has asked to be told what is left.
 * When the call was interrupted before, by a stop or another dump, even its number is not
 * in a register any more: it is read off the program, or off where the thread sleeps.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "vmadump/trace.h"

#define RESTART_BLOCK (-516) /* -ERESTART_RESTARTBLOCK */
#define RESTART_NOHAND (-514)
#define WCHAN_TRIES 1000 /* it may have to wait for a processor first */
#define WCHAN_NAP_NS 50000

/* mov $nr, %eax; syscall: as compilers write it. 0: something else. */
static int32_t by_code(struct trace *t, const struct blob_regs *r)
{
	uint8_t code[7];

	if (trace_get(t, r->ip - sizeof code, code, sizeof code) < 0 || code[0] != 0xb8 ||
	    code[3] || code[4])
		return 0;
	return code[1] | code[2] << 8;
}

/* The four calls that there are, told apart by the function that a thread sleeps in. */
static int32_t by_sleep(const struct task *task)
{
	char path[48], name[64] = "";
	int fd;

	snprintf(path, sizeof path, "/proc/%d/wchan", task->tid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	if (read(fd, name, sizeof name - 1) < 0)
		name[0] = 0;
	close(fd);
	if (strstr(name, "nanosleep")) /* a clock has a small number, or a negative one */
		return (int64_t)task->regs.di < 4096 ? SYS_clock_nanosleep : SYS_nanosleep;
	if (strstr(name, "poll"))
		return SYS_poll;
	return strstr(name, "futex") ? SYS_futex : 0;
}

/* Lets it wait once more, for as long as it takes to see where. */
static int32_t ask(struct trace *t, struct task *task)
{
	const struct timespec nap = {.tv_nsec = WCHAN_NAP_NS};
	int32_t nr = 0;

	if (trace_resume(t, task, PTRACE_CONT) < 0)
		return -1;
	for (int i = 0; i < WCHAN_TRIES && nr == 0; i++) {
		nanosleep(&nap, NULL);
		nr = by_sleep(task);
	}
	return trace_stop_one(t, task) < 0 ? -1 : nr;
}

/*
 * By the kernel's 32-bit entry, whose numbers are others. It is left by a call of ours, so that
 * the kernel would restart by the number that restart_syscall has at the other one.
 */
static int by_int80(struct trace *t, const struct blob_regs *r)
{
	struct vmad_err *err = t->err, unused;
	uint8_t code[2] = {0};

	t->err = &unused;
	trace_get(t, r->ip - sizeof code, code, sizeof code);
	t->err = err;
	return code[0] == 0xcd && code[1] == 0x80;
}

/* Anew with all its time; or, if its number was lost by a restart before, EINTR. */
static void begin_anew_32(struct blob_regs *r)
{
	r->ax = (uint64_t)(r->orig_ax ? RESTART_NOHAND : -EINTR);
}

static int in_restart(const struct blob_regs *r)
{
	return (int64_t)r->orig_ax >= 0 && (int64_t)r->ax == RESTART_BLOCK;
}

/*
 * Calls that say EINTR for any interruption, a stop that nobody was to see included
 * (signal(7)). Nothing has happened in one that said so: it begins anew, unless a handler
 * runs, and then the kernel says EINTR once more.
 */
static void begin_anew(struct blob_regs *r)
{
	static const int16_t calls[] = {
		SYS_epoll_wait, SYS_epoll_pwait, 441 /* epoll_pwait2 */, SYS_rt_sigtimedwait,
		SYS_semop,	SYS_semtimedop,	 SYS_io_getevents,	 SYS_msgrcv,
		SYS_msgsnd,	SYS_read,	 SYS_recvfrom,		 SYS_recvmsg,
		SYS_accept,	SYS_accept4,
	};

	if ((int64_t)r->ax != -EINTR)
		return;
	for (unsigned i = 0; i < sizeof calls / sizeof calls[0]; i++)
		if ((int64_t)r->orig_ax == calls[i])
			r->ax = (uint64_t)RESTART_NOHAND;
}

int restart_find(struct trace *t, struct task *task)
{
	struct blob_regs *r = &task->regs;
	struct vmad_err *err = t->err, unused;
	int32_t nr;

	task->waits_in = 0;
	if (((int64_t)r->ax == -EINTR || in_restart(r)) && by_int80(t, r)) {
		if (in_restart(r))
			begin_anew_32(r);
		return 0;
	}
	begin_anew(r);
	if (!in_restart(r))
		return 0;
	nr = (int32_t)r->orig_ax;
	if (nr == SYS_restart_syscall) {
		t->err = &unused;
		nr = by_code(t, r);
		t->err = err;
		if (nr == 0 && (nr = ask(t, task)) < 0)
			return -1;
	}
	task->waits_in = nr ? nr : -1;
	return !in_restart(r); /* what it waited for has come meanwhile */
}

void restart_settle(const struct task *task, struct blob_regs *r)
{
	int32_t nr = task->waits_in;

	if (!nr)
		return;
	if (nr < 0 || (nr == SYS_nanosleep && r->si) || (nr == SYS_clock_nanosleep && r->r10)) {
		r->ax = (uint64_t)-EINTR;
		r->orig_ax = (uint64_t)-1;
		return;
	}
	r->ax = (uint64_t)RESTART_NOHAND;
	r->orig_ax = (uint64_t)nr;
}
