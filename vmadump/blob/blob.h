/*
 * The blob: one small freestanding piece of position-independent code, mapped
 * into every process that leaves, arrives or stands in. It calls nothing but
 * the kernel. One mapping of BLOB_SIZE bytes: code (r-x) first, then its own
 * data, stack and scratch (rw-). Nothing else of ours is in the process.
 *
 *   leave.c    the source side of a move, top to bottom
 *   park.c     a process that was put here from outside, with all its threads
 *   park_leave.c  the same, when it is to leave
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
#define BLOB_CODE_MAX (144ul << 10) /* bytes of the code part, page multiple */
#define BLOB_DATA (256ul << 10)	    /* bytes of the rw part */
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
	uint32_t cpu_known;  /* 1: xcr0 and cpuid are filled */
	uint32_t xsave_size; /* bytes of a whole area, standard format; 0: not asked yet */
	uint64_t xcr0;
	uint32_t xoff[BLOB_XCOMP_MAX], xlen[BLOB_XCOMP_MAX]; /* length 0: not asked yet */
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

#define BLOB_TEMPLATE (64ul << 10) /* a length, and the head of an image */
#define BLOB_ANNEX (CHAN_WORD_BYTES + BLOB_TEMPLATE)
struct blob_template {
	uint64_t len; /* 0: none */
	uint8_t head[BLOB_TEMPLATE - 8];
};
#define BLOB_ANNEXED 1ul /* in the address that a copy gets back: with its annex */
#define blob_template(b) ((struct blob_template *)((b)->annex + CHAN_WORD_BYTES))

#define BLOB_RESTORE_ALONE                                                                         \
	1u /* its session and group are to be as they were, as far as they can                     \
	    */
enum blob_verb {
	BLOB_LEAVE = 1,	  /* park, speak on chan, dump, then ghost or back */
	BLOB_DUMP = 2,	  /* dump to fd and come back */
	BLOB_RESTORE = 3, /* become the image that is on fd; comes back only on failure */
	BLOB_GHOST = 4,	  /* unmap all but the blob and loop as a ghost on chan */
	BLOB_ENV = 5,	  /* fill env and come back */
	BLOB_PARK = 6,	  /* put here from outside: dump when chan says so, go on when it ends */
	BLOB_CHECK = 7,	  /* read the image on fd to its end; head stays where b->head says */
	BLOB_LOOK = 8,	  /* what keeps process look_at from being carried; chan: where to say so */
};

/*
 * A thread but the first: of a process that was put here from outside (its mapper
 * fills tid to xsave, the thread itself the rest), or of an image that is restored.
 * Lies at the low end of a piece of memory that is also its stack.
 */
struct blob_sched {
	uint32_t size, policy; /* the kernel's struct sched_attr */
	uint64_t flags;
	int32_t nice;
	uint32_t priority;
	uint64_t runtime, deadline, period;
	uint32_t util_min, util_max;
	uint8_t cpus[128];
};
_Static_assert(sizeof(struct blob_sched) == 56 + 128, "as doc/image.md has it");
struct blob_thread {
	uint64_t self, stack; /* address of this; top of the stack */
	uint64_t blob;	      /* address of struct blob */
	int32_t tid;
	uint32_t restored; /* enum thread_from: says what it is, or makes itself what this says */
	uint32_t order;	   /* of a ghost's: THREAD_*, a futex */
	uint32_t seccomp;  /* its mode, */
	uint32_t nnp;	   /* and no_new_privs */
	uint32_t prctls;   /* PRCTL_* */
	uint64_t next;	   /* THREAD_NEXT: the struct blob_thread that it is to be, or was */
	uint64_t sigmask;
	struct blob_regs regs;
	uint64_t rseq_addr;
	uint32_t rseq_len, rseq_sig;
	uint64_t xsave_size; /* bytes at xsave */
	uint64_t alt_sp, alt_flags, alt_size;
	uint64_t robust, robust_len, tid_at, slack;
	uint32_t uid[3], gid[3]; /* real, effective, saved */
	uint64_t caps[2];	 /* permitted, effective */
	char name[16];
	struct blob_sched sched;
	uint8_t xsave[] __attribute__((aligned(64)));
};
enum thread_from { THREAD_PARKED, THREAD_CLONED, THREAD_KEPT, THREAD_BACK };
enum thread_order { THREAD_WAIT, THREAD_END, THREAD_NEXT };
#define BLOB_THREAD_ENTRY 0x60 /* from the start of the blob; rdi = struct blob_thread */
#define BLOB_THREAD_STACK (8ul << 10)
#define BLOB_THREADS_MAX 32768u
/* Bytes for one thread with n bytes of registers; behind those rt_sigreturn wants 4 more. */
#define BLOB_THREAD_LEN(n)                                                                         \
	(((sizeof(struct blob_thread) + (n) + 64 + BLOB_THREAD_STACK) + 4095) & ~4095ul)

/* A signal that is pending; tid 0: for the process. */
struct blob_pending {
	uint64_t tid;
	uint8_t info[128];
};

/*
 * Memory for one dump or restore: the scratch part of the blob, then what lies
 * behind the blob, mapped as it is needed. Allocations are given back all at
 * once, or down to a mark.
 */
struct blob_arena {
	uint64_t base, used, size; /* address; bytes of it handed out; bytes mapped */
};

/* A socket that listens, of one that leaves. */
#define BLOB_LISTENERS 16
struct blob_listener {
	int32_t fd; /* -1: it was lent */
	uint32_t zero;
	uint64_t dev, ino; /* of its name; 0: none */
	char name[112];
};

/* What a dump that is to leave took out of the kernel; blob_thaw() puts it back. */
#define BLOB_PENDING_MAX 4096 /* signals queued; more: the process cannot move */
struct blob_frozen {
	uint32_t held; /* 1: there is something to put back */
	uint32_t npending, ntimers;
	uint32_t zero;
	uint64_t pending;      /* address in the arena: struct blob_pending each */
	uint64_t timers;       /* address in the arena: struct image_timer each */
	uint64_t itimer[3][4]; /* ITIMER_*: interval s us, value s us */
	uint64_t locks;	       /* address in the arena: struct dump_lock, a list; 0: none */
};

/* What of files goes as contents; the values of BProc's BPROC_DUMP_*. */
#define DUMP_LIBS 1u
#define DUMP_EXEC 2u
#define DUMP_OTHER 4u
#define DUMP_LAZY 0x200u   /* BPROC_MOVE_LAZY: of one that leaves, memory may follow */
#define DUMP_LOCKS 0x400u  /* BPROC_MOVE_LOCKS: of one that leaves, locks are given up */
#define DUMP_FLOCKS 0x800u /* with it: nobody else has the descriptions that hold locks */

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
	int32_t fd;	     /* DUMP, RESTORE: the image; LOOK: its head, or -1 */
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
	uint32_t mask_given;   /* 1: sigmask was filled in from outside */
	uint32_t close_fd;     /* LEAVE: a descriptor that is not wanted any more; 0: none */
	struct blob_env env;

	/* PARK: mapped below base, threads first; also the threads of a restored image */
	uint64_t low;	  /* the lowest address that is ours; 0: base */
	uint64_t threads; /* of the first struct blob_thread, thread_len apart */
	uint32_t nthreads, thread_len;
	uint64_t pending; /* struct blob_pending each */
	uint32_t npending;
	uint32_t seccomp_len, root_len; /* in an image; 0: none */
	uint64_t seccomp;	  /* contents of TAG_SECCOMP; of an image: until the blob goes */
	uint64_t root;		  /* its root directory, for whoever has put it here */
	int32_t far;		  /* PARK: the other end of chan, to be closed here; -1 */
	uint32_t parked, release; /* futexes: threads that wait; enum blob_release */
	int32_t outer;		  /* PARK: while it leaves: to whoever put it here; 0: none */
	uint32_t nkept, kept_len; /* GHOST: places of threads that wait for its original, */
	uint64_t kept;		  /* the first struct blob_thread, kept_len apart */
	/* PARK: descriptors handed to it for a dump; lo 0: none. Of the first of a tree that
	 * arrives: those that it has for the others, until it runs. */
	int32_t lent_lo, lent_hi;
	int32_t order; /* LEAVE, of one of a tree: what it is to be told (tree.h); 0: nothing */

	/* RESTORE, CHECK: what was read of the image before, in this memory */
	uint64_t ahead, ahead_len;
	uint32_t restore_flags; /* BLOB_RESTORE_* */
	uint32_t check_stream;	/* CHECK: 0: nothing but the image itself is looked at */
	uint64_t restore;	/* address of struct restore, for the threads that it makes */
	int32_t thread_err;	/* of the first thread that could not be made what it was */
	int32_t look_at;	/* LOOK: the process whose descriptors this one has copies of */
	uint32_t look_leaves;	/* LOOK: 1: it is to run on another machine */
	uint32_t look_away;	/* LOOK: and leaves one where it is not at home: CHAN_GO_* */
	uint32_t stopped;	/* by a signal: whoever dumps it says so, and it is in the image */
	/*
	 * PARK, LEAVE, RESTORE: whoever put it here keeps it on one processor for as long as both
	 * take turns; these are those that it may run on then. Length 0: it is not.
	 */
	uint8_t cpus[128];
	uint64_t cpus_len;
	uint64_t head, head_len; /* CHECK, out: its head, until the blob is unmapped */

	/* the blob's own state follows; see the .c files */
	int64_t result;	  /* DUMP: bytes written or -errno. LEAVE: -errno after an abort */
	uint64_t sigmask; /* of the process, from the moment the blob was entered */
	struct blob_err err;
	struct blob_arena arena;
	struct blob_frozen frozen;
	uint64_t dump;	    /* address of what blob_dump_prepare() made */
	uint32_t no_guards; /* LEAVE: it has no guard pages, as far as is known */
	uint32_t live_go;   /* with live: the flags that CHAN_GO will have */
	uint64_t live;	    /* LEAVE: the id of what went ahead of its image (live.h); 0: nothing */
	/* Put aside for an image that is to come (live.h): not unmapped with the rest. hi 0: none
	 */
	uint64_t aside_lo, aside_hi;
	/*
	 * What lies right before the blob of a ghost whose original was rforked from, and of its
	 * skeletons and arrivals: the word (channel.h), then the template. 0: nothing.
	 */
	uint64_t annex;
	int maker;     /* of an arrival: its skeleton, which shares its memory and sleeps */
	uint64_t lazy; /* of one whose memory follows it: struct lazy_out, or 0 */
	/* LEAVE: sockets that listen: listeners_decided() takes their names away, or mends them */
	uint32_t nlisteners;
	struct blob_listener listener[BLOB_LISTENERS];
	uint64_t filters; /* which seccomp filters this process has of its own (filters.h) */
	uint32_t differ;  /* LEAVE: 1: its threads are not all in one mode of seccomp */
	/* RESTORE: in the arena, what some of its threads are to have besides; how many filters all
	 * have, with the place's */
	uint32_t own_len, own_base;
	uint64_t own;
	/* For each stream the descriptor above 2 that is it, or 0: as the last dump has found it,
	 * of one that is at home, and as CHAN_GO has said of one that is not. */
	int32_t saved[3], away_saved[3];
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
	uint32_t goes_on;      /* 1: pending signals and timers are read, not taken */
	uint32_t objects;      /* 1: open files that no path leads to go along, and threads */
	uint32_t leaves;       /* 1: with that, as of one that is to run on another machine */
	uint32_t lazy;	       /* 1: large memory follows when it runs: lazy_out.h */
	/* Not NULL: nothing but the head is wanted, and each thing that is refused. */
	void (*refused)(struct blob *b);
	int32_t aside;	    /* whose descriptors these are copies of; 0: its own */
	uint32_t only_look; /* 1: nothing is made of it: can it be carried? */
	uint32_t rest;	    /* 1: with that: mappings and descriptors were looked at before */
	uint64_t live;	    /* the id of what went ahead (live.h): of that only the rest; or 0 */
	uint32_t has_order; /* 1: order is a file (tree.h): it is one of a tree */
	int order;
	uint64_t bytes; /* out: written */
};
long blob_dump(struct blob *b, struct blob_dump *opt);
/* Of one that leaves, by CHAN_GO_*: is that home, and what are its streams? */
void blob_dump_from(struct blob_dump *opt, uint32_t go);
/*
 * The same in two steps: all but the writing, while whoever leaves waits for its
 * grant (opt->fd is -1, and opt must stay where it is), then the writing. Nothing
 * of the process may change in between.
 */
long blob_dump_prepare(struct blob *b, struct blob_dump *opt);
/* And the first of those in two: what may be refused, then what takes long. */
long blob_dump_look(struct blob *b, struct blob_dump *opt);
long blob_dump_last(struct blob *b);
long blob_dump_send(struct blob *b, int fd);
/* BLOB_LOOK. */
long blob_look(struct blob *b);
/* Instead of an image: b->err, which blob_restore() at the other end returns as its own. */
void blob_send_failure(struct blob *b, int fd);
/* As write(2), but a reader that is gone is -EPIPE and no signal. Signals are blocked. */
long blob_write_quietly(int fd, const void *p, uint64_t n);
/* listen.c: it has left, or goes on. */
void listeners_decided(struct blob *b, int left);
/* After blob_dump(): puts back what is held and frees the memory of the dump. May be called always.
 */
void blob_thaw(struct blob *b);

/* restore.c: everything of the image up to, not including, the return into it.
 * 0, or -errno with err filled: then nothing but the blob is mapped if *destroyed. */
struct blob_restore {
	int fd;
	int stream_fd[CHAN_STREAMS]; /* what becomes streams 0..2, or -1: what is on 0..2 stays */
	uint32_t keep_streams;	  /* 1: home-coming: fds 0..2 of this process are the originals */
	struct restore *warm;	  /* what blob_restore_warm() made, or NULL */
	struct live_stream *live; /* what went ahead of the image, if it says so; or NULL */
	/* 1: of a ghost, which is one again if this fails: it has something in the arena, and drops
	 * the right to make threads itself. */
	uint32_t in_place;
	const struct chan_cred *taken; /* whose limits this process has taken already, or NULL */
	int32_t oom;		       /* its oom_score_adj, if oom_known */
	uint32_t oom_known;
	uint32_t leave_head; /* 1: a copy of the image's head is left in the template */
	int keep_fd;	     /* > 2: kept open, and told if its number changed; 0: none */
	uint32_t set_creds;  /* 1: take the image's credentials, or fail; 0: the caller did */
	/* Its credentials, but for the right to make threads with wanted ids: dropped when they
	 * are there. NULL: there is nothing to drop. */
	const struct chan_cred *cred;
	uint32_t alone;	       /* 1: session and group as BLOB_RESTORE_ALONE says */
	struct restore *first; /* of one of a tree: what its first process has read; else NULL */
	uint32_t index;	       /* and which of the tree it is */
	uint32_t look;	       /* 1: nothing is to be made that others see */
	int lazy_fd;	       /* /dev/userfaultfd, if its memory follows; 0: it does not */
	uint64_t tree; /* one of a tree that arrives together: its move; what they share comes by
			* the channel. 0: it is not */
	uint32_t destroyed; /* out */
};
long blob_restore(struct blob *b, struct blob_restore *opt);
/* What it takes to restore is not needed any more, as a rule: its memory is given back. */
void rest_done(struct blob *b);
/* restore_undo.c: of a ghost again, what of that is still in the kernel goes. */
void rest_undo(struct blob *b);
/* It waits, restored, until whoever did that lets it go. */
void blob_await_release(struct blob *b);
/* restore_tree.c: CHAN_SETTLE. */
long tree_settle(struct blob *b);
/* The image on b->fd, read and held against this machine; nothing is changed. */
long blob_check(struct blob *b);
/*
 * The memory of the image whose head is in the template, as far as it can be had without the
 * image: mapped, and where pages were sent, populated. NULL: nothing is changed. It exits if it
 * fails halfway. In a fresh clone only.
 */
struct restore *blob_restore_warm(struct blob *b, struct blob_restore *opt);
/*
 * Returns into b->regs by rt_sigreturn, with b->xsave and b->sigmask: into the
 * restored image, or, where regs_given, to where the process was parked. Its other
 * threads go on as well.
 */
_Noreturn void blob_resume(struct blob *b);
/* park.c: as the verb says; comes back to go on. */
long blob_park(struct blob *b);
/* Waits until n threads are parked; lets all of them go. */
enum blob_release { RELEASE_NOT, RELEASE_GO, RELEASE_END, RELEASE_STAY, RELEASE_BACK };
void blob_wait_parked(struct blob *b, uint32_t n);
void blob_release(struct blob *b);
/* The threads but the first end; their memory can be unmapped then. */
void blob_end_threads(struct blob *b);
/*
 * Of a ghost at home: they stay, so that their numbers stay theirs; only with a capability
 * could an original that comes home make threads with those anew. Those that it has not had end.
 */
void blob_keep_threads(struct blob *b);
void blob_end_kept(struct blob *b);
/* It is a ghost again: those that it had kept are kept, those that were made end. */
void blob_give_back_threads(struct blob *b);
/* hint: which of them it most likely is */
int blob_has_kept(const struct blob *b, uint32_t hint, int32_t tid);
/* The kept thread with this number is to be what t says. 0: there is none, or none any more. */
int blob_wake_kept(struct blob *b, uint32_t hint, struct blob_thread *t);
/* What it was lent is closed. */
void park_give_back(struct blob *b);
/* park_leave.c: CHAN_LEAVE; comes back if it has not left. */
struct chan_pkt;
void park_leave(struct blob *b, struct chan_pkt *order);
/* It is about to be the ghost, and whoever put it here hears of it. */
void park_left(struct blob *b);
_Noreturn void blob_thread_resume(struct blob_thread *t);
static inline uint64_t blob_low(const struct blob *b)
{
	return b->low ? b->low : b->base;
}
/* Unmaps everything but the blob and the vdso. Cannot fail after the first munmap. */
void blob_unmap_others(struct blob *b);

/*
 * leave.c, ghost.c. blob_leave() is entered with all signals blocked and comes
 * back (-errno, err filled) only after an abort; entry's caller unblocks them.
 */
_Noreturn void blob_ghost(struct blob *b);
long blob_leave(struct blob *b, struct blob_dump *looked);
/* Before anybody is asked for leave: 0: it can be carried, and ret is for blob_leave(). */
long blob_leave_look(struct blob *b, struct blob_dump *ret);
/* Unregisters what b->rseq_* tells of: needed before its memory goes. */
void blob_rseq_off(struct blob *b);
/* Fills what is missing of b->env, as far as every restore needs it; or all of it. */
long blob_env_fill(struct blob *b);
long blob_env_all(struct blob *b);
