/*
 * vmad_filters_pid(): the seccomp filters of a process that is about to move. Library code; runs
 * in a child of bpslave, which has CAP_SYS_ADMIN and no filter itself, as the kernel asks for.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vmadump/blob/filters.h"
#include "vmadump/blob/image.h"
#include "vmadump/blob/refuse.h"
#include "vmadump/filters.h"

/* include/linux/errno.h of the kernel: seen by tracers alone. */
#define ERESTARTNOINTR 513ul
#define ERESTART_RESTARTBLOCK 516ul

struct reading {
	struct trace *t;
	uint32_t place; /* so many of the oldest are the place's */
	uint8_t *rec;	/* room for one list as an image has it */
	uint8_t *own, *ret;
	uint32_t len; /* of ret */
};

/* An image has the newest first. */
static int turn(struct trace *t, const uint8_t *rec, uint32_t len, uint8_t *ret, uint32_t *ret_len)
{
	uint32_t at = SECCOMP_HEAD, end = len - SECCOMP_HEAD;

	if (end > FILTERS_MAX)
		return trace_refuse(t, REFUSE_LIMIT, (unsigned long)FILTERS_MAX,
				    "bytes of seccomp filters");
	*ret_len = end;
	while (at < len) {
		uint32_t n = FILTER_HEAD + 8 * get32(rec + at + 4);

		end -= n;
		memcpy(ret + end, rec + at, n);
		at += n;
	}
	return 0;
}

static int read_own(struct reading *r, pid_t tid, uint8_t *ret, uint32_t *ret_len)
{
	uint32_t len, n = count_filters(tid);

	if (n < r->place)
		return trace_fail(r->t, EAGAIN, "its seccomp filters change");
	if (read_filters(r->t, tid, n - r->place, r->rec, &len) < 0)
		return -1;
	return turn(r->t, r->rec, len, ret, ret_len);
}

/* A thread that was cloned has those of its maker, and its own behind them. */
static int add_thread(struct reading *r, pid_t tid, uint32_t all)
{
	uint32_t len;

	if (read_own(r, tid, r->own, &len) < 0)
		return -1;
	if (len < all || memcmp(r->own, r->ret, all) != 0)
		return trace_refuse(r->t, REFUSE_SECCOMP_THREAD, (int)r->t->pid);
	if (len == all)
		return 0;
	if (r->len + FILTER_HEAD + len - all > FILTERS_MAX)
		return trace_refuse(r->t, REFUSE_LIMIT, (unsigned long)FILTERS_MAX,
				    "bytes of seccomp filters");
	put32(r->ret + r->len, (uint32_t)thread_number(r->t->pid, tid));
	put32(r->ret + r->len + 4, FILTERS_OF);
	memcpy(r->ret + r->len + FILTER_HEAD, r->own + all, len - all);
	r->len += FILTER_HEAD + len - all;
	return 0;
}

static int read_all(struct reading *r, uint32_t n)
{
	struct trace *t = r->t;
	uint32_t all;

	if (count_filters(t->pid) != r->place + n)
		return trace_fail(t, EAGAIN, "its seccomp filters change");
	if (read_own(r, t->pid, r->ret, &all) < 0)
		return -1;
	r->len = all;
	for (uint32_t i = 0; i < t->n; i++)
		if (t->task[i].tid != t->pid && add_thread(r, t->task[i].tid, all) < 0)
			return -1;
	return 0;
}

/*
 * A sleep that our stop has interrupted goes on by restart_syscall(), if the filters let it; else
 * it would be the death of the program, or an error that it has never heard of. So it begins anew.
 */
static void sleep_again(struct trace *t)
{
	for (uint32_t i = 0; i < t->n; i++) {
		struct blob_regs r;

		if (trace_get_regs(t, &t->task[i], &r) == 0 && r.ax == -ERESTART_RESTARTBLOCK) {
			r.ax = -ERESTARTNOINTR;
			trace_set_regs(t, &t->task[i], &r);
		}
	}
}

int vmad_filters_pid(pid_t pid, uint32_t place, uint32_t n,
		     bool (*restarts)(const uint8_t *bytes, size_t len), uint8_t *ret,
		     uint32_t *ret_len, struct vmad_err *err)
{
	struct trace t = {.pid = pid, .err = err};
	struct reading reading = {.t = &t, .place = place, .ret = ret};
	int r;

	reading.rec = malloc(IMAGE_SECCOMP_MAX + FILTERS_MAX);
	if (!reading.rec)
		return trace_fail(&t, ENOMEM, "%s", strerror(ENOMEM));
	reading.own = reading.rec + IMAGE_SECCOMP_MAX;
	trace_listen(&t);
	r = trace_stop(&t);
	if (r == 0)
		r = read_all(&reading, n);
	*ret_len = reading.len;
	if (r < 0 || !restarts(ret, *ret_len)) {
		struct vmad_err unused;

		t.err = &unused;
		sleep_again(&t);
		t.err = err;
	}
	trace_detach(&t);
	trace_free(&t);
	free(reading.rec);
	return r;
}
