/*
 * What a node's bpinit gives to those that run there: pids of the lease, signals
 * with the sender they had at home, credentials of the arrival, relations of the
 * ghosts; what it says when a number is in use, of stops and continues, and of the ends of those
 * that were born there.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bpinit_rig.h"
#include "libbproc/local.h"
#include "libbproc/sysio.h"

static siginfo_t info;
static volatile sig_atomic_t seen;

static void on_signal(int sig, siginfo_t *si, void *uc)
{
	(void)sig;
	(void)uc;
	info = *si;
	seen = 1;
}

static void catch (int sig)
{
	struct sigaction sa = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO};

	CHECK(sigaction(sig, &sa, NULL) == 0);
}

static void await(void)
{
	for (int i = 0; i < 5000 && !seen; i++)
		usleep(1000);
	if (!seen)
		_exit(70);
	seen = 0;
}

static int status_of(int32_t pid)
{
	struct init_msg m = want(&node, EV_CHILD, pid);

	CHECK(m.u.child.code == CLD_EXITED);
	mirror(&home, pid, CLD_EXITED, m.u.child.status);
	CHECK(wait_for(pid, 0) == m.u.child.status << 8);
	return m.u.child.status;
}

/* Children born there have numbers of the slot, however many. */
static void test_lease(void)
{
	struct trip t = {0};
	int32_t pid = rig_rfork(&t);

	if (pid == 0) {
		for (int i = 0; i < 300; i++) {
			pid_t child = fork();

			if (child == 0)
				_exit(0);
			if (child < 65536 || child >= 131072)
				_exit(1);
			waitpid(child, NULL, 0);
		}
		_exit(41);
	}
	trip_send(&t);
	trip_commit(&t);
	CHECK(status_of(pid) == 41);
	printf("lease: ok\n");
}

static void signal_from(int32_t to, int32_t from, uint32_t uid, int code, uint64_t value)
{
	struct init_msg m = {.type = INIT_SIGNAL,
			     .u.signal = {.pid = to,
					  .sender_pid = from,
					  .sender_uid = uid,
					  .code = code,
					  .sig = SIGUSR1,
					  .value = value}};

	tell(&node, &m, NULL, 0);
}

static void test_senders(void)
{
	struct trip t = {0};
	int32_t pid;

	catch (SIGUSR1);
	pid = rig_rfork(&t);
	if (pid == 0) {
		await(); /* 4321 is not here: a postman */
		if (info.si_code != SI_USER || info.si_pid != 4321 || info.si_uid != 65534)
			_exit(1);
		await(); /* the parent's ghost */
		if (info.si_code != SI_USER || info.si_pid != getppid() || info.si_uid != 0)
			_exit(2);
		await();
		if (info.si_code != SI_QUEUE || info.si_pid != 4321 || info.si_uid != 1000 ||
		    info.si_value.sival_int != 9)
			_exit(3);
		await(); /* a thread's; of one that is not here */
		if (info.si_code != SI_TKILL || info.si_pid != 4400)
			_exit(4);
		await(); /* the kernel's: documented as bpinit's */
		if (info.si_code != SI_USER || info.si_pid != 1)
			_exit(5);
		_exit(42);
	}
	trip_send(&t);
	trip_commit(&t);
	signal_from(pid, 4321, 65534, SI_USER, 0);
	usleep(30000);
	signal_from(pid, getpid(), 0, SI_USER, 0);
	usleep(30000);
	signal_from(pid, 4321, 1000, SI_QUEUE, 9);
	usleep(30000);
	signal_from(pid, 4400, 0, SI_TKILL, 0);
	usleep(30000);
	signal_from(pid, 0, 0, SI_KERNEL, 0);
	CHECK(status_of(pid) == 42);
	printf("senders: ok\n");
}

/* A program is opened again where it arrives, by who arrives. */
static bool can_reach_us(uint32_t user)
{
	char path[4096];
	ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 1);
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		path[n > 0 ? n : 0] = '\0';
		_exit(setgroups(0, NULL) < 0 || setgid(user) < 0 || setuid(user) < 0 ||
		      open(path, O_RDONLY | O_CLOEXEC) < 0);
	}
	CHECK(pid > 0 && waitpid(pid, &status, 0) == pid);
	return status == 0;
}

/* An ordinary user arrives as one: no capability, his limits, in his group. */
static void test_credentials(void)
{
	struct trip t = {.as_user = 65534};
	int32_t pid;

	if (!can_reach_us(t.as_user)) {
		printf("credentials: skipped: uid %u cannot reach this program\n", t.as_user);
		return;
	}
	pid = rig_rfork(&t);
	if (pid == 0) {
		char line[128];
		unsigned long long caps = 1;
		FILE *f;

		if (getuid() != 65534 || geteuid() != 65534 || getgid() != 65534)
			_exit(1);
		if (setuid(0) == 0 || kill(1, 0) == 0)
			_exit(2);
		f = fopen("/proc/self/status", "r");
		while (f && fgets(line, sizeof(line), f))
			sscanf(line, "CapEff: %llx", &caps);
		if (caps != 0 || getppid() != t.ppid || getsid(0) != t.sid)
			_exit(3);
		_exit(44);
	}
	trip_send(&t);
	trip_commit(&t);
	CHECK(status_of(pid) == 44);
	printf("credentials: ok\n");
}

/* A relative that has changed its group since it was read whose relative it is. */
static void test_watched(void)
{
	struct init_msg m;
	pid_t pid = fork();

	if (pid == 0)
		for (;;)
			pause();
	CHECK(pid > 0 && setpgid(pid, pid) == 0);
	tell(&home, &(struct init_msg){.type = INIT_WATCH, .pid = pid}, NULL, 0);
	m = want(&home, EV_PLACE, pid);
	CHECK(m.u.place.pgid == pid && m.u.place.sid == getsid(0));
	CHECK(kill(pid, SIGKILL) == 0);
	CHECK(want(&home, EV_CHILD, pid).u.child.status == SIGKILL);
	CHECK(wait_for(pid, 0) == SIGKILL);
	printf("watched: ok\n");
}

/* The number of a process that is there already. */
static void test_in_use(void)
{
	struct trip t = {0};
	struct init_msg m;
	int32_t pid = rig_sleeper(&t);
	int data[2];

	m = (struct init_msg){.type = INIT_ARRIVE, .move_id = 77};
	m.u.arrive.kind = MOVE_RFORK;
	tell(&node, &m, NULL, 0);
	want(&node, EV_READY, 0);
	CHECK(pipe2(data, O_CLOEXEC) == 0);
	m = (struct init_msg){.type = INIT_DATA, .move_id = 77, .u.data.pid = pid};
	tell(&node, &m, &data[0], 1);
	m = want(&node, EV_FAILED, 0);
	printf("  %s\n", m.u.text);
	CHECK(m.err == EEXIST && strstr(m.u.text, "in use"));
	close(data[0]);
	close(data[1]);
	/* The end of the line for everything there, as when a node is cut off. */
	tell(&node, &(struct init_msg){.type = INIT_FENCE}, NULL, 0);
	CHECK(want(&node, EV_CHILD, pid).u.child.status == SIGKILL);
	mirror(&home, pid, CLD_KILLED, SIGKILL);
	CHECK(wait_for(pid, 0) == SIGKILL);
	/* On the front end nothing of the kind. */
	tell(&home, &(struct init_msg){.type = INIT_FENCE}, NULL, 0);
	printf("in use, fence: ok\n");
}

static void ended(int32_t pid, int code, int status)
{
	struct init_msg m = {.type = INIT_ENDED, .pid = pid};

	m.u.child = (struct chan_child){.pid = pid, .code = code, .status = status};
	tell(&node, &m, NULL, 0);
}

/* The number here of one that is real on the node. */
static int32_t number_here(int32_t pid)
{
	char cmd[128];
	int here = 0;
	FILE *f;

	snprintf(cmd, sizeof(cmd), "sed -n 's/^NSpid:\t\\([0-9]*\\)\t%d$/\\1/p' /proc/[0-9]*/status",
		 pid);
	f = popen(cmd, "r");
	CHECK(f && fscanf(f, "%d", &here) == 1 && here > 0);
	pclose(f);
	return here;
}

static void await_state(int32_t here, bool stopped)
{
	char path[32], text[512];

	snprintf(path, sizeof(path), "/proc/%d/stat", here);
	for (int i = 0; i < 5000; i++, usleep(1000)) {
		int fd = open(path, O_RDONLY);
		ssize_t n = read(fd, text, sizeof(text) - 1);

		close(fd);
		text[n > 0 ? n : 0] = '\0';
		if (strrchr(text, ')') && (strrchr(text, ')')[2] == 'T') == stopped)
			return;
	}
	CHECK(!"in that state in time");
}

/*
 * Its parent, which was real there too, has left: bpslave has told that it stopped and went on, and
 * now the ghost of its parent says that it has stopped, which is over.
 */
static void test_late_stop(void)
{
	struct ucred bpinit;
	socklen_t len = sizeof(bpinit);
	struct trip t = {0};
	int32_t pid = rig_sleeper(&t), here;
	struct init_msg m;

	here = number_here(pid);
	ended(pid, CLD_STOPPED, SIGSTOP);
	ended(pid, CLD_CONTINUED, SIGCONT);
	CHECK(want(&node, EV_CHILD, pid).u.child.code == CLD_STOPPED);
	CHECK(want(&node, EV_CHILD, pid).u.child.code == CLD_CONTINUED);
	CHECK(getsockopt(node.sock, SOL_SOCKET, SO_PEERCRED, &bpinit, &len) == 0);
	CHECK(kill(bpinit.pid, SIGSTOP) == 0);
	await_state(bpinit.pid, true);
	CHECK(kill(here, SIGSTOP) == 0);
	await_state(here, true);
	usleep(50000); /* the ghost reads it */
	CHECK(kill(here, SIGCONT) == 0);
	await_state(here, false);
	usleep(50000);
	CHECK(kill(bpinit.pid, SIGCONT) == 0);
	CHECK(kill(here, SIGTERM) == 0);
	do {
		m = want(&node, EV_CHILD, pid);
		CHECK(m.u.child.code != CLD_STOPPED);
	} while (m.u.child.code == CLD_CONTINUED);
	mirror(&home, pid, CLD_KILLED, SIGTERM);
	CHECK(wait_for(pid, 0) == SIGTERM);
	want(&home, EV_MIRRORED, pid);
	printf("a late stop: ok\n");
}

/*
 * The end of one that was born there, whom bpinit does not know: kept, and told again before the
 * state, until it is acknowledged.
 */
static void test_born_end(void)
{
	struct trip t = {0};
	int32_t pid = rig_rfork(&t), born;
	struct init_msg m;

	if (pid == 0) {
		if (fork() == 0) {
			while (getppid() != 1)
				usleep(1000);
			_exit(5);
		}
		_exit(45);
	}
	trip_send(&t);
	trip_commit(&t);
	CHECK(status_of(pid) == 45);
	do
		m = want(&node, EV_CHILD, 0);
	while (!(m.flags & EVF_NATIVE) || m.u.child.status != 5);
	born = m.pid;
	CHECK(born >= 65536 && born < 131072);
	for (int i = 0; i < 2; i++) {
		side_drop(&node);
		side_connect(&node);
		do {
			m = want(&node, EV_CHILD, 0);
			CHECK(m.flags & EVF_NATIVE); /* the others come behind the state */
		} while (m.pid != born);
		CHECK(m.u.child.status == 5 && m.seq > 0);
		want(&node, EV_STATE_END, 0);
	}
	side_drop(&node);
	side_connect(&node);
	m = want(&node, EV_CHILD, born);
	want(&node, EV_STATE_END, 0);
	tell_ack(&node, m.seq);
	side_drop(&node);
	side_connect(&node);
	do {
		m = want(&node, EV_CHILD, 0);
		CHECK(m.pid != born);
	} while (m.pid != pid);
	printf("the end of one born there: ok\n");
}

int main(void)
{
	rig_start();
	test_lease();
	test_senders();
	test_credentials();
	test_watched();
	test_late_stop();
	test_born_end();
	test_in_use();
	rig_stop();
	return 0;
}
