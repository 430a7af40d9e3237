/*
 * Very many processes of one node, all at once.
 *
 *   bench_crowd NODE COUNT [memory]
 *
 * COUNT processes are born on the node. When ps at home has them all one kill() of
 * their group ends them, and their parent, there, waits for each. Exit status 0 if
 * every one was seen, killed by that signal, waited for, and then gone. With "memory" it also
 * tells what the front end and the machine need for them (a lab is one machine, so that of as
 * many local processes is measured first and taken off).
 */
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/wait.h>

#include <bproc.h>

#include "bench.h"

#define LIMIT_S 120 /* for each step */

static const struct timespec pause_10ms = {.tv_nsec = 10000000};

static double seconds_since(uint64_t t)
{
	return (double)(now_ns() - t) / 1e9;
}

/* Processes of the group in /proc; of them zombies. */
static int in_group(int group, int *ret_zombies)
{
	DIR *d = opendir("/proc");
	int n = 0, pgrp, fd;
	char path[300], text[512], state, *end;
	struct dirent *e;
	ssize_t len;

	*ret_zombies = 0;
	while (d && (e = readdir(d))) {
		if (e->d_name[0] < '1' || e->d_name[0] > '9')
			continue;
		snprintf(path, sizeof(path), "/proc/%s/stat", e->d_name);
		fd = open(path, O_RDONLY);
		len = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
		close(fd);
		if (len <= 0)
			continue;
		text[len] = '\0';
		end = strrchr(text, ')');
		if (end && sscanf(end + 1, " %c %*d %d", &state, &pgrp) == 2 && pgrp == group) {
			n++;
			*ret_zombies += state == 'Z';
		}
	}
	if (d)
		closedir(d);
	return n;
}

/* The parent of all of them. Its exit status: 0 if they ended as they should. */
static int be_crowd(int count)
{
	int status, good = 0, born = 0;

	signal(SIGUSR1, SIG_IGN);
	for (; born < count; born++) {
		pid_t pid = fork();

		if (pid < 0)
			break;
		if (pid == 0) {
			signal(SIGUSR1, SIG_DFL);
			for (;;)
				pause();
		}
	}
	if (born < count)
		fprintf(stderr, "fork %d: %s\n", born, strerror(errno));
	while (wait(&status) > 0)
		good += WIFSIGNALED(status) && WTERMSIG(status) == SIGUSR1;
	if (good < count)
		fprintf(stderr, "%d of %d were waited for and killed by that signal\n", good,
			count);
	return good < count;
}

static bool wait_for(int group, int wanted, const char *what)
{
	uint64_t t = now_ns();
	int n, zombies;

	while ((n = in_group(group, &zombies)) != wanted && seconds_since(t) < LIMIT_S)
		nanosleep(&pause_10ms, NULL);
	if (n == wanted)
		return true;
	fprintf(stderr, "%s: %d of %d in ps, %d of them zombies\n", what, n, wanted, zombies);
	return false;
}

/* -- memory, in KiB */

struct memory {
	long slab, tables, stacks, anon; /* of the whole machine */
	long master, keeper, slave;	 /* resident, of the front end's daemons */
};

static long number_after(const char *path, const char *name)
{
	FILE *f = fopen(path, "re");
	char line[256];
	long n = 0;

	while (f && fgets(line, sizeof(line), f))
		if (strncmp(line, name, strlen(name)) == 0)
			n = atol(line + strlen(name));
	if (f)
		fclose(f);
	return n;
}

/* Whose arguments begin so, and end so; the first in /proc. */
static long resident(const char *program, const char *option)
{
	DIR *d = opendir("/proc");
	char path[300], text[512];
	struct dirent *e;
	long kb = 0;

	while (d && kb == 0 && (e = readdir(d))) {
		ssize_t n;
		int fd;

		if (e->d_name[0] < '1' || e->d_name[0] > '9')
			continue;
		snprintf(path, sizeof(path), "/proc/%s/cmdline", e->d_name);
		fd = open(path, O_RDONLY);
		n = fd < 0 ? -1 : read(fd, text, sizeof(text));
		close(fd);
		if (n <= 0 || !memmem(text, (size_t)n, program, strlen(program)) ||
		    !memmem(text, (size_t)n, option, strlen(option)))
			continue;
		snprintf(path, sizeof(path), "/proc/%s/status", e->d_name);
		kb = number_after(path, "VmRSS:");
	}
	if (d)
		closedir(d);
	return kb;
}

static struct memory memory_now(void)
{
	struct memory m = {
		.slab = number_after("/proc/meminfo", "Slab:"),
		.tables = number_after("/proc/meminfo", "PageTables:"),
		.stacks = number_after("/proc/meminfo", "KernelStack:"),
		.anon = number_after("/proc/meminfo", "AnonPages:"),
		.master = resident("bpmaster", ""),
		.keeper = resident("bpinit", "--keeper"),
		.slave = resident("bpslave", "--front-end"),
	};
	return m;
}

/* What count local processes of the same kind need. */
static struct memory local_crowd(int count)
{
	struct memory before = memory_now(), with;
	int group = fork(), zombies;

	if (group == 0) {
		setpgid(0, 0);
		_exit(be_crowd(count));
	}
	while (in_group(group, &zombies) < count + 1)
		nanosleep(&pause_10ms, NULL);
	with = memory_now();
	kill(-group, SIGUSR1);
	waitpid(group, NULL, 0);
	return (struct memory){.slab = with.slab - before.slab,
			       .tables = with.tables - before.tables,
			       .stacks = with.stacks - before.stacks,
			       .anon = with.anon - before.anon};
}

static void tell_memory(int count, const struct memory *a, const struct memory *b,
			const struct memory *local)
{
	long slab = b->slab - a->slab - local->slab, tables = b->tables - a->tables - local->tables;
	long stacks = b->stacks - a->stacks - local->stacks, anon = b->anon - a->anon - local->anon;

	printf("bpmaster %ld KiB resident, %ld before; keeper %ld, %ld; bpslave %ld, %ld\n",
	       b->master, a->master, b->keeper, a->keeper, b->slave, a->slave);
	printf("a ghost: slab %.1f, page tables %.1f, kernel stack %.1f, pages %.1f KiB; all "
	       "%.1f\n",
	       (double)slab / count, (double)tables / count, (double)stacks / count,
	       (double)anon / count, (double)(slab + tables + stacks + anon) / count);
}

int main(int argc, char **argv)
{
	int node = argc > 2 ? atoi(argv[1]) : 0, count = argc > 2 ? atoi(argv[2]) : 1000;
	bool memory = argc > 3 && strcmp(argv[3], "memory") == 0;
	struct memory local = {0}, before = {0}, with;
	int group, status, bad = 0;
	uint64_t t;

	if (memory) {
		local = local_crowd(count);
		sleep(2); /* what the kernel frees late */
		before = memory_now();
	}
	t = now_ns();
	group = fork();
	if (group == 0) {
		setpgid(0, 0);
		if (bproc_move(node) < 0) {
			fprintf(stderr, "%s\n", bproc_errtext());
			_exit(2);
		}
		_exit(be_crowd(count));
	}
	setpgid(group, group);
	bad |= !wait_for(group, count + 1, "born");
	printf("%d in ps after %.2f s\n", count, seconds_since(t));
	if (memory) {
		with = memory_now();
		tell_memory(count, &before, &with, &local);
	}
	t = now_ns();
	if (kill(-group, SIGUSR1) < 0)
		die("kill");
	while (waitpid(group, &status, 0) < 0 && errno == EINTR)
		;
	if (status != 0)
		fprintf(stderr, "their parent ended with status 0x%x\n", status);
	bad |= status != 0;
	printf("all waited for there after %.2f s\n", seconds_since(t));
	bad |= !wait_for(group, 0, "gone");
	printf("none in ps after %.2f s\n", seconds_since(t));
	return bad;
}
