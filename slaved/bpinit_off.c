/*
 * bpinit: a move to here that is not to be, since it failed, the master has called it off, or
 * the node is fenced. What of it is here ends, or is a ghost again, and nothing of it runs. The
 * way in is in bpinit_arrive.c.
 */
#include <errno.h>
#include <signal.h>

#include "slaved/bpinit.h"

void arrive_failed(struct move *m, int err, const char *text)
{
	uint64_t id = m->id;
	uint32_t req_id = m->req_id;
	bool voided = m->voided;
	uint64_t tree = m->tree;

	if (m->kind == MOVE_LIVE)
		live_over(m);
	children_abandon(m);
	move_ended(id, voided ? EV_VOIDED : EV_FAILED, m->pid);
	move_free(m);
	if (voided)
		event_move(EV_VOIDED, id, req_id, 0);
	else
		event_failed(id, req_id, EVF_TARGET, err, "%s", text);
	if (tree)
		tree_failed(tree, voided ? "it was called off" : text);
}

/*
 * Has it been made? What a ghost was told to make may not be there yet, or never will be if the
 * number is taken here, and then it is somebody else's.
 */
static bool is_made(const struct proc *p, const struct move *m)
{
	return p->cloned_by_us || (m && proc_parent(p->pid) == m->ppid);
}

/*
 * The copy is not to be: it ends itself, or is a ghost again. One that is made after this finds
 * its orders, and the end of its channel, and ends.
 */
void arrive_drop(struct proc *p)
{
	const struct move *m = move_of(p);
	bool made = is_made(p, m);

	p->move = 0;
	if (p->traced) {
		p->state = PROC_GHOST;
		trace_sleep(p);
		trace_held_stop(p);
		return;
	}
	if (p->was_ghost) {
		/* Its exec has failed after the tracer had let go. */
		p->state = PROC_GHOST;
		if (trace_begin(p, 0) < 0)
			say("ghost %d cannot be traced any more", p->pid);
		return;
	}
	p->state = PROC_MAKING; /* until its parent has seen the end of it */
	p->dying = true; /* by us: that is no signal for its original, if it was to be a ghost */
	proc_close_chan(p);
	if (m && !p->cloned_by_us && !p->dropped_of) {
		p->dropped_of = m->ppid;
		procs_dropped++;
	}
	if (made)
		arrive_end(p);
}

void arrive_call_off(struct move *m, int err, const char *text)
{
	/* What goes ahead makes a ghost, as of an ancestor: no copy that is to be killed. */
	struct proc *p = m->pid && m->kind != MOVE_LIVE ? proc_find(m->pid) : NULL;
	bool held = m->phase == ARRIVE_HELD;

	if (p && move_of(p) == m) {
		if (held) /* traced again before it is a ghost again */
			arrive_drop(p);
		proc_order(p, CHAN_ABORT, m->id);
		if (!held)
			arrive_drop(p);
	}
	arrive_failed(m, err, text);
}

bool arrive_has_dropped(int32_t pid)
{
	for (uint32_t i = 0; procs_dropped > 0 && i < procs_used; i++)
		if (procs[i].state == PROC_MAKING && procs[i].dropped_of == pid)
			return true;
	return false;
}

void arrive_end(struct proc *p)
{
	/* At home ghosts leave the ends of their children to the originals. */
	if (self.keeper)
		init_watch(&(struct init_msg){.pid = p->pid});
	own_kill(p->pid, SIGKILL);
}

void arrive_killed(struct proc *p, struct move *m)
{
	arrive_drop(p);
	arrive_failed(m, ESRCH, "it was killed while it arrived");
}

void arrive_died(struct proc *p)
{
	struct move *m = move_of(p);
	bool traced = p->traced;

	p->move = 0;
	if (m) {
		m->pid = 0;
		arrive_failed(m, ESRCH, "it was killed while it arrived");
	}
	if (p->exiting)
		p->state = PROC_GHOST; /* in its exit stop: shown when the original is dead */
	else if (!traced)
		proc_remove(p);
}

/* What is real here says itself by which move it came, however long ago that was. */
static enum init_type how_ended(uint64_t id, int32_t *ret_pid)
{
	enum init_type how = move_how_ended(id, ret_pid);

	for (uint32_t i = 0; how == 0 && id && i < procs_used; i++) {
		if (procs[i].state != PROC_REAL || procs[i].came != id)
			continue;
		*ret_pid = procs[i].pid;
		how = EV_RAN;
	}
	return how;
}

void init_void(const struct init_msg *msg)
{
	struct move *m = move_find(msg->move_id);
	int32_t pid = 0;
	enum init_type how;

	if (!m || m->phase < ARRIVE_CHAIN) {
		how = how_ended(msg->move_id, &pid);
		if (how != EV_RAN && how != EV_VOIDED)
			move_ended(msg->move_id, EV_VOIDED, 0);
		if (how == EV_RAN)
			event_ran(msg->move_id, msg->req_id, pid);
		else
			event_move(EV_VOIDED, msg->move_id, msg->req_id, pid);
		return;
	}
	if (!skel_off(m)) {
		arrive_has_run(m);
		init_void(msg);
		return;
	}
	m->voided = true;
	if (m->phase == ARRIVE_EXECING || m->phase == ARRIVE_DETACHING)
		return; /* decided in a moment, and told then */
	arrive_call_off(m, 0, "");
}

/*
 * The image may still come, by a connection that is not cut, when the master has long let the
 * source go on: so no move that is on its way here has a future. Those that the tracer is letting
 * go of, or that exec, are decided in a moment, and the signal of the fence is there before.
 */
void arrive_fence(void)
{
	for (uint32_t i = 0; i < moves_used; i++) {
		struct move *m = &moves[i];

		if (m->phase < ARRIVE_CHAIN)
			continue;
		if (!skel_off(m)) {
			arrive_has_run(m);
			continue;
		}
		if (m->phase == ARRIVE_DETACHING)
			m->voided = true;
		if (m->phase == ARRIVE_DETACHING || m->phase == ARRIVE_EXECING)
			continue;
		arrive_call_off(m, ECONNABORTED, "the node was cut off for too long");
	}
}
