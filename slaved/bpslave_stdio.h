/*
 * What the files of forwarded stdio share (bpslave only; doc/streams.md).
 *
 *	bpslave_stdio.c		sockets and links of one stream, whichever way it flows
 *	bpslave_stdio_node.c	where the process is: arrival, departure, exit
 *	bpslave_stdio_home.c	where its ghost is: who is the node now, the last byte
 *
 * A machine is a node or home, never both, so there is one table.
 */
#pragma once

#include "slaved/bpslave.h"
#include "slaved/stream.h"

struct stdio_proc;
struct stdio {
	struct stdio_proc *proc;
	uint8_t no;	       /* 0 stdin, 1 stdout, 2 stderr */
	bool sends;	       /* fd -> link; else link -> fd */
	bool broken;	       /* nobody reads at one of the ends: nothing moves any more */
	bool reading;	       /* the socket's readable event is on */
	bool shared;	       /* home: fd is a copy of another process's */
	bool drain;	       /* node: to be read until it is empty; then its end is told */
	int fd;		       /* owned: our end of the socketpair; -1: closed */
	int writer;	       /* node, outputs: owned; a copy of the process's end, or -1 */
	struct event *rd, *wr; /* owned */
	struct stream_out out;
	struct stream_in in;

	/* home */
	struct peer *peer;	/* where the process is; NULL: not known, or between two */
	struct peer *next_peer; /* where it has gone: served when peer has sent its last byte */
	uint64_t next_offset;
	unsigned char *back; /* owned: stdin that came back */
	uint64_t back_offset;
	size_t back_len;
};

struct stdio_proc {
	LIST_ENTRY(stdio_proc) next;
	int32_t pid;
	struct stdio s[CHAN_STREAMS];
	void (*then)(void *arg); /* exit (node) or flush (home) is waited for */
	void *arg;		 /* owned */
	struct event *give_up;	 /* owned; only where a link is missing */
	/* node */
	struct stdio_of of; /* whose streams they are, if home does not know it */
	uint64_t inode;	    /* of the process's end of stream 0 */
	bool leaving, gone, exited;
	unsigned char *unread; /* owned: stdin taken out of the parked process's socket */
	size_t unread_len;
	/* home */
	bool final;
	bool joined; /* it has no ghost here: its output goes to an ancestor's */
};
LIST_HEAD(stdio_list, stdio_proc);

/* The newest record of the pid, or NULL. */
struct stdio_proc *stdio_find(int32_t pid);
struct stdio_proc *stdio_new(int32_t pid, struct stdio_fds *f);
void stdio_free(struct stdio_proc *p);
extern struct stdio_list stdio_table[];
#define STDIO_HASH 1024
#define STDIO_EACH(p, i)                                                                           \
	for (int i = 0; i < STDIO_HASH; i++)                                                       \
	LIST_FOREACH(p, &stdio_table[i], next)
void stdio_wait(struct stdio_proc *p, void (*then)(void *arg), void *arg);
void stdio_then(struct stdio_proc *p);

/* The link a stream is on, or NULL. */
struct peer *stdio_link(const struct stdio *s);
void stdio_close(struct stdio *s);
/* Nobody reads: the other machine is told, and the writer gets EPIPE. */
void stdio_break(struct stdio *s, bool tell);
void stdio_fill(struct stdio *s);  /* socket -> window -> link, as far as each lets it */
void stdio_pump(struct stdio *s);  /* window -> link */
void stdio_drain(struct stdio *s); /* link's bytes -> socket, and credit */
void stdio_read_on(struct stdio *s, bool on);

void stdio_say_open(const struct stdio *s, uint64_t offset);
void stdio_say_upto(struct stdio *s, uint64_t upto);
void stdio_say_credit(struct stdio *s, bool now);
void stdio_say_reset(struct peer *to, int32_t pid, uint32_t no);
void stdio_say_data(const struct stdio *s, uint64_t offset, const unsigned char *p, size_t len);
void stdio_say_end(const struct stdio *s, uint64_t offset);

/* Something of a process has moved: is what somebody waits for done? */
void stdio_node_progress(struct stdio_proc *p);
void stdio_home_progress(struct stdio_proc *p);
void stdio_node_peer_up(void);
void stdio_home_peer_down(struct peer *q);
void stdio_home_open(struct peer *q, const Bproc__StreamOpen *m);
/* What a node sends of a stream whose writer is home: bytes that were not read there. */
void stdio_home_back(struct stdio *s, const Bproc__StreamData *m);
void stdio_home_end(struct stdio *s, struct peer *q, uint64_t offset);
