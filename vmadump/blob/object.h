/*
 * Open files that no path leads to: what of them an image carries. dump_obj.c writes it,
 * restore_obj.c makes them anew. The layout is doc/image.md's, TAG_OBJECTS.
 */
#pragma once

#include "blob.h"

enum object_kind {
	OBJECT_PIPE = 1,     /* u32 capacity, u32 0, then what is in it */
	OBJECT_EVENTFD = 2,  /* u64 count, u32 1: a semaphore, u32 0 */
	OBJECT_TIMERFD = 3,  /* u32 clock, u32 flags, u64 ticks, u64 interval s, ns, left s, ns */
	OBJECT_SIGNALFD = 4, /* u64 mask */
	OBJECT_EPOLL = 5,    /* for each: u32 fd, u32 events, u64 data */
	OBJECT_MEMFD = 6,    /* u64 offset, u32 seals, u32 mode, name (256), then its contents */
	OBJECT_FILE = 7,     /* u64 offset, u32 0, u32 mode, path (4096), then its contents */
	/* u32 type, u32 0, 2 ends: u32 sndbuf, u32 rcvbuf, u32 SOCKET_*, u32 bytes to be read at
	   it; then those: u32 length and bytes, one piece after the other */
	OBJECT_SOCKET = 8,
	/* u32 type, u32 backlog, u32 mode, u32 n, name (112), n bytes of it, u64 device and inode
	   of that, 0: it has none */
	OBJECT_LISTENER = 9,
	OBJECT_INOTIFY = 10, /* contents: for each: u32 wd, u32 mask, u32 n, u32 0, path, to 8 */
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
#define OBJECT_SOCKET_LEN (8u + 2 * 16u)
#define OBJECT_LISTENER_LEN (16u + SOCKET_NAME_MAX + 16u)
#define OBJECT_INOTIFY_LEN 0u
#define SOCKET_NAME_MAX 112u
#define SOCKET_ASIDE "%s.bproc" /* a name that is another's until its move is decided */
#define SOCKET_ASIDE_MAX (SOCKET_NAME_MAX + 8u)
#define SOCKET_PASSCRED 1u
#define SOCKET_SHUT_READ 2u
#define SOCKET_SHUT_WRITE 4u
#define SOCKET_GONE 8u /* nobody has this end */
#define SOCKET_ALL 15u
#define INOTIFY_HEAD 16u
#define SEAL_SEAL 1u
#define SEAL_FUTURE_WRITE 16u
#define OBJECTS_MAX 65536u
#define OBJECT_CONTENTS_MAX (64u << 20) /* of one; all of them are in the head of the image */

struct dump;
struct dump_fd;
struct stat;
struct dump_obj {
	struct dump_obj *next;
	uint64_t dev, ino;
	uint32_t kind, index, len;
	uint32_t ends; /* of a pipe: 1 reading, 2 writing; of a socket: 1 the first, 2 the other */
	int32_t fd;    /* one of its descriptors */
	int32_t fd2;   /* of a socket's other end; of a pipe's for writing */
	uint64_t peer; /* inode of a socket's other end, 0: nobody has it */
	uint8_t *data; /* len bytes, its head included */
};
#define OBJECT_NONE 2 /* not of a kind that is carried */

/* 0: f is, or shares, an object; OBJECT_NONE; or refused. */
long object_take(struct dump *d, struct dump_fd *f, const struct stat *st);
/* When all descriptors are known. */
long objects_finish(struct dump *d);
/* dump_obj.c: a new object, with len bytes behind its head, that f is; and what helps to fill it.
 */
struct dump_obj *object_add(struct dump *d, struct dump_fd *f, uint32_t kind, uint64_t len);
long object_too_much(struct dump *d, int fd, const char *what);
struct text;
long object_fdinfo(struct dump *d, const struct dump_fd *f, struct text *t);
/* dump_nameless.c: a file with a name is OBJECT_NONE; when all is known its contents are read */
long take_nameless(struct dump *d, struct dump_fd *f, const struct stat *st);
long finish_nameless(struct dump *d, struct dump_obj *o);
/* dump_sock.c, dump_watch.c */
long take_socket(struct dump *d, struct dump_fd *f);
long finish_socket(struct dump *d, struct dump_obj *o);
/* listen.c: f listens, and by that name, or NULL: the first of its tree has that. */
long listener_add(struct dump *d, const struct dump_fd *f, const char *name);
long take_inotify(struct dump *d, struct dump_fd *f);
uint64_t objects_max(const struct dump *d);
uint8_t *objects_rec(struct dump *d, uint8_t *rec);

/* A lock on a file, of the process or of a description. */
struct dump_lock {
	struct dump_lock *next;
	uint32_t fd, kind, exclusive; /* enum lock_kind */
	uint64_t start, end;	      /* last byte; ~0: to the end */
	uint64_t major, minor, ino;
};
enum lock_kind { LOCK_FLOCK = 1, LOCK_POSIX = 2, LOCK_OFD = 3 };
enum lock_call { LOCK_DROP, LOCK_TRY, LOCK_WAIT };
#define REC_LOCK_LEN 32u
#define LOCKS_MAX 65536u
long locks_take(struct dump *d, struct dump_fd *f);
/* 0: nobody waits for one. That is asked before anything is sent, and once more at the end. */
long locks_are_free(struct dump *d);
/*
 * Of one that leaves, when all but the end of its image is written: from here on another may have
 * them. blob_thaw() takes them again.
 */
long locks_give_up(struct dump *d);
void locks_take_again(const struct dump_lock *l);
enum refusal lock_refusal(const char *line); /* of fdinfo */
long lock_call(const struct dump_lock *l, enum lock_call how);
uint64_t locks_max(const struct dump *d);
uint8_t *locks_rec(struct dump *d, uint8_t *rec);
