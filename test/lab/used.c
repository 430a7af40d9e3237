/*
 * Proves: bproc_wait4() gives what a child has used on the machines where it was, whichever
 * they are, and whoever waits for it wherever; wait4() gives less. Lab of 2 nodes. /proc: births
 * are seen by looking there.
 */
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "check.h"

#define STEP_MS 60	  /* of processor time, at each place; the kernel is asked, not the clock */
#define TICK_MS 10	  /* of /proc/PID/stat, for each place that was left */
#define OWN_MS 45	  /* more than a move, a ghost and a process that does nothing ever use */
#define MEMORY (48 << 20) /* bytes */

static bool by_proc; /* births are seen by looking at /proc, and so may their ends be */

static long cpu_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void work(int ms)
{
	for (long until = cpu_ms() + ms; cpu_ms() < until;)
		;
}

static long used_ms(const struct rusage *ru)
{
	return (ru->ru_utime.tv_sec + ru->ru_stime.tv_sec) * 1000 +
	       (ru->ru_utime.tv_usec + ru->ru_stime.tv_usec) / 1000;
}

/* Its child works at each of these places, and ends at the last one. */
static pid_t traveller(const int *node, int n, int status)
{
	pid_t pid;

	fflush(NULL);
	pid = fork();
	if (pid != 0)
		return pid;
	for (int i = 0; i < n; i++) {
		if (node[i] != bproc_currnode() && bproc_move(node[i]) < 0)
			_exit(99);
		work(STEP_MS);
	}
	_exit(status);
}

/* peak: that of its memory is to be known (bproc_wait4(3), BUGS). */
static void check_used_but(bool peak, pid_t pid, int status, int places, const char *what)
{
	struct rusage ru = {0};
	int s = -1;
	long ms;

	CHECK(bproc_wait4(pid, &s, 0, &ru) == pid, "%s", what);
	CHECK(WIFEXITED(s) && WEXITSTATUS(s) == status, "%s: status %x", what, (unsigned)s);
	ms = used_ms(&ru);
	CHECK(ms >= places * (STEP_MS - TICK_MS) && ms <= places * STEP_MS + OWN_MS,
	      "%s: %ld ms of %d", what, ms, places * STEP_MS);
	CHECK(ru.ru_maxrss > 100 || !peak, "%s: %ld KiB", what, ru.ru_maxrss);
	CHECK(bproc_wait4(pid, &s, WNOHANG, &ru) == -1 && errno == ECHILD, "%s: once", what);
}

static void check_used(pid_t pid, int status, int places, const char *what)
{
	check_used_but(true, pid, status, places, what);
}

static void one_of_each(const char *where)
{
	static const struct {
		int node[5], n;
		const char *what;
	} ways[] = {
		{{BPROC_NODE_MASTER}, 1, "at home alone"},
		{{0}, 1, "on node 0"},
		{{1}, 1, "on node 1"},
		{{BPROC_NODE_MASTER, 0}, 2, "at home, then on node 0"},
		{{0, 1}, 2, "on node 0, then 1"},
		{{0, BPROC_NODE_MASTER}, 2, "on node 0, then at home"},
		{{BPROC_NODE_MASTER, 0, BPROC_NODE_MASTER}, 3, "there and back"},
		{{0, 1, 0}, 3, "to and fro"},
		{{BPROC_NODE_MASTER, 0, 1, BPROC_NODE_MASTER, 1}, 5, "everywhere"},
	};
	char what[80];

	for (size_t i = 0; i < sizeof(ways) / sizeof(*ways); i++) {
		snprintf(what, sizeof(what), "%s, of one %s", where, ways[i].what);
		check_used(traveller(ways[i].node, ways[i].n, 3 + (int)i), 3 + (int)i, ways[i].n,
			   what);
	}
}

/* What its kernel here says is what its ghost has used. */
static void less_by_wait4(void)
{
	struct rusage ru = {0};
	pid_t pid = bproc_rfork(0);
	int s;

	if (pid == 0) {
		work(4 * STEP_MS);
		_exit(0);
	}
	MUST(pid > 0, "rfork");
	CHECK(wait4(pid, &s, 0, &ru) == pid && used_ms(&ru) < 2 * STEP_MS, "%ld ms by wait4()",
	      used_ms(&ru));
}

/* Its children's time is its own once it has waited for them, and its memory is told. */
static void children_and_memory(void)
{
	struct rusage ru = {0};
	pid_t pid = bproc_rfork(1);
	long ms;
	int s;

	if (pid == 0) {
		char *m = mmap(NULL, MEMORY, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			       -1, 0);

		memset(m, 1, MEMORY);
		if (fork() == 0) {
			work(2 * STEP_MS);
			_exit(0);
		}
		wait(NULL);
		bproc_move(0);
		_exit(0);
	}
	MUST(pid > 0, "rfork");
	CHECK(bproc_wait4(-1, &s, 0, &ru) == pid && WIFEXITED(s), "any child");
	ms = used_ms(&ru);
	CHECK(ms >= 2 * STEP_MS - 2 * TICK_MS, "its child's: %ld ms", ms);
	CHECK(ru.ru_maxrss >= MEMORY >> 10, "memory: %ld KiB", ru.ru_maxrss);
}

/* A child born on a node, whose parent has gone home since. */
static void left_behind(void)
{
	pid_t pid;

	MUST(bproc_move(0) == 0, "to node 0");
	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		nap_ms(200);
		work(2 * STEP_MS);
		_exit(9);
	}
	MUST(bproc_move(BPROC_NODE_MASTER) == 0, "home");
	check_used_but(!by_proc, pid, 9, 2, "one that was born on node 0 and left there");
}

static void stops(void)
{
	struct rusage ru;
	pid_t pid = bproc_rfork(0);
	int s = 0;

	if (pid == 0)
		for (;;)
			pause();
	MUST(pid > 0, "rfork");
	CHECK(bproc_wait4(pid, &s, WNOHANG | WUNTRACED, &ru) == 0, "nothing yet");
	kill(pid, SIGSTOP);
	CHECK(bproc_wait4(pid, &s, WUNTRACED, &ru) == pid && WIFSTOPPED(s) &&
		      WSTOPSIG(s) == SIGSTOP,
	      "stopped: %x", (unsigned)s);
	kill(pid, SIGCONT);
	CHECK(bproc_wait4(pid, &s, WCONTINUED, &ru) == pid && WIFCONTINUED(s), "continued: %x",
	      (unsigned)s);
	kill(pid, SIGTERM);
	CHECK(bproc_wait4(0, NULL, 0, &ru) == pid, "ended");
	CHECK(bproc_wait4(-1, &s, 0, &ru) == -1 && errno == ECHILD, "no more");
	CHECK(bproc_wait4(-1, &s, 0x10000, &ru) == -1 && errno == EINVAL, "options");
}

int main(int argc, char **argv)
{
	by_proc = argc > 1 && strcmp(argv[1], "/proc") == 0;
	less_by_wait4();
	children_and_memory();
	stops();
	one_of_each("from home");
	left_behind();
	MUST(bproc_move(0) == 0, "to node 0");
	one_of_each("from node 0");
	return finish("what they used");
}
