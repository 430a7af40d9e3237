/*
 * Which visit to a node a word is of, and what others hold of a process that has ended
 * (slave_streams.h).
 */
#include <check.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "slave_streams.h"

#define THERE 4243 /* when the test is a node */

/* Back on the first node, where nobody reads stdin any more; what is left there of its first visit
 * has its own. */
START_TEST(reset_of_a_later_visit)
{
	open_visit(&n0, 10, 0, 0);
	open_visit(&n1, 11, 10, STREAM_UNKNOWN);
	open_visit(&n0, 12, 11, STREAM_UNKNOWN);
	of_visit = 12;
	reset_stdin(&n0);
	of_visit = 10;
	data(&n0, 0, "first ");
	end(&n0, STREAM_ALL, 6);
	ck_assert_uint_eq(n1.resets, 0);
	of_visit = 11;
	data(&n1, 6, "second ");
	end(&n1, STREAM_ALL, 13);
	of_visit = 12;
	data(&n0, 13, "third");
	await_visit(12);
	end(&n0, STREAM_OUTPUTS, 18);
	ck_assert_int_eq(flushes, 1);
	check_output("first second third");
}
END_TEST

/*
 * Its link breaks when the process is there again, and it has not heard that home has all of the
 * first visit: it says all of that again.
 */
START_TEST(earlier_visit_again)
{
	open_visit(&n0, 10, 0, 0);
	data(&n0, 0, "first ");
	end(&n0, STREAM_ALL, 6);
	open_visit(&n1, 11, 10, STREAM_UNKNOWN);
	end(&n1, STREAM_ALL, 6);
	open_visit(&n0, 12, 11, STREAM_UNKNOWN);
	of_visit = 12;
	data(&n0, 6, "third ");
	stdio_peer_down(&n0);
	n0.resets = 0;
	open_visit(&n0, 12, 0, 6);
	open_visit(&n0, 10, 0, 0);
	ck_assert_uint_eq(n0.resets, STREAM_ALL); /* of visit 10 */
	of_visit = 10;
	data(&n0, 0, "first ");
	end(&n0, STREAM_ALL, 6);
	of_visit = 12;
	data(&n0, 12, "more");
	await_visit(12);
	ck_assert_int_eq(flushes, 0);
	end(&n0, STREAM_ALL, 16);
	ck_assert_int_eq(flushes, 1);
	check_output("first third more");
}
END_TEST

/*
 * Home's bpslave is new: a node opens streams before bpinit has said whose ghosts there are. 2: and
 * waits for its turn, behind another node that has not opened them.
 */
START_TEST(ghost_of_before)
{
	proc.pid = THERE;
	if (_i == 1)
		stdio_lost(THERE);
	open_visit(&n0, 11, _i == 2 ? 10 : 0, _i == 2 ? STREAM_UNKNOWN : 0);
	of_visit = 11;
	if (_i < 2)
		data(&n0, 0, "for nobody");
	ck_assert_uint_eq(n0.resets, _i == 1 ? STREAM_ALL : 0);
	stdio_lost(THERE);
	ck_assert_uint_eq(n0.resets, STREAM_ALL);
	stdio_forget_home(THERE);
	proc.pid = PID;
}
END_TEST

#define REST (-(1 << 16) - 1) /* what others hold on node 0 */

static void open_rest(struct peer *q, uint64_t at)
{
	Bproc__StreamOpen m = BPROC__STREAM_OPEN__INIT;
	int32_t of = PID;

	proc.pid = REST;
	m.proc = &proc;
	m.mask = STREAM_BIT(1);
	m.at = &at;
	m.n_at = 1;
	m.of = &of;
	m.n_of = 1;
	say(q, BPROC__ENVELOPE__MSG_STREAM_OPEN, &m);
	proc.pid = PID;
}

/* What the children of one that has ended hold: nobody but their node tells of its end. */
START_TEST(rest_of_a_lost_node)
{
	open_streams(&n0, 0);
	open_rest(&n0, 0);
	stdio_peer_down(&n0);
	stdio_table_changed();
	ck_assert_ptr_nonnull(stdio_find(REST));
	strcpy(n0_row.status, "down");
	stdio_table_changed();
	ck_assert_ptr_null(stdio_find(REST));
	strcpy(n0_row.status, "up");
}
END_TEST

/* A master that was started anew calls every node down until that is back. */
START_TEST(down_with_a_new_master)
{
	slave.ping_timeout_ms = 1000;
	open_streams(&n0, 0);
	data(&n0, 0, "on");
	await_flush();
	strcpy(n0_row.status, "down");
	n0_row.life = _i == 0 ? 7 : 0; /* 7: it was there, under this one */
	slave.epoch = 2;
	stdio_table_changed();
	ck_assert_int_eq(flushes, _i == 0);
	if (_i == 1) {
		data(&n0, 2, " its way");
		end(&n0, STREAM_ALL, 10);
	} else if (_i == 2) {
		now += 2500; /* nor does it come back */
		let_time_pass();
	}
	ck_assert_int_eq(flushes, 1);
	check_output(_i == 1 ? "on its way" : "on");
	strcpy(n0_row.status, "up");
	n0_row.life = 0;
}
END_TEST

/* What a lost node had sent before that is read slowly, and is waited for. */
START_TEST(came_from_a_lost_node)
{
	static char text[30000], got[sizeof(text)];
	ssize_t n, all = 0;

	memset(text, 'x', sizeof(text) - 1);
	open_streams(&n0, 0);
	setsockopt(stdio_find(PID)->s[1].fd, SOL_SOCKET, SO_SNDBUF, &(int){1}, sizeof(int));
	data(&n0, 0, text);
	await_flush();
	strcpy(n0_row.status, "down");
	n0_row.life = 7;
	stdio_table_changed();
	ck_assert_int_eq(flushes, 0);
	while ((n = recv(ghost.theirs[1], got, sizeof(got), MSG_DONTWAIT)) > 0) {
		all += n;
		event_base_loop(slave.base, EVLOOP_NONBLOCK);
	}
	ck_assert_int_eq(all, sizeof(text) - 1);
	ck_assert_int_eq(flushes, 1);
	strcpy(n0_row.status, "up");
	n0_row.life = 0;
}
END_TEST

/* Its link breaks, and on the next one it opens them again, or has a new bpslave. */
START_TEST(rest_of_a_new_bpslave)
{
	open_streams(&n0, 0);
	open_rest(&n0, 0);
	stdio_peer_down(&n0);
	stdio_peer_up(&n0);
	if (_i == 0)
		open_rest(&n0, 0);
	let_time_pass();
	ck_assert((stdio_find(REST) != NULL) == (_i == 0));
}
END_TEST

static void open_born(struct peer *q, uint64_t visit, uint64_t after)
{
	Bproc__StreamOpen m = BPROC__STREAM_OPEN__INIT;
	uint64_t list[CHAN_STREAMS] = {STREAM_UNKNOWN, STREAM_UNKNOWN, STREAM_UNKNOWN};
	int32_t of = PID;

	m.proc = &proc;
	m.mask = STREAM_ALL;
	m.at = list;
	m.n_at = CHAN_STREAMS;
	m.of = &of;
	m.n_of = 1;
	m.visit = visit;
	m.after = after;
	say(q, BPROC__ENVELOPE__MSG_STREAM_OPEN, &m);
}

/*
 * Of one that was born on a node home keeps nothing when it has ended, but it may only move on. 1:
 * or home has not heard of the visit before, whose node says nothing more.
 */
START_TEST(born_and_roams)
{
	open_streams(&n0, 0);
	proc.pid = THERE;
	if (_i == 0) {
		open_born(&n0, 10, 0);
		of_visit = 10;
		data(&n0, 0, "first ");
		end_for(&n0, 11, 6);
	}
	n1.credits = 0;
	open_born(&n1, 11, 10);
	if (_i == 1) {
		ck_assert_uint_eq(n1.credits, 0);
		let_time_pass();
	}
	ck_assert_uint_eq(n1.credits, STREAM_OUTPUTS);
	ck_assert_uint_eq(n1.resets, STREAM_BIT(0));
	of_visit = 11;
	data(&n1, _i == 0 ? 6 : 0, "second");
	end(&n1, STREAM_OUTPUTS, _i == 0 ? 12 : 6);
	ck_assert_ptr_null(stdio_find(THERE));
	proc.pid = PID;
	check_output(_i == 0 ? "first second" : "second");
}
END_TEST

/* Nobody at home has ever heard of whose they are. */
START_TEST(rest_of_nobody)
{
	stdio_forget_home(PID);
	open_rest(&n0, 0);
	now += 5000;
	let_time_pass();
	ck_assert_ptr_nonnull(stdio_find(REST));
	now += 5000;
	let_time_pass();
	ck_assert_ptr_null(stdio_find(REST));
	ck_assert_uint_eq(n0.resets, STREAM_BIT(1));
}
END_TEST

/* The link of the first node breaks before all has come, and the second one waits already. */
START_TEST(link_of_the_first_breaks)
{
	open_visit(&n0, 10, 0, 0);
	data(&n0, 0, "fir");
	open_visit(&n1, 11, 10, STREAM_UNKNOWN);
	stdio_peer_down(&n0);
	ck_assert_uint_eq(n1.credits, 0);
	open_visit(&n0, 10, 0, 0);
	data(&n0, 3, "st ");
	end_for(&n0, 11, 6);
	ck_assert_uint_eq(n1.credits, STREAM_OUTPUTS);
	data(&n1, 6, "second");
	check_output("first second");
}
END_TEST

static void arrive(uint64_t visit, uint64_t after, struct stdio_fds *f)
{
	const struct stdio_of nobody = {0};

	ck_assert_int_eq(stdio_fds_make(f), 0);
	stdio_arrived(THERE, after == 0, false, &(struct stdio_visit){visit, after}, &nobody, f);
}

static void nothing(void *arg)
{
	(void)arg;
}

static void credit(uint64_t visit, uint64_t upto)
{
	Bproc__StreamCredit m = BPROC__STREAM_CREDIT__INIT;

	m.proc = &proc;
	m.mask = STREAM_BIT(1);
	m.upto = &upto;
	m.n_upto = 1;
	m.visit = visit;
	say(&home, BPROC__ENVELOPE__MSG_STREAM_CREDIT, &m);
}

/* A node that has streams of two visits: what home says is for the one that it says. */
START_TEST(two_visits_on_a_node)
{
	struct stdio_fds f[2];

	slave.node = 0;
	proc.pid = THERE;
	arrive(10, 0, &f[0]);
	ck_assert_int_eq(write(f[0].theirs[1], "first ", 6), 6);
	stdio_departing(THERE, 11);
	stdio_departed(THERE);
	ck_assert_str_eq(told, "first ");
	ck_assert_uint_eq(told_visit, 10);
	arrive(12, 11, &f[1]);
	ck_assert_int_eq(write(f[1].theirs[1], "third", 5), 5);
	event_base_loop(slave.base, EVLOOP_NONBLOCK);
	ck_assert_str_eq(told, "first ");
	/* It has its turn; nobody has said yet that all of the first one has come. */
	credit(12, 6 + STREAM_WINDOW);
	event_base_loop(slave.base, EVLOOP_NONBLOCK);
	ck_assert_str_eq(told, "first third");
	ck_assert_uint_eq(told_visit, 12);
	ck_assert_uint_eq(home.resets, 0);
	stdio_init_lost();
	for (int i = 0; i < 2; i++)
		stdio_fds_close(&f[i]);
	slave.node = HOME_NODE;
}
END_TEST

/*
 * Its link breaks when the process has ended, or left, and home has not said that it has all of its
 * output: nor may it have heard what was read of stdin. That is said again, as it was.
 */
START_TEST(stdin_said_again)
{
	struct stdio_fds f;
	char byte;

	slave.node = 0;
	home.stdin_ends = 0;
	proc.pid = THERE;
	arrive(10, 0, &f);
	stdin_data(&home, 10, "abc");
	ck_assert_int_eq(read(f.theirs[0], &byte, 1), 1);
	ck_assert_int_eq(write(f.theirs[1], "out", 3), 3);
	if (_i == 0) {
		stdio_exited(THERE, nothing, NULL);
	} else {
		stdio_departing(THERE, 11);
		stdio_departed(THERE);
	}
	ck_assert_int_eq(home.stdin_ends, 1);
	ck_assert_uint_eq(home.used, 1);
	stdio_fds_close(&f);
	event_base_loop(slave.base, EVLOOP_NONBLOCK);
	stdio_peer_up(&home);
	ck_assert_int_eq(home.stdin_ends, 2);
	ck_assert_uint_eq(home.used, 1);
	credit(10, 3 + STREAM_WINDOW);
	ck_assert_ptr_null(stdio_find(THERE));
	slave.node = HOME_NODE;
}
END_TEST

/*
 * Nothing more comes for a process that asks to leave, but it has not read all: what it has not
 * read is taken out of its pipe. Whoever has that too, or the process itself if it stays, must not
 * find it ended.
 */
START_TEST(stdin_that_has_ended)
{
	struct stdio_fds f;
	char got[8] = "";

	slave.node = 0;
	proc.pid = THERE;
	arrive(10, 0, &f);
	stdin_data(&home, 10, "abc");
	used = 3;
	of_visit = 10;
	end(&home, STREAM_BIT(0), 0);
	used = 0;
	fcntl(f.theirs[0], F_SETFL, O_NONBLOCK);
	stdio_departing(THERE, _i == 0 ? 11 : 0);
	ck_assert_int_lt(read(f.theirs[0], got, sizeof(got)), 0);
	if (_i == 0) {
		stdio_departed(THERE);
	} else if (_i == 1) {
		stdio_stays(THERE);
		ck_assert_int_eq(read(f.theirs[0], got, sizeof(got)), 3);
		ck_assert_str_eq(got, "abc");
	} else if (_i == 2) {
		/* Home closes it: no end of it may be left, or it is a pipe like any other. */
		reset_stdin(&home);
	} else {
		stdio_exited(THERE, nothing, NULL);
	}
	ck_assert_int_eq(read(f.theirs[0], got, sizeof(got)), 0);
	stdio_init_lost();
	stdio_fds_close(&f);
	slave.node = HOME_NODE;
}
END_TEST

int main(void)
{
	Suite *s = suite_create("visit");
	TCase *t = tcase_create("visit");
	SRunner *r = srunner_create(s);
	int failed;

	tcase_add_checked_fixture(t, streams_setup, streams_teardown);
	tcase_add_test(t, reset_of_a_later_visit);
	tcase_add_test(t, earlier_visit_again);
	tcase_add_test(t, link_of_the_first_breaks);
	tcase_add_loop_test(t, ghost_of_before, 0, 3);
	tcase_add_test(t, rest_of_a_lost_node);
	tcase_add_loop_test(t, down_with_a_new_master, 0, 3);
	tcase_add_test(t, came_from_a_lost_node);
	tcase_add_loop_test(t, rest_of_a_new_bpslave, 0, 2);
	tcase_add_test(t, rest_of_nobody);
	tcase_add_loop_test(t, born_and_roams, 0, 2);
	tcase_add_test(t, two_visits_on_a_node);
	tcase_add_loop_test(t, stdin_said_again, 0, 2);
	tcase_add_loop_test(t, stdin_that_has_ended, 0, 4);
	suite_add_tcase(s, t);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
