/*
 * vmadump: a running program to a file, and back. A thin user of libvmadump; see
 * vmadump(1).
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "apart.h"
#include "vmadump.h"

struct options {
	unsigned dump, restore, info;
	int detach, verbose;
};

static struct vmad_err err;

static void usage(FILE *to)
{
	fputs("usage: vmadump dump [-akstvz] PID FILE\n"
	      "       vmadump restore [-dn] FILE\n"
	      "       vmadump info [-l] FILE\n"
	      "       vmadump check FILE\n"
	      "       vmadump extract PID FILE OUT\n"
	      "FILE may be -, standard input or output.\n"
	      "\n"
	      "  -a, --all      dump: the image needs no file of this machine\n"
	      "  -k, --kill     dump: the process ends when its image is complete\n"
	      "  -s, --stop     dump: it is stopped then, until a SIGCONT\n"
	      "  -t, --tree     dump: the process and all that descend from it\n"
	      "  -v, --verbose  dump: say how long it was stopped\n"
	      "  -z, --zstd     dump: compressed\n"
	      "  -d, --detach   restore: print the process id and do not wait\n"
	      "  -n, --new-pid  restore: whatever process id is free\n"
	      "  -l, --long     info: threads, files, mappings and descriptors too\n"
	      "  -V, --version  -h, --help\n",
	      to);
}

static int complain(const char *what, int code)
{
	fprintf(stderr, "vmadump: %s: %s\n", *what ? what : "\"\"",
		code ? strerror(code) : err.text);
	return 1;
}

static int is_dash(const char *file)
{
	return strcmp(file, "-") == 0;
}

/*
 * An image that is there already is replaced by a whole one or not at all: it is
 * written beside it. What is no regular file (a pipe, a device) is written to.
 */
static int open_out(const char *file, char *tmp, size_t size)
{
	struct stat st;

	tmp[0] = 0;
	if (is_dash(file))
		return dup(1);
	if (!*file) {
		errno = ENOENT;
		return -1;
	}
	if (stat(file, &st) == 0 && !S_ISREG(st.st_mode))
		return open(file, O_WRONLY | O_CLOEXEC);
	if ((size_t)snprintf(tmp, size, "%s.XXXXXX", file) >= size) {
		errno = ENAMETOOLONG;
		return -1;
	}
	return mkostemp(tmp, O_CLOEXEC);
}

/* The image goes by its name, or, if it is not whole, goes. */
static int close_out(const char *file, const char *tmp, bool whole)
{
	if (!tmp[0])
		return 0;
	if (!whole)
		return unlink(tmp);
	if (rename(tmp, file) == 0)
		return 0;
	fprintf(stderr, "vmadump: %s: %s; the image is %s\n", file, strerror(errno), tmp);
	return 1;
}

/* A process id, or 0 when it is none, and that is said. */
static long read_pid(const char *text)
{
	char *end;
	long pid = strtol(text, &end, 10);

	if (*end == 0 && end != text && pid > 0 && pid <= 1 << 22)
		return pid;
	fprintf(stderr, "vmadump: no process id: %s\n", text);
	return 0;
}

struct taking {
	pid_t pid;
	int fd;
	unsigned flags;
	uint64_t us;
	long n;
};

static void take(void *arg)
{
	struct taking *t = arg;

	t->n = vmad_dump_pid(t->pid, t->fd, t->flags, &t->us, &err);
}

static int dump(const struct options *o, const char *pid_text, const char *file)
{
	char tmp[4096];
	struct taking t = {.pid = (pid_t)read_pid(pid_text), .flags = o->dump, .n = -1};

	if (!t.pid)
		return 2;
	if (o->dump & VMAD_KILL && o->dump & VMAD_STOP) {
		fprintf(stderr, "vmadump: --kill and --stop exclude each other\n");
		return 2;
	}
	if (is_dash(file) && isatty(1)) {
		fprintf(stderr, "vmadump: an image is not for a terminal\n");
		return 2;
	}
	t.fd = open_out(file, tmp, sizeof tmp);
	if (t.fd < 0)
		return complain(file, errno);
	run_apart(take, &t, true);
	if (close_out(file, tmp, t.n >= 0) > 0)
		return 1;
	if (t.n < 0)
		return complain(pid_text, 0);
	if (o->verbose)
		fprintf(stderr, "vmadump: %ld bytes, stopped for %llu.%03llu ms\n", t.n,
			(unsigned long long)t.us / 1000, (unsigned long long)t.us % 1000);
	return 0;
}

static int open_in(const char *file)
{
	return is_dash(file) ? fcntl(0, F_DUPFD_CLOEXEC, 3) : open(file, O_RDONLY | O_CLOEXEC);
}

/* -- the restored process as a job of ours */

/* The terminal is the group's that we were in the foreground with; then it is its. */
static int give_terminal(pid_t group)
{
	int fd = open("/dev/tty", O_RDWR | O_CLOEXEC), r = -1;

	if (fd < 0)
		return -1;
	if (tcgetpgrp(fd) == getpgrp() || group == getpgrp())
		r = tcsetpgrp(fd, group);
	close(fd);
	return r;
}

static int end_as(int status)
{
	if (WIFEXITED(status))
		return WEXITSTATUS(status);
	/* It has written its core already, if it was to. */
	signal(WTERMSIG(status), SIG_DFL);
	raise(WTERMSIG(status));
	return 128 + WTERMSIG(status);
}

static int wait_for(pid_t pid)
{
	int own_group = getpgid(pid) != getpgrp(), status, early = 0;

	/* ^C and ^\ are for it; SIGTTOU would stop us when we take the terminal back. */
	signal(SIGINT, SIG_IGN);
	signal(SIGQUIT, SIG_IGN);
	signal(SIGTTOU, SIG_IGN);
	if (own_group && getsid(pid) == getsid(0))
		early = give_terminal(pid) == 0;
	for (;;) {
		if (waitpid(pid, &status, WUNTRACED) < 0) {
			if (errno == EINTR)
				continue;
			return complain("wait", errno);
		}
		/* It has run before the terminal was its: a read of it has stopped it. */
		if (early && WIFSTOPPED(status) &&
		    (WSTOPSIG(status) == SIGTTIN || WSTOPSIG(status) == SIGTTOU)) {
			early = 0;
			kill(-pid, SIGCONT);
			continue;
		}
		if (own_group)
			give_terminal(getpgrp());
		if (!WIFSTOPPED(status))
			return end_as(status);
		raise(SIGSTOP);
		if (own_group)
			give_terminal(pid);
		kill(own_group ? -pid : pid, SIGCONT);
	}
}

static int restore(const struct options *o, const char *file)
{
	int fd = open_in(file);
	pid_t pid;

	if (fd < 0)
		return complain(file, errno);
	pid = vmad_restore(fd, o->restore, &err);
	if (pid < 0)
		return complain(file, 0);
	close(fd);
	if (!o->detach)
		return wait_for(pid);
	printf("%d\n", pid);
	return fflush(stdout) == 0 ? 0 : complain("standard output", errno);
}

static int look(const struct options *o, const char *file, int check)
{
	int fd = open_in(file), r;

	if (fd < 0)
		return complain(file, errno);
	r = check ? vmad_check(fd, &err) : vmad_info(fd, stdout, o->info, &err);
	return r < 0 ? complain(file, 0) : 0;
}

static int extract(const char *pid_text, const char *file, const char *to)
{
	long pid = read_pid(pid_text);
	char tmp[4096];
	int in, out, r;

	if (!pid)
		return 2;
	in = open_in(file);
	if (in < 0)
		return complain(file, errno);
	out = open_out(to, tmp, sizeof tmp);
	if (out < 0)
		return complain(to, errno);
	r = vmad_member(in, (pid_t)pid, out, &err);
	if (close_out(to, tmp, r >= 0) > 0)
		return 1;
	return r < 0 ? complain(file, 0) : 0;
}

static int parse(int argc, char **argv, struct options *o)
{
	static const struct option longs[] = {
		{"all", 0, NULL, 'a'},
		{"kill", 0, NULL, 'k'},
		{"stop", 0, NULL, 's'},
		{"verbose", 0, NULL, 'v'},
		{"zstd", 0, NULL, 'z'},
		{"detach", 0, NULL, 'd'},
		{"new-pid", 0, NULL, 'n'},
		{"tree", 0, NULL, 't'},
		{"long", 0, NULL, 'l'},
		{"version", 0, NULL, 'V'},
		{"help", 0, NULL, 'h'},
		{0},
	};
	int c;

	while ((c = getopt_long(argc, argv, "akstvzdnlVh", longs, NULL)) != -1) {
		switch (c) {
		case 'a':
			o->dump |= VMAD_DUMP_ALL;
			break;
		case 'k':
			o->dump |= VMAD_KILL;
			break;
		case 's':
			o->dump |= VMAD_STOP;
			break;
		case 't':
			o->dump |= VMAD_TREE;
			break;
		case 'z':
			o->dump |= VMAD_PACK;
			break;
		case 'v':
			o->verbose = 1;
			break;
		case 'd':
			o->detach = 1;
			break;
		case 'n':
			o->restore |= VMAD_NEW_PID;
			break;
		case 'l':
			o->info |= VMAD_INFO_TABLES;
			break;
		case 'V':
			puts("vmadump " BPROC_VERSION);
			exit(0);
		case 'h':
			usage(stdout);
			exit(0);
		default:
			return -1;
		}
	}
	return 0;
}

int main(int argc, char **argv)
{
	struct options o = {0};
	const char *verb;
	int n;

	if (parse(argc, argv, &o) < 0 || optind == argc) {
		usage(stderr);
		return 2;
	}
	verb = argv[optind];
	n = argc - optind - 1;
	if (strcmp(verb, "dump") == 0 && n == 2)
		return dump(&o, argv[optind + 1], argv[optind + 2]);
	if (strcmp(verb, "restore") == 0 && n == 1)
		return restore(&o, argv[optind + 1]);
	if (strcmp(verb, "info") == 0 && n == 1)
		return look(&o, argv[optind + 1], 0);
	if (strcmp(verb, "check") == 0 && n == 1)
		return look(&o, argv[optind + 1], 1);
	if (strcmp(verb, "extract") == 0 && n == 3)
		return extract(argv[optind + 1], argv[optind + 2], argv[optind + 3]);
	usage(stderr);
	return 2;
}
