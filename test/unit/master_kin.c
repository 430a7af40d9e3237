/*
 * What a master tells the target of a move of the relatives that go along, and of the ghosts that
 * were made there, whatever becomes of the move. doc/move.md; doc/wire.md, section 7.
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

/* 2001 came to node 0 by this move, its child 2002 to node 1 by the next: ghosts elsewhere. */
static uint64_t child_away(struct fake_slave **home, struct fake_slave **n0, struct fake_slave **n1)
{
	uint64_t id = join_three(home, n0, n1);

	for (int pid = 2001; pid <= 2002; pid++) {
		tell_proc(*home, pid, true);
		tell_state(*n0, pid, pid == 2002, pid == 2001 ? id : 0);
	}
	tell_end(*home);
	hear_asked(*n0, *n1);
	tell_state(*n1, 2002, false, id + 1);
	tell_end(*n0);
	tell_end(*n1);
	return id;
}

/* 2001 asks on n0 to move to n1, with its child 2002, and is let go. */
static void leaves_with_child(struct fake_slave *n0, struct fake_slave *n1, unsigned int state)
{
	slave_ask(n0, &(struct slave_question){.kind = MOVE_MOVE,
					       .node = 1,
					       .asker = 2001,
					       .pid = 2001,
					       .parent = 1000,
					       .child = 2002,
					       .child_state = state});
	hear_start(n1);
}

/*
 * Real on node 1, where its parent goes to from node 0 with a ghost of it; it ends before that has
 * arrived there (which then has a ghost of it made), or before that has asked.
 */
START_TEST(ends_where_parent_goes)
{
	struct fake_slave *home, *n0, *n1;
	uint64_t id = child_away(&home, &n0, &n1);

	if (_i == 1)
		tell_event(n1, 2002, CLD_EXITED, 7, 9, id + 1);
	heard(n1); /* it has been heard */
	leaves_with_child(n0, n1, 0);
	if (_i == 0)
		tell_event(n1, 2002, CLD_EXITED, 7, 9, id + 1);
	hear_told(n1, 2002, CLD_EXITED, 7, 9);
	if (_i == 0)
		hear(home, BPROC__ENVELOPE__MSG_WATCH); /* of the parent's parent */
	hear_told(home, 2002, CLD_EXITED, 7, 9);
	free_three(home, n0, n1);
}
END_TEST

static void tell_cont(struct fake_slave *s, int pid)
{
	Bproc__Signal m = BPROC__SIGNAL__INIT;
	Bproc__Proc p = proc_of(pid);

	m.proc = &p;
	m.sig = SIGCONT;
	slave_send(s, &m.base); /* of node 0's bpinit: 0 */
}

/*
 * It has stopped, and runs as its parent's node says, where that asks to leave: that is older than
 * the word on the stop, which the target is told then. Not if its ghost there was sent a SIGCONT,
 * by which the kernel has shown already that it goes on, nor if it is real there.
 */
START_TEST(goes_on_at_source)
{
	struct fake_slave *home, *n0, *n1;
	uint64_t id = join_three(&home, &n0, &n1);
	bool real = _i == 2;

	tell_proc(home, 2001, true);
	tell_state(home, 2002, real, real ? 0 : id + 1);
	tell_end(home);
	hear_asked(n0, n1);
	tell_state(n0, 2001, false, id);
	tell_state(n0, 2002, !real, real ? id + 1 : 0);
	tell_end(n0);
	tell_end(n1);
	tell_event(real ? n0 : home, 2002, CLD_STOPPED, SIGSTOP, 9, id + 1);
	hear_told(real ? home : n0, 2002, CLD_STOPPED, SIGSTOP, 9);
	if (_i == 1) {
		hear(home, BPROC__ENVELOPE__MSG_WATCH);
		tell_cont(n0, 2002);
		hear(home, BPROC__ENVELOPE__MSG_SIGNAL);
	}
	leaves_with_child(n0, n1, 0);
	if (_i == 0)
		hear_told(n1, 2002, CLD_STOPPED, SIGSTOP, 9);
	slave_expect_nothing(n1, 100);
	free_three(home, n0, n1);
}
END_TEST

/*
 * It stops where its parent goes to, and the master hears of that before it is asked, or when it
 * has said yes: that node is told so, for its parent cannot know, and the ghost of that has taken
 * the stop. Not if its ghost at the source was sent a SIGCONT.
 */
START_TEST(stops_where_parent_goes)
{
	struct fake_slave *home, *n0, *n1;
	uint64_t id = child_away(&home, &n0, &n1);

	if (_i != 1) {
		tell_event(n1, 2002, CLD_STOPPED, SIGSTOP, 9, id + 1);
		hear_told(n0, 2002, CLD_STOPPED, SIGSTOP, 9);
	}
	if (_i == 2) {
		tell_cont(n0, 2002);
		hear(n1, BPROC__ENVELOPE__MSG_SIGNAL);
	}
	leaves_with_child(n0, n1, 0);
	if (_i == 1) {
		heard(n1); /* it has been granted */
		tell_event(n1, 2002, CLD_STOPPED, SIGSTOP, 9, id + 1);
	}
	if (_i != 2)
		hear_told(n1, 2002, CLD_STOPPED, SIGSTOP, 9);
	slave_expect_nothing(n1, 100);
	free_three(home, n0, n1);
}
END_TEST

static void confirm(struct fake_slave *s, int pid, uint64_t seq, uint64_t move)
{
	Bproc__Mirrored m = BPROC__MIRRORED__INIT;
	Bproc__Proc p = proc_of(pid);

	m.proc = &p;
	m.seq = seq;
	m.move = move;
	slave_send(s, &m.base);
}

/*
 * Its parent has seen that it stopped; it has gone on and stopped again where its parent goes to,
 * and the ghost at the source has not got that, when it is asked about: the target is told. Not if
 * it has: then that is the stop that was seen.
 */
START_TEST(stops_again_where_parent_goes)
{
	struct fake_slave *home, *n0, *n1;
	uint64_t id = child_away(&home, &n0, &n1);

	tell_event(n1, 2002, CLD_STOPPED, SIGSTOP, 9, id + 1);
	hear_told(n0, 2002, CLD_STOPPED, SIGSTOP, 9);
	confirm(n0, 2002, 9, id + 1);
	if (_i == 0) {
		tell_event(n1, 2002, CLD_CONTINUED, SIGCONT, 10, id + 1);
		hear_told(n0, 2002, CLD_CONTINUED, SIGCONT, 10);
		tell_event(n1, 2002, CLD_STOPPED, SIGSTOP, 11, id + 1);
		hear_told(n0, 2002, CLD_STOPPED, SIGSTOP, 11);
	}
	leaves_with_child(n0, n1, CHAIN_STOP_SEEN);
	if (_i == 0)
		hear_told(n1, 2002, CLD_STOPPED, SIGSTOP, 11);
	slave_expect_nothing(n1, 100);
	free_three(home, n0, n1);
}
END_TEST

/*
 * A child of rfork has a child, which asks to move on before the master has heard that its parent
 * runs: with it goes a ghost of that, which hears of its end.
 */
START_TEST(asked_by_its_child)
{
	struct fake_slave *home, *n0, *n1;
	uint64_t id;

	join_three(&home, &n0, &n1);
	tell_end(home);
	hear_asked(n0, n1);
	tell_end(n0);
	tell_end(n1);
	slave_ask(
		home,
		&(struct slave_question){
			.kind = MOVE_RFORK, .node = 0, .asker = 2000, .pid = 2001, .parent = 2000});
	id = hear_start(n0);
	hear(home, BPROC__ENVELOPE__MSG_MOVE_GRANT);
	hear(home, BPROC__ENVELOPE__MSG_WATCH); /* of its parent */
	tell_born(n0, BORN, false);
	hear(home, BPROC__ENVELOPE__MSG_PROC_BORN);
	slave_ask(
		n0,
		&(struct slave_question){
			.kind = MOVE_MOVE, .node = 1, .asker = BORN, .pid = BORN, .parent = 2001});
	hear_start(n1);
	hear(n0, BPROC__ENVELOPE__MSG_MOVE_GRANT);
	tell_ran(n0, 2001, id, false);
	ck_assert_int_eq(pidnode(n0, 2001), 0);
	tell_event(n0, 2001, CLD_EXITED, 7, 9, id);
	hear_told(n1, 2001, CLD_EXITED, 7, 9);
	free_three(home, n0, n1);
}
END_TEST

/* Of node 0 to node 1, with this child, or 0. Returns its move. */
static uint64_t goes_there(struct fake_slave *n0, struct fake_slave *n1, int pid, int parent,
			   int child)
{
	slave_ask(n0, &(struct slave_question){.kind = MOVE_MOVE,
					       .node = 1,
					       .asker = pid,
					       .pid = pid,
					       .parent = parent,
					       .child = child});
	return hear_start(n1);
}

/*
 * Both are on their way to node 1, where the child has come and ended when its parent comes. Its
 * parent has set out second, or first.
 */
START_TEST(both_go_there)
{
	struct fake_slave *home, *n0, *n1;
	uint64_t id = join_three(&home, &n0, &n1);

	for (int pid = 2001; pid <= 2002; pid++) {
		tell_proc(home, pid, true);
		tell_state(n0, pid, false, id + (uint64_t)pid);
	}
	tell_end(home);
	hear_asked(n0, n1);
	tell_end(n0);
	tell_end(n1);
	if (_i == 1)
		goes_there(n0, n1, 2001, 1000, 2002);
	id = goes_there(n0, n1, 2002, 2001, 0);
	if (_i == 0)
		goes_there(n0, n1, 2001, 1000, 2002);
	tell_ran(n1, 2002, id, false);
	tell_event(n1, 2002, CLD_EXITED, 7, 9, id);
	hear_told(n1, 2002, CLD_EXITED, 7, 9);
	free_three(home, n0, n1);
}
END_TEST

/*
 * Its move with a child is called off: node 1 has failed, or its own node is dead. Node 1 has
 * made a ghost of it for the child's, and hears of its end; it says that it has one, or that it
 * never had.
 */
START_TEST(ghost_that_stays)
{
	struct fake_slave *home, *n0, *n1;
	Bproc__MoveFailed failed = BPROC__MOVE_FAILED__INIT;
	Bproc__Mirrored done = BPROC__MIRRORED__INIT;
	uint64_t id = join_three(&home, &n0, &n1);
	Bproc__Proc p = proc_of(2001);

	tell_proc(home, 2001, true);
	tell_end(home);
	hear_asked(n0, n1);
	tell_state(n0, 2001, false, id);
	tell_end(n0);
	tell_end(n1);
	slave_ask(n0, &(struct slave_question){.kind = MOVE_MOVE,
					       .node = 1,
					       .asker = 2001,
					       .pid = 2001,
					       .parent = 1000,
					       .child = BORN});
	id = hear_start(n1);
	hear(n0, BPROC__ENVELOPE__MSG_MOVE_GRANT);
	hear(n0, BPROC__ENVELOPE__MSG_WATCH);	/* of the child, */
	hear(home, BPROC__ENVELOPE__MSG_WATCH); /* and of the parent */
	if (_i == 0) {
		failed.move = id;
		failed.target = true;
		failed.err = EAGAIN;
		slave_send(n1, &failed.base);
		hear(n0, BPROC__ENVELOPE__MSG_MOVE_ABORT);
		tell_event(n0, 2001, CLD_EXITED, 7, 9, 0);
		hear_told(n1, 2001, CLD_EXITED, 7, 9);
		hear_told(home, 2001, CLD_EXITED, 7, 9);
		done.proc = &p;
		slave_send(n1, &done.base);
		slave_send(home, &done.base);
		hear(n0, BPROC__ENVELOPE__MSG_EVENT_ACK); /* nobody is waited for any more */
	} else {
		slave_free(n0);
		n0 = slave_join(0, "another", NULL);
		hear(n1, BPROC__ENVELOPE__MSG_MOVE_VOID);
		hear_told(n1, BORN, CLD_KILLED, SIGKILL, 0);
		tell_voided(n1, id);
		hear_told(n1, 2001, CLD_KILLED, SIGKILL, 0);
		hear_told(home, 2001, CLD_KILLED, SIGKILL, 0);
	}
	free_three(home, n0, n1);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("kin");
	TCase *t = tcase_create("kin");
	SRunner *r = srunner_create(s);
	int failed;

	tcase_set_timeout(t, 40);
	tcase_add_checked_fixture(t, setup, master_cleanup);
	tcase_add_loop_test(t, ends_where_parent_goes, 0, 2);
	tcase_add_loop_test(t, goes_on_at_source, 0, 3);
	tcase_add_loop_test(t, stops_where_parent_goes, 0, 3);
	tcase_add_loop_test(t, stops_again_where_parent_goes, 0, 2);
	tcase_add_test(t, asked_by_its_child);
	tcase_add_loop_test(t, both_go_there, 0, 2);
	tcase_add_loop_test(t, ghost_that_stays, 0, 2);
	suite_add_tcase(s, t);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
