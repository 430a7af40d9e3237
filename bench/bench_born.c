/*
 * Times what home learns of processes that are born on a node.
 *
 *   bench_born birth NODE COUNT   fork there until its ghost is at home
 *   bench_born exit NODE COUNT    exit there until waitpid() returns at home
 *   bench_born rate NODE COUNT    forks there a second, in turn with bpslave running
 *                                 and stopped: what it costs to see them
 *
 * A line each on standard error: microseconds, or of rate the two figures of each of COUNT
 * rounds. The home side looks every 20 us or so.
 */
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>

#include <bproc.h>

#include "bench.h"

static const struct timespec pause_20ms = {.tv_nsec = 20000000}, pause_20us = {.tv_nsec = 20000};

struct word {
	uint64_t t;
	int pid;
};

static void put(struct word w)
{
	if (write(1, &w, sizeof(w)) != sizeof(w))
		_exit(1);
}

static struct word get(int fd)
{
	struct word w;

	if (read(fd, &w, sizeof(w)) != sizeof(w))
		die("no word from the node");
	return w;
}

/* On the node: its number says what the next one will be. */
static void be_born(int count)
{
	pid_t pid;

	for (int i = 0; i <= count; i++) {
		struct word w = {now_ns(), 0};

		w.pid = pid = fork();
		if (pid == 0) {
			nanosleep(&pause_20ms, NULL);
			_exit(0);
		}
		put(w);
		waitpid(pid, NULL, 0);
		nanosleep(&pause_20ms, NULL);
	}
	_exit(0);
}

static void births(int fd, int count)
{
	struct word w = get(fd);

	for (int i = 0; i < count; i++) {
		int next = w.pid + 1;
		uint64_t t;

		while (kill(next, 0) < 0)
			nanosleep(&pause_20us, NULL);
		t = now_ns();
		w = get(fd);
		if (w.pid == next)
			fprintf(stderr, "%.1f\n", (t - w.t) / 1e3);
	}
}

static void exits(int fd, int node, int count)
{
	struct word w;
	pid_t pid;

	for (int i = 0; i < count; i++) {
		pid = bproc_rfork(node);
		if (pid == 0) {
			nanosleep(&pause_20ms, NULL);
			put((struct word){now_ns(), getpid()});
			_exit(0);
		}
		if (pid < 0 || waitpid(pid, NULL, 0) != pid)
			die("rfork");
		w.t = now_ns();
		fprintf(stderr, "%.1f\n", (w.t - get(fd).t) / 1e3);
	}
}

#define RATE_FORKS 3000
#define ROUND_NS 1500000000ull /* a round begins so often; a third of it is left over */

static void sleep_until(uint64_t t)
{
	struct timespec ts = {.tv_sec = (time_t)(t / 1000000000u),
			      .tv_nsec = (long)(t % 1000000000u)};

	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL) != 0)
		;
}

/* On the node: rounds at times that home knows too. Every other one has no bpslave. */
static void fork_rounds(uint64_t begin, int rounds)
{
	double rate[2] = {0};

	for (int r = 0; r < 2 * rounds; r++) {
		uint64_t t;

		sleep_until(begin + (uint64_t)r * ROUND_NS);
		t = now_ns();
		for (int i = 0; i < RATE_FORKS; i++) {
			pid_t pid = fork();

			if (pid == 0)
				_exit(0);
			if (pid < 0 || waitpid(pid, NULL, 0) != pid)
				_exit(1);
		}
		rate[r % 2] = RATE_FORKS * 1e9 / (double)(now_ns() - t);
		if (r % 2 == 1)
			fprintf(stderr, "%.0f %.0f\n", rate[0], rate[1]);
	}
	_exit(0);
}

static void rates(int node, int rounds)
{
	uint64_t begin = now_ns() + ROUND_NS;
	char order[100];
	pid_t pid = bproc_rfork(node);

	if (pid < 0)
		die("bproc_rfork");
	if (pid == 0)
		fork_rounds(begin, rounds);
	for (int r = 0; r <= 2 * rounds; r++) {
		sleep_until(begin + (uint64_t)r * ROUND_NS - ROUND_NS / 4);
		snprintf(order, sizeof(order), "bplab exec %d sh -c 'kill -%s $(pgrep -x bpslave)'",
			 node, r % 2 == 1 ? "STOP" : "CONT");
		if (system(order) != 0)
			die("%s", order);
	}
	waitpid(pid, NULL, 0);
}

int main(int argc, char **argv)
{
	int out[2], node = argc > 2 ? atoi(argv[2]) : 0, count = argc > 3 ? atoi(argv[3]) : 50;
	pid_t pid;

	if (pipe2(out, O_CLOEXEC) < 0 || dup2(out[1], 1) < 0)
		die("pipe");
	close(out[1]);
	if (argc > 1 && strcmp(argv[1], "exit") == 0) {
		exits(out[0], node, count);
		return 0;
	}
	if (argc > 1 && strcmp(argv[1], "rate") == 0) {
		rates(node, count);
		return 0;
	}
	pid = bproc_rfork(node);
	if (pid < 0)
		die("bproc_rfork");
	if (pid == 0)
		be_born(count);
	births(out[0], count);
	waitpid(pid, NULL, 0);
	return 0;
}
