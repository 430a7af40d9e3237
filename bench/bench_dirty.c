/*
 * Processes for bench_dump.sh, and its clock:
 *
 *   bench_dirty hold MIB [THREADS]   dirties that much and sleeps, in so many threads
 *   bench_dirty tick MIB THREADS     the same, but its first thread looks at the clock all the
 *                                    time, and writes each stop of 5 ms or more, in us
 *   bench_dirty write MIB FILE       dirties it, warms a quarter of a GiB more than it, and says
 *                                    how fast it is written, in GB/s
 *   bench_dirty warm MIB             dirties it and ends: what is freed is memory that the host
 *                                    of a virtual machine has not taken back yet
 *   bench_dirty time FILE COMMAND... runs it, and adds to FILE how long that took, in us
 */
#include <fcntl.h>
#include <pthread.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"

#define STACK_BYTES (64ul << 10)
#define STOP_NS 5000000u
#define WARM_BYTES (256ul << 20)

extern char **environ;

static char *dirtied(size_t n)
{
	char *p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	for (size_t i = 0; p != MAP_FAILED && i < n; i += 64)
		p[i] = (char)(i / 64 + 1);
	return p == MAP_FAILED ? NULL : p;
}

/* As before a dump: what is dirty is so already, and its copy finds memory that is backed. */
static int warm(size_t n)
{
	pid_t pid = fork();
	int status;

	if (pid == 0)
		_exit(dirtied(n + WARM_BYTES) == NULL);
	return pid < 0 || waitpid(pid, &status, 0) != pid || status != 0;
}

static int write_all(const char *file, const char *p, size_t n)
{
	uint64_t from = now_ns();
	size_t done = 0;
	int fd = open(file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	while (fd >= 0 && done < n) {
		ssize_t r = write(fd, p + done, n - done);

		if (r <= 0)
			return 1;
		done += (size_t)r;
	}
	printf("%.4f\n", (double)n / (double)(now_ns() - from));
	return fd < 0;
}

static void *sleeper(void *arg)
{
	for (;;)
		pause();
	return arg;
}

/* CLOCK_REALTIME goes on while a process is nowhere; criu hides a stop from the monotonic one. */
static _Noreturn void tick(void)
{
	const struct timespec nap = {.tv_nsec = 50000};
	uint64_t last = 0;

	for (;;) {
		struct timespec t;
		uint64_t now;

		clock_gettime(CLOCK_REALTIME, &t);
		now = (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
		if (!last || now - last >= STOP_NS)
			dprintf(1, "%.0f\n", last ? (double)(now - last) / 1e3 : 0.0);
		last = now;
		nanosleep(&nap, NULL);
	}
}

static int hold(long threads, int ticks)
{
	pthread_attr_t attr;
	pthread_t t;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_BYTES);
	for (long i = 1; i < threads; i++)
		if (pthread_create(&t, &attr, sleeper, NULL) != 0)
			return 1;
	if (ticks)
		tick();
	sleeper(NULL);
	return 1;
}

static int time_it(const char *file, char **argv)
{
	FILE *f = fopen(file, "ae");
	uint64_t from = now_ns();
	int status;
	pid_t pid;

	if (!f || posix_spawnp(&pid, argv[0], NULL, NULL, argv, environ) != 0 ||
	    waitpid(pid, &status, 0) != pid || !WIFEXITED(status) || WEXITSTATUS(status) != 0)
		return 1;
	fprintf(f, "%.0f\n", (double)(now_ns() - from) / 1e3);
	return fclose(f) != 0;
}

int main(int argc, char **argv)
{
	size_t n = argc > 2 ? (size_t)atol(argv[2]) << 20 : 0;
	char *p;

	if (argc > 3 && strcmp(argv[1], "time") == 0)
		return time_it(argv[2], argv + 3);
	if (!n)
		return 2;
	p = dirtied(n);
	if (!p)
		return 1;
	if (strcmp(argv[1], "write") == 0 && argc > 3)
		return warm(n) || write_all(argv[3], p, n);
	if (strcmp(argv[1], "warm") == 0)
		return 0;
	return hold(argc > 3 ? atol(argv[3]) : 1, strcmp(argv[1], "tick") == 0);
}
