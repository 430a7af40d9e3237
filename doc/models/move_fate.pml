/*
 * What may happen to the parties, BUDGET times in all; how a link is made again; and
 * what must be true when nothing happens any more. Included by move.pml.
 */

/* A bpslave is killed and started again; its bpinit and the processes live on. */
inline slave_gone_move(n, m)
{
	if
	:: SRC(m) == n ->
		/* Its channel was not passed on: it has ended, which is an abort before the vote. */
		if
		:: QUESTION(m) && leave[m] == 0 && at(n, PROC(m)) == PARKED -> thaw(m)
		:: else
		fi;
		leaving[m] = 0;
		empty_chan(held[m])
	:: else
	fi;
	if
	:: DST(m) == n ->
		if
		:: (!taken[m] || arrive[m] == A_READY) && data[m] -> data[m] = D_CLOSED
		:: else
		fi;
		arriving[m] = 0
	:: else
	fi
}

inline slave_gone(n)
{
	excuse(true);
	break_link(n);
	slave_gone_move(n, 0);
	slave_gone_move(n, 1);
	empty_chan(order[n]);
	empty_chan(state[n]);
	hellos[n] = 0;
#ifdef BREAK_RECORD
	if
	:: DST(0) == n -> ended[0] = 0
	:: DST(1) == n -> ended[1] = 0
	:: else
	fi;
#endif
#ifdef BREAK_THAW
	if
	:: SRC(0) == n && leave[0] == L_SENT -> thaw(0)
	:: SRC(1) == n && leave[1] == L_SENT -> thaw(1)
	:: else
	fi;
#endif
	hello(n)
}

/*
 * A bpslave that lives sees its link break: what was not granted is off, as when no link comes in time
 * (move_no_master()); in scene 4 it is asked for again on the next one.
 */
inline link_lost(n)
{
	break_link(n);
#if SCENE == 4
	if
	:: SRC(0) == n -> told = false; waits = false /* asks_forget() */
	:: else
	fi
#else
	if
	:: SRC(0) == n && leaving[0] == V_ASKED -> refuse(n, 0)
	:: else
	fi;
	if
	:: SRC(1) == n && leaving[1] == V_ASKED -> refuse(n, 1)
	:: else
	fi
#endif
}

inline forget_epoch(m)
{
	if
	:: mv[m] || (OF(m) && (granted[Q(m)] || leaving[Q(m)] >= V_GRANTED)) || arriving[m] || arrive[m] ->
		mv_old[m] = true
	:: else
	fi;
	mv[m] = 0; mv_proc[m] = false; mv_died[m] = false; mv_off[m] = false
}

inline old_words(m) /* the grant or start is on a link that the bpslave will still read */
{
	mv_old[m] = mv_old[m] || mv[m]
}

inline master_gone()
{
	forget_epoch(0);
	forget_epoch(1);
	i = 0;
	do
	:: i < NP -> remove_proc(i); i++
	:: else -> i = 0; break
	od;
	link_lost(0); ns[0] = NS_DOWN; ns_fence[0] = false; synced[0] = false;
	link_lost(1); ns[1] = NS_DOWN; ns_fence[1] = false; synced[1] = false;
#if NN == 3
	link_lost(2); ns[2] = NS_DOWN; ns_fence[2] = false; synced[2] = false;
#endif
	restarted = true; swept = false; home_synced = false
}

inline node_dies_move(n, m)
{
	if
	:: SRC(m) == n && QUESTION(m) ->
		if
		:: granted[m] && data[ID(m)] == D_OPEN -> data[ID(m)] = D_CUT
		:: else
		fi;
		leave[m] = 0; leaving[m] = 0; empty_chan(held[m])
	:: else
	fi;
	if
	:: DST(m) == n ->
		if
		:: data[m] -> data[m] = D_CLOSED
		:: else
		fi;
		arrive[m] = 0; arriving[m] = 0; ended[m] = 0; took[m] = false
	:: else
	fi
}

inline node_dies(n)
{
	excuse(true);
	dead[n] = true;
	break_link(n);
	j = 0;
	do
	:: j < NP ->
		if
		:: at(n, j) == RUNS || at(n, j) == REAL || at(n, j) == PARKED || at(n, j) == PHELD ->
			lost_here(n, j)
		:: else
		fi;
		at(n, j) = NIL;
		j++
	:: else -> j = 0; break
	od;
	node_dies_move(n, 0);
	node_dies_move(n, 1);
	empty_chan(order[n]); empty_chan(state[n]); empty_chan(ev[n]); empty_chan(kept[n])
}

#define parked_can_die(n, m) (SRC(m) == n && at(n, PROC(m)) == PARKED && leave[m])
#define copy_can_die(n, m) restoring(n, m)
#define data_can_break(m) (data[m] == D_OPEN || (data[m] == D_WHOLE && !ended[m] && !took[m]))

inline break_data(m)
{
	if
	:: taken[m] -> data[m] = D_CUT /* the source sees it as closed */
	:: else -> data[m] = D_CLOSED
	fi
}

proctype fate(byte n) provided (settled)
{
end:
	do
#ifndef NO_SLAVE
	:: d_step { budget > 0 && !dead[n] && !cut[n] -> budget--; slave_gone(n) }
#endif
#ifndef NO_LINK
	:: d_step { budget > 0 && linked[n] && !cut[n] -> budget--; excuse(n != H); link_lost(n) }
#endif
#ifndef NO_NODE
	:: d_step { budget > 0 && n != H && !dead[n] -> budget--; node_dies(n) }
	/* Cut off for long: bpslave, or bpinit without one, fences the node. */
	:: d_step { budget > 0 && n != H && !dead[n] && !cut[n] ->
		budget--; excuse(true); cut[n] = CUT_LONG; link_lost(n) }
#endif
	:: d_step { cut[n] == CUT_LONG && empty(order[n]) -> cut[n] = CUT_FENCED; fenced = fenced | bit(n);
		fence(n) }
#ifndef NO_KILL
	:: d_step { budget > 0 && parked_can_die(n, 0) -> budget--; excuse(true); killed_parked(0) }
	:: d_step { budget > 0 && parked_can_die(n, 1) -> budget--; excuse(true); killed_parked(1) }
	:: d_step { budget > 0 && copy_can_die(n, 0) -> budget--; excuse(true); arrive_failed(n, 0, FAILT) }
	:: d_step { budget > 0 && copy_can_die(n, 1) -> budget--; excuse(true); arrive_failed(n, 1, FAILT) }
	:: d_step { budget > 0 && n == DST(0) && data_can_break(0) -> budget--; excuse(true); break_data(0) }
	:: d_step { budget > 0 && n == DST(1) && data_can_break(1) -> budget--; excuse(true); break_data(1) }
#endif
	/* The clock of the master. */
	:: d_step { ns[n] == NS_CONNECTED && !linked[n] -> ns[n] = NS_UNREACHABLE }
	:: d_step { ns[n] == NS_UNREACHABLE && (dead[n] || cut[n] == CUT_FENCED) && n != H ->
		declare_dead(n) }
	/* bpslave comes back: the cut heals before the fence, after it, or never until now. */
	:: d_step { !linked[n] && !dead[n] -> cut[n] = 0; connect(n) }
	od
}

/* Everybody who could come back has had the time: who has not is fenced. Home has no such limit. */
#define out_of_time(n) (synced[n] || (ns[n] == NS_DOWN && \
	(n == H || dead[n] || cut[n] == CUT_FENCED)))
#if NN == 3
#define all_out_of_time (out_of_time(0) && out_of_time(1) && out_of_time(2))
#else
#define all_out_of_time (out_of_time(0) && out_of_time(1))
#endif

proctype clock() provided (settled)
{
end:
	do
#ifndef NO_MASTER
	:: d_step { budget > 0 -> budget--; master_gone() }
#endif
	:: d_step { restarted && !swept && all_out_of_time -> swept = true; sweep_move(0); sweep_move(1); sweep_procs() }
	od
}

/* -- when nothing can happen any more */

inline check_move(m)
{
	assert(mv[m] == 0 && leaving[m] == 0 && leave[m] == 0 && arrive[m] == 0)
}

inline check_proc(p)
{
	byte k = 0, running = 0, where = NONE, ghosts = 0;

	do
	:: k < NN ->
		if
		:: at(k, p) == RUNS || at(k, p) == REAL -> running++; where = k
		:: at(k, p) == ISGHOST || at(k, p) == GHELD -> ghosts = ghosts | bit(k)
		:: at(k, p) == NIL -> skip
		:: else -> assert(false) /* parked, or half made */
		fi;
		k++
	:: else -> break
	od;
	assert(running == 1 || may_end[p]);
	if
	:: running == 0 -> assert(ghosts == 0 && pt[p] == 0)
	:: running == 1 && pt[p] ->
		assert(pt[p] == PS_ALIVE && pt_node[p] == where);
		/* A ghost that a fence has taken is asked for once more, at the end, and confirmed. */
		assert((ghosts & ~pt_ghosts[p]) == 0 && (pt_ghosts[p] & ~ghosts & ~fenced) == 0)
#if SCENE == 4 /* who was not granted has not been refused */
	:: running == 1 && where == H && number == NONE && !excused -> assert(false)
#endif
	:: running == 1 && !pt[p] -> assert(ghosts == 0 && (at(where, p) == RUNS || where == H))
	fi
}

proctype quiet()
{
	timeout ->
	d_step {
		check_move(0);
		check_move(1)
	}
	atomic {
		check_proc(0)
	}
#if NP == 2
	atomic {
		check_proc(1)
	}
#endif
}

init {
	byte n;

	atomic {
		do
		:: n < NN ->
			linked[n] = true; welcome[n] = true; ns[n] = NS_CONNECTED; synced[n] = true;
			n++
		:: else -> n = 0; break
		od;
		pt_node[0] = NONE;
		at(H, 0) = RUNS;
#if NP == 2
		at(1, 1) = REAL;
		at(H, 1) = ISGHOST;
		pt[1] = PS_ALIVE; pt_node[1] = 1; pt_ghosts[1] = bit(H);
#endif
		home_synced = true;
		do
		:: n < NN -> run bpinit(n); run node(n); run fate(n); n++
		:: else -> break
		od;
		run master(); run clock(); run quiet()
	}
}
