/*
 * What a process cannot ask of itself, or not where it is: its seccomp filters and its root
 * directory. Library code; runs in whoever dumps, and hands both to the blob for the image.
 *
 * A filter is read by ptrace with CAP_SYS_ADMIN, by one who has none himself. While it is traced
 * it is suspended (PTRACE_O_SUSPEND_SECCOMP), so it does not matter what it allows the blob; that
 * ends with the tracer.
 */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vmadump/blob/refuse.h"
#include "vmadump/filters.h"

#define GET_FILTER 0x420c   /* PTRACE_SECCOMP_GET_FILTER */
#define GET_METADATA 0x420d /* PTRACE_SECCOMP_GET_METADATA, Linux 4.16 */

struct metadata {
	uint64_t index, flags;
};

/* -- before it is stopped */

uint64_t status_number(const char *status, const char *key, int base)
{
	const char *at = strstr(status, key);

	return at ? strtoull(at + strlen(key), NULL, base) : 0;
}

int look_at_filters(struct freeze *f, const char *status)
{
	if (!(f->flags & FREEZE_FILTERS))
		return trace_refuse(&f->t, REFUSE_SECCOMP);
	/* As the kernel asks for of who sets one. */
	f->seccomp = (int)status_number(status, "\nSeccomp:\t", 10);
	if (f->seccomp == SECCOMP_MODE_FILTER && !status_number(status, "\nNoNewPrivs:\t", 10) &&
	    !(status_number(status, "\nCapEff:\t", 16) >> CAP_SYS_ADMIN_BIT & 1))
		return trace_refuse(&f->t, REFUSE_SECCOMP_SET);
	if (f->seccomp == SECCOMP_MODE_STRICT && f->threads > 1)
		return trace_refuse(&f->t, REFUSE_SECCOMP_THREAD, (int)f->t.pid);
	f->t.options = SUSPEND_SECCOMP;
	return 0;
}

int freeze_root(struct freeze *f)
{
	char path[40], root[IMAGE_PATH_MAX], path_in[IMAGE_PATH_MAX];
	struct stat there, its;
	ssize_t n;

	if (!(f->flags & FREEZE_ROOT))
		return trace_refuse(&f->t, REFUSE_PLACE, "root directory");
	snprintf(path, sizeof path, "/proc/%d/root", f->t.pid);
	n = readlink(path, root, sizeof root - 1);
	root[n > 0 ? n : 0] = 0;
	if (stat(path, &its) < 0 || stat(root, &there) < 0 || there.st_ino != its.st_ino ||
	    there.st_dev != its.st_dev)
		return trace_refuse(&f->t, REFUSE_PLACE, "root directory without a name");
	/* The blob asks /proc what it is in. */
	if (snprintf(path_in, sizeof path_in, "%s/proc/%d/status", root, f->t.pid) >=
		    (int)sizeof path_in ||
	    access(path_in, R_OK) < 0)
		return trace_refuse(&f->t, REFUSE_PLACE, "root directory without /proc");
	f->root = strdup(root);
	return f->root ? 0 : trace_fail(&f->t, ENOMEM, "%s", strerror(ENOMEM));
}

/* -- when it is */

/* "Ask somebody": who would that be? */
static int asks(const struct sock_filter *p, long n)
{
	for (long i = 0; i < n; i++)
		if (p[i].code == (BPF_RET | BPF_K) &&
		    (p[i].k & SECCOMP_RET_ACTION_FULL) == SECCOMP_RET_USER_NOTIF)
			return 1;
	return 0;
}

/* Filter number i of a thread, 0 the oldest, at rec + at. Bytes, or -1. */
static long read_filter(struct trace *t, pid_t tid, long i, uint8_t *rec, uint32_t at)
{
	struct metadata m = {.index = (uint64_t)i};
	long n = ptrace(GET_FILTER, tid, (void *)i, NULL);

	if (n <= 0)
		return trace_refuse(t, REFUSE_SECCOMP_READ);
	if (at + 8 + 8 * (uint64_t)n > IMAGE_SECCOMP_MAX)
		return trace_refuse(t, REFUSE_LIMIT, (unsigned long)IMAGE_SECCOMP_MAX,
				    "bytes of seccomp filters");
	if (ptrace(GET_FILTER, tid, (void *)i, rec + at + 8) != n)
		return trace_refuse(t, REFUSE_SECCOMP_READ);
	if (asks((void *)(rec + at + 8), n))
		return trace_refuse(t, REFUSE_SECCOMP_ASKS);
	if (ptrace(GET_METADATA, tid, (void *)sizeof m, &m) < 0)
		m.flags = 0;
	put32(rec + at, (uint32_t)m.flags);
	put32(rec + at + 4, (uint32_t)n);
	return 8 + 8 * n;
}

int has_filter(pid_t tid)
{
	return ptrace(GET_FILTER, tid, NULL, NULL) > 0;
}

uint32_t count_filters(pid_t tid)
{
	uint32_t n = 0;

	while (ptrace(GET_FILTER, tid, (void *)(uintptr_t)n, NULL) > 0)
		n++;
	return n;
}

int read_filters(struct trace *t, pid_t tid, uint32_t most, uint8_t *rec, uint32_t *ret_len)
{
	uint32_t at = SECCOMP_HEAD, n = 0;
	long i = 0, r = 1;

	/* __get_nth_filter() of the kernel counts from the oldest; ENOENT behind the newest. */
	while (r > 0) {
		r = ptrace(GET_FILTER, tid, (void *)i, NULL);
		i += r > 0;
	}
	if (errno != ENOENT && (errno != EINVAL || i)) /* EINVAL: it has none */
		return trace_refuse(t, REFUSE_SECCOMP_READ);
	for (; i > 0 && n < most; n++, at += (uint32_t)r) {
		r = read_filter(t, tid, --i, rec, at);
		if (r < 0)
			return -1;
	}
	put32(rec, SECCOMP_MODE_FILTER);
	put32(rec + 4, n);
	*ret_len = at;
	return 0;
}

/* As seccomp(2) with TSYNC makes them; or a thread that has others than the first. */
static pid_t read_alike(struct trace *t, uint32_t most, uint8_t *rec, uint32_t *ret_len)
{
	uint8_t *other = rec + IMAGE_SECCOMP_MAX;
	int r = read_filters(t, t->pid, most, rec, ret_len);
	uint32_t len;

	for (uint32_t i = 1; r == 0 && i < t->n; i++) {
		r = read_filters(t, t->task[i].tid, most, other, &len);
		if (r == 0 && (len != *ret_len || memcmp(other, rec, len) != 0))
			r = t->task[i].tid;
	}
	return r;
}

int freeze_filters(struct freeze *f)
{
	struct trace *t = &f->t;
	pid_t r;

	if (find_thread_filters(f) < 0)
		return -1;
	if (!f->seccomp)
		return 0;
	f->filters = calloc(2, IMAGE_SECCOMP_MAX);
	if (!f->filters)
		return trace_fail(t, ENOMEM, "%s", strerror(ENOMEM));
	if (f->seccomp == SECCOMP_MODE_STRICT) {
		put32(f->filters, SECCOMP_MODE_STRICT);
		f->filters_len = SECCOMP_HEAD;
		return 0;
	}
	r = read_alike(t, UINT32_MAX, f->filters, &f->filters_len);
	return r > 0 ? freeze_filters_each(f) : r;
}

/* -- and put back: the last thing that it does in the blob */

int put_filter(struct trace *t, struct task *task, const struct blob *b, const uint8_t *at,
	       uint64_t from, uint32_t flags)
{
	const struct {
		uint16_t n, pad[3];
		uint64_t p;
	} prog = {(uint16_t)get32(at + 4), {0}, from + 8};
	const uint64_t to = b->self + BLOB_STRUCT_MAX; /* the far end of its stack */
	const uint64_t arg[6] = {SECCOMP_SET_MODE_FILTER, get32(at) | flags, to};
	int64_t ret;

	if (trace_write(t, to, &prog, sizeof prog) < 0 ||
	    trace_syscall_by(t, task, SYS_seccomp, arg, &ret) < 0)
		return -1;
	return ret == 0 ? 0
			: trace_fail(t, ret < 0 ? (int)-ret : EINVAL, "its seccomp filter: %s",
				     strerror(ret < 0 ? (int)-ret : EINVAL));
}

/* The oldest first, which is the last. */
static int put_all(struct trace *t, const struct blob *b, const uint8_t *rec)
{
	uint32_t n = get32(rec + 4);

	for (uint32_t i = n; i-- > 0;) {
		uint32_t at = SECCOMP_HEAD;

		for (uint32_t k = 0; k < i; k++)
			at += 8 + 8 * get32(rec + at + 4);
		if (put_filter(t, t->task, b, rec + at, b->seccomp + at,
			       t->n > 1 ? SECCOMP_FILTER_FLAG_TSYNC : 0) < 0)
			return -1;
	}
	return 0;
}

/* It was read by a process that is about to run it: held against its length once more. */
static int is_whole(const uint8_t *rec, uint32_t len)
{
	uint32_t at = SECCOMP_HEAD;

	for (uint32_t n = get32(rec + 4); n; n--) {
		if (at + 8 > len || get32(rec + at + 4) > (len - at - 8) / 8)
			return 0;
		at += 8 + 8 * get32(rec + at + 4);
	}
	return at == len;
}

int revive_filters(struct trace *t, const struct blob *b)
{
	const uint64_t strict[6] = {22 /* PR_SET_SECCOMP */, SECCOMP_MODE_STRICT};
	const unsigned long suspend = SUSPEND_SECCOMP;
	uint32_t len = b->seccomp_len;
	uint8_t *rec = len >= SECCOMP_HEAD && len <= IMAGE_SECCOMP_MAX ? malloc(len) : NULL;
	int64_t ret;
	int r = rec ? trace_get(t, b->seccomp, rec, len)
		    : trace_fail(t, ENOMEM, "its seccomp filters: %s", strerror(ENOMEM));

	if (r == 0 && get32(rec) != SECCOMP_EACH && !is_whole(rec, len))
		r = trace_fail(t, EBADMSG, "not an image, or damaged: its seccomp filters");
	for (uint32_t i = 0; r == 0 && i < t->n; i++)
		if (ptrace(PTRACE_SETOPTIONS, t->task[i].tid, NULL, (void *)suspend) < 0)
			r = trace_fail(t, EPERM, "its seccomp filter can be put back by root only");
	if (r == 0 && get32(rec) == SECCOMP_MODE_STRICT) {
		r = trace_syscall(t, SYS_prctl, strict, &ret);
		if (r == 0 && ret < 0)
			r = trace_fail(t, (int)-ret, "its seccomp mode: %s", strerror((int)-ret));
	} else if (r == 0) {
		r = get32(rec) == SECCOMP_EACH ? revive_filters_each(t, b, rec, len)
					       : put_all(t, b, rec);
	}
	free(rec);
	return r;
}
