/*
 * bplab(1): a whole cluster on one machine. This file reads the command line;
 * bplab.h says who does the rest.
 */
#include <errno.h>
#include <getopt.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bplab.h"

static const char usage_text[] =
	"usage: bplab [-n NODES] [-o KEY=VALUE]... [-w SECONDS] [-l DIR] [-tv] [--bare]\n"
	"             [--] [COMMAND [ARGUMENT...]]\n"
	"\n"
	"Makes a cluster of NODES nodes (default 4) on this machine, runs COMMAND (or a\n"
	"shell) on its front end, and removes it again. Exit status is COMMAND's.\n"
	"\n"
	"  -n, --nodes N        how many nodes\n"
	"  -o, --config K=V     a line \"K V\" of the configuration file\n"
	"  -w, --wait SECONDS   how long the nodes may need to come up\n"
	"  -l, --logs DIR       where the daemons' logs go (default: gone with the lab)\n"
	"  -t, --tty            COMMAND gets a terminal, also when there is none here\n"
	"  -v, --verbose        the daemons log more\n"
	"      --bare           no daemons: places and network only\n"
	"\n"
	"Inside a lab: bplab kill|start|cut|heal NODE, restart-master, stop-master,\n"
	"start-master, restart-slave NODE, stop-slave NODE, start-slave NODE, logs [NODE],\n"
	"exec NODE COMMAND, status, wait [NODE...]. See bplab(1).\n";

static char bin_sh[] = "/bin/sh", rcfile[] = "--rcfile", bashrc[] = LAB_DIR "/bashrc",
	    interactive[] = "-i";
static char *default_shell[5];

static int find_self(struct lab_opts *o)
{
	ssize_t n = readlink("/proc/self/exe", o->exe, sizeof(o->exe) - 1);

	if (n <= 0) {
		lab_warn("/proc/self/exe: %s", strerror(errno));
		return -1;
	}
	o->exe[n] = '\0';
	memcpy(o->bin, o->exe, (size_t)n + 1);
	*strrchr(o->bin, '/') = '\0';
	return 0;
}

static void choose_shell(struct lab_opts *o)
{
	char *shell = getenv("SHELL");
	int n = 0;

	default_shell[n++] = shell && access(shell, X_OK) == 0 ? shell : bin_sh;
	if (!strcmp(basename(strdupa(default_shell[0])), "bash")) {
		default_shell[n++] = rcfile;
		default_shell[n++] = bashrc;
	}
	default_shell[n++] = interactive;
	o->command = default_shell;
}

static int add_config(struct lab_opts *o, const char *arg)
{
	const char *eq = strchr(arg, '=');

	if (!eq || eq == arg || strchr(arg, '\n')) {
		lab_warn("-o takes KEY=VALUE, not '%s'", arg);
		return -1;
	}
	if (o->nconfig == LAB_CONFIG_MAX) {
		lab_warn("more than %d times -o", LAB_CONFIG_MAX);
		return -1;
	}
	o->config[o->nconfig++] = arg;
	return 0;
}

int lab_number(const char *arg, double min, double max, double *ret)
{
	char *end;
	double v = strtod(arg, &end);

	if (end == arg || *end || !(v >= min && v <= max)) {
		lab_warn("'%s' is not a number from %g to %g", arg, min, max);
		return -1;
	}
	*ret = v;
	return 0;
}

static int parse(struct lab_opts *o, int argc, char **argv)
{
	static const struct option opts[] = {
		{"nodes", 1, NULL, 'n'}, {"config", 1, NULL, 'o'}, {"wait", 1, NULL, 'w'},
		{"logs", 1, NULL, 'l'},	 {"tty", 0, NULL, 't'},	   {"verbose", 0, NULL, 'v'},
		{"bare", 0, NULL, 'b'},	 {"help", 0, NULL, 'h'},   {"version", 0, NULL, 'V'},
		{NULL, 0, NULL, 0},
	};
	double v;
	int c;

	while ((c = getopt_long(argc, argv, "+n:o:w:l:tvhV", opts, NULL)) >= 0) {
		switch (c) {
		case 'n':
			if (lab_number(optarg, 1, LAB_NODES_MAX, &v) < 0)
				return -1;
			o->nodes = (int)v;
			break;
		case 'w':
			if (lab_number(optarg, 0, 3600, &v) < 0)
				return -1;
			o->wait_ms = (int)(v * 1000);
			break;
		case 'o':
			if (add_config(o, optarg) < 0)
				return -1;
			break;
		case 'l':
			o->log_dir = optarg;
			break;
		case 'v':
			o->verbose = true;
			break;
		case 't':
			o->pty = true;
			break;
		case 'b':
			o->bare = true;
			break;
		case 'h':
			fputs(usage_text, stdout);
			exit(0);
		case 'V':
			puts("bplab (bproc) " BPROC_PROJECT_VERSION);
			exit(0);
		default:
			fputs(usage_text, stderr);
			return -1;
		}
	}
	return 0;
}

int main(int argc, char **argv)
{
	static struct lab_opts o = {.nodes = 4, .wait_ms = LAB_WAIT_MS};

	if (argc > 1 && client_knows(argv[1]))
		return client_main(argc - 1, argv + 1);
	argv = lab_title_room(argc, argv);
	if (parse(&o, argc, argv) < 0 || find_self(&o) < 0)
		return LAB_EXIT_FAIL;
	if (optind < argc)
		o.command = argv + optind;
	else
		choose_shell(&o);
	if (isatty(STDIN_FILENO) && isatty(STDOUT_FILENO))
		o.pty = true;
	return outer_run(&o);
}
