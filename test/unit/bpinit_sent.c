/*
 * One is sent signals at home before it is there. Its ghost takes its image in: such as are ignored
 * by default, or ignored and blocked, wait there for it. And each of those that are sent from when
 * bpinit hears that the image comes is told by bpinit or comes to it, and not both. One is stopped
 * when it is complete, and bpinit lets go of it; or is called off then, and its ghost tells that.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "bpinit_rig.h"
#include "libbproc/local.h"
#include "libbproc/sysio.h"
#include "vmadump.h"

struct play {
	void (*leaves)(int chan, bool blocks); /* to the node, and comes home */
	bool blocks;
	void (*arriving)(int32_t pid); /* as of struct trip */
	bool told_only;
	void (*sent)(int32_t pid); /* all of its image, and nobody has told it to run */
	bool called_off;
};

static uint64_t move_home;

static int32_t there_and_back(const struct play *p)
{
	struct trip to = {.kind = MOVE_RFORK,
			  .streams = 1,
			  .dump_flags = VMAD_DUMP_EXEC | VMAD_DUMP_OTHER},
		    t = {.kind = MOVE_MOVE,
			 .to_home = true,
			 .own_chain = true,
			 .arriving = p->arriving,
			 .told_only = p->told_only};
	int far, chan = channel(&far);
	struct sysio_pkt pkt;
	char none;

	trip_begin(&to, far);
	to.pid = fork();
	if (to.pid == 0)
		p->leaves(chan, p->blocks);
	close_fd(chan);
	trip_send(&to);
	trip_commit(&to);
	CHECK(pkt_recv(to.node_sock[0], &none, 1, 0, &pkt) == 0 && pkt.nfd == 1);
	t.pid = to.pid;
	t.ppid = getpid();
	t.pgid = getpgrp();
	t.sid = getsid(0);
	trip_begin(&t, pkt.fd[0]);
	move_home = t.id;
	trip_send(&t);
	if (p->sent)
		p->sent(t.pid);
	if (p->called_off)
		decide_abort(&node, &t, ETIMEDOUT, "it was called off");
	else
		trip_commit(&t);
	close_fd(to.node_sock[0]);
	close_fd(to.home_sock[0]);
	return to.pid;
}

static void await_end(int32_t pid)
{
	siginfo_t si = {0};

	for (int ms = 0; ms < PATIENCE_MS && si.si_pid != pid; ms++, usleep(1000))
		CHECK(waitid(P_PID, (id_t)pid, &si, WEXITED | WNOWAIT | WNOHANG) == 0);
	CHECK(si.si_code == CLD_EXITED && si.si_status == 30);
}

static void ends(int32_t pid)
{
	struct init_msg m = {.type = INIT_ENDED, .pid = pid};

	await_end(pid);
	wait_for(pid, 0);
	m.u.child = (struct chan_child){.pid = pid, .code = CLD_EXITED, .status = 30};
	tell(&home, &m, NULL, 0); /* and what it was sent is not told any more */
	want(&home, EV_CHILD, pid);
	mirror(&node, pid, CLD_EXITED, 30);
	want(&node, EV_MIRRORED, pid);
	while (waitpid(-1, NULL, WNOHANG) > 0) /* who has brought the image */
		;
	side_forget(&home);
	side_forget(&node);
}

/* Ignored by default, but for the last. */
static const int by_default[] = {SIGWINCH, SIGURG, SIGCONT, SIGUSR1};
#define NSIGS 4

static volatile sig_atomic_t times[NSIG];

static void on_signal(int sig)
{
	times[sig]++;
}

/* Has handlers for the signals; or blocks them and leaves them to their default, or ignores them,
 * and they wait for it. */
static void is_sent(int chan, bool blocks)
{
	struct sigaction sa = {.sa_handler = blocks ? SIG_IGN : on_signal};
	const struct timespec soon = {.tv_sec = PATIENCE_MS / 1000};
	siginfo_t si;
	sigset_t all;
	char none = 0;

	sigemptyset(&all);
	for (int i = 0; i < NSIGS; i++) {
		sigaddset(&all, by_default[i]);
		if ((!blocks || i == NSIGS - 1) && sigaction(by_default[i], &sa, NULL) < 0)
			_exit(1);
	}
	if (blocks && sigprocmask(SIG_BLOCK, &all, NULL) < 0)
		_exit(1);
	if (rig_leave(chan, MOVE_RFORK, NULL, 0) < 0)
		_exit(2);
	rig_come_home(&none, 1);
	for (int i = 0; i < NSIGS && blocks; i++) {
		int sig = sigtimedwait(&all, &si, &soon);

		if (sig < 0 || si.si_code != SI_USER || si.si_pid != getppid())
			_exit(10 + i);
		times[sig]++;
	}
	for (int i = 0; i < NSIGS; i++)
		if (times[by_default[i]] != 1)
			_exit(20 + i);
	_exit(30);
}

static void send_all(int32_t pid)
{
	for (int i = 0; i < NSIGS; i++)
		CHECK(kill(pid, by_default[i]) == 0);
}

static void test_is_sent(bool blocks)
{
	ends(there_and_back(
		&(struct play){.leaves = is_sent, .blocks = blocks, .arriving = send_all}));
	printf("sent signals while it comes home, %s: ok\n", blocks ? "blocked" : "handled");
}

/* -- each with its number */

#define NUMBERED 24
#define HOMECOMINGS 40

static char list[128]; /* the file in which it says which have come to it */

static void is_sent_numbered(int chan, bool blocks)
{
	bool came[NUMBERED] = {false};
	char none = 0;
	siginfo_t si;
	sigset_t all;
	int fd;

	sigemptyset(&all);
	sigaddset(&all, SIGRTMIN);
	sigaddset(&all, SIGRTMIN + 1); /* the last one of all */
	if (!blocks || sigprocmask(SIG_BLOCK, &all, NULL) < 0)
		_exit(1);
	if (rig_leave(chan, MOVE_RFORK, NULL, 0) < 0)
		_exit(2);
	rig_come_home(&none, 1);
	while (sigwaitinfo(&all, &si) == SIGRTMIN) {
		if (came[si.si_value.sival_int])
			_exit(3);
		came[si.si_value.sival_int] = true;
	}
	fd = open(list, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	if (fd < 0 || write(fd, came, sizeof(came)) != sizeof(came))
		_exit(4);
	_exit(30);
}

static void send_numbered(int32_t pid)
{
	struct timespec t, until;

	for (int i = 0; i < NUMBERED; i++) {
		CHECK(sigqueue(pid, SIGRTMIN, (union sigval){.sival_int = i}) == 0);
		clock_gettime(CLOCK_MONOTONIC, &t);
		do
			clock_gettime(CLOCK_MONOTONIC, &until);
		while ((until.tv_sec - t.tv_sec) * 1000000000 + until.tv_nsec - t.tv_nsec < 10000);
	}
}

static void test_numbered(void)
{
	bool came[NUMBERED], told[NUMBERED];
	int ntold = 0, fd;

	snprintf(list, sizeof(list), "%s/came", home.dir);
	for (int n = 0; n < HOMECOMINGS; n++) {
		int32_t pid = there_and_back(&(struct play){.leaves = is_sent_numbered,
							    .blocks = true,
							    .arriving = send_numbered,
							    .told_only = true});
		int missing = NUMBERED;

		CHECK(kill(pid, SIGRTMIN + 1) == 0);
		await_end(pid);
		fd = open(list, O_RDONLY | O_CLOEXEC);
		CHECK(fd >= 0 && read(fd, came, sizeof(came)) == sizeof(came));
		close_fd(fd);
		for (int i = 0; i < NUMBERED; i++) {
			told[i] = false;
			missing -= came[i];
		}
		while (missing > 0) {
			struct init_msg m = want(&home, EV_SIGNAL, pid);
			uint64_t i = m.u.signal.value;

			CHECK(m.u.signal.sig == SIGRTMIN && i < NUMBERED && !came[i]);
			missing -= !told[i]; /* it comes again as long as nobody has it */
			told[i] = true;
			ntold++;
		}
		ends(pid);
	}
	printf("sent numbered signals as it begins to come home: ok (%d of %d told)\n", ntold,
	       HOMECOMINGS * NUMBERED);
}

/* -- a stop that bpinit meets when it lets go of who is complete */

static void bpinit_is_sent(int sig)
{
	socklen_t len = sizeof(struct ucred);
	struct ucred bpinit;

	CHECK(getsockopt(home.sock, SOL_SOCKET, SO_PEERCRED, &bpinit, &len) == 0);
	CHECK(kill(bpinit.pid, sig) == 0);
}

static void bpinit_stands(int32_t pid)
{
	(void)pid;
	bpinit_is_sent(SIGSTOP);
}

/* The image comes to its end while bpinit stands still; the stop is met behind the word on that. */
static void stop_and_go_on(int32_t pid)
{
	usleep(100000);
	CHECK(kill(pid, SIGSTOP) == 0);
	usleep(20000);
	bpinit_is_sent(SIGCONT);
}

static void is_stopped(int chan, bool blocks)
{
	char none = 0;

	(void)blocks;
	if (rig_leave(chan, MOVE_RFORK, NULL, 0) < 0)
		_exit(2);
	rig_come_home(&none, 1);
	_exit(30);
}

static void test_stop(void)
{
	int32_t pid = there_and_back(&(struct play){
		.leaves = is_stopped, .arriving = bpinit_stands, .sent = stop_and_go_on});
	int status = wait_for(pid, WUNTRACED);

	CHECK(WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP);
	CHECK(kill(pid, SIGCONT) == 0);
	ends(pid);
	printf("stopped as it is complete: ok\n");
}

static void stop_and_call_off(int32_t pid)
{
	struct init_msg m = {.type = INIT_VOID, .move_id = move_home};

	CHECK(kill(pid, SIGSTOP) == 0);
	usleep(20000); /* it is met, and held until it is known whose it is */
	tell(&home, &m, NULL, 0);
	want(&home, EV_VOIDED, 0);
	m = want(&home, EV_SIGNAL, pid);
	CHECK(m.u.signal.sig == SIGSTOP);
}

/* It goes on where it is. */
static void test_stop_off(void)
{
	int32_t pid = there_and_back(&(struct play){
		.leaves = is_stopped, .arriving = stop_and_call_off, .called_off = true});
	int status = want(&node, EV_CHILD, pid).u.child.status;

	mirror(&home, pid, CLD_EXITED, status);
	CHECK(status == 5 && wait_for(pid, 0) == status << 8);
	while (waitpid(-1, NULL, WNOHANG) > 0)
		;
	printf("stopped as it is called off: ok\n");
}

int main(void)
{
	rig_start();
	test_is_sent(false);
	test_is_sent(true);
	test_numbered();
	test_stop();
	test_stop_off();
	rig_stop();
	return 0;
}
