/*
 * bpinit when nobody may trust its node any more: the fence by its own clock, when
 * bpslave is killed, hangs, or is not started again; what is on its way here when the
 * fence falls; and what it answers of moves that were over long ago.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bpinit_rig.h"
#include "libbproc/local.h"
#include "libbproc/sysio.h"
#include "vmadump/blob/channel.h"

enum { ALIVE_MS = 3000, TELL_MS = 100, MANY = 1200 };

/* The fence is lifted by a bpslave that knows of it. */
static void hello(void)
{
	tell(&node, &(struct init_msg){.type = INIT_HELLO, .version = INIT_VERSION}, NULL, 0);
	want(&node, EV_STATE_END, 0);
}

static void say_alive(void)
{
	struct init_msg m = {.type = INIT_ALIVE, .u.alive.ms = ALIVE_MS};

	tell(&node, &m, NULL, 0);
}

static bool lives(int32_t pid)
{
	return access(node_stat(pid).path, F_OK) == 0;
}

static void ends_here(int32_t pid)
{
	mirror(&home, pid, CLD_KILLED, SIGKILL);
	CHECK(wait_for(pid, 0) == SIGKILL);
}

/* As long as there is a word in time it lives, then not. gone: with bpslave, which comes back. */
static void dead_man(bool gone)
{
	struct trip t = {0};
	int32_t pid = rig_sleeper(&t);
	int64_t t0 = now_ms(), last = t0;
	struct init_msg m;

	/* On a machine that stands still for that long there would be nothing to be seen. */
	while (now_ms() - t0 < ALIVE_MS + ALIVE_MS / 3 && now_ms() - last < ALIVE_MS / 2) {
		last = now_ms();
		say_alive();
		usleep(TELL_MS * 1000);
		CHECK(lives(pid));
	}
	say_alive();
	if (gone) {
		side_drop(&node);
		usleep(ALIVE_MS * 1000 + 500000);
		side_connect(&node);
	}
	/* want() waits longer than ALIVE_MS. */
	m = want(&node, EV_CHILD, pid);
	CHECK(m.u.child.status == SIGKILL);
	tell_ack(&node, m.seq);
	CHECK(!lives(pid));
	ends_here(pid);
	hello();
	printf("nobody tells it that there is a master%s: ok\n", gone ? ", or is there" : "");
}

static void arrive(uint64_t id)
{
	struct init_msg m = {.type = INIT_ARRIVE, .move_id = id};

	m.u.arrive.kind = MOVE_RFORK;
	tell(&node, &m, NULL, 0);
}

static void say_void(uint64_t id)
{
	tell(&node, &(struct init_msg){.type = INIT_VOID, .move_id = id}, NULL, 0);
}

static void never_ran(uint64_t id)
{
	struct init_msg m;

	say_void(id);
	do
		m = want(&node, EV_VOIDED, 0);
	while (m.move_id != id); /* what was not acknowledged has been told again */
	tell_ack(&node, m.seq);
}

/* All that it writes on its way out; the process waits for what becomes of it. */
static size_t take_image(const struct trip *t, char *image, size_t size)
{
	struct init_msg m = {.type = INIT_GRANT, .move_id = t->id, .req_id = t->req_id};
	size_t n = 0;
	ssize_t r;
	int data[2];

	CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, data) == 0);
	tell(&home, &m, &data[0], 1);
	close_fd(data[0]);
	while (n < size && (n < 8 || memcmp(image + n - 8, "VDAMPEND", 8) != 0) &&
	       (r = read(data[1], image + n, size - n)) > 0)
		n += (size_t)r;
	close_fd(data[1]);
	CHECK(n > sizeof(struct data_hdr) && n < size);
	return n;
}

static void put(int fd, const char *bytes, size_t n)
{
	while (n > 0) {
		ssize_t r = send(fd, bytes, n, MSG_NOSIGNAL);

		if (r < 0)
			return;
		bytes += r;
		n -= (size_t)r;
	}
}

/* Its image is half here when the fence falls, and the other half comes after it. */
static void half_an_image(void)
{
	static char image[8 << 20];
	const size_t head = sizeof(struct data_hdr);
	struct init_msg m = {.type = INIT_DATA};
	struct trip t = {0};
	int32_t pid = rig_rfork(&t);
	int data[2];
	size_t n;

	if (pid == 0)
		_exit(0);
	want(&node, EV_READY, 0);
	n = take_image(&t, image, sizeof(image));
	CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, data) == 0);
	m.move_id = t.id;
	m.u.data.pid = pid;
	tell(&node, &m, &data[0], 1);
	close_fd(data[0]);
	put(data[1], image + head, n / 2);
	usleep(200000);
	tell(&node, &(struct init_msg){.type = INIT_FENCE}, NULL, 0);
	do
		m = want(&node, EV_FAILED, 0);
	while (m.move_id != t.id);
	printf("  %s\n", m.u.text);
	CHECK(m.err == ECONNABORTED);
	put(data[1], image + head + n / 2, n - head - n / 2);
	usleep(300000);
	close_fd(data[1]);
	never_ran(t.id);
	decide_abort(&home, &t, EIO, "fenced");
	wait_for(pid, 0);
}

static void arrivals(void)
{
	struct init_msg m = {.type = INIT_DATA, .move_id = 500};
	int data[2];

	arrive(500);
	want(&node, EV_READY, 0);
	tell(&node, &(struct init_msg){.type = INIT_FENCE}, NULL, 0);
	CHECK(want(&node, EV_FAILED, 0).move_id == 500);
	CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, data) == 0);
	m.u.data.pid = 4000000;
	tell(&node, &m, &data[0], 1);
	/* No other either, until there is a bpslave that knows of the fence. */
	arrive(501);
	m = want(&node, EV_FAILED, 0);
	printf("  %s\n", m.u.text);
	CHECK(m.move_id == 501);
	never_ran(500);
	close_fd(data[0]);
	CHECK(read(data[1], &m, 1) <= 0); /* nobody has the other end any more */
	close_fd(data[1]);
	hello();
	arrive(502);
	want(&node, EV_READY, 0);
	never_ran(502);
	half_an_image();
	hello();
	printf("what is on its way when the fence falls: ok\n");
}

/* A source is heard of again when its move is over for long, and many others are. */
static void long_ago(void)
{
	struct init_msg m;
	struct trip t = {0};
	int32_t pid = rig_rfork(&t);

	if (pid == 0)
		_exit(41);
	trip_send(&t);
	trip_commit(&t);
	tell_ack(&node, want(&node, EV_CHILD, pid).seq);
	mirror(&home, pid, CLD_EXITED, 41);
	CHECK(wait_for(pid, 0) == 41 << 8);
	for (uint64_t id = 10000; id < 10000 + MANY; id++)
		never_ran(id);
	say_void(t.id);
	CHECK(want(&node, EV_RAN, pid).flags == 0);
	m = want(&node, EV_CHILD, pid);
	CHECK(m.u.child.code == CLD_EXITED && m.u.child.status == 41 && m.move_id == t.id);
	printf("%d moves later: ok\n", MANY);
}

int main(void)
{
	rig_start();
	dead_man(false);
	dead_man(true);
	arrivals();
	long_ago();
	rig_stop();
	return 0;
}
