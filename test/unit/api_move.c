/*
 * Moves that do not happen, against a synthetic bpslave: the caller gets errno and
 * text, is what it was, and has no child, descriptor or blocked signal too many.
 * Moves that do happen are tested on a lab (test/lab).
 *
 * The images are made before the answer comes, so nothing may be open here that no
 * image can carry: not Check's files, and no sanitizer's shadow. Each test is a
 * child with stdin, stdout and stderr.
 */
#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <bproc.h>

#include "api_fake.h"
#include "libbproc/local.h"

#define need(ok)                                                                                   \
	do {                                                                                       \
		if (!(ok)) {                                                                       \
			dprintf(2, "line %d: not %s: %s (%s)\n", __LINE__, #ok, strerror(errno),   \
				bproc_errtext());                                                  \
			_exit(1);                                                                  \
		}                                                                                  \
	} while (0)

static char *const argv[] = {(char *)(uintptr_t) "prog", NULL};
static char *const envp[] = {(char *)(uintptr_t) "A=b", NULL};

static int open_fds(void)
{
	DIR *d = opendir("/proc/self/fd");
	int n = 0;

	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

static int nchld;
static void on_chld(int sig)
{
	(void)sig;
	nchld++;
}

/* What has to be as it was after every failure. */
static int fds_before;
static sigset_t mask_before;
static void note_state(void)
{
	fds_before = open_fds();
	sigprocmask(SIG_SETMASK, NULL, &mask_before);
}

static void check_state(int new_connections)
{
	sigset_t mask;

	sigprocmask(SIG_SETMASK, NULL, &mask);
	for (int s = 1; s < 65; s++)
		need(sigismember(&mask, s) == sigismember(&mask_before, s));
	/* The connection to the daemon may have been made or lost. */
	need(open_fds() <= fds_before + new_connections);
	need(waitpid(-1, NULL, WNOHANG) == -1);
	need(errno == ECHILD);
}

static void start(const struct fake *f)
{
	fake_start_apart(f);
	note_state();
}

static void ck_error(int ret, int e, const char *text)
{
	int is = errno;

	need(ret == -1);
	need(is == e);
	need(strcmp(bproc_errtext(), text) == 0);
	check_state(1);
}

static void rfork_refused(void)
{
	signal(SIGCHLD, on_chld);
	start(&(struct fake){.how = FAKE_REFUSE,
			     .type = LOCAL_MOVE,
			     .err = BE_NODEDOWN,
			     .text = "node 1 is down"});
	for (int i = 0; i < 50; i++) {
		ck_error(bproc_rfork(1), BE_NODEDOWN, "node 1 is down");
		ck_error(_bproc_rfork(1, BPROC_DUMP_ALL), BE_NODEDOWN, "node 1 is down");
	}
}

static void rfork_aborted(void)
{
	start(&(struct fake){.how = FAKE_ABORT_BOTH,
			     .type = LOCAL_MOVE,
			     .err = EACCES,
			     .text = "node 2: no permission"});
	for (int i = 0; i < 20; i++)
		ck_error(bproc_rfork(2), EACCES, "node 2: no permission");
}

/* The daemon ends without an answer; the child knows, and tells. */
static void rfork_daemon_dies(void)
{
	start(&(struct fake){.how = FAKE_DIE, .type = LOCAL_MOVE});
	need(bproc_rfork(2) == -1);
	need(errno == ECONNRESET);
	check_state(1);
}

/*
 * The same of a daemon that is restarted, and the child is called off later: that nobody knows of
 * it meanwhile does not mean that it is at home.
 */
static void rfork_home_daemon_restarts(void)
{
	start(&(struct fake){.how = FAKE_DIE_ONCE, .type = LOCAL_MOVE});
	need(bproc_rfork(-1) == -1);
	need(errno == ECONNRESET);
	check_state(1);
}

static void move_aborted(void)
{
	start(&(struct fake){.how = FAKE_ABORT_CHANNEL,
			     .type = LOCAL_MOVE,
			     .err = EAGAIN,
			     .text = "node 2: no room",
			     .self = -1});
	ck_error(bproc_move(2), EAGAIN, "node 2: no room");
	need(bproc_move(-1) == 0);
	need(bproc_move(BPROC_NODE_SELF) == 0);
	ck_error(_bproc_move(2, 8), EINVAL, "flags 0x8");
	ck_error(bproc_rexec(2, "/bin/true", argv, envp), EAGAIN, "node 2: no room");
	ck_error(bproc_rexec(2, NULL, argv, envp), EINVAL, "bproc_rexec: no command");
}

static void rexec_too_much(void)
{
	char *big = malloc(1 << 20), *const args[] = {big, NULL};

	memset(big, 'x', 1 << 20);
	big[(1 << 20) - 1] = '\0';
	start(&(struct fake){.how = FAKE_ABORT_CHANNEL, .type = LOCAL_MOVE});
	need(bproc_rexec(2, "/bin/true", args, envp) == -1);
	need(errno == E2BIG);
	check_state(1);
	free(big);
}

static void execmove_aborted(void)
{
	start(&(struct fake){.how = FAKE_ABORT_CHANNEL,
			     .type = LOCAL_MOVE,
			     .err = BE_NODEDOWN,
			     .text = "node 1 is down"});
	ck_error(bproc_execmove(1, "/bin/true", argv, envp), BE_NODEDOWN, "node 1 is down");
	ck_error(bproc_execmove(1, NULL, argv, envp), EINVAL, "bproc_execmove: no command");
}

static void execmove_no_program(void)
{
	start(&(struct fake){.how = FAKE_GO, .type = LOCAL_MOVE});
	ck_error(bproc_execmove(1, "/nonexistent/x", argv, envp), ENOENT,
		 "/nonexistent/x: No such file or directory");
	ck_error(bproc_execmove(1, "/", argv, envp), EACCES, "/: Permission denied");
}

static void execmove_daemon_dies(void)
{
	start(&(struct fake){.how = FAKE_DIE, .type = LOCAL_MOVE});
	ck_error(bproc_execmove(1, "/bin/true", argv, envp), ECONNRESET,
		 "bpinit has ended before the move");
}

static void vector_calls(void)
{
	int nodes[3] = {0, 1, 2}, pids[3] = {5, 5, 5};

	start(&(struct fake){.how = FAKE_ABORT_BOTH, .type = LOCAL_MOVE, .err = BE_SLAVEDIED});
	need(bproc_vrfork(3, nodes, pids) == 3);
	for (int i = 0; i < 3; i++)
		need(pids[i] == -BE_SLAVEDIED);
	need(bproc_vexecmove(3, nodes, pids, "/bin/true", argv, envp) == 3);
	for (int i = 0; i < 3; i++)
		need(pids[i] == -BE_SLAVEDIED);
	check_state(1);
	need(bproc_vrfork(0, nodes, pids) == -1);
	need(errno == EINVAL);
	need(bproc_vexecmove(1, NULL, pids, "/bin/true", argv, envp) == -1);
	need(errno == EINVAL);
}

/* A program without stdin, stdout or stderr: nothing of ours may become one of them. */
static void without_stdio(void)
{
	start(&(struct fake){.how = FAKE_ABORT_BOTH, .type = LOCAL_MOVE, .err = EAGAIN});
	for (int i = 0; i < 3; i++)
		close(i);
	if (bproc_rfork(0) != -1 || errno != EAGAIN || bproc_numnodes() != 4)
		_exit(1);
	for (int i = 0; i < 3; i++)
		if (close(i) == 0)
			_exit(2 + i);
	_exit(0);
}

static volatile int stop;
static void *ask_on(void *unused)
{
	while (!stop)
		if (bproc_numnodes() != 4)
			abort();
	return unused;
}

/* Threads ask while one forks: no answer goes astray, no lock stays taken in the child. */
static void threads(void)
{
	pthread_t t[4];
	int status;
	pid_t pid;

	start(&(struct fake){.self = -1});
	for (int i = 0; i < 4; i++)
		need(pthread_create(&t[i], NULL, ask_on, NULL) == 0);
	for (int i = 0; i < 100; i++) {
		pid = fork();
		if (pid == 0)
			_exit(bproc_currnode() == -1 && bproc_numnodes() == 4 ? 0 : 1);
		need(waitpid(pid, &status, 0) == pid);
		need(status == 0);
	}
	stop = 1;
	for (int i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
}

static const struct {
	const char *name;
	void (*run)(void);
} tests[] = {
#define TEST(t)                                                                                    \
	{                                                                                          \
#t, t                                                                              \
	}
	TEST(rfork_refused),
	TEST(rfork_aborted),
	TEST(rfork_daemon_dies),
	TEST(rfork_home_daemon_restarts),
	TEST(move_aborted),
	TEST(rexec_too_much),
	TEST(execmove_aborted),
	TEST(execmove_no_program),
	TEST(execmove_daemon_dies),
	TEST(vector_calls),
	TEST(without_stdio),
	TEST(threads),
#undef TEST
};

int main(void)
{
	int bad = 0, status;
	pid_t pid;

	for (size_t i = 0; i < sizeof(tests) / sizeof(tests[0]); i++) {
		pid = fork();
		if (pid == 0) {
			closefrom(3);
			alarm(20);
			tests[i].run();
			_exit(0);
		}
		status = fake_wait(pid);
		printf("%s - %s\n", status ? "NOT OK" : "ok", tests[i].name);
		bad |= status;
	}
	return bad != 0;
}
