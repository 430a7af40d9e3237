/*
 * A process that was put here from outside (vmadump/freeze.c): its threads come in
 * one by one, say what only they can say of themselves, and wait; the first one
 * dumps when it is told so. No order and no debugger keeps them here: when the far
 * end of the channel is gone, all go on where they were. Threads of an image that
 * is restored wait here as well, until the last of them is in place.
 */
#include "ghost.h"
#include "thread.h"

#define WAIT_ALL 0x40000000 /* __WALL */

void thread_wait(uint32_t *word, uint32_t was)
{
	/* No timeout: with one the kernel would note how to restart it, and forget what
	 * the thread's own call has left there. */
	sys_futex(word, FUTEX_WAIT, was, NULL);
}

void blob_wait_parked(struct blob *b, uint32_t n)
{
	uint32_t have;

	while ((have = __atomic_load_n(&b->parked, __ATOMIC_ACQUIRE)) < n)
		thread_wait(&b->parked, have);
}

void thread_release(struct blob *b, enum blob_release how)
{
	__atomic_store_n(&b->release, how, __ATOMIC_RELEASE);
	sys_futex(&b->release, FUTEX_WAKE, 0x7fffffff, NULL);
}

void blob_release(struct blob *b)
{
	thread_release(b, RELEASE_GO);
}

void sched_get(struct blob_sched *s)
{
	memset(s, 0, sizeof *s);
	sys_sched_getattr(0, s, offsetof(struct blob_sched, cpus));
	sys_sched_getaffinity(0, sizeof s->cpus, s->cpus);
}

void sched_set(const struct blob_sched *s)
{
	struct blob_sched have;

	sched_get(&have);
	/* As far as this process may and this machine has them: no result depends on it. */
	if (memcmp(have.cpus, s->cpus, sizeof s->cpus) != 0)
		sys_sched_setaffinity(0, sizeof s->cpus, s->cpus);
	if (memcmp(&have, s, offsetof(struct blob_sched, cpus)) != 0)
		sys_sched_setattr(0, s);
}

void sched_free(struct blob *b)
{
	if (b->cpus_len && sys_sched_setaffinity(0, b->cpus_len, b->cpus) < 0) {
		memset(b->cpus, 0xff, sizeof b->cpus);
		sys_sched_setaffinity(0, sizeof b->cpus, b->cpus);
	}
	b->cpus_len = 0;
}

/* What nobody but this thread can ask of itself. */
static void describe(struct blob_thread *t)
{
	stack_t alt = {0};
	struct __user_cap_header_struct head = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct cap[2] = {0};

	sys_sigaltstack(NULL, &alt);
	t->alt_sp = (uint64_t)alt.ss_sp;
	t->alt_flags = alt.ss_flags & ~1u; /* SS_ONSTACK says where it runs now, no more */
	t->alt_size = alt.ss_size;
	sys_get_robust_list(0, (void **)&t->robust, &t->robust_len);
	sys_prctl(PR_GET_TID_ADDRESS, (unsigned long)&t->tid_at, 0, 0, 0);
	sys_prctl(PR_GET_NAME, (unsigned long)t->name, 0, 0, 0);
	t->slack = or_zero(sys_prctl(PR_GET_TIMERSLACK, 0, 0, 0, 0));
	t->seccomp = (uint32_t)sys_prctl(PR_GET_SECCOMP, 0, 0, 0, 0);
	t->nnp = (uint32_t)sys_prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0);
	t->prctls = prctl_get();
	sched_get(&t->sched);
	sys_getresuid(&t->uid[0], &t->uid[1], &t->uid[2]);
	sys_getresgid(&t->gid[0], &t->gid[1], &t->gid[2]);
	if (sys_capget(&head, cap) == 0) {
		t->caps[0] = cap[0].permitted | (uint64_t)cap[1].permitted << 32;
		t->caps[1] = cap[0].effective | (uint64_t)cap[1].effective << 32;
	}
}

void blob_thread_main(struct blob_thread *t)
{
	struct blob *b = (void *)t->blob;

	if (t->restored == THREAD_BACK)
		thread_kept_again(t);
	if (t->restored)
		thread_become(b, t);
	else
		describe(t);
	__atomic_add_fetch(&b->parked, 1, __ATOMIC_RELEASE);
	sys_futex(&b->parked, FUTEX_WAKE, 1, NULL);
	while (!__atomic_load_n(&b->release, __ATOMIC_ACQUIRE))
		thread_wait(&b->release, RELEASE_NOT);
	if (b->release == RELEASE_GO)
		blob_thread_resume(t);
	if (b->release == RELEASE_BACK && t->restored == THREAD_KEPT)
		thread_back(b, t);
	thread_stay(b, t, b->release != RELEASE_STAY);
}

/* One of a tree is lent what others have open, under the numbers that the order names. */
static void lend(struct blob *b, struct chan_pkt *p)
{
	int fd = p->m.u.status;

	if (p->nfd != 1)
		return;
	if (p->fd[0] == fd)
		p->nfd = 0; /* it has come under that number: it stays */
	else if (sys_fcntl(fd, F_GETFD, 0) >= 0 || sys_dup3(p->fd[0], fd, O_CLOEXEC) < 0)
		return; /* it will be missed */
	b->lent_lo = b->lent_lo ? b->lent_lo : fd;
	b->lent_hi = fd;
}

void park_give_back(struct blob *b)
{
	if (b->lent_lo)
		sys_close_range((unsigned)b->lent_lo, (unsigned)b->lent_hi, 0);
	b->lent_lo = 0;
}

static void dump_to(struct blob *b, struct blob_dump *opt)
{
	struct chan_msg m = {.type = CHAN_DUMPED};
	long r;

	opt->flags |= b->dump_flags;
	opt->goes_on = 1;
	opt->objects = 1;
	r = opt->only_look ? blob_dump_prepare(b, opt) : blob_dump(b, opt);
	/* With the answer we may be taken out, wherever we are: nothing may be left to do. */
	blob_thaw(b);
	sys_close(opt->fd);
	if (opt->has_order)
		sys_close(opt->order);
	if (!opt->only_look)
		park_give_back(b);
	m.u.bytes = opt->bytes;
	if (r < 0)
		chan_fail(b, CHAN_NO_MOVE);
	else
		chan_send(b, &m);
}

static void dump(struct blob *b, const struct chan_pkt *p)
{
	struct blob_dump opt = {
		.fd = p->fd[0],
		.only_look = !!(p->m.flags & CHAN_DUMP_LOOK),
		.has_order = p->fd[1] >= 0,
		.order = p->fd[1],
	};

	if (p->m.flags & CHAN_DUMP_LEAVES) { /* from home, mostly */
		opt.leaves = opt.streams = 1;
		opt.flags = p->m.u.leave.flags & ~(uint32_t)DUMP_EXEC;
	}
	dump_to(b, &opt);
}

static void tell_refused(struct blob *b)
{
	struct chan_msg m = {.type = CHAN_REFUSED};

	str_copy(m.u.text, sizeof m.u.text, b->err.text);
	chan_send(b, &m);
}

/* What would it be if it was to leave? */
static void look(struct blob *b, const struct chan_pkt *p)
{
	struct blob_dump opt = {
		.fd = p->fd[0],
		.leaves = 1,
		.refused = tell_refused,
		.only_look = !!(p->m.flags & CHAN_LOOK_REST),
		.rest = !!(p->m.flags & CHAN_LOOK_REST),
		.has_order = p->fd[1] >= 0,
		.order = p->fd[1],
	};

	blob_dump_from(&opt, p->m.u.leave.flags);
	dump_to(b, &opt);
}

long blob_park(struct blob *b)
{
	struct chan_pkt p;

	if (b->far >= 0)
		sys_close(b->far);
	b->far = -1;
	sched_free(b);
	blob_wait_parked(b, b->nthreads);
	while (chan_recv(b, &p, 0) > 0 && p.m.type != CHAN_RESUME) {
		if (p.m.type == CHAN_DUMP && (p.nfd >= 1 || p.m.flags & CHAN_DUMP_LOOK)) {
			dump(b, &p);
			continue;
		}
		if (p.m.type == CHAN_LOOK && p.nfd >= 1) {
			look(b, &p);
			continue;
		}
		if (p.m.type == CHAN_PRECOPY && p.nfd == 1) {
			park_precopy(b, &p);
			continue;
		}
		if (p.m.type == CHAN_LEAVE && p.nfd >= 1) {
			park_leave(b, &p);
			continue;
		}
		if (p.m.type == CHAN_REAP) {
			sys_wait4(p.m.u.pid, NULL, WAIT_ALL, NULL);
			chan_tell(b, CHAN_CHILD, CHAN_NO_MOVE);
		}
		if (p.m.type == CHAN_LEND)
			lend(b, &p);
		chan_close_fds(&p, 0);
	}
	park_give_back(b);
	sys_close(b->chan);
	b->chan = -1;
	return 0; /* to blob_resume(), which lets its threads go */
}
