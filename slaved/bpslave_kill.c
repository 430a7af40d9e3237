/*
 * kill() of a process on a node to what is not, or not all, there: bpinit's question
 * to the master on the node, the master's to bpinit at home, and the answers. Runs in
 * bpslave. Nothing is kept: bpinit of the node asks again whenever it may be needed,
 * and bpinit at home does each question once (doc/local.md, section 4).
 */
#include <stdlib.h>
#include <string.h>

#include "bpslave.h"
#include "libbproc/log.h"

/* Members that have it already, until their question comes. */
static struct {
	uint64_t id;
	size_t n, room;
	int32_t *pid; /* owned */
} done;

static void collect(const struct init_msg *m)
{
	size_t n = m->u.done.n <= INIT_DONE_MAX ? m->u.done.n : 0;
	int32_t *more;

	if (done.id != m->u.done.id)
		done.n = 0;
	done.id = m->u.done.id;
	if (done.n + n > done.room) {
		more = realloc(done.pid, (done.n + n) * 2 * sizeof(*more));
		if (!more)
			return;
		done.pid = more;
		done.room = (done.n + n) * 2;
	}
	if (n > 0)
		memcpy(done.pid + done.n, m->u.done.pid, n * sizeof(*done.pid));
	done.n += n;
}

static void ask_master(const struct init_kill *k)
{
	Bproc__Kill out = BPROC__KILL__INIT;

	out.id = k->id;
	out.target = k->target;
	out.sig = k->sig;
	out.code = k->code;
	out.pid = k->pid;
	out.sid = k->sid;
	out.uid = k->uid;
	out.euid = k->euid;
	out.cap_kill = k->cap_kill;
	out.info_pid = k->info_pid;
	out.info_uid = k->info_uid;
	out.value = k->value;
	if (done.id == k->id) {
		out.n_done = done.n;
		out.done = done.pid;
	}
	log_debug("process %d: kill(%d, %d)", k->pid, k->target, k->sig);
	/* Without a link it is asked after the next Welcome. */
	master_send(&out.base);
	done.n = 0;
}

static void answer(const struct init_kill *k)
{
	Bproc__Killed out = BPROC__KILLED__INIT;

	out.id = k->id;
	out.node = k->node;
	out.err = (uint32_t)k->err;
	master_send(&out.base);
}

static uint32_t reaper(uint32_t flags)
{
	return flags & EVF_REAPER_ON	? NAME_REAPER_ON
	       : flags & EVF_REAPER_OFF ? NAME_REAPER_OFF
					: NAME_REAPER_AS_IS;
}

void kill_on_init(const struct init_msg *m)
{
	switch (m->type) {
	case EV_KILL_DONE:
		collect(m);
		break;
	case EV_KILL:
		ask_master(&m->u.kill);
		break;
	case EV_KILLED:
		answer(&m->u.kill);
		break;
	default:
		born_changes(m->pid, reaper(m->flags));
	}
	init_done(m->seq);
}

/* The sender may just have left, and be about to be a ghost, which is to send it: m.pid. */
void kill_on_kill(const Bproc__Kill *k)
{
	struct init_msg m = {.type = INIT_KILL_DONE, .pid = k->pid};

	m.u.done.id = k->id;
	for (size_t at = 0; at < k->n_done; at += m.u.done.n) {
		m.u.done.n = k->n_done - at < INIT_DONE_MAX ? (uint32_t)(k->n_done - at)
							    : INIT_DONE_MAX;
		memcpy(m.u.done.pid, k->done + at, m.u.done.n * sizeof(*k->done));
		move_after_ghost(&m);
	}
	m = (struct init_msg){.type = INIT_KILL, .pid = k->pid};
	m.u.kill = (struct init_kill){
		.id = k->id,
		.node = k->node,
		.target = k->target,
		.sig = k->sig,
		.code = k->code,
		.pid = k->pid,
		.sid = k->sid,
		.uid = k->uid,
		.euid = k->euid,
		.cap_kill = k->cap_kill,
		.info_pid = k->info_pid,
		.info_uid = k->info_uid,
		.value = k->value,
	};
	move_after_ghost(&m);
}

void kill_on_killed(const Bproc__Killed *k)
{
	struct init_msg m = {.type = INIT_KILLED};

	m.u.kill.id = k->id;
	m.u.kill.err = (int32_t)k->err;
	init_send(&m, NULL, 0);
}

void kill_again(void)
{
	if (slave.node != HOME_NODE)
		init_send(&(struct init_msg){.type = INIT_KILL_AGAIN}, NULL, 0);
}
