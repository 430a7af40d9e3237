/*
 * Proves: where one arrives it is in its group and session, and its parent that stands in
 * there is in its own, also when that has changed at home in the moment before, and when a
 * warm skeleton of the old session waits for it. A lab of 2 nodes.
 */
#include "check.h"

#define ROUNDS 2

/* On the node, in a child of rfork. Returns what is wrong, a bit for each. */
static int wrong(pid_t parent, pid_t group, pid_t session)
{
	return (getppid() != parent) | (getpgrp() != group) << 1 | (getsid(0) != session) << 2 |
	       (getpgid(parent) != group) << 3 | (getsid(parent) != session) << 4;
}

static int child_is_wrong(int node)
{
	pid_t parent = getpid(), group = getpgrp(), session = getsid(0), pid = bproc_rfork(node);

	if (pid == 0)
		_exit(wrong(parent, group, session));
	return pid < 0 ? 32 : wait_exit(pid);
}

/* Each has a ghost on the node, and a skeleton, from its first child. */
static _Noreturn void parent(int node, bool new_session, int ms)
{
	if (child_is_wrong(node))
		_exit(64);
	nap_ms(ms);
	if ((new_session ? setsid() : setpgid(0, 0)) < 0)
		_exit(65);
	nap_ms(ms);
	_exit(child_is_wrong(node));
}

static void changed_at_home(void)
{
	static const int ms[] = {0, 60};
	int r;

	for (int i = 0; i < ROUNDS * 4; i++) {
		int node = i & 1, wait = ms[i >> 1 & 1];
		bool session = i >> 2 & 1;
		pid_t pid = fork();

		if (pid == 0)
			parent(node, session, wait);
		r = wait_exit(pid);
		CHECK(r == 0, "%s, %d ms, node %d: %#x", session ? "session" : "group", wait, node,
		      (unsigned)r);
	}
}

int main(void)
{
	changed_at_home();
	return finish("groups and sessions that changed at home");
}
