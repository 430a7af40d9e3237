/*
 * One comes home to a child of its own that is real there, and ends or stops when its parent has
 * been asked what children it has, and is not there yet: that is news to it.
 */
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bpinit_rig.h"
#include "libbproc/local.h"
#include "libbproc/sysio.h"
#include "vmadump.h"

static siginfo_t heard;

static void on_child(int sig, siginfo_t *si, void *uc)
{
	(void)sig;
	(void)uc;
	heard = *si;
}

/* What becomes of the child, and when. */
enum when {
	ENDS,	    /* when all is ready for its parent */
	STOPS,	    /* likewise */
	STOPPED,    /* and home's master had heard of it before it was asked */
	HEARD_LATE, /* or says so when all is ready for its parent */
	HEARD_LAST, /* or when its parent runs */
	AGAIN,	    /* its parent has seen that it stopped; it has gone on and stopped again */
	AGAIN_LATE, /* and home's master says so when all is ready for its parent */
	AGAIN_LAST, /* or when its parent runs */
	MEANWHILE,  /* or it does that when its parent is announced */
	KNOWN,	    /* it stopped before, and its parent knows that it goes on: it is about to */
	SEEN,	    /* or has seen that, and no more */
};

static bool hears(bool blocks)
{
	struct timespec t = {.tv_sec = 5};
	sigset_t chld;

	sigemptyset(&chld);
	sigaddset(&chld, SIGCHLD);
	if (blocks)
		return sigtimedwait(&chld, &heard, &t) == SIGCHLD;
	for (int ms = 0; ms < 5000 && !heard.si_signo; ms++)
		usleep(1000);
	return heard.si_signo == SIGCHLD;
}

/* Leaves a child at home, goes to the node, and comes home by a channel that it gives out on 0. */
static _Noreturn void leaves_child(int chan, bool blocks, enum when when)
{
	struct sigaction sa = {.sa_sigaction = on_child, .sa_flags = SA_SIGINFO};
	int status = 0;
	sigset_t chld;
	int32_t pid;

	sigemptyset(&chld);
	sigaddset(&chld, SIGCHLD);
	if (blocks ? sigprocmask(SIG_BLOCK, &chld, NULL) < 0 : sigaction(SIGCHLD, &sa, NULL) < 0)
		_exit(1);
	pid = fork();
	if (pid == 0) {
		close_fd(chan);
		close_fd(home.sock);
		close_fd(node.sock);
		for (;;)
			pause();
	}
	if (rig_leave(chan, MOVE_RFORK, NULL, 0) < 0)
		_exit(2);
	rig_come_home(&pid, sizeof(pid));
	if (when >= KNOWN)
		_exit(waitpid(pid, &status, WNOHANG | WUNTRACED) == 0 ? 30 : 9);
	/* It runs when the child stops once more, and so hears that it goes on, first. */
	for (int ms = 0; (when == HEARD_LAST || when == AGAIN_LAST) && ms < PATIENCE_MS; ms++) {
		if (waitpid(pid, &status, WNOHANG | WUNTRACED) == pid)
			_exit(WIFSTOPPED(status) &&
					      waitpid(pid, &status, WNOHANG | WUNTRACED) == 0
				      ? 30
				      : 8);
		usleep(1000);
	}
	if (!hears(blocks))
		_exit(6);
	if (heard.si_pid != pid)
		_exit(7);
	if (when == ENDS && (heard.si_code != CLD_KILLED || heard.si_status != SIGTERM))
		_exit(7);
	if (when == ENDS)
		_exit(waitpid(pid, &status, WNOHANG) == pid && status == SIGTERM ? 30 : 8);
	if (heard.si_code != CLD_STOPPED || heard.si_status != SIGSTOP)
		_exit(7);
	if (waitpid(pid, &status, WNOHANG | WUNTRACED) != pid || !WIFSTOPPED(status) ||
	    WSTOPSIG(status) != SIGSTOP)
		_exit(8);
	_exit(waitpid(pid, &status, WNOHANG | WUNTRACED) == 0 ? 30 : 9); /* once */
}

static const char *const name[] = {"has ended",
				   "stops",
				   "had stopped",
				   "is heard of late",
				   "is heard of when it runs",
				   "had stopped again",
				   "stopped again, heard of late",
				   "stopped again, heard of when it runs",
				   "stops again as it is announced",
				   "goes on",
				   "is stopped"};
static uint64_t told; /* the number of the last word on the child */

/* The master says, to who is about to have its parent, what its parent cannot know. */
static void say_stopped(int32_t child)
{
	struct init_msg m = {.type = INIT_MIRROR, .pid = child};

	m.u.mirror.pid = child;
	m.u.mirror.code = CLD_STOPPED;
	m.u.mirror.status = SIGSTOP;
	m.u.mirror.seq = told;
	tell(&home, &m, NULL, 0);
}

/* Its parent's ghost takes that, and it is told. */
static void does(int32_t child, int sig, int code)
{
	struct init_msg m;

	CHECK(kill(child, sig) == 0);
	m = want(&home, EV_CHILD, child);
	CHECK(m.u.child.code == code);
	told = m.seq;
	tell_ack(&home, told);
}

static void stop(int32_t child)
{
	does(child, SIGSTOP, CLD_STOPPED);
}

static void again(int32_t child)
{
	does(child, SIGCONT, CLD_CONTINUED);
	stop(child);
}

/* When bpinit has the word that its parent comes, and has not read it, or what becomes of it. */
static void announced(struct trip *t, int far, int32_t child)
{
	socklen_t len = sizeof(struct ucred);
	struct ucred bpinit;

	CHECK(getsockopt(home.sock, SOL_SOCKET, SO_PEERCRED, &bpinit, &len) == 0);
	CHECK(kill(bpinit.pid, SIGSTOP) == 0);
	trip_begin(t, far);
	CHECK(kill(child, SIGCONT) == 0);
	usleep(20000);
	CHECK(kill(child, SIGSTOP) == 0);
	usleep(20000);
	CHECK(kill(bpinit.pid, SIGCONT) == 0);
	CHECK(want(&home, EV_CHILD, child).u.child.code == CLD_CONTINUED);
	told = want(&home, EV_CHILD, child).seq;
	say_stopped(child);
}

/* Of a child of ours, as it was forked. */
static void name_trip(struct trip *t, int32_t pid)
{
	t->pid = pid;
	t->ppid = getpid();
	t->pgid = getpgrp();
	t->sid = getsid(0);
}

/* The image is still to come, and nobody else is there to be told. */
static void test_child(bool blocks, enum when when)
{
	struct trip to = {.kind = MOVE_RFORK,
			  .streams = 1,
			  .dump_flags = VMAD_DUMP_EXEC | VMAD_DUMP_OTHER},
		    t = {.kind = MOVE_MOVE,
			 .to_home = true,
			 .own_chain = true,
			 .early = true,
			 .children = true};
	int far, chan = channel(&far);
	bool seen = when >= AGAIN && when != KNOWN;
	struct sysio_pkt pkt;
	int32_t child;

	trip_begin(&to, far);
	to.pid = fork();
	if (to.pid == 0)
		leaves_child(chan, blocks, when);
	close_fd(chan);
	trip_send(&to);
	trip_commit(&to);
	CHECK(pkt_recv(to.node_sock[0], &child, sizeof(child), 0, &pkt) == 0 && pkt.nfd == 1);
	name_trip(&t, to.pid);
	if (when >= STOPPED)
		stop(child);
	t.nchain = 1;
	t.chain[0] = (struct init_chain){.pid = child,
					 .ppid = to.pid,
					 .pgid = t.pgid,
					 .sid = t.sid,
					 .comm = "child",
					 .child = 1,
					 .state = seen ? CHAIN_STOP_SEEN : CHAIN_RUNS};
	if (seen && when != MEANWHILE && when != SEEN)
		again(child);
	if (when == MEANWHILE)
		announced(&t, pkt.fd[0], child);
	else
		trip_begin(&t, pkt.fd[0]);
	if (when == STOPPED || when == AGAIN)
		say_stopped(child);
	want(&home, EV_READY, 0);
	if (when == HEARD_LATE || when == AGAIN_LATE)
		say_stopped(child);
	if (when <= STOPS)
		CHECK(kill(child, when == ENDS ? SIGTERM : SIGSTOP) == 0);
	usleep(20000);
	trip_send(&t);
	trip_commit(&t);
	if (when == HEARD_LAST || when == AGAIN_LAST)
		say_stopped(child);
	CHECK(wait_for(to.pid, 0) == 30 << 8);
	mirror(&node, to.pid, CLD_EXITED, 30);
	want(&node, EV_MIRRORED, to.pid);
	side_forget(&home);
	side_forget(&node);
	CHECK(when == ENDS || kill(child, SIGKILL) == 0);
	printf("home to a child that %s, %s: ok\n", name[when], blocks ? "blocked" : "handled");
}

int main(void)
{
	rig_start();
	for (int when = ENDS; when <= SEEN; when++) {
		test_child(false, (enum when)when);
		test_child(true, (enum when)when);
	}
	rig_stop();
	return 0;
}
