/*
 * Proves: a process that is away can rfork as one at home can: onto another node
 * and back home; its children are its children there. Lab of 2 nodes.
 */
#include "check.h"

/* A child of a child that is already away: its parent there is the real one. */
static void nested(void)
{
	pid_t pid = bproc_rfork(0);

	MUST(pid >= 0, "rfork");
	if (pid == 0) {
		pid_t me = getpid(), inner = bproc_rfork(1);

		failures = 0;
		CHECK(inner >= 0, "rfork from node 0 to node 1");
		if (inner == 0) {
			CHECK(bproc_currnode() == 1, "inner is elsewhere");
			CHECK(getppid() == me, "inner's parent is %d, not %d", getppid(), me);
			_exit(failures ? 1 : 7);
		}
		CHECK(inner < 0 || wait_exit(inner) == 7, "inner's exit status");
		_exit(failures ? 1 : 8);
	}
	CHECK(wait_exit(pid) == 8, "outer");
}

/* A child that goes home while its parent stays away. */
static void back_home(void)
{
	pid_t pid = bproc_rfork(0);

	MUST(pid >= 0, "rfork");
	if (pid == 0) {
		pid_t me = getpid(), inner = bproc_rfork(BPROC_NODE_MASTER);

		failures = 0;
		CHECK(inner >= 0, "rfork from node 0 to the front end");
		if (inner == 0) {
			CHECK(bproc_currnode() == BPROC_NODE_MASTER, "inner is elsewhere");
			CHECK(getppid() == me, "inner's parent is %d, not %d", getppid(), me);
			_exit(failures ? 1 : 17);
		}
		CHECK(inner < 0 || wait_exit(inner) == 17, "inner's exit status");
		_exit(failures ? 1 : 18);
	}
	CHECK(wait_exit(pid) == 18, "outer");
}

int main(void)
{
	nested();
	back_home();
	return finish("nest");
}
