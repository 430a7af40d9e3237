/*
 * Proves: kill() on a node reaches every process of the cluster, once, with its
 * sender, and with the kernel's answer; also a group that is spread over all
 * machines, while a member of it roams. What a process on a node makes of its
 * session, group, ids and orphans is so at home. Lab of 2 nodes; root.
 */
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>

#include "check.h"

#define USER 65533
#define MEMBERS_MAX 16
#define ROUNDS 20
#define WAIT_MS 20000
#define MOVES 60
#define ROAMED 99 /* in place of a signal: it has arrived for good */

static char book[PATH_LEN]; /* what arrived where: records, one write each */

struct record {
	int32_t pid, sig, code, from, uid, value;
};

static void put(struct record r)
{
	int fd = open(book, O_WRONLY | O_APPEND);

	if (fd < 0 || write(fd, &r, sizeof(r)) != sizeof(r))
		_exit(90);
	close(fd);
}

/* How many signals pid has noted (sig 0: that it is ready); the last one of them. */
static int count(pid_t pid, int sig, struct record *last)
{
	struct record r;
	int n = 0, fd = open(book, O_RDONLY);

	while (read(fd, &r, sizeof(r)) == sizeof(r)) {
		if (r.pid != pid || r.sig != sig)
			continue;
		n++;
		if (last)
			*last = r;
	}
	close(fd);
	return n;
}

static int count_is(pid_t pid, int sig, int n)
{
	for (int ms = 0; ms < WAIT_MS && count(pid, sig, NULL) < n; ms += 2)
		nap_ms(2);
	return count(pid, sig, NULL);
}

static void handler(int sig, siginfo_t *si, void *uc)
{
	(void)uc;
	put((struct record){getpid(), sig, si->si_code, si->si_pid, (int32_t)si->si_uid,
			    si->si_code == SI_QUEUE ? si->si_value.sival_int : 0});
}

static void take_signals(void)
{
	struct sigaction sa = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_RESTART};

	sigfillset(&sa.sa_mask);
	sigaction(SIGUSR1, &sa, NULL);
	sigaction(SIGRTMIN, &sa, NULL);
}

enum how { STAYS, CHILD, ROAMS };

/* A process of group pgid (0: its own) and user uid on a node, that notes what it gets. */
static pid_t member(int node, pid_t pgid, uid_t uid, enum how how)
{
	pid_t pid;

	fflush(NULL);
	pid = fork();
	if (pid > 0) {
		setpgid(pid, pgid ? pgid : pid);
		return pid;
	}
	setpgid(0, pgid);
	take_signals();
	if (uid && (setgroups(0, NULL) < 0 || setresgid(uid, uid, uid) < 0 ||
		    setresuid(uid, uid, uid) < 0))
		_exit(91);
	if (node >= 0 && bproc_move(node) < 0)
		_exit(92);
	if (how == CHILD && fork() == 0)
		put((struct record){.pid = -getppid(), .value = getpid()});
	put((struct record){.pid = getpid()});
	for (int i = 0; how == ROAMS && i < MOVES; i++) {
		nap_ms(5);
		bproc_move(i % 3 - 1);
	}
	put((struct record){.pid = getpid(), .sig = ROAMED});
	for (;;)
		pause();
}

static pid_t ready(pid_t pid)
{
	MUST(count_is(pid, 0, 1) == 1, "pid %d is ready", pid);
	return pid;
}

static pid_t child_of(pid_t pid)
{
	struct record r = {0};

	MUST(count_is(-pid, 0, 1) == 1, "a child of %d", pid);
	count(-pid, 0, &r);
	return r.value;
}

static void end(pid_t pid)
{
	int status;

	kill(pid, SIGKILL);
	CHECK(waitpid(pid, &status, 0) == pid && WTERMSIG(status) == SIGKILL, "end of %d", pid);
}

/* -- senders: each moves to node 0, and tells by its exit status how it was */

static int sent(pid_t pid)
{
	int s = wait_exit(pid);

	return s == 0 ? 0 : s < 0 ? -1 : s;
}

static pid_t sender(uid_t uid)
{
	pid_t pid;

	fflush(NULL);
	pid = fork();
	if (pid != 0)
		return pid;
	if (uid && (setgroups(0, NULL) < 0 || setresgid(uid, uid, uid) < 0 ||
		    setresuid(uid, uid, uid) < 0))
		_exit(91);
	if (bproc_move(0) < 0)
		_exit(93);
	return 0;
}

#define SEND(pid, uid, expr)                                                                       \
	do {                                                                                       \
		(pid) = sender(uid);                                                               \
		if ((pid) == 0)                                                                    \
			_exit((expr) == 0 ? 0 : errno);                                            \
	} while (0)

static void to_one(int node)
{
	pid_t to = ready(member(node, 0, 0, STAYS)), from;
	union sigval v = {.sival_int = 4711};
	struct record r = {0};

	SEND(from, 0, kill(to, SIGUSR1));
	CHECK(sent(from) == 0, "kill to node %d", node);
	CHECK(count_is(to, SIGUSR1, 1) == 1, "it came");
	count(to, SIGUSR1, &r);
	CHECK(r.from == from && r.uid == 0 && r.code == SI_USER, "sender %d, not %d; code %d",
	      r.from, from, r.code);
	SEND(from, 0, sigqueue(to, SIGRTMIN, v));
	CHECK(sent(from) == 0, "sigqueue to node %d", node);
	CHECK(count_is(to, SIGRTMIN, 1) == 1, "it came");
	count(to, SIGRTMIN, &r);
	CHECK(r.from == from && r.code == SI_QUEUE && r.value == 4711,
	      "sender %d, not %d; code %d, value %d", r.from, from, r.code, r.value);
	SEND(from, 0, kill(to, 0));
	CHECK(sent(from) == 0, "kill(pid, 0)");
	SEND(from, 0, kill(to, 65));
	CHECK(sent(from) == EINVAL, "no such signal");
	SEND(from, USER, kill(to, SIGUSR1));
	CHECK(sent(from) == EPERM, "root's, of a user");
	SEND(from, USER, kill(-to, SIGUSR1));
	CHECK(sent(from) == EPERM, "root's group, of a user");
	end(to);
	SEND(from, 0, kill(to, SIGUSR1));
	CHECK(sent(from) == ESRCH, "it has ended");
	SEND(from, 0, kill(-to, SIGUSR1));
	CHECK(sent(from) == ESRCH, "its group has");
	CHECK(count(to, SIGUSR1, NULL) == 1, "not twice");
}

/* -- a group on all machines */

static void to_group(bool from_within)
{
	pid_t m[MEMBERS_MAX], g = ready(member(-1, 0, 0, STAYS)), from;
	int n = 0;

	m[n++] = g;
	m[n++] = member(-1, g, 0, STAYS);
	for (int node = 0; node < 2; node++) {
		m[n++] = member(node, g, 0, STAYS);
		m[n++] = member(node, g, 0, CHILD);
		m[n] = child_of(m[n - 1]);
		n++;
	}
	m[n++] = member(0, g, 0, ROAMS);
	for (int i = 1; i < n; i++)
		ready(m[i]);
	fflush(NULL);
	from = fork();
	if (from == 0) {
		if (from_within) {
			setpgid(0, g);
			take_signals();
		}
		if (bproc_move(0) < 0)
			_exit(93);
		/* Real-time ones: were one of them to come twice, both would be counted. */
		for (int i = 0; i < ROUNDS; i++) {
			if (kill(from_within ? 0 : -g, SIGRTMIN) < 0)
				_exit(errno);
			if (from_within && count(getpid(), SIGRTMIN, NULL) != i + 1)
				_exit(94); /* one's own is there when kill() returns */
		}
		_exit(0);
	}
	CHECK(sent(from) == 0, "kill to the group");
	for (int i = 0; i < n; i++)
		CHECK(count_is(m[i], SIGRTMIN, ROUNDS) == ROUNDS, "member %d, pid %d: %d of %d", i,
		      m[i], count(m[i], SIGRTMIN, NULL), ROUNDS);
	MUST(count_is(m[n - 1], ROAMED, 1) == 1, "the one that roams has ended its tour");
	nap_ms(100);
	for (int i = 0; i < n; i++)
		CHECK(count(m[i], SIGRTMIN, NULL) == ROUNDS, "member %d has none twice", i);
	for (int i = n - 1; i >= 0; i--) {
		kill(m[i], SIGKILL);
		waitpid(m[i], NULL, 0); /* ECHILD: of those born there */
	}
}

static void to_all_of_user(void)
{
	pid_t m[4] = {member(-1, 0, USER, STAYS), member(0, 0, USER, STAYS),
		      member(1, 0, USER, STAYS), member(0, 0, 0, STAYS)},
	      from;

	for (int i = 0; i < 4; i++)
		ready(m[i]);
	SEND(from, USER, kill(-1, SIGUSR1));
	CHECK(sent(from) == 0, "kill(-1)");
	for (int i = 0; i < 3; i++)
		CHECK(count_is(m[i], SIGUSR1, 1) == 1, "one to each: %d", i);
	nap_ms(50);
	for (int i = 0; i < 4; i++)
		CHECK(count(m[i], SIGUSR1, NULL) == (i < 3), "member %d", i);
	for (int i = 0; i < 4; i++)
		end(m[i]);
}

/* -- what a process on a node makes of itself, seen at home */

static bool ids_are(pid_t pid, unsigned int r, unsigned int e, unsigned int s)
{
	unsigned int id[3] = {0};
	char path[64], line[256];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "Uid: %u %u %u", &id[0], &id[1], &id[2]) == 3)
			break;
	if (f)
		fclose(f);
	return id[0] == r && id[1] == e && id[2] == s;
}

#define SOON(cond, ...)                                                                            \
	do {                                                                                       \
		for (int ms_ = 0; ms_ < WAIT_MS && !(cond); ms_ += 2)                              \
			nap_ms(2);                                                                 \
		CHECK(cond, __VA_ARGS__);                                                          \
	} while (0)

/* May USER send it a signal, as home sees it? */
static bool user_may(pid_t to)
{
	pid_t pid;

	fflush(NULL);
	pid = fork();
	if (pid == 0)
		_exit(setresuid(USER, USER, USER) < 0 || kill(to, 0) < 0);
	return wait_exit(pid) == 0;
}

static void identity(void)
{
	pid_t pid, child, leader;
	struct record r = {0};

	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		if (bproc_move(0) < 0)
			_exit(93);
		child = fork();
		if (child == 0) {
			setsid();
			if (setresuid(USER, USER, USER) < 0)
				_exit(95);
			for (;;)
				pause();
		}
		leader = fork();
		if (leader == 0)
			for (;;)
				pause();
		setpgid(leader, leader);
		put((struct record){.pid = -getpid(), .value = child});
		put((struct record){.pid = -getpid(), .value = leader, .sig = 1});
		setpgid(0, leader);
		if (seteuid(USER) < 0)
			_exit(95);
		for (;;)
			pause();
	}
	child = child_of(pid);
	MUST(count_is(-pid, 1, 1) == 1, "the leader");
	count(-pid, 1, &r);
	leader = r.value;
	SOON(getsid(child) == child, "setsid: session of %d is %d", child, getsid(child));
	SOON(ids_are(child, USER, USER, USER), "setresuid of %d", child);
	SOON(user_may(child), "its user may signal it");
	SOON(getpgid(leader) == leader, "setpgid of a child: %d", getpgid(leader));
	SOON(getpgid(pid) == leader, "setpgid: %d", getpgid(pid));
	SOON(ids_are(pid, 0, USER, 0), "seteuid of %d", pid);
	CHECK(!user_may(pid), "it is root's still");
	kill(child, SIGKILL);
	kill(leader, SIGKILL);
	end(pid);
}

static pid_t parent_of(pid_t pid)
{
	char path[64], line[512] = "";
	pid_t ppid = -1;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	f = fopen(path, "re");
	if (f && fgets(line, sizeof(line), f) && strrchr(line, ')'))
		sscanf(strrchr(line, ')'), ") %*c %d", &ppid);
	if (f)
		fclose(f);
	return ppid;
}

static void subreaper(void)
{
	pid_t pid, orphan;

	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		if (bproc_move(0) < 0 || prctl(PR_SET_CHILD_SUBREAPER, 1) < 0)
			_exit(93);
		if (fork() == 0) {
			orphan = fork();
			if (orphan == 0)
				for (;;)
					pause();
			nap_ms(100); /* home is to know this one */
			put((struct record){.pid = -getppid(), .value = orphan});
			_exit(0);
		}
		for (;;)
			pause();
	}
	orphan = child_of(pid);
	SOON(parent_of(orphan) == pid, "the orphan's parent is %d, not %d", parent_of(orphan), pid);
	kill(orphan, SIGKILL);
	end(pid);
}

/* A set-uid program works where the filter is. */
static void set_uid(void)
{
	char id[96], self[256];
	int home, there;
	pid_t pid;

	snprintf(id, sizeof(id), "%s.id", book);
	snprintf(self, sizeof(self), "cp /usr/bin/id %s && chmod 4755 %s", id, id);
	MUST(system(self) == 0, "a set-uid program");
	for (int node = -1; node < 1; node++) {
		fflush(NULL);
		pid = fork();
		if (pid == 0) {
			snprintf(self, sizeof(self), "test $(%s -u) = 0", id);
			if (setresuid(USER, USER, USER) < 0 || (node >= 0 && bproc_move(node) < 0))
				_exit(93);
			execl("/bin/sh", "sh", "-c", self, NULL);
			_exit(127);
		}
		*(node < 0 ? &home : &there) = wait_exit(pid);
	}
	/* At home it may be a file system without set-uid. */
	CHECK(home == there, "set-uid exec: %d at home, %d on a node", home, there);
	unlink(id);
}

int main(void)
{
	umask(0);
	tmp_path(book, "kills");
	for (int node = 0; node < 2; node++)
		MUST(bproc_chmod(node, 0111) == 0, "a node for everybody");
	close(open(book, O_RDWR | O_CREAT | O_TRUNC, 0666));
	to_one(1);
	to_one(-1);
	to_one(0);
	to_group(false);
	to_group(true);
	to_all_of_user();
	identity();
	subreaper();
	set_uid();
	unlink(book);
	return finish("kills");
}
