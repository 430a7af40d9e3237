/*
 * hop NODE WHAT ...: moves to NODE (-1: home) and there copies WHAT bytes of stdin
 * to stdout ("all": to the end); "fork" instead leaves a child that writes a line
 * half a second later; "child" goes on in a child, "line" writes where it is. What
 * comes out is what went in, wherever it was read.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <bproc.h>

/* Odd sizes, so that a move is met in the middle of everything. */
static void copy(size_t left)
{
	char buf[997];
	ssize_t n = 1;

	while (left > 0 && n > 0) {
		n = read(0, buf, left < sizeof(buf) ? left : sizeof(buf));
		if (n > 0 && write(1, buf, (size_t)n) != n)
			exit(3);
		left -= n > 0 ? (size_t)n : 0;
	}
	if (n < 0) {
		fprintf(stderr, "hop: read: %s\n", strerror(errno));
		exit(4);
	}
}

static void leave_child(void)
{
	if (fork() != 0)
		return;
	usleep(500000);
	if (write(1, "late\n", 5) != 5)
		_exit(5);
	_exit(0);
}

static void go_on_in_child(void)
{
	pid_t pid = fork();
	int status;

	if (pid == 0)
		return;
	if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
		exit(6);
	exit(WEXITSTATUS(status));
}

int main(int argc, char **argv)
{
	for (int i = 1; i + 1 < argc; i += 2) {
		int node = atoi(argv[i]);

		if (bproc_currnode() != node && bproc_move(node) < 0) {
			fprintf(stderr, "hop: to %d: %s\n", node, bproc_errtext());
			return 2;
		}
		if (strcmp(argv[i + 1], "fork") == 0)
			leave_child();
		else if (strcmp(argv[i + 1], "child") == 0)
			go_on_in_child();
		else if (strcmp(argv[i + 1], "line") == 0)
			dprintf(1, "on %d\n", bproc_currnode());
		else if (strcmp(argv[i + 1], "all") == 0)
			copy(SIZE_MAX);
		else
			copy((size_t)atol(argv[i + 1]));
	}
	return 0;
}
