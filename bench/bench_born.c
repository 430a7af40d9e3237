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
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/wait.h>

#include <bproc.h>

#include "bench.h"

#define LOST_NS 1000000000ull
#define WARM 10

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

/* On the node: its number says what the next one will be. Until it is killed. */
static void be_born(void)
{
	pid_t pid;

	for (;;) {
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
}

static bool word_waits(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	return poll(&p, 1, 0) > 0;
}

/* The word is said before the ghost is there, mostly. */
static int births(int fd, int count)
{
	struct word w = get(fd);
	int lost = 0;

	for (int i = 0; i < count + WARM; i++) {
		int next = w.pid + 1;
		uint64_t seen = 0, begun = now_ns();

		while (seen == 0 && now_ns() - begun < LOST_NS) {
			if (kill(next, 0) == 0)
				seen = now_ns();
			else
				nanosleep(&pause_20us, NULL);
		}
		do
			w = get(fd);
		while (!seen && word_waits(fd));
		if (i < WARM)
			continue; /* the event program may not be loaded yet */
		if (seen && w.pid == next)
			fprintf(stderr, "%.1f\n", (double)(seen - w.t) / 1e3);
		else
			lost++;
	}
	return lost;
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

#define RATE_FORKS 400
#define ROUND_NS 150000000ull /* a round begins so often; a good part of it is left over */

static void sleep_until(uint64_t t)
{
	struct timespec ts = {.tv_sec = (time_t)(t / 1000000000u),
			      .tv_nsec = (long)(t % 1000000000u)};

	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL) != 0)
		;
}

/* On the node: rounds at times that home knows too. In every other one bpslave is stopped. */
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

/* In the node's own place, beside its daemons: passes signals on to bpslave, a byte each. */
static int slave_signals(void)
{
	FILE *f = popen("pgrep -x bpslave", "re");
	unsigned char sig;
	int pid = 0;

	if (!f || fscanf(f, "%d", &pid) != 1)
		die("no bpslave");
	pclose(f);
	while (read(0, &sig, 1) == 1)
		if (kill(pid, sig) < 0)
			die("bpslave");
	return kill(pid, SIGCONT) < 0;
}

static void rates(int node, int rounds)
{
	uint64_t begin = now_ns() + 2 * 1000000000ull;
	char order[PATH_MAX + 100], self[PATH_MAX] = "";
	pid_t pid = bproc_rfork(node);
	FILE *f;

	if (pid < 0)
		die("bproc_rfork");
	if (pid == 0)
		fork_rounds(begin, rounds);
	if (readlink("/proc/self/exe", self, sizeof(self) - 1) < 0)
		die("readlink");
	snprintf(order, sizeof(order), "bplab exec %d %s slave", node, self);
	f = popen(order, "we");
	if (!f)
		die("%s", order);
	for (int r = 0; r < 2 * rounds; r++) {
		sleep_until(begin + (uint64_t)r * ROUND_NS - ROUND_NS / 5);
		if (fputc(r % 2 == 1 ? SIGSTOP : SIGCONT, f) == EOF || fflush(f) == EOF)
			die("%s", order);
	}
	sleep_until(begin + 2ull * (uint64_t)rounds * ROUND_NS);
	if (pclose(f) != 0)
		die("%s", order);
	waitpid(pid, NULL, 0);
}

int main(int argc, char **argv)
{
	int out[2], node = argc > 2 ? atoi(argv[2]) : 0, count = argc > 3 ? atoi(argv[3]) : 50;
	pid_t pid;

	if (argc > 1 && strcmp(argv[1], "slave") == 0)
		return slave_signals();
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
		be_born();
	count = births(out[0], count);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	return count > 0; /* a birth was not seen */
}
