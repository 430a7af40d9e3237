/*
 * The memory of a process that has moved and is to follow it: what the blob at its source
 * knows of it. In a mapping of its own, from the end of the image until the last page has left.
 */
#pragma once

#include "blob.h"
#include "lazy.h"

#define LAZY_EARLY 64u /* pieces that are sent before the move is decided, and not dropped */

struct sys_pollfd;
struct dump;
struct lazy_out {
	uint64_t len;	    /* of this mapping */
	int32_t data, back; /* may be one */
	int32_t pagemap;
	uint32_t scans; /* 1: PAGEMAP_SCAN works */
	uint32_t guard; /* and tells so of pages that nobody may touch, which are not sent; or 0 */
	uint32_t pipe;	/* data is one: pages go by reference */
	uint32_t committed, told, ended, ended_out, again, closed;
	uint32_t nranges, in_range; /* in_range, at: the next page that nobody has asked for */
	uint64_t at, credit;
	uint64_t drop_lo, drop_hi; /* sent, and not yet dropped */
	uint32_t nearly, nget, first_get, have;
	uint8_t in[LAZY_FRAME];
	struct lazy_frame get[LAZY_GETS_MAX];
	struct lazy_range early[LAZY_EARLY];
	struct lazy_frame out; /* being sent: what of its head, and of its body, is to go */
	uint64_t head_left, body, body_left;
	struct lazy_range range[LAZY_RANGES_MAX];
};
#define lazy_of(b) ((struct lazy_out *)(b)->lazy)

/* lazy_dump.c: marks the mappings of d that are to follow; and their pages need not be looked at.
 */
void lazy_choose(struct dump *d);
/* The image is written: from here on their pages can be asked for. 0: there are none. */
long lazy_begin(struct blob *b, int data, int back);

/* lazy_out.c. Serves until fd has something to read, or the connection is over. */
void lazy_serve(struct blob *b, int fd);
/* It runs elsewhere: what has been sent is dropped, what is to be sent is kept. 0: there is none.
 */
int lazy_commit(struct blob *b);
/* It stays here, or all has left, or nobody wants the rest. */
void lazy_end(struct blob *b);
/* Of a ghost: bpinit hears what it has to do; two entries for poll; what they have brought. */
#define LAZY_POLL 2
struct ghost;
void lazy_tell(struct ghost *g);
void lazy_poll(struct blob *b, struct sys_pollfd *p);
void lazy_polled(struct ghost *g, const struct sys_pollfd *p);
/*
 * Its original is back: what others still miss of its memory (its children may) leaves first.
 * 0: it has not, and there is something on the channel.
 */
int lazy_finish(struct ghost *g);
/* It keeps its channel, fd if there is one, and what this takes. */
void lazy_close_others(struct blob *b, int fd);
