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
#define BLOB_TRIES 8 /* addresses BLOB_APART from each other */
#define BLOB_APART (1ul << 30)
#define BLOB_CODE_MAX (96ul << 10) /* bytes of the code part, page multiple */
#define BLOB_DATA (256ul << 10)	   /* bytes of the rw part */
#define BLOB_SIZE (BLOB_CODE_MAX + BLOB_DATA)
/* The rw part: struct blob, then the stack, then scratch up to the end. */
#define BLOB_STRUCT_MAX (20ul << 10)
#define BLOB_STACK (32ul << 10)
#define BLOB_SCRATCH (BLOB_STRUCT_MAX + BLOB_STACK) /* offset from struct blob */
#define BLOB_XSAVE_MAX 12288			    /* AVX-512 needs 2.7 KB, AMX tiles 11 KB */
#define BLOB_MAGIC 0x31424f4c42504256ul		    /* "VBPBLOB1" */

/* General registers of the parked thread, in the kernel's user_regs_struct order. */
struct blob_regs {
	uint64_t r15, r14, r13, r12, bp, bx, r11, r10, r9, r8, ax, cx, dx, si, di;
	uint64_t orig_ax, ip, cs, flags, sp, ss, fs_base, gs_base, ds, es, fs, gs;
};

struct blob_err {
	int32_t code; /* positive errno or BE_ value */
	char text[CHAN_TEXT_MAX];
};

/*
 * What is the same for every process of one machine, or for every child of one
 * process, and slow to ask (a CPUID costs 6 us in a virtual machine): bpinit
 * and the library ask once, with the verb BLOB_ENV, and copy it into every
 * blob they map. All zero: the blob asks for itself.
 */
#define BLOB_XCOMP_MAX 20
#define BLOB_SPECIALS 4
struct blob_env {
	uint32_t cpu_known;  /* 1: xcr0 .. cpuid are filled */
	uint32_t xsave_size; /* bytes of a whole area, standard format */
	uint64_t xcr0;
	uint32_t xoff[BLOB_XCOMP_MAX], xlen[BLOB_XCOMP_MAX];
	uint32_t cpuid[6]; /* 1.ecx 1.edx 7.ebx 7.ecx 80000001.ecx 80000001.edx */
	/* [vvar], [vvar_vclock], [vdso] of this process; nspecial 0: not known */
	uint32_t nspecial;
	uint32_t kernel; /* 1: PAGEMAP_SCAN works, 2: it does not, 0: not tried */
	struct {
		uint64_t start, len;
		uint32_t kind, zero; /* enum image_special */
	} special[BLOB_SPECIALS];
	uint64_t vdso_sum;
};

enum blob_verb {
	BLOB_LEAVE = 1,	  /* park, speak on chan, dump, then ghost or back */
	BLOB_DUMP = 2,	  /* dump to fd and come back */
	BLOB_RESTORE = 3, /* become the image that is on fd; comes back only on failure */
	BLOB_GHOST = 4,	  /* unmap all but the blob and loop as a ghost on chan */
	BLOB_ENV = 5,	  /* fill env and come back */
};

/*
 * Memory for one dump or restore: the scratch part of the blob, then what lies
 * behind the blob, mapped as it is needed. Allocations are given back all at
 * once, or down to a mark.
 */
struct blob_arena {
	uint64_t base, used, size; /* address; bytes of it handed out; bytes mapped */
};

/* What a dump that is to leave took out of the kernel; blob_thaw() puts it back. */
#define BLOB_PENDING_MAX 4096 /* signals queued; more: the process cannot move */
struct blob_frozen {
	uint32_t held; /* 1: there is something to put back */
	uint32_t npending, ntimers;
	uint32_t zero;
	uint64_t pending;      /* address in the arena: siginfo, 128 bytes each */
	uint64_t timers;       /* address in the arena: struct image_timer each */
	uint64_t itimer[3][4]; /* ITIMER_*: interval s us, value s us */
};

/* What of files goes as contents; the values of BProc's BPROC_DUMP_*. */
#define DUMP_LIBS 1u
#define DUMP_EXEC 2u
#define DUMP_OTHER 4u

/*
 * At the start of the rw part; filled by whoever maps the blob (self.c in the
 * process itself, bpinit from outside). Valid for as long as the blob is mapped.
 */
struct blob {
	uint64_t magic; /* BLOB_MAGIC */
	uint64_t base;	/* of the mapping, BLOB_SIZE bytes */
	uint64_t self;	/* address of this struct */
	uint32_t verb;
	int32_t chan;	     /* LEAVE, GHOST: the process's end; -1 none */
	int32_t fd;	     /* DUMP, RESTORE: the image */
	uint32_t dump_flags; /* DUMP_* */
	uint32_t regs_given; /* 1: regs and xsave were filled in from outside */
	uint32_t exec_kind;  /* LEAVE: enum move_kind */
	uint64_t exec_args;  /* LEAVE + MOVE_REXEC: address of the argument block, */
	uint64_t exec_len;   /* its length: dir\0cmd\0 argc\0 argv..\0 envp..\0 */
	int32_t hide_fd[4];  /* descriptors of ours that are not part of the image; -1 */
	struct blob_regs regs;
	uint64_t xsave_size;
	/*
	 * rseq of this process as its mapper knows it (libc's symbols, or
	 * PTRACE_GET_RSEQ_CONFIGURATION); rseq_addr 0: none.
	 */
	uint64_t rseq_addr;
	uint32_t rseq_len, rseq_sig;
	uint32_t sigs_default; /* RESTORE: 1: no handler is set, nothing ignored */
	uint32_t zero;
	struct blob_env env;

	/* the blob's own state follows; see the .c files */
	int64_t result;	  /* DUMP: bytes written or -errno. LEAVE: -errno after an abort */
	uint64_t sigmask; /* of the process, from the moment the blob was entered */
	struct blob_err err;
	struct blob_arena arena;
	struct blob_frozen frozen;
	uint64_t dump; /* address of what blob_dump_prepare() made */
	uint8_t xsave[BLOB_XSAVE_MAX] __attribute__((aligned(64)));
};
_Static_assert(sizeof(struct blob) <= BLOB_STRUCT_MAX, "struct blob outgrew its place");

/*
 * dump.c: the whole image of this process to opt->fd; all signals must be
 * blocked. 0: written, and its pending signals and timers are held: they are out
 * of the kernel until blob_thaw(), which whoever goes on here must call, or for
 * good if the process becomes a ghost. -errno: err is filled and the process is
 * as it was, but for the blocked signals.
 */
struct blob_dump {
	int fd;
	uint32_t flags;	       /* BPROC_DUMP_* */
	uint32_t streams;      /* 1: fds 0..2 are streams of home (leaving home, not /dev/null) */
	uint32_t away;	       /* 1: not at home, and of fds 0..2 only these are streams: */
	uint32_t away_streams; /* CHAN_GO_STREAM_* */
	uint32_t for_fork;     /* 1: a child of rfork: no pending signals, timers or locks */
	uint64_t bytes;	       /* out: written */
};
long blob_dump(struct blob *b, struct blob_dump *opt);
/*
 * The same in two steps: all but the writing, while whoever leaves waits for its
 * grant (opt->fd is -1, and opt must stay where it is), then the writing. Nothing
 * of the process may change in between.
 */
long blob_dump_prepare(struct blob *b, struct blob_dump *opt);
long blob_dump_send(struct blob *b, int fd);
/* Instead of an image: b->err, which blob_restore() at the other end returns as its own. */
void blob_send_failure(struct blob *b, int fd);
/* As write(2), but a reader that is gone is -EPIPE and no signal. Signals are blocked. */
long blob_write_quietly(int fd, const void *p, uint64_t n);
/* After blob_dump(): puts back what is held and frees the memory of the dump. May be called always.
 */
void blob_thaw(struct blob *b);

/* restore.c: everything of the image up to, not including, the return into it.
 * 0, or -errno with err filled: then nothing but the blob is mapped if *destroyed. */
struct blob_restore {
	int fd;
	int stream_fd[CHAN_STREAMS]; /* what becomes streams 0..2, or -1: what is on 0..2 stays */
	uint32_t keep_streams; /* 1: home-coming: fds 0..2 of this process are the originals */
	int keep_fd;	       /* > 2: kept open, and told if its number changed; 0: none */
	uint32_t set_creds;    /* 1: take the image's credentials, or fail; 0: the caller did */
	uint32_t destroyed;    /* out */
};
long blob_restore(struct blob *b, struct blob_restore *opt);
/*
 * Returns into b->regs by rt_sigreturn, with b->xsave and b->sigmask: into the
 * restored image, or, where regs_given, to where the process was parked.
 */
_Noreturn void blob_resume(struct blob *b);
/* Unmaps everything but the blob and the vdso. Cannot fail after the first munmap. */
void blob_unmap_others(struct blob *b);

/*
 * leave.c, ghost.c. blob_leave() is entered with all signals blocked and comes
 * back (-errno, err filled) only after an abort; entry's caller unblocks them.
 */
_Noreturn void blob_ghost(struct blob *b);
long blob_leave(struct blob *b);
/* Unregisters what b->rseq_* tells of: needed before its memory goes. */
void blob_rseq_off(struct blob *b);
/* Fills what is missing of b->env. */
long blob_env_fill(struct blob *b);
