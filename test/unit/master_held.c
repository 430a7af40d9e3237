/*
 * Proves: a master that has just been started answers no question from tables that are not whole.
 * Where a process is, which there are, a change of a node wait until those are back that the last
 * one had, and have told; at most until they are given up.
 */
#include <check.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "include/sys/bproc.h"
#include "libbproc/local.h"
#include "master_tell.h"

static struct fake_slave *home, *n0;

/* The last master had the front end, node 0 and node 1. */
static void setup(void)
{
	struct fake_slave *n1;

	master_setup("pingtimeout 2\n");
	master_start();
	home = slave_join_empty(-1, "h");
	n0 = slave_join_empty(0, "a");
	n1 = slave_join_empty(1, "b");
	ck_assert(slave_sees(home, 0, "up", 2000));
	ck_assert(slave_sees(home, 1, "up", 2000));
	ck_assert(!home->table->node_table->partial);
	free_three(home, n0, n1);
	master_stop(SIGKILL);
	master_start();
	home = slave_join_empty(-1, "h");
	n0 = slave_join_empty(0, "a");
}

static void ask_pid(struct fake_slave *s, uint32_t req, int pid)
{
	Bproc__PidAsk m = BPROC__PID_ASK__INIT;

	m.req = req;
	m.pid = pid;
	slave_send(s, &m.base);
}

static void ask_procs(struct fake_slave *s, uint32_t req, int node)
{
	Bproc__ProcsAsk m = BPROC__PROCS_ASK__INIT;

	m.req = req;
	m.node = node;
	slave_send(s, &m.base);
}

static void set_down(struct fake_slave *s, uint32_t req, int node, bool again)
{
	Bproc__NodeSet m = BPROC__NODE_SET__INIT;

	m.req = req;
	m.node = node;
	m.what = SETNODE_STATUS;
	m.status = (char[]){"down"};
	m.again = again;
	slave_send(s, &m.base);
}

/* Returns the node of the answer. */
static int hear_answer(struct fake_slave *s, uint32_t req, uint32_t err)
{
	Bproc__Envelope *env = slave_expect(s, BPROC__ENVELOPE__MSG_ANSWER);
	int node = env->answer->node;

	ck_assert_uint_eq(env->answer->req, req);
	ck_assert_uint_eq(env->answer->err, err);
	bproc__envelope__free_unpacked(env, NULL);
	return node;
}

START_TEST(waits_for_who_comes)
{
	Bproc__StatsAsk stats = BPROC__STATS_ASK__INIT;
	struct fake_slave *n1;
	Bproc__Envelope *env;

	ck_assert(home->table->node_table->partial);
	ask_pid(home, 1, 2001);
	ask_procs(home, 2, BPROC_NODE_ANY);
	ask_pid(n0, 3, 2002);
	stats.req = 4;
	stats.node = 1;
	slave_send(home, &stats.base);
	slave_expect_nothing(home, 200);
	slave_expect_nothing(n0, 1);
	n1 = slave_join(1, "b", NULL);
	tell_proc(n1, 2001, false);
	heard(n1);
	slave_expect_nothing(home, 100);
	/* Who has it has said so. */
	ask_pid(n0, 5, 2001);
	ck_assert_int_eq(hear_answer(n0, 5, 0), 1);
	tell_end(n1);
	ck_assert_int_eq(hear_answer(home, 1, 0), 1);
	env = slave_expect(home, BPROC__ENVELOPE__MSG_PROCS_TELL);
	ck_assert_uint_eq(env->procs_tell->req, 2);
	ck_assert_uint_eq(env->procs_tell->n_pid, 1);
	ck_assert_int_eq(env->procs_tell->pid[0], 2001);
	bproc__envelope__free_unpacked(env, NULL);
	ck_assert_int_eq(hear_answer(n0, 3, 0), BPROC_NODE_NONE);
	hear(n1, BPROC__ENVELOPE__MSG_STATS_ASK);
	ck_assert(slave_sees(home, 1, "up", 2000));
	fake_run(200);
	ck_assert(!home->table->node_table->partial);
	free_three(home, n0, n1);
}
END_TEST

/* It does not come back: as soon as it is dead in the books the rest is answered without it. */
START_TEST(not_for_ever)
{
	ask_pid(home, 1, 2001);
	set_down(home, 2, 1, false);
	slave_expect_nothing(home, 500);
	ck_assert_int_eq(hear_answer(home, 1, 0), BPROC_NODE_NONE);
	hear_answer(home, 2, EINVAL);
	fake_run(200);
	ck_assert(!home->table->node_table->partial);
	slave_free(n0);
	slave_free(home);
}
END_TEST

/* The last master has set it down, and nobody heard of that: it is what was asked for. */
START_TEST(down_again)
{
	struct fake_slave *n1 = slave_join_empty(1, "b");

	set_down(home, 1, 2, false);
	hear_answer(home, 1, EINVAL);
	set_down(home, 2, 2, true);
	ck_assert_int_eq(hear_answer(home, 2, 0), 2);
	free_three(home, n0, n1);
}
END_TEST

/* Who has asked ends meanwhile; the others are answered. */
START_TEST(asker_gone)
{
	struct fake_slave *n1;

	for (uint32_t i = 0; i < 100; i++)
		ask_pid(i % 2 ? home : n0, i, 2001);
	slave_expect_nothing(home, 100);
	slave_free(n0);
	n0 = slave_join_empty(0, "a");
	ask_pid(n0, 200, 2001);
	n1 = slave_join_empty(1, "b");
	for (uint32_t i = 1; i < 100; i += 2)
		hear_answer(home, i, 0);
	hear_answer(n0, 200, 0);
	slave_expect_nothing(n0, 100);
	free_three(home, n0, n1);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("held");
	TCase *t = tcase_create("held");
	SRunner *r = srunner_create(s);
	int failed;

	tcase_add_checked_fixture(t, setup, master_cleanup);
	tcase_set_timeout(t, 30);
	tcase_add_test(t, waits_for_who_comes);
	tcase_add_test(t, not_for_ever);
	tcase_add_test(t, down_again);
	tcase_add_test(t, asker_gone);
	suite_add_tcase(s, t);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
