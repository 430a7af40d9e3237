/*
 * bpmove: a running program goes to another node, with no change to it. It is moved by its
 * own node's kernel and with the caller's rights there: so bpmove first goes where the
 * process is, then sends it on. bpmove(1).
 */
#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <bproc.h>
#include <vmadump.h>

#include "apart.h"
#include "attach.h"

#define TRIES 5 /* one that moves at this moment is not where it was said to be */
#define AGAIN_US 20000

static _Noreturn void usage(FILE *to)
{
	fputs("usage: bpmove [--live | --lazy] [--locks] [-v] PID NODE\n"
	      "       bpmove --tree [--locks] [-v] PID NODE\n"
	      "       bpmove --dry-run [--tree] PID\n"
	      "NODE is a node's number; -1 or \"master\" is the front end.\n"
	      "\n"
	      "      --live     send most of its memory while it still runs\n"
	      "  -l, --lazy     run there at once, large memory follows\n"
	      "      --locks    its locks are given up and taken again there\n"
	      "  -t, --tree     with all that descend from it: all of them, or none\n"
	      "  -v, --verbose  say how long it stood still\n"
	      "  -n, --dry-run  say what would go along and what keeps it from going\n"
	      "  -h, --help     -V, --version\n",
	      to);
	exit(to == stdout ? 0 : 1);
}

static int number(const char *s, int least, const char *what)
{
	char *end;
	long n;

	errno = 0;
	n = strtol(s, &end, 10);
	if (*s && !*end && errno == 0 && n >= least && n < 1 << 22)
		return (int)n;
	fprintf(stderr, "bpmove: %s: not the number of a %s\n", s, what);
	exit(1);
}

/* -1 and master, or as bpsh has it: 3, n3, .3 */
static int node_number(const char *s)
{
	if (strcmp(s, "master") == 0)
		return BPROC_NODE_MASTER;
	return number((*s == 'n' || *s == '.') && isdigit(s[1]) ? s + 1 : s, -1, "node");
}

static _Noreturn void fail(int pid)
{
	fprintf(stderr, "bpmove: %d: %s\n", pid, bproc_errtext());
	exit(1);
}

/* To where it is; that node. */
static int go_there(int pid)
{
	int node = attach_node("bpmove", pid);

	if (!attach_is_here(node) && bproc_move(node) < 0) {
		fprintf(stderr, "bpmove: to node %d, where %d is: %s\n", node, pid,
			bproc_errtext());
		exit(1);
	}
	return node;
}

/* -- what it would be */

struct refused {
	int pid, n;
};

static void print_refused(const char *text, void *arg)
{
	struct refused *r = arg;

	if (r->n++ == 0)
		printf("%d cannot move:\n", r->pid);
	printf("  %s\n", text);
}

/* 1: its seccomp filters, or those of who descends from it, keep it; it was not touched. */
static int judged_against(int pid, int node, int flags)
{
	struct refused r = {.pid = pid};

	if (bproc_movepid(pid, node, BPROC_MOVE_JUDGE | flags) == 0)
		return 0;
	if (errno != ENOTSUP)
		fail(pid);
	print_refused(bproc_errtext(), &r);
	puts("\nnot stopped");
	return 1;
}

static int dry_run_tree(int pid)
{
	int node = go_there(pid), n;
	struct refused r = {.pid = pid};
	struct vmad_err err = {0};
	uint64_t us = 0;

	if (judged_against(pid, node, BPROC_MOVE_TREE))
		return 1;
	n = vmad_look_pid(pid, -1,
			  VMAD_TREE | VMAD_JUDGED | (node == BPROC_NODE_MASTER ? 0 : VMAD_AWAY),
			  print_refused, &r, &us, &err);
	if (n < 0) {
		fprintf(stderr, "bpmove: %d: %s\n", pid, err.text);
		return 1;
	}
	if (n == 0)
		printf("%d can move with all that descend from it\n", pid);
	printf("\nstopped for %.1f ms\n", (double)us / 1000);
	return n > 0;
}

static int dry_run(int pid)
{
	int node = go_there(pid), fd = memfd_create("bpmove", MFD_CLOEXEC), n;
	struct refused r = {.pid = pid};
	struct vmad_err err = {0};
	uint64_t us = 0;

	if (fd < 0) {
		perror("bpmove: memfd");
		return 1;
	}
	if (judged_against(pid, node, 0))
		return 1;
	n = vmad_look_pid(pid, fd, VMAD_JUDGED | (node == BPROC_NODE_MASTER ? 0 : VMAD_AWAY),
			  print_refused, &r, &us, &err);
	if (n < 0 && err.code == ENOTSUP) {
		print_refused(err.text, &r);
		return 1;
	}
	if (n < 0) {
		fprintf(stderr, "bpmove: %d: %s\n", pid, err.text);
		return 1;
	}
	if (n > 0 && lseek(fd, 0, SEEK_END) == 0) { /* known before: there is no more to say */
		puts("\nnot stopped");
		return 1;
	}
	if (n == 0)
		printf("%d can move\n", pid);
	if (lseek(fd, 0, SEEK_SET) < 0 || vmad_info(fd, stdout, VMAD_INFO_OPEN, &err) < 0) {
		fprintf(stderr, "bpmove: %d: %s\n", pid, err.text);
		return 1;
	}
	printf("\nstopped for %.1f ms\n", (double)us / 1000);
	return n > 0;
}

/* -- the move */

static int live, lazy, locks, tree, verbose;

static void print_stat(int pid)
{
	struct bproc_movestat_t s;

	bproc_movestat(&s);
	if (s.why[0])
		fprintf(stderr, "bpmove: %d: %s: moved without\n", pid, s.why);
	if (!verbose)
		return;
	if (tree)
		printf("%d: %u process%s, stood still for %.2f ms\n", pid, s.processes,
		       s.processes == 1 ? "" : "es", (double)s.frozen_us / 1000);
	else if (s.rounds)
		printf("%d: %u rounds, %.1f MB ahead in %.1f ms; stood still for %.2f ms, and for "
		       "%.2f ms before to ask\n",
		       pid, s.rounds, (double)s.ahead_bytes / 1e6, (double)s.ahead_us / 1000,
		       (double)s.frozen_us / 1000, (double)s.asked_us / 1000);
	else
		printf("%d: stood still for %.2f ms\n", pid, (double)s.frozen_us / 1000);
}

struct sending {
	int pid, node, flags, r, err;
};

static void send_on(void *arg)
{
	struct sending *s = arg;

	s->r = bproc_movepid(s->pid, s->node, s->flags);
	s->err = errno;
}

static int move(int pid, int node)
{
	int flags = BPROC_DUMP_EXEC | BPROC_DUMP_OTHER | (live ? BPROC_MOVE_LIVE : 0) |
		    (lazy ? BPROC_MOVE_LAZY : 0) | (locks ? BPROC_MOVE_LOCKS : 0) |
		    (tree ? BPROC_MOVE_TREE : 0);
	struct sending s = {.pid = pid, .node = node, .flags = flags};

	for (int tries = 0;; tries++) {
		if (attach_node("bpmove", pid) == node)
			return 0;
		go_there(pid);
		run_apart(send_on, &s, false);
		if (s.r == 0) {
			print_stat(pid);
			return 0;
		}
		errno = s.err;
		if (errno != BE_INVALIDPROC || tries == TRIES)
			fail(pid);
		usleep(AGAIN_US);
	}
}

int main(int argc, char **argv)
{
	static const struct option options[] = {{"dry-run", no_argument, NULL, 'n'},
						{"live", no_argument, NULL, 256},
						{"lazy", no_argument, NULL, 'l'},
						{"locks", no_argument, NULL, 257},
						{"tree", no_argument, NULL, 't'},
						{"verbose", no_argument, NULL, 'v'},
						{"help", no_argument, NULL, 'h'},
						{"version", no_argument, NULL, 'V'},
						{0}};
	int c, pid, dry = 0;

	/* Whatever the caller's shell had open: it may have to go to a node. */
	close_range(3, ~0u, 0);
	while ((c = getopt_long(argc, argv, "+nltvhV", options, NULL)) != -1) {
		dry |= c == 'n';
		live |= c == 256;
		lazy |= c == 'l';
		locks |= c == 257;
		tree |= c == 't';
		verbose |= c == 'v';
		if (c == 'n' || c == 256 || c == 257 || c == 'l' || c == 't' || c == 'v')
			continue;
		if (c == 'h')
			usage(stdout);
		if (c != 'V')
			usage(stderr);
		puts("bpmove " BPROC_VERSION);
		return 0;
	}
	/* A node of -1 looks like an option, which "+" has kept from being one. */
	if (tree && (live || lazy)) {
		fprintf(stderr, "bpmove: --tree excludes %s\n", live ? "--live" : "--lazy");
		return 1;
	}
	if (argc - optind != 2 - dry)
		usage(stderr);
	pid = number(argv[optind], 1, "process");
	if (dry)
		return tree ? dry_run_tree(pid) : dry_run(pid);
	return move(pid, node_number(argv[optind + 1]));
}
