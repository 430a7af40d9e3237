/*
 * Proves: a signal sent to the pid at home reaches the process on its node, once,
 * in order, with number, sender and value; STOP and CONT and the way it died are
 * seen by the parent's waitpid. Lab of 2 nodes.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>

#include "check.h"

#define QUEUED 50

static volatile sig_atomic_t count;

struct seen {
	int sig, code, value;
	pid_t pid;
	uid_t uid;
};

/* Reads signals with sigwaitinfo and writes down what it saw, until TERM. */
static void listen_on(int node, const char *path)
{
	sigset_t set;
	siginfo_t si;
	int fd;

	MUST(bproc_move(node) == 0, "move");
	sigemptyset(&set);
	for (int s = SIGRTMIN; s <= SIGRTMIN + 2; s++)
		sigaddset(&set, s);
	sigaddset(&set, SIGUSR1);
	sigaddset(&set, SIGTERM);
	fd = open(path, O_WRONLY | O_CREAT | O_APPEND, 0600);
	for (;;) {
		struct seen s;

		if (sigwaitinfo(&set, &si) < 0)
			continue;
		s = (struct seen){si.si_signo, si.si_code, si.si_value.sival_int, si.si_pid,
				  si.si_uid};
		if (s.code != SI_QUEUE)
			s.value = 0;
		if (write(fd, &s, sizeof(s)) != sizeof(s))
			_exit(1);
		if (s.sig == SIGTERM)
			_exit(33);
	}
}

static void wait_for_node(pid_t pid, int node)
{
	double t0 = now_s();

	while (bproc_pidnode(pid) != node && now_s() - t0 < 5)
		nap_ms(5);
	CHECK(bproc_pidnode(pid) == node, "pid %d is not on node %d", pid, node);
}

static void queued_in_order(void)
{
	char path[PATH_LEN];
	struct seen s[QUEUED + 2];
	sigset_t all, old;
	ssize_t n;
	pid_t pid;
	int fd;

	tmp_path(path, "signals");
	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, &old);
	fflush(NULL);
	pid = fork();
	if (pid == 0)
		listen_on(0, path);
	sigprocmask(SIG_SETMASK, &old, NULL);
	wait_for_node(pid, 0);
	CHECK(kill(pid, SIGUSR1) == 0, "kill");
	nap_ms(50);
	for (int i = 0; i < QUEUED; i++)
		CHECK(sigqueue(pid, SIGRTMIN + 1, (union sigval){.sival_int = 1000 + i}) == 0,
		      "sigqueue");
	nap_ms(200);
	CHECK(kill(pid, SIGTERM) == 0, "kill");
	CHECK(wait_exit(pid) == 33, "exit status");
	fd = open(path, O_RDONLY);
	n = read(fd, s, sizeof(s));
	close(fd);
	unlink(path);
	MUST(n == (ssize_t)sizeof(s), "%zd signals of %d came", n / (ssize_t)sizeof(s[0]),
	     QUEUED + 2);
	CHECK(s[0].sig == SIGUSR1 && s[0].code == SI_USER, "first: %d code %d", s[0].sig,
	      s[0].code);
	CHECK(s[0].pid == getpid() && s[0].uid == getuid(), "sender is %d, uid %d", s[0].pid,
	      s[0].uid);
	for (int i = 0; i < QUEUED; i++) {
		struct seen *q = &s[1 + i];

		CHECK(q->sig == SIGRTMIN + 1 && q->code == SI_QUEUE && q->value == 1000 + i &&
			      q->pid == getpid(),
		      "number %d: signal %d code %d value %d from %d", i, q->sig, q->code, q->value,
		      q->pid);
	}
	CHECK(s[QUEUED + 1].sig == SIGTERM, "last: %d", s[QUEUED + 1].sig);
}

static pid_t sleeper(int node)
{
	pid_t pid = bproc_rfork(node);

	MUST(pid >= 0, "rfork");
	if (pid == 0)
		for (;;)
			pause();
	return pid;
}

/* In a group of its own, so that a stop by the terminal's signals is possible. */
static pid_t grouped_sleeper(int node)
{
	pid_t pid;

	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		setpgid(0, 0);
		MUST(bproc_move(node) == 0, "move");
		for (;;)
			pause();
	}
	wait_for_node(pid, node);
	return pid;
}

static void stop_and_continue(int sig)
{
	pid_t pid = sig == SIGSTOP ? sleeper(1) : grouped_sleeper(1);
	siginfo_t si = {0};
	int s;

	CHECK(kill(pid, sig) == 0, "kill");
	CHECK(waitpid(pid, &s, WUNTRACED) == pid && WIFSTOPPED(s) && WSTOPSIG(s) == sig,
	      "stop: %#x", s);
	CHECK(waitid(P_PID, (id_t)pid, &si, WEXITED | WNOHANG) == 0 && si.si_pid == 0, "dead");
	CHECK(kill(pid, SIGCONT) == 0, "kill");
	CHECK(waitpid(pid, &s, WCONTINUED) == pid && WIFCONTINUED(s), "cont: %#x", s);
	/* And again: neither may be read back as new. */
	CHECK(kill(pid, sig) == 0 && waitpid(pid, &s, WUNTRACED) == pid && WIFSTOPPED(s),
	      "stop again: %#x", s);
	CHECK(kill(pid, SIGKILL) == 0, "kill");
	s = wait_status(pid);
	CHECK(WIFSIGNALED(s) && WTERMSIG(s) == SIGKILL, "killed while stopped: %#x", s);
}

static void killed_by(int sig)
{
	pid_t pid = sleeper(0);
	int s;

	CHECK(kill(pid, sig) == 0, "kill");
	s = wait_status(pid);
	CHECK(WIFSIGNALED(s) && WTERMSIG(s) == sig, "status %#x, not %d", s, sig);
}

static void on_sig(int sig)
{
	(void)sig;
	count++;
}

/* wait() does not return before the real one is dead. */
static void no_early_death(void)
{
	char path[PATH_LEN];
	pid_t pid;
	int fd;
	off_t size;

	tmp_path(path, "early");
	pid = bproc_rfork(0);
	MUST(pid >= 0, "rfork");
	if (pid == 0) {
		fd = open(path, O_WRONLY | O_CREAT | O_APPEND, 0600);
		for (;;)
			if (write(fd, "x", 1) != 1)
				_exit(1);
	}
	while (access(path, F_OK) < 0)
		nap_ms(5);
	nap_ms(100);
	kill(pid, SIGKILL);
	wait_status(pid);
	fd = open(path, O_RDONLY);
	size = lseek(fd, 0, SEEK_END);
	nap_ms(100);
	CHECK(lseek(fd, 0, SEEK_END) == size, "it wrote on after wait() had returned");
	close(fd);
	unlink(path);
}

/* One that is away signals its parent at home, natively there, forwarded to here. */
static void to_the_parent(void)
{
	pid_t pid;

	signal(SIGUSR2, on_sig);
	count = 0;
	pid = bproc_rfork(1);
	MUST(pid >= 0, "rfork");
	if (pid == 0)
		_exit(kill(getppid(), SIGUSR2) == 0 ? 3 : 4);
	CHECK(wait_exit(pid) == 3, "child");
	for (int i = 0; i < 100 && !count; i++)
		nap_ms(10);
	CHECK(count == 1, "%d signals from the child", (int)count);
}

static void sigchld_once(void)
{
	sigset_t set;
	siginfo_t si;
	struct timespec short_time = {.tv_nsec = 200000000};
	pid_t pid;

	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigprocmask(SIG_BLOCK, &set, NULL);
	pid = bproc_rfork(0);
	MUST(pid >= 0, "rfork");
	if (pid == 0)
		_exit(9);
	CHECK(sigwaitinfo(&set, &si) == SIGCHLD && si.si_pid == pid && si.si_code == CLD_EXITED &&
		      si.si_status == 9,
	      "SIGCHLD: pid %d code %d status %d", si.si_pid, si.si_code, si.si_status);
	CHECK(wait_exit(pid) == 9, "exit status");
	CHECK(sigtimedwait(&set, &si, &short_time) == -1 && errno == EAGAIN, "a second SIGCHLD");
	sigprocmask(SIG_UNBLOCK, &set, NULL);
}

int main(void)
{
	killed_by(SIGTERM);
	killed_by(SIGKILL);
	killed_by(SIGUSR1);
	stop_and_continue(SIGSTOP);
	stop_and_continue(SIGTSTP);
	sigchld_once();
	queued_in_order();
	no_early_death();
	to_the_parent();
	return finish("signals");
}
