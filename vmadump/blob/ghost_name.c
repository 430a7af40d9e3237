/*
 * How a ghost looks: its original was born on a node, or has exec'd there, and ps
 * at home is to show its name and arguments, its group, and whose it is. Part of
 * the blob; runs in the ghost.
 */
#include "ghost.h"

#define JOIN_TRIES 10 /* a ms each */

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

/* The leader of a group is told to make it by a message of its own, which may be read later. */
static void join(const struct chan_name *n)
{
	struct timespec t = {.tv_nsec = 1000000};

	take_place((int)sys_getpid(), n->pgid, n->sid == sys_getsid(0) ? 0 : n->sid, 0);
	for (int i = 0; i < JOIN_TRIES && n->pgid > 0 && sys_getpgid(0) != n->pgid; i++) {
		sys_nanosleep(&t);
		take_place((int)sys_getpid(), n->pgid, 0, 0);
	}
}

void ghost_name(struct ghost *g, const struct chan_name *n)
{
	unsigned r, e, s, rg, eg, sg;
	const uint32_t uid[3] = {n->uid, n->euid, n->suid}, gid[2] = {n->gid, n->egid};

	if (n->comm[0])
		sys_prctl(PR_SET_NAME, (unsigned long)n->comm, 0, 0, 0);
	if (n->nargs > 0)
		show_args(g->b, n);
	if (n->sid > 0)
		join(n);
	/* One that has left as an ordinary user's process may not: it stays its user's. */
	sys_getresgid(&rg, &eg, &sg);
	sys_getresuid(&r, &e, &s);
	if (r != uid[0] || e != uid[1] || s != uid[2] || rg != gid[0] || eg != gid[1])
		cred_ghost(g->b, uid, gid);
	if (n->reaper != NAME_REAPER_AS_IS)
		sys_prctl(PR_SET_CHILD_SUBREAPER, n->reaper == NAME_REAPER_ON, 0, 0, 0);
}
