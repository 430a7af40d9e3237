/*
 * node.sock: what any process of this machine may ask (local.h), and the way of the
 * answers. Runs in bpslave. The asker is who the kernel says sent this very message;
 * what it may use up (connections, answers it does not read) is limited.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bpslave.h"
#include "libbproc/log.h"
#include "slaved/bpslave_filter.h"

#define CLIENTS_MAX 8192
#define CLIENTS_PER_UID 4096 /* the library keeps one or two in each process; root: no limit */
#define QUEUE_MAX (1u << 20) /* bytes of answers that a client has not read */
#define AGAIN_MS 100	     /* until accept() is tried again that had no descriptor left */
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

static struct {
	int fd;
	struct event *accept, *again; /* again: when descriptors had run out */
	LIST_HEAD(, client) clients[HASH];
	uint32_t nclients, last_client;
} loc = {.fd = -1};

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

	query_client_gone(c->number);
	while ((a = STAILQ_FIRST(&c->queue))) {
		STAILQ_REMOVE_HEAD(&c->queue, next);
		free(a);
	}
	LIST_REMOVE(c, hash);
	free_event(&c->readable);
	free_event(&c->writable);
	foreign_end(c->fd);
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

static void send_answer(uint32_t number, uint32_t id, uint16_t type, int err, const void *payload,
			size_t len)
{
	static char packet[LOCAL_MSG_MAX] __attribute__((aligned(8)));
	struct local_hdr *h = (struct local_hdr *)(void *)packet;
	struct client *c = find(number);
	int e = -EAGAIN;

	if (!c)
		return;
	*h = (struct local_hdr){
		.version = LOCAL_VERSION, .type = type, .id = id, .err = err, .len = (uint32_t)len};
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

uint32_t *local_asks(uint32_t client)
{
	struct client *c = find(client);

	return c ? &c->asks : NULL;
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
		[LOCAL_LOOK] = sizeof(struct local_look),
		[LOCAL_USED] = sizeof(struct local_pid),
	};
	void *body = h + 1;

	if (h->version != LOCAL_VERSION)
		return local_error(c->number, h->id, h->type, EPROTO,
				   "the library is of another version than bpslave");
	if (h->type == 0 || h->type >= sizeof(sizes) / sizeof(sizes[0]) ||
	    h->len != sizes[h->type] ||
	    pkt->nfd != (h->type == LOCAL_MOVE || h->type == LOCAL_LOOK) ||
	    (h->type == LOCAL_MOVE && !foreign_is_channel(pkt->fd[0])))
		return local_error(c->number, h->id, h->type, EPROTO,
				   "not a question of the local protocol");
	switch (h->type) {
	case LOCAL_NODES:
		return query_nodes(c->number, h);
	case LOCAL_PROCS:
		return query_procs(c->number, h, body);
	case LOCAL_PIDNODE:
		return query_pid(c->number, h, body);
	case LOCAL_USED:
		return query_used(c->number, h, body);
	case LOCAL_SETNODE:
		return query_setnode(c->number, h, body, pkt->cred.uid);
	case LOCAL_MOVE:
		return move_ask(c->number, h->id, body, &pkt->cred, take_fd(pkt->fd[0]));
	case LOCAL_STATS:
		return stats_ask(c->number, h->id, body);
	case LOCAL_LOOK:
		return filters_look(c->number, h->id, body, pkt->cred.uid, pkt->fd[0]);
	case LOCAL_MOVE_CHILD:
		return move_child(c->number, h->id, ((struct local_pid *)body)->pid);
	default:
		return local_answer(c->number, h->id, LOCAL_VERSION_ASK, version, sizeof(version));
	}
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
	struct client *c = arg;
	struct sysio_pkt pkt;
	struct local_hdr h[1 + sizeof(struct local_setnode)]; /* room, aligned */
	int e = foreign_recv(fd, h, sizeof(h), &pkt);

	(void)what;
	if (e == -EAGAIN)
		return;
	if (e < 0 || pkt.len < sizeof(*h) || h->len != pkt.len - sizeof(*h)) {
		foreign_pkt_close(&pkt);
		return drop(c);
	}
	dispatch(c, h, &pkt);
	if (h->type == LOCAL_LOOK && pkt.nfd == 1)
		foreign_close(take_fd(pkt.fd[0]));
	foreign_pkt_close(&pkt);
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
		log_warn("node.sock: %s; no new askers meanwhile", strerror(errno));
		event_del(loc.accept);
		start_timer(loc.again, AGAIN_MS);
	}
}

/* Who has the descriptors that are missing may be none of our clients. */
static void on_again(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	(void)arg;
	if (loc.nclients < CLIENTS_MAX)
		event_add(loc.accept, NULL);
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
	loc.again = new_timer(on_again, NULL);
	if (!loc.accept || !loc.again || query_start() < 0)
		return bproc_err_set(err, ENOMEM, "no memory");
	return 0;
}

void local_stop(void)
{
	char path[256];

	query_stop();
	free_event(&loc.again);
	free_event(&loc.accept);
	for (int i = 0; i < HASH; i++)
		while (!LIST_EMPTY(&loc.clients[i]))
			drop(LIST_FIRST(&loc.clients[i]));
	loc.fd = close_fd(loc.fd);
	/* Whoever asks is told at once that there is none, and does not wait for the next. */
	snprintf(path, sizeof(path), "%s/" LOCAL_SOCK, run_dir());
	unlink(path);
}
