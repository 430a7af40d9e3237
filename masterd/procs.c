/*
 * Processes: exits and stops from the real one to its ghosts. The table of states is in proc.c.
 * Runs in bpmaster; doc/wire.md, section 7.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "include/sys/bproc_common.h"
#include "libbproc/child.h"
#include "libbproc/fault.h"
#include "libbproc/local.h"
#include "libbproc/log.h"
#include "master.h"

void proc_wire(const struct master *m, const struct proc *p, Bproc__Proc *ret_proc)
{
	bproc__proc__init(ret_proc);
	ret_proc->home = NODE_HOME;
	ret_proc->epoch = m->epoch;
	ret_proc->pid = p->pid;
	ret_proc->gen = p->gen;
}

struct proc *procs_find(struct master *m, const Bproc__Proc *w)
{
	return w ? proc_get(&m->procs, w->pid, w->gen) : NULL;
}

/* Its bpinit need not repeat it: it has been done, or there is nothing left to do. */
static void acknowledge(struct master *m, const struct tale *t)
{
	Bproc__EventAck ack = BPROC__EVENT_ACK__INIT;
	struct node *n = node_get(&m->nodes, t->node);

	ack.seq = t->seq;
	if (n && t->seq)
		node_send_later(m, n, &ack.base);
}

static void gone(struct master *m, struct proc *p)
{
	struct queued *q;
	struct told *d;

	if (p->move)
		p->move->proc = NULL;
	while ((d = told_take_first(p))) {
		acknowledge(m, &d->tale);
		free(d);
	}
	while ((q = proc_dequeue(p))) {
		acknowledge(m, &q->tale);
		free(q);
	}
	acknowledge(m, &p->exit);
	proc_remove(&m->procs, p);
}

/* After a ghost has gone, or has said that it has it. */
static void told_check(struct master *m, struct proc *p)
{
	struct told *d;

	while (m->settled && (d = told_take_done(&m->procs, p))) {
		acknowledge(m, &d->tale);
		free(d);
	}
}

void procs_ghost_told(struct master *m, struct proc *p, struct node *n)
{
	uint32_t i = node_index(&m->nodes, n);

	if (ghost_has(p, i))
		return;
	ghost_add(p, i);
	for (struct told *d = p->told; d; d = d->next) {
		d->waits[i / 64] |= 1ull << i % 64;
		procs_mirror(m, p, n, &d->tale);
	}
}

void procs_ghost_del(struct master *m, struct proc *p, const struct node *n)
{
	ghost_del(p, node_index(&m->nodes, n));
	told_check(m, p);
}

/* Nothing is left of it that has to hear of its end. */
static void gone_without_ghost(struct master *m, struct proc *p)
{
	if (m->settled && !ghost_any(&m->procs, p) && proc_step(p, PE_NO_GHOST) == PA_REMOVE)
		gone(m, p);
}

void procs_settled(struct master *m, struct proc *p)
{
	told_check(m, p);
	if (p->state == PS_DYING)
		gone_without_ghost(m, p);
	else
		procs_release(m, p);
}

void procs_mirror(struct master *m, struct proc *p, struct node *n, const struct tale *t)
{
	Bproc__Mirror mi = BPROC__MIRROR__INIT;
	Bproc__Used used = BPROC__USED__INIT;
	Bproc__Proc proc;

	proc_wire(m, p, &proc);
	mi.proc = &proc;
	mi.code = t->code;
	mi.status = t->status;
	mi.move = t->move;
	mi.seq = t->seq;
	mi.orphaned = t->orphaned;
	used.utime_us = t->used.utime_us;
	used.stime_us = t->used.stime_us;
	used.maxrss_kb = t->used.maxrss_kb;
	if (used.utime_us || used.stime_us || used.maxrss_kb)
		mi.used = &used;
	node_send(m, n, &mi.base);
}

void procs_mirror_exit(struct master *m, struct proc *p, struct node *n)
{
	procs_mirror(m, p, n, &p->exit);
}

static void mirror(struct master *m, struct proc *p, const struct tale *t)
{
	for (uint32_t i = 0; i < m->nodes.count; i++)
		if (ghost_has(p, i))
			procs_mirror(m, p, &m->nodes.node[i], t);
}

/* A stop or continue: said to every ghost, and again where a link was lost, until all have it. */
static void mirror_stop_cont(struct master *m, struct proc *p, const struct tale *t)
{
	struct told *d;

	mirror(m, p, t);
	if (t->seq && !told_add(&m->procs, p, t))
		log_error("pid %d: no memory: its stop may be lost", p->pid);
	if (p->ntold > PROC_TOLD_MAX) {
		d = told_take_first(p);
		acknowledge(m, &d->tale);
		free(d);
	}
	told_check(m, p);
}

void procs_release(struct master *m, struct proc *p)
{
	/* Of one on a node home may be about to tell that it has a ghost: procs_settled(). */
	if (p->node != NODE_HOME && !m->settled)
		return;
	/* A process that was moved stays in the table until it ends. */
	if (p->state == PS_ALIVE && p->native && !p->move && !ghost_any(&m->procs, p))
		gone(m, p);
}

static void ghost_gone(struct master *m, struct proc *p, struct node *n)
{
	procs_ghost_del(m, p, n);
	if (ghost_any(&m->procs, p) || (p->state == PS_DYING && !m->settled))
		return;
	switch (proc_step(p, PE_NO_GHOST)) {
	case PA_REMOVE:
		gone(m, p);
		break;
	case PA_RELEASE:
		procs_release(m, p);
		break;
	default:
		break;
	}
}

void procs_dead(struct master *m, struct proc *p, enum proc_event event, const struct tale *t)
{
	switch (proc_step(p, event)) {
	case PA_MIRROR_EXIT:
		if (p->exit.seq != t->seq)
			acknowledge(m, &p->exit); /* of an original that was killed while parked */
		p->exit = *t;
		if (t->node != NODE_NONE && t->node == p->node && t->node == p->awaited_at)
			ghost_add(p, node_index(&m->nodes, node_get(&m->nodes, t->node)));
		mirror(m, p, t);
		gone_without_ghost(m, p);
		break;
	case PA_QUEUE_EXIT:
		p->exit = *t;
		p->move->source_died = true;
		if (p->move->err.code == 0)
			bproc_err_set(&p->move->err, ESRCH, "pid %d ended while it was parked",
				      p->pid);
		moves_event(m, p->move, ME_SRC_FAILED);
		break;
	default:
		acknowledge(m, t);
	}
}

void procs_killed(struct master *m, struct proc *p, enum proc_event event)
{
	struct tale t = {.node = NODE_NONE, .code = CLD_KILLED, .status = SIGKILL};

	procs_dead(m, p, event, &t);
}

struct arriving {
	int32_t node;
	bool family;
};

static void is_arriving(struct move *mv, void *arg)
{
	struct arriving *a = arg;

	a->family |= mv->family && mv->target == a->node && mv->state < MV_COMMITTED;
}

/* To where it is real, and its parent may be about to come: its ghost there has taken the stop. */
static void tell_own_node(struct master *m, struct proc *p, const struct tale *t)
{
	struct arriving a = {.node = p->node};

	move_each(&m->moves, is_arriving, &a);
	if (a.family)
		procs_mirror(m, p, node_get(&m->nodes, p->node), t);
}

static void stop_cont(struct master *m, struct proc *p, const struct tale *t)
{
	struct queued q = {.tale = *t};

	p->last = *t;
	p->conted = NODE_NONE;
	switch (proc_step(p, PE_STOPCONT)) {
	case PA_MIRROR:
		mirror_stop_cont(m, p, t);
		tell_own_node(m, p, t);
		break;
	case PA_QUEUE:
		procs_keep(p, &q);
		break;
	default:
		acknowledge(m, t);
	}
}

static void child_event(struct master *m, struct node *n, struct proc *p, const struct tale *t)
{
	/* Told again by a slave that is back, and under way. */
	if (told_has(p, t) || (t->seq && p->exit.seq == t->seq && p->exit.node == t->node))
		return;
	/* First by who has seen it, then by the bpinit that keeps it. */
	if (is_end((int)t->code) && p->state == PS_DYING && p->exit.node == t->node &&
	    p->exit.seq == 0) {
		p->exit.seq = t->seq;
		return;
	}
	if (is_end((int)t->code))
		resync_exit(m, n, p, t);
	/* Of one that a new master knows by its ghosts only: it was real there until now. */
	if (p->node == n->num || p->state == PS_LOST) {
		if (is_end((int)t->code))
			procs_dead(m, p, PE_EXIT, t);
		else
			stop_cont(m, p, t);
		return;
	}
	/* The parked original was killed after the commit and before it was a ghost. */
	if (is_end((int)t->code) && p->move && p->move->source == n->num)
		procs_kill(m, p, node_get(&m->nodes, p->node));
	acknowledge(m, t);
}

/*
 * The entry of the one that it happened to. The move by which it came names it better than a
 * generation, which its node may have of an earlier or later use of the number.
 */
static struct proc *find_real(struct master *m, const struct node *n, const Bproc__ProcEvent *e)
{
	struct proc *p = procs_find(m, e->proc), *o;

	if (e->move == 0 || (p && p->came == e->move))
		return p;
	for (o = proc_get(&m->procs, e->proc->pid, 0); o; o = o->next)
		if (o->pid == e->proc->pid && o->node == n->num && o->came == e->move)
			return o;
	return p;
}

void procs_event(struct peer *p, const Bproc__ProcEvent *e)
{
	struct proc *t;
	struct tale tale = {.node = p->node->num,
			    .code = e->code,
			    .status = e->status,
			    .orphaned = e->orphaned,
			    .seq = e->seq,
			    .move = e->move};

	if (!is_end((int)e->code) && e->code != CLD_STOPPED && e->code != CLD_CONTINUED) {
		peer_drop(p, "protocol error: ProcEvent with code %u", e->code);
		return;
	}
	if (!e->proc || !wire_pid_ok(e->proc->pid)) {
		peer_drop(p, "protocol error: ProcEvent without a pid");
		return;
	}
	if (e->used)
		tale.used = (struct used){e->used->utime_us, e->used->stime_us, e->used->maxrss_kb};
	t = find_real(p->m, p->node, e);
	if (is_end((int)e->code))
		fault_point(FAULT_MASTER_EXIT);
	if (t)
		child_event(p->m, p->node, t, &tale);
	else if (is_end((int)e->code) && !p->m->settled)
		resync_ended_unknown(p->m, e->proc->pid, &tale);
	else
		acknowledge(p->m, &tale);
}

void procs_mirrored(struct peer *p, const Bproc__Mirrored *d)
{
	struct proc *t = procs_find(p->m, d->proc);

	if (d->seq) {
		if (t)
			told_confirm(t, node_index(&p->m->nodes, p->node), d->move, d->seq);
		if (t)
			told_check(p->m, t);
		return;
	}
	/* Of a generation that is not told it is the oldest one dying: they end in order. */
	if (t && d->proc->gen == 0)
		for (struct proc *o = t->next; o; o = o->next)
			if (o->pid == t->pid && o->state == PS_DYING)
				t = o;
	if (t && t->state == PS_DYING && ghost_has(t, node_index(&p->m->nodes, p->node)))
		ghost_gone(p->m, t, p->node);
}

void procs_watch(struct master *m, struct proc *p)
{
	Bproc__Watch w = BPROC__WATCH__INIT;
	Bproc__Proc proc;

	if (!p->native || p->watched)
		return;
	proc_wire(m, p, &proc);
	w.proc = &proc;
	p->watched = true;
	node_send(m, node_get(&m->nodes, p->node), &w.base);
}

void procs_decided(struct master *m, struct proc *p)
{
	struct queued *q;

	if (proc_step(p, PE_DECIDED) != PA_FLUSH)
		return;
	while ((q = proc_dequeue(p))) {
		if (q->sig)
			procs_forward(m, p, q, p->node);
		else
			mirror_stop_cont(m, p, &q->tale);
		free(q);
	}
}

/* -- a node is dead, or is back */

struct node_news {
	struct master *m;
	struct node *n;
};

static void of_dead_node(struct proc *p, void *arg)
{
	struct node_news *w = arg;
	struct node *n = w->n;
	bool ghost = ghost_has(p, node_index(&w->m->nodes, n));

	if (n->num == NODE_HOME) {
		/* Its bpinit is gone and the ghosts with it: nobody can reach these any more. */
		if (ghost && p->node != NODE_HOME && p->node != NODE_NONE)
			procs_kill(w->m, p, node_get(&w->m->nodes, p->node));
	} else if (p->node == n->num && p->state != PS_DYING) {
		procs_killed(w->m, p, PE_REAL_DOWN);
		return; /* no ghost where it is real, and p may be freed */
	}
	if (ghost)
		ghost_gone(w->m, p, n);
}

void procs_node_dead(struct master *m, struct node *n)
{
	proc_each(&m->procs, of_dead_node, &(struct node_news){.m = m, .n = n});
}

static void of_node_back(struct proc *p, void *arg)
{
	struct node_news *w = arg;
	uint32_t i = node_index(&w->m->nodes, w->n);

	for (struct told *d = p->told; d; d = d->next)
		if (d->waits[i / 64] >> i % 64 & 1)
			procs_mirror(w->m, p, w->n, &d->tale);
	if (p->state == PS_DYING && ghost_has(p, i) && w->n->num == NODE_HOME)
		born_ended_again(w->m, p);
	else if (p->state == PS_DYING && ghost_has(p, i))
		procs_mirror_exit(w->m, p, w->n);
	if (p->kill_due && p->node == w->n->num)
		procs_kill(w->m, p, w->n);
	if (p->native && p->watched && p->node == w->n->num) {
		p->watched = false;
		procs_watch(w->m, p);
	}
}

void procs_node_back(struct master *m, struct node *n)
{
	if (n->num == NODE_HOME)
		born_again(m);
	proc_each(&m->procs, of_node_back, &(struct node_news){.m = m, .n = n});
}
