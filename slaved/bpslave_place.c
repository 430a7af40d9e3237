/*
 * Groups and sessions of processes that more than one machine has: what a node's
 * process has changed is said to home, and what home says to bpinit (doc/local.md,
 * section 5). Runs in bpslave. A node does as home says, but for a process of which
 * its own word has not been answered yet: that one is the younger.
 */
#include <stdio.h>
#include <string.h>

#include "bpslave_born.h"
#include "libbproc/log.h"

void place_tell(struct born *b, bool changed)
{
	Bproc__Place m = BPROC__PLACE__INIT;
	PROC_OF(proc, b->pid);

	if (!b->told && !b->moved && !b->away)
		return; /* its birth says so */
	if (changed)
		b->place++;
	b->place_due = true;
	tell_rest(); /* its birth first */
	m.proc = &proc;
	m.pgid = b->pgid;
	m.sid = b->sid;
	m.number = b->place;
	log_debug("process %d is in group %d, session %d: told", b->pid, b->pgid, b->sid);
	master_send(&m.base);
}

/* bpinit lets a caller go on, who has waited for home. */
static void release(const struct init_place *p, uint32_t number)
{
	struct init_msg m = {.type = INIT_PLACE, .pid = p->pid, .u.place = *p};

	m.u.place.sid = 0;
	m.u.place.number = number;
	init_send(&m, NULL, 0);
}

/* It has changed while we were away, or home was: another bpslave may have been to tell it. */
static void changed_unheard(int32_t pid)
{
	struct born *b = born_find(pid);
	struct scan_proc now;

	if (!b || b->ended || scan_stat(pid, &now) < 0)
		return;
	/* It goes on, but has not run yet: what was foreseen is told already, and is looked for. */
	if (b->foreseen && b->old_pgid == now.pgid && b->old_sid == now.sid)
		return;
	b->pgid = now.pgid;
	b->sid = now.sid;
	b->place++;
	b->place_due = true; /* also of one whose birth has still to be told to this master */
	place_tell(b, false);
}

/* It is about to change: home does it first. */
static void ask_home(const struct init_msg *m)
{
	const struct init_place *p = &m->u.place;
	struct born *b = born_find(p->pid);

	init_done(m->seq);
	if (!b || !b->told)
		source_take();
	tell_everything();
	if (!p->number)
		return changed_unheard(p->pid);
	b = born_find(p->pid);
	if (!b || b->ended || (!b->told && !b->moved && !b->away) || !master_is_up())
		return release(p, p->number);
	if (!b->asked) {
		b->old_pgid = b->pgid;
		b->old_sid = b->sid;
	}
	b->asked = p->number;
	b->foreseen = true;
	b->pgid = p->pgid;
	b->sid = p->sid;
	place_tell(b, true);
}

bool place_differs(struct born *b, const struct scan_proc *p, bool late)
{
	if (b->pgid == p->pgid && b->sid == p->sid) {
		b->foreseen = false;
		return false;
	}
	/* What home has done already it is still about to do. */
	return !b->foreseen || (late && !b->asked) ||
	       (b->old_pgid && (b->old_pgid != p->pgid || b->old_sid != p->sid));
}

/* -- home */

void place_on_init(const struct init_msg *m)
{
	Bproc__Place out = BPROC__PLACE__INIT;
	Bproc__Chain leader;
	const struct init_place *p = &m->u.place;
	struct init_chain c;
	PROC_OF(proc, p->pid);

	if (slave.node != HOME_NODE)
		return ask_home(m);
	out.proc = &proc;
	out.pgid = p->pgid;
	out.sid = p->sid;
	out.node = p->node;
	out.number = p->number;
	if (p->pgid > 1 && p->pgid != p->pid && proc_read_leader(p->pgid, &c) == 0 &&
	    c.pgid == p->pgid) {
		chain_put(&c, &leader);
		out.leader = &leader;
	}
	log_debug("process %d is in group %d, session %d: all are told", p->pid, p->pgid, p->sid);
	/* Without a link it stays with bpinit, which tells it again. */
	if (master_send(&out.base))
		init_done(m->seq);
}

void place_again(void)
{
	if (slave.node == HOME_NODE)
		init_send(&(struct init_msg){.type = INIT_PLACE_AGAIN}, NULL, 0);
}

/* -- from the master */

/* It may have changed a moment ago, and nobody has looked yet: then that is the younger word. */
static bool has_changed(struct born *b, struct scan_proc *p)
{
	if (scan_stat(b->pid, p) < 0 || !b->changes || !b->pgid || !place_differs(b, p, false))
		return false;
	b->pgid = p->pgid;
	b->sid = p->sid;
	place_tell(b, true);
	return true;
}

/* True: bpinit is to do it. */
static bool is_news(const Bproc__Place *in, struct init_place *p)
{
	struct born *b = born_find(in->proc->pid);
	struct scan_proc now = {.pgid = 0};

	if (!b)
		return in->pgid > 0;
	if (b->place_due) {
		if (in->node != slave.node || in->number != b->place)
			return false;
		b->place_due = false;
		if (b->asked)
			release(p, b->asked);
		return false;
	}
	if (in->pgid <= 0 || has_changed(b, &now))
		return false;
	p->was = now.pgid;
	b->pgid = in->pgid;
	b->sid = in->sid;
	return true;
}

void place_on_place(const Bproc__Place *in)
{
	struct init_msg m = {.type = INIT_PLACE};
	struct init_place *p = &m.u.place;

	if (!in->proc)
		return;
	m.pid = p->pid = in->proc->pid;
	p->pgid = in->pgid;
	p->sid = in->sid;
	p->node = in->node;
	p->number = in->number;
	if (in->leader && slave.node != HOME_NODE)
		chain_take(in->leader, &p->leader);
	if (slave.node != HOME_NODE && !is_news(in, p))
		return;
	log_debug("process %d is to be in group %d, session %d", m.pid, in->pgid, in->sid);
	/* Its end, behind this, waits for one that has not said yet that it is a ghost. */
	move_after_ghost(&m);
}
