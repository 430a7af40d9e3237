/*
 * Open files that no path leads to: what of them an image carries. dump_obj.c writes it,
 * restore_obj.c makes them anew. The layout is doc/image.md's, TAG_OBJECTS.
 */
#pragma once

#include "blob.h"

enum object_kind {
	OBJECT_PIPE = 1,     /* u32 capacity, u32 0, then what is in it */
	OBJECT_EVENTFD = 2,  /* u64 count, u32 1: a semaphore, u32 0 */
	OBJECT_TIMERFD = 3,  /* u32 clock, u32 0, u64 ticks, u64 interval s, ns, left s, ns */
	OBJECT_SIGNALFD = 4, /* u64 mask */
	OBJECT_EPOLL = 5,    /* for each: u32 fd, u32 events, u64 data */
	OBJECT_MEMFD = 6,    /* u64 offset, u32 seals, u32 mode, name (256), then its contents */
	OBJECT_FILE = 7,     /* u64 offset, u32 0, u32 mode, path (4096), then its contents */
	OBJECT_KINDS,
};
#define OBJECT_HEAD 16u /* u32 length of all, u32 kind, u32 bytes of contents, u32 0 */
#define OBJECT_PIPE_LEN 8u
#define OBJECT_EVENTFD_LEN 16u
#define OBJECT_TIMERFD_LEN 48u
#define OBJECT_SIGNALFD_LEN 8u
#define OBJECT_EPOLL_LEN 16u
#define OBJECT_MEMFD_LEN (16u + 256u)
#define OBJECT_FILE_LEN (16u + 4096u)
#define OBJECTS_MAX 65536u
#define OBJECT_CONTENTS_MAX (64u << 20) /* of one; all of them are in the head of the image */

struct dump;
struct dump_fd;
struct stat;
struct dump_obj {
	struct dump_obj *next;
	uint64_t dev, ino;
	uint32_t kind, index, len;
	uint32_t ends; /* of a pipe: 1 reading, 2 writing */
	int32_t fd;    /* one of its descriptors */
	uint8_t *data; /* len bytes, its head included */
};
#define OBJECT_NONE 2 /* not of a kind that is carried */

/* 0: f is, or shares, an object; OBJECT_NONE; or refused. */
long object_take(struct dump *d, struct dump_fd *f, const struct stat *st);
/* When all descriptors are known. */
long objects_finish(struct dump *d);
uint64_t objects_max(const struct dump *d);
uint8_t *objects_rec(struct dump *d, uint8_t *rec);

/* A lock on a file, of the process or of a description. */
struct dump_lock {
	struct dump_lock *next;
	uint32_t fd, kind, exclusive; /* enum lock_kind */
	uint64_t start, end;	      /* last byte; ~0: to the end */
};
enum lock_kind { LOCK_FLOCK = 1, LOCK_POSIX = 2, LOCK_OFD = 3 };
#define REC_LOCK_LEN 32u
#define LOCKS_MAX 65536u
long locks_take(struct dump *d, struct dump_fd *f);
uint64_t locks_max(const struct dump *d);
uint8_t *locks_rec(struct dump *d, uint8_t *rec);
