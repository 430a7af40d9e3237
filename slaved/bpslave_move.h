/*
 * Moves at their source: what bpslave_asks.c, bpslave_move.c and bpslave_grant.c share.
 */
#pragma once

#include "libbproc/wire.h"
#include "slaved/bpslave.h"

struct leaving {
	LIST_ENTRY(leaving) next;
	uint32_t req;
	uint64_t move; /* 0 until it is granted */
	uint32_t epoch, kind, flags;
	uint64_t life;	     /* of the node, as granted */
	int32_t node;	     /* as asked, then as granted */
	uint32_t client, id; /* who waits for an answer: rfork; 0: nobody */
	int32_t host_pid;    /* of the asker */
	uint32_t uid;	     /* likewise, real */
	int32_t pid;	     /* of the one that leaves; 0 while not known */
	int32_t pgid, sid;   /* as the master was told */
	struct tree *tree;   /* of those whose question is one; NULL: none, or it is answered */
	struct asker *who;   /* owned: what the master is asked, until it has granted it */
	bool asked;	     /* nothing is missing to ask the master */
	bool told;	     /* and it was asked, on this link */
	bool again;	     /* it was on another, whose end may have taken the answer along */
	int chan;	     /* owned, until bpinit has it: -1 */
	bool behind; /* the master is asked when it is here: what bpinit tells comes first */
	struct filter_reader *reading; /* its seccomp filters are being read */
	uint64_t filters;	       /* which it has (vmadump/blob/filters.h) */
	unsigned char token[32];
	uint32_t ticket;     /* a data connection is waited for */
	struct event *later; /* owned: the node's address is not in our table yet */
	int tries;
	bool parked, committed;
	bool lost;  /* the connection that carried its image, before all was handed on */
	bool moved; /* it is here by a move, as bpinit has told; false also where it has not */
	struct exec_file exec;
	uint64_t peak_kb;
	struct chan_used used; /* here, as the kernel has it */
	struct after *after;   /* owned: committed, and no ghost yet */
};

/* bpslave_move.c: the process goes on here, and v is gone. chan_refuse() closes the channel. */
void leaving_refuse(struct leaving *v, int err, const char *text);
void chan_refuse(int chan, int err, const char *text);
/* bpslave_ask.c: the question. */
struct asker_of { /* what is asked: pid is to leave for node */
	uint32_t req, kind;
	int32_t node, pid;
	bool again;
};
struct asker_msg { /* MoveAsk, and what it points to */
	Bproc__MoveAsk m;
	Bproc__Creds creds;
	Bproc__ExecFile exec;
	Bproc__Chain link[INIT_CHAIN_MAX], *links[INIT_CHAIN_MAX];
	unsigned char raw[WIRE_CRED_SIZE];
};
/* Of its relatives, where it has been read before: what they are now. */
int asker_kin(struct asker *a, uint32_t kind);
void asker_put(const struct asker *a, const struct asker_of *of, struct asker_msg *q);
void asker_ask(const struct asker *a, const struct asker_of *of);

/* bpslave_asks.c: those that have asked. */
LIST_HEAD(leavings, leaving);
extern struct leavings leavings;
struct leaving *leaving_by_req(uint32_t req);
void leaving_ask(struct leaving *v);  /* the master, if it is there */
void leaving_here(struct leaving *v); /* bpinit has said so, which the question may wait for */
/* The question of v, as the master gets it; it is noted what that is told. */
void leaving_question(struct leaving *v, struct asker_of *ret);

/* bpslave_again.c: a question whose answer was lost with the link. */
void leaving_ask_again(struct leaving *v); /* v may be gone */
/* Those whom it needs, as they are now. 0 or -errno, with text. */
int leaving_look_again(struct leaving *v, char text[LOCAL_TEXT_MAX]);

/* bpslave_tree.c: processes that leave together. v has asked; the master is asked for all at once,
 * or all that have are refused. */
int tree_join(struct leaving *v, uint32_t client, const struct local_move *ask);
void tree_ready(struct leaving *v); /* it may be asked for, when all others may */
void tree_part(struct leaving *v);  /* v is forgotten: before all have asked the others stay too */
void tree_granted(struct leaving *v);
void tree_client_gone(uint32_t client);
void tree_link_lost(void);
void tree_ask_again(struct tree *t); /* NULL: all that have not been asked for on this link */
void tree_no_master(void);

/* bpslave_grant.c: a connection for its image, now or when there is one; bpinit gets it. */
void grant_connect(struct leaving *v);
