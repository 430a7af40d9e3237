/*
 * The STATE note: all that no note of the kernel's holds, as tagged records
 * (doc/image.md 4). Runs in the blob; asks the kernel where it was not asked yet.
 */
#include "dump.h"
#include "lib.h"
#include "object.h"
#include "proc.h"
#include "sys.h"
#include "thread.h"
#include "tree.h"

#define SIGINFO_LEN 128u

/* TAG_STRINGS as it fills up: offset 0 is "". */
struct strings {
	uint8_t *base;
	uint32_t used;
};

static uint32_t add_string(struct strings *s, const char *str)
{
	uint32_t at = s->used;
	size_t n = str_len(str);

	if (!n)
		return 0;
	memcpy(s->base + at, str, n + 1);
	s->used += (uint32_t)n + 1;
	return at;
}

static uint64_t strings_max(const struct dump *d)
{
	uint64_t n = 1 + str_len(d->exe) + 1;

	for (const struct dump_file *f = d->files; f; f = f->next)
		n += str_len(f->path) + 1;
	for (const struct dump_vma *v = d->vmas; v; v = v->next)
		n += str_len(v->name) + 1;
	for (const struct dump_fd *f = d->fds; f; f = f->next)
		n += str_len(f->path) + 1;
	return n;
}

uint64_t dump_state_max(const struct dump *d)
{
	const struct blob_frozen *z = &d->b->frozen;

	return REC_REGS_LEN + SYS_NSIG * REC_SIGNAL_LEN +
	       (z->npending + d->b->npending) * (uint64_t)REC_PENDING_LEN + REC_ITIMERS_LEN +
	       z->ntimers * (uint64_t)REC_TIMER_LEN + REC_MM_LEN + REC_IDENT_FIXED +
	       d->status.ngroups * 4ul + REC_PROC_LEN + IMAGE_PATH_MAX + REC_RLIMITS_LEN +
	       strings_max(d) + d->nfiles * (uint64_t)REC_FILE_LEN +
	       d->nvmas * (uint64_t)REC_VMA_LEN + d->nfds * (uint64_t)REC_FD_LEN +
	       thread_recs_max(d) + objects_max(d) + locks_max(d) + tree_recs_max(d) +
	       live_rec_max(d) + more_recs_max(d) + d->b->seccomp_len + d->b->root_len +
	       IMAGE_CGROUP_MAX + 34 * (IMAGE_REC_HEAD + 8);
}

/* A record is begun, filled behind its head, and ended when its length is known. */
uint8_t *rec_end(uint8_t *rec, uint16_t tag, uint64_t len)
{
	uint8_t *end = rec + IMAGE_REC_HEAD + ROUND_UP(len, 8);

	put16(rec, tag);
	put16(rec + 2, IMAGE_REC_REFUSE);
	put32(rec + 4, (uint32_t)len);
	memset(rec + IMAGE_REC_HEAD + len, 0, (uint64_t)(end - (rec + IMAGE_REC_HEAD + len)));
	return end;
}

static uint8_t *rec_regs(struct dump *d, uint8_t *rec)
{
	const struct blob *b = d->b;
	stack_t alt = {0};
	uint8_t *p = rec + IMAGE_REC_HEAD;

	memcpy(p, &b->regs, 27 * 8);
	put64(p + 216, b->sigmask);
	put32(p + 224, !b->regs_given);
	put32(p + 228, 0);
	sys_sigaltstack(NULL, &alt);
	put64(p + 232, (uint64_t)alt.ss_sp);
	put64(p + 240, alt.ss_flags & ~1u); /* SS_ONSTACK says where it runs now, no more */
	put64(p + 248, alt.ss_size);
	return rec_end(rec, TAG_REGS, REC_REGS_LEN);
}

/* Only those that are not as after exec. */
static uint8_t *rec_signals(struct dump *d, uint8_t *rec)
{
	uint64_t set = d->status.sig_ignored | d->status.sig_caught;
	uint8_t *p = rec + IMAGE_REC_HEAD;

	for (int sig = 1; sig <= SYS_NSIG; sig++) {
		struct sigaction act;

		if (!(set >> (sig - 1) & 1) || sys_sigaction(sig, NULL, &act) < 0)
			continue;
		put32(p, (uint32_t)sig);
		put32(p + 4, 0);
		put64(p + 8, (uint64_t)act.sa_handler);
		put64(p + 16, act.sa_flags);
		put64(p + 24, (uint64_t)act.sa_restorer);
		memcpy(p + 32, &act.sa_mask, 8);
		p += REC_SIGNAL_LEN;
	}
	return rec_end(rec, TAG_SIGNALS, (uint64_t)(p - rec - IMAGE_REC_HEAD));
}

static uint8_t *rec_pending(struct dump *d, uint8_t *rec)
{
	const struct blob_frozen *z = &d->b->frozen;
	uint64_t given = (uint64_t)d->b->npending * REC_PENDING_LEN;
	uint64_t held = (uint64_t)z->npending * REC_PENDING_LEN;
	uint8_t *p = rec + IMAGE_REC_HEAD;

	memcpy(p, (void *)d->b->pending, given);
	memcpy(p + given, (void *)z->pending, held);
	return rec_end(rec, TAG_PENDING, given + held);
}

static uint8_t *rec_timers(struct dump *d, uint8_t *rec)
{
	const struct blob_frozen *z = &d->b->frozen;
	const struct image_timer *t = (void *)z->timers;
	uint8_t *p = rec + IMAGE_REC_HEAD;

	for (uint32_t i = 0; i < 12; i++)
		put64(p + 8 * i, z->itimer[i / 4][i % 4]);
	rec = rec_end(rec, TAG_ITIMERS, REC_ITIMERS_LEN);
	p = rec + IMAGE_REC_HEAD;
	for (uint32_t i = 0; i < z->ntimers; i++, t++, p += REC_TIMER_LEN) {
		put32(p, (uint32_t)t->id);
		put32(p + 4, t->clock);
		put32(p + 8, t->notify);
		put32(p + 12, t->signo);
		put64(p + 16, t->value);
		put32(p + 24, (uint32_t)t->tid);
		put32(p + 28, t->overrun);
		put64(p + 32, t->interval_s);
		put64(p + 40, t->interval_ns);
		put64(p + 48, t->left_s);
		put64(p + 56, t->left_ns);
		put64(p + 64, 0);
	}
	return rec_end(rec, TAG_TIMERS, (uint64_t)(p - rec - IMAGE_REC_HEAD));
}

static uint8_t *rec_mm(struct dump *d, uint8_t *rec)
{
	const struct dump_stat *s = &d->stat;
	uint8_t *p = rec + IMAGE_REC_HEAD;

	put64(p, s->start_code);
	put64(p + 8, s->end_code);
	put64(p + 16, s->start_data);
	put64(p + 24, s->end_data);
	put64(p + 32, s->start_brk);
	put64(p + 40, (uint64_t)sys_brk(0));
	put64(p + 48, s->start_stack);
	put64(p + 56, s->arg_start);
	put64(p + 64, s->arg_end);
	put64(p + 72, s->env_start);
	put64(p + 80, s->env_end);
	put64(p + 88, 0);
	return rec_end(rec, TAG_MM, REC_MM_LEN);
}

static uint8_t *rec_ident(struct dump *d, uint8_t *rec)
{
	const struct dump_status *s = &d->status;
	uint8_t *p = rec + IMAGE_REC_HEAD;
	long n;

	put32(p, (uint32_t)d->pid);
	put32(p + 4, (uint32_t)d->tid);
	for (int i = 0; i < 4; i++) {
		put32(p + 8 + 4 * i, s->uid[i]);
		put32(p + 24 + 4 * i, s->gid[i]);
	}
	for (int i = 0; i < 5; i++)
		put64(p + 40 + 8 * i, s->cap[i]);
	put32(p + 80, (uint32_t)sys_prctl(PR_GET_SECUREBITS, 0, 0, 0, 0));
	put32(p + 84, s->no_new_privs);
	put32(p + 92, 0);
	n = sys_getgroups((int)d->status.ngroups, (unsigned *)(p + REC_IDENT_FIXED));
	n = MAX(n, 0);
	put32(p + 88, (uint32_t)n);
	return rec_end(rec, TAG_IDENT, REC_IDENT_FIXED + 4ul * (uint64_t)n);
}

static uint8_t *rec_proc(struct dump *d, uint8_t *rec, uint32_t exe)
{
	const struct blob *b = d->b;
	uint8_t *p = rec + IMAGE_REC_HEAD;
	void *robust = NULL;
	size_t robust_len = 0;
	unsigned long tid_at = 0;
	int pdeathsig = 0, reaper = 0;
	int32_t oom;

	sys_get_robust_list(0, &robust, &robust_len);
	sys_prctl(PR_GET_TID_ADDRESS, (unsigned long)&tid_at, 0, 0, 0);
	sys_prctl(PR_GET_PDEATHSIG, (unsigned long)&pdeathsig, 0, 0, 0);
	memset(p, 0, REC_PROC_LEN);
	memcpy(p, d->stat.comm, 16);
	put32(p + 16, d->status.umask);
	put32(p + 20, (uint32_t)sys_personality(0xffffffff));
	put32(p + 24, (uint32_t)d->stat.nice);
	put32(p + 28, (uint32_t)sys_prctl(PR_GET_DUMPABLE, 0, 0, 0, 0));
	put32(p + 32, (uint32_t)pdeathsig);
	if (oom_score(&oom))
		put32(p + 36, (uint32_t)oom);
	put64(p + 40, (uint64_t)robust);
	put64(p + 48, robust_len);
	put64(p + 56, tid_at);
	put64(p + 64, b->rseq_addr);
	put32(p + 72, b->rseq_len);
	put32(p + 76, b->rseq_sig);
	put64(p + 80, or_zero(sys_prctl(PR_GET_TIMERSLACK, 0, 0, 0, 0)));
	put32(p + 88, (uint32_t)sys_prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0));
	put32(p + 92, (uint32_t)sys_prctl(PR_GET_KEEPCAPS, 0, 0, 0, 0));
	put32(p + 96, exe);
	put32(p + 100, (uint32_t)d->stat.pgid);
	put32(p + 104, (uint32_t)d->stat.sid);
	put32(p + 108, b->stopped);
	sys_prctl(PR_GET_CHILD_SUBREAPER, (unsigned long)&reaper, 0, 0, 0);
	put32(p + 112, reaper ? PROC_SUBREAPER : 0);
	more_of_proc(d, p);
	return rec_end(rec, TAG_PROC, REC_PROC_LEN);
}

static uint8_t *rec_cwd(struct dump *d, uint8_t *rec)
{
	uint64_t n = str_len(d->cwd) + 1;

	memcpy(rec + IMAGE_REC_HEAD, d->cwd, n);
	return rec_end(rec, TAG_CWD, n);
}

static uint8_t *rec_rlimits(uint8_t *rec)
{
	uint8_t *p = rec + IMAGE_REC_HEAD;

	for (int i = 0; i < 16; i++) {
		struct sys_rlimit l = {0};

		sys_prlimit(0, i, NULL, &l);
		put64(p + 16 * i, l.cur);
		put64(p + 16 * i + 8, l.max);
	}
	return rec_end(rec, TAG_RLIMITS, REC_RLIMITS_LEN);
}

static uint8_t *rec_files(struct dump *d, uint8_t *rec, struct strings *s)
{
	uint8_t *p = rec + IMAGE_REC_HEAD;

	memset(p, 0, d->nfiles * (uint64_t)REC_FILE_LEN);
	for (const struct dump_file *f = d->files; f; f = f->next) {
		uint8_t *at = p + f->index * (uint64_t)REC_FILE_LEN;

		if (f->index == VMA_NO_FILE)
			continue;
		put32(at, f->id_kind);
		put32(at + 4, f->flags);
		put32(at + 8, add_string(s, f->path));
		put32(at + 12, f->id_len);
		if (f->id_kind == FILE_BUILD_ID) {
			memcpy(at + 16, f->id, f->id_len);
		} else {
			put64(at + 16, f->size);
			put64(at + 24, f->mtime_s);
			put64(at + 32, f->mtime_ns);
		}
	}
	return rec_end(rec, TAG_FILES, d->nfiles * (uint64_t)REC_FILE_LEN);
}

static uint8_t *rec_vmas(struct dump *d, uint8_t *rec, struct strings *s)
{
	uint8_t *p = rec + IMAGE_REC_HEAD;

	for (const struct dump_vma *v = d->vmas; v; v = v->next, p += REC_VMA_LEN) {
		int by_file = v->kind == VMA_FILE || v->kind == VMA_FILE_SHARED;

		put64(p, v->start);
		put64(p + 8, v->end);
		put64(p + 16, by_file || v->object ? v->off : 0);
		put32(p + 24, v->prot);
		put32(p + 28, v->object ? VMA_MEMORY : v->kind);
		put32(p + 32, v->flags);
		put32(p + 36, by_file ? v->file->index : v->object ? v->object - 1 : VMA_NO_FILE);
		put32(p + 40, add_string(s, v->name));
		put32(p + 44, (uint32_t)v->nruns);
		put64(p + 48, 0);
	}
	return rec_end(rec, TAG_VMAS, d->nvmas * (uint64_t)REC_VMA_LEN);
}

static uint8_t *rec_fds(struct dump *d, uint8_t *rec, struct strings *s)
{
	uint8_t *p = rec + IMAGE_REC_HEAD;

	for (const struct dump_fd *f = d->fds; f; f = f->next, p += REC_FD_LEN) {
		put32(p, (uint32_t)f->fd);
		put32(p + 4, f->kind);
		put32(p + 8, (f->cloexec ? FD_CLOEXEC_FLAG : 0) | (f->others ? FD_OTHERS_FLAG : 0));
		put32(p + 12, f->oflags);
		put64(p + 16, f->offset);
		put32(p + 24, add_string(s, f->path));
		put32(p + 28, (uint32_t)f->dup_of);
		put32(p + 32, f->stream);
		put32(p + 36, 0);
	}
	return rec_end(rec, TAG_FDS, d->nfds * (uint64_t)REC_FD_LEN);
}

/* As whoever has put it here has found it; nobody can ask that of himself. */
static uint8_t *rec_given(uint8_t *rec, uint16_t tag, uint64_t at, uint32_t len)
{
	if (!len)
		return rec;
	memcpy(rec + IMAGE_REC_HEAD, (const void *)at, len);
	return rec_end(rec, tag, len);
}

/* /proc/self/cgroup as it is; of one that is to be put back on this machine. */
static uint8_t *rec_cgroup(struct dump *d, uint8_t *rec)
{
	long n = d->opt->goes_on ? proc_read("/proc/self/cgroup", (char *)rec + IMAGE_REC_HEAD,
					     IMAGE_CGROUP_MAX)
				 : 0;
	uint8_t *end;

	if (n <= 0)
		return rec;
	end = rec_end(rec, TAG_CGROUP, (uint64_t)n);
	put16(rec + 2, 0);
	return end;
}

/* Nothing, if there is nothing to tell. */
static uint8_t *rec_prctl(struct dump *d, uint8_t *rec)
{
	const struct blob *b = d->b;
	uint8_t *p = rec + IMAGE_REC_HEAD;
	uint32_t any = prctl_get(), n = d->opt->objects ? b->nthreads : 0;

	put32(p, any);
	for (uint32_t i = 0; i < n; i++) {
		put32(p += 4, thread_at(b, i)->prctls);
		any |= thread_at(b, i)->prctls;
	}
	return any ? rec_end(rec, TAG_PRCTL, 4 + 4ul * n) : rec;
}

/* In front of the head: behind the most that it may need there are no pages yet. */
long dump_strings(struct dump *d)
{
	d->strings = arena_raw(d->b, strings_max(d));
	return d->strings ? 0 : -ENOMEM;
}

uint8_t *dump_state(struct dump *d, uint8_t *p)
{
	struct strings s = {.base = d->strings, .used = 1};
	uint8_t *rec;
	uint32_t exe;

	s.base[0] = 0;
	exe = add_string(&s, d->exe);
	p = rec_regs(d, p);
	p = rec_signals(d, p);
	p = rec_pending(d, p);
	p = rec_timers(d, p);
	p = rec_mm(d, p);
	p = rec_ident(d, p);
	p = rec_proc(d, p, exe);
	p = rec_cwd(d, p);
	p = rec_rlimits(p);
	p = rec_files(d, p, &s);
	p = rec_vmas(d, p, &s);
	p = rec_fds(d, p, &s);
	p = thread_recs(d, p);
	p = rec_prctl(d, p);
	p = objects_rec(d, p);
	p = locks_rec(d, p);
	p = clocks_rec(d, p);
	p = vdso_rec(d, p);
	p = rec_given(p,
		      d->b->seccomp_len && get32((const uint8_t *)d->b->seccomp) == SECCOMP_EACH
			      ? TAG_SECCOMP_EACH
			      : TAG_SECCOMP,
		      d->b->seccomp, d->b->seccomp_len);
	p = rec_given(p, TAG_ROOT, d->b->root, d->b->root_len);
	p = rec_cgroup(d, p);
	p = live_rec(d, p);
	p = more_rec(d, p);
	p = guard_rec(d, p);
	rec = tree_recs(d, p);
	memcpy(rec + IMAGE_REC_HEAD, s.base, s.used);
	return rec_end(rec, TAG_STRINGS, s.used);
}
