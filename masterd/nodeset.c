/*
 * The node table as the slaves see it: sent whole after Welcome and after each
 * change, bursts of changes as one; and the administrator's changes to it. Runs
 * in bpmaster.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "include/sys/bproc_common.h"
#include "libbproc/local.h"
#include "libbproc/log.h"
#include "master.h"

#define TELL_MS 50 /* at most one table in this time: 1,000 nodes that boot are 1,000 changes */

struct table_msg {
	Bproc__NodeTable table;
	Bproc__Node **ptr; /* owned */
	Bproc__Node *node; /* owned */
};

static int build(struct master *m, struct table_msg *t)
{
	struct node *n;

	*t = (struct table_msg){.table = BPROC__NODE_TABLE__INIT};
	t->ptr = calloc(m->nodes.count, sizeof(*t->ptr));
	t->node = calloc(m->nodes.count, sizeof(*t->node));
	if (!t->ptr || !t->node)
		return -ENOMEM;
	for (uint32_t i = 0; i < m->nodes.count; i++) {
		n = &m->nodes.node[i];
		bproc__node__init(&t->node[i]);
		t->node[i].node = n->num;
		t->node[i].status = n->status;
		t->node[i].mode = n->mode;
		t->node[i].uid = n->uid;
		t->node[i].gid = n->gid;
		t->node[i].addr = n->addr;
		t->node[i].data_port = n->data_port;
		t->node[i].reason = n->reason;
		t->node[i].life = n->life;
		t->ptr[i] = &t->node[i];
	}
	t->table.partial = !m->whole;
	t->table.n_node = m->nodes.count;
	t->table.node = t->ptr;
	return 0;
}

/* One node, or all that are connected. */
void table_tell(struct master *m, struct node *n)
{
	struct table_msg t;

	if (build(m, &t) < 0)
		log_error("node table: no memory");
	else if (n)
		node_send(m, n, &t.table.base);
	else
		for (uint32_t i = 0; i < m->nodes.count; i++)
			node_send(m, &m->nodes.node[i], &t.table.base);
	free(t.ptr);
	free(t.node);
}

static void tell_all(evutil_socket_t fd, short what, void *arg)
{
	struct master *m = arg;

	(void)fd;
	(void)what;
	m->told_ms = now_ms();
	nodefile_write(m); /* before anybody hears of it: the next master knows what was told */
	table_tell(m, NULL);
}

void table_changed(struct master *m)
{
	uint64_t now = now_ms(), wait = 0;
	struct timeval tv;

	if (evtimer_pending(m->tell, NULL))
		return;
	if (now - m->told_ms < TELL_MS)
		wait = TELL_MS - (now - m->told_ms);
	tv = (struct timeval){.tv_usec = (suseconds_t)wait * 1000};
	event_add(m->tell, &tv);
}

int table_start(struct master *m)
{
	m->tell = evtimer_new(m->base, tell_all, m);
	return m->tell ? 0 : -ENOMEM;
}

/* -- changes */

static int set_status(struct master *m, struct node *n, const Bproc__NodeSet *s,
		      struct bproc_err *err)
{
	int r;

	if (s->asker_uid != 0)
		return bproc_err_set(err, EPERM, "only root may set the status of a node");
	r = node_status_valid(s->status);
	if (r < 0)
		return bproc_err_set(err, -r, "'%.32s' is not a node status", s->status);
	if (n->num == NODE_HOME)
		return bproc_err_set(err, EPERM, "the front end's status is not set");
	if (n->state == NS_DOWN && s->again && strcmp(s->status, "down") == 0)
		return 0;
	if (n->state == NS_DOWN)
		return bproc_err_set(err, EINVAL, "node %d is down", n->num);
	if (strcmp(s->status, "down") == 0) {
		/* Dead in the books when they are dead there; an unreachable node is in time. */
		n->set_down = true;
		nodes_send_fence(m, n);
		return 0;
	}
	if (strcmp(s->status, "unreachable") == 0)
		return bproc_err_set(err, EINVAL, "'unreachable' is the master's to set");
	if (node_step(n, NE_SET) != NA_SET)
		return bproc_err_set(err, EINVAL, "node %d is %s", n->num, n->status);
	log_info("node %d: %s -> %s, by bpctl", n->num, n->status, s->status);
	strcpy(n->status, s->status);
	return 0;
}

static int set_owner(struct node *n, const Bproc__NodeSet *s, struct bproc_err *err)
{
	bool owner = s->asker_uid == 0 || s->asker_uid == n->uid;

	if (n->num != NODE_HOME && n->state == NS_DOWN)
		return bproc_err_set(err, EPERM, "node %d is down", n->num);
	switch (s->what) {
	case SETNODE_MODE:
		if (s->value & ~0111u)
			return bproc_err_set(err, EINVAL, "mode %04o has more than the x bits",
					     s->value);
		if (!owner)
			return bproc_err_set(err, EPERM, "uid %u does not own node %d",
					     s->asker_uid, n->num);
		n->mode = s->value;
		return 0;
	case SETNODE_UID:
		if (s->asker_uid != 0)
			return bproc_err_set(err, EPERM, "only root may give a node away");
		n->uid = s->value;
		return 0;
	case SETNODE_GID:
		if (!owner)
			return bproc_err_set(err, EPERM, "uid %u does not own node %d",
					     s->asker_uid, n->num);
		n->gid = s->value;
		return 0;
	default:
		return bproc_err_set(err, EINVAL, "nothing of a node is called %u", s->what);
	}
}

void table_set(struct peer *p, const Bproc__NodeSet *s)
{
	struct node *asker = p->node, *n = node_get(&p->m->nodes, s->node);
	Bproc__Answer a = BPROC__ANSWER__INIT;
	struct master *m = p->m;
	struct bproc_err err = {.text = ""};
	int r;

	if (!n)
		r = bproc_err_set(&err, BE_INVALIDNODE, "there is no node %d", s->node);
	else if (s->what == SETNODE_STATUS)
		r = set_status(m, n, s, &err);
	else
		r = set_owner(n, s, &err);
	if (r == 0)
		table_changed(m);
	a.req = s->req;
	a.err = (uint32_t)-r;
	a.text = err.text;
	a.node = s->node;
	/* Not p: a node that set itself down has no link any more. */
	node_send(m, asker, &a.base);
}
