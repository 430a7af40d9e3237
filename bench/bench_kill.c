/*
 * What the filter of a node costs: system calls at home, and the same on a node.
 *
 *   bench_kill COUNT   lines "NAME NANOSECONDS", COUNT of each name
 *
 * Names: getppid, kill (of a number that is here; there: born there), and on the node also
 * asked (a number of home's that is there) and far (a process on node 1).
 */
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <bproc.h>

#include "bench.h"

#define MANY 20000
#define SOME 2000
#define FEW 20

static void row(const char *name, long nr, long a, long b, int n)
{
	uint64_t t0 = now_ns();

	for (int i = 0; i < n; i++)
		if (syscall(nr, a, b) < 0)
			die("%s", name);
	fprintf(stderr, "%s %.1f\n", name, (double)(now_ns() - t0) / n);
}

static int sleeper(void)
{
	int pid = fork();

	if (pid < 0)
		die("fork");
	if (pid == 0)
		for (;;)
			pause();
	return pid;
}

int main(int argc, char **argv)
{
	int count = argc > 1 ? atoi(argv[1]) : 20, far = bproc_rfork(1), born, here;

	if (far < 0)
		die("bproc_rfork");
	if (far == 0)
		for (;;)
			pause();
	here = sleeper();
	for (int i = 0; i < count; i++) {
		row("home.getppid", SYS_getppid, 0, 0, MANY);
		row("home.kill", SYS_kill, here, 0, MANY);
	}
	kill(here, SIGKILL);
	waitpid(here, NULL, 0);
	if (bproc_move(0) < 0)
		die("bproc_move");
	born = sleeper();
	for (int i = 0; i < count; i++) {
		row("node.getppid", SYS_getppid, 0, 0, MANY);
		row("node.kill", SYS_kill, born, 0, MANY);
		row("node.asked", SYS_kill, getpid(), 0, SOME);
		row("node.far", SYS_kill, far, 0, FEW);
	}
	kill(born, SIGKILL);
	kill(far, SIGKILL);
	return 0;
}
