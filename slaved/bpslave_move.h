/*
 * Moves at their source: what bpslave_move.c and bpslave_grant.c share.
 */
#pragma once

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
	struct asker *who;   /* owned: what the master will be asked, while that waits for pid */
	unsigned char token[32];
	uint32_t ticket;     /* a data connection is waited for */
	struct event *later; /* owned: the node's address is not in our table yet */
	int tries;
	bool parked, committed;
	bool moved; /* it is here by a move, as bpinit has told; false also where it has not */
	struct exec_file exec;
	struct after *after; /* owned: committed, and no ghost yet */
};

/* bpslave_grant.c: a connection for its image, now or when there is one; bpinit gets it. */
void grant_connect(struct leaving *v);
