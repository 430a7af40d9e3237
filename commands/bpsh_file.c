/*
 * bpsh -I, -O, -E: a file that is on the node. A helper, a fork of bpsh that has
 * moved there, opens it and copies between it and a pipe here, which the program
 * has as stdin, stdout or stderr. So the file is opened on the node, with the
 * user's rights there, whatever this machine has under that name.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <bproc.h>

#include "bpsh.h"

static int copy(int from, int to)
{
	char buf[65536];
	ssize_t n, m;

	while ((n = read(from, buf, sizeof(buf))) != 0) {
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -1;
		for (ssize_t done = 0; done < n; done += m) {
			m = write(to, buf + done, (size_t)(n - done));
			if (m < 0 && errno == EINTR)
				m = 0;
			if (m < 0)
				return -1;
		}
	}
	return 0;
}

static _Noreturn void helper(const struct options *o, const struct job *j, int which)
{
	int flags = which == 0 ? O_RDONLY : O_WRONLY | O_CREAT | O_TRUNC, fd;

	if (j->node != BPROC_NODE_MASTER && bproc_move(j->node) < 0) {
		dprintf(2, "%d: %s: %s\n", j->node, o->file[which], bproc_errtext());
		_exit(1);
	}
	fd = open(o->file[which], flags | O_CLOEXEC, 0666);
	if (fd < 0 || copy(which == 0 ? fd : 0, which == 0 ? 1 : fd) < 0) {
		/* The reader of a pipe may have had enough: that is no error. */
		if (fd < 0 || errno != EPIPE)
			dprintf(2, "%d: %s: %s\n", j->node, o->file[which], strerror(errno));
		_exit(1);
	}
	_exit(0);
}

int file_open(const struct options *o, struct job *j, int which)
{
	int fd[2], theirs, ours, null;
	pid_t pid;

	if (pipe2(fd, O_CLOEXEC) < 0)
		return -1;
	ours = fd[which != 0];
	theirs = fd[which == 0];
	pid = fork();
	if (pid == 0) {
		/* stdio is all that moves: the pipe's end, /dev/null, and stderr. */
		null = open("/dev/null", O_RDWR | O_CLOEXEC);
		dup2(theirs, which == 0 ? 1 : 0);
		dup2(null, which == 0 ? 0 : 1);
		shut_from(3, 0);
		helper(o, j, which);
	}
	close(theirs);
	if (pid < 0) {
		pid = errno;
		close(ours);
		errno = pid;
		return -1;
	}
	j->helper[which] = pid;
	return ours;
}
