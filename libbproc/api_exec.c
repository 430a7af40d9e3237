/*
 * execmove, and the v calls, which do one thing on many nodes. In every process
 * that uses the library; bproc_execmove(3), doc/move.md.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "bproc.h"
#include "libbproc/api.h"
#include "libbproc/client.h"
#include "libbproc/sysio.h"
#include "vmadump/blob/channel.h"

/*
 * bpinit's leave to exec, with the id of the move, and the blob's bytes, which become descriptor
 * CODE of the program that is loaded. 0 or -errno with the thread's text set.
 */
static int wait_for_go(int chan, int code, uint64_t *ret_move_id)
{
	struct sysio_pkt pkt;
	struct chan_msg m;
	int e = pkt_recv(chan, &m, sizeof(m), 0, &pkt);

	/* Nothing has been sent yet, so the loss of the channel can only mean no. */
	if (e == -ECONNRESET || (e == 0 && pkt.len == 0))
		return bproc_err_set(api_err(), ECONNRESET, "bpinit has ended before the move");
	if (e < 0)
		return bproc_err_set(api_err(), -e, "channel: %s", strerror(-e));
	if (pkt.len == sizeof(m) && m.type == CHAN_GO && pkt.nfd == 1 && code >= 0)
		dup3(pkt.fd[0], code, 0);
	pkt_close(&pkt);
	if (pkt.len == sizeof(m) && m.type == CHAN_GO) {
		*ret_move_id = m.move_id;
		return 0;
	}
	if (pkt.len == sizeof(m) && m.type == CHAN_ABORT && m.err > 0) {
		m.u.text[sizeof(m.u.text) - 1] = '\0';
		return bproc_err_set(api_err(), m.err, "%s", m.u.text);
	}
	return bproc_err_set(api_err(), EPROTO, "message %u on the channel before the move",
			     m.type);
}

/* bpinit does not let such a one leave, and kills it: its rights would be ours. */
static bool is_raised(const char *cmd)
{
	struct stat st;

	if (stat(cmd, &st) < 0)
		return false;
	return (st.st_mode & S_ISUID && st.st_uid != getuid()) ||
	       (st.st_mode & S_ISGID && st.st_mode & S_IXGRP && st.st_gid != getgid()) ||
	       (geteuid() != 0 && getxattr(cmd, "security.capability", NULL, 0) > 0);
}

static int exec_once(int node, const char *cmd, char *const argv[], char *const envp[],
		     uint32_t flags)
{
	struct chan_msg here = {.type = CHAN_HERE, .flags = CHAN_HERE_EXEC | flags};
	uint64_t move_id = CHAN_NO_MOVE;
	struct client c;
	int chan, code, e;

	e = api_start_move(MOVE_EXECMOVE, node, BPROC_DUMP_EXEC | BPROC_DUMP_OTHER, &c, &chan);
	if (e < 0)
		return e;
	code = fcntl(chan, F_DUPFD_CLOEXEC, 3); /* its place is taken until it comes */
	here.u.exec.chan = chan;
	here.u.exec.code = code > 0 ? code : 0;
	/* If that fails, so does the wait, and knows why: an abort may have come already. */
	pkt_send(chan, &here, sizeof(here), NULL, 0);
	e = wait_for_go(chan, code, &move_id);
	if (e == 0) {
		/* The program that is loaded has the channel; it leaves before it runs. */
		fcntl(chan, F_SETFD, 0);
		execve(cmd, argv, envp);
		e = bproc_err_set(api_err(), errno, "%s: %s", cmd, strerror(errno));
		api_tell_failure(chan, move_id);
	}
	close_fd(code);
	close_fd(chan);
	client_drop(&c);
	return e;
}

static int exec_and_leave(int node, const char *cmd, char *const argv[], char *const envp[],
			  uint32_t flags)
{
	struct client_mark mark;
	int e;

	if (!cmd)
		return api_ret(bproc_err_set(api_err(), EINVAL, "bproc_execmove: no command"));
	if (is_raised(cmd))
		return api_ret(bproc_err_set(api_err(), EPERM,
					     "%s: a set-uid program, or one with capabilities, "
					     "cannot move",
					     cmd));
	client_mark(&mark);
	do
		e = exec_once(node, cmd, argv, envp, flags);
	while (api_again(e, &mark, getpid()));
	/* To where it is already: as bproc_move(), that succeeds. */
	if (e == -BE_SAMENODE) {
		execve(cmd, argv, envp);
		e = bproc_err_set(api_err(), errno, "%s: %s", cmd, strerror(errno));
	}
	return api_ret(e);
}

int bproc_execmove(int node, const char *cmd, char *const argv[], char *const envp[])
{
	return exec_and_leave(node, cmd, argv, envp, 0);
}

int bproc_execfirst(int node, const char *cmd, char *const argv[], char *const envp[])
{
	return exec_and_leave(node, cmd, argv, envp, CHAN_HERE_FIRST);
}

/* -- the v calls: one after the other */

static int check_list(int nnodes, const int *nodes, const int *pids)
{
	if (nnodes > 0 && nodes && pids)
		return 0;
	return api_ret(bproc_err_set(api_err(), EINVAL, "list of %d nodes", nnodes));
}

int _bproc_vrfork(int nnodes, int *nodes, int *pids, int flags)
{
	int pid;

	if (check_list(nnodes, nodes, pids) < 0)
		return -1;
	for (int i = 0; i < nnodes; i++) {
		pid = _bproc_rfork(nodes[i], flags);
		if (pid == 0)
			return i;
		pids[i] = pid > 0 ? pid : -errno;
	}
	return nnodes;
}

int bproc_vrfork(int nnodes, int *nodes, int *pids)
{
	return _bproc_vrfork(nnodes, nodes, pids, BPROC_DUMP_EXEC | BPROC_DUMP_OTHER);
}

/* envp with this child's rank in place of the X of BPROC_RANK=XXXXXXX. */
static char **with_rank(char *const envp[], int rank, char text[32])
{
	static const char mark[] = "BPROC_RANK=XXXXXXX";
	size_t n = 0;
	char **copy;

	while (envp && envp[n])
		n++;
	copy = calloc(n + 1, sizeof(*copy));
	if (!copy)
		return NULL;
	snprintf(text, 32, "BPROC_RANK=%07d", rank);
	for (size_t i = 0; i < n; i++)
		copy[i] = strcmp(envp[i], mark) == 0 ? text : envp[i];
	return copy;
}

/* The child of vexecmove: tells its parent if it could not go. */
static _Noreturn void exec_child(int node, int tell, int rank, const char *cmd, char *const argv[],
				 char *const envp[])
{
	char text[32];
	char **env = with_rank(envp, rank, text);
	int code = ENOMEM;

	if (env) {
		bproc_execmove(node, cmd, argv, env);
		code = errno;
	}
	write_full(tell, &code, sizeof(code));
	_exit(0);
}

static int exec_one(int node, int rank, const char *cmd, char *const argv[], char *const envp[])
{
	cleanup_fd int told = -1, tell = -1;
	int fd[2], code;
	pid_t child;

	if (pipe2(fd, O_CLOEXEC) < 0)
		return -errno;
	told = fd[0];
	tell = fd[1];
	child = fork();
	if (child < 0)
		return -errno;
	if (child == 0)
		exec_child(node, tell, rank, cmd, argv, envp);
	tell = close_fd(tell);
	/* The exec closes the pipe: end of file is success. */
	if (read_full(told, &code, sizeof(code)) < 0)
		return child;
	api_reap(child);
	return code > 0 ? -code : -EIO;
}

int bproc_vexecmove(int nnodes, int *nodes, int *pids, const char *cmd, char *const argv[],
		    char *const envp[])
{
	if (check_list(nnodes, nodes, pids) < 0)
		return -1;
	if (!cmd)
		return api_ret(bproc_err_set(api_err(), EINVAL, "bproc_vexecmove: no command"));
	for (int i = 0; i < nnodes; i++)
		pids[i] = exec_one(nodes[i], i, cmd, argv, envp);
	return nnodes;
}
