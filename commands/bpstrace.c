/*
 * bpstrace: strace of a process of the cluster, wherever it is real. strace goes
 * there by bproc_execmove, with its stdin, stdout and stderr forwarded; in the node's
 * pid namespace the process has the number that it has everywhere. bpstrace(1).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "attach.h"

static _Noreturn void usage(FILE *to)
{
	fputs("usage: bpstrace PID [options of strace]\n"
	      "       bpstrace [options of strace] PID\n",
	      to);
	exit(to == stdout ? 0 : 1);
}

int main(int argc, char **argv)
{
	char path[PATH_MAX], name[] = "strace", pid_flag[] = "-p", pid_text[16], **args;
	int pid, at, node, n = 0;

	if (argc < 2)
		usage(stderr);
	if (strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "--help") == 0)
		usage(stdout);
	if (strcmp(argv[1], "-V") == 0 || strcmp(argv[1], "--version") == 0) {
		puts("bpstrace " BPROC_VERSION);
		return 0;
	}
	at = attach_argument(argc, argv, &pid);
	node = attach_node("bpstrace", pid);
	attach_program("bpstrace", "strace", path);
	snprintf(pid_text, sizeof(pid_text), "%d", pid);
	args = calloc((size_t)argc + 3, sizeof(*args));
	if (!args)
		return 1;
	args[n++] = name;
	for (int i = 1; i < argc; i++)
		if (i != at)
			args[n++] = argv[i];
	args[n++] = pid_flag;
	args[n] = pid_text;
	if (!attach_is_here(node))
		attach_there("bpstrace", node, path, args, 1);
	execv(path, args);
	perror(path);
	return 127;
}
