/*
 * Moves: the transaction of doc/move.md as the master sees it. A move is known
 * from its grant until the source has become a ghost or has been told to go on.
 * No I/O.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fsm.h"
#include "libbproc/err.h"

#define MOVES_MAX 8192 /* in flight */
#define MOVE_TOKEN 32  /* bytes */

enum move_state {
	MV_GRANTED,   /* MoveStart and MoveGrant are out; the image may be on its way */
	MV_SENT,      /* the source has voted: it thaws on MoveAbort only */
	MV_VOIDING,   /* MoveVoid is out; the target says whether it was in time */
	MV_ORPHAN,    /* the same, and the source's node is dead */
	MV_COMMITTED, /* it runs on the target; MoveCommit is out */
	MV_DONE,      /* to be freed */
	MV_COUNT
};
enum move_event {
	ME_SENT,
	ME_SRC_FAILED,
	ME_DST_FAILED,
	ME_VOIDED,
	ME_RAN,
	ME_GHOSTED,
	ME_SRC_BACK, /* its link is new: what was sent last may be lost */
	ME_DST_BACK,
	ME_SRC_DOWN, /* declared dead: nothing runs there any more */
	ME_DST_DOWN,
	ME_COUNT
};
enum move_action {
	MA_IGNORE,
	MA_BAD,	     /* the peer may not say this now */
	MA_NOTE,     /* the new state is all */
	MA_VOID,     /* MoveVoid -> target */
	MA_ABORT,    /* MoveAbort -> source, with the error of the move */
	MA_COMMIT,   /* table, MoveCommit -> source */
	MA_RECOMMIT, /* MoveCommit -> source again; it may come twice */
	MA_INHERIT,  /* table; there is no source any more */
	MA_DEAD,     /* both copies are gone: the process is dead */
	MA_END,
};
extern const struct fsm_row move_rows[];
extern const size_t move_nrows;

struct proc;
struct move {
	struct move *next; /* in its hash chain */
	uint64_t id;
	uint32_t epoch; /* of the grant */
	uint32_t kind;	/* enum move_kind */
	uint32_t req;	/* of the MoveAsk */
	uint32_t uid;	/* likewise; of an older epoch: 0 */
	int32_t source, target;
	int32_t pid;  /* 0 while not known */
	uint32_t gen; /* of the newest entry of the process table when it was granted */
	enum move_state state;
	struct bproc_err err; /* what the caller will get */
	unsigned char token[MOVE_TOKEN];
	struct proc *proc; /* NULL for rfork until it has run, and for a move of an older epoch */
	bool family;	   /* of children that go along: the target has a ghost of it too */
	bool untold;	   /* its node has told of it, and home was not: it is asked again */
	bool source_died;  /* the parked original ended before the decision */
	bool has_exec;	   /* the target's word in MoveRan, for the source */
	bool left;	   /* likewise: another move has taken it on from there */
};

#define ABORTED_MAX 256 /* why a move was aborted, for sources that have lost the word on it */
struct aborted {
	uint64_t id;
	struct bproc_err err;
};

struct move_table {
	struct aborted aborted[ABORTED_MAX];
	uint32_t naborted;
	uint32_t count;
	uint32_t last; /* counter part of the last id */
	uint32_t epoch;
	struct move *chain[1024];
};

/*
 * A new move in MV_GRANTED, id and token chosen; NULL: MOVES_MAX, too many of this user, or no
 * memory.
 */
struct move *move_new(struct move_table *t, uint32_t uid);
uint32_t move_count(const struct move_table *t, uint32_t uid);
/* A move of which only the source knows any more, after a master's restart: MV_VOIDING. */
struct move *move_revive(struct move_table *t, uint64_t id);
struct move *move_get(const struct move_table *t, uint64_t id);
/* That was made of a question of this node's slave about pid; NULL: none. */
const struct move *move_asked(const struct move_table *t, int32_t source, uint32_t req,
			      int32_t pid);
void move_remove(struct move_table *t, struct move *m);
void move_aborted(struct move_table *t, const struct move *m);
/* NULL: it was not, or it is too long ago. */
const struct bproc_err *move_why_aborted(const struct move_table *t, uint64_t id);
void move_table_free(struct move_table *t);
/* Calls fn for every move; fn may remove the one it is given. */
void move_each(struct move_table *t, void (*fn)(struct move *m, void *arg), void *arg);
enum move_action move_step(struct move *m, enum move_event event);
const char *move_state_name(enum move_state s);
