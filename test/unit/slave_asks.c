/*
 * When the master is asked (slaved/bpslave_asks.c) whether a process may leave: at once, but behind
 * what bpinit has to tell of its children, if one of these has stopped, or it has seen that of one;
 * and again on the next link, if that ended before the answer.
 */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "slaved/bpslave_filter.h"
#include "slaved/bpslave_move.h"

#define LEAVES 1001

struct slave slave;
static bool child_stopped;
static struct init_chain child; /* what is read of it; pid 0: it has none */
static bool up = true, may_come = true, again;
static int asked, departed, refused, kin;

/* -- what bpslave has around it */

void leaving_refuse(struct leaving *v, int err, const char *text)
{
	(void)err;
	(void)text;
	LIST_REMOVE(v, next);
	asker_free(v->who);
	free(v);
	refused++;
}

void chan_refuse(int chan, int err, const char *text)
{
	(void)chan;
	(void)err;
	(void)text;
}

bool init_is_up(void)
{
	return true;
}

void init_send(const struct init_msg *msg, const int *fds, int nfd)
{
	(void)fds;
	(void)nfd;
	departed += msg->type == INIT_DEPART;
}

bool master_may_come(void)
{
	return may_come;
}

bool master_is_up(void)
{
	return up;
}

int proc_read_ids(int32_t host_pid, struct proc_ids *ret_ids)
{
	*ret_ids = (struct proc_ids){.pid = host_pid};
	return 0;
}

int asker_kin(struct asker *a, uint32_t kind)
{
	(void)a;
	(void)kind;
	kin++;
	return 0;
}

void tree_link_lost(void)
{
}

void tree_no_master(void)
{
}

void tree_ask_again(struct tree *t)
{
	ck_assert_ptr_null(t);
}

int asker_identify(struct asker *a, const struct ucred *said, char text[LOCAL_TEXT_MAX])
{
	(void)text;
	a->ids.pid = said->pid;
	a->ids.uid[0] = said->uid;
	return 0;
}

int asker_read(struct asker *a, uint32_t kind, char text[LOCAL_TEXT_MAX])
{
	(void)kind;
	(void)text;
	a->chain.member[0] = child;
	a->chain.n = child.pid != 0;
	return 0;
}

void asker_ask(const struct asker *a, const struct asker_of *of)
{
	(void)a;
	ck_assert_int_eq(of->pid, LEAVES);
	again = of->again;
	asked++;
}

void asker_free(struct asker *a)
{
	free(a);
}

bool born_has_stopped_child(int32_t pid)
{
	return pid == LEAVES && child_stopped;
}

void born_asks(int32_t pid, bool leaves)
{
	(void)pid;
	(void)leaves;
}

void born_child_asks(int32_t pid, int32_t ppid)
{
	(void)pid;
	(void)ppid;
}

void born_leaving(int32_t pid, bool leaves)
{
	(void)pid;
	(void)leaves;
}

void gen_forget(int32_t pid)
{
	(void)pid;
}

void local_error(uint32_t client, uint32_t id, uint16_t type, int err, const char *text)
{
	(void)client;
	(void)id;
	(void)type;
	(void)err;
	(void)text;
}

int tree_join(struct leaving *v, uint32_t client, const struct local_move *ask)
{
	(void)v;
	(void)client;
	(void)ask;
	return 0;
}

void tree_ready(struct leaving *v)
{
	(void)v;
}

uint64_t filters_id(const uint8_t *bytes, size_t len)
{
	(void)bytes;
	return len;
}

int filters_want(const struct proc_ids *ids, const struct filter_move *how, filters_fn fn,
		 void *arg, struct filter_reader **ret_reader, char text[LOCAL_TEXT_MAX])
{
	(void)ids;
	(void)how;
	(void)fn;
	(void)arg;
	(void)ret_reader;
	(void)text;
	return 0;
}

bool target_defer(uint32_t client, uint32_t id, const struct local_move *ask,
		  const struct ucred *asker, int chan)
{
	(void)client;
	(void)id;
	(void)ask;
	(void)asker;
	(void)chan;
	return false;
}

bool target_defer_child(uint32_t client, uint32_t id, int32_t pid)
{
	(void)client;
	(void)id;
	(void)pid;
	return false;
}

/* -- */

static struct leaving *leaves(uint32_t kind)
{
	const struct local_move ask = {.kind = kind, .node = 2};
	const struct ucred who = {.pid = LEAVES};

	asked = departed = refused = kin = 0;
	move_ask(1, 1, &ask, &who, -1);
	ck_assert_int_eq(departed, 1);
	return LIST_FIRST(&leavings);
}

START_TEST(at_once)
{
	child_stopped = false;
	child = (struct init_chain){.pid = LEAVES + 1, .child = 1, .state = CHAIN_STOPPED};
	leaving_refuse(leaves(MOVE_MOVE), 0, "");
	ck_assert_int_eq(asked, 1);
	/* Pages that go ahead: nobody leaves, and bpinit does not say that anybody is here. */
	child_stopped = true;
	leaving_refuse(leaves(MOVE_LIVE), 0, "");
	ck_assert_int_eq(asked, 1);
	leaving_refuse(leaves(MOVE_EXECMOVE), 0, "");
	ck_assert_int_eq(asked, 1);
}
END_TEST

START_TEST(behind)
{
	struct leaving *v;

	child_stopped = _i < 2;
	child.pid = 0;
	if (!child_stopped) /* but it has waited for the stop of a ghost */
		child = (struct init_chain){
			.pid = LEAVES + 1, .child = 1, .state = CHAIN_STOP_SEEN};
	v = leaves(_i == 1 ? MOVE_REXEC : MOVE_MOVE);
	ck_assert_int_eq(asked, 0);
	leaving_here(v);
	ck_assert_int_eq(asked, 1);
	leaving_here(v); /* told again */
	ck_assert_int_eq(asked, 1);
	leaving_refuse(v, 0, "");
}
END_TEST

/* The link ends before the answer. On the next one it is asked, once, with those whom it needs now.
 */
START_TEST(link_lost)
{
	struct leaving *v;

	child_stopped = false;
	v = leaves(MOVE_MOVE);
	ck_assert(asked == 1 && !again);
	up = false;
	move_link_lost();
	ck_assert_int_eq(refused, 0);
	up = true;
	move_ask_again();
	ck_assert(asked == 2 && again && kin == 1);
	move_ask_again(); /* bpinit has been asked twice */
	ck_assert_int_eq(asked, 2);
	/* Granted: the new master is told of it in another way. */
	v->move = 7;
	up = false;
	move_link_lost();
	up = true;
	move_ask_again();
	ck_assert_int_eq(asked, 2);
	leaving_refuse(v, 0, "");
}
END_TEST

START_TEST(no_link)
{
	up = false;
	leaves(MOVE_REXEC);
	ck_assert_int_eq(asked, 0);
	if (_i) {
		up = true;
		move_ask_again();
		ck_assert(asked == 1 && !again); /* nobody has heard of it before */
		up = false;
		move_link_lost();
	}
	move_no_master();
	ck_assert_int_eq(refused, 1);
	/* There has been none for a while: at once. */
	may_come = false;
	leaves(MOVE_REXEC);
	ck_assert_int_eq(refused, 1);
	up = may_come = true;
}
END_TEST

/* One user leaves room in bpinit's table for the next, and all of them for root. */
START_TEST(shares)
{
	const struct local_move ask = {.kind = MOVE_REXEC, .node = 2};
	struct ucred who = {.pid = LEAVES};
	int before = 0, n;

	asked = refused = 0;
	child_stopped = false;
	for (who.uid = 1000; who.uid < 1004; who.uid++) {
		for (n = 0; refused == (int)who.uid - 1000; n++)
			move_ask(1, 1, &ask, &who, -1);
		ck_assert_int_gt(n, 1);
		ck_assert(!before || n < before);
		before = n;
	}
	ck_assert_int_gt(asked, 900);
	who.uid = 0;
	move_ask(1, 1, &ask, &who, -1);
	ck_assert_int_eq(refused, 4);
	while (!LIST_EMPTY(&leavings))
		leaving_refuse(LIST_FIRST(&leavings), 0, "");
}
END_TEST

int main(void)
{
	Suite *s = suite_create("asks");
	TCase *t = tcase_create("asks");
	SRunner *r = srunner_create(s);
	int failed;

	tcase_add_test(t, at_once);
	tcase_add_loop_test(t, behind, 0, 3);
	tcase_add_test(t, link_lost);
	tcase_add_test(t, shares);
	tcase_add_loop_test(t, no_link, 0, 2);
	suite_add_tcase(s, t);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
