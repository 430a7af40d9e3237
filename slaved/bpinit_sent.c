/*
 * bpinit: signals that a ghost was told to send as itself, to a process that is real here. Such
 * an order is obeyed when the ghost is scheduled. A process that leaves takes along what is
 * pending when it goes; so before it may go each ghost that was ever told to send it one says
 * that it has obeyed. Nobody is told to send one to a process that is parked.
 */
#include <errno.h>

#include "slaved/bpinit_kill.h"

#define SENT_MAX 1024

static struct {
	uint32_t by; /* index */
	int32_t to;
	bool asked;
} sent[SENT_MAX];
static uint32_t nsent, oldest;

static bool is_noted(const struct proc *by, int32_t to)
{
	for (uint32_t i = 0; i < nsent; i++)
		if (sent[i].by == proc_index(by) && sent[i].to == to)
			return true;
	return false;
}

void sent_by(const struct proc *by, int32_t to)
{
	uint32_t i = nsent;

	if (is_noted(by, to))
		return;
	if (nsent < SENT_MAX) {
		nsent++;
	} else {
		i = oldest = (oldest + 1) % SENT_MAX; /* obeyed long ago, as a rule */
		if (sent[i].asked)
			return;
	}
	sent[i].by = proc_index(by);
	sent[i].to = to;
	sent[i].asked = false;
}

/* One that turns back or ends was told to behind what it was to send. */
static int ask(struct proc *by, int32_t to)
{
	struct chan_msg c = {.type = CHAN_KILL};
	int e;

	if ((by->state != PROC_GHOST && !leave_is_ghosting(by)) || by->exiting || by->dying)
		return -ESRCH;
	c.u.kill.pid = to;
	e = proc_tell(by, &c, NULL, 0);
	if (e == 0)
		trace_wake(by);
	return e;
}

bool sent_all(int32_t to)
{
	bool all = true;

	for (uint32_t i = 0; i < nsent;) {
		if (sent[i].to != to) {
			i++;
		} else if (sent[i].asked || ask(&procs[sent[i].by], to) == 0) {
			sent[i++].asked = true;
			all = false;
		} else {
			sent[i] = sent[--nsent];
		}
	}
	return all;
}

bool sent_is_asked(const struct proc *by, int32_t to)
{
	for (uint32_t i = 0; i < nsent; i++)
		if (sent[i].by == proc_index(by) && sent[i].to == to)
			return sent[i].asked;
	return false;
}

/* to: 0: whoever it is. */
static void forget(const struct proc *by, int32_t to)
{
	for (uint32_t i = 0; i < nsent;) {
		int32_t waits = sent[i].asked ? sent[i].to : 0;

		if (sent[i].by != proc_index(by) || (to && sent[i].to != to)) {
			i++;
			continue;
		}
		sent[i] = sent[--nsent];
		if (waits)
			leave_may_go(waits); /* which may change the table */
		i = 0;
	}
}

void sent_said(struct proc *by, int32_t to)
{
	trace_sleep(by);
	forget(by, to);
}

void sent_forget(const struct proc *by)
{
	forget(by, 0);
}
