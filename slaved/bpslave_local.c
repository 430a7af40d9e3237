/*
 * node.sock: what any process of this machine may ask (local.h). Node queries are
 * answered from the replica of the node table; the rest is asked of the master,
 * which judges. Runs in bpslave. The asker is who the kernel says sent this very
 * message; what it may use up (connections, answers it does not read) is limited.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bpslave.h"
#include "libbproc/log.h"

#define CLIENTS_MAX 8192
#define CLIENTS_PER_UID 4096 /* the library keeps one or two in each process; root: no limit */
#define ASKS_MAX 64	     /* questions of one client that the master has not answered */
#define QUEUE_MAX (1u << 20) /* bytes of answers that a client has not read */
#define SETTLE_MS 100	     /* a set that changed nothing is followed by no table */
#define HASH 256

struct answer {
	STAILQ_ENTRY(answer) next;
	size_t len;
	char bytes[];
};
struct client {
	LIST_ENTRY(client) hash;
	uint32_t number;
	int fd;
	uid_t uid;
	uint32_t asks;
	size_t queued;
	STAILQ_HEAD(, answer) queue;
	struct event *readable, *writable; /* owned; the second only when there is a queue */
};
/* A question that the master has been asked. */
struct ask {
	LIST_ENTRY(ask) next;
	uint32_t req, client, id;
	uint16_t type;
};

static struct {
	int fd;
	struct event *accept;
	LIST_HEAD(, client) clients[HASH];
	LIST_HEAD(, ask) asks;
	LIST_HEAD(, ask) done; /* node sets that wait for the table that shows them */
	struct event *settle;
	uint32_t nclients, last_client, last_req;
} loc = {.fd = -1};

static char packet[LOCAL_MSG_MAX] __attribute__((aligned(8)));

static struct client *find(uint32_t number)
{
	struct client *c;

	LIST_FOREACH(c, &loc.clients[number % HASH], hash)
	if (c->number == number)
		return c;
	return NULL;
}

static void drop(struct client *c)
{
	struct answer *a;
	struct ask *k, *more;

	for (k = LIST_FIRST(&loc.asks); k; k = more) {
		more = LIST_NEXT(k, next);
		if (k->client == c->number) {
			LIST_REMOVE(k, next);
			free(k);
		}
	}
	while ((a = STAILQ_FIRST(&c->queue))) {
		STAILQ_REMOVE_HEAD(&c->queue, next);
		free(a);
	}
	LIST_REMOVE(c, hash);
	free_event(&c->readable);
	free_event(&c->writable);
	close_fd(c->fd);
	move_client_gone(c->number);
	free(c);
	loc.nclients--;
	if (loc.accept)
		event_add(loc.accept, NULL);
}

/* -- answers */

static void on_writable(evutil_socket_t fd, short what, void *arg)
{
	struct client *c = arg;
	struct answer *a;
	int e;

	(void)what;
	while ((a = STAILQ_FIRST(&c->queue))) {
		e = pkt_send(fd, a->bytes, a->len, NULL, 0);
		if (e == -EAGAIN)
			return;
		if (e < 0)
			return drop(c);
		STAILQ_REMOVE_HEAD(&c->queue, next);
		c->queued -= a->len;
		free(a);
	}
	free_event(&c->writable);
}

static void enqueue(struct client *c, const void *bytes, size_t len)
{
	struct answer *a = c->queued + len <= QUEUE_MAX ? malloc(sizeof(*a) + len) : NULL;

	if (a && !c->writable)
		c->writable = watch_fd(c->fd, EV_WRITE, on_writable, c);
	if (!a || !c->writable) {
		free(a);
		/* Not dropped here: the caller may still hold it. Its end will be seen. */
		shutdown(c->fd, SHUT_RDWR);
		return;
	}
	a->len = len;
	memcpy(a->bytes, bytes, len);
	STAILQ_INSERT_TAIL(&c->queue, a, next);
	c->queued += len;
}

/* The payload, if any, lies behind the header in packet already if payload is NULL. */
static void send_answer(uint32_t number, uint32_t id, uint16_t type, int err, const void *payload,
			size_t len)
{
	struct local_hdr *h = (struct local_hdr *)(void *)packet;
	struct client *c = find(number);
	int e = -EAGAIN;

	if (!c)
		return;
	*h = (struct local_hdr){
		.version = LOCAL_VERSION, .type = type, .id = id, .err = err, .len = (uint32_t)len};
	if (payload)
		memcpy(h + 1, payload, len);
	if (STAILQ_EMPTY(&c->queue))
		e = pkt_send(c->fd, packet, sizeof(*h) + len, NULL, 0);
	if (e == -EAGAIN)
		enqueue(c, packet, sizeof(*h) + len);
}

void local_answer(uint32_t client, uint32_t id, uint16_t type, const void *payload, size_t len)
{
	send_answer(client, id, type, 0, payload, len);
}

void local_error(uint32_t client, uint32_t id, uint16_t type, int err, const char *text)
{
	char t[LOCAL_TEXT_MAX] = "";

	snprintf(t, sizeof(t), "%s", text);
	send_answer(client, id, type, err, t, sizeof(t));
}

/* -- node queries, from the replica */

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
}

static void tell_nodes(struct client *c, const struct local_hdr *h)
{
	struct local_nodes *a = (void *)(packet + sizeof(struct local_hdr));
	uint32_t id = h->id;
	size_t n = slave.ntable;

	if (n == 0 || slave.node == NODE_NONE)
		return local_error(c->number, id, LOCAL_NODES, ENOTCONN,
				   "bpslave has not reached the master yet");
	if (n > LOCAL_NODES_MAX)
		n = LOCAL_NODES_MAX;
	a->self = slave.node;
	a->count = (uint32_t)n;
	for (size_t i = 0; i < n; i++)
		fill_node(&a->node[i], &slave.table[i]);
	send_answer(c->number, id, LOCAL_NODES, 0, NULL, sizeof(*a) + n * sizeof(a->node[0]));
}

/* -- questions for the master */

static struct ask *new_ask(struct client *c, const struct local_hdr *h)
{
	struct ask *k = NULL;

	if (!master_is_up()) {
		local_error(c->number, h->id, h->type, ENOTCONN, "no link to the master");
		return NULL;
	}
	if (c->asks >= ASKS_MAX || !(k = calloc(1, sizeof(*k)))) {
		local_error(c->number, h->id, h->type, EAGAIN, "too many questions at once");
		return NULL;
	}
	k->req = ++loc.last_req;
	k->client = c->number;
	k->id = h->id;
	k->type = h->type;
	c->asks++;
	LIST_INSERT_HEAD(&loc.asks, k, next);
	return k;
}

static struct ask *take_ask(uint32_t req)
{
	struct client *c;
	struct ask *k;

	LIST_FOREACH(k, &loc.asks, next)
	{
		if (k->req != req)
			continue;
		LIST_REMOVE(k, next);
		c = find(k->client);
		if (c)
			c->asks--;
		return k;
	}
	return NULL;
}

static void ask_pid(struct client *c, const struct local_hdr *h, const struct local_pid *p)
{
	Bproc__PidAsk m = BPROC__PID_ASK__INIT;
	struct ask *k = new_ask(c, h);

	if (!k)
		return;
	m.req = k->req;
	m.pid = p->pid;
	master_send(&m.base);
}

static void ask_procs(struct client *c, const struct local_hdr *h, const struct local_procs_ask *p)
{
	Bproc__ProcsAsk m = BPROC__PROCS_ASK__INIT;
	struct ask *k = new_ask(c, h);

	if (!k)
		return;
	m.req = k->req;
	m.node = p->node == NODE_SELF ? slave.node : p->node;
	m.first = p->first;
	master_send(&m.base);
}

static void ask_setnode(struct client *c, const struct local_hdr *h, struct local_setnode *s,
			uid_t uid)
{
	Bproc__NodeSet m = BPROC__NODE_SET__INIT;
	struct ask *k = new_ask(c, h);

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

/* Who sets a node's state and asks for it then is to see what was set. */
void local_on_table(void)
{
	struct ask *k;

	while ((k = LIST_FIRST(&loc.done))) {
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
	local_on_table();
}

void local_on_answer(const Bproc__Answer *a)
{
	struct ask *k = take_ask(a->req);
	struct local_pidnode pn = {.node = a->node};

	if (!k)
		return;
	if (a->err)
		local_error(k->client, k->id, k->type, (int)a->err, a->text);
	else if (k->type == LOCAL_PIDNODE)
		local_answer(k->client, k->id, k->type, &pn, sizeof(pn));
	else {
		LIST_INSERT_HEAD(&loc.done, k, next);
		return start_timer(loc.settle, SETTLE_MS);
	}
	free(k);
}

void local_on_procs(const Bproc__ProcsTell *t)
{
	struct local_procs *a = (void *)(packet + sizeof(struct local_hdr));
	struct ask *k = take_ask(t->req);
	size_t n = t->n_pid;

	if (!k)
		return;
	if (n > LOCAL_PROCS_PAGE)
		n = LOCAL_PROCS_PAGE;
	a->count = (uint32_t)n;
	for (size_t i = 0; i < n; i++)
		a->proc[i] = (struct local_proc){t->pid[i], i < t->n_node ? t->node[i] : NODE_NONE};
	send_answer(k->client, k->id, k->type, 0, NULL, sizeof(*a) + n * sizeof(a->proc[0]));
	free(k);
}

void local_link_lost(void)
{
	struct client *c;
	struct ask *k;

	while ((k = LIST_FIRST(&loc.asks))) {
		LIST_REMOVE(k, next);
		c = find(k->client);
		if (c)
			c->asks--;
		local_error(k->client, k->id, k->type, ENOTCONN, "the link to the master was lost");
		free(k);
	}
}

/* -- requests */

static void dispatch(struct client *c, struct local_hdr *h, struct sysio_pkt *pkt)
{
	static const char version[] = "bpslave " BPROC_VERSION;
	static const uint16_t sizes[] = {
		[LOCAL_NODES] = 0,
		[LOCAL_PROCS] = sizeof(struct local_procs_ask),
		[LOCAL_PIDNODE] = sizeof(struct local_pid),
		[LOCAL_SETNODE] = sizeof(struct local_setnode),
		[LOCAL_MOVE] = sizeof(struct local_move),
		[LOCAL_VERSION_ASK] = 0,
		[LOCAL_MOVE_CHILD] = sizeof(struct local_pid),
		[LOCAL_STATS] = sizeof(struct local_stats_ask),
	};
	void *body = h + 1;

	if (h->version != LOCAL_VERSION)
		return local_error(c->number, h->id, h->type, EPROTO,
				   "the library is of another version than bpslave");
	if (h->type == 0 || h->type >= sizeof(sizes) / sizeof(sizes[0]) ||
	    h->len != sizes[h->type] || pkt->nfd != (h->type == LOCAL_MOVE))
		return local_error(c->number, h->id, h->type, EPROTO,
				   "not a question of the local protocol");
	switch (h->type) {
	case LOCAL_NODES:
		return tell_nodes(c, h);
	case LOCAL_PROCS:
		return ask_procs(c, h, body);
	case LOCAL_PIDNODE:
		return ask_pid(c, h, body);
	case LOCAL_SETNODE:
		return ask_setnode(c, h, body, pkt->cred.uid);
	case LOCAL_MOVE: {
		/* body is in the buffer that an answer would be written to. */
		struct local_move ask = *(struct local_move *)body;

		return move_ask(c->number, h->id, &ask, pkt->cred.pid, take_fd(pkt->fd[0]));
	}
	case LOCAL_STATS: {
		struct local_stats_ask ask = *(struct local_stats_ask *)body;

		return stats_ask(c->number, h->id, &ask);
	}
	case LOCAL_MOVE_CHILD:
		return move_child(c->number, h->id, ((struct local_pid *)body)->pid);
	default:
		return send_answer(c->number, h->id, LOCAL_VERSION_ASK, 0, version,
				   sizeof(version));
	}
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
	struct client *c = arg;
	struct sysio_pkt pkt;
	struct local_hdr h[1 + sizeof(struct local_setnode)]; /* room, aligned */
	int e = pkt_recv(fd, h, sizeof(h), MSG_DONTWAIT, &pkt);

	(void)what;
	if (e == -EAGAIN)
		return;
	if (e < 0 || pkt.len < sizeof(*h) || h->len != pkt.len - sizeof(*h)) {
		pkt_close(&pkt);
		return drop(c);
	}
	dispatch(c, h, &pkt);
	for (int i = 0; i < pkt.nfd; i++)
		close_fd(pkt.fd[i]);
}

/* -- connections */

static uint32_t of_uid(uid_t uid)
{
	struct client *c;
	uint32_t n = 0;

	for (int i = 0; i < HASH; i++)
		LIST_FOREACH(c, &loc.clients[i], hash)
	n += c->uid == uid;
	return n;
}

static void admit(int fd)
{
	socklen_t len = sizeof(struct ucred);
	struct ucred cred = {0};
	struct client *c;

	/* Who opened it is only who pays for it; who asks is told with each message. */
	getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len);
	if (cred.uid != 0 && loc.nclients > CLIENTS_PER_UID / 2 &&
	    of_uid(cred.uid) >= CLIENTS_PER_UID) {
		close_fd(fd);
		return;
	}
	c = calloc(1, sizeof(*c));
	if (c)
		c->readable = watch_fd(fd, EV_READ, on_readable, c);
	if (!c || !c->readable) {
		free(c);
		close_fd(fd);
		return;
	}
	c->fd = fd;
	c->uid = cred.uid;
	c->number = ++loc.last_client ? loc.last_client : ++loc.last_client;
	STAILQ_INIT(&c->queue);
	LIST_INSERT_HEAD(&loc.clients[c->number % HASH], c, hash);
	/* Room for the next one is made by a drop(). */
	if (++loc.nclients >= CLIENTS_MAX)
		event_del(loc.accept);
}

static void on_accept(evutil_socket_t sock, short what, void *arg)
{
	int fd = accept4(sock, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	(void)what;
	(void)arg;
	if (fd >= 0) {
		admit(fd);
	} else if (errno == EMFILE || errno == ENFILE) {
		log_warn("node.sock: %s; no new askers until one ends", strerror(errno));
		event_del(loc.accept);
	}
}

int local_start(struct bproc_err *err)
{
	char path[256];
	int on = 1;

	snprintf(path, sizeof(path), "%s/" LOCAL_SOCK, run_dir());
	loc.fd = unix_listen(path, 0666);
	if (loc.fd < 0)
		return bproc_err_set(err, -loc.fd, "%s: %s", path, strerror(-loc.fd));
	/* Accepted sockets inherit it: a question sent before accept() has its sender too. */
	setsockopt(loc.fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof(on));
	evutil_make_socket_nonblocking(loc.fd);
	loc.accept = watch_fd(loc.fd, EV_READ, on_accept, NULL);
	loc.settle = new_timer(on_settle, NULL);
	return loc.accept && loc.settle ? 0 : bproc_err_set(err, ENOMEM, "no memory");
}

void local_stop(void)
{
	local_on_table();
	free_event(&loc.settle);
	free_event(&loc.accept);
	for (int i = 0; i < HASH; i++)
		while (!LIST_EMPTY(&loc.clients[i]))
			drop(LIST_FIRST(&loc.clients[i]));
	loc.fd = close_fd(loc.fd);
}
