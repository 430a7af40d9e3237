/*
 * Moves through a real bpmaster with synthetic slaves at both ends: grant and
 * denial, every way out of a move, signals and deaths during it and after it.
 */
#include <check.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "core_slave.h"
#include "include/sys/bproc_common.h"
#include "libbproc/local.h"
#include "master_say.h"

#define PARENT 1000
#define CHILD 1001

static struct fake_slave *home, *n0, *n1;

static void setup(void)
{
	master_setup("pingtimeout 2\n");
	master_start();
	home = slave_join_empty(-1, "h");
	n0 = slave_join_empty(0, "a");
	n1 = slave_join_empty(1, "b");
	ck_assert(slave_sees(home, 0, "up", 2000));
	ck_assert(slave_sees(home, 1, "up", 2000));
}

static void teardown(void)
{
	slave_free(home);
	slave_free(n0);
	slave_free(n1);
	master_cleanup();
}

/* -- what slaves say */

static void ask(struct fake_slave *s, unsigned int kind, int node, int pid, unsigned int uid)
{
	slave_ask(s, &(struct slave_question){.kind = kind,
					      .uid = uid,
					      .node = node,
					      .asker = pid,
					      .pid = kind == MOVE_RFORK ? CHILD : pid,
					      .parent = PARENT});
}

/* -- what slaves hear */

static void hear_deny(struct fake_slave *s, unsigned int err, const char *text)
{
	HEAR(s, MOVE_DENY, ck_assert_uint_eq(e_->move_deny->req, 5);
	     ck_assert_uint_eq(e_->move_deny->err, err);
	     ck_assert_msg(strstr(e_->move_deny->text, text), "%s", e_->move_deny->text));
}

static void hear_abort(struct fake_slave *s, uint64_t id, unsigned int err)
{
	HEAR(s, MOVE_ABORT, ck_assert_uint_eq(e_->move_abort->move, id);
	     ck_assert_uint_eq(e_->move_abort->err, err));
}

static void hear_mirror(struct fake_slave *s, int pid, unsigned int code, int status)
{
	HEAR(s, MIRROR, ck_assert_int_eq(e_->mirror->proc->pid, pid);
	     ck_assert_uint_eq(e_->mirror->code, code);
	     ck_assert_int_eq(e_->mirror->status, status);
	     ck_assert_int_eq(e_->mirror->proc->home, -1);
	     ck_assert_uint_ne(e_->mirror->proc->gen, 0));
}

static void hear_signal(struct fake_slave *s, int pid, int sig)
{
	HEAR(s, SIGNAL, ck_assert_int_eq(e_->signal->proc->pid, pid);
	     ck_assert_int_eq(e_->signal->sig, sig));
}

static int pidnode(int pid)
{
	int node = 0;

	SAY(home, PidAsk, PID_ASK, m_.req = 9; m_.pid = pid);
	HEAR(home, ANSWER, node = e_->answer->node);
	return node;
}

static bool settling(int pid)
{
	bool is = false;

	SAY(home, PidAsk, PID_ASK, m_.req = 10; m_.pid = pid);
	HEAR(home, ANSWER, is = e_->answer->settling);
	return is;
}

/* A grant: what both ends hear. Returns the move's id. */
static uint64_t granted(struct fake_slave *src, struct fake_slave *dst, unsigned int kind, int node,
			int pid)
{
	unsigned char token[32] = {0};
	uint64_t id = 0;

	ask(src, kind, node, pid, 0);
	HEAR(dst, MOVE_START, id = e_->move_start->move;
	     ck_assert_uint_eq(e_->move_start->token.len, 32);
	     memcpy(token, e_->move_start->token.data, 32);
	     ck_assert_uint_eq(e_->move_start->kind, kind);
	     ck_assert_int_eq(e_->move_start->home, -1);
	     ck_assert_uint_eq(e_->move_start->n_chain, 1);
	     ck_assert_uint_eq(e_->move_start->creds->raw.len, WIRE_CRED_SIZE);
	     ck_assert_int_eq(e_->move_start->pid, kind == MOVE_RFORK ? CHILD : pid));
	HEAR(src, MOVE_GRANT, ck_assert_uint_eq(e_->move_grant->req, 5);
	     ck_assert_uint_eq(e_->move_grant->move, id);
	     ck_assert_int_eq(e_->move_grant->node, node);
	     ck_assert_mem_eq(e_->move_grant->token.data, token, 32));
	return id;
}

static void hear_watch(struct fake_slave *s, int pid)
{
	HEAR(s, WATCH, ck_assert_int_eq(e_->watch->proc->pid, pid));
}

/* A whole rfork from home to n0. */
static uint64_t rfork_to_n0(int child)
{
	uint64_t id = granted(home, n0, MOVE_RFORK, 0, PARENT);

	hear_watch(home, PARENT);
	SAY_SENT(home, id);
	SAY_RAN(n0, id, child);
	HEAR(home, MOVE_COMMIT, ck_assert_uint_eq(e_->move_commit->move, id);
	     ck_assert_int_eq(e_->move_commit->proc->pid, child));
	ck_assert(settling(child));
	SAY_GHOSTED(home, id);
	ck_assert_int_eq(pidnode(child), 0);
	ck_assert(!settling(child));
	return id;
}

START_TEST(denials)
{
	ask(home, MOVE_RFORK, 7, PARENT, 0);
	hear_deny(home, BE_INVALIDNODE, "no node 7");
	ask(home, MOVE_RFORK, -2, PARENT, 0);
	hear_deny(home, BE_INVALIDNODE, "no node -2");
	ask(home, MOVE_RFORK, 2, PARENT, 0);
	hear_deny(home, BE_NODEDOWN, "node 2 is down");
	ask(home, MOVE_RFORK, -1, PARENT, 0);
	hear_deny(home, BE_SAMENODE, "node -1 already");
	ask(home, MOVE_RFORK, 0, PARENT, 1000);
	hear_deny(home, EACCES, "uid 1000 may not use node 0");
	ask(n0, MOVE_MOVE, 1, 1 << 21, 0);
	HEAR(n1, MOVE_START, (void)e_);
	HEAR(n0, MOVE_GRANT, (void)e_);
	hear_watch(home, PARENT);
	ask(n0, MOVE_MOVE, 1, 1 << 21, 0);
	hear_deny(n0, EBUSY, "moving already");
	ask(home, MOVE_MOVE, 1, 1 << 21, 0);
	hear_deny(home, BE_INVALIDPROC, "is on node 0, not on -1");
	/* And what no bpslave sends. */
	ask(n0, 9, 1, PARENT, 0);
	ck_assert(slave_closed(n0, 2000));
}
END_TEST

START_TEST(rfork_life)
{
	rfork_to_n0(CHILD);
	/* A parent that gives the number of another's process for its child's. */
	ask(home, MOVE_RFORK, 1, PARENT, 0);
	hear_deny(home, BE_INVALIDPROC, "no child on node -1");
	SAY_SIGNAL(home, CHILD, SIGTERM);
	HEAR(n0, SIGNAL, ck_assert_int_eq(e_->signal->sig, SIGTERM);
	     ck_assert_int_eq(e_->signal->sender_pid, 77);
	     ck_assert_uint_eq(e_->signal->value, 0x1122334455667788ull));
	/* Acknowledged when the ghost has it; told again meanwhile it is not mirrored again. */
	SAY_EVENT(n0, CHILD, CLD_STOPPED, SIGSTOP, 1);
	hear_mirror(home, CHILD, CLD_STOPPED, SIGSTOP);
	SAY_EVENT(n0, CHILD, CLD_STOPPED, SIGSTOP, 1);
	slave_expect_nothing(n0, 100);
	slave_expect_nothing(home, 100);
	SAY_TAKEN(home, CHILD, 1);
	HEAR_ACK(n0, 1);
	SAY_EVENT(n0, CHILD, CLD_EXITED, 42, 2);
	hear_mirror(home, CHILD, CLD_EXITED, 42);
	ck_assert_int_eq(pidnode(CHILD), -3);
	SAY_EVENT(n0, CHILD, CLD_EXITED, 42, 2);
	slave_expect_nothing(n0, 100);
	SAY_MIRRORED(home, CHILD);
	HEAR_ACK(n0, 2);
	SAY_SIGNAL(home, CHILD, SIGTERM);
	slave_expect_nothing(n0, 200);
	/* The parent, real at home: its ghost on n0 goes with it. */
	SAY_EVENT(home, PARENT, CLD_KILLED, SIGKILL, 3);
	hear_mirror(n0, PARENT, CLD_KILLED, SIGKILL);
	SAY_MIRRORED(n0, PARENT);
	HEAR_ACK(home, 3);
	slave_expect_nothing(home, 100);
}
END_TEST

START_TEST(source_fails)
{
	uint64_t id = granted(home, n0, MOVE_RFORK, 0, PARENT);

	hear_watch(home, PARENT);
	SAY_FAILED(home, id, false, EINVAL);
	HEAR(n0, MOVE_VOID, ck_assert_uint_eq(e_->move_void->move, id));
	slave_expect_nothing(home, 100); /* not before the target has said so */
	SAY_VOIDED(n0, id);
	HEAR(home, MOVE_ABORT, ck_assert_uint_eq(e_->move_abort->move, id);
	     ck_assert_uint_eq(e_->move_abort->err, EINVAL);
	     ck_assert_str_eq(e_->move_abort->text, "fd 7 is odd"));
	ck_assert_int_eq(pidnode(CHILD), -3);
}
END_TEST

START_TEST(target_fails)
{
	uint64_t id = granted(home, n0, MOVE_MOVE, 0, CHILD);

	hear_watch(home, PARENT);
	SAY_SENT(home, id);
	SAY_FAILED(n0, id, true, ENOSPC);
	hear_abort(home, id, ENOSPC);
	ck_assert_int_eq(pidnode(CHILD), -3); /* at home, known for nothing */
	/* It may try again. */
	id = granted(home, n1, MOVE_MOVE, 1, CHILD);
	SAY_SENT(home, id);
	SAY_RAN(n1, id, CHILD);
	HEAR(home, MOVE_COMMIT, (void)e_);
	ck_assert_int_eq(pidnode(CHILD), 1);
}
END_TEST

START_TEST(void_too_late)
{
	uint64_t id = granted(home, n0, MOVE_MOVE, 0, CHILD);

	hear_watch(home, PARENT);
	SAY_FAILED(home, id, false, EPIPE);
	HEAR(n0, MOVE_VOID, (void)e_);
	SAY_RAN(n0, id, CHILD);
	HEAR(home, MOVE_COMMIT, (void)e_);
	ck_assert_int_eq(pidnode(CHILD), 0);
	SAY_VOIDED(n0, id); /* it has said the opposite: no slave of ours */
	ck_assert(slave_closed(n0, 2000));
}
END_TEST

START_TEST(wrong_mouth)
{
	uint64_t id = granted(home, n0, MOVE_MOVE, 0, CHILD);

	hear_watch(home, PARENT);
	SAY_RAN(n1, id, CHILD);
	ck_assert(slave_closed(n1, 2000));
	SAY_RAN(n0, id, CHILD + 1);
	ck_assert(slave_closed(n0, 2000));
	SAY_VOIDED(home, id);
	ck_assert(slave_closed(home, 2000));
}
END_TEST

/* From node to node, with signals on the way; then home. */
START_TEST(onwards)
{
	uint64_t id;

	rfork_to_n0(CHILD);
	id = granted(n0, n1, MOVE_MOVE, 1, CHILD);
	SAY_SIGNAL(home, CHILD, SIGUSR1);
	SAY_SIGNAL(home, CHILD, SIGUSR2);
	SAY_SENT(n0, id);
	slave_expect_nothing(n0, 100);
	SAY_RAN(n1, id, CHILD);
	HEAR(n0, MOVE_COMMIT, ck_assert_uint_eq(e_->move_commit->move, id));
	hear_signal(n1, CHILD, SIGUSR1);
	hear_signal(n1, CHILD, SIGUSR2);
	SAY_GHOSTED(n0, id);
	/* Another, that fails: what waited goes back to where it is. */
	id = granted(n1, n0, MOVE_MOVE, 0, CHILD);
	SAY_SIGNAL(home, CHILD, SIGUSR1);
	fake_run(100);
	SAY_FAILED(n0, id, true, ENOMEM);
	hear_abort(n1, id, ENOMEM);
	hear_signal(n1, CHILD, SIGUSR1);
	id = granted(n1, home, MOVE_MOVE, -1, CHILD);
	SAY_SENT(n1, id);
	SAY_RAN(home, id, CHILD);
	HEAR(n1, MOVE_COMMIT, (void)e_);
	hear_watch(home, CHILD);
	SAY_GHOSTED(n1, id);
	ck_assert_int_eq(pidnode(CHILD), -1);
	SAY_EVENT(home, CHILD, CLD_EXITED, 3, 9);
	hear_mirror(n0, CHILD, CLD_EXITED, 3);
	hear_mirror(n1, CHILD, CLD_EXITED, 3);
	SAY_MIRRORED(n0, CHILD);
	slave_expect_nothing(home, 100);
	SAY_MIRRORED(n1, CHILD);
	HEAR_ACK(home, 9);
	ck_assert_int_eq(pidnode(CHILD), -3);
}
END_TEST

/* The parked original is killed: before the decision, and after it. */
START_TEST(original_killed)
{
	uint64_t id = granted(home, n0, MOVE_MOVE, 0, CHILD);

	hear_watch(home, PARENT);
	SAY_SENT(home, id);
	SAY_EVENT(home, CHILD, CLD_KILLED, SIGKILL, 1);
	HEAR(n0, MOVE_VOID, (void)e_);
	SAY_VOIDED(n0, id);
	hear_abort(home, id, ESRCH);
	HEAR_ACK(home, 1);
	ck_assert_int_eq(pidnode(CHILD), -3);

	id = granted(home, n0, MOVE_MOVE, 0, CHILD);
	SAY_SENT(home, id);
	SAY_EVENT(home, CHILD, CLD_KILLED, SIGKILL, 2);
	HEAR(n0, MOVE_VOID, (void)e_);
	SAY_RAN(n0, id, CHILD);
	HEAR(home, MOVE_COMMIT, (void)e_);
	hear_signal(n0, CHILD, SIGKILL);
}
END_TEST

START_TEST(target_dies)
{
	uint64_t id;

	rfork_to_n0(CHILD);
	id = granted(home, n0, MOVE_MOVE, 0, CHILD + 1);
	SAY_SENT(home, id);
	fake_run(100);
	slave_free(n0);
	ck_assert(slave_sees(home, 0, "unreachable", 2000));
	slave_expect_nothing(home, 1000); /* undecided until the node is fenced */
	ck_assert(slave_sees(home, 0, "down", 5000));
	hear_abort(home, id, BE_SLAVEDIED);
	hear_mirror(home, CHILD, CLD_KILLED, SIGKILL);
	SAY_MIRRORED(home, CHILD);
	ck_assert_int_eq(pidnode(CHILD), -3);
	n0 = slave_join(0, "new", NULL);
	ck_assert(slave_sees(home, 0, "up", 2000));
}
END_TEST

/* The target's link breaks and comes back: it is asked, and its word counts. */
START_TEST(target_returns)
{
	uint64_t id = granted(home, n0, MOVE_MOVE, 0, CHILD);

	hear_watch(home, PARENT);
	SAY_SENT(home, id);
	fake_run(100);
	slave_free(n0);
	ck_assert(slave_sees(home, 0, "unreachable", 2000));
	n0 = slave_join(0, "a", NULL);
	HEAR(n0, MOVE_VOID, ck_assert_uint_eq(e_->move_void->move, id));
	SAY_RAN(n0, id, CHILD);
	HEAR(home, MOVE_COMMIT, (void)e_);
}
END_TEST

/* A link breaks: what a ghost has not confirmed is said again, in order. */
START_TEST(mirrors_again)
{
	rfork_to_n0(CHILD);
	SAY_EVENT(n0, CHILD, CLD_STOPPED, SIGSTOP, 1);
	hear_mirror(home, CHILD, CLD_STOPPED, SIGSTOP);
	SAY_TAKEN(home, CHILD, 1);
	HEAR_ACK(n0, 1);
	SAY_EVENT(n0, CHILD, CLD_CONTINUED, SIGCONT, 2);
	hear_mirror(home, CHILD, CLD_CONTINUED, SIGCONT);
	slave_free(home);
	ck_assert(slave_sees(n0, -1, "unreachable", 2000));
	SAY_EVENT(n0, CHILD, CLD_STOPPED, SIGTSTP, 3);
	SAY_EVENT(n0, CHILD, CLD_EXITED, 7, 4);
	fake_run(300);
	home = slave_join(-1, "h", NULL);
	hear_watch(home, PARENT);
	HEAR(home, MIRROR, ck_assert_uint_eq(e_->mirror->seq, 2));
	HEAR(home, MIRROR, ck_assert_uint_eq(e_->mirror->seq, 3));
	HEAR(home, MIRROR, ck_assert_uint_eq(e_->mirror->seq, 4));
	SAY_TAKEN(home, CHILD, 2);
	HEAR_ACK(n0, 2);
	SAY_MIRRORED(home, CHILD);
	HEAR_ACK(n0, 3);
	HEAR_ACK(n0, 4);
}
END_TEST

/* Signals that have numbers are passed on as they are, and so is the answer. */
START_TEST(signal_acks)
{
	uint64_t id;

	rfork_to_n0(CHILD);
	SAY(home, Signal, SIGNAL, p_.pid = CHILD; m_.proc = &p_; m_.sig = SIGUSR1; m_.origin = -1;
	    m_.stream = 5; m_.number = 8; m_.oldest = 7);
	HEAR(n0, SIGNAL, ck_assert_uint_eq(e_->signal->stream, 5);
	     ck_assert_uint_eq(e_->signal->number, 8); ck_assert_uint_eq(e_->signal->oldest, 7);
	     ck_assert_int_eq(e_->signal->origin, -1));
	SAY(n0, SignalAck, SIGNAL_ACK, m_.origin = -1; m_.pid = CHILD; m_.stream = 5; m_.upto = 6;
	    m_.again = true);
	HEAR(home, SIGNAL_ACK, ck_assert_uint_eq(e_->signal_ack->upto, 6);
	     ck_assert(e_->signal_ack->again));
	/* Repeated while it waits for the end of a move: it waits once. */
	id = granted(n0, n1, MOVE_MOVE, 1, CHILD);
	for (int i = 0; i < 3; i++)
		SAY(home, Signal, SIGNAL, p_.pid = CHILD; m_.proc = &p_; m_.sig = SIGUSR1;
		    m_.origin = -1; m_.stream = 5; m_.number = 8; m_.oldest = 7);
	ck_assert_int_eq(pidnode(CHILD), 0); /* and the master has read them */
	SAY_FAILED(n1, id, true, ENOMEM);
	hear_abort(n0, id, ENOMEM);
	hear_signal(n0, CHILD, SIGUSR1);
	slave_expect_nothing(n0, 100);
}
END_TEST

/* The source's link breaks: what it was told last is told again. */
START_TEST(source_returns)
{
	uint64_t id;

	rfork_to_n0(CHILD);
	id = granted(n0, n1, MOVE_MOVE, 1, CHILD);
	SAY_SENT(n0, id);
	fake_run(100);
	slave_free(n0);
	ck_assert(slave_sees(home, 0, "unreachable", 2000));
	SAY_RAN(n1, id, CHILD);
	fake_run(100);
	n0 = slave_join(0, "a", NULL);
	HEAR(n0, MOVE_COMMIT, ck_assert_uint_eq(e_->move_commit->move, id));
	SAY_GHOSTED(n0, id);
	/* An abort that was lost is said again to a source that asks. */
	id = granted(n1, n0, MOVE_MOVE, 0, CHILD);
	SAY_FAILED(n0, id, true, ENOMEM);
	hear_abort(n1, id, ENOMEM);
	SAY_SENT(n1, id);
	hear_abort(n1, id, ENOMEM);
}
END_TEST

START_TEST(lists)
{
	rfork_to_n0(CHILD);
	SAY(home, ProcsAsk, PROCS_ASK, m_.req = 3; m_.node = -4);
	HEAR(home, PROCS_TELL, ck_assert_uint_eq(e_->procs_tell->n_pid, 1);
	     ck_assert_int_eq(e_->procs_tell->pid[0], CHILD);
	     ck_assert_int_eq(e_->procs_tell->node[0], 0));
	SAY(home, ProcsAsk, PROCS_ASK, m_.req = 4; m_.node = 1);
	HEAR(home, PROCS_TELL, ck_assert_uint_eq(e_->procs_tell->n_pid, 0));
}
END_TEST

int main(void)
{
	Suite *s = suite_create("moves");
	TCase *t = tcase_create("moves");
	SRunner *r = srunner_create(s);
	int failed;

	tcase_set_timeout(t, 40);
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, denials);
	tcase_add_test(t, rfork_life);
	tcase_add_test(t, source_fails);
	tcase_add_test(t, target_fails);
	tcase_add_test(t, void_too_late);
	tcase_add_test(t, wrong_mouth);
	tcase_add_test(t, onwards);
	tcase_add_test(t, original_killed);
	tcase_add_test(t, target_dies);
	tcase_add_test(t, target_returns);
	tcase_add_test(t, mirrors_again);
	tcase_add_test(t, signal_acks);
	tcase_add_test(t, source_returns);
	tcase_add_test(t, lists);
	suite_add_tcase(s, t);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
