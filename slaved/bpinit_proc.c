/*
 * bpinit: the table of processes that a move made or left here, and what they say on
 * their channels. Everything else in the namespace is native and unknown.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>

#include "slaved/bpinit_kill.h"
#include "slaved/bpinit_place.h"

#define HASH 4096
#define CHAN_BATCH 16 /* messages of one process before the others have their turn */

struct proc procs[PROCS_MAX];
uint32_t procs_count;
uint32_t procs_reaped, procs_dropped;
static uint32_t bucket[HASH]; /* index + 1 of the first */
uint32_t procs_used;	      /* no slot at or above this was ever used */
static uint32_t free_list[PROCS_MAX], nfree;

struct proc *proc_find(int32_t pid)
{
	for (uint32_t i = bucket[(uint32_t)pid % HASH]; i; i = procs[i - 1].next)
		if (procs[i - 1].pid == pid)
			return &procs[i - 1];
	return NULL;
}

struct proc *proc_add(int32_t pid, enum proc_state state)
{
	uint32_t i, *head = &bucket[(uint32_t)pid % HASH], gen;

	if (nfree == 0 && procs_used == PROCS_MAX)
		return NULL;
	i = nfree ? free_list[--nfree] : procs_used++;
	gen = procs[i].gen;
	procs[i] = (struct proc){.state = state,
				 .pid = pid,
				 .gen = gen + 1,
				 .next = *head,
				 .chan = -1};
	*head = i + 1;
	procs_count++;
	return &procs[i];
}

int chan_end(int chan)
{
	/* Its user may have it too, and then the kernel would go on telling us of it. */
	if (chan >= 0)
		epoll_ctl(self.epoll, EPOLL_CTL_DEL, chan, NULL);
	return foreign_end(chan);
}

void proc_close_chan(struct proc *p)
{
	clones_forget(p);
	sent_forget(p);
	p->chan = chan_end(p->chan);
	p->gen++; /* events of it that are under way are nobody's */
}

void proc_remove(struct proc *p)
{
	uint32_t i = proc_index(p), *at = &bucket[(uint32_t)p->pid % HASH];

	events_forget_signals(p);
	proc_close_chan(p);
	later_drop(p);
	procs_reaped -= p->reaped;
	procs_dropped -= p->dropped_of != 0;
	while (*at != i + 1)
		at = &procs[*at - 1].next;
	*at = p->next;
	p->state = PROC_FREE;
	p->pid = 0;
	free_list[nfree++] = i;
	procs_count--;
}

int proc_set_chan(struct proc *p, int chan)
{
	proc_close_chan(p);
	p->chan = chan;
	fcntl(chan, F_SETFL, O_NONBLOCK);
	/* It may be watched already, as its move's. */
	if (rewatch_fd(chan, ON_PROC, proc_index(p), p->gen, EPOLLIN) == 0)
		return 0;
	return watch_fd(chan, ON_PROC, proc_index(p), p->gen, EPOLLIN);
}

int proc_tell(struct proc *p, const struct chan_msg *m, const int *fds, int nfd)
{
	int e = p->chan < 0 ? -EBADF : p->later ? -EAGAIN : 0;

	if (e == 0)
		e = pkt_send_now(p->chan, m, sizeof(*m), fds, nfd);
	if (e == -EAGAIN && nfd == 0)
		e = later_put(p, m);
	if (e < 0 && e != -EPIPE)
		say("pid %d: message %u: %s", p->pid, m->type, strerror(-e));
	return e;
}

int proc_order(struct proc *p, enum chan_type type, uint64_t move_id)
{
	return proc_tell(p, &(struct chan_msg){.type = type, .move_id = move_id}, NULL, 0);
}

/* -- messages */

void ghost_made(struct proc *p)
{
	int e = trace_begin(p, 0);

	if (e < 0 && p->orphan)
		return trace_ended(p, SIGKILL);
	if (e < 0)
		say("ghost %d cannot be traced: %s", p->pid, strerror(-e));
	p->state = PROC_GHOST;
	p->place = place_of(p->pid);
	trace_held_stop(p);
	p->move = 0;
	born_made(p);
	mirror_next(p);
	place_made(p->pid);
	place_misses(p, p->id.pgid, p->id.sid);
	arrive_progress();
}

static void message(struct proc *p, const struct chan_msg *c)
{
	if (!chan_is_right(p, c))
		return;
	switch (c->type) {
	case CHAN_CHILD:
		ghost_report(&c->u.child);
		return;
	case CHAN_CLONED:
		if (c->u.pid != p->pid) { /* else a skeleton that could not */
			clone_answered(p, c->u.pid);
			trace_sleep(p);
		}
		arrive_cloned(p, c);
		return;
	case CHAN_KILLED:
		sent_said(p, c->u.kill.pid);
		return;
	case CHAN_PLACED:
		trace_sleep(p);
		place_done(c);
		return;
	case CHAN_HELD:
		children_held(p, c);
		return;
	case CHAN_SIG:
		trace_unmet(p, c->u.siginfo);
		return;
	default:
		break;
	}
	switch (p->state) {
	case PROC_MAKING:
		if (c->type == CHAN_GHOST)
			return ghost_made(p);
		if (c->type != CHAN_FAILED)
			break;
		say("ghost %d: %.*s", p->pid, CHAN_TEXT_MAX, c->u.text);
		making_refused(p);
		break;
	case PROC_LEAVING:
		leave_message(p, c);
		break;
	case PROC_ARRIVING:
		arrive_message(p, c);
		break;
	case PROC_GHOST:
		if (c->type == CHAN_FAILED)
			say("ghost %d: %.*s", p->pid, CHAN_TEXT_MAX, c->u.text);
		break;
	default:
		break;
	}
}

void proc_readable(struct proc *p)
{
	uint32_t gen = p->gen;
	struct sysio_pkt pkt;
	struct chan_msg c;

	for (int i = 0; i < CHAN_BATCH && p->gen == gen; i++) {
		int e = foreign_recv(p->chan, &c, sizeof(c), &pkt);

		if (e == -EAGAIN)
			return;
		if (e == 0 && pkt.len == sizeof(c))
			lazy_message(p, &c, &pkt);
		foreign_pkt_close(&pkt);
		if (e == 0 && pkt.len == sizeof(c)) {
			c.u.text[CHAN_TEXT_MAX - 1] = '\0';
			message(p, &c);
			continue;
		}
		if (e == 0 && pkt.len != 0)
			continue; /* not of this protocol */
		/* The end of a channel orders nothing: the tracer and wait() tell deaths. */
		proc_close_chan(p);
		if (p->state != PROC_MAKING || !making_ended(p))
			arrive_chan_closed(p);
		return;
	}
}
