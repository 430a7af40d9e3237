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
#include "vmadump/freeze.h"

/* include/linux/errno.h of the kernel: seen by tracers alone. */
#define ERESTARTNOINTR 513ul
#define ERESTART_RESTARTBLOCK 516ul

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

int vmad_filters_pid(pid_t pid, uint32_t n, bool (*restarts)(const uint8_t *bytes, size_t len),
		     uint8_t *ret, uint32_t *ret_len, struct vmad_err *err)
{
	struct trace t = {.pid = pid, .err = err};
	uint8_t *rec = calloc(2, IMAGE_SECCOMP_MAX);
	uint32_t len;
	int r;

	if (!rec)
		return trace_fail(&t, ENOMEM, "%s", strerror(ENOMEM));
	trace_listen(&t);
	r = trace_stop(&t);
	if (r == 0)
		r = read_filters_alike(&t, n, rec, &len);
	if (r == 0 && get32(rec + 4) != n)
		r = trace_fail(&t, EAGAIN, "its seccomp filters change");
	if (r == 0)
		r = turn(&t, rec, len, ret, ret_len);
	if (r < 0 || !restarts(ret, *ret_len)) {
		struct vmad_err unused;

		t.err = &unused;
		sleep_again(&t);
		t.err = err;
	}
	trace_detach(&t);
	trace_free(&t);
	free(rec);
	return r;
}
