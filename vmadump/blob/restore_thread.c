/*
 * The threads but the first, from an image: each is cloned with the id it had, makes
 * itself what its record says, and waits in the blob until all of the process is in
 * place. Runs in the blob.
 */
#include "cpu.h"
#include "lib.h"
#include "restore.h"
#include "sys.h"
#include "thread.h"

#define SCHED_DEADLINE 6
#define IN_USE_TRIES 200 /* times 1 ms */
#define THREAD_FLAGS                                                                               \
	(CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM)

void rest_sched(const struct restore *r, uint32_t i)
{
	const struct rest_rec *rec = &r->rec[TAG_SCHED];
	const uint8_t *p = rec->p + i * (uint64_t)REC_SCHED_LEN;

	struct blob *b = r->b;
	struct blob_sched s;

	if ((uint64_t)i * REC_SCHED_LEN >= rec->len)
		return;
	memcpy(&s, p + 8, sizeof s);
	if (or_zero(sys_ioprio_get(0)) != get32(p + 4))
		sys_ioprio_set(0, (int)get32(p + 4));
	if (i == 0 && s.policy == SCHED_DEADLINE) /* only of who may run everywhere */
		b->cpus_len = 0;
	if (i == 0 && b->cpus_len) { /* where it may run is for the end */
		memcpy(b->cpus, s.cpus, sizeof b->cpus);
		memset(s.cpus, 0, sizeof s.cpus);
		sys_sched_getaffinity(0, sizeof s.cpus, s.cpus);
	}
	sched_set(&s);
}

static long fail(struct blob *b, long e, const char *what)
{
	int32_t none = 0;

	if (__atomic_compare_exchange_n(&b->thread_err, &none, (int32_t)-e, 0, __ATOMIC_ACQ_REL,
					__ATOMIC_RELAXED))
		blob_err_set(&b->err, (int)-e, "thread %ld: %s: %s", sys_gettid(), what,
			     errno_name(e));
	return e;
}

static uint32_t index_of(const struct blob *b, const struct blob_thread *t)
{
	return (uint32_t)(((uint64_t)t - b->threads) / b->thread_len);
}

void thread_become(struct blob *b, struct blob_thread *t)
{
	struct restore *r = (void *)b->restore;
	const struct rest_rec *nnp = &r->rec[TAG_NNP];
	const stack_t alt = {
		.ss_sp = (void *)t->alt_sp, .ss_flags = t->alt_flags, .ss_size = t->alt_size};
	long e;

	sys_prctl(PR_SET_NAME, (unsigned long)t->name, 0, 0, 0);
	sys_sigaltstack(&alt, NULL);
	sys_set_robust_list((void *)t->robust, t->robust_len);
	sys_set_tid_address((int *)t->tid_at);
	sys_arch_prctl(ARCH_SET_FS, t->regs.fs_base);
	sys_arch_prctl(ARCH_SET_GS, t->regs.gs_base);
	if (t->slack)
		sys_prctl(PR_SET_TIMERSLACK, t->slack, 0, 0, 0);
	rest_sched(r, index_of(b, t) + 1);
	if (get32(nnp->len ? nnp->p + 4ul * index_of(b, t) : r->rec[TAG_IDENT].p + 84))
		sys_prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	e = prctl_set(t->prctls);
	if (e < 0)
		fail(b, e, "what it has set by prctl");
	e = filters_own(b, t);
	if (e < 0)
		fail(b, e, "its seccomp filters");
	e = rest_caps(r, t->restored == THREAD_KEPT);
	if (e < 0)
		fail(b, e, "its capabilities");
	if (t->rseq_addr) {
		e = sys_rseq((void *)t->rseq_addr, t->rseq_len, 0, t->rseq_sig);
		if (e < 0)
			fail(b, e, "its restartable sequences");
	}
	e = rest_pending(r, t->tid, t->tid);
	if (e < 0)
		fail(b, e, "its pending signals");
}

static void fill(struct restore *r, struct blob_thread *t, uint32_t i)
{
	const uint8_t *p = r->rec[TAG_THREADS].p + i * (uint64_t)REC_THREAD_LEN;
	const struct rest_rec *xsave = &r->xsaves[i + 1], *prctls = &r->rec[TAG_PRCTL];

	*t = (struct blob_thread){
		.self = (uint64_t)t,
		.stack = (uint64_t)t + r->b->thread_len,
		.blob = r->b->self,
		.tid = (int32_t)get32(p),
		.restored = THREAD_CLONED,
		.prctls = prctls->len ? get32(prctls->p + 4 + 4ul * i) : 0,
		.sigmask = get64(p + 224),
		.alt_sp = get64(p + 232),
		.alt_flags = get64(p + 240),
		.alt_size = get64(p + 248),
		.robust = get64(p + 272),
		.robust_len = get64(p + 280),
		.tid_at = get64(p + 288),
		.rseq_addr = get64(p + 296),
		.rseq_len = get32(p + 304),
		.rseq_sig = get32(p + 308),
		.slack = get64(p + 312),
	};
	memcpy(&t->regs, p + 8, 27 * 8);
	memcpy(t->name, p + 256, 16);
	t->name[15] = 0;
	memcpy(t->xsave, xsave->p, xsave->len);
	memset(t->xsave + 512 + 8, 0, 56);
	t->xsave_size = xsave->len;
}

static long start(struct restore *r, struct blob_thread *t)
{
	const struct timespec nap = {.tv_nsec = 1000000};
	int tid = t->tid;
	struct clone_args a = {
		.flags = THREAD_FLAGS,
		.stack = (uint64_t)t + sizeof *t, /* it changes to t->stack at once */
		.stack_size = r->b->thread_len - sizeof *t,
		.set_tid = (uint64_t)&tid,
		.set_tid_size = 1,
	};
	long e;

	/* Of its last visit here: a thread that has ended keeps its number for a moment more. */
	for (int tries = 0; (e = blob_clone_thread(&a, sizeof a, t)) == -EEXIST; tries++)
		if (tries == IN_USE_TRIES || sys_nanosleep(&nap) < 0)
			break;
	if (e == -EEXIST)
		return blob_err_set(&r->b->err, EBUSY, "thread id %d is in use", t->tid);
	if (e < 0)
		return blob_err_set(&r->b->err, (int)-e, "a thread with the id %d: %s", t->tid,
				    errno_name(e));
	return 0;
}

/*
 * Those that a ghost has kept come last: when one cannot be made, the ghost has them still, and
 * its original can come home when that one has ended.
 */
static long start_all(struct restore *r)
{
	struct blob *b = r->b;
	uint32_t n = r->nthreads, i;
	long e = 0;

	for (i = 0; i < n; i++)
		fill(r, thread_at(b, i), i);
	b->nthreads = n;
	for (i = 0; i < n; i++) {
		struct blob_thread *t = thread_at(b, i);

		if (blob_has_kept(b, i, t->tid))
			t->restored = THREAD_KEPT;
		else if ((e = start(r, t)) < 0)
			break;
	}
	for (uint32_t k = 0; k < n; k++) {
		struct blob_thread *t = thread_at(b, k);

		if (k < i && t->restored == THREAD_CLONED)
			continue;
		if (e == 0 && !blob_wake_kept(b, k, t))
			e = rest_bad(r, "two threads with one id");
		if (e < 0)
			t->tid = 0; /* nobody's: its end is not waited for */
	}
	return e;
}

long rest_threads(struct restore *r)
{
	struct blob *b = r->b;
	uint32_t longest;
	long e;

	if (!r->nthreads) {
		blob_end_kept(b);
		return 0;
	}
	longest = cpu_area(&b->env);
	for (uint32_t i = 1; i <= r->nthreads; i++)
		longest = MAX(longest, r->xsaves[i].len);
	b->thread_len = (uint32_t)BLOB_THREAD_LEN(longest);
	b->threads = (uint64_t)arena_alloc(b, (uint64_t)b->thread_len * r->nthreads);
	if (!b->threads)
		return -ENOMEM;
	b->restore = (uint64_t)r;
	b->release = 0;
	b->parked = 0;
	b->thread_err = 0; /* of one that came here before, perhaps */
	e = start_all(r);
	if (e < 0)
		return e;
	blob_end_kept(b);
	blob_wait_parked(b, b->nthreads);
	return -(long)b->thread_err;
}
