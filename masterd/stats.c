/*
 * Questions about processes. Where they are the table says. What they use up is known where
 * they are real: a slave asks, the master passes the question on to that node and the answer
 * back. It keeps nothing of it: the question carries who asked. Runs in bpmaster;
 * doc/wire.md, section 10.
 */
#include <errno.h>
#include <stdio.h>

#include "include/sys/bproc_common.h"
#include "libbproc/local.h"
#include "master.h"

void procs_pid_ask(struct peer *p, const Bproc__PidAsk *a)
{
	Bproc__Answer ans = BPROC__ANSWER__INIT;
	struct proc *t = proc_get(&p->m->procs, a->pid, 0);

	ans.req = a->req;
	ans.node = t && t->state != PS_DYING ? t->node : NODE_NONE;
	ans.settling = t && t->move && t->move->state == MV_COMMITTED;
	link_send(p->link, &ans.base);
}

void procs_list_ask(struct peer *p, const Bproc__ProcsAsk *a)
{
	Bproc__ProcsTell t = BPROC__PROCS_TELL__INIT;
	static int32_t pid[LOCAL_PROCS_PAGE], node[LOCAL_PROCS_PAGE];

	t.req = a->req;
	t.n_pid = proc_list(&p->m->procs, a->node, (int32_t)(a->first & INT32_MAX), pid, node,
			    LOCAL_PROCS_PAGE);
	t.n_node = t.n_pid;
	t.pid = pid;
	t.node = node;
	link_send(p->link, &t.base);
}

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
