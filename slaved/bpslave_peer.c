/*
 * bpslave: links between bpslaves, which carry the forwarded stdio of processes
 * (doc/streams.md). A node keeps one to its processes' home; home only accepts.
 * TLS always, whatever imageencryption says: a password may be typed there.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "libbproc/log.h"
#include "libbproc/wire.h"
#include "slaved/bpslave.h"

#define PEERS_MAX 2048 /* links, those without a name yet included */
#define RETRY_MIN_MS 50
#define RETRY_MAX_MS 2000

struct peer {
	LIST_ENTRY(peer) list;
	struct link *link; /* owned */
	int32_t node;	   /* NODE_NONE until its PeerHello */
	bool full;
};

static LIST_HEAD(, peer) peers = LIST_HEAD_INITIALIZER(peers);
static int npeers;
static struct peer *home;   /* a node's link to home; also in peers */
static struct event *retry; /* owned; when home was lost or is not known yet */
static uint32_t retry_ms = RETRY_MIN_MS;

static void peer_free(struct peer *p)
{
	bool was_up = p->node != NODE_NONE;

	LIST_REMOVE(p, list);
	npeers--;
	if (p == home)
		home = NULL;
	if (was_up)
		stdio_peer_down(p);
	link_free(p->link);
	free(p);
}

static void retry_later(void)
{
	if (slave.opt.front_end || !retry)
		return;
	start_timer(retry, retry_ms);
	retry_ms = retry_ms * 2 > RETRY_MAX_MS ? RETRY_MAX_MS : retry_ms * 2;
}

static void say_hello(struct peer *p)
{
	Bproc__PeerHello h = BPROC__PEER_HELLO__INIT;

	h.protocol = BPROC_PROTOCOL;
	h.node = slave.node;
	link_send(p->link, &h.base);
}

/* The one that connected speaks first; the answer to it is the other's own PeerHello. */
static void on_up(struct link *l, void *arg)
{
	struct peer *p = arg;

	(void)l;
	if (p == home)
		say_hello(p);
}

static void on_hello(struct peer *p, const Bproc__PeerHello *h)
{
	struct peer *old, *next;

	if (h->protocol != BPROC_PROTOCOL || (p == home && h->node != HOME_NODE) ||
	    (p != home && !table_find(h->node))) {
		log_stranger("peer %s: protocol %u, node %d: not a peer of ours",
			     link_peer_name(p->link), h->protocol, h->node);
		peer_free(p);
		retry_later();
		return;
	}
	/* A node that was restarted comes again before the old link is known to be dead. */
	for (old = LIST_FIRST(&peers); old; old = next) {
		next = LIST_NEXT(old, list);
		if (old != p && old->node == h->node)
			peer_free(old);
	}
	if (p != home)
		say_hello(p);
	p->node = h->node;
	retry_ms = RETRY_MIN_MS;
	stdio_peer_up(p);
}

static void on_msg(struct link *l, const Bproc__Envelope *env, void *arg)
{
	struct peer *p = arg;

	switch (env->msg_case) {
	case BPROC__ENVELOPE__MSG_PEER_HELLO:
		if (p->node == NODE_NONE)
			return on_hello(p, env->peer_hello);
		break;
	case BPROC__ENVELOPE__MSG_STREAM_OPEN:
	case BPROC__ENVELOPE__MSG_STREAM_DATA:
	case BPROC__ENVELOPE__MSG_STREAM_CREDIT:
	case BPROC__ENVELOPE__MSG_STREAM_END:
	case BPROC__ENVELOPE__MSG_STREAM_RESET:
		if (p->node != NODE_NONE)
			return stdio_on_msg(p, env);
		break;
	default:
		break;
	}
	log_stranger("peer %s sent %s, which it may not now", link_peer_name(l), wire_name(env));
	peer_free(p);
	retry_later();
}

static void on_drained(struct link *l, void *arg)
{
	struct peer *p = arg;

	(void)l;
	p->full = false;
	if (p->node != NODE_NONE)
		stdio_peer_drained(p);
}

static void on_down(struct link *l, enum link_why why, const char *reason, void *arg)
{
	struct peer *p = arg;
	bool ours = p == home;

	(void)l;
	/* A closed link is how a peer goes; its node's state tells the user. */
	if (why != LINK_CLOSED && why != LINK_IO)
		log_stranger("%s", reason);
	peer_free(p);
	if (ours)
		retry_later();
}

static const struct link_ops ops = {
	.on_up = on_up, .on_msg = on_msg, .on_drained = on_drained, .on_down = on_down};

static struct peer *peer_new(void)
{
	struct peer *p = npeers < PEERS_MAX ? calloc(1, sizeof(*p)) : NULL;

	if (!p)
		return NULL;
	p->node = NODE_NONE;
	LIST_INSERT_HEAD(&peers, p, list);
	npeers++;
	return p;
}

static void connect_home(void)
{
	const struct node_row *row = table_find(HOME_NODE);
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(master_addr())};
	struct sockaddr_in from = {.sin_family = AF_INET, .sin_addr = slave.opt.local_addr};
	struct bproc_err err = {0};

	if (home || slave.opt.front_end || !row || !row->data_port || !master_addr())
		return;
	home = peer_new();
	if (!home)
		return;
	to.sin_port = htons(row->data_port);
	home->link = link_connect(slave.base, slave.ctx, &to, from.sin_addr.s_addr ? &from : NULL,
				  &ops, home, &err);
	if (!home->link) {
		log_warn("peer link to home: %s", err.text);
		peer_free(home);
		retry_later();
	}
}

static void on_retry(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	(void)arg;
	connect_home();
}

void peer_start(void)
{
	retry = new_timer(on_retry, NULL);
}

void peer_stop(void)
{
	free_event(&retry);
	while (!LIST_EMPTY(&peers))
		peer_free(LIST_FIRST(&peers));
}

void peer_accept(int fd)
{
	struct peer *p = peer_new();
	struct bproc_err err = {0};

	if (!p) {
		log_stranger("data port: %d peer links already, one more is closed", npeers);
		close_fd(fd);
		return;
	}
	p->link = link_accept(slave.base, slave.ctx, fd, &ops, p, &err);
	if (!p->link) {
		log_stranger("peer link: %s", err.text);
		peer_free(p);
	}
}

void peer_refresh(void)
{
	connect_home();
}

struct peer *peer_home(void)
{
	return home && home->node != NODE_NONE ? home : NULL;
}

int32_t peer_node(const struct peer *p)
{
	return p->node;
}

static bool sent(struct peer *p, int r)
{
	if (r == LINK_FULL)
		p->full = true;
	return r == 0;
}

bool peer_send(struct peer *p, const void *msg)
{
	return sent(p, link_send(p->link, msg));
}

bool peer_send_later(struct peer *p, const void *msg)
{
	return sent(p, link_send_later(p->link, msg));
}

bool peer_is_full(const struct peer *p)
{
	return p->full;
}
