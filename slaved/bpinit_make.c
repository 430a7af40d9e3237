/*
 * bpinit: a process under the number that it is to have, made by clone from its parent's
 * ghost, so that the kernel has the relation right by itself, or from bpinit.
 */
#include <errno.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include "slaved/bpinit.h"

#define DUE_MAX 2048 /* a move and BIRTHS_AT_ONCE births have one each at a time */

/*
 * What was asked of ghosts. Their channels are in their users' hands: only who was asked may
 * answer, once, or one user's word would be another's failure, and the lease's fence would be
 * lowered that nobody has raised.
 */
static struct {
	uint32_t by; /* index */
	int32_t pid;
} due[DUE_MAX];
static uint32_t ndue;

static uint32_t find_due(const struct proc *by, int32_t pid)
{
	uint32_t i = 0;

	while (i < ndue && (due[i].by != proc_index(by) || (pid && due[i].pid != pid)))
		i++;
	return i;
}

static void take_due(struct proc *by, uint32_t i)
{
	lease_lower(due[i].pid);
	due[i] = due[--ndue];
	by->clones--;
}

bool clone_is_due(const struct proc *by, int32_t pid)
{
	return by->clones > 0 && pid > 0 && find_due(by, pid) < ndue;
}

bool clone_is_to_be(int32_t pid)
{
	for (uint32_t i = 0; i < ndue; i++)
		if (due[i].pid == pid)
			return true;
	return false;
}

void clone_answered(struct proc *by, int32_t pid)
{
	uint32_t i = find_due(by, pid);

	if (i < ndue)
		take_due(by, i);
}

/* It was not made, or cannot be a ghost. A move has it made anew, by whoever can by now. */
static void not_made(struct proc *p, int err)
{
	if (p->birth)
		born_failed(p, err);
	proc_remove(p);
	arrive_progress();
}

/*
 * What is being made, and whoever makes it, are heard in any order:
 *
 *			it refuses	its maker has made it	its maker ends, and has not said
 *	ASKED		REFUSED		MADE			UNANSWERED
 *	REFUSED				FAILED			UNANSWERED
 *	MADE		FAILED
 *
 * No parent here tells of an orphan's end: that of its channel does, or it never was, which is its
 * maker's to say. So that end counts when both are known. (Of others than orphans only the last
 * column is of interest.)
 */
void making_refused(struct proc *p)
{
	if (p->making == MAKE_ASKED)
		p->making = MAKE_REFUSED;
	else if (p->making == MAKE_MADE)
		p->making = MAKE_FAILED;
}

void making_made(struct proc *p)
{
	if (p->making == MAKE_ASKED)
		p->making = MAKE_MADE;
	else if (p->making == MAKE_REFUSED)
		p->making = MAKE_FAILED;
	if (p->chan < 0)
		making_ended(p);
}

bool making_ended(struct proc *p)
{
	switch (p->making) {
	case MAKE_ASKED:
	case MAKE_REFUSED:
		return p->orphan;
	case MAKE_MADE: /* killed: it would have said why else */
		trace_ended(p, SIGKILL);
		return true;
	case MAKE_FAILED:
		not_made(p, ECHILD);
		return true;
	case MAKE_UNANSWERED:
		if (!p->traced) /* else the tracer sees its end */
			not_made(p, EAGAIN);
		return true;
	}
	return false;
}

/* Who ends before it has answered has made it or not: its channel ends if not. */
void clones_forget(struct proc *by)
{
	while (by->clones > 0) {
		uint32_t i = find_due(by, 0);
		struct proc *p = proc_find(due[i].pid);

		take_due(by, i);
		if (!p || p->state != PROC_MAKING)
			continue;
		p->making = MAKE_UNANSWERED;
		if (p->chan < 0)
			making_ended(p);
	}
}

static int ask_ghost(struct proc *by, const struct chan_msg *who, int theirs)
{
	int32_t pid = who->u.clone.pid;
	int e;

	if (ndue == DUE_MAX)
		return -EAGAIN;
	lease_raise(pid);
	e = proc_tell(by, who, &theirs, 1);
	if (e < 0) {
		lease_lower(pid);
		return e;
	}
	due[ndue].by = proc_index(by);
	due[ndue++].pid = pid;
	by->clones++;
	trace_wake(by);
	return 0;
}

bool proc_can_clone(const struct proc *p)
{
	return p && p->state == PROC_GHOST && p->chan >= 0 && !p->exiting && !p->dying;
}

/* Nobody else is to be the parent of what its ghost will make. */
bool proc_maker_leaves(int32_t ppid)
{
	const struct proc *p = proc_find(ppid);

	return p && p->state == PROC_LEAVING;
}

/* A ghost in that session: of its leader, or of whoever is in it. */
static struct proc *member(int32_t sid)
{
	struct proc *p = proc_find(sid);

	if (proc_can_clone(p) && getsid(p->pid) == sid)
		return p;
	for (uint32_t i = 0; i < procs_used; i++)
		if (proc_can_clone(&procs[i]) && getsid(procs[i].pid) == sid)
			return &procs[i];
	return NULL;
}

/*
 * What has no parent any more, or one that is just ending, is our child, but no session can be
 * joined: only who is born of a member is one. So on a node the ghost of its leader makes it, as a
 * sibling, if that is our child too; at home any ghost of the session makes it an orphan.
 */
static struct proc *other_maker(const struct proc *parent, const struct chan_clone *id,
				uint32_t *ret_flag)
{
	struct proc *p = NULL;

	if (proc_can_clone(parent) || id->sid <= 0 || id->sid == id->pid)
		return NULL;
	if (self.keeper) {
		if (id->kind == CLONE_GHOST && id->sid != getsid(0))
			p = member(id->sid);
		*ret_flag = CHAN_CLONE_ORPHAN;
		return p;
	}
	p = proc_find(id->sid);
	*ret_flag = CHAN_CLONE_SIBLING;
	return proc_can_clone(p) && proc_parent(p->pid) == self.self ? p : NULL;
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
	uint32_t how = 0;
	struct proc *by = proc_find(ppid), *other = other_maker(by, id, &how), *p;
	cleanup_fd int theirs = -1;
	int pair[2], e;

	/* Nobody else is to be the parent of what arrives with it. */
	if (by && by->state == PROC_ARRIVING && by->move && moves[by->move - 1].tree)
		return -ECHILD;
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
	if (other) {
		who.flags |= how;
		p->orphan = how == CHAN_CLONE_ORPHAN;
		by = other;
	}
	if (e == 0 && proc_can_clone(by)) {
		e = ask_ghost(by, &who, theirs);
	} else if (e == 0) {
		e = spawn_blob(id->pid, theirs);
		p->cloned_by_us = e == 0;
	}
	if (e < 0)
		proc_remove(p);
	return e;
}
