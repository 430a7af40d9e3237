/*
 * Processes that move together: all are granted, or none is (doc/move.md). Each is a move of its
 * own from then on; that all of them run or none is the target's bpinit's. Runs in bpmaster.
 */
#include <errno.h>
#include <string.h>

#include "include/sys/bproc_common.h"
#include "libbproc/local.h"
#include "master.h"

static const char *malformed(const Bproc__MoveAskTree *t)
{
	const char *bad;

	if (t->n_member < 1 || t->n_member > MOVE_TREE_MAX)
		return "number of processes";
	for (size_t i = 0; i < t->n_member; i++) {
		if (t->member[i]->kind != MOVE_MOVE || t->member[i]->node != t->member[0]->node)
			return "kind";
		bad = moves_malformed(t->member[i]);
		if (bad)
			return bad;
	}
	return NULL;
}

/* One of them may not: nobody goes. */
static void deny_all(struct peer *p, const Bproc__MoveAskTree *t, size_t which,
		     const struct bproc_err *why)
{
	struct bproc_err other = {.text = ""};

	bproc_err_set(&other, ECANCELED, "process %d may not go: %.100s", t->member[which]->pid,
		      why->text);
	for (size_t i = 0; i < t->n_member; i++)
		moves_deny(p, t->member[i]->req, i == which ? why : &other);
}

void tree_ask(struct peer *p, const Bproc__MoveAskTree *t)
{
	const char *bad = malformed(t);
	struct bproc_err err = {.text = ""};
	struct judged j[MOVE_TREE_MAX];
	struct move_tree tree = {0};
	size_t n = 0;

	if (bad) {
		peer_drop(p, "protocol error: MoveAskTree with a bad %s", bad);
		return;
	}
	if (asks_wait(p, t->member, t->n_member))
		return;
	while (n < t->n_member && moves_judge(p, t->member[n], &j[n], &err) == 0)
		n++;
	if (n < t->n_member) {
		deny_all(p, t, n, &err);
		while (n-- > 0)
			moves_unjudge(p->m, &j[n]);
		return;
	}
	tree.first = j[0].mv->id;
	tree.members = (uint32_t)n;
	for (size_t i = 0; i < n; i++)
		moves_grant(p, &j[i], t->member[i], &tree);
}
