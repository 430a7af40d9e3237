/*
 * A process that is parked in the blob, its threads too, put there from outside.
 * Library code, not installed.
 */
#pragma once

#include "vmadump/stay.h"
#include "vmadump/trace.h"

struct freeze {
	struct trace t;
	uint64_t low, len; /* what is mapped in it: threads, signals, then the blob */
	uint64_t self;	   /* address of struct blob in it */
	int chan;	   /* our end; -1 */
	int far;	   /* the number of its end in it; -1 */
	int other;	   /* and that of ours there, which it closes when it comes to it; -1 */
	uint64_t since_us; /* when it was stopped, CLOCK_MONOTONIC */
	int to_leave;	   /* by a move */
	int ends;	   /* by SIGKILL, in its park */
	int loose;	   /* so nobody traces it while it is parked */
	int threads;	   /* as it was when it was looked at */
	int pte_kb;	   /* its page tables; the same */
	int fds;	   /* no descriptor is as high as this; the same */
	uint64_t vdso;	   /* 0: not seen; the same */
	unsigned flags;	   /* FREEZE_* and VMAD_* as it was entered with */
	int seccomp;	   /* its mode; freeze_more.c */
	int late;	   /* freeze_look_at_rest() has something to do */
	int aside;	   /* it has much, and was looked at while it ran: nothing refuses it */
	int has_filters;   /* so many, this place's too; as it was when it was looked at */
	uint8_t *filters;  /* malloc'd: contents of TAG_SECCOMP, filters_len bytes */
	uint32_t filters_len;
	char *root; /* malloc'd: its root directory, if that is not ours */
	struct stay stay;
};

#define FREEZE_LOOKED 0x10000u	/* one that has much: it was looked at before, or is not to be */
#define FREEZE_FILTERS 0x20000u /* its seccomp filters can go along; else they are refused */
#define FREEZE_ROOT 0x40000u	/* its root directory, the same */
#define FREEZE_JUDGED 0x80000u	/* its seccomp filters allow what the blob calls: not refused */
#define FREEZE_LATE 0x100000u	/* if it is small, some of what refuses it is looked for later */
#define FREEZE_COPIES 0x200000u /* memory that others share is copied: nobody is asked about it */
#define FREEZE_LOOK (1u << 30)	/* that is to be looked for, however little it is */

/*
 * Parks process pid; flags: VMAD_DUMP_*, VMAD_KILL, FREEZE_*. -1: it goes on as it was. The
 * park holds by itself: ptrace is what leads into it, and leads out of it by freeze_leave().
 */
int freeze_enter(struct freeze *f, pid_t pid, unsigned flags, int to_leave, struct vmad_err *err);
/* f->loose: it is not traced any more. Traced again, as it takes to have it go on here. */
int freeze_again(struct freeze *f);
/* It goes on where it was, and the blob is gone. */
int freeze_leave(struct freeze *f);
/* It ends, by SIGKILL, where it is parked. */
void freeze_end(struct freeze *f);
/* Frees what freeze_enter() holds here. */
void freeze_free(struct freeze *f);

uint64_t freeze_now_us(void);

/* away.c: vmad_leave_pid(), of which pages went ahead so, or NULL. */
struct live;
int leave_pid(pid_t pid, int conn, int node, unsigned flags, const struct live *live,
	      uint64_t *ret_us, struct vmad_err *err);

/* freeze_look.c: what shows before it is stopped: 0, or -1 and it cannot be taken. */
int freeze_look(struct freeze *f);
/* freeze_threads.c: the same of its threads; 30 us each. */
int freeze_look_at_threads(struct freeze *f);
/* What was left for later, while it is parked: 0, or refused. */
int freeze_look_at_rest(struct freeze *f);
/* It is stopped: has it set a filter since? 0, or refused. */
int freeze_look_again(struct freeze *f);
/* The rest of what is looked at while it runs, of one that has much. 0, or refused. */
int freeze_look_more(struct freeze *f);
/* Has it so much that a look takes milliseconds? After freeze_look(). */
int freeze_is_much(struct freeze *f);
/* freeze.c: a thread as it was read, but for where it lies in the blob's memory. */
void freeze_thread(const struct task *task, struct blob_thread *ret);
/*
 * aside.c: what of it cannot be carried, while it runs; told for each, and how many. -1: it could
 * not be looked at so. away: CHAN_GO_* of one that leaves and is not at home.
 */
int aside_look(const struct freeze *f, int leaves, unsigned away,
	       void (*told)(const char *text, void *arg), void *arg);
/* The head of its image, as far as it shows while it runs; registers as they were read. 0 or -1. */
int aside_head(const struct freeze *f, unsigned away, int fd);
/* The name of a thread, into zeros; "" if it has none any more. */
void freeze_name(pid_t pid, pid_t tid, char name[16]);
/* arg: a struct trace, which is refused for the first text that it is told. */
void freeze_first(const char *text, void *arg);
/* 0, or -1 and the first of what was told. */
int freeze_look_aside(struct freeze *f);
/* freeze_more.c: status as /proc has it: 0, or refused. Then, when it is stopped, f->filters. */
int look_at_filters(struct freeze *f, const char *status);
int freeze_root(struct freeze *f);
int freeze_filters(struct freeze *f);
/* filters_each.c: before it is stopped, of one with several threads. */
void look_at_thread_filters(struct freeze *f);
/*
 * freeze_lock.c; it is parked: 0, or refused because another process shares what holds a lock, and
 * is not one that goes with it (or NULL).
 */
struct tree;
int freeze_look_at_locks(struct freeze *f, const struct tree *with);
/* The other way round: of one that is restored and about to leave the blob. */
int revive_filters(struct trace *t, const struct blob *b);
/* freeze_room.c: maps len bytes: so many below one of the places where a blob may be,
 * the rest from there on. f->low, f->len. */
int freeze_room(struct freeze *f, uint64_t below, uint64_t len);
/* t->gadget, a system call instruction of its vdso, whose bytes are those of ours: looked for, or
 * in the vdso that lies there, and then 0 says that it does not. */
void freeze_gadget(struct freeze *f);
/* It stands still, and may have executed another program since that was looked for. */
void freeze_gadget_now(struct freeze *f);
int freeze_gadget_in(struct trace *t, uint64_t vdso);
