/*
 * bproc_movepid(): another process is moved. In every process that uses the library. The
 * process is put into the blob by ptrace, with no right but that, and asks for leave there by
 * itself (vmadump/away.c); what is here says which process, and tells the caller.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "bproc.h"
#include "libbproc/api.h"
#include "libbproc/sysio.h"
#include "vmadump/carry.h"

/* 0: it is real here, as far as the cluster knows. */
static int is_here(int pid, int self)
{
	int node, e = api_settled(pid, &node);

	/* 0 and below are groups for kill(2). Of a process that is elsewhere its ghost is here. */
	if (pid < 1 || (e == -BE_INVALIDPROC && kill(pid, 0) < 0 && errno == ESRCH))
		return bproc_err_set(api_err(), ESRCH, "there is no process %d", pid);
	if (e == -BE_INVALIDPROC && self == BPROC_NODE_MASTER)
		return 0; /* the cluster has not heard of it: a process of the front end */
	if (e < 0)
		return e;
	if (node != self)
		return bproc_err_set(api_err(), BE_INVALIDPROC, "pid %d is on node %d", pid, node);
	return 0;
}

static _Thread_local struct bproc_movestat_t last;

void bproc_movestat(struct bproc_movestat_t *stat)
{
	*stat = last;
}

#define STALE_TRIES 4 /* each has a program more sent whole */

static int failed(const struct vmad_err *err)
{
	return bproc_err_set(api_err(), err->code ? err->code : EIO, "%s", err->text);
}

static int leave_once(int pid, int node, int flags)
{
	struct vmad_err err = {0};
	cleanup_fd int conn = client_connect(api_err());
	uint64_t us = 0;
	int r;

	if (conn < 0)
		return conn;
	r = vmad_leave_pid(pid, conn, node, (unsigned)flags, &us, &err);
	last.frozen_us = us;
	return r < 0 ? failed(&err) : 0;
}

/* 1: it has left. 0: it cannot so, and why; or -errno. */
static int leave_live(int pid, int node, int flags)
{
	struct vmad_err err = {0};
	struct vmad_live s = {0};
	cleanup_fd int conn = client_connect(api_err());
	int r;

	if (conn < 0)
		return conn;
	r = vmad_leave_live(pid, conn, node, (unsigned)flags, &s, &err);
	last.frozen_us = s.frozen_us;
	last.rounds = s.rounds;
	last.ahead_bytes = s.bytes;
	last.ahead_us = s.ahead_us;
	last.asked_us = s.asked_us;
	if (r == 0)
		return 1;
	if ((err.code != ENOTSUP || s.rounds) && err.code != ESTALE)
		return failed(&err);
	last.rounds = 0;
	snprintf(last.why, sizeof(last.why), "%s", err.text);
	return 0;
}

/* All that descend from it go too. */
static int leave_tree(int pid, int node, int flags, int self)
{
	struct vmad_err err = {0};
	int conn = client_connect(api_err()), r;
	uint64_t us = 0;

	if (conn < 0)
		return conn;
	r = vmad_leave_tree(pid, conn, node, (unsigned)flags,
			    self == BPROC_NODE_MASTER ? 0 : VMAD_AWAY, &us, &err);
	last.frozen_us = us;
	if (r < 0)
		return failed(&err);
	last.processes = (unsigned)r;
	return 0;
}

/* ESTALE: what the node had of one of their programs it has no more. */
static int leave_trees(int pid, int node, int flags, int self)
{
	struct client_mark mark;
	int e, tries = 0;

	client_mark(&mark);
	do
		e = leave_tree(pid, node, flags, self);
	while (api_follows(e, pid) || (e == -ESTALE && ++tries < STALE_TRIES) ||
	       (self == BPROC_NODE_MASTER && api_again(e, &mark, pid)));
	return e;
}

/* The node's kernel is not able to have memory follow: then all goes along. */
static int leave_plain(int pid, int node, int flags, int e)
{
	if (e != -EOPNOTSUPP || !(flags & BPROC_MOVE_LAZY))
		return e;
	snprintf(last.why, sizeof(last.why), "%s", api_err()->text);
	return leave_once(pid, node, flags & ~BPROC_MOVE_LAZY);
}

int bproc_movepid(int pid, int node, int flags)
{
	int self, e = api_currnode(&self), live = flags & BPROC_MOVE_LIVE,
		  tree = flags & BPROC_MOVE_TREE;
	unsigned judge = flags & BPROC_MOVE_JUDGE, ahead, locks;
	struct client_mark mark;

	memset(&last, 0, sizeof(last));
	flags &= ~(BPROC_MOVE_LIVE | BPROC_MOVE_TREE | BPROC_MOVE_JUDGE);
	if (e == 0 && (flags & ~(BPROC_DUMP_ALL | BPROC_MOVE_LAZY | BPROC_MOVE_LOCKS) ||
		       (tree && (live || flags & BPROC_MOVE_LAZY))))
		e = bproc_err_set(api_err(), EINVAL, "flags %#x", flags);
	if (e == 0)
		e = is_here(pid, self);
	if (e < 0)
		return api_ret(e);
	if (!judge && (node == self || node == BPROC_NODE_SELF))
		return 0;
	/* Before it is touched: what the blob calls there could be its death. */
	ahead = live || flags & BPROC_MOVE_LAZY ? LOCAL_LOOK_AHEAD : 0;
	locks = flags & BPROC_MOVE_LOCKS ? LOCAL_LOOK_LOCKS : 0;
	e = tree ? api_look_tree(pid, locks) : api_look_filters(pid, ahead | locks);
	if (e == -ENOTSUP && ahead) {
		snprintf(last.why, sizeof(last.why), "%s", api_err()->text);
		live = 0;
		flags &= ~BPROC_MOVE_LAZY;
		e = api_look_filters(pid, locks);
	}
	if (e < 0)
		return api_ret(e);
	if (judge)
		return 0;
	if (tree) {
		e = leave_trees(pid, node, flags, self);
		return e < 0 ? api_ret(e) : 0;
	}
	client_mark(&mark);
	if (live) {
		do
			e = leave_live(pid, node, flags & ~BPROC_MOVE_LAZY);
		while (api_follows(e, pid) || api_again(e, &mark, pid));
		if (e != 0)
			return e < 0 ? api_ret(e) : 0;
	}
	do
		e = leave_once(pid, node, flags);
	while (api_follows(e, pid) || api_again(e, &mark, pid));
	if (e == -ESTALE) /* see _bproc_rfork */
		e = leave_once(pid, node, flags);
	e = leave_plain(pid, node, flags, e);
	return e < 0 ? api_ret(e) : 0;
}
