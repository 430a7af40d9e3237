/*
 * bpslave <-> bpinit of the same machine: SOCK_SEQPACKET on BPROC_RUN_DIR
 * "/init.sock", one bpslave at a time (a new one displaces the old). bpinit
 * owns everything that must outlive bpslave; bpslave owns the network. Host
 * byte order: both are one build, INIT_VERSION is checked in INIT_HELLO.
 *
 * Events carry a sequence number and are kept by bpinit until INIT_ACK: a
 * bpslave that was killed loses none of them (doc/local.md).
 */
#pragma once

#include <signal.h>
#include <stdbool.h>
#include <sys/wait.h>

#include "libbproc/child.h"
#include "libbproc/local.h"
#include "vmadump/blob/channel.h"

#define INIT_VERSION 6
#define INIT_CHAIN_MAX 64 /* ancestors, leaders and children of one arrival */

enum init_type {
	/* bpslave -> bpinit */
	INIT_HELLO = 1,	     /* version, req_id; answered by EV_STATE..., EV_STATE_END */
	INIT_ACK = 2,	     /* ack: these events are safe elsewhere */
	INIT_DEPART = 3,     /* depart + channel fd: a process asked to leave */
	INIT_GRANT = 4,	     /* depart (token, epoch) + data fd (+ of a lazy move in TLS the fd */
			     /* by which the node is heard): it may */
	INIT_DECIDE = 5,     /* decide (+ stream fds by mask if GHOST): for the source */
	INIT_ARRIVE = 6,     /* arrive: chain is to be made; answered EV_READY or EV_FAILED */
	INIT_DATA = 7,	     /* data + data fd + stream fds: an image; flags: INIT_DATA_* */
	INIT_VOID = 8,	     /* move_id: never run it; answered EV_VOIDED or EV_RAN */
	INIT_SIGNAL = 9,     /* signal: deliver to the real process here */
	INIT_MIRROR = 10,    /* mirror: stop, cont or exit of what a ghost here stands for */
	INIT_LEASE = 11,     /* lease: pids born here come from this slot */
	INIT_FENCE = 12,     /* kill every real process here (cut off for too long) */
	INIT_WATCH = 13,     /* pid: EV_CHILD when this real process, not ours, ends */
	INIT_BORN = 15,	     /* born: home: make its ghost, or let it look so if it is there */
	INIT_REAPED = 16,    /* pid: home: its original has been waited for; so is its ghost */
	INIT_ENDED = 17,     /* child: an end or stop that bpslave saw, if nobody told it here */
	INIT_ALIVE = 18,     /* alive: all is well for ms from now; then bpinit fences by itself */
	INIT_SIGNALLED = 19, /* signalled: the bpinit of the process has these signals of a ghost */
	INIT_FILTER = 20, /* lease: ask us of kill() to what is not here; once, before all else */
	INIT_KILL_DONE = 21,   /* done: home: these were served where the sender is; several */
	INIT_KILL = 22,	       /* kill: home: judge and deliver; answered by EV_KILLED */
	INIT_KILLED = 23,      /* kill (id, err): node: what home says; the caller goes on */
	INIT_KILL_AGAIN = 24,  /* home may have missed some: every EV_KILL that waits, again */
	INIT_PLACE = 25,       /* place: this process is to be in that group and session here */
	INIT_PLACE_AGAIN = 26, /* home: EV_PLACE of all that have changed */
	INIT_USED = 27,	       /* pid, req_id: what has it used? answered by EV_USED */

	/* bpinit -> bpslave */
	EV_STATE = 64,	   /* state: one process or move it holds; move_id of a process that is */
			   /* real here: by which it came */
	EV_STATE_END = 65, /* req_id: of the HELLO that it answers */
	EV_HERE = 66,	   /* move_id, pid: the process has said CHAN_HERE, for DEPART */
	EV_SENT = 67,	   /* move_id: the source has voted */
	EV_FAILED = 68,	   /* move_id, err, text; flags: EVF_SOURCE or EVF_TARGET */
	EV_READY = 69,	   /* move_id: the chain is there, data may come */
	EV_RAN = 70,	   /* move_id, pid: committed */
	EV_VOIDED = 71,	   /* move_id: it never ran and never will */
	EV_GHOST = 72,	   /* move_id, pid: the source is a ghost now */
	EV_SIGNAL = 73,	   /* signal: a ghost here was sent this; to be forwarded, until it is
			    * acknowledged by INIT_SIGNALLED */
	EV_CHILD = 74,	   /* child: exit, stop or continue of a real process here; move_id: by
			    * which it came */
	EV_MIRRORED = 75,  /* pid: an exit was mirrored, the ghost is gone; or, with a seq in
			    * mirror, that stop or continue is in hand here */
	EV_LOST = 76,	   /* pid: a ghost died that should not have */
	EV_FENCED = 82,	   /* what INIT_FENCE has ordered is done */
	EV_SIGNALLED = 77, /* signalled: which signals of that ghost have been delivered here */
	EV_KILL_DONE = 78, /* done: processes that EV_KILL need not reach; several before it */
	EV_KILL = 79,	   /* kill: node: a process here has called kill(), and waits */
	EV_KILLED = 80,	   /* kill: home: this one is done */
	EV_PLACE = 83,	   /* place: home: it is in another group or session now; or the answer
			    * to an INIT_PLACE with a number. A node: it is about to call
			    * setpgid() or setsid(), and waits; answered by INIT_PLACE, sid 0.
			    * number 0: it has, and nobody has heard of it */
	EV_USED = 84,	   /* used: the answer to INIT_USED, with its req_id */
	EV_IDENTITY = 81,  /* pid: it changes its group, session, ids or (EVF_REAPER_*) role */
};
#define EVF_SOURCE 1u
#define EVF_TARGET 2u
#define EVF_NATIVE 4u	   /* EV_CHILD of one that bpinit does not know: how it ended */
#define EVF_MOVED 8u	   /* EV_STATE of a departure: the process came here by a move */
#define EVF_RELAYED 16u	   /* EV_SIGNAL of a ghost elsewhere; its process has left again */
#define EVF_REAPER_ON 32u  /* EV_IDENTITY: it has made itself a child subreaper; or, OFF, */
#define EVF_REAPER_OFF 64u /* is none any more */
#define EVF_LEFT 128u	   /* EV_RAN: it did, and has gone on since by another move */

#define SIGNAL_ORPHANED 0x81 /* no code of the kernel's for a SIGHUP */
#define INIT_DATA_LAZY 1u    /* memory may follow the image; more fds than these: the last one */
#define INIT_DATA_FILTERS 2u /* behind the streams: a file of its seccomp filters */
			     /* is by which the source hears of this side, if not by the first */
#define INIT_ACKS_MAX 64     /* in one INIT_ACK */

/* state.phase of a move that is not decided, in EV_STATE. A process is told with phase 0. */
enum init_phase {
	INIT_PHASE_ASKED = 1,	 /* source: not granted, or not here yet */
	INIT_PHASE_SENDING = 2,	 /* source: granted, has not voted */
	INIT_PHASE_SENT = 3,	 /* source: has voted, waits for INIT_DECIDE */
	INIT_PHASE_FAILED = 4,	 /* source: could not send, waits for INIT_DECIDE abort */
	INIT_PHASE_CHAIN = 5,	 /* target: ghosts of the chain are being made */
	INIT_PHASE_READY = 6,	 /* target: waits for INIT_DATA */
	INIT_PHASE_ARRIVING = 7, /* target: the image is coming; it may run any moment */
};

struct init_chain {
	int32_t pid, ppid, pgid, sid;
	uint32_t uid, gid;
	uint32_t child; /* of the one that arrives: its ghost is to be made by that one's */
	uint32_t state; /* enum chain_state, libbproc/local.h */
	int32_t status; /* stopped: the signal; ended: as of wait() */
	char comm[16];
};
#define INIT_DONE_MAX 36
/* kill(2) and its kin of a process on a node, to what is not all there. */
struct init_kill {
	uint64_t id;	/* of the caller's bpinit: a random start, then one more each */
	int32_t target; /* a pid; -1: all; less: minus a group */
	int32_t sig, code, err;
	int32_t pid, sid; /* the sender */
	uint32_t uid, euid;
	uint32_t cap_kill;
	int32_t node;	  /* home: where it is */
	int32_t info_pid; /* who the signal says sent it, and its value */
	uint32_t info_uid;
	uint64_t value;
};
struct init_place {
	int32_t pid, pgid, sid; /* pgid 0: it has ended; sid 0: the answer
				 * to the EV_PLACE of a node */
	int32_t was;		/* a node: only if this is its group now; 0: whatever it is */
	int32_t node;		/* home: whose word it answers, and its number; 0: none */
	uint32_t number;
	struct init_chain leader; /* on a node: of the group, if it is to have one; pid 0: none */
};
struct init_msg {
	uint32_t type;
	uint32_t version;
	uint64_t seq; /* of an event */
	uint64_t move_id;
	int32_t pid;
	int32_t err;
	uint32_t flags;
	uint32_t stream_mask;
	uint32_t req_id; /* bpslave's handle of a departure, random start, never 0: in INIT_DEPART,
			  * echoed in every event of it; names it in INIT_GRANT, and in
			  * INIT_DECIDE as long as there is no move_id (refused before the grant) */
	uint32_t zero;
	uint64_t use; /* which use of the number pid: the master's epoch << 32 | generation; 0: not
		       * known, it is whatever is here under that number */
	union {
		char text[CHAN_TEXT_MAX];
		struct {
			uint32_t kind; /* enum move_kind */
			uint32_t dump_flags;
			uint32_t epoch;
			uint32_t away; /* this machine is not the process's home */
			int32_t asker_pid;
			int32_t target;	  /* INIT_GRANT: where to; told again in EV_STATE */
			uint32_t streams; /* INIT_GRANT, away: CHAN_GO_STREAM_* of its fds 0..2 */
			int32_t pgid;	  /* INIT_GRANT: as the target was told */
			int32_t sid;
			uint32_t zero;
			uint64_t filters; /* INIT_GRANT: which seccomp filters it has */
			int32_t saved[3]; /* INIT_GRANT, away: as CHAN_GO has them */
			int32_t zero2;
			struct chan_used used; /* INIT_GRANT: here, as the kernel has it */
			unsigned char token[32];
		} depart;
		struct {
			uint32_t ghost; /* 1: be a ghost; 0: abort with err, text */
			uint32_t zero;
			char text[CHAN_TEXT_MAX];
		} decide;
		struct {
			uint32_t epoch;
			uint32_t kind;
			int32_t ppid, pgid, sid; /* of the process to come */
			uint32_t home_here;	 /* 1: it comes home, into its ghost */
			uint32_t from_home;	 /* 1: it is home's word that the chain has */
			uint32_t nchain;	 /* top of the session first, parent last;
						  * leaders that are no ancestors before
						  * the first member of their group;
						  * then its children */
			uint32_t threads;	 /* more than 1: so many are in the image */
			uint32_t members;	 /* of its tree, and */
			uint32_t zero;
			uint64_t tree; /* the move of the first of it; 0: it comes alone */
			struct chan_cred cred;
			struct init_chain chain[INIT_CHAIN_MAX];
		} arrive;
		struct {
			int32_t pid;
			uint32_t zero;
			struct data_stream streams[DATA_STREAMS]; /* as in the header */
			struct chan_used used;
		} data;
		struct {
			int32_t pid;	    /* whom */
			int32_t sender_pid; /* 0: the kernel or unknown */
			uint32_t sender_uid;
			int32_t code; /* si_code as the ghost's kernel made it, or
				       * SIGNAL_ORPHANED: SIGHUP and SIGCONT, if the process
				       * value is stopped, or is not there */
			int32_t sig;
			int32_t origin; /* node of the ghost; not in its own EV_SIGNAL */
			uint64_t value; /* si_value of SI_QUEUE and friends */
			uint64_t stream, number, base; /* as in message Signal; stream 0: none */
		} signal;
		struct {
			int32_t pid; /* of the process */
			int32_t origin;
			uint32_t again, zero;
			uint64_t stream, upto;
		} signalled;
		struct {
			uint32_t n, zero;
			uint64_t seq[INIT_ACKS_MAX];
		} ack;
		struct {
			int32_t pid;
			int32_t code;	/* CLD_EXITED, CLD_KILLED, CLD_DUMPED, CLD_STOPPED,
					 * CLD_CONTINUED */
			int32_t status; /* exit code, or signal */
			int32_t orphaned; /* as in message Mirror */
			uint64_t move, seq; /* of the event, see message Mirror */
			struct chan_used used; /* zeros: not known */
		} mirror;
		struct chan_child child;
		struct {
			int32_t ppid;
			uint32_t parent_lives; /* its ghost is at home, or will be */
			struct chan_name name;
		} born;
		struct init_kill kill;
		struct init_place place;
		struct {
			uint64_t id;
			uint32_t n;
			int32_t pid[INIT_DONE_MAX];
		} done;
		struct local_used used;
		struct {
			uint32_t ms;
		} alive;
		struct {
			int32_t lo, hi; /* [lo, hi) */
			int32_t next;	/* INIT_LEASE: the first to be given away */
		} lease;
		struct {
			int32_t pid, ppid, pgid, sid;
			uint32_t is_ghost, is_move, kind, phase;
			int32_t target; /* of a departure that was granted */
		} state;
	} u;
};

/* The end that a status of wait() tells. */
static inline struct chan_child child_of(int32_t pid, int status)
{
	struct chan_child c = {.pid = pid, .code = CLD_EXITED, .status = WEXITSTATUS(status)};

	if (WIFSIGNALED(status)) {
		c.code = WCOREDUMP(status) ? CLD_DUMPED : CLD_KILLED;
		c.status = WTERMSIG(status);
	}
	return c;
}

/* And the other way round. */
static inline int wait_status_of(const struct chan_child *c)
{
	if (c->code == CLD_EXITED)
		return (c->status & 0xff) << 8;
	return c->code == CLD_DUMPED ? c->status | WCOREFLAG : c->status;
}
