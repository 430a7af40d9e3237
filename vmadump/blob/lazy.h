/*
 * Memory that follows a process that has moved: what its source and its pager on the node say
 * to each other behind the image, on the same connection. doc/image.md, section 12. Shared by
 * the blob, which is the source, and bpinit's pager.
 */
#pragma once

#include <stdint.h>

#define LAZY_MIN (1ull << 20)	    /* a smaller mapping goes along with the image */
#define LAZY_RANGES_MAX 1024u	    /* what is above goes along as well */
#define LAZY_PAGES_MAX (1ull << 20) /* bytes of pages in one frame */
#define LAZY_CREDIT_MAX (16ull << 20)
#define LAZY_GETS_MAX 64u /* questions that wait at the source */
#define LAZY_FRAME 24u	  /* bytes of a frame's head: u32 type, u32 flags, u64 at, u64 length */

enum lazy_type {
	/* source -> pager */
	LAZY_RANGES =
		0x5a4c0001, /* first of all; len: of the list that follows, u64 start, end each */
	LAZY_PAGES = 0x5a4c0002, /* len bytes of pages, to at, follow */
	LAZY_NONE = 0x5a4c0003,	 /* from at, len bytes have no pages: zeros */
	LAZY_END = 0x5a4c0004,	 /* that was all there is: what has not come is zeros */
	/* pager -> source */
	LAZY_GET = 0x5a4c0011,	/* a thread waits for the page at; up to len bytes from there */
	LAZY_MORE = 0x5a4c0012, /* send len bytes more of what nobody has asked for */
};
#define LAZY_ASKED 1u /* of PAGES: the answer to a GET; of NONE always */

struct lazy_frame {
	uint32_t type, flags;
	uint64_t at, len;
};
_Static_assert(sizeof(struct lazy_frame) == LAZY_FRAME, "both ends are little endian");

struct lazy_range {
	uint64_t start, end;
};
