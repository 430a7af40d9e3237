/*
 * What the bpinit tests see of processes: those that are children of theirs, and in
 * the node's /proc; and how long an image is on its way (bpinit_rig.h).
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "bpinit_rig.h"
#include "libbproc/local.h"
#include "libbproc/sysio.h"

int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

int wait_for_at(int line, pid_t pid, int options)
{
	int64_t until = now_ms() + PATIENCE_MS;
	int status;

	while (now_ms() < until) {
		pid_t r = waitpid(pid, &status, options | WNOHANG);

		CHECK(r >= 0);
		if (r == pid)
			return status;
		usleep(500);
	}
	check_failed("waited for at", line, "wait in time");
}

void wait_none(pid_t pid, int options, int ms)
{
	int64_t until = now_ms() + ms;
	int status;

	while (now_ms() < until) {
		CHECK(waitpid(pid, &status, options | WNOHANG) == 0);
		usleep(1000);
	}
}

struct node_path node_stat(int32_t pid)
{
	socklen_t len = sizeof(struct ucred);
	struct node_path ret;
	struct ucred bpinit;

	CHECK(getsockopt(node.sock, SOL_SOCKET, SO_PEERCRED, &bpinit, &len) == 0);
	snprintf(ret.path, sizeof(ret.path), "/proc/%d/root/proc/%d/stat", (int)bpinit.pid, pid);
	return ret;
}

static bool blocks(int32_t pid, int sig)
{
	unsigned long blocked = 0;
	char path[64], line[256];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f) && sscanf(line, "SigBlk: %lx", &blocked) != 1)
		;
	if (f)
		fclose(f);
	return blocked & 1ul << (sig - 1);
}

static void await_blocks(int32_t pid, bool does)
{
	for (int ms = 0; blocks(pid, SIGUSR1) != does && ms < PATIENCE_MS; ms++)
		usleep(1000);
	CHECK(blocks(pid, SIGUSR1) == does);
}

void await_ghost(int32_t pid)
{
	await_blocks(pid, false);
}

void await_arriving(int32_t pid)
{
	await_blocks(pid, true);
}

void pump(int from, int to)
{
	char buf[65536];
	ssize_t n;
	pid_t pid = fork();

	CHECK(pid >= 0);
	if (pid == 0) {
		close_fd(home.sock);
		close_fd(node.sock);
		do
			n = read(from, buf, sizeof(buf));
		while (n > 0 && write_full(to, buf, (size_t)n) == 0);
		_exit(0);
	}
	close_fd(from);
	close_fd(to);
}

void rig_come_home(const void *what, size_t len)
{
	int far, null, on;

	do /* 1 and 2 may not be open here */
		null = open("/dev/null", O_RDWR);
	while (null >= 0 && null < 3);
	on = channel(&far);
	if (pkt_send(0, what, len, &far, 1) < 0)
		_exit(2);
	close_fd(far);
	for (int fd = 0; fd < 3; fd++)
		if (dup2(null, fd) < 0)
			_exit(4);
	close_fd(null);
	if (rig_leave(on, MOVE_MOVE, NULL, 0) < 0)
		_exit(5);
}
