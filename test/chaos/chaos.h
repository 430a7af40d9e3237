/*
 * The chaos test: processes of many kinds on a lab, faults in turn, and a ledger in
 * a file that everybody maps, wherever it runs. The lab's places share this
 * machine's files and kernel, so an atomic word of the ledger is one word for all
 * nodes: a process that runs twice shows at its next heart-beat.
 */
#pragma once

#include <bproc.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
	SLOTS = 16384, /* logical processes that are remembered */
	PAST = 20,     /* what is remembered of each */
	FAULTS = 4096, /* windows of faults that are remembered */
	DIFFS = 64,    /* differences whose text is kept */
	NODES_MAX = 16,
	SLACK_MS = 1500,    /* a fault that was repaired may be felt so long */
	PATIENCE_MS = 60000 /* what takes longer than this will never happen */
};

/* One logical process: one life under one number, on however many nodes. */
enum slot_state {
	SLOT_FREE,
	SLOT_NEW,     /* its parent is about to make it */
	SLOT_RUNNING, /* it has run */
	SLOT_EXEC,    /* it is about to be another program */
	SLOT_ENDING,  /* its last words */
	SLOT_TOLD,    /* its parent knows of its end, which was no ordinary one */
	SLOT_REVOKED  /* the call that was to make it has failed */
};
enum slot_flags {
	SLOT_KILLED = 1,  /* the test has sent it SIGKILL from outside */
	SLOT_SPARED = 2,  /* not to be killed: the load's own */
	SLOT_STOPPED = 4, /* its parent was told that it is stopped */
	SLOT_DOOMED = 8,  /* its parent has sent it what ends it, and may have died since */
};

struct past {
	int64_t t_ms;
	int32_t node;
	int32_t arg;
	char what[16];
};
struct slot {
	_Atomic uint32_t state;
	_Atomic uint32_t flags;
	_Atomic uint64_t beat; /* only the one running copy knows the next number */
	_Atomic int32_t pid;
	bool exec;		/* it asked for an execmove, and has not run since */
	int32_t exec_to;	/* where to; NODE_ALL: it never asked for one */
	int64_t exec_at;	/* ms */
	bool again;		/* a copy that had gone on from it was lost: take_up() */
	int32_t told;		/* its end, as its parent has heard it; -1: not yet */
	int32_t parent;		/* its slot, -1: none */
	int64_t born;		/* ms */
	_Atomic int32_t at, to; /* node; where it is going, or the same */
	_Atomic int64_t since;	/* when at and to were set */
	_Atomic uint32_t npast;
	struct past past[PAST];
};

enum fault_kind {
	FAULT_KILL_NODE,
	FAULT_CUT,
	FAULT_CUT_LONG,
	FAULT_SLAVE,
	FAULT_SLAVE_KILL,
	FAULT_HOME,
	FAULT_HOME_KILL,
	FAULT_MASTER,
	FAULT_MASTER_KILL,
	FAULT_HANG,
	FAULT_REAL,
	FAULT_GHOST,
	FAULT_REBUILD, /* every daemon but the bpinits */
	FAULT_STALL,   /* not ours: this machine was too slow and a node was given up */
	FAULT_KINDS
};
struct fault {
	int32_t kind;
	int32_t node;		     /* NODE_ALL: any */
	_Atomic int64_t from, until; /* until 0: not repaired yet */
};
enum { NODE_ALL = 1000 };

enum op_kind {
	OP_RFORK,
	OP_MOVE,
	OP_EXECMOVE,
	OP_REXEC,
	OP_PIPE,
	OP_STOP,
	OP_KILL,
	OP_FORKS,
	OP_WORKER,
	OP_ROAM,
	OP_PLACE,
	OP_KINDS
};
/* Single calls, counted beside the operations. */
enum call_kind { CALL_FORK, CALL_RFORK, CALL_MOVE, CALL_EXEC, CALL_SIGNAL, CALL_WAIT, CALL_KINDS };

struct ledger {
	uint64_t seed;
	int32_t nodes;
	int32_t ping_ms;
	int64_t wall_ms;	  /* what added to now_ms() makes the time of day */
	_Atomic uint32_t hold;	  /* nobody goes on with his plan; hearts beat on */
	_Atomic uint32_t stop;	  /* end soon */
	_Atomic uint32_t corrupt; /* a control: data is changed on its way */
	_Atomic uint32_t next;	  /* slot */
	_Atomic uint64_t op[OP_KINDS], call[CALL_KINDS];
	_Atomic uint64_t failed_calls, killed, bytes, cut, beats;
	_Atomic uint32_t nfault, ndiff;
	struct fault fault[FAULTS];
	struct {
		_Atomic int32_t slot;
		_Atomic uint32_t ready;
		char text[240];
	} diff[DIFFS];
	char program[512];
	struct slot slot[SLOTS];
};
extern struct ledger *led;
extern const char *const op_name[OP_KINDS], *const call_name[CALL_KINDS],
						    *const fault_name[FAULT_KINDS];

/* Who I am: private memory, so it goes along and is as old as the image. */
struct me {
	int slot;
	uint64_t beat;
};
extern struct me me;

/* ledger.c */
#define LEDGER_ENV "CHAOS_LEDGER"
int ledger_make(const char *path);
int ledger_open(const char *path);
int64_t now_ms(void);
void nap_ms(int ms);
uint64_t mix(uint64_t a, uint64_t b);	  /* a seed out of two */
uint32_t roll(uint64_t *rng, uint32_t n); /* 0 .. n - 1 */
int slot_new(void);
void slot_begin(int slot, int node); /* in the new process */
void slot_again(int slot);	     /* in it, after an exec */
void note(int slot, const char *what, int arg);
void diff(int slot, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void tick(void);   /* also waits while all are held */
void live(int ms); /* beat for so long */
_Noreturn void leave(int code);
bool told_by_fault(const struct slot *s);      /* may it have died of SIGKILL? */
bool fault_near(int from, int to, int64_t t0); /* may a call between them have failed? */
bool streams_cut(int slot);
bool deadly_near(int node, int64_t t0);

/* calls.c: the calls under test, with what each caller may expect of them */
pid_t do_fork(int slot);
pid_t do_rfork(int slot, int node);
int do_move(int node);
void do_exec(bool execmove, int node, uint64_t seed, int code);
int do_signal_wait(int slot, pid_t pid, int sig, int flags, int want);
int do_wait(int slot, pid_t pid, int flags, int want); /* false: it is dead */
int here(void);
int other_node(uint64_t *rng, bool home); /* not where I am */

#define WANT_EXIT(code) ((code) << 8)
#define WANT_SIGNAL(sig) (sig)
#define WANT_STOP(sig) ((sig) << 8 | 0x7f)
#define WANT_CONT 0xffff

/* load.c, pipe.c, place.c */
void worker(int number) __attribute__((noreturn));
void op_any(uint64_t seed, int depth);
void op_pipe(uint64_t *rng);
void op_place(uint64_t *rng);
int child_main(char **argv);

/* fault.c */
void fault_one(uint64_t seed, bool overlap);
void fault_rebuild(void);
_Noreturn void watch_nodes(void);
int run_tool(const char *const *argv);
bool all_up(int limit_ms);
int lab_ask(const char *verb, const char *flag, int node);

/* look.c: one place, as its own /proc has it */
struct seen {
	int32_t pid, ppid, tracer, pgid, sid;
	char state;
	char name[16];
};
struct daemon {
	char name[16];
	int32_t pid, fds, rss_kib;
};
struct place {
	struct seen *proc;
	struct daemon *daemon;
	int nproc, ndaemon;
};
int look_main(void);
int signal_main(int sig, const char *who);
const char *place_name(int node);
int look_at(int node, struct place *ret);
void place_free(struct place *p);

/* book.c */
int book_compare(bool empty, int limit_ms, bool report); /* how many differences */
void book_daemons(const char *when, bool judge);	 /* what they hold */
bool book_names(const char *text);			 /* is it in the last comparison's list? */

/* report.c */
const char *clock_text(int64_t t_ms); /* as the daemons' logs have it */
void report_diffs(void);	      /* those that are new */
void report_run(int64_t ms);
int report_crashes(void);

/* selftest.c */
int selftest(void);
