/*
 * Proves: an rforked child is a child. It is where it should be, knows its pid
 * and parent, has the parent's memory, and its exit status or killing signal
 * comes through waitpid as from a local one. Runs on a lab of 3 nodes.
 */
#include <signal.h>
#include <sys/resource.h>

#include "check.h"

static int in_bss;
static char big[1 << 20];

static void exits(int node)
{
	pid_t parent = getpid(), pid;
	int on_stack = 17;
	char host[64], want[16];

	in_bss = 42;
	memset(big, 'x', sizeof(big));
	pid = bproc_rfork(node);
	MUST(pid >= 0, "rfork to node %d", node);
	if (pid == 0) {
		failures = 0;
		CHECK(bproc_currnode() == node, "not %d", node);
		CHECK(getppid() == parent, "parent is %d, not %d", getppid(), parent);
		CHECK(in_bss == 42 && on_stack == 17, "memory");
		CHECK(big[0] == 'x' && big[sizeof(big) - 1] == 'x', "memory");
		gethostname(host, sizeof(host));
		snprintf(want, sizeof(want), "n%d", node);
		CHECK(node < 0 || !strcmp(host, want), "host is %s", host);
		exit(failures ? 1 : 40 + node);
	}
	CHECK(bproc_pidnode(pid) == node || bproc_pidnode(pid) == -1, "pidnode");
	CHECK(wait_exit(pid) == 40 + node, "exit status from node %d", node);
	CHECK(waitpid(pid, NULL, 0) == -1 && errno == ECHILD, "reaped twice");
}

static void pid_is_the_same(void)
{
	FILE *f = tmpfile();
	char path[PATH_LEN];
	pid_t pid, seen = 0;
	int fd;

	/* A file by name: both sides see the machine's files. */
	tmp_path(path, "pid");
	fclose(f);
	pid = bproc_rfork(1);
	MUST(pid >= 0, "rfork");
	if (pid == 0) {
		pid = getpid();
		f = fopen(path, "w");
		if (!f || fwrite(&pid, sizeof(pid), 1, f) != 1 || fclose(f))
			_exit(1);
		_exit(0);
	}
	CHECK(wait_exit(pid) == 0, "child");
	f = fopen(path, "r");
	MUST(f && fread(&seen, sizeof(seen), 1, f) == 1, "%s", path);
	fd = fclose(f);
	CHECK(fd == 0 && seen == pid, "the child says %d, the parent %d", seen, pid);
	unlink(path);
}

static void dies(int node, int sig)
{
	struct rlimit none = {0, 0};
	pid_t pid;
	int s;

	pid = bproc_rfork(node);
	MUST(pid >= 0, "rfork to node %d", node);
	if (pid == 0) {
		setrlimit(RLIMIT_CORE, &none);
		signal(sig, SIG_DFL);
		raise(sig);
		_exit(99);
	}
	s = wait_status(pid);
	CHECK(WIFSIGNALED(s) && WTERMSIG(s) == sig, "status %#x, not signal %d", s, sig);
}

/* A plain fork on the node. */
static void forks_there(void)
{
	pid_t pid = bproc_rfork(1);

	MUST(pid >= 0, "rfork");
	if (pid == 0) {
		pid_t inner = fork();

		failures = 0;
		if (inner == 0)
			_exit(bproc_currnode() == 1 ? 5 : 6);
		CHECK(inner > 0, "fork");
		CHECK(wait_exit(inner) == 5, "child of a plain fork there");
		_exit(failures ? 1 : 9);
	}
	CHECK(wait_exit(pid) == 9, "the one that forks");
}

static void vrfork(void)
{
	int nodes[3] = {0, 1, 2}, pids[3], n = bproc_vrfork(3, nodes, pids);

	if (n < 3)
		_exit(n == bproc_currnode() ? 20 + n : 1);
	for (int i = 0; i < 3; i++)
		CHECK(pids[i] > 0 && wait_exit(pids[i]) == 20 + i, "child %d", i);
}

int main(void)
{
	CHECK(bproc_currnode() == BPROC_NODE_MASTER, "where am I");
	CHECK(bproc_numnodes() == 3, "%d nodes", bproc_numnodes());
	CHECK(bproc_rfork(BPROC_NODE_MASTER) == -1 && errno == BE_SAMENODE, "rfork to here");
	for (int node = 0; node < 3; node++)
		exits(node);
	pid_is_the_same();
	dies(0, SIGTERM);
	dies(1, SIGKILL);
	dies(2, SIGSEGV);
	forks_there();
	vrfork();
	return finish("rfork");
}
