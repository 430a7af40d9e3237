/*
 * Seccomp filters of threads that differ. Library code; runs in whoever dumps or restores.
 *
 * A thread sets filters for itself, or for all (TSYNC). An image has the list of each thread then.
 * What all begin with is put back for all in one step, so that one of them may still set one for
 * all where it could before; the rest each thread sets itself, led by ptrace.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vmadump/blob/image.h"
#include "vmadump/blob/refuse.h"
#include "vmadump/filters.h"

#define EACH_HEAD 8u /* u32 thread id, u32 1: no_new_privs; a list follows */

int thread_status(pid_t pid, pid_t tid, char *text, size_t n)
{
	char path[64];
	ssize_t got;
	int fd;

	snprintf(path, sizeof path, "/proc/%d/task/%d/status", pid, tid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	got = fd < 0 ? -1 : read(fd, text, n - 1);
	if (fd >= 0)
		close(fd);
	text[got > 0 ? got : 0] = 0;
	return got > 0 ? 0 : -1;
}

pid_t thread_number(pid_t pid, pid_t tid)
{
	char text[8192], *at, *end;

	if (thread_status(pid, tid, text, sizeof text) < 0)
		return tid;
	/* "NSpid:\t4242\t17": its own namespace is the last. */
	at = strstr(text, "\nNSpid:\t");
	for (at = at ? at + 7 : NULL; at && *at == '\t'; at = end)
		tid = (pid_t)strtol(at + 1, &end, 10);
	return tid;
}

/* Who is stopped by us with its filters suspended needs no look: 30 us for each thread. */
static int may_suspend(void)
{
	char text[8192];

	return thread_status(getpid(), (pid_t)syscall(SYS_gettid), text, sizeof text) == 0 &&
	       status_number(text, "\nSeccomp:\t", 10) == 0 &&
	       status_number(text, "\nCapEff:\t", 16) >> CAP_SYS_ADMIN_BIT & 1;
}

void look_at_thread_filters(struct freeze *f)
{
	if (f->flags & FREEZE_JUDGED || f->t.options || !may_suspend())
		return;
	f->t.options = SUSPEND_SECCOMP;
	f->t.optional = 1; /* a namespace of users may be in the way */
}

/* One that has others than the first might be killed by what the blob calls in it. */
static int refuse_others(struct freeze *f)
{
	char text[8192];
	uint64_t mode = 0, n = 0;

	for (uint32_t i = 0; i < f->t.n; i++) {
		pid_t tid = f->t.task[i].tid;
		uint64_t its_mode, its_n;

		if (thread_status(f->t.pid, tid, text, sizeof text) < 0)
			continue;
		its_mode = status_number(text, "\nSeccomp:\t", 10);
		its_n = status_number(text, "\nSeccomp_filters:\t", 10);
		if (i && (its_mode != mode || its_n != n))
			return trace_refuse(&f->t, REFUSE_SECCOMP_THREAD, (int)tid);
		mode = its_mode;
		n = its_n;
	}
	return 0;
}

/* -- when it is */

int find_thread_filters(struct freeze *f)
{
	struct trace *t = &f->t;

	if (f->flags & FREEZE_JUDGED || f->seccomp || t->n == 1)
		return 0;
	if (!t->options)
		return refuse_others(f);
	for (uint32_t i = 1; i < t->n; i++) {
		if (!has_filter(t->task[i].tid))
			continue;
		if (!(f->flags & FREEZE_FILTERS))
			return trace_refuse(t, REFUSE_SECCOMP_THREAD, (int)t->task[i].tid);
		f->seccomp = SECCOMP_MODE_FILTER;
	}
	return 0;
}

/* The next one's, at rec + at, of which there are room bytes; how many they are, or -1. */
static long put_each(struct freeze *f, uint32_t i, uint8_t *rec, uint8_t *list)
{
	pid_t tid = f->t.task[i].tid;
	char text[8192];
	uint64_t nnp;
	uint32_t len;

	if (thread_status(f->t.pid, tid, text, sizeof text) < 0)
		return trace_fail(&f->t, ESRCH, "thread %d has ended", (int)tid);
	if (read_filters(&f->t, tid, UINT32_MAX, list, &len) < 0)
		return -1;
	nnp = status_number(text, "\nNoNewPrivs:\t", 10);
	put32(list, (uint32_t)status_number(text, "\nSeccomp:\t", 10));
	if (get32(list + 4) && !nnp &&
	    !(status_number(text, "\nCapEff:\t", 16) >> CAP_SYS_ADMIN_BIT & 1))
		return trace_refuse(&f->t, REFUSE_SECCOMP_SET);
	if (f->filters_len + EACH_HEAD + len > IMAGE_SECCOMP_MAX)
		return trace_refuse(&f->t, REFUSE_LIMIT, (unsigned long)IMAGE_SECCOMP_MAX,
				    "bytes of seccomp filters");
	put32(rec, (uint32_t)tid);
	put32(rec + 4, nnp != 0);
	memcpy(rec + EACH_HEAD, list, len);
	return EACH_HEAD + len;
}

int freeze_filters_each(struct freeze *f)
{
	uint8_t *list = f->filters + IMAGE_SECCOMP_MAX;
	long n;

	put32(f->filters, SECCOMP_EACH);
	put32(f->filters + 4, f->t.n);
	f->filters_len = SECCOMP_HEAD;
	for (uint32_t i = 0; i < f->t.n; i++) {
		n = put_each(f, i, f->filters + f->filters_len, list);
		if (n < 0)
			return -1;
		f->filters_len += (uint32_t)n;
	}
	return 0;
}

/* -- and put back */

struct own {
	struct task *task;
	uint32_t nnp, mode, n;
	const uint8_t *list; /* the newest first */
};

/* Number k of a list, 0 the oldest. */
static const uint8_t *nth(const struct own *o, uint32_t k)
{
	const uint8_t *at = o->list;

	for (uint32_t i = o->n - 1; i > k; i--)
		at += FILTER_LEN(at);
	return at;
}

/* Every thread that there is, once; all within len, which whoever wrote it may have got wrong. */
static int read_each(struct trace *t, const uint8_t *rec, uint32_t len, struct own *own)
{
	uint32_t at = SECCOMP_HEAD, n;

	for (uint32_t i = 0; i < t->n; i++) {
		struct own *o = &own[i];

		if (len - at < EACH_HEAD + SECCOMP_HEAD)
			return -1;
		for (uint32_t k = 0; k < t->n; k++)
			if (t->task[k].tid == (pid_t)get32(rec + at))
				o->task = &t->task[k];
		for (uint32_t k = 0; k < i; k++)
			if (own[k].task == o->task)
				return -1;
		o->nnp = get32(rec + at + 4);
		o->mode = get32(rec + at + EACH_HEAD);
		o->n = n = get32(rec + at + EACH_HEAD + 4);
		at += EACH_HEAD + SECCOMP_HEAD;
		o->list = rec + at;
		for (; n; n--) {
			if (len - at < 8 || get32(rec + at + 4) > (len - at - 8) / 8)
				return -1;
			at += FILTER_LEN(rec + at);
		}
		if (!o->task)
			return -1;
	}
	return at == len && get32(rec + 4) == t->n ? 0 : -1;
}

/* So many of the oldest do all have. */
static uint32_t count_common(const struct own *own, uint32_t n)
{
	for (uint32_t k = 0;; k++)
		for (uint32_t i = 0; i < n; i++) {
			const uint8_t *first, *its;

			if (k >= own[0].n || k >= own[i].n)
				return k;
			first = nth(&own[0], k);
			its = nth(&own[i], k);
			if (memcmp(first, its, 8) != 0 || memcmp(first, its, FILTER_LEN(its)) != 0)
				return k;
		}
}

static int call(struct trace *t, struct task *task, const uint64_t arg[6])
{
	int64_t ret;

	if (trace_syscall_by(t, task, SYS_prctl, arg, &ret) < 0)
		return -1;
	return ret >= 0 ? 0
			: trace_fail(t, (int)-ret, "thread %d: its seccomp mode: %s",
				     (int)task->tid, strerror((int)-ret));
}

static int put_own(struct trace *t, const struct blob *b, const uint8_t *rec, const struct own *o,
		   uint32_t from)
{
	const uint64_t strict[6] = {PR_SET_SECCOMP, SECCOMP_MODE_STRICT};

	for (uint32_t k = from; k < o->n; k++) {
		const uint8_t *at = nth(o, k);

		if (put_filter(t, o->task, b, at, b->seccomp + (uint64_t)(at - rec), 0) < 0)
			return -1;
	}
	return o->mode == SECCOMP_MODE_STRICT ? call(t, o->task, strict) : 0;
}

int revive_filters_each(struct trace *t, const struct blob *b, const uint8_t *rec, uint32_t len)
{
	const uint64_t nnp[6] = {PR_SET_NO_NEW_PRIVS, 1};
	struct own *own = calloc(t->n, sizeof *own);
	uint32_t common = 0;
	int r = own ? read_each(t, rec, len, own) : trace_fail(t, ENOMEM, "%s", strerror(ENOMEM));

	if (own && r < 0)
		trace_fail(t, EBADMSG, "not an image, or damaged: its seccomp filters");
	for (uint32_t i = 0; r == 0 && i < t->n; i++)
		if (own[i].nnp)
			r = call(t, own[i].task, nnp);
	if (r == 0)
		common = count_common(own, t->n);
	for (uint32_t k = 0; r == 0 && k < common; k++) {
		const uint8_t *at = nth(&own[0], k);

		r = put_filter(t, own[0].task, b, at, b->seccomp + (uint64_t)(at - rec),
			       SECCOMP_FILTER_FLAG_TSYNC);
	}
	for (uint32_t i = 0; r == 0 && i < t->n; i++)
		r = put_own(t, b, rec, &own[i], common);
	free(own);
	return r;
}
