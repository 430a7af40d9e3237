/*
 * Offsets and credit of a forwarded stream (stream.h, doc/streams.md). Runs in
 * bpslave at both ends. Nothing here does I/O; lengths and offsets from the peer
 * are checked here and nowhere else.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "stream.h"

#define RING_MIN (16u << 10)
#define RING_MAX (2 * STREAM_WINDOW) /* a window, and one that came back */

static void ring_free(struct stream_ring *r)
{
	free(r->data);
	*r = (struct stream_ring){0};
}

/* Room for len more; sizes are powers of two, so the window is the largest. */
static int ring_reserve(struct stream_ring *r, size_t len)
{
	size_t size = r->size ? r->size : RING_MIN, first;
	unsigned char *data;

	if (r->size - r->len >= len)
		return 0;
	while (size < r->len + len)
		size *= 2;
	if (size > RING_MAX)
		return -ENOBUFS;
	data = malloc(size);
	if (!data)
		return -ENOMEM;
	first = r->size - r->head;
	if (first > r->len)
		first = r->len;
	if (r->len > 0) {
		memcpy(data, r->data + r->head, first);
		memcpy(data + first, r->data, r->len - first);
	}
	free(r->data);
	*r = (struct stream_ring){.data = data, .size = size, .len = r->len};
	return 0;
}

static void ring_put(struct stream_ring *r, const unsigned char *p, size_t len)
{
	size_t tail = (r->head + r->len) & (r->size - 1), first = r->size - tail;

	if (first > len)
		first = len;
	memcpy(r->data + tail, p, first);
	memcpy(r->data, p + first, len - first);
	r->len += len;
}

static void ring_drop(struct stream_ring *r, size_t len)
{
	assert(len <= r->len);
	r->len -= len;
	r->head = r->len ? (r->head + len) & (r->size - 1) : 0;
}

/* The longest run of bytes that begins at "at". */
static size_t ring_run(const struct stream_ring *r, size_t at, const unsigned char **ret)
{
	size_t pos, n;

	if (at >= r->len)
		return 0;
	pos = (r->head + at) & (r->size - 1);
	n = r->size - pos;
	if (n > r->len - at)
		n = r->len - at;
	*ret = r->data + pos;
	return n;
}

/* -- the writer */

void stream_out_init(struct stream_out *o, bool based)
{
	*o = (struct stream_out){.based = based};
}

void stream_out_free(struct stream_out *o)
{
	ring_free(&o->ring);
}

unsigned char *stream_out_space(struct stream_out *o, size_t *ret_len)
{
	struct stream_ring *r = &o->ring;
	size_t tail, n;

	if (o->ended || r->len >= STREAM_WINDOW)
		return NULL;
	/* An interactive stream stays small, a busy one grows to the window at once. */
	if (r->len == r->size && ring_reserve(r, r->size ? STREAM_WINDOW - r->len : RING_MIN) < 0)
		return NULL;
	tail = (r->head + r->len) & (r->size - 1);
	n = r->size - tail;
	if (n > r->size - r->len)
		n = r->size - r->len;
	if (n > STREAM_WINDOW - r->len)
		n = STREAM_WINDOW - r->len;
	*ret_len = n;
	return r->data + tail;
}

void stream_out_filled(struct stream_out *o, size_t len)
{
	assert(o->ring.len + len <= o->ring.size);
	o->ring.len += len;
	o->end += len;
}

size_t stream_out_next(const struct stream_out *o, uint64_t *ret_offset, const unsigned char **ret)
{
	size_t n;

	if (!o->based || o->sent >= o->limit)
		return 0;
	n = ring_run(&o->ring, (size_t)(o->sent - o->acked), ret);
	if (n > o->limit - o->sent)
		n = (size_t)(o->limit - o->sent);
	if (n > STREAM_CHUNK)
		n = STREAM_CHUNK;
	*ret_offset = o->sent;
	return n;
}

void stream_out_sent(struct stream_out *o, size_t len)
{
	assert(o->sent + len <= o->end && o->sent + len <= o->limit);
	o->sent += len;
}

int stream_out_credit(struct stream_out *o, uint64_t upto)
{
	uint64_t done;

	if (upto < STREAM_WINDOW || upto == STREAM_UNKNOWN)
		return -EPROTO;
	done = upto - STREAM_WINDOW;
	if (!o->based) {
		if (done > STREAM_UNKNOWN - STREAM_WINDOW - o->end)
			return -EPROTO;
		/* Counted from 0 until now: earlier nodes have sent the bytes before. */
		o->acked = o->sent = done;
		o->end += done;
		o->limit = upto;
		o->based = true;
		return 0;
	}
	if (done > o->end)
		return -EPROTO;
	/* After a rewind the reader may have more than we know to be sent. */
	if (done > o->sent)
		o->sent = done;
	if (done > o->acked) {
		ring_drop(&o->ring, (size_t)(done - o->acked));
		o->acked = done;
	}
	if (upto > o->limit)
		o->limit = upto;
	return 0;
}

int stream_out_back(struct stream_out *o, uint64_t offset, const void *data, size_t len)
{
	struct stream_ring *r = &o->ring;
	size_t keep;

	if (!o->based || offset > o->sent || len > STREAM_WINDOW)
		return -EPROTO;
	if (offset >= o->acked) {
		ring_drop(r, (size_t)(offset - o->acked));
	} else {
		keep = (size_t)(o->acked - offset);
		if (len < keep)
			return -EPROTO;
		/* What is beyond was never acknowledged: it is still in the ring. */
		if (ring_reserve(r, keep) < 0)
			return -ENOMEM;
		for (size_t i = keep; i > 0; i--) {
			r->head = (r->head - 1) & (r->size - 1);
			r->data[r->head] = ((const unsigned char *)data)[i - 1];
		}
		r->len += keep;
	}
	o->acked = o->sent = o->limit = offset;
	o->end_sent = false;
	return 0;
}

int stream_out_open(struct stream_out *o, uint64_t offset)
{
	if (!o->based)
		return -EPROTO;
	stream_out_rewind(o);
	if (offset == STREAM_UNKNOWN) {
		o->limit = o->acked + STREAM_WINDOW;
		return 0;
	}
	if (offset < o->acked || offset > o->end)
		return -EPROTO;
	o->sent = offset;
	o->limit = offset ? offset : STREAM_WINDOW;
	return 0;
}

void stream_out_rewind(struct stream_out *o)
{
	if (o->based)
		o->sent = o->limit = o->acked;
	o->end_sent = false;
}

size_t stream_out_kept(const struct stream_out *o, size_t from, const unsigned char **ret)
{
	return ring_run(&o->ring, from, ret);
}

uint64_t stream_out_reopen(struct stream_out *o)
{
	stream_out_rewind(o);
	if (!o->based)
		return STREAM_UNKNOWN;
	if (o->acked == 0)
		o->limit = STREAM_WINDOW;
	return o->acked;
}

bool stream_out_take_end(struct stream_out *o)
{
	if (!o->ended || o->end_sent || !o->based || o->sent < o->end)
		return false;
	o->end_sent = true;
	return true;
}

bool stream_out_all_sent(const struct stream_out *o)
{
	return o->ended && o->end_sent;
}

/* -- the reader */

void stream_in_init(struct stream_in *i, bool based)
{
	*i = (struct stream_in){.based = based, .told = STREAM_WINDOW};
}

void stream_in_free(struct stream_in *i)
{
	ring_free(&i->ring);
}

/* Where the stream begins here, if that was not known. -EPROTO: a window more would wrap. */
static int in_base(struct stream_in *i, uint64_t offset, size_t len)
{
	if (offset > STREAM_UNKNOWN - STREAM_WINDOW - len)
		return -EPROTO;
	if (!i->based) {
		i->done = i->next = offset;
		i->told = offset + STREAM_WINDOW;
		i->based = true;
	}
	return 0;
}

int stream_in_data(struct stream_in *i, uint64_t offset, const void *data, size_t len)
{
	const unsigned char *p = data;
	uint64_t skip;
	int e;

	if (in_base(i, offset, len) < 0 || offset > i->next)
		return -EPROTO;
	skip = i->next - offset;
	if (skip >= len)
		return 0;
	p += skip;
	len -= (size_t)skip;
	if (i->next + len > i->told || (i->ended && i->next + len > i->end))
		return -EPROTO;
	e = ring_reserve(&i->ring, len);
	if (e < 0)
		return e == -ENOBUFS ? -EPROTO : e;
	ring_put(&i->ring, p, len);
	i->next += len;
	return 0;
}

int stream_in_end(struct stream_in *i, uint64_t offset)
{
	if (in_base(i, offset, 0) < 0 || offset != i->next)
		return -EPROTO;
	i->end = offset;
	i->ended = true;
	return 0;
}

size_t stream_in_next(const struct stream_in *i, const unsigned char **ret)
{
	return ring_run(&i->ring, 0, ret);
}

void stream_in_taken(struct stream_in *i, size_t len)
{
	ring_drop(&i->ring, len);
	i->done += len;
	/* An idle stream of a thousand processes must not hold a window each. */
	if (i->ring.len == 0 && i->ring.size > RING_MIN)
		ring_free(&i->ring);
}

bool stream_in_credit(struct stream_in *i, bool now, uint64_t *ret_upto)
{
	uint64_t upto = i->done + STREAM_WINDOW;

	/* A credit that was given is not taken back (stream_in_rebase gave a little more). */
	if (upto < i->told)
		upto = i->told;
	if (!i->based || (!now && upto - i->told < STREAM_CREDIT_STEP))
		return false;
	i->told = upto;
	*ret_upto = upto;
	return true;
}

bool stream_in_fresh(const struct stream_in *i)
{
	return i->told == STREAM_WINDOW && i->done == 0 && !i->ended;
}

uint64_t stream_in_rebase(struct stream_in *i)
{
	i->ended = false;
	i->told = i->next + STREAM_WINDOW;
	return i->told;
}

bool stream_in_finished(const struct stream_in *i)
{
	return i->ended && i->done == i->end;
}
