/*
 * Pages that go ahead of the image of a process that still runs (doc/image.md, section 11): the
 * frames of their stream, and what the ghost that takes them in has of them.
 */
#pragma once

#include <stdint.h>

#define LIVE_MAGIC 0x4556494c504d4456ull /* "VDMPLIVE" in the stream */
#define LIVE_FRAME 32u			 /* u32 type, u32 flags, then three u64 */
#define LIVE_VERSION 1u

/* Limits. */
#define LIVE_WINDOW (8ul << 40)	   /* bytes of addresses in which it is put aside */
#define LIVE_TABLE (256ul << 10)   /* of them for struct live_in */
#define LIVE_MAPS_MAX 4096u	   /* mappings */
#define LIVE_PIECE_MAX (1ul << 20) /* bytes of one LIVE_PAGES */
#define LIVE_ALIGN (2ul << 20)	   /* put aside it lies as it does in place, modulo this: page */
				   /* tables then move as a whole, mremap(2) */

enum live_type {
	LIVE_HELLO = 1, /* flags: version; magic, id, start of the window */
	LIVE_MAP = 2,	/* flags: LIVE_NORESERVE; start, length, where it is put aside */
	LIVE_PAGES = 3, /* start, length, 0; then so many bytes */
	LIVE_END = 4,	/* bytes of pages in all, 0, 0: the image follows, on its own connection */
};
#define LIVE_NORESERVE 1u

/* A piece of the process's memory, and where it is put aside. */
struct live_map {
	uint64_t start, end, at;
};

/* At the start of the window. */
struct live_in {
	uint64_t id, lo, hi;
	uint64_t to, left; /* of the frame that is being read: where, how many bytes */
	uint64_t bytes;
	uint32_t n, ended;
	struct live_map map[LIVE_MAPS_MAX];
};
_Static_assert(sizeof(struct live_in) <= LIVE_TABLE, "the table of what is put aside");

/* What a ghost has of a stream; in is NULL until LIVE_HELLO is read. */
struct live_stream {
	int fd; /* -1: there is none */
	uint32_t have;
	uint8_t head[LIVE_FRAME];
	struct live_in *in;
};

struct blob;
/* live_take.c */
void live_start(struct blob *b, struct live_stream *s, int fd);
/* Reads what is there. */
void live_some(struct blob *b, struct live_stream *s);
/* Reads to the end of it; 1: it is whole. */
int live_all(struct blob *b, struct live_stream *s);
void live_drop(struct blob *b, struct live_stream *s);
/* Of the memory only: in a clone, which has that of whom it was cloned from. */
void live_unmap(struct blob *b);
