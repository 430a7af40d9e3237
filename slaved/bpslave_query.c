/*
 * What processes of this machine want to know of nodes and processes, and what they set:
 * answered from the replica of the node table, or asked of the master, which judges.
 * Runs in bpslave.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "bpslave.h"

#define ASKS_MAX 64   /* questions of one client that the master has not answered */
#define SETTLE_MS 100 /* a set that changed nothing is followed by no table */

/* A question that the master has been asked, or bpinit (LOCAL_USED). */
struct ask {
	LIST_ENTRY(ask) next;
	uint32_t req, client, id;
	uint16_t type;
};

static struct {
	LIST_HEAD(, ask) asks;
	LIST_HEAD(, ask) done; /* node sets that wait for the table that shows them */
	struct event *settle;
	uint32_t last_req;
} query;

static char answer[LOCAL_MSG_MAX] __attribute__((aligned(8)));

/* -- answered from the replica */

static void fill_node(struct local_node *n, const struct node_row *r)
{
	*n = (struct local_node){.node = r->node,
				 .mode = r->mode,
				 .uid = r->uid,
				 .gid = r->gid,
				 .addr_be = htonl(r->addr),
				 .port = r->data_port};
	memcpy(n->status, r->status, sizeof(n->status));
	memcpy(n->reason, r->reason, sizeof(n->reason));
	if (r->node == NODE_MASTER && !master_is_up()) { /* nor is the rest news */
		snprintf(n->status, sizeof(n->status), "unreachable");
		snprintf(n->reason, sizeof(n->reason), "no link to the master");
	}
}

void query_nodes(uint32_t client, const struct local_hdr *h)
{
	struct local_nodes *a = (void *)answer;
	size_t n = slave.ntable;

	if (n == 0 || slave.node == NODE_NONE)
		return local_error(client, h->id, LOCAL_NODES, ENOTCONN,
				   "bpslave has not reached the master yet");
	if (n > LOCAL_NODES_MAX)
		n = LOCAL_NODES_MAX;
	a->self = slave.node;
	a->count = (uint32_t)n;
	for (size_t i = 0; i < n; i++)
		fill_node(&a->node[i], &slave.table[i]);
	local_answer(client, h->id, LOCAL_NODES, a, sizeof(*a) + n * sizeof(a->node[0]));
}

/* -- asked of the master */

static struct ask *new_ask(uint32_t client, const struct local_hdr *h, bool can, const char *whom)
{
	uint32_t *asks = local_asks(client);
	char text[LOCAL_TEXT_MAX];
	struct ask *k = NULL;

	if (!can) {
		snprintf(text, sizeof(text), "no link to %s", whom);
		local_error(client, h->id, h->type, ENOTCONN, text);
		return NULL;
	}
	if (!asks || *asks >= ASKS_MAX || !(k = calloc(1, sizeof(*k)))) {
		local_error(client, h->id, h->type, EAGAIN, "too many questions at once");
		return NULL;
	}
	k->req = ++query.last_req;
	k->client = client;
	k->id = h->id;
	k->type = h->type;
	++*asks;
	LIST_INSERT_HEAD(&query.asks, k, next);
	return k;
}

static struct ask *ask_master(uint32_t client, const struct local_hdr *h)
{
	return new_ask(client, h, master_is_up(), "the master");
}

/* It counts no more; the caller has it. */
static void forget(struct ask *k)
{
	uint32_t *asks = local_asks(k->client);

	LIST_REMOVE(k, next);
	if (asks)
		--*asks;
}

static struct ask *take_ask(uint32_t req)
{
	struct ask *k;

	LIST_FOREACH(k, &query.asks, next)
	if (k->req == req) {
		forget(k);
		return k;
	}
	return NULL;
}

void query_pid(uint32_t client, const struct local_hdr *h, const struct local_pid *p)
{
	Bproc__PidAsk m = BPROC__PID_ASK__INIT;
	struct ask *k = ask_master(client, h);

	if (!k)
		return;
	m.req = k->req;
	m.pid = p->pid;
	master_send(&m.base);
}

void query_procs(uint32_t client, const struct local_hdr *h, const struct local_procs_ask *p)
{
	Bproc__ProcsAsk m = BPROC__PROCS_ASK__INIT;
	struct ask *k = ask_master(client, h);

	if (!k)
		return;
	m.req = k->req;
	m.node = p->node == NODE_SELF ? slave.node : p->node;
	m.first = p->first;
	master_send(&m.base);
}

void query_setnode(uint32_t client, const struct local_hdr *h, struct local_setnode *s, uid_t uid)
{
	Bproc__NodeSet m = BPROC__NODE_SET__INIT;
	struct ask *k = ask_master(client, h);

	if (!k)
		return;
	s->status[sizeof(s->status) - 1] = '\0';
	m.req = k->req;
	m.node = s->node == NODE_SELF ? slave.node : s->node;
	m.what = s->what;
	m.value = s->value;
	m.status = s->status;
	m.asker_uid = uid;
	master_send(&m.base);
}

void query_on_table(void)
{
	struct ask *k;

	while ((k = LIST_FIRST(&query.done))) {
		LIST_REMOVE(k, next);
		local_answer(k->client, k->id, k->type, "", 0);
		free(k);
	}
}

static void on_settle(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	(void)arg;
	query_on_table();
}

void query_on_answer(const Bproc__Answer *a)
{
	struct ask *k = take_ask(a->req);
	struct local_pidnode pn = {.node = a->node, .settling = a->settling};

	if (!k)
		return;
	if (a->err)
		local_error(k->client, k->id, k->type, (int)a->err, a->text);
	else if (k->type == LOCAL_PIDNODE)
		local_answer(k->client, k->id, k->type, &pn, sizeof(pn));
	else {
		LIST_INSERT_HEAD(&query.done, k, next);
		return start_timer(query.settle, SETTLE_MS);
	}
	free(k);
}

void query_on_procs(const Bproc__ProcsTell *t)
{
	struct local_procs *a = (void *)answer;
	struct ask *k = take_ask(t->req);
	size_t n = t->n_pid;

	if (!k)
		return;
	if (n > LOCAL_PROCS_PAGE)
		n = LOCAL_PROCS_PAGE;
	a->count = (uint32_t)n;
	for (size_t i = 0; i < n; i++)
		a->proc[i] = (struct local_proc){t->pid[i], i < t->n_node ? t->node[i] : NODE_NONE};
	local_answer(k->client, k->id, k->type, a, sizeof(*a) + n * sizeof(a->proc[0]));
	free(k);
}

/* Nobody will answer those that were asked of bpinit, or of the master. */
static void lost(bool of_init, int err, const char *text)
{
	struct ask *k, *more;

	for (k = LIST_FIRST(&query.asks); k; k = more) {
		more = LIST_NEXT(k, next);
		if ((k->type == LOCAL_USED) != of_init)
			continue;
		forget(k);
		local_error(k->client, k->id, k->type, err, text);
		free(k);
	}
}

void query_link_lost(void)
{
	lost(false, ENOTCONN, "the link to the master was lost");
}

/* -- asked of bpinit */

void query_used(uint32_t client, const struct local_hdr *h, const struct local_pid *p)
{
	struct init_msg m = {.type = INIT_USED, .pid = p->pid};
	struct ask *k = new_ask(client, h, init_is_up(), "bpinit");

	if (!k)
		return;
	m.req_id = k->req;
	init_send(&m, NULL, 0);
}

void query_on_used(const struct init_msg *m)
{
	struct ask *k = take_ask(m->req_id);

	if (k && k->type == LOCAL_USED)
		local_answer(k->client, k->id, k->type, &m->u.used, sizeof(m->u.used));
	free(k);
	init_done(m->seq);
}

void query_init_lost(void)
{
	lost(true, ECONNRESET, "bpinit has ended");
}

void query_client_gone(uint32_t client)
{
	struct ask *k, *more;

	for (k = LIST_FIRST(&query.asks); k; k = more) {
		more = LIST_NEXT(k, next);
		if (k->client == client) {
			LIST_REMOVE(k, next);
			free(k);
		}
	}
}

int query_start(void)
{
	query.settle = new_timer(on_settle, NULL);
	return query.settle ? 0 : -ENOMEM;
}

void query_stop(void)
{
	query_on_table();
	free_event(&query.settle);
}
