/*
 * What processes of this machine want to know of nodes and processes, and what they set:
 * answered from the replica of the node table, or asked of the master, which judges. What is asked
 * of it waits for a link, and is asked again on the next one if that ends: who asks does not see
 * that the master is restarted. Runs in bpslave.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "bpslave.h"

#define ASKS_MAX 64   /* questions of one client that the master has not answered */
#define SETTLE_MS 100 /* a set that changed nothing is followed by no table */

/* For the master, or for bpinit (LOCAL_USED), or for a table that is whole (LOCAL_NODES). */
struct ask {
	TAILQ_ENTRY(ask) next;
	uint32_t req, client, id;
	uint16_t type;
	bool told; /* the master has been: it may have done what it is asked for */
	uid_t uid;
	union {
		struct local_pid pid;
		struct local_procs_ask procs;
		struct local_setnode set;
	} what;
};
TAILQ_HEAD(ask_list, ask);

static struct {
	struct ask_list asks; /* in order */
	struct ask_list done; /* node sets that wait for the table that shows them */
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

static bool has_table(void)
{
	return slave.ntable > 0 && slave.node != NODE_NONE;
}

static void answer_nodes(uint32_t client, uint32_t id)
{
	struct local_nodes *a = (void *)answer;
	size_t n = slave.ntable;

	if (!has_table())
		return local_error(client, id, LOCAL_NODES, ENOTCONN,
				   "bpslave has not reached the master yet");
	if (n > LOCAL_NODES_MAX)
		n = LOCAL_NODES_MAX;
	a->self = slave.node;
	a->count = (uint32_t)n;
	for (size_t i = 0; i < n; i++)
		fill_node(&a->node[i], &slave.table[i]);
	local_answer(client, id, LOCAL_NODES, a, sizeof(*a) + n * sizeof(a->node[0]));
}

static struct ask *new_ask(uint32_t client, const struct local_hdr *h)
{
	uint32_t *asks = local_asks(client);
	struct ask *k = NULL;

	if (!asks || *asks >= ASKS_MAX || !(k = calloc(1, sizeof(*k)))) {
		local_error(client, h->id, h->type, EAGAIN, "too many questions at once");
		return NULL;
	}
	k->req = ++query.last_req;
	k->client = client;
	k->id = h->id;
	k->type = h->type;
	++*asks;
	TAILQ_INSERT_TAIL(&query.asks, k, next);
	return k;
}

/* One that a table answers; of a master that may have more to say of it, if one may come. */
void query_nodes(uint32_t client, const struct local_hdr *h)
{
	if ((has_table() && slave.table_whole) || !master_may_come())
		answer_nodes(client, h->id);
	else
		new_ask(client, h);
}

/* -- asked of the master */

/* It counts no more; the caller has it. */
static void forget(struct ask *k)
{
	uint32_t *asks = local_asks(k->client);

	TAILQ_REMOVE(&query.asks, k, next);
	if (asks)
		--*asks;
}

static struct ask *take_ask(uint32_t req)
{
	struct ask *k;

	TAILQ_FOREACH(k, &query.asks, next)
	if (k->req == req) {
		forget(k);
		return k;
	}
	return NULL;
}

static void tell_pid(const struct ask *k)
{
	Bproc__PidAsk m = BPROC__PID_ASK__INIT;

	m.req = k->req;
	m.pid = k->what.pid.pid;
	master_send(&m.base);
}

/* Which node "here" is was not known when it was asked, if there had been no master yet. */
static int32_t number_of(int32_t node)
{
	return node == NODE_SELF ? slave.node : node;
}

static void tell_procs(const struct ask *k)
{
	Bproc__ProcsAsk m = BPROC__PROCS_ASK__INIT;

	m.req = k->req;
	m.node = number_of(k->what.procs.node);
	m.first = k->what.procs.first;
	master_send(&m.base);
}

static void tell_setnode(struct ask *k)
{
	struct local_setnode *s = &k->what.set;
	Bproc__NodeSet m = BPROC__NODE_SET__INIT;

	m.req = k->req;
	m.node = number_of(s->node);
	m.what = s->what;
	m.value = s->value;
	m.status = s->status;
	m.asker_uid = k->uid;
	m.again = k->told;
	master_send(&m.base);
}

static void tell(struct ask *k)
{
	if (k->type == LOCAL_PIDNODE)
		tell_pid(k);
	else if (k->type == LOCAL_PROCS)
		tell_procs(k);
	else if (k->type == LOCAL_SETNODE)
		tell_setnode(k);
	else
		return;
	k->told = true;
}

static void ask_master(uint32_t client, const struct local_hdr *h, uid_t uid, const void *what)
{
	struct ask *k;

	if (!master_may_come())
		return local_error(client, h->id, h->type, ENOTCONN, "no link to the master");
	k = new_ask(client, h);
	if (!k)
		return;
	k->uid = uid;
	memcpy(&k->what, what, h->len);
	if (master_is_up())
		tell(k);
}

void query_pid(uint32_t client, const struct local_hdr *h, const struct local_pid *p)
{
	ask_master(client, h, 0, p);
}

void query_procs(uint32_t client, const struct local_hdr *h, const struct local_procs_ask *p)
{
	ask_master(client, h, 0, p);
}

void query_setnode(uint32_t client, const struct local_hdr *h, struct local_setnode *s, uid_t uid)
{
	s->status[sizeof(s->status) - 1] = '\0';
	ask_master(client, h, uid, s);
}

void query_ask_again(void)
{
	struct ask *k;

	TAILQ_FOREACH(k, &query.asks, next)
	tell(k);
}

static void end_ask(struct ask *k, int err, const char *text)
{
	forget(k);
	local_error(k->client, k->id, k->type, err, text);
	free(k);
}

static void answer_waiting_nodes(void)
{
	struct ask *k, *more;

	for (k = TAILQ_FIRST(&query.asks); k; k = more) {
		more = TAILQ_NEXT(k, next);
		if (k->type != LOCAL_NODES)
			continue;
		forget(k);
		answer_nodes(k->client, k->id);
		free(k);
	}
}

void query_no_master(void)
{
	struct ask *k, *more;

	answer_waiting_nodes();
	for (k = TAILQ_FIRST(&query.asks); k; k = more) {
		more = TAILQ_NEXT(k, next);
		if (k->type != LOCAL_USED)
			end_ask(k, ENOTCONN, "no link to the master");
	}
}

void query_on_table(void)
{
	struct ask *k;

	if (has_table() && slave.table_whole)
		answer_waiting_nodes();
	while ((k = TAILQ_FIRST(&query.done))) {
		TAILQ_REMOVE(&query.done, k, next);
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
		TAILQ_INSERT_TAIL(&query.done, k, next);
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

/* -- asked of bpinit */

void query_used(uint32_t client, const struct local_hdr *h, const struct local_pid *p)
{
	struct init_msg m = {.type = INIT_USED, .pid = p->pid};
	struct ask *k;

	if (!init_is_up())
		return local_error(client, h->id, h->type, ENOTCONN, "no link to bpinit");
	k = new_ask(client, h);
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
	struct ask *k, *more;

	for (k = TAILQ_FIRST(&query.asks); k; k = more) {
		more = TAILQ_NEXT(k, next);
		if (k->type == LOCAL_USED)
			end_ask(k, ECONNRESET, "bpinit has ended");
	}
}

void query_client_gone(uint32_t client)
{
	struct ask *k, *more;

	for (k = TAILQ_FIRST(&query.asks); k; k = more) {
		more = TAILQ_NEXT(k, next);
		if (k->client == client) {
			TAILQ_REMOVE(&query.asks, k, next);
			free(k);
		}
	}
}

int query_start(void)
{
	TAILQ_INIT(&query.asks);
	TAILQ_INIT(&query.done);
	query.settle = new_timer(on_settle, NULL);
	return query.settle ? 0 : -ENOMEM;
}

void query_stop(void)
{
	query_on_table();
	free_event(&query.settle);
}
