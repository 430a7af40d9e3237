/*
 * bpinit: step 8 of a move at its target (doc/move.md): the arrival is complete. The record that
 * the move has committed is made here, before the process runs.
 */
#include <errno.h>
#include <signal.h>
#include <string.h>

#include "slaved/bpinit_place.h"

static void ran(struct move *m, struct proc *p)
{
	struct proc *parent;

	/* The record first. From here on it runs, whatever else happens. */
	move_ended(m->id, EV_RAN, p->pid);
	p->came = m->id;
	p->upto = m->upto;
	used_before(p->pid, &m->used, p->was_ghost);
	if (!p->place.pgid)
		p->place = (struct place){.pgid = m->pgid, .sid = m->sid};
	p->state = PROC_REAL;
	if (!p->was_ghost || m->place_tried)
		place_misses(p, m->pgid, m->sid);
	p->in_place = p->was_ghost = false;
	p->move = 0;
	parent = self.keeper ? proc_find(m->ppid) : NULL;
	/* Its parent is away: its end is told there, so it has to be seen here. */
	if (parent && parent->state == PROC_GHOST)
		init_watch(&(struct init_msg){.pid = p->pid});
	event_move(EV_RAN, m->id, m->req_id, p->pid);
	skel_want(m);
	children_go_on(m);
	move_free(m);
}

/* By the word: it runs since then, and what we do about it has time. */
void arrive_has_run(struct move *m)
{
	skel_close_later(take_fd(m->data));
	ran(m, proc_find(m->pid));
}

void arrive_settle(void)
{
	for (uint32_t i = 0; i < moves_used; i++)
		if (moves[i].phase == ARRIVE_RESTORING && skel_ran(&moves[i]))
			arrive_has_run(&moves[i]);
}

/* What is left to do when it is noted that it runs. */
struct going {
	struct proc *p;
	uint64_t id;
	int data;	 /* closed when the arrival is on its way: it costs 15 us */
	siginfo_t child; /* si_signo 0: none */
};

static struct going note(struct move *m, struct proc *p)
{
	struct going g = {.p = p, .id = m->id, .data = take_fd(m->data)};

	children_stop(m); /* the master's word on that may have come late */
	g.child = children_unheard(m);
	if (m->kind == MOVE_REXEC)
		/* The exec decides; its channel's end is the word that it was one. */
		m->phase = ARRIVE_EXECING;
	else
		ran(m, p);
	return g;
}

static void let_run(const struct going *g)
{
	struct chan_msg c = {.type = CHAN_RUN, .move_id = g->id};

	if (g->child.si_signo) {
		c.flags = CHAN_RUN_CHILD;
		memcpy(c.u.siginfo, &g->child, sizeof(c.u.siginfo));
	}
	/* It waits for its order, and we run where the daemons run: woken here it would be last,
	 * behind those that pass on the news. It puts its own mask back. */
	cpu_away(g->p->pid);
	proc_tell(g->p, &c, NULL, 0);
	close_fd(g->data);
}

static void commit(struct move *m, struct proc *p)
{
	struct going g;

	if (m->tree) {
		tree_complete(m);
		return;
	}
	g = note(m, p);
	let_run(&g);
}

void arrive_run_tree(uint64_t tree)
{
	struct going g[MOVE_TREE_MAX];
	uint32_t n = 0;

	/* Nothing comes between: either all are noted or none is. */
	for (uint32_t i = 0; i < moves_used && n < MOVE_TREE_MAX; i++)
		if (moves[i].phase == ARRIVE_HELD && moves[i].tree == tree)
			g[n++] = note(&moves[i], proc_find(moves[i].pid));
	for (uint32_t i = 0; i < n; i++)
		let_run(&g[i]);
}

/* A ghost that is complete again is not traced any more. */
static void untraced(struct proc *p)
{
	struct move *m = move_of(p);

	if (m && !m->voided && !m->off && m->phase == ARRIVE_DETACHING) {
		commit(m, p);
		return;
	}
	p->state = PROC_GHOST;
	p->move = 0;
	if (trace_begin(p, 0) < 0)
		say("ghost %d cannot be traced any more", p->pid);
	if (m) {
		proc_order(p, CHAN_ABORT, m->id);
		arrive_failed(m, m->off ? ECANCELED : EIO, "it was called off");
	}
}

static void prepared(struct move *m, struct proc *p)
{
	if (p->traced) {
		m->phase = ARRIVE_DETACHING;
		p->awake = 0;
		trace_release(p, untraced);
	} else {
		commit(m, p);
	}
}

void arrive_message(struct proc *p, const struct chan_msg *c)
{
	struct move *m = move_of(p);

	if (!m || c->move_id != m->id)
		return;
	if (m->phase == ARRIVE_RESTORING && skel_ran(m)) {
		arrive_has_run(m);
	} else if (c->type == CHAN_PREPARED && m->phase == ARRIVE_RESTORING) {
		prepared(m, p);
	} else if (c->type == CHAN_WANT && m->tree) {
		tree_want(m, c->u.status);
	} else if (c->type == CHAN_FAILED) {
		arrive_drop(p);
		arrive_failed(m, c->err, lazy_why(m, c));
	}
}

void arrive_chan_closed(struct proc *p)
{
	struct move *m = move_of(p);

	if (m && m->phase == ARRIVE_HELD)
		arrive_died(p); /* it is not traced, and nothing else may tell it here */
	else if (p->state == PROC_ARRIVING && m && m->phase == ARRIVE_EXECING)
		ran(m, p);
	else if (m && m->phase == ARRIVE_RESTORING && skel_ran(m))
		arrive_has_run(m);
	else if (p->state == PROC_ARRIVING && m && m->skel && kill(p->pid, 0) < 0)
		arrive_died(p); /* its skeleton was killed: it has never been there */
	else if (p->state == PROC_ARRIVING && m && self.keeper && !p->was_ghost)
		arrive_killed(p, m); /* of a ghost's child nothing else tells it here */
}
