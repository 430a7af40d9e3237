/*
 * A parked process that somebody has told to leave (libbproc/api_movepid.c): it asks bpslave
 * itself, on a connection that it was given, so that it is the kernel's word who asks, and
 * leaves as any process that calls bproc_move() does, or bproc_rexec() (leave.c). Runs in the blob.
 */
#include "ghost.h"
#include "libbproc/local.h"

/* Mapped from outside by one call, it is all of everything: as a program's own from now on. */
static void own_protection(struct blob *b)
{
	if (b->low && b->low < b->base)
		sys_mprotect((void *)b->low, b->base - b->low, PROT_READ | PROT_WRITE);
	sys_mprotect((void *)b->base, BLOB_CODE_MAX, PROT_READ | PROT_EXEC);
	sys_mprotect((void *)b->self, BLOB_DATA, PROT_READ | PROT_WRITE);
}

/* LOCAL_MOVE, with the far end of the channel. */
long park_ask(const struct blob *b, const struct chan_pkt *order, int far, uint32_t kind)
{
	struct {
		struct local_hdr h;
		struct local_move m;
	} q = {
		.h = {.version = LOCAL_VERSION, .type = LOCAL_MOVE, .len = sizeof q.m},
		.m = {.kind = kind,
		      .node = order->m.u.leave.node,
		      .flags = order->m.u.leave.flags | (b->differ ? LOCAL_MOVE_EACH : 0),
		      .members = order->m.u.leave.members,
		      .index = order->m.u.leave.index},
	};

	return fd_send(order->fd[0], &q, sizeof q, &far, 1);
}

/* The channel of the move, whose far end goes to bpslave with the question. */
static long begin(struct blob *b, const struct chan_pkt *order)
{
	int end[2], up;
	long r = sys_socketpair(SYS_AF_UNIX, SYS_SOCK_SEQPACKET | SYS_SOCK_CLOEXEC, 0, end);

	if (r >= 0) {
		up = above_streams(end[0]);
		r = up < 0 ? up : park_ask(b, order, end[1], b->exec_kind);
		sys_close(end[1]);
		if (r < 0 && up >= 0)
			sys_close(up);
	}
	if (r < 0)
		return blob_err_set(&b->err, (int)-r, "the question to bpslave: %s", errno_name(r));
	b->outer = b->chan;
	b->hide_fd[0] = b->outer;
	b->chan = up;
	return 0;
}

/* Of one of a tree: what it is to be told. */
static void take_order(struct blob *b, struct chan_pkt *p)
{
	int fd = p->nfd > 1 ? above_streams(p->fd[1]) : 0;

	if (p->nfd > 1)
		p->nfd = 1;
	b->order = MAX(fd, 0);
}

void leave_order_close(struct blob *b)
{
	if (b->order)
		sys_close(b->order);
	b->order = 0;
}

void park_leave(struct blob *b, struct chan_pkt *order)
{
	int exec = order->m.u.leave.args_len != 0;
	/* One whose memory follows stands still for little else: it is judged while it looks. */
	int asks_first = exec || order->m.u.leave.flags & DUMP_LAZY;
	struct blob_dump looked;
	long r;

	own_protection(b);
	b->exec_kind = exec ? MOVE_REXEC : MOVE_MOVE;
	b->exec_args = order->m.u.leave.args;
	b->exec_len = order->m.u.leave.args_len;
	b->dump_flags = order->m.u.leave.flags;
	b->no_guards = order->m.flags & CHAN_LEAVE_NO_GUARDS;
	b->live = order->m.u.leave.live;
	b->live_go = order->m.u.leave.go;
	b->hide_fd[1] = order->fd[0];
	take_order(b, order);
	r = asks_first ? 0 : blob_leave_look(b, &looked);
	if (r == 0)
		r = begin(b, order);
	chan_close_fds(order, 0);
	b->hide_fd[1] = -1;
	if (r == 0)
		blob_leave(b, asks_first ? NULL : &looked);
	blob_thaw(b);
	b->live = 0;
	b->no_guards = 0;
	leave_order_close(b);
	park_give_back(b);
	if (b->outer) {
		if (b->chan >= 0)
			sys_close(b->chan);
		b->chan = b->outer;
		b->outer = 0;
	}
	chan_fail(b, CHAN_NO_MOVE);
}

void park_left(struct blob *b)
{
	int chan = b->chan;

	if (!b->outer)
		return;
	b->chan = b->outer;
	chan_tell(b, CHAN_LEFT, CHAN_NO_MOVE);
	sys_close(b->outer);
	b->chan = chan;
	b->outer = 0;
}
