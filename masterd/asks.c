/*
 * Questions that cannot be judged yet (doc/move.md, "When something dies"). Only who asked is kept:
 * when it can be judged he is told to ask again, and asks with what is so then. Runs in bpmaster.
 */
#include <errno.h>
#include <stdlib.h>

#include "include/sys/bproc_common.h"
#include "libbproc/local.h"
#include "libbproc/log.h"
#include "master.h"

struct waiting {
	struct waiting *next;
	struct peer *peer;
	uint32_t req;	/* of the first, if they go together */
	uint64_t move;	/* that is to be over; 0: */
	int32_t target; /* that is to come */
};

bool asks_to_come(const struct master *m, const struct node *n)
{
	return n->state == NS_DOWN && !m->swept && (n->num == NODE_HOME || n->kept);
}

/*
 * It came to who asks by a move that the last master has granted, and whose end this one has not
 * heard of from both sides.
 */
static const struct move *came_by(struct peer *p, const Bproc__MoveAsk *a)
{
	const struct proc *of = proc_get(&p->m->procs, a->asker_pid, 0);
	const struct move *mv = of && of->state == PS_MOVING ? of->move : NULL;

	return mv && mv->epoch != p->m->epoch && mv->target == p->node->num ? mv : NULL;
}

/* 0: nothing keeps it from being judged. */
static uint64_t waits_for(struct peer *p, const Bproc__MoveAsk *a, bool *ret_target)
{
	struct master *m = p->m;
	const struct node *target = node_get(&m->nodes, a->node);
	const struct move *mv =
		a->again ? move_asked(&m->moves, p->node->num, a->req, a->pid) : NULL;

	if (!mv && a->kind != MOVE_RFORK && a->kind != MOVE_LIVE)
		mv = came_by(p, a);
	*ret_target = !mv && target && asks_to_come(m, target);
	return mv ? mv->id : 0;
}

bool asks_wait(struct peer *p, Bproc__MoveAsk *const *a, size_t n)
{
	struct bproc_err err = {.text = ""};
	struct master *m = p->m;
	struct waiting *w;
	bool target = false;
	uint64_t move = 0;

	for (size_t i = 0; i < n && !move && !target; i++)
		move = waits_for(p, a[i], &target);
	if (!move && !target)
		return false;
	w = m->nwaiting < MOVES_MAX ? calloc(1, sizeof(*w)) : NULL;
	if (!w) {
		bproc_err_set(&err, EAGAIN, "%u questions wait for what is to come back",
			      m->nwaiting);
		for (size_t i = 0; i < n; i++)
			moves_deny(p, a[i]->req, &err);
		return true;
	}
	log_debug("node %d: pid %d waits for its answer", p->node->num, a[0]->pid);
	*w = (struct waiting){.next = m->waiting,
			      .peer = p,
			      .req = a[0]->req,
			      .move = move,
			      .target = a[0]->node};
	m->waiting = w;
	m->nwaiting++;
	return true;
}

static void drop(struct master *m, struct waiting **at)
{
	struct waiting *w = *at;

	*at = w->next;
	m->nwaiting--;
	free(w);
}

void asks_look(struct master *m)
{
	Bproc__MoveDeny d = BPROC__MOVE_DENY__INIT;
	struct waiting **at = &m->waiting;
	const struct waiting *w;

	while ((w = *at)) {
		if (w->move ? move_get(&m->moves, w->move) != NULL
			    : asks_to_come(m, node_get(&m->nodes, w->target))) {
			at = &(*at)->next;
			continue;
		}
		d.req = w->req;
		d.again = true;
		link_send(w->peer->link, &d.base);
		drop(m, at);
	}
}

void asks_forget(struct peer *p)
{
	struct waiting **at = &p->m->waiting;

	while (*at) {
		if ((*at)->peer == p)
			drop(p->m, at);
		else
			at = &(*at)->next;
	}
}
