/*
 * In which order the master hears of what is born on a node (slaved/bpslave_all.c, bpslave_tell.c):
 * a parent before its child, who leads before who follows, and a child before its parent's end; and
 * whose children's stops bpinit has to tell before he leaves. The test is /proc, bpinit and the
 * master.
 */
#include <check.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "slaved/bpslave_born.h"

#define CAME 65600  /* by a move, and so are its children's ghosts its own at home */
#define OTHER 65700 /* of births that are of no interest, the first */

struct slave slave = {.node = 0, .lease_lo = 65536, .lease_hi = 131072};

static struct scan_proc procs[8]; /* all that /proc has */
static int nprocs;
static char told[4096]; /* births, ends, stops and places, as the master hears them */
static uint64_t clock_now;

static void note(const char *what, int32_t pid)
{
	size_t n = strlen(told);

	if (pid < OTHER || pid >= OTHER + BORN_BURST * 2)
		snprintf(told + n, sizeof(told) - n, " %s%d", what, (int)pid);
}

bool master_send(const void *msg)
{
	const ProtobufCMessageDescriptor *what = ((const ProtobufCMessage *)msg)->descriptor;
	const Bproc__ProcEvent *e = msg;
	const Bproc__ProcBorn *b = msg;
	const Bproc__Place *p = msg;

	for (size_t i = 0; what == &bproc__proc_born__descriptor && i < b->n_birth; i++)
		note("", b->birth[i]->proc->pid);
	if (what == &bproc__proc_event__descriptor && is_end((int)e->code))
		note("end", e->proc->pid);
	if (what == &bproc__proc_event__descriptor && e->code == CLD_STOPPED)
		note("stop", e->proc->pid);
	if (what == &bproc__place__descriptor)
		note("place", p->proc->pid);
	return true;
}

int scan_stat(int32_t pid, struct scan_proc *ret)
{
	for (int i = 0; i < nprocs; i++) {
		if (procs[i].pid != pid)
			continue;
		*ret = procs[i];
		return 0;
	}
	return -ENOENT;
}

int scan_each(void (*fn)(const struct scan_proc *p, void *arg), void *arg)
{
	for (int i = 0; i < nprocs; i++)
		fn(&procs[i], arg);
	return 0;
}

uint64_t now_ms(void)
{
	return clock_now;
}

void init_send(const struct init_msg *msg, const int *fds, int nfd)
{
	(void)msg;
	(void)fds;
	(void)nfd;
}

void init_done(uint64_t seq)
{
	(void)seq;
}

uint32_t target_unheard;

bool target_expects(int32_t pid)
{
	(void)pid;
	return false;
}

/* What the kernel has told and nobody has read. */
static struct event_record unread[4];
static int nunread;

void source_take_events(void)
{
	for (int i = 0; i < nunread; i++)
		born_record(&unread[i]);
	nunread = 0;
}

void source_take(void)
{
	source_take_events();
}

static void is_there(int32_t pid, int32_t ppid, int32_t pgid, int32_t sid)
{
	procs[nprocs++] = (struct scan_proc){
		.pid = pid, .ppid = ppid, .pgid = pgid, .sid = sid, .state = 'S'};
}

static void setup(void)
{
	nprocs = nunread = 0;
	told[0] = '\0';
	clock_now += 100000;
}

static void record(uint32_t type, int32_t pid, int32_t ppid)
{
	born_record(&(struct event_record){
		.type = type, .pid = pid, .ppid = ppid, .pgid = 9, .sid = 9});
}

/* It came by a move; what is born from now on waits, as in a storm. */
static void storm(void)
{
	is_there(CAME, 1, 9, 9);
	born_expect(CAME, 1, 9, 9);
	born_came(CAME, false);
	for (int i = 0; i < BORN_BURST; i++)
		record(EVENT_FORK, OTHER + i, CAME);
	born_flush();
}

/* Whatever order the table and /proc have: the numbers of a slot begin anew at its end. */
START_TEST(again)
{
	const int32_t child = 65537, member = 65538, leader = 69700, parent = 69638;

	is_there(child, parent, parent, parent);
	is_there(member, parent, leader, parent);
	is_there(parent, 1, parent, parent);
	is_there(leader, parent, leader, parent);
	born_scan();
	born_flush();
	told[0] = '\0';
	born_tell_all();
	ck_assert_str_eq(told, " 69638 65537 69700 65538");
	born_clear();
}
END_TEST

/* 0: the birth waits in the queue. 1: the kernel has told it, and nobody has read that. */
START_TEST(parent_ends)
{
	const struct event_record born = {
		.type = EVENT_FORK, .pid = CAME + 1, .ppid = CAME, .pgid = 9, .sid = 9};

	storm();
	if (_i)
		unread[nunread++] = born;
	else
		born_record(&born);
	born_flush();
	ck_assert_str_eq(told, "");
	born_ends(CAME);
	ck_assert_str_eq(told, " 65601");
	born_clear();
}
END_TEST

/*
 * Nobody has heard of its birth yet, and it has stopped: both are told before its parent's
 * question, since there it would be news to that one for the second time.
 */
START_TEST(stopped_unheard)
{
	storm();
	is_there(CAME + 1, CAME, 9, 9);
	procs[nprocs - 1].state = 'T';
	record(EVENT_FORK, CAME + 1, CAME);
	born_flush();
	unread[nunread++] = (struct event_record){
		.type = EVENT_LOOK, .pid = CAME + 1, .status = SIGSTOP};
	ck_assert_str_eq(told, "");
	born_asks(CAME, true);
	ck_assert_str_eq(told, " 65601 stop65601");
	born_clear();
}
END_TEST

/* It was born here, its other name waits, and then it has a child, and ends. */
START_TEST(born_parent_ends)
{
	record(EVENT_FORK, CAME + 2, CAME);
	born_flush();
	ck_assert_str_eq(told, " 65602");
	storm();
	record(EVENT_EXEC, CAME + 2, 0);
	record(EVENT_FORK, CAME + 3, CAME + 2);
	record(EVENT_EXIT, CAME + 2, 0);
	clock_now += BORN_WAIT_MS;
	born_flush();
	ck_assert_ptr_nonnull(strstr(told, " 65603 "));
	ck_assert_ptr_nonnull(strstr(strstr(told, " 65603 "), " end65602"));
	born_clear();
}
END_TEST

/* How it ended bpinit says, before the kernel's word on its child is read. */
START_TEST(told_by_bpinit)
{
	const struct chan_child end = {.pid = CAME + 2, .code = CLD_EXITED};

	record(EVENT_FORK, CAME + 2, 1);
	born_flush();
	unread[nunread++] = (struct event_record){
		.type = EVENT_FORK, .pid = CAME + 3, .ppid = CAME + 2, .pgid = 9, .sid = 9};
	born_child(&end, 1);
	clock_now += BORN_WAIT_MS;
	born_flush();
	ck_assert_str_eq(told, " 65602 65603 end65602");
	born_clear();
}
END_TEST

/* Who came by a move, and was stopped once. */
START_TEST(stopped_child)
{
	born_expect(CAME, 1, 9, 9);
	born_came(CAME, false);
	born_expect(CAME + 1, CAME, 9, 9);
	ck_assert(!born_has_stopped_child(CAME));
	born_stands(CAME + 1, SIGSTOP); /* a ghost: the master knows better */
	ck_assert(!born_has_stopped_child(CAME));
	born_came(CAME + 1, false);
	ck_assert(born_has_stopped_child(CAME));
	ck_assert(!born_has_stopped_child(CAME + 1));
	born_clear();
}
END_TEST

int main(void)
{
	Suite *s = suite_create("order");
	TCase *t = tcase_create("order");
	SRunner *r = srunner_create(s);
	int failed;

	tcase_add_checked_fixture(t, setup, NULL);
	tcase_add_test(t, again);
	tcase_add_loop_test(t, parent_ends, 0, 2);
	tcase_add_test(t, stopped_unheard);
	tcase_add_test(t, born_parent_ends);
	tcase_add_test(t, told_by_bpinit);
	tcase_add_test(t, stopped_child);
	suite_add_tcase(s, t);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
