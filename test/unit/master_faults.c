/*
 * bpmaster dies at each place of a move (libbproc/fault.h) and a new one is
 * started: the two slaves, which behave as doc/move.md says, end with exactly one
 * that has the process, and the table says which.
 */
#include <check.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "core_slave.h"
#include "libbproc/fault.h"
#include "libbproc/local.h"

#define PID 4000

/* Where the process is for its two slaves. */
static struct {
	bool parked, sent, thawed, ghost; /* at the source */
	bool started, ran, voided, dead;  /* at the target */
	uint64_t move, granted;
	uint64_t seq; /* of an exit that is not acknowledged */
} st;
static struct fake_slave *home, *n0;

#define SAY(s, Type, TYPE, ...)                                                                    \
	do {                                                                                       \
		Bproc__##Type m_ = BPROC__##TYPE##__INIT;                                          \
		Bproc__Proc p_ = BPROC__PROC__INIT;                                                \
		p_.home = -1;                                                                      \
		p_.pid = PID;                                                                      \
		(void)p_;                                                                          \
		__VA_ARGS__;                                                                       \
		if ((s)->link)                                                                     \
			link_send((s)->link, &m_.base);                                            \
	} while (0)

static void ask(bool again)
{
	Bproc__Creds creds = BPROC__CREDS__INIT;
	struct chan_cred cred = {.ngroups = 0};
	unsigned char raw[WIRE_CRED_SIZE];

	wire_put_cred(&cred, raw);
	creds.raw = (ProtobufCBinaryData){.len = sizeof(raw), .data = raw};
	st.parked = true;
	SAY(home, MoveAsk, MOVE_ASK, m_.req = 1; m_.kind = MOVE_MOVE; m_.node = 0;
	    m_.asker_pid = m_.pid = PID; m_.creds = &creds; m_.again = again);
}

/* The source's bpslave and bpinit. */
static void source_hears(const Bproc__Envelope *e)
{
	switch (e->msg_case) {
	case BPROC__ENVELOPE__MSG_MOVE_GRANT:
		st.granted = e->move_grant->move;
		st.sent = true;
		SAY(home, MoveSent, MOVE_SENT, m_.move = st.granted);
		break;
	case BPROC__ENVELOPE__MSG_MOVE_DENY:
		ck_assert(e->move_deny->again && !st.granted);
		ask(true);
		break;
	case BPROC__ENVELOPE__MSG_MOVE_ABORT:
		ck_assert(!st.ran);
		if (st.parked)
			st.thawed = true;
		st.parked = false;
		break;
	case BPROC__ENVELOPE__MSG_MOVE_COMMIT:
		ck_assert(st.ran && !st.thawed);
		st.parked = false;
		st.ghost = true;
		SAY(home, MoveGhosted, MOVE_GHOSTED, m_.move = e->move_commit->move);
		break;
	case BPROC__ENVELOPE__MSG_MIRROR:
		ck_assert(st.dead);
		st.ghost = false;
		SAY(home, Mirrored, MIRRORED, m_.proc = &p_);
		break;
	default:
		break;
	}
}

/* The target's: it runs what it has, once, unless that was voided before. */
static void target_hears(const Bproc__Envelope *e, bool fails)
{
	switch (e->msg_case) {
	case BPROC__ENVELOPE__MSG_MOVE_START:
		ck_assert(!st.ran);
		st.started = true;
		st.voided = false;
		st.move = e->move_start->move;
		break;
	case BPROC__ENVELOPE__MSG_MOVE_VOID:
		if (st.ran) {
			SAY(n0, MoveRan, MOVE_RAN, m_.move = e->move_void->move; m_.proc = &p_);
			break;
		}
		st.voided = true;
		SAY(n0, MoveVoided, MOVE_VOIDED, m_.move = e->move_void->move);
		break;
	case BPROC__ENVELOPE__MSG_EVENT_ACK:
		st.seq = 0;
		break;
	default:
		break;
	}
	if (fails || !st.started || !st.sent || st.voided || st.ran)
		return;
	st.ran = true;
	SAY(n0, MoveRan, MOVE_RAN, m_.move = st.move; m_.proc = &p_);
}

static void drain(struct fake_slave *s, bool source, bool fails)
{
	Bproc__Envelope *e;

	while (s->count) {
		e = s->queue[s->first++ % QUEUE_MAX];
		s->count--;
		if (source)
			source_hears(e);
		else
			target_hears(e, fails);
		bproc__envelope__free_unpacked(e, NULL);
	}
}

/* The question comes before its target is back. */
static void talk_home(void)
{
	fake_run(20);
	drain(home, true, false);
}

static void talk(unsigned int ms, bool fails)
{
	Bproc__Envelope none = BPROC__ENVELOPE__INIT;

	for (unsigned int i = 0; i < ms; i += 10) {
		fake_run(10);
		drain(home, true, fails);
		drain(n0, false, fails);
		target_hears(&none, fails); /* the image may be complete by now */
	}
}

static void join(void)
{
	home = slave_join(-1, "h", NULL);
	if (st.parked && st.granted)
		SAY(home, MoveState, MOVE_STATE, m_.move = st.granted; m_.kind = MOVE_MOVE;
		    m_.target = 0; m_.proc = &p_);
	if (st.ghost)
		SAY(home, ProcState, PROC_STATE, m_.ghost = true; m_.proc = &p_);
	SAY(home, StateEnd, STATE_END, (void)m_);
	if (st.parked && !st.granted)
		ask(true);
	talk_home();
	n0 = slave_join(0, "a", NULL);
	st.started &= st.sent || st.ran; /* target_new_epoch() */
	if (st.ran && !st.dead)
		SAY(n0, ProcState, PROC_STATE, m_.proc = &p_);
	SAY(n0, StateEnd, STATE_END, (void)m_);
	if (st.seq)
		SAY(n0, ProcEvent, PROC_EVENT, m_.proc = &p_; m_.code = CLD_EXITED; m_.status = 3;
		    m_.seq = st.seq);
}

static int pidnode(void)
{
	Bproc__Envelope *e;
	int node;

	SAY(home, PidAsk, PID_ASK, m_.pid = PID);
	e = slave_expect(home, BPROC__ENVELOPE__MSG_ANSWER);
	node = e->answer->node;
	bproc__envelope__free_unpacked(e, NULL);
	return node;
}

static const enum fault places[] = {
	FAULT_MASTER_ASKED, FAULT_MASTER_STARTED, FAULT_MASTER_GRANTED,
	FAULT_MASTER_SENT,  FAULT_MASTER_RAN,	  FAULT_MASTER_COMMITTED,
};

/* The master dies; both slaves see their links end, and a new master comes. */
static void new_master(void)
{
	int status;

	ck_assert_int_eq(waitpid(fm.pid, &status, 0), fm.pid);
	ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	talk(50, false);
	slave_free(home);
	slave_free(n0);
	unsetenv("BPROC_FAULT");
	master_start();
	join();
}

static void begin(enum fault f)
{
	memset(&st, 0, sizeof(st));
	master_setup("pingtimeout 2\n");
	setenv("BPROC_FAULT", fault_name(f), 1);
	master_start();
	join();
	talk(100, false);
}

static void finish(void)
{
	slave_free(home);
	slave_free(n0);
	master_cleanup();
}

START_TEST(move)
{
	begin(places[_i]);
	ask(false);
	talk(200, false);
	new_master();
	talk(400, false);
	/* Exactly one has it, nobody is parked, and the table knows. */
	ck_assert(!st.parked);
	ck_assert_int_ne(st.thawed, st.ran);
	ck_assert_int_eq(st.ghost, st.ran);
	ck_assert_int_eq(pidnode(), st.ran ? 0 : -3);
	/* What was not granted is asked for again, and happens. */
	ck_assert(!(places[_i] <= FAULT_MASTER_STARTED || places[_i] >= FAULT_MASTER_RAN) ||
		  st.ran);
	finish();
}
END_TEST

/* The target fails, or the move is voided, and the master dies before it says abort. */
START_TEST(abort_lost)
{
	begin(FAULT_MASTER_VOIDED);
	ask(false);
	talk(100, true);
	SAY(home, MoveFailed, MOVE_FAILED, char t_[] = "x"; m_.move = st.move; m_.err = EPIPE;
	    m_.text = t_);
	talk(200, true);
	ck_assert(st.voided && st.parked);
	new_master();
	talk(300, true);
	ck_assert(st.thawed && !st.parked && !st.ran);
	finish();
}
END_TEST

START_TEST(exit_lost)
{
	begin(FAULT_MASTER_EXIT);
	ask(false);
	talk(200, false);
	ck_assert(st.ran && st.ghost);
	st.dead = true;
	st.seq = 1;
	SAY(n0, ProcEvent, PROC_EVENT, m_.proc = &p_; m_.code = CLD_EXITED; m_.status = 3;
	    m_.seq = 1);
	talk(200, false);
	ck_assert(st.seq == 1 && st.ghost);
	new_master();
	/* Not acknowledged before others who may have a ghost of it have had a moment. */
	for (int i = 0; i < 20 && st.seq; i++)
		talk(200, false);
	ck_assert(st.seq == 0 && !st.ghost);
	ck_assert_int_eq(pidnode(), -3);
	finish();
}
END_TEST

int main(void)
{
	Suite *s = suite_create("faults");
	TCase *t = tcase_create("faults");
	SRunner *r = srunner_create(s);
	int failed;

	tcase_set_timeout(t, 40);
	tcase_add_loop_test(t, move, 0, sizeof(places) / sizeof(*places));
	tcase_add_test(t, abort_lost);
	tcase_add_test(t, exit_lost);
	suite_add_tcase(s, t);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
