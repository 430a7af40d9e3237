/*
 * vmad_look_pid(): could this process leave, and with what? Library code; runs in whoever asks.
 * It is parked for as long as it takes to look at it, and goes on.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "vmadump/blob/refuse.h"
#include "vmadump/chan.h"
#include "vmadump/freeze.h"
#include "vmadump/others.h"
#include "vmadump/tree.h"

/* Wherever it is not at home, 0 to 2 are streams if they are pipes. */
#define AWAY_STREAMS (1u | 2u << CHAN_GO_STREAM_BITS | 3u << 2 * CHAN_GO_STREAM_BITS)

static long ask(struct freeze *f, int fd, unsigned away, int rest,
		void (*refused)(const char *, void *), void *arg)
{
	struct chan_msg m = {
		.type = CHAN_LOOK, .flags = rest ? CHAN_LOOK_REST : 0, .u.leave.flags = away};
	int order = tree_alone(f, 1), r;
	long n = 0;

	r = order < 0 ? chan_send_with(f->chan, &m, fd) : chan_send_two(f->chan, &m, fd, order);
	if (order >= 0)
		close(order);
	if (r < 0)
		return trace_fail(&f->t, errno, "process %d: %s", f->t.pid, strerror(errno));
	for (;; n++) {
		if (chan_answer(&f->t, f->chan, &m) < 0)
			return -1;
		if (m.type != CHAN_REFUSED)
			return n;
		m.u.text[CHAN_TEXT_MAX - 1] = 0;
		refused(m.u.text, arg);
	}
}

struct listener {
	pid_t pid;
	void (*refused)(const char *text, void *arg);
	void *arg;
};

static void name_peer(const char *text, void *arg)
{
	const struct listener *l = arg;
	char named[VMAD_TEXT_MAX];

	snprintf(named, sizeof named, "%s", text);
	others_name_peer(l->pid, named);
	l->refused(named, l->arg);
}

static void pass_on(uint32_t goer, const char *text, void *arg)
{
	(void)goer;
	name_peer(text, arg);
}

int vmad_look_pid(pid_t pid, int fd, unsigned flags, void (*refused)(const char *text, void *arg),
		  void *arg, uint64_t *ret_us, struct vmad_err *err)
{
	unsigned away = flags & VMAD_AWAY ? CHAN_GO_AWAY | AWAY_STREAMS << CHAN_GO_STREAM_SHIFT : 0;
	const unsigned judged = flags & VMAD_JUDGED ? FREEZE_JUDGED : 0;
	struct freeze f = {.t = {.pid = pid, .err = err}, .far = -1, .other = -1, .flags = judged};
	struct listener named = {pid, refused, arg};
	const struct goer g = {pid, {-1, -1}};
	int e, others;
	long r, known = -1;

	refused = name_peer;
	arg = &named;
	if (flags & VMAD_TREE)
		return tree_look(pid, away, judged != 0, refused, arg, ret_us, err);
	if (freeze_look(&f) < 0)
		return -1;
	if (freeze_is_much(&f))
		known = aside_look(&f, 1, away, refused, arg);
	if (known > 0) {
		if (ret_us)
			*ret_us = 0;
		return (int)known;
	}
	others = others_look(&g, 1, OTHERS_MEMORY,
			     &(struct others_told){.found = pass_on, .arg = &named});
	if (others < 0)
		return trace_fail(&f.t, ENOMEM, "%s", strerror(ENOMEM));
	if (freeze_enter(&f, pid, FREEZE_LOOKED | judged, 0, err) < 0) {
		freeze_free(&f);
		return -1;
	}
	r = ask(&f, fd, away, known == 0, refused, arg);
	e = errno;
	if (r >= 0)
		r += others;
	if (f.t.group_stop && r >= 0) {
		struct vmad_err own, *was = f.t.err;

		f.t.err = &own;
		trace_refuse(&f.t, REFUSE_STOPPED, (int)f.t.group_stop);
		f.t.err = was;
		refused(own.text, arg);
		r++;
	}
	freeze_leave(&f);
	if (ret_us)
		*ret_us = freeze_now_us() - f.since_us;
	if (r >= 0 && known == 0 && aside_head(&f, away, fd) < 0) {
		r = trace_fail(&f.t, ESRCH, "process %d has ended, or changes too fast", pid);
		e = errno;
	}
	freeze_free(&f);
	errno = e;
	return (int)r;
}
