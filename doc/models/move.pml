/*
 * The move protocol and the master's recovery, as the code has them (README.md
 * beside this says what stands for what). Every option of a party is one step of
 * it; what two parties say to each other is always late by any number of steps.
 */
#define H 0 /* the front end's own node: it is never fenced and never dies */
#define NONE 9
#define NM 2

/*
 * SCENE 1: two processes, opposite ways. 2: there and back. 3: on to a third node. 4: one move, and
 * what is not granted when the link ends is asked for again; the two numbers are for the two moves
 * that the master may make of it.
 */
#if SCENE == 1
#define NN 2
#define NP 2
#define PROC(m) (m)
#define SRC(m) (m)
#define DST(m) (1 - (m))
#define CAME(n, p) (((n) != (p)) -> (p) + 1 : 0) /* number of the move by which it is there */
#elif SCENE == 2
#define NN 2
#define NP 1
#define PROC(m) 0
#define SRC(m) (m)
#define DST(m) (1 - (m))
#define CAME(n, p) (2 - (n))
#elif SCENE == 3
#define NN 3
#define NP 1
#define PROC(m) 0
#define SRC(m) (m)
#define DST(m) ((m) + 1)
#define CAME(n, p) (n)
#else
#define NN 2
#define NP 1
#define PROC(m) 0
#define SRC(m) 0
#define DST(m) 1
#define CAME(n, p) ((n) == 1 -> number + 1 : 0)
#endif
/* Of a question q: the move that was granted. Of a move: was it granted for the question? */
#if SCENE == 4
#define ID(q) number
#define Q(m) 0
#define OF(m) (number == (m))
#define QUESTION(q) ((q) == 0)
#define excuse(why) excused = excused || (why)
#define only_4(what) what
#else
#define ID(q) (q)
#define Q(m) (m)
#define OF(m) true
#define QUESTION(q) true
#define excuse(why) skip
#define only_4(what) skip
#endif
#define MOVED(m) (SRC(m) != H) /* the process that leaves came to the source by a move */
#define bit(n) (1 << (n))

mtype = {
	/* slave -> master */
	ASK, SENT, RAN, RANLEFT, FAILT, FAILS, VOIDED, GHOSTED, EXIT, MIRRORED, KILL, PREAL, PGHOST,
	MSTATE, MSTATE_LOST, SEND,
	/* master -> slave */
	WELCOME, WELCOME_FENCE, START, GRANT, DENY, AGAIN, VOID, COMMIT, ABORT, EACK, MIRROR, WATCH,
	/* bpslave -> bpinit, besides KILL, GRANT, VOID, MIRROR */
	DEPART, GHOST_IT, ABORT_IT, ABORT_REQ, ARRIVE, DATA, FENCE, HELLO,
	/* bpinit -> bpslave, besides SENT, RAN, FAILT, FAILS, VOIDED, EXIT, MIRRORED, KILL */
	READY, GHOST, S_REAL, S_GHOST, S_MOVE, S_ASKED, S_ARRIVE, S_END
};

/* -- what the parties say to each other */
chan up[NN] = [12] of { mtype, byte };	 /* a link, its two directions */
chan down[NN] = [9] of { mtype, byte };
chan order[NN] = [8] of { mtype, byte }; /* bpslave to bpinit */
chan ev[NN] = [10] of { mtype, byte };	 /* bpinit's events that bpslave has not read */
chan kept[NN] = [10] of { mtype, byte };	 /* those it has read and not acknowledged */
chan state[NN] = [5] of { mtype, byte }; /* the dump after HELLO; it is read before the events */
chan held[NM] = [3] of { mtype, byte };	 /* orders that wait for a ghost (struct held) */
bool linked[NN];  /* the master has said Welcome on the link and it has not broken since */
bool welcome[NN]; /* bpslave has read it: m.up */
byte hellos[NN]; /* HELLOs in order[]: what is told before the last is answered is void */

/* -- processes, as they are */
#define NIL 0
#define RUNS 1	/* where it was born */
#define REAL 2	/* where it came by a move */
#define PARKED 3
#define ISGHOST 4
#define CLONE 5	    /* the copy that is being made */
#define INGHOST 6   /* the same, in a ghost */
#define PHELD 7	    /* killed while parked, held in its exit stop */
#define GHELD 8	    /* a ghost that was killed, the same */
byte ps[NN * NP]; /* [n * NP + p] */
#define at(n, p) ps[(n) * NP + (p)]
bool may_end[NP]; /* it has ended, or the only copy was lost with its node */
#define D_OPEN 1
#define D_WHOLE 2
#define D_CUT 3	  /* the source has gone before the end mark */
#define D_CLOSED 4 /* by the target */
byte data[NM];	  /* the data connection */
bool taken[NM];	  /* bpslave of the target has given it to bpinit */

/* -- bpinit: source (phase LEAVE_*), target (ARRIVE_*), the record (move_ended) */
#define L_ASKED 1
#define L_SENDING 2
#define L_SENT 3
#define L_FAILED 4
#define L_GHOSTING 5
#define L_VOTED 6 /* and bpinit does not know: it takes it for L_SENDING */
byte leave[NM];
bool granted[NM];
bool was_ghosted[NM]; /* the record EV_GHOST */
bool mirror_due[NM];  /* a Mirror came while the process becomes a ghost */
#define A_READY 1
#define A_RESTORING 2
byte arrive[NM];
bool took[NM]; /* the copy has taken the word and runs; bpinit has not looked */
mtype ended[NM];
bool left_life[NM]; /* with RAN: the process has ended here */

/* -- bpslave: struct leaving, struct arriving */
#define V_ASKED 1
#define V_GRANTED 2
#define V_PASSED 3
#define V_COMMITTED 4
byte leaving[NM];
#define A_STARTED 1
#define A_CHAIN 2
#define A_HANDED 3
byte arriving[NM];
bool asked[NM]; /* the process has asked: once only */
byte number = NONE; /* of the grant, in scene 4 */
bool told;	    /* the master was asked, on this link */
bool excused;	    /* a fault after which a move need not happen */

/* -- the master */
#define MV_GRANTED 1
#define MV_SENT 2
#define MV_VOIDING 3
#define MV_ORPHAN 4
#define MV_COMMITTED 5
byte mv[NM];
bool mv_proc[NM]; /* mv->proc is set */
bool mv_died[NM]; /* source_died */
bool mv_old[NM];  /* granted in an epoch before */
bool mv_off[NM];  /* called off by this master: move_why_aborted() */
#define PS_ALIVE 1
#define PS_MOVING 2
#define PS_DYING 3
#define PS_LOST 4
byte pt[NP];	/* the process table; 0: not in it */
byte pt_node[NP];
byte pt_ghosts[NP];
bool pt_native[NP];
byte pt_move[NP]; /* p->move, number + 1 */
byte pt_last[NP]; /* the newest move known to have run, number + 1 */
bool pt_kill[NP]; /* a SIGKILL in its queue */
#define NS_DOWN 1
#define NS_CONNECTED 2
#define NS_UNREACHABLE 3
byte ns[NN];
bool ns_fence[NN], synced[NN];
bool restarted, swept, home_synced;
byte used;	/* scene 4: numbers that were granted */
bool waits;	/* the question, for the end of a move or for the target */

/* -- fate */
byte budget = BUDGET;
bool dead[NN]; /* the node is gone, and everything on it */
#define CUT_LONG 1
#define CUT_FENCED 2
byte cut[NN]; /* from the master, for longer than the timeout */

byte fenced; /* nodes that ever were */

byte i, j; /* of loops; 0 between steps */
mtype t;
byte x;

inline each(v, n, what)
{
	v = 0;
	do
	:: v < (n) -> what; v++
	:: else -> v = 0; break
	od
}

inline only_copy(p)
{
	i = 0; x = 0;
	do
	:: i < NN ->
		if
		:: at(i, p) == RUNS || at(i, p) == REAL -> x++
		:: else
		fi;
		i++
	:: else -> break
	od;
	assert(x <= 1);
	i = 0; x = 0
}

/* A process dies with its node. */
inline lost_here(n, p)
{
	i = 0; x = 0;
	do
	:: i < NN ->
		if
		:: i != n && (at(i, p) == RUNS || at(i, p) == REAL) -> x++
		:: else
		fi;
		i++
	:: else -> break
	od;
	if
	:: x == 0 -> may_end[p] = true
	:: else
	fi;
	i = 0; x = 0
}

/*
 * -DPROMPT: bpinit obeys at once, and nothing else happens meanwhile. Fewer interleavings of
 * what is said on one machine, all of what is said between machines.
 */
#ifdef PROMPT
#if NN == 3
#define settled (empty(order[0]) && empty(order[1]) && empty(order[2]))
#else
#define settled (empty(order[0]) && empty(order[1]))
#endif
#else
#define settled true
#endif

inline say(n, what, who) /* master_send(): lost without a link */
{
	if
	:: welcome[n] && linked[n] -> up[n]!what, who
	:: else
	fi
}

inline tell(n, what, who) /* node_send() */
{
	if
	:: ns[n] == NS_CONNECTED && linked[n] -> down[n]!what, who
	:: else
	fi
}

inline empty_chan(c)
{
	do
	:: len(c) > 0 -> c?_, _
	:: else -> break
	od;
	i = 0
}

inline break_link(n)
{
	empty_chan(up[n]);
	empty_chan(down[n]);
	linked[n] = false;
	welcome[n] = false
}

#include "move_master.pml"
#include "move_node.pml"
#include "move_fate.pml"
