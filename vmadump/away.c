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

/* Nobody holds it, and it is where we put it: it goes on where it was. */
static void stay(struct freeze *f)
{
	struct vmad_err *err = f->t.err, unused;
	int e = errno;

	f->t.err = &unused;
	if (freeze_again(f) < 0 || freeze_leave(f) < 0)
		chan_order(f->chan, CHAN_RESUME, -1);
	f->t.err = err;
	errno = e;
}

int leave_pid(pid_t pid, int conn, int node, unsigned flags, const struct live *live,
	      uint64_t *ret_us, struct vmad_err *err)
{
	struct chan_msg m = {0};
	struct freeze f;
	int r;

	if (freeze_enter(&f, pid, flags | (live ? FREEZE_LOOKED : 0), 1, err) < 0) {
		freeze_free(&f);
		return -1;
	}
	if (tell(&f, conn, node, flags, live) < 0)
		r = trace_fail(&f.t, errno, "process %d: %s", pid, strerror(errno));
	else
		r = chan_answer(&f.t, f.chan, &m);
	if (ret_us)
		*ret_us = freeze_now_us() - f.since_us;
	if (r < 0)
		stay(&f);
	else if (f.t.stop_after)
		kill(pid, (int)f.t.stop_after);
	freeze_free(&f);
	return r;
}

int vmad_leave_pid(pid_t pid, int conn, int node, unsigned flags, uint64_t *ret_us,
		   struct vmad_err *err)
{
	return leave_pid(pid, conn, node, flags, NULL, ret_us, err);
}
