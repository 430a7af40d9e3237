/*
 * The local protocol: libbproc (any process) <-> bpslave of the same machine.
 * SOCK_SEQPACKET on BPROC_RUN_DIR "/node.sock"; one packet is one message; host
 * byte order, since both ends are one machine and one build (LOCAL_VERSION is
 * checked). The asker's identity is the kernel's SCM_CREDENTIALS of the very
 * message, never SO_PEERCRED: a connection is inherited over fork (doc/local.md).
 */
#pragma once

#include <stdint.h>

#define BPROC_RUN_DIR "/run/bproc" /* env BPROC_RUN_DIR, ignored for set-uid programs */
#define LOCAL_SOCK "node.sock"
#define INIT_SOCK "init.sock" /* bpinit's, beside it: for its bpslave only */
#define LOCAL_VERSION 1
#define LOCAL_MSG_MAX (160 * 1024) /* bytes; the largest packet either end takes */
#define LOCAL_TEXT_MAX 160	   /* bytes of an error text, NUL included */
#define LOCAL_NODES_MAX 1024
#define LOCAL_PROCS_PAGE 8192 /* entries of one LOCAL_PROCS answer */
#define LOCAL_STATS_PAGE 128  /* of one LOCAL_STATS answer: 3 ms of the node's bpslave */

enum local_type {
	LOCAL_NODES = 1,   /* {} -> local_nodes */
	LOCAL_PROCS = 2,   /* local_procs_ask -> local_procs */
	LOCAL_PIDNODE = 3, /* local_pid -> local_pidnode */
	LOCAL_SETNODE = 4, /* local_setnode -> {} */
	LOCAL_MOVE = 5,	   /* local_move + channel fd -> {}, when the move has ended */
	LOCAL_VERSION_ASK = 6, /* {} -> char[] version text of the daemon */
	LOCAL_MOVE_CHILD = 7,  /* local_pid, under the id of a MOVE_RFORK: its child; no answer */
	LOCAL_STATS = 8,       /* local_stats_ask -> local_stats: the real processes of a node */
	LOCAL_USED = 10,	/* local_pid -> local_used: what one that has ended had used */
	LOCAL_LOOK = 9, /* local_look + pidfd -> {}: its seccomp filters let it leave */
};

/* err: 0, or a positive errno or BE_ value; then the payload is char text[LOCAL_TEXT_MAX]. */
struct local_hdr {
	uint16_t version;
	uint16_t type;
	uint32_t id; /* chosen by the asker, echoed in the answer */
	int32_t err;
	uint32_t len; /* of the payload that follows */
};

struct local_node {
	int32_t node;
	uint32_t mode; /* 0111 bits */
	uint32_t uid, gid;
	uint32_t addr_be; /* IPv4, network order; 0: never connected */
	uint16_t port;
	uint16_t zero;
	char status[16];
	char reason[104]; /* why it was refused or went down last, or "" */
};
struct local_nodes {
	int32_t self; /* node number of the machine that answers; -1 front end */
	uint32_t count;
	struct local_node node[];
};

struct local_procs_ask {
	int32_t node; /* or BPROC_NODE_ANY */
	uint32_t first; /* pids greater than this only: for lists over a page */
};
struct local_proc {
	int32_t pid, node;
};
struct local_procs {
	uint32_t count;
	struct local_proc proc[];
};
struct local_pid {
	int32_t pid;
};
struct local_pidnode {
	int32_t node; /* BPROC_NODE_NONE: no such process in the cluster's table */
	uint32_t settling; /* where it has left to come there it is no ghost yet */
};

/* What wait4() is to say of a child beside what the kernel here has. */
enum local_used_what {
	USED_AS_IS = 0, /* the kernel knows all of it: it has been nowhere else */
	USED_ALL = 1,	/* this is all of it: what the kernel has is its ghost's */
	USED_MORE = 2,	/* this and what the kernel has */
};
struct local_used {
	uint32_t what; /* enum local_used_what */
	uint32_t zero;
	int64_t utime_us, stime_us;
	uint64_t maxrss_kb;
};

/* What /proc of a node says of the processes that are real there. */
struct local_stats_ask {
	int32_t node;
	int32_t pid; /* this one only; 0: all */
	uint64_t at; /* 0, or next of the page before */
};
struct local_stat {
	int32_t pid, ppid, pgid, sid;
	uint32_t uid;  /* effective */
	uint32_t ruid; /* real */
	int32_t nice;
	uint32_t threads;
	uint64_t cpu_us; /* user and system, since it is there */
	uint64_t age_ms; /* since it is there */
	uint64_t rss_kb, vsz_kb;
	char state; /* R S D T t Z ... as of proc(5) */
	char comm[16];
	char zero[7];
};
struct local_stats {
	uint64_t next; /* 0: there are no more */
	uint32_t count, zero;
	struct local_stat stat[];
};

enum local_setnode_what { SETNODE_STATUS = 1, SETNODE_MODE, SETNODE_UID, SETNODE_GID };
struct local_setnode {
	int32_t node;
	uint32_t what;
	uint32_t value;
	char status[16];
};

enum move_kind {
	MOVE_RFORK = 1,	   /* a child of the asker leaves; answered to the asker */
	MOVE_MOVE = 2,	   /* the asker leaves; only a failure is told, on the channel */
	MOVE_REXEC = 3,	   /* arguments leave, the node's program runs */
	MOVE_EXECMOVE = 4, /* the asker is about to exec; it leaves at the entry point */
	MOVE_LIVE = 5,	   /* a connection to its ghost there, for pages that go ahead of it */
};

/* What a parent that moves knows of its child, and has waited for. */
enum chain_state {
	CHAIN_RUNS = 0,
	CHAIN_STOP_SEEN = 1, /* stopped, and that has been waited for */
	CHAIN_STOPPED = 2,
	CHAIN_ENDED = 3,
};
/*
 * Sent with one fd: the far end of a SOCK_SEQPACKET socketpair, the channel
 * (vmadump/blob/channel.h). What leaves says CHAN_HERE on its own end. For
 * MOVE_REXEC the argument block goes over the channel after CHAN_GO.
 */
struct local_move {
	uint32_t kind;
	int32_t node;
	uint32_t flags; /* BPROC_DUMP_*; LOCAL_MOVE_EACH */
	/* Of a tree that moves together, whose members ask on one connection: how many they are,
	 * and which one this is, parents first. 0: it moves alone. */
	uint16_t members, index;
};
#define MOVE_TREE_MAX 64 /* members */
#define LOCAL_MOVE_EACH 0x80000000u /* some of its threads are under seccomp, others not */

/* Of a process of the asker's: would it be refused for its filters? It is not stopped for long. */
struct local_look {
	uint32_t flags; /* LOCAL_LOOK_* */
	uint32_t zero;
};
#define LOCAL_LOOK_AHEAD 1u /* of a move whose memory goes ahead or follows */
#define LOCAL_LOOK_EXEC 2u  /* of bproc_rexec() */
#define LOCAL_LOOK_LOCKS 4u /* of one whose locks go along */
