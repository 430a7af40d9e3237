/*
 * bprsh: a command on one node, asked for as rsh and ssh are. Launchers of MPI, and
 * scripts made for those, start their daemons with it; what these start on the nodes
 * are then processes of the front end. It becomes the user's shell, there. bprsh(1).
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netdb.h>
#include <pwd.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <bproc.h>

#include "attach.h"

#define FAILED 255 /* as ssh has it: no status of the command */

static _Noreturn void usage(FILE *to)
{
	fputs("usage: bprsh [-n] [-l USER] HOST COMMAND [ARGUMENT...]\n"
	      "  HOST      a node's number, address or host name, or master\n"
	      "  COMMAND   and its arguments are one line for the user's shell\n"
	      "  -n        stdin is /dev/null\n"
	      "  -l USER   only who you are: the user is the same everywhere\n"
	      "  -4aCKkqTx, -o OPTION, -p PORT   as ssh; mean nothing here\n"
	      "  -h, --help   -V, --version\n",
	      to);
	exit(to == stdout ? 0 : FAILED);
}

static const struct passwd *me(void)
{
	const struct passwd *pw = getpwuid(getuid());

	if (!pw) {
		fprintf(stderr, "bprsh: you (uid %u) are not in the password file\n", getuid());
		exit(FAILED);
	}
	return pw;
}

static void check_user(const char *name)
{
	if (strcmp(name, me()->pw_name) == 0)
		return;
	fprintf(stderr, "bprsh: not as %s: a process on a node is its starter's, %s's\n", name,
		me()->pw_name);
	exit(FAILED);
}

static void no_stdin(void)
{
	int fd = open("/dev/null", O_RDONLY);

	if (fd < 0 || (fd != 0 && (dup2(fd, 0) < 0 || close(fd) < 0))) {
		perror("bprsh: /dev/null");
		exit(FAILED);
	}
}

/* What is before the host, and between it and the command. */
static void take_options(int argc, char **argv)
{
	static const struct option longs[] = {
		{"help", no_argument, NULL, 'h'}, {"version", no_argument, NULL, 'V'}, {0}};
	int c;

	while ((c = getopt_long(argc, argv, "+hVnl:4aCKkqTxo:p:", longs, NULL)) != -1) {
		if (c == 'l')
			check_user(optarg);
		if (c == 'n')
			no_stdin();
		if (c == 'h')
			usage(stdout);
		if (c == 'V') {
			puts("bprsh " BPROC_VERSION);
			exit(0);
		}
		if (c == '?')
			usage(stderr);
	}
}

/* -- which node */

static const struct bproc_node_info_t *at_address(const struct bproc_node_set_t *all,
						  struct in_addr addr)
{
	struct sockaddr_in a;

	for (int i = 0; i < all->size; i++) {
		memcpy(&a, &all->node[i].addr, sizeof(a));
		if (a.sin_addr.s_addr == addr.s_addr)
			return &all->node[i];
	}
	return NULL;
}

static bool is_front_end(struct in_addr addr)
{
	struct sockaddr_in a;
	int len = sizeof(a);

	return bproc_nodeaddr(BPROC_NODE_MASTER, (struct sockaddr *)&a, &len) == 0 &&
	       a.sin_addr.s_addr == addr.s_addr;
}

/* By any of the addresses that the name has. */
static int by_name(const char *host, const struct bproc_node_set_t *all)
{
	const struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM};
	const struct bproc_node_info_t *found = NULL;
	struct addrinfo *list, *a;
	bool here = false;
	int e;

	e = getaddrinfo(host, NULL, &hints, &list);
	if (e) {
		fprintf(stderr, "bprsh: %s: %s\n", host, gai_strerror(e));
		exit(FAILED);
	}
	for (a = list; a && !found && !here; a = a->ai_next) {
		struct in_addr addr = ((struct sockaddr_in *)(void *)a->ai_addr)->sin_addr;

		found = at_address(all, addr);
		here = !found && is_front_end(addr);
	}
	freeaddrinfo(list);
	if (!found && !here) {
		fprintf(stderr, "bprsh: %s: no node has its address\n", host);
		exit(FAILED);
	}
	return found ? found->node : BPROC_NODE_MASTER;
}

static int find_node(const char *host)
{
	struct bproc_node_set_t all = BPROC_EMPTY_NODESET;
	char *end;
	long n = strtol(host, &end, 10);
	int node;

	if (strcmp(host, "master") == 0)
		return BPROC_NODE_MASTER;
	if (*host && !*end && n >= BPROC_NODE_MASTER && n <= INT_MAX)
		return (int)n;
	if (bproc_nodelist(&all) < 0) {
		fprintf(stderr, "bprsh: %s\n", bproc_errtext());
		exit(FAILED);
	}
	node = by_name(host, &all);
	bproc_nodeset_free(&all);
	return node;
}

/* -- what to run */

/* The arguments with spaces between them: the shell parts them again, as rsh's does. */
static char *one_line(char **argv)
{
	size_t len = 1;
	char *line, *at;

	for (char **a = argv; *a; a++)
		len += strlen(*a) + 1;
	line = at = malloc(len);
	if (!line) {
		perror("bprsh");
		exit(FAILED);
	}
	*at = '\0';
	for (char **a = argv; *a; a++) {
		at = stpcpy(at, *a);
		if (a[1])
			at = stpcpy(at, " ");
	}
	return line;
}

int main(int argc, char **argv)
{
	char sh[] = "/bin/sh", flag[] = "-c";
	const char *host;
	char *args[4];
	int node;

	take_options(argc, argv);
	if (optind >= argc)
		usage(stderr);
	host = argv[optind++];
	take_options(argc, argv);
	if (optind >= argc)
		usage(stderr);
	node = find_node(host);
	args[0] = me()->pw_shell && *me()->pw_shell ? me()->pw_shell : sh;
	args[1] = flag;
	args[2] = one_line(argv + optind);
	args[3] = NULL;
	if (!attach_is_here(node))
		attach_there("bprsh", node, args[0], args, FAILED);
	execv(args[0], args);
	fprintf(stderr, "bprsh: %s: %s\n", args[0], strerror(errno));
	return 127;
}
