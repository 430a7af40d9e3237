/*
 * Questions that the tables answer: where a process is, which there are, what they use up, a change
 * of a node. A master that has just been started has its tables from what the slaves tell, and
 * would say of a process that there is none, and of a node that it is down. So such questions wait
 * until all are back that the last one had, and have told. Runs in bpmaster.
 */
#include <stdlib.h>

#include "libbproc/log.h"
#include "master.h"

#define HELD_MAX 65536 /* questions, of all slaves */
#define HELD_BYTES 256 /* of one; a longer one is refused whatever the tables say */
/* By then a slave that lives has found the master: its longest pause, and a try. */
#define BACK_MS (WIRE_RETRY_MAX_MS + 1000)
#define TOLD_MS (2 * BACK_MS) /* who is back and has not told by then keeps nobody waiting */

struct held {
	struct held *next;
	struct peer *peer;
	size_t len;
	uint8_t bytes[]; /* the envelope, packed */
};

static bool are_back(const struct master *m)
{
	uint64_t ms = now_ms() - m->start_ms;
	const struct node *n;

	/* Who stays away for longer than this is lost, or was switched off. */
	if (m->swept || ms >= (uint64_t)(resync_is_due(m) ? BACK_MS : TOLD_MS))
		return true;
	for (uint32_t i = 0; i < m->nodes.count; i++) {
		n = &m->nodes.node[i];
		if (n->state == NS_DOWN ? asks_to_come(m, n) : !n->synced)
			return false;
	}
	return true;
}

/* Once they are, a node that is lost or comes for the first time changes nothing: it is known. */
static bool are_whole(struct master *m)
{
	if (!m->whole && are_back(m)) {
		m->whole = true;
		table_changed(m); /* who is not back is down */
	}
	return m->whole;
}

/* Whoever has it running says so. That it is at home may be for want of better knowledge. */
static bool is_known(const struct master *m, const Bproc__Envelope *env)
{
	const struct proc *p = NULL;

	if (env->msg_case == BPROC__ENVELOPE__MSG_PID_ASK)
		p = proc_get(&m->procs, env->pid_ask->pid, 0);
	return p && p->state == PS_ALIVE && p->node != NODE_HOME;
}

static bool asks_tables(const Bproc__Envelope *env)
{
	switch (env->msg_case) {
	case BPROC__ENVELOPE__MSG_NODE_SET:
	case BPROC__ENVELOPE__MSG_PID_ASK:
	case BPROC__ENVELOPE__MSG_PROCS_ASK:
	case BPROC__ENVELOPE__MSG_STATS_ASK:
		return true;
	default:
		return false;
	}
}

bool held_wait(struct peer *p, const Bproc__Envelope *env)
{
	struct master *m = p->m;
	struct held *h;
	size_t len;

	if (!asks_tables(env) || are_whole(m) || is_known(m, env))
		return false;
	len = bproc__envelope__get_packed_size(env);
	if (len > HELD_BYTES)
		return false;
	h = m->nheld < HELD_MAX ? malloc(sizeof(*h) + len) : NULL;
	if (!h) {
		log_warn("%u questions wait for who is to come back: one is answered now",
			 m->nheld);
		return false;
	}
	h->next = NULL;
	h->peer = p;
	h->len = bproc__envelope__pack(env, h->bytes);
	if (!m->held)
		m->held_end = &m->held;
	*m->held_end = h;
	m->held_end = &h->next;
	m->nheld++;
	return true;
}

void held_look(struct master *m)
{
	Bproc__Envelope *env;
	struct held *h;

	while (are_whole(m) && m->held) {
		h = m->held;
		m->held = h->next;
		m->nheld--;
		env = bproc__envelope__unpack(NULL, h->len, h->bytes);
		/* It may be the end of its link: held_forget() finds what is left then. */
		if (env)
			peer_said(h->peer, env);
		bproc__envelope__free_unpacked(env, NULL);
		free(h);
	}
}

void held_forget(struct peer *p)
{
	struct master *m = p->m;
	struct held **at = &m->held, *h;

	while ((h = *at)) {
		if (h->peer == p) {
			*at = h->next;
			m->nheld--;
			free(h);
		} else {
			at = &h->next;
		}
	}
	m->held_end = at;
}
