/*
 * Signals of a process whose move is called off: what it had pending, what came while
 * it was parked and what comes when it goes on again is all there once, in its order.
 * While it is parked bpinit takes none, but sends it back to the master. And nobody is sent any
 * by what ends at the target then.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "bpinit_rig.h"
#include "libbproc/local.h"

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

#define AWAY 65700 /* real elsewhere, with a child that it has not waited for */
#define ITS_CHILD 65701

static void arrive(uint64_t id, bool with_child)
{
	struct init_msg m = {.type = INIT_ARRIVE, .move_id = id, .pid = AWAY};
	int32_t sid = getsid(0), pgid = getpgid(0);

	m.u.arrive.epoch = 1;
	m.u.arrive.kind = MOVE_MOVE;
	m.u.arrive.ppid = getpid();
	m.u.arrive.pgid = pgid;
	m.u.arrive.sid = sid;
	m.u.arrive.nchain = with_child ? 3 : 2;
	m.u.arrive.chain[0] =
		(struct init_chain){.pid = sid, .pgid = sid, .sid = sid, .comm = "leader"};
	m.u.arrive.chain[1] = (struct init_chain){
		.pid = getpid(), .ppid = sid, .pgid = pgid, .sid = sid, .comm = "parent"};
	m.u.arrive.chain[2] = (struct init_chain){.pid = ITS_CHILD,
						  .ppid = AWAY,
						  .pgid = pgid,
						  .sid = sid,
						  .comm = "child",
						  .child = 1,
						  .state = CHAIN_RUNS};
	tell(&node, &m, NULL, 0);
}

/*
 * With children it is first a ghost there. The move is called off while that is being made, or a
 * moment later: the ghost ends, and nobody takes that for a signal to the original.
 */
static void ghost_not_to_be(void)
{
	uint64_t id = 0x700;

	arrive(id, false);
	want(&node, EV_READY, 0);
	tell(&node, &(struct init_msg){.type = INIT_VOID, .move_id = id++}, NULL, 0);
	want(&node, EV_VOIDED, 0);
	for (useconds_t us = 0; us <= 2400; us += 300) {
		arrive(id, true);
		if (us)
			usleep(us);
		tell(&node, &(struct init_msg){.type = INIT_VOID, .move_id = id++}, NULL, 0);
		want(&node, EV_VOIDED, 0);
		want_none(&node, EV_SIGNAL, 20);
	}
	want_none(&node, EV_SIGNAL, 300);
	printf("a ghost that is not to be: ok\n");
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
	ghost_not_to_be();
	rig_stop();
	return 0;
}
