/*
 * Moves that do not happen, against a synthetic bpslave: the caller gets errno and
 * text, is what it was, and has no child, descriptor or blocked signal too many.
 * Moves that do happen are tested on a lab (test/lab).
 */
#include <check.h>
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
		ck_assert_int_eq(sigismember(&mask, s), sigismember(&mask_before, s));
	/* The connection to the daemon may have been made or lost. */
	ck_assert_int_le(open_fds(), fds_before + new_connections);
	ck_assert_int_eq(waitpid(-1, NULL, WNOHANG), -1);
	ck_assert_int_eq(errno, ECHILD);
}

static void start(const struct fake *f)
{
	fake_start_apart(f);
	note_state();
}

static void ck_error(int ret, int e, const char *text)
{
	int is = errno;

	ck_assert_int_eq(ret, -1);
	ck_assert_int_eq(is, e);
	ck_assert_str_eq(bproc_errtext(), text);
	check_state(1);
}

START_TEST(rfork_refused)
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
END_TEST

START_TEST(rfork_aborted)
{
	start(&(struct fake){.how = FAKE_ABORT_BOTH,
			     .type = LOCAL_MOVE,
			     .err = EACCES,
			     .text = "node 2: no permission"});
	for (int i = 0; i < 20; i++)
		ck_error(bproc_rfork(2), EACCES, "node 2: no permission");
}
END_TEST

/* The daemon ends without an answer; the child knows, and tells. */
START_TEST(rfork_daemon_dies)
{
	start(&(struct fake){.how = FAKE_DIE, .type = LOCAL_MOVE});
	ck_assert_int_eq(bproc_rfork(2), -1);
	ck_assert_int_eq(errno, ECONNRESET);
	check_state(1);
}
END_TEST

START_TEST(move_aborted)
{
	start(&(struct fake){.how = FAKE_ABORT_CHANNEL,
			     .type = LOCAL_MOVE,
			     .err = EAGAIN,
			     .text = "node 2: no room",
			     .self = -1});
	ck_error(bproc_move(2), EAGAIN, "node 2: no room");
	ck_assert_int_eq(bproc_move(-1), 0);
	ck_assert_int_eq(bproc_move(BPROC_NODE_SELF), 0);
	ck_error(_bproc_move(2, 8), EINVAL, "flags 0x8");
	ck_error(bproc_rexec(2, "/bin/true", argv, envp), EAGAIN, "node 2: no room");
	ck_error(bproc_rexec(2, NULL, argv, envp), EINVAL, "bproc_rexec: no command");
}
END_TEST

START_TEST(rexec_too_much)
{
	char *big = malloc(1 << 20), *const args[] = {big, NULL};

	memset(big, 'x', 1 << 20);
	big[(1 << 20) - 1] = '\0';
	start(&(struct fake){.how = FAKE_ABORT_CHANNEL, .type = LOCAL_MOVE});
	ck_assert_int_eq(bproc_rexec(2, "/bin/true", args, envp), -1);
	ck_assert_int_eq(errno, E2BIG);
	check_state(1);
	free(big);
}
END_TEST

START_TEST(execmove_aborted)
{
	start(&(struct fake){.how = FAKE_ABORT_CHANNEL,
			     .type = LOCAL_MOVE,
			     .err = BE_NODEDOWN,
			     .text = "node 1 is down"});
	ck_error(bproc_execmove(1, "/bin/true", argv, envp), BE_NODEDOWN, "node 1 is down");
	ck_error(bproc_execmove(1, NULL, argv, envp), EINVAL, "bproc_execmove: no command");
}
END_TEST

START_TEST(execmove_no_program)
{
	start(&(struct fake){.how = FAKE_GO, .type = LOCAL_MOVE});
	ck_error(bproc_execmove(1, "/nonexistent/x", argv, envp), ENOENT,
		 "/nonexistent/x: No such file or directory");
	ck_error(bproc_execmove(1, "/", argv, envp), EACCES, "/: Permission denied");
}
END_TEST

START_TEST(execmove_daemon_dies)
{
	start(&(struct fake){.how = FAKE_DIE, .type = LOCAL_MOVE});
	ck_error(bproc_execmove(1, "/bin/true", argv, envp), ECONNRESET,
		 "bpinit has ended before the move");
}
END_TEST

START_TEST(vector_calls)
{
	int nodes[3] = {0, 1, 2}, pids[3] = {5, 5, 5};

	start(&(struct fake){.how = FAKE_ABORT_BOTH, .type = LOCAL_MOVE, .err = BE_SLAVEDIED});
	ck_assert_int_eq(bproc_vrfork(3, nodes, pids), 3);
	for (int i = 0; i < 3; i++)
		ck_assert_int_eq(pids[i], -BE_SLAVEDIED);
	ck_assert_int_eq(bproc_vexecmove(3, nodes, pids, "/bin/true", argv, envp), 3);
	for (int i = 0; i < 3; i++)
		ck_assert_int_eq(pids[i], -BE_SLAVEDIED);
	check_state(1);
	ck_assert_int_eq(bproc_vrfork(0, nodes, pids), -1);
	ck_assert_int_eq(errno, EINVAL);
	ck_assert_int_eq(bproc_vexecmove(1, NULL, pids, "/bin/true", argv, envp), -1);
	ck_assert_int_eq(errno, EINVAL);
}
END_TEST

/* A program without stdin, stdout or stderr: nothing of ours may become one of them. */
START_TEST(without_stdio)
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
END_TEST

static volatile int stop;
static void *ask_on(void *unused)
{
	while (!stop)
		if (bproc_numnodes() != 4)
			abort();
	return unused;
}

/* Threads ask while one forks: no answer goes astray, no lock stays taken in the child. */
START_TEST(threads)
{
	pthread_t t[4];
	int status;
	pid_t pid;

	start(&(struct fake){.self = -1});
	for (int i = 0; i < 4; i++)
		ck_assert_int_eq(pthread_create(&t[i], NULL, ask_on, NULL), 0);
	for (int i = 0; i < 100; i++) {
		pid = fork();
		if (pid == 0)
			_exit(bproc_currnode() == -1 && bproc_numnodes() == 4 ? 0 : 1);
		ck_assert_int_eq(waitpid(pid, &status, 0), pid);
		ck_assert_int_eq(status, 0);
	}
	stop = 1;
	for (int i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("api_move");
	TCase *t = tcase_create("no move");
	SRunner *r;
	int failed;

	tcase_set_timeout(t, 20);
	tcase_add_test(t, rfork_refused);
	tcase_add_test(t, rfork_aborted);
	tcase_add_test(t, rfork_daemon_dies);
	tcase_add_test(t, move_aborted);
	tcase_add_test(t, rexec_too_much);
	tcase_add_test(t, execmove_aborted);
	tcase_add_test(t, execmove_no_program);
	tcase_add_test(t, execmove_daemon_dies);
	tcase_add_test(t, vector_calls);
	tcase_add_test(t, without_stdio);
	tcase_add_test(t, threads);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
