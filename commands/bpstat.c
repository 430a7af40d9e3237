/*
 * bpstat: what nodes there are, in what state, and which processes they run.
 * Options, the choice of nodes and their order; bpstat_print.c has the forms.
 * bpstat(1).
 */
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netdb.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bpstat.h"

#define UPDATE_S 1 /* how often -U looks */

typedef void (*print_fn)(const struct bproc_node_set_t *ns);
enum order { BY_FORM, BY_NUMBER, BY_STATUS, AS_GIVEN };

struct options {
	print_fn print;
	enum order order;
	bool reverse, update, processes, ps;
	const char *host;
};
static bool reverse; /* for the comparisons */

static _Noreturn void usage(FILE *to)
{
	fputs("usage: bpstat [options] [NODES...]\n"
	      "  -c, --compact  nodes that are alike on one line (default)\n"
	      "  -l, --long     a line for each node\n"
	      "  -a, --address  -s, --status  -n, --number  -t, --total\n"
	      "                 that alone, one a line\n"
	      "  -p             processes and where they run\n"
	      "  -P             ps output from stdin with a column for the node\n"
	      "  -A HOST        number of the node with that address\n"
	      "  -N  -S         sort by number, by status\n"
	      "  -O  -R         keep the order given; reverse it\n"
	      "  -U, --update   again at each change\n"
	      "  -L, --lock     ignore ^C and ^Z\n"
	      "  -h, --help     -v, -V, --version\n",
	      to);
	exit(to == stdout ? 0 : 1);
}

static print_fn form(int option)
{
	switch (option) {
	case 'l':
		return print_long;
	case 'a':
		return print_addresses;
	case 's':
		return print_states;
	case 'n':
		return print_numbers;
	case 't':
		return print_total;
	default:
		return print_compact;
	}
}

static void parse_options(int argc, char **argv, struct options *o)
{
	static const struct option longs[] = {{"help", 0, NULL, 'h'},
					      {"version", 0, NULL, 'v'},
					      {"compact", 0, NULL, 'c'},
					      {"long", 0, NULL, 'l'},
					      {"address", 0, NULL, 'a'},
					      {"status", 0, NULL, 's'},
					      {"number", 0, NULL, 'n'},
					      {"total", 0, NULL, 't'},
					      {"update", 0, NULL, 'U'},
					      {"lock", 0, NULL, 'L'},
					      {0}};
	int c;

	while ((c = getopt_long(argc, argv, "hvVclasntRNSOULA:pP", longs, NULL)) != -1) {
		switch (c) {
		case 'h':
			usage(stdout);
		case 'v':
		case 'V':
			puts("bpstat " BPROC_VERSION);
			exit(0);
		case 'c':
		case 'l':
		case 'a':
		case 's':
		case 'n':
		case 't':
			o->print = form(c);
			break;
		case 'R':
			o->reverse = true;
			break;
		case 'N':
			o->order = BY_NUMBER;
			break;
		case 'S':
			o->order = BY_STATUS;
			break;
		case 'O':
			o->order = AS_GIVEN;
			break;
		case 'U':
			o->update = true;
			break;
		case 'L':
			signal(SIGINT, SIG_IGN);
			signal(SIGTSTP, SIG_IGN);
			break;
		case 'A':
			o->host = optarg;
			break;
		case 'p':
			o->processes = true;
			break;
		case 'P':
			o->ps = true;
			break;
		default:
			usage(stderr);
		}
	}
	if (o->order == BY_FORM)
		o->order = o->print == print_compact ? BY_STATUS : BY_NUMBER;
}

static int by_number(const void *a, const void *b)
{
	const struct bproc_node_info_t *x = a, *y = b;
	int c = (x->node > y->node) - (x->node < y->node);

	return reverse ? -c : c;
}

static int by_status(const void *a, const void *b)
{
	const struct bproc_node_info_t *x = a, *y = b;
	int c = strcmp(x->status, y->status);

	return c == 0 ? by_number(a, b) : reverse ? -c : c;
}

static void turn_round(struct bproc_node_set_t *ns)
{
	struct bproc_node_info_t t;

	for (int i = 0, j = ns->size - 1; i < j; i++, j--) {
		t = ns->node[i];
		ns->node[i] = ns->node[j];
		ns->node[j] = t;
	}
}

static int complain(void)
{
	fprintf(stderr, "bpstat: %s\n", bproc_errtext());
	return -1;
}

static int choose(const struct options *o, char *const specs[], struct bproc_node_set_t *ret)
{
	struct bproc_node_set_t all, some, ns = BPROC_EMPTY_NODESET;

	if (bproc_nodelist(&all) < 0)
		return complain();
	if (!specs[0])
		ns = all;
	for (int i = 0; specs[i]; i++) {
		if (bproc_nodefilter(&some, &all, specs[i]) < 0 ||
		    bproc_nodeset_append(&ns, &some) < 0)
			return complain();
		/* Nobody in a state is an answer; a number that there is not is a mistake. */
		if (some.size == 0 && specs[i][strcspn(specs[i], "0123456789")] != '\0') {
			fprintf(stderr, "bpstat: %s: no such node\n", specs[i]);
			return -1;
		}
		bproc_nodeset_free(&some);
	}
	if (specs[0])
		bproc_nodeset_free(&all);
	reverse = o->reverse;
	if (o->order == AS_GIVEN && reverse)
		turn_round(&ns);
	else if (o->order != AS_GIVEN && ns.size > 1)
		qsort(ns.node, (size_t)ns.size, sizeof(*ns.node),
		      o->order == BY_STATUS ? by_status : by_number);
	*ret = ns;
	return 0;
}

/* What bpslave has of the master's table is shown without a link too; that it is old is said. */
static void say_if_old(void)
{
	struct bproc_node_info_t master;

	if (bproc_nodeinfo(BPROC_NODE_MASTER, &master) == 0 &&
	    strcmp(master.status, "unreachable") == 0)
		fputs("bpstat: no link to the master: this was so when it was lost\n", stderr);
}

/* -A: the number of the node with that address or name. */
static int find_host(const char *host)
{
	struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM}, *found;
	struct bproc_node_set_t all;
	struct bproc_node_info_t master;
	struct sockaddr_in a, b;
	int e = getaddrinfo(host, NULL, &hints, &found);

	if (e) {
		fprintf(stderr, "bpstat: %s: %s\n", host, gai_strerror(e));
		return 1;
	}
	memcpy(&a, found->ai_addr, sizeof(a));
	freeaddrinfo(found);
	if (bproc_nodelist(&all) < 0 || bproc_nodeinfo(BPROC_NODE_MASTER, &master) < 0 ||
	    bproc_nodeset_add(&all, &master) < 0) {
		complain();
		return 1;
	}
	for (int i = 0; i < all.size; i++) {
		memcpy(&b, &all.node[i].addr, sizeof(b));
		if (a.sin_addr.s_addr == b.sin_addr.s_addr) {
			printf("%d\n", all.node[i].node);
			return 0;
		}
	}
	fprintf(stderr, "bpstat: no node has the address of %s\n", host);
	return 1;
}

/* -U: until the table is another. */
static int wait_for_change(const struct options *o, char *const specs[],
			   const struct bproc_node_set_t *last)
{
	struct bproc_node_set_t now;
	bool same;

	do {
		sleep(UPDATE_S);
		if (choose(o, specs, &now) < 0)
			return -1;
		same = now.size == last->size &&
		       (now.size == 0 ||
			memcmp(now.node, last->node, (size_t)now.size * sizeof(*now.node)) == 0);
		bproc_nodeset_free(&now);
	} while (same);
	return 0;
}

int main(int argc, char **argv)
{
	struct options o = {.print = print_compact};
	struct bproc_node_set_t ns;
	int e;

	parse_options(argc, argv, &o);
	argv += optind;
	if (o.host)
		return find_host(o.host);
	if (o.ps)
		return print_ps() < 0;
	for (;;) {
		if (choose(&o, argv, &ns) < 0)
			return 1;
		if (o.update)
			fputs("\033[H\033[J", stdout); /* home, clear: ECMA-48 */
		e = 0;
		if (o.processes)
			e = print_processes(&ns);
		else
			o.print(&ns);
		if (fflush(stdout) == EOF)
			e = -1;
		if (!o.processes)
			say_if_old();
		if (e == 0 && o.update)
			e = wait_for_change(&o, argv, &ns);
		bproc_nodeset_free(&ns);
		if (e < 0 || !o.update)
			return e < 0;
	}
}
