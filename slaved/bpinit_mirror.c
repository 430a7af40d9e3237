/*
 * bpinit: what the original of a ghost has done (INIT_MIRROR), shown by the ghost: stops and
 * continues, and in the end how it ended. One at a time: a continue that overtook its stop would
 * undo it.
 */
#include <signal.h>
#include <string.h>

#include "slaved/bpinit_kill.h"
#include "slaved/bpinit_orphan.h"

/*
 * A stop that is sent takes a SIGCONT out of the queue that nobody has met yet, and the other way
 * round (kernel/signal.c, prepare_signal()). So a mirrored stop is sent as another signal, in
 * whose place it acts when it is met; and what a SIGCONT would take is told (bpinit_mark.c).
 */
void mirror_stop(struct proc *p)
{
	p->stop_met = false;
	own_kill(p->pid, STOP_MARK);
}

void mirror_next(struct proc *p)
{
	while (!p->busy && p->nmirror > 0 && !p->dying && p->state != PROC_MAKING &&
	       !(p->held && p->stopped)) {
		struct mirror m = p->mirror[0];

		/* As on the node: it had its children before it died, and they are orphans then. */
		if (m.code != CLD_STOPPED && m.code != CLD_CONTINUED && born_of(p->pid))
			return;
		memmove(p->mirror, p->mirror + 1, sizeof(m) * (size_t)--p->nmirror);
		switch (m.code) {
		case CLD_STOPPED:
			if (!p->stopped) {
				p->busy = is_stop(m.status) ? m.status : SIGSTOP;
				mirror_stop(p);
			}
			break;
		case CLD_CONTINUED:
			if (p->stopped) {
				p->busy = SIGCONT;
				mark_continue(p);
			}
			break;
		case CLD_EXITED:
			trace_exit(p, (m.status & 0xff) << 8);
			break;
		default:
			trace_exit(p, m.status & 0x7f);
		}
	}
}

void mirror_add(struct proc *p, int code, int status)
{
	struct mirror m = {code, status, 0};

	if (p->dying)
		return;
	if (p->exiting) {
		/* Killed here: stops are of no interest, and the kernel shows its own status. */
		if (code != CLD_STOPPED && code != CLD_CONTINUED)
			trace_exit(p, SIGKILL);
		return;
	}
	if (p->nmirror == MIRRORS_MAX)
		p->nmirror--; /* a parent sees the latest state only, as of wait() */
	p->mirror[p->nmirror++] = m;
	mirror_next(p);
}

/* -- the order */

/*
 * A stop or continue comes until somebody has said that it is here, so it may come again, behind
 * younger ones. True: it is to be done. What is not of a move and has no number is the master's.
 */
static bool is_news(struct proc *p, const struct init_msg *m)
{
	uint64_t move = m->u.mirror.move, seq = m->u.mirror.seq;

	if (!p || seq == 0)
		return true;
	if (move < p->mirror_move || (move == p->mirror_move && seq <= p->mirror_seq))
		return false;
	p->mirror_move = move;
	p->mirror_seq = seq;
	return true;
}

void init_mirror(const struct init_msg *m)
{
	struct proc *p = proc_find(m->pid ? m->pid : m->u.mirror.pid);
	int code = m->u.mirror.code, status = m->u.mirror.status;
	bool ended = is_end(code), news = true;

	if (ended && (children_later(m) || born_mirror(m))) {
		used_all(m->u.mirror.pid, &m->u.mirror.used);
		return;
	}
	/* The ghost of its number's last use, which has ended, or of the next: told so below. */
	if (p && use_differs(p->use, m->use))
		p = NULL;
	if (p && ended)
		used_all(p->pid, &m->u.mirror.used);
	if (p && m->use)
		p->use = m->use;
	if (!ended) {
		news = is_news(p, m);
		if (m->u.mirror.seq)
			event(&(struct init_msg){.type = EV_MIRRORED,
						 .pid = m->u.mirror.pid,
						 .use = m->use,
						 .u.mirror = m->u.mirror});
	}
	if (!news || (!ended && (children_later(m) || born_mirror(m))))
		return;
	if (p && ended && bereft_exit(p, m))
		return;
	if (p && (p->state == PROC_GHOST || p->state == PROC_MAKING)) {
		mirror_add(p, code, status);
		return;
	}
	if (p && leave_is_ghosting(p)) {
		/* It was told to be one and has not said so yet. */
		if (p->nmirror == MIRRORS_MAX)
			p->nmirror--;
		p->mirror[p->nmirror++] = (struct mirror){code, status, 0};
		return;
	}
	/* Told again by a bpslave that does not know that it is done. */
	if (!p && ended)
		event(&(struct init_msg){
			.type = EV_MIRRORED, .pid = m->u.mirror.pid, .use = m->use});
}
