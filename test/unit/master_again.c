/*
 * What was told and lost with a slave that was killed, bpmaster tells again: a birth and an end to
 * home, why a move was aborted to its source. And a move that is asked for twice is one.
 */
#include <check.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>

#include "include/sys/bproc_common.h"
#include "libbproc/local.h"
#include "master_tell.h"

#define BORN 65600

static void setup(void)
{
	master_setup("pingtimeout 2\n");
	master_start();
}

/* Its node has told all of it, and knows it no more: what home missed the master still has. */
START_TEST(born_and_ended)
{
	Bproc__ProcReaped reaped = BPROC__PROC_REAPED__INIT;
	Bproc__Proc proc = proc_of(BORN), *list[1] = {&proc};
	struct fake_slave *home, *n0, *n1;
	Bproc__Envelope *env;
	uint32_t gen;

	join_three(&home, &n0, &n1);
	tell_end(home);
	tell_end(n0);
	tell_end(n1);
	hear_asked(n0, n1);
	tell_born(n0, BORN, false);
	env = slave_expect(home, BPROC__ENVELOPE__MSG_PROC_BORN);
	gen = env->proc_born->birth[0]->proc->gen;
	bproc__envelope__free_unpacked(env, NULL);
	slave_free(home);
	tell_event(n0, BORN, CLD_EXITED, 7, 0, 0);
	reaped.n_proc = 1;
	reaped.proc = list;
	slave_send(n0, &reaped.base);
	pidnode(n0, BORN); /* all of that has been read */
	home = slave_join(-1, "h", NULL);
	env = slave_expect(home, BPROC__ENVELOPE__MSG_PROC_BORN);
	ck_assert_int_eq(env->proc_born->birth[0]->proc->pid, BORN);
	ck_assert_uint_eq(env->proc_born->birth[0]->proc->gen, gen);
	ck_assert(env->proc_born->birth[0]->again);
	bproc__envelope__free_unpacked(env, NULL);
	hear_told(home, BORN, CLD_EXITED, 7, 0);
	hear(home, BPROC__ENVELOPE__MSG_PROC_REAPED);
	free_three(home, n0, n1);
}
END_TEST

/*
 * A family that was born while home was away, and some have ended: home hears of all births before
 * any end, parents first.
 */
START_TEST(births_before_ends)
{
	enum { FAMILY = 100 }; /* more than go into one message */
	struct fake_slave *home, *n0, *n1;
	Bproc__Envelope *env;
	int next = 0;

	join_three(&home, &n0, &n1);
	tell_end(home);
	tell_end(n0);
	tell_end(n1);
	hear_asked(n0, n1);
	slave_free(home);
	for (int i = 0; i < FAMILY; i++)
		tell_child(n0, BORN + i * 7 % FAMILY, i ? BORN + (i - 1) * 7 % FAMILY : 0);
	tell_event(n0, BORN, CLD_EXITED, 7, 0, 0);
	tell_event(n0, BORN + 7, CLD_EXITED, 8, 0, 0);
	pidnode(n0, BORN); /* all of that has been read */
	home = slave_join(-1, "h", NULL);
	while (next < FAMILY) {
		env = slave_expect(home, BPROC__ENVELOPE__MSG_PROC_BORN);
		for (size_t i = 0; i < env->proc_born->n_birth; i++, next++) {
			const Bproc__Birth *b = env->proc_born->birth[i];

			ck_assert_int_eq(b->proc->pid, BORN + next * 7 % FAMILY);
			ck_assert_int_eq(b->ppid, next ? BORN + (next - 1) * 7 % FAMILY : 0);
			ck_assert(b->again && b->args.len == sizeof("prog"));
		}
		bproc__envelope__free_unpacked(env, NULL);
	}
	hear(home, BPROC__ENVELOPE__MSG_MIRROR);
	hear(home, BPROC__ENVELOPE__MSG_MIRROR);
	slave_expect_nothing(home, 100);
	free_three(home, n0, n1);
}
END_TEST

/* Its bpslave was killed before it could pass on the word: the next one asks, and hears the same.
 */
START_TEST(aborted)
{
	Bproc__MoveFailed failed = BPROC__MOVE_FAILED__INIT;
	struct fake_slave *home, *n0;
	char text[] = "fd 7 is odd";
	Bproc__Envelope *env;

	home = slave_join_empty(-1, "h");
	n0 = slave_join_empty(0, "a");
	ck_assert(slave_sees(home, 0, "up", 2000));
	slave_ask(
		home,
		&(struct slave_question){
			.kind = MOVE_MOVE, .node = 0, .asker = 2001, .pid = 2001, .parent = 1000});
	failed.move = hear_start(n0);
	failed.target = true;
	failed.err = ENXIO;
	failed.text = text;
	slave_send(n0, &failed.base);
	hear(home, BPROC__ENVELOPE__MSG_MOVE_GRANT);
	hear(home, BPROC__ENVELOPE__MSG_WATCH); /* of its parent */
	hear(home, BPROC__ENVELOPE__MSG_MOVE_ABORT);
	slave_free(home);
	home = slave_join(-1, "h", NULL);
	hear(home, BPROC__ENVELOPE__MSG_WATCH); /* again */
	tell_move(home, failed.move, MOVE_MOVE, 0, 2001);
	env = slave_expect(home, BPROC__ENVELOPE__MSG_MOVE_ABORT);
	ck_assert_uint_eq(env->move_abort->err, ENXIO);
	ck_assert_str_eq(env->move_abort->text, text);
	bproc__envelope__free_unpacked(env, NULL);
	slave_free(n0);
	slave_free(home);
}
END_TEST

static void hear_again(struct fake_slave *s, uint32_t req)
{
	Bproc__Envelope *env = slave_expect(s, BPROC__ENVELOPE__MSG_MOVE_DENY);

	ck_assert(env->move_deny->again);
	ck_assert_uint_eq(env->move_deny->req, req);
	bproc__envelope__free_unpacked(env, NULL);
}

/*
 * The grant is lost with the link, and it is asked for again on the next one: what was made of the
 * first question is called off first. Then it may be asked, and is another move. Never are there
 * two.
 */
START_TEST(grant_lost)
{
	static const uint32_t kind[] = {MOVE_MOVE, MOVE_RFORK, MOVE_REXEC, MOVE_EXECMOVE,
					MOVE_LIVE};
	struct slave_question q = {.kind = kind[_i],
				   .node = 0,
				   .asker = kind[_i] == MOVE_RFORK ? 1000 : 2001,
				   .pid = 2001,
				   .parent = 1000};
	struct fake_slave *home, *n0;
	uint64_t id, next;

	home = slave_join_empty(-1, "h");
	n0 = slave_join_empty(0, "a");
	ck_assert(slave_sees(home, 0, "up", 2000));
	slave_ask(home, &q);
	id = hear_start(n0);
	slave_free(home);
	home = slave_join(-1, "h", NULL);
	hear(home, BPROC__ENVELOPE__MSG_WATCH); /* of its parent, again */
	hear(n0, BPROC__ENVELOPE__MSG_MOVE_VOID);
	tell_end(home);
	hear(n0, BPROC__ENVELOPE__MSG_BORN_ASK);
	q.again = true;
	slave_ask(home, &q);
	slave_expect_nothing(n0, 100);
	slave_expect_nothing(home, 100);
	tell_voided(n0, id);
	hear(home, BPROC__ENVELOPE__MSG_MOVE_ABORT);
	hear_again(home, 5);
	slave_ask(home, &q);
	next = hear_start(n0);
	ck_assert_uint_ne(next, id);
	hear(home, BPROC__ENVELOPE__MSG_MOVE_GRANT);
	tell_ran(n0, 2001, next, false);
	hear(home, BPROC__ENVELOPE__MSG_MOVE_COMMIT);
	slave_free(n0);
	slave_free(home);
}
END_TEST

/* It came to where it asks by a move of the last master, which its source has not heard the end of.
 */
START_TEST(last_move_open)
{
	struct slave_question q = {
		.kind = MOVE_MOVE, .node = 1, .asker = 2001, .pid = 2001, .parent = 1000};
	Bproc__MoveGhosted ghosted = BPROC__MOVE_GHOSTED__INIT;
	struct fake_slave *home, *n0, *n1;
	uint64_t last;

	last = join_three(&home, &n0, &n1);
	ck_assert(slave_sees(home, 1, "up", 2000));
	tell_move(home, last, MOVE_MOVE, 0, 2001);
	tell_end(home);
	hear(n0, BPROC__ENVELOPE__MSG_MOVE_VOID);
	hear_asked(n0, n1);
	tell_state(n0, 2001, false, last);
	tell_end(n0);
	slave_ask(n0, &q);
	slave_expect_nothing(n0, 100);
	tell_ran(n0, 2001, last, false);
	hear(home, BPROC__ENVELOPE__MSG_MOVE_COMMIT);
	ghosted.move = last;
	slave_send(home, &ghosted.base);
	hear_again(n0, 5);
	slave_ask(n0, &q);
	hear_start(n1);
	hear(n0, BPROC__ENVELOPE__MSG_MOVE_GRANT);
	free_three(home, n0, n1);
}
END_TEST

/* The target is not back yet: no answer, until it is, or is dead. */
START_TEST(target_away)
{
	struct slave_question q = {
		.kind = MOVE_MOVE, .node = 0, .asker = 2001, .pid = 2001, .parent = 1000};
	struct fake_slave *home, *n0;
	Bproc__Envelope *env;

	home = slave_join_empty(-1, "h");
	n0 = slave_join_empty(0, "a");
	ck_assert(slave_sees(home, 0, "up", 2000));
	slave_free(n0);
	slave_free(home);
	master_stop(SIGKILL);
	master_start();
	home = slave_join_empty(-1, "h");
	slave_ask(home, &q);
	slave_expect_nothing(home, 100);
	/* It asks for one that never was there, too. */
	q.node = 1;
	slave_ask(home, &q);
	env = slave_expect(home, BPROC__ENVELOPE__MSG_MOVE_DENY);
	ck_assert(!env->move_deny->again);
	ck_assert_uint_eq(env->move_deny->err, BE_NODEDOWN);
	bproc__envelope__free_unpacked(env, NULL);
	q.node = 0;
	n0 = _i ? slave_join_empty(0, "a") : NULL;
	env = slave_expect(home, BPROC__ENVELOPE__MSG_MOVE_DENY);
	ck_assert(env->move_deny->again);
	bproc__envelope__free_unpacked(env, NULL);
	slave_ask(home, &q);
	if (_i) {
		hear_start(n0);
		hear(home, BPROC__ENVELOPE__MSG_MOVE_GRANT);
		hear(home, BPROC__ENVELOPE__MSG_WATCH);
		slave_free(n0);
	} else {
		env = slave_expect(home, BPROC__ENVELOPE__MSG_MOVE_DENY);
		ck_assert_uint_eq(env->move_deny->err, BE_NODEDOWN);
		bproc__envelope__free_unpacked(env, NULL);
	}
	slave_free(home);
}
END_TEST

/*
 * Home tells of it by a generation whose entry is no more, and the entry of now is that of its
 * move, which is decided before or after that.
 */
START_TEST(other_generation)
{
	Bproc__ProcState state = BPROC__PROC_STATE__INIT;
	Bproc__Proc proc = proc_of(2001);
	struct fake_slave *home, *n0;
	uint64_t id;

	home = slave_join_empty(-1, "h");
	n0 = slave_join_empty(0, "a");
	ck_assert(slave_sees(home, 0, "up", 2000));
	slave_ask(
		home,
		&(struct slave_question){
			.kind = MOVE_MOVE, .node = 0, .asker = 2001, .pid = 2001, .parent = 1000});
	id = hear_start(n0);
	if (_i)
		tell_ran(n0, 2001, id, false);
	fake_run(100);
	proc.gen = 4711;
	state.proc = &proc;
	state.move = id - ((uint64_t)1 << 32);
	slave_send(home, &state.base);
	fake_run(100);
	if (!_i)
		tell_ran(n0, 2001, id, false);
	fake_run(100);
	ck_assert_int_eq(pidnode(n0, 2001), 0);
	slave_free(n0);
	slave_free(home);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("again");
	TCase *t = tcase_create("again");
	SRunner *r = srunner_create(s);
	int failed;

	tcase_add_checked_fixture(t, setup, master_cleanup);
	tcase_set_timeout(t, 30);
	tcase_add_test(t, born_and_ended);
	tcase_add_test(t, births_before_ends);
	tcase_add_test(t, aborted);
	tcase_add_loop_test(t, grant_lost, 0, 5);
	tcase_add_test(t, last_move_open);
	tcase_add_loop_test(t, target_away, 0, 2);
	tcase_add_loop_test(t, other_generation, 0, 2);
	suite_add_tcase(s, t);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
