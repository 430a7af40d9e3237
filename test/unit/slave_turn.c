/*
 * Whose turn it is: a process that is on its third node, and has closed its stdin on the second,
 * before home has heard the end of the first (slave_streams.h).
 */
#include <check.h>

#include "slave_streams.h"

/* Nobody reads stdin at the second node; the end of the first comes after that word. */
START_TEST(reset_before_its_turn)
{
	open_streams(&n0, 0);
	open_streams(&n1, STREAM_UNKNOWN);
	reset_stdin(&n1);
	ck_assert_uint_eq(n1.credits, 0); /* its output has to wait */
	data(&n0, 0, "first ");
	end(&n0, STREAM_ALL, 6);
	ck_assert_uint_eq(n1.credits, STREAM_OUTPUTS);
	data(&n1, 6, "second");
	await_flush();
	ck_assert_int_eq(flushes, 0);
	end(&n1, STREAM_OUTPUTS, 12);
	ck_assert_int_eq(flushes, 1);
	check_output("first second");
}
END_TEST

/* On to a third: the second has its turn all the same. */
START_TEST(three_nodes)
{
	open_three();
	end(&n0, STREAM_ALL, 0);
	ck_assert_uint_eq(n1.credits, STREAM_OUTPUTS);
	ck_assert_uint_eq(n2.credits, 0);
	data(&n1, 0, "second ");
	await_flush();
	end(&n1, STREAM_ALL, 7);
	ck_assert_uint_eq(n2.credits, STREAM_OUTPUTS);
	data(&n2, 7, "third");
	ck_assert_int_eq(flushes, 0);
	end(&n2, STREAM_ALL, 12);
	ck_assert_int_eq(flushes, 1);
	check_output("second third");
}
END_TEST

/* The second one's link breaks while it waits, and the third is served. */
START_TEST(waiting_link_breaks)
{
	open_three();
	stdio_peer_down(&n1);
	end(&n0, STREAM_ALL, 0);
	ck_assert_uint_eq(n1.credits, 0);
	ck_assert_uint_eq(n2.credits, STREAM_OUTPUTS);
	ck_assert_uint_eq(n2.resets, 0);
}
END_TEST

/* Nothing comes on stdin, so its second node never hears where that begins. */
START_TEST(idle_stdin)
{
	open_streams(&n0, 0);
	open_streams(&n1, STREAM_UNKNOWN);
	end(&n0, STREAM_ALL, 0);
	await_flush();
	used = STREAM_UNKNOWN;
	end(&n1, STREAM_ALL, 0);
	used = 0;
	ck_assert_int_eq(flushes, 1);
}
END_TEST

/* The second node's first words overtake the first one's; and those of a third both. */
START_TEST(overtaken)
{
	open_visit(&n1, 11, 10, STREAM_UNKNOWN);
	ck_assert_uint_eq(n1.credits, 0);
	open_visit(&n2, 12, 11, STREAM_UNKNOWN);
	await_visit(12);
	open_visit(&n0, 10, 0, 0);
	data(&n0, 0, "first ");
	end(&n0, STREAM_ALL, 6);
	ck_assert_uint_eq(n1.credits, STREAM_OUTPUTS);
	ck_assert_uint_eq(n2.credits, 0);
	data(&n1, 6, "second ");
	end(&n1, STREAM_ALL, 13);
	ck_assert_uint_eq(n2.credits, STREAM_OUTPUTS);
	data(&n2, 13, "third");
	ck_assert_int_eq(flushes, 0);
	end(&n2, STREAM_ALL, 18);
	ck_assert_int_eq(flushes, 1);
	check_output("first second third");
}
END_TEST

/* What the first node has said is not all, if the process was on a second one since. */
START_TEST(last_visit)
{
	open_visit(&n0, 10, 0, 0);
	end(&n0, STREAM_ALL, 0);
	await_visit(11);
	ck_assert_int_eq(flushes, 0);
	open_visit(&n1, 11, 10, STREAM_UNKNOWN);
	data(&n1, 0, "second");
	end(&n1, STREAM_ALL, 6);
	ck_assert_int_eq(flushes, 1);
	check_output("second");
}
END_TEST

/* The first one has a new bpslave, and never says a word: the second is served all the same. */
START_TEST(never_opens)
{
	open_visit(&n1, 11, 10, STREAM_UNKNOWN);
	ck_assert_uint_eq(n1.credits, 0);
	let_time_pass();
	ck_assert_uint_eq(n1.credits, STREAM_OUTPUTS);
}
END_TEST

/*
 * It was to leave by move 11, which was aborted, and has left by 12. The first words of where it is
 * now come before all that: they wait for the end that was said for their move.
 */
START_TEST(end_of_an_aborted_move)
{
	open_visit(&n0, 10, 0, 0);
	open_visit(&n1, 12, 10, STREAM_UNKNOWN);
	data(&n0, 0, "first ");
	end_for(&n0, 11, 6);
	ck_assert_uint_eq(n1.credits, 0);
	n0.credits = 0;
	open_visit(&n0, 10, 0, 0);
	ck_assert_uint_ne(n0.credits & STREAM_BIT(1), 0);
	data(&n0, 6, "more ");
	ck_assert_uint_eq(n1.credits, 0);
	end_for(&n0, 12, 11);
	ck_assert_uint_eq(n1.credits, STREAM_OUTPUTS);
	data(&n1, 11, "second");
	check_output("first more second");
	ck_assert_uint_eq(n0.resets | n1.resets, 0);
}
END_TEST

/* The same, and its words come between the end of the aborted move and that it stays. */
START_TEST(between_end_and_stay)
{
	open_visit(&n0, 10, 0, 0);
	end_for(&n0, 11, 0);
	open_visit(&n1, 12, 10, STREAM_UNKNOWN);
	ck_assert_uint_eq(n1.credits, 0);
	open_visit(&n0, 10, 0, 0);
	data(&n0, 0, "first");
	end_for(&n0, 12, 5);
	ck_assert_uint_eq(n1.credits, STREAM_OUTPUTS);
	check_output("first");
}
END_TEST

/* It comes home, or ends where it was, and home has heard the end of an aborted move only. */
START_TEST(home_after_an_aborted_move)
{
	const uint64_t by = _i == 0 ? 12 : 0;

	open_visit(&n0, 10, 0, 0);
	data(&n0, 0, "first ");
	end_for(&n0, 11, 6);
	await_home(10, by);
	ck_assert_int_eq(flushes, 0);
	open_visit(&n0, 10, 0, 0);
	data(&n0, 6, "more");
	ck_assert_int_eq(flushes, 0);
	end_for(&n0, by, 10);
	ck_assert_int_eq(flushes, 1);
	check_output("first more");
}
END_TEST

/*
 * The first one is lost, or its bpslave was killed, of which the next one does not even know where
 * the process came from (2). It had been given some of stdin: what was read of that is not known.
 * What follows would have a gap before it, or be read twice.
 */
START_TEST(stdin_of_a_lost_node)
{
	open_visit(&n0, 10, 0, 0);
	if (_i > 0) {
		ck_assert_int_eq(write(ghost.theirs[0], "first", 5), 5);
		stdio_fill(&stdio_find(PID)->s[0]);
	}
	open_visit(&n1, 11, _i == 2 ? 0 : 10, STREAM_UNKNOWN);
	stdio_peer_down(&n0);
	ck_assert_uint_eq(n1.credits, 0);
	let_time_pass();
	ck_assert_uint_eq(n1.resets, _i > 0 ? STREAM_BIT(0) : 0);
	ck_assert_str_eq(told, _i > 0 ? "first" : "");
	ck_assert_uint_eq(n1.credits, STREAM_OUTPUTS);
	if (_i > 0)
		return;
	ck_assert_int_eq(write(ghost.theirs[0], "second", 6), 6);
	stdio_fill(&stdio_find(PID)->s[0]);
	ck_assert_str_eq(told, "second");
}
END_TEST

/* Its node says nothing more: what there is, is handed over all the same. */
START_TEST(never_stays)
{
	open_visit(&n0, 10, 0, 0);
	data(&n0, 0, "first");
	end_for(&n0, 11, 5);
	await_home(10, 12);
	ck_assert_int_eq(flushes, 0);
	let_time_pass();
	ck_assert_int_eq(flushes, 1);
	check_output("first");
}
END_TEST

int main(void)
{
	Suite *s = suite_create("turn");
	TCase *t = tcase_create("turn");
	SRunner *r = srunner_create(s);
	int failed;

	tcase_add_checked_fixture(t, streams_setup, streams_teardown);
	tcase_add_test(t, reset_before_its_turn);
	tcase_add_test(t, three_nodes);
	tcase_add_test(t, waiting_link_breaks);
	tcase_add_test(t, idle_stdin);
	tcase_add_test(t, overtaken);
	tcase_add_test(t, last_visit);
	tcase_add_test(t, never_opens);
	tcase_add_test(t, end_of_an_aborted_move);
	tcase_add_test(t, between_end_and_stay);
	tcase_add_loop_test(t, home_after_an_aborted_move, 0, 2);
	tcase_add_test(t, never_stays);
	tcase_add_loop_test(t, stdin_of_a_lost_node, 0, 3);
	suite_add_tcase(s, t);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
