/*
 * A message that a synthetic slave says, filled in where it is said, with a Proc p_ of home for it;
 * and one that it hears, e_, looked at where it is heard.
 */
#pragma once

#include "core_slave.h"

#define SAY(s, Type, TYPE, ...)                                                                    \
	do {                                                                                       \
		Bproc__##Type m_ = BPROC__##TYPE##__INIT;                                          \
		Bproc__Proc p_ = BPROC__PROC__INIT;                                                \
		p_.home = -1;                                                                      \
		(void)p_;                                                                          \
		__VA_ARGS__;                                                                       \
		slave_send(s, &m_.base);                                                           \
	} while (0)

#define HEAR(s, TYPE, ...)                                                                         \
	do {                                                                                       \
		Bproc__Envelope *e_ = slave_expect(s, BPROC__ENVELOPE__MSG_##TYPE);                \
		__VA_ARGS__;                                                                       \
		bproc__envelope__free_unpacked(e_, NULL);                                          \
	} while (0)

/* of moves */
#define SAY_SENT(s, id) SAY(s, MoveSent, MOVE_SENT, m_.move = id)
#define SAY_RAN(s, id, n) SAY(s, MoveRan, MOVE_RAN, m_.move = id; p_.pid = n; m_.proc = &p_)
#define SAY_FAILED(s, id, at_target, e)                                                            \
	SAY(s, MoveFailed, MOVE_FAILED, char t_[] = "fd 7 is odd"; m_.move = id;                   \
	    m_.target = at_target; m_.err = e; m_.text = t_)
#define SAY_VOIDED(s, id) SAY(s, MoveVoided, MOVE_VOIDED, m_.move = id)
#define SAY_GHOSTED(s, id) SAY(s, MoveGhosted, MOVE_GHOSTED, m_.move = id)
#define SAY_SIGNAL(s, n, g)                                                                        \
	SAY(s, Signal, SIGNAL, p_.pid = n; m_.proc = &p_; m_.sig = g; m_.sender_pid = 77;          \
	    m_.value = 0x1122334455667788ull)
#define SAY_EVENT(s, n, c, st, q)                                                                  \
	SAY(s, ProcEvent, PROC_EVENT, p_.pid = n; m_.proc = &p_; m_.code = c; m_.status = st;      \
	    m_.seq = q)
#define SAY_MIRRORED(s, n) SAY(s, Mirrored, MIRRORED, p_.pid = n; m_.proc = &p_)
#define SAY_TAKEN(s, n, q) SAY(s, Mirrored, MIRRORED, p_.pid = n; m_.proc = &p_; m_.seq = q)
#define HEAR_ACK(s, q) HEAR(s, EVENT_ACK, ck_assert_uint_eq(e_->event_ack->seq, q))
