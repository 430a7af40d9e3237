/*
 * What slaves hold, told after each Welcome: a master that was restarted makes
 * its tables of it. What nobody has told of two ping timeouts after the start is
 * dead. Runs in bpmaster; doc/wire.md, section 8.
 */
#include <errno.h>
#include <signal.h>

#include "include/sys/bproc_common.h"
#include "libbproc/local.h"
#include "libbproc/log.h"
#include "master.h"

#define SETTLE_MS 1000 /* in which the slaves of a master that was killed are back, as a rule */

static void found(struct master *m, struct proc *p, int32_t node, bool native)
{
	if (p->state != PS_LOST)
		return;
	p->node = node;
	p->native = native;
	/* PE_DECIDED of a lost one is PE_FOUND: what waited goes to where it is. */
	procs_decided(m, p);
	procs_watch(m, p);
}

void procs_found(struct master *m, struct proc *p, int32_t node)
{
	found(m, p, node, node == NODE_HOME);
}

/*
 * Ghosts of it, none at home, and no node has it: it is real at home, where
 * bpinit knows only what was moved. If it has ended meanwhile, Watch says so.
 */
static void maybe_at_home(struct proc *p, void *arg)
{
	struct master *m = arg;

	if (p->state == PS_LOST && m->home_synced && !ghost_has(p, 0) &&
	    node_of_pid(&m->nodes, p->pid) == NODE_HOME)
		found(m, p, NODE_HOME, true);
}

/*
 * It came to where it has ended by a later move than the one that is undecided here, whose source
 * has missed the commit: so that source is to be a ghost, and hears of the end when it is.
 */
void resync_exit(struct master *m, struct node *n, struct proc *p, const struct tale *t)
{
	if (p->state == PS_MOVING && p->move && t->move > p->move->id) {
		ghost_add(p, node_index(&m->nodes, node_get(&m->nodes, p->move->source)));
		p->move->proc = NULL;
		p->move = NULL;
		p->node = n->num;
		procs_decided(m, p);
	} else if (p->state == PS_LOST) {
		p->node = n->num;
	} else {
		return;
	}
	if (t->move > p->came)
		p->came = t->move;
}

/*
 * The end of one that this master has not heard of yet: the node has no more than its end to
 * tell, and those who have its ghosts are still to come.
 */
void resync_ended_unknown(struct master *m, int32_t pid, const struct tale *t)
{
	struct proc *p = proc_new(&m->procs, pid, t->node);

	if (!p)
		return;
	p->state = PS_DYING;
	p->exit = *t;
	p->came = t->move; /* the commit of an older move may still be heard of */
}

void resync_lost(struct master *m, struct proc *p)
{
	if (p->state == PS_LOST && m->swept && m->home_synced)
		procs_killed(m, p, PE_REAL_DOWN);
}

/*
 * A slave may tell of one by the generation of an entry that was let go of since: it was real at
 * home, and had no ghost anywhere. If it lives it is the one whose entry there is now.
 */
static struct proc *told_of(struct master *m, int32_t pid, uint32_t gen)
{
	struct proc *p = proc_get(&m->procs, pid, gen);

	if (!p)
		p = proc_get(&m->procs, pid, 0);
	return p && (p->gen == gen || !gen || p->state != PS_DYING) ? p : NULL;
}

static void ghost_told(struct peer *peer, const Bproc__ProcState *s)
{
	struct master *m = peer->m;
	struct proc *p = told_of(m, s->proc->pid, s->proc->gen);

	if (!p) {
		p = proc_new(&m->procs, s->proc->pid, NODE_NONE);
		if (!p)
			return;
		p->state = PS_LOST;
	}
	if (p->node == peer->node->num)
		return; /* it is just becoming one */
	procs_ghost_told(m, p, peer->node);
	maybe_at_home(p, m);
	if (p->state == PS_DYING)
		procs_mirror_exit(m, p, peer->node); /* the others have been told before */
	else
		resync_lost(m, p);
}

/* It is real there by the move, as its bpinit says. A later move than the table's is right. */
static void is_real(struct master *m, struct proc *p, struct node *n, uint64_t move)
{
	bool lives = p->state == PS_ALIVE || p->state == PS_MOVING;

	if (lives && p->node != n->num && move > p->came) {
		/* Where it was it has left a ghost, or is about to. */
		ghost_add(p, node_index(&m->nodes, node_get(&m->nodes, p->node)));
		p->node = n->num;
		p->watched = false;
	}
	if (p->state == PS_DYING || p->state == PS_GONE || p->node != n->num)
		return;
	if (move) {
		p->native = n->num == NODE_HOME;
		p->born = false;
	}
	procs_ghost_del(m, p, n);
	if (move > p->came)
		p->came = move;
	if (p->state == PS_MOVING && p->move && p->move->id < move) {
		/* A source that has missed the commit: that move is long over. */
		p->move->proc = NULL;
		p->move = NULL;
		procs_decided(m, p);
	}
	procs_watch(m, p);
}

static void real_told(struct peer *peer, int32_t pid, uint32_t gen, uint64_t move)
{
	int32_t num = peer->node->num;
	struct master *m = peer->m;
	struct proc *p = told_of(m, pid, gen);

	if (!p) {
		p = proc_new(&m->procs, pid, num);
		if (!p)
			return;
		p->native = num == NODE_HOME;
		if (!p->native)
			p->awaited_at = num; /* for all that this master knows */
	} else if (p->state == PS_LOST) {
		procs_found(m, p, num);
	} else if (p->state == PS_DYING && p->node != num) {
		log_warn("pid %d on node %d has been declared dead: killed", p->pid, num);
		procs_kill(m, p, peer->node);
	} else if (p->node != num && !p->move && move <= p->came) {
		log_error("pid %d is real on node %d and on node %d", p->pid, p->node, num);
	}
	is_real(m, p, peer->node, move);
}

void resync_ran(struct peer *p, uint64_t move, int32_t pid)
{
	real_told(p, pid, 0, move);
}

void resync_proc(struct peer *p, const Bproc__ProcState *s)
{
	if (!s->proc || !wire_pid_ok(s->proc->pid))
		peer_drop(p, "protocol error: ProcState without a pid");
	else if (s->ghost)
		ghost_told(p, s);
	else
		real_told(p, s->proc->pid, s->proc->gen, s->move);
}

/*
 * After the sweep: what was there does not run any more. Never the front end, which nobody
 * fences: its bpinit goes on without a bpslave, and what it has run is told when there is one.
 */
static bool is_fenced(const struct node *n)
{
	return n->state == NS_DOWN && n->num != NODE_HOME;
}

static void revive(struct peer *peer, const Bproc__MoveState *s)
{
	struct node *target = node_get(&peer->m->nodes, s->target);
	struct move *mv = move_revive(&peer->m->moves, s->move);
	Bproc__MoveVoid v = BPROC__MOVE_VOID__INIT;
	struct master *m = peer->m;
	struct proc *p;

	if (!mv)
		return;
	mv->kind = s->kind;
	mv->source = peer->node->num;
	mv->target = s->target;
	mv->pid = s->proc ? s->proc->pid : 0;
	bproc_err_set(&mv->err, EIO, "the front end's master was restarted during the move");
	if (s->kind != MOVE_RFORK && s->kind != MOVE_LIVE && wire_pid_ok(mv->pid)) {
		p = proc_get(&m->procs, mv->pid, 0);
		if (!p)
			p = proc_new(&m->procs, mv->pid, mv->source);
		if (p && p->state == PS_LOST)
			found(m, p, mv->source, false);
		if (p && p->came < mv->id && proc_step(p, PE_MOVE) == PA_BEGIN) {
			if (p->node == mv->source)
				p->native = !s->moved;
			p->move = mv;
			mv->proc = p;
		}
	}
	v.move = mv->id;
	if (!target || (m->swept && is_fenced(target)))
		moves_event(m, mv, ME_DST_DOWN);
	else
		node_send(m, target, &v.base);
}

void resync_move(struct peer *p, const Bproc__MoveState *s)
{
	if (move_get(&p->m->moves, s->move))
		return;
	/* An older one that was called off here is not revived: it is over at its target, and
	 * the process may be elsewhere by now. */
	if (s->move >> 32 == p->m->epoch || move_why_aborted(&p->m->moves, s->move))
		moves_from_source(p, s->move, ME_SRC_FAILED, 0, NULL);
	else
		revive(p, s);
}

static void sweep_proc(struct proc *p, void *arg)
{
	if (p->state == PS_LOST)
		procs_killed(arg, p, PE_REAL_DOWN);
}

void resync_end(struct peer *p)
{
	struct master *m = p->m;

	p->node->synced = true;
	born_state_end(m, p->node);
	if (p->node->num == NODE_HOME && !m->home_synced) {
		m->home_synced = true;
		proc_each(&m->procs, maybe_at_home, m);
		if (m->swept)
			proc_each(&m->procs, sweep_proc, m);
	}
	resync_settle(m);
	held_look(m);
}

static void settle_proc(struct proc *p, void *arg)
{
	procs_settled(arg, p);
}

/*
 * Until then a ghost that nobody has told of may still be: what its original did is kept. Not until
 * the sweep, since the bpinits that tell it keep it too, and have only so much room.
 */
void resync_settle(struct master *m)
{
	bool all = true;

	for (uint32_t i = 0; i < m->nodes.count; i++)
		all &= m->nodes.node[i].synced;
	if (m->settled || !m->home_synced)
		return;
	if (!all && !m->swept && (now_ms() - m->start_ms < SETTLE_MS || !resync_is_due(m)))
		return;
	m->settled = true;
	proc_each(&m->procs, settle_proc, m);
}

static void sweep_move(struct move *mv, void *arg)
{
	struct master *m = arg;
	struct node *target = node_get(&m->nodes, mv->target);

	if (mv->epoch != m->epoch && (!target || is_fenced(target)))
		moves_event(m, mv, ME_DST_DOWN);
}

bool resync_is_due(const struct master *m)
{
	for (uint32_t i = 0; i < m->nodes.count; i++)
		if (m->nodes.node[i].state != NS_DOWN && !m->nodes.node[i].synced)
			return false; /* it is about to tell */
	return true;
}

void resync_sweep(struct master *m)
{
	m->swept = true;
	move_each(&m->moves, sweep_move, m);
	asks_look(m);
	/* Any of them may be at home; resync_end() goes on. */
	if (m->home_synced)
		proc_each(&m->procs, sweep_proc, m);
	held_look(m);
}
