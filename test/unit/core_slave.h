/*
 * A synthetic slave: speaks the wire protocol to a real bpmaster, message by
 * message, from one process that may hold several of them. Each comes from an
 * address of its own in 127.0.0.0/8, which is what makes it a node.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "libbproc/link.h"
#include "libbproc/wire.h"

#define QUEUE_MAX 256

struct fake_slave {
	struct link *link;
	bool up, closed, silent; /* silent: answers no Ping */
	bool home;
	enum link_why why;
	Bproc__Envelope *queue[QUEUE_MAX]; /* what came, Pings, NodeTables and home's */
					   /* BornAsks taken out */
	unsigned int first, count;
	Bproc__Envelope *table; /* the last NodeTable */
	unsigned int tables, pings, asks;
};

/* The master under test, its directory, port and key; started by master_start. */
struct fake_master {
	pid_t pid;
	char dir[64];
	int port;
};
extern struct fake_master fm;
extern struct event_base *fake_base;

/* Makes the directory, key and configuration; extra is more configuration text. */
void master_setup(const char *extra);
void master_start(void);
void master_stop(int sig);
void master_cleanup(void);
/* Does the master's log have this text? Waits for it, at most 5 s. */
bool master_logged(const char *text);
/* How often it has. */
unsigned int master_log_count(const char *text);

/* Connects from 127.0.1.(node + 1), node -1: from 127.0.0.1, with the master's key or another. */
struct fake_slave *slave_new(int node, bool right_key);
void slave_free(struct fake_slave *s);
/* Hello with the given protocol and bpinit; does not wait. */
void slave_hello(struct fake_slave *s, int want_node, unsigned int protocol, const char *init_id);
/* slave_new, Hello, Welcome (returned in *ret_welcome if not NULL), all in order. */
struct fake_slave *slave_join(int node, const char *init_id, Bproc__Welcome *ret_welcome);
/* slave_join, of one that holds nothing. */
struct fake_slave *slave_join_empty(int node, const char *init_id);
void slave_send(struct fake_slave *s, const ProtobufCMessage *msg);
/* MoveAsk, request 5; its chain is the parent, and child if that is not 0. */
struct slave_question {
	unsigned int kind, uid;
	int node, asker, pid, parent, pgid, child;
	bool again;
	unsigned int child_state; /* CHAIN_* */
};
void slave_ask(struct fake_slave *s, const struct slave_question *q);
/* The next message, which must be of this type; at most 10 s. The caller frees it. */
Bproc__Envelope *slave_expect(struct fake_slave *s, Bproc__Envelope__MsgCase type);
/* Runs the loop for so long: nothing but Pings and NodeTables may come. */
void slave_expect_nothing(struct fake_slave *s, unsigned int ms);
/* Until the link has ended, at most ms. */
bool slave_closed(struct fake_slave *s, unsigned int ms);
/* Until the node has this status in s's table, at most ms. */
bool slave_sees(struct fake_slave *s, int node, const char *status, unsigned int ms);
const Bproc__Node *slave_node(struct fake_slave *s, int node);
void fake_run(unsigned int ms);
