/*
 * Proves: where one arrives it is in its group and session, and its parent that stands in
 * there is in its own, also when that has changed at home in the moment before, and when a
 * warm skeleton of the old session waits for it; and a group that is made on a node while
 * whoever would pass it on is away is home's too when that is back. A lab of 2 nodes.
 */
#include <fcntl.h>
#include <signal.h>

#include "check.h"

#define ROUNDS 2
#define LEADING 40 /* rounds of ... */
#define AT_ONCE 6  /* ... so many */
#define PATIENCE_S 20

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

/* -- made while somebody is away */

static const struct {
	const char *name, *away, *back;
} rows[] = {
	{"node 0 is cut off", "bplab cut 0", "bplab heal 0"},
	{"bpmaster is dead", "bplab stop-master --kill", "bplab start-master"},
	{"home's bpslave is dead", "bplab stop-slave --kill master", "bplab start-slave master"},
	{"bpslave of node 0 is dead", "bplab stop-slave --kill 0", "bplab start-slave 0"},
};

static void made_meanwhile(const char *name, const char *away, const char *back)
{
	char may[PATH_LEN], done[PATH_LEN];
	double t0;
	pid_t pid;

	tmp_path(may, "may");
	tmp_path(done, "done");
	pid = bproc_rfork(0);
	if (pid == 0) {
		if (!await_file(may, PATIENCE_S) || setpgid(0, 0) < 0)
			_exit(91);
		make_file(done);
		for (;;)
			pause();
	}
	MUST(pid > 0, "rfork");
	CHECK(system(away) == 0, "%s", away);
	make_file(may);
	CHECK(await_file(done, PATIENCE_S), "%s: its setpgid() has not come back", name);
	CHECK(system(back) == 0 && system("bplab wait -w 20 0 1") == 0, "%s", back);
	for (t0 = now_s(); getpgid(pid) != pid && now_s() - t0 < PATIENCE_S; nap_ms(5))
		;
	CHECK(getpgid(pid) == pid, "%s: at home it is in group %d", name, (int)getpgid(pid));
	kill(pid, SIGKILL);
	CHECK(wait_status(pid) == SIGKILL, "%s", name);
	unlink(may);
	unlink(done);
}

/* On node 0: a child at home makes a group or session at once, and comes here at once. */
static _Noreturn void comes_back_leading(bool session)
{
	pid_t child = bproc_rfork(BPROC_NODE_MASTER), sleeper;

	if (child > 0)
		_exit(wait_exit(child));
	if (child < 0 || (session ? setsid() : setpgid(0, 0)) < 0)
		_exit(2);
	sleeper = fork();
	if (sleeper == 0) {
		nap_ms(200);
		_exit(0);
	}
	if (bproc_move(0) < 0)
		_exit(3);
	_exit(getpgid(0) != getpid() ? 4 : session && getsid(0) != getpid() ? 5 : 0);
}

/* Its ghost there may only just have heard where it was before. */
static void made_at_once(void)
{
	pid_t pid[AT_ONCE];
	int e;

	for (int round = 0; round < LEADING; round++) {
		for (int i = 0; i < AT_ONCE; i++) {
			pid[i] = fork();
			if (pid[i] == 0)
				bproc_move(0) < 0 ? _exit(1) : comes_back_leading(i % 2);
		}
		for (int i = 0; i < AT_ONCE; i++) {
			e = wait_exit(pid[i]);
			CHECK(e == 0, "made at once, round %d: %d (%s)", round, e,
			      i % 2 ? "session" : "group");
		}
	}
}

int main(void)
{
	changed_at_home();
	made_at_once();
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		made_meanwhile(rows[i].name, rows[i].away, rows[i].back);
	return finish("groups and sessions");
}
