/*
 * Births on a node: those of the table that leave it, or come to it, by a move
 * (doc/born.md). Who asks to leave is told first, so that the master never hears of a
 * move before the birth; and of what is on its way from here nobody says that it was
 * born here. Runs in bpslave of a node.
 */
#include <errno.h>
#include <string.h>

#include "bpslave_born.h"

static bool any_anew; /* there may be such */

static struct born *expect(int32_t pid, int32_t ppid, int32_t pgid, int32_t sid)
{
	struct born *b = born_add(pid);

	if (!b)
		return NULL;
	b->moved = b->away = true; /* real only when bpinit says so */
	b->ppid = ppid;
	b->pgid = pgid;
	b->sid = sid;
	return b;
}

void born_expect(int32_t pid, int32_t ppid, int32_t pgid, int32_t sid)
{
	struct born *b = born_find(pid);
	struct scan_proc p;

	if (slave.node == HOME_NODE)
		return;
	/* A zombie is the very one: nothing is made anew that has still to be waited for. */
	if (b && b->ended && !b->queued && (scan_stat(pid, &p) < 0 || p.state != 'Z')) {
		born_forget(b);
		b = NULL;
	}
	if (!b)
		expect(pid, ppid, pgid, sid);
	else if (!b->away)
		any_anew = b->anew = true;
}

void born_anew(struct born *b)
{
	int32_t pid = b->pid, ppid = b->ppid, pgid = b->pgid, sid = b->sid;

	born_forget(b);
	expect(pid, ppid, pgid, sid);
}

static void not_anew(struct born *b, void *arg)
{
	(void)arg;
	b->anew = b->anew && target_expects(b->ppid);
	any_anew |= b->anew;
}

/* What was made before it ran is in the ring by now. */
void born_expects_no_more(void)
{
	if (!any_anew)
		return;
	source_take();
	any_anew = false;
	born_each(not_anew, NULL);
}

bool born_is_ghost(int32_t pid)
{
	const struct born *b = born_find(pid);

	return b && b->away;
}

void born_is_here(int32_t pid)
{
	struct born *b = born_find(pid);

	if (b)
		born_seen(b);
}

void born_left(int32_t pid)
{
	struct born *b = born_find(pid);

	if (slave.node == HOME_NODE)
		return;
	if (!b) {
		b = born_add(pid);
		if (!b)
			return;
		b->moved = true;
	}
	b->away = true;
}

/* A bpslave before us has seen it ask to leave: until that is decided it is not ours to tell. */
void born_parked(int32_t pid, uint64_t move, bool moved)
{
	struct born *b = born_find(pid);

	if (slave.node == HOME_NODE || pid <= 0)
		return;
	if (!b)
		b = born_add(pid);
	if (!b)
		return;
	b->away = true;
	b->moved |= moved;
	if (!b->moved && !b->told) /* whoever asks to move is told first */
		b->told = born_room();
	b->parked = move;
	born_seen(b); /* or, called off and gone before the first scan, it would be told as alive */
}

static void stays(struct born *b, void *arg)
{
	if (b->parked != *(uint64_t *)arg)
		return;
	b->parked = 0;
	b->away = false;
}

void born_stays(uint64_t move)
{
	born_each(stays, &move);
}

void born_came(int32_t pid, bool other_name)
{
	struct born *b = born_find(pid);

	if (slave.node == HOME_NODE || !b)
		return;
	born_is_here(pid);
	b->moved = true;
	b->away = b->stopped = false;
	b->stale = true;
	if (other_name) {
		born_renamed(b);
		born_flush();
	}
}

/*
 * It runs here by a move that a bpslave before us has taken up. It may have been told as a ghost,
 * or not at all, or as real, and then again that it had become a ghost once, which is older than
 * this.
 */
void born_ran(int32_t pid)
{
	struct scan_proc p = {.pid = pid};
	int e;

	if (slave.node == HOME_NODE)
		return;
	e = scan_stat(pid, &p);
	if (!born_find(pid))
		born_expect(pid, p.ppid, p.pgid, p.sid);
	born_came(pid, e == 0);
	if (e != -ENOENT && e != -ESRCH)
		return;
	born_scan(); /* nobody else would notice that it has gone */
	born_flush();
}

void born_state(const struct init_msg *m)
{
	struct born *b;

	born_expect(m->u.state.pid, m->u.state.ppid, m->u.state.pgid, m->u.state.sid);
	if (m->u.state.is_ghost)
		return;
	born_came(m->u.state.pid, false);
	b = born_find(m->u.state.pid);
	if (b)
		b->was_stopped = true;
}

/*
 * It may wait for each child once: at home it must find as stopped those that are, and those
 * that have ended and that nobody has waited for, also if nobody was told of them; and none that
 * it has waited for here. The kernel's own news of that comes late, so /proc is asked.
 */
static void settle_child(struct born *b, void *arg)
{
	int32_t parent = *(int32_t *)arg;
	struct scan_proc p;

	if (b->ppid != parent || b->reap)
		return;
	if (!b->ended)
		return look_now(b); /* its stop is told as long as its parent is here */
	if (scan_stat(b->pid, &p) < 0) {
		born_reaped(b);
	} else if (!b->told && !b->moved) {
		b->tell = b->end = true;
		tell_later(b, true);
	}
}

void born_asks(int32_t pid, bool leaves)
{
	const struct born *b = born_find(pid);

	if (slave.node == HOME_NODE || (!leaves && b && (b->told || b->moved)))
		return;
	source_take();
	/* Of one that nobody has heard of a stop is not told: births first. */
	tell_everything();
	if (leaves) {
		born_each(settle_child, &pid);
		tell_everything();
	}
}

struct stops {
	int32_t parent;
	bool found;
};

static void if_it_stopped(struct born *b, void *arg)
{
	struct stops *s = arg;

	s->found |= b->ppid == s->parent && b->moved && !b->away && !b->ended &&
		    (b->stop || b->was_stopped);
}

bool born_has_stopped_child(int32_t pid)
{
	struct stops s = {.parent = pid};

	if (slave.node != HOME_NODE)
		born_each(if_it_stopped, &s);
	return s.found;
}

/*
 * The news of a fork may be read only when the child has gone, and ended, and then it would be
 * one that lives here. Whose number is told here is its parent's to say, so it is looked at.
 */
void born_child_asks(int32_t pid, int32_t ppid)
{
	struct born *b = born_find(pid);
	struct scan_proc p;

	if (slave.node == HOME_NODE)
		return;
	if (!b || b->queued || b->ended)
		source_take();
	b = born_find(pid);
	if (!b && scan_stat(pid, &p) == 0 && p.ppid == ppid && p.state != 'X' &&
	    (b = born_add(pid))) {
		b->ppid = ppid;
		b->stack = p.stack;
		b->stale = b->tell = true;
		tell_later(b, true);
	}
	tell_everything();
}

void born_leaving(int32_t pid, bool leaves)
{
	struct born *b = pid > 0 ? born_find(pid) : NULL;

	if (b)
		b->leaving = leaves;
}
