/*
 * What leave.c and the ghost*.c files share. Runs inside a process that leaves,
 * stands in or arrives; freestanding like all of the blob.
 */
#pragma once

#include "blob.h"
#include "lib.h"
#include "live.h"
#include "sys.h"

#define GHOST_FDS_MAX 6 /* of one packet: data, three streams, a device, seccomp filters */
#define GHOST_RELAY_BUF 16384
#define GHOST_ARGS_MAX (32ul << 10)

struct chan_pkt {
	struct chan_msg m;
	int nfd;
	int fd[GHOST_FDS_MAX]; /* -1 beyond nfd; close-on-exec */
};

/* One stream between this process and the node where its original runs. */
struct relay {
	int sock;	    /* -1: none, or ended */
	int fd;		    /* 0..2, or a description of our own of the same file */
	uint32_t have, off; /* bytes in buf, and how many of them are written */
	uint16_t bounded;   /* fd may block: write at most PIPE_BUF after POLLOUT */
	uint16_t room;	    /* stdin: the socket took bytes at the last look */
	uint8_t tty, own_fd;
	uint8_t ended; /* stdin: at its end; sock is open still, for what comes back */
	uint8_t regular;
	uint8_t lost;	/* stdin: bytes that we read are nowhere: it has ended */
	long at;	/* stdin, a regular file: its offset after our last read */
	uint64_t taken; /* stdin: bytes read by us */
	char *buf;
};

/* Of a homecoming: stdin that the ghost has read and the process has not. -1: none. */
struct input {
	int file, far; /* bytes that bpslave had; the other end of our stream 0 */
	int orig;      /* what is our fd 0 */
	int in, out;   /* a pipe that is to be fd 0 instead */
	int seek;      /* or the offset of orig is put back to the byte "used" */
	uint64_t used;
};

#define GHOST_SKELETONS 4
struct ghost {
	struct blob *b;
	int skeleton[GHOST_SKELETONS]; /* children of ours that are nobody's news; 0: none */
	uint32_t reap;	 /* not at home: what its children do is told and reaped; at home their */
			 /* stops are told */
	uint32_t parent; /* it has, or may have, children */
	uint32_t hold;	 /* CHAN_HOLD_* */
	uint32_t cloned; /* it was never its original: confined as bpinit is */
	uint32_t serves; /* its memory has not all followed its original */
	uint32_t deaf;	 /* the channel has ended: an inquiry is bpinit's, not ours */
	int sigfd;
	int code_fd; /* the blob's bytes, which it does not share yet; or -1 */
	uint64_t special_home[BLOB_SPECIALS]; /* where the vdso was before */
	struct live_stream live;
	struct relay relay[CHAN_STREAMS];
};

/* ghost_chan.c */
long chan_send(struct blob *b, const struct chan_msg *m);
long chan_tell(struct blob *b, uint32_t type, uint64_t move_id);
/* CHAN_FAILED with b->err. */
void chan_fail(struct blob *b, uint64_t move_id);
/* CHAN_HERE, with this process's ids as the kernel vouches for them. */
long chan_here(struct blob *b, uint32_t flags);
/* A packet with 1 to FD_SEND_MAX descriptors. 0 or -errno. */
#define FD_SEND_MAX 2
long fd_send(int sock, const void *data, size_t len, const int *fd, uint32_t nfd);
long chan_send_fd(struct blob *b, const struct chan_msg *m, int fd);
/* One message: 1, 0 at the end of the channel, or -errno. */
long chan_recv(struct blob *b, struct chan_pkt *p, int flags);
void chan_close_fds(struct chan_pkt *p, int from);
/* Sorts the stream fds p->fd[from..] by p's mask; ret[i] is -1 where there is none. */
void chan_streams(struct chan_pkt *p, int from, int ret[CHAN_STREAMS]);
/*
 * The fd, not among 0 to 2: those are streams, also where they are closed now, and who finds one
 * there takes it for that. -errno: as it is.
 */
int above_streams(int fd);
/* Closes every descriptor but those of keep[0..n), which may hold -1 and is sorted. */
void close_all_but(int *keep, int n);

/* ghost.c */
/* The pages that /proc/self/cmdline shows, kept over an unmapping. */
#define ARGS_FIRST_FIELD 26 /* of /proc/self/stat, proc(5) */
#define ARGS_FIELDS 24
struct args {
	uint64_t lo, len;      /* page bounds; len 0: none */
	uint64_t start, bytes; /* of the text, from lo on */
	char *copy;	       /* in the arena */
	uint64_t field[ARGS_FIELDS];
};
void args_save(struct blob *b, struct args *a);
void args_put(struct blob *b, const struct args *a);
void ghost_settle(struct ghost *g, const struct args *a);
void ghost_unsettle(struct ghost *g);
/* This process unmaps all but itself and stands in. */
_Noreturn void ghost_in_place(struct blob *b, struct chan_pkt *be_ghost);
_Noreturn void ghost_loop(struct ghost *g);

/* park_leave.c, park_live.c */
long park_ask(const struct blob *b, const struct chan_pkt *order, int far, uint32_t kind);
/* park_leave.c: what one of a tree is told of it is not needed any more. */
void leave_order_close(struct blob *b);
void park_precopy(struct blob *b, struct chan_pkt *order);

/* ghost_kill.c: CHAN_KILL, as itself. */
void send_signal(struct ghost *g, const struct chan_msg *m);

/* ghost_code.c: the file has come; what was left for later, if it was. */
#define CODE_SHARE_MS 20 /* so long nothing happens */
void code_come(struct ghost *g, int fd);
void code_share(struct ghost *g);

/* ghost_name.c */
void ghost_name(struct ghost *g, const struct chan_name *n);

/* ghost_relay.c */
void relay_set(struct ghost *g, const int sock[CHAN_STREAMS]);
void relay_stop(struct ghost *g);
/*
 * Puts the relays' descriptors, those of in but in->in, and unwritten input into one descriptor,
 * which is returned, and takes them out again; buffers are then the arena's.
 */
long relay_stash(struct ghost *g, struct input *in);
void relay_unstash(struct ghost *g, struct input *in, int stash, int undo);
/* The file behind fd by a description of our own that does not block, if that is needed. */
void relay_open(struct relay *r, int fd, int flags);
/* In the background of its terminal a ghost must not take the shell's input. */
int relay_in_background(const struct relay *r);
/* What stdin has, into buf: bytes, 0 at its end, or -errno. */
long relay_take(struct relay *r);
/* first: 0, or 1 for the outputs only. */
int relay_poll_fill(struct ghost *g, int first, struct sys_pollfd *p, long *timeout_ms);
void relay_poll_done(struct ghost *g, int first, const struct sys_pollfd *p, int n);
/* Writes out what has come; what comes later is left to a child of ours. */
void relay_drain(struct ghost *g);

/* ghost_input.c */
/* 1 in a child of nobody, with these descriptors and the blob alone: it is in no wait of ours, and
 * its end tells us nothing. */
int orphan(struct blob *b, int *keep, int n);
/* It ends: bytes of a regular file that were not read on the node are there to be read again. 0:
 * nobody has told which were, or they were of something else. */
int input_settle(struct relay *r);
/* file and far are given. 0 or -errno; then nothing is changed, and input_close() is left to do. */
long input_prepare(struct ghost *g, struct input *in);
/* The process runs; or it does not, and we are its ghost as before. Both close all. */
void input_run(struct ghost *g, struct input *in);
void input_undo(struct input *in);
void input_close(struct input *in);

/* ghost_clone.c */
void clone_child(struct ghost *g, struct chan_pkt *p);
/* In a fresh child with nothing of others mapped: becomes what its channel says. */
_Noreturn void clone_become(struct blob *b);
/* A ghost turns into its original again; comes back if that failed. */
void arrive_in_place(struct ghost *g, struct chan_pkt *p);
_Noreturn void arrive_clone(struct blob *b, const struct chan_clone *c, uint64_t move_id,
			    int threads);

/* ghost_skeleton.c */
/* Of a ghost: room before its blob for what its arrivals leave to its skeletons. */
void annex_make(struct blob *b);
/* Out of a process that is not to have it. */
void annex_drop(struct blob *b);
/* Is it one of ours? It is forgotten. */
int skeleton_ended(struct ghost *g, int pid);
/* They are ended and waited for: this ghost's original is about to come back. */
void skeletons_end(struct ghost *g);
/* Where it is made. */
void skeleton_place(int pid);
/* In a fresh child: warms up, and waits for the arrival that it is to make. */
_Noreturn void skeleton(struct blob *b, struct chan_pkt *who);

/* What an arrival has of the skeleton that made it. */
struct made_ahead {
	struct restore *warm;	      /* or NULL */
	const struct chan_cred *cred; /* who it is, limits too */
	int32_t oom;		      /* its oom_score_adj, if oom_known */
	uint32_t oom_known;
};
/*
 * Takes in the image that its channel brings, and runs. a: of a skeleton, then it decides by the
 * word that it does; or NULL.
 */
_Noreturn void take_in(struct blob *b, uint64_t move_id, const struct made_ahead *a);

/*
 * Joins the group or session, or makes it; -1 and 0 leave an id alone. found: a group of which
 * nobody is here has lost its leader, for else that would have been made here before.
 */
void take_place(int pid, int pgid, int sid, int found);
void ghost_place(struct blob *b, struct chan_msg *m);

/* ghost_cred.c. 0 or -errno with err filled. uid: real, effective, saved; gid: real, effective. */
long cred_arrival(struct blob *b, const struct chan_cred *c);
/* The same in two steps, with what it takes to clone under a wanted pid in between. */
long cred_skeleton(struct blob *b, const struct chan_cred *c);
long cred_finish(struct blob *b, const struct chan_cred *c);
/* May we clone a thread or a process under the number that we name? */
int cred_may_number(void);
long cred_ghost(struct blob *b, const uint32_t uid[3], const uint32_t gid[2]);
/* The capabilities that count, of those it may have; and what it had. */
long cred_effective(uint64_t want, uint64_t *ret_had);

/*
 * ghost_filter.c: what comes with CHAN_ARRIVE, and is taken off p, is set, as far as this process
 * has not got it already. 0 or -errno with err filled.
 */
long filters_take(struct blob *b, struct chan_pkt *p);

/* Says CHAN_PREPARED. 1: it is to run; 0: it is not to be. */
int wait_run(struct blob *b, uint64_t move_id);

/* ghost_exec.c: the arrival of a MOVE_REXEC; in g, or as a clone. Comes back if it failed. */
void arrive_exec(struct blob *b, struct chan_pkt *p, struct ghost *g);
