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
	m.proc = &proc;
	m.pgid = b->pgid;
	m.sid = b->sid;
	m.number = b->place;
	log_debug("process %d is in group %d, session %d: told", b->pid, b->pgid, b->sid);
	master_send(&m.base);
}

/* -- home */

void place_on_init(const struct init_msg *m)
{
	Bproc__Place out = BPROC__PLACE__INIT;
	Bproc__Chain leader = BPROC__CHAIN__INIT;
	const struct init_place *p = &m->u.place;
	struct init_chain c;
	PROC_OF(proc, p->pid);

	out.proc = &proc;
	out.pgid = p->pgid;
	out.sid = p->sid;
	out.node = p->node;
	out.number = p->number;
	if (p->pgid > 1 && p->pgid != p->pid && proc_read_leader(p->pgid, &c) == 0 &&
	    c.pgid == p->pgid) {
		leader.pid = c.pid;
		leader.ppid = c.ppid;
		leader.pgid = c.pgid;
		leader.sid = c.sid;
		leader.uid = c.uid;
		leader.gid = c.gid;
		leader.comm = c.comm;
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
	if (scan_stat(b->pid, p) < 0 || !b->changes || !b->pgid ||
	    (b->pgid == p->pgid && b->sid == p->sid))
		return false;
	b->pgid = p->pgid;
	b->sid = p->sid;
	place_tell(b, true);
	return true;
}

/* True: bpinit is to hear of it. *ret_was: its group until now, as far as it is known. */
static bool is_news(const Bproc__Place *in, int32_t *ret_was)
{
	struct born *b = born_find(in->proc->pid);
	struct scan_proc p = {.pgid = 0};

	*ret_was = 0;
	if (!b)
		return in->pgid > 0;
	if (b->place_due) {
		if (in->node == slave.node && in->number == b->place)
			b->place_due = false;
		return false;
	}
	if (in->pgid <= 0 || has_changed(b, &p))
		return false;
	*ret_was = p.pgid;
	b->pgid = in->pgid;
	b->sid = in->sid;
	return true;
}

void place_on_place(const Bproc__Place *in)
{
	struct init_msg m = {.type = INIT_PLACE};
	const Bproc__Chain *c = in->leader;

	if (!in->proc || (slave.node != HOME_NODE && !is_news(in, &m.u.place.was)))
		return;
	m.pid = m.u.place.pid = in->proc->pid;
	m.u.place.pgid = in->pgid;
	m.u.place.sid = in->sid;
	m.u.place.node = in->node;
	m.u.place.number = in->number;
	if (c && slave.node != HOME_NODE) {
		born_expect(c->pid, c->ppid, c->pgid, c->sid);
		m.u.place.leader = (struct init_chain){.pid = c->pid,
						       .ppid = c->ppid,
						       .pgid = c->pgid,
						       .sid = c->sid,
						       .uid = c->uid,
						       .gid = c->gid};
		snprintf(m.u.place.leader.comm, sizeof(m.u.place.leader.comm), "%s", c->comm);
	}
	log_debug("process %d is to be in group %d, session %d", m.pid, in->pgid, in->sid);
	init_send(&m, NULL, 0);
}
