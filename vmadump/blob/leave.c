/*
 * The source side of a move, top to bottom (doc/move.md has the other sides).
 * Runs in the process that leaves, in the blob, with every signal blocked. It
 * is parked by this code and by nothing else: a tracer that dies, a daemon that
 * restarts and a socket that ends change nothing. Once it has voted it goes on
 * only by an abort that carries the id of its move.
 */
#include "dump.h"
#include "ghost.h"
#include "lazy_out.h"
#include "libbproc/local.h"

struct leave {
	uint64_t move_id;	/* from CHAN_GO on */
	int data, back; /* back: from which the node is heard, of a lazy move; -1: by data */
	uint32_t flags;		/* of CHAN_GO */
	int voted, here; /* here: aborted because this is where it was to go */
	uint32_t ready_for;	/* the flags that dump was prepared for */
	long ready;		/* what preparing it returned; its text is in b->err */
	struct blob_dump *dump, own;
};

/* Nobody is left who could order anything: parked until a SIGKILL. */
static _Noreturn void park_for_ever(void)
{
	struct timespec day = { .tv_sec = 86400 };

	for (;;)
		sys_nanosleep(&day);
}

/*
 * A connection that breaks when all is written, and nobody has read it yet, would be missed by
 * the node alone, a minute later. The decision is the master's all the same: the node may have it.
 */
static void await_order(struct blob *b, struct leave *l)
{
	struct sys_pollfd p[2] = { { .fd = b->chan, .events = POLLIN }, { .fd = l->data } };

	while (l->data >= 0) {
		if (sys_ppoll(p, 2, NULL, NULL) < 0)
			continue;
		if (p[0].revents)
			return;
		if (p[1].revents & POLLERR)
			chan_tell(b, CHAN_LOST, l->move_id);
		/* Else the node has closed it: it had the end mark, or says what it lacked. */
		sys_close(l->data);
		l->data = -1;
	}
}

/*
 * The next message that is for this move. 1: got it. -errno, b->err filled: the
 * move is off. Before the vote the end of the channel is as good as an abort,
 * since no image can be whole without the end mark.
 */
static long next_order(struct blob *b, struct leave *l, struct chan_pkt *p)
{
	for (;;) {
		long r;

		lazy_serve(b, b->chan);
		if (l->voted)
			await_order(b, l);
		r = chan_recv(b, p, 0);

		if (r <= 0 && l->voted)
			park_for_ever();
		if (r <= 0)
			return blob_err_set(&b->err, ECONNRESET, "bpinit has ended before the move");
		if (l->voted && p->m.move_id != l->move_id) {
			chan_close_fds(p, 0);
			continue;
		}
		if (p->m.type != CHAN_ABORT)
			return 1;
		chan_close_fds(p, 0);
		l->here = !!(p->m.flags & CHAN_ABORT_HERE);
		p->m.u.text[CHAN_TEXT_MAX - 1] = 0;
		if (b->err.code == 0)
			blob_err_set(&b->err, p->m.err > 0 ? p->m.err : EIO, "%s", p->m.u.text);
		return -(long)b->err.code;
	}
}

/* Waits for the leave to send. 0 with l filled, or -errno. */
static long wait_go(struct blob *b, struct leave *l)
{
	struct chan_pkt p;
	long r;

	for (;;) {
		r = next_order(b, l, &p);
		if (r < 0)
			return r;
		if (p.m.type == CHAN_GO && p.nfd >= 1 && !(p.m.flags & CHAN_GO_EXEC))
			break;
		chan_close_fds(&p, 0);
	}
	l->data = p.fd[0];
	l->back = p.fd[1];
	chan_close_fds(&p, 2);
	l->move_id = p.m.move_id;
	l->flags = p.m.flags;
	b->filters = p.m.u.go.filters;
	memcpy(b->away_saved, p.m.u.go.saved, sizeof b->away_saved);
	return 0;
}

static long write_all(struct blob *b, int fd, const void *p, uint64_t n)
{
	const char *at = p;

	while (n) {
		long r = blob_write_quietly(fd, at, n);

		if (r == -EINTR)
			continue;
		if (r < 0)
			return blob_err_set(&b->err, (int)-r, "arguments to the node: %s",
					    errno_name(r));
		at += r;
		n -= (uint64_t)r;
	}
	return 0;
}

/*
 * What CHAN_GO will most likely say. A node that was sent this program once
 * has its file, so all but the first image of a program go without it. Those of an
 * execmove were written after the grant: they are what it will ask for.
 */
static uint32_t likely_flags(const struct blob *b)
{
	if (b->live)
		return b->live_go;
	if (b->exec_kind == MOVE_EXECMOVE)
		return b->dump_flags << 8;
	return (b->dump_flags & ~(uint32_t)DUMP_EXEC) << 8;
}

/* The dump that a leave with these flags of CHAN_GO is. */
static void describe(const struct blob *b, uint32_t flags, struct blob_dump *ret)
{
	*ret = (struct blob_dump){
		.fd = -1,
		.flags = flags >> 8,
		.for_fork = b->exec_kind == MOVE_RFORK,
		.objects = b->exec_kind != MOVE_RFORK,
		.leaves = b->exec_kind != MOVE_RFORK,
		.live = b->live,
		.lazy = b->exec_kind == MOVE_MOVE && flags >> 8 & DUMP_LAZY,
		.has_order = b->order > 0,
		.order = b->order,
	};
	blob_dump_from(ret, flags);
}

/*
 * All of the image but the writing. It is made while the master judges, as if it leaves
 * from home, which is mostly so. If CHAN_GO says otherwise it is made anew.
 */
static void prepare_image(struct blob *b, struct leave *l, uint32_t flags)
{
	b->err.code = 0;
	l->ready_for = flags;
	l->dump = &l->own;
	describe(b, flags, l->dump);
	l->ready = b->exec_kind == MOVE_REXEC ? 0 : blob_dump_prepare(b, l->dump);
}

long blob_leave_look(struct blob *b, struct blob_dump *ret)
{
	b->err.code = 0;
	describe(b, likely_flags(b), ret);
	return blob_dump_look(b, ret);
}

/*
 * Sent before it was parked, and come since: bpinit lets it go when all that is here. It would
 * be met by the ghost here, behind what is sent to the node next. (What went ahead of a process
 * is looked up once.)
 */
static int more_is_pending(const struct blob *b)
{
	uint64_t pending = 0;

	return b->frozen.held && !b->live && sys_sigpending(&pending) == 0 && pending;
}

static long send_image(struct blob *b, struct leave *l)
{
	long r;

	if (b->exec_kind == MOVE_REXEC) {
		r = write_all(b, l->data, &b->exec_len, sizeof b->exec_len);
		return r < 0 ? r : write_all(b, l->data, (const void *)b->exec_args, b->exec_len);
	}
	if ((l->flags ^ l->ready_for) & (CHAN_GO_AWAY | ~0xffu) || more_is_pending(b)) {
		blob_thaw(b);
		b->hide_fd[2] = l->data;
		b->hide_fd[3] = l->back;
		prepare_image(b, l, l->flags);
		b->hide_fd[2] = b->hide_fd[3] = -1;
	}
	r = l->ready < 0 ? l->ready : blob_dump_send(b, l->data);
	if (r == 0)
		r = lazy_begin(b, l->data, l->back);
	if (r > 0) /* they are its own from here on */
		l->data = l->back = -1;
	return MIN(r, 0);
}

/*
 * After an exec nobody is there to whom a call could return -1. The program was not
 * to run here, so it does not: the error is its exit status, as in BProc 4.
 */
static _Noreturn void end_execmove(struct blob *b, long r)
{
	char line[CHAN_TEXT_MAX + 64];
	size_t n = str_format(line, sizeof line, "bproc_execmove: not moved: %s\n", b->err.text);

	sys_write(2, line, n);
	sys_exit_group((int)(-r & 0xff));
}

static int is_socket(int fd)
{
	struct stat st;

	return sys_fstat(fd, &st) == 0 && (st.st_mode & 0170000) == 0140000 /* S_IFSOCK */;
}

static void hang_up(struct leave *l)
{
	if (l->data >= 0)
		sys_close(l->data);
	if (l->back >= 0)
		sys_close(l->back);
	l->data = l->back = -1;
}

static long abort_here(struct blob *b, struct leave *l, long r)
{
	listeners_decided(b, 0);
	lazy_end(b);
	hang_up(l);
	if (b->regs_given) {
		/* To where it is already: as any move there it succeeds. */
		if (b->exec_kind == MOVE_EXECMOVE && !l->here)
			end_execmove(b, r);
		sys_close(b->chan);
		b->chan = -1;
	}
	return r;
}

long blob_leave(struct blob *b, struct blob_dump *looked)
{
	struct leave l = { .data = -1, .back = -1 };
	struct chan_pkt p;
	long r;

	b->err.code = 0;

	/* 1. Here I am, parked: bpinit learns the pid from the kernel. */
	chan_here(b, b->exec_kind == MOVE_EXECMOVE ? CHAN_HERE_ENTRY : 0);
	if (looked) {
		l.dump = looked;
		l.ready_for = likely_flags(b);
		l.ready = blob_dump_last(b);
	} else {
		prepare_image(b, &l, likely_flags(b));
	}

	/* 2. The master's grant, with the connection to the node. */
	r = wait_go(b, &l);
	if (r < 0)
		return abort_here(b, &l, r);

	/* 3. The image, straight to the node. If that fails the move is told so, and
	 *    the abort that follows has been through the master: no copy is left. The
	 *    node is told as well, where nothing else was sent yet: its word may reach
	 *    the master first. */
	r = send_image(b, &l);
	if (r < 0) {
		if (l.ready < 0)
			blob_send_failure(b, l.data);
		chan_fail(b, l.move_id);
		hang_up(&l);
		/* Who calls it off knows more: that the node died, and not only its connection. */
		b->err.code = 0;
		while ((r = next_order(b, &l, &p)) > 0)
			chan_close_fds(&p, 0);
		return abort_here(b, &l, r);
	}
	/* Its reader knows the end by what it reads. A TCP connection is kept, for what becomes of
	 * it; a pipe is read on by who carries it when it is closed. */
	if (!is_socket(l.data))
		hang_up(&l);
	leave_order_close(b);
	/* What arrives in its ghost has other numbers open: it is not to close those of now. */
	park_give_back(b);

	/* 4. The vote: from here on only the master decides. bpinit takes it of an rfork's child
	 *    that it has voted as soon as it may, so that its word wakes nobody. */
	l.voted = 1;
	if (b->exec_kind != MOVE_RFORK)
		chan_tell(b, CHAN_SENT, l.move_id);

	/* 5. It runs elsewhere: stand in for it. Or it does not: go on. */
	for (;;) {
		r = next_order(b, &l, &p);
		if (r < 0)
			return abort_here(b, &l, r);
		if (p.m.type == CHAN_BE_GHOST) {
			listeners_decided(b, 1);
			if (b->exec_kind == MOVE_MOVE)
				more_of_ghost((void *)b->dump);
			hang_up(&l);
			ghost_in_place(b, &p);
		}
		chan_close_fds(&p, 0);
	}
}
