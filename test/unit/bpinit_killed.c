/*
 * A process is killed while it leaves: before its image is sent, and when all of it is
 * and nobody here knows whether its copy runs. And ghosts are, also as they are made; or all of a
 * user's are sent a signal then.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bpinit_rig.h"
#include "libbproc/local.h"
#include "libbproc/sysio.h"
#include "vmadump.h"

#define GHOSTS 50
#define BIRTHS 300
#define BORN 70001 /* of a node's slot */
#define SENT_BIRTHS 50
#define SOMEBODY 12345 /* a user who has nothing else */

/* Before the grant. Watched: it has been elsewhere, and others have to hear of its end. */
static void killed_parked(bool watched)
{
	struct trip t = {0};
	int chan;
	int32_t pid = fork_mover(&t, MOVE_MOVE, &chan);

	if (pid == 0)
		_exit(rig_leave(chan, MOVE_MOVE, NULL, 0));
	trip_begin(&t, chan);
	want(&home, EV_HERE, pid);
	if (watched)
		tell(&home, &(struct init_msg){.type = INIT_WATCH, .pid = pid}, NULL, 0);
	CHECK(kill(pid, SIGKILL) == 0);
	CHECK(want(&home, EV_FAILED, 0).req_id == t.req_id);
	if (watched)
		CHECK(want(&home, EV_CHILD, pid).u.child.status == SIGKILL);
	CHECK(wait_for(pid, 0) == SIGKILL);
	decide_abort(&home, &t, EIO, "");
	tell(&node, &(struct init_msg){.type = INIT_VOID, .move_id = t.id}, NULL, 0);
	want(&node, EV_VOIDED, 0);
}

/* Before bpinit has read that it is there: it cannot be traced any more, and its end is told. */
static void killed_unread(void)
{
	struct trip t = {0};
	struct chan_msg here;
	siginfo_t si;
	int chan;
	int32_t pid = fork_mover(&t, MOVE_MOVE, &chan);

	if (pid == 0)
		_exit(rig_leave(chan, MOVE_MOVE, NULL, 0));
	CHECK(recv(chan, &here, sizeof(here), MSG_PEEK) > 0 && here.type == CHAN_HERE);
	CHECK(kill(pid, SIGKILL) == 0);
	CHECK(waitid(P_PID, (id_t)pid, &si, WEXITED | WNOWAIT) == 0);
	trip_begin(&t, chan);
	tell(&home, &(struct init_msg){.type = INIT_WATCH, .pid = pid}, NULL, 0);
	CHECK(want(&home, EV_CHILD, pid).u.child.status == SIGKILL);
	CHECK(want(&home, EV_FAILED, 0).req_id == t.req_id);
	CHECK(wait_for(pid, 0) == SIGKILL);
	decide_abort(&home, &t, EIO, "");
	tell(&node, &(struct init_msg){.type = INIT_VOID, .move_id = t.id}, NULL, 0);
	want(&node, EV_VOIDED, 0);
	printf("killed unread: ok\n");
}

/*
 * It has sent all of its image, and may have voted: of an rfork's child bpinit does not know. Its
 * copy may run on the node: nothing is shown before that one is dead.
 */
static void killed_sent(int kind, bool runs)
{
	struct trip u = {0};
	int chan;
	int32_t pid = fork_mover(&u, kind, &chan);
	struct init_msg m;

	if (pid == 0)
		_exit(rig_leave(chan, (uint32_t)kind, NULL, 0));
	trip_begin(&u, chan);
	if (kind != MOVE_RFORK)
		want(&home, EV_HERE, pid);
	trip_swallow(&u);
	if (kind != MOVE_RFORK)
		want(&home, EV_SENT, pid);
	CHECK(kill(pid, SIGKILL) == 0);
	if (kind == MOVE_RFORK)
		CHECK(want(&home, EV_FAILED, 0).move_id == u.id);
	wait_none(pid, 0, 50);
	if (!runs) {
		decide_abort(&home, &u, EIO, "");
		CHECK(wait_for(pid, 0) == SIGKILL);
		goto out;
	}
	m = (struct init_msg){.type = INIT_DECIDE, .move_id = u.id, .u.decide.ghost = 1};
	tell(&home, &m, NULL, 0);
	want(&home, EV_GHOST, pid);
	CHECK(want(&home, EV_SIGNAL, pid).u.signal.sig == SIGKILL);
	wait_none(pid, 0, 50);
	mirror(&home, pid, CLD_KILLED, SIGKILL);
	CHECK(wait_for(pid, 0) == SIGKILL);
out:
	tell(&node, &(struct init_msg){.type = INIT_VOID, .move_id = u.id}, NULL, 0);
	want(&node, EV_VOIDED, 0);
	printf("killed when sent, kind %d%s: ok\n", kind, runs ? ", and runs" : "");
}

/* Signals of a timer, which the tracer drops: it is at work all the time. */
static _Noreturn void keep_busy(int32_t pid)
{
	siginfo_t si = {.si_signo = SIGUSR1, .si_code = SI_TIMER};

	for (;;)
		syscall(SYS_rt_sigqueueinfo, pid, SIGUSR1, &si);
}

/* A ghost is killed in whatever moment of what its tracer does with it: that is told. */
static void killed_ghost(int turn)
{
	struct trip t = {0};
	int32_t pid = rig_sleeper(&t), busy;
	struct ucred bpinit;
	socklen_t len = sizeof(bpinit);

	CHECK(getsockopt(home.sock, SOL_SOCKET, SO_PEERCRED, &bpinit, &len) == 0);
	busy = fork();
	if (busy == 0)
		keep_busy(pid);
	usleep(300 + turn);
	CHECK(kill(bpinit.pid, SIGSTOP) == 0);
	CHECK(kill(pid, SIGKILL) == 0);
	usleep(300);
	CHECK(kill(bpinit.pid, SIGCONT) == 0);
	CHECK(want(&home, EV_SIGNAL, pid).u.signal.sig == SIGKILL);
	CHECK(kill(busy, SIGKILL) == 0 && wait_for(busy, 0) == SIGKILL);
	mirror(&home, pid, CLD_KILLED, SIGKILL);
	CHECK(wait_for(pid, 0) == SIGKILL);
	want(&home, EV_MIRRORED, pid);
	tell(&node,
	     &(struct init_msg){.type = INIT_SIGNAL,
				.u.signal = {.pid = pid, .sig = SIGKILL, .code = SI_KERNEL}},
	     NULL, 0);
	want(&node, EV_CHILD, pid);
}

/*
 * And one that is just being made for a birth on a node: by its parent's ghost, traced from its
 * first moment, or, where there is none, by a ghost of its session, as nobody's child, or by
 * bpinit.
 */
static void killed_birth(int32_t ppid, int32_t sid)
{
	struct init_msg m = {.type = INIT_BORN, .pid = BORN};

	m.u.born.ppid = ppid;
	m.u.born.name.sid = sid;
	strcpy(m.u.born.name.comm, "born");
	tell(&home, &m, NULL, 0);
	while (kill(BORN, 0) < 0)
		;
	CHECK(kill(BORN, SIGKILL) == 0);
	CHECK(want(&home, EV_SIGNAL, BORN).u.signal.sig == SIGKILL);
	mirror(&home, BORN, CLD_KILLED, SIGKILL);
	want(&home, EV_MIRRORED, BORN);
	tell(&home, &(struct init_msg){.type = INIT_REAPED, .pid = BORN}, NULL, 0);
	while (kill(BORN, 0) == 0)
		usleep(100);
}

static void killed_births(void)
{
	struct trip t = {0};
	int32_t pid = rig_sleeper(&t);

	for (int i = 0; i < BIRTHS; i++) {
		killed_birth(i % 3 ? 0 : pid, i % 3 == 1 ? getsid(0) : 0);
		side_forget(&home); /* EV_LOST, of one that went unseen */
	}
	CHECK(kill(pid, SIGKILL) == 0);
	mirror(&home, pid, CLD_KILLED, SIGKILL);
	CHECK(wait_for(pid, 0) == SIGKILL);
	printf("%d killed as they were made: ok\n", BIRTHS);
}

/* All of its user's are sent one in the moment in which its ghost is ordered, and so is it. */
static void sent_in_birth(int32_t parent, uint64_t id)
{
	struct init_msg m = {.type = INIT_BORN, .pid = BORN};

	m.u.born.ppid = parent;
	m.u.born.name.uid = m.u.born.name.euid = m.u.born.name.suid = SOMEBODY;
	strcpy(m.u.born.name.comm, "born");
	tell(&home, &m, NULL, 0);
	m = (struct init_msg){.type = INIT_KILL, .pid = 1};
	m.u.kill.id = id;
	m.u.kill.target = -1;
	m.u.kill.sig = SIGUSR1;
	m.u.kill.uid = m.u.kill.euid = SOMEBODY;
	tell(&home, &m, NULL, 0);
	CHECK(want(&home, EV_KILLED, 0).u.kill.err == 0);
	CHECK(want(&home, EV_SIGNAL, BORN).u.signal.sig == SIGUSR1);
	mirror(&home, BORN, CLD_KILLED, SIGUSR1);
	want(&home, EV_MIRRORED, BORN);
	tell(&home, &(struct init_msg){.type = INIT_REAPED, .pid = BORN}, NULL, 0);
	while (kill(BORN, 0) == 0)
		usleep(100);
}

static void sent_in_births(void)
{
	struct trip t = {0};
	int32_t pid = rig_sleeper(&t);

	for (uint64_t i = 1; i <= SENT_BIRTHS; i++) {
		sent_in_birth(pid, i);
		side_forget(&home);
	}
	CHECK(kill(pid, SIGKILL) == 0);
	mirror(&home, pid, CLD_KILLED, SIGKILL);
	CHECK(wait_for(pid, 0) == SIGKILL);
	printf("%d sent a signal as they were made: ok\n", SENT_BIRTHS);
}

int main(void)
{
	rig_start();
	killed_parked(false);
	killed_parked(true);
	killed_unread();
	for (int runs = 0; runs < 2; runs++) {
		killed_sent(MOVE_MOVE, runs);
		killed_sent(MOVE_RFORK, runs);
	}
	for (int i = 0; i < GHOSTS; i++)
		killed_ghost(i);
	printf("%d ghosts killed: ok\n", GHOSTS);
	killed_births();
	sent_in_births();
	rig_stop();
	return 0;
}
