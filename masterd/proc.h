/*
 * The process table: which processes the cluster knows, where each is real, and
 * which nodes have a ghost of it. In it are the processes that were moved, and
 * those that never were but have a ghost somewhere because a relative was. No
 * I/O.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fsm.h"

#define PROC_QUEUE_MAX 1024 /* signals and stops that wait for the end of a move */
#define PROC_TOLD_MAX 64    /* stops and continues that ghosts have not confirmed */
#define PROC_HASH 4096

enum proc_state {
	PS_ALIVE,
	PS_MOVING, /* in a move that is not decided: what comes for it waits */
	PS_DYING,  /* dead; ghosts are being removed */
	PS_LOST,   /* a restarted master has heard of ghosts of it only */
	PS_GONE,   /* to be freed */
	PS_COUNT
};
enum proc_event {
	PE_MOVE,      /* a move is asked for */
	PE_DECIDED,   /* its move has ended, either way */
	PE_SIGNAL,    /* one of its ghosts was sent a signal */
	PE_STOPCONT,  /* the real one stopped or went on */
	PE_EXIT,      /* the real one is dead */
	PE_REAL_DOWN, /* the node where it is real is dead */
	PE_NO_GHOST,  /* its last ghost is gone */
	PE_FOUND,     /* a slave says that it is real there */
	PE_COUNT
};
enum proc_action {
	PA_IGNORE,
	PA_BEGIN,	/* the move may begin */
	PA_DENY,	/* it may not */
	PA_FLUSH,	/* what waited goes to where it lives now */
	PA_FORWARD,	/* the signal goes to where it is real */
	PA_QUEUE,	/* it waits */
	PA_MIRROR,	/* to all ghosts */
	PA_MIRROR_EXIT, /* to all ghosts, and they answer */
	PA_QUEUE_EXIT,	/* the parked original is dead: the move decides what that means */
	PA_REMOVE,
	PA_RELEASE, /* remove it if it was in the table for its ghosts only */
};
extern const struct fsm_row proc_rows[];
extern const size_t proc_nrows;

/* What a process has used, as message Used. */
struct used {
	uint64_t utime_us, stime_us, maxrss_kb;
};

/* What a node's bpinit tells of a process there, and repeats until seq is acknowledged. */
struct tale {
	int32_t node;
	uint32_t code; /* CLD_* */
	int32_t status;
	uint32_t orphaned;  /* of an end: as in message ProcEvent */
	uint64_t seq, move; /* seq 0: nobody repeats it, or wants an answer */
	struct used used;   /* of an end */
};

/* A signal, or a stop or continue (sig == 0), that waits. */
struct queued {
	struct queued *next;
	int32_t sig, code, sender_pid;
	uint32_t sender_uid;
	uint64_t value;
	int32_t origin; /* with those behind it: of the bpinit that repeats the signal */
	uint64_t stream, number, oldest;
	struct tale tale;
};

/* A stop or continue that was mirrored; acknowledged when every ghost has it. */
struct told {
	struct told *next;
	struct tale tale;
	uint64_t waits[]; /* a bit for each ghost that has not confirmed it */
};

struct move;
/* How it was told that it was born; pid 0: it was not, or not to this master. */
struct kept_birth {
	int32_t pid, ppid, pgid, sid;
	uint32_t uid, euid, suid, gid, egid, reaper;
	char comm[16];
	bool reaped;	/* it has been waited for on its node */
	uint64_t order; /* in which births were told first: parents before their children */
	uint8_t *args;	/* owned */
	size_t nargs;
};

struct proc {
	struct proc *next; /* in its hash chain, newest first */
	int32_t pid;
	uint32_t gen;  /* grows with every entry the table makes */
	int32_t node;  /* where it is real; NODE_NONE: not known (PS_LOST) */
	bool native;   /* real where it was born, or at home: its node watches it */
	bool watched;  /* the Watch has been sent */
	bool born;     /* on the node where it is: its slave tells of it */
	uint32_t seen; /* born: the node's told_all when it was told last */
	enum proc_state state;
	struct move *move; /* not owned; until MoveGhosted, so also a while after PS_MOVING */
	uint64_t rfork;	   /* born: the move by which it is to begin elsewhere; 0: none */
	uint64_t came;	   /* the newest move that is known to have run; 0: none */
	struct queued *queue, **queue_end; /* owned */
	uint32_t nqueued;
	struct told *told, **told_end; /* owned */
	uint32_t ntold;
	struct tale last; /* stop or continue; code 0: nobody has said anything */
	int32_t conted;	  /* where a ghost was sent a SIGCONT since; NODE_NONE: nowhere */
	struct tale exit; /* of PS_DYING, or of the parked original; code 0: none */
	bool kill_due;	  /* a SIGKILL of the master's own: again when its node is back */
	struct kept_birth birth;
	int32_t awaited_at; /* its parent goes, or went, there: where it is real there too it may
			     * be a ghost when it has ended; NODE_NONE */
	uint64_t ghost[];   /* a bit per node, by node_index */
};

struct proc_table {
	uint32_t count;
	uint32_t last_gen;
	uint64_t births; /* that were told */
	uint32_t words;	 /* of a set of ghosts */
	struct proc *chain[PROC_HASH];
};

void proc_table_init(struct proc_table *t, uint32_t nnodes);
void proc_table_free(struct proc_table *t);
/* NULL: no memory. */
struct proc *proc_new(struct proc_table *t, int32_t pid, int32_t node);
/* The newest entry of the pid; with gen != 0 the entry of that generation. NULL: none. */
struct proc *proc_get(const struct proc_table *t, int32_t pid, uint32_t gen);
void proc_remove(struct proc_table *t, struct proc *p);
/* Calls fn for every entry; fn may remove the one it is given. */
void proc_each(struct proc_table *t, void (*fn)(struct proc *p, void *arg), void *arg);
enum proc_action proc_step(struct proc *p, enum proc_event event);

void ghost_add(struct proc *p, uint32_t index);
void ghost_del(struct proc *p, uint32_t index);
bool ghost_has(const struct proc *p, uint32_t index);
bool ghost_any(const struct proc_table *t, const struct proc *p);

/* Mirrored to all ghosts there are now. NULL: no memory. */
struct told *told_add(const struct proc_table *t, struct proc *p, const struct tale *tale);
/* Has it been taken already? In told, or in the queue. */
bool told_has(const struct proc *p, const struct tale *tale);
/* Has the ghost on that node not got it yet? */
bool told_waits(const struct proc *p, uint32_t index, const struct tale *tale);
/* The ghost on that node has it. */
void told_confirm(struct proc *p, uint32_t index, uint64_t move, uint64_t seq);
/* Takes the first one out that no ghost is waited for with; free() it. NULL: there is none. */
struct told *told_take_done(const struct proc_table *t, struct proc *p);
/* Takes the oldest one out, done or not. */
struct told *told_take_first(struct proc *p);

/* Copies q to the end of the queue: 0, -ENOBUFS at PROC_QUEUE_MAX, -ENOMEM. */
int proc_enqueue(struct proc *p, const struct queued *q);
/* Takes the first one off; the caller frees it. NULL: none. */
struct queued *proc_dequeue(struct proc *p);
/*
 * Pids greater than first that are real on a node other than the front end (node: on that
 * one only, unless NODE_ANY), ascending: at most max of them. Returns how many.
 */
#define PROC_NODE_ANY (-4)
size_t proc_list(const struct proc_table *t, int32_t node, int32_t first, int32_t *ret_pid,
		 int32_t *ret_node, size_t max);
