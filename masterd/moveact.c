/*
 * What the events of a move do: steps 5 to 9 of doc/move.md and every way out of
 * them. The table of states is in move.c. Runs in bpmaster.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "include/sys/bproc_common.h"
#include "libbproc/fault.h"
#include "libbproc/local.h"
#include "libbproc/log.h"
#include "master.h"

static void send_void(struct master *m, const struct move *mv)
{
	Bproc__MoveVoid v = BPROC__MOVE_VOID__INIT;
	struct node *target = node_get(&m->nodes, mv->target);

	v.move = mv->id;
	if (target)
		node_send(m, target, &v.base);
}

static void send_commit(struct master *m, const struct move *mv)
{
	Bproc__MoveCommit c = BPROC__MOVE_COMMIT__INIT;
	Bproc__Proc proc = BPROC__PROC__INIT;

	proc.home = NODE_HOME;
	proc.epoch = m->epoch;
	proc.pid = mv->pid;
	proc.gen = mv->proc ? mv->proc->gen : 0;
	c.move = mv->id;
	c.proc = &proc;
	c.has_exec = mv->has_exec;
	node_send(m, node_get(&m->nodes, mv->source), &c.base);
}

static void send_abort(struct node *n, struct master *m, uint64_t id, int code, const char *text)
{
	Bproc__MoveAbort a = BPROC__MOVE_ABORT__INIT;

	a.move = id;
	a.err = (uint32_t)(code > 0 ? code : EIO);
	a.text = (char *)(uintptr_t)text;
	node_send(m, n, &a.base);
}

static void detach(struct move *mv)
{
	if (mv->proc && mv->proc->move == mv)
		mv->proc->move = NULL;
	mv->proc = NULL;
}

/* What its node has told of it meanwhile was not passed on to home. */
static void ask_untold(struct master *m, const struct move *mv, int32_t node)
{
	Bproc__BornAsk ask = BPROC__BORN_ASK__INIT;

	if (mv->untold && node >= 0)
		node_send(m, node_get(&m->nodes, node), &ask.base);
}

/*
 * After a restart its target has told that it is real there, and then died before it has answered
 * what became of the move: the original goes on, from where it left.
 */
static void is_back(struct master *m, struct move *mv, struct proc *p, struct node *source)
{
	p->node = mv->source;
	p->native = mv->source == NODE_HOME;
	p->watched = false;
	procs_ghost_del(m, p, source);
	mv->untold = true; /* that it was born there, if it was */
}

/*
 * Made there before its children's, and those may be needed: it stays, or was never made. Whatever
 * has kept it from running there, it has to hear of the end.
 */
static void leaves_ghost(struct master *m, const struct move *mv, struct proc *p)
{
	struct node *target = node_get(&m->nodes, mv->target);

	if (!mv->family || !target || target->state == NS_DOWN || p->state != PS_ALIVE ||
	    p->node == mv->target)
		return;
	ghost_add(p, node_index(&m->nodes, target));
	procs_watch(m, p);
}

static void do_abort(struct master *m, struct move *mv)
{
	struct node *source = node_get(&m->nodes, mv->source);
	struct proc *p = mv->proc;

	if (mv->kind == MOVE_LIVE) /* so each of them ends */
		log_debug("move %llx: what goes ahead of pid %d has ended: %s",
			  (unsigned long long)mv->id, mv->pid, mv->err.text);
	else
		log_info("move %llx of pid %d from node %d to node %d failed: %s",
			 (unsigned long long)mv->id, mv->pid, mv->source, mv->target, mv->err.text);
	send_abort(source, m, mv->id, mv->err.code, mv->err.text);
	move_aborted(&m->moves, mv);
	detach(mv);
	if (p && p->node == mv->target)
		is_back(m, mv, p, source);
	ask_untold(m, mv, mv->source);
	if (!p)
		return;
	procs_decided(m, p);
	leaves_ghost(m, mv, p);
	if (mv->source_died) {
		struct tale exit = p->exit;

		procs_dead(m, p, PE_EXIT, &exit);
		return;
	}
	/* Nobody has asked yet to hear of the end of one that a new master knows by its move. */
	if (p->state == PS_ALIVE && ghost_any(&m->procs, p))
		procs_watch(m, p);
	procs_release(m, p);
}

/*
 * A slave's word has made it known after a restart of the master, and maybe a later move too:
 * the table is right already, only the ghost is news. Ids grow with the epochs.
 */
static bool is_known(struct master *m, const struct move *mv)
{
	const struct proc *p = mv->proc ? mv->proc : proc_get(&m->procs, mv->pid, 0);

	return p && p->came >= mv->id;
}

/*
 * Of a child of rfork nobody has told yet, but as of a relative of its own child, whose move was
 * asked for before the word that the parent runs: the ghosts that were noted are its own.
 */
static bool is_entered_as_relative(const struct master *m, const struct move *mv,
				   const struct proc *p)
{
	return mv->kind == MOVE_RFORK && mv->epoch == m->epoch && p->gen > mv->gen && p->native &&
	       !p->born && !p->move && p->state == PS_ALIVE;
}

static struct proc *entry(struct master *m, struct move *mv)
{
	struct proc *p = mv->proc;

	if (p)
		return p;
	/* A slave may have told of it before, after a restart of the master. */
	p = proc_get(&m->procs, mv->pid, 0);
	if (p && p->born && p->node == mv->source && !p->move && p->state == PS_ALIVE)
		p->born = false; /* born there a moment ago, and told before the move */
	else if (!p || p->state == PS_DYING ||
		 (mv->epoch == m->epoch && !is_entered_as_relative(m, mv, p)))
		p = proc_new(&m->procs, mv->pid, mv->target);
	if (!p)
		return NULL;
	if (p->move)
		p->move->proc = NULL;
	p->move = mv;
	mv->proc = p;
	return p;
}

/*
 * It has gone on from there by a move of an older epoch. Who has it now tells, or has told its end;
 * after the sweep it is dead.
 */
static void where_unknown(struct proc *p)
{
	p->node = NODE_NONE;
	p->native = false;
	p->state = PS_LOST;
}

/* The table after the commit: real on the target. */
static struct proc *enter_table(struct master *m, struct move *mv)
{
	struct node *target = node_get(&m->nodes, mv->target);
	struct proc *p;

	if (is_known(m, mv))
		return mv->proc ? mv->proc : proc_get(&m->procs, mv->pid, 0);
	p = entry(m, mv);
	if (!p)
		return NULL;
	p->node = mv->target;
	p->born = false;
	p->native = mv->target == NODE_HOME;
	p->watched = false;
	p->came = mv->id;
	if (mv->left)
		where_unknown(p); /* and what it has left there may be a ghost */
	else
		procs_ghost_del(m, p, target);
	return p;
}

static void do_commit(struct master *m, struct move *mv, bool source_lives)
{
	struct proc *p = enter_table(m, mv);

	if (!p) {
		log_error("move %llx: no memory: pid %d is not in the table",
			  (unsigned long long)mv->id, mv->pid);
		return;
	}
	if (source_lives && p->node != mv->source)
		ghost_add(p, node_index(&m->nodes, node_get(&m->nodes, mv->source)));
	/* Before what waited: the source has to be a ghost to be mirrored to. */
	fault_point(FAULT_MASTER_RAN);
	if (source_lives)
		send_commit(m, mv);
	if (source_lives && p->state == PS_DYING) /* the others have been told before */
		procs_mirror_exit(m, p, node_get(&m->nodes, mv->source));
	fault_point(FAULT_MASTER_COMMITTED);
	if (p->state == PS_LOST) {
		if (mv->source_died)
			procs_kill_lost(p);
		detach(mv);
		resync_lost(m, p);
		return;
	}
	if (mv->proc)
		procs_decided(m, p);
	ask_untold(m, mv, mv->target);
	if (mv->source_died)
		procs_kill(m, p, node_get(&m->nodes, p->node));
	if (p->native)
		procs_watch(m, p);
}

/*
 * The source's node was declared dead, and fenced before it was let in again: what its bpinit
 * still has of the move is its own books. Where it is not back, its MoveState is answered so.
 */
static void let_go(struct master *m, const struct move *mv)
{
	send_abort(node_get(&m->nodes, mv->source), m, mv->id, BE_SLAVEDIED, "the node died");
}

static void do_dead(struct master *m, struct move *mv)
{
	struct proc *p = mv->proc;

	let_go(m, mv);
	detach(mv);
	if (!p)
		return;
	procs_decided(m, p);
	leaves_ghost(m, mv, p);
	procs_killed(m, p, PE_REAL_DOWN);
}

/* Its original was parked on the front end, and has died there with its bpinit, as all its kind. */
static void orphan_of_home(struct master *m, const struct move *mv)
{
	struct proc *p = mv->source == NODE_HOME ? mv->proc : NULL;

	if (p && p->node >= 0)
		procs_kill(m, p, node_get(&m->nodes, p->node));
}

bool moves_event(struct master *m, struct move *mv, enum move_event event)
{
	enum move_state was = mv->state;
	enum move_action a = move_step(mv, event);

	if (was != mv->state)
		log_debug("move %llx: %s -> %s", (unsigned long long)mv->id, move_state_name(was),
			  move_state_name(mv->state));
	switch (a) {
	case MA_VOID:
		send_void(m, mv);
		break;
	case MA_ABORT:
		do_abort(m, mv);
		break;
	case MA_COMMIT:
		do_commit(m, mv, true);
		break;
	case MA_RECOMMIT:
		send_commit(m, mv);
		break;
	case MA_INHERIT:
		let_go(m, mv);
		do_commit(m, mv, false);
		orphan_of_home(m, mv);
		break;
	case MA_DEAD:
		do_dead(m, mv);
		break;
	case MA_BAD:
		return false;
	case MA_IGNORE:
	case MA_NOTE:
	case MA_END:
		break;
	}
	if (mv->state == MV_DONE) {
		detach(mv);
		move_remove(&m->moves, mv);
		asks_look(m);
	}
	return true;
}

static void note_error(struct move *mv, int code, const char *text)
{
	/* The first one is the cause; what follows are its consequences. */
	if (mv->err.code == 0)
		bproc_err_set(&mv->err, code > 0 ? code : EIO, "%s",
			      text && *text ? text : "no reason given");
}

/*
 * Decided already, and the word on it may have been lost with a link. A commit is kept until
 * MoveGhosted, so it was an abort.
 */
static void abort_again(struct peer *p, uint64_t id, int err, const char *text)
{
	const struct bproc_err *why = move_why_aborted(&p->m->moves, id);

	if (why)
		send_abort(p->node, p->m, id, why->code, why->text);
	else
		send_abort(p->node, p->m, id, err > 0 ? err : ECONNABORTED,
			   text && *text ? text : "the move was aborted");
}

void moves_from_source(struct peer *p, uint64_t id, enum move_event event, int err,
		       const char *text)
{
	struct master *m = p->m;
	struct move *mv = move_get(&m->moves, id);

	if (!mv) {
		if (event != ME_GHOSTED &&
		    (id >> 32 == m->epoch || move_why_aborted(&m->moves, id)))
			abort_again(p, id, err, text);
		return;
	}
	if (mv->source != p->node->num) {
		peer_drop(p, "protocol error: not the source of move %llx", (unsigned long long)id);
		return;
	}
	if (event == ME_SRC_FAILED)
		note_error(mv, err, text);
	if (event == ME_SENT)
		fault_point(FAULT_MASTER_SENT);
	if (!moves_event(m, mv, event))
		peer_drop(p,
			  "protocol error: the source of move %llx may not say that when it is %s",
			  (unsigned long long)id, move_state_name(mv->state));
}

void moves_from_target(struct peer *p, uint64_t id, enum move_event event, int err,
		       const char *text, int32_t pid)
{
	struct master *m = p->m;
	struct move *mv = move_get(&m->moves, id);

	if (!mv) {
		/*
		 * Of an older epoch: where it is, is known from now on; the rest when the source's
		 * MoveState has brought MoveVoid. Of this one: told again, and it is over.
		 */
		if (event == ME_RAN && pid > 0 && id >> 32 != m->epoch)
			resync_ran(p, id, pid);
		return;
	}
	if (mv->target != p->node->num ||
	    (event == ME_RAN && (pid == 0 || (mv->pid && mv->pid != pid)))) {
		peer_drop(p, "protocol error: not the target, or not the pid, of move %llx",
			  (unsigned long long)id);
		return;
	}
	/* A source whose connection broke knows no more than that; who closed it knows why. */
	if (event == ME_DST_FAILED && err != EBADMSG &&
	    (mv->err.code == ECONNRESET || mv->err.code == EPIPE))
		mv->err.code = 0;
	if (event == ME_DST_FAILED)
		note_error(mv, err, text);
	if (event == ME_VOIDED) {
		fault_point(FAULT_MASTER_VOIDED);
		note_error(mv, EIO, "the move was called off");
	}
	if (event == ME_RAN)
		mv->pid = pid;
	if (!moves_event(m, mv, event))
		peer_drop(p,
			  "protocol error: the target of move %llx may not say that when it is %s",
			  (unsigned long long)id, move_state_name(mv->state));
}

struct node_news {
	struct master *m;
	struct node *n;
	bool dead;
};

static void tell_move(struct move *mv, void *arg)
{
	struct node_news *w = arg;
	bool source = mv->source == w->n->num;
	char text[64];

	if (!source && mv->target != w->n->num)
		return;
	snprintf(text, sizeof(text), w->dead ? "node %d died" : "the link to node %d was lost",
		 w->n->num);
	if (mv->state == MV_GRANTED || (mv->state == MV_SENT && (w->dead || !source)))
		note_error(mv, BE_SLAVEDIED, text);
	/* What the source has said of it, that a connection broke, was a consequence. */
	if (w->dead && !source && mv->state == MV_VOIDING)
		bproc_err_set(&mv->err, BE_SLAVEDIED, "%s", text);
	if (source)
		moves_event(w->m, mv, w->dead ? ME_SRC_DOWN : ME_SRC_BACK);
	else
		moves_event(w->m, mv, w->dead ? ME_DST_DOWN : ME_DST_BACK);
}

void moves_node(struct master *m, struct node *n, bool dead)
{
	struct node_news w = {.m = m, .n = n, .dead = dead};

	move_each(&m->moves, tell_move, &w);
}
