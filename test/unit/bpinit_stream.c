/*
 * The streams of a ghost: fd 0 to stream 0, streams 1 and 2 to fds 1 and 2, byte
 * for byte, with a slow reader, a reader that goes, an end of file, and bytes that
 * come after the exit. And what a thousand ghosts weigh.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bpinit_rig.h"
#include "libbproc/local.h"
#include "libbproc/sysio.h"

#define BYTES (3u << 20)
#define GHOSTS 1000
#define GHOST_BYTES_MAX (100u << 10)

static int mine[3];

/* Its own ends of its streams: with them it would never see an end of file. */
static void close_mine(void)
{
	for (int i = 0; i < 3; i++)
		close(mine[i]);
}

/* Pipes in place of fds 0..2 of a child that leaves; the far ends are the test's. */
static int32_t leave_with_pipes(struct trip *t, int *in, int *out, int *err)
{
	int p[3][2], saved[3];
	int32_t pid;

	for (int i = 0; i < 3; i++) {
		CHECK(pipe2(p[i], O_CLOEXEC) == 0);
		saved[i] = fcntl(i, F_DUPFD_CLOEXEC, 100);
		mine[i] = i == 0 ? p[i][1] : p[i][0];
		dup2(i == 0 ? p[i][0] : p[i][1], i);
		close(i == 0 ? p[i][0] : p[i][1]);
	}
	pid = rig_rfork_with(t, close_mine);
	for (int i = 0; i < 3; i++) {
		dup2(saved[i], i);
		close(saved[i]);
	}
	if (pid == 0)
		for (;;)
			pause();
	t->streams = 7;
	trip_send(t);
	trip_commit(t);
	*in = mine[0];
	*out = mine[1];
	*err = mine[2];
	return pid;
}

static void finish(struct trip *t, int32_t pid)
{
	for (int i = 0; i < 3; i++) {
		close_fd(t->home_sock[i]);
		close_fd(t->node_sock[i]);
	}
	tell(&node,
	     &(struct init_msg){.type = INIT_SIGNAL,
				.u.signal = {.pid = pid, .sig = SIGKILL, .code = SI_KERNEL}},
	     NULL, 0);
	want(&node, EV_CHILD, pid);
}

static unsigned char byte_at(unsigned int i)
{
	return (unsigned char)(i * 2654435761u >> 13);
}

/* A child writes the pattern to fd, a piece at a time. */
static pid_t writer(int fd, unsigned int bytes)
{
	pid_t pid = fork();
	unsigned char buf[7001];

	CHECK(pid >= 0);
	if (pid > 0)
		return pid;
	signal(SIGPIPE, SIG_DFL);
	for (unsigned int at = 0; at < bytes;) {
		unsigned int n = bytes - at < sizeof(buf) ? bytes - at : (unsigned int)sizeof(buf);

		for (unsigned int i = 0; i < n; i++)
			buf[i] = byte_at(at + i);
		if (write_full(fd, buf, n) < 0)
			_exit(9);
		at += n;
	}
	_exit(0);
}

static void read_pattern(int fd, unsigned int bytes, int slow_us)
{
	unsigned char buf[5003];

	for (unsigned int at = 0; at < bytes;) {
		ssize_t n = read(fd, buf, sizeof(buf));

		CHECK(n > 0);
		for (ssize_t i = 0; i < n; i++)
			CHECK(buf[i] == byte_at(at + (unsigned int)i));
		at += (unsigned int)n;
		if (slow_us)
			usleep((useconds_t)slow_us);
	}
}

static void read_end(int fd)
{
	char c;

	CHECK(read(fd, &c, 1) == 0);
}

static void test_bytes(void)
{
	struct trip t = {0};
	int in, out, err, status;
	int32_t pid = leave_with_pipes(&t, &in, &out, &err);
	pid_t w;

	w = writer(in, BYTES);
	close(in);
	read_pattern(t.home_sock[0], BYTES, 0);
	read_end(t.home_sock[0]); /* its writer has gone, so the end is passed on */
	CHECK(waitpid(w, &status, 0) == w && status == 0);

	w = writer(t.home_sock[1], BYTES);
	read_pattern(out, BYTES, 100);
	CHECK(waitpid(w, &status, 0) == w && status == 0);

	/* While a stream is full the ghost still takes orders and mirrors. */
	w = writer(t.home_sock[2], BYTES);
	usleep(50000);
	mirror(&home, pid, CLD_STOPPED, SIGSTOP);
	CHECK(wait_for(pid, WUNTRACED) == 0x137f);
	mirror(&home, pid, CLD_CONTINUED, SIGCONT);
	CHECK(wait_for(pid, WCONTINUED) == 0xffff);
	read_pattern(err, BYTES, 0);
	CHECK(waitpid(w, &status, 0) == w && status == 0);
	finish(&t, pid);
	mirror(&home, pid, CLD_EXITED, 0);
	CHECK(wait_for(pid, 0) == 0);
	read_end(out);
	printf("bytes: ok\n");
}

/* Nobody reads at home: the writer over there gets EPIPE. */
static void test_reader_gone(void)
{
	struct trip t = {0};
	int in, out, err, e = 0;
	int32_t pid = leave_with_pipes(&t, &in, &out, &err);
	char buf[4096] = {0};

	close(out);
	for (int i = 0; i < 1000 && e == 0; i++) {
		if (send(t.home_sock[1], buf, sizeof(buf), MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
			e = errno == EAGAIN ? 0 : errno;
		usleep(1000);
	}
	CHECK(e == EPIPE || e == ECONNRESET);
	want_none(&home, EV_SIGNAL, 20); /* the ghost's own SIGPIPE is nobody's */
	close(in);
	close(err);
	finish(&t, pid);
	mirror(&home, pid, CLD_EXITED, 0);
	CHECK(wait_for(pid, 0) == 0);
	printf("reader gone: ok\n");
}

/* All that was sent before the exit is out before wait() returns; the rest still comes. */
static void test_exit_flush(void)
{
	struct trip t = {0};
	int in, out, err, on = 1 << 20;
	int32_t pid = leave_with_pipes(&t, &in, &out, &err);
	static unsigned char buf[40000], back[40000];

	for (unsigned int i = 0; i < sizeof(buf); i++)
		buf[i] = byte_at(i);
	setsockopt(t.home_sock[1], SOL_SOCKET, SO_SNDBUF, &on, sizeof(on));
	CHECK(write_full(t.home_sock[1], buf, sizeof(buf)) == 0);
	mirror(&home, pid, CLD_EXITED, 12);
	CHECK(wait_for(pid, 0) == 12 << 8);
	CHECK(fcntl(out, F_SETFL, O_NONBLOCK) == 0);
	CHECK(read(out, back, sizeof(back)) == (ssize_t)sizeof(buf));
	CHECK(memcmp(buf, back, sizeof(buf)) == 0);
	CHECK(read(out, back, 1) < 0 && errno == EAGAIN);
	/* Somebody over there holds the stream on: a relay goes on here. */
	CHECK(fcntl(out, F_SETFL, 0) == 0);
	CHECK(write_full(t.home_sock[1], "late", 4) == 0);
	CHECK(read(out, back, sizeof(back)) == 4 && memcmp(back, "late", 4) == 0);
	close(in);
	finish(&t, pid);
	read_end(out);
	read_end(err);
	printf("exit flush: ok\n");
}

static long kb_of(pid_t pid, const char *file, const char *field)
{
	char path[64], line[128], format[32];
	long kb = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/%s", pid, file);
	snprintf(format, sizeof(format), "%s: %%ld", field);
	f = fopen(path, "r");
	CHECK(f);
	while (fgets(line, sizeof(line), f) && sscanf(line, format, &kb) != 1)
		;
	fclose(f);
	return kb;
}

/* What the machine holds for processes: other work on it is in the figure too. */
static long machine_kb(void)
{
	static const char *const field[] = {"AnonPages", "Slab", "KernelStack", "PageTables"};
	char line[128], format[32];
	long total = 0, kb;
	FILE *f = fopen("/proc/meminfo", "r");

	CHECK(f);
	while (fgets(line, sizeof(line), f)) {
		for (int i = 0; i < 4; i++) {
			snprintf(format, sizeof(format), "%s: %%ld", field[i]);
			if (sscanf(line, format, &kb) == 1)
				total += kb;
		}
	}
	fclose(f);
	return total;
}

/*
 * A thousand ghosts, made in place. Their pages and page tables are the process's
 * own account; kernel stack and slab (task, mm, maps, files, sockets) are the
 * machine's, and told only.
 */
static void test_weight(void)
{
	static int32_t pids[GHOSTS];
	long before = 0, with, own = 0;

	for (int i = 0; i < GHOSTS; i++) {
		struct trip t = {0};

		/* Warm: the first few make this side's own tables. */
		if (i == 20)
			before = machine_kb();
		pids[i] = rig_rfork(&t);
		if (pids[i] == 0)
			_exit(0); /* gone at once over there: only the ghost stays */
		trip_send(&t);
		trip_commit(&t);
		want(&node, EV_CHILD, pids[i]);
	}
	usleep(200000);
	with = machine_kb();
	for (int i = 0; i < GHOSTS; i++)
		own += kb_of(pids[i], "smaps_rollup", "Anonymous") +
		       kb_of(pids[i], "status", "VmPTE");
	printf("a ghost: %ld KiB of pages and page tables; all in all %ld KiB of this machine\n",
	       own / GHOSTS, (with - before) / (GHOSTS - 20));
	for (int i = 0; i < GHOSTS; i++)
		mirror(&home, pids[i], CLD_EXITED, 0);
	for (int i = 0; i < GHOSTS; i++)
		CHECK(wait_for(pids[i], 0) == 0);
	/* With 16 KiB of stack and 25 of slab it is well under what is promised. */
	CHECK(own / GHOSTS + 16 + 25 < (long)(GHOST_BYTES_MAX >> 10));
}

int main(int argc, char **argv)
{
	rig_start();
	if (argc > 1 && strcmp(argv[1], "weight") == 0) {
		test_weight();
		rig_stop();
		return 0;
	}
	test_bytes();
	test_reader_gone();
	test_exit_flush();
	rig_stop();
	return 0;
}
