/*
 * A synthetic pair of bpslaves with a real bpinit each: a keeper ("home") and a
 * node in a pid namespace of its own. The test is both bpslaves and the master.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "slaved/initproto.h"

struct side {
	int sock;     /* to bpinit */
	char dir[96]; /* its run directory */
	uint64_t seq; /* of the last event taken */
	uint32_t ahead; /* so many have been, when they were taken */
};
extern struct side home, node;

/* Starts both, or exits with 77 and the reason. Ended by rig_stop. */
void rig_start(void);
void rig_stop(void);
/* A new connection, as of a restarted bpslave: says hello. */
void side_connect(struct side *s);
void side_drop(struct side *s);
/* The events that have come and that nobody wanted yet. */
void side_forget(struct side *s);

/* It is safe: not to be told again. */
void tell_ack(struct side *s, uint64_t seq);
void tell(struct side *s, const struct init_msg *m, const int *fds, int nfd);
/* How long anything is waited for: many times what it takes, also on a busy machine. */
#define PATIENCE_MS 20000
/* The next event of this type for this pid (0: any); others are kept. Dies when none comes. */
struct init_msg want_at(int line, struct side *s, enum init_type type, int32_t pid);
#define want(s, type, pid) want_at(__LINE__, s, type, pid)
/* No event of this type, for this pid (0: any), within ms. */
void want_none_of(struct side *s, enum init_type type, int32_t pid, int ms);
#define want_none(s, type, ms) want_none_of(s, type, 0, ms)

int64_t now_ms(void); /* of the monotonic clock */
/* The stat file of a process, as the node's own /proc has it. */
struct node_path {
	char path[64];
} node_stat(int32_t pid);

/* One move from home to node, or back, as the master and both bpslaves would do it. */
struct trip {
	uint64_t id;
	uint32_t req_id, kind;
	int32_t ppid, pgid, sid; /* of the process to come */
	int nchain;
	struct init_chain chain[4];
	bool to_home;
	bool own_chain;			/* chain[] is filled; else the test itself is its parent */
	int streams;			/* mask of streams with sockets */
	int home_sock[3], node_sock[3]; /* the bpslaves' ends */
	int32_t pid;			/* out */
	uint32_t dump_flags;
	bool children;	  /* it is told who comes: its ghost leaves its children alone */
	bool early;	  /* its image does not wait for the ghosts of its chain */
	uint32_t as_user; /* not 0: arrives with this uid and gid and no capability */
	/*
	 * Called when its ghost at home is about to be it, and has got nothing of its image; or
	 * before that, when bpinit has been told that the image comes.
	 */
	void (*arriving)(int32_t pid);
	bool told_only;
};
/* Of whoever arrives: all capabilities, and our limits. Without, the first tick would end it. */
void my_cred(struct chan_cred *c);
/* The asker's part: its channel's far end is asked with. */
void trip_begin(struct trip *t, int far_end);
/* It may leave from home, and its image is read to the end, and lost. */
void trip_swallow(const struct trip *t);
/* Up to the vote. */
void trip_send(struct trip *t);
/* Lets it run there and makes the source a ghost. */
void trip_commit(struct trip *t);
/* Everything at once. */
void trip_run(struct trip *t, int far_end);

/* rfork by the library's engine: returns 0 in the child on the node. before runs in it here. */
int32_t rig_rfork_with(struct trip *t, void (*before)(void));
#define rig_rfork(t) rig_rfork_with(t, NULL)
/* A child that is on the node and does nothing. */
int32_t rig_sleeper(struct trip *t);
/* In the process that leaves: by itself. 0: arrived; -errno: aborted. */
int rig_leave(int chan, uint32_t kind, const void *args, size_t len);
/* On the node: comes home by a channel that it gives out on 0, with what is to be known of it. */
void rig_come_home(const void *what, size_t len);
int channel(int *ret_far);
void decide_abort(struct side *s, struct trip *t, int err, const char *text);
/* A process that leaves by itself with a channel made before the fork: its end, or 0 in it. */
int32_t fork_mover(struct trip *t, int kind, int *ret_far);

/* Who stands in has become a ghost, which is said a moment before: it does not block signals. */
void await_ghost(int32_t pid);
/* A ghost has begun to be its original: it blocks all signals. */
void await_arriving(int32_t pid);
/* What is read from the one is written to the other, from now on by somebody else. */
void pump(int from, int to);
void mirror(struct side *s, int32_t pid, int code, int status);
/* wait4 for pid that must answer. */
int wait_for_at(int line, pid_t pid, int options);
#define wait_for(pid, options) wait_for_at(__LINE__, pid, options)
void wait_none(pid_t pid, int options, int ms);

#define CHECK(x)                                                                                   \
	do {                                                                                       \
		if (!(x))                                                                          \
			check_failed(__FILE__, __LINE__, #x);                                      \
	} while (0)
_Noreturn void check_failed(const char *file, int line, const char *what);
