/*
 * Links (link.h): frames over TLS over TCP, on libevent's bufferevent_openssl.
 * Ours is the frame, the marks, and who may be freed when. Runs in bpmaster and
 * bpslave; doc/wire.md section 1.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <unistd.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/bufferevent_ssl.h>
#include <openssl/err.h>

#include "link.h"
#include "link_own.h"
#include "sysio.h"
#include "wire.h"

#define FINISH_MS 2000

static void enter(struct link *l)
{
	l->depth++;
}

static void leave(struct link *l)
{
	if (--l->depth == 0 && l->dead)
		free(l);
}

void link_free(struct link *l)
{
	if (!l || l->dead)
		return;
	l->state = DOWN;
	if (l->bev) {
		bufferevent_setcb(l->bev, NULL, NULL, NULL, NULL);
		bufferevent_free(l->bev);
		l->bev = NULL;
	}
	if (l->connect)
		event_free(l->connect);
	if (l->timer)
		event_free(l->timer);
	if (l->later.timer)
		event_free(l->later.timer);
	close_fdp(&l->fd);
	SSL_CTX_free(l->ctx);
	l->dead = true;
	if (l->depth == 0)
		free(l);
}

static void down(struct link *l, enum link_why why, const char *reason)
{
	enum link_state old = l->state;
	char text[BPROC_ERR_TEXT];

	if (old == DOWN)
		return;
	l->state = DOWN;
	event_del(l->timer);
	event_del(l->later.timer);
	if (l->bev)
		bufferevent_disable(l->bev, EV_READ | EV_WRITE);
	if (old == FINISHING) {
		link_free(l);
		return;
	}
	snprintf(text, sizeof(text), "%s: %s", l->name, reason);
	enter(l);
	l->ops->on_down(l, why, text, l->arg);
	leave(l);
}

/* One frame out of the buffer. 1: done; 0: not all of it is there; -errno. */
static int take_frame(struct link *l, struct evbuffer *in)
{
	unsigned char hdr[WIRE_HDR], *p;
	Bproc__Envelope *env;
	uint32_t len;
	int r;

	if (evbuffer_copyout(in, hdr, sizeof(hdr)) < (ssize_t)sizeof(hdr)) {
		bufferevent_setwatermark(l->bev, EV_READ, sizeof(hdr), 0);
		return 0;
	}
	r = wire_get_length(hdr, &len);
	if (r < 0)
		return r;
	if (evbuffer_get_length(in) < len + sizeof(hdr)) {
		bufferevent_setwatermark(l->bev, EV_READ, len + sizeof(hdr), 0);
		return 0;
	}
	p = evbuffer_pullup(in, (ev_ssize_t)(len + sizeof(hdr)));
	if (!p)
		return -ENOMEM;
	r = wire_get_envelope(p + sizeof(hdr), len, &env);
	evbuffer_drain(in, len + sizeof(hdr));
	if (r < 0)
		return r;
	l->ops->on_msg(l, env, l->arg);
	bproc__envelope__free_unpacked(env, NULL);
	return 1;
}

static void readable(struct bufferevent *bev, void *arg)
{
	struct evbuffer *in = bufferevent_get_input(bev);
	struct link *l = arg;
	int r = 1;

	if (l->state == FINISHING) {
		evbuffer_drain(in, evbuffer_get_length(in));
		return;
	}
	enter(l);
	while (r > 0 && l->state == UP)
		r = take_frame(l, in);
	if (r == -EMSGSIZE)
		down(l, LINK_PROTOCOL, "a frame over 1 MiB");
	else if (r < 0)
		down(l, LINK_PROTOCOL, "a frame that is no message of this protocol");
	leave(l);
}

static void writable(struct bufferevent *bev, void *arg)
{
	struct link *l = arg;
	size_t left = evbuffer_get_length(bufferevent_get_output(bev));

	if (l->state == FINISHING && left == 0) {
		/*
		 * Our half is closed first: closing with bytes unread would send a
		 * reset, and a reset takes the last word out of the peer's buffer.
		 */
		shutdown(bufferevent_getfd(bev), SHUT_WR);
	} else if (l->state == UP && l->full && left <= LINK_LOW) {
		l->full = false;
		enter(l);
		if (l->ops->on_drained)
			l->ops->on_drained(l, l->arg);
		leave(l);
	}
}

/* Within event_happened, which keeps l alive. */
static void went_up(struct link *l)
{
	event_del(l->timer);
	l->state = UP;
	l->ops->on_up(l, l->arg);
}

static void failed(struct link *l, short what, int err)
{
	unsigned long ssl_err = bufferevent_get_openssl_error(l->bev);
	const char *text;
	enum link_why why;

	if (ssl_err != 0)
		why = link_tls_why(ssl_err, &text);
	else if (what & BEV_EVENT_EOF || err == 0)
		why = link_tls_why(0, &text);
	else
		why = LINK_IO, text = strerror(err);
	if (l->state == HANDSHAKE && why == LINK_CLOSED)
		text = "connection closed before TLS was up";
	down(l, why, text);
}

static void event_happened(struct bufferevent *bev, short what, void *arg)
{
	int err = EVUTIL_SOCKET_ERROR();
	struct link *l = arg;

	(void)bev;
	enter(l);
	if (what & BEV_EVENT_CONNECTED) {
		if (l->state == HANDSHAKE)
			went_up(l);
	} else if (what & (BEV_EVENT_EOF | BEV_EVENT_ERROR)) {
		/* Whole frames that came before the end count. */
		if (l->state == UP)
			readable(bev, l);
		if (l->bev)
			failed(l, what, err);
	}
	leave(l);
}

static int start_tls(struct link *l)
{
	SSL *ssl = SSL_new(l->ctx);
	int on = 1;

	if (!ssl)
		return -ENOMEM;
	setsockopt(l->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	l->bev = bufferevent_openssl_socket_new(l->base, l->fd, ssl,
						l->server ? BUFFEREVENT_SSL_ACCEPTING
							  : BUFFEREVENT_SSL_CONNECTING,
						BEV_OPT_CLOSE_ON_FREE);
	if (!l->bev) {
		SSL_free(ssl);
		return -ENOMEM;
	}
	l->fd = -1;
	/* A peer that was killed sends no close_notify; frames tell what is whole. */
	bufferevent_openssl_set_allow_dirty_shutdown(l->bev, 1);
	bufferevent_setcb(l->bev, readable, writable, event_happened, l);
	bufferevent_setwatermark(l->bev, EV_WRITE, LINK_LOW, 0);
	bufferevent_enable(l->bev, EV_READ | EV_WRITE);
	l->state = HANDSHAKE;
	return 0;
}

static void connected(evutil_socket_t fd, short what, void *arg)
{
	socklen_t len = sizeof(int);
	struct link *l = arg;
	int err = 0;

	(void)what;
	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len) < 0)
		err = errno;
	enter(l);
	if (err == 0)
		err = -start_tls(l);
	if (err != 0)
		down(l, LINK_IO, strerror(err));
	leave(l);
}

static void timed_out(evutil_socket_t fd, short what, void *arg)
{
	struct link *l = arg;

	(void)fd;
	(void)what;
	if (l->doomed)
		down(l, LINK_IO, "the peer does not read: 64 MiB are waiting");
	else
		down(l, LINK_TIMEOUT,
		     l->state == CONNECTING ? "no connection in time" : "no TLS in time");
}

static struct link *new_link(struct event_base *base, SSL_CTX *ctx, const struct sockaddr_in *peer,
			     const struct link_ops *ops, void *arg)
{
	char ip[INET_ADDRSTRLEN] = "?";
	struct link *l = calloc(1, sizeof(*l));

	if (!l)
		return NULL;
	l->fd = -1;
	l->base = base;
	l->ops = ops;
	l->arg = arg;
	l->peer = *peer;
	inet_ntop(AF_INET, &peer->sin_addr, ip, sizeof(ip));
	snprintf(l->name, sizeof(l->name), "%s:%u", ip, ntohs(peer->sin_port));
	SSL_CTX_up_ref(ctx);
	l->ctx = ctx;
	l->timer = evtimer_new(base, timed_out, l);
	l->later.timer = evtimer_new(base, link_later_due, l);
	if (!l->timer || !l->later.timer) {
		link_free(l);
		return NULL;
	}
	link_set_timer(l, LINK_HANDSHAKE_MS);
	return l;
}

struct link *link_connect(struct event_base *base, SSL_CTX *ctx, const struct sockaddr_in *to,
			  const struct sockaddr_in *bind_addr, const struct link_ops *ops,
			  void *arg, struct bproc_err *err)
{
	struct link *l = new_link(base, ctx, to, ops, arg);

	if (!l) {
		bproc_err_set(err, ENOMEM, "link: no memory");
		return NULL;
	}
	l->fd = tcp_socket();
	if (l->fd < 0 || (bind_addr && bind(l->fd, (const struct sockaddr *)bind_addr,
					    sizeof(*bind_addr)) < 0)) {
		bproc_err_set(err, errno, "link to %s: %s", l->name, strerror(errno));
		link_free(l);
		return NULL;
	}
	/* A refusal at once is told like a late one: from the loop, by SO_ERROR. */
	if (connect(l->fd, (const struct sockaddr *)to, sizeof(*to)) < 0 && errno != EINPROGRESS &&
	    errno != ECONNREFUSED) {
		bproc_err_set(err, errno, "link to %s: %s", l->name, strerror(errno));
		link_free(l);
		return NULL;
	}
	l->connect = event_new(base, l->fd, EV_WRITE, connected, l);
	if (!l->connect || event_add(l->connect, NULL) < 0) {
		bproc_err_set(err, ENOMEM, "link to %s: no memory", l->name);
		link_free(l);
		return NULL;
	}
	return l;
}

struct link *link_accept(struct event_base *base, SSL_CTX *ctx, int fd, const struct link_ops *ops,
			 void *arg, struct bproc_err *err)
{
	struct sockaddr_in peer = {0};
	socklen_t len = sizeof(peer);
	struct link *l;

	if (getpeername(fd, (struct sockaddr *)&peer, &len) < 0) {
		bproc_err_set(err, errno, "link: %s", strerror(errno));
		close_fd(fd);
		return NULL;
	}
	evutil_make_socket_nonblocking(fd);
	l = new_link(base, ctx, &peer, ops, arg);
	if (!l) {
		bproc_err_set(err, ENOMEM, "link: no memory");
		close_fd(fd);
		return NULL;
	}
	l->fd = fd;
	l->server = true;
	if (start_tls(l) < 0) {
		bproc_err_set(err, ENOMEM, "link from %s: no memory", l->name);
		link_free(l);
		return NULL;
	}
	return l;
}

void link_finish(struct link *l)
{
	if (!l || l->dead)
		return;
	if (l->state != UP) {
		link_free(l);
		return;
	}
	link_later_flush(l);
	l->state = FINISHING;
	bufferevent_setwatermark(l->bev, EV_READ, 0, 0);
	bufferevent_setwatermark(l->bev, EV_WRITE, 0, 0);
	bufferevent_enable(l->bev, EV_READ | EV_WRITE);
	link_set_timer(l, FINISH_MS);
	if (evbuffer_get_length(bufferevent_get_output(l->bev)) == 0)
		shutdown(bufferevent_getfd(l->bev), SHUT_WR);
}

bool link_is_up(const struct link *l)
{
	return l->state == UP;
}

const struct sockaddr_in *link_peer(const struct link *l)
{
	return &l->peer;
}

const char *link_peer_name(const struct link *l)
{
	return l->name;
}

int link_fd(const struct link *l)
{
	return l->bev ? bufferevent_getfd(l->bev) : l->fd;
}
