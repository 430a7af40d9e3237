/*
 * The master's tables without a socket (masterd/{fsm,node,proc,move}.c): every
 * state has a row for every event; permissions; leases; lists.
 */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "include/sys/bproc_common.h"
#include "libbproc/share.h"
#include "masterd/move.h"
#include "masterd/node.h"
#include "masterd/proc.h"

START_TEST(complete)
{
	static const struct fsm_row hole[] = {{0, 0, 0, 0}, {0, 1, 0, 1}, {1, 0, 0, 0}};
	static const struct fsm_row twice[] = {{0, 0, 0, 0}, {0, 0, 0, 0}};

	ck_assert_uint_eq(fsm_check(node_rows, node_nrows, NS_COUNT, NE_COUNT), 0);
	ck_assert_uint_eq(fsm_check(move_rows, move_nrows, MV_COUNT, ME_COUNT), 0);
	ck_assert_uint_eq(fsm_check(proc_rows, proc_nrows, PS_COUNT, PE_COUNT), 0);
	ck_assert_uint_eq(node_nrows, NS_COUNT * NE_COUNT);
	ck_assert_uint_eq(move_nrows, MV_COUNT * ME_COUNT);
	ck_assert_uint_eq(proc_nrows, PS_COUNT * PE_COUNT);
	/* And the check itself sees a hole and a double. */
	ck_assert_uint_eq(fsm_check(hole, 3, 2, 2), 1 + 3);
	ck_assert_uint_eq(fsm_check(twice, 2, 1, 1), 1);
}
END_TEST

/* What no sequence of events may do: leave MV_DONE, or abort what has committed. */
START_TEST(commit_is_final)
{
	for (size_t i = 0; i < move_nrows; i++) {
		const struct fsm_row *r = &move_rows[i];

		if (r->state == MV_DONE)
			ck_assert(r->next == MV_DONE && r->action == MA_IGNORE);
		if (r->state == MV_COMMITTED)
			ck_assert(r->action != MA_ABORT && r->action != MA_VOID &&
				  r->action != MA_DEAD);
		if (r->action == MA_ABORT || r->action == MA_DEAD)
			ck_assert(r->next == MV_DONE);
		/* An abort only on the target's word, or its death. */
		if (r->action == MA_ABORT || r->action == MA_DEAD)
			ck_assert(r->event == ME_VOIDED || r->event == ME_DST_FAILED ||
				  r->event == ME_DST_DOWN);
		if (r->event == ME_RAN && r->state != MV_COMMITTED && r->state != MV_DONE)
			ck_assert(r->action == MA_COMMIT || r->action == MA_INHERIT);
	}
}
END_TEST

START_TEST(status_names)
{
	ck_assert_int_eq(node_status_valid("up"), 0);
	ck_assert_int_eq(node_status_valid("A_1"), 0);
	ck_assert_int_eq(node_status_valid("abcdefghijklmno"), 0);
	ck_assert_int_eq(node_status_valid("abcdefghijklmnop"), -ENOSPC);
	ck_assert_int_eq(node_status_valid(""), -EINVAL);
	ck_assert_int_eq(node_status_valid("1up"), -EINVAL);
	ck_assert_int_eq(node_status_valid("_up"), -EINVAL);
	ck_assert_int_eq(node_status_valid("u p"), -EINVAL);
	ck_assert_int_eq(node_status_valid("up-1"), -EINVAL);
}
END_TEST

static const struct {
	enum node_state state;
	const char *status;
	uint32_t mode, owner, group, uid, gid, extra; /* extra: one supplementary group */
	int want;
} access_case[] = {
	{NS_DOWN, "down", 0111, 0, 0, 0, 0, 0, -BE_NODEDOWN},
	{NS_DOWN, "down", 0111, 0, 0, 7, 7, 0, -BE_NODEDOWN},
	{NS_UNREACHABLE, "unreachable", 0111, 0, 0, 0, 0, 0, -BE_NODEDOWN},
	{NS_CONNECTED, "boot", 0000, 0, 0, 0, 0, 0, 0},
	{NS_CONNECTED, "boot", 0111, 0, 0, 7, 7, 0, -BE_NODEDOWN},
	{NS_CONNECTED, "error", 0111, 0, 0, 7, 7, 0, -BE_NODEDOWN},
	{NS_CONNECTED, "up", 0000, 0, 0, 0, 0, 0, 0},
	{NS_CONNECTED, "up", 0100, 0, 0, 7, 7, 0, -EACCES},
	{NS_CONNECTED, "up", 0100, 7, 0, 7, 8, 0, 0},
	{NS_CONNECTED, "up", 0011, 7, 0, 7, 8, 0, -EACCES}, /* the owner's bit, not others' */
	{NS_CONNECTED, "up", 0010, 0, 8, 7, 8, 0, 0},
	{NS_CONNECTED, "up", 0010, 0, 9, 7, 8, 9, 0},
	{NS_CONNECTED, "up", 0010, 0, 9, 7, 8, 6, -EACCES},
	{NS_CONNECTED, "up", 0001, 0, 8, 7, 8, 0, -EACCES}, /* the group's bit, not others' */
	{NS_CONNECTED, "up", 0001, 0, 9, 7, 8, 9, -EACCES},
	{NS_CONNECTED, "up", 0001, 0, 0, 7, 8, 9, 0},
};

START_TEST(permissions)
{
	struct node n = {
		.num = 3,
		.state = access_case[_i].state,
		.mode = access_case[_i].mode,
		.uid = access_case[_i].owner,
		.gid = access_case[_i].group,
	};
	struct bproc_err err = {.text = ""};
	int r;

	strcpy(n.status, access_case[_i].status);
	r = node_access(&n, access_case[_i].uid, access_case[_i].gid, &access_case[_i].extra,
			access_case[_i].extra != 0, &err);
	ck_assert_int_eq(r, access_case[_i].want);
	if (r < 0)
		ck_assert_ptr_nonnull(strstr(err.text, "node 3"));
}
END_TEST

static struct config conf_of(int32_t high)
{
	struct config c = {.count = 2, .slot_pids = CONFIG_SLOT_MAX};

	c.node = calloc(2, sizeof(*c.node));
	c.node[0] = (struct config_node){.node = 0, .addr = 1};
	c.node[1] = (struct config_node){.node = high, .addr = 2};
	return c;
}

START_TEST(leases)
{
	static const int32_t high[] = {1, 59, 60, 61, 100, 1023, 1999};
	int32_t lo, hi, last = 0;
	struct node_table t;
	struct config c;

	for (size_t i = 0; i < sizeof(high) / sizeof(*high); i++) {
		c = conf_of(high[i]);
		ck_assert_int_eq(node_table_init(&t, &c), 0);
		node_lease(&t, NODE_HOME, &lo, &hi);
		ck_assert(lo == 300 && hi == 65536);
		last = hi;
		for (int32_t n = 0; n <= high[i]; n++) {
			node_lease(&t, n, &lo, &hi);
			ck_assert_int_ge(lo, last);
			ck_assert_int_gt(hi, lo + 1023);
			last = hi;
		}
		ck_assert_int_le(last, (1 << 22) - 2 * 65536);
		ck_assert_int_eq(node_of_pid(&t, lo), high[i]);
		ck_assert_int_eq(node_of_pid(&t, hi - 1), high[i]);
		ck_assert_int_eq(node_of_pid(&t, 4242), NODE_HOME);
		ck_assert_int_eq(node_of_pid(&t, (1 << 22) - 1), NODE_HOME);
		node_table_free(&t);
		free(c.node);
	}
	c = conf_of(3);
	ck_assert_int_eq(node_table_init(&t, &c), 0);
	node_lease(&t, 3, &lo, &hi); /* the slots of a cluster of up to 60: 65536 (k + 1) */
	ck_assert(lo == 65536 * 4 && hi == 65536 * 5);
	ck_assert_ptr_null(node_get(&t, 1));
	ck_assert_ptr_null(node_get(&t, -2));
	ck_assert_int_eq(node_get(&t, -1)->num, -1);
	ck_assert_int_eq(node_get(&t, 3)->num, 3);
	ck_assert_int_eq(node_by_addr(&t, 2)->num, 3);
	node_table_free(&t);
	free(c.node);
}
END_TEST

START_TEST(node_words)
{
	struct config c = conf_of(1);
	struct node_table t;
	struct node *n;

	ck_assert_int_eq(node_table_init(&t, &c), 0);
	n = node_get(&t, 1);
	ck_assert_str_eq(n->status, "down");
	ck_assert_int_eq(node_step(n, NE_HELLO), NA_BOOT);
	ck_assert_str_eq(n->status, "boot");
	ck_assert_uint_eq(n->mode, 0100);
	ck_assert_int_eq(node_step(n, NE_SCRIPT_OK), NA_UP);
	ck_assert_str_eq(n->status, "up");
	n->mode = 0111;
	n->uid = 7;
	ck_assert_int_eq(node_step(n, NE_LOST), NA_WAIT);
	ck_assert_str_eq(n->status, "unreachable");
	ck_assert_int_eq(node_step(n, NE_HELLO), NA_REJOIN);
	ck_assert_str_eq(n->status, "up");
	ck_assert_uint_eq(n->uid, 7);
	node_step(n, NE_LOST);
	ck_assert_int_eq(node_step(n, NE_TIMEOUT), NA_DEAD);
	ck_assert_str_eq(n->status, "down");
	ck_assert(n->mode == 0100 && n->uid == 0);
	/* The script ends while the node cannot be reached: the word waits. */
	node_step(n, NE_HELLO);
	node_step(n, NE_LOST);
	node_step(n, NE_SCRIPT_FAIL);
	ck_assert_str_eq(n->status, "unreachable");
	node_step(n, NE_HELLO);
	ck_assert_str_eq(n->status, "error");
	/* The administrator's word stands against the script's. */
	strcpy(n->status, "mine");
	node_step(n, NE_SCRIPT_OK);
	ck_assert_str_eq(n->status, "mine");
	ck_assert_int_eq(node_get(&t, -1)->mode, 0111);
	node_table_free(&t);
	free(c.node);
}
END_TEST

START_TEST(proc_entries)
{
	static struct proc_table t;
	struct queued q = {.sig = 1}, *out;
	int32_t pid[8], node[8];
	struct proc *a, *b;

	proc_table_init(&t, 70);
	ck_assert_uint_eq(t.words, 2);
	a = proc_new(&t, 100, 0);
	b = proc_new(&t, 100, 1);
	ck_assert_uint_gt(b->gen, a->gen);
	ck_assert_ptr_eq(proc_get(&t, 100, 0), b);
	ck_assert_ptr_eq(proc_get(&t, 100, a->gen), a);
	ck_assert_ptr_null(proc_get(&t, 101, 0));
	ghost_add(a, 69);
	ck_assert(ghost_has(a, 69) && !ghost_has(a, 5) && ghost_any(&t, a));
	ghost_del(a, 69);
	ck_assert(!ghost_any(&t, a));
	for (int i = 0; i < PROC_QUEUE_MAX; i++, q.sig++)
		ck_assert_int_eq(proc_enqueue(a, &q), 0);
	ck_assert_int_eq(proc_enqueue(a, &q), -ENOBUFS);
	out = proc_dequeue(a);
	ck_assert_int_eq(out->sig, 1);
	free(out);
	proc_new(&t, 50 + PROC_HASH, 1);
	proc_new(&t, 60, NODE_HOME);
	ck_assert_uint_eq(proc_list(&t, PROC_NODE_ANY, 0, pid, node, 8), 3);
	ck_assert(pid[0] == 100 && pid[2] == 50 + PROC_HASH);
	ck_assert_uint_eq(proc_list(&t, 1, 0, pid, node, 8), 2);
	ck_assert_uint_eq(proc_list(&t, 1, 100, pid, node, 8), 1);
	ck_assert_uint_eq(proc_list(&t, PROC_NODE_ANY, 0, pid, node, 1), 1);
	proc_table_free(&t);
}
END_TEST

START_TEST(move_entries)
{
	static struct move_table t = {.epoch = 9};
	struct move *m = NULL;
	uint64_t first = 0;

	for (int i = 0; i < MOVES_MAX; i++) {
		m = move_new(&t, 0);
		ck_assert_ptr_nonnull(m);
		ck_assert_ptr_eq(move_get(&t, m->id), m);
		first = first ? first : m->id;
	}
	ck_assert_uint_eq(first, 9ull << 32 | 1);
	ck_assert_ptr_null(move_new(&t, 0));
	move_remove(&t, m);
	m = move_revive(&t, 8ull << 32 | 5);
	ck_assert_uint_eq(m->epoch, 8);
	ck_assert_int_eq(m->state, MV_VOIDING);
	move_table_free(&t);
}
END_TEST

/* However many users take all that they can get, the next one finds room, and root does. */
START_TEST(move_shares)
{
	static struct move_table t = {.epoch = 9};
	uint32_t had[6] = {0};

	for (uint32_t u = 0; u < 6; u++)
		while (move_new(&t, 1000 + u))
			had[u]++;
	ck_assert_uint_ge(had[0], MOVES_MAX * 2 / 3);
	ck_assert_uint_ge(had[1], MOVES_MAX / 6);
	for (uint32_t u = 1; u < 6; u++)
		ck_assert(had[u] > 0 && had[u] < had[u - 1]);
	for (uint32_t i = SHARE_ROOT(MOVES_MAX); i > 0; i--)
		ck_assert_ptr_nonnull(move_new(&t, 0));
	ck_assert_ptr_null(move_new(&t, 1005));
	move_table_free(&t);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("tables");
	TCase *t = tcase_create("tables");
	SRunner *r = srunner_create(s);
	int failed;

	tcase_add_test(t, complete);
	tcase_add_test(t, commit_is_final);
	tcase_add_test(t, status_names);
	tcase_add_loop_test(t, permissions, 0, sizeof(access_case) / sizeof(*access_case));
	tcase_add_test(t, leases);
	tcase_add_test(t, node_words);
	tcase_add_test(t, proc_entries);
	tcase_add_test(t, move_entries);
	tcase_add_test(t, move_shares);
	suite_add_tcase(s, t);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
