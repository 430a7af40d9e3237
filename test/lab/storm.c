/*
 * storm STAY COUNT: forks STAY children that stay and COUNT that end at once, all in
 * turns, on the node where it is. Prints "LOWEST HIGHEST LAPS RATE" of their numbers,
 * laps being how often these began anew, and waits for those that stay. Exit status 0
 * if no number was in use twice at a time and each child was waited for once.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PID_SPACE (1 << 22)

static unsigned char in_use[PID_SPACE];
static int lowest = PID_SPACE, highest, laps, last;

static int born(pid_t pid)
{
	if (pid <= 0 || in_use[pid]) {
		fprintf(stderr, "storm: %d is in use\n", pid);
		return -1;
	}
	in_use[pid] = 1;
	lowest = pid < lowest ? pid : lowest;
	highest = pid > highest ? pid : highest;
	laps += pid < last;
	last = pid;
	return 0;
}

static int waited_for(pid_t pid)
{
	if (pid <= 0 || !in_use[pid]) {
		fprintf(stderr, "storm: wait: %d\n", pid);
		return -1;
	}
	in_use[pid] = 0;
	return 0;
}

int main(int argc, char **argv)
{
	int stay = argc > 2 ? atoi(argv[1]) : 10, count = argc > 2 ? atoi(argv[2]) : 100;
	int each = count / (stay > 0 ? stay : 1) + 1, stayed = 0;
	struct timespec a, b;
	pid_t pid;

	signal(SIGUSR1, SIG_IGN);
	clock_gettime(CLOCK_MONOTONIC, &a);
	for (int i = 0; i < count; i++) {
		if (i % each == 0) {
			pid = fork();
			if (pid == 0) {
				signal(SIGUSR1, SIG_DFL);
				for (;;)
					pause();
			}
			if (born(pid) < 0)
				return 1;
			stayed++;
		}
		pid = fork();
		if (pid == 0)
			_exit(0);
		if (born(pid) < 0 || waited_for(waitpid(pid, NULL, 0)) < 0)
			return 1;
	}
	clock_gettime(CLOCK_MONOTONIC, &b);
	printf("%d %d %d %.0f %d\n", lowest, highest, laps,
	       count / ((double)(b.tv_sec - a.tv_sec) + (double)(b.tv_nsec - a.tv_nsec) / 1e9),
	       stayed);
	fflush(stdout);
	while (stayed > 0 && waited_for(wait(NULL)) == 0)
		stayed--;
	return stayed > 0;
}
