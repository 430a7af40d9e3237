/*
 * What is said to bpinit of a process whose move has committed, and which has not said
 * yet that it is a ghost, waits until it has; so does what is said of the relatives
 * that are to come with it when it returns before that, or their ends would be told
 * before bpinit knows that somebody arrives who has to wait for them. Runs in bpslave.
 */
#include <stdlib.h>
#include <sys/queue.h>

#include "slaved/bpslave.h"

struct held {
	STAILQ_ENTRY(held) next;
	struct init_msg msg;
};
struct after {
	LIST_ENTRY(after) next;
	int32_t pid;
	STAILQ_HEAD(, held) held;
};
static LIST_HEAD(, after) afters = LIST_HEAD_INITIALIZER(afters);

static bool comes_with(const struct init_msg *arrive, int32_t pid)
{
	for (uint32_t i = 0; arrive->type == INIT_ARRIVE && i < arrive->u.arrive.nchain; i++)
		if (arrive->u.arrive.chain[i].pid == pid)
			return true;
	return false;
}

/* Behind what? NULL: nothing. */
static struct after *find(int32_t pid)
{
	struct after *a;
	struct held *h;

	LIST_FOREACH(a, &afters, next)
	if (a->pid == pid && pid != 0)
		return a;
	LIST_FOREACH(a, &afters, next)
	STAILQ_FOREACH(h, &a->held, next)
	if (comes_with(&h->msg, pid))
		return a;
	return NULL;
}

void move_after_ghost(const struct init_msg *m)
{
	struct after *a = find(m->pid);
	struct held *h = a ? malloc(sizeof(*h)) : NULL;

	if (!h)
		return init_send(m, NULL, 0);
	h->msg = *m;
	STAILQ_INSERT_TAIL(&a->held, h, next);
}

struct after *after_begin(int32_t pid)
{
	struct after *a = calloc(1, sizeof(*a));

	if (!a)
		return NULL;
	a->pid = pid;
	STAILQ_INIT(&a->held);
	LIST_INSERT_HEAD(&afters, a, next);
	return a;
}

void after_end(struct after *a)
{
	struct held *h;

	if (!a)
		return;
	LIST_REMOVE(a, next);
	while ((h = STAILQ_FIRST(&a->held))) {
		STAILQ_REMOVE_HEAD(&a->held, next);
		move_after_ghost(&h->msg); /* it may have to wait for another one too */
		free(h);
	}
	free(a);
}
