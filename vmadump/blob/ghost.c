/*
 * The ghost: a process that stands in, under the same pid, for one that is real
 * elsewhere. It has no memory but the blob, the kernel's vdso and its argument
 * pages; it keeps its descriptors, name, parent, exit signal and tids, since it
 * has never exec'd. bpinit is its tracer and reads its channel: signals are met
 * there, so that what runs here is the relaying of streams, the telling of what
 * its children do, and a few orders (doc/local.md).
 */
#include "ghost.h"
#include "lazy_out.h"
#include "libbproc/local.h"

/* -- becoming one, in place */

void args_save(struct blob *b, struct args *a)
{
	char buf[1024];
	const char *s = buf;
	uint64_t lo, hi;
	long n;
	int fd = (int)sys_open("/proc/self/stat", O_RDONLY | O_CLOEXEC, 0);

	a->len = 0;
	if (fd < 0)
		return;
	n = sys_read(fd, buf, sizeof buf - 1);
	sys_close(fd);
	if (n <= 0)
		return;
	buf[n] = 0;
	for (const char *p = buf; *p; p++)
		if (*p == ')')
			s = p; /* the name may hold anything, even ") R 1" */
	for (int field = 2; field < ARGS_FIRST_FIELD && *s; s++)
		field += *s == ' ';
	for (unsigned i = 0; i < ARGS_FIELDS; i++) {
		a->field[i] = str_dec(&s);
		while (*s && *s != ' ')
			s++; /* a number below zero: none that is wanted */
		str_skip_spaces(&s);
	}
	lo = a->field[48 - ARGS_FIRST_FIELD];
	hi = a->field[49 - ARGS_FIRST_FIELD];
	if (lo == 0 || hi <= lo)
		return;
	hi = MIN(hi, (lo & ~4095ul) + GHOST_ARGS_MAX);
	a->start = lo & 4095;
	a->bytes = hi - lo;
	lo &= ~4095ul;
	hi = ROUND_UP(hi, 4096);
	a->copy = arena_alloc(b, hi - lo);
	if (!a->copy)
		return;
	/* Through the kernel, which answers EFAULT where a plain copy would fault. */
	struct iovec to = {a->copy, hi - lo}, from = {(void *)lo, hi - lo};

	if (sys6(__NR_process_vm_readv, sys_getpid(), (long)&to, 1, (long)&from, 1, 0) <= 0)
		return;
	a->lo = lo;
	a->len = hi - lo;
}

/*
 * Shown from the end of the blob's own memory, so that the stack's page tables are
 * not needed: they would be half of what a ghost weighs. The kernel wants to be
 * told everything it knows of this memory at once.
 */
static int point_args(const struct args *a, uint64_t at)
{
	struct prctl_mm_map m;

	memset(&m, 0, sizeof m);
	m.start_code = a->field[26 - ARGS_FIRST_FIELD];
	m.end_code = a->field[27 - ARGS_FIRST_FIELD];
	m.start_stack = a->field[28 - ARGS_FIRST_FIELD];
	m.start_data = a->field[45 - ARGS_FIRST_FIELD];
	m.end_data = a->field[46 - ARGS_FIRST_FIELD];
	m.start_brk = a->field[47 - ARGS_FIRST_FIELD];
	m.brk = (uint64_t)sys_brk(NULL);
	m.arg_start = at + a->start;
	m.arg_end = m.arg_start + a->bytes;
	m.env_start = m.env_end = m.arg_end;
	m.exe_fd = (uint32_t)-1;
	return sys_prctl(PR_SET_MM, PR_SET_MM_MAP, (unsigned long)&m, sizeof m, 0) == 0;
}

void args_put(struct blob *b, const struct args *a)
{
	uint64_t at = b->self + BLOB_DATA - a->len;

	if (!a->len)
		return;
	if (point_args(a, at)) {
		memmove((void *)at, a->copy, a->len);
		return;
	}
	/* A kernel without it: they stay where they were. */
	if (sys_mmap((void *)a->lo, a->len, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == (long)a->lo)
		memcpy((void *)a->lo, a->copy, a->len);
}

/*
 * glibc's registration has to go before its memory does: the kernel writes there
 * whenever this thread returns from a signal or is preempted, and a write that
 * faults is a SIGSEGV. The length must be the registered one, which later
 * libraries do not say.
 */
static void forget_libc(struct blob *b)
{
	const unsigned len[] = {b->rseq_len, 32, 33, 64};

	sys_set_tid_address(NULL);
	sys_set_robust_list(NULL, 24);
	for (unsigned i = 0; b->rseq_addr && i < COUNT(len); i++)
		if (sys_rseq((void *)b->rseq_addr, len[i], 1, b->rseq_sig) == 0)
			break;
	b->rseq_addr = 0;
}

/* Gives back the pages of the blob's own that a dump or restore has touched. */
static void shed_pages(struct blob *b, uint64_t args_len)
{
	uint64_t here = ((uint64_t)__builtin_frame_address(0) & ~4095ul) - 4096;
	uint64_t stack = ROUND_UP(b->self + BLOB_STRUCT_MAX, 4096);
	uint64_t xsave = ROUND_UP((uint64_t)b->xsave, 4096);

	sys_madvise((void *)(b->self + BLOB_SCRATCH), BLOB_DATA - BLOB_SCRATCH - args_len,
		    MADV_DONTNEED);
	if (here > stack)
		sys_madvise((void *)stack, here - stack, MADV_DONTNEED);
	/* The saved registers are the last of the struct, and of no use any more. */
	sys_madvise((void *)xsave, b->self + BLOB_STRUCT_MAX - xsave, MADV_DONTNEED);
}

/*
 * The kernel's vdso is kept for the day when the original comes back, but next to
 * the blob: where it was it would need page tables of its own, 12 KiB.
 */
static void specials_near(struct ghost *g)
{
	struct blob *b = g->b;
	uint64_t to = b->base + (2ul << 20);

	for (uint32_t i = b->env.nspecial; i-- > 0;) {
		uint64_t len = b->env.special[i].len;

		to -= len;
		g->special_home[i] = b->env.special[i].start;
		if (sys_mremap((void *)g->special_home[i], len, len, MREMAP_MAYMOVE | MREMAP_FIXED,
			       (void *)to) == (long)to)
			b->env.special[i].start = to;
	}
}

/* Back, so that the room behind the blob is free for a restore's tables. */
void ghost_unsettle(struct ghost *g)
{
	struct blob *b = g->b;

	for (uint32_t i = 0; i < b->env.nspecial; i++) {
		uint64_t len = b->env.special[i].len, to = g->special_home[i];

		if (b->env.special[i].start != to &&
		    sys_mremap((void *)b->env.special[i].start, len, len,
			       MREMAP_MAYMOVE | MREMAP_FIXED, (void *)to) == (long)to)
			b->env.special[i].start = to;
	}
}

/* Nothing of others is mapped any more: as small as it can be. */
void ghost_settle(struct ghost *g, const struct args *a)
{
	args_put(g->b, a);
	arena_reset(g->b);
	specials_near(g);
	shed_pages(g->b, a->len);
}

/* -- signals: bpinit, the tracer, suppresses all; this is for when it is gone */

extern const char blob_entry[] __attribute__((visibility("hidden")));

static void on_signal(int sig, siginfo_t *si, void *uc)
{
	struct blob *b = (struct blob *)((uint64_t)blob_entry + BLOB_CODE_MAX);
	struct chan_msg m;
	struct iovec v = {&m, sizeof m};
	struct sys_msghdr h = {.iov = &v, .iovlen = 1};

	(void)sig;
	(void)uc;
	memset(&m, 0, sizeof m);
	m.type = CHAN_SIG;
	memcpy(m.u.siginfo, si, sizeof m.u.siginfo);
	if (b->chan >= 0)
		sys_sendmsg(b->chan, &h, SYS_MSG_NOSIGNAL | SYS_MSG_DONTWAIT);
}

void ghost_restorer(void);
__asm__(".text\n.hidden ghost_restorer\n.globl ghost_restorer\n"
	"ghost_restorer:\n\tmov $15, %eax\n\tsyscall\n\tud2\n");

/*
 * Everything is met by a handler that does nothing but tell, so that a ghost
 * whose tracer is gone does not die of a SIGTERM. Not so the stops of a terminal:
 * bpinit mirrors them with the same signal, which has to have its default action.
 * And never SIGCONT: one that is pending is dropped when its default is set, as that
 * is to ignore it (sigaction(2)), and it may have come while all was blocked.
 */
static void set_handlers(void)
{
	struct {
		void (*handler)(int, siginfo_t *, void *);
		uint64_t flags;
		void (*restorer)(void);
		uint64_t mask;
	} act;
	uint64_t chld = 1ul << (SIGCHLD - 1);

	sys_sigaltstack(&(stack_t){.ss_flags = SS_DISABLE}, NULL);
	for (int sig = 1; sig <= SYS_NSIG; sig++) {
		int dfl = sig == SIGCHLD || sig == SIGTSTP || sig == SIGTTIN || sig == SIGTTOU;

		act.handler = dfl ? NULL : on_signal;
		act.flags = dfl ? 0 : SA_SIGINFO | 0x04000000 /* SA_RESTORER */;
		act.restorer = dfl ? NULL : ghost_restorer;
		act.mask = ~0ul;
		sys_sigaction(sig, (const struct sigaction *)&act, NULL);
	}
	sys_sigprocmask(SIG_SETMASK, &chld, NULL);
}

_Noreturn void ghost_in_place(struct blob *b, struct chan_pkt *be_ghost)
{
	struct chan_pkt *p = be_ghost;
	struct ghost g = {
		.b = b, .reap = !!(p->m.flags & CHAN_GHOST_REAP), .sigfd = -1, .code_fd = -1,
		.live.fd = -1};
	struct sys_rlimit lim;
	struct args a;
	int sock[CHAN_STREAMS];

	park_left(b);
	/* As execve() ends them; or an arrival at a node makes them anew. */
	if (b->exec_kind == MOVE_REXEC || (g.reap && cred_may_number()))
		blob_end_threads(b);
	else
		blob_keep_threads(b);
	b->low = b->nkept ? b->low : 0;
	g.serves = lazy_commit(b);
	b->npending = 0;
	/* What the dump took out of the kernel has gone with the image, for good. */
	b->frozen.held = 0;
	arena_reset(b);
	chan_streams(p, 0, sock);
	if (p->m.flags & CHAN_GHOST_CODE && p->nfd > 0)
		code_come(&g, p->fd[p->nfd - 1]);
	/* Not at home it has no use for them, and others would wait for the end of a pipe. */
	if (g.reap)
		lazy_close_others(b, g.code_fd);
	args_save(b, &a);
	sys_prctl(PR_SET_PDEATHSIG, 0, 0, 0, 0);
	forget_libc(b);
	/* Where the vdso is; after a dump it is known. */
	blob_env_fill(b);
	blob_unmap_others(b);
	sys_munlockall();
	ghost_settle(&g, &a);
	/* The user's limit counts his processes on the nodes too: never in our way. */
	if (sys_prlimit(0, RLIMIT_NPROC, NULL, &lim) == 0) {
		lim.cur = lim.max;
		sys_prlimit(0, RLIMIT_NPROC, &lim, NULL);
	}
	b->regs_given = 0;
	/* Of one that has left from home: there what it had is still open. */
	for (int i = 0; i < CHAN_STREAMS && !g.reap && b->exec_kind != MOVE_REXEC; i++)
		if (b->saved[i])
			sys_dup3(b->saved[i], i, 0);
	relay_set(&g, sock);
	g.parent = sys_waitid(P_ALL, 0, NULL, WEXITED | WNOHANG | WNOWAIT | __WALL, NULL) == 0;
	chan_tell(b, CHAN_GHOST, p->m.move_id);
	lazy_tell(&g);
	ghost_loop(&g);
}

/* The verb: a clone of bpinit, which has its whole memory still. */
_Noreturn void blob_ghost(struct blob *b)
{
	forget_libc(b);
	blob_unmap_others(b);
	clone_become(b);
}

/* -- the loop */

/* What one child, or any, has done. 0: nothing. */
static int tell_child(struct ghost *g, int type, int pid, int options)
{
	struct chan_msg m;
	struct sys_rusage ru;
	siginfo_t si;

	memset(&si, 0, sizeof si);
	memset(&ru, 0, sizeof ru);
	if (sys_waitid(type, pid, &si, options | WNOHANG | __WALL, &ru) < 0 || si.si_pid == 0)
		return 0;
	if (si.si_code != CLD_STOPPED && si.si_code != CLD_CONTINUED &&
	    skeleton_ended(g, si.si_pid))
		return 1;
	memset(&m, 0, sizeof m);
	m.type = CHAN_CHILD;
	m.u.child.pid = si.si_pid;
	m.u.child.code = si.si_code;
	m.u.child.status = si.si_status;
	m.u.child.used.utime_us = (uint64_t)(ru.utime_s * 1000000 + ru.utime_us);
	m.u.child.used.stime_us = (uint64_t)(ru.stime_s * 1000000 + ru.stime_us);
	m.u.child.used.maxrss_kb = (uint64_t)ru.maxrss_kb;
	chan_send(g->b, &m);
	return 1;
}

static void tell_children(struct ghost *g)
{
	int dead = g->reap && g->hold == CHAN_HOLD_NOT ? WEXITED : 0;

	while (tell_child(g, P_ALL, 0, dead | WSTOPPED | WCONTINUED))
		;
}

/* Its original comes back: what its children do is that one's to wait for, not ours. */
static void hold(struct ghost *g, const struct chan_msg *order)
{
	struct chan_msg m;

	g->parent = 1;
	if (order->flags != CHAN_HOLD_DEAD)
		tell_children(g);
	g->hold = order->flags;
	memset(&m, 0, sizeof m);
	m.type = CHAN_HELD;
	m.flags = order->flags;
	m.move_id = order->move_id;
	chan_send(g->b, &m);
}

/* Dies exactly so; no core, whatever the limits say: the original dumped its own. */
static _Noreturn void die(struct ghost *g, int status)
{
	uint64_t none = 0;
	int sig = status & 0x7f;
	struct {
		uint64_t w[4];
	} dfl = {{0}};

	relay_drain(g);
	sys_prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	if (sig == 0)
		sys_exit_group(status >> 8 & 0xff);
	sys_sigaction(sig, (const struct sigaction *)&dfl, NULL);
	sys_sigprocmask(SIG_SETMASK, &none, NULL);
	sys_kill((int)sys_getpid(), sig);
	sys_exit_group(128 + sig);
}

static void obey(struct ghost *g, struct chan_pkt *p);

/*
 * What others miss of its memory leaves before the image comes in. 0: it is called off before that,
 * and goes on serving: who misses it would be ended.
 */
static int has_followed(struct ghost *g, uint64_t move_id)
{
	struct chan_pkt p;

	while (!lazy_finish(g)) {
		if (chan_recv(g->b, &p, 0) <= 0 ||
		    (p.m.type == CHAN_ABORT && p.m.move_id == move_id))
			return 0;
		obey(g, &p);
	}
	return 1;
}

static void obey(struct ghost *g, struct chan_pkt *p)
{
	switch (p->m.type) {
	case CHAN_CLONE:
		code_share(g); /* it is the clone's, too */
		clone_child(g, p);
		g->parent = 1;
		break;
	case CHAN_ARRIVE:
		if (has_followed(g, p->m.move_id)) {
			arrive_in_place(g, p);
			set_handlers();
		} else {
			chan_close_fds(p, 0);
		}
		break;
	case CHAN_EXIT:
		die(g, p->m.u.status);
	case CHAN_KILL:
		send_signal(g, &p->m);
		break;
	case CHAN_REAP:
		tell_child(g, P_PID, p->m.u.pid, WEXITED);
		break;
	case CHAN_NAME:
		ghost_name(g, &p->m.u.name);
		break;
	case CHAN_PLACE:
		ghost_place(g->b, &p->m);
		break;
	case CHAN_HOLD:
		hold(g, &p->m);
		break;
	case CHAN_LIVE:
		if (p->nfd == 1)
			live_start(g->b, &g->live, p->fd[0]);
		break;
	case CHAN_BE_GHOST: /* told twice */
		chan_close_fds(p, 0);
		chan_tell(g->b, CHAN_GHOST, p->m.move_id);
		break;
	default:
		chan_close_fds(p, 0);
	}
}

static void read_channel(struct ghost *g)
{
	struct chan_pkt p;
	long r = chan_recv(g->b, &p, SYS_MSG_DONTWAIT);

	if (r > 0)
		obey(g, &p);
	/* Who is traced dies with bpinit. At home a clone that is nobody's, or bpinit's own child,
	 * is not traced before it has said that it is a ghost, and nobody else would end it. */
	else if (r == 0 && g->cloned && !g->reap)
		sys_kill((int)sys_getpid(), SIGKILL);
	else if (r == 0)
		g->deaf = 1;
}

/* Whatever comes, the kernel holds it against the user's rights: a ghost has more of its own. */
static void take_ahead(struct ghost *g)
{
	uint64_t had, none;

	if (cred_effective(0, &had) < 0) {
		live_drop(g->b, &g->live);
		return;
	}
	live_some(g->b, &g->live);
	cred_effective(had, &none);
}

_Noreturn void ghost_loop(struct ghost *g)
{
	struct sys_pollfd p[3 + 2 * CHAN_STREAMS + LAZY_POLL];
	char info[128];
	uint64_t chld = 1ul << (SIGCHLD - 1);
	int children_to_tell = 1;

	set_handlers();
	for (;;) {
		struct timespec t = {0};
		long timeout_ms = -1, r;
		int n;

		if (g->parent && g->sigfd < 0) {
			g->sigfd = (int)sys_signalfd(-1, &chld, O_CLOEXEC | O_NONBLOCK);
			children_to_tell = 1;
		}
		if (g->parent && g->hold != CHAN_HOLD_ALL && children_to_tell)
			tell_children(g);
		children_to_tell = 0;
		p[0] = (struct sys_pollfd){.fd = g->deaf ? -1 : g->b->chan, .events = POLLIN};
		p[1] = (struct sys_pollfd){.fd = g->hold == CHAN_HOLD_ALL ? -1 : g->sigfd,
					   .events = POLLIN};
		p[2] = (struct sys_pollfd){.fd = g->live.fd, .events = POLLIN};
		n = relay_poll_fill(g, 0, p + 3, &timeout_ms);
		lazy_poll(g->b, p + 3 + n);
		if (g->code_fd >= 0 && timeout_ms < 0)
			timeout_ms = CODE_SHARE_MS;
		t.tv_nsec = timeout_ms * 1000000;
		/* A stop by the tracer or a signal that it let pass gives EINTR: look again. */
		r = sys_ppoll(p, (unsigned)n + 3 + LAZY_POLL, timeout_ms < 0 ? NULL : &t, NULL);
		if (r < 0)
			continue;
		if (r == 0)
			code_share(g);
		if (p[1].revents)
			children_to_tell = sys_read(g->sigfd, info, sizeof info) > 0;
		relay_poll_done(g, 0, p + 3, n);
		lazy_polled(g, p + 3 + n);
		if (p[2].revents)
			take_ahead(g);
		if (p[0].revents)
			read_channel(g);
	}
}
