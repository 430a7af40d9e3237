/*
 * The channel: one SOCK_SEQPACKET socketpair per process that leaves, arrives
 * or stands in. One end is the process's (blob or library), the other bpinit's,
 * which alone reads it, on every machine (the front end's keeper is a bpinit).
 * Fixed-size packets in host order; doc/local.md has who sends what when.
 *
 * The argument block of a MOVE_REXEC: dir\0 cmd\0 argc\0 argv[0]\0 .. envp[0]\0 ..,
 * argc a decimal number, the environment up to the end of the block; dir is where
 * the program starts. It is the whole data stream behind the data_hdr, after a
 * little-endian uint64 with its length.
 *
 * The loss of a channel is never an order. A parked process thaws on CHAN_ABORT
 * with its move's id, and on nothing else.
 */
#pragma once

#include <stdint.h>

#define CHAN_TEXT_MAX 160
#define CHAN_STREAMS 3 /* stdin, stdout, stderr */
#define CHAN_NO_MOVE 0ull
#define CHAN_SKELETON_NAME "bproc-pool"

enum chan_type {
	/* process -> bpinit */
	CHAN_HERE = 1,	    /* it has its pid and is parked (flags 0); or about to exec */
			    /* (flags CHAN_HERE_EXEC, u.exec), then */
			    /* in the new program (flags CHAN_HERE_ENTRY) */
	CHAN_SENT = 2,	    /* end mark written: it has voted */
	CHAN_FAILED = 3,    /* err, text; source: before the vote. target: before RUN */
	CHAN_PREPARED = 4,  /* all of the image is in place, not running */
	CHAN_GHOST = 5,	    /* it is a ghost now */
	CHAN_CHILD = 6,	    /* child: what waitid() told a ghost of one of its children */
	CHAN_SIG = 7,	    /* siginfo: a signal that no tracer stood in front of */
	CHAN_CLONED = 8,    /* answer to CHAN_CLONE: pid, err */
	CHAN_HELD = 11,	    /* answer to CHAN_HOLD, with its flags */
	CHAN_DUMPED = 9,    /* bytes: the image is written (BLOB_PARK) */
	CHAN_RESTORED = 10, /* all of the image is in place (BLOB_RESTORE with a channel); in */
	/* move_id where struct blob is, in flags the signal it was stopped by */
	CHAN_WARM = 16,	  /* a skeleton is ready; pid: its own */
	CHAN_LEFT = 12,	  /* answer to CHAN_LEAVE: it runs elsewhere, and is its ghost here */
	CHAN_MEMBER = 13, /* + channel fd: flags: which of a tree is about to be cloned; of the */
	/* first, without fd, before all others: stream_mask: how many there are */
	CHAN_SETTLED = 14,   /* answer to CHAN_SETTLE */
	CHAN_PLACED = 17,    /* answer to CHAN_PLACE: place, err */
	CHAN_KILLED = 18,    /* answer to CHAN_KILL of sig 0: kill */
	CHAN_REFUSED = 15,   /* text: one thing that keeps it from leaving (CHAN_LOOK) */
	CHAN_PRECOPIED = 24, /* + channel, userfaultfd: answer to CHAN_PRECOPY; then without: */
	/* they are closed there */
	CHAN_LAZY = 20, /* + userfaultfd: make it so that a pager can use it; answered by */
	/* CHAN_LAZY_SET */
	CHAN_LAZY_READY = 21, /* the memory that is to follow is under it: start a pager */
	CHAN_FOLLOWS = 22,    /* of a ghost: its original's memory is still to follow; */
	CHAN_FOLLOWED = 23,   /* it has, or nobody wants it any more */
	CHAN_LOST = 26, /* who has voted: the connection broke, and what was sent may be lost */
	CHAN_WANT = 25, /* of a tree: what its first has open as u.status; answered by */
	/* CHAN_LENT */

	/* bpinit -> process */
	CHAN_GO = 32,	    /* + data fd. flags: CHAN_GO_* | BPROC_DUMP_* << 8. EXECMOVE: first */
			    /* CHAN_GO_EXEC + the blob's bytes, then, after the exec, this. Of a */
			    /* lazy move, if the node is not heard by that: + one by which it is */
	CHAN_ABORT = 33,    /* err, text: thaw, go on where you were */
	CHAN_BE_GHOST = 34, /* + stream fds; stream_mask says which of 0..2, in order; */
			    /* + an fd with the blob's bytes if CHAN_GHOST_CODE */
	CHAN_RUN = 35,	    /* the commit: return into the image. flags: CHAN_RUN_CHILD */
	CHAN_CLONE = 36,    /* + channel fd of the child; clone: what to make. The child reads */
			    /* the same message without fd from its own channel: who it is */
	CHAN_ARRIVE = 37,   /* + data fd, + stream fds (mask): restore from it; to a ghost: as */
			    /* clone.cred, whatever the image says */
	CHAN_EXIT = 38,	    /* status (wait status word): die so */
	CHAN_KILL = 39,	    /* kill: send it as yourself; answered only if it fails */
			    /* (CHAN_FAILED); sig 0: what came before is sent, CHAN_KILLED */
	CHAN_REAP = 41,	    /* pid: this child has ended; answered by CHAN_CHILD. To who is */
			    /* parked: wait for it, answered by CHAN_CHILD, empty */
	CHAN_NAME = 42,	    /* name: look like this from now on */
	CHAN_LAZY_SET = 45, /* err, text; 0: it is */
	CHAN_HOLD = 43,	    /* flags: CHAN_HOLD_*: its children are somebody's to wait for */
	CHAN_LIVE = 48,	    /* + data fd: to a ghost: pages of its original, live.h */
	CHAN_LENT = 49,	    /* + fd; without: err */

	CHAN_PLACE = 44, /* place: be in this group and session, or have this child be */

	/* whoever dumps or restores from outside -> process; no cluster is there */
	CHAN_DUMP = 64,	   /* + image fd, + of one of a tree its order (tree.h): write it; */
			   /* answered by CHAN_DUMPED or CHAN_FAILED. flags: CHAN_DUMP_LOOK */
	CHAN_RESUME = 65,  /* go on by yourself; to a parked process the loss of its channel says
			    * the same: there is no other copy that could run */
	CHAN_LOOK = 70,	   /* + fd, + of one of a tree its order; leave.flags: CHAN_GO_*: what */
			   /* keeps it, and the head of an image; answered by CHAN_REFUSED for */
			   /* each, then CHAN_DUMPED */
	CHAN_LEAVE = 66,   /* + a connection to bpslave, + of one of a tree its order (tree.h); */
			   /* leave: ask there, and leave; answered by CHAN_LEFT, or */
			   /* CHAN_FAILED: then it is parked as before */
	CHAN_LEND = 67,	   /* + fd: have it open as u.status until the dump is done */
	CHAN_PRECOPY = 80, /* + a connection to bpslave; leave: as CHAN_LEAVE, but its pages are */
			   /* to go ahead; answered by CHAN_PRECOPIED; it stays parked */
	CHAN_TURN = 68,	   /* to one of a tree that is restored: all of it is there. Read your */
			   /* image; a zombie: die */
	CHAN_SETTLE = 69,  /* all are in place: your signals and timers; answered by CHAN_SETTLED */
};

#define CHAN_LOOK_REST 1u	/* not at mappings and descriptors; no head */
#define CHAN_DUMP_LOOK 1u	/* nothing is written: could it be? What was lent stays */
#define CHAN_DUMP_LEAVES 2u	/* with that: as if it was to leave; leave.flags: BPROC_DUMP_* */
#define CHAN_LEAVE_NO_GUARDS 1u /* it had no guard pages a moment ago: nobody looks again */
#define CHAN_HERE_EXEC 1u
#define CHAN_HERE_ENTRY 2u
#define CHAN_HERE_FIRST 4u     /* with CHAN_HERE_EXEC: it would exec before the grant */
#define CHAN_ABORT_HERE 1u     /* BE_SAMENODE: nothing has failed */
#define CHAN_GO_AWAY 1u	       /* not at home */
#define CHAN_GO_EXEC 2u	       /* MOVE_EXECMOVE: execve now */
#define CHAN_GO_STREAM_SHIFT 2 /* away: for each of fds 0..2 two bits: 0, or the number of */
#define CHAN_GO_STREAM_BITS 2  /* the stream that it is, plus 1 */
#define CHAN_GO_STREAM_MASK 0x3fu
#define CHAN_GHOST_REAP 1u /* not at home: its children that end are reaped */
#define CHAN_GHOST_CODE 2u
#define CHAN_CLONE_TEMPLATE 1u	/* of an arrival: its head is kept for skeletons to come */
#define CHAN_CLONE_REAP 2u	/* it is a ghost not at home, as of CHAN_GHOST_REAP */
#define CHAN_CLONE_THREADS 4u	/* of an arrival: as CHAN_ARRIVE_THREADS */
#define CHAN_CLONE_SIBLING 8u	/* not its child, but its parent's */
#define CHAN_CLONE_ORPHAN 16u	/* nobody's child, but of its session */
#define CHAN_PREPARED_RAN 1u	/* it has taken the word, and runs */
#define CHAN_RUN_CHILD 1u	/* siginfo: the end of a child that it has not heard of */
#define CHAN_ARRIVE_HOME 1u	/* descriptors 0..2 of this ghost are the originals */
#define CHAN_ARRIVE_EXEC 2u	/* MOVE_REXEC: an argument block comes, not an image */
#define CHAN_ARRIVE_CHILDREN 4u /* they are as it knows them: a pending SIGCHLD is of that */
#define CHAN_ARRIVE_THREADS 8u	/* the image has more than one: it keeps the right to make them */
#define CHAN_ARRIVE_LAZY 16u	/* + /dev/userfaultfd: memory may follow the image */
#define CHAN_ARRIVE_TREE 32u	/* it is one of a tree that arrives together */
#define CHAN_ARRIVE_FILTERS 64u /* + a file of its seccomp filters (filters.h), last */
#define CHAN_HOLD_NOT 0u	/* as ever */
#define CHAN_HOLD_DEAD 1u	/* those that end stay */
#define CHAN_HOLD_ALL 2u	/* stops that are there are taken; of what comes then, nothing */

/* What a clone is to become. Ids are the cluster's; -1 leaves an id alone. */
enum chan_clone_kind {
	CLONE_GHOST = 1,
	CLONE_ARRIVAL = 2,
	CLONE_ARRIVAL_HOME = 3, /* born on a node: descriptors 0..2 are its parent's */
	CLONE_SKELETON = 4,	/* warm, for an arrival that may come */
};
#define CHAN_NGROUPS 32
struct chan_cred {
	uint32_t uid[4], gid[4]; /* real, effective, saved, fs */
	uint32_t ngroups;	 /* <= CHAN_NGROUPS */
	uint32_t group[CHAN_NGROUPS];
	uint64_t cap_inh, cap_prm, cap_eff, cap_bnd, cap_amb;
	uint32_t securebits;
	uint32_t no_new_privs;
	int32_t nice;
	uint32_t zero;
	uint64_t rlim[16][2]; /* cur, max; RLIM_NLIMITS is 16 */
};
struct chan_clone {
	uint32_t kind;
	int32_t pid, pgid, sid; /* sid == pid: setsid; else pgid == pid or to be joined */
	char comm[16];
	struct chan_cred cred;
};
/* How a ghost is to look: as its original does. pgid and sid 0: not known. */
#define CHAN_ARGS_MAX 448
enum { NAME_REAPER_AS_IS, NAME_REAPER_ON, NAME_REAPER_OFF };
struct chan_name {
	int32_t pgid, sid;
	uint32_t uid, euid, suid, gid, egid;
	uint32_t reaper; /* NAME_REAPER_*: of its orphaned descendants */
	uint32_t nargs;	 /* bytes of args, which need not end with a NUL; 0: as they are */
	char comm[16];
	char args[CHAN_ARGS_MAX];
};
/* What a process has used, and those of its children that it has waited for: as wait4() has it. */
struct chan_used {
	uint64_t utime_us, stime_us, maxrss_kb;
};
struct chan_child {
	int32_t pid, code, status; /* CLD_*, exit code or signal */
	int32_t orphaned;	   /* of an end that bpslave tells (message ProcEvent) */
	struct chan_used used;
};

struct chan_msg {
	uint32_t type;
	int32_t err;
	uint64_t move_id;
	uint32_t flags;
	uint32_t stream_mask;
	union {
		char text[CHAN_TEXT_MAX];
		struct chan_child child;
		struct chan_clone clone;
		struct chan_name name;
		struct {
			int32_t pid, sig;
			uint64_t value;
			int32_t code, zero;
		} kill;
		struct {
			int32_t node;
			uint32_t flags; /* BPROC_DUMP_* */
			uint64_t live;	/* the id of what went ahead (live.h); 0: nothing */
			uint32_t go;	/* with that: the flags that CHAN_GO will have */
			uint16_t members, index; /* as in struct local_move */
			/* Of MOVE_REXEC: the arguments, in its memory; length 0: it moves. */
			uint64_t args, args_len;
		} leave;
		struct {
			int32_t pid, pgid, sid;
			int32_t was;	/* only if this is its group now; 0: whatever it is */
			uint32_t found; /* nobody is in the group here: make it */
		} place;
		int32_t status;
		struct {
			int32_t chan; /* the number of its channel's descriptor */
			int32_t code; /* where it will have the blob's bytes; 0: nowhere */
		} exec;
		int32_t pid;
		uint64_t bytes;
		struct {
			uint64_t filters; /* which seccomp filters it has (filters.h) */
			/* Away, for each stream: the descriptor above 2 that is it, or 0. */
			int32_t saved[CHAN_STREAMS], zero;
		} go;
		unsigned char siginfo[128];
	} u;
};

/*
 * A page that bpinit shares with a skeleton, and so with the arrival that it becomes: local.md.
 * bpinit writes a move's id when it sends CHAN_ARRIVE. Whoever changes that first has decided:
 * the arrival, which then runs, or bpinit, and then it never will.
 */
#define CHAN_WORD_BYTES 4096u
#define CHAN_WORD_RAN(id) (~(id))

/*
 * First bytes on every data connection, written by bpinit of the source before
 * the process gets the fd, so that the pid in it is the kernel's word. Little
 * endian, 216 bytes. The token admits the connection: 32 random bytes that the
 * master gave to both ends over their TLS links for this one move. The streams say
 * which signals of ghosts the process has had at the source (doc/wire.md, section 9), and used
 * what it has used up on all the machines where it was.
 */
#define DATA_STREAMS 8 /* of the ghosts that have sent it signals; the latest ones */
struct data_stream {
	uint64_t id, upto; /* id 0: none */
};
#define DATA_MAGIC 0x44525042u /* "BPRD" */
struct data_hdr {
	uint32_t magic;
	uint32_t version;
	uint64_t move_id;
	uint32_t epoch;
	int32_t pid;
	uint32_t kind;	/* enum move_kind */
	uint32_t flags; /* DATA_LAZY */
	unsigned char token[32];
	struct data_stream streams[DATA_STREAMS];
	struct chan_used used;
};
#define DATA_LAZY 1u /* its memory may follow the image: lazy.h */
#define DATA_VERSION 3
