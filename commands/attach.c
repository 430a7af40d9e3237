/*
 * What bpgdb, bpstrace, bpmove and bprsh share: which process, where it is, and how a
 * program of this machine comes to run there. Only the commands link it.
 */
#include <errno.h>
#include <limits.h>
#include <linux/close_range.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <bproc.h>

#include "attach.h"

#define TRIES 5 /* one that moves at this moment is nowhere for some ms */
#define AGAIN_US 20000

static int number(const char *s)
{
	char *end;
	long n = strtol(s, &end, 10);

	return *s && !*end && n > 0 && n <= INT_MAX ? (int)n : 0;
}

int attach_argument(int argc, char **argv, int *ret_pid)
{
	int at = argc > 1 && number(argv[1]) ? 1 : argc - 1;

	*ret_pid = argc > 1 ? number(argv[at]) : 0;
	if (*ret_pid == 0) {
		fprintf(stderr, "%s: which process? (its number comes first, or last)\n", argv[0]);
		exit(1);
	}
	return at;
}

int attach_is_here(int node)
{
	return node == bproc_currnode();
}

int attach_node(const char *prog, int pid)
{
	int node;

	for (int tries = 0; tries < TRIES; tries++) {
		if (tries > 0)
			usleep(AGAIN_US);
		errno = 0;
		node = bproc_pidnode(pid);
		if (node >= 0 || errno == 0)
			return node;
		if (errno != BE_INVALIDPROC) {
			fprintf(stderr, "%s: %s\n", prog, bproc_errtext());
			exit(1);
		}
		/* The cluster does not know it: a process of the front end, or nobody. */
		if (attach_is_here(BPROC_NODE_MASTER) && (kill(pid, 0) == 0 || errno == EPERM))
			return BPROC_NODE_MASTER;
	}
	fprintf(stderr, "%s: %d: no such process\n", prog, pid);
	exit(1);
}

void attach_program(const char *prog, const char *name, char path[PATH_MAX])
{
	const char *dirs = getenv("PATH"), *end;

	for (dirs = dirs ? dirs : "/usr/bin:/bin"; *dirs; dirs = *end ? end + 1 : end) {
		end = strchrnul(dirs, ':');
		if (snprintf(path, PATH_MAX, "%.*s/%s", (int)(end - dirs), dirs, name) < PATH_MAX &&
		    access(path, X_OK) == 0)
			return;
	}
	fprintf(stderr, "%s: there is no %s in PATH\n", prog, name);
	exit(127);
}

void attach_there(const char *prog, int node, const char *path, char **argv, int failed)
{
	close_range(3, ~0u, CLOSE_RANGE_CLOEXEC); /* whatever the caller's shell had open */
	bproc_execmove(node, (char *)(uintptr_t)path, argv, environ);
	fprintf(stderr, "%s: %s on node %d: %s\n", prog, path, node, bproc_errtext());
	exit(failed);
}
