/*
 * bpinit: what its files share. One process, one thread, static tables, no
 * memory asked for after start. doc/local.md has the protocols that it speaks.
 *
 *	bpinit.c	start, the loop, the socket of bpslave
 *	bpinit_event.c	events kept until bpslave has them safe
 *	bpinit_proc.c	the table of processes, bpinit_check.c what they may say
 *	bpinit_wait.c	stops and ends of them
 *	bpinit_state.c	what a new bpslave, or a new master, is told of it all
 *	bpinit_fence.c	the end of everything here, ordered or by the clock
 *	bpinit_ran.c	which moves to here have run
 *	bpinit_move.c	the table of moves; bpinit_leave.c the source's side of one,
 *	bpinit_skel.c	warm children of ghosts, and the words of their arrivals
 *	bpinit_arrive.c	the target's, bpinit_complete.c its commit, bpinit_off.c when it is not
 *			to be,
 *	bpinit_children.c the children of what arrives, bpinit_restop.c a stop once more
 *	bpinit_tree.c	processes that arrive together
 *	bpinit_lazy.c	memory that follows a process, and pager*.c that has it filled in
 *	bpinit_make.c	processes under the number that they are to have
 *	bpinit_trace.c	the tracer of ghosts: their signals, stops and exits
 *	bpinit_mirror.c	what their originals do, shown by them
 *	bpinit_inject.c	execmove: from the exec to the blob in the new program
 *	bpinit_later.c	orders for processes whose channel is full
 *	bpinit_born.c	ghosts at home of what was born on a node
 *	bpinit_signal.c	delivery of signals, with their sender; once.c each one once
 *	bpinit_filter.c	a node's seccomp filter, and what it asks
 *	bpinit_kill.c	kill() on a node to what is not, or not all, there
 *	bpinit_judge.c	the same at home: who may, and the signal itself
 *	bpinit_look.c	/proc, without memory of its own
 *	bpinit_place.c	groups and sessions, the same everywhere
 *	bpinit_group.c	a group that is to be joined, and is not here
 *	bpinit_orphan.c	HUP and CONT of an orphaned group, each once
 *	bpinit_bereft.c	the end that orphans it, shown at home as it was on its node
 *	bpinit_spawn.c	namespaces, clones under a wanted pid, the lease
 */
#pragma once

#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "libbproc/local.h"
#include "libbproc/foreign.h"
#include "slaved/initproto.h"
#include "slaved/once.h"
#include "vmadump/blob/blob.h"
#include "vmadump/blob/mark.h"

#define PROCS_MAX 16384
#define MOVES_MAX 1024
#define WATCHES_MAX 4096
#define EVENTS_MAX 8192	     /* kept for bpslave */
#define EVENTS_RESERVED 4096 /* of them not for signals */
#define SIGNALS_WINDOW 64    /* of one ghost, told and not acknowledged */
#define SIGNALS_MAX 1024     /* of one ghost, that wait behind those */
#define MIRRORS_MAX 16	     /* queued for one ghost */
#define ENDED_MAX 1024	     /* moves whose end is remembered whatever it was: bpinit_ran.c */
#define BIRTHS_MAX PROCS_MAX /* ghosts of the born that are not made yet */
#define LATER_MAX 32768	     /* orders for processes whose channel is full */
#define BIRTHS_AT_ONCE 32    /* of them asked for and not answered */

/* -- bpinit.c */

struct bpinit {
	int epoll, listener, signals, slave; /* fds; slave -1: no bpslave now */
	uint32_t slave_gen;
	int self;	   /* our pid, as the kernel writes it into si_pid of what we send */
	bool keeper;	   /* beside the front end's bpslave, in no namespace of ours */
	int code;	   /* memfd with the blob's bytes */
	struct blob *blob; /* in our own memory: clones begin in a copy of it */
};
extern struct bpinit self;

/*
 * Never kill(), setsid() or any other call that the filter knows without the mark: on a node
 * it would wait for an answer of ours.
 */
static inline int own_kill(pid_t pid, int sig)
{
	return (int)syscall(SYS_kill, pid, sig, 0, 0, 0, CALL_MARK);
}

void say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/*
 * -- bpinit_cpu.c. Between cpu_woken_*() and cpu_back() a process that sleeps is woken: it
 * runs on the processor of the daemons, or away from it, and may then go where it may.
 */
struct cpu_mask {
	cpu_set_t was;
	bool set;
};
void cpu_start(void);
struct cpu_mask cpu_woken_here(int32_t pid);
struct cpu_mask cpu_woken_away(int32_t pid);
void cpu_back(int32_t pid, const struct cpu_mask *m);
void cpu_away(int32_t pid); /* until it sets its own mask */

/* What an epoll event is about. Each fd's tag holds its owner's index and generation. */
enum watch_kind { ON_LISTENER = 1, ON_SIGNAL, ON_SLAVE, ON_MOVE, ON_PROC, ON_PIDFD, ON_FILTER,
		  ON_SKEL, ON_LAZY };
int watch_fd(int fd, enum watch_kind kind, uint32_t index, uint32_t gen, uint32_t events);
int rewatch_fd(int fd, enum watch_kind kind, uint32_t index, uint32_t gen, uint32_t events);

/* Of a ghost that is to be made: uid real, effective, saved; gid real, effective. */
static inline void chan_cred_ids(struct chan_cred *c, const uint32_t uid[3], const uint32_t gid[2])
{
	for (int i = 0; i < 3; i++) {
		c->uid[i] = uid[i];
		c->gid[i] = gid[i > 0];
	}
}

/* -- bpinit_event.c */

/* All of it but the chain and the credentials; queued, sent when bpslave is there. */
void event(const struct init_msg *m);
void event_move(enum init_type type, uint64_t move_id, uint32_t req_id, int32_t pid);
void event_failed(uint64_t move_id, uint32_t req_id, uint32_t flags, int err, const char *fmt, ...)
	__attribute__((format(printf, 5, 6)));
void events_ack(const struct init_msg *m);
uint64_t events_upto(void); /* the number of the last one */
/* A signal that a ghost was sent: kept until the bpinit of its process has it. */
struct proc;
void event_signal(struct proc *p, const struct init_msg *m);
void events_signalled(const struct init_msg *m); /* it has these */
void events_forget_signals(struct proc *p);
int events_tick(int ms);     /* ms until signals are told again, at most this (-1: any time) */
bool events_have_room(void); /* for what children have to tell; else they wait for it */
void events_restart(void);   /* a new bpslave: everything not acknowledged again */
int events_tell_ends(void);  /* of those that bpinit does not know: 0, or -EAGAIN */
int events_flush(void);	     /* 0, or -EAGAIN when the socket is full */

/* -- bpinit_proc.c */

enum proc_state {
	PROC_FREE,
	PROC_MAKING, /* cloned, to be a ghost; has not said so */
	PROC_GHOST,
	PROC_LEAVING,  /* parked here, source of a move */
	PROC_ARRIVING, /* target of a move: a clone, or a ghost that turns back */
	PROC_REAL,     /* it came by a move and runs here */
};
/* Of PROC_MAKING: what has been heard, in bpinit_make.c. */
enum making { MAKE_ASKED, MAKE_REFUSED, MAKE_MADE, MAKE_FAILED, MAKE_UNANSWERED };
enum { INJECT_NO, INJECT_EXEC, INJECT_MMAP };
#define INJECT_WORDS 4

struct mirror {
	int32_t code, status;
	uint64_t use; /* of late ones only */
};

struct place {
	int32_t pgid, sid; /* 0: not known yet */
	bool changed;	   /* since its ghosts were made */
	int64_t when;	   /* ms: that, or home's last word on it; 0: none */
	uint64_t word;	   /* a node: number of that word, as they came */
};

struct proc {
	struct place place; /* home: as all nodes have been told */
	enum proc_state state;
	int32_t pid;
	uint32_t gen, next; /* next: in the hash chain, index + 1 */
	int chan;
	uint32_t move;	/* LEAVING, ARRIVING: index + 1 of its move; 0: it is over */
	bool our_child; /* in its exit stop: no other parent is told of the end */
	struct chan_clone id;
	uint64_t use;  /* of its number, as in struct init_msg; 0: not known */
	uint64_t came; /* REAL, and LEAVING from there: the move by which it came; 0: none */
	uint64_t upto; /* our last event when that was announced */
	bool traced, in_place;
	bool cloned_by_us; /* not by its parent's ghost, whose word comes later */
	bool orphan;	   /* MAKING: nobody else tells of its end: its channel does */
	enum making making;
	int32_t dropped_of; /* MAKING: a copy that is to end, this ghost's child; 0: no such */
	bool was_ghost;	 /* ARRIVING: into a ghost, which it is again if it fails */
	bool was_real;	 /* LEAVING: runs on as REAL after an abort */
	bool stopped;	 /* in a group stop, as its parent was shown */
	bool exiting;	 /* in its exit stop, held there */
	bool lost;	 /* died by itself; told */
	bool dying;	 /* its exit was ordered: whatever ends it may pass */
	bool serves;	 /* GHOST: its memory has not all followed its original */
	bool held_stop;	 /* a SIGSTOP that came while it was parked */
	bool conted;	 /* REAL: sent a SIGCONT since it was told as stopped ... */
	bool cont_told;	 /* REAL: bpslave has said that it goes on, and nothing was said since */
	int64_t stop_due; /* ... and said to have stopped again: told then; 0: not */
	int32_t stop_sig;
	bool watch_over; /* LEAVING: it has ended, as whoever watched it has seen */
	bool hup_told;	 /* with the SIGCONT that the kernel sends behind such a SIGHUP */
	int64_t hup_ms;	 /* when it came; 0: never */
	int64_t cont_ms; /* when its last group stop ended; 0: it had none */
	int32_t held;	 /* GHOST: stopped for this one until its parent has ended */
	bool cont_due;	 /* its group stop ended by a SIGCONT that has not been met yet */
	int32_t born_of; /* its parent when it was made, as a ghost of one born on a node */
	bool reaped;	 /* its original has been waited for, and so will it be */
	uint32_t later, later_last; /* orders that wait: index + 1 of the first, the last */
	uint32_t clones;	    /* it was told to make and has not answered for */
	uint32_t birth;		    /* MAKING: index + 1 of the birth it is made for */
	int awake;		    /* a stopped ghost has work: it runs, its stop stays shown */
	int busy; /* signal of the mirrored stop or continue under way */
	bool stop_met; /* that stop was let act */
	bool cont_blocked; /* a SIGCONT waits in it ... */
	bool marked;	   /* ... and one of ours does, or was taken by a stop: bpinit_mark.c */
	int nmirror;
	struct mirror mirror[MIRRORS_MAX];
	uint64_t mirror_move, mirror_seq; /* of the last stop or continue that was taken */
	uint64_t stream;		  /* of its signals, when it was sent one as a ghost */
	uint64_t number, acked;		  /* the last one told, the last one acknowledged */
	uint32_t nsignals, nwaiting;	  /* kept: told, and not to be told yet */
	void (*detached)(struct proc *p); /* wanted: called when it is untraced */
	int inject;
	int inject_chan, inject_code; /* the new program's descriptors; the latter -1: none */
	bool inject_shares;	      /* its code is mapped from that */
	uint64_t inject_saved[INJECT_WORDS]; /* what was at the start of the new program */
	struct blob_regs inject_regs;
};
extern struct proc procs[PROCS_MAX];
extern uint32_t procs_count;
extern uint32_t procs_reaped; /* of them with reaped set */
extern uint32_t procs_dropped; /* of them with dropped_of set */

struct proc *proc_find(int32_t pid);
void ghost_made(struct proc *p); /* it is one now */
/*
 * Do they name two uses of a number? A master that was restarted counts anew: what an older one
 * has said is as good as nothing, and here is one process of that number only.
 */
static inline bool use_differs(uint64_t a, uint64_t b)
{
	return a && b && a >> 32 == b >> 32 && a != b;
}
struct proc *proc_add(int32_t pid, enum proc_state state); /* NULL: the table is full */
void proc_remove(struct proc *p);
#define proc_index(p) ((uint32_t)((p)-procs))
int32_t proc_parent(int32_t pid);
/* False: it is no zombie. */
bool proc_zombie_status(int32_t pid, int *ret_status);
int proc_stop(int32_t pid);
int proc_set_chan(struct proc *p, int chan);
int chan_end(int chan); /* closes it, with what is unread in it; -1 */
void proc_close_chan(struct proc *p);
/*
 * A message on its channel. 0 or -errno; a lost channel is logged. One that is full takes
 * CHAN_REAP, CHAN_EXIT and CHAN_KILL later, and no others: -EAGAIN.
 */
int proc_tell(struct proc *p, const struct chan_msg *m, const int *fds, int nfd);
int proc_order(struct proc *p, enum chan_type type, uint64_t move_id);
void proc_readable(struct proc *p);
/* May the process say so of its children, of a signal? bpinit_check.c */
bool chan_is_right(const struct proc *p, const struct chan_msg *c);
extern uint32_t procs_used; /* no slot at or above it was ever used */

/* -- bpinit_wait.c */
void children_wait(void);
void children_signalled(void); /* what the signalfd holds is but news of them */
/* Children that were left for the next round, for want of room or not to hold up others. */
extern bool children_left;
int children_due(int ms); /* ms until they are looked at, at most this (-1: any time) */
int stops_tick(int ms);	  /* likewise: a stop that may be told already */
/* What a child of ours or of a ghost has done; status as of wait4(). */
void child_report(const struct chan_child *c);
void ghost_report(const struct chan_child *c);
void ended_known(int32_t pid); /* not born here; its parent's ghost will tell its end */
void init_watch(const struct init_msg *m);
void watch_ready(uint32_t index);
/* How a real process ended that was watched. */
void watch_told(int32_t pid, int status);

/* -- bpinit_used.c: what processes have used on other machines */
/* On all of them, of one whose ghost here is to end. */
void used_all(int32_t pid, const struct chan_used *u);
/* By one that has come: before it did. In its ghost: which was it here, too. */
void used_before(int32_t pid, const struct chan_used *u, bool in_place);
/* To what the kernel here says. came: it is in the table that it came by a move. */
void used_add(int32_t pid, struct chan_used *u, bool came);
void init_used(const struct init_msg *m);

/* -- bpinit_later.c */
int later_put(struct proc *p, const struct chan_msg *m); /* 0, or -EAGAIN: not of this kind */
void later_flush(struct proc *p);			 /* its channel takes some again */
void later_drop(struct proc *p);

/* -- bpinit_state.c: EV_STATE number *at, which is moved on; false: that was all. */
bool proc_state_msg(uint32_t *at, struct init_msg *m);
bool born_state_msg(uint32_t *at, struct init_msg *m); /* bpinit_born.c */
bool move_state_msg(uint32_t *at, struct init_msg *m);

/* -- bpinit_fence.c */
void init_fence(void);
void init_alive(const struct init_msg *m);
void fence_lift(void); /* a bpslave has greeted: it knows what was fenced */
bool fence_is_up(void);
int fence_tick(int ms); /* ms until the next look, at most this (-1: any time) */

/* -- bpinit_move.c, bpinit_leave.c, bpinit_arrive.c, bpinit_complete.c */

enum move_phase {
	MOVE_NONE,
	/* source */
	LEAVE_ASKED,
	LEAVE_EXEC, /* EXECMOVE: told to exec; LEAVE_ASKED again if not granted by then */
	LEAVE_SENDING,
	LEAVE_SENT,
	LEAVE_FAILED,
	LEAVE_GHOSTING, /* told to be a ghost */
	LEAVE_ABORTING,
	/* target */
	ARRIVE_CHAIN,
	ARRIVE_READY,
	ARRIVE_GHOST, /* complete, but the ghost it turns into is still being made */
	ARRIVE_RESTORING,
	ARRIVE_DETACHING, /* home: complete, the tracer lets go */
	ARRIVE_EXECING,
	ARRIVE_HELD, /* complete, of a tree of which not all are */
};
/* What is being done for the children of one that arrives, in this order. */
enum kids_phase {
	KIDS_NONE,
	KIDS_PARENT,   /* its own ghost */
	KIDS_HOLDING,  /* that leaves them alone when they end */
	KIDS_MAKING,   /* those that are missing */
	KIDS_STOPPING, /* stops that have been waited for */
	KIDS_TAKING,   /* its ghost takes these, and no more */
	KIDS_ENDING,   /* what is to be waited for */
	KIDS_WAITING,
	KIDS_READY,
};
#define CHILD_NOT_HERE 2 /* init_chain.child */
struct move {
	enum move_phase phase;
	uint64_t id; /* 0: not granted yet */
	uint32_t req_id, gen;
	uint32_t kind, dump_flags, epoch;
	int32_t target; /* source: where it goes, once granted */
	bool away, here, granted, voided;
	bool loaded; /* EXECMOVE: the program is here, and its blob makes the image */
	uint32_t streams;	/* CHAN_GO_STREAM_* of a source that is not home */
	int32_t saved[CHAN_STREAMS]; /* and which of its descriptors above 2 are some */
	struct chan_used used; /* before it comes; source: here, as the kernel has it */
	int32_t asker_pid, pid; /* pid 0: not known */
	int32_t granted_pid;	/* source: whom the target expects; 0: whoever it is */
	int chan;		/* source, until the process is known */
	int data;
	int back; /* lazy: by which the far side is heard, if not by data; -1 */
	bool lazy; /* target: memory may follow the image */
	uint64_t tree;	  /* target: the move of the first of its tree; 0: it comes alone */
	uint32_t members; /* of that */
	bool off;	  /* another of its tree cannot come */
	int32_t wants;	  /* a descriptor of the first, plus 1; 0: none */
	int filters;	     /* target: a file of its seccomp filters; -1 */
	uint64_t filters_id; /* source: which it has: vmadump/blob/filters.h */
	int stream[CHAN_STREAMS];
	unsigned char token[32];
	int abort_err;
	char abort_text[CHAN_TEXT_MAX];
	int32_t ppid, pgid, sid;
	bool home_here, from_home;
	bool threads; /* target: more than one are in its image */
	struct chan_cred cred;
	uint32_t skel; /* target: its arrival was a skeleton; number + 1 */
	uint32_t nchain, chain_at;
	struct init_chain chain[INIT_CHAIN_MAX];
	enum kids_phase kids;
	int64_t untold;	  /* ms: until then word on its own or its parent's ghost is waited for */
	bool place_tried; /* its ghost is, as far as can be, where it was */
	uint64_t word;	  /* target: of home's words on places the last before it was announced */
	struct mirror late[INIT_CHAIN_MAX]; /* of the chain, until it runs; code 0: none */
	int stop[INIT_CHAIN_MAX]; /* real here: by which it has stopped since it was asked about */
	uint64_t upto;		  /* target: our last event when it was announced */
};
extern struct move moves[MOVES_MAX];
extern uint32_t moves_used; /* no slot at or above it was ever used: they are long */
#define move_index(m) ((uint32_t)((m)-moves))
#define move_of(p) ((p)->move ? &moves[(p)->move - 1] : NULL)

struct move *move_find(uint64_t id);
/* On its way out of here, by either handle. */
struct move *move_find_leaving(uint64_t id, uint32_t req_id);
struct move *move_new(enum move_phase phase);
void move_free(struct move *m);
/* Source: before and after its process has got the data connection. 0 or -errno. */
int move_write_header(struct move *m);
void move_push_header(const struct move *m);
/* Remembers how it ended: EV_GHOST, EV_RAN, EV_VOIDED, EV_FAILED (given up here). */
void move_ended(uint64_t id, enum init_type how, int32_t pid);
enum init_type move_how_ended(uint64_t id, int32_t *ret_pid);
/* Of EV_RAN, how the process ended here afterwards; told with each answer that it ran. */
void move_life_ended(uint64_t id, const struct chan_child *c);
/* bpinit_ran.c: those that ran here, for KEEP_TIMEOUTS; no room for one: it is not to begin. */
void ran_keep(uint32_t ping_timeout_ms);
bool ran_has_room(uint64_t id);
void ran_put(uint64_t id, int32_t pid);
void ran_ended(uint64_t id, const struct chan_child *c);
bool ran_find(uint64_t id, int32_t *ret_pid, struct chan_child *ret_life);
void event_ran(uint64_t id, uint32_t req_id, int32_t pid);
bool move_went_on(uint64_t id, int32_t pid);
int sort_streams(struct sysio_pkt *pkt, int from, uint32_t mask, int ret[CHAN_STREAMS]);
void close_streams(int fd[CHAN_STREAMS]);

void init_depart(const struct init_msg *m, struct sysio_pkt *pkt);
void init_grant(const struct init_msg *m, struct sysio_pkt *pkt);
void init_decide(const struct init_msg *m, struct sysio_pkt *pkt);
void move_readable(struct move *m); /* its channel, while the pid is not known */
#include "slaved/bpinit_leave.h"

void init_arrive(const struct init_msg *m);
void init_data(const struct init_msg *m, struct sysio_pkt *pkt);
void init_void(const struct init_msg *m);
void arrive_message(struct proc *p, const struct chan_msg *c);
void arrive_chan_closed(struct proc *p);
/* A ghost answers CHAN_CLONE. */
void arrive_cloned(const struct proc *by, const struct chan_msg *c);
/* The word says so: it runs since then, and what we do about it has time. */
void arrive_has_run(struct move *m);
/* What has taken its word since we looked last is noted as running. */
void arrive_settle(void);
void arrive_progress(void); /* a ghost has been made: chains may go on */

/* Those of this tree: noted as running, all of them, and then told to run. */
void arrive_run_tree(uint64_t tree);

/* -- bpinit_tree.c */
bool tree_is_over(uint64_t tree);   /* one of it could not come */
/* Its ghost is still to be made, for its parent's move; or has another parent: it has failed. */
bool tree_not_yet(struct move *m, const struct proc *p);
void tree_complete(struct move *m); /* it could run: it does when all can */
void tree_failed(uint64_t tree, const char *text);
void tree_want(struct move *m, int32_t fd); /* it has asked for what the first has open so */

/* -- bpinit_off.c */
void arrive_call_off(struct move *m, int err, const char *text);
void arrive_failed(struct move *m, int err, const char *text);
/* Its copy is not to be: it ends itself, or is a ghost again. */
void arrive_drop(struct proc *p);
/* Has its ghost still to wait for a copy that was dropped? The original is not to find it. */
bool arrive_has_dropped(int32_t pid);
void arrive_end(struct proc *p); /* of a copy that was dropped and has been made */
void arrive_killed(struct proc *p, struct move *m);
void arrive_died(struct proc *p);
void arrive_fence(void); /* nothing that is on its way here may run any more */

/* -- bpinit_lazy.c */

void lazy_prepare(void);
/* What an arrival makes it with; -1: memory cannot follow to here. */
int lazy_device(const char **ret_why_not);
void lazy_start(const struct move *m); /* its pager; the arrival has its connection */
/* What an arrival that has failed says, or what it cannot know. */
const char *lazy_why(const struct move *m, const struct chan_msg *c);
/* CHAN_LAZY and its kin. */
void lazy_message(struct proc *p, const struct chan_msg *c, struct sysio_pkt *pkt);
void lazy_readable(uint32_t index, uint32_t gen);
bool lazy_child(pid_t pid); /* a pager has ended */
void lazy_off(const struct move *m);

/* -- bpinit_children.c: the chain's ancestors are here */
bool children_ready(struct move *m);
bool children_are_made(const struct move *m);
/* The SIGCHLD of a child whose end it is to be told of when it runs; si_signo 0: none. */
siginfo_t children_unheard(const struct move *m);
/* Stops that its ghost has taken since, once more; one of them, as it is heard of. */
void children_stop(const struct move *m);
void children_heard(int32_t pid, int code, int status);
/* Its ghost is making those of its children that are missing: nothing else makes one of them. */
bool children_are_coming(int32_t ppid);
void children_decided(void); /* whom somebody waits for may have come, or not be coming */
void children_held(struct proc *p, const struct chan_msg *c); /* its answer to CHAN_HOLD */
void children_not_made(struct move *m, int32_t pid, int err);
/* True: an arrival is to hear of it when it runs. */
bool children_later(const struct init_msg *mirror);
void children_go_on(struct move *m);   /* it runs */
void children_abandon(struct move *m); /* it does not */
/* -- bpinit_restop.c */
bool restop(int32_t pid, int sig);

/* -- bpinit_signal.c */

void init_signal(const struct init_msg *m);
/* u.signal, which was sent here, to a process or to what stands in for it. */
void deliver(const struct init_msg *m);

#include "slaved/bpinit_born.h"
#include "slaved/bpinit_make.h"
#include "slaved/bpinit_trace.h"
