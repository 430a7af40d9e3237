/*
 * The judge: what a MoveAsk must satisfy, and the grant. Steps 3 of doc/move.md;
 * moveact.c has what follows. Runs in bpmaster.
 */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "include/sys/bproc_common.h"
#include "libbproc/fault.h"
#include "libbproc/local.h"
#include "libbproc/log.h"
#include "libbproc/share.h"
#include "master.h"
#include "vmadump/blob/filters.h"

void moves_deny(struct peer *p, uint32_t req, const struct bproc_err *err)
{
	Bproc__MoveDeny d = BPROC__MOVE_DENY__INIT;

	d.req = req;
	d.err = (uint32_t)err->code;
	d.text = (char *)(uintptr_t)err->text;
	log_debug("node %d: move refused: %s", p->node->num, err->text);
	link_send(p->link, &d.base);
}

/* What no bpslave of ours sends: 0, or why not. */
const char *moves_malformed(const Bproc__MoveAsk *a)
{
	struct chan_cred cred;

	if (a->kind < MOVE_RFORK || a->kind > MOVE_LIVE)
		return "kind";
	if (!wire_pid_ok(a->asker_pid))
		return "asker_pid";
	if (!wire_pid_ok(a->pid) || (a->kind != MOVE_RFORK && a->pid != a->asker_pid))
		return "pid";
	if (!a->creds || wire_get_cred(a->creds->raw.data, a->creds->raw.len, &cred) < 0)
		return "creds";
	if (a->filters.len > FILTERS_MAX)
		return "filters";
	for (size_t i = 0; i < a->n_chain; i++)
		if (!wire_pid_ok(a->chain[i]->pid) || strlen(a->chain[i]->comm) > 15)
			return "chain";
	return NULL;
}

/* The rules about nodes and who may use them. 0 or -code. */
static int judge_node(struct master *m, const struct node *source, const Bproc__MoveAsk *a,
		      struct node **ret_target, struct bproc_err *err)
{
	struct node *target = node_get(&m->nodes, a->node);

	if (!target)
		return bproc_err_set(err, BE_INVALIDNODE, "there is no node %d", a->node);
	if (target == source)
		return bproc_err_set(err, BE_SAMENODE, "it runs on node %d already", a->node);
	if (a->n_chain > CHAIN_MAX)
		return bproc_err_set(err, E2BIG, "%zu ancestors and leaders, at most %d",
				     a->n_chain, CHAIN_MAX);
	*ret_target = target;
	return node_access(target, a->uid, a->gid, a->groups, a->n_groups, err);
}

/*
 * The entry of the process that leaves; of rfork there is none before its child
 * has run. 0 or -code; on success the entry is PS_MOVING.
 */
static int judge_proc(struct master *m, const struct node *source, const Bproc__MoveAsk *a,
		      struct proc **ret_proc, struct bproc_err *err)
{
	struct proc *p;

	*ret_proc = NULL;
	if (a->kind == MOVE_RFORK) {
		/* Its parent says so, and may lie: it shall not get the number of another. */
		p = proc_get(&m->procs, a->pid, 0);
		if (p && p->state != PS_DYING && p->node != source->num)
			return bproc_err_set(err, BE_INVALIDPROC, "pid %d is no child on node %d",
					     a->pid, source->num);
		return 0;
	}
	p = proc_get(&m->procs, a->asker_pid, 0);
	if (a->kind == MOVE_LIVE) {
		/* No process moves by it: it is in the way of nothing, and nothing waits for it. */
		if (p && p->state != PS_DYING && p->node != source->num)
			return bproc_err_set(err, BE_INVALIDPROC, "pid %d is on node %d, not on %d",
					     p->pid, p->node, source->num);
		return 0;
	}
	if (p && p->state == PS_DYING)
		p = NULL; /* of an earlier process: some node has not confirmed its end */
	if (p && p->state == PS_LOST)
		procs_found(m, p, source->num); /* before its node has told of it */
	if (p && p->node != source->num)
		return bproc_err_set(err, BE_INVALIDPROC, "pid %d is on node %d, not on %d", p->pid,
				     p->node, source->num);
	if (!p) {
		p = proc_new(&m->procs, a->asker_pid, source->num);
		if (!p)
			return bproc_err_set(err, ENOMEM, "the front end has no memory");
		p->native = true;
	}
	if (proc_step(p, PE_MOVE) != PA_BEGIN)
		return bproc_err_set(err, EBUSY, "pid %d is moving already", p->pid);
	*ret_proc = p;
	return 0;
}

/*
 * Is what the source says of a child older than what was heard here? Not where it is real; nor if
 * its ghost there, which the word on its stop has reached, was sent a SIGCONT: the kernel has
 * shown there that it goes on, and that it does is still to be heard.
 */
static bool is_older(const struct proc *p, const struct node *source, const Bproc__Chain *c)
{
	bool stopped = c->state == CHAIN_STOPPED || c->state == CHAIN_STOP_SEEN;

	if (p->node == source->num || (!stopped && p->conted == source->num))
		return false;
	return p->last.code == (stopped ? CLD_CONTINUED : CLD_STOPPED);
}

/*
 * What the target is told of a relative may be older than what is known here, and it had no
 * ghost to be told of it then.
 */
static void tell_newer(struct master *m, struct proc *p, const struct node *source,
		       struct node *target, const Bproc__Chain *c)
{
	if (p->state == PS_DYING)
		procs_mirror_exit(m, p, target);
	else if (c->child && is_older(p, source, c))
		procs_mirror(m, p, target, &p->last);
}

/*
 * A child that is real there: the ghost of the mover there has taken its stop by now. So it has if
 * it goes on after a stop that the mover has seen, and stops again: of that the source has not said
 * then that it has it.
 */
static void tell_stopped(struct master *m, struct proc *p, const struct node *source,
			 struct node *target, const Bproc__Chain *c)
{
	bool again = c->state == CHAIN_STOP_SEEN &&
		     told_waits(p, node_index(&m->nodes, source), &p->last);

	if (c->child && p->last.code == CLD_STOPPED && (again || is_older(p, source, c)))
		procs_mirror(m, p, target, &p->last);
}

/* What the cluster has not heard of is real where it was born. */
static struct proc *enter_relative(struct master *m, const struct node *source,
				   const Bproc__Chain *c)
{
	int32_t born = node_of_pid(&m->nodes, c->pid);
	struct proc *p;

	p = proc_new(&m->procs, c->pid, born == source->num ? source->num : NODE_HOME);
	if (!p)
		return NULL;
	p->native = true;
	/* But a new master has not heard of all: a third node, or who has it now, is to tell. */
	if (born != source->num && born != NODE_HOME && !m->swept) {
		p->node = NODE_NONE;
		p->native = false;
		p->state = PS_LOST;
	}
	return p;
}

/* From here on the target has, or will have, ghosts of the chain: exits are mirrored to it. */
static void note_chain(struct master *m, const struct node *source, struct node *target,
		       const Bproc__MoveAsk *a)
{
	const Bproc__Chain *c;
	struct proc *p;

	for (size_t i = 0; i < a->n_chain; i++) {
		c = a->chain[i];
		if (c->child && c->state == CHAIN_ENDED)
			continue; /* a zombie there too, and no more news of it */
		p = proc_get(&m->procs, c->pid, 0);
		/* A dying one whose ghost is still where the mover is, is that ghost; else an
		 * earlier one. */
		if (!p || (p->state == PS_DYING && !c->child &&
			   !ghost_has(p, node_index(&m->nodes, source)))) {
			p = enter_relative(m, source, c);
			if (!p)
				continue;
		}
		/* A child that is real there, or comes there first, may have ended by the time its
		 * parent arrives, whose ghost it is made then. At home its zombie waits. */
		if (c->child && target->num != NODE_HOME)
			p->awaited_at = target->num;
		if (p->node == target->num &&
		    (p->awaited_at != target->num || p->state != PS_DYING)) {
			tell_stopped(m, p, source, target, c);
			continue;
		}
		/*
		 * Home has a ghost of all but what is real there. Of one that nobody has told of
		 * yet home itself will say which; taken for a ghost it would be nowhere, and swept.
		 */
		if (p->state == PS_LOST && target->num == NODE_HOME)
			continue;
		ghost_add(p, node_index(&m->nodes, target));
		procs_watch(m, p);
		tell_newer(m, p, source, target, c);
	}
}

static void send_start(struct master *m, const struct move *mv, const Bproc__MoveAsk *a,
		       const struct move_tree *tree)
{
	Bproc__MoveStart s = BPROC__MOVE_START__INIT;

	s.move = mv->id;
	s.epoch = mv->epoch;
	s.token = (ProtobufCBinaryData){.len = MOVE_TOKEN, .data = (uint8_t *)(uintptr_t)mv->token};
	s.kind = mv->kind;
	s.source = mv->source;
	s.home = NODE_HOME;
	s.ppid = a->ppid;
	s.pgid = a->pgid;
	s.sid = a->sid;
	s.n_chain = a->n_chain;
	s.chain = a->chain;
	s.creds = a->creds;
	s.pid = mv->pid;
	s.exec = a->exec;
	s.after = a->after;
	s.threads = a->threads;
	s.tree = tree->first;
	s.members = tree->members;
	s.filters = a->filters;
	node_send(m, node_get(&m->nodes, mv->target), &s.base);
}

static void send_grant(struct master *m, const struct move *mv)
{
	Bproc__MoveGrant g = BPROC__MOVE_GRANT__INIT;

	g.req = mv->req;
	g.move = mv->id;
	g.epoch = mv->epoch;
	g.token = (ProtobufCBinaryData){.len = MOVE_TOKEN, .data = (uint8_t *)(uintptr_t)mv->token};
	g.node = mv->target;
	g.life = node_get(&m->nodes, mv->target)->life;
	node_send(m, node_get(&m->nodes, mv->source), &g.base);
}

/* A child of rfork that its node has told of before it was asked about. */
static void note_rfork(struct master *m, const struct move *mv)
{
	struct proc *p = mv->kind == MOVE_RFORK ? proc_get(&m->procs, mv->pid, 0) : NULL;

	if (p && p->born && p->node == mv->source)
		p->rfork = mv->id;
}

void moves_grant(struct peer *p, const struct judged *j, const Bproc__MoveAsk *a,
		 const struct move_tree *tree)
{
	struct master *m = p->m;
	struct node *source = p->node, *target = j->target;
	struct move *mv = j->mv;

	if (j->proc) {
		if (j->proc->move) /* its last one, whose source is still becoming a ghost */
			j->proc->move->proc = NULL;
		j->proc->move = mv;
		mv->proc = j->proc;
	}
	mv->kind = a->kind;
	mv->req = a->req;
	mv->source = source->num;
	mv->target = target->num;
	mv->pid = a->pid;
	mv->gen = m->procs.last_gen;
	for (size_t i = 0; i < a->n_chain; i++)
		mv->family |= a->chain[i]->child;
	if (node_note_born(&m->nodes, a->pid))
		nodefile_write(m);
	note_rfork(m, mv);
	log_debug("move %llx: pid %d of node %d to node %d", (unsigned long long)mv->id, a->pid,
		  source->num, target->num);
	fault_point(FAULT_MASTER_ASKED);
	/*
	 * The source first: an execmove's has a program to execute, and an rfork's child, which is
	 * still making its image, finds its leave there when it looks for it, without a wake-up. On
	 * a machine that is both ends the source's daemons then go before the target's. Of a whole
	 * process that has its image ready since it asked, the target has more to do.
	 */
	if (mv->kind == MOVE_EXECMOVE || mv->kind == MOVE_RFORK) {
		send_grant(m, mv);
		sched_yield();
		fault_point(FAULT_MASTER_STARTED);
		send_start(m, mv, a, tree);
	} else {
		send_start(m, mv, a, tree);
		fault_point(FAULT_MASTER_STARTED);
		send_grant(m, mv);
	}
	fault_point(FAULT_MASTER_GRANTED);
	note_chain(m, source, target, a);
}

static void undo(struct master *m, struct proc *proc)
{
	if (!proc)
		return;
	procs_decided(m, proc);
	procs_release(m, proc);
}

void moves_unjudge(struct master *m, const struct judged *j)
{
	move_remove(&m->moves, j->mv);
	undo(m, j->proc);
}

int moves_judge(struct peer *p, const Bproc__MoveAsk *a, struct judged *ret, struct bproc_err *err)
{
	struct master *m = p->m;
	int e = judge_node(m, p->node, a, &ret->target, err);

	if (e == 0)
		e = judge_proc(m, p->node, a, &ret->proc, err);
	if (e < 0)
		return e;
	ret->mv = move_new(&m->moves, a->uid);
	if (ret->mv)
		return 0;
	undo(m, ret->proc);
	return bproc_err_set(err, EAGAIN,
			     "%u moves are under way, of %d; %u of user %u, who may have %d times "
			     "as many as are left",
			     m->moves.count, MOVES_MAX, move_count(&m->moves, a->uid), a->uid,
			     SHARE_TIMES);
}

void moves_ask(struct peer *p, Bproc__MoveAsk *a)
{
	const char *bad = moves_malformed(a);
	struct bproc_err err = {.text = ""};
	struct judged j;

	if (bad)
		peer_drop(p, "protocol error: MoveAsk with a bad %s", bad);
	else if (asks_wait(p, &a, 1))
		return;
	else if (moves_judge(p, a, &j, &err) < 0)
		moves_deny(p, a->req, &err);
	else
		moves_grant(p, &j, a, &(struct move_tree){0});
}
