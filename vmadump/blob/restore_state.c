/*
 * All that is neither memory nor descriptors: what /proc shows of it, handlers,
 * timers, limits, identity, registers. Runs in the blob, when the memory of the
 * image is in place, with every signal blocked.
 */
#include "ghost.h"
#include "lib.h"
#include "proc.h"
#include "restore.h"
#include "sys.h"
#include "thread.h"

#define TIMER_RESTORE_IDS 77 /* PR_TIMER_CREATE_RESTORE_IDS, Linux 6.15 */
#define SIGEV_LEN 64u
#define KEEP_CAPS 0x10u /* of securebits: for one exec or change of user only */

long rest_mm(struct restore *r)
{
	const uint8_t *m = r->rec[TAG_MM].p;
	struct prctl_mm_map map = {
		.start_code = get64(m),
		.end_code = get64(m + 8),
		.start_data = get64(m + 16),
		.end_data = get64(m + 24),
		.start_brk = get64(m + 32),
		.brk = get64(m + 40),
		.start_stack = get64(m + 48),
		.arg_start = get64(m + 56),
		.arg_end = get64(m + 64),
		.env_start = get64(m + 72),
		.env_end = get64(m + 80),
		.auxv = (void *)r->auxv,
		.auxv_size = r->auxv_len,
		.exe_fd = (uint32_t)-1,
	};
	long e = -1;

	/* /proc/PID/exe can only be set with CAP_CHECKPOINT_RESTORE. */
	for (uint32_t i = 0; i < r->nfiles && e < 0; i++) {
		if (!(r->files[i].flags & FILE_EXE) || r->files[i].fd < 0)
			continue;
		map.exe_fd = (uint32_t)r->files[i].fd;
		e = sys_prctl(PR_SET_MM, PR_SET_MM_MAP, (unsigned long)&map, sizeof map, 0);
	}
	map.exe_fd = (uint32_t)-1;
	if (e < 0)
		e = sys_prctl(PR_SET_MM, PR_SET_MM_MAP, (unsigned long)&map, sizeof map, 0);
	if (e < 0)
		return blob_err_set(&r->b->err, (int)-e, "its heap and arguments: %s",
				    errno_name(e));
	rest_more_mm(r);
	return 0;
}

static int same_ids(const uint8_t *p)
{
	unsigned id[3];

	sys_getresuid(&id[0], &id[1], &id[2]);
	for (int i = 0; i < 3; i++)
		if (id[i] != get32(p + 8 + 4 * i))
			return 0;
	sys_getresgid(&id[0], &id[1], &id[2]);
	for (int i = 0; i < 3; i++)
		if (id[i] != get32(p + 24 + 4 * i))
			return 0;
	return 1;
}

/* What is permitted and inheritable by now can be in it. */
static void ambient_take(uint64_t want)
{
	if (!want) {
		sys_prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
		return;
	}
	for (unsigned long c = 0; c < 64; c++) {
		long have = sys_prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, c, 0, 0);

		if (have < 0) /* there are no more */
			return;
		if (have != (long)(want >> c & 1))
			sys_prctl(PR_CAP_AMBIENT,
				  have ? PR_CAP_AMBIENT_LOWER : PR_CAP_AMBIENT_RAISE, c, 0, 0);
	}
}

static void caps_take(const uint8_t *p)
{
	struct __user_cap_header_struct head = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct have[2] = {0}, want[2] = {0};
	int excess = 0;

	if (sys_capget(&head, have) < 0)
		return;
	for (int i = 0; i < 2; i++) {
		want[i].inheritable = (uint32_t)(get64(p + 40) >> (32 * i)) & have[i].permitted;
		want[i].permitted = (uint32_t)(get64(p + 48) >> (32 * i)) & have[i].permitted;
		want[i].effective = (uint32_t)(get64(p + 56) >> (32 * i)) & have[i].permitted;
		excess |= want[i].permitted != have[i].permitted ||
			  want[i].effective != have[i].effective ||
			  want[i].inheritable != have[i].inheritable;
	}
	if (excess)
		sys_capset(&head, want);
	ambient_take(get64(p + 72));
}

/* A program that it execs could get what is in there: not one may be in it that was not. */
static long drop_bounding(struct restore *r)
{
	uint64_t want = get64(r->rec[TAG_IDENT].p + 64);

	for (unsigned long c = 0; c < 64; c++) {
		long e = want >> c & 1 ? 0 : sys_prctl(PR_CAPBSET_READ, c, 0, 0, 0);

		if (e < 0) /* there are no more */
			break;
		if (e > 0 && (e = sys_prctl(PR_CAPBSET_DROP, c, 0, 0, 0)) < 0)
			return blob_err_set(&r->b->err, (int)-e,
					    "its capability bounding set lacks %lu: %s", c,
					    errno_name(e));
	}
	return 0;
}

/*
 * They say what a change of user and an exec do to capabilities: first of all, while that may be
 * said. An arrival has what bpinit gave it, and no more: with CAP_SETPCAP it may set its own, and
 * without it an image that says so, which is its user's to write, is not believed.
 */
static long set_securebits(struct restore *r)
{
	uint32_t want = get32(r->rec[TAG_IDENT].p + 80) & ~KEEP_CAPS;
	long have = sys_prctl(PR_GET_SECUREBITS, 0, 0, 0, 0), e;

	if (have < 0 || ((uint32_t)have & ~KEEP_CAPS) == want)
		return 0;
	e = sys_prctl(PR_SET_SECUREBITS, want, 0, 0, 0);
	return e < 0 ? blob_err_set(&r->b->err, (int)-e, "its securebits are %x: %s", want,
				    errno_name(e))
		     : 0;
}

/*
 * All threads are there: what it takes to make them goes. Each thread has its own; one that its
 * ghost has kept has those that it had when it left.
 */
long rest_caps(struct restore *r, int kept)
{
	long e = 0;

	if (r->opt->cred)
		e = (kept ? cred_arrival : cred_finish)(r->b, r->opt->cred);
	else
		caps_take(r->rec[TAG_IDENT].p);
	return e < 0 ? e : set_securebits(r);
}

/* After a change of user all that it may is permitted still, and nothing is effective. */
static void caps_for_clone(int changed)
{
	struct __user_cap_header_struct head = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct cap[2] = {0};

	if (!changed || sys_capget(&head, cap) < 0)
		return;
	for (int i = 0; i < 2; i++)
		cap[i].effective = cap[i].permitted;
	sys_capset(&head, cap);
	sys_prctl(PR_SET_KEEPCAPS, 0, 0, 0, 0);
}

/* Takes the image's identity; with the same user and groups there is nothing to do. */
long rest_creds(struct restore *r)
{
	const uint8_t *p = r->rec[TAG_IDENT].p;
	uint32_t n = get32(p + 88);
	int keep = !same_ids(p) && r->nthreads;
	long e = drop_bounding(r);

	if (e == 0)
		e = set_securebits(r);
	if (e < 0)
		return e;
	if (keep)
		sys_prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0);
	if (!same_ids(p)) {
		e = sys_setgroups((int)n, (const unsigned *)(p + REC_IDENT_FIXED));
		if (e >= 0)
			e = sys_setresgid(get32(p + 24), get32(p + 28), get32(p + 32));
		if (e >= 0)
			e = sys_setresuid(get32(p + 8), get32(p + 12), get32(p + 16));
		if (e < 0)
			return blob_err_set(
				&r->b->err, EPERM,
				"the image is of user %u, group %u; this process may not "
				"become that",
				get32(p + 12), get32(p + 28));
		sys_setfsuid(get32(p + 20));
		sys_setfsgid(get32(p + 36));
	}
	/* A thread with a wanted id takes a capability; rest_state() drops them then. */
	if (r->nthreads)
		caps_for_clone(keep);
	else
		caps_take(p);
	return 0;
}

/* A timer with the id that the program knows it by. */
static long make_timer(struct restore *r, const uint8_t *p, int by_id)
{
	uint8_t ev[SIGEV_LEN] = {0};
	int want = (int)get32(p), id = want;
	long e;

	put64(ev, get64(p + 16));
	put32(ev + 8, get32(p + 12));
	put32(ev + 12, get32(p + 8));
	if (get32(p + 8) & SIGEV_THREAD_ID)
		put32(ev + 16, r->nthreads ? get32(p + 24) : (uint32_t)sys_gettid());
	e = sys_timer_create((int)get32(p + 4), ev, &id);
	/* Before 6.15 ids only go up, one by one. */
	for (int i = 0; e == 0 && !by_id && id < want && i < (int)IMAGE_TIMERS_MAX; i++) {
		sys_timer_delete(id);
		e = sys_timer_create((int)get32(p + 4), ev, &id);
	}
	if (e < 0 || id != want)
		return blob_err_set(&r->b->err, e < 0 ? (int)-e : EBUSY, "timer %d: %s", want,
				    errno_name(e < 0 ? e : EBUSY));
	return 0;
}

static long make_timers(struct restore *r)
{
	const struct rest_rec *rec = &r->rec[TAG_TIMERS];
	int by_id;
	long e = 0;

	if (!rec->len)
		return 0;
	by_id = sys_prctl(TIMER_RESTORE_IDS, 1, 0, 0, 0) == 0;
	for (const uint8_t *p = rec->p; e == 0 && p < rec->p + rec->len; p += REC_TIMER_LEN)
		e = make_timer(r, p, by_id);
	if (by_id)
		sys_prctl(TIMER_RESTORE_IDS, 0, 0, 0, 0);
	return e;
}

/* Last of all, so that no time is lost on what takes long. */
static void start_timers(struct restore *r)
{
	const struct rest_rec *rec = &r->rec[TAG_TIMERS];
	const uint8_t *it = r->rec[TAG_ITIMERS].p;

	for (int i = 0; i < 3; i++, it += 32) {
		struct sys_itimerval v = {(long)get64(it), (long)get64(it + 8),
					  (long)get64(it + 16), (long)get64(it + 24)};

		if (v.value_s || v.value_us)
			sys_setitimer(i, &v, NULL);
	}
	for (const uint8_t *p = rec->p; p < rec->p + rec->len; p += REC_TIMER_LEN) {
		struct sys_itimerspec v = {(long)get64(p + 32), (long)get64(p + 40),
					   (long)get64(p + 48), (long)get64(p + 56)};

		if (v.value_s || v.value_ns)
			sys_timer_settime((int)get32(p), 0, &v, NULL);
	}
}

/* As far as this process may: the hard limit goes down, but up only with CAP_SYS_RESOURCE. */
static void set_limits(struct restore *r)
{
	const struct chan_cred *c = r->opt->taken;
	const uint8_t *p = r->rec[TAG_RLIMITS].p;

	for (int i = 0; i < 16; i++, p += 16) {
		struct sys_rlimit want = {get64(p), get64(p + 8)}, have = {0};

		if (c && c->rlim[i][0] == want.cur && c->rlim[i][1] == want.max)
			continue;
		if (sys_prlimit(0, i, NULL, &have) < 0 ||
		    (have.cur == want.cur && have.max == want.max))
			continue;
		if (sys_prlimit(0, i, &want, NULL) < 0) {
			want.max = MIN(want.max, have.max);
			want.cur = MIN(want.cur, want.max);
			sys_prlimit(0, i, &want, NULL);
		}
	}
}

static void set_oom(const struct blob_restore *opt, int32_t want)
{
	char text[16];
	int32_t have = opt->oom;
	long fd, n;

	if ((!opt->oom_known && !oom_score(&have)) || have == want)
		return;
	fd = sys_open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC, 0);
	if (fd < 0)
		return;
	n = (long)str_format(text, sizeof text, "%d", want);
	sys_write((int)fd, text, (size_t)n);
	sys_close((int)fd);
}

static long set_proc(struct restore *r)
{
	const uint8_t *p = r->rec[TAG_PROC].p, *ident = r->rec[TAG_IDENT].p;
	int *tid_at = (int *)get64(p + 56);
	int tid = (int)sys_gettid(), was = (int)get32(ident + 4);
	struct iovec to, from;
	long e;

	sys_prctl(PR_SET_NAME, (unsigned long)p, 0, 0, 0);
	sys_umask((int)get32(p + 16));
	if ((uint32_t)sys_personality(0xffffffff) != get32(p + 20))
		sys_personality(get32(p + 20));
	sys_setpriority(0 /* PRIO_PROCESS */, 0, (int)get32(p + 24));
	set_oom(r->opt, (int32_t)get32(p + 36));
	sys_set_robust_list((void *)get64(p + 40), get64(p + 48));
	sys_set_tid_address(tid_at);
	/* libc keeps its thread's id where the kernel is to clear it; under another pid it is
	 * stale. */
	if (tid_at && tid != was) {
		int there = 0;

		to = (struct iovec){&there, sizeof there};
		from = (struct iovec){tid_at, sizeof there};
		if (sys_process_vm_readv((int)sys_getpid(), &to, &from) == sizeof there &&
		    there == was)
			*tid_at = tid;
	}
	if (get64(p + 64)) {
		e = sys_rseq((void *)get64(p + 64), get32(p + 72), 0, get32(p + 76));
		if (e < 0)
			return blob_err_set(&r->b->err, (int)-e, "its restartable sequences: %s",
					    errno_name(e));
	}
	sys_prctl(PR_SET_CHILD_SUBREAPER, get32(p + 112) & PROC_SUBREAPER, 0, 0, 0);
	sys_prctl(PR_SET_PDEATHSIG, get32(p + 32), 0, 0, 0);
	if ((uint64_t)sys_prctl(PR_GET_TIMERSLACK, 0, 0, 0, 0) != get64(p + 80))
		sys_prctl(PR_SET_TIMERSLACK, get64(p + 80), 0, 0, 0);
	if (get32(p + 88) & 1) /* 2: but where it is advised, Linux 6.18 */
		sys_prctl(PR_SET_THP_DISABLE, 1, get32(p + 88) & 2, 0, 0);
	if (get32(ident + 84))
		sys_prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	e = prctl_set(r->rec[TAG_PRCTL].len ? get32(r->rec[TAG_PRCTL].p) : 0);
	if (e < 0)
		return blob_err_set(&r->b->err, (int)-e, "what it has set by prctl: %s",
				    errno_name(e));
	/* 2 (only root may read) cannot be asked for; 0 is the safe side of it. */
	sys_prctl(PR_SET_DUMPABLE, get32(p + 28) == 1, 0, 0, 0);
	return 0;
}

/* b->regs, b->xsave and b->sigmask for blob_resume(). */
static void take_registers(struct restore *r)
{
	struct blob *b = r->b;
	const uint8_t *p = r->rec[TAG_REGS].p;
	const stack_t alt = {.ss_sp = (void *)get64(p + 232),
			     .ss_flags = get32(p + 240),
			     .ss_size = get64(p + 248)};

	memcpy(&b->regs, p, 27 * 8);
	b->sigmask = get64(p + 216);
	/* It called us: what it gets back, and where the blob is that it called. */
	if (get32(p + 224)) {
		b->regs.ax = 1;
		b->regs.dx = b->base;
	}
	b->regs_given = 0;
	memcpy(b->xsave, r->xsave, r->xsave_len);
	memset(b->xsave + 512 + 8, 0, 56);
	b->xsave_size = r->xsave_len;
	sys_sigaltstack(&alt, NULL);
	sys_arch_prctl(ARCH_SET_FS, b->regs.fs_base);
	sys_arch_prctl(ARCH_SET_GS, b->regs.gs_base);
	b->rseq_addr = get64(r->rec[TAG_PROC].p + 64);
	b->rseq_len = get32(r->rec[TAG_PROC].p + 72);
	b->rseq_sig = get32(r->rec[TAG_PROC].p + 76);
}

/*
 * A leader of its session or group is that again. One with a terminal, though, stays
 * in the session of whoever restores it: the terminal is that session's.
 */
static void set_session(struct restore *r)
{
	const uint8_t *p = r->rec[TAG_PROC].p;
	uint32_t was = get32(r->rec[TAG_IDENT].p);
	uint8_t termios[64];
	int tty = 0;

	r->b->stopped = get32(p + 108);
	if (r->nplan || r->first)
		return; /* it has its place already */
	for (uint32_t i = 0; i < r->nfds; i++)
		if (r->fds[i].kind == FD_STREAM && sys_ioctl(r->fds[i].fd, TCGETS, termios) == 0)
			tty = 1;
	if (get32(p + 104) == was && !tty)
		sys_setsid();
	else if (get32(p + 100) == was)
		sys_setpgid(0, 0);
}

long rest_state(struct restore *r)
{
	long e;

	take_registers(r);
	if ((e = rest_signals(r)) < 0 || (e = rest_threads(r)) < 0 || (e = make_timers(r)) < 0 ||
	    (e = set_proc(r)) < 0)
		return e;
	rest_sched(r, 0);
	set_limits(r);
	if ((e = rest_more(r)) < 0)
		return e;
	if (r->opt->alone)
		set_session(r);
	/* A ghost has its right to make threads until it is none any more. */
	e = (r->opt->cred ? !r->opt->in_place : r->nthreads) ? rest_caps(r, 0) : set_securebits(r);
	if (e < 0)
		return e;
	/* One of a tree waits for all others with that. */
	return r->nplan || r->first ? 0 : rest_late(r);
}

long rest_late(struct restore *r)
{
	int was = (int)get32(r->rec[TAG_IDENT].p + 4), tid = (int)sys_gettid();
	long e;

	r->queued = 1;
	if ((e = rest_pending(r, 0, 0)) < 0 || (e = rest_pending(r, was, tid)) < 0)
		return e;
	start_timers(r);
	return 0;
}
