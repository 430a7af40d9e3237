/*
 * bpmove: a running program goes to another node, with no change to it. It is moved by its
 * own node's kernel and with the caller's rights there: so bpmove first goes where the
 * process is, then sends it on. bpmove(1).
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <bproc.h>

#include "attach.h"

#define TRIES 5 /* one that moves at this moment is not where it was said to be */
#define AGAIN_US 20000

static _Noreturn void usage(FILE *to)
{
	fputs("usage: bpmove PID NODE\n"
	      "NODE is a node's number; -1 or \"master\" is the front end.\n"
	      "\n"
	      "  -h, --help     -V, --version\n",
	      to);
	exit(to == stdout ? 0 : 1);
}

static int number(const char *s, const char *what)
{
	char *end;
	long n;

	errno = 0;
	n = strtol(s, &end, 10);
	if (*s && !*end && errno == 0 && n >= -1 && n < 1 << 22)
		return (int)n;
	fprintf(stderr, "bpmove: %s: not the number of a %s\n", s, what);
	exit(1);
}

static _Noreturn void fail(int pid)
{
	fprintf(stderr, "bpmove: %d: %s\n", pid, bproc_errtext());
	exit(1);
}

static int move(int pid, int node)
{
	int from;

	for (int tries = 0;; tries++) {
		from = attach_node("bpmove", pid);
		if (from == node)
			return 0;
		if (!attach_is_here(from) && bproc_move(from) < 0) {
			fprintf(stderr, "bpmove: to node %d, where %d is: %s\n", from, pid,
				bproc_errtext());
			return 1;
		}
		if (bproc_movepid(pid, node, BPROC_DUMP_EXEC | BPROC_DUMP_OTHER) == 0)
			return 0;
		if (errno != BE_INVALIDPROC || tries == TRIES)
			fail(pid);
		usleep(AGAIN_US);
	}
}

int main(int argc, char **argv)
{
	static const struct option options[] = {{"help", no_argument, NULL, 'h'},
						{"version", no_argument, NULL, 'V'},
						{0}};
	int c, pid;

	while ((c = getopt_long(argc, argv, "+hV", options, NULL)) != -1) {
		if (c == 'h')
			usage(stdout);
		if (c != 'V')
			usage(stderr);
		puts("bpmove " BPROC_VERSION);
		return 0;
	}
	/* A node of -1 looks like an option, which "+" has kept from being one. */
	if (argc - optind != 2)
		usage(stderr);
	pid = number(argv[optind], "process");
	if (pid < 1)
		usage(stderr);
	if (strcmp(argv[optind + 1], "master") == 0)
		return move(pid, BPROC_NODE_MASTER);
	return move(pid, number(argv[optind + 1], "node"));
}
