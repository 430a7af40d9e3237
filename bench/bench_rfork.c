/*
 * Times bproc_rfork(). A small static program; what it dirties is asked for.
 *
 *   bench_rfork lat NODE COUNT MB   a line each: microseconds from the call to
 *                                   the child's first instruction, to the
 *                                   parent's return
 *   bench_rfork paced NODE MB       as lat, one for each line on standard input
 *   bench_rfork first NODE COUNT    the same from a fresh parent each time
 *   bench_rfork rate NODES PARENTS COUNT   forks a second, children waited for
 *   bench_rfork fork PARENTS COUNT  the same with plain fork()
 *   bench_rfork wait                the process that a peer dumps: pause()
 */
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include <bproc.h>

#include "bench.h"

static int out[2];

/* The child says when it ran by its standard output, a pipe of the parent's. */
static void one(int node)
{
	uint64_t t0, t1, t2 = 0;
	int pid, st;

	t0 = now_ns();
	pid = bproc_rfork(node);
	t1 = now_ns();
	if (pid < 0)
		die("bproc_rfork(%d)", node);
	if (pid == 0) {
		if (write(1, &t1, sizeof(t1)) != sizeof(t1))
			_exit(1);
		_exit(0);
	}
	if (read(out[0], &t2, sizeof(t2)) != sizeof(t2))
		die("no word from the child");
	if (waitpid(pid, &st, 0) != pid || st != 0)
		die("child %d ended with status 0x%x", pid, st);
	fprintf(stderr, "%.1f %.1f\n", (t2 - t0) / 1e3, (t1 - t0) / 1e3);
}

static void dirty(size_t mb)
{
	char *p;

	if (!mb)
		return;
	p = mmap(NULL, mb << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		die("mmap of %zu MB", mb);
	for (size_t i = 0; i < mb << 20; i += 8)
		*(uint64_t *)(p + i) = i * 0x9e3779b97f4a7c15u;
}

static void lat(int node, int count, size_t mb)
{
	dirty(mb);
	for (int i = 0; i < count; i++)
		one(node);
}

static void paced(int node, size_t mb)
{
	/* A child's standard input is forwarded to it: it would be given the next line. */
	int in = fcntl(0, F_DUPFD_CLOEXEC, 3), null = open("/dev/null", O_RDONLY);
	char c;

	if (in < 0 || null < 0 || dup2(null, 0) < 0)
		die("standard input");
	close(null);
	dirty(mb);
	while (read(in, &c, 1) == 1)
		if (c == '\n')
			one(node);
}

static void first(int node, int count)
{
	int st;

	for (int i = 0; i < count; i++) {
		pid_t pid = fork();

		if (pid == 0) {
			one(node);
			_exit(0);
		}
		if (pid < 0 || waitpid(pid, &st, 0) != pid || st)
			die("parent %d", i);
	}
}

static void rate(int nodes, int parents, int count)
{
	uint64_t t0 = now_ns();
	int st, bad = 0;

	for (int p = 0; p < parents; p++) {
		if (fork())
			continue;
		for (int i = 0; i < count; i++) {
			int pid = nodes ? bproc_rfork((p + i) % nodes) : fork();

			if (pid == 0)
				_exit(7);
			if (pid < 0 || waitpid(pid, &st, 0) != pid || WEXITSTATUS(st) != 7)
				die("parent %d, fork %d", p, i);
		}
		_exit(0);
	}
	while (wait(&st) > 0)
		bad |= st;
	if (bad)
		exit(2);
	fprintf(stderr, "%.0f\n", parents * count / ((now_ns() - t0) / 1e9));
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";

	if (!strcmp(what, "wait")) {
		/* A peer may choke on descriptors that came from another mount namespace. */
		close_range(3, ~0u, 0);
		for (;;)
			pause();
	}
	/* Close-on-exec: the reading end stays behind when a child leaves. */
	if (pipe2(out, O_CLOEXEC) < 0 || dup2(out[1], 1) < 0)
		die("pipe");
	close(out[1]);
	if (!strcmp(what, "lat") && argc == 5)
		lat(atoi(argv[2]), atoi(argv[3]), strtoul(argv[4], NULL, 10));
	else if (!strcmp(what, "paced") && argc == 4)
		paced(atoi(argv[2]), strtoul(argv[3], NULL, 10));
	else if (!strcmp(what, "first") && argc == 4)
		first(atoi(argv[2]), atoi(argv[3]));
	else if (!strcmp(what, "rate") && argc == 5)
		rate(atoi(argv[2]), atoi(argv[3]), atoi(argv[4]));
	else if (!strcmp(what, "fork") && argc == 4)
		rate(0, atoi(argv[2]), atoi(argv[3]));
	else
		return 2;
	return 0;
}
