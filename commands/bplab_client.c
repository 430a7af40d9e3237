/*
 * The subcommands that act on a running lab from inside it: each is one message
 * to the lab's control socket and one answer. The lab does the work.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bplab.h"

enum { WITH_NODE = 1, WITH_KILL = 2, WITH_CRASH = 4, WITH_ENV = 8, WITH_ARGS = 16 };

struct verb {
	const char *name;
	uint32_t type;
	int role;
	unsigned with;
	const char *usage;
};

static const struct verb verbs[] = {
	{"kill", CTL_KILL, 0, WITH_NODE | WITH_CRASH, "[--crash] NODE"},
	{"start", CTL_START, 0, WITH_NODE | WITH_ENV, "[--env NAME=VALUE] NODE"},
	{"cut", CTL_CUT, 0, WITH_NODE, "NODE"},
	{"heal", CTL_HEAL, 0, WITH_NODE, "NODE"},
	{"restart-master", CTL_RESTART_DAEMON, ROLE_MASTER, WITH_KILL | WITH_ENV,
	 "[--kill] [--env NAME=VALUE]"},
	{"stop-master", CTL_STOP_DAEMON, ROLE_MASTER, WITH_KILL, "[--kill]"},
	{"start-master", CTL_START_DAEMON, ROLE_MASTER, WITH_ENV, "[--env NAME=VALUE]"},
	{"restart-slave", CTL_RESTART_DAEMON, ROLE_SLAVE, WITH_NODE | WITH_KILL | WITH_ENV,
	 "[--kill] [--env NAME=VALUE] NODE"},
	{"stop-slave", CTL_STOP_DAEMON, ROLE_SLAVE, WITH_NODE | WITH_KILL, "[--kill] NODE"},
	{"start-slave", CTL_START_DAEMON, ROLE_SLAVE, WITH_NODE | WITH_ENV,
	 "[--env NAME=VALUE] NODE"},
	{"exec", CTL_EXEC, 0, WITH_NODE | WITH_ARGS, "NODE COMMAND [ARGUMENT...]"},
	{"status", CTL_STATUS, 0, 0, ""},
};

static const struct verb *find(const char *name)
{
	for (size_t i = 0; i < sizeof(verbs) / sizeof(*verbs); i++)
		if (!strcmp(verbs[i].name, name))
			return &verbs[i];
	return NULL;
}

bool client_knows(const char *name)
{
	return find(name) || !strcmp(name, "logs") || !strcmp(name, "wait");
}

static int usage(const struct verb *v)
{
	lab_warn("usage: bplab %s %s", v->name, v->usage);
	return LAB_EXIT_FAIL;
}

static int ask(struct lab_msg *m, bool with_fds)
{
	static const int stdio[] = {0, 1, 2};
	cleanup_fd int sock = unix_connect(LAB_CONTROL);
	struct sysio_pkt pkt;
	int r = sock;

	if (sock < 0) {
		lab_warn("no lab here: %s: %s (this subcommand works inside a lab's shell)",
			 LAB_CONTROL, strerror(-sock));
		return LAB_EXIT_FAIL;
	}
	r = lab_send(sock, m, stdio, with_fds ? 3 : 0);
	if (r == 0)
		r = lab_recv(sock, m, &pkt);
	if (r < 0) {
		lab_warn("%s: %s", LAB_CONTROL, strerror(-r));
		return LAB_EXIT_FAIL;
	}
	pkt_close(&pkt);
	if (m->len && m->text[0])
		dprintf(m->value ? STDERR_FILENO : STDOUT_FILENO, "%s%s\n",
			m->value ? "bplab: " : "", m->text);
	return m->value;
}

/* One that has none has never run, which is only worth a word if it was asked for. */
static int show_log(const char *name, bool asked)
{
	char path[512], buf[8192];
	ssize_t n;
	cleanup_fd int fd = -1;

	snprintf(path, sizeof(path), "%s/%s", LAB_LOG, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		if (errno == ENOENT && !asked)
			return 0;
		lab_warn("%s: %s", path, strerror(errno));
		return 1;
	}
	dprintf(STDOUT_FILENO, "==> %s\n", name);
	while ((n = read(fd, buf, sizeof(buf))) > 0)
		if (write_full(STDOUT_FILENO, buf, (size_t)n) < 0)
			return 1;
	return 0;
}

/* logs [NODE]: the master's place has two daemons; without NODE all places. */
static int logs_main(int argc, char **argv)
{
	char name[64];
	int node = LAB_MASTER, r = 0;

	if (argc > 2 || (argc == 2 && lab_parse_node(argv[1], &node) < 0)) {
		lab_warn("usage: bplab logs [NODE]");
		return LAB_EXIT_FAIL;
	}
	if (argc == 1 || node == LAB_MASTER)
		r |= show_log("bpmaster", false);
	for (int i = LAB_MASTER; i < LAB_NODES_MAX; i++) {
		if (argc == 2 && i != node)
			continue;
		snprintf(name, sizeof(name), "bpslave.%s", lab_name(i));
		r |= show_log(name, argc == 2 && node != LAB_MASTER);
	}
	return r;
}

static int parse(const struct verb *v, int argc, char **argv, struct lab_msg *m)
{
	static const struct option opts[] = {{"kill", 0, NULL, 'k'},
					     {"crash", 0, NULL, 'c'},
					     {"env", 1, NULL, 'e'},
					     {NULL, 0, NULL, 0}};
	const char *env[16];
	int c, nenv = 0, node = LAB_MASTER;

	m->type = v->type;
	m->role = v->role;
	m->value = SIGTERM;
	optind = 1;
	while ((c = getopt_long(argc, argv, "+", opts, NULL)) >= 0) {
		if (c == 'k' && (v->with & WITH_KILL))
			m->value = SIGKILL;
		else if (c == 'c' && (v->with & WITH_CRASH))
			m->flags |= KILL_CRASH;
		else if (c == 'e' && (v->with & WITH_ENV) && strchr(optarg, '=') && nenv < 16)
			env[nenv++] = optarg;
		else
			return -EINVAL;
	}
	if (v->with & WITH_NODE) {
		if (optind >= argc || lab_parse_node(argv[optind], &node) < 0)
			return -EINVAL;
		optind++;
	}
	m->node = node;
	if (!(v->with & WITH_ARGS) != (optind >= argc))
		return -EINVAL;
	for (; optind < argc; optind++)
		if (lab_add(m, argv[optind], false) < 0)
			return -E2BIG;
	for (int i = 0; i < nenv; i++)
		if (lab_add(m, env[i], true) < 0)
			return -E2BIG;
	return 0;
}

int client_main(int argc, char **argv)
{
	static struct lab_msg m;
	const struct verb *v = find(argv[0]);

	if (!strcmp(argv[0], "wait"))
		return wait_main(argc, argv);
	if (!strcmp(argv[0], "logs"))
		return logs_main(argc, argv);
	if (!v || parse(v, argc, argv, &m) < 0)
		return v ? usage(v) : LAB_EXIT_FAIL;
	return ask(&m, v->type == CTL_EXEC);
}
