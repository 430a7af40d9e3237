/*
 * bpinit: pages that go ahead of a process while it still runs (MOVE_LIVE, doc/move.md). It is
 * granted as a move is, and moves nothing: at the source whoever holds the channel is given a
 * connection, and at the target the ghost of that process, made as that of an ancestor would be,
 * takes in what comes. It ends by being called off, as when the channel ends; the move itself is
 * another, and finds a ghost that has the pages.
 */
#include <errno.h>
#include <string.h>

#include "slaved/bpinit.h"

/* -- the source */

/* Granted, with a connection: it is the channel's holder's from here on. */
void live_granted(struct move *m)
{
	/* As the process will be told when it leaves, if nothing changes: its image can be made so.
	 */
	struct chan_msg c = {.type = CHAN_GO, .move_id = m->id, .flags = leave_go_flags(m)};
	int e;

	m->pid = m->asker_pid; /* of the header */
	e = move_write_header(m);
	m->pid = 0;
	if (e == 0)
		e = pkt_send_now(m->chan, &c, sizeof(c), &m->data, 1);
	move_push_header(m);
	m->data = close_fd(m->data);
	if (e < 0)
		leave_failed(m, -e, "the connection to the node was lost");
}

/* -- the target */

void live_arrived(struct move *m)
{
	struct chan_msg c = {.type = CHAN_LIVE, .move_id = m->id};
	struct proc *p = proc_find(m->pid);

	if (!proc_can_clone(p) || proc_tell(p, &c, &m->data, 1) < 0) {
		m->phase = ARRIVE_READY;
		arrive_failed(m, ESRCH, "it has no ghost there that could take its pages in");
		return;
	}
	m->phase = ARRIVE_RESTORING;
	trace_wake(p);
	m->data = close_fd(m->data);
}

/* Its ghost has no work any more; what it has taken in goes with the end of the connection. */
void live_over(const struct move *m)
{
	struct proc *p = m->phase == ARRIVE_RESTORING ? proc_find(m->pid) : NULL;

	if (p && p->state == PROC_GHOST)
		trace_sleep(p);
}
