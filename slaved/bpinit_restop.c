/*
 * bpinit: a stop of a real process that its parent has still to wait for, when that parent comes
 * here. The kernel shows a stop once, and it was shown to the ghost that stood in for the parent;
 * so it is made again. The process is held by us between the continue and the new stop: it runs
 * not one instruction, and the stop takes the continue out of its queue.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>

#include "slaved/bpinit_kill.h"

#define TURNS 400 /* of half a millisecond: a stopped process has nothing else to do */
#define STEPS 16  /* signals that it has pending go by */

/* Its next stop, as of waitpid(); 0: it has ended, or does not come to one. */
static int next_stop(int32_t pid)
{
	const struct timespec half_ms = {.tv_nsec = 500000};
	int status = 0;

	for (int i = 0; i < TURNS; i++) {
		pid_t got = waitpid(pid, &status, WNOHANG | __WALL);

		if (got == pid)
			return WIFSTOPPED(status) ? status : 0;
		if (got < 0)
			return 0;
		ppoll(NULL, 0, &half_ms, NULL);
	}
	return 0;
}

static bool is_group_stop(int status)
{
	return status >> 16 == PTRACE_EVENT_STOP && is_stop(WSTOPSIG(status));
}

/* Signals that wait behind its stop: a SIGCONT ends it at once, others would act now. */
static bool has_others(int32_t pid)
{
	uint64_t blocked, pending = look_pending(pid, &blocked);

	return pending & (~blocked | 1ul << (SIGCONT - 1));
}

static bool again(int32_t pid, int sig)
{
	uintptr_t act = 0;
	bool tried = false;
	int status;

	own_kill(pid, SIGCONT);
	own_kill(pid, SIGSTOP);
	for (int i = 0; i < STEPS; i++) {
		if (ptrace(PTRACE_CONT, pid, NULL, (void *)act) < 0)
			return false;
		if (tried)
			ptrace(PTRACE_INTERRUPT, pid, NULL, NULL);
		status = next_stop(pid);
		if (!status || is_group_stop(status))
			return status != 0;
		act = status >> 16 ? 0 : (uintptr_t)WSTOPSIG(status);
		/* In an orphaned group the kernel takes no stop of a terminal's. */
		if (tried && !act)
			own_kill(pid, sig = SIGSTOP);
		tried = act == SIGSTOP;
		act = tried ? (uintptr_t)sig : act;
	}
	return false;
}

/* False: it is not stopped any more, or may not be traced. */
bool restop(int32_t pid, int sig)
{
	bool done = false;
	int status;

	if (ptrace(PTRACE_SEIZE, pid, NULL, NULL) < 0)
		return false;
	ptrace(PTRACE_INTERRUPT, pid, NULL, NULL);
	status = next_stop(pid);
	if (status && is_group_stop(status) && !has_others(pid))
		done = again(pid, sig);
	if (ptrace(PTRACE_DETACH, pid, NULL, NULL) < 0 && errno == ESRCH &&
	    ptrace(PTRACE_INTERRUPT, pid, NULL, NULL) == 0 && next_stop(pid))
		ptrace(PTRACE_DETACH, pid, NULL, NULL);
	return done;
}
