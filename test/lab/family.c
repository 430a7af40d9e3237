/*
 * Proves: what is born on a node has its place in the family wherever it and its
 * parent go: it may move home, into its ghost, and to another node; a parent that
 * comes home can wait for the children it left behind, and for none that it has
 * waited for already. Lab of 2 nodes.
 */
#include <signal.h>

#include "check.h"

static int exit_of(pid_t pid)
{
	int status = 0;

	if (waitpid(pid, &status, 0) != pid)
		return -errno;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

/* A parent goes to node 0, has children there, and comes home without them. */
static void home_without_them(void)
{
	pid_t dead, quick, slow;
	int status;

	MUST(bproc_move(0) == 0, "move to node 0");
	quick = fork();
	if (quick == 0)
		_exit(3);
	CHECK(exit_of(quick) == 3, "waited for there");
	dead = fork();
	if (dead == 0)
		_exit(7);
	slow = fork();
	if (slow == 0) {
		for (;;)
			pause();
	}
	nap_ms(100);
	MUST(bproc_move(BPROC_NODE_MASTER) == 0, "home");
	CHECK(exit_of(dead) == 7, "one that ended there, waited for at home");
	CHECK(waitpid(slow, &status, WNOHANG) == 0, "the other is its child and lives");
	CHECK(kill(slow, SIGTERM) == 0, "kill");
	CHECK(exit_of(slow) == 1000 + SIGTERM, "it has ended so");
	CHECK(waitpid(-1, &status, WNOHANG) == -1 && errno == ECHILD, "there are no others");
}

/* What a child that was born on node 0 does, and its exit status. */
static void child_goes(int node)
{
	pid_t me = getpid(), parent = getppid();

	if (bproc_move(node) < 0)
		_exit(90);
	if (bproc_currnode() != node)
		_exit(91);
	if (getpid() != me || getppid() != parent)
		_exit(92);
	nap_ms(50);
	if (node != BPROC_NODE_MASTER && bproc_move(BPROC_NODE_MASTER) < 0)
		_exit(93);
	if (getpid() != me || getppid() != parent)
		_exit(94);
	_exit(5 + node);
}

static void child_moves(int node)
{
	pid_t pid;

	MUST(bproc_move(0) == 0, "move to node 0");
	for (int i = 0; i < 5; i++) {
		fflush(NULL);
		pid = fork();
		if (pid == 0)
			child_goes(node);
		if (i % 2) /* once it is known at home, once before */
			nap_ms(30);
		CHECK(exit_of(pid) == 5 + node, "the child that went to %d: round %d", node, i);
	}
	MUST(bproc_move(BPROC_NODE_MASTER) == 0, "home");
	CHECK(waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD, "there are no others");
}

/* A child born on node 0 that forks onto node 1 and onto the front end. */
static void child_rforks(void)
{
	pid_t pid, far;

	MUST(bproc_move(0) == 0, "move to node 0");
	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		for (int node = -1; node < 2; node += 2) {
			far = bproc_rfork(node);
			if (far == 0)
				_exit(20 + bproc_currnode());
			if (far < 0 || exit_of(far) != 20 + node)
				_exit(80 + node);
		}
		_exit(4);
	}
	CHECK(exit_of(pid) == 4, "rfork by a child that was born here");
	MUST(bproc_move(BPROC_NODE_MASTER) == 0, "home");
	CHECK(waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD, "there are no others");
}

int main(void)
{
	home_without_them();
	child_moves(BPROC_NODE_MASTER);
	child_moves(1);
	child_rforks();
	return finish("family");
}
