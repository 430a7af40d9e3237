/*
 * What the files of forwarded stdio share (bpslave only; doc/streams.md).
 *
 *	bpslave_stdio.c		pipes, sockets and links of one stream, whichever way it flows
 *	bpslave_stdio_msg.c	what comes from the links
 *	bpslave_stdio_fd.c	how the descriptors are made, and the messages
 *	bpslave_stdio_node.c	where the process is: arrival, departure, exit
 *	bpslave_stdio_home.c	where its ghost is: the last byte; bpslave_stdio_turn.c: of
 *	which node, if it goes on; bpslave_stdio_lost.c: if it is lost
 *
 * A machine is a node or home, never both, so there is one table.
 */
#pragma once

#include "slaved/bpslave.h"
#include "slaved/stream.h"

#define STREAM_BIT(i) (1u << (i))
#define STREAM_OUTPUTS (STREAM_BIT(1) | STREAM_BIT(2))
#define STREAM_ALL (STREAM_BIT(0) | STREAM_OUTPUTS)

#define GIVE_UP_MS 3000 /* home: for the link of a node that is up */

/* A node whose turn has not come (bpslave_stdio_turn.c). */
struct turn {
	TAILQ_ENTRY(turn) list;
	struct peer *peer;
	uint64_t visit, after; /* as it has opened the stream: StreamOpen */
	uint64_t offset;
	bool reset;	 /* nobody reads there, and that has been said already: */
	uint64_t used;	 /* all before this byte was read */
};

struct stdio_proc;
struct stdio {
	struct stdio_proc *proc;
	uint8_t no;	       /* 0 stdin, 1 stdout, 2 stderr */
	bool sends;	       /* fd -> link; else link -> fd */
	bool broken;	       /* nobody reads at one of the ends: nothing moves any more */
	bool reading;	       /* the readable event of fd is on */
	bool shared;	       /* home: others have copies of fd */
	bool large;	       /* the pipe is as large as the window */
	bool at_end;	       /* node, stdin: the writing end is closed; fd is a reading end */
	bool drain;	       /* node: "left" bytes more are read; then its end is told */
	bool credit_due;       /* "upto" is to be told */
	bool end_due;	       /* the end of out is to be told */
	int fd;		       /* owned: our end; -1: closed, or (home, early) not there yet */
	uint64_t left;	       /* UINT64_MAX: until its end */
	uint64_t upto;	       /* valid if credit_due */
	uint64_t inode;	       /* node: of the pipe */
	struct event *rd, *wr; /* owned */
	struct stream_out out;
	struct stream_in in;

	/* home */
	struct peer *peer; /* where the process is; NULL: not known, or between two */
	uint64_t visit;	   /* of peer, or of the last one; 0: not known */
	uint64_t left_by;  /* it has said its end, for this move; 0: it has not, or for good */
	TAILQ_HEAD(turn_list, turn) next; /* where it goes on: after the last byte of peer */
	uint64_t begun;	     /* stdin: the first byte that was for peer, or for the last one */
	bool turned;	     /* stdin: the node before has said what was read there: */
	uint64_t used;	     /* all before this byte */
	unsigned char *back; /* owned: stdin that came back */
	uint64_t back_offset;
	size_t back_len;
};

struct stdio_proc {
	LIST_ENTRY(stdio_proc) next;
	int32_t pid; /* below 0: what holds the streams that a process has left */
	struct stdio s[CHAN_STREAMS];
	void (*then)(void *arg); /* exit (node) or flush (home) is waited for */
	void *arg;		 /* owned */
	struct event *give_up;	 /* owned; only where a link is missing */
	struct stdio_of of;	 /* whose streams they are, if home does not know it */
	bool held;		 /* its sockets or pipes are not read for now */
	/* node */
	bool leaving, gone, exited;
	uint64_t leaves_by;    /* the move, of one that is leaving; 0: not granted yet */
	bool stdin_said;       /* home was told, on this link, what was read of stdin */
	uint64_t stdin_used;   /* which is that, of one that has ended: its pipe is closed since */
	unsigned char *unread; /* owned: stdin taken out of the parked process's pipe */
	size_t unread_len;
	int unread_fd; /* owned: that pipe, so that nobody sees its end meanwhile; -1 */
	struct stdio_proc *rest; /* takes its pipes over when all of its own has arrived */
	struct stdio_visit visit;
	/* home */
	uint64_t want;	    /* the visit whose last byte is waited for; 0: any */
	uint64_t want_by;   /* and the move by which it comes home; 0: its end */
	struct event *late; /* owned: a node's turn has not come, and nobody is before it */
	bool final;
	bool joined; /* it has no ghost here: its output goes to an ancestor's */
	bool early;  /* opened by its node before the master's word has come; in a list */
	TAILQ_ENTRY(stdio_proc) early_next;
	uint64_t since_ms;
};
LIST_HEAD(stdio_list, stdio_proc);

bool stdio_at_home(void);
/* The newest record of the pid, or NULL. */
struct stdio_proc *stdio_find(int32_t pid);
struct stdio_proc *stdio_new(int32_t pid);
/* Takes f->ours; a stream without is broken, and nobody is told. */
void stdio_adopt(struct stdio_proc *p, struct stdio_fds *f);
void stdio_free(struct stdio_proc *p);
extern struct stdio_list stdio_table[];
#define STDIO_HASH 1024
#define STDIO_EACH(p, i)                                                                           \
	for (int i = 0; i < STDIO_HASH; i++)                                                       \
	LIST_FOREACH(p, &stdio_table[i], next)
void stdio_wait(struct stdio_proc *p, void (*then)(void *arg), void *arg);
void stdio_then(struct stdio_proc *p);

/* The link a stream is on, or NULL; and the node's visit that it is of, 0: not known. */
struct peer *stdio_link(const struct stdio *s);
uint64_t stdio_visit_of(const struct stdio *s);
void stdio_close(struct stdio *s);
/* Nobody reads: the other machine is told, and the writer gets EPIPE. */
void stdio_break(struct stdio *s, bool tell);
void stdio_fill(struct stdio *s);  /* fd -> window -> link, as far as each lets it */
void stdio_pump(struct stdio *s);  /* window -> link */
void stdio_drain(struct stdio *s); /* link's bytes -> fd, and credit */
void stdio_read_on(struct stdio *s, bool on);
void stdio_progress(struct stdio_proc *p);

/* bpslave_stdio_fd.c. The same pipe by another description, or -1. */
int stdio_reopen(int fd, int flags);
void stdio_enlarge(struct stdio *s);
/* Node, stdin: bytes that have been read by anybody. */
uint64_t stdio_used(const struct stdio *s);
/* Node, stdin: its reader is to see the end; what it has not read can still be counted. */
void stdio_end_input(struct stdio *s);

void stdio_say_open(struct stdio_proc *p, uint32_t mask, const uint64_t at[CHAN_STREAMS],
		    bool later);
void stdio_say_credit(struct stdio *s, bool now);
void stdio_say_reset(struct peer *to, int32_t pid, uint64_t visit, uint32_t mask, uint64_t used);
void stdio_say_data(const struct stdio *s, uint64_t offset, const unsigned char *p, size_t len);
/* Credits and ends that are due: those of one process to one machine are one message. */
void stdio_say_due(struct stdio_proc *p);

/* Something of a process has moved: is what somebody waits for done? */
void stdio_node_progress(struct stdio_proc *p);
void stdio_home_progress(struct stdio_proc *p);
void stdio_node_peer_up(void);
/* Node: p has ended or gone, and others hold its pipes. */
void stdio_rest_begin(struct stdio_proc *rest);
void stdio_home_peer_up(struct peer *q);
void stdio_home_peer_down(struct peer *q);

/* bpslave_stdio_lost.c: the node that is served is lost; and nothing that came from it waits. */
bool stdio_node_is_lost(const struct stdio *s);
bool stdio_lost_with_all(const struct stdio *s);
int32_t stdio_rest_node(int32_t pid); /* of what others hold there: below 0 */
void stdio_lost_look(void);	      /* the table has changed, and the master may be another */

/* bpslave_stdio_turn.c: a node opens a stream: now, or when those before it are done. */
void turn_open(struct stdio *s, struct peer *q, uint64_t offset, const Bproc__StreamOpen *m);
/* It is done with it. False: the one that comes next has not opened it yet. */
bool turn_next(struct stdio *s);
void turn_watch(struct stdio_proc *p); /* that one is not waited for for ever */
void turn_forget(struct stdio *s, const struct peer *q);
void turn_drop_all(struct stdio *s);
void stdio_home_open(struct peer *q, const Bproc__StreamOpen *m);
/* What a node sends of a stream whose writer is home: bytes that were not read there. */
void stdio_home_back(struct stdio *s, const Bproc__StreamData *m);
void stdio_home_end(struct stdio *s, uint64_t offset);
/* Nobody reads there: at the node that is served, or (_later) at one that waits for its turn. */
void stdio_home_reset(struct stdio *s, uint64_t used);
void stdio_home_reset_later(const struct peer *q, const Bproc__StreamReset *m);
/* Home, stdin: the ghost is told how many bytes were read of all it has sent. */
void stdio_home_used(const struct stdio *s, uint64_t used);
