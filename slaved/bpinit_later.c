/*
 * bpinit: short orders for processes whose channel is full: a parent whose thousand
 * children end at once, a sender that signals all of a group. They wait here, in
 * order, until the process has read; bpinit itself waits for nobody.
 */
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>

#include "slaved/bpinit.h"

#define LATER_BYTES 32 /* of the union: u.pid, u.status, u.kill */

struct later {
	uint32_t next; /* index + 1 */
	uint32_t type;
	char u[LATER_BYTES];
};
_Static_assert(sizeof(((struct chan_msg *)0)->u.kill) <= LATER_BYTES, "channel.h");

static struct later pool[LATER_MAX];
static uint32_t used, free_one; /* no slot at or above used was ever used; index + 1 */
static bool full_told;

static struct later *take(void)
{
	struct later *l;

	if (free_one) {
		l = &pool[free_one - 1];
		free_one = l->next;
		return l;
	}
	return used < LATER_MAX ? &pool[used++] : NULL;
}

static void give_back(struct later *l)
{
	l->next = free_one;
	free_one = (uint32_t)(l - pool) + 1;
}

static bool is_short(const struct chan_msg *m)
{
	return m->type == CHAN_REAP || m->type == CHAN_EXIT || m->type == CHAN_KILL;
}

int later_put(struct proc *p, const struct chan_msg *m)
{
	struct later *l = is_short(m) ? take() : NULL;
	uint32_t at;

	if (!l) {
		if (is_short(m) && !full_told)
			say("more than %d orders wait for processes that do not read", LATER_MAX);
		full_told |= is_short(m);
		return -EAGAIN;
	}
	at = (uint32_t)(l - pool) + 1;
	l->next = 0;
	l->type = m->type;
	memcpy(l->u, &m->u, sizeof(l->u));
	if (p->later_last)
		pool[p->later_last - 1].next = at;
	else
		p->later = at;
	p->later_last = at;
	rewatch_fd(p->chan, ON_PROC, proc_index(p), p->gen, EPOLLIN | EPOLLOUT);
	return 0;
}

void later_flush(struct proc *p)
{
	struct chan_msg m;
	struct later *l;
	int e = 0;

	while (p->later && e == 0) {
		l = &pool[p->later - 1];
		m = (struct chan_msg){.type = l->type};
		memcpy(&m.u, l->u, sizeof(l->u));
		e = p->chan < 0 ? -EBADF : pkt_send_now(p->chan, &m, sizeof(m), NULL, 0);
		if (e == -EAGAIN)
			return;
		p->later = l->next;
		give_back(l);
		e = 0; /* a channel that has ended: the tracer tells what becomes of it */
	}
	p->later_last = 0;
	full_told = false;
	if (p->chan >= 0)
		rewatch_fd(p->chan, ON_PROC, proc_index(p), p->gen, EPOLLIN);
}

void later_drop(struct proc *p)
{
	struct later *l;

	while (p->later) {
		l = &pool[p->later - 1];
		p->later = l->next;
		give_back(l);
	}
	p->later_last = 0;
}
