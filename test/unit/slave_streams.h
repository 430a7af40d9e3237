/*
 * Home's side of forwarded streams (slaved/bpslave_stdio_home.c) with nodes that are not there: the
 * test says their words, of several links, in any order. Or the test is a node, and says home's.
 */
#pragma once

#include "slaved/bpslave_stdio.h"

#define PID 4242
#define TOLD_MAX 64

struct peer {
	int32_t node;
	uint32_t credits, resets; /* streams of it that home has given one, by bits */
	int stdin_ends;		  /* how often it was told what was read of stdin, ... */
	uint64_t used;		  /* ... and that, the last time */
};
extern struct peer n0, n1, n2, home;
extern struct node_row n0_row; /* of the table; it is up */
extern uint64_t now;	       /* ms */
extern uint64_t told_visit;    /* of the last bytes that were sent */
extern char told[TOLD_MAX];    /* and all of them */
extern struct stdio_fds ghost; /* the ghost's ends, as home's bpslave had the others */

void streams_setup(void);
void streams_teardown(void);
/* The timer that runs is over. */
void let_time_pass(void);

/* -- what nodes say */

extern Bproc__Proc proc;  /* of what is said: PID */
extern uint64_t of_visit; /* of what is said, but for an open; 0: that is not said */
extern uint64_t used;	  /* of stdin, as the node says it at the end */
extern uint64_t leave;	  /* the move for which it says its end; 0: for good */
void say(struct peer *q, Bproc__Envelope__MsgCase type, void *msg);
void open_visit(struct peer *q, uint64_t visit, uint64_t after, uint64_t at);
void open_streams(struct peer *q, uint64_t at);
void open_three(void); /* the first at 0 */
void data(struct peer *q, uint64_t offset, const char *text);
void stdin_data(struct peer *q, uint64_t visit, const char *text);
void end(struct peer *q, uint32_t mask, uint64_t out);
void end_for(struct peer *q, uint64_t move, uint64_t out);
void reset_stdin(struct peer *q);

/* -- the ghost's side */

extern int flushes; /* since the last await_*() */
void await_home(uint64_t visit, uint64_t move);
void await_visit(uint64_t visit);
void await_flush(void);
void check_output(const char *want);
