/*
 * A relative of a process that moves, or the leader of its group: as the wire has it, and as
 * bpinit has it. Runs in bpslave.
 */
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
