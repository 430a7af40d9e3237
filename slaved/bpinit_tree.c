/*
 * bpinit: processes that arrive together (doc/move.md). Each arrives as if it came alone, into its
 * ghost, and waits when it is complete; when the last one is, it is noted of all of them that they
 * run, in one go. One that fails, or is called off, fails all: each is the ghost again that it was.
 *
 * What several of them have open the first has made. The others ask for it, and get it when
 * the first is complete.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "slaved/bpinit.h"

#define OVER_MAX 256 /* trees that failed: of one its members may still be announced */

static uint64_t over[OVER_MAX];
static uint32_t nover;

#define EACH_MEMBER(m, of)                                                                         \
	for (struct move *m = moves; m < moves + moves_used; m++)                                  \
		if (m->phase >= ARRIVE_CHAIN && m->tree == (of))

bool tree_is_over(uint64_t tree)
{
	for (uint32_t i = 0; tree && i < OVER_MAX; i++)
		if (over[i] == tree)
			return true;
	return false;
}

void tree_failed(uint64_t tree, const char *text)
{
	char why[CHAN_TEXT_MAX];

	if (tree_is_over(tree))
		return;
	over[nover++ % OVER_MAX] = tree;
	snprintf(why, sizeof(why), "one that was to come with it: %.100s", text);
	EACH_MEMBER(m, tree)
	{
		if (m->phase == ARRIVE_DETACHING)
			m->off = true; /* in a moment */
		else
			arrive_call_off(m, ECANCELED, why);
	}
}

/*
 * Each but the first is a ghost before, its parent's child, and known to the master as the ghost
 * of an ancestor is: so it stays when the move is not to be.
 */
bool tree_not_yet(struct move *m, const struct proc *p)
{
	const struct proc *parent = proc_find(m->ppid);

	if (m->id == m->tree)
		return false;
	if (!p)
		return parent && (parent->state == PROC_MAKING || proc_can_clone(parent));
	if (proc_parent(p->pid) == m->ppid)
		return false;
	arrive_failed(m, ECHILD, "its ghost there is no child of its parent's");
	return true;
}

/* -- what they share */

/* What one may take out of the other by ptrace(2), he may be given. */
static bool is_same_user(const struct chan_cred *a, const struct chan_cred *b)
{
	return memcmp(a->uid, b->uid, sizeof(a->uid)) == 0 &&
	       memcmp(a->gid, b->gid, sizeof(a->gid)) == 0 && a->cap_prm == b->cap_prm;
}

static int take_from(const struct move *first, int32_t fd)
{
	cleanup_fd int pidfd = (int)syscall(SYS_pidfd_open, first->pid, 0);
	int got = pidfd < 0 ? -1 : (int)syscall(SYS_pidfd_getfd, pidfd, fd, 0);

	return got < 0 ? -errno : got;
}

static void serve(struct move *m)
{
	struct move *first = move_find(m->tree);
	struct proc *p = proc_find(m->pid);
	struct chan_msg c = {.type = CHAN_LENT, .move_id = m->id};
	int fd;

	if (!m->wants || !p || !first || first->phase != ARRIVE_HELD)
		return;
	fd = is_same_user(&first->cred, &m->cred) ? take_from(first, m->wants - 1) : -EPERM;
	c.err = fd < 0 ? -fd : 0;
	m->wants = 0;
	proc_tell(p, &c, &fd, fd >= 0);
	if (fd >= 0)
		foreign_close(fd);
}

void tree_want(struct move *m, int32_t fd)
{
	m->wants = fd >= 0 && fd < INT32_MAX ? fd + 1 : 0;
	serve(m);
}

/* -- all of them, or none */

void tree_complete(struct move *m)
{
	uint64_t tree = m->tree;
	uint32_t members = m->members, n = 0;

	m->phase = ARRIVE_HELD;
	EACH_MEMBER(other, tree)
	n += other->phase == ARRIVE_HELD;
	if (n == members) {
		arrive_run_tree(tree);
		return;
	}
	if (m->id == tree) {
		EACH_MEMBER(other, tree)
		serve(other);
	}
	arrive_progress(); /* who waits for a ghost that it would have made waits in vain */
}
