/*
 * bpgdb: gdb on a process of the cluster, wherever it is real. gdb stays here, where
 * its user's terminal is; gdbserver goes to the process by bproc_execmove, and they
 * talk through its forwarded stdin and stdout. bpgdb(1).
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <bproc.h>

#include "attach.h"

static _Noreturn void usage(FILE *to)
{
	fputs("usage: bpgdb PID [options of gdb]\n"
	      "       bpgdb [options of gdb] PID\n",
	      to);
	exit(to == stdout ? 0 : 1);
}

struct exe {
	int err;
	char path[PATH_MAX];
};

static void read_exe(int pid, struct exe *ret)
{
	char link[32];
	ssize_t n;

	memset(ret, 0, sizeof(*ret));
	snprintf(link, sizeof(link), "/proc/%d/exe", pid);
	n = readlink(link, ret->path, sizeof(ret->path) - 1);
	ret->err = n < 0 ? errno : 0;
}

/* The same on its node, and with it the kernel's word on who may look at the process. */
static void read_exe_there(int node, int pid, struct exe *ret)
{
	size_t got = 0;
	ssize_t n = 1;
	int p[2], child, status;

	if (pipe(p) < 0) {
		perror("bpgdb: pipe");
		exit(1);
	}
	fflush(NULL);
	child = fork();
	if (child == 0) {
		dup2(p[1], 1);
		close_range(3, ~0u, 0); /* what may not move is not needed there */
		if (bproc_move(node) < 0) {
			fprintf(stderr, "bpgdb: to node %d: %s\n", node, bproc_errtext());
			_exit(1);
		}
		read_exe(pid, ret);
		_exit(write(1, ret, sizeof(*ret)) != sizeof(*ret));
	}
	close(p[1]);
	while (child > 0 && n > 0 && got < sizeof(*ret)) {
		n = read(p[0], (char *)ret + got, sizeof(*ret) - got);
		got += n > 0 ? (size_t)n : 0;
	}
	close(p[0]);
	if (child < 0 || waitpid(child, &status, 0) != child || status != 0 || got != sizeof(*ret))
		exit(1);
	ret->path[sizeof(ret->path) - 1] = '\0';
}

static int is_bpinit(const char *path)
{
	const char *name = strrchr(path, '/');

	return name && strcmp(name + 1, "bpinit") == 0;
}

/*
 * The program, if gdb could not find it by itself: to the node's kernel one that came by a
 * move executes bpinit still, and only at home it is seen what it was. "": gdb knows.
 */
static void find_program(int node, int pid, struct exe *ret)
{
	read_exe_there(node, pid, ret);
	if (ret->err) {
		fprintf(stderr, "bpgdb: %d on node %d: %s\n", pid, node,
			ret->err == ENOENT ? "no such process" : strerror(ret->err));
		exit(1);
	}
	if (!is_bpinit(ret->path)) {
		ret->path[0] = '\0';
		return;
	}
	read_exe(pid, ret);
	if (ret->err || is_bpinit(ret->path) || access(ret->path, R_OK) < 0)
		ret->path[0] = '\0';
}

/* -- what gdb starts at the other end of its pipe: gdbserver, and we in between */

/*
 * gdb's bytes, without its interrupts: a byte 3 between packets (gdb manual, "Interrupts").
 * gdbserver would make of it a SIGINT to the process group whose leader it takes the
 * process to be. The process alone is sent one here, by its own number. How many are left.
 */
static size_t take_interrupts(char *buf, size_t len, int pid)
{
	static enum { OUTSIDE, INSIDE, SUM_1, SUM_2 } at;
	size_t kept = 0;

	for (size_t i = 0; i < len; i++) {
		if (at == OUTSIDE && buf[i] == 3) {
			kill(pid, SIGINT);
			continue;
		}
		if (at == OUTSIDE)
			at = buf[i] == '$' ? INSIDE : OUTSIDE;
		else if (at == INSIDE)
			at = buf[i] == '#' ? SUM_1 : INSIDE;
		else
			at = at == SUM_1 ? SUM_2 : OUTSIDE;
		buf[kept++] = buf[i];
	}
	return kept;
}

/* False: one end has gone. */
static int copy(int from, int to, int pid)
{
	char buf[16384];
	ssize_t n = read(from, buf, sizeof(buf)), done = 0, w;

	if (n <= 0)
		return n < 0 && errno == EINTR;
	if (pid)
		n = (ssize_t)take_interrupts(buf, (size_t)n, pid);
	for (; done < n; done += w) {
		w = write(to, buf + done, (size_t)(n - done));
		if (w < 0 && errno != EINTR)
			return 0;
		w = w < 0 ? 0 : w;
	}
	return 1;
}

static int serve(const char *node, char *pid)
{
	char path[PATH_MAX], name[] = "gdbserver", once[] = "--once", io[] = "-";
	char attach[] = "--attach", *args[] = {name, once, io, attach, pid, NULL};
	int to[2], from[2], child, status = 0;
	struct pollfd p[2] = {{.fd = 0, .events = POLLIN}, {.events = POLLIN}};

	attach_program("bpgdb", "gdbserver", path);
	setpgid(0, 0); /* a ^C is for gdb */
	signal(SIGPIPE, SIG_IGN);
	if (pipe(to) < 0 || pipe(from) < 0) {
		perror("bpgdb: pipe");
		return 1;
	}
	child = fork();
	if (child == 0) {
		signal(SIGPIPE, SIG_DFL);
		dup2(to[0], 0);
		dup2(from[1], 1);
		attach_there("bpgdb", atoi(node), path, args, 1);
	}
	close(to[0]);
	close(from[1]);
	p[1].fd = from[0];
	while (child > 0 && (poll(p, 2, -1) >= 0 || errno == EINTR)) {
		if (p[1].revents && !copy(from[0], 1, 0))
			break;
		if (p[0].revents && !copy(0, to[1], atoi(pid)))
			break;
	}
	close(to[1]);
	close(from[0]);
	return child < 0 || waitpid(child, &status, 0) != child || status != 0;
}

/* For the shell that gdb starts: between ' and '. */
static void quote(const char *s, char *to, size_t size)
{
	size_t n = 0;

	for (; *s && n + 8 < size; s++) {
		if (*s == '\'')
			n += (size_t)snprintf(to + n, size - n, "'\\''");
		else
			to[n++] = *s;
	}
	to[n] = '\0';
}

/* gdb's arguments: argv's but for the process, behind what makes it attach. */
static char **gdb_args(int argc, char **argv, int at, int pid, int node)
{
	static char own[PATH_MAX], quoted[2 * PATH_MAX], target[3 * PATH_MAX], text[16];
	static char name[] = "gdb", ex_flag[] = "-ex", pid_flag[] = "-p";
	/* To gdb the program that we give it is not the one that the kernel names. */
	static char trust[] = "set exec-file-mismatch off";
	static struct exe exe;
	char **args = calloc((size_t)argc + 10, sizeof(*args));
	int n = 0;

	if (!args)
		exit(1);
	args[n++] = name;
	if (attach_is_here(node)) {
		snprintf(text, sizeof(text), "%d", pid);
		args[n++] = pid_flag;
		args[n++] = text;
	} else {
		attach_program("bpgdb", "gdbserver", quoted); /* said now, not by a broken pipe */
		find_program(node, pid, &exe);
		if (readlink("/proc/self/exe", own, sizeof(own) - 1) < 0) {
			perror("bpgdb: /proc/self/exe");
			exit(1);
		}
		quote(own, quoted, sizeof(quoted));
		snprintf(target, sizeof(target), "target remote | exec '%s' --serve %d %d", quoted,
			 node, pid);
		if (exe.path[0]) {
			args[n++] = exe.path;
			args[n++] = ex_flag;
			args[n++] = trust;
		}
		args[n++] = ex_flag;
		args[n++] = target;
	}
	for (int i = 1; i < argc; i++)
		if (i != at)
			args[n++] = argv[i];
	return args;
}

int main(int argc, char **argv)
{
	char gdb[PATH_MAX], **args;
	int pid, at, node;

	if (argc < 2)
		usage(stderr);
	if (argc == 4 && strcmp(argv[1], "--serve") == 0)
		return serve(argv[2], argv[3]);
	if (strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "--help") == 0)
		usage(stdout);
	if (strcmp(argv[1], "-v") == 0 || strcmp(argv[1], "--version") == 0) {
		puts("bpgdb " BPROC_VERSION);
		return 0;
	}
	at = attach_argument(argc, argv, &pid);
	node = attach_node("bpgdb", pid);
	attach_program("bpgdb", "gdb", gdb);
	args = gdb_args(argc, argv, at, pid, node);
	execv(gdb, args);
	perror(gdb);
	return 127;
}
