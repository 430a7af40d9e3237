/*
 * kill() of a process on a node to what is not there: passed on to home, which has
 * every process, knows who may signal whom, and does it; and its answer back. Nothing
 * is kept here: the node asks again after each Welcome, and when home is back (BornAsk).
 * Runs in bpmaster; doc/wire.md, section 7.
 */
#include "master.h"

void kills_ask(struct peer *p, const Bproc__Kill *k)
{
	Bproc__Kill out = *k;

	if (p->node->num == NODE_HOME || k->id == 0) {
		peer_drop(p, "protocol error: Kill");
		return;
	}
	out.node = p->node->num;
	node_send(p->m, node_get(&p->m->nodes, NODE_HOME), &out.base);
}

void kills_answer(struct peer *p, const Bproc__Killed *k)
{
	struct node *n = node_get(&p->m->nodes, k->node);

	if (p->node->num != NODE_HOME) {
		peer_drop(p, "protocol error: Killed by a node");
		return;
	}
	if (n)
		node_send(p->m, n, &k->base);
}
