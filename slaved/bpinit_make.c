/*
 * bpinit: a process under the number that it is to have, made by clone from its parent's
 * ghost, so that the kernel has the relation right by itself, or from bpinit.
 */
#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "slaved/bpinit.h"

bool proc_can_clone(const struct proc *p)
{
	return p && p->state == PROC_GHOST && p->chan >= 0 && !p->exiting && !p->dying;
}

/*
 * What has no parent any more, or one that is just ending, is our child, but no session can be
 * joined: only who is born of a member is one. So the ghost of its leader makes it, as a
 * sibling, if that is our child too.
 */
static struct proc *sibling(const struct proc *parent, const struct chan_clone *id)
{
	struct proc *leader = NULL;

	if (!proc_can_clone(parent) && !self.keeper && id->sid != id->pid)
		leader = proc_find(id->sid);
	return proc_can_clone(leader) && proc_parent(leader->pid) == self.self ? leader : NULL;
}

/*
 * A process under its pid, child of its parent's ghost, or of ours where the parent
 * is real here or nowhere. What it is to be waits for it in its channel. On success
 * it is in the table; -errno otherwise.
 */
int proc_make(struct move *m, int32_t ppid, const struct chan_clone *id, enum proc_state state)
{
	struct chan_msg who = {.type = CHAN_CLONE,
			       .move_id = m ? m->id : 0,
			       .flags = self.keeper ? 0 : CHAN_CLONE_REAP,
			       .u.clone = *id};
	struct proc *by = proc_find(ppid), *leader = sibling(by, id), *p;
	cleanup_fd int theirs = -1;
	int pair[2], e;

	if (m && m->kind == MOVE_RFORK && id->kind == CLONE_ARRIVAL)
		who.flags = CHAN_CLONE_TEMPLATE;
	if (m && m->threads && id->kind != CLONE_GHOST)
		who.flags |= CHAN_CLONE_THREADS;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return -errno;
	theirs = pair[1];
	p = proc_add(id->pid, state);
	if (!p) {
		close_fd(pair[0]);
		return -EAGAIN;
	}
	p->id = *id;
	p->move = m ? move_index(m) + 1 : 0;
	e = proc_set_chan(p, pair[0]);
	if (e == 0)
		e = proc_tell(p, &who, NULL, 0);
	if (leader) {
		who.flags |= CHAN_CLONE_SIBLING;
		by = leader;
	}
	if (e == 0 && proc_can_clone(by)) {
		lease_raise(id->pid);
		e = proc_tell(by, &who, &theirs, 1);
		if (e == 0)
			trace_wake(by);
		else
			lease_lower(id->pid);
	} else if (e == 0) {
		e = spawn_blob(id->pid, theirs);
		p->cloned_by_us = e == 0;
	}
	if (e < 0)
		proc_remove(p);
	return e;
}
