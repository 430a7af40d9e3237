/*
 * Moves between a keeper and a node: there and back, aborted, started as another
 * program, and over a bpslave that is restarted.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bpinit_rig.h"
#include "include/sys/bproc_common.h"
#include "libbproc/local.h"
#include "libbproc/sysio.h"
#include "vmadump.h"

static void end_on_node(int32_t pid, int code, int status)
{
	struct init_msg m = want(&node, EV_CHILD, pid);

	if (m.u.child.code != code || m.u.child.status != status)
		printf("child: code %d status %d, wanted %d %d\n", m.u.child.code, m.u.child.status,
		       code, status);
	CHECK(m.u.child.code == code && m.u.child.status == status);
	mirror(&home, pid, code, status);
}

/* Denied before the grant: the call fails with the text, the process goes on. */
static void test_denied(void)
{
	struct trip t = {0};
	int chan;
	int32_t pid = fork_mover(&t, MOVE_MOVE, &chan);

	if (pid == 0)
		_exit(rig_leave(chan, MOVE_MOVE, NULL, 0) == -EHOSTDOWN ? 21 : 1);
	trip_begin(&t, chan);
	CHECK(want(&home, EV_HERE, pid).req_id == t.req_id);
	decide_abort(&home, &t, EHOSTDOWN, "node 3 is down");
	CHECK(wait_for(pid, 0) == 21 << 8);
	tell(&node, &(struct init_msg){.type = INIT_VOID, .move_id = t.id}, NULL, 0);
	want(&node, EV_VOIDED, 0);
	printf("denied: ok\n");
}

/* Voted, then aborted by the master; the prepared copy on the node has been voided. */
static void test_aborted(void)
{
	struct trip t = {0};
	int chan;
	int32_t pid = fork_mover(&t, MOVE_MOVE, &chan);

	if (pid == 0)
		_exit(rig_leave(chan, MOVE_MOVE, NULL, 0) == -ETIMEDOUT ? 22 : 1);
	trip_begin(&t, chan);
	want(&home, EV_HERE, pid);
	trip_swallow(&t);
	want(&home, EV_SENT, pid);
	/* An abort of another move is not for it. */
	usleep(10000);
	wait_none(pid, 0, 20);
	tell(&node, &(struct init_msg){.type = INIT_VOID, .move_id = t.id}, NULL, 0);
	want(&node, EV_VOIDED, 0);
	decide_abort(&home, &t, ETIMEDOUT, "node 3 did not answer");
	CHECK(wait_for(pid, 0) == 22 << 8);
	printf("aborted: ok\n");
}

/* The image is cut short: the node says so by name, the source goes on. */
static void test_cut_short(void)
{
	static volatile char much[8 << 20];
	struct trip t = {0};
	struct init_msg m;
	char buf[20000];
	int chan, data[2], to[2];
	int32_t pid = fork_mover(&t, MOVE_MOVE, &chan);
	ssize_t n;

	if (pid == 0) {
		/* More than a socket holds. */
		for (unsigned int i = 0; i < sizeof(much); i += 64)
			much[i] = (char)i;
		_exit(rig_leave(chan, MOVE_MOVE, NULL, 0) < 0 ? 23 : 1);
	}
	trip_begin(&t, chan);
	want(&home, EV_HERE, pid);
	CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, data) == 0);
	CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, to) == 0);
	m = (struct init_msg){.type = INIT_GRANT, .move_id = t.id, .req_id = t.req_id};
	tell(&home, &m, &data[0], 1);
	close_fd(data[0]);
	CHECK(read_full(data[1], buf, sizeof(struct data_hdr)) == 0);
	want(&node, EV_READY, 0);
	m = (struct init_msg){.type = INIT_DATA, .move_id = t.id, .u.data.pid = pid};
	tell(&node, &m, &to[1], 1);
	close_fd(to[1]);
	n = read(data[1], buf, sizeof(buf));
	CHECK(n > 0 && write_full(to[0], buf, (size_t)n) == 0);
	close_fd(to[0]);
	close_fd(data[1]);
	m = want(&node, EV_FAILED, 0);
	printf("  node: %s\n", m.u.text);
	CHECK(m.flags == EVF_TARGET && m.move_id == t.id);
	m = want(&home, EV_FAILED, 0);
	printf("  home: %s\n", m.u.text);
	CHECK(m.flags == EVF_SOURCE);
	decide_abort(&home, &t, EIO, "gone");
	CHECK(wait_for(pid, 0) == 23 << 8);
	printf("cut short: ok\n");
}

static void come_home(struct trip *t, int32_t pid, int far)
{
	t->to_home = true;
	t->own_chain = true;
	t->nchain = 0;
	t->pid = pid;
	t->kind = MOVE_MOVE;
	t->streams = 0;
	trip_run(t, far);
}

/* No stream came for it: a program has something there nevertheless. */
static void no_stream(int to)
{
	int fd = open("/dev/null", O_RDWR);

	if (dup2(fd, to) < 0)
		_exit(9);
	if (fd != to)
		close_fd(fd);
}

/* A child leaves by chan, and from the node gives out the far end of a channel for the way on. */
static int leave_for_more(int chan)
{
	int far, on;

	if (rig_leave(chan, MOVE_RFORK, NULL, 0) < 0)
		_exit(1);
	/* Stdin is the only descriptor that leads out of the node. */
	no_stream(1);
	no_stream(2);
	on = channel(&far);
	if (pkt_send(0, "c", 1, &far, 1) < 0)
		_exit(2);
	close_fd(far);
	no_stream(0); /* a socket cannot move on */
	return on;
}

/* There and back again, with its memory; home's ghost becomes the process. */
static void test_home_coming(void)
{
	int far, chan = channel(&far), chan2;
	struct trip t = {.kind = MOVE_RFORK};
	struct sysio_pkt pkt;
	static char big[300000];
	uint64_t first;
	int32_t pid;
	char c;

	/* The way back needs a second channel: its far end comes out by stdin's socket. */
	memset(big, 5, sizeof(big));
	t.dump_flags = VMAD_DUMP_EXEC | VMAD_DUMP_OTHER;
	trip_begin(&t, far);
	pid = fork();
	if (pid == 0) {
		int sum = 0, r;

		chan2 = leave_for_more(chan);
		memset(big, 6, 1000);
		r = rig_leave(chan2, MOVE_MOVE, NULL, 0);
		if (r < 0)
			_exit(3);
		for (unsigned int i = 0; i < sizeof(big); i++)
			sum += big[i];
		_exit(sum == 6000 + 5 * 299000 && getpid() == pid + 0 ? 0 : 24);
	}
	close_fd(chan);
	t.streams = 1;
	trip_send(&t);
	trip_commit(&t);
	CHECK(pkt_recv(t.node_sock[0], &c, 1, 0, &pkt) == 0);
	if (pkt.nfd != 1)
		printf("it ended with %d\n", want(&node, EV_CHILD, pid).u.child.status);
	CHECK(pkt.nfd == 1);
	first = t.id;
	come_home(&t, pid, pkt.fd[0]);
	/* A new master that asks the node about the way there hears that it has gone on. */
	tell(&node, &(struct init_msg){.type = INIT_VOID, .move_id = first}, NULL, 0);
	CHECK(want(&node, EV_RAN, pid).flags == EVF_LEFT);
	/* getpid() == pid is false there: pid was 0 in it. It is real again here. */
	CHECK(wait_for(pid, 0) == 24 << 8);
	/* What was left on the node is a ghost; it dies with its original. */
	mirror(&node, pid, CLD_EXITED, 24);
	want(&node, EV_MIRRORED, pid);
	close_fd(t.node_sock[0]);
	close_fd(t.home_sock[0]);
	printf("home-coming: ok\n");
}

static size_t argument_block(char *at, const char *dir, const char *cmd, const char *script)
{
	char *p = at;

	p = stpcpy(p, dir) + 1;
	p = stpcpy(p, cmd) + 1;
	p = stpcpy(p, "3") + 1;
	p = stpcpy(p, "sh") + 1;
	p = stpcpy(p, "-c") + 1;
	p = stpcpy(p, script) + 1;
	p = stpcpy(p, "PATH=/bin:/usr/bin") + 1;
	return (size_t)(p - at);
}

static void test_rexec(const char *cmd, bool works)
{
	struct trip t = {.streams = 7};
	char args[512], out[64];
	int chan;
	int32_t pid = fork_mover(&t, MOVE_REXEC, &chan);
	ssize_t n;

	if (pid == 0) {
		size_t len = argument_block(args, "/tmp", cmd, "read x; echo got $x $PWD; exit 5");

		rig_leave(chan, MOVE_REXEC, args, len);
		_exit(25);
	}
	trip_begin(&t, chan);
	trip_send(&t);
	if (!works) {
		struct init_msg m = want(&node, EV_FAILED, 0);

		printf("  %s\n", m.u.text);
		CHECK(m.err == ENOENT && m.flags == EVF_TARGET);
		decide_abort(&home, &t, m.err, m.u.text);
		CHECK(wait_for(pid, 0) == 25 << 8);
		return;
	}
	trip_commit(&t);
	CHECK(write_full(t.node_sock[0], "abc\n", 4) == 0);
	n = read(t.node_sock[1], out, sizeof(out) - 1);
	CHECK(n > 0);
	out[n] = '\0';
	CHECK(strcmp(out, "got abc /tmp\n") == 0);
	end_on_node(pid, CLD_EXITED, 5);
	for (int i = 0; i < 3; i++) {
		close_fd(t.home_sock[i]);
		close_fd(t.node_sock[i]);
	}
	CHECK(wait_for(pid, 0) == 5 << 8);
	printf("rexec: ok\n");
}

/* A program of home's is started in the place of one that is away. */
static void test_rexec_home(const char *cmd, bool works)
{
	int far, chan = channel(&far), chan2;
	struct trip t = {.kind = MOVE_RFORK};
	struct sysio_pkt pkt;
	struct init_msg m;
	char args[512], c;
	int32_t pid;

	t.dump_flags = VMAD_DUMP_EXEC | VMAD_DUMP_OTHER;
	trip_begin(&t, far);
	pid = fork();
	if (pid == 0) {
		chan2 = leave_for_more(chan);
		rig_leave(chan2, MOVE_REXEC, args, argument_block(args, "/tmp", cmd, "exit 8"));
		_exit(28);
	}
	close_fd(chan);
	t.streams = 1;
	trip_send(&t);
	trip_commit(&t);
	CHECK(pkt_recv(t.node_sock[0], &c, 1, 0, &pkt) == 0 && pkt.nfd == 1);
	t.to_home = t.own_chain = true;
	t.nchain = 0;
	t.kind = MOVE_REXEC;
	trip_begin(&t, pkt.fd[0]);
	trip_send(&t);
	if (works) {
		trip_commit(&t);
		CHECK(wait_for(pid, 0) == 8 << 8);
		mirror(&node, pid, CLD_EXITED, 8);
		want(&node, EV_MIRRORED, pid);
		/* A ghost's end is nobody's who was born there. */
		want_none_of(&node, EV_CHILD, pid, 100);
	} else {
		/* It goes on where it was, and its ghost is one again. */
		m = want(&home, EV_FAILED, 0);
		CHECK(m.err == ENOENT);
		decide_abort(&node, &t, m.err, m.u.text);
		m = want(&node, EV_CHILD, pid);
		CHECK(m.u.child.status == 28);
		CHECK(kill(pid, SIGTERM) == 0);
		CHECK(want(&home, EV_SIGNAL, pid).u.signal.sig == SIGTERM);
		wait_none(pid, 0, 20);
		mirror(&home, pid, CLD_EXITED, 28);
		CHECK(wait_for(pid, 0) == 28 << 8);
	}
	close_fd(t.node_sock[0]);
	close_fd(t.home_sock[0]);
	printf("rexec home: ok\n");
}

/* A child that becomes the program, on its way with the flags of its CHAN_HERE. */
static int32_t exec_mover(struct trip *t, const char *prog, uint32_t flags, int *ret_chan)
{
	struct chan_msg here = {.type = CHAN_HERE, .flags = CHAN_HERE_EXEC | flags}, go;
	char *const argv[] = {(char *)(uintptr_t)prog, (char *)(uintptr_t) "--remote", NULL};
	int32_t pid = fork_mover(t, MOVE_EXECMOVE, ret_chan);
	struct sysio_pkt pkt;

	if (pid > 0)
		return pid;
	here.u.exec.chan = *ret_chan;
	close_fd(home.sock);
	close_fd(node.sock);
	pkt_send(*ret_chan, &here, sizeof(here), NULL, 0);
	if (pkt_recv(*ret_chan, &go, sizeof(go), 0, &pkt) < 0 || go.type != CHAN_GO)
		_exit(26);
	fcntl(*ret_chan, F_SETFD, 0);
	execv(prog, argv);
	_exit(27);
}

/* The program is executed at home, its first instruction runs on the node. */
static void test_execmove(const char *prog, uint32_t flags)
{
	struct trip t = {.streams = 7};
	char out[64];
	int chan;
	int32_t pid = exec_mover(&t, prog, flags, &chan);
	ssize_t n;

	trip_begin(&t, chan);
	trip_send(&t);
	trip_commit(&t);
	n = read(t.node_sock[1], out, sizeof(out) - 1);
	CHECK(n > 0);
	out[n] = '\0';
	CHECK(strcmp(out, "remote\n") == 0);
	end_on_node(pid, CLD_EXITED, 6);
	for (int i = 0; i < 3; i++)
		close_fd(t.home_sock[i]);
	CHECK(wait_for(pid, 0) == 6 << 8);
	printf("execmove: ok\n");
}

static bool is_loaded(int32_t pid)
{
	char path[32], args[4096];
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/cmdline", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = read(fd, args, sizeof(args));
	close_fd(fd);
	return n > 0 && memmem(args, (size_t)n, "--remote", 8) != NULL;
}

/* It is loaded without a grant. Refused: it never runs, and its status says why. But if it is
 * where it wanted to go it does. */
static void test_refused_loaded(const char *prog, int err, int status)
{
	struct trip t = {0};
	int chan;
	int32_t pid = exec_mover(&t, prog, CHAN_HERE_FIRST, &chan);

	trip_begin(&t, chan);
	while (!is_loaded(pid))
		usleep(1000);
	decide_abort(&home, &t, err, "refused");
	tell(&node, &(struct init_msg){.type = INIT_VOID, .move_id = t.id}, NULL, 0);
	want(&node, EV_VOIDED, 0);
	CHECK(wait_for(pid, 0) == status << 8);
	printf("execmove, refused with %d when it was loaded: ok\n", err);
}

/* Both bpslaves die and come back: no event is lost, nothing is told twice as new. */
static void test_restart(void)
{
	struct trip t = {0};
	int32_t pid = rig_rfork(&t);
	struct init_msg m;

	if (pid == 0) {
		usleep(100000);
		_exit(31);
	}
	trip_send(&t);
	side_drop(&node); /* before it has heard that it runs */
	usleep(200000);	  /* it runs, and ends */
	side_connect(&node);
	m = want(&node, EV_RAN, pid);
	CHECK(m.move_id == t.id);
	m = want(&node, EV_CHILD, pid);
	CHECK(m.u.child.status == 31);
	tell_ack(&node, m.seq);
	/* The old one's void comes too late, and is answered with the truth. */
	tell(&node, &(struct init_msg){.type = INIT_VOID, .move_id = t.id}, NULL, 0);
	CHECK(want(&node, EV_RAN, pid).move_id == t.id);
	side_drop(&home);
	side_connect(&home);
	m = want(&home, EV_STATE, pid);
	CHECK(m.u.state.is_move && m.u.state.phase == INIT_PHASE_SENDING && m.move_id == t.id);
	want(&home, EV_STATE_END, 0);
	for (int i = 0; i < 2; i++)
		tell(&home,
		     &(struct init_msg){.type = INIT_DECIDE, .move_id = t.id, .u.decide.ghost = 1},
		     NULL, 0);
	want(&home, EV_GHOST, pid);
	mirror(&home, pid, CLD_EXITED, 31);
	CHECK(wait_for(pid, 0) == 31 << 8);
	want(&home, EV_MIRRORED, pid);
	mirror(&home, pid, CLD_EXITED, 31);
	want(&home, EV_MIRRORED, pid);
	printf("restart: ok\n");
}

int main(int argc, char **argv)
{
	if (argc > 1 && strcmp(argv[1], "--remote") == 0) {
		CHECK(write_full(1, "remote\n", 7) == 0);
		return 6;
	}
	rig_start();
	test_denied();
	test_aborted();
	test_cut_short();
	test_home_coming();
	test_rexec("/bin/sh", true);
	test_rexec("sh", true);
	test_rexec("/no/such/program", false);
	test_rexec_home("sh", true);
	test_rexec_home("/no/such/program", false);
	test_execmove(argv[0], 0);
	test_execmove(argv[0], CHAN_HERE_FIRST);
	test_refused_loaded(argv[0], BE_NODEDOWN, BE_NODEDOWN & 0xff);
	test_refused_loaded(argv[0], BE_SAMENODE, 6);
	test_restart();
	rig_stop();
	return 0;
}
