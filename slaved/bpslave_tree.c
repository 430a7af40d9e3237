/*
 * Processes that leave together (doc/move.md), at their source. Runs in bpslave. Each asks as if it
 * left alone, all on one connection, which holds them together. When the last one has asked the
 * master is asked for all of them at once. If one cannot, or the connection ends before, those
 * that have asked go on where they were. From the question to the answer they are held together
 * for the case that it has to be asked again.
 */
#include <errno.h>
#include <stdlib.h>

#include "bpslave_move.h"

#define ASK_MS 10000 /* from the first to the last: they are told in one go */

struct tree {
	LIST_ENTRY(tree) next;
	uint32_t client, members;
	uint32_t n; /* whose seccomp filters are known: nothing is missing to ask for them */
	struct leaving *v[MOVE_TREE_MAX];
	struct event *late; /* owned; NULL: all have asked */
	bool told;	    /* the master has been, on this link */
	bool apart; /* some of them have been answered, or are gone: no question of all any more */
};
static LIST_HEAD(, tree) trees = LIST_HEAD_INITIALIZER(trees);

static struct tree *find(uint32_t client)
{
	struct tree *t;

	LIST_FOREACH(t, &trees, next)
	if (t->client == client && t->late)
		return t;
	return NULL;
}

/* Its members are their own again. */
static void release(struct tree *t)
{
	for (uint32_t i = 0; i < t->members; i++)
		if (t->v[i])
			t->v[i]->tree = NULL;
	LIST_REMOVE(t, next);
	free_event(&t->late);
}

static void give_up(struct tree *t, const char *text)
{
	release(t);
	for (uint32_t i = 0; i < t->members; i++)
		if (t->v[i])
			leaving_refuse(t->v[i], ECANCELED, text);
	free(t);
}

static void on_late(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	give_up(arg, "not all that were to go with it have asked");
}

static struct tree *begin(uint32_t client, uint32_t members)
{
	struct tree *t = calloc(1, sizeof(*t));

	if (!t)
		return NULL;
	t->late = new_timer(on_late, t);
	if (!t->late) {
		free(t);
		return NULL;
	}
	t->client = client;
	t->members = members;
	start_timer(t->late, ASK_MS);
	LIST_INSERT_HEAD(&trees, t, next);
	return t;
}

static void put_all(struct tree *t)
{
	struct asker_msg *q = calloc(t->members, sizeof(*q));
	Bproc__MoveAskTree m = BPROC__MOVE_ASK_TREE__INIT;
	Bproc__MoveAsk *member[MOVE_TREE_MAX];

	if (!q)
		return give_up(t, "bpslave has no memory");
	for (uint32_t i = 0; i < t->members; i++) {
		struct leaving *v = t->v[i];
		struct asker_of of;

		leaving_question(v, &of);
		asker_put(v->who, &of, &q[i]);
		member[i] = &q[i].m;
	}
	m.n_member = t->members;
	m.member = member;
	master_send(&m.base);
	t->told = true;
	for (uint32_t i = 0; i < t->members; i++)
		t->v[i]->told = true;
	free(q);
}

static void ask_for_all(struct tree *t)
{
	free_event(&t->late);
	for (uint32_t i = 0; i < t->members; i++)
		t->v[i]->asked = true;
	if (master_is_up())
		put_all(t);
}

int tree_join(struct leaving *v, uint32_t client, const struct local_move *ask)
{
	struct tree *t = find(client);

	if (!t && ask->members <= MOVE_TREE_MAX)
		t = begin(client, ask->members);
	if (!t || ask->members != t->members || ask->index >= t->members || t->v[ask->index])
		return t ? -EINVAL : -EAGAIN;
	t->v[ask->index] = v;
	v->tree = t;
	return 0;
}

void tree_ready(struct leaving *v)
{
	struct tree *t = v->tree;

	if (++t->n == t->members)
		ask_for_all(t);
}

/* v is answered, or gone, behind the question. */
static void part(struct tree *t, struct leaving *v)
{
	bool any = false;

	t->apart = true;
	for (uint32_t i = 0; i < t->members; i++) {
		if (t->v[i] == v)
			t->v[i] = NULL;
		any |= t->v[i] != NULL;
	}
	v->tree = NULL;
	if (any)
		return;
	release(t);
	free(t);
}

void tree_part(struct leaving *v)
{
	struct tree *t = v->tree;

	if (!t)
		return;
	if (!t->late)
		return part(t, v);
	for (uint32_t i = 0; i < t->members; i++)
		if (t->v[i] == v)
			t->v[i] = NULL;
	v->tree = NULL;
	give_up(t, "one that was to go with it cannot");
}

void tree_granted(struct leaving *v)
{
	if (v->tree)
		part(v->tree, v);
}

void tree_client_gone(uint32_t client)
{
	struct tree *t = find(client);

	if (t)
		give_up(t, "one that was to go with it cannot");
}

/* Those of which some were answered are undone: the master does so with the others. */
void tree_link_lost(void)
{
	struct tree *t, *more;

	for (t = LIST_FIRST(&trees); t; t = more) {
		more = LIST_NEXT(t, next);
		t->told = false;
		if (t->apart)
			give_up(t, "the link to the master was lost");
	}
}

void tree_no_master(void)
{
	struct tree *t, *more;

	for (t = LIST_FIRST(&trees); t; t = more) {
		more = LIST_NEXT(t, next);
		if (!t->late)
			give_up(t, "no link to the master");
	}
}

static void ask_again(struct tree *t)
{
	char text[LOCAL_TEXT_MAX] = "";
	int e = t->apart ? -ECANCELED : 0;

	for (uint32_t i = 0; i < t->members && e == 0; i++) {
		t->v[i]->again |= t->v[i]->told;
		e = leaving_look_again(t->v[i], text);
	}
	if (e < 0)
		give_up(t, text[0] ? text : "one that was to go with it cannot");
	else
		put_all(t);
}

void tree_ask_again(struct tree *one)
{
	struct tree *t, *more;

	if (one)
		return ask_again(one);
	for (t = LIST_FIRST(&trees); t; t = more) {
		more = LIST_NEXT(t, next);
		if (!t->late && !t->told)
			ask_again(t);
	}
}
