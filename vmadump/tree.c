/*
 * vmad_dump_pid() of a process with its children. Library code; runs in whoever dumps.
 *
 * All are stopped (tree_collect.c). Then the images are written, one after the other, and all
 * go on. What several have open, or have one end of each, the first is to carry.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmadump/blob/refuse.h"
#include "vmadump/chan.h"
#include "vmadump/pack.h"
#include "vmadump/tree.h"

/* fd -1: nothing is written: could it be? */
static long dump_one(struct tree *t, uint32_t i, int fd)
{
	struct tree_member *m = &t->member[i];
	struct chan_msg answer = {0};
	struct vmad_err why = {0};
	int order = tree_order_file(t, i), r;

	if (order < 0)
		return -1;
	r = chan_dump(m->f.chan, fd < 0 ? order : fd, order, fd < 0 ? CHAN_DUMP_LOOK : 0);
	close(order);
	if (r < 0)
		return tree_fail(t, errno, "process %d: %s", m->pid, strerror(errno));
	m->f.t.err = &why;
	r = chan_answer(&m->f.t, m->f.chan, &answer);
	m->f.t.err = NULL;
	if (r < 0 && i)
		return tree_fail(t, why.code, "process %d: %s", m->pid, why.text);
	if (r < 0) {
		tree_fail(t, why.code, "%s", why.text);
		tree_name_owner(t);
		return -1;
	}
	return (long)answer.u.bytes;
}

static long dump_all(struct tree *t, int fd)
{
	long bytes = 0, n;

	if (tree_find_shared(t) < 0 || tree_lend(t) < 0)
		return -1;
	/* What one of them cannot be carried for is known before the first has written much, and
	 * before all others are looked at. */
	for (uint32_t i = 0; i < t->n; i++)
		if (t->member[i].kind != TREE_ZOMBIE && dump_one(t, i, -1) < 0)
			return -1;
	if (tree_cut_off(t, NULL, NULL) < 0)
		return -1;
	for (uint32_t i = 0; i < t->n; i++) {
		if (t->member[i].kind == TREE_ZOMBIE)
			continue;
		n = dump_one(t, i, fd);
		if (n < 0)
			return -1;
		bytes += n;
	}
	return bytes;
}

/* -- and on */

/* Children first, and each parent waits for its own: then their numbers are free again. */
static void end_all(struct tree *t)
{
	struct vmad_err scratch;

	for (uint32_t i = t->n; i-- > 0;) {
		struct tree_member *m = &t->member[i], *parent;
		struct chan_msg answer;

		m->f.t.err = &scratch;
		if (m->kind == TREE_PROCESS)
			freeze_end(&m->f);
		if (m->parent == TREE_NO_PARENT)
			continue;
		/* Who traces it is told first; then its parent is. */
		for (uint32_t k = m->f.t.n; k-- > 0;)
			while (waitpid(m->f.t.task[k].tid, NULL, __WALL) < 0 && errno == EINTR)
				;
		parent = &t->member[m->parent];
		parent->f.t.err = &scratch;
		if (chan_reap(parent->f.chan, m->pid) == 0)
			chan_answer(&parent->f.t, parent->f.chan, &answer);
	}
}

static void leave_all(struct tree *t, int stop)
{
	int e = errno;

	for (uint32_t i = t->n; i-- > 0;) {
		struct vmad_err scratch;

		if (t->member[i].kind != TREE_PROCESS)
			continue;
		t->member[i].f.t.err = &scratch;
		if (stop)
			t->member[i].f.t.stop_after = SIGSTOP;
		freeze_leave(&t->member[i].f);
	}
	errno = e;
}

long tree_dump(pid_t pid, int fd, unsigned copy, unsigned flags, struct pack_child *pack,
	       uint64_t *ret_us, struct vmad_err *err)
{
	struct trace said = {.err = err};
	struct tree t = {.err = err};
	uint64_t since;
	long r = -1;
	int e;

	if (tree_ahead(&t, pid) < 0)
		return -1;
	since = freeze_now_us();
	if (tree_collect(&t, pid, copy) == 0)
		r = dump_all(&t, fd);
	if (flags & (VMAD_KILL | VMAD_STOP))
		r = pack_end(pack, r, &said);
	if (r > 0 && flags & VMAD_KILL)
		end_all(&t);
	else
		leave_all(&t, r > 0 && flags & VMAD_STOP);
	if (ret_us)
		*ret_us = freeze_now_us() - since;
	e = errno;
	tree_free(&t);
	errno = e;
	return r;
}
