/*
 * bpinit: a process ends while it leaves. Whose end is shown, and when, depends on whether it may
 * have voted: then its copy may run, and its end is not to be seen before that one's.
 */
#include <errno.h>
#include <sys/ptrace.h>

#include "slaved/bpinit.h"

void leave_exit_stop(struct proc *p)
{
	struct move *m = move_of(p);

	/* With the vote it has no say any more: what becomes of it is decided elsewhere. */
	if (m && (m->phase == LEAVE_SENT || m->phase == LEAVE_GHOSTING)) {
		if (m->phase == LEAVE_GHOSTING) {
			leave_became_ghost(m, p);
			trace_killed(p);
		}
		return;
	}
	if (m && m->phase != LEAVE_FAILED && m->phase != LEAVE_ABORTING) {
		bool maybe_voted = m->phase == LEAVE_SENDING && m->kind == MOVE_RFORK;

		leave_failed(m, ESRCH, "the process was killed before it had left");
		/* It stays in its stop until that is decided: its copy may run. */
		if (maybe_voted)
			return;
	}
	ptrace(PTRACE_CONT, p->pid, NULL, NULL);
}

void leave_died(struct proc *p, int status)
{
	struct move *m = move_of(p);
	bool ours = p->our_child, watched = p->watch_over;
	struct chan_child c;

	if (m && m->phase == LEAVE_GHOSTING) {
		/* Fenced on its way to be a ghost: it runs elsewhere, and there is no ghost. */
		event_move(EV_GHOST, m->id, m->req_id, p->pid);
		move_ended(m->id, EV_GHOST, p->pid);
		move_free(m);
		m = NULL;
		watched = false;
	}
	if (m && m->phase != LEAVE_FAILED && m->phase != LEAVE_ABORTING)
		leave_failed(m, ESRCH, "the process ended before it had left");
	if (m) {
		m->pid = 0;
		if (m->phase == LEAVE_ABORTING || !m->granted)
			move_free(m);
	}
	p->move = 0;
	if (!p->was_real && !watched) {
		proc_remove(p);
		return;
	}
	/* A real process of this machine: its watch, its parent's ghost, or we, tell how it ended.
	 * A fence ends the ghosts as well. */
	p->state = PROC_REAL;
	proc_close_chan(p);
	if (watched) {
		watch_told(p->pid, status);
	} else if (ours || p->dying) {
		c = child_of(p->pid, status);
		child_report(&c);
	}
}
