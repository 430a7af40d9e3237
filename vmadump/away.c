/*
 * vmad_leave_pid(): another process is told to leave this machine. Library code; runs in
 * whoever moves it. It is parked as for a dump and let go of by the tracer; in the park it
 * asks its machine's bpslave by itself, and all that follows is between them (doc/move.md).
 * If it cannot leave it is taken out of the park again, or, when we are gone, goes on by
 * itself.
 */
#include <errno.h>
#include <signal.h>
#include <string.h>

#include "vmadump/chan.h"
#include "vmadump/freeze.h"
#include "vmadump/live.h"

static int tell(struct freeze *f, int conn, int node, unsigned flags, const struct live *l)
{
	struct chan_msg m = {.type = CHAN_LEAVE, .u.leave = {.node = node, .flags = flags}};

	if (l) {
		m.u.leave.live = l->id;
		m.u.leave.go = l->go;
	}
	return chan_send_with(f->chan, &m, conn);
}

/* What it finds in its memory where it arrives, if something is to be there. */
struct mark {
	uint64_t at; /* 0: nothing */
	uint32_t was, value;
};

static int set_mark(struct trace *t, struct mark *m)
{
	if (!m->at)
		return 0;
	return trace_get(t, m->at, &m->was, sizeof m->was) < 0
		       ? -1
		       : trace_write(t, m->at, &m->value, sizeof m->value);
}

/* Nobody holds it, and it is where we put it: it goes on where it was. */
static void stay(struct freeze *f, const struct mark *mark)
{
	struct vmad_err *err = f->t.err, unused;
	int e = errno;

	f->t.err = &unused;
	if (mark->at)
		trace_write(&f->t, mark->at, &mark->was, sizeof mark->was);
	if (freeze_again(f) < 0 || freeze_leave(f) < 0)
		chan_order(f->chan, CHAN_RESUME, -1);
	f->t.err = err;
	errno = e;
}

static int leave_as(pid_t pid, int conn, int node, unsigned flags, const struct live *live,
		    struct mark *mark, uint64_t *ret_us, struct vmad_err *err)
{
	struct chan_msg m = {0};
	struct freeze f;
	int r;

	if (freeze_enter(&f, pid, flags | (live ? FREEZE_LOOKED : 0), 1, err) < 0) {
		freeze_free(&f);
		return -1;
	}
	if (flags & DUMP_LOCKS && freeze_look_at_locks(&f) < 0)
		r = -1;
	else if (set_mark(&f.t, mark) < 0)
		r = -1;
	else if (tell(&f, conn, node, flags & DUMP_LOCKS ? flags | DUMP_FLOCKS : flags, live) < 0)
		r = trace_fail(&f.t, errno, "process %d: %s", pid, strerror(errno));
	else
		r = chan_answer(&f.t, f.chan, &m);
	if (ret_us)
		*ret_us = freeze_now_us() - f.since_us;
	if (r < 0)
		stay(&f, mark);
	else if (f.t.stop_after)
		kill(pid, (int)f.t.stop_after);
	freeze_free(&f);
	return r;
}

int leave_pid(pid_t pid, int conn, int node, unsigned flags, const struct live *live,
	      uint64_t *ret_us, struct vmad_err *err)
{
	return leave_as(pid, conn, node, flags, live, &(struct mark){0}, ret_us, err);
}

int vmad_leave_pid(pid_t pid, int conn, int node, unsigned flags, uint64_t *ret_us,
		   struct vmad_err *err)
{
	return leave_pid(pid, conn, node, flags, NULL, ret_us, err);
}

int vmad_leave_marked(pid_t pid, int conn, int node, unsigned flags, uint64_t at, uint32_t value,
		      struct vmad_err *err)
{
	struct mark mark = {.at = at, .value = value};

	return leave_as(pid, conn, node, flags, NULL, &mark, NULL, err);
}
