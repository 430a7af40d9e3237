/*
 * Moves as their source sees them, steps 1 and 2 of doc/move.md: a process asks, bpinit is told,
 * its seccomp filters, if it has any of its own, are read and judged, and the master is asked. Runs
 * in bpslave.
 */
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "bpslave_move.h"
#include "libbproc/share.h"
#include "libbproc/wire.h"
#include "slaved/bpslave_filter.h"
#include "slaved/filter_run.h"
#include "slaved/used.h"
#include "vmadump/blob/blob.h"

#define LEAVINGS_MAX 1024 /* MOVES_MAX of bpinit */

static uint32_t last_req;

struct leavings leavings = LIST_HEAD_INITIALIZER(leavings);

struct leaving *leaving_by_req(uint32_t req)
{
	struct leaving *v;

	LIST_FOREACH(v, &leavings, next)
	if (v->req == req)
		return v;
	return NULL;
}

static uint32_t new_req(void)
{
	/* A random start: events of a departure that an earlier bpslave began match nothing. */
	if (last_req == 0 && getrandom(&last_req, sizeof(last_req), 0) < 0)
		last_req = 1;
	do {
		last_req++;
	} while (last_req == 0 || leaving_by_req(last_req));
	return last_req;
}

/* Step 2, to bpinit: it reads the channel from here on. */
static void depart(struct leaving *v)
{
	struct init_msg m = {.type = INIT_DEPART, .req_id = v->req};

	m.u.depart.kind = v->kind;
	m.u.depart.dump_flags = v->flags;
	m.u.depart.away = slave.node != HOME_NODE;
	m.u.depart.asker_pid = v->who->ids.pid;
	init_send(&m, &v->chan, 1);
	v->chan = close_fd(v->chan);
}

void leaving_question(struct leaving *v, struct asker_of *ret)
{
	*ret = (struct asker_of){v->req, v->kind, v->node, v->pid, v->again};
	v->pgid = v->who->ids.pgid;
	v->sid = v->who->ids.sid;
	v->filters = v->who->filters_id;
}

void leaving_ask(struct leaving *v)
{
	struct asker_of of;

	v->asked = true;
	if (!master_is_up()) { /* move_ask_again(), on the next link; its birth comes first */
		if (v->kind != MOVE_LIVE)
			born_leaving(v->pid, false);
		return;
	}
	leaving_question(v, &of);
	asker_ask(v->who, &of);
	v->told = true;
}

/* Of bpinit's table, which is for all users, one has his share already. */
static bool too_many(const struct leaving *one)
{
	const struct leaving *v;
	uint32_t own = 0, all = 0;

	LIST_FOREACH(v, &leavings, next)
	{
		if (v == one)
			continue;
		own += v->uid == one->uid;
		all++;
	}
	/* Root is refused by bpinit, when there is no room at all. */
	return one->uid != 0 && !share_allows(one->uid, own, all, LEAVINGS_MAX);
}

/* The child's number follows at once: the target makes a place for it by that. */
static void child_asks(struct leaving *v)
{
	born_child_asks(v->pid, v->who->ids.pid);
	born_leaving(v->pid, true);
	leaving_ask(v);
}

/* Not on the way: the master is asked meanwhile. */
static void note_used(struct leaving *v)
{
	if (v->kind == MOVE_LIVE)
		return;
	used_read(v->host_pid, &v->used, NULL);
	v->used.maxrss_kb = v->peak_kb;
}

/* Whose ghost here is stopped: the word on that has come to bpinit before it was shown. */
static bool has_seen_stop(const struct proc_chain *chain)
{
	for (int i = 0; i < chain->n; i++)
		if (chain->member[i].child && chain->member[i].state == CHAIN_STOP_SEEN)
			return true;
	return false;
}

/* Its filters are known; e: they, or who it is, are in the way. */
static void go_on(struct leaving *v, int e, char text[LOCAL_TEXT_MAX])
{
	struct asker *who = v->who;

	if (e < 0)
		return leaving_refuse(v, -e, text);
	/* bpinit goes to work on it while the rest is read. */
	depart(v);
	/* On our processor: the program is executed elsewhere while the rest is done here. */
	if (v->kind == MOVE_EXECMOVE)
		sched_yield();
	e = asker_read(who, v->kind, text);
	v->uid = who->ids.uid[0];
	v->peak_kb = who->ids.peak_kb;
	if (e == 0 && too_many(v)) {
		e = -EAGAIN;
		snprintf(text, LOCAL_TEXT_MAX,
			 "this user has %d times as many moves under way as are left, of %d",
			 SHARE_TIMES, LEAVINGS_MAX);
	}
	if (e == 0 && !master_may_come()) {
		e = -ENOTCONN;
		snprintf(text, LOCAL_TEXT_MAX, "no link to the master");
	}
	if (e < 0)
		return leaving_refuse(v, -e, text);
	v->exec = who->exec;
	if (v->kind == MOVE_RFORK) {
		if (v->pid)
			child_asks(v);
		return;
	}
	if (v->kind != MOVE_LIVE)
		born_leaving(v->pid, true);
	v->behind = (v->kind == MOVE_MOVE || v->kind == MOVE_REXEC) &&
		    (born_has_stopped_child(v->pid) || has_seen_stop(&who->chain));
	if (v->tree) {
		note_used(v);
		return tree_ready(v);
	}
	if (!v->behind)
		leaving_ask(v);
	note_used(v);
}

/*
 * Before it said so bpinit has told what its children have done. Behind the question that might
 * come to the target when it runs there, behind a SIGCONT: its parent would see a stop again. So
 * it would if its ghost here has had the word on a stop, and the master does not know.
 */
void leaving_here(struct leaving *v)
{
	if (v->behind && !v->asked && !v->tree)
		leaving_ask(v);
}

static void on_filters(void *arg, const struct filter_answer *a)
{
	char text[LOCAL_TEXT_MAX];
	struct leaving *v = arg;

	v->reading = NULL;
	snprintf(text, sizeof(text), "%s", a->text);
	if (a->err == 0) {
		v->who->filters = a->bytes;
		v->who->filters_len = a->len;
		v->who->filters_id = filters_id(a->bytes, a->len);
	}
	go_on(v, -a->err, text);
}

/* There is no bpinit to read the channel. */
static void no_bpinit(uint32_t client, uint32_t id, const struct local_move *ask, int chan)
{
	static const char text[] = "bpinit is not running here";

	chan_refuse(chan, ENOTCONN, text);
	if (ask->kind == MOVE_RFORK)
		local_error(client, id, LOCAL_MOVE, ENOTCONN, text);
}

void move_ask(uint32_t client, uint32_t id, const struct local_move *ask, const struct ucred *asker,
	      int chan)
{
	const struct filter_move how = {.ahead = ask->kind == MOVE_LIVE ||
						 (ask->kind == MOVE_MOVE && ask->flags & DUMP_LAZY),
					.exec = ask->kind == MOVE_REXEC,
					.locks = ask->flags & DUMP_LOCKS,
					.asks = true,
					.fork = ask->kind == MOVE_RFORK,
					.each = ask->flags & LOCAL_MOVE_EACH};
	struct leaving *v;
	char text[LOCAL_TEXT_MAX] = "";
	struct asker *who;
	int e;

	if (target_defer(client, id, ask, asker, chan))
		return;
	v = calloc(1, sizeof(*v));
	who = v && init_is_up() ? calloc(1, sizeof(*who)) : NULL;
	if (!who) {
		no_bpinit(client, id, ask, chan);
		free(v);
		return;
	}
	*v = (struct leaving){
		.req = new_req(),
		.who = who,
		.chan = chan,
		.kind = ask->kind,
		.flags = ask->flags &
			 ~(ask->kind == MOVE_MOVE ? LOCAL_MOVE_EACH : LOCAL_MOVE_EACH | DUMP_LAZY),
		.node = ask->node == NODE_SELF ? slave.node : ask->node,
		.host_pid = asker->pid};
	if (ask->kind == MOVE_RFORK) {
		v->client = client;
		v->id = id;
	}
	LIST_INSERT_HEAD(&leavings, v, next);
	e = asker_identify(who, asker, text);
	if (e == 0 && ask->kind != MOVE_RFORK)
		v->pid = who->ids.pid;
	if (e == 0 && (ask->kind < MOVE_RFORK || ask->kind > MOVE_LIVE ||
		       (ask->members && ask->kind != MOVE_MOVE))) {
		e = -EINVAL;
		snprintf(text, sizeof(text), "no such kind of move: %u", ask->kind);
	}
	if (e == 0)
		born_asks(who->ids.pid, ask->kind != MOVE_RFORK && ask->kind != MOVE_LIVE);
	if (e == 0 && ask->members && (e = tree_join(v, client, ask)) < 0)
		snprintf(text, sizeof(text), "it is not one of those that go together");
	if (e == 0)
		e = filters_want(&who->ids, &how, on_filters, v, &v->reading, text);
	if (!v->reading)
		go_on(v, e, text);
}

void move_child(uint32_t client, uint32_t id, int32_t pid)
{
	struct leaving *v;

	/* Its parent has only just come: the question itself waits. */
	if (target_defer_child(client, id, pid))
		return;
	LIST_FOREACH(v, &leavings, next)
	if (v->client == client && v->id == id && v->who)
		break;
	if (!v || v->pid)
		return; /* refused meanwhile */
	/* The master ends the link over a number that none can have. */
	if (pid <= 0 || pid >= WIRE_PID_MAX)
		return leaving_refuse(v, EINVAL, "not the number of a child");
	gen_forget(pid);
	v->pid = pid;
	if (!master_may_come())
		return leaving_refuse(v, ENOTCONN, "no link to the master");
	if (!v->reading)
		child_asks(v);
}
