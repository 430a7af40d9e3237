/*
 * How a ghost looks: its original was born on a node, or has exec'd there, and ps
 * at home is to show its name and arguments, its group, and whose it is. Part of
 * the blob; runs in the ghost.
 */
#include "ghost.h"

/* In the place where args_put() shows them: the end of the blob's own memory. */
static void show_args(struct blob *b, const struct chan_name *n)
{
	uint64_t mark = arena_mark(b), len = MIN(n->nargs, CHAN_ARGS_MAX);
	struct args a;

	args_save(b, &a);
	a.copy = arena_alloc(b, 4096);
	if (a.copy) {
		memcpy(a.copy, n->args, len);
		a.start = 0;
		a.bytes = len;
		a.len = 4096;
		a.lo = b->self + BLOB_DATA - a.len;
		args_put(b, &a);
	}
	arena_release(b, mark);
}

void ghost_name(struct ghost *g, const struct chan_name *n)
{
	unsigned r, e, s, gid;

	if (n->comm[0])
		sys_prctl(PR_SET_NAME, (unsigned long)n->comm, 0, 0, 0);
	if (n->nargs > 0)
		show_args(g->b, n);
	if (n->sid > 0)
		take_place((int)sys_getpid(), n->pgid, n->sid == sys_getsid(0) ? 0 : n->sid);
	/* One that has left as an ordinary user's process may not: it stays its user's. */
	sys_getresgid(&r, &e, &s);
	gid = r;
	sys_getresuid(&r, &e, &s);
	if (r != n->uid || gid != n->gid)
		cred_ghost(g->b, n->uid, n->gid);
}
