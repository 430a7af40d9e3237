/*
 * Sets of nodes and the text that names them: every form, what is not a form, and
 * growth.
 */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <bproc.h>

#include "api_fake.h"

static struct bproc_node_set_t all;

/* Nodes 0-3, 5, 10 and 12; 1 and 5 are down, 2 is "error", the rest up. */
static void make_all(void)
{
	static const int number[] = {0, 1, 2, 3, 5, 10, 12};
	static const char *const state[] = {"up", "down", "error", "up", "down", "up", "up"};

	all = (struct bproc_node_set_t)BPROC_EMPTY_NODESET;
	for (int i = 0; i < 7; i++) {
		struct bproc_node_info_t n = {.node = number[i]};

		strcpy(n.status, state[i]);
		ck_assert_int_eq(bproc_nodeset_add(&all, &n), 0);
	}
}

static void free_all(void)
{
	bproc_nodeset_free(&all);
}

static const struct {
	const char *spec, *nodes;
} good[] = {
	{"0", "0"},
	{"n3", "3"},
	{".5", "5"},
	{"0x0a", "10"},
	{"012", "10"},
	{"4", ""},
	{"99999", ""},
	{"1-3", "1 2 3"},
	{"3-1", ""},
	{"3-", "3 5 10 12"},
	{"3-99", "3 5 10 12"},
	{"n1-n3", "1 2 3"},
	{"all", "0 1 2 3 5 10 12"},
	{"up", "0 3 10 12"},
	{"allup", "0 3 10 12"},
	{"down", "1 5"},
	{"notdown", "0 2 3 10 12"},
	{"allnotdown", "0 2 3 10 12"},
	{"error", "2"},
	{"notup", "1 2 5"},
	{"boot", ""},
	{"3,0,3", "3 0 3"},
	{"5,up,0-1", "5 0 3 10 12 0 1"},
	{"A_1", ""},
};

START_TEST(forms)
{
	struct bproc_node_set_t ns;
	char text[100] = "";

	ck_assert_int_eq(bproc_nodefilter(&ns, &all, good[_i].spec), 0);
	for (int i = 0; i < ns.size; i++)
		snprintf(text + strlen(text), 8, "%s%d", i ? " " : "",
			 bproc_node_set_node(&ns, i)->node);
	ck_assert_str_eq(text, good[_i].nodes);
	bproc_nodeset_free(&ns);
}
END_TEST

static const char *const bad[] = {"",
				  ",",
				  "0,",
				  ",0",
				  "5x",
				  "5-x",
				  "5--7",
				  "-5",
				  "1 ",
				  " 1",
				  "up down",
				  "u-p",
				  "5-7-9",
				  "1;2",
				  "!up",
				  "99999999999999999999",
				  "0x",
				  "09",
				  "abcdefghijklmnop",
				  "1-99999999999999999999"};

START_TEST(not_forms)
{
	struct bproc_node_set_t ns = {7, 8, NULL};

	errno = 0;
	ck_assert_int_eq(bproc_nodefilter(&ns, &all, bad[_i]), -1);
	ck_assert_int_eq(errno, EINVAL);
	ck_assert_int_eq(ns.size, 7);
	ck_assert_ptr_nonnull(strstr(bproc_errtext(), "names no nodes"));
}
END_TEST

START_TEST(with_daemon)
{
	struct bproc_node_set_t ns;

	fake_start(&(struct fake){.self = -1});
	ck_assert_int_eq(bproc_nodefilter(&ns, &all, "master,0"), 0);
	ck_assert_int_eq(ns.size, 2);
	ck_assert_int_eq(ns.node[0].node, BPROC_NODE_MASTER);
	bproc_nodeset_free(&ns);
	ck_assert_int_eq(bproc_nodespec(&ns, "0-2"), 0);
	ck_assert_int_eq(ns.size, 3);
	bproc_nodeset_free(&ns);
	ck_assert_int_eq(bproc_nodespec(&ns, "!"), -1);
	ck_assert_int_eq(errno, EINVAL);
	fake_stop();
	ck_assert_int_eq(bproc_nodefilter(&ns, &all, "0,master"), -1);
	ck_assert_int_eq(errno, ENOSYS);
	ck_assert_int_eq(bproc_nodespec(&ns, "0"), -1);
	ck_assert_int_eq(errno, ENOSYS);
}
END_TEST

START_TEST(growing)
{
	struct bproc_node_set_t a = BPROC_EMPTY_NODESET, b;
	struct bproc_node_info_t n = {.node = 4};

	ck_assert_int_eq(bproc_nodeset_init(&b, 3), 0);
	ck_assert_int_eq(b.size, 3);
	ck_assert_int_eq(b.node[2].node, 0);
	for (int i = 0; i < 1000; i++) {
		n.node = i;
		ck_assert_int_eq(bproc_nodeset_add(&a, &n), 0);
	}
	ck_assert_int_eq(bproc_nodeset_append(&a, &b), 0);
	ck_assert_int_eq(bproc_nodeset_append(&a, &a), 0);
	ck_assert_int_eq(a.size, 2006);
	ck_assert_int_eq(a.node[999].node, 999);
	ck_assert_int_eq(a.node[1003 + 999].node, 999);
	ck_assert_int_eq(bproc_nodeset_grow(&a, 2147483647), -1);
	ck_assert_int_eq(errno, ENOMEM);
	ck_assert_int_eq(a.size, 2006);
	bproc_nodeset_free(&a);
	ck_assert_int_eq(a.size, 0);
	ck_assert_ptr_null(a.node);
	bproc_nodeset_free(&a);
	bproc_nodeset_free(&b);
	ck_assert_int_eq(bproc_nodeset_init(&b, -1), 0);
	ck_assert_int_eq(b.size, 0);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("api_nodeset");
	TCase *t = tcase_create("sets");
	SRunner *r;
	int failed;

	tcase_add_checked_fixture(t, make_all, free_all);
	tcase_add_loop_test(t, forms, 0, sizeof(good) / sizeof(good[0]));
	tcase_add_loop_test(t, not_forms, 0, sizeof(bad) / sizeof(bad[0]));
	tcase_add_test(t, with_daemon);
	tcase_add_test(t, growing);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
