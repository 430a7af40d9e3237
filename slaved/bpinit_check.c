/*
 * What a channel may say of others. It is in the hands of the process's user, who can
 * put any code of his own in the blob's place: so what he says of children and of
 * signals is held against what the kernel says, and what he says of clones against what he was
 * asked. What is not right is passed over, as if it had not been said. Runs in bpinit.
 */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>

#include "slaved/bpinit_kill.h"

/* Ghosts alone wait in their originals' place, and those that arrive into one have. */
static bool waits(const struct proc *p)
{
	return p->state == PROC_GHOST || (p->state == PROC_ARRIVING && p->was_ghost);
}

static bool is_signal(int sig)
{
	return sig > 0 && sig < NSIG;
}

static bool gone(int32_t pid)
{
	return own_kill(pid, 0) < 0 && errno == ESRCH;
}

/* A child that has stopped or goes on is there to be asked; one that was waited for is not. */
static bool child_is_right(const struct proc *p, const struct chan_child *c)
{
	switch (c->code) {
	case CLD_EXITED:
		return (c->status & ~0xff) == 0 && gone(c->pid);
	case CLD_KILLED:
	case CLD_DUMPED:
		return is_signal(c->status) && gone(c->pid);
	case CLD_STOPPED:
	case CLD_CONTINUED:
		return is_signal(c->status) && proc_parent(c->pid) == p->pid;
	default:
		return false;
	}
}

/* By the ghost that was told to make it; or by the skeleton that was told to be it. */
static bool clone_is_right(const struct proc *p, int32_t pid)
{
	if (pid == p->pid)
		return p->state == PROC_ARRIVING && p->move && moves[p->move - 1].skel;
	return clone_is_due(p, pid);
}

bool chan_is_right(const struct proc *p, const struct chan_msg *c)
{
	siginfo_t si;

	switch (c->type) {
	case CHAN_CHILD:
		return waits(p) && c->u.child.pid > 1 && child_is_right(p, &c->u.child);
	case CHAN_SIG:
		memcpy(&si, c->u.siginfo, sizeof(si));
		return p->state == PROC_GHOST && is_signal(si.si_signo);
	case CHAN_KILLED:
		return sent_is_asked(p, c->u.kill.pid);
	case CHAN_CLONED:
		return clone_is_right(p, c->u.pid);
	default:
		return true;
	}
}
