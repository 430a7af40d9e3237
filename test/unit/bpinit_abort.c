/*
 * Signals of a process whose move is called off: what it had pending, what came while
 * it was parked and what comes when it goes on again is all there once, in its order.
 * While it is parked bpinit takes none, but sends it back to the master. And nobody is sent any
 * by what ends at the target then. Nor does a move wait there for a ghost that nobody makes.
 */
#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "bpinit_rig.h"
#include "libbproc/local.h"
#include "libbproc/sysio.h"
#include "vmadump/carry.h"

#define SIG (SIGRTMIN + 1)
#define BACK SIGUSR1 /* it goes on */
static uint64_t stream = 0x5eed;

static void queue(int32_t pid, int value)
{
	CHECK(sigqueue(pid, SIG, (union sigval){.sival_int = value}) == 0);
}

/* As another ghost's, by way of the master. */
static void relay(int32_t pid, uint64_t number)
{
	struct init_msg m = {.type = INIT_SIGNAL, .pid = pid};

	m.u.signal.pid = pid;
	m.u.signal.sender_pid = getpid();
	m.u.signal.code = SI_QUEUE;
	m.u.signal.sig = SIG;
	m.u.signal.value = 100 + number;
	m.u.signal.stream = stream;
	m.u.signal.number = number;
	m.u.signal.base = 1;
	tell(&home, &m, NULL, 0);
}

static void comes_back(int32_t pid, uint64_t number)
{
	struct init_msg m = want(&home, EV_SIGNAL, pid);

	CHECK(m.flags & EVF_RELAYED && m.u.signal.stream == stream && m.u.signal.number == number);
	tell_ack(&home, m.seq);
}

/* -1 when none comes. */
static int next_value(int sig)
{
	struct timespec patience = {.tv_sec = 5};
	siginfo_t si;
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, sig);
	return sigtimedwait(&set, &si, &patience) == sig ? si.si_value.sival_int : -1;
}

static _Noreturn void mover(int chan)
{
	static const int wanted[] = {0, 1, 2, 3, 101, 102};
	int v;

	queue(getpid(), 0);
	queue(getpid(), 1);
	if (rig_leave(chan, MOVE_MOVE, NULL, 0) != -ETIMEDOUT)
		_exit(1);
	CHECK(kill(getppid(), BACK) == 0);
	for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++) {
		v = next_value(SIG);
		if (v != wanted[i]) {
			printf("value %d, not %d\n", v, wanted[i]);
			fflush(stdout);
			_exit(2);
		}
	}
	_exit(22);
}

/* Called off when it has asked, or when it has voted. */
static void called_off(bool voted)
{
	struct trip t = {0};
	int chan;
	int32_t pid = fork_mover(&t, MOVE_MOVE, &chan);
	struct init_msg m;

	if (pid == 0)
		mover(chan);
	stream++;
	trip_begin(&t, chan);
	want(&home, EV_HERE, pid);
	relay(pid, 1);
	comes_back(pid, 1);
	if (voted) {
		trip_swallow(&t);
		want(&home, EV_SENT, pid);
		relay(pid, 1);
		comes_back(pid, 1);
	} else {
		/* Its image is made meanwhile, with what is pending. */
		usleep(50000);
	}
	queue(pid, 2);
	queue(pid, 3);
	tell(&node, &(struct init_msg){.type = INIT_VOID, .move_id = t.id}, NULL, 0);
	want(&node, EV_VOIDED, 0);
	decide_abort(&home, &t, ETIMEDOUT, "node 3 did not answer");
	CHECK(next_value(BACK) >= 0);
	for (uint64_t n = 1; n <= 2; n++) {
		relay(pid, n);
		m = want(&home, EV_SIGNALLED, pid);
		CHECK(m.u.signalled.upto == n && m.u.signalled.stream == stream);
		tell_ack(&home, m.seq);
	}
	CHECK(wait_for(pid, 0) == 22 << 8);
	printf("called off %s: ok\n", voted ? "after its vote" : "before it is granted");
}

/*
 * Called off, and the channel closed, before its vote was read: it goes on all the same. The test
 * is bpinit.
 */
static void vote_unread(void)
{
	struct chan_msg go = {.type = CHAN_GO, .move_id = 5}, here, off = go;
	int far, chan = channel(&far), data[2];
	char image[65536];
	struct pollfd p[2];
	int32_t pid = fork();

	if (pid == 0) {
		close_fd(far);
		_exit(rig_leave(chan, MOVE_MOVE, NULL, 0) == -ETIMEDOUT ? 33 : 1);
	}
	close_fd(chan);
	CHECK(recv(far, &here, sizeof(here), 0) == sizeof(here) && here.type == CHAN_HERE);
	CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, data) == 0);
	go.flags = (VMAD_DUMP_EXEC | VMAD_DUMP_OTHER) << 8;
	CHECK(pkt_send(far, &go, sizeof(go), &data[1], 1) == 0);
	close_fd(data[1]);
	p[0] = (struct pollfd){.fd = far, .events = POLLIN};
	p[1] = (struct pollfd){.fd = data[0], .events = POLLIN};
	do {
		CHECK(poll(p, 2, PATIENCE_MS) > 0);
		if (p[1].revents && read(data[0], image, sizeof(image)) <= 0)
			p[1].fd = -1;
	} while (!p[0].revents);
	/* Or it would read the one before the other is done. */
	CHECK(kill(pid, SIGSTOP) == 0 && WIFSTOPPED(wait_for(pid, WUNTRACED)));
	off.type = CHAN_ABORT;
	off.err = ETIMEDOUT;
	CHECK(pkt_send(far, &off, sizeof(off), NULL, 0) == 0);
	close_fd(far);
	CHECK(kill(pid, SIGCONT) == 0);
	CHECK(wait_for(pid, 0) == 33 << 8);
	close_fd(data[0]);
	printf("called off before its vote was read: ok\n");
}

#define AWAY 65700 /* real elsewhere, with a child that it has not waited for */
#define ITS_CHILD(pid) ((pid) + 1)

static uint64_t next_id = 0x700;

/* Of AWAY's kind, or of its child; returns the number of the move. */
static uint64_t arrive_at(struct side *s, int32_t away, bool child_comes, bool with_child)
{
	struct init_msg m = {.type = INIT_ARRIVE, .move_id = next_id};
	int32_t sid = getsid(0), pgid = getpgid(0);
	struct init_chain *c = m.u.arrive.chain;

	m.pid = child_comes ? ITS_CHILD(away) : away;
	m.u.arrive.epoch = 1;
	m.u.arrive.kind = MOVE_MOVE;
	m.u.arrive.home_here = s == &home;
	m.u.arrive.ppid = child_comes ? away : getpid();
	m.u.arrive.pgid = pgid;
	m.u.arrive.sid = sid;
	m.u.arrive.nchain = child_comes || with_child ? 3 : 2;
	my_cred(&m.u.arrive.cred);
	c[0] = (struct init_chain){.pid = sid, .pgid = sid, .sid = sid, .comm = "leader"};
	c[1] = (struct init_chain){
		.pid = getpid(), .ppid = sid, .pgid = pgid, .sid = sid, .comm = "parent"};
	c[2] = (struct init_chain){.pid = child_comes ? away : ITS_CHILD(away),
				   .ppid = child_comes ? getpid() : away,
				   .pgid = pgid,
				   .sid = sid,
				   .comm = "child",
				   .child = !child_comes,
				   .state = CHAIN_RUNS};
	tell(s, &m, NULL, 0);
	return next_id++;
}
#define arrive(away, child_comes, with_child) arrive_at(&node, away, child_comes, with_child)

static void call_off_at(struct side *s, uint64_t id)
{
	tell(s, &(struct init_msg){.type = INIT_VOID, .move_id = id}, NULL, 0);
	want(s, EV_VOIDED, 0);
}
#define call_off(id) call_off_at(&node, id)

static void ready_at(struct side *s, uint64_t id)
{
	while (want(s, EV_READY, 0).move_id != id)
		;
}
#define ready(id) ready_at(&node, id)

/* 0: it is not there, or a zombie. */
static int32_t parent_there(int32_t pid)
{
	FILE *f = fopen(node_stat(pid).path, "r");
	int32_t ppid = 0;
	char state;

	if (f && fscanf(f, "%*d (%*[^)]) %c %d", &state, &ppid) == 2 && state == 'Z')
		ppid = 0;
	if (f)
		fclose(f);
	return ppid;
}

/*
 * With children it is first a ghost there. The move is called off while that is being made, or a
 * moment later: nobody takes it for a signal to the original if it ends.
 */
static void ghost_not_to_be(void)
{
	int32_t pid = AWAY;

	call_off(arrive(pid, false, false));
	for (useconds_t us = 0; us <= 2400; us += 300, pid += 2) {
		uint64_t id = arrive(pid, false, true);

		if (us)
			usleep(us);
		call_off(id);
		want_none(&node, EV_SIGNAL, 20);
	}
	want_none(&node, EV_SIGNAL, 300);
	printf("a ghost that is not to be: ok\n");
}

/* Called off when all its children's ghosts are there; it comes again, and has to find them. */
static void comes_again(void)
{
	const int32_t pid = AWAY + 100;
	uint64_t id;

	for (int i = 0; i < 3; i++) {
		id = arrive(pid, false, true);
		ready(id);
		CHECK(parent_there(ITS_CHILD(pid)) == pid);
		call_off(id);
		usleep(20000);
	}
	CHECK(parent_there(ITS_CHILD(pid)) == pid);
	printf("children after a move that was called off: ok\n");
}

/*
 * Its child is arriving when it comes, and that is called off: what ends then is no end for its
 * parent, which has a ghost of it.
 */
static void child_is_not_to_be(void)
{
	const int32_t pid = AWAY + 200;
	uint64_t child = arrive(pid, true, false), id;

	ready(child);
	id = arrive(pid, false, true);
	want_none(&node, EV_READY, 100);
	call_off(child);
	ready(id);
	CHECK(parent_there(ITS_CHILD(pid)) == pid);
	call_off(id);
	printf("a child that is not to arrive: ok\n");
}

/*
 * It has left and comes back with a child before it is said here that it has left: its children are
 * seen to when it is a ghost.
 */
static void not_told_to_be_a_ghost(void)
{
	struct init_msg m = {.type = INIT_DECIDE};
	struct trip t = {0};
	int chan;
	int32_t pid = fork_mover(&t, MOVE_MOVE, &chan);
	uint64_t id;

	if (pid == 0)
		_exit(rig_leave(chan, MOVE_MOVE, NULL, 0));
	trip_begin(&t, chan);
	want(&home, EV_HERE, pid);
	trip_swallow(&t);
	want(&home, EV_SENT, pid);
	id = arrive_at(&home, pid, false, true);
	want_none(&home, EV_READY, 100);
	m.move_id = t.id;
	m.pid = pid;
	m.u.decide.ghost = 1;
	tell(&home, &m, NULL, 0);
	want(&home, EV_GHOST, pid);
	ready_at(&home, id);
	call_off_at(&home, id);
	call_off(t.id);
	mirror(&home, pid, CLD_EXITED, 5);
	CHECK(wait_for(pid, 0) == 5 << 8);
	printf("back before it is a ghost: ok\n");
}

/* Of a process that is on the node, by the number that it has there. */
static int32_t number_here(int32_t there)
{
	DIR *d = opendir("/proc");
	int32_t found = 0;
	struct dirent *e;

	CHECK(d);
	while (!found && (e = readdir(d))) {
		char path[280], line[256], *last;
		FILE *f;

		snprintf(path, sizeof(path), "/proc/%s/status", e->d_name);
		f = atoi(e->d_name) > 0 ? fopen(path, "r") : NULL;
		while (f && fgets(line, sizeof(line), f)) {
			last = strncmp(line, "NSpid:", 6) == 0 ? strrchr(line, '\t') : NULL;
			if (last && last > line + 6 && atoi(last) == there)
				found = atoi(e->d_name);
		}
		if (f)
			fclose(f);
	}
	closedir(d);
	return found;
}

/*
 * The ghost that is asked to make one of the chain is killed, and does not answer: another makes
 * it. It was waited for, by this move and by each after it.
 */
static void maker_killed(void)
{
	const int32_t away = AWAY + 300;

	for (int32_t pid = away; pid < away + 50; pid += 10) {
		struct init_msg m = {.type = INIT_ARRIVE, .pid = pid + 3};
		struct init_chain *c = m.u.arrive.chain;
		uint64_t id = arrive(pid, true, false);
		int32_t here;

		ready(id);
		call_off(id);
		here = number_here(pid);
		CHECK(here > 0);
		m.move_id = next_id++;
		m.u.arrive.epoch = 1;
		m.u.arrive.kind = MOVE_MOVE;
		m.u.arrive.ppid = pid + 2;
		m.u.arrive.pgid = getpgid(0);
		m.u.arrive.sid = getsid(0);
		my_cred(&m.u.arrive.cred);
		m.u.arrive.nchain = 2;
		c[0] = (struct init_chain){.pid = pid, .ppid = getpid(), .comm = "killed"};
		c[1] = (struct init_chain){.pid = pid + 2, .ppid = pid, .comm = "made"};
		for (int i = 0; i < 2; i++) {
			c[i].pgid = m.u.arrive.pgid;
			c[i].sid = m.u.arrive.sid;
		}
		CHECK(kill(here, SIGKILL) == 0);
		tell(&node, &m, NULL, 0);
		usleep(5000);
		mirror(&node, pid, CLD_KILLED, SIGKILL);
		ready(m.move_id);
		call_off(m.move_id);
	}
	side_forget(&node);
	printf("a ghost that is killed and was to make another: ok\n");
}

int main(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIG);
	sigaddset(&set, BACK);
	sigprocmask(SIG_BLOCK, &set, NULL);
	rig_start();
	called_off(false);
	called_off(true);
	vote_unread();
	ghost_not_to_be();
	comes_again();
	child_is_not_to_be();
	maker_killed();
	not_told_to_be_a_ghost();
	rig_stop();
	return 0;
}
