/*
 * bpinit: delivery of signals to real processes of this machine, with the sender
 * that they had where they were sent. A signal enters a node only from inside its
 * pid namespace, else si_pid would be 0.
 */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "slaved/bpinit_kill.h"
#include "slaved/bpinit_orphan.h"

/* rt_sigqueueinfo() takes any sender, but only with a code below SI_USER. */
static int queue_signal(const struct init_msg *m)
{
	siginfo_t si = {.si_signo = m->u.signal.sig, .si_code = m->u.signal.code};

	si.si_pid = m->u.signal.sender_pid;
	si.si_uid = m->u.signal.sender_uid;
	si.si_value.sival_ptr = (void *)(uintptr_t)m->u.signal.value;
	return syscall(SYS_rt_sigqueueinfo, m->u.signal.pid, m->u.signal.sig, &si, 0, 0,
		       CALL_MARK) < 0
		       ? -errno
		       : 0;
}

static int by_ghost(struct proc *sender, const struct init_msg *m)
{
	struct chan_msg c = {.type = CHAN_KILL};
	int e;

	c.u.kill.pid = m->u.signal.pid;
	c.u.kill.sig = m->u.signal.sig;
	c.u.kill.code = m->u.signal.code;
	c.u.kill.value = m->u.signal.value;
	e = proc_tell(sender, &c, NULL, 0);
	if (e == 0)
		sent_by(sender, m->u.signal.pid);
	return e;
}

/*
 * May the sender's ghost send it? One that was cloned is allowed everything, but one in place is
 * an ordinary user's process, and its original may have become more than that elsewhere.
 */
static bool ghost_can(const struct proc *ghost, const struct init_msg *m)
{
	struct init_kill k = {.pid = ghost->pid, .sig = m->u.signal.sig};
	struct look from, to;

	/* One that was told to be a ghost reads the order when it is one. */
	if ((ghost->state != PROC_GHOST && !leave_is_ghosting(ghost)) || ghost->chan < 0 ||
	    ghost->exiting || ghost->dying)
		return false;
	/* A stopped ghost reads nothing. */
	if (ghost->stopped)
		return false;
	if (ghost->state == PROC_GHOST && !ghost->in_place)
		return true;
	if (look_at(ghost->pid, &from) < 0 || look_at(m->u.signal.pid, &to) < 0)
		return false;
	k.uid = from.uid;
	k.euid = from.euid;
	k.sid = from.sid;
	k.cap_kill = from.cap_kill;
	return may_signal(&k, &to);
}

/* With the sender's name, if not with its code. */
static int queue_as_user(const struct init_msg *m)
{
	struct init_msg q = *m;

	q.u.signal.code = SI_QUEUE;
	q.u.signal.value = 0;
	return queue_signal(&q);
}

/* From here on it is the kernel's, or an order that the sender's ghost will obey. */
static void hand_over(const struct init_msg *m)
{
	int32_t from = m->u.signal.sender_pid, code = m->u.signal.code;
	struct proc *sender = from > 0 && from != self.self ? proc_find(from) : NULL;
	bool value = code == SI_QUEUE || code == SI_MESGQ;
	bool user = from > 0 && from != self.self && (code == SI_USER || code == SI_TKILL);
	int sig = m->u.signal.sig, e = -ESRCH;
	struct proc *to = proc_find(m->u.signal.pid);

	if (to && sig == SIGCONT)
		to->conted = true;
	if (code == SIGNAL_ORPHANED)
		return orphan_deliver(m);
	/* All that one sender sends goes one way, so that it stays in its order. */
	if (sender && (value || user) && ghost_can(sender, m))
		e = by_ghost(sender, m);
	else if (value)
		e = queue_signal(m);
	else if (user && !sender && own_kill(from, 0) < 0)
		e = spawn_postman(from, m->u.signal.sender_uid, m->u.signal.pid, sig,
				  code == SI_TKILL);
	/* Its number is taken here: by itself, as a rule. */
	if (e < 0 && user)
		e = queue_as_user(m);
	/* Terminal, kernel: as ours. */
	if (e < 0)
		e = own_kill(m->u.signal.pid, sig) < 0 ? -errno : 0;
	if (e < 0 && e != -ESRCH)
		say("signal %d to %d: %s", sig, m->u.signal.pid, strerror(-e));
}

/* What stands in for it, or did until a moment ago, is told as if it had been sent it itself. */
void deliver(const struct init_msg *m)
{
	struct proc *to = proc_find(m->u.signal.pid);

	if (to && (to->state == PROC_GHOST || to->state == PROC_MAKING ||
		   (to->state == PROC_ARRIVING && to->was_ghost)))
		event_signal(to, &(struct init_msg){.type = EV_SIGNAL,
						    .pid = m->u.signal.pid,
						    .u.signal = m->u.signal});
	else
		hand_over(m);
}

static void acknowledge(const struct init_msg *m, bool again)
{
	event(&(struct init_msg){.type = EV_SIGNALLED,
				 .pid = m->u.signal.pid,
				 .u.signalled = {.pid = m->u.signal.pid,
						 .origin = m->u.signal.origin,
						 .again = again,
						 .stream = m->u.signal.stream,
						 .upto = once_upto(m->u.signal.stream)}});
}

/*
 * It has left again, or is about to. What it has pending is in its image from the moment that it is
 * parked, before it is granted: another signal would be in none of the two copies or in both, or
 * come from the ghost here, late, behind others that the sender has numbered after it.
 */
static bool goes_elsewhere(const struct proc *to, const struct init_msg *m)
{
	if (to->state == PROC_LEAVING)
		return m->u.signal.stream && m->u.signal.sig != SIGKILL;
	return to->state == PROC_GHOST || to->state == PROC_MAKING;
}

/* The ghost that is to send it, as who it stands in for, is just being made. */
static bool sender_is_made(const struct init_msg *m)
{
	int32_t from = m->u.signal.sender_pid;
	const struct proc *sender = from > 0 && from != self.self ? proc_find(from) : NULL;

	return sender && sender->state == PROC_MAKING;
}

/*
 * One that is not taken is not acknowledged either, and comes again. What the master sends by
 * itself has no stream: a SIGKILL, which may come twice.
 */
void init_signal(const struct init_msg *m)
{
	struct proc *to = proc_find(m->u.signal.pid);
	int sig = m->u.signal.sig;
	enum once once;

	if (sig < 1 || sig > SIGRTMAX || m->u.signal.pid <= 1)
		return;
	if (to && goes_elsewhere(to, m)) {
		/* The master keeps what comes back for whichever copy lives. */
		event(&(struct init_msg){.type = EV_SIGNAL,
					 .flags = EVF_RELAYED,
					 .pid = m->u.signal.pid,
					 .u.signal = m->u.signal});
		return;
	}
	if (!m->u.signal.stream)
		return hand_over(m);
	if (sig != SIGKILL && ((to && to->state == PROC_ARRIVING) || sender_is_made(m)))
		return;
	once = once_take(m->u.signal.stream, m->u.signal.pid, m->u.signal.number, m->u.signal.base);
	if (once == ONCE_NEW)
		hand_over(m);
	if (once != ONCE_LATER)
		acknowledge(m, once == ONCE_AHEAD);
}
