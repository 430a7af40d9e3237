/*
 * Node and process queries of libbproc against a synthetic bpslave: values, every
 * error, what a daemon that ends in the middle of a call leaves.
 */
#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <bproc.h>

#include "api_fake.h"
#include "libbproc/local.h"

static const struct fake plain = {.self = -1};

static void start(void)
{
	fake_start(&plain);
}

#define ck_fails(call, e, word)                                                                    \
	do {                                                                                       \
		errno = 0;                                                                         \
		ck_assert_int_eq((call), -1);                                                      \
		ck_assert_int_eq(errno, (e));                                                      \
		ck_assert_msg(strstr(bproc_errtext(), (word)) != NULL, "text is \"%s\"",           \
			      bproc_errtext());                                                    \
	} while (0)

START_TEST(values)
{
	struct bproc_node_info_t info;
	struct bproc_version_t v;
	struct sockaddr_in a;
	char s[16], why[8];
	int size = sizeof(a);

	ck_assert_int_eq(bproc_numnodes(), 4);
	ck_assert_int_eq(bproc_currnode(), -1);
	ck_assert_int_eq(bproc_nodestatus(3, s, sizeof(s)), 5);
	ck_assert_str_eq(s, "error");
	memset(s, 'x', sizeof(s));
	ck_assert_int_eq(bproc_nodestatus(3, s, 3), 3);
	ck_assert_int_eq(memcmp(s, "errxx", 5), 0);
	ck_assert_int_eq(bproc_nodestatus(3, s, 0), 0);
	ck_assert_int_eq(bproc_nodeinfo(2, &info), 0);
	ck_assert_int_eq(info.node, 2);
	ck_assert_uint_eq(info.mode, 0010);
	ck_assert_uint_eq(info.user, 1);
	ck_assert_uint_eq(info.group, 7);
	ck_assert_str_eq(info.status, "up");
	ck_assert_int_eq(bproc_nodeaddr(2, (struct sockaddr *)&a, &size), 0);
	ck_assert_uint_eq(a.sin_addr.s_addr, htonl(0x0a000003));
	ck_assert_int_eq(size, sizeof(a));
	ck_assert_int_eq(bproc_version(&v), 0);
	ck_assert_str_eq(v.version_string, "9.8.7");
	ck_assert_int_eq(memcmp(v.bproc_magic, "BPr", 3), 0);
	ck_assert_int_eq(bproc_nodereason(1, why, sizeof(why)), 9);
	ck_assert_str_eq(why, "wrong k");
	ck_assert_int_eq(bproc_nodereason(0, NULL, 0), 0);
	ck_assert_int_eq(bproc_nodestatus(BPROC_NODE_SELF, s, sizeof(s)), 2);
}
END_TEST

START_TEST(processes)
{
	struct bproc_proc_info_t *list = NULL;

	fake_stop();
	fake_start(&(struct fake){.self = -1, .nprocs = 3 * LOCAL_PROCS_PAGE + 5});
	ck_assert_int_eq(bproc_proclist(BPROC_NODE_ANY, &list), 3 * LOCAL_PROCS_PAGE + 5);
	for (int i = 0; i < 3 * LOCAL_PROCS_PAGE + 5; i++)
		ck_assert_int_eq(list[i].pid, 1000 + i);
	free(list);
	ck_assert_int_eq(bproc_proclist(1, &list), LOCAL_PROCS_PAGE + 2);
	ck_assert_int_eq(list[1].node, 1);
	free(list);
	ck_assert_int_eq(bproc_proclist(77, &list), 0);
	ck_assert_ptr_null(list);
	ck_assert_int_eq(bproc_proclist(BPROC_NODE_SELF, &list), 0);
	ck_assert_int_eq(bproc_pidnode(1500), 2);
	errno = 0;
	ck_assert_int_eq(bproc_pidnode(1), -1);
	ck_assert_int_eq(errno, 0);
	ck_fails(bproc_pidnode(99), BE_INVALIDPROC, "99");
	/* Nobody is nowhere, also where the caller is. */
	ck_fails(bproc_movepid(4194303, BPROC_NODE_SELF, 0), ESRCH, "4194303");
	ck_fails(bproc_movepid(0, BPROC_NODE_SELF, 0), ESRCH, "0");
	ck_fails(bproc_movepid(-1, BPROC_NODE_MASTER, 0), ESRCH, "-1");
}
END_TEST

START_TEST(bad_arguments)
{
	struct bproc_node_info_t info;
	struct sockaddr a;
	char s[16], name[] = "9up", spaced[] = "u p", empty[] = "", lng[] = "abcdefghijklmnop";
	int size = sizeof(a);

	ck_fails(bproc_nodestatus(4, s, sizeof(s)), BE_INVALIDNODE, "node 4");
	ck_fails(bproc_nodeinfo(-7, &info), BE_INVALIDNODE, "node -7");
	ck_fails(bproc_nodeinfo(1, NULL), EINVAL, "bproc_nodeinfo");
	ck_fails(bproc_nodestatus(0, NULL, 4), EINVAL, "bproc_nodestatus");
	ck_fails(bproc_nodestatus(0, s, -1), EINVAL, "bproc_nodestatus");
	ck_fails(bproc_nodeaddr(1, &a, &size), BE_NODEDOWN, "node 1");
	ck_fails(bproc_nodeaddr(0, NULL, &size), EINVAL, "bproc_nodeaddr");
	ck_fails(bproc_nodelist(NULL), EINVAL, "bproc_nodelist");
	ck_fails(bproc_proclist(0, NULL), EINVAL, "bproc_proclist");
	ck_fails(bproc_version(NULL), EINVAL, "bproc_version");
	ck_fails(bproc_access(0, 2), EINVAL, "mode 2");
	ck_fails(bproc_chmod(0, 0644), EINVAL, "0644");
	ck_fails(bproc_nodesetstatus(0, name), EINVAL, "9up");
	ck_fails(bproc_nodesetstatus(0, spaced), EINVAL, "u p");
	ck_fails(bproc_nodesetstatus(0, empty), EINVAL, "\"\"");
	ck_fails(bproc_nodesetstatus(0, lng), ENOSPC, "abcdefghijklmnop");
}
END_TEST

/* What bproc_access(2) says to another user, as text: the test itself must stay root. */
static void access_as(uid_t uid, gid_t gid, gid_t more, int e)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		if (setgroups(1, &more) || setgid(gid) || setuid(uid))
			_exit(100);
		errno = 0;
		bproc_access(2, BPROC_X_OK);
		_exit(errno);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(status, W_EXITCODE(e, 0));
}

START_TEST(permissions)
{
	ck_assert_int_eq(bproc_access(0, BPROC_X_OK), 0);
	ck_assert_int_eq(bproc_access(-1, BPROC_X_OK), 0);
	ck_fails(bproc_access(1, BPROC_X_OK), EACCES, "node 1");
	if (getuid() != 0)
		return;
	ck_assert_int_eq(bproc_access(2, BPROC_X_OK), 0);
	/* The owner has no bit, and is not asked as one of the group. */
	access_as(1, 7, 7, EACCES);
	access_as(5, 7, 9, 0);
	access_as(5, 9, 7, 0);
	access_as(5, 9, 9, EACCES);
}
END_TEST

START_TEST(setting)
{
	char up[] = "up";
	unsigned char seen[4];

	ck_assert_int_eq(bproc_chmod(0, 0110), 0);
	ck_assert_int_eq(bproc_chown(0, 5), 0);
	ck_assert_int_eq(bproc_chgrp(0, 5), 0);
	ck_assert_int_eq(bproc_nodesetstatus(0, up), 0);
	ck_assert_int_eq(fake_seen(seen, 4), 4);
	for (int i = 0; i < 4; i++)
		ck_assert_int_eq(seen[i], LOCAL_SETNODE);
	fake_stop();
	fake_start(&(struct fake){.how = FAKE_REFUSE,
				  .type = LOCAL_SETNODE,
				  .err = EPERM,
				  .text = "node 0: only root may"});
	ck_fails(bproc_nodesetstatus(0, up), EPERM, "only root may");
}
END_TEST

/* Each call, when the daemon is not there or answers nonsense. */
static void all_fail(int e, const char *word)
{
	struct bproc_node_set_t ns = {7, 7, NULL};
	struct bproc_proc_info_t *list = (void *)&ns;
	struct bproc_version_t v;
	char s[16], up[] = "up";

	ck_fails(bproc_numnodes(), e, word);
	ck_fails(bproc_currnode(), e, word);
	ck_fails(bproc_nodestatus(0, s, sizeof(s)), e, word);
	ck_fails(bproc_nodelist(&ns), e, word);
	ck_assert_int_eq(ns.size, 7);
	ck_fails(bproc_proclist(0, &list), e, word);
	ck_assert_ptr_eq(list, &ns);
	ck_fails(bproc_pidnode(1), e, word);
	if (e != EPROTO || strstr(word, "version")) {
		ck_fails(bproc_version(&v), e, word);
		ck_fails(bproc_nodesetstatus(0, up), e, word);
	}
}

START_TEST(absent)
{
	fake_stop();
	all_fail(ENOSYS, "not set up");
	/* Without BProc this machine is the front end. */
	ck_assert_int_eq(bproc_move(BPROC_NODE_MASTER), 0);
	ck_fails(bproc_rfork(0), ENOSYS, "not set up");
	ck_fails(bproc_move(0), ENOSYS, "not set up");
	ck_fails(bproc_execmove(0, "/bin/true", (char *[]){NULL}, NULL), ENOSYS, "not set up");
	ck_fails(bproc_rexec(0, "/bin/true", (char *[]){NULL}, NULL), ENOSYS, "not set up");
}
END_TEST

/* It was stopped, and took its socket away: bpinit's is there, so BProc is set up. */
START_TEST(not_running)
{
	char path[128];

	fake_stop();
	fake_run_dir();
	snprintf(path, sizeof(path), "%s/init.sock", getenv("BPROC_RUN_DIR"));
	ck_assert_int_ge(close(creat(path, 0600)), 0);
	all_fail(ECONNREFUSED, "not running");
	unlink(path);
	rmdir(getenv("BPROC_RUN_DIR"));
}
END_TEST

static void *start_later(void *arg)
{
	usleep(300000);
	fake_restart(&(struct fake){.how = FAKE_ANSWER});
	return arg;
}

/* Killed in the middle of a call: another one is waited for. If none comes, the call fails. */
START_TEST(killed)
{
	pthread_t starter;

	fake_stop();
	fake_start(&(struct fake){.how = FAKE_DIE});
	if (_i == 0) {
		ck_fails(bproc_numnodes(), ECONNREFUSED, "not running");
		return;
	}
	ck_assert_int_eq(pthread_create(&starter, NULL, start_later, NULL), 0);
	ck_assert_int_eq(bproc_numnodes(), 4);
	pthread_join(starter, NULL);
}
END_TEST

START_TEST(nonsense)
{
	static const enum fake_how how[] = {FAKE_CUT, FAKE_WRONG_LEN, FAKE_WRONG_VERSION};
	static const char *const word[] = {"length", "length", "version"};

	fake_stop();
	fake_start(&(struct fake){.how = how[_i]});
	all_fail(EPROTO, word[_i]);
}
END_TEST

START_TEST(restarted)
{
	unsigned char seen[3];

	ck_assert_int_eq(bproc_numnodes(), 4);
	/* The cached connection is stale: a new one is made without a word. */
	fake_stop();
	fake_run_dir();
	fake_restart(&plain);
	ck_assert_int_eq(bproc_numnodes(), 4);
	fake_stop();
	fake_start(&(struct fake){.how = FAKE_DIE_ONCE});
	ck_assert_int_eq(bproc_numnodes(), 4);
	ck_assert_int_eq(fake_seen(seen, 2), 2);
}
END_TEST

START_TEST(stale_answer)
{
	fake_stop();
	fake_start(&(struct fake){.how = FAKE_STALE_FIRST, .self = 3});
	ck_assert_int_eq(bproc_currnode(), 3);
}
END_TEST

/* A program that closes what it does not know must not get our packets into its files. */
START_TEST(closed_behind_our_back)
{
	struct stat st;
	int found = 0;

	ck_assert_int_eq(bproc_numnodes(), 4);
	for (int i = 3; i < 20; i++) {
		if (fstat(i, &st) < 0 || !S_ISSOCK(st.st_mode))
			continue;
		close(i);
		found = open("/tmp", O_TMPFILE | O_RDWR, 0600);
		ck_assert_int_eq(found, i);
		break;
	}
	ck_assert_int_gt(found, 0);
	ck_assert_int_eq(bproc_numnodes(), 4);
	ck_assert_int_eq(lseek(found, 0, SEEK_END), 0);
}
END_TEST

START_TEST(after_fork)
{
	int status;
	pid_t pid;

	ck_assert_int_eq(bproc_numnodes(), 4);
	pid = fork();
	if (pid == 0) {
		for (int i = 0; i < 100; i++)
			if (bproc_numnodes() != 4)
				_exit(1);
		_exit(0);
	}
	for (int i = 0; i < 100; i++)
		ck_assert_int_eq(bproc_currnode(), -1);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(status, 0);
}
END_TEST

START_TEST(large_table)
{
	struct bproc_node_set_t ns;

	fake_stop();
	fake_start(&(struct fake){.nnodes = LOCAL_NODES_MAX - 1});
	ck_assert_int_eq(bproc_nodelist(&ns), LOCAL_NODES_MAX - 1);
	for (int i = 0; i < ns.size; i++)
		ck_assert_int_eq(ns.node[i].node, i);
	bproc_nodeset_free(&ns);
}
END_TEST

START_TEST(no_descriptor)
{
	struct rlimit r = {3, 3};
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		closefrom(3);
		setrlimit(RLIMIT_NOFILE, &r);
		_exit(bproc_numnodes() == -1 && errno == EMFILE ? 0 : 1);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(status, 0);
}
END_TEST

START_TEST(texts)
{
	errno = 77;
	ck_assert_str_eq(bproc_strerror(BE_NODEDOWN), bproc_strerror(-BE_NODEDOWN));
	ck_assert_str_eq(bproc_strerror(ENOENT), strerror(ENOENT));
	ck_assert_str_eq(bproc_strerror(-ENOENT), strerror(ENOENT));
	for (int e = BE_INVALIDNODE; e <= BE_INVALIDPROC; e++)
		ck_assert_ptr_null(strstr(bproc_strerror(e), "Unknown"));
	ck_assert_ptr_nonnull(strstr(bproc_strerror(299), "299"));
	ck_assert_ptr_nonnull(strstr(bproc_strerror(305), "305"));
	ck_assert_ptr_nonnull(bproc_strerror(-2147483647 - 1));
	ck_assert_int_eq(errno, 77);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("api_node");
	TCase *t = tcase_create("fake bpslave");
	SRunner *r;
	int failed;

	tcase_add_checked_fixture(t, start, fake_stop);
	tcase_set_timeout(t, 30);
	tcase_add_test(t, values);
	tcase_add_test(t, processes);
	tcase_add_test(t, bad_arguments);
	tcase_add_test(t, permissions);
	tcase_add_test(t, setting);
	tcase_add_test(t, absent);
	tcase_add_test(t, not_running);
	tcase_add_loop_test(t, killed, 0, 2);
	tcase_add_loop_test(t, nonsense, 0, 3);
	tcase_add_test(t, restarted);
	tcase_add_test(t, stale_answer);
	tcase_add_test(t, closed_behind_our_back);
	tcase_add_test(t, after_fork);
	tcase_add_test(t, large_table);
	tcase_add_test(t, no_descriptor);
	tcase_add_test(t, texts);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
