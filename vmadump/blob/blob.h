/*
 * The blob: one small freestanding piece of position-independent code, mapped
 * into every process that leaves, arrives or stands in. It calls nothing but
 * the kernel. One mapping of BLOB_SIZE bytes: code (r-x) first, then its own
 * data, stack and scratch (rw-). Nothing else of ours is in the process.
 *
 *   leave.c    the source side of a move, top to bottom
 *   dump.c     this process -> image on an fd
 *   restore.c  image on an fd -> this process
 *   ghost.c    the ghost's loop; clone of ghosts and arrivals
 */
#pragma once

#include <stdint.h>

#include "channel.h"

/*
 * Where the blob is mapped unless something is there: far from where kernels
 * put programs (0x400000, 0x55.., 0x7f..) and from Go's arenas (0xc000000000).
 */
#define BLOB_ADDR 0x300000000000ul
#define BLOB_CODE_MAX (64ul << 10)	/* bytes of the code part, page multiple */
#define BLOB_DATA (128ul << 10)		/* bytes of the rw part */
#define BLOB_SIZE (BLOB_CODE_MAX + BLOB_DATA)
#define BLOB_XSAVE_MAX 12288		/* AVX-512 needs 2.7 KB, AMX tiles 11 KB */

/* General registers of the parked thread, in the kernel's user_regs_struct order. */
struct blob_regs {
	uint64_t r15, r14, r13, r12, bp, bx, r11, r10, r9, r8, ax, cx, dx, si, di;
	uint64_t orig_ax, ip, cs, flags, sp, ss, fs_base, gs_base, ds, es, fs, gs;
};

struct blob_err {
	int32_t code;			/* positive errno or BE_ value */
	char text[CHAN_TEXT_MAX];
};

enum blob_verb {
	BLOB_LEAVE = 1,	 /* park, speak on chan, dump, then ghost or back */
	BLOB_DUMP = 2,	 /* dump to fd and come back */
	BLOB_RESTORE = 3, /* become the image that is on fd; comes back only on failure */
	BLOB_GHOST = 4,	 /* unmap all but the blob and loop as a ghost on chan */
};

/*
 * At the start of the rw part; filled by whoever maps the blob (self.c in the
 * process itself, bpinit from outside). Valid for as long as the blob is mapped.
 */
struct blob {
	uint64_t base;		/* of the mapping, BLOB_SIZE bytes */
	uint64_t self;		/* address of this struct */
	uint32_t verb;
	int32_t chan;		/* LEAVE, GHOST: the process's end; -1 none */
	int32_t fd;		/* DUMP, RESTORE: the image */
	uint32_t dump_flags;	/* BPROC_DUMP_* */
	uint32_t regs_given;	/* 1: regs and xsave were filled in from outside */
	uint32_t exec_kind;	/* LEAVE: enum move_kind */
	uint64_t exec_args;	/* LEAVE + MOVE_REXEC: address of the argument block, */
	uint64_t exec_len;	/* its length: dir\0cmd\0 argc\0 argv..\0 envp..\0 */
	int32_t hide_fd[4];	/* descriptors of ours that are not part of the image; -1 */
	struct blob_regs regs;
	uint64_t xsave_size;
	/* the blob's own state follows; see the .c files */
	int64_t result;		/* DUMP: bytes written or -errno. LEAVE: -errno after an abort */
	struct blob_err err;
	uint8_t xsave[BLOB_XSAVE_MAX] __attribute__((aligned(64)));
};

/* dump.c: the whole image of this process to opt->fd. 0 or -errno with err filled; the process
 * is as it was in both cases, with all signals still blocked. */
struct blob_dump {
	int fd;
	uint32_t flags;		/* BPROC_DUMP_* */
	uint32_t streams;	/* 1: fds 0..2 are streams of home (leaving home, not /dev/null) */
	uint32_t away;		/* 1: fds 0..2 that are unix sockets are streams */
	uint32_t for_fork;	/* 1: a child of rfork: no pending signals, timers or locks */
	uint64_t bytes;		/* out: written */
};
long blob_dump(struct blob *b, struct blob_dump *opt);

/* restore.c: everything of the image up to, not including, the return into it.
 * 0, or -errno with err filled: then nothing but the blob is mapped if *destroyed. */
struct blob_restore {
	int fd;
	int stream_fd[CHAN_STREAMS]; /* what becomes streams 0..2, or -1: what is on 0..2 stays */
	uint32_t keep_streams;	/* 1: home-coming: fds 0..2 of this process are the originals */
	uint32_t destroyed;	/* out */
};
long blob_restore(struct blob *b, struct blob_restore *opt);
/* Returns into the restored image by rt_sigreturn. */
_Noreturn void blob_resume(struct blob *b);
/* Unmaps everything but the blob and the vdso. Cannot fail after the first munmap. */
void blob_unmap_others(struct blob *b);

_Noreturn void blob_ghost(struct blob *b);
long blob_leave(struct blob *b);
