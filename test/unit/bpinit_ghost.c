/*
 * A child leaves home for a node, and its parent cannot tell: stops, continues,
 * exits and kills of the ghost as of a native child; signals to it arrive there.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bpinit_rig.h"
#include "libbproc/local.h"
#include "libbproc/sysio.h"

/* On the node: does as it is told by signals. */
static volatile sig_atomic_t got[65], got_pid, got_uid, got_value;

static void on_signal(int sig, siginfo_t *si, void *uc)
{
	(void)uc;
	got[sig]++;
	got_pid = si->si_pid;
	got_uid = (sig_atomic_t)si->si_uid;
	got_value = si->si_value.sival_int;
}

static void catch (int sig)
{
	struct sigaction sa = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO};

	CHECK(sigaction(sig, &sa, NULL) == 0);
}

static void await_signal(int sig)
{
	for (int i = 0; i < 5000 && !got[sig]; i++)
		usleep(1000);
	if (!got[sig])
		_exit(70);
	got[sig]--;
}

static void forward(struct side *from, struct side *to, int32_t pid, int sig)
{
	struct init_msg m = want(from, EV_SIGNAL, pid);

	CHECK(m.u.signal.sig == sig);
	m.type = INIT_SIGNAL;
	m.seq = 0;
	tell(to, &m, NULL, 0);
}

static void relay_child(struct side *from, struct side *to, int32_t pid, int code, int status)
{
	struct init_msg m = want(from, EV_CHILD, pid);

	if (m.u.child.code != code || m.u.child.status != status)
		printf("child: code %d status %d, wanted %d %d\n", m.u.child.code, m.u.child.status,
		       code, status);
	CHECK(m.u.child.code == code && m.u.child.status == status);
	mirror(to, pid, code, status);
}

static void test_exit(void)
{
	struct trip t = {0};
	int32_t parent = getpid(), pid = rig_rfork(&t);

	if (pid == 0) {
		for (int i = 0; i < 3; i++)
			usleep(10000);
		_exit(getppid() == parent ? 43 : 1);
	}
	trip_send(&t);
	CHECK(t.pid == pid);
	trip_commit(&t);
	wait_none(pid, 0, 30);
	relay_child(&node, &home, pid, CLD_EXITED, 43);
	CHECK(wait_for(pid, 0) == 43 << 8);
	want(&home, EV_MIRRORED, pid);
	printf("exit: ok\n");
}

static void test_signals(void)
{
	struct trip t = {0};
	union sigval v = {.sival_int = 77};
	int32_t pid;

	catch (SIGUSR1);
	catch (SIGRTMIN);
	pid = rig_rfork(&t);
	if (pid == 0) {
		await_signal(SIGUSR1);
		if (got_pid != getppid() || got_uid != 0)
			_exit(71);
		await_signal(SIGRTMIN);
		if (got_value != 77 || got_pid != getppid())
			_exit(72);
		kill(getpid(), SIGSTOP);
		pause();
		_exit(73);
	}
	trip_send(&t);
	trip_commit(&t);
	CHECK(kill(pid, SIGUSR1) == 0);
	forward(&home, &node, pid, SIGUSR1);
	usleep(20000);
	CHECK(sigqueue(pid, SIGRTMIN, v) == 0);
	forward(&home, &node, pid, SIGRTMIN);
	relay_child(&node, &home, pid, CLD_STOPPED, SIGSTOP);
	CHECK(wait_for(pid, WUNTRACED) == 0x137f);
	CHECK(kill(pid, SIGCONT) == 0);
	CHECK(wait_for(pid, WCONTINUED) == 0xffff);
	forward(&home, &node, pid, SIGCONT);
	relay_child(&node, &home, pid, CLD_CONTINUED, SIGCONT);
	wait_none(pid, WUNTRACED | WCONTINUED, 30);

	CHECK(kill(pid, SIGTSTP) == 0);
	wait_none(pid, WUNTRACED, 30);
	forward(&home, &node, pid, SIGTSTP);
	relay_child(&node, &home, pid, CLD_STOPPED, SIGTSTP);
	CHECK(wait_for(pid, WUNTRACED) == 0x147f);
	/* The death of a stopped one shows no continue. */
	CHECK(kill(pid, SIGKILL) == 0);
	wait_none(pid, WCONTINUED, 50);
	forward(&home, &node, pid, SIGKILL);
	relay_child(&node, &home, pid, CLD_KILLED, SIGKILL);
	CHECK(wait_for(pid, WUNTRACED | WCONTINUED) == SIGKILL);
	want(&home, EV_MIRRORED, pid);
	printf("signals: ok\n");
}

/* Mirrors alone, as fast as they can be told. */
static void test_mirrors(void)
{
	struct trip t = {0};
	int32_t pid = rig_sleeper(&t);

	for (int i = 0; i < 50; i++) {
		mirror(&home, pid, CLD_STOPPED, i % 2 ? SIGTSTP : SIGTTIN);
		CHECK(wait_for(pid, WUNTRACED) == (i % 2 ? 0x147f : 0x157f));
		mirror(&home, pid, CLD_CONTINUED, SIGCONT);
		CHECK(wait_for(pid, WCONTINUED) == 0xffff);
	}
	for (int i = 0; i < 50; i++) {
		mirror(&home, pid, CLD_STOPPED, SIGSTOP);
		mirror(&home, pid, CLD_CONTINUED, SIGCONT);
	}
	mirror(&home, pid, CLD_STOPPED, SIGSTOP);
	mirror(&home, pid, CLD_EXITED, 9);
	mirror(&home, pid, CLD_EXITED, 9);
	while (1) {
		int status = wait_for(pid, WUNTRACED | WCONTINUED);

		if (status == 9 << 8)
			break;
		CHECK(status == 0x137f || status == 0xffff);
	}
	want(&home, EV_MIRRORED, pid);
	want_none(&home, EV_SIGNAL, 20);
	CHECK(kill(pid, 0) < 0);
	tell(&node,
	     &(struct init_msg){.type = INIT_SIGNAL,
				.u.signal = {.pid = pid,
					     .sig = SIGTERM,
					     .code = SI_USER,
					     .sender_pid = 4321,
					     .sender_uid = 65534}},
	     NULL, 0);
	CHECK(want(&node, EV_CHILD, pid).u.child.status == SIGTERM);
	printf("mirrors: ok\n");
}

static void test_deaths(void)
{
	static const int how[] = {SIGTERM, SIGSEGV, SIGABRT, SIGPIPE, SIGALRM, SIGUSR2};

	for (unsigned int i = 0; i < sizeof(how) / sizeof(how[0]); i++) {
		struct trip t = {0};
		int32_t pid = rig_rfork(&t);

		if (pid == 0) {
			signal(how[i], SIG_DFL);
			kill(getpid(), how[i]);
			_exit(1);
		}
		trip_send(&t);
		trip_commit(&t);
		mirror(&home, pid, CLD_KILLED, want(&node, EV_CHILD, pid).u.child.status);
		CHECK(wait_for(pid, 0) == how[i]);
		want(&home, EV_MIRRORED, pid);
	}
	printf("deaths: ok\n");
}

/* What the ghost looks like. */
static void test_looks(void)
{
	char path[64], mine[256], its[256];
	struct trip t = {0};
	ssize_t n, k;
	int32_t pid;
	int fd;

	prctl(PR_SET_NAME, "looks");
	pid = rig_sleeper(&t);
	fd = open("/proc/self/cmdline", O_RDONLY);
	n = read(fd, mine, sizeof(mine));
	close(fd);
	snprintf(path, sizeof(path), "/proc/%d/cmdline", pid);
	fd = open(path, O_RDONLY);
	k = read(fd, its, sizeof(its));
	close(fd);
	CHECK(n > 0 && n == k && memcmp(mine, its, (size_t)n) == 0);
	snprintf(path, sizeof(path), "/proc/%d/comm", pid);
	fd = open(path, O_RDONLY);
	k = read(fd, its, sizeof(its));
	close(fd);
	CHECK(k == 6 && memcmp(its, "looks\n", 6) == 0);
	tell(&node,
	     &(struct init_msg){.type = INIT_SIGNAL,
				.u.signal = {.pid = pid, .sig = SIGKILL, .code = SI_KERNEL}},
	     NULL, 0);
	relay_child(&node, &home, pid, CLD_KILLED, SIGKILL);
	CHECK(wait_for(pid, 0) == SIGKILL);
	printf("looks: ok\n");
}

#define BORN 70001 /* of a node's slot */

static void kill_there(int32_t pid, int sig)
{
	struct init_msg m = {.type = INIT_SIGNAL};

	m.u.signal.pid = pid;
	m.u.signal.sig = sig;
	m.u.signal.code = SI_KERNEL;
	tell(&node, &m, NULL, 0);
}

static void born(uint64_t use, int32_t ppid)
{
	struct init_msg m = {.type = INIT_BORN, .pid = BORN, .use = use};

	m.u.born.ppid = ppid;
	strcpy(m.u.born.name.comm, "born");
	tell(&home, &m, NULL, 0);
}

static void mirror_use(uint64_t use, int status)
{
	struct init_msg m = {.type = INIT_MIRROR, .pid = BORN, .use = use};

	m.u.mirror.pid = BORN;
	m.u.mirror.code = CLD_EXITED;
	m.u.mirror.status = status;
	tell(&home, &m, NULL, 0);
}

/* The state of that number's process and how it ended, from /proc; 0: there is none. */
static char born_is(int *ret_status)
{
	char text[1024] = "", path[32];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/stat", BORN);
	fd = open(path, O_RDONLY);
	if (fd < 0 || read(fd, text, sizeof(text) - 1) <= 0 || !strrchr(text, ')')) {
		close(fd);
		return 0;
	}
	close(fd);
	*ret_status = atoi(strrchr(text, ' '));
	return strrchr(text, ')')[2];
}

static void await_born(bool zombie, int want_status)
{
	int status = -1;
	char s = 0;

	for (int i = 0; i < 5000; i++) {
		s = born_is(&status);
		if (s && (s == 'Z') == zombie && (!zombie || status == want_status))
			return;
		usleep(1000);
	}
	printf("born: '%c', status %#x, wanted %s %#x\n", s, status, zombie ? "dead" : "alive",
	       want_status);
	exit(1);
}

/*
 * A number that is used again: what is said of its last use, or again, is not done to the ghost of
 * the next, and what is told of the next not to that of the last.
 */
static void test_uses(void)
{
	const uint64_t epoch = 5ull << 32;
	struct trip t = {0};
	int32_t pid = rig_sleeper(&t);
	int status;

	born(epoch | 10, pid);
	await_born(false, 0);
	mirror_use(epoch | 9, 3);
	CHECK(want(&home, EV_MIRRORED, BORN).use == (epoch | 9));
	usleep(20000);
	CHECK(born_is(&status) != 'Z');
	/* Waited for there, and given to another, before home was told of the end. */
	tell(&home, &(struct init_msg){.type = INIT_REAPED, .pid = BORN}, NULL, 0);
	born(epoch | 11, pid);
	mirror_use(epoch | 11, 44);
	usleep(20000);
	CHECK(born_is(&status) != 'Z');
	mirror_use(epoch | 10, 9);
	CHECK(want(&home, EV_MIRRORED, BORN).use == (epoch | 10));
	CHECK(want(&home, EV_MIRRORED, BORN).use == (epoch | 11));
	await_born(true, 44 << 8);
	mirror_use(epoch | 10, 9);
	CHECK(want(&home, EV_MIRRORED, BORN).use == (epoch | 10));
	kill_there(pid, SIGKILL);
	relay_child(&node, &home, pid, CLD_KILLED, SIGKILL);
	CHECK(wait_for(pid, 0) == SIGKILL);
	/* An orphan now: its number is free when the namespace's pid 1 has waited for it. */
	for (int i = 0; i < 5000 && born_is(&status); i++)
		usleep(1000);
	printf("uses: ok\n");
}

/*
 * A child of a process that is away was to come home, and is called off: its clone, a child of its
 * parent's ghost, goes without a trace, and does not hold up the end of the ghost.
 */
static void test_called_off(void)
{
	struct init_msg m = {.type = INIT_ARRIVE, .move_id = 0x77, .pid = BORN};
	struct trip t = {0};
	int32_t pid = rig_sleeper(&t);

	m.u.arrive.kind = MOVE_RFORK;
	m.u.arrive.ppid = pid;
	m.u.arrive.pgid = getpgrp();
	m.u.arrive.sid = getsid(0);
	m.u.arrive.home_here = 1;
	my_cred(&m.u.arrive.cred);
	tell(&home, &m, NULL, 0);
	want(&home, EV_READY, 0);
	await_born(false, 0);
	tell(&home, &(struct init_msg){.type = INIT_VOID, .move_id = 0x77, .pid = BORN}, NULL, 0);
	want(&home, EV_VOIDED, 0);
	born(0, pid); /* it goes on there, and this is told again */
	kill_there(pid, SIGTERM);
	relay_child(&node, &home, pid, CLD_KILLED, SIGTERM);
	CHECK(wait_for(pid, 0) == SIGTERM);
	want(&home, EV_MIRRORED, pid);
	printf("called off: ok\n");
}

/*
 * It ran there and has ended, and then a great many other moves were over before the master asks:
 * the answer is that it ran, and how it ended.
 */
static void test_remembered(void)
{
	struct trip t = {0};
	int32_t pid = rig_sleeper(&t);
	struct init_msg m;

	kill_there(pid, SIGTERM);
	relay_child(&node, &home, pid, CLD_KILLED, SIGTERM);
	CHECK(wait_for(pid, 0) == SIGTERM);
	for (uint64_t i = 0; i < 3000; i++) {
		tell(&node, &(struct init_msg){.type = INIT_VOID, .move_id = 0x900000 + i}, NULL,
		     0);
		m = want(&node, EV_VOIDED, 0);
		tell_ack(&node, m.seq);
	}
	tell(&node, &(struct init_msg){.type = INIT_VOID, .move_id = t.id}, NULL, 0);
	want(&node, EV_RAN, pid);
	m = want(&node, EV_CHILD, pid);
	CHECK(m.move_id == t.id && m.u.child.code == CLD_KILLED && m.u.child.status == SIGTERM);
	printf("remembered: ok\n");
}

int main(void)
{
	rig_start();
	test_exit();
	test_signals();
	test_mirrors();
	test_deaths();
	test_looks();
	test_uses();
	test_called_off();
	test_remembered();
	rig_stop();
	return 0;
}
