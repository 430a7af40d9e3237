/*
 * What a bpslave that starts makes of a process that is parked on its node
 * (slaved/bpslave_away.c): a child of rfork whose move is called off is gone before
 * anybody has looked into /proc, or lives. And of one that makes a group unheard by
 * home (slaved/bpslave_place.c). And what it says of a birth that it has told before, or one before
 * it may have; and of one that runs by a move of the one before (slaved/bpslave_target.c). The test
 * is that /proc, bpinit and the master.
 */
#include <check.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>

#include "slaved/bpslave_born.h"
#include "slaved/bpslave_data.h"
#include "slaved/bpslave_filter.h"

#define PARENT 65600 /* of the node's numbers; it has asked for the rfork */
#define CHILD 65601
#define MOVE 0x100000005u

struct slave slave = {.node = 0, .lease_lo = 65536, .lease_hi = 131072};

static bool child_lives;
static int32_t group = 9; /* of all of them */
static int32_t told_group; /* of the parent, by the last word to home */
static int births, ends, reaps; /* of the child, that the master has heard of */
static int again;	       /* of the births, that were told again */
static int end_status;	       /* of the last end */
static uint64_t end_seq;       /* of the last end that bpinit keeps, */
static int acked;	       /* and what it need not keep */
static uint64_t clock_now = 1000;
static int gone;	       /* bpinit was told that it has ended, so often */
static uint64_t refused;       /* a move, by its target */

/* -- what bpslave has around it */

static struct scan_proc process(int32_t pid, int32_t ppid)
{
	return (struct scan_proc){.pid = pid, .ppid = ppid, .pgid = group, .sid = 9, .state = 'S'};
}

int scan_stat(int32_t pid, struct scan_proc *ret)
{
	if (pid != PARENT && !(pid == CHILD && child_lives))
		return -ENOENT;
	*ret = process(pid, pid == CHILD ? PARENT : 1);
	return 0;
}

int scan_each(void (*fn)(const struct scan_proc *p, void *arg), void *arg)
{
	struct scan_proc p = process(PARENT, 1);

	fn(&p, arg);
	p = process(CHILD, PARENT);
	if (child_lives)
		fn(&p, arg);
	return 0;
}

bool master_send(const void *msg)
{
	const ProtobufCMessageDescriptor *what = ((const ProtobufCMessage *)msg)->descriptor;
	const Bproc__ProcReaped *r = msg;
	const Bproc__ProcEvent *e = msg;
	const Bproc__ProcBorn *b = msg;
	const Bproc__Place *p = msg;

	if (what == &bproc__place__descriptor && p->proc->pid == PARENT)
		told_group = p->pgid;
	for (size_t i = 0; what == &bproc__proc_born__descriptor && i < b->n_birth; i++) {
		births += b->birth[i]->proc->pid == CHILD && !b->birth[i]->moved;
		again += b->birth[i]->proc->pid == CHILD && b->birth[i]->again;
	}
	if (what == &bproc__proc_event__descriptor && e->proc->pid == CHILD) {
		ends++;
		end_status = e->status;
		end_seq = e->seq;
	}
	if (what == &bproc__proc_reaped__descriptor)
		reaps += r->proc[0]->pid == CHILD;
	return true;
}

void init_send(const struct init_msg *msg, const int *fds, int nfd)
{
	(void)fds;
	(void)nfd;
	gone += msg->type == INIT_ENDED && is_end(msg->u.child.code) && msg->pid == CHILD;
}

uint64_t now_ms(void)
{
	return clock_now;
}

void init_done(uint64_t seq)
{
	acked += seq != 0;
}

void source_take(void)
{
}

void source_take_events(void)
{
}

/* What only a move needs that was asked of this bpslave. */
bool init_is_up(void)
{
	return true;
}

void init_tell_again(void)
{
}

void move_tell_failed(uint64_t move, int err, const char *text, bool target)
{
	ck_assert_msg(target && err == EINVAL, "move %llu: %d %s", (unsigned long long)move, err,
		      text);
	refused = move;
}

void stdio_forget_home(int32_t pid)
{
	(void)pid;
}

/* Nothing of one that was. */
#define NEVER(type, name, ...)                                                                     \
	type name(__VA_ARGS__)                                                                     \
	{                                                                                          \
		ck_abort_msg("%s()", #name);                                                       \
	}
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-parameter"
#pragma GCC diagnostic ignored "-Wreturn-type"
NEVER(int, proc_read_ids, int32_t host_pid, struct proc_ids *ret_ids)
NEVER(bool, exec_is_here, const Bproc__ExecFile *file)
NEVER(int, filters_file, const Bproc__MoveStart *s, int *ret_fd)
NEVER(int, early_put, const struct data_hdr *hdr, int fd, int back)
NEVER(bool, early_take, const struct data_hdr *want, struct data_hdr *ret_hdr, int *ret_fd,
      int *ret_back)
NEVER(int, stdio_fds_make, struct stdio_fds *ret)
NEVER(void, stdio_fds_close, struct stdio_fds *f)
NEVER(void, stdio_fds_spare, void)
NEVER(void, stdio_arrived, int32_t pid, bool fresh, bool child, const struct stdio_visit *v,
      const struct stdio_of *of, struct stdio_fds *f)
NEVER(void, stdio_flush_home, int32_t pid, uint64_t move, uint64_t visit, void (*then)(void *arg),
      void *arg)
NEVER(void, stdio_homecoming, int32_t pid, int ret[CHAN_STREAMS])
NEVER(void, move_ask, uint32_t client, uint32_t id, const struct local_move *ask,
      const struct ucred *asker, int chan)
NEVER(void, move_child, uint32_t client, uint32_t id, int32_t pid)
#pragma GCC diagnostic pop

/* -- */

static void setup(void)
{
	births = ends = reaps = again = gone = acked = 0;
	end_seq = 0;
}

/* bpinit tells that it is parked; the master calls its move off; then what there is is told. */
static void comes_up(bool lives)
{
	child_lives = lives;
	born_parked(CHILD, MOVE, false);
	born_stays(MOVE);
	born_scan(); /* bpinit has told all */
	born_tell_all();
	born_scan();	   /* the event program is there */
	clock_now += 1500; /* bpinit has nothing to say of it */
	born_scan();
	born_flush();
}

START_TEST(gone_before_the_first_scan)
{
	comes_up(false);
	ck_assert_int_eq(ends, births);
	ck_assert_int_eq(reaps, births);
	ck_assert_ptr_null(born_find(CHILD));
	born_clear();
}
END_TEST

START_TEST(lives_on)
{
	comes_up(true);
	ck_assert_int_ge(births, 1);
	ck_assert_int_eq(ends, 0);
	ck_assert_ptr_nonnull(born_find(CHILD));
	child_lives = false;
	born_scan();
	born_flush();
	ck_assert_int_eq(ends, 1);
	ck_assert_int_eq(reaps, 1);
	born_clear();
}
END_TEST

/* The parent, which is alone, as its bpinit says. */
static void makes_group(struct init_msg *ret)
{
	*ret = (struct init_msg){.type = EV_PLACE,
				 .pid = PARENT,
				 .u.place = {.pid = PARENT, .pgid = PARENT, .sid = 9, .number = 7}};
	child_lives = false;
	born_scan();
	born_flush();
	place_on_init(ret);
}

/*
 * It makes a group, and home does not answer: bpinit lets it go on, and says so, before it has run.
 * That it is where it was is no news, of which home would tell all nodes.
 */
START_TEST(goes_on_unheard)
{
	struct init_msg m;

	makes_group(&m);
	ck_assert_int_eq(told_group, PARENT);
	m.u.place.number = 0;
	place_on_init(&m);
	ck_assert_int_eq(told_group, PARENT);
	group = PARENT;
	place_on_init(&m);
	ck_assert_int_eq(told_group, PARENT);
	group = 8; /* and if it has gone elsewhere that is told */
	place_on_init(&m);
	ck_assert_int_eq(told_group, 8);
	group = 9;
	born_clear();
}
END_TEST

/*
 * It makes a group, and before home has answered all is told again: its name is read anew, but
 * that it is where it was is no news.
 */
START_TEST(told_again)
{
	struct init_msg m;
	struct born *b;

	makes_group(&m);
	b = born_find(PARENT);
	ck_assert_ptr_nonnull(b);
	b->stale = true;
	told_group = 0;
	born_tell_all();
	ck_assert_int_eq(told_group, PARENT);
	born_clear();
}
END_TEST

/* One that was there before us was told before, maybe. */
START_TEST(told_before)
{
	child_lives = _i == 0;
	born_scan();
	if (_i == 1)
		born_record(&(struct event_record){
			.type = EVENT_FORK, .pid = CHILD, .ppid = PARENT});
	child_lives = true;
	born_flush();
	ck_assert_int_eq(births, 1);
	ck_assert_int_eq(again, _i == 0);
	born_tell_all();
	ck_assert_int_eq(births, 2);
	ck_assert_int_eq(again, _i == 0 ? 2 : 1);
	born_clear();
}
END_TEST

/*
 * It came by a move of the bpslave before us, when it had been away for a while; it ends, its
 * parent waits for it, and nobody but /proc says so. How much bpinit had told of it by then: that
 * it is real, and again that it had become a ghost; nothing; that it is a ghost. Or it has left.
 */
START_TEST(came_before_us)
{
	struct init_msg ran = {.type = EV_RAN, .move_id = MOVE, .pid = CHILD};
	struct init_msg state = {.type = EV_STATE, .pid = CHILD};

	child_lives = true;
	state.u.state.pid = CHILD;
	state.u.state.ppid = PARENT;
	state.u.state.pgid = state.u.state.sid = 9;
	state.u.state.is_ghost = _i > 1;
	ran.flags = _i == 3 ? EVF_LEFT : 0;
	if (_i != 1)
		born_state(&state);
	born_scan();
	if (_i == 0)
		born_left(CHILD);
	ck_assert(target_on_init(&ran));
	ck_assert_int_eq(born_is_ghost(CHILD), _i == 3);
	child_lives = false;
	born_scan();
	born_flush();
	ck_assert_int_eq(gone, _i != 3);
	ck_assert_int_eq(ends, 0); /* bpinit tells it */
	born_clear();
}
END_TEST

/* It has gone before bpinit has said that it ran. */
START_TEST(gone_before_it_came)
{
	struct init_msg ran = {.type = EV_RAN, .move_id = MOVE, .pid = CHILD};

	child_lives = false;
	born_scan();
	ck_assert(target_on_init(&ran));
	ck_assert_int_eq(gone, 1);
	born_clear();
}
END_TEST

/* It was born here, and its parent is away: the ghost of that one waits for it. */
static void child_of_ghost(void)
{
	child_lives = true;
	born_scan();
	born_flush();
	ck_assert_int_eq(births, 1);
	born_left(PARENT);
	child_lives = false;
}

static bool bpinit_says(int status)
{
	struct chan_child c = {.pid = CHILD, .code = CLD_EXITED, .status = status};
	bool kept = born_child(&c, 7);

	born_flush();
	return kept;
}

/* That it has gone is seen first: how it ended is not guessed, or only when nobody says so. */
START_TEST(gone_before_the_word)
{
	child_of_ghost();
	born_scan();
	born_flush();
	ck_assert_int_eq(ends, 0);
	clock_now += _i == 0 ? 500 : 1500;
	if (_i == 0)
		ck_assert(bpinit_says(5));
	born_scan();
	born_flush();
	ck_assert_int_eq(ends, 1);
	ck_assert_int_eq(end_status, _i == 0 ? 5 : SIGKILL);
	ck_assert_uint_eq(end_seq, _i == 0 ? 7 : 0);
	ck_assert_ptr_null(born_find(CHILD));
	born_clear();
}
END_TEST

/*
 * bpinit keeps its word on an end until the master has passed it on: it is told with its number,
 * whoever has told it before, and again when nothing else is known of the process.
 */
START_TEST(kept_end)
{
	child_of_ghost();
	if (_i == 1)
		born_record(&(struct event_record){
			.type = EVENT_EXIT, .pid = CHILD, .status = 5 << 8});
	born_flush();
	ck_assert_int_eq(ends, _i);
	ck_assert(bpinit_says(5));
	ck_assert_int_eq(ends, 1 + _i);
	ck_assert_uint_eq(end_seq, 7);
	born_record(&(struct event_record){.type = EVENT_REAPED, .pid = CHILD});
	born_flush();
	ck_assert_ptr_null(born_find(CHILD));
	ck_assert(bpinit_says(5));
	ck_assert_int_eq(ends, 2 + _i);
	ck_assert_int_eq(end_status, 5);
	ck_assert_int_eq(acked, 0);
	born_clear();
}
END_TEST

/* Of one that nobody has heard of, or that stands in here, there is nothing to keep. */
START_TEST(nobodys_end)
{
	child_lives = false;
	born_scan();
	if (_i == 0)
		born_record(&(struct event_record){
			.type = EVENT_FORK, .pid = CHILD, .ppid = PARENT});
	else
		born_expect(CHILD, PARENT, 9, 9);
	ck_assert(!bpinit_says(5));
	ck_assert_int_eq(births, 0);
	ck_assert_int_eq(ends, 0);
	born_clear();
}
END_TEST

/* Nor is it known before the Welcome what is nobody's: bpinit tells it again behind that. */
START_TEST(end_before_the_welcome)
{
	slave.node = NODE_NONE;
	slave.lease_lo = slave.lease_hi = 0;
	ck_assert(bpinit_says(5));
	slave.node = 0;
	slave.lease_lo = 65536;
	slave.lease_hi = 131072;
	ck_assert_int_eq(acked, 0);
	ck_assert(bpinit_says(5));
	ck_assert_int_eq(ends, 1);
	ck_assert_int_eq(end_status, 5);
}
END_TEST

/* Its numbers and relatives would be taken for those of this home. */
START_TEST(of_another_home)
{
	Bproc__MoveStart s = BPROC__MOVE_START__INIT;

	s.move = MOVE;
	s.home = HOME_NODE - 1;
	s.pid = CHILD;
	target_on_start(&s);
	ck_assert_uint_eq(refused, MOVE);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("born");
	TCase *t = tcase_create("born");
	SRunner *r = srunner_create(s);
	int failed;

	tcase_add_checked_fixture(t, setup, NULL);
	tcase_add_test(t, gone_before_the_first_scan);
	tcase_add_test(t, lives_on);
	tcase_add_test(t, goes_on_unheard);
	tcase_add_test(t, told_again);
	tcase_add_loop_test(t, told_before, 0, 2);
	tcase_add_loop_test(t, came_before_us, 0, 4);
	tcase_add_test(t, gone_before_it_came);
	tcase_add_loop_test(t, gone_before_the_word, 0, 2);
	tcase_add_loop_test(t, kept_end, 0, 2);
	tcase_add_loop_test(t, nobodys_end, 0, 2);
	tcase_add_test(t, end_before_the_welcome);
	tcase_add_test(t, of_another_home);
	suite_add_tcase(s, t);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
