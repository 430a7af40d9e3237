/*
 * The relatives of a process that moves, and the leader of its group: as the wire has them, and as
 * bpinit has them. Runs in bpslave.
 */
#include <errno.h>
#include <stdio.h>

#include "slaved/bpslave.h"

void chain_put(const struct init_chain *c, Bproc__Chain *to)
{
	bproc__chain__init(to);
	to->pid = c->pid;
	to->ppid = c->ppid;
	to->pgid = c->pgid;
	to->sid = c->sid;
	to->uid = c->uid;
	to->gid = c->gid;
	to->comm = (char *)(uintptr_t)c->comm;
	to->child = c->child;
	to->state = c->state;
	to->status = c->status;
}

void chain_take(const Bproc__Chain *c, struct init_chain *to)
{
	born_expect(c->pid, c->ppid, c->pgid, c->sid);
	*to = (struct init_chain){.pid = c->pid,
				  .ppid = c->ppid,
				  .pgid = c->pgid,
				  .sid = c->sid,
				  .uid = c->uid,
				  .gid = c->gid,
				  .child = c->child,
				  .state = c->state,
				  .status = c->status};
	snprintf(to->comm, sizeof(to->comm), "%s", c->comm);
}

int chain_take_all(const Bproc__MoveStart *s, struct init_msg *m)
{
	if (s->n_chain > INIT_CHAIN_MAX)
		return -E2BIG;
	for (size_t i = 0; i < s->n_chain; i++)
		chain_take(s->chain[i], &m->u.arrive.chain[i]);
	m->u.arrive.nchain = (uint32_t)s->n_chain;
	return 0;
}

void chain_ancestors(const Bproc__MoveStart *s, struct stdio_of *of)
{
	int32_t pid = s->ppid;

	for (size_t i = s->n_chain; i > 0; i--) {
		if (s->chain[i - 1]->pid != pid)
			continue;
		of->pid[of->n++] = pid;
		pid = s->chain[i - 1]->ppid;
	}
}
