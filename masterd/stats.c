/*
 * What processes use up is known where they are real: a slave asks, the master
 * passes the question on to that node and the answer back. It keeps nothing of it:
 * the question carries who asked. Runs in bpmaster; doc/wire.md, section 10.
 */
#include <errno.h>
#include <stdio.h>

#include "include/sys/bproc_common.h"
#include "libbproc/local.h"
#include "master.h"

static void refuse(struct peer *p, const Bproc__StatsAsk *a, int err, const char *what)
{
	Bproc__StatsTell t = BPROC__STATS_TELL__INIT;
	char text[NODE_REASON_MAX];

	snprintf(text, sizeof(text), "node %d %s", a->node, what);
	t.req = a->req;
	t.from = p->node->num;
	t.err = (uint32_t)err;
	t.text = text;
	link_send(p->link, &t.base);
}

void stats_ask(struct peer *p, const Bproc__StatsAsk *a)
{
	struct node *n = node_get(&p->m->nodes, a->node);
	Bproc__StatsAsk on = *a;

	if (!n) {
		refuse(p, a, BE_INVALIDNODE, "does not exist");
		return;
	}
	if (n->state != NS_CONNECTED || !n->peer) {
		refuse(p, a, BE_NODEDOWN, "is not connected");
		return;
	}
	on.from = p->node->num;
	link_send(n->peer->link, &on.base);
}

void stats_tell(struct peer *p, const Bproc__StatsTell *t)
{
	struct node *n = node_get(&p->m->nodes, t->from);

	if (t->n_stat > LOCAL_STATS_PAGE)
		peer_drop(p, "protocol error: %zu processes in one answer", t->n_stat);
	else if (n)
		node_send(p->m, n, &t->base);
}
