/*
 * bproc_movepid(): another process is moved. In every process that uses the library. The
 * process is put into the blob by ptrace, with no right but that, and asks for leave there by
 * itself (vmadump/away.c); what is here says which process, and tells the caller.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "bproc.h"
#include "libbproc/api.h"
#include "libbproc/sysio.h"
#include "vmadump.h"

/* 0: it is real here, as far as the cluster knows. */
static int is_here(int pid, int self)
{
	int node, e = api_pidnode(pid, &node);

	if (e == -BE_INVALIDPROC && self == BPROC_NODE_MASTER)
		return 0; /* the cluster has not heard of it: a process of the front end */
	if (e < 0)
		return e;
	if (node != self)
		return bproc_err_set(api_err(), BE_INVALIDPROC, "pid %d is on node %d", pid, node);
	return 0;
}

static int leave_once(int pid, int node, int flags)
{
	struct vmad_err err = {0};
	cleanup_fd int conn = client_connect(api_err());
	int r;

	if (conn < 0)
		return conn;
	r = vmad_leave_pid(pid, conn, node, (unsigned)flags, NULL, &err);
	return r < 0 ? bproc_err_set(api_err(), err.code ? err.code : EIO, "%s", err.text) : 0;
}

int bproc_movepid(int pid, int node, int flags)
{
	int self, e = api_currnode(&self);

	if (e == 0 && flags & ~BPROC_DUMP_ALL)
		e = bproc_err_set(api_err(), EINVAL, "flags %#x", flags);
	if (e == 0)
		e = is_here(pid, self);
	if (e < 0)
		return api_ret(e);
	if (node == self || node == BPROC_NODE_SELF)
		return 0;
	e = leave_once(pid, node, flags);
	if (e == -ESTALE) /* see _bproc_rfork */
		e = leave_once(pid, node, flags);
	return e < 0 ? api_ret(e) : 0;
}
