/*
 * bpslave: the data port. What comes in says with its first byte what it is
 * (doc/streams.md): a peer link, an image inside TLS, or a plain image, whose
 * header begins with DATA_MAGIC. What goes out is kept warm: connected, and with
 * its TLS up, before a process needs it, because a handshake costs more than the
 * whole move of a small process.
 */
#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "libbproc/log.h"
#include "slaved/bpslave.h"

#define WARM_PER_NODE 2
#define WARM_NODES_MAX 64    /* nodes for which connections wait; others connect on demand */
#define INCOMING_MAX 1024    /* connections that have not said whose they are */
#define HDR_DEADLINE_MS 5000 /* from the first byte of a header to its last */
#define CONNECT_MS 5000
#define CLASS_PEER 0x16 /* a TLS handshake record: the link's own first byte */
#define CLASS_TLS 'T'
#define CLASS_PLAIN 'B' /* first byte of DATA_MAGIC, little endian; part of the header */

/* -- coming in */

struct incoming {
	LIST_ENTRY(incoming) list;
	int fd;			  /* owned */
	struct worker *worker;	  /* its handshake is under way */
	struct event *ev, *timer; /* owned */
	bool tls;		  /* fd is the plain end of a worker */
};

static LIST_HEAD(, incoming) incoming = LIST_HEAD_INITIALIZER(incoming);
static int nincoming, listen_fd = -1;
static struct event *listen_ev;

static void incoming_free(struct incoming *in)
{
	LIST_REMOVE(in, list);
	nincoming--;
	if (in->worker)
		worker_end(in->worker);
	free_event(&in->ev);
	free_event(&in->timer);
	close_fd(in->fd);
	free(in);
}

static void on_late(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	log_warn("data connection: no header within %d ms", HDR_DEADLINE_MS);
	incoming_free(arg);
}

/* The header is looked at until it is whole, and only then taken off the socket. */
static void on_header(evutil_socket_t fd, short what, void *arg)
{
	struct incoming *in = arg;
	unsigned char raw[sizeof(struct data_hdr)];
	struct data_hdr hdr;
	ssize_t n = recv(fd, raw, sizeof(raw), MSG_PEEK | MSG_DONTWAIT);
	int r;

	(void)what;
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n > 0 && n < (ssize_t)sizeof(raw)) {
		/* Rare: a header is one write. Looking again at once is a spin the deadline ends.
		 */
		if (!event_pending(in->timer, EV_TIMEOUT, NULL))
			start_timer(in->timer, HDR_DEADLINE_MS);
		return;
	}
	if (n <= 0) {
		incoming_free(in); /* a warm connection that was never used */
		return;
	}
	r = read_full(fd, raw, sizeof(raw));
	if (r == 0)
		r = data_parse_hdr(raw, sizeof(raw), &hdr);
	if (r == 0 && !in->tls && slave.encrypt)
		r = -EPROTO;
	if (r == 0) {
		free_event(&in->ev);
		r = fcntl(fd, F_SETFL, 0) < 0 ? -errno : move_on_data(&hdr, fd);
		if (r == 0)
			in->fd = -1;
	}
	if (r < 0)
		log_warn("data connection refused: %s",
			 r == -EPROTO ? "plain, but imageencryption is on" : strerror(-r));
	incoming_free(in);
}

static void on_tls_up(int fd, void *arg)
{
	struct incoming *in = arg;

	in->worker = NULL;
	in->tls = true;
	in->fd = fd < 0 ? -1 : fd;
	if (fd >= 0)
		in->ev = watch_fd(fd, EV_READ, on_header, in);
	if (!in->ev)
		incoming_free(in);
}

static void on_class(evutil_socket_t fd, short what, void *arg)
{
	struct incoming *in = arg;
	unsigned char class;
	ssize_t n = recv(fd, &class, 1, MSG_PEEK | MSG_DONTWAIT);

	(void)what;
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	free_event(&in->ev);
	if (n == 1 && class == CLASS_PLAIN) {
		in->ev = watch_fd(fd, EV_READ, on_header, in);
	} else if (n == 1 && class == CLASS_TLS && recv(fd, &class, 1, 0) == 1) {
		in->worker = worker_start(take_fd(in->fd), true, on_tls_up, in);
	} else if (n == 1 && class == CLASS_PEER) {
		peer_accept(take_fd(in->fd));
	} else if (n == 1) {
		log_warn("data port: first byte 0x%02x is no class of ours", class);
	}
	if (!in->ev && !in->worker)
		incoming_free(in);
}

/*
 * A peer without power sends no reset: what a process or its worker writes to it has to fail in
 * about the time in which the master finds that the node is gone, not in tcp(7)'s 15 minutes.
 */
static void set_options(int fd)
{
	unsigned int dead_ms = slave.ping_timeout_ms;
	int one = 1;

	setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &dead_ms, sizeof(dead_ms));

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
}

static void on_accept(evutil_socket_t lfd, short what, void *arg)
{
	struct incoming *in;
	int fd = accept4(lfd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	(void)what;
	(void)arg;
	if (fd < 0)
		return;
	in = nincoming < INCOMING_MAX ? calloc(1, sizeof(*in)) : NULL;
	if (!in) {
		log_warn("data port: %d connections wait already, one more is closed", nincoming);
		close_fd(fd);
		return;
	}
	set_options(fd);
	in->fd = fd;
	LIST_INSERT_HEAD(&incoming, in, list);
	nincoming++;
	in->timer = new_timer(on_late, in);
	in->ev = watch_fd(fd, EV_READ, on_class, in);
	if (!in->timer || !in->ev)
		incoming_free(in);
}

/* -- going out */

/* One connection on its way, warm, or waited for. */
struct outgoing {
	LIST_ENTRY(outgoing) list;
	uint32_t ticket; /* of the taker; 0: nobody's, it is warm or will be */
	int32_t node;
	uint32_t addr;
	uint16_t port;
	int fd; /* owned */
	bool ready, tls;
	struct worker *worker;	  /* its handshake is under way */
	struct event *ev, *timer; /* owned */
	void (*taken)(int fd, void *arg);
	void *arg;
};

static LIST_HEAD(, outgoing) outgoing = LIST_HEAD_INITIALIZER(outgoing);
static uint32_t last_ticket;

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

static void outgoing_fail(struct outgoing *o, int err)
{
	void (*taken)(int, void *) = o->ticket ? o->taken : NULL;
	void *arg = o->arg;

	outgoing_free(o);
	if (taken)
		taken(err, arg);
}

/* Something came back on a connection that only we write to: the far end is gone. */
static void on_stale(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	outgoing_free(arg);
}

static void outgoing_ready(struct outgoing *o)
{
	free_event(&o->ev);
	free_event(&o->timer);
	o->ready = true;
	if (o->ticket) {
		int fd = take_fd(o->fd);
		void (*taken)(int, void *) = o->taken;
		void *arg = o->arg;

		outgoing_free(o);
		taken(fd, arg);
		return;
	}
	o->ev = watch_fd(o->fd, EV_READ, on_stale, o);
	if (!o->ev)
		outgoing_free(o);
}

static void on_out_tls(int fd, void *arg)
{
	struct outgoing *o = arg;

	o->worker = NULL;
	if (fd < 0) {
		outgoing_fail(o, fd);
		return;
	}
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
	set_options(fd);
	if (!o->tls) {
		if (fcntl(fd, F_SETFL, 0) < 0)
			outgoing_fail(o, -errno);
		else
			outgoing_ready(o);
		return;
	}
	if (send(fd, &class, 1, MSG_NOSIGNAL) != 1) {
		outgoing_fail(o, -ECONNRESET);
		return;
	}
	o->worker = worker_start(take_fd(o->fd), false, on_out_tls, o);
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
			       .tls = slave.encrypt};
	LIST_INSERT_HEAD(&outgoing, o, list);
	o->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
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

static bool serves(const struct outgoing *o, const struct node_row *row)
{
	return !o->ticket && o->node == row->node && o->addr == addr_of(row) &&
	       o->port == row->data_port && o->tls == slave.encrypt;
}

static bool worth_warming(const struct node_row *row)
{
	return row->node != slave.node && addr_of(row) && row->data_port &&
	       strcmp(row->status, "up") == 0;
}

static void keep_warm(const struct node_row *row)
{
	struct outgoing *o;
	int n = 0;

	LIST_FOREACH(o, &outgoing, list)
	n += serves(o, row);
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
		if (!o->ticket && (!row || !serves(o, row) || !worth_warming(row)))
			outgoing_free(o);
	}
	/* Images leave from home, mostly; a node connects when it is first asked to. */
	for (i = 0; slave.opt.front_end && i < slave.ntable && nodes < WARM_NODES_MAX; i++)
		if (worth_warming(&slave.table[i])) {
			keep_warm(&slave.table[i]);
			nodes++;
		}
}

static struct outgoing *find_warm(const struct node_row *row)
{
	struct outgoing *o, *best = NULL;

	LIST_FOREACH(o, &outgoing, list)
	if (serves(o, row) && (!best || o->ready))
		best = o;
	return best;
}

/* New connections are made when the mover has its own: off its path. */
static void on_refill(evutil_socket_t fd, short what, void *arg)
{
	const struct node_row *row = table_find((int32_t)(intptr_t)arg);

	(void)fd;
	(void)what;
	if (row && worth_warming(row))
		keep_warm(row);
}

uint32_t data_take(int32_t node, void (*taken)(int fd, void *arg), void *arg)
{
	static const struct timeval soon = {.tv_usec = 2000};
	const struct node_row *row = table_find(node);
	struct outgoing *o = NULL;

	if (++last_ticket == 0)
		last_ticket = 1;
	if (row && addr_of(row))
		o = find_warm(row) ?: outgoing_new(row);
	if (!o) {
		taken(row ? -EHOSTUNREACH : -ENOENT, arg);
		return last_ticket;
	}
	event_base_once(slave.base, -1, EV_TIMEOUT, on_refill, (void *)(intptr_t)node, &soon);
	o->ticket = last_ticket;
	o->taken = taken;
	o->arg = arg;
	if (o->ready)
		outgoing_ready(o);
	return last_ticket;
}

void data_cancel(uint32_t ticket)
{
	struct outgoing *o;

	LIST_FOREACH(o, &outgoing, list)
	if (ticket && o->ticket == ticket) {
		outgoing_free(o);
		return;
	}
}

int data_start(struct bproc_err *err)
{
	struct sockaddr_in a = {.sin_family = AF_INET,
				.sin_port = htons(slave.opt.data_port),
				.sin_addr = slave.opt.local_addr};
	int one = 1;

	listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (listen_fd < 0)
		return bproc_err_set(err, errno, "data port: %s", strerror(errno));
	setsockopt(listen_fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(listen_fd, (struct sockaddr *)&a, sizeof(a)) < 0 || listen(listen_fd, 256) < 0) {
		int e = errno;

		listen_fd = close_fd(listen_fd);
		return bproc_err_set(err, e, "data port %u: %s", slave.opt.data_port, strerror(e));
	}
	listen_ev = watch_fd(listen_fd, EV_READ, on_accept, NULL);
	return listen_ev ? 0 : bproc_err_set(err, ENOMEM, "data port: no memory");
}

void data_stop(void)
{
	free_event(&listen_ev);
	listen_fd = close_fd(listen_fd);
	while (!LIST_EMPTY(&incoming))
		incoming_free(LIST_FIRST(&incoming));
	while (!LIST_EMPTY(&outgoing))
		outgoing_free(LIST_FIRST(&outgoing));
}
