/*
 * The master: masterd/moves.c, moveact.c, move.c (the table), procs.c, nodes.c and
 * resync.c. One message, or one turn of its clock, is one step. Included by move.pml.
 */
#define p_of PROC(m)
#define TO_COME(m) (restarted && !swept && ns[DST(m)] == NS_DOWN)
#ifdef BREAK_HOME
#define HOME_STAYS true
#define HOME_FIRST true
#else
#define HOME_STAYS (DST(m) != H)
#define HOME_FIRST home_synced
#endif

/* Known already, by a slave's word after a restart: only the ghost is news. */
#ifdef BREAK_NEWER
#define older(m) false
#else
#define older(m) (pt[p_of] && pt_last[p_of] >= m + 1)
#endif

/* -- procs.c */

inline remove_proc(p) /* gone() */
{
	if
	:: pt_move[p] -> mv_proc[pt_move[p] - 1] = false
	:: else
	fi;
	pt[p] = 0; pt_node[p] = NONE; pt_ghosts[p] = 0; pt_native[p] = false;
	pt_move[p] = 0; pt_last[p] = 0; pt_kill[p] = false
}

inline new_proc(p, n)
{
	pt[p] = PS_ALIVE; pt_node[p] = n; pt_ghosts[p] = 0; pt_native[p] = false;
	pt_move[p] = 0; pt_last[p] = 0; pt_kill[p] = false
}

inline release(p) /* procs_release() */
{
	if
	:: pt[p] == PS_ALIVE && pt_native[p] && !pt_move[p] && !pt_ghosts[p] -> remove_proc(p)
	:: else
	fi
}

inline decided(p) /* procs_decided() */
{
	if
	:: pt[p] == PS_MOVING || pt[p] == PS_LOST || pt[p] == PS_ALIVE ->
		pt[p] = PS_ALIVE;
		if
		:: pt_kill[p] -> tell(pt_node[p], KILL, p); pt_kill[p] = false
		:: else
		fi
	:: else
	fi
}

inline mirror_exit(p) /* PA_MIRROR_EXIT */
{
	pt[p] = PS_DYING;
	j = 0;
	do
	:: j < NN ->
		if
		:: pt_ghosts[p] & bit(j) -> tell(j, MIRROR, p)
		:: else
		fi;
		j++
	:: else -> j = 0; break
	od;
	if
	:: pt_ghosts[p] == 0 -> remove_proc(p)
	:: else
	fi
}

/* procs_dead(PE_EXIT), of a process that is not moving, and PE_REAL_DOWN of any */
inline dead_proc(p)
{
	if
	:: pt[p] == PS_ALIVE || pt[p] == PS_LOST -> mirror_exit(p)
	:: else
	fi
}

inline ghost_gone(n, p)
{
	pt_ghosts[p] = pt_ghosts[p] & ~bit(n);
	if
	:: pt_ghosts[p] == 0 && (pt[p] == PS_DYING || pt[p] == PS_LOST) -> remove_proc(p)
	:: pt_ghosts[p] == 0 && pt[p] == PS_ALIVE -> release(p)
	:: else
	fi
}

inline lost(p) /* resync_lost() */
{
	if
	:: pt[p] == PS_LOST && swept && home_synced -> mirror_exit(p)
	:: else
	fi
}

/* -- moveact.c: what the table of move.c orders */

inline detach(m)
{
	if
	:: mv_proc[m] && pt_move[p_of] == m + 1 -> pt_move[p_of] = 0
	:: else
	fi;
	mv_proc[m] = false
}

inline finish(m) /* MV_DONE */
{
	detach(m);
	mv[m] = 0; mv_died[m] = false
}

inline do_void(m, next)
{
	mv[m] = next;
	tell(DST(m), VOID, m)
}

inline do_abort(m)
{
	tell(SRC(m), ABORT, m);
	mv_off[m] = mv_old[m]; /* of its own it knows by the epoch */
	if
	:: mv_proc[m] ->
		detach(m);
		if
		:: pt_node[p_of] == DST(m) ->
			pt_node[p_of] = SRC(m);
			pt_native[p_of] = (SRC(m) == H);
			pt_ghosts[p_of] = pt_ghosts[p_of] & ~bit(SRC(m))
		:: else
		fi;
		decided(p_of);
		if
		:: mv_died[m] -> dead_proc(p_of)
		:: else -> release(p_of)
		fi
	:: else
	fi;
	finish(m)
}

/* It has gone on from there, and who has it tells, or has told its end. */
inline where_unknown(m)
{
	detach(m);
	pt[p_of] = PS_LOST;
	pt_node[p_of] = NONE;
	pt_native[p_of] = false
}

inline enter_table(m, left)
{
	if
	:: !mv_proc[m] && !older(m) ->
		if
		:: pt[p_of] == 0 || !mv_old[m] -> new_proc(p_of, DST(m))
		:: else
		fi;
		if
		:: pt_move[p_of] -> mv_proc[pt_move[p_of] - 1] = false
		:: else
		fi;
		pt_move[p_of] = m + 1;
		mv_proc[m] = true
	:: else
	fi;
	if
	:: !older(m) ->
		pt_node[p_of] = DST(m);
		pt_native[p_of] = (DST(m) == H);
		pt_last[p_of] = m + 1;
		if
		:: left -> where_unknown(m)
		:: else -> pt_ghosts[p_of] = pt_ghosts[p_of] & ~bit(DST(m))
		fi
	:: else
	fi
}

inline do_commit(m, source_lives, left)
{
	enter_table(m, left);
	if
	:: source_lives ->
		if
		:: pt_node[p_of] != SRC(m) -> pt_ghosts[p_of] = pt_ghosts[p_of] | bit(SRC(m))
		:: else
		fi;
		tell(SRC(m), COMMIT, m);
		if
		:: pt[p_of] == PS_DYING -> tell(SRC(m), MIRROR, p_of)
		:: else
		fi
	:: else
	fi;
	if
	:: mv_proc[m] -> decided(p_of)
	:: else
	fi;
	if
	:: mv_died[m] && pt[p_of] == PS_LOST -> pt_kill[p_of] = true
	:: mv_died[m] && pt[p_of] != PS_LOST -> tell(pt_node[p_of], KILL, p_of)
	:: else
	fi;
	lost(p_of);
	mv[m] = MV_COMMITTED
}

inline let_go(m) /* a source that was declared dead, if it is back: its part is over */
{
	tell(SRC(m), ABORT, m)
}

inline do_dead(m)
{
	let_go(m);
	if
	:: mv_proc[m] ->
		detach(m);
		decided(p_of);
		dead_proc(p_of)
	:: else
	fi;
	finish(m)
}

inline src_failed(m) /* ME_SRC_FAILED */
{
	if
	:: mv[m] == MV_GRANTED || mv[m] == MV_SENT -> do_void(m, MV_VOIDING)
	:: mv[m] == MV_COMMITTED -> tell(SRC(m), COMMIT, m)
	:: else
	fi
}

inline dst_failed(m) /* ME_DST_FAILED, ME_VOIDED, ME_DST_DOWN: it does not run there */
{
	if
	:: mv[m] == MV_GRANTED || mv[m] == MV_SENT || mv[m] == MV_VOIDING -> do_abort(m)
	:: mv[m] == MV_ORPHAN -> do_dead(m)
	:: else
	fi
}

inline node_event(n, m, is_dead) /* moves_node(), tell_move() */
{
	if
	:: mv[m] && SRC(m) == n && !is_dead ->
		if
		:: mv[m] == MV_GRANTED -> do_void(m, MV_VOIDING)
		:: mv[m] == MV_COMMITTED -> tell(n, COMMIT, m)
		:: else
		fi
	:: mv[m] && DST(m) == n && !is_dead ->
		if
		:: mv[m] == MV_GRANTED || mv[m] == MV_SENT || mv[m] == MV_VOIDING ->
			do_void(m, MV_VOIDING)
		:: mv[m] == MV_ORPHAN -> do_void(m, MV_ORPHAN)
		:: else
		fi
	:: mv[m] && SRC(m) == n && is_dead ->
		if
		:: mv[m] == MV_GRANTED || mv[m] == MV_SENT -> do_void(m, MV_ORPHAN)
		:: mv[m] == MV_VOIDING -> mv[m] = MV_ORPHAN
		:: mv[m] == MV_COMMITTED -> finish(m)
		:: else
		fi
	:: mv[m] && DST(m) == n && is_dead -> dst_failed(m)
	:: else
	fi
}

/* -- moves.c: the judge */

#if SCENE == 4
/* Which number it gets; what was made of it before is to be over. */
inline question(q)
{
	if
#ifndef BREAK_WAIT
	:: used < 2 && (mv[0] || mv[1] || TO_COME(q)) -> waits = true
#endif
	:: used == 2 -> excused = true; tell(SRC(q), DENY, 0) /* the model has no more numbers */
	:: else ->
		m = used;
		ask(m);
		if
		:: mv[m] -> used++
		:: else
		fi
	fi
}
#define ASKED(m) question(m)
#else
#define ASKED(m) ask(m)
#endif

inline ask(m)
{
	if
	:: ns[DST(m)] != NS_CONNECTED -> tell(SRC(m), DENY, Q(m))
	:: else ->
		if
		:: (pt[p_of] == PS_ALIVE && pt_node[p_of] == SRC(m)) || pt[p_of] == 0 ->
			if
			:: pt[p_of] == 0 ->
				new_proc(p_of, SRC(m));
				pt_native[p_of] = true
			:: else
			fi;
			pt[p_of] = PS_MOVING;
			if
			:: pt_move[p_of] -> mv_proc[pt_move[p_of] - 1] = false
			:: else
			fi;
			pt_move[p_of] = m + 1;
			mv_proc[m] = true;
			mv[m] = MV_GRANTED;
			tell(DST(m), START, m);
			tell(SRC(m), GRANT, m)
		:: else -> tell(SRC(m), DENY, Q(m))
		fi
	fi
}

/* -- resync.c */

inline found(p, n, native)
{
	pt_node[p] = n;
	pt_native[p] = native;
	decided(p)
}

inline maybe_at_home(p)
{
	if
	:: pt[p] == PS_LOST && home_synced && !(pt_ghosts[p] & bit(H)) ->
		found(p, H, true);
		tell(H, WATCH, p)
	:: else
	fi
}

inline ghost_told(n, p)
{
	if
	:: pt[p] == 0 ->
		new_proc(p, NONE);
		pt[p] = PS_LOST
	:: else
	fi;
	if
	:: pt_node[p] != n ->
		pt_ghosts[p] = pt_ghosts[p] | bit(n);
		maybe_at_home(p);
		if
#ifndef BREAK_DYING
		:: pt[p] == PS_DYING -> tell(n, MIRROR, p)
#endif
		:: else -> lost(p)
		fi
	:: else
	fi
}

/* came: the move by which it is there. */
inline real_told(n, p)
{
	if
	:: pt[p] == 0 -> new_proc(p, n)
	:: pt[p] == PS_LOST -> pt_node[p] = n; decided(p)
	:: pt[p] == PS_DYING && pt_node[p] != n -> tell(n, KILL, p)
	:: (pt[p] == PS_ALIVE || pt[p] == PS_MOVING) && pt_node[p] != n &&
	   CAME(n, p) > pt_last[p] ->
		pt_ghosts[p] = pt_ghosts[p] | bit(pt_node[p]);
		pt_node[p] = n
	:: else
	fi;
	if
	:: (pt[p] == PS_ALIVE || pt[p] == PS_MOVING) && pt_node[p] == n ->
		pt_native[p] = (n == H);
		pt_ghosts[p] = pt_ghosts[p] & ~bit(n);
		if
		:: CAME(n, p) > pt_last[p] -> pt_last[p] = CAME(n, p)
		:: else
		fi;
		if
		:: pt[p] == PS_MOVING && pt_move[p] < CAME(n, p) -> /* by a move that is long over */
			mv_proc[pt_move[p] - 1] = false;
			pt_move[p] = 0;
			decided(p)
		:: else
		fi
	:: else
	fi
}

#ifdef BREAK_EPOCH
#define UNASKED true
#else
#define UNASKED false
#endif

inline revive(m)
{
	mv[m] = MV_VOIDING;
	if
	:: pt[p_of] == 0 -> new_proc(p_of, SRC(m))
	:: pt[p_of] == PS_LOST -> found(p_of, SRC(m), false)
	:: else
	fi;
	if
	:: pt[p_of] == PS_ALIVE && !older(m) ->
		pt[p_of] = PS_MOVING;
		if
#ifdef BREAK_NATIVE
		:: true -> pt_native[p_of] = (pt_ghosts[p_of] == 0)
#else
		:: pt_node[p_of] == SRC(m) -> pt_native[p_of] = !MOVED(m)
		:: else
#endif
		fi;
		pt_move[p_of] = m + 1;
		mv_proc[m] = true
	:: else
	fi
}

inline resync_move(m, known)
{
	if
	:: mv[m] -> skip
	:: !mv[m] && (!mv_old[m] || mv_off[m]) -> tell(SRC(m), ABORT, m)
	:: !mv[m] && mv_old[m] && !mv_off[m] ->
		revive(m);
		if
		:: UNASKED || !known || (ns[DST(m)] == NS_DOWN && swept && HOME_STAYS) -> dst_failed(m)
		:: else -> tell(DST(m), VOID, m)
		fi
	fi
}

inline sweep_procs()
{
	i = 0;
	do
	:: i < NP ->
		if
		:: pt[i] == PS_LOST && HOME_FIRST -> mirror_exit(i)
		:: else
		fi;
		i++
	:: else -> break
	od;
	i = 0
}

inline sweep_move(m)
{
	if
	:: mv[m] && mv_old[m] && ns[DST(m)] == NS_DOWN && HOME_STAYS -> dst_failed(m)
	:: else
	fi
}

inline state_end(n)
{
	synced[n] = true;
	if
	:: n == H && !home_synced ->
		home_synced = true;
		i = 0;
		do
		:: i < NP -> maybe_at_home(i); i++
		:: else -> i = 0; break
		od;
		if
		:: swept -> sweep_procs()
		:: else
		fi
	:: else
	fi
}

/* -- nodes.c */

inline node_back_proc(n, p)
{
	if
	:: pt[p] == PS_DYING && (pt_ghosts[p] & bit(n)) -> tell(n, MIRROR, p)
	:: else
	fi
}

inline connect(n) /* nodes_hello(), of the bpinit that was there before */
{
	ns[n] = NS_CONNECTED;
	linked[n] = true;
	if
	:: ns_fence[n] -> down[n]!WELCOME_FENCE, 0
	:: else -> down[n]!WELCOME, 0
	fi;
	ns_fence[n] = false;
	node_event(n, 0, false);
	node_event(n, 1, false);
	node_back_proc(n, 0);
#if NP == 2
	node_back_proc(n, 1)
#endif
}

inline dead_node_proc(n, p)
{
	if
	:: pt[p] && pt_node[p] == n -> dead_proc(p)
	:: pt[p] && pt_node[p] != n && (pt_ghosts[p] & bit(n)) -> ghost_gone(n, p)
	:: else
	fi
}

inline declare_dead(n)
{
	ns[n] = NS_DOWN;
	ns_fence[n] = true;
	synced[n] = false;
	node_event(n, 0, true);
	node_event(n, 1, true);
	dead_node_proc(n, 0);
#if NP == 2
	dead_node_proc(n, 1)
#endif
}

/* -- procs.c: what a slave says of processes */

/* resync_exit(): a move that is undecided here only was over when it came to where it has ended */
inline later_exit(n, p)
{
	if
	:: pt[p] == PS_MOVING && pt_move[p] && pt_move[p] < CAME(n, p) ->
		pt_ghosts[p] = pt_ghosts[p] | bit(SRC(pt_move[p] - 1));
		mv_proc[pt_move[p] - 1] = false;
		pt_move[p] = 0;
		pt_node[p] = n;
		pt_last[p] = CAME(n, p);
		decided(p)
	:: else
	fi
}

inline exit_told(n, p)
{
	down[n]!EACK, p;
	later_exit(n, p);
	if
	:: pt[p] == 0 -> skip
	:: pt[p] == PS_LOST || (pt[p] == PS_ALIVE && pt_node[p] == n) -> dead_proc(p)
	:: pt[p] == PS_MOVING && pt_node[p] == n ->
		mv_died[pt_move[p] - 1] = true;
		src_failed(pt_move[p] - 1)
	:: else ->
		if
		:: pt_node[p] != n && pt_move[p] && SRC(pt_move[p] - 1) == n ->
			tell(pt_node[p], KILL, p)
		:: else
		fi
	fi
}

inline kill_told(p)
{
	if
	:: pt[p] == PS_ALIVE -> tell(pt_node[p], KILL, p)
	:: pt[p] == PS_MOVING || pt[p] == PS_LOST -> pt_kill[p] = true
	:: else
	fi
}

inline source_says(m) /* moves_from_source() of a move that is not known */
{
	if
	:: !mv[m] && (!mv_old[m] || mv_off[m]) -> tell(SRC(m), ABORT, m)
	:: else
	fi
}

inline dispatch(n, what, m)
{
	if
	:: what == ASK -> ASKED(m)
	:: what == SENT ->
		if
		:: mv[m] == MV_GRANTED -> mv[m] = MV_SENT
		:: else -> source_says(m)
		fi
	:: what == FAILS ->
		if
		:: mv[m] -> src_failed(m)
		:: else -> source_says(m)
		fi
	:: what == FAILT ->
		assert(mv[m] != MV_COMMITTED);
		dst_failed(m)
	:: what == VOIDED ->
		assert(mv[m] == 0 || mv[m] == MV_VOIDING || mv[m] == MV_ORPHAN); /* MA_BAD */
		dst_failed(m)
	:: what == RAN || what == RANLEFT ->
		if
		:: mv[m] == MV_ORPHAN ->
			let_go(m);
			do_commit(m, false, what == RANLEFT);
			finish(m)
		:: mv[m] == MV_GRANTED || mv[m] == MV_SENT || mv[m] == MV_VOIDING ->
			do_commit(m, true, what == RANLEFT)
		:: mv[m] == 0 && mv_old[m] && what == RAN -> real_told(n, p_of)
		:: else
		fi
	:: what == GHOSTED ->
		assert(mv[m] != MV_GRANTED && mv[m] != MV_SENT); /* MA_BAD */
		if
		:: mv[m] == MV_COMMITTED -> finish(m)
		:: else
		fi
	:: what == EXIT -> exit_told(n, m)
	:: what == MIRRORED ->
		if
		:: pt[m] == PS_DYING && (pt_ghosts[m] & bit(n)) -> ghost_gone(n, m)
		:: else
		fi
	:: what == KILL -> kill_told(m)
	:: what == PREAL -> real_told(n, m)
	:: what == PGHOST -> ghost_told(n, m)
	:: what == MSTATE -> resync_move(m, true)
	:: what == MSTATE_LOST -> resync_move(m, false)
	:: what == SEND -> state_end(n)
	fi
}

proctype master() provided (settled)
{
	byte m;
	mtype what;

end:
	do
	:: d_step { nempty(up[0]) -> up[0]?what, m; dispatch(0, what, m); what = 0; m = 0 }
	:: d_step { nempty(up[1]) -> up[1]?what, m; dispatch(1, what, m); what = 0; m = 0 }
#if SCENE == 4 /* asks_look() */
	:: d_step { waits && !mv[0] && !mv[1] && !TO_COME(0) -> waits = false; tell(SRC(0), AGAIN, 0) }
#endif
#if NN == 3
	:: d_step { nempty(up[2]) -> up[2]?what, m; dispatch(2, what, m); what = 0; m = 0 }
#endif
	od
}
