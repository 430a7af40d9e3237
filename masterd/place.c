/*
 * Groups and sessions: a node's word of a process goes to home, and home's, which
 * holds for all, to every node that has the process. With it goes the leader of the
 * group, of which those nodes may have to make a ghost. Nothing is kept here: a node
 * says it again until home has answered, and home when a node is back (BornAsk). Runs
 * in bpmaster; doc/wire.md, section 7.
 */
#include "include/sys/bproc_common.h"
#include "master.h"

/* It will have a ghost there, if it has not. False: it has ended. */
static bool note_leader(struct master *m, const Bproc__Chain *c, const struct node *n)
{
	struct proc *p;
	uint32_t i = node_index(&m->nodes, n);

	if (c->pid <= 1 || c->pid >= WIRE_PID_MAX)
		return false;
	p = proc_get(&m->procs, c->pid, 0);
	if (p && p->state == PS_DYING)
		return false;
	if (!p) {
		p = proc_new(&m->procs, c->pid, NODE_HOME);
		if (!p)
			return false;
		p->native = true;
	}
	if (p->node != n->num && !ghost_has(p, i)) {
		ghost_add(p, i);
		procs_watch(m, p);
	}
	return true;
}

static bool has(const struct master *m, const struct proc *p, const struct node *n)
{
	return ghost_has(p, node_index(&m->nodes, n)) || p->node == n->num ||
	       (p->move && p->move->target == n->num);
}

static void tell_nodes(struct master *m, const Bproc__Place *in)
{
	struct proc *p = proc_get(&m->procs, in->proc->pid, in->proc->gen);

	for (uint32_t i = 1; i < m->nodes.count; i++) {
		struct node *n = &m->nodes.node[i];
		Bproc__Place out = *in;

		if (n->num != in->node && (!p || p->state == PS_DYING || !has(m, p, n)))
			continue;
		if (out.leader && (!p || !note_leader(m, out.leader, n)))
			out.leader = NULL;
		node_send(m, n, &out.base);
	}
}

void place_tell(struct peer *peer, const Bproc__Place *in)
{
	struct master *m = peer->m;
	Bproc__Place out = *in;

	if (!in->proc || in->proc->pid <= 1 || in->proc->pid >= WIRE_PID_MAX) {
		peer_drop(peer, "protocol error: Place of no process");
		return;
	}
	if (peer->node->num == NODE_HOME)
		return tell_nodes(m, in);
	out.node = peer->node->num;
	out.leader = NULL;
	node_send(m, node_get(&m->nodes, NODE_HOME), &out.base);
}
