/*
 * Proves: signals to a process on a node, its stops and continues, and the ends of
 * others there arrive once and in order, whatever is killed or cut between here and
 * there meanwhile. broken_static [FAULT]. Lab of 2 nodes with a short pingtimeout.
 */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>

#include "check.h"

#define QUEUED 160
#define EVERY_MS 12
#define EXITS 12
#define ROUNDS 3      /* stops and continues, at least */
#define PATIENCE_S 30 /* a fault and its repair */
#define AGAIN_MS 1500 /* in which what was repeated would show */

static const struct fault {
	const char *name, *command;
	bool hops; /* the process moves to and fro meanwhile */
} faults[] = {
	{"nothing", "sleep 1", false},
	{"cut and healed",
	 "bplab cut 0 && until [ \"$(bpstat -s 0)\" = unreachable ]; do sleep 0.05; done;"
	 "bplab heal 0",
	 false},
	{"bpslave of the node killed", "sleep 0.3; bplab restart-slave --kill 0", false},
	{"bpslave at home killed", "sleep 0.3; bplab restart-slave --kill master", false},
	{"bpmaster killed", "sleep 0.3; bplab restart-master --kill", false},
	{"nothing, moving", "sleep 1", true},
	{"bpmaster killed, moving", "sleep 0.3; bplab restart-master --kill", true},
};
/* None of them can be taken for one that the kernel makes here. */
static const int standard[] = {SIGUSR1,	  SIGUSR2, SIGHUP, SIGWINCH, SIGURG,
			       SIGVTALRM, SIGPROF, SIGINT, SIGIO};
#define STANDARD (int)(sizeof(standard) / sizeof(standard[0]))

struct seen {
	int32_t sig, value;
	pid_t pid;
};
static struct seen seen[4 * QUEUED];
static volatile sig_atomic_t nseen;

static void on_signal(int sig, siginfo_t *si, void *uc)
{
	(void)uc;
	if (nseen < (int)(sizeof(seen) / sizeof(seen[0])))
		seen[nseen++] = (struct seen){
			sig, si->si_code == SI_QUEUE ? si->si_value.sival_int : 0, si->si_pid};
}

static void catch_all(void)
{
	struct sigaction sa = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_RESTART};

	sigfillset(&sa.sa_mask);
	sigaction(SIGRTMIN, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
	for (int i = 0; i < STANDARD; i++)
		sigaction(standard[i], &sa, NULL);
}

/* On the node: notes what comes, until TERM; then writes it all down. */
static void note_all(bool hops, const char *path)
{
	int n = 0, node = 0, fd;

	for (bool end = false; !end; n++) {
		nap_ms(20);
		if (hops && n % 20 == 19 && bproc_move(!node) == 0)
			node = !node;
		for (int i = 0; i < nseen; i++)
			end |= seen[i].sig == SIGTERM;
	}
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	if (fd < 0 || write(fd, seen, sizeof(seen[0]) * (size_t)nseen) < 0)
		_exit(1);
	_exit(33);
}

/* waitpid() that gives up, so that the test can say what it waited for. */
static int wait_some(pid_t pid, int options)
{
	double t0 = now_s();
	int s;

	while (now_s() - t0 < PATIENCE_S) {
		if (waitpid(pid, &s, options | WNOHANG) == pid)
			return s;
		nap_ms(5);
	}
	return -1;
}

static void check_seen(const char *path, const char *fault)
{
	static struct seen s[sizeof(seen) / sizeof(seen[0])];
	int fd = open(path, O_RDONLY), next = 0, count[65] = {0}, n;

	n = (int)(read(fd, s, sizeof(s)) / (ssize_t)sizeof(s[0]));
	close(fd);
	unlink(path);
	for (int i = 0; i < n; i++) {
		count[s[i].sig]++;
		CHECK(s[i].pid == getpid(), "%s: signal %d is from %d", fault, s[i].sig, s[i].pid);
		if (s[i].sig != SIGRTMIN)
			continue;
		CHECK(s[i].value == next, "%s: value %d came where %d was due", fault, s[i].value,
		      next);
		next = s[i].value + 1;
	}
	CHECK(next == QUEUED, "%s: %d of %d values came", fault, next, QUEUED);
	for (int i = 0; i < STANDARD; i++)
		CHECK(count[standard[i]] == 1, "%s: signal %d came %d times", fault, standard[i],
		      count[standard[i]]);
	CHECK(count[SIGTERM] == 1, "%s: %d SIGTERMs", fault, count[SIGTERM]);
}

/* A process of its own, with a child on node 0: every stop and every continue once. */
static void stops(const char *fault, int ready, int broken)
{
	pid_t pid = bproc_rfork(0);
	struct pollfd over = {.fd = broken, .events = POLLIN};
	int s, rounds = 0;

	MUST(pid >= 0, "%s: rfork", fault);
	if (pid == 0)
		for (;;)
			pause();
	CHECK(write(ready, "", 1) == 1, "pipe");
	for (; rounds < ROUNDS || poll(&over, 1, 0) == 0; rounds++) {
		CHECK(kill(pid, SIGSTOP) == 0, "kill");
		s = wait_some(pid, WUNTRACED | WCONTINUED);
		CHECK(s >= 0 && WIFSTOPPED(s) && WSTOPSIG(s) == SIGSTOP, "%s: stop %d: %#x", fault,
		      rounds, s);
		CHECK(kill(pid, SIGCONT) == 0, "kill");
		s = wait_some(pid, WUNTRACED | WCONTINUED);
		CHECK(s >= 0 && WIFCONTINUED(s), "%s: continue %d: %#x", fault, rounds, s);
		if (failures)
			break;
		nap_ms(20);
	}
	nap_ms(AGAIN_MS);
	CHECK(waitpid(pid, &s, WUNTRACED | WCONTINUED | WNOHANG) == 0,
	      "%s: %#x after %d stops and continues", fault, s, rounds);
	kill(pid, SIGKILL);
	s = wait_some(pid, 0);
	CHECK(s == SIGKILL, "%s: end: %#x", fault, s);
	_exit(failures != 0);
}

static pid_t ender(int status)
{
	pid_t pid = bproc_rfork(0);

	MUST(pid >= 0, "rfork");
	if (pid == 0) {
		while (nseen == 0)
			nap_ms(5);
		_exit(status);
	}
	return pid;
}

/* On node 0: notes what it is sent. */
static pid_t note_there(const struct fault *f, const char *path)
{
	pid_t pid = fork();

	if (pid == 0) {
		int null = open("/dev/null", O_RDWR);

		/* No streams: this is about what passes between bpinits. */
		for (int i = 0; i < 3; i++)
			dup2(null, i);
		close(null);
		if (bproc_move(0) < 0)
			_exit(2);
		note_all(f->hops, path);
	}
	for (double t0 = now_s(); bproc_pidnode(pid) != 0 && now_s() - t0 < PATIENCE_S;)
		nap_ms(5);
	return pid;
}

static void one(const struct fault *f)
{
	pid_t noter, breaker, stopper, end[EXITS];
	int s, sent = 0, ready[2], broken[2];
	char path[PATH_LEN];

	printf("%s\n", f->name);
	fflush(NULL);
	tmp_path(path, "broken");
	nseen = 0;
	for (int i = 0; i < EXITS; i++)
		end[i] = ender(40 + i);
	noter = note_there(f, path);
	/* Close-on-exec, so that rfork leaves them here. */
	MUST(pipe2(ready, O_CLOEXEC) == 0 && pipe2(broken, O_CLOEXEC) == 0, "pipe");
	stopper = fork();
	if (stopper == 0) {
		close(broken[1]);
		stops(f->name, ready[1], broken[0]);
	}
	close(ready[1]);
	CHECK(read(ready[0], &s, 1) == 1, "pipe");
	breaker = fork();
	if (breaker == 0 && fcntl(broken[1], F_SETFD, 0) == 0)
		execl("/bin/sh", "sh", "-c", f->command, NULL);
	close(ready[0]);
	close(broken[0]);
	close(broken[1]);
	for (int i = 0; i < QUEUED; i++) {
		CHECK(sigqueue(noter, SIGRTMIN, (union sigval){.sival_int = i}) == 0, "sigqueue");
		if (i % 12 == 5 && sent < STANDARD)
			CHECK(kill(noter, standard[sent++]) == 0, "kill");
		if (i % 12 == 11 && i / 12 < EXITS)
			CHECK(kill(end[i / 12], SIGUSR1) == 0, "kill");
		nap_ms(EVERY_MS);
	}
	for (int i = 0; i < EXITS; i++) {
		s = wait_some(end[i], 0);
		CHECK(s == (40 + i) << 8, "%s: end of number %d: %#x", f->name, i, s);
	}
	s = wait_some(breaker, 0);
	CHECK(s == 0, "%s: the fault itself: %#x", f->name, s);
	nap_ms(AGAIN_MS); /* a repeated one is to come before the last one */
	CHECK(kill(noter, SIGTERM) == 0, "kill");
	s = wait_some(noter, 0);
	CHECK(s == 33 << 8, "%s: end: %#x", f->name, s);
	s = wait_some(stopper, 0);
	CHECK(s == 0, "%s: stops: %#x", f->name, s);
	check_seen(path, f->name);
	if (s < 0)
		exit(1);
}

int main(int argc, char **argv)
{
	catch_all();
	for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++)
		if (argc < 2 || strcmp(argv[1], faults[i].name) == 0)
			one(&faults[i]);
	return finish("broken links");
}
