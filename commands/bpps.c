/*
 * bpps: processes of the cluster, as ps shows those of one machine, with the node and
 * with what the real process uses up there. Options, the choice of processes and the
 * questions; bpps_print.c has the columns. bpps(1).
 */
#include <errno.h>
#include <getopt.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "bpps.h"

#define USERS_MAX 64

static struct {
	bool all, header, wide;
	const char *nodes;
	unsigned int user[USERS_MAX];
	int nusers;
} opt = {.header = true};

static struct {
	struct bproc_procstat_t *p;
	size_t n, room;
} found;

static _Noreturn void usage(FILE *to)
{
	fputs("usage: bpps [options] [PID...]\n"
	      "  -a, -e         processes of all users\n"
	      "  -u USER,...    of these users (default: yours)\n"
	      "  -n NODES       on these nodes; -1 is the front end (default: all nodes)\n"
	      "  -o, --format FIELD,...\n"
	      "                 these columns: ",
	      to);
	fflush(to);
	if (to == stdout)
		usage_columns();
	else
		fputs("see bpps -h\n", to);
	fputs("  -H, --no-header\n"
	      "  -w             lines as long as they are, also on a terminal\n"
	      "  -h, --help     -v, --version\n",
	      to);
	exit(to == stdout ? 0 : 1);
}

static _Noreturn void die(const char *what, const char *why)
{
	fprintf(stderr, "bpps: %s: %s\n", what, why);
	exit(1);
}

/* "0", "12": all of it a number. */
static bool number(const char *s, int *ret)
{
	char *end;
	long n = strtol(s, &end, 10);

	*ret = (int)n;
	return *s && !*end && n >= 0 && n <= INT32_MAX;
}

static void add_users(char *list)
{
	for (char *save, *name = strtok_r(list, ",", &save); name;
	     name = strtok_r(NULL, ",", &save)) {
		struct passwd *pw = getpwnam(name);
		int uid;

		if (!pw && !number(name, &uid))
			die(name, "no such user");
		if (opt.nusers == USERS_MAX)
			die(name, "too many users");
		opt.user[opt.nusers++] = pw ? pw->pw_uid : (unsigned int)uid;
	}
}

static void parse_options(int argc, char **argv)
{
	static const struct option longs[] = {
		{"help", 0, NULL, 'h'},	      {"version", 0, NULL, 'v'},
		{"format", 1, NULL, 'o'},     {"no-header", 0, NULL, 'H'},
		{"no-headers", 0, NULL, 'H'}, {"user", 1, NULL, 'u'},
		{"nodes", 1, NULL, 'n'},      {"all", 0, NULL, 'a'},
		{"wide", 0, NULL, 'w'},	      {0}};
	bool columns = false;
	int c;

	while ((c = getopt_long(argc, argv, "aAeu:n:o:Hwhv", longs, NULL)) != -1) {
		switch (c) {
		case 'a':
		case 'A':
		case 'e':
			opt.all = true;
			break;
		case 'u':
			add_users(optarg);
			break;
		case 'n':
			opt.nodes = optarg;
			break;
		case 'o':
			if (columns_add(optarg) < 0)
				exit(1);
			columns = true;
			break;
		case 'H':
			opt.header = false;
			break;
		case 'w':
			opt.wide = true;
			break;
		case 'h':
			usage(stdout);
		case 'v':
			puts("bpps " BPROC_VERSION);
			exit(0);
		default:
			usage(stderr);
		}
	}
	if (!columns)
		columns_add("pid,node,user,stat,pcpu,time,rss,vsz,args");
}

static int complain(void)
{
	fprintf(stderr, "bpps: %s\n", bproc_errtext());
	return 1;
}

/* -- which */

static bool wanted(const struct bproc_procstat_t *s)
{
	for (int i = 0; i < opt.nusers; i++)
		if (opt.user[i] == s->uid)
			return true;
	return opt.all || (opt.nusers == 0 && s->uid == geteuid());
}

static void keep(const struct bproc_procstat_t *s)
{
	if (found.n == found.room) {
		found.room = found.room ? 2 * found.room : 1024;
		found.p = realloc(found.p, found.room * sizeof(*found.p));
		if (!found.p)
			die("processes", "no memory");
	}
	found.p[found.n++] = *s;
}

static int by_pid(const void *a, const void *b)
{
	const struct bproc_procstat_t *x = a, *y = b;
	int c = (x->pid > y->pid) - (x->pid < y->pid);

	return c ? c : (x->node > y->node) - (x->node < y->node);
}

static int by_info_pid(const void *a, const void *b)
{
	const struct bproc_proc_info_t *x = a, *y = b;

	return (x->pid > y->pid) - (x->pid < y->pid);
}

/* Of the front end: without those that stand in for what is real on a node. */
static int take_front_end(struct bproc_procstat_t *list, int n)
{
	struct bproc_proc_info_t *away = NULL, key = {0};
	int naway = bproc_proclist(BPROC_NODE_ANY, &away);

	if (naway < 0)
		return complain();
	for (int i = 0; i < n; i++) {
		key.pid = list[i].pid;
		if (wanted(&list[i]) &&
		    !(naway > 0 && bsearch(&key, away, (size_t)naway, sizeof(key), by_info_pid)))
			keep(&list[i]);
	}
	free(away);
	return 0;
}

static int take_node(int node)
{
	struct bproc_procstat_t *list;
	int n = bproc_procstat(node, 0, &list), bad = 0;

	if (n < 0)
		return complain();
	if (node == BPROC_NODE_MASTER)
		bad = take_front_end(list, n);
	for (int i = 0; node != BPROC_NODE_MASTER && i < n; i++)
		if (wanted(&list[i]))
			keep(&list[i]);
	free(list);
	return bad;
}

static int take_nodes(void)
{
	struct bproc_node_set_t all, some;
	int bad = 0;

	if (bproc_nodelist(&all) < 0)
		return complain();
	if (!opt.nodes)
		some = all;
	else if (bproc_nodefilter(&some, &all, opt.nodes) < 0)
		return complain();
	if (opt.nodes && some.size == 0) {
		fprintf(stderr, "bpps: %s: no such node\n", opt.nodes);
		return 1;
	}
	for (int i = 0; i < some.size; i++)
		if (opt.nodes || strcmp(some.node[i].status, "down") != 0)
			bad |= take_node(some.node[i].node);
	return bad;
}

/* One that is on its way from node to node is nowhere for a moment: asked for again. */
static int take_pid(const char *arg)
{
	struct bproc_procstat_t *list;
	int pid, node, n = 0;

	if (!number(arg, &pid) || pid == 0)
		die(arg, "no number of a process");
	for (int tries = 0; n == 0 && tries < 3; tries++) {
		if (tries > 0)
			usleep(50000);
		errno = 0;
		node = bproc_pidnode(pid);
		if (node < 0 && errno != 0 && errno != BE_INVALIDPROC)
			return complain();
		n = bproc_procstat(node, pid, &list);
		if (n < 0)
			return complain();
	}
	if (n == 0) {
		fprintf(stderr, "bpps: %d: no such process\n", pid);
		return 1;
	}
	keep(list);
	free(list);
	return 0;
}

int main(int argc, char **argv)
{
	struct winsize ws = {0};
	bool front_end;
	int bad = 0;

	parse_options(argc, argv);
	argv += optind;
	front_end = bproc_currnode() == BPROC_NODE_MASTER;
	if (!*argv)
		bad = take_nodes();
	for (; *argv; argv++)
		bad |= take_pid(*argv);
	if (found.n > 1)
		qsort(found.p, found.n, sizeof(*found.p), by_pid);
	if (!opt.wide && ioctl(1, TIOCGWINSZ, &ws) == 0)
		print_width(ws.ws_col);
	if (opt.header)
		print_header();
	/* Every process of the cluster has its arguments on the front end, by its ghost. */
	for (size_t i = 0; i < found.n; i++)
		print_process(&found.p[i], front_end);
	if (fflush(stdout) == EOF)
		bad = 1;
	free(found.p);
	return bad;
}
