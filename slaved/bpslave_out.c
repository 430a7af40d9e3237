/*
 * bpslave: connections to the data ports of others. They are kept warm, connected
 * and with their TLS up, before a process needs one, because a handshake costs more
 * than the whole move of a small process. A plain connection carries one image. One
 * with TLS carries one after the other: processes never hold it, but an end of its
 * worker's, a new one for each image.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "libbproc/log.h"
#include "slaved/bpslave.h"
#include "slaved/bpslave_data.h"

#define WARM_PER_NODE 2
#define WARM_NODES_MAX 64 /* nodes for which connections wait; others connect on demand */
#define PER_NODE_MAX 16	  /* connections to one node; who wants one more waits */
#define SPARE_MS 20000	  /* after so long one that is more than WARM_PER_NODE is closed */
#define CONNECT_MS 5000
#define REFILL_MS 10
#define GROW_MS 5     /* a small image is through by then, and a handshake costs as much */
#define WAIT_MS 30000 /* for one of PER_NODE_MAX */

enum out_state {
	OUT_CONNECTING,
	OUT_READY, /* fd: what the next image is written to */
	OUT_BUSY,  /* TLS only: an image is on its way */
};

struct outgoing {
	LIST_ENTRY(outgoing) list;
	int32_t node;
	uint32_t addr;
	uint16_t port;
	uint64_t life; /* of the node; of one that was started anew the connection is dead */
	bool tls;
	enum out_state state;
	int fd;			  /* owned */
	struct worker *worker;	  /* tls, once TCP is up */
	uint64_t move;		  /* of the image that is on its way; 0: not known */
	struct event *ev, *timer; /* owned */
};

/* Who waits for a connection. */
struct waiter {
	TAILQ_ENTRY(waiter) list;
	uint32_t ticket;
	int32_t node;
	bool patient;	     /* for GROW_MS: others of the node are busy, and may be through soon */
	struct event *timer; /* owned */
	void (*taken)(int fd, void *arg);
	void *arg;
};

static LIST_HEAD(, outgoing) outgoing = LIST_HEAD_INITIALIZER(outgoing);
static TAILQ_HEAD(, waiter) waiters = TAILQ_HEAD_INITIALIZER(waiters);
static uint32_t last_ticket;

static void check_waiters(void);

/* -- waiters */

static void waiter_free(struct waiter *w)
{
	TAILQ_REMOVE(&waiters, w, list);
	free_event(&w->timer);
	free(w);
}

static void waiter_tell(struct waiter *w, int fd)
{
	void (*taken)(int, void *) = w->taken;
	void *arg = w->arg;

	waiter_free(w);
	taken(fd, arg);
}

static void on_wait_late(evutil_socket_t fd, short what, void *arg)
{
	struct waiter *w = arg;

	(void)fd;
	(void)what;
	if (!w->patient) {
		waiter_tell(w, -ETIMEDOUT);
		return;
	}
	w->patient = false;
	start_timer(w->timer, WAIT_MS);
	check_waiters();
}

static struct waiter *first_waiter(int32_t node)
{
	struct waiter *w;

	TAILQ_FOREACH(w, &waiters, list)
	if (w->node == node)
		return w;
	return NULL;
}

/* -- connections */

static void outgoing_free(struct outgoing *o)
{
	LIST_REMOVE(o, list);
	if (o->worker)
		worker_end(o->worker);
	free_event(&o->ev);
	free_event(&o->timer);
	close_fd(o->fd);
	free(o);
}

static int count(int32_t node, enum out_state state)
{
	struct outgoing *o;
	int n = 0;

	LIST_FOREACH(o, &outgoing, list)
	n += o->node == node && o->state == state;
	return n;
}

/*
 * It could not be made: so it is for one of those who wait. Or it was lost: another is made, and
 * who has written its image into it, and voted, would not hear that some of it was not sent.
 */
static void outgoing_fail(struct outgoing *o, int err)
{
	struct waiter *w = o->state == OUT_CONNECTING ? first_waiter(o->node) : NULL;
	uint64_t move = o->state == OUT_BUSY ? o->move : 0;

	outgoing_free(o);
	if (move)
		move_image_lost(move);
	if (w)
		waiter_tell(w, err);
	/* Who was patient because of this one has nothing to wait for. */
	TAILQ_FOREACH(w, &waiters, list)
	if (w->patient && !count(w->node, OUT_BUSY)) {
		w->patient = false;
		start_timer(w->timer, WAIT_MS);
	}
	check_waiters();
}

/* Something came back on a plain connection that only we write to: the far end is gone. */
static void on_stale(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	outgoing_free(arg);
}

static int count_all(int32_t node)
{
	return count(node, OUT_CONNECTING) + count(node, OUT_READY) + count(node, OUT_BUSY);
}

static void on_spare(evutil_socket_t fd, short what, void *arg)
{
	struct outgoing *o = arg;

	(void)fd;
	(void)what;
	if (o->state == OUT_READY && count_all(o->node) > WARM_PER_NODE)
		outgoing_free(o);
}

static struct outgoing *last_out; /* TLS: handed out last; NULL: plain. Valid while it is told */

/* What one image is written to; the connection is o's no more, or busy. */
static int outgoing_use(struct outgoing *o)
{
	int fd = take_fd(o->fd);

	last_out = o->tls ? o : NULL;
	free_event(&o->ev);
	free_event(&o->timer);
	o->state = OUT_BUSY;
	o->move = 0;
	if (!o->tls)
		outgoing_free(o);
	return fd;
}

static void outgoing_ready(struct outgoing *o)
{
	struct waiter *w = first_waiter(o->node);

	free_event(&o->ev);
	free_event(&o->timer);
	o->state = OUT_READY;
	if (w) {
		waiter_tell(w, outgoing_use(o));
		return;
	}
	if (o->tls)
		o->timer = new_timer(on_spare, o);
	else
		o->ev = watch_fd(o->fd, EV_READ, on_stale, o);
	if (!o->ev && !o->timer)
		outgoing_free(o);
	else if (o->timer)
		start_timer(o->timer, SPARE_MS);
}

/* The worker of a TLS connection: an end for the next image, or there is no connection. */
static void on_worker(int fd, int back, const unsigned char *hdr, void *arg)
{
	struct outgoing *o = arg;

	(void)hdr;
	close_fd(back);
	if (fd < 0) {
		o->worker = NULL;
		outgoing_fail(o, fd);
		return;
	}
	close_fd(o->fd);
	o->fd = fd;
	outgoing_ready(o);
}

static void on_connected(evutil_socket_t fd, short what, void *arg)
{
	struct outgoing *o = arg;
	socklen_t len = sizeof(int);
	char class = CLASS_TLS;
	int e = ETIMEDOUT;

	if (what & EV_WRITE && getsockopt(fd, SOL_SOCKET, SO_ERROR, &e, &len) < 0)
		e = errno;
	if (e) {
		outgoing_fail(o, -e);
		return;
	}
	free_event(&o->ev);
	data_set_options(fd);
	if (!o->tls) {
		if (fcntl(fd, F_SETFL, 0) < 0)
			outgoing_fail(o, -errno);
		else
			outgoing_ready(o);
		return;
	}
	/* The handshake has a deadline of its own, the worker's. */
	free_event(&o->timer);
	if (send(fd, &class, 1, MSG_NOSIGNAL) != 1) {
		outgoing_fail(o, -ECONNRESET);
		return;
	}
	o->worker = worker_start(take_fd(o->fd), false, on_worker, o);
	if (!o->worker)
		outgoing_fail(o, -EAGAIN);
}

static void on_connect_late(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	outgoing_fail(arg, -ETIMEDOUT);
}

/* The master sees its own machine's slave at a loopback address; nodes do not. */
static uint32_t addr_of(const struct node_row *row)
{
	return row->node == NODE_MASTER ? master_addr() : row->addr;
}

/* NULL with errno; otherwise the rest comes by events. */
static struct outgoing *outgoing_new(const struct node_row *row)
{
	struct sockaddr_in to = {.sin_family = AF_INET,
				 .sin_port = htons(row->data_port),
				 .sin_addr.s_addr = htonl(addr_of(row))};
	struct sockaddr_in from = {.sin_family = AF_INET, .sin_addr = slave.opt.local_addr};
	struct outgoing *o = calloc(1, sizeof(*o));

	if (!o)
		return NULL;
	*o = (struct outgoing){.node = row->node,
			       .addr = addr_of(row),
			       .port = row->data_port,
			       .life = row->life,
			       .tls = slave.encrypt};
	LIST_INSERT_HEAD(&outgoing, o, list);
	o->fd = data_socket();
	o->timer = new_timer(on_connect_late, o);
	if (o->fd < 0 || !o->timer ||
	    (from.sin_addr.s_addr && bind(o->fd, (struct sockaddr *)&from, sizeof(from)) < 0) ||
	    (connect(o->fd, (struct sockaddr *)&to, sizeof(to)) < 0 && errno != EINPROGRESS))
		goto fail;
	start_timer(o->timer, CONNECT_MS);
	o->ev = watch_fd(o->fd, EV_WRITE, on_connected, o);
	if (o->ev)
		return o;
fail:
	outgoing_free(o);
	return NULL;
}

/* -- what is kept */

static bool fits(const struct outgoing *o, const struct node_row *row)
{
	return o->node == row->node && o->addr == addr_of(row) && o->port == row->data_port &&
	       o->life == row->life && o->tls == slave.encrypt;
}

static bool worth_warming(const struct node_row *row)
{
	return row->node != slave.node && addr_of(row) && row->data_port &&
	       strcmp(row->status, "up") == 0;
}

static void keep_warm(const struct node_row *row)
{
	int n = count_all(row->node);

	while (n++ < WARM_PER_NODE)
		if (!outgoing_new(row))
			break;
}

void data_refresh(void)
{
	struct outgoing *o, *next;
	size_t i, nodes = 0;

	for (o = LIST_FIRST(&outgoing); o; o = next) {
		const struct node_row *row = table_find(o->node);

		next = LIST_NEXT(o, list);
		/* One on its way, for somebody who waits, fails by itself if it has to. */
		if (!row || !fits(o, row) || (!worth_warming(row) && o->state == OUT_READY))
			outgoing_free(o);
	}
	/* Images leave from home, mostly; a node connects when it is first asked to. */
	for (i = 0; slave.opt.front_end && i < slave.ntable && nodes < WARM_NODES_MAX; i++)
		if (worth_warming(&slave.table[i])) {
			keep_warm(&slave.table[i]);
			nodes++;
		}
	check_waiters();
}

void data_warm(int32_t node)
{
	const struct node_row *row = table_find(node);

	if (row && worth_warming(row))
		keep_warm(row);
}

static int32_t refill_due = NODE_NONE; /* of whom the timer is on, the last */

static void on_refill(evutil_socket_t fd, short what, void *arg)
{
	int32_t node = (int32_t)(intptr_t)arg;

	(void)fd;
	(void)what;
	if (node == refill_due)
		refill_due = NODE_NONE;
	data_warm(node);
}

/* -- taking one */

/* One is on its way for each who waits, up to the limit. -errno: nothing will ever come. */
static int connect_for_waiters(int32_t node)
{
	const struct node_row *row = table_find(node);
	int n = count(node, OUT_CONNECTING);
	struct waiter *w;

	if (!row || !addr_of(row))
		return row ? -EHOSTUNREACH : -ENOENT;
	TAILQ_FOREACH(w, &waiters, list)
	n -= w->node == node && !w->patient;
	for (; n < 0 && count_all(node) < PER_NODE_MAX; n++)
		if (!outgoing_new(row))
			return count_all(node) ? 0 : -EHOSTUNREACH;
	return 0;
}

static void check_waiters(void)
{
	struct waiter *w, *next;
	int r;

	for (w = TAILQ_FIRST(&waiters); w; w = next) {
		next = TAILQ_NEXT(w, list);
		r = connect_for_waiters(w->node);
		if (r < 0) {
			waiter_tell(w, r);
			next = TAILQ_FIRST(&waiters); /* who was told may have ended others */
		}
	}
}

/* Who took it makes up for it when its move is over (data_warm()), or this, if that takes long. */
static void warm_soon(int32_t node)
{
	static const struct timeval soon = {.tv_usec = REFILL_MS * 1000};

	if (node == refill_due || count_all(node) >= WARM_PER_NODE)
		return;
	if (event_base_once(slave.base, -1, EV_TIMEOUT, on_refill, (void *)(intptr_t)node, &soon) ==
	    0)
		refill_due = node;
}

uint32_t data_take(int32_t node, void (*taken)(int fd, void *arg), void *arg)
{
	struct outgoing *o;
	struct waiter *w;
	int r;

	if (++last_ticket == 0)
		last_ticket = 1;
	LIST_FOREACH(o, &outgoing, list)
	if (o->node == node && o->state == OUT_READY)
		break;
	if (o) {
		taken(outgoing_use(o), arg);
		warm_soon(node);
		return last_ticket;
	}
	w = calloc(1, sizeof(*w));
	if (w)
		w->timer = new_timer(on_wait_late, w);
	if (!w || !w->timer) {
		free(w);
		taken(-ENOMEM, arg);
		return last_ticket;
	}
	w->ticket = last_ticket;
	w->node = node;
	w->taken = taken;
	w->arg = arg;
	w->patient = count(node, OUT_BUSY) > 0;
	start_timer(w->timer, w->patient ? GROW_MS : WAIT_MS);
	TAILQ_INSERT_TAIL(&waiters, w, list);
	r = connect_for_waiters(node);
	if (r < 0)
		waiter_tell(w, r);
	return last_ticket;
}

void data_carries(uint64_t move)
{
	if (last_out)
		last_out->move = move;
}

int data_back(void)
{
	int fd[2];

	if (!last_out)
		return -1;
	if (pipe2(fd, O_CLOEXEC) < 0)
		return -errno;
	if (worker_back(last_out->worker, fd[1]) < 0)
		fd[0] = close_fd(fd[0]);
	close_fd(fd[1]);
	return fd[0] < 0 ? -EPIPE : fd[0];
}

void data_cancel(uint32_t ticket)
{
	struct waiter *w;

	TAILQ_FOREACH(w, &waiters, list)
	if (ticket && w->ticket == ticket) {
		waiter_free(w);
		return;
	}
}

void out_stop(void)
{
	while (!LIST_EMPTY(&outgoing))
		outgoing_free(LIST_FIRST(&outgoing));
	while (!TAILQ_EMPTY(&waiters))
		waiter_free(TAILQ_FIRST(&waiters));
}
