/*
 * The node table: what a node is, its state machine, who may use it, which pids
 * are born on it. No I/O.
 *
 * A node has a state (is it connected?) and a status, the word that bpstat shows
 * and that the administrator sets. The status is "down" when the state is
 * NS_DOWN, "unreachable" when it is NS_UNREACHABLE, and nothing else then.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fsm.h"
#include "libbproc/config.h"
#include "libbproc/err.h"

#define NODE_HOME (-1) /* the front end's own slave */
#define NODE_NONE (-3)
#define NODE_STATUS_MAX 15 /* bytes, BPROC_STATE_LEN */
#define NODE_REASON_MAX 104
#define NODE_ID_MAX 64
#define NODE_MODE_NEW 0100u /* root only, as BProc had it */

enum node_state { NS_DOWN, NS_CONNECTED, NS_UNREACHABLE, NS_COUNT };
enum node_event {
	NE_HELLO,	/* a slave with the bpinit we know, or the first one */
	NE_HELLO_OTHER, /* a slave whose bpinit is not the one we knew */
	NE_SCRIPT_OK,	/* node_up ended with 0 */
	NE_SCRIPT_FAIL, /* node_up ended otherwise */
	NE_LOST,	/* the link is gone, or no Pong came */
	NE_TIMEOUT,	/* unreachable for too long */
	NE_SET,		/* the administrator sets a status */
	NE_SET_DOWN,	/* the administrator sets "down" */
	NE_COUNT
};
enum node_action {
	NA_IGNORE,
	NA_BOOT,     /* status boot, owner and mode reset, node_up starts */
	NA_DISPLACE, /* the same slave by a new connection: the old one is dead */
	NA_REFUSE,   /* hello: duplicate; set: not a node that is up */
	NA_UP,	     /* status up, unless it was set meanwhile */
	NA_ERROR,
	NA_WAIT,   /* status unreachable, the clock runs */
	NA_REJOIN, /* status as before */
	NA_DEAD,   /* its processes are dead */
	NA_REBOOT, /* NA_DEAD, then NA_BOOT */
	NA_SET,
};
extern const struct fsm_row node_rows[];
extern const size_t node_nrows;

struct peer;
struct nodeup;
struct node {
	int32_t num;
	uint32_t addr; /* IPv4, host order; of the front end: once it has connected */
	uint32_t data_port;
	enum node_state state;
	char status[NODE_STATUS_MAX + 1];
	char saved[NODE_STATUS_MAX + 1]; /* the status while the node is unreachable */
	char reason[NODE_REASON_MAX];	 /* why it was refused or went down last */
	uint32_t mode, uid, gid;
	char init_id[NODE_ID_MAX]; /* of the bpinit that has its processes; "": never seen */
	char boot_id[NODE_ID_MAX];
	uint64_t life;		/* a number for init_id */
	int32_t born;		/* the last pid that was born there, as far as is known; 0: none */
	int32_t born_kept;	/* what the next master will take for that */
	bool set_down;		/* by hand: down as soon as it has killed its processes */
	struct node_kept *kept; /* owned; what the last master knew of it, until it comes back */
	bool fence;	       /* declared dead: if this bpinit comes back it must kill all first */
	bool synced;	       /* has told all it holds in this epoch */
	uint32_t told_all;     /* how often it was asked to, by a Welcome */
	uint64_t missed_ms;    /* then who was not told is dead; 0: nobody is missed */
	struct peer *peer;     /* not owned; NS_CONNECTED only */
	uint64_t pong_ms;      /* CLOCK_MONOTONIC of its last sign of life */
	uint64_t lost_ms;      /* since when it is unreachable */
	struct nodeup *script; /* owned; its node_up while that runs */
};

struct node_table {
	uint32_t count;	   /* the front end's included: it is node[0] */
	struct node *node; /* owned */
	int32_t slot_pids; /* pids of one node's slot */
};

int node_table_init(struct node_table *t, const struct config *c);
void node_table_free(struct node_table *t);
struct node *node_get(struct node_table *t, int32_t num); /* NULL: no such number */
struct node *node_by_addr(struct node_table *t, uint32_t addr);
/* Index of a node in the table: its bit in a process's set of ghosts. */
uint32_t node_index(const struct node_table *t, const struct node *n);

/* Assigns the state and the words that follow from it; the caller does the action. */
enum node_action node_step(struct node *n, enum node_event event);

/* [A-Za-z][A-Za-z0-9_]*: 0, -EINVAL, or -ENOSPC when over NODE_STATUS_MAX. */
int node_status_valid(const char *status);
/*
 * May this asker start or bring a process there? 0, or -BE_NODEDOWN, -EACCES with
 * text. Root may use every connected node, so that node_up can; others need
 * status "up" and the x bit of owner, group or others, the first that applies.
 */
int node_access(const struct node *n, uint32_t uid, uint32_t gid, const uint32_t *groups,
		size_t ngroups, struct bproc_err *err);
/* The pids born on this node: [lo, hi). doc/wire.md, leases. */
void node_lease(const struct node_table *t, int32_t num, int32_t *ret_lo, int32_t *ret_hi);
/* The node in whose slot this pid lies: NODE_HOME for the front end's own. */
int32_t node_of_pid(struct node_table *t, int32_t pid);
/*
 * This one was born in that node's slot. What was born on a node may live elsewhere when the node
 * is started anew: the new one goes on behind the last number, and not at the slot's beginning.
 * True, a few times in each slot: the next master has to be told (nodefile_write()).
 */
bool node_note_born(struct node_table *t, int32_t pid);
int32_t node_lease_next(const struct node_table *t, const struct node *n);
