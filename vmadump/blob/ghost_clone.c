/*
 * Processes that begin in the blob: children of a ghost (or of bpinit) that are to
 * be ghosts or arrivals under a wanted pid, and ghosts that become their original
 * again. Each reads who it is from its own channel.
 */
#include "ghost.h"

static const uint64_t all_signals = ~0ul;

#define MASK_WORDS 128 /* of a processor mask: as many as the kernel may have */

/*
 * As the child of one that ends at once: it goes where orphans go here. A session has nobody in it
 * but who was born of one that is.
 */
static long clone_orphan(const struct clone_args *ca)
{
	struct clone_args between;
	int status = 0;
	long r;

	memset(&between, 0, sizeof between);
	r = sys_clone3(&between, sizeof between);
	if (r == 0) {
		r = sys_clone3((struct clone_args *)ca, sizeof *ca);
		if (r == 0)
			return 0;
		sys_exit_group(r < 0 ? (int)-r : 0);
	}
	if (r < 0 || sys_wait4((int)r, &status, __WALL, NULL) < 0)
		return r < 0 ? r : -EAGAIN;
	if (status & 0x7f)
		return -EAGAIN;
	return status ? -(long)(status >> 8 & 0xff) : r;
}

/* A ghost makes a child: the kernel then has the right parent by itself. */
void clone_child(struct ghost *g, struct chan_pkt *p)
{
	struct blob *b = g->b;
	struct chan_msg m;
	int tid = p->m.u.clone.pid;
	struct clone_args ca;
	uint64_t old;
	long r;

	memset(&ca, 0, sizeof ca);
	/* Ours is its tracer from its first moment: not even a SIGKILL comes before. */
	ca.flags = CLONE_CLEAR_SIGHAND | (p->m.u.clone.kind == CLONE_GHOST ? CLONE_PTRACE : 0);
	/* A sibling's is that of the ghost: the kernel takes no other with CLONE_PARENT. */
	if (p->m.flags & CHAN_CLONE_SIBLING)
		ca.flags |= CLONE_PARENT;
	else
		ca.exit_signal = SIGCHLD;
	ca.set_tid = tid > 0 ? (uint64_t)&tid : 0;
	ca.set_tid_size = tid > 0;
	if (p->m.flags & CHAN_CLONE_TEMPLATE)
		annex_make(b);
	sys_sigprocmask(SIG_SETMASK, &all_signals, &old);
	if (p->nfd == 0)
		r = -EBADF;
	else if (p->m.flags & CHAN_CLONE_ORPHAN)
		r = clone_orphan(&ca);
	else
		r = sys_clone3(&ca, sizeof ca);
	if (r == 0) {
		b->chan = p->fd[0];
		clone_become(b);
	}
	if (r > 0 && p->m.u.clone.kind == CLONE_SKELETON)
		skeleton_place((int)r);
	sys_sigprocmask(SIG_SETMASK, &old, NULL);
	chan_close_fds(p, 0);
	if (p->m.u.clone.kind == CLONE_SKELETON) {
		for (int i = 0; r > 0 && i < GHOST_SKELETONS; i++)
			if (!g->skeleton[i]) {
				g->skeleton[i] = (int)r;
				break;
			}
		return; /* it speaks for itself; or its channel ends */
	}
	memset(&m, 0, sizeof m);
	m.type = CHAN_CLONED;
	m.move_id = p->m.move_id;
	m.u.pid = (int)tid;
	m.err = r < 0 ? (int)-r : 0;
	chan_send(b, &m);
}

/* Of its parent's descriptors none, or its stdio: there is no node that forwards it. */
static void keep_own(struct blob *b, int stdio)
{
	int with[] = {0, 1, 2, b->chan};

	if (stdio)
		close_all_but(with, COUNT(with));
	else
		close_all_but(&b->chan, 1);
}

_Noreturn void clone_become(struct blob *b)
{
	struct ghost g = {.b = b, .cloned = 1, .sigfd = -1, .code_fd = -1, .live.fd = -1};
	const int none[CHAN_STREAMS] = {-1, -1, -1};
	const struct chan_cred *c;
	struct chan_pkt p;

	sys_sigprocmask(SIG_SETMASK, &all_signals, NULL);
	b->regs_given = 0;
	live_unmap(b); /* its parent's */
	b->err.code = 0;
	b->lazy = 0; /* its maker's, and not cloned with it */
	arena_reset(b);
	if (chan_recv(b, &p, 0) <= 0 || p.m.type != CHAN_CLONE)
		sys_exit_group(127);
	if (p.m.u.clone.kind == CLONE_SKELETON)
		skeleton(b, &p);
	if (!(p.m.flags & CHAN_CLONE_TEMPLATE))
		annex_drop(b);
	g.reap = !!(p.m.flags & CHAN_CLONE_REAP);
	keep_own(b, p.m.u.clone.kind == CLONE_ARRIVAL_HOME);
	take_place(p.m.u.clone.pid, p.m.u.clone.pgid, p.m.u.clone.sid,
		   !!(p.m.flags & CHAN_CLONE_REAP));
	if (p.m.u.clone.comm[0])
		sys_prctl(PR_SET_NAME, (unsigned long)p.m.u.clone.comm, 0, 0, 0);
	if (p.m.u.clone.kind != CLONE_GHOST)
		arrive_clone(b, &p.m.u.clone, p.m.move_id,
			     !!(p.m.flags & CHAN_CLONE_THREADS));

	/* It keeps its capabilities, so nobody may look into it or trace it. */
	sys_prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	c = &p.m.u.clone.cred;
	if (cred_ghost(b, c->uid, c->gid) < 0) {
		chan_fail(b, p.m.move_id);
		sys_exit_group(127);
	}
	relay_set(&g, none);
	chan_tell(b, CHAN_GHOST, p.m.move_id);
	ghost_loop(&g);
}

/* The daemons are confined to one processor, and their clones with them; what runs is not. */
static void leave_cpu(void)
{
	uint64_t any[MASK_WORDS];

	memset(any, 0xff, sizeof any);
	sys_sched_setaffinity(0, sizeof any, any);
}

/* Prepared: runs when bpinit has recorded that it runs, and never otherwise. */
int wait_run(struct blob *b, uint64_t move_id)
{
	uint64_t mine[MASK_WORDS];
	long n = sys_sched_getaffinity(0, sizeof mine, mine);
	struct chan_pkt p;

	chan_tell(b, CHAN_PREPARED, move_id);
	while (chan_recv(b, &p, 0) > 0) {
		chan_close_fds(&p, 0);
		if (p.m.move_id == move_id && p.m.type == CHAN_RUN) {
			if (p.m.flags & CHAN_RUN_CHILD)
				sys_sigqueueinfo((int)sys_getpid(), SIGCHLD, p.m.u.siginfo);
			park_give_back(b);
			if (n > 0) /* bpinit has moved it off its own processor */
				sys_sched_setaffinity(0, (size_t)n, mine);
			return 1;
		}
		if (p.m.move_id == move_id && p.m.type == CHAN_ABORT) {
			park_give_back(b);
			return 0;
		}
	}
	/* bpinit has gone, and the record of this move with it: it cannot run. */
	return 0;
}

/*
 * The same by the word, of an arrival that was a skeleton: nobody has to be woken between the
 * last byte of the image and its first instruction.
 */
static void take_word(struct blob *b, uint64_t move_id)
{
	uint64_t *word = (uint64_t *)b->annex, want = move_id;
	struct chan_msg m;

	leave_cpu();
	if (!__atomic_compare_exchange_n(word, &want, CHAN_WORD_RAN(move_id), 0, __ATOMIC_SEQ_CST,
					 __ATOMIC_SEQ_CST))
		sys_exit_group(127);
	/* It goes with the blob, in one munmap. */
	if (b->regs.dx == b->base)
		b->regs.dx |= BLOB_ANNEXED;
	else
		annex_drop(b);
	memset(&m, 0, sizeof m);
	m.type = CHAN_PREPARED;
	m.flags = CHAN_PREPARED_RAN;
	m.move_id = move_id;
	chan_send(b, &m);
	/*
	 * Its skeleton sleeps in its clone3() and must never come back from there: a SIGKILL that
	 * is pending is seen to before user memory is. It is of the same user. If somebody has
	 * killed it already it is a zombie, or its number is free and not given again so soon.
	 */
	sys_kill(b->maker, SIGKILL);
}

/* The last of its descriptors, if it is there. 0: there is none. */
static int lazy_device(const struct chan_pkt *p)
{
	return p->m.flags & CHAN_ARRIVE_LAZY && p->nfd > 1 ? p->fd[p->nfd - 1] : 0;
}

_Noreturn void take_in(struct blob *b, uint64_t move_id, const struct made_ahead *a)
{
	struct blob_restore opt;
	struct chan_pkt p;

	memset(&opt, 0, sizeof opt);
	do {
		if (chan_recv(b, &p, 0) <= 0 || p.m.type == CHAN_ABORT)
			sys_exit_group(127);
	} while (p.m.type != CHAN_ARRIVE || p.nfd < 1);
	if (filters_take(b, &p) < 0) {
		chan_fail(b, p.m.move_id);
		sys_exit_group(127);
	}
	if (p.m.flags & CHAN_ARRIVE_EXEC) {
		arrive_exec(b, &p, NULL);
		sys_exit_group(127);
	}
	opt.fd = p.fd[0];
	opt.keep_streams = !!(p.m.flags & CHAN_ARRIVE_HOME);
	if (a) {
		opt.warm = a->warm;
		opt.taken = a->cred;
		opt.oom = a->oom;
		opt.oom_known = a->oom_known;
	}
	opt.leave_head = b->annex != 0;
	opt.cred = p.m.flags & CHAN_ARRIVE_THREADS ? &p.m.u.clone.cred : NULL;
	chan_streams(&p, 1, opt.stream_fd);
	opt.lazy_fd = lazy_device(&p);
	opt.tree = p.m.flags & CHAN_ARRIVE_TREE ? p.m.move_id : 0;
	b->sigs_default = 1;
	if (blob_restore(b, &opt) < 0) {
		chan_fail(b, p.m.move_id);
		sys_exit_group(127);
	}
	if (a) {
		take_word(b, move_id);
	} else {
		annex_drop(b);
		if (!wait_run(b, p.m.move_id))
			sys_exit_group(127);
	}
	sys_close(b->chan);
	blob_resume(b);
}

/* All that needs no image is done before there is one: its clone is made early. */
_Noreturn void arrive_clone(struct blob *b, const struct chan_clone *c, uint64_t move_id,
			    int threads)
{
	/* Before a byte of the image is believed: no more than its user may do. */
	if ((threads ? cred_skeleton : cred_arrival)(b, &c->cred) < 0) {
		chan_fail(b, move_id);
		sys_exit_group(127);
	}
	leave_cpu();
	take_in(b, move_id, NULL);
}

/* From here on signals wait in the kernel: for the original, or for the ghost. */
static void deafen(struct ghost *g, const struct chan_msg *m)
{
	char info[128];

	sys_sigprocmask(SIG_SETMASK, &all_signals, NULL);
	if (g->sigfd < 0)
		return;
	if (m->flags & CHAN_ARRIVE_CHILDREN)
		sys_read(g->sigfd, info, sizeof info); /* the image has what it knew */
	sys_close(g->sigfd);
	g->sigfd = -1;
}

/* Its streams are the original's; what the ghost still has in hand is kept: a descriptor. */
static long take_streams(struct ghost *g, struct chan_pkt *p, struct blob_restore *opt,
			 struct input *in)
{
	long e = 0;

	chan_streams(p, 1, opt->stream_fd);
	if (opt->keep_streams) {
		in->file = opt->stream_fd[0];
		in->far = opt->stream_fd[1];
		opt->stream_fd[1] = opt->stream_fd[2] = -1;
		e = input_prepare(g, in);
		opt->stream_fd[0] = in->in;
	}
	return e < 0 ? e : relay_stash(g, in);
}

/* Does not return where it runs: a ghost no more. */
static void restore_in_place(struct ghost *g, struct blob_restore *opt, struct input *in,
			     uint64_t move_id)
{
	struct blob *b = g->b;

	if (blob_restore(b, opt) < 0) {
		chan_fail(b, move_id);
	} else if (wait_run(b, move_id)) {
		if (opt->cred && cred_finish(b, opt->cred) < 0)
			sys_exit_group(127); /* not with a right that is not its own */
		/* What the node wrote before goes out before what is written from now on. */
		relay_unstash(g, in, opt->keep_fd, 0);
		input_run(g, in);
		relay_drain(g);
		rest_done(b);
		sys_close(b->chan);
		blob_resume(b);
	}
}

void arrive_in_place(struct ghost *g, struct chan_pkt *p)
{
	struct blob *b = g->b;
	struct blob_restore opt;
	uint64_t move_id = p->m.move_id;
	struct input in = {.file = -1, .far = -1, .orig = -1, .in = -1, .out = -1};
	struct args args;
	long stash;

	skeletons_end(g);
	annex_drop(b);
	code_share(g);
	memset(&opt, 0, sizeof opt);
	deafen(g, &p->m);
	b->err.code = 0;
	if (g->cloned)
		leave_cpu();
	arena_reset(b);
	/* The kernel's word on the source, not the image's: that is the user's to write. */
	if (p->m.flags & CHAN_ARRIVE_THREADS)
		opt.cred = &p->m.u.clone.cred;
	if ((opt.cred ? cred_skeleton : cred_arrival)(b, &p->m.u.clone.cred) < 0 ||
	    filters_take(b, p) < 0) {
		chan_fail(b, move_id);
		chan_close_fds(p, 0);
		return;
	}
	if (p->m.flags & CHAN_ARRIVE_EXEC) {
		arrive_exec(b, p, g);
		chan_close_fds(p, 0);
		return;
	}
	opt.fd = p->fd[0];
	opt.keep_streams = !!(p->m.flags & CHAN_ARRIVE_HOME);
	opt.lazy_fd = lazy_device(p);
	opt.tree = p->m.flags & CHAN_ARRIVE_TREE ? move_id : 0;
	stash = take_streams(g, p, &opt, &in);
	if (stash < 0) {
		input_undo(&in);
		blob_err_set(&b->err, (int)-stash, "streams of the ghost: %s", errno_name(stash));
		chan_close_fds(p, 0);
		chan_fail(b, move_id);
		return;
	}
	args_save(b, &args);
	opt.in_place = 1;
	b->restore = 0;
	ghost_unsettle(g);
	opt.keep_fd = (int)stash;
	opt.live = &g->live;
	b->sigs_default = 0;
	restore_in_place(g, &opt, &in, move_id);
	/* A ghost as before, whatever it is that has been restored. */
	b->lent_lo = 0; /* the next arrival closes what is open yet */
	live_drop(b, &g->live);
	blob_give_back_threads(b);
	rest_undo(b);
	if (opt.fd >= 0)
		sys_close(opt.fd);
	blob_rseq_off(b);
	blob_unmap_others(b);
	ghost_settle(g, &args);
	relay_unstash(g, &in, opt.keep_fd, 1);
	input_undo(&in);
}
