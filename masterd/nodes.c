/*
 * The life of a node: Hello, Welcome, pings, loss, return, death. The table of
 * states is in node.c; here is what each step does. Runs in bpmaster.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "libbproc/log.h"
#include "libbproc/sysio.h"
#include "master.h"

/*
 * Pings per timeout, and the half timeouts that a lost node is waited for. A
 * slave looks at its clock every quarter timeout: it misses the master at most
 * 1.25 timeouts after the last Ping and fences itself at most 1.05 later. The
 * master declares it dead no sooner than 1 + 1.5 timeouts after the last Pong,
 * which is at most 1/8 older than that Ping: 1/8 + 2.3 < 2.5, never the other way.
 */
#define PINGS 8
#define LOST_HALVES 3

uint64_t now_ms(void)
{
	return (uint64_t)clock_ms();
}

static void welcome(struct master *m, struct node *n)
{
	Bproc__Welcome w = BPROC__WELCOME__INIT;
	int32_t lo, hi;

	node_lease(&m->nodes, n->num, &lo, &hi);
	w.node = n->num;
	w.epoch = m->epoch;
	w.ping_timeout_ms = m->conf.ping_timeout_ms;
	w.image_encryption = m->conf.image_encryption;
	w.event_source = m->conf.event_source;
	w.kill_from_nodes = m->conf.kill_from_nodes;
	w.clock_monotonic_ns = clock_ns(CLOCK_MONOTONIC);
	w.clock_boottime_ns = clock_ns(CLOCK_BOOTTIME);
	w.boot_id = m->boot_id;
	w.lease_lo = lo;
	w.lease_hi = hi;
	w.lease_next = node_lease_next(&m->nodes, n);
	w.fence = n->fence;
	node_send(m, n, &w.base);
	n->fence = false;
	n->told_all++;
	n->missed_ms = 0;
	table_tell(m, n);
}

static void declare_dead(struct master *m, struct node *n)
{
	nodeup_stop(n);
	moves_node(m, n, true);
	procs_node_dead(m, n);
	n->fence = n->init_id[0] != '\0';
	n->synced = n->set_down = false;
}

void nodes_send_fence(struct master *m, struct node *n)
{
	Bproc__Fence f = BPROC__FENCE__INIT;

	node_send(m, n, &f.base);
}

void nodes_fenced(struct peer *p)
{
	struct master *m = p->m;
	struct node *n = p->node;

	if (!n->set_down)
		return;
	node_reason(n, "set down");
	nodes_event(m, n, NE_SET_DOWN);
	peer_refuse(p, NULL, ESHUTDOWN, "node %d was set down", n->num);
}

static void boot(struct master *m, struct node *n)
{
	int r = n->num == NODE_HOME ? 0 : nodeup_start(m, n);

	if (r < 0)
		nodes_event(m, n, NE_SCRIPT_FAIL);
	else if (r == 0)
		nodes_event(m, n, NE_SCRIPT_OK);
}

void nodes_event(struct master *m, struct node *n, enum node_event event)
{
	char was[NODE_STATUS_MAX + 1];
	enum node_action a;

	strcpy(was, n->status);
	a = node_step(n, event);
	if (strcmp(was, n->status) != 0)
		log_info("node %d: %s -> %s", n->num, was, n->status);
	table_changed(m);
	switch (a) {
	case NA_WAIT:
		n->lost_ms = now_ms();
		break;
	case NA_DEAD:
		/* The front end's own processes do not die with its slave: bpinit keeps them. */
		if (n->num != NODE_HOME)
			declare_dead(m, n);
		break;
	case NA_BOOT:
		if (nodefile_restore(n))
			log_info("node %d: %s, as before", n->num, n->status);
		else
			boot(m, n);
		break;
	case NA_REBOOT:
		boot(m, n);
		break;
	case NA_IGNORE:
	case NA_DISPLACE:
	case NA_REFUSE:
	case NA_UP:
	case NA_ERROR:
	case NA_REJOIN:
	case NA_SET:
		break;
	}
}

void nodes_link_lost(struct master *m, struct node *n, const char *reason)
{
	node_reason(n, "link lost: %s", reason);
	nodes_event(m, n, NE_LOST);
}

/* Is this the bpinit whose processes we know? One that names itself not is taken for the same. */
static bool same_init(const struct node *n, const Bproc__Hello *h)
{
	if (n->boot_id[0] && h->boot_id[0] && strcmp(n->boot_id, h->boot_id) != 0)
		return false;
	return strncmp(n->init_id, h->init_id, NODE_ID_MAX - 1) == 0;
}

/* FNV-1a, 64 bits: of names that differ, numbers that differ. */
static uint64_t number_of(const char *id)
{
	uint64_t h = 0xcbf29ce484222325u;

	for (; *id; id++)
		h = (h ^ (unsigned char)*id) * 0x100000001b3u;
	return h;
}

static void know(struct node *n, struct peer *p, const Bproc__Hello *h)
{
	snprintf(n->init_id, sizeof(n->init_id), "%s", h->init_id);
	snprintf(n->boot_id, sizeof(n->boot_id), "%s", h->boot_id);
	n->life = number_of(n->init_id);
	n->addr = ntohl(link_peer(p->link)->sin_addr.s_addr);
	n->data_port = h->data_port;
	n->reason[0] = '\0';
	n->peer = p;
	n->pong_ms = now_ms();
}

void nodes_hello(struct peer *p, const Bproc__Hello *h)
{
	bool same = same_init(p->node, h);
	struct node *n = p->node;
	struct master *m = p->m;
	struct peer *old = n->peer;
	bool known = n->init_id[0] != '\0' || n->state != NS_DOWN;

	/*
	 * The same slave again while its old link looks alive: the old one is dead
	 * and its end has not come through yet. Another slave: it has to wait.
	 */
	if (n->state == NS_CONNECTED && (!same || !h->init_id[0])) {
		p->node = NULL;
		peer_refuse(p, n, EALREADY, "refused: a second slave; node %d is connected from %s",
			    n->num, link_peer_name(old->link));
		return;
	}
	if (old && old != p) {
		old->node = NULL;
		peer_free(old);
	}
	if (!same) {
		n->fence = false; /* what was declared dead went with its bpinit */
		if (known)
			declare_dead(m, n);
		n->fence = false;
	}
	log_info("node %d: connected from %s, bpslave %.24s, Linux %.64s", n->num,
		 link_peer_name(p->link), h->version, h->kernel);
	know(n, p, h);
	nodes_event(m, n, same ? NE_HELLO : NE_HELLO_OTHER);
	welcome(m, n); /* the first message: the event sends nothing by itself */
	if (n->set_down)
		nodes_send_fence(m, n);
	/* Also a node that is new to this master: moves of an older one may wait for it. */
	if (same || !known) {
		moves_node(m, n, false);
		procs_node_back(m, n);
	} else if (n->num == NODE_HOME) {
		procs_node_back(m, n); /* what is real there goes on; this bpinit watches none */
	}
	asks_look(m); /* who waits for it */
}

static void ping_node(struct master *m, struct node *n, uint64_t now)
{
	Bproc__Ping ping = BPROC__PING__INIT;
	uint32_t limit = m->conf.ping_timeout_ms;
	struct peer *p = n->peer;

	if (n->state == NS_UNREACHABLE && now - n->lost_ms >= LOST_HALVES * (uint64_t)limit / 2) {
		node_reason(n, "lost for %u s", LOST_HALVES * limit / 2000);
		nodes_event(m, n, NE_TIMEOUT);
	} else if (n->state == NS_CONNECTED && now - n->pong_ms >= limit) {
		peer_free(p);
		node_reason(n, "link lost: no answer to pings for %u s", limit / 1000);
		nodes_event(m, n, NE_LOST);
	} else if (n->state == NS_CONNECTED) {
		node_send(m, n, &ping.base);
	}
}

static void tick(evutil_socket_t fd, short what, void *arg)
{
	struct master *m = arg;
	uint64_t now = now_ms();
	struct peer *p, *next;

	(void)fd;
	(void)what;
	for (uint32_t i = 0; i < m->nodes.count; i++) {
		ping_node(m, &m->nodes.node[i], now);
		born_tick(m, &m->nodes.node[i], now);
	}
	for (p = m->peers; p; p = next) {
		next = p->next;
		if (!p->node && link_is_up(p->link) && now - p->since_ms >= HELLO_MS)
			peer_drop(p, "%s: no Hello in time", link_peer_name(p->link));
	}
	if (!m->swept && now - m->start_ms >= 5 * (uint64_t)m->conf.ping_timeout_ms / 2 &&
	    resync_is_due(m))
		resync_sweep(m);
	resync_settle(m);
	held_look(m);
}

int nodes_start(struct master *m)
{
	uint32_t ms = m->conf.ping_timeout_ms / PINGS;
	struct timeval tv = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};

	m->ping = event_new(m->base, -1, EV_PERSIST, tick, m);
	if (!m->ping || event_add(m->ping, &tv) < 0)
		return -ENOMEM;
	return 0;
}

void nodes_end(struct master *m)
{
	for (uint32_t i = 0; i < m->nodes.count; i++)
		nodeup_stop(&m->nodes.node[i]);
	while (m->peers)
		peer_free(m->peers);
	if (m->ping)
		event_free(m->ping);
}
