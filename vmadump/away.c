/*
 * vmad_leave_pid(): another process is told to leave this machine. Library code; runs in
 * whoever moves it. It is parked as for a dump and let go of by the tracer; in the park it
 * asks its machine's bpslave by itself, and all that follows is between them (doc/move.md).
 * If it cannot leave it is taken out of the park again, or, when we are gone, goes on by
 * itself.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "vmadump/blob/dump_scan.h"
#include "vmadump/chan.h"
#include "vmadump/freeze.h"
#include "vmadump/live.h"
#include "vmadump/others.h"
#include "vmadump/tree.h"

#define ADDRESSES 0x7ffffffff000ul /* of four-level page tables */

/* How it leaves. */
struct how {
	int conn, node;
	unsigned flags;
	const struct live *live; /* of which pages went ahead so; or NULL */
	int no_guards;		 /* it was looked at while it ran */
	uint64_t args, args_len; /* in its memory: it becomes another program there */
};

static unsigned dump_flags(const struct how *h)
{
	return h->flags & DUMP_LOCKS ? h->flags | DUMP_FLOCKS : h->flags;
}

/* order: -1, or of its memory (tree_alone.c). */
static int tell(struct freeze *f, const struct how *h, int order)
{
	struct chan_msg m = {.type = CHAN_LEAVE,
			     .flags = h->no_guards ? CHAN_LEAVE_NO_GUARDS : 0,
			     .u.leave = {.node = h->node,
					 .flags = dump_flags(h),
					 .args = h->args,
					 .args_len = h->args_len}};

	if (h->live) {
		m.u.leave.live = h->live->id;
		m.u.leave.go = h->live->go;
	}
	return order < 0 ? chan_send_with(f->chan, &m, h->conn)
			 : chan_send_two(f->chan, &m, h->conn, order);
}

/* Its word: it has left, or is parked as before. */
static int hear(struct freeze *f, int told)
{
	struct chan_msg m = {0};

	return told < 0 ? trace_fail(&f->t, errno, "process %d: %s", f->t.pid, strerror(errno))
			: chan_answer(&f->t, f->chan, &m);
}

static int tell_and_hear(struct freeze *f, const struct how *h)
{
	int order, r = hear(f, tell(f, h, -1));

	if (r == 0 || errno != ENOTSUP || h->args_len)
		return r;
	/* It was refused before anybody was asked: for what it shares with itself alone? */
	order = tree_alone(f, 1);
	if (order < 0) {
		errno = ENOTSUP;
		return r;
	}
	r = hear(f, tell(f, h, order));
	close(order);
	return r;
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

static int word(struct freeze *f, void *arg)
{
	const struct how *h = arg;

	return freeze_word(f, CHAN_DUMP_LEAVES, dump_flags(h));
}

/* What went ahead was looked at when it was first stopped, what has much before. */
static int look_alone(struct freeze *f, const struct how *h)
{
	return h->args_len ? 0 : freeze_alone(f, h->live || f->aside ? NULL : word, (void *)h);
}

static int leave_as(pid_t pid, const struct how *h, struct mark *mark, uint64_t *ret_us,
		    struct vmad_err *err)
{
	unsigned looked = FREEZE_JUDGED | (h->live || h->args_len ? FREEZE_LOOKED : 0) |
			  (mark->at ? FREEZE_COPIES : 0);
	struct freeze f;
	int r;

	if (freeze_enter(&f, pid, h->flags | looked, 1, err) < 0) {
		if (err)
			others_name_peer(pid, err->text);
		freeze_free(&f);
		return -1;
	}
	if (look_alone(&f, h) < 0)
		r = -1;
	else if (h->flags & DUMP_LOCKS && freeze_look_at_locks(&f, NULL) < 0)
		r = -1;
	else if (set_mark(&f.t, mark) < 0)
		r = -1;
	else
		r = tell_and_hear(&f, h);
	if (ret_us)
		*ret_us = freeze_now_us() - f.since_us;
	if (r < 0)
		stay(&f, mark);
	else if (f.t.stop_after)
		kill(pid, (int)f.t.stop_after);
	if (r < 0 && err)
		others_name_peer(pid, err->text);
	freeze_free(&f);
	return r;
}

int leave_pid(pid_t pid, int conn, int node, unsigned flags, const struct live *live,
	      uint64_t *ret_us, struct vmad_err *err)
{
	const struct how h = {.conn = conn, .node = node, .flags = flags, .live = live};

	return leave_as(pid, &h, &(struct mark){0}, ret_us, err);
}

/* Are there no guard pages in it? While it runs: it takes 1 ms for a GiB. */
static int has_no_guards(pid_t pid)
{
	struct scan_region one;
	struct scan_arg arg = {
		.size = sizeof arg,
		.end = ADDRESSES,
		.vec = (uint64_t)(uintptr_t)&one,
		.vec_len = 1,
		.max_pages = 1,
		.mask = SCAN_GUARD,
		.report = SCAN_GUARD,
	};
	char path[40];
	int fd, r;

	snprintf(path, sizeof path, "/proc/%d/pagemap", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	r = fd < 0 ? -1 : ioctl(fd, SCAN_IOCTL, &arg);
	if (fd >= 0)
		close(fd);
	return r == 0;
}

int vmad_leave_pid(pid_t pid, int conn, int node, unsigned flags, uint64_t *ret_us,
		   struct vmad_err *err)
{
	const struct how h = {.conn = conn,
			      .node = node,
			      .flags = flags,
			      .no_guards = flags & DUMP_LAZY && has_no_guards(pid)};

	return leave_as(pid, &h, &(struct mark){0}, ret_us, err);
}

int vmad_leave_marked(pid_t pid, int conn, int node, unsigned flags, uint64_t at, uint32_t value,
		      struct vmad_err *err)
{
	const struct how h = {.conn = conn, .node = node, .flags = flags};
	struct mark mark = {.at = at, .value = value};

	return leave_as(pid, &h, &mark, NULL, err);
}

int vmad_leave_exec(pid_t pid, int conn, int node, uint64_t args, uint64_t len,
		    struct vmad_err *err)
{
	const struct how h = {.conn = conn, .node = node, .args = args, .args_len = len};

	return leave_as(pid, &h, &(struct mark){0}, NULL, err);
}
