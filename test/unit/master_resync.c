/*
 * A bpmaster that was killed: the next one makes its tables of what the slaves
 * tell, decides the moves that were under way, and gives up what nobody has.
 */
#include <check.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>

#include "libbproc/local.h"
#include "master_tell.h"

static void setup(void)
{
	master_setup("pingtimeout 2\n");
	master_start();
}

static void send_signal(struct fake_slave *s, int pid)
{
	Bproc__Signal m = BPROC__SIGNAL__INIT;
	Bproc__Proc p = proc_of(pid);

	m.proc = &p;
	m.sig = SIGUSR1;
	slave_send(s, &m.base);
}

/* 1000: real at home, ghost on 0. 1001: real on 0. 1002: ghost at home, real nowhere. */
START_TEST(tables)
{
	struct fake_slave *home, *n0;
	Bproc__Welcome w1, w2;
	Bproc__Envelope *env;

	home = slave_join(-1, "h", &w1);
	slave_free(home);
	master_stop(SIGKILL);
	master_start();
	home = slave_join(-1, "h", &w2);
	ck_assert_uint_gt(w2.epoch, w1.epoch);
	ck_assert(!w2.fence);
	tell_proc(home, 1001, true);
	tell_proc(home, 1002, true);
	tell_end(home);
	ck_assert_int_eq(pidnode(home, 1001), -3);
	send_signal(home, 1001); /* waits until somebody says where it is */
	n0 = slave_join(0, "a", &w2);
	ck_assert(!w2.fence);
	tell_proc(n0, 1000, true);
	tell_proc(n0, 1001, false);
	tell_end(n0);
	hear(n0, BPROC__ENVELOPE__MSG_SIGNAL);
	env = slave_expect(home, BPROC__ENVELOPE__MSG_WATCH);
	ck_assert_int_eq(env->watch->proc->pid, 1000);
	bproc__envelope__free_unpacked(env, NULL);
	ck_assert_int_eq(pidnode(home, 1001), 0);
	/* Nobody has 1002: killed, once everybody has had the time to come back. */
	env = slave_expect(home, BPROC__ENVELOPE__MSG_MIRROR);
	ck_assert_int_eq(env->mirror->proc->pid, 1002);
	ck_assert_uint_eq(env->mirror->code, CLD_KILLED);
	ck_assert_int_eq(env->mirror->status, SIGKILL);
	bproc__envelope__free_unpacked(env, NULL);
	slave_free(n0);
	slave_free(home);
}
END_TEST

/* Undecided moves of the old epoch: one had run, one had not, one target is gone. */
START_TEST(moves)
{
	struct fake_slave *home, *n0, *n1;
	Bproc__MoveVoided voided = BPROC__MOVE_VOIDED__INIT;
	Bproc__MoveRan ran = BPROC__MOVE_RAN__INIT;
	Bproc__Proc proc = BPROC__PROC__INIT;
	Bproc__Envelope *env;
	Bproc__Welcome w;
	uint64_t old;

	home = slave_join(-1, "h", &w);
	old = (uint64_t)(w.epoch - 1) << 32;
	tell_move(home, old | 1, MOVE_MOVE, 0, 2001);
	tell_move(home, old | 2, MOVE_RFORK, 1, 2002);
	tell_move(home, old | 3, MOVE_MOVE, 2, 2003);
	tell_end(home);
	n0 = slave_join(0, "a", NULL);
	n1 = slave_join(1, "b", NULL);
	tell_end(n0);
	tell_end(n1);
	hear(n0, BPROC__ENVELOPE__MSG_MOVE_VOID);
	hear(n1, BPROC__ENVELOPE__MSG_MOVE_VOID);
	proc.home = -1;
	proc.pid = 2001;
	ran.move = old | 1;
	ran.proc = &proc;
	slave_send(n0, &ran.base);
	env = slave_expect(home, BPROC__ENVELOPE__MSG_MOVE_COMMIT);
	ck_assert_uint_eq(env->move_commit->move, old | 1);
	bproc__envelope__free_unpacked(env, NULL);
	ck_assert_int_eq(pidnode(home, 2001), 0);
	voided.move = old | 2;
	slave_send(n1, &voided.base);
	env = slave_expect(home, BPROC__ENVELOPE__MSG_MOVE_ABORT);
	ck_assert_uint_eq(env->move_abort->move, old | 2);
	ck_assert_uint_eq(env->move_abort->err, EIO);
	bproc__envelope__free_unpacked(env, NULL);
	/* Node 2 does not come: by now it has fenced itself. */
	env = slave_expect(home, BPROC__ENVELOPE__MSG_MOVE_ABORT);
	ck_assert_uint_eq(env->move_abort->move, old | 3);
	bproc__envelope__free_unpacked(env, NULL);
	slave_free(n1);
	slave_free(n0);
	slave_free(home);
}
END_TEST

/* It leaves home, and has a ghost on 1: when it stays after all, home is asked for its end. */
START_TEST(stays_home)
{
	struct fake_slave *home, *n0, *n1;
	Bproc__MoveVoided voided = BPROC__MOVE_VOIDED__INIT;
	Bproc__Welcome w;

	home = slave_join(-1, "h", &w);
	voided.move = (uint64_t)(w.epoch - 1) << 32 | 1;
	n0 = slave_join(0, "a", NULL);
	n1 = slave_join(1, "b", NULL);
	tell_move(home, voided.move, MOVE_MOVE, 0, 2001);
	tell_end(home);
	tell_proc(n1, 2001, true);
	tell_end(n1);
	tell_end(n0);
	hear(n0, BPROC__ENVELOPE__MSG_MOVE_VOID);
	slave_send(n0, &voided.base);
	hear(home, BPROC__ENVELOPE__MSG_MOVE_ABORT);
	hear(home, BPROC__ENVELOPE__MSG_WATCH);
	slave_free(n1);
	slave_free(n0);
	slave_free(home);
}
END_TEST

/* A move of this epoch that is decided here and was not heard of there: the abort again. */
START_TEST(lost_abort)
{
	struct fake_slave *home;
	Bproc__Welcome w;

	home = slave_join(-1, "h", &w);
	tell_move(home, (uint64_t)w.epoch << 32 | 7, MOVE_MOVE, 0, 2001);
	hear(home, BPROC__ENVELOPE__MSG_MOVE_ABORT);
	slave_free(home);
}
END_TEST

/* Told again by a source that has not heard yet that it was called off: nobody is asked once more.
 */
START_TEST(told_twice)
{
	Bproc__MoveVoided voided = BPROC__MOVE_VOIDED__INIT;
	struct fake_slave *home, *n0;
	Bproc__Envelope *env;
	Bproc__Welcome w;

	home = slave_join(-1, "h", &w);
	voided.move = (uint64_t)(w.epoch - 1) << 32 | 1;
	tell_move(home, voided.move, MOVE_MOVE, 0, 2001);
	tell_end(home);
	n0 = slave_join(0, "a", NULL);
	tell_end(n0);
	hear(n0, BPROC__ENVELOPE__MSG_MOVE_VOID);
	slave_send(n0, &voided.base);
	hear(home, BPROC__ENVELOPE__MSG_MOVE_ABORT);
	tell_move(home, voided.move, MOVE_MOVE, 0, 2001);
	env = slave_expect(home, BPROC__ENVELOPE__MSG_MOVE_ABORT);
	ck_assert_uint_eq(env->move_abort->move, voided.move);
	ck_assert_uint_eq(env->move_abort->err, EIO);
	bproc__envelope__free_unpacked(env, NULL);
	slave_free(n0);
	slave_free(home);
}
END_TEST

/* Nobody fences the front end: what may have come home is asked for, however late its slave is. */
START_TEST(home_is_late)
{
	struct fake_slave *home, *n0;
	Bproc__Envelope *env;
	Bproc__Welcome w;
	uint64_t id;

	n0 = slave_join(0, "a", &w);
	id = (uint64_t)(w.epoch - 1) << 32 | 5;
	tell_move(n0, id, MOVE_MOVE, -1, 2001);
	tell_proc(n0, 2002, true);
	tell_end(n0);
	fake_run(6000); /* three ping timeouts: the sweep has been */
	home = slave_join(-1, "h", NULL);
	env = slave_expect(home, BPROC__ENVELOPE__MSG_MOVE_VOID);
	ck_assert_uint_eq(env->move_void->move, id);
	bproc__envelope__free_unpacked(env, NULL);
	tell_state(home, 2001, false, id);
	tell_end(home);
	hear(home, BPROC__ENVELOPE__MSG_WATCH);
	hear(home, BPROC__ENVELOPE__MSG_WATCH);
	/* 2002 has a ghost on 0 and is nowhere else: it is at home. */
	ck_assert_int_eq(pidnode(home, 2002), -1);
	tell_ran(home, 2001, id, false);
	/* The first word on this move is its commit: it was not called off. */
	hear(n0, BPROC__ENVELOPE__MSG_BORN_ASK);
	hear(n0, BPROC__ENVELOPE__MSG_MOVE_COMMIT);
	ck_assert_int_eq(pidnode(home, 2001), -1);
	slave_free(n0);
	slave_free(home);
}
END_TEST

/* From home to 0 and on to 1; home has missed the first commit, which must not move it back. */
START_TEST(older_commit)
{
	struct fake_slave *home, *n0, *n1;
	Bproc__Welcome w;
	uint64_t id;

	home = slave_join(-1, "h", &w);
	id = (uint64_t)(w.epoch - 1) << 32 | 5;
	n0 = slave_join(0, "a", NULL);
	n1 = slave_join(1, "b", NULL);
	tell_state(n1, 2001, false, id + 1);
	tell_end(n1);
	ck_assert_int_eq(pidnode(n1, 2001), 1);
	tell_proc(n0, 2001, true);
	tell_end(n0);
	tell_move(home, id, MOVE_MOVE, 0, 2001);
	tell_end(home);
	hear(n0, BPROC__ENVELOPE__MSG_MOVE_VOID);
	tell_ran(n0, 2001, id, false);
	hear(home, BPROC__ENVELOPE__MSG_MOVE_COMMIT);
	ck_assert_int_eq(pidnode(home, 2001), 1);
	slave_free(n1);
	slave_free(n0);
	slave_free(home);
}
END_TEST

/* Of pid, whose parent and group leader is 1000. */
static void ask_move(struct fake_slave *s, int node, int pid)
{
	slave_ask(s, &(struct slave_question){.kind = MOVE_MOVE,
					      .node = node,
					      .asker = pid,
					      .pid = pid,
					      .parent = 1000,
					      .pgid = 1000});
}

/*
 * The front end's slave is back but has not told what it holds, and a child moves home: its
 * parent, real there and known by a ghost on 0 only, is no ghost at home for that.
 */
START_TEST(home_in_chain)
{
	struct fake_slave *home, *n0 = slave_join(0, "a", NULL);
	Bproc__Envelope *env;

	tell_proc(n0, 1000, true);
	tell_proc(n0, 1001, false);
	tell_end(n0);
	home = slave_join(-1, "h", NULL);
	ask_move(n0, -1, 1001);
	hear_start(home);
	tell_proc(home, 1001, true);
	tell_end(home);
	env = slave_expect(home, BPROC__ENVELOPE__MSG_WATCH);
	ck_assert_int_eq(env->watch->proc->pid, 1000);
	bproc__envelope__free_unpacked(env, NULL);
	ck_assert_int_eq(pidnode(home, 1000), -1);
	slave_free(n0);
	slave_free(home);
}
END_TEST

/* Its parent has ended on 0, and home has not yet said that the ghost is gone: no other process. */
START_TEST(dying_parent)
{
	struct fake_slave *home = slave_join(-1, "h", NULL), *n0 = slave_join(0, "a", NULL);
	struct fake_slave *n1 = slave_join(1, "b", NULL);

	tell_proc(home, 1000, true);
	tell_end(home);
	tell_proc(n0, 1000, false);
	tell_end(n0);
	tell_end(n1);
	hear(n1, BPROC__ENVELOPE__MSG_BORN_ASK);
	tell_event(n0, 1000, CLD_EXITED, 5, 1, 0);
	hear_told(home, 1000, CLD_EXITED, 5, 1);
	ask_move(home, 1, 1001);
	hear(home, BPROC__ENVELOPE__MSG_MOVE_GRANT);
	hear_start(n1);
	hear_told(n1, 1000, CLD_EXITED, 5, 1);
	slave_expect_nothing(home, 100);
	slave_free(n1);
	slave_free(n0);
	slave_free(home);
}
END_TEST

/* It asks before its node has told what it holds, and after another has told of its ghost. */
START_TEST(asks_early)
{
	struct fake_slave *n0 = slave_join(0, "a", NULL), *n1 = slave_join(1, "b", NULL);

	tell_proc(n0, 1001, true);
	tell_end(n0);
	ck_assert(slave_sees(n1, 0, "up", 2000));
	ask_move(n1, 0, 1001);
	hear(n1, BPROC__ENVELOPE__MSG_MOVE_GRANT);
	hear_start(n0);
	slave_free(n1);
	slave_free(n0);
}
END_TEST

/* A node is back before the front end's slave: what its processes do is not told to nobody. */
START_TEST(home_is_later)
{
	struct fake_slave *home, *n0 = slave_join(0, "a", NULL);

	tell_proc(n0, 1001, false);
	tell_proc(n0, 1003, false);
	tell_end(n0);
	tell_event(n0, 1001, CLD_STOPPED, SIGSTOP, 1, 0);
	tell_event(n0, 1002, CLD_EXITED, 7, 2, 0); /* not there any more when it told what it has */
	tell_event(n0, 1003, CLD_EXITED, 8, 3, 0);
	hear_told(n0, 1003, CLD_EXITED, 8, 3); /* its parent may have come there */
	slave_expect_nothing(n0, 300);
	home = slave_join(-1, "h", NULL);
	for (int pid = 1001; pid <= 1003; pid++)
		tell_proc(home, pid, true);
	hear_told(home, 1001, CLD_STOPPED, SIGSTOP, 1);
	hear_told(home, 1002, CLD_EXITED, 7, 2);
	hear_told(home, 1003, CLD_EXITED, 8, 3);
	slave_free(n0);
	slave_free(home);
}
END_TEST

static void tell_gone(struct fake_slave *s, int pid)
{
	Bproc__Mirrored m = BPROC__MIRRORED__INIT;
	Bproc__Proc p = proc_of(pid);

	m.proc = &p;
	slave_send(s, &m.base);
}

/*
 * Born on a node, and ended there: its bpinit keeps the end until home has it, also if that was
 * told before without a number, by who had seen it; or, _i == 1, a new master hears it first, and
 * then the birth once more, which is no second process.
 */
START_TEST(born_end)
{
	struct fake_slave *home, *n0, *n1;
	Bproc__Envelope *env;
	uint32_t gen = 0;

	join_three(&home, &n0, &n1);
	if (_i == 1)
		tell_proc(home, 65600, true);
	tell_end(home);
	hear_asked(n0, n1);
	if (_i == 0) {
		tell_born(n0, 65600, false);
		hear(home, BPROC__ENVELOPE__MSG_PROC_BORN);
		tell_event(n0, 65600, CLD_EXITED, 9, 0, 0);
		hear_told(home, 65600, CLD_EXITED, 9, 0);
		tell_event(n0, 65600, CLD_EXITED, 9, 5, 0);
	} else {
		tell_event(n0, 65600, CLD_EXITED, 9, 5, 0);
		env = slave_expect(home, BPROC__ENVELOPE__MSG_MIRROR);
		ck_assert_int_eq(env->mirror->status, 9);
		gen = env->mirror->proc->gen;
		bproc__envelope__free_unpacked(env, NULL);
		tell_birth(n0, 65600, false, true);
		env = slave_expect(home, BPROC__ENVELOPE__MSG_PROC_BORN);
		ck_assert_uint_eq(env->proc_born->birth[0]->proc->gen, gen);
		bproc__envelope__free_unpacked(env, NULL);
		hear_told(home, 65600, CLD_EXITED, 9, 5);
	}
	tell_end(n0);
	tell_end(n1);
	slave_expect_nothing(n0, 100);
	tell_gone(home, 65600);
	env = slave_expect(n0, BPROC__ENVELOPE__MSG_EVENT_ACK);
	ck_assert_uint_eq(env->event_ack->seq, 5);
	bproc__envelope__free_unpacked(env, NULL);
	ck_assert_int_eq(pidnode(home, 65600), -3);
	free_three(home, n0, n1);
}
END_TEST

/* It ends while its node tells what there is: missed, but not killed before its end is heard. */
START_TEST(born_late_end)
{
	struct fake_slave *home, *n0, *n1;

	join_three(&home, &n0, &n1);
	tell_end(home);
	hear_asked(n0, n1);
	tell_end(n0);
	tell_end(n1);
	tell_born(n0, 65600, false);
	tell_born(n0, 65601, false);
	hear(home, BPROC__ENVELOPE__MSG_PROC_BORN);
	hear(home, BPROC__ENVELOPE__MSG_PROC_BORN);
	slave_free(n0);
	n0 = slave_join(0, "a", NULL);
	tell_end(n0);
	tell_event(n0, 65600, CLD_EXITED, 9, 5, 0);
	hear_told(home, 65600, CLD_EXITED, 9, 5);
	hear_told(home, 65601, CLD_KILLED, SIGKILL, 0);
	hear(home, BPROC__ENVELOPE__MSG_PROC_REAPED);
	free_three(home, n0, n1);
}
END_TEST

static void tell_place(struct fake_slave *s, int pid, int node, unsigned int number, int leader)
{
	Bproc__Place m = BPROC__PLACE__INIT;
	Bproc__Proc p = proc_of(pid);
	Bproc__Chain c = BPROC__CHAIN__INIT;

	m.proc = &p;
	m.pgid = leader;
	m.sid = 5;
	m.node = node;
	m.number = number;
	c.pid = c.pgid = leader;
	c.comm = (char *)"leader";
	if (node >= 0)
		m.leader = &c;
	slave_send(s, &m.base);
}

static void hear_place(struct fake_slave *s, int pid, int node, unsigned int number, int leader)
{
	Bproc__Envelope *env = slave_expect(s, BPROC__ENVELOPE__MSG_PLACE);

	ck_assert_int_eq(env->place->proc->pid, pid);
	ck_assert_int_eq(env->place->node, node);
	ck_assert_uint_eq(env->place->number, number);
	ck_assert_int_eq(env->place->leader ? env->place->leader->pid : 0, leader);
	bproc__envelope__free_unpacked(env, NULL);
}

/* A node's word of a group goes to home, home's to all that have the process, with the leader. */
START_TEST(places)
{
	struct fake_slave *home = slave_join(-1, "h", NULL), *n0 = slave_join(0, "a", NULL),
			  *n1 = slave_join(1, "b", NULL);

	tell_proc(home, 2001, true);
	tell_end(home);
	hear(n0, BPROC__ENVELOPE__MSG_BORN_ASK);
	hear(n1, BPROC__ENVELOPE__MSG_BORN_ASK);
	tell_proc(n0, 2001, false);
	tell_end(n0);
	tell_end(n1);
	ck_assert_int_eq(pidnode(n0, 2001), 0);
	tell_place(n0, 2001, -1, 7, 3001);
	hear_place(home, 2001, 0, 7, 0);
	tell_place(home, 2001, 0, 7, 3001);
	hear_place(n0, 2001, 0, 7, 3001);
	hear(home, BPROC__ENVELOPE__MSG_WATCH); /* 3001 is home's, and has a ghost on 0 now */
	slave_expect_nothing(n1, 100);
	tell_place(home, 2002, 1, 8, 3001); /* which has ended: only who asked hears of it */
	hear_place(n1, 2002, 1, 8, 0);
	slave_expect_nothing(n0, 100);
	ck_assert_uint_ge(home->asks, 2);
	tell_place(n1, 0, -1, 9, 3001);
	ck_assert(slave_closed(n1, 5000));
	slave_free(n1);
	slave_free(n0);
	slave_free(home);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("resync");
	TCase *t = tcase_create("resync");
	SRunner *r = srunner_create(s);
	int failed;

	tcase_set_timeout(t, 40);
	tcase_add_checked_fixture(t, setup, master_cleanup);
	tcase_add_test(t, tables);
	tcase_add_test(t, moves);
	tcase_add_test(t, stays_home);
	tcase_add_test(t, lost_abort);
	tcase_add_test(t, told_twice);
	tcase_add_test(t, home_is_late);
	tcase_add_test(t, older_commit);
	tcase_add_test(t, home_is_later);
	tcase_add_loop_test(t, born_end, 0, 2);
	tcase_add_test(t, born_late_end);
	tcase_add_test(t, home_in_chain);
	tcase_add_test(t, asks_early);
	tcase_add_test(t, dying_parent);
	tcase_add_test(t, places);
	suite_add_tcase(s, t);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
