/*
 * Moves that the master has been asked for, and has not granted when the link to it ends: whether
 * it has heard of them cannot be known. They are asked for again on the next link, when bpinit has
 * told what there is (doc/move.md, "When something dies"). Runs in bpslave, at their source.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "bpslave_move.h"

static bool is_unanswered(const struct leaving *v)
{
	return v->asked && !v->move;
}

void move_link_lost(void)
{
	struct leaving *v;

	tree_link_lost();
	LIST_FOREACH(v, &leavings, next)
	{
		if (!is_unanswered(v))
			continue;
		v->again |= v->told;
		v->told = false;
		/* Nothing is under way: its birth is told as that of one that stays. */
		if (v->kind != MOVE_LIVE)
			born_leaving(v->pid, false);
	}
}

/* Whoever waits for the answer waits no longer. */
void move_no_master(void)
{
	struct leaving *v, *more;

	tree_no_master();
	for (v = LIST_FIRST(&leavings); v; v = more) {
		more = LIST_NEXT(v, next);
		if (is_unanswered(v) && !v->tree)
			leaving_refuse(v, ENOTCONN, "no link to the master");
	}
}

/* Another process may have the number of an asker that has forked and ended since. */
static bool is_the_same(const struct proc_ids *was, const struct proc_ids *is)
{
	return is->pid == was->pid && memcmp(is->uid, was->uid, sizeof(is->uid)) == 0 &&
	       memcmp(is->gid, was->gid, sizeof(is->gid)) == 0;
}

int leaving_look_again(struct leaving *v, char text[LOCAL_TEXT_MAX])
{
	struct asker *who = v->who;
	struct proc_ids now;
	int e = proc_read_ids(v->host_pid, &now);

	if (e == 0 && !is_the_same(&who->ids, &now))
		e = -ESRCH;
	if (e == 0) {
		/* What it has, and may do, stays as it was when it asked. */
		who->ids.host_ppid = now.host_ppid;
		who->ids.pgid = now.pgid;
		who->ids.sid = now.sid;
		e = asker_kin(who, v->kind);
	}
	if (e < 0) {
		snprintf(text, LOCAL_TEXT_MAX, "pid %d: %s", who->ids.pid, strerror(-e));
		return e;
	}
	/* The master hears of all that is born here before that. */
	born_asks(who->ids.pid, v->kind != MOVE_RFORK && v->kind != MOVE_LIVE);
	if (v->kind == MOVE_RFORK)
		born_child_asks(v->pid, who->ids.pid);
	if (v->kind != MOVE_LIVE)
		born_leaving(v->pid, true);
	return 0;
}

void leaving_ask_again(struct leaving *v)
{
	char text[LOCAL_TEXT_MAX] = "";
	int e;

	if (v->tree)
		return tree_ask_again(v->tree);
	v->again |= v->told;
	e = leaving_look_again(v, text);
	if (e < 0)
		leaving_refuse(v, -e, text);
	else
		leaving_ask(v);
}

void move_ask_again(void)
{
	struct leaving *v, *more;

	tree_ask_again(NULL);
	for (v = LIST_FIRST(&leavings); v; v = more) {
		more = LIST_NEXT(v, next);
		if (is_unanswered(v) && !v->told && !v->tree)
			leaving_ask_again(v);
	}
}
