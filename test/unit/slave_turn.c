/*
 * Home's side of forwarded streams (slaved/bpslave_stdio_home.c) with nodes that are not
 * there: a process that is on its third node, and has closed its stdin on the second, before
 * home has heard the end of the first. Words of several links come in any order.
 */
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "slaved/bpslave_stdio.h"

#define PID 4242
#define THERE 4243 /* when the test is a node */

struct slave slave = {.node = HOME_NODE};
struct peer {
	int32_t node;
	uint32_t credits, resets; /* streams of it that home has given one, by bits */
};
static struct peer n0 = {0, 0, 0}, n1 = {1, 0, 0}, n2 = {2, 0, 0}, home = {HOME_NODE, 0, 0};
static uint64_t told_visit; /* of the last bytes that were sent */
static char told[64];	    /* and all of them */
static struct stdio_fds ghost; /* ours: the ghost's ends, as home's bpslave had the others */

/* -- what home's bpslave has around it */

uint32_t gen_of(int32_t pid)
{
	(void)pid;
	return 0;
}

bool master_is_up(void)
{
	return true;
}

static struct node_row n0_row = {.node = 0, .status = "up"};

const struct node_row *table_find(int32_t node)
{
	return node == 0 ? &n0_row : NULL;
}

struct peer *peer_home(void)
{
	return slave.node == HOME_NODE ? NULL : &home;
}

int32_t peer_node(const struct peer *p)
{
	return p->node;
}

bool peer_is_full(const struct peer *p)
{
	(void)p;
	return false;
}

bool peer_send(struct peer *p, const void *msg)
{
	const ProtobufCMessage *m = msg;

	if (m->descriptor == &bproc__stream_credit__descriptor)
		p->credits |= ((const Bproc__StreamCredit *)msg)->mask;
	if (m->descriptor == &bproc__stream_reset__descriptor)
		p->resets |= ((const Bproc__StreamReset *)msg)->mask;
	if (m->descriptor == &bproc__stream_data__descriptor) {
		const Bproc__StreamData *d = msg;

		told_visit = d->visit;
		strncat(told, (const char *)d->data.data, d->data.len);
	}
	return true;
}

bool peer_send_later(struct peer *p, const void *msg)
{
	return peer_send(p, msg);
}

struct event *watch_fd(int fd, short what, event_callback_fn fn, void *arg)
{
	struct event *ev = event_new(slave.base, fd, EV_READ | EV_PERSIST, fn, arg);

	(void)what;
	if (ev && slave.node != HOME_NODE)
		event_add(ev, NULL);
	return ev;
}

struct event *new_timer(event_callback_fn fn, void *arg)
{
	return event_new(slave.base, -1, 0, fn, arg);
}

static struct event *timer; /* the one that runs */

void start_timer(struct event *ev, uint32_t ms)
{
	(void)ms;
	timer = ev;
}

static void let_time_pass(void)
{
	ck_assert_ptr_nonnull(timer);
	event_active(timer, EV_TIMEOUT, 0);
	event_base_loop(slave.base, EVLOOP_NONBLOCK);
}

void free_event(struct event **ev)
{
	if (*ev == timer)
		timer = NULL;
	if (*ev)
		event_free(*ev);
	*ev = NULL;
}

static uint64_t now = 1;

uint64_t now_ms(void)
{
	return now;
}

/* -- what nodes say */

static Bproc__Proc proc = BPROC__PROC__INIT;

static void say(struct peer *q, Bproc__Envelope__MsgCase type, void *msg)
{
	Bproc__Envelope env = BPROC__ENVELOPE__INIT;

	env.msg_case = type;
	env.stream_open = msg; /* of a union */
	stdio_on_msg(q, &env);
}

static void open_visit(struct peer *q, uint64_t visit, uint64_t after, uint64_t at)
{
	Bproc__StreamOpen m = BPROC__STREAM_OPEN__INIT;
	uint64_t list[CHAN_STREAMS] = {at, at, at};

	m.proc = &proc;
	m.mask = STREAM_ALL;
	m.at = list;
	m.n_at = CHAN_STREAMS;
	m.visit = visit;
	m.after = after;
	say(q, BPROC__ENVELOPE__MSG_STREAM_OPEN, &m);
}

static void open_streams(struct peer *q, uint64_t at)
{
	open_visit(q, 0, 0, at);
}

static void open_three(void)
{
	open_streams(&n0, 0);
	open_streams(&n1, STREAM_UNKNOWN);
	open_streams(&n2, STREAM_UNKNOWN);
}

static uint64_t of_visit; /* of what is said next, but for an open; 0: that is not said */

static void data(struct peer *q, uint64_t offset, const char *text)
{
	Bproc__StreamData m = BPROC__STREAM_DATA__INIT;

	m.proc = &proc;
	m.stream = 1;
	m.offset = offset;
	m.visit = of_visit;
	m.data = (ProtobufCBinaryData){.len = strlen(text), .data = (uint8_t *)(uintptr_t)text};
	say(q, BPROC__ENVELOPE__MSG_STREAM_DATA, &m);
}

static uint64_t used;  /* of stdin, as the node says it at the end */
static uint64_t leave; /* the move for which it says its end; 0: for good */

static void end(struct peer *q, uint32_t mask, uint64_t out)
{
	Bproc__StreamEnd m = BPROC__STREAM_END__INIT;
	uint64_t list[CHAN_STREAMS];

	m.proc = &proc;
	m.mask = mask;
	m.at = list;
	m.move = leave;
	m.visit = of_visit;
	for (uint32_t i = 0; i < CHAN_STREAMS; i++)
		if (mask & STREAM_BIT(i))
			list[m.n_at++] = i == 1 ? out : i == 0 ? used : 0;
	say(q, BPROC__ENVELOPE__MSG_STREAM_END, &m);
}

static void reset_stdin(struct peer *q)
{
	Bproc__StreamReset m = BPROC__STREAM_RESET__INIT;

	m.proc = &proc;
	m.mask = STREAM_BIT(0);
	m.used = STREAM_UNKNOWN;
	m.visit = of_visit;
	say(q, BPROC__ENVELOPE__MSG_STREAM_RESET, &m);
}

/* -- the ghost's side */

static int flushes;

static void flushed(void *arg)
{
	flushes++;
	free(arg);
}

static void await_home(uint64_t visit, uint64_t move)
{
	flushes = 0;
	stdio_flush_home(PID, move, visit, flushed, malloc(1));
}

static void await_visit(uint64_t visit)
{
	await_home(visit, 99);
}

static void await_flush(void)
{
	await_visit(0);
}

static void end_for(struct peer *q, uint64_t move, uint64_t out)
{
	leave = move;
	end(q, STREAM_ALL, out);
	leave = 0;
}

static void check_output(const char *want)
{
	char got[64] = "";
	ssize_t n = recv(ghost.theirs[1], got, sizeof(got) - 1, MSG_DONTWAIT);

	ck_assert_str_eq(got, want);
	ck_assert_int_eq((int)n, (int)strlen(want));
}

static void setup(void)
{
	struct stdio_fds ours;

	slave.base = event_base_new();
	proc.home = HOME_NODE;
	proc.pid = PID;
	n0.credits = n1.credits = n2.credits = n0.resets = n1.resets = n2.resets = 0;
	timer = NULL;
	told[0] = '\0';
	of_visit = 0;
	for (int i = 0; i < CHAN_STREAMS; i++) {
		int pair[2];

		ck_assert(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0,
				     pair) == 0);
		ours.ours[i] = pair[0];
		ghost.theirs[i] = pair[1];
	}
	stdio_left_home(PID, &ours);
}

static void teardown(void)
{
	stdio_forget_home(PID);
	for (int i = 0; i < CHAN_STREAMS; i++)
		close(ghost.theirs[i]);
	event_base_free(slave.base);
}

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

int main(void)
{
	Suite *s = suite_create("turn");
	TCase *t = tcase_create("turn");
	SRunner *r = srunner_create(s);
	int failed;

	tcase_add_checked_fixture(t, setup, teardown);
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
	tcase_add_test(t, reset_of_a_later_visit);
	tcase_add_test(t, earlier_visit_again);
	tcase_add_test(t, link_of_the_first_breaks);
	tcase_add_test(t, rest_of_a_lost_node);
	tcase_add_loop_test(t, rest_of_a_new_bpslave, 0, 2);
	tcase_add_test(t, rest_of_nobody);
	tcase_add_test(t, two_visits_on_a_node);
	suite_add_tcase(s, t);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
