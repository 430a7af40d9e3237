/*
 * A process whose pages go ahead of it: what the files of that share. Library code, not installed.
 */
#pragma once

#include <stdint.h>
#include <sys/types.h>

#include "vmadump/blob/live.h"
#include "vmadump/carry.h"

/* A mapping of the process that is looked after. */
struct live_own {
	struct live_map m;
	uint32_t flags; /* LIVE_NORESERVE */
};

struct live {
	pid_t pid;
	int pidfd, pagemap, mem; /* of the process */
	int uffd, chan, data;	 /* what it has handed over, and what bpinit has given for it */
	uint64_t id, window, next;
	uint32_t go;	      /* what CHAN_GO will say to the process */
	struct live_own *own; /* malloc'd, LIVE_MAPS_MAX */
	uint32_t n;
	struct live_map *fresh; /* malloc'd, LIVE_MAPS_MAX: all of it goes next time */
	uint32_t nfresh;
	uint64_t bytes; /* of pages that were sent */
	uint8_t *buf;	/* a frame and its pages */
	struct vmad_err *err;
};

/* Fills err and errno; returns -1. */
int live_fail(struct live *l, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* live_probe.c: 0, or why not: a text for people. */
const char *live_probe(void);

/* live_maps.c: what there is of memory; that which is new is written down as fresh. */
int live_look(struct live *l);

/* live_send.c: frames, and the pages that were written since the last time. */
int live_hello(struct live *l);
int live_frame(struct live *l, uint32_t type, uint32_t flags, uint64_t a, uint64_t b, uint64_t c);
int live_round(struct live *l, uint64_t *ret_bytes);

#define LIVE_UFFD_FEATURES (1ull << 13 | 1ull << 15) /* WP_UNPOPULATED, WP_ASYNC (Linux 6.7) */
#define LIVE_BATCH 4096 /* pages found at once: soon read after they were write-protected */

/* live.c: 0, or -1: bpinit has ended the connection, and why. */
int live_called_off(struct live *l);
