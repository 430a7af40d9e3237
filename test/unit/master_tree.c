/*
 * Processes that move together, through a real bpmaster with synthetic slaves at both ends: all are
 * granted, or none is and nobody at the target hears of it; and each is a move of its own then.
 */
#include <check.h>
#include <errno.h>
#include <stdlib.h>

#include "core_slave.h"
#include "libbproc/local.h"

#define FIRST 1001 /* the others follow, each the child of the one before */

static struct fake_slave *home, *n0;

static void setup(void)
{
	master_setup("pingtimeout 2\n");
	master_start();
	home = slave_join_empty(-1, "h");
	n0 = slave_join_empty(0, "a");
	ck_assert(slave_sees(home, 0, "up", 2000));
}

static void teardown(void)
{
	slave_free(home);
	slave_free(n0);
	master_cleanup();
}

/* MoveAskTree of n processes from pid on, as requests 1, 2, ... */
static bool again;

static void ask_tree(int pid, unsigned int n, unsigned int kind)
{
	Bproc__MoveAskTree t = BPROC__MOVE_ASK_TREE__INIT;
	Bproc__MoveAsk *m = calloc(n, sizeof(*m)), **all = calloc(n, sizeof(*all));
	Bproc__Creds creds = BPROC__CREDS__INIT;
	struct chan_cred cred = {.ngroups = 0};
	unsigned char raw[WIRE_CRED_SIZE];

	wire_put_cred(&cred, raw);
	creds.raw = (ProtobufCBinaryData){.len = sizeof(raw), .data = raw};
	for (unsigned int i = 0; i < n; i++) {
		bproc__move_ask__init(&m[i]);
		m[i].req = i + 1;
		m[i].kind = kind;
		m[i].again = again;
		m[i].asker_pid = m[i].pid = pid + (int)i;
		m[i].ppid = pid + (int)i - 1;
		m[i].creds = &creds;
		all[i] = &m[i];
	}
	t.n_member = n;
	t.member = all;
	slave_send(home, &t.base);
	free(all);
	free(m);
}

static uint64_t hear_start(unsigned int members, uint64_t tree, int pid)
{
	Bproc__Envelope *e = slave_expect(n0, BPROC__ENVELOPE__MSG_MOVE_START);
	uint64_t id = e->move_start->move;

	ck_assert_int_eq(e->move_start->pid, pid);
	ck_assert_uint_eq(e->move_start->members, members);
	ck_assert_uint_eq(e->move_start->tree, tree ? tree : id);
	bproc__envelope__free_unpacked(e, NULL);
	return id;
}

static void hear_grant(unsigned int req, uint64_t id)
{
	Bproc__Envelope *e = slave_expect(home, BPROC__ENVELOPE__MSG_MOVE_GRANT);

	ck_assert_uint_eq(e->move_grant->req, req);
	ck_assert_uint_eq(e->move_grant->move, id);
	bproc__envelope__free_unpacked(e, NULL);
}

static void hear_deny(unsigned int req, unsigned int err)
{
	Bproc__Envelope *e = slave_expect(home, BPROC__ENVELOPE__MSG_MOVE_DENY);

	ck_assert_uint_eq(e->move_deny->req, req);
	ck_assert_uint_eq(e->move_deny->err, err);
	bproc__envelope__free_unpacked(e, NULL);
}

static void fail_at_target(uint64_t id, unsigned int err)
{
	Bproc__MoveFailed f = BPROC__MOVE_FAILED__INIT;
	Bproc__Envelope *e;
	char text[] = "it is odd";

	f.move = id;
	f.err = err;
	f.text = text;
	f.target = true;
	slave_send(n0, &f.base);
	e = slave_expect(home, BPROC__ENVELOPE__MSG_MOVE_ABORT);
	ck_assert_uint_eq(e->move_abort->move, id);
	ck_assert_uint_eq(e->move_abort->err, err);
	bproc__envelope__free_unpacked(e, NULL);
}

START_TEST(all)
{
	uint64_t id[3], tree = 0;

	ask_tree(FIRST, 3, MOVE_MOVE);
	for (int i = 0; i < 3; i++) {
		id[i] = hear_start(3, tree, FIRST + i);
		tree = id[0];
	}
	for (int i = 0; i < 3; i++)
		hear_grant((unsigned int)i + 1, id[i]);
	/* Each is decided by itself: that all have the same end is the target's. */
	fail_at_target(id[1], EIO);
	fail_at_target(id[0], ECANCELED);
	fail_at_target(id[2], ECANCELED);
	ask_tree(FIRST, 1, MOVE_MOVE);
	hear_grant(1, hear_start(1, 0, FIRST));
}
END_TEST

START_TEST(one_may_not)
{
	ask_tree(FIRST + 1, 1, MOVE_MOVE);
	hear_grant(1, hear_start(1, 0, FIRST + 1));
	ask_tree(FIRST, 3, MOVE_MOVE);
	hear_deny(1, ECANCELED);
	hear_deny(2, EBUSY);
	hear_deny(3, ECANCELED);
	slave_expect_nothing(n0, 200);
	/* Those that were judged good before are not held. */
	ask_tree(FIRST, 1, MOVE_MOVE);
	hear_grant(1, hear_start(1, 0, FIRST));
}
END_TEST

/* The grants are lost with the link: asked for again, all wait until each of the first is over. */
START_TEST(grants_lost)
{
	Bproc__MoveVoided v = BPROC__MOVE_VOIDED__INIT;
	uint64_t id[2];
	Bproc__Envelope *e;

	ask_tree(FIRST, 2, MOVE_MOVE);
	id[0] = hear_start(2, 0, FIRST);
	id[1] = hear_start(2, id[0], FIRST + 1);
	slave_free(home);
	home = slave_join(-1, "h", NULL);
	for (int i = 0; i < 2; i++)
		bproc__envelope__free_unpacked(slave_expect(n0, BPROC__ENVELOPE__MSG_MOVE_VOID),
					       NULL);
	again = true;
	ask_tree(FIRST, 2, MOVE_MOVE);
	for (int i = 0; i < 2; i++) {
		slave_expect_nothing(n0, 100);
		v.move = id[i];
		slave_send(n0, &v.base);
		bproc__envelope__free_unpacked(slave_expect(home, BPROC__ENVELOPE__MSG_MOVE_ABORT),
					       NULL);
		e = slave_expect(home, BPROC__ENVELOPE__MSG_MOVE_DENY);
		ck_assert(e->move_deny->again);
		ck_assert_uint_eq(e->move_deny->req, 1);
		bproc__envelope__free_unpacked(e, NULL);
		ask_tree(FIRST, 2, MOVE_MOVE);
	}
	id[0] = hear_start(2, 0, FIRST);
	id[1] = hear_start(2, id[0], FIRST + 1);
	hear_grant(1, id[0]);
	hear_grant(2, id[1]);
	again = false;
}
END_TEST

START_TEST(malformed)
{
	ask_tree(FIRST, 2, MOVE_RFORK);
	ck_assert(slave_closed(home, 2000));
	slave_expect_nothing(n0, 200);
}
END_TEST

START_TEST(too_many)
{
	ask_tree(FIRST, MOVE_TREE_MAX + 1, MOVE_MOVE);
	ck_assert(slave_closed(home, 2000));
	slave_expect_nothing(n0, 200);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("tree");
	TCase *t = tcase_create("tree");
	SRunner *r = srunner_create(s);
	int failed;

	tcase_set_timeout(t, 40);
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, all);
	tcase_add_test(t, one_may_not);
	tcase_add_test(t, grants_lost);
	tcase_add_test(t, malformed);
	tcase_add_test(t, too_many);
	suite_add_tcase(s, t);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
