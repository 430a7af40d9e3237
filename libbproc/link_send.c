/*
 * Links (link.h): what is sent. A frame goes out at once, or waits a moment for
 * others, or is queued behind what the peer has not read yet; in any case in the
 * order in which it was given. Runs in bpmaster and bpslave.
 */
#include <assert.h>
#include <errno.h>
#include <string.h>
#include <event2/buffer.h>
#include <event2/bufferevent_ssl.h>
#include <openssl/err.h>

#include "link_own.h"
#include "wire.h"

#define DIRECT_MAX 4096 /* bytes; under a TLS record's 16 KiB */

/* The frames that wait, then this one. */
static size_t put_all(struct link *l, const Bproc__Envelope *env, unsigned char *buf)
{
	size_t n = l->later.len;

	memcpy(buf, l->later.frames, n);
	if (env)
		n += wire_put_frame(env, buf + n);
	return n;
}

static void none_wait(struct link *l)
{
	if (l->later.len > 0)
		event_del(l->later.timer);
	l->later.len = 0;
}

/*
 * Short frames with nothing before them go out at once: the loop would need
 * three system calls more, and a move waits for eight frames. False: they have to be
 * queued. If a part of their record is on the way the loop's retry has the same
 * bytes first, as SSL_write wants them.
 */
static bool send_now(struct link *l, const Bproc__Envelope *env, size_t size)
{
	unsigned char buf[DIRECT_MAX];

	if (size > sizeof(buf) || evbuffer_get_length(bufferevent_get_output(l->bev)) > 0)
		return false;
	put_all(l, env, buf);
	ERR_clear_error();
	/* One record: all of it or nothing. */
	return SSL_write(bufferevent_openssl_get_ssl(l->bev), buf, (int)size) == (int)size;
}

/* size: of all, what waits included. In one piece, for the retry. */
static int send_all(struct link *l, const Bproc__Envelope *env, size_t size)
{
	struct evbuffer *out = bufferevent_get_output(l->bev);
	struct evbuffer_iovec v;

	if (!send_now(l, env, size)) {
		if (evbuffer_get_length(out) + size > LINK_QUEUE_MAX) {
			l->doomed = true;
			link_set_timer(l, 0);
			return -ENOBUFS;
		}
		if (evbuffer_reserve_space(out, (ev_ssize_t)size, &v, 1) != 1)
			return -ENOMEM;
		v.iov_len = put_all(l, env, v.iov_base);
		if (evbuffer_commit_space(out, &v, 1) < 0)
			return -ENOMEM;
		if (evbuffer_get_length(out) >= LINK_HIGH)
			l->full = true;
	}
	none_wait(l);
	return l->full ? LINK_FULL : 0;
}

/* The frame's size, or -errno. */
static int make(struct link *l, const ProtobufCMessage *msg, Bproc__Envelope *ret_env)
{
	size_t size;
	int r;

	if (l->state != UP)
		return -ENOTCONN;
	r = wire_envelope(msg, ret_env);
	assert(r == 0); /* a message that no Envelope can hold is a bug of ours */
	(void)r;
	size = wire_frame_size(ret_env);
	return size == 0 ? -EMSGSIZE : (int)size;
}

int link_send(struct link *l, const ProtobufCMessage *msg)
{
	Bproc__Envelope env;
	int size = make(l, msg, &env);

	return size < 0 ? size : send_all(l, &env, l->later.len + (size_t)size);
}

int link_send_later(struct link *l, const ProtobufCMessage *msg)
{
	const struct timeval tv = {.tv_usec = LINK_LATER_MS * 1000};
	Bproc__Envelope env;
	int size = make(l, msg, &env);

	if (size < 0)
		return size;
	if (l->later.len + (size_t)size > sizeof(l->later.frames))
		return send_all(l, &env, l->later.len + (size_t)size);
	if (l->later.len == 0)
		event_add(l->later.timer, &tv);
	l->later.len += wire_put_frame(&env, l->later.frames + l->later.len);
	return l->full ? LINK_FULL : 0;
}

void link_later_flush(struct link *l)
{
	if (l->later.len > 0)
		send_all(l, NULL, l->later.len);
}

void link_later_due(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	link_later_flush(arg);
}

size_t link_queued_bytes(const struct link *l)
{
	return l->bev ? evbuffer_get_length(bufferevent_get_output(l->bev)) : 0;
}
