/*
 * What a bpslave that starts makes of a process that is parked on its node
 * (slaved/bpslave_away.c): a child of rfork whose move is called off is gone before
 * anybody has looked into /proc, or lives. And of one that makes a group unheard by
 * home (slaved/bpslave_place.c). And what it says of a birth that it has told before, or one before
 * it may have. The test is that /proc, bpinit and the master.
 */
#include <check.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>

#include "slaved/bpslave_born.h"

#define PARENT 65600 /* of the node's numbers; it has asked for the rfork */
#define CHILD 65601
#define MOVE 0x100000005u

struct slave slave = {.node = 0};
uint32_t target_unheard;

static bool child_lives;
static int32_t group = 9; /* of all of them */
static int32_t told_group; /* of the parent, by the last word to home */
static int births, ends, reaps; /* of the child, that the master has heard of */
static int again;	       /* of the births, that were told again */

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

int scan_ids(int32_t pid, struct scan_proc *ret)
{
	return scan_stat(pid, ret);
}

bool scan_is_dying(int32_t pid)
{
	(void)pid;
	return false;
}

size_t scan_args(int32_t pid, char *buf, size_t size)
{
	(void)pid;
	(void)buf;
	(void)size;
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
	if (what == &bproc__proc_event__descriptor)
		ends += e->proc->pid == CHILD;
	if (what == &bproc__proc_reaped__descriptor)
		reaps += r->proc[0]->pid == CHILD;
	return true;
}

bool master_is_up(void)
{
	return true;
}

void init_send(const struct init_msg *msg, const int *fds, int nfd)
{
	(void)msg;
	(void)fds;
	(void)nfd;
}

void init_take(void)
{
}

struct event *new_timer(event_callback_fn fn, void *arg)
{
	(void)fn;
	(void)arg;
	return NULL;
}

void start_timer(struct event *ev, uint32_t ms)
{
	(void)ev;
	(void)ms;
}

uint64_t now_ms(void)
{
	return 1000;
}

uint32_t gen_of(int32_t pid)
{
	(void)pid;
	return 0;
}

void gen_forget(int32_t pid)
{
	(void)pid;
}

bool target_expects(int32_t pid)
{
	(void)pid;
	return false;
}

void init_done(uint64_t seq)
{
	(void)seq;
}

void move_after_ghost(const struct init_msg *m)
{
	(void)m;
}

int proc_read_leader(int32_t pid, struct init_chain *ret)
{
	(void)pid;
	(void)ret;
	return -ENOENT;
}

void chain_put(const struct init_chain *c, Bproc__Chain *ret)
{
	(void)c;
	(void)ret;
}

void chain_take(const Bproc__Chain *c, struct init_chain *ret)
{
	(void)c;
	(void)ret;
}

void source_take(void)
{
}

void source_take_events(void)
{
}

void source_hint(void)
{
}

/* -- */

static void setup(void)
{
	births = ends = reaps = again = 0;
}

/* bpinit tells that it is parked; the master calls its move off; then what there is is told. */
static void comes_up(bool lives)
{
	child_lives = lives;
	born_parked(CHILD, MOVE, false);
	born_stays(MOVE);
	born_scan(); /* bpinit has told all */
	born_tell_all();
	born_scan(); /* the event program is there */
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

/*
 * It makes a group, and home does not answer: bpinit lets it go on, and says so, before it has run.
 * That it is where it was is no news, of which home would tell all nodes.
 */
START_TEST(goes_on_unheard)
{
	struct init_msg m = {.type = EV_PLACE, .pid = PARENT, .u.place = {.pid = PARENT}};

	child_lives = false;
	born_scan();
	born_flush();
	m.u.place.pgid = PARENT;
	m.u.place.sid = 9;
	m.u.place.number = 7;
	place_on_init(&m);
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
	struct init_msg m = {.type = EV_PLACE, .pid = PARENT, .u.place = {.pid = PARENT}};
	struct born *b;

	child_lives = false;
	born_scan();
	born_flush();
	m.u.place.pgid = PARENT;
	m.u.place.sid = 9;
	m.u.place.number = 7;
	place_on_init(&m);
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
	suite_add_tcase(s, t);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
