/*
 * What the files of bpmaster share: the one struct master, and the calls between
 * them. Pure tables are in node.h, proc.h and move.h.
 *
 *   bpmaster.c  options, start, end          listen.c  the port
 *   peer.c      slaves: Hello, dispatch      nodes.c   connect, ping, loss
 *   nodeset.c   the table, its changes       nodeup.c  the script
 *   nodefile.c  what outlives a master of it; tree.c  those that move together
 *   moves.c     the judge: MoveAsk           moveact.c what follows a move's events
 *   asks.c      what it cannot judge yet
 *   procs.c     exits and stops              signals.c signals
 *   born.c      births on nodes              kills.c   kill() there
 *   place.c     groups and sessions          resync.c  after a restart of the master
 */
#pragma once

#include <event2/event.h>
#include <openssl/ssl.h>

#include "libbproc/config.h"
#include "libbproc/link.h"
#include "libbproc/wire.h"
#include "move.h"
#include "node.h"
#include "proc.h"

#define PEERS_MAX (CONFIG_NODES_MAX + 256) /* links, those without a Hello included */
#define HELLO_MS 10000			   /* from TLS to Hello */
#define CHAIN_MAX 64			   /* INIT_CHAIN_MAX of slaved/initproto.h */

struct master {
	struct event_base *base;
	SSL_CTX *tls;
	struct config conf;
	uint32_t epoch;
	char boot_id[NODE_ID_MAX];
	const char *state_dir;
	uint64_t start_ms;
	struct node_table nodes;
	struct proc_table procs;
	struct move_table moves;
	struct peer *peers;	 /* all links */
	struct waiting *waiting; /* owned by asks.c */
	uint32_t nwaiting;
	struct held *held, **held_end; /* owned by held.c; in order */
	uint32_t nheld;
	uint32_t npeers;
	struct event *ping, *tell, *accept_again;
	uint64_t told_ms;	   /* last NodeTable */
	struct listener *listener; /* owned by listen.c */
	bool home_synced;	   /* the front end's slave has told all it holds */
	bool settled; /* who has ghosts has told of them, as far as can be waited for */
	bool swept;   /* what nobody had after a restart has been declared dead */
	bool whole;   /* who was there under the last master has told what it holds */
};

/* One link to a slave; node is NULL until its Hello was taken. */
struct peer {
	struct peer *next, **at;
	struct master *m;
	struct link *link; /* owned */
	struct node *node;
	uint64_t since_ms;
};

uint64_t now_ms(void);

/* epoch.c: the next epoch, greater than all before it, on disk before it is used. */
int epoch_next(const char *dir, uint32_t *ret_epoch, struct bproc_err *err);

/* listen.c */
int listen_start(struct master *m, struct bproc_err *err);
void listen_stop(struct master *m);

/* peer.c */
void peer_accept(struct master *m, int fd);
/* The peer broke a rule, or is not wanted any more: its link ends and it is freed. */
void peer_drop(struct peer *p, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* The same with a Refuse as the last word. n: whose reason it becomes, or NULL. */
void peer_refuse(struct peer *p, struct node *n, int err, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
void peer_free(struct peer *p);
/* As if it had just come. */
void peer_said(struct peer *p, const Bproc__Envelope *env);
/*
 * To a node: sent, or dropped if it is not connected. What must not be lost is repeated by whoever
 * keeps it: a bpinit, or the tables (procs_node_back, moves_node).
 */
void node_send(struct master *m, struct node *n, const ProtobufCMessage *msg);
/* What nobody waits for: with the next one. */
void node_send_later(struct master *m, struct node *n, const ProtobufCMessage *msg);
/* Sets n->reason and logs it, unless it is what was said last. */
void node_reason(struct node *n, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* nodes.c */
void nodes_hello(struct peer *p, const Bproc__Hello *h);
void nodes_link_lost(struct master *m, struct node *n, const char *reason);
void nodes_event(struct master *m, struct node *n, enum node_event event);
/* It has killed its processes, as it was told to. */
void nodes_fenced(struct peer *p);
void nodes_send_fence(struct master *m, struct node *n);
int nodes_start(struct master *m);
void nodes_end(struct master *m);

/* nodeset.c */
void table_changed(struct master *m);
void table_tell(struct master *m, struct node *n);
int table_start(struct master *m);
void table_set(struct peer *p, const Bproc__NodeSet *s);

/* nodefile.c */
#define NODEFILE_PATH (CONFIG_PATH_MAX + 16)
void nodefile_write(struct master *m);
void nodefile_read(struct master *m);
/* Of a node that has just come for the first time: true if it is as the last master had it. */
bool nodefile_restore(struct node *n);

/* nodeup.c: 1: runs, and ends in nodes_event; 0: there is none; -errno. */
int nodeup_start(struct master *m, struct node *n);
void nodeup_stop(struct node *n);

/* moves.c, moveact.c */
void moves_ask(struct peer *p, Bproc__MoveAsk *a);
struct judged { /* a move that may be granted; nobody has been told of it */
	struct node *target;
	struct proc *proc; /* PS_MOVING; NULL: of an rfork */
	struct move *mv;
};
struct move_tree {	/* those that move together; all 0: it moves alone */
	uint64_t first; /* move of the first of them */
	uint32_t members;
};
/* What no bpslave of ours sends: why not, or NULL. */
const char *moves_malformed(const Bproc__MoveAsk *a);
/* 0, and granted or taken back next; or -code. */
int moves_judge(struct peer *p, const Bproc__MoveAsk *a, struct judged *ret, struct bproc_err *err);
void moves_unjudge(struct master *m, const struct judged *j);
void moves_grant(struct peer *p, const struct judged *j, const Bproc__MoveAsk *a,
		 const struct move_tree *tree);
void moves_deny(struct peer *p, uint32_t req, const struct bproc_err *err);
/*
 * asks.c: a question that cannot be judged yet, of n processes that go together: its target is
 * still to come back to this master, or it was asked before and made a move of which its source
 * has not heard, and which is being called off; or a move of the last master is to be over. Its
 * slave is told to ask again when it can be. True: the question waits so, or was denied since too
 * many do.
 */
bool asks_wait(struct peer *p, Bproc__MoveAsk *const *a, size_t n);
void asks_look(struct master *m); /* some of what they wait for may have come about */
void asks_forget(struct peer *p); /* its link ends: it asks on the next one */
/* It was there under the last master, and has not found this one yet. */
bool asks_to_come(const struct master *m, const struct node *n);

/*
 * held.c: is this a question that the tables answer, and are they not whole yet? True: it is kept,
 * and comes again by peer_said() when they are.
 */
bool held_wait(struct peer *p, const Bproc__Envelope *env);
void held_look(struct master *m);
void held_forget(struct peer *p);

/* tree.c */
void tree_ask(struct peer *p, const Bproc__MoveAskTree *t);
/* Steps the move and carries the action out. False: the peer may not say that now. */
bool moves_event(struct master *m, struct move *mv, enum move_event event);
void moves_from_source(struct peer *p, uint64_t id, enum move_event event, int err,
		       const char *text);
void moves_from_target(struct peer *p, uint64_t id, enum move_event event, int err,
		       const char *text, int32_t pid);
/* The node is back, or dead: to all moves it has a part in. */
void moves_node(struct master *m, struct node *n, bool dead);

/* procs.c */
void procs_event(struct peer *p, const Bproc__ProcEvent *e);
void procs_mirrored(struct peer *p, const Bproc__Mirrored *d);
void procs_pid_ask(struct peer *p, const Bproc__PidAsk *a);
void procs_list_ask(struct peer *p, const Bproc__ProcsAsk *a);
/* signals.c */
void procs_signal(struct peer *p, const Bproc__Signal *s);
void procs_signal_ack(struct peer *p, const Bproc__SignalAck *a);
/* To a node; and what waits, a stop or continue too, until a move is decided. */
void procs_forward(struct master *m, struct proc *p, const struct queued *q, int32_t node);
void procs_keep(struct proc *p, const struct queued *q);
/* SIGKILL to a process on n, in the kernel's name. */
void procs_kill(struct master *m, struct proc *p, struct node *n);
void procs_kill_lost(struct proc *p); /* when it is known where it is */

/* stats.c: passed on, there and back. */
void stats_ask(struct peer *p, const Bproc__StatsAsk *a);
void stats_tell(struct peer *p, const Bproc__StatsTell *t);
/* Tells p->node to watch it, once. */
void procs_watch(struct master *m, struct proc *p);
/* A stop, continue or exit, to the ghost on one node. */
void procs_mirror(struct master *m, struct proc *p, struct node *n, const struct tale *t);
/* Of one that is dying, to one node. */
void procs_mirror_exit(struct master *m, struct proc *p, struct node *n);
/* The move of p has been decided: PS_ALIVE on p->node, and what waited is given out. */
void procs_decided(struct master *m, struct proc *p);
/* It has died so (PE_EXIT or PE_REAL_DOWN). May free p. */
void procs_dead(struct master *m, struct proc *p, enum proc_event event, const struct tale *t);
/* The same, as killed by SIGKILL, by the master's own word. */
void procs_killed(struct master *m, struct proc *p, enum proc_event event);
/* That node has no ghost of it any more. */
void procs_ghost_del(struct master *m, struct proc *p, const struct node *n);
/* A node says that it has a ghost of it: it hears what the others have heard. */
void procs_ghost_told(struct master *m, struct proc *p, struct node *n);
/* From now on p has no ghosts but those that are known. May free p. */
void procs_settled(struct master *m, struct proc *p);
/* Forgets p if it is in the table for ghosts only and has none. May free p. */
void procs_release(struct master *m, struct proc *p);
/* May free p. */
void procs_node_dead(struct master *m, struct node *n);
/* Repeats the mirrors that n has not confirmed. */
void procs_node_back(struct master *m, struct node *n);
void proc_wire(const struct master *m, const struct proc *p, Bproc__Proc *ret_proc);
/* The entry that a message speaks of; NULL also if it is of an older use of the pid. */
struct proc *procs_find(struct master *m, const Bproc__Proc *w);

/* Where it is, of one that a restarted master knew by its ghosts only. */
void procs_found(struct master *m, struct proc *p, int32_t node);

/* born.c */
void born_tell(struct peer *p, const Bproc__ProcBorn *b);
void born_reaped(struct peer *p, const Bproc__ProcReaped *r);
/* What at home waits to be waited for: who has done so on a node says it again. */
void born_zombies(struct peer *p, const Bproc__Zombies *z);
/* The slave has told all it holds: what was born on it and is not among that has ended. */
void born_state_end(struct master *m, struct node *n);
/* To home, which is back: births that it may have missed, then the end of one. */
void born_again(struct master *m);
void born_ended_again(struct master *m, struct proc *p);
void born_tick(struct master *m, struct node *n, uint64_t now);

/* place.c */
void place_tell(struct peer *p, const Bproc__Place *in);

/* kills.c */
void kills_ask(struct peer *p, const Bproc__Kill *k);
void kills_answer(struct peer *p, const Bproc__Killed *k);

/* resync.c */
void resync_proc(struct peer *p, const Bproc__ProcState *s);
void resync_move(struct peer *p, const Bproc__MoveState *s);
void resync_end(struct peer *p);
/* A target has run a move of an older epoch: the process is real there. */
void resync_ran(struct peer *p, uint64_t move, int32_t pid);
/* False: a slave that is connected has not told all it holds. */
bool resync_is_due(const struct master *m);
void resync_sweep(struct master *m);
/* What has ended may be known by a move only that was undecided when it was over. */
void resync_exit(struct master *m, struct node *n, struct proc *p, const struct tale *t);
void resync_ended_unknown(struct master *m, int32_t pid, const struct tale *t);
/* Of a PS_LOST one: dead if everybody has told what he has. May free p. */
void resync_lost(struct master *m, struct proc *p);
void resync_settle(struct master *m);
