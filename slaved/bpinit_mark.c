/*
 * bpinit: stops that a SIGCONT of ours would take unseen. To show that a process goes on its ghost
 * is sent a SIGCONT, which takes all stops out of its queues, also one that came since we looked.
 * So a ghost that is shown as stopped has another SIGCONT waiting by then, the mark, blocked and in
 * the queue of its first thread alone. A stop takes the mark out when it is sent (kernel/signal.c,
 * prepare_signal()), and nothing else does; a SIGCONT for the process waits in its other queue. So
 * if the mark is gone when the group stop has ended, and no stop waits, one was taken.
 *
 * The mark is sent before the stop that it is for is shown: what it takes out itself was sent to
 * one that had stopped and whom nobody here had seen stop, and would have changed nothing.
 */
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "slaved/bpinit_kill.h"

#define BIT(sig) (1ul << ((sig)-1))
#define STOPS (BIT(SIGSTOP) | BIT(SIGTSTP) | BIT(SIGTTIN) | BIT(SIGTTOU))

enum queue { OWN, SHARED = PTRACE_PEEKSIGINFO_SHARED };

/* A SIGCONT of ours, or of another's. Only in a stop of its tracer's, as block(). */
static bool waits(const struct proc *p, enum queue q, bool ours)
{
	struct __ptrace_peeksiginfo_args args = {.flags = q, .nr = 1};
	siginfo_t si;

	for (; ptrace(PTRACE_PEEKSIGINFO, p->pid, &args, &si) == 1; args.off++)
		if (si.si_signo == SIGCONT && (si.si_pid == self.self) == ours)
			return true;
	return false;
}

static bool block(struct proc *p, bool on)
{
	uint64_t mask;

	if (ptrace(PTRACE_GETSIGMASK, p->pid, sizeof(mask), &mask) < 0)
		return false;
	mask = on ? mask | BIT(SIGCONT) : mask & ~BIT(SIGCONT);
	if (ptrace(PTRACE_SETSIGMASK, p->pid, sizeof(mask), &mask) < 0)
		return false;
	p->cont_blocked = on;
	return true;
}

static uint64_t pending_stops(const struct proc *p)
{
	uint64_t blocked;

	return look_pending(p->pid, &blocked) & STOPS;
}

static bool tell_pending_stops(struct proc *p)
{
	uint64_t pending = pending_stops(p);

	for (int sig = SIGSTOP; sig <= SIGTTOU; sig++) {
		siginfo_t si = {.si_signo = sig, .si_code = SI_KERNEL};

		if (pending & BIT(sig))
			trace_tell(p, &si);
	}
	return pending != 0;
}

static bool send_mark(struct proc *p)
{
	if (!block(p, true))
		return false;
	tell_pending_stops(p);
	p->marked = syscall(SYS_tgkill, p->pid, p->pid, SIGCONT, 0, 0, CALL_MARK) == 0;
	return p->marked;
}

bool mark_set(struct proc *p)
{
	/*
	 * One that has come since it was blocked is to be met before the stop. From now on it is
	 * the stop that does not act: it has been taken out of the queue (JOBCTL_STOP_DEQUEUED).
	 */
	if (p->cont_blocked && waits(p, SHARED, false))
		mark_drop(p);
	else if (p->marked || !send_mark(p))
		return false;
	mirror_stop(p);
	return true;
}

void mark_continue(struct proc *p)
{
	if (tell_pending_stops(p))
		p->marked = false; /* they have taken it */
	own_kill(p->pid, SIGCONT);
}

void mark_met(struct proc *p, int sig)
{
	if (sig == SIGCONT || is_stop(sig))
		p->marked = false;
}

/* Which stop it was is not known: this one acts as most of them would. */
void mark_look(struct proc *p)
{
	siginfo_t stop = {.si_signo = SIGSTOP, .si_code = SI_USER};
	siginfo_t cont = {.si_signo = SIGCONT, .si_code = SI_KERNEL};
	bool there = p->marked && waits(p, OWN, true);

	if (p->busy == SIGCONT && p->marked && !there && !pending_stops(p))
		trace_tell(p, &stop);
	/* By tgkill(2): it was one with the mark. */
	if (p->busy != SIGCONT && there && !waits(p, SHARED, false) && !waits(p, SHARED, true)) {
		trace_tell(p, &cont);
		p->cont_due = false;
	}
}

void mark_drop(struct proc *p)
{
	if (p->cont_blocked)
		block(p, false);
	p->marked = false;
}
