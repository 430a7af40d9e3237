/*
 * Moves as their source sees them, in the numbered steps of doc/move.md from 3 on; what comes
 * before is in bpslave_asks.c, the target's steps in bpslave_target.c. Runs in bpslave. Nothing
 * here decides: the master judges, bpinit holds the process and is the record. A move that was
 * granted waits for the master's word however long that takes.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "bpslave_move.h"
#include "slaved/bpslave_data.h"
#include "include/sys/bproc.h"
#include "slaved/bpslave_filter.h"
#include "vmadump/blob/blob.h"
#include "libbproc/log.h"
#include "libbproc/wire.h"

static struct leaving *by_move(uint64_t move)
{
	struct leaving *v;

	LIST_FOREACH(v, &leavings, next)
	if (move != 0 && v->move == move)
		return v;
	return NULL;
}

/* Sends what was held back. */
static void forget(struct leaving *v)
{
	tree_part(v);
	if (v->kind != MOVE_LIVE)
		born_leaving(v->pid, false);
	if (v->ticket)
		data_cancel(v->ticket);
	free_event(&v->later);
	filters_cancel(v->reading);
	asker_free(v->who);
	LIST_REMOVE(v, next);
	after_end(v->after);
	if (v->move)
		data_warm(v->node);
	foreign_end(v->chan);
	free(v);
}

/*
 * Nobody else reads the channel yet, so the word on it is ours. A socket that is closed with
 * something unread in it makes its far end forget what that has not read yet (ECONNRESET).
 */
void chan_refuse(int chan, int err, const char *text)
{
	struct chan_msg abort = {.type = CHAN_ABORT, .err = err};

	snprintf(abort.u.text, sizeof(abort.u.text), "%s", text);
	pkt_send_now(chan, &abort, sizeof(abort), NULL, 0);
	foreign_end(chan);
}

/* The process goes on here: by bpinit's word on the channel, and the asker by ours. */
void leaving_refuse(struct leaving *v, int err, const char *text)
{
	struct init_msg m = {.type = INIT_DECIDE,
			     .move_id = v->move,
			     .req_id = v->req,
			     .pid = v->pid,
			     .err = err};

	snprintf(m.u.decide.text, sizeof(m.u.decide.text), "%s", text);
	/* It may look at its stdin with its first instruction. */
	if (v->parked)
		stdio_stays(v->pid);
	if (v->chan >= 0)
		chan_refuse(take_fd(v->chan), err, text);
	else
		init_send(&m, NULL, 0);
	if (v->client)
		local_error(v->client, v->id, LOCAL_MOVE, err, text);
	forget(v);
}

/* It has ended without waiting. The move goes on: what it asked for is its child's life. */
void move_client_gone(uint32_t client)
{
	struct leaving *v;

	LIST_FOREACH(v, &leavings, next)
	if (v->client == client)
		v->client = 0;
	tree_client_gone(client);
}

/* -- step 3: the master has judged */

void move_on_deny(const Bproc__MoveDeny *d)
{
	struct leaving *v = leaving_by_req(d->req);

	if (v && d->again && !v->move)
		leaving_ask_again(v);
	else if (v)
		leaving_refuse(v, d->err ? (int)d->err : EIO, d->text);
}

/* -- step 5: granted */

void move_on_grant(const Bproc__MoveGrant *g)
{
	struct leaving *v = leaving_by_req(g->req);

	if (!v || g->token.len != sizeof(v->token)) {
		move_tell_failed(g->move, ECONNRESET, "the source does not know of this move",
				 false);
		return;
	}
	if (v->move)
		return; /* told twice after a reconnect */
	tree_granted(v);
	asker_free(v->who);
	v->who = NULL;
	v->move = g->move;
	v->epoch = g->epoch;
	v->node = g->node;
	v->life = g->life;
	memcpy(v->token, g->token.data, sizeof(v->token));
	if (v->parked)
		stdio_departing(v->pid, v->move);
	grant_connect(v);
}

static void tell_lost(const struct leaving *v)
{
	move_tell_failed(v->move, ECONNRESET, "the data connection to the node was lost", false);
}

/*
 * The connection has ended, and the far side has not said that it has handed on all of the image.
 * Who has sent it waits for a decision; without this the target would give up by its own time.
 */
void move_image_lost(uint64_t move)
{
	struct leaving *v = by_move(move);

	if (!v || v->committed)
		return;
	v->lost = true;
	tell_lost(v);
}

/* It is parked: its last byte of output is written. What it has not read goes with it. */
static void parked(struct leaving *v)
{
	if (slave.node == HOME_NODE || v->kind == MOVE_RFORK)
		return;
	v->parked = true;
	stdio_departing(v->pid, v->move);
}

static void on_here(struct leaving *v, const struct init_msg *m)
{
	if (v->pid == m->pid && v->kind != MOVE_EXECMOVE)
		parked(v);
	leaving_here(v);
}

/* -- step 6: it has voted */

static void on_sent(struct leaving *v)
{
	Bproc__MoveSent s = BPROC__MOVE_SENT__INIT;

	parked(v);
	s.move = v->move;
	master_send(&s.base);
}

static void on_failed(struct leaving *v, const struct init_msg *m)
{
	char text[CHAN_TEXT_MAX];

	memcpy(text, m->u.text, sizeof(text));
	text[sizeof(text) - 1] = '\0';
	/* Granted: the master aborts it at both ends, and the answer comes with MoveAbort. */
	if (v->move)
		move_tell_failed(v->move, m->err ? m->err : EIO, text, false);
	else
		leaving_refuse(v, m->err ? m->err : EIO, text);
}

/* -- step 9: committed, or aborted */

void move_on_commit(const Bproc__MoveCommit *c)
{
	struct init_msg m = {.type = INIT_DECIDE, .move_id = c->move};
	struct leaving *v = by_move(c->move);
	struct stdio_fds fds;
	bool left;

	if (!c->proc)
		return;
	gen_note(c->proc);
	m.pid = c->proc->pid;
	m.use = use_of(c->proc);
	m.req_id = v ? v->req : 0;
	m.u.decide.ghost = 1;
	if (v && v->committed)
		return init_send(&m, NULL, 0);
	/* Its ghost may have waited for its children before bpinit says that it is one. */
	born_left(m.pid);
	left = slave.node == HOME_NODE && stdio_fds_make(&fds) == 0;
	if (left)
		m.stream_mask = (1u << CHAN_STREAMS) - 1;
	init_send(&m, left ? fds.theirs : NULL, left ? CHAN_STREAMS : 0);
	if (v && v->client)
		local_answer(v->client, v->id, LOCAL_MOVE, "", 0);
	if (left) {
		stdio_left_home(m.pid, &fds);
		stdio_fds_close(&fds);
	} else if (v && v->parked) {
		stdio_departed(m.pid);
	}
	if (!v)
		return;
	exec_note(v->node, &v->exec, c->has_exec);
	v->client = 0;
	v->pid = m.pid;
	v->committed = true;
	v->after = after_begin(v->pid);
}

void move_on_abort(const Bproc__MoveAbort *a)
{
	struct init_msg m = {.type = INIT_DECIDE, .move_id = a->move, .err = (int)a->err};
	struct leaving *v = by_move(a->move);

	/* ESTALE: what the node had, it has no more. The library asks once again. */
	if (v && a->err == ESTALE)
		exec_note(v->node, &v->exec, false);
	if (v && !v->committed)
		return leaving_refuse(v, a->err ? (int)a->err : EIO, a->text);
	snprintf(m.u.decide.text, sizeof(m.u.decide.text), "%s", a->text);
	init_send(&m, NULL, 0);
	if (!v)
		return born_stays(a->move);
	/* Committed: we were declared dead since, and the process was killed by the fence. */
	forget(v);
}

static void on_ghost(const struct init_msg *m)
{
	Bproc__MoveGhosted g = BPROC__MOVE_GHOSTED__INIT;
	struct leaving *v = by_move(m->move_id);

	g.move = m->move_id;
	master_send_later(&g.base);
	born_left(m->pid);
	if (v)
		forget(v);
}

/* -- what bpinit says; what a lost link means */

static void tell_state(const struct init_msg *m)
{
	struct leaving *v = leaving_by_req(m->req_id);

	if (m->u.state.phase >= INIT_PHASE_CHAIN)
		return target_on_state(m);
	if (m->move_id == 0) {
		/* A bpslave before us passed it on, and never heard of a grant. */
		struct init_msg d = {.type = INIT_DECIDE, .req_id = m->req_id, .err = ECONNRESET};

		strcpy(d.u.decide.text, "bpslave was restarted before the master had judged");
		if (!v)
			init_send(&d, NULL, 0);
		return;
	}
	if (!v)
		born_parked(m->u.state.pid, m->move_id, m->flags & EVF_MOVED);
	else
		v->moved = m->flags & EVF_MOVED;
	move_tell_state(m->move_id, m->u.state.kind, m->u.state.target, m->u.state.pid,
			m->flags & EVF_MOVED);
	if (m->u.state.phase == INIT_PHASE_FAILED)
		move_tell_failed(m->move_id, EIO, "the process could not be sent", false);
}

void move_on_init(const struct init_msg *m)
{
	struct leaving *v = m->req_id ? leaving_by_req(m->req_id) : NULL;

	if (!v)
		v = by_move(m->move_id);
	if (m->type == EV_STATE)
		return tell_state(m);
	if (m->type == EV_GHOST)
		on_ghost(m);
	else if (v && m->type == EV_HERE)
		on_here(v, m);
	else if (v && m->type == EV_SENT)
		on_sent(v);
	else if (m->type == EV_FAILED && m->flags & EVF_SOURCE && v)
		on_failed(v, m);
	else if (!target_on_init(m))
		log_debug("bpinit: event %u of a move that is over", m->type);
	/* Without a link it is told again after the next Welcome. */
	if (master_is_up())
		init_done(m->seq);
}

/*
 * bpinit learns of the grant with the data connection, and forgets a move whose process has
 * ended: then only we know of it, and a master that was restarted would never hear. What bpinit
 * has told is told first, since it knows more; a second word on a move is nothing new.
 */
void move_tell_granted(void)
{
	struct leaving *v;

	LIST_FOREACH(v, &leavings, next)
	{
		if (!v->move || v->committed)
			continue;
		move_tell_state(v->move, v->kind, v->node, v->pid, v->moved);
		if (v->lost)
			tell_lost(v);
	}
}

void move_init_lost(void)
{
	struct leaving *v;

	while ((v = LIST_FIRST(&leavings))) {
		if (v->client)
			local_error(v->client, v->id, LOCAL_MOVE, ECONNRESET, "bpinit has ended");
		forget(v);
	}
	target_init_lost();
}
