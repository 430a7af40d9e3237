/*
 * A node: bpslave (slaved/bpslave_move.c, bpslave_target.c, bpslave_init.c, bpslave_heard.c,
 * bpslave_event.c, bpslave_master.c), bpinit (slaved/bpinit_leave.c, bpinit_arrive.c,
 * bpinit_complete.c, bpinit_move.c, bpinit_proc.c, bpinit_mirror.c) and its processes (vmadump/blob/leave.c, restore.c).
 * Included by move.pml.
 */

/* -- bpslave */

inline after_ghost(n, p, what, who) /* move_after_ghost() */
{
	if
	:: leaving[0] == V_COMMITTED && SRC(0) == n && PROC(0) == p -> held[0]!what, who
	:: leaving[1] == V_COMMITTED && SRC(1) == n && PROC(1) == p -> held[1]!what, who
	:: else -> order[n]!what, who
	fi
}

inline forget(n, m)
{
	leaving[m] = 0;
	do
	:: len(held[m]) > 0 -> held[m]?t, x; order[n]!t, x
	:: else -> break
	od;
	t = 0; x = 0
}

inline refuse(n, m)
{
	order[n]!ABORT_REQ, m;
	forget(n, m)
}

inline tell_granted(n, m) /* move_tell_granted(): what bpinit may not know of */
{
	if
#ifndef BREAK_GRANT
	:: SRC(m) == n && leaving[m] >= V_GRANTED && leaving[m] < V_COMMITTED ->
		say(n, MSTATE, ID(m))
#endif
	:: else
	fi
}

inline ask_again(n) /* move_ask_again(), leaving_ask_again() */
{
	say(n, ASK, 0);
	told = welcome[n] && linked[n]
}

inline hello(n)
{
	order[n]!HELLO, 0;
	hellos[n]++
}

inline on_welcome(n, fence)
{
	welcome[n] = true;
	if
	:: fence -> order[n]!FENCE, 0
	:: else
	fi;
	hello(n)
}

inline from_master(n, what, m)
{
	if
	:: what == WELCOME -> on_welcome(n, false)
	:: what == WELCOME_FENCE -> on_welcome(n, true)
	:: what == START -> /* target_on_start() */
		if
		:: arriving[m] == 0 ->
			arriving[m] = A_STARTED;
			after_ghost(n, PROC(m), ARRIVE, m)
		:: else
		fi
	:: what == GRANT ->
		if
		:: leaving[Q(m)] == V_ASKED -> leaving[Q(m)] = V_GRANTED; only_4(number = m)
		:: leaving[Q(m)] == 0 -> say(n, FAILS, m)
		:: else
		fi
	:: what == DENY ->
		if
		:: leaving[m] == V_ASKED -> refuse(n, m)
		:: else
		fi
#if SCENE == 4
	:: what == AGAIN ->
		if
		:: leaving[m] == V_ASKED -> ask_again(n)
		:: else
		fi
#endif
	:: what == VOID -> /* target_on_void() */
		if
		:: arriving[m] -> after_ghost(n, PROC(m), VOID, m)
		:: else -> order[n]!VOID, m
		fi
	:: what == COMMIT ->
		order[n]!GHOST_IT, m;
		if
		:: leaving[Q(m)] && OF(m) -> leaving[Q(m)] = V_COMMITTED
		:: else
		fi
	:: what == ABORT ->
		if
		:: OF(m) && leaving[Q(m)] && leaving[Q(m)] != V_COMMITTED -> refuse(n, Q(m))
		:: OF(m) && leaving[Q(m)] == V_COMMITTED -> order[n]!ABORT_IT, m; forget(n, Q(m))
		:: else -> order[n]!ABORT_IT, m
		fi
	:: what == EACK -> empty_chan(kept[n])
	:: what == MIRROR -> after_ghost(n, m, MIRROR, m)
	:: what == KILL || what == WATCH -> order[n]!what, m
	fi
}

/* have_connection(); no connection: the master is told, and decides */
inline have_connection(n, m)
{
	leaving[m] = V_PASSED;
	if
	:: dead[DST(m)] -> say(n, FAILS, ID(m))
	:: else -> order[n]!GRANT, m
	fi
}

/* Kept until acknowledged: without a link, and an exit until the master has it. */
inline note(n, what, m)
{
	if
	:: !welcome[n] || what == EXIT || len(kept[n]) > 0 -> kept[n]!what, m
	:: else
	fi
}

inline from_bpinit(n, what, m)
{
	if
	:: what == S_REAL -> say(n, PREAL, m)
	:: what == S_GHOST -> say(n, PGHOST, m)
	:: what == S_MOVE -> /* tell_state() */
		if
#ifdef BREAK_TARGET
		:: leaving[m] == 0 -> say(n, MSTATE_LOST, ID(m))
#endif
		:: else -> say(n, MSTATE, ID(m))
		fi;
		if
		:: leave[m] == L_FAILED -> say(n, FAILS, ID(m))
		:: else
		fi
	:: what == S_ASKED ->
		if
		:: leaving[m] == 0 -> order[n]!ABORT_REQ, m
		:: else
		fi
	:: what == S_ARRIVE -> /* its token is lost: no image can come any more */
		if
		:: arriving[m] == 0 -> order[n]!VOID, m
		:: else
		fi
	:: what == S_END ->
		tell_granted(n, 0);
		tell_granted(n, 1);
		say(n, SEND, 0);
#if SCENE == 4 && !defined(BREAK_AGAIN)
		if
		:: SRC(0) == n && leaving[0] == V_ASKED && !told -> ask_again(n)
		:: else
		fi
#endif
	:: what == READY ->
		if
		:: arriving[m] == A_STARTED -> arriving[m] = A_CHAIN
		:: else
		fi
	:: what == SENT ->
		if
		:: leaving[m] -> say(n, SENT, ID(m))
		:: else
		fi
	:: what == FAILS -> /* on_failed() of the source */
		if
		:: leaving[m] >= V_GRANTED -> say(n, FAILS, ID(m))
		:: leaving[m] == V_ASKED -> refuse(n, m)
		:: else
		fi
	:: what == GHOST -> /* on_ghost() */
		say(n, GHOSTED, ID(m));
		if
		:: leaving[m] -> forget(n, m)
		:: else
		fi
	:: what == RAN || what == RANLEFT || what == FAILT || what == VOIDED ->
		say(n, what, m);
		arriving[m] = 0
	:: what == EXIT || what == MIRRORED || what == KILL -> say(n, what, m)
	fi
}

/* -- bpinit */

inline thaw(m) /* aborted(): the process goes on where it was */
{
	if
	:: at(SRC(m), PROC(m)) == PARKED ->
		at(SRC(m), PROC(m)) = (MOVED(m) -> REAL : RUNS);
		only_copy(PROC(m))
	:: at(SRC(m), PROC(m)) == PHELD ->
		at(SRC(m), PROC(m)) = NIL;
		if
		:: MOVED(m) -> ev[SRC(m)]!EXIT, PROC(m)
		:: else
		fi
	:: else
	fi;
	if
	:: granted[m] && data[ID(m)] == D_OPEN -> data[ID(m)] = D_WHOLE
	:: else
	fi;
	leave[m] = 0
}

inline became_ghost(n, m)
{
	leave[m] = 0;
	was_ghosted[m] = true;
	ev[n]!GHOST, m;
	if
	:: at(n, PROC(m)) == PHELD ->
		at(n, PROC(m)) = GHELD;
		ev[n]!KILL, PROC(m)
	:: at(n, PROC(m)) == PARKED -> at(n, PROC(m)) = ISGHOST
	:: else
	fi;
	if
	:: mirror_due[m] ->
		mirror_due[m] = false;
		at(n, PROC(m)) = NIL;
		ev[n]!MIRRORED, PROC(m)
	:: else
	fi
}

inline killed_parked(m) /* leave_exit_stop(), leave_died() */
{
	may_end[PROC(m)] = true;
	if
	:: leave[m] == L_SENT -> at(SRC(m), PROC(m)) = PHELD
#ifdef UNTOLD
	:: leave[m] == L_SENDING || leave[m] == L_VOTED ->
		at(SRC(m), PROC(m)) = PHELD;
		leave[m] = L_FAILED;
		ev[SRC(m)]!FAILS, m
#endif
	:: leave[m] == L_GHOSTING ->
		at(SRC(m), PROC(m)) = PHELD;
		became_ghost(SRC(m), m)
	:: else ->
		at(SRC(m), PROC(m)) = NIL;
		if
		:: leave[m] == L_FAILED -> skip
		:: else -> ev[SRC(m)]!FAILS, m
		fi;
		if
		:: granted[m] && data[ID(m)] == D_OPEN -> data[ID(m)] = D_CUT
		:: else
		fi;
		if
		:: MOVED(m) -> ev[SRC(m)]!EXIT, PROC(m)
		:: else
		fi;
		if
		:: granted[m] -> leave[m] = L_FAILED
		:: else -> leave[m] = 0
		fi
	fi
}

inline arrive_failed(n, m, how)
{
	if
	:: at(n, PROC(m)) == CLONE -> at(n, PROC(m)) = NIL
	:: at(n, PROC(m)) == INGHOST -> at(n, PROC(m)) = ISGHOST
	:: else
	fi;
	if
	:: taken[m] && data[m] -> data[m] = D_CLOSED
	:: else
	fi;
	arrive[m] = 0;
	ended[m] = how;
	ev[n]!how, m
}

inline start_arrival(n, m) /* init_data() */
{
	if
	:: arrive[m] == A_READY && at(n, PROC(m)) == ISGHOST ->
		at(n, PROC(m)) = INGHOST;
		arrive[m] = A_RESTORING
	:: arrive[m] == A_READY && at(n, PROC(m)) == NIL && n != H ->
		at(n, PROC(m)) = CLONE;
		arrive[m] = A_RESTORING
	:: arrive[m] == A_READY && (at(n, PROC(m)) > ISGHOST ||
		at(n, PROC(m)) == PARKED || (at(n, PROC(m)) == NIL && n == H)) ->
		arrive_failed(n, m, FAILT)
	:: else -> data[m] = D_CLOSED
	fi
}

inline ran(n, m) /* the commit: the record first, then CHAN_RUN */
{
	ended[m] = RAN;
	arrive[m] = 0;
	at(n, PROC(m)) = REAL;
	only_copy(PROC(m));
	ev[n]!RAN, m
}

inline takes(n, m) /* take_word(): by the word that it shares with bpinit a clone decides itself */
{
	took[m] = true;
	at(n, PROC(m)) = REAL;
	only_copy(PROC(m))
}

inline settle_one(n, m)
{
	if
	:: took[m] && DST(m) == n ->
		took[m] = false;
		ended[m] = RAN;
		arrive[m] = 0;
		ev[n]!RAN, m
	:: else
	fi
}

inline settle(n) /* arrive_settle(): before anything is done about a move or a process */
{
	settle_one(n, 0);
	settle_one(n, 1)
}

/* move_went_on(): neither runs here nor has ended here */
#ifdef BREAK_LEFT
#define HOW_RAN(n, m) RAN
#else
#define HOW_RAN(n, m) ((left_life[m] || at(n, PROC(m)) == REAL || at(n, PROC(m)) == PARKED || \
	at(n, PROC(m)) == PHELD) -> RAN : RANLEFT)
#endif

inline void_order(n, m) /* init_void() */
{
	if
	:: arrive[m] -> arrive_failed(n, m, VOIDED)
	:: !arrive[m] && ended[m] == RAN ->
		ev[n]!HOW_RAN(n, m), m;
		if
#ifndef BREAK_EXIT
		:: left_life[m] -> ev[n]!EXIT, PROC(m)
#endif
		:: else
		fi
	:: else ->
		ended[m] = VOIDED;
		ev[n]!VOIDED, m
	fi
}

inline exits(n, p) /* of a REAL process */
{
	settle(n);
	at(n, p) = NIL;
	may_end[p] = true;
	if
	:: CAME(n, p) -> left_life[CAME(n, p) - 1] = true
	:: else
	fi;
	ev[n]!EXIT, p
}

inline mirror_order(n, p) /* init_mirror() */
{
	if
	:: at(n, p) == ISGHOST || at(n, p) == GHELD || at(n, p) == NIL ->
		at(n, p) = NIL;
		ev[n]!MIRRORED, p
	:: at(n, p) == RUNS -> ev[n]!MIRRORED, p /* bpinit knows none of that number */
#ifndef BREAK_MIRROR
	:: leave[0] == L_GHOSTING && SRC(0) == n && PROC(0) == p -> mirror_due[0] = true
	:: leave[1] == L_GHOSTING && SRC(1) == n && PROC(1) == p -> mirror_due[1] = true
#endif
	:: else
	fi
}

inline kill_order(n, p) /* init_signal() of a SIGKILL */
{
	if
	:: at(n, p) == REAL -> exits(n, p)
	:: at(n, p) == RUNS ->
		at(n, p) = NIL;
		may_end[p] = true
	:: at(n, p) == ISGHOST || at(n, p) == GHELD -> ev[n]!KILL, p
	:: at(n, p) == PARKED && leave[0] && SRC(0) == n && PROC(0) == p -> killed_parked(0)
	:: at(n, p) == PARKED && leave[1] && SRC(1) == n && PROC(1) == p -> killed_parked(1)
	:: else
	fi
}

inline fence_move(n, m)
{
	if
	:: SRC(m) == n && at(n, PROC(m)) == PHELD && leave[m] -> at(n, PROC(m)) = PARKED
	:: else
	fi;
	if
	:: SRC(m) == n && leave[m] && at(n, PROC(m)) == PARKED ->
		lost_here(n, PROC(m));
		at(n, PROC(m)) = NIL;
		if
		:: leave[m] == L_GHOSTING ->
			was_ghosted[m] = true;
			ev[n]!GHOST, m
		:: leave[m] != L_FAILED && leave[m] != L_GHOSTING -> ev[n]!FAILS, m
		:: else
		fi;
		if
		:: granted[m] && data[ID(m)] == D_OPEN -> data[ID(m)] = D_CUT
		:: else
		fi;
		if
		:: MOVED(m) -> ev[n]!EXIT, PROC(m)
		:: else
		fi;
		leave[m] = (granted[m] && leave[m] != L_GHOSTING -> L_FAILED : 0)
	:: else
	fi;
	if
#ifdef BREAK_FENCE
	:: DST(m) == n && arrive[m] == A_RESTORING -> arrive_failed(n, m, FAILT)
#else
	:: DST(m) == n && arrive[m] -> arrive_failed(n, m, FAILT)
#endif
	:: else
	fi
}

inline fence_proc(n, p)
{
	if
	:: at(n, p) == REAL -> exits(n, p)
	:: at(n, p) == ISGHOST || at(n, p) == GHELD ->
		at(n, p) = NIL;
		ev[n]!MIRRORED, p
	:: else
	fi
}

inline fence(n) /* init_fence() */
{
	settle(n);
	fence_move(n, 0);
	fence_move(n, 1);
	fence_proc(n, 0);
#if NP == 2
	fence_proc(n, 1)
#endif
}

/* A ghost that turns back may be one again. */
#ifdef BREAK_TURNING
#define TOLD_TOO(n, p) false
#else
#define TOLD_TOO(n, p) (at(n, p) == INGHOST)
#endif

inline dump_proc(n, p)
{
	if
	:: at(n, p) == REAL -> state[n]!S_REAL, p
#ifndef BREAK_ASKED
	:: at(n, p) == PARKED && SRC(0) == n && PROC(0) == p && MOVED(0) && !granted[0] ->
		state[n]!S_REAL, p
	:: at(n, p) == PARKED && SRC(1) == n && PROC(1) == p && MOVED(1) && !granted[1] ->
		state[n]!S_REAL, p
#endif
	:: at(n, p) == ISGHOST || at(n, p) == GHELD || TOLD_TOO(n, p) -> state[n]!S_GHOST, p
	:: else
	fi
}

inline dump_move(n, m)
{
	if
	:: SRC(m) == n && leave[m] && granted[m] -> state[n]!S_MOVE, m
	:: SRC(m) == n && leave[m] && !granted[m] -> state[n]!S_ASKED, m
	:: DST(m) == n && arrive[m] == A_READY -> state[n]!S_ARRIVE, m
	:: else
	fi
}

inline hello_order(n) /* hello(), dump_state(), events_restart() */
{
	empty_chan(state[n]);
	dump_proc(n, 0);
#if NP == 2
	dump_proc(n, 1);
#endif
	dump_move(n, 0);
	dump_move(n, 1);
	state[n]!S_END, 0;
	do
	:: len(ev[n]) > 0 -> ev[n]?t, x; kept[n]!t, x
	:: else -> break
	od;
	do
	:: len(kept[n]) > 0 -> kept[n]?t, x; ev[n]!t, x
	:: else -> break
	od;
	t = 0; x = 0
}

inline obey(n, what, m) /* init_message() */
{
#ifndef BREAK_WORD
	settle(n);
#endif
	if
	:: what == HELLO ->
		hellos[n]--;
		if
		:: hellos[n] > 0 -> skip /* the answer to the last one counts */
		:: else -> hello_order(n)
		fi
	:: what == FENCE -> fence(n)
	:: what == DEPART -> leave[m] = L_ASKED
	:: what == GRANT ->
		if
		:: leave[m] == 0 -> ev[n]!FAILS, m
		:: leave[m] == L_ASKED && !granted[m] ->
			granted[m] = true;
			leave[m] = L_SENDING;
			data[ID(m)] = (dead[DST(m)] -> D_CLOSED : D_OPEN)
		:: leave[m] == L_FAILED && !granted[m] ->
			granted[m] = true;
			ev[n]!FAILS, m
		:: else
		fi
	:: what == GHOST_IT ->
		if
		:: leave[Q(m)] == 0 || !OF(m) ->
			if
			:: was_ghosted[Q(m)] && OF(m) -> ev[n]!GHOST, Q(m)
			:: else
			fi
		:: leave[Q(m)] == L_GHOSTING && OF(m) -> skip
		:: else ->
			if
			:: at(n, PROC(m)) == PARKED -> leave[Q(m)] = L_GHOSTING
			:: else -> became_ghost(n, Q(m))
			fi
		fi
	:: what == ABORT_IT ->
		if
		:: OF(m) && leave[Q(m)] && leave[Q(m)] != L_GHOSTING && granted[Q(m)] -> thaw(Q(m))
		:: else
		fi
	:: what == ABORT_REQ ->
		if
		:: leave[m] && leave[m] != L_GHOSTING -> thaw(m)
		:: else
		fi
	:: what == ARRIVE ->
		if
		:: arrive[m] -> skip
		:: !arrive[m] && (ended[m] == RAN || ended[m] == VOIDED) -> ev[n]!ended[m], m
		:: else ->
			arrive[m] = A_READY;
			ev[n]!READY, m
		fi
	:: what == DATA -> start_arrival(n, m)
	:: what == VOID -> void_order(n, m)
	:: what == MIRROR -> mirror_order(n, m)
	:: what == KILL -> kill_order(n, m)
	:: what == WATCH -> /* init_watch(): one that is not there has just ended */
		if
		:: at(n, m) == NIL -> ev[n]!EXIT, m
		:: else
		fi
	fi
}

/* -- steps */

#define has_data(m) (!taken[m] && (data[m] == D_OPEN || data[m] == D_WHOLE || data[m] == D_CUT))
/*
 * The limit of on_no_data(), which is long: nothing will ever come, because the connection
 * was lost before its header was read, or nobody is left who would make one.
 */
#if SCENE == 4 /* or it was made of a question that was asked again: target_new_epoch() */
#define nobody_sends(m) ((leaving[0] == 0 && leave[0] == 0) || (number != (m) && mv_old[m] && \
	!(down[0]??[GRANT,m])))
#else
#define nobody_sends(m) (leaving[m] == 0 && leave[m] == 0)
#endif
#ifdef BREAK_NODATA
#define no_data(m) false
#else
#define no_data(m) (arriving[m] == A_CHAIN && !taken[m] && (data[m] == D_CLOSED || \
	(data[m] == 0 && nobody_sends(m))))
#endif

inline hand_over(n, m)
{
	arriving[m] = A_HANDED;
	taken[m] = true;
	order[n]!DATA, m
}

inline give_up(n, m) /* on_no_data() */
{
	say(n, FAILT, m);
	order[n]!VOID, m;
	arriving[m] = 0
}

#define may_ask(n, m) (QUESTION(m) && SRC(m) == n && !asked[m] && welcome[n] && \
	(at(n, PROC(m)) == RUNS || at(n, PROC(m)) == REAL) && \
	(NP == 2 || m == 0 || (ended[0] == RAN && !arriving[0])))

inline asks(n, m) /* move_ask() */
{
	asked[m] = true;
	at(n, PROC(m)) = PARKED;
	leaving[m] = V_ASKED;
	order[n]!DEPART, m;
	say(n, ASK, m);
	only_4(told = true)
}

#define restoring(n, m) (DST(m) == n && arrive[m] == A_RESTORING && !took[m])
#define complete(n, m) (restoring(n, m) && data[m] == D_WHOLE)

inline sends(n, m) /* blob_leave(), steps 3 and 4 */
{
	if
	:: data[ID(m)] == D_OPEN ->
		data[ID(m)] = D_WHOLE;
#ifdef UNTOLD
		leave[m] = L_VOTED
#else
		leave[m] = L_SENT;
		ev[n]!SENT, m
#endif
	:: else ->
		leave[m] = L_FAILED;
		ev[n]!FAILS, m
	fi
}

proctype bpinit(byte n)
{
	byte m;
	mtype what;

end:
	do
	:: d_step { nempty(order[n]) -> order[n]?what, m; obey(n, what, m); what = 0; m = 0 }
	od
}

/* bpslave, and what bpinit and the processes do by themselves */
proctype node(byte n) provided (settled)
{
	byte m;
	mtype what;

end:
	do
	/* bpslave */
	:: d_step { nempty(down[n]) -> down[n]?what, m; from_master(n, what, m); what = 0; m = 0 }
	:: d_step { nempty(state[n]) -> state[n]?what, m; from_bpinit(n, what, m); what = 0; m = 0 }
	:: d_step { nempty(ev[n]) && empty(state[n]) && hellos[n] == 0 ->
		ev[n]?what, m; from_bpinit(n, what, m); note(n, what, m); what = 0; m = 0 }
	:: d_step { SRC(0) == n && leaving[0] == V_GRANTED -> have_connection(n, 0) }
	:: d_step { SRC(1) == n && leaving[1] == V_GRANTED -> have_connection(n, 1) }
	:: d_step { DST(0) == n && arriving[0] == A_CHAIN && has_data(0) -> hand_over(n, 0) }
	:: d_step { DST(1) == n && arriving[1] == A_CHAIN && has_data(1) -> hand_over(n, 1) }
	:: d_step { DST(0) == n && no_data(0) -> give_up(n, 0) }
	:: d_step { DST(1) == n && no_data(1) -> give_up(n, 1) }
	/* the processes */
	:: d_step { may_ask(n, 0) -> asks(n, 0) }
	:: d_step { may_ask(n, 1) -> asks(n, 1) }
	:: d_step { SRC(0) == n && leave[0] == L_SENDING && !dead[n] -> sends(n, 0) }
	:: d_step { SRC(1) == n && leave[1] == L_SENDING && !dead[n] -> sends(n, 1) }
	:: d_step { SRC(0) == n && leave[0] == L_GHOSTING -> became_ghost(n, 0) }
	:: d_step { SRC(1) == n && leave[1] == L_GHOSTING -> became_ghost(n, 1) }
	:: d_step { complete(n, 0) && at(n, PROC(0)) != CLONE -> ran(n, 0) }
	:: d_step { complete(n, 1) && at(n, PROC(1)) != CLONE -> ran(n, 1) }
	:: d_step { complete(n, 0) && at(n, PROC(0)) == CLONE -> takes(n, 0) }
	:: d_step { complete(n, 1) && at(n, PROC(1)) == CLONE -> takes(n, 1) }
	:: d_step { (took[0] && DST(0) == n) || (took[1] && DST(1) == n) -> settle(n) }
	:: d_step { restoring(n, 0) && data[0] == D_CUT -> arrive_failed(n, 0, FAILT) }
	:: d_step { restoring(n, 1) && data[1] == D_CUT -> arrive_failed(n, 1, FAILT) }
#ifdef EXITS
	:: d_step { at(n, 0) == REAL && !may_end[0] -> exits(n, 0) }
#if NP == 2
	:: d_step { at(n, 1) == REAL && !may_end[1] -> exits(n, 1) }
#endif
#endif
	od
}

