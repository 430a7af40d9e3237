/*
 * An image as one zstd frame around it (doc/image.md, section 13). A process of its own packs or
 * unpacks between a pipe and the image's descriptor. Library code, not installed.
 */
#pragma once

#include <stdint.h>
#include <sys/types.h>

#include "vmadump/trace.h"

#define PACK_LEVEL 1
#define PACK_WINDOW_LOG_MAX 27 /* what zstd -d takes without being asked */
#define PACK_MAGIC 0xfd2fb528u

/* What the two share. */
struct pack_report {
	uint64_t bytes;	  /* packed, all that was written */
	uint64_t most;	  /* packing: kept at once; unpacking: no more comes out */
	int32_t code;	  /* positive errno, 0 */
	uint32_t zstd;	  /* ZSTD_ErrorCode, 0 */
	uint32_t whole;	  /* the frame has come to its end */
	uint32_t reading; /* it is the reading that has failed */
};

/* The process beside us; pid 0: there is none. */
struct pack_child {
	pid_t pid;
	int pipe; /* our end of the pipe to or from it; -1 */
	struct pack_report *report;
};

/*
 * Runs work in a clone that nobody's wait() but ours hears of, with descriptors 0 and 1 alone:
 * toward, a pipe from us and fd; else fd and a pipe to us.
 */
int pack_start(struct pack_child *c, int fd, int toward, uint64_t most,
	       void (*work)(struct pack_report *), struct trace *t);
/* Closes our end, ends it if that is asked for, and waits until it has ended. */
void pack_reap(struct pack_child *c, int end);
void pack_forget(struct pack_child *c);
void *pack_memory(uint64_t bytes);

/* pack.c: what is written to the returned descriptor is packed, and goes to fd; or -1 */
int pack_begin(struct pack_child *c, int fd, struct trace *t);
/*
 * n bytes were written, or, if it is negative, t->err says why not. Returns how long the image is
 * now, all of which is written; or -1. Does nothing the second time, nor without pack_begin().
 */
long pack_end(struct pack_child *c, long n, struct trace *t);

/* An image that is read, packed or not. */
struct source {
	int fd; /* where it is read from; not owned if it is not packed */
	uint8_t first[4];
	uint32_t nfirst; /* those were read from fd already, and are for who reads it first */
	struct pack_child c;
};

/* unpack.c */
int source_open(struct source *s, int fd, struct trace *t);
/* All of the image was read: is that all that was packed, and as it was? */
int source_whole(struct source *s, struct trace *t);
/* r: how reading has gone; the reason is filled in if the packing was why it failed. Returns r. */
int source_close(struct source *s, int r, struct trace *t);
