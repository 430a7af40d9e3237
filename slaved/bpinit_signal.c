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

#include "slaved/bpinit.h"

/* rt_sigqueueinfo() takes any sender, but only with a code below SI_USER. */
static int queue_signal(const struct init_msg *m)
{
	siginfo_t si = {.si_signo = m->u.signal.sig, .si_code = m->u.signal.code};

	si.si_pid = m->u.signal.sender_pid;
	si.si_uid = m->u.signal.sender_uid;
	si.si_value.sival_ptr = (void *)(uintptr_t)m->u.signal.value;
	return syscall(SYS_rt_sigqueueinfo, m->u.signal.pid, m->u.signal.sig, &si) < 0 ? -errno : 0;
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
	if (e == 0 && sender->stopped) {
		trace_wake(sender);
		trace_sleep(sender);
	}
	return e;
}

/* From here on it is the kernel's, or an order that the sender's ghost will obey. */
static void deliver(const struct init_msg *m)
{
	int32_t from = m->u.signal.sender_pid, code = m->u.signal.code;
	struct proc *sender = from > 0 && from != self.self ? proc_find(from) : NULL;
	bool value = code == SI_QUEUE || code == SI_MESGQ;
	int sig = m->u.signal.sig, e = -ESRCH;

	/* A stopped ghost reads nothing: then a postman cannot have its number either. */
	if (sender && (sender->state != PROC_GHOST || sender->chan < 0 || sender->exiting ||
		       sender->dying || sender->stopped))
		sender = NULL;
	/* All that one sender sends goes one way, so that it stays in its order. */
	if (sender && (value || code == SI_USER || code == SI_TKILL))
		e = by_ghost(sender, m);
	else if (value)
		e = queue_signal(m);
	else if (from > 0 && from != self.self && (code == SI_USER || code == SI_TKILL))
		e = spawn_postman(from, m->u.signal.sender_uid, m->u.signal.pid, sig,
				  code == SI_TKILL);
	/* Terminal, kernel, a sender whose number is taken here: as ours. */
	if (e < 0)
		e = kill(m->u.signal.pid, sig) < 0 ? -errno : 0;
	if (e < 0 && e != -ESRCH)
		say("signal %d to %d: %s", sig, m->u.signal.pid, strerror(-e));
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
	if (to && (to->state == PROC_GHOST || to->state == PROC_MAKING)) {
		/* It has left again: the master sends what comes back to where it is now. */
		event(&(struct init_msg){.type = EV_SIGNAL,
					 .flags = EVF_RELAYED,
					 .pid = m->u.signal.pid,
					 .u.signal = m->u.signal});
		return;
	}
	if (!m->u.signal.stream)
		return deliver(m);
	if (to && sig != SIGKILL && (to->state == PROC_ARRIVING || leave_is_sending(to)))
		return;
	once = once_take(m->u.signal.stream, m->u.signal.pid, m->u.signal.number, m->u.signal.base);
	if (once == ONCE_NEW)
		deliver(m);
	if (once != ONCE_LATER)
		acknowledge(m, once == ONCE_AHEAD);
}
