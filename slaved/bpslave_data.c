/*
 * bpslave: the data port. What comes in says with its first byte what it is
 * (doc/streams.md): a peer link, a plain image, whose header begins with
 * DATA_MAGIC, or images inside TLS, one after the other, which a worker takes
 * apart. bpslave_out.c has what goes out.
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
#include "slaved/bpslave_data.h"

#define INCOMING_MAX 1024    /* connections that have not said whose they are, or are TLS */
#define HDR_DEADLINE_MS 5000 /* from the first byte of a header to its last */
#define DATA_ROOM (1 << 20)  /* bytes held for a writer: a small image is written at once */
#define BIND_MS 20
#define BIND_TRIES 50 /* 1 s */
#define CLASS_PEER 0x16	     /* a TLS handshake record: the link's own first byte */
#define CLASS_PLAIN 'B'	     /* first byte of DATA_MAGIC, little endian; part of the header */

/* -- coming in */

struct incoming {
	LIST_ENTRY(incoming) list;
	int fd;			  /* owned */
	struct worker *worker;	  /* it carries images inside TLS */
	struct event *ev, *timer; /* owned */
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
	log_stranger("data connection: no header within %d ms", HDR_DEADLINE_MS);
	incoming_free(arg);
}

/* Which move is it? fd stays the caller's if this fails. */
static int find_move(const unsigned char *raw, int fd, int back)
{
	struct data_hdr hdr;
	int r = data_parse_hdr(raw, sizeof(hdr), &hdr);

	if (r == 0)
		r = move_on_data(&hdr, fd, back);
	if (r < 0)
		log_stranger("data connection refused: %s", strerror(-r));
	return r;
}

/* The header is looked at until it is whole, and only then taken off the socket. */
static void on_header(evutil_socket_t fd, short what, void *arg)
{
	struct incoming *in = arg;
	unsigned char raw[sizeof(struct data_hdr)];
	ssize_t n = recv(fd, raw, sizeof(raw), MSG_PEEK | MSG_DONTWAIT);

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
	/* n <= 0: a warm connection that was never used. */
	if (n > 0 && slave.encrypt) {
		log_stranger("data connection refused: plain, but imageencryption is on");
	} else if (n > 0 && read_full(fd, raw, sizeof(raw)) == 0 && fcntl(fd, F_SETFL, 0) == 0) {
		free_event(&in->ev);
		if (find_move(raw, fd, -1) == 0)
			in->fd = -1;
	}
	incoming_free(in);
}

/* One of the images of a TLS connection has begun; or the connection is over. */
static void on_image(int fd, int back, const unsigned char *hdr, void *arg)
{
	struct incoming *in = arg;

	if (fd < 0) {
		in->worker = NULL;
		incoming_free(in);
		return;
	}
	/* To close it ends the connection, so that the source hears of it. */
	if (!hdr || find_move(hdr, fd, back) < 0) {
		close_fd(fd);
		close_fd(back);
	}
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
		if (in->ev)
			return on_header(fd, EV_READ, in); /* mostly it is there already */
	} else if (n == 1 && class == CLASS_TLS && recv(fd, &class, 1, 0) == 1) {
		in->worker = worker_start(take_fd(in->fd), true, on_image, in);
	} else if (n == 1 && class == CLASS_PEER) {
		peer_accept(take_fd(in->fd));
	} else if (n == 1) {
		log_stranger("data port: first byte 0x%02x is no class of ours", class);
	}
	if (!in->ev && !in->worker)
		incoming_free(in);
}

int data_socket(void)
{
	int fd = tcp_socket(), room = DATA_ROOM;

	if (fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof(room)) < 0)
		setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
	return fd;
}

/*
 * A peer without power sends no reset: what a process or its worker writes to it has to fail in
 * about the time in which the master finds that the node is gone, not in tcp(7)'s 15 minutes.
 */
void data_set_options(int fd)
{
	unsigned int dead_ms = slave.ping_timeout_ms;
	int one = 1;

	int idle_s = (int)(dead_ms / 2000) > 0 ? (int)(dead_ms / 2000) : 1, probe_s = 1;

	setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &dead_ms, sizeof(dead_ms));
	/*
	 * So has what is read from it: a ghost that turns back reads its image and nothing else,
	 * also not that it is to stay one. With probes it is the time above that ends it (tcp(7)).
	 */
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof(idle_s));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &probe_s, sizeof(probe_s));
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
		log_stranger("data port: %d connections wait already, one more is closed",
			     nincoming);
		close_fd(fd);
		return;
	}
	data_set_options(fd);
	in->fd = fd;
	LIST_INSERT_HEAD(&incoming, in, list);
	nincoming++;
	in->timer = new_timer(on_late, in);
	in->ev = watch_fd(fd, EV_READ, on_class, in);
	if (!in->timer || !in->ev)
		incoming_free(in);
}

/*
 * A bpdata that a bpslave before us has spawned as its last act may have the port yet: vfork(2)
 * lets the parent go on before the exec has closed what it is to close (begin_new_exec()).
 */
static int bind_and_listen(int fd, const struct sockaddr_in *a)
{
	for (int tries = BIND_TRIES;; tries--) {
		if (bind(fd, (const struct sockaddr *)a, sizeof(*a)) == 0 && listen(fd, 256) == 0)
			return 0;
		if (errno != EADDRINUSE || tries == 0)
			return -errno;
		usleep(BIND_MS * 1000);
	}
}

int data_start(struct bproc_err *err)
{
	struct sockaddr_in a = {.sin_family = AF_INET,
				.sin_port = htons(slave.opt.data_port),
				.sin_addr = slave.opt.local_addr};
	int one = 1, e;

	listen_fd = data_socket();
	if (listen_fd < 0)
		return bproc_err_set(err, errno, "data port: %s", strerror(errno));
	setsockopt(listen_fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	e = bind_and_listen(listen_fd, &a);
	if (e < 0) {
		listen_fd = close_fd(listen_fd);
		return bproc_err_set(err, -e, "data port %u: %s", slave.opt.data_port,
				     strerror(-e));
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
	out_stop();
}
