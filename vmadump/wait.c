/*
 * How whoever traces sleeps until a tracee has stopped. Library code; runs in whoever
 * dumps or restores.
 *
 * waitpid(2) knows no timeout, and a thread that waits in the kernel may not stop for as long
 * as it likes; asking again and again keeps the processor that the tracee has to run on. So
 * SIGCHLD, which tells of a stop, is blocked in this thread and waited for. One that tells
 * of another child of the caller is put back in the end. Another thread of the caller may
 * take it, and who ignores it is sent none: then it is the timeout that ends the sleep.
 */
#include <sched.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "vmadump/trace.h"

#define YIELDS 2
#define NAP_NS 500000

void trace_listen(struct trace *t)
{
	sigset_t chld;

	if (t->listening)
		return;
	sigemptyset(&chld);
	sigaddset(&chld, SIGCHLD);
	t->listening = pthread_sigmask(SIG_BLOCK, &chld, &t->mask_was) == 0;
	t->heard_other = 0;
}

static int is_ours(const struct trace *t, pid_t pid)
{
	for (uint32_t i = 0; i < t->n; i++)
		if (t->task[i].tid == pid)
			return 1;
	return 0;
}

void trace_pause(struct trace *t, unsigned tries)
{
	const struct timespec nap = {.tv_nsec = NAP_NS};
	siginfo_t info;
	sigset_t chld;

	if (tries < YIELDS) {
		sched_yield();
		return;
	}
	if (!t->listening) {
		nanosleep(&nap, NULL);
		return;
	}
	sigemptyset(&chld);
	sigaddset(&chld, SIGCHLD);
	if (sigtimedwait(&chld, &info, &nap) == SIGCHLD && !is_ours(t, info.si_pid)) {
		t->heard = info;
		t->heard_other = 1;
	}
}

void trace_deafen(struct trace *t)
{
	if (!t->listening)
		return;
	t->listening = 0;
	if (t->heard_other)
		syscall(SYS_rt_sigqueueinfo, getpid(), SIGCHLD, &t->heard);
	pthread_sigmask(SIG_SETMASK, &t->mask_was, NULL);
}

void trace_shield(sigset_t *ret_was)
{
	sigset_t all;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, ret_was);
}

void trace_unshield(const sigset_t *was)
{
	pthread_sigmask(SIG_SETMASK, was, NULL);
}
