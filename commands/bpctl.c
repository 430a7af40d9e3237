/*
 * bpctl: set the state, the mode and the owner of nodes. Options act on the nodes
 * that the last -S or -M before them named, in the order given. bpctl(1).
 */
#include <errno.h>
#include <getopt.h>
#include <grp.h>
#include <limits.h>
#include <pwd.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <bproc.h>

static struct bproc_node_set_t nodes = BPROC_EMPTY_NODESET;
static bool chosen;
static int status;

static _Noreturn void usage(FILE *to)
{
	fputs("usage: bpctl -S NODES|-M options...\n"
	      "  -S, --slave NODES  the nodes that what follows is about\n"
	      "  -M, --master       the front end\n"
	      "  -s, --state STATE  set the state\n"
	      "  -m, --mode MODE    set the mode, octal, execute bits only\n"
	      "  -u, --user USER    set the owner, name or number\n"
	      "  -g, --group GROUP  set the group, name or number\n"
	      "  -f                 accepted and ignored\n"
	      "  -h, --help         -v, --version\n",
	      to);
	exit(to == stdout ? 0 : 1);
}

static _Noreturn void die(const char *what, const char *why)
{
	fprintf(stderr, "bpctl: %s%s%s\n", what, *why ? ": " : "", why);
	exit(1);
}

static void choose(const char *spec)
{
	bproc_nodeset_free(&nodes);
	if (bproc_nodespec(&nodes, spec) < 0)
		die(bproc_errtext(), "");
	/* A typo must not look like success. */
	if (nodes.size == 0)
		die(spec, "no such node");
	chosen = true;
}

/* The whole of s as a number of the base; false if it is none. */
static bool number(const char *s, int base, long max, int *ret)
{
	char *end;
	long v;

	errno = 0;
	v = strtol(s, &end, base);
	if (errno || end == s || *end || v < 0 || v > max)
		return false;
	*ret = (int)v;
	return true;
}

static int find_user(const char *s)
{
	struct passwd *pw = getpwnam(s);
	int id;

	if (pw)
		return (int)pw->pw_uid;
	if (!number(s, 10, INT_MAX, &id))
		die(s, "no such user");
	return id;
}

static int find_group(const char *s)
{
	struct group *gr = getgrnam(s);
	int id;

	if (gr)
		return (int)gr->gr_gid;
	if (!number(s, 10, INT_MAX, &id))
		die(s, "no such group");
	return id;
}

/* One option on every chosen node; one that fails does not keep the others from it. */
static void apply(int what, char *arg)
{
	int value = 0, e = -1;

	if (!chosen)
		die("name the nodes first, with -S or -M", "");
	if (what == 'm' && !number(arg, 8, 07777, &value))
		die(arg, "not an octal mode");
	if (what == 'u')
		value = find_user(arg);
	if (what == 'g')
		value = find_group(arg);
	for (int i = 0; i < nodes.size; i++) {
		int n = nodes.node[i].node;

		switch (what) {
		case 's':
			e = bproc_nodesetstatus(n, arg);
			break;
		case 'm':
			e = bproc_chmod(n, value);
			break;
		case 'u':
			e = bproc_chown(n, value);
			break;
		case 'g':
			e = bproc_chgrp(n, value);
			break;
		}
		if (e < 0) {
			const char *why = bproc_errtext();

			fprintf(stderr, "%d: %s\n", n, *why ? why : bproc_strerror(errno));
			status = 1;
		}
	}
}

int main(int argc, char **argv)
{
	static const struct option longs[] = {
		{"help", 0, NULL, 'h'},	 {"version", 0, NULL, 'v'}, {"master", 0, NULL, 'M'},
		{"slave", 1, NULL, 'S'}, {"state", 1, NULL, 's'},   {"mode", 1, NULL, 'm'},
		{"user", 1, NULL, 'u'},	 {"group", 1, NULL, 'g'},   {0}};
	bool done = false;
	int c;

	while ((c = getopt_long(argc, argv, "hvVMS:s:m:u:g:f", longs, NULL)) != -1) {
		switch (c) {
		case 'h':
			usage(stdout);
		case 'v':
		case 'V':
			puts("bpctl " BPROC_VERSION);
			return 0;
		case 'M':
			choose("master");
			break;
		case 'S':
			choose(optarg);
			break;
		case 's':
		case 'm':
		case 'u':
		case 'g':
			apply(c, optarg);
			done = true;
			break;
		case 'f':
			break; /* BProc 4 took it and did nothing */
		default:
			usage(stderr);
		}
	}
	if (optind < argc || !done)
		usage(stderr);
	return status;
}
