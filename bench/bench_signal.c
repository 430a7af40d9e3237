/*
 * Times kill() of a ghost until the handler of the real process runs.
 *
 *   bench_signal NODE COUNT   a line each: microseconds
 */
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>

#include <bproc.h>

#include "bench.h"

static void handler(int sig)
{
	uint64_t t = now_ns();

	(void)sig;
	if (write(1, &t, sizeof(t)) != sizeof(t))
		_exit(1);
}

int main(int argc, char **argv)
{
	int out[2], pid, count = argc > 2 ? atoi(argv[2]) : 20;
	struct timespec pause_20ms = {.tv_nsec = 20000000};
	uint64_t t0, t;

	if (pipe2(out, O_CLOEXEC) < 0 || dup2(out[1], 1) < 0)
		die("pipe");
	close(out[1]);
	pid = bproc_rfork(argc > 1 ? atoi(argv[1]) : 0);
	if (pid < 0)
		die("bproc_rfork");
	if (pid == 0) {
		signal(SIGTERM, handler);
		raise(SIGTERM);
		for (;;)
			pause();
	}
	if (read(out[0], &t, sizeof(t)) != sizeof(t))
		die("no word from the child");
	for (int i = 0; i < count; i++) {
		nanosleep(&pause_20ms, NULL);
		t0 = now_ns();
		if (kill(pid, SIGTERM) < 0 || read(out[0], &t, sizeof(t)) != sizeof(t))
			die("signal %d", i);
		fprintf(stderr, "%.1f\n", (t - t0) / 1e3);
	}
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	return 0;
}
