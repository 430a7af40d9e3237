/*
 * bpinit as the tracer of ghosts. Every signal of a ghost is met here before it
 * acts, in the kernel's order: those of others are told to bpslave and dropped,
 * those that we sent (a mirrored stop or continue, the death of the original) go
 * through. SIGKILL cannot be met: PTRACE_O_TRACEEXIT holds the ghost in its exit,
 * so that no wait() returns before the original is dead. SIGCHLD is blocked in a
 * ghost and never comes here.
 */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include "slaved/bpinit_orphan.h"

static long trace(struct proc *p, enum __ptrace_request what, uintptr_t data)
{
	long r = ptrace(what, p->pid, NULL, (void *)data);

	/* ESRCH: it was killed in this very moment, and its exit stop comes next. */
	if (r < 0 && errno != ESRCH)
		say("pid %d: ptrace %d: %s", p->pid, (int)what, strerror(errno));
	return r;
}

int trace_begin(struct proc *p, long options)
{
	if (p->traced)
		return 0;
	/*
	 * EXITKILL: on the front end ghosts and what is parked outlive us by nothing, as on a node.
	 * They would stand in for ever for originals that the master has killed (doc/move.md).
	 */
	options |= PTRACE_O_TRACEEXIT | PTRACE_O_EXITKILL;
	if (ptrace(PTRACE_SEIZE, p->pid, NULL, (void *)options) < 0)
		return -errno;
	p->traced = true;
	p->stopped = p->exiting = p->cont_blocked = p->marked = false;
	return 0;
}

/* -- letting go */

static void let_go(struct proc *p, int sig)
{
	void (*done)(struct proc *) = p->detached;

	p->detached = NULL;
	p->traced = false;
	p->held_stop |= sig == SIGSTOP;
	trace(p, PTRACE_DETACH, sig != SIGSTOP ? (uintptr_t)sig : 0);
	if (p->held_stop)
		own_kill(p->pid, SIGSTOP); /* it came while nothing could stop */
	p->held_stop = false;
	done(p);
}

void trace_release(struct proc *p, void (*done)(struct proc *p))
{
	p->detached = done;
	if (!p->traced) {
		p->detached = NULL;
		done(p);
		return;
	}
	/* Only a stopped tracee can be let go of. */
	trace(p, PTRACE_INTERRUPT, 0);
}

/* -- work for a ghost that is shown as stopped: it runs, its group stop stays */

void trace_wake(struct proc *p)
{
	if (p->awake++ == 0 && p->stopped)
		trace(p, PTRACE_INTERRUPT, 0);
}

void trace_sleep(struct proc *p)
{
	if (p->awake > 0 && --p->awake == 0 && p->stopped)
		trace(p, PTRACE_INTERRUPT, 0);
}

/* -- what is told of a signal */

bool is_stop(int sig)
{
	return sig == SIGSTOP || sig == SIGTSTP || sig == SIGTTIN || sig == SIGTTOU;
}

void trace_tell(struct proc *p, const siginfo_t *si)
{
	struct init_msg m = {.type = EV_SIGNAL, .pid = p->pid, .use = p->use};
	bool value = si->si_code == SI_QUEUE || si->si_code == SI_MESGQ;

	m.u.signal.pid = p->pid;
	m.u.signal.sig = si->si_signo;
	m.u.signal.code = si->si_code;
	if (si->si_code == SI_USER || si->si_code == SI_TKILL || value) {
		m.u.signal.sender_pid = si->si_pid;
		m.u.signal.sender_uid = si->si_uid;
	}
	if (value)
		m.u.signal.value = (uint64_t)(uintptr_t)si->si_value.sival_ptr;
	event_signal(p, &m);
}

void trace_exit(struct proc *p, int status)
{
	struct chan_msg m = {.type = CHAN_EXIT, .u.status = status};

	if (p->dying && !p->exiting)
		return;
	p->dying = true;
	if (p->exiting) {
		trace(p, PTRACE_CONT, 0);
		return;
	}
	/* It flushes its streams, then dies so; SIGKILL too is sent by itself. */
	if (proc_tell(p, &m, NULL, 0) < 0)
		own_kill(p->pid, SIGKILL);
	trace_wake(p);
}

/* -- stops */

void trace_unmet(struct proc *p, const void *siginfo)
{
	siginfo_t si;

	memcpy(&si, siginfo, sizeof(si));
	if (p->state == PROC_GHOST && !p->dying && si.si_pid != self.self && si.si_pid != p->pid)
		trace_tell(p, &si);
}

void trace_held_stop(struct proc *p)
{
	siginfo_t si = {.si_signo = SIGSTOP, .si_code = SI_USER};

	if (p->held_stop)
		trace_tell(p, &si);
	p->held_stop = false;
}

void trace_killed(struct proc *p)
{
	siginfo_t si = {.si_signo = SIGKILL, .si_code = SI_KERNEL};

	trace_tell(p, &si);
}

static bool is_fault(const siginfo_t *si)
{
	int s = si->si_signo;

	return si->si_code > 0 &&
	       (s == SIGSEGV || s == SIGBUS || s == SIGILL || s == SIGFPE || s == SIGTRAP);
}

/*
 * A SIGCONT acts when it is sent, and a stop that is sent after it takes it out of
 * the queue before it has been met here: then only the end of the group stop says
 * that there was one.
 */
static void continue_due(struct proc *p, int sig)
{
	siginfo_t si = {.si_signo = SIGCONT, .si_code = SI_KERNEL};

	if (p->cont_due && is_stop(sig))
		trace_tell(p, &si);
	if (sig == SIGCONT || is_stop(sig))
		p->cont_due = false;
}

/* The signal to go on with. */
static int ghost_signal(struct proc *p, const siginfo_t *si)
{
	bool sent = si->si_code == SI_USER || si->si_code == SI_TKILL || si->si_code == SI_QUEUE;

	mark_met(p, si->si_signo);
	if (sent && si->si_pid == self.self && si->si_signo == SIGCONT)
		return 0; /* it has acted when it was sent, or is a mark */
	continue_due(p, si->si_signo);
	if (sent && si->si_pid == self.self && si->si_signo == STOP_MARK) {
		p->stop_met = !p->dying && is_stop(p->busy) && !mark_set(p);
		return p->stop_met ? p->busy : 0;
	}
	if (sent && si->si_pid == self.self)
		return si->si_signo;
	if (sent && si->si_pid == p->pid)
		return p->dying ? si->si_signo : 0; /* its SIGPIPE; or the death it was told */
	if (si->si_signo == SIGCHLD || si->si_code == SI_TIMER || p->dying)
		return 0;
	if (is_fault(si)) {
		/* It would be met again for ever. Its original lives: nothing is shown yet. */
		p->lost = true;
		say("ghost %d: signal %d at %p", p->pid, si->si_signo, si->si_addr);
		event(&(struct init_msg){.type = EV_LOST, .pid = p->pid, .use = p->use});
		own_kill(p->pid, SIGKILL);
		return 0;
	}
	if (si->si_code == SI_KERNEL && orphan_met(p, si->si_signo))
		return 0;
	trace_tell(p, si);
	/* It used the terminal in the background: home's rule, so it stops at once. */
	if ((si->si_signo == SIGTTIN || si->si_signo == SIGTTOU) && si->si_code == SI_KERNEL)
		return si->si_signo;
	return 0;
}

/*
 * It was sent before the ghost has read that it is to take the image in, from when on all wait
 * there. What was sent to it then is told as by the ghost: its original is not to miss it.
 */
static void arrival_signal(struct proc *p, const siginfo_t *si)
{
	bool sent = si->si_code == SI_USER || si->si_code == SI_TKILL || si->si_code == SI_QUEUE;

	if (sent && si->si_pid == self.self)
		return;
	continue_due(p, si->si_signo);
	if ((sent && si->si_pid == p->pid) || si->si_signo == SIGCHLD || si->si_code == SI_TIMER ||
	    is_fault(si))
		return;
	if (si->si_code != SI_KERNEL || !orphan_met(p, si->si_signo))
		trace_tell(p, si);
}

/*
 * SIGKILL takes a tracee out of any stop, and it comes to its exit stop, also when we have just
 * read of the other. There it stays until that is met: what lets it go on would let it die unseen.
 */
static void go_on(struct proc *p, int sig)
{
	siginfo_t si = {.si_signo = 0};

	if (ptrace(PTRACE_GETSIGINFO, p->pid, NULL, &si) == 0 && si.si_signo == SIGTRAP &&
	    si.si_code >> 8 == PTRACE_EVENT_EXIT)
		return;
	trace(p, PTRACE_CONT, (uintptr_t)sig);
}

/* A stop by a signal that is about to act on the tracee. */
static void signal_stop(struct proc *p, int sig)
{
	siginfo_t si = {.si_signo = sig};

	if (p->inject && sig == SIGTRAP && inject_trap(p))
		return;
	if (p->state != PROC_GHOST && p->chan >= 0 && !p->inject) {
		/* It may be a ghost by now, and have said so: that comes first. */
		proc_readable(p);
		if (p->detached) {
			let_go(p, sig);
			return;
		}
	}
	if (p->inject || ptrace(PTRACE_GETSIGINFO, p->pid, NULL, &si) < 0) {
		trace(p, PTRACE_CONT, p->inject ? (uintptr_t)sig : 0);
		return;
	}
	if (si.si_signo != sig)
		return; /* killed since: it is in its exit stop */
	if (p->state != PROC_GHOST) {
		/* Parked, all blocked: only a SIGSTOP gets here. It waits for the outcome. */
		p->held_stop |= sig == SIGSTOP;
		if (sig != SIGSTOP && p->state == PROC_ARRIVING)
			arrival_signal(p, &si);
		go_on(p, 0);
		return;
	}
	sig = ghost_signal(p, &si);
	go_on(p, sig);
	/* Did it stop? Not in an orphaned group, if the stop is a terminal's; nor if a SIGCONT
	 * has come in between. */
	if (sig && sig == p->busy && p->stop_met)
		trace(p, PTRACE_INTERRUPT, 0);
}

static void group_stop(struct proc *p)
{
	bool was = p->stopped;

	p->stopped = true;
	if (p->awake || p->dying) {
		mark_drop(p); /* what it does now may be to arrive, and blocks all signals */
		go_on(p, 0);
	} else {
		trace(p, PTRACE_LISTEN, 0);
	}
	if (!was && p->busy != SIGCONT) {
		p->busy = 0;
		if (p->held)
			bereft_stopped(p);
		mirror_next(p);
		arrive_progress();
	}
}

/* Running again, or interrupted by us. */
static void trap_stop(struct proc *p)
{
	p->cont_due |= p->stopped && p->busy != SIGCONT && p->state == PROC_GHOST;
	if (p->stopped) {
		p->cont_ms = clock_ms();
		mark_look(p);
	}
	/* The mark is a SIGCONT too, and traps. */
	if (p->stopped || !is_stop(p->busy) || p->stop_met)
		mark_drop(p);
	p->stopped = false;
	go_on(p, 0);
	if (is_stop(p->busy)) {
		if (p->stop_met) {
			p->busy = SIGSTOP;
			mirror_stop(p);
		}
		return;
	}
	p->busy = 0;
	mirror_next(p);
	arrive_progress();
}

static bool exit_is_killed(const struct proc *p)
{
	unsigned long status = 0;

	return ptrace(PTRACE_GETEVENTMSG, p->pid, NULL, &status) == 0 && WIFSIGNALED((int)status) &&
	       WTERMSIG((int)status) == SIGKILL;
}

static void exit_stop(struct proc *p)
{
	p->exiting = true;
	/* Asked only of what may be somebody's real child: a ghost dies on a caller's time. */
	if (p->state == PROC_LEAVING)
		p->our_child = proc_parent(p->pid) == self.self;
	p->stopped = false;
	p->busy = 0;
	if (p->dying) {
		trace(p, PTRACE_CONT, 0);
		return;
	}
	if (p->state == PROC_MAKING && exit_is_killed(p)) {
		/* Before it could say that it is a ghost: it stands in as it is. */
		ghost_made(p);
		return trace_killed(p);
	}
	switch (p->state) {
	case PROC_LEAVING:
		leave_exit_stop(p);
		break;
	case PROC_ARRIVING:
		arrive_died(p);
		trace_killed(p);
		break;
	case PROC_GHOST:
		for (int i = 0; i < p->nmirror; i++)
			p->dying |= p->mirror[i].code != CLD_STOPPED &&
				    p->mirror[i].code != CLD_CONTINUED;
		if (p->dying)
			trace(p, PTRACE_CONT, 0);
		else if (!p->lost)
			trace_killed(p);
		break;
	default:
		trace(p, PTRACE_CONT, 0);
	}
}

void trace_stopped(struct proc *p, int status)
{
	int sig = WSTOPSIG(status), what = status >> 16;

	if (p->detached && what != PTRACE_EVENT_EXIT) {
		let_go(p, what == 0 ? sig : 0);
		return;
	}
	switch (what) {
	case 0:
		signal_stop(p, sig);
		break;
	case PTRACE_EVENT_STOP:
		if (sig == SIGTRAP)
			trap_stop(p);
		else
			group_stop(p);
		break;
	case PTRACE_EVENT_EXIT:
		exit_stop(p);
		break;
	case PTRACE_EVENT_EXEC:
		inject_exec(p);
		break;
	default:
		trace(p, PTRACE_CONT, 0);
	}
}

/*
 * Killed between go_on()'s look and its order: it went through its exit stop unseen. Nothing is
 * left that could repeat it.
 */
static void killed_unseen(const struct proc *p)
{
	struct init_msg m = {.type = EV_SIGNAL, .flags = EVF_RELAYED, .pid = p->pid, .use = p->use};

	m.u.signal.pid = p->pid;
	m.u.signal.sig = SIGKILL;
	m.u.signal.code = SI_KERNEL;
	event(&m);
}

/* Killed as it was being made, and its exit stop went by in the same way, or nobody traced it yet:
 * whoever did that saw a ghost. What comes of it here must not be taken for one that failed. */
static struct proc *killed_in_making(struct proc *p)
{
	int32_t pid = p->pid;

	p->traced = true; /* there is nothing left to seize */
	ghost_made(p);
	return proc_find(pid);
}

void trace_ended(struct proc *p, int status)
{
	bool killed = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
	bool mirrored, ghost, reaped;
	int32_t pid = p->pid;
	uint64_t use;

	if (p->state == PROC_MAKING && !p->dying && killed)
		p = killed_in_making(p);
	if (!p)
		return;
	mirrored = p->dying;
	ghost = p->state == PROC_GHOST;
	reaped = p->reaped;
	use = p->use;
	p->traced = false;
	if (p->state == PROC_LEAVING) {
		leave_died(p, status);
		arrive_progress();
		return;
	}
	if (p->state == PROC_ARRIVING) {
		arrive_died(p);
		ended_known(pid);
		return;
	}
	if (p->state == PROC_MAKING && p->birth)
		born_failed(p, ECHILD);
	if (ghost && !mirrored && !p->exiting && !p->lost && killed)
		killed_unseen(p);
	proc_remove(p);
	ended_known(pid);
	if (ghost)
		event(&(struct init_msg){
			.type = mirrored ? EV_MIRRORED : EV_LOST, .pid = pid, .use = use});
	if (ghost && mirrored)
		born_over(pid, use);
	if (reaped)
		born_gone(pid);
	bereft_ended(pid);
	arrive_progress();
}
