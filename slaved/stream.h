/*
 * The arithmetic of one forwarded stream (stdin, stdout or stderr of a process
 * that is away): byte offsets, a credit window, and the bytes that the other end
 * has not yet handed on. No I/O and no clock: what calls it has sockets and links
 * (bpslave_stdio.c), the unit test has neither. doc/streams.md is the authority.
 *
 * Every byte has one offset, counted from the first byte of the stream, wherever
 * the process was when it was written. The reader says with each credit how far
 * it has handed bytes on; the writer keeps what is behind that, so a link that
 * breaks, or a process that moves on, loses and doubles nothing.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define STREAM_WINDOW (256u << 10) /* bytes under way in a stream, at most */
#define STREAM_CHUNK (64u << 10)   /* bytes of one StreamData, at most */
#define STREAM_CREDIT_STEP (STREAM_WINDOW / 4)
#define STREAM_UNKNOWN UINT64_MAX /* StreamOpen: the offset is for the other end to say */

/* A queue of bytes; size is 0 or a power of two. */
struct stream_ring {
	unsigned char *data; /* owned */
	size_t size, head, len;
};

/* The writer's end. acked <= sent <= end; bytes acked..end are in the ring. */
struct stream_out {
	struct stream_ring ring;
	uint64_t acked, sent, end;
	uint64_t limit; /* credit: sent may grow to here */
	bool based;	/* acked is true; before the first credit a stream may not know */
	bool ended;	/* nothing comes after end */
	bool end_sent;
};

/* The reader's end. done <= next; bytes done..next are in the ring. */
struct stream_in {
	struct stream_ring ring;
	uint64_t done, next;
	uint64_t told; /* the credit that was given last */
	uint64_t end;  /* valid if ended */
	bool based;
	bool ended;
};

void stream_out_init(struct stream_out *o, bool based);
void stream_out_free(struct stream_out *o);
/* Where up to *ret_len bytes can be put, or NULL: the window is full (or no memory). */
unsigned char *stream_out_space(struct stream_out *o, size_t *ret_len);
void stream_out_filled(struct stream_out *o, size_t len);
/* The next bytes that may be sent, at most STREAM_CHUNK; 0: none. */
size_t stream_out_next(const struct stream_out *o, uint64_t *ret_offset, const unsigned char **ret);
void stream_out_sent(struct stream_out *o, size_t len);
/* The reader's credit. -EPROTO: it acknowledges what was never sent. */
int stream_out_credit(struct stream_out *o, uint64_t upto);
/*
 * The reader leaves its node, where offset is the first byte that was not used. What
 * it had got beyond comes back, to be sent again before all else. -EPROTO, -ENOMEM.
 */
int stream_out_back(struct stream_out *o, uint64_t offset, const void *data, size_t len);
/*
 * The reader is there, on a new link or a new node. STREAM_UNKNOWN: it takes the stream up where
 * it is, with a window of credit; 0: from its first byte, with a window; else it has all before
 * offset, and will give credit itself.
 */
int stream_out_open(struct stream_out *o, uint64_t offset);
/* The link to the reader is gone, or the writer begins again: wait for its credit. */
void stream_out_rewind(struct stream_out *o);
/* The bytes that are not acknowledged, from "from" of them on; 0: no more. */
size_t stream_out_kept(const struct stream_out *o, size_t from, const unsigned char **ret);
/*
 * The writer opens its stream, on a new link or for the first time: what to say in StreamOpen.
 * Nobody has to be asked for the first window of a stream: it is there from the beginning.
 */
uint64_t stream_out_reopen(struct stream_out *o);
/* True once: the end is known, all before it is sent; StreamEnd is to be sent now. */
bool stream_out_take_end(struct stream_out *o);
/* Everything up to the end, and the end, has been sent. */
bool stream_out_all_sent(const struct stream_out *o);

void stream_in_init(struct stream_in *i, bool based);
void stream_in_free(struct stream_in *i);
/*
 * Data that came. What was there before is left out. -EPROTO: a gap, or more than
 * credit was given for; -ENOMEM.
 */
int stream_in_data(struct stream_in *i, uint64_t offset, const void *data, size_t len);
int stream_in_end(struct stream_in *i, uint64_t offset);
/* The bytes to be handed on next; 0: none. */
size_t stream_in_next(const struct stream_in *i, const unsigned char **ret);
void stream_in_taken(struct stream_in *i, size_t len);
/* True if a credit is due (always, if now); *ret_upto is to be sent. */
bool stream_in_credit(struct stream_in *i, bool now, uint64_t *ret_upto);
/* Nothing has been said or done that a writer which begins at 0 would have to be told. */
bool stream_in_fresh(const struct stream_in *i);
/*
 * Another writer goes on where the last one stopped, with bytes of that one still in the ring:
 * the credit to tell it, from which it learns where it begins.
 */
uint64_t stream_in_rebase(struct stream_in *i);
/* The end is known, and every byte before it has been handed on. */
bool stream_in_finished(const struct stream_in *i);
