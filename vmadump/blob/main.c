/*
 * Where a verb is chosen. Runs inside the process that the blob is mapped into,
 * on the blob's own stack, with every signal blocked from here on.
 */
#include "ghost.h"
#include "sys.h"
#include "lib.h"
#include "thread.h"

_Static_assert(BLOB_CODE_MAX == 0x24000 && BLOB_STRUCT_MAX + BLOB_STACK == 0xd000,
	       "entry.S has these numbers too");
_Static_assert(BLOB_THREAD_ENTRY == 0x60 && offsetof(struct blob_thread, stack) == 8, "and these");

long blob_main(struct blob *b);

static long dump_here(struct blob *b)
{
	struct blob_dump opt = {.fd = b->fd, .flags = b->dump_flags};
	long r = blob_dump(b, &opt);

	blob_thaw(b);
	return r < 0 ? r : (long)opt.bytes;
}

/* Whoever cloned this process takes it from here by ptrace, or says that it is to go by itself. */
void blob_await_release(struct blob *b)
{
	struct chan_msg m = {.type = CHAN_RESTORED, .move_id = b->self, .flags = b->stopped};
	struct chan_pkt p;

	chan_send(b, &m);
	do {
		/* Nobody knows of it yet: with who made it, it ends. */
		if (chan_recv(b, &p, 0) <= 0)
			sys_exit_group(127);
		chan_close_fds(&p, 0);
		if (p.m.type == CHAN_SETTLE && tree_settle(b) < 0)
			chan_fail(b, 0);
		else if (p.m.type == CHAN_SETTLE)
			chan_tell(b, CHAN_SETTLED, 0);
	} while (p.m.type != CHAN_RESUME);
	if (b->seccomp_len) /* it would run without what is to keep it in */
		sys_exit_group(127);
	sched_free(b);
	sys_close(b->chan);
}

static long restore_here(struct blob *b)
{
	struct blob_restore opt = {
		.fd = b->fd,
		.stream_fd = {-1, -1, -1},
		.set_creds = 1,
		.alone = b->restore_flags & BLOB_RESTORE_ALONE,
	};
	long r = blob_restore(b, &opt);

	if (r == 0) {
		if (b->chan >= 0)
			blob_await_release(b);
		blob_resume(b);
	}
	if (b->chan >= 0) {
		chan_fail(b, 0);
		sys_exit_group(127);
	}
	if (opt.destroyed) {
		/* What would have returned an error is gone; this is all that can be said. */
		sys_write(2, b->err.text, str_len(b->err.text));
		sys_write(2, "\n", 1);
		sys_exit_group(127);
	}
	return r;
}

long blob_main(struct blob *b)
{
	uint64_t all = ~0ul;
	long r;

	sys_sigprocmask(SIG_SETMASK, &all, b->mask_given ? NULL : &b->sigmask);
	if (!b->arena.base) {
		b->arena.base = b->self + BLOB_SCRATCH;
		b->arena.size = BLOB_DATA - BLOB_SCRATCH;
	}
	switch (b->verb) {
	case BLOB_LEAVE:
		sched_free(b);
		if (b->close_fd)
			sys_close((int)b->close_fd);
		r = blob_leave(b, NULL);
		blob_thaw(b);
		break;
	case BLOB_DUMP:
		r = dump_here(b);
		break;
	case BLOB_ENV:
		r = blob_env_all(b);
		break;
	case BLOB_RESTORE:
		r = restore_here(b);
		break;
	case BLOB_CHECK:
		r = blob_check(b);
		break;
	case BLOB_LOOK:
		r = blob_look(b);
		break;
	case BLOB_PARK:
		r = blob_park(b);
		break;
	case BLOB_GHOST:
		blob_ghost(b);
	default:
		r = blob_err_set(&b->err, EINVAL, "blob: no verb %u", b->verb);
		break;
	}
	b->result = r;
	if (b->regs_given)
		blob_resume(b);
	sys_sigprocmask(SIG_SETMASK, &b->sigmask, NULL);
	return r;
}
