/*
 * The threads but the first, in a dump: they are parked (park.c) and have said what
 * they are. Their registers go into notes as in any core file, the rest into records.
 * Runs in the blob.
 */
#include "cpu.h"
#include "dump.h"
#include "lib.h"
#include "refuse.h"
#include "sys.h"
#include "thread.h"

#define KCMP_FILES 2
#define KCMP_FS 3

/* One table of files, one directory, one user: an image has one of each. */
static long check(struct dump *d, const struct blob_thread *t)
{
	const struct dump_status *s = &d->status;

	if (sys_kcmp(d->pid, t->tid, KCMP_FILES, 0, 0) > 0 ||
	    sys_kcmp(d->pid, t->tid, KCMP_FS, 0, 0) > 0)
		return refuse(d->b, REFUSE_UNSHARED, t->tid);
	/* Else whoever has put us here knows of each; or whoever is asked for leave looks. */
	if (!d->b->seccomp_len && t->seccomp != (uint32_t)sys_prctl(PR_GET_SECCOMP, 0, 0, 0, 0)) {
		if (!d->opt->leaves || t->seccomp == 1 /* SECCOMP_MODE_STRICT */)
			return refuse(d->b, REFUSE_SECCOMP_THREAD, t->tid);
		d->b->differ = 1;
	}
	/* What arrives has it of the first from the start, and whatever that makes. */
	if (d->opt->leaves && s->no_new_privs && !t->nnp)
		return refuse(d->b, REFUSE_NNP, t->tid);
	d->nnp |= t->nnp != s->no_new_privs;
	if (memcmp(t->uid, s->uid, sizeof t->uid) != 0 ||
	    memcmp(t->gid, s->gid, sizeof t->gid) != 0 || t->caps[0] != s->cap[1] ||
	    t->caps[1] != s->cap[2])
		return refuse(d->b, REFUSE_CREDS, t->tid);
	return 0;
}

long dump_threads(struct dump *d)
{
	struct blob *b = d->b;
	long r = 0;

	b->differ = 0;
	for (uint32_t i = 0; r == 0 && i < b->nthreads; i++) {
		struct blob_thread *t = thread_at(b, i);

		d->xstate_bv |= cpu_xsave_trim(&b->env, t->xsave, &t->xsave_size);
		if (t->rseq_addr)
			d->abilities |= NEED_RSEQ;
		r = check(d, t);
	}
	return r;
}

uint64_t thread_notes_max(const struct dump *d)
{
	uint64_t n = 0;

	for (uint32_t i = 0; i < d->b->nthreads; i++)
		n += note_len(5, PRSTATUS_LEN) + note_len(5, FPREGS_LEN) +
		     note_len(6, thread_at(d->b, i)->xsave_size);
	return n;
}

uint8_t *thread_notes(struct dump *d, uint8_t *p)
{
	for (uint32_t i = 0; i < d->b->nthreads; i++) {
		const struct blob_thread *t = thread_at(d->b, i);

		p = note_prstatus(d, p, t->tid, t->sigmask, &t->regs);
		p = note_fpu(d, p, t->xsave, t->xsave_size);
	}
	return p;
}

uint64_t thread_recs_max(const struct dump *d)
{
	return (d->b->nthreads + 1ul) * (REC_THREAD_LEN + REC_SCHED_LEN + 8 + 4);
}

static void put_thread(uint8_t *p, const struct blob_thread *t)
{
	memset(p, 0, REC_THREAD_LEN);
	put32(p, (uint32_t)t->tid);
	memcpy(p + 8, &t->regs, 27 * 8);
	put64(p + 224, t->sigmask);
	put64(p + 232, t->alt_sp);
	put64(p + 240, t->alt_flags);
	put64(p + 248, t->alt_size);
	memcpy(p + 256, t->name, 16);
	put64(p + 272, t->robust);
	put64(p + 280, t->robust_len);
	put64(p + 288, t->tid_at);
	put64(p + 296, t->rseq_addr);
	put32(p + 304, t->rseq_len);
	put32(p + 308, t->rseq_sig);
	put64(p + 312, t->slack);
}

/* all: what a thread has that may run everywhere here; it may do so elsewhere. NULL: as it is. */
static void put_sched(uint8_t *p, int32_t tid, const struct blob_sched *s, const uint8_t *all)
{
	memset(p, 0, REC_SCHED_LEN);
	put32(p, (uint32_t)tid);
	put32(p + 4, (uint32_t)or_zero(sys_ioprio_get(tid)));
	memcpy(p + 8, s, sizeof *s);
	if (all && memcmp(s->cpus, all, sizeof s->cpus) == 0)
		memset(p + 8 + offsetof(struct blob_sched, cpus), 0xff, sizeof s->cpus);
}

/* The CPUs that there are for this process: the kernel cuts what it is asked for to them. */
static void all_cpus(const struct blob_sched *first, uint8_t all[sizeof first->cpus])
{
	uint8_t any[sizeof first->cpus];

	memcpy(all, first->cpus, sizeof any);
	memset(any, 0xff, sizeof any);
	if (sys_sched_setaffinity(0, sizeof any, any) < 0)
		return;
	memset(all, 0, sizeof any);
	sys_sched_getaffinity(0, sizeof any, all);
	sys_sched_setaffinity(0, sizeof any, first->cpus);
}

uint8_t *thread_recs(struct dump *d, uint8_t *rec)
{
	const struct blob *b = d->b;
	struct blob_sched first;
	uint8_t all[sizeof first.cpus], *p = rec + IMAGE_REC_HEAD;

	if (!d->opt->objects) /* of a child that is forked: as its parent's clone here */
		return rec;
	if (b->nthreads) {
		for (uint32_t i = 0; i < b->nthreads; i++, p += REC_THREAD_LEN)
			put_thread(p, thread_at(b, i));
		rec = rec_end(rec, TAG_THREADS, b->nthreads * (uint64_t)REC_THREAD_LEN);
		p = rec + IMAGE_REC_HEAD;
		for (uint32_t i = 0; d->nnp && i < b->nthreads; i++, p += 4)
			put32(p, thread_at(b, i)->nnp);
		if (d->nnp)
			rec = rec_end(rec, TAG_NNP, b->nthreads * 4ul);
		p = rec + IMAGE_REC_HEAD;
	}
	sched_get(&first);
	if (d->opt->leaves)
		all_cpus(&first, all);
	put_sched(p, d->tid, &first, d->opt->leaves ? all : NULL);
	for (uint32_t i = 0; i < b->nthreads; i++)
		put_sched(p += REC_SCHED_LEN, thread_at(b, i)->tid, &thread_at(b, i)->sched,
			  d->opt->leaves ? all : NULL);
	return rec_end(rec, TAG_SCHED, (b->nthreads + 1) * (uint64_t)REC_SCHED_LEN);
}
