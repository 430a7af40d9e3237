/*
 * In what order bpinit hears (slaved/bpslave_after.c) of a process that has left and is
 * about to come back before it has said that it is a ghost, and of its relatives.
 */
#include <check.h>
#include <signal.h>
#include <stdlib.h>

#include "slaved/bpslave.h"

#define PARENT 1396
#define CHILD 65737
#define OTHER 65738

struct slave slave;

static struct {
	uint32_t type;
	int32_t pid;
} said[8];
static int nsaid;

void init_send(const struct init_msg *msg, const int *fds, int nfd)
{
	ck_assert_int_lt(nsaid, 8);
	said[nsaid].type = msg->type;
	said[nsaid++].pid = msg->pid;
	(void)fds;
	(void)nfd;
}

static void setup(void)
{
	nsaid = 0;
}

static void arrive(int32_t pid, int32_t child)
{
	struct init_msg m = {.type = INIT_ARRIVE, .pid = pid, .move_id = 7};

	m.u.arrive.nchain = 1;
	m.u.arrive.chain[0] = (struct init_chain){.pid = child, .ppid = pid, .child = 1};
	move_after_ghost(&m);
}

static void end(int32_t pid)
{
	struct init_msg m = {.type = INIT_MIRROR, .pid = pid};

	m.u.mirror.pid = pid;
	m.u.mirror.code = CLD_EXITED;
	move_after_ghost(&m);
}

static void check(int at, uint32_t type, int32_t pid)
{
	ck_assert_int_lt(at, nsaid);
	ck_assert_uint_eq(said[at].type, type);
	ck_assert_int_eq(said[at].pid, pid);
}

/* It returns with a child whose end follows at once; nobody else waits. */
START_TEST(child_ends)
{
	struct after *a = after_begin(PARENT);

	arrive(PARENT, CHILD);
	end(CHILD);
	end(OTHER);
	ck_assert_int_eq(nsaid, 1);
	check(0, INIT_MIRROR, OTHER);
	after_end(a);
	ck_assert_int_eq(nsaid, 3);
	check(1, INIT_ARRIVE, PARENT);
	check(2, INIT_MIRROR, CHILD);
	end(CHILD);
	ck_assert_int_eq(nsaid, 4);
}
END_TEST

/* The child is becoming a ghost as well: the word on it waits for both, in either order. */
START_TEST(both_become_ghosts)
{
	struct after *first = after_begin(_i == 0 ? PARENT : CHILD);
	struct after *second = after_begin(_i == 0 ? CHILD : PARENT);

	arrive(PARENT, CHILD);
	end(CHILD);
	after_end(first);
	if (_i == 1)
		ck_assert_int_eq(nsaid, 0);
	after_end(second);
	ck_assert_int_eq(nsaid, 2);
	check(0, INIT_ARRIVE, PARENT);
	check(1, INIT_MIRROR, CHILD);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("after");
	TCase *t = tcase_create("after");
	SRunner *r = srunner_create(s);
	int failed;

	tcase_add_checked_fixture(t, setup, NULL);
	tcase_add_test(t, child_ends);
	tcase_add_loop_test(t, both_become_ghosts, 0, 2);
	suite_add_tcase(s, t);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
