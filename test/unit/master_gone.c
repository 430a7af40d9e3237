/*
 * The ends of processes that a master hears of late: by a move that it does not know
 * to be over, or not at all, so that what waits at home asks. doc/wire.md, sections 8, 9.
 */
#include <check.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>

#include "libbproc/local.h"
#include "master_tell.h"

#define BORN 65600 /* of node 0's numbers */

static void setup(void)
{
	master_setup("pingtimeout 2\n");
	master_start();
}

/*
 * From home to 0, on to 1, where it has ended; home has missed the first commit. Its end is heard
 * of before home's word on that move, after it, or was acknowledged by a master before.
 */
START_TEST(gone_on)
{
	struct fake_slave *home, *n0, *n1;
	uint64_t id = join_three(&home, &n0, &n1);

	tell_proc(n0, 2001, true);
	tell_end(n0);
	tell_end(n1);
	if (_i == 0)
		tell_event(n1, 2001, CLD_EXITED, 7, 9, id + 1);
	heard(n1); /* it has been heard */
	tell_move(home, id, MOVE_MOVE, 0, 2001);
	heard(home);
	if (_i == 1) {
		tell_event(n1, 2001, CLD_EXITED, 7, 9, id + 1);
		hear_told(home, 2001, CLD_EXITED, 7, 9); /* in vain: it is no ghost yet */
	}
	tell_end(home);
	tell_ran(n0, 2001, id, true);
	hear(home, BPROC__ENVELOPE__MSG_MOVE_COMMIT);
	hear_told(home, 2001, _i < 2 ? CLD_EXITED : CLD_KILLED, _i < 2 ? 7 : SIGKILL,
		  _i < 2 ? 9 : 0);
	free_three(home, n0, n1);
}
END_TEST

/*
 * Born on node 0, on its way home when the master was killed. It may have come there, and even
 * ended there, so home is to make no ghost of it; unless the move is called off.
 */
START_TEST(coming_home)
{
	struct fake_slave *home, *n0, *n1;
	uint64_t id = join_three(&home, &n0, &n1);
	Bproc__Envelope *env;

	tell_end(home);
	hear_asked(n0, n1);
	tell_end(n1);
	tell_move(n0, id, MOVE_MOVE, -1, BORN);
	hear(home, BPROC__ENVELOPE__MSG_MOVE_VOID);
	tell_born(n0, BORN, true);
	tell_end(n0);
	slave_expect_nothing(home, 100);
	if (_i == 0) {
		tell_ran(home, BORN, id, false);
		tell_event(home, BORN, CLD_EXITED, 7, 9, id);
		hear(home, BPROC__ENVELOPE__MSG_WATCH);
		hear(n0, BPROC__ENVELOPE__MSG_MOVE_COMMIT);
		hear_told(n0, BORN, CLD_EXITED, 7, 9);
	} else {
		tell_voided(home, id);
		hear(n0, BPROC__ENVELOPE__MSG_MOVE_ABORT);
		hear(n0, BPROC__ENVELOPE__MSG_BORN_ASK);
		tell_born(n0, BORN, false);
		env = slave_expect(home, BPROC__ENVELOPE__MSG_PROC_BORN);
		ck_assert_int_eq(env->proc_born->birth[0]->proc->pid, BORN);
		bproc__envelope__free_unpacked(env, NULL);
		ck_assert_int_eq(pidnode(home, BORN), 0);
	}
	slave_expect_nothing(home, 100);
	free_three(home, n0, n1);
}
END_TEST

/*
 * From node 0 to node 1, which tells a new master that it has it, and dies before it has answered
 * what became of the move. The original is parked on node 0 still, and goes on there.
 */
START_TEST(died_with_it)
{
	struct fake_slave *home, *n0, *n1;
	uint64_t id = join_three(&home, &n0, &n1);

	tell_proc(home, 2001, true);
	tell_end(home);
	hear_asked(n0, n1);
	tell_move(n0, id, MOVE_MOVE, 1, 2001);
	tell_end(n0);
	hear(n1, BPROC__ENVELOPE__MSG_MOVE_VOID);
	tell_state(n1, 2001, false, id);
	tell_end(n1);
	ck_assert_int_eq(pidnode(n1, 2001), 1);
	slave_free(n1);
	hear(n0, BPROC__ENVELOPE__MSG_MOVE_ABORT);
	ck_assert_int_eq(pidnode(home, 2001), 0);
	slave_free(n0);
	slave_free(home);
}
END_TEST

/*
 * Parked on a node, and its move is called off before home has told that its ghost is there: a
 * master that knows of no ghost yet keeps it all the same.
 */
START_TEST(called_off_early)
{
	struct fake_slave *home, *n0, *n1;
	Bproc__Welcome w;
	uint64_t id;

	n0 = slave_join(0, "a", &w);
	n1 = slave_join(1, "b", NULL);
	id = (uint64_t)(w.epoch - 1) << 32 | 5;
	tell_move(n0, id, MOVE_MOVE, 1, 2001);
	hear(n1, BPROC__ENVELOPE__MSG_MOVE_VOID);
	tell_voided(n1, id);
	hear(n0, BPROC__ENVELOPE__MSG_MOVE_ABORT);
	tell_end(n0);
	tell_end(n1);
	home = slave_join(-1, "h", NULL);
	tell_proc(home, 2001, true);
	tell_end(home);
	ck_assert_int_eq(pidnode(home, 2001), 0);
	tell_event(n0, 2001, CLD_EXITED, 7, 9, 0);
	hear_told(home, 2001, CLD_EXITED, 7, 9);
	free_three(home, n0, n1);
}
END_TEST

/*
 * Born on node 0, where it has ended; its parent asks to leave node 1 before node 0 is back with a
 * new master, which has not heard of the child, or only that home has its ghost.
 */
START_TEST(asked_of_before)
{
	struct fake_slave *home, *n0, *n1;
	Bproc__Envelope *env;
	Bproc__Welcome w;

	home = slave_join(-1, "h", &w);
	n1 = slave_join(1, "b", NULL);
	tell_proc(home, 2001, true);
	if (_i == 1)
		tell_proc(home, BORN, true);
	tell_end(home);
	hear(n1, BPROC__ENVELOPE__MSG_BORN_ASK);
	tell_state(n1, 2001, false, (uint64_t)(w.epoch - 1) << 32 | 5);
	slave_ask(n1, &(struct slave_question){.kind = MOVE_MOVE,
					       .node = -1,
					       .asker = 2001,
					       .pid = 2001,
					       .parent = 1000,
					       .child = BORN});
	hear_start(home);
	n0 = slave_join(0, "a", NULL);
	tell_born(n0, BORN, false);
	tell_event(n0, BORN, CLD_EXITED, 43, 0, 0);
	tell_end(n0);
	env = slave_expect(home, BPROC__ENVELOPE__MSG_PROC_BORN);
	ck_assert_int_eq(env->proc_born->birth[0]->proc->pid, BORN);
	bproc__envelope__free_unpacked(env, NULL);
	hear_told(home, BORN, CLD_EXITED, 43, 0);
	free_three(home, n0, n1);
}
END_TEST

/*
 * A child of rfork that is to begin at home; home's slave ends before it has said so, and all
 * nodes tell again what was born there. It runs at home, and may have ended: no ghost is to be
 * made of it. Of one that may run on a node there is one, as ever.
 */
START_TEST(born_where_it_begins)
{
	struct fake_slave *home, *n0, *n1;
	int target = _i == 0 ? -1 : 1;
	uint64_t id;

	join_three(&home, &n0, &n1);
	tell_end(home);
	tell_end(n1);
	hear_asked(n0, n1);
	tell_state(n0, 2001, false, 0);
	tell_end(n0);
	tell_born(n0, BORN, false);
	hear(home, BPROC__ENVELOPE__MSG_PROC_BORN);
	slave_ask(n0, &(struct slave_question){.kind = MOVE_RFORK,
					       .node = target,
					       .asker = 2001,
					       .pid = BORN,
					       .parent = 2001});
	id = hear_start(_i == 0 ? home : n1);
	hear(n0, BPROC__ENVELOPE__MSG_MOVE_GRANT);
	slave_free(home);
	home = slave_join(-1, "h", NULL);
	if (_i == 0)
		hear(home, BPROC__ENVELOPE__MSG_MOVE_VOID);
	else
		hear(home, BPROC__ENVELOPE__MSG_PROC_BORN); /* the master itself, before the ends */
	tell_end(home);
	hear_asked(n0, n1);
	tell_born(n0, BORN, true);
	if (_i == 1)
		hear(home, BPROC__ENVELOPE__MSG_PROC_BORN);
	pidnode(n0, BORN); /* it has been heard */
	slave_expect_nothing(home, 100);
	tell_ran(_i == 0 ? home : n1, BORN, id, false);
	hear(n0, BPROC__ENVELOPE__MSG_MOVE_COMMIT);
	ck_assert_int_eq(pidnode(n0, BORN), target);
	free_three(home, n0, n1);
}
END_TEST

/* What home hears: of which use of the number. */
static uint32_t hear_born(struct fake_slave *home)
{
	Bproc__Envelope *env = slave_expect(home, BPROC__ENVELOPE__MSG_PROC_BORN);
	uint32_t gen = env->proc_born->birth[0]->proc->gen;

	ck_assert_int_eq(env->proc_born->birth[0]->proc->pid, BORN);
	bproc__envelope__free_unpacked(env, NULL);
	return gen;
}

static uint32_t hear_end(struct fake_slave *home)
{
	Bproc__Envelope *env = slave_expect(home, BPROC__ENVELOPE__MSG_MIRROR);
	uint32_t gen = env->mirror->proc->gen;

	ck_assert_uint_eq(env->mirror->code, CLD_EXITED);
	bproc__envelope__free_unpacked(env, NULL);
	return gen;
}

/*
 * It has ended where it was born, and home has a new slave before its ghost is gone: it is told
 * again, with its end, and is no other of that number. Unless its node says that it is.
 */
START_TEST(told_again)
{
	struct fake_slave *home, *n0, *n1;
	uint32_t gen, now;

	join_three(&home, &n0, &n1);
	tell_end(home);
	hear_asked(n0, n1);
	tell_end(n0);
	tell_end(n1);
	tell_birth(n0, BORN, false, false);
	gen = hear_born(home);
	tell_event(n0, BORN, CLD_EXITED, 7, 0, 0);
	ck_assert_uint_eq(hear_end(home), gen);
	slave_free(home);
	home = slave_join(-1, "h", NULL);
	ck_assert_uint_eq(hear_born(home), gen); /* it may have missed that too */
	ck_assert_uint_eq(hear_end(home), gen);
	tell_end(home);
	hear_asked(n0, n1);
	tell_birth(n0, BORN, false, _i == 0);
	tell_event(n0, BORN, CLD_EXITED, 7, 0, 0);
	now = hear_born(home);
	ck_assert((now == gen) == (_i == 0));
	ck_assert_uint_eq(hear_end(home), now);
	slave_expect_nothing(home, 100);
	free_three(home, n0, n1);
}
END_TEST

static void tell_zombie(struct fake_slave *s, int pid, int ppid)
{
	Bproc__Zombies m = BPROC__ZOMBIES__INIT;
	Bproc__Zombie z = BPROC__ZOMBIE__INIT, *list[1] = {&z};

	z.pid = pid;
	z.ppid = ppid;
	m.n_zombie = 1;
	m.zombie = list;
	slave_send(s, &m.base);
}

/* The node of a zombie's parent hears of it; nobody but home may say. */
START_TEST(zombies)
{
	struct fake_slave *home, *n0, *n1;
	Bproc__Envelope *env;

	join_three(&home, &n0, &n1);
	tell_proc(home, 1000, true);
	tell_end(home);
	hear_asked(n0, n1);
	tell_proc(n1, 1000, false);
	tell_end(n1);
	slave_expect_nothing(home, 100);
	ck_assert_uint_eq(home->asks, 1); /* which makes it look for zombies */
	tell_zombie(home, 65600, 1000);
	tell_zombie(home, 65601, 2000);
	env = slave_expect(n1, BPROC__ENVELOPE__MSG_ZOMBIES);
	ck_assert_int_eq(env->zombies->zombie[0]->pid, 65600);
	bproc__envelope__free_unpacked(env, NULL);
	tell_zombie(n0, 65600, 1000);
	ck_assert(slave_closed(n0, 2000));
	free_three(home, n0, n1);
}
END_TEST

/* What is real at home goes on when its bpinit is killed: the next one is to tell of its end. */
START_TEST(home_anew)
{
	struct fake_slave *home = slave_join(-1, "h", NULL), *n0 = slave_join(0, "a", NULL);
	Bproc__Envelope *env;

	tell_proc(n0, 1000, true);
	tell_proc(n0, 2001, false);
	tell_end(n0);
	tell_proc(home, 2001, true);
	tell_end(home);
	hear(home, BPROC__ENVELOPE__MSG_WATCH);
	hear(n0, BPROC__ENVELOPE__MSG_BORN_ASK);
	slave_free(home);
	home = slave_join(-1, "another", NULL);
	hear(n0, BPROC__ENVELOPE__MSG_SIGNAL); /* whom nobody can reach any more is killed */
	env = slave_expect(home, BPROC__ENVELOPE__MSG_WATCH);
	ck_assert_int_eq(env->watch->proc->pid, 1000);
	bproc__envelope__free_unpacked(env, NULL);
	tell_event(home, 1000, CLD_EXITED, 7, 9, 0);
	hear_told(n0, 1000, CLD_EXITED, 7, 9);
	slave_free(n0);
	slave_free(home);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("gone");
	TCase *t = tcase_create("gone");
	SRunner *r = srunner_create(s);
	int failed;

	tcase_set_timeout(t, 40);
	tcase_add_checked_fixture(t, setup, master_cleanup);
	tcase_add_loop_test(t, gone_on, 0, 3);
	tcase_add_loop_test(t, coming_home, 0, 2);
	tcase_add_test(t, died_with_it);
	tcase_add_test(t, called_off_early);
	tcase_add_loop_test(t, asked_of_before, 0, 2);
	tcase_add_loop_test(t, born_where_it_begins, 0, 2);
	tcase_add_loop_test(t, told_again, 0, 2);
	tcase_add_test(t, zombies);
	tcase_add_test(t, home_anew);
	suite_add_tcase(s, t);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
