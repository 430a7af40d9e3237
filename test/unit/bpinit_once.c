/*
 * Each signal of a ghost once and in order (slaved/once.c): repeated ones, ones that
 * come before their turn, a stream that goes on on another node, one that was
 * forgotten, numbers that wrap.
 */
#include <check.h>

#include "slaved/once.h"

static uint64_t next_id = 1000;

static enum once take(uint64_t id, uint64_t number, uint64_t base)
{
	return once_take(id, 42, number, base);
}

START_TEST(in_order)
{
	uint64_t id = next_id++;

	for (uint64_t n = 1; n <= 100; n++)
		ck_assert_int_eq(take(id, n, 1), ONCE_NEW);
	ck_assert_uint_eq(once_upto(id), 100);
	ck_assert_uint_eq(once_upto(next_id), 0);
}
END_TEST

START_TEST(repeated)
{
	uint64_t id = next_id++;

	for (uint64_t n = 1; n <= 10; n++) {
		ck_assert_int_eq(take(id, n, 1), ONCE_NEW);
		for (uint64_t old = 1; old <= n; old++)
			ck_assert_int_eq(take(id, old, 1), ONCE_OLD);
	}
	ck_assert_uint_eq(once_upto(id), 10);
}
END_TEST

/* What is ahead of its turn is refused, and what is missing asked for once. */
START_TEST(ahead)
{
	uint64_t id = next_id++;

	ck_assert_int_eq(take(id, 1, 1), ONCE_NEW);
	ck_assert_int_eq(take(id, 3, 1), ONCE_AHEAD);
	for (uint64_t n = 4; n < 20; n++)
		ck_assert_int_eq(take(id, n, 1), ONCE_LATER);
	ck_assert_uint_eq(once_upto(id), 1);
	ck_assert_int_eq(take(id, 2, 1), ONCE_NEW);
	ck_assert_int_eq(take(id, 4, 1), ONCE_AHEAD);
	for (uint64_t n = 3; n < 20; n++)
		ck_assert_int_eq(take(id, n, 1), ONCE_NEW);
}
END_TEST

/* The sender has an acknowledgement of what is not known here: it was delivered elsewhere. */
START_TEST(base)
{
	uint64_t id = next_id++;

	ck_assert_int_eq(take(id, 8, 7), ONCE_AHEAD);
	ck_assert_int_eq(take(id, 7, 7), ONCE_NEW);
	ck_assert_int_eq(take(id, 8, 7), ONCE_NEW);
	ck_assert_int_eq(take(id, 20, 20), ONCE_NEW);
	ck_assert_int_eq(take(id, 19, 19), ONCE_OLD);
	ck_assert_uint_eq(once_upto(id), 20);
}
END_TEST

START_TEST(wrap)
{
	uint64_t id = next_id++, start = UINT64_MAX - 5;

	ck_assert_int_eq(take(id, start, start), ONCE_NEW);
	for (uint64_t i = 1; i < 12; i++) {
		ck_assert_int_eq(take(id, start + i + 1, start), ONCE_AHEAD);
		ck_assert_int_eq(take(id, start + i, start), ONCE_NEW);
		ck_assert_int_eq(take(id, start + i, start), ONCE_OLD);
		ck_assert_int_eq(take(id, start, start), ONCE_OLD);
	}
	ck_assert_uint_eq(once_upto(id), start + 11);
	/* On the other side of it too what the sender knows counts. */
	ck_assert_int_eq(take(id, start + 30, start + 30), ONCE_NEW);
	ck_assert_int_eq(take(id, start + 2, start + 1), ONCE_OLD);
}
END_TEST

/* With its process it goes to another node; here the same table plays both. */
START_TEST(moves)
{
	struct data_stream v[DATA_STREAMS];
	uint64_t id[DATA_STREAMS + 2];
	int found = 0;

	for (int i = 0; i < DATA_STREAMS + 2; i++) {
		id[i] = next_id++;
		ck_assert_int_eq(once_take(id[i], 77, 5, 5), ONCE_NEW);
	}
	ck_assert_int_eq(once_take(next_id++, 78, 1, 1), ONCE_NEW);
	once_of(77, v);
	/* The latest ones go along. */
	for (int k = 0; k < DATA_STREAMS; k++) {
		ck_assert_uint_eq(v[k].upto, 5);
		for (int i = 2; i < DATA_STREAMS + 2; i++)
			found += v[k].id == id[i];
	}
	ck_assert_int_eq(found, DATA_STREAMS);
	once_of(79, v);
	for (int k = 0; k < DATA_STREAMS; k++)
		ck_assert_uint_eq(v[k].id, 0);
	v[3] = (struct data_stream){.id = next_id, .upto = 12};
	v[4] = (struct data_stream){.id = id[0], .upto = 3};
	once_put(80, v);
	ck_assert_int_eq(once_take(next_id, 80, 12, 11), ONCE_OLD);
	ck_assert_int_eq(once_take(next_id++, 80, 13, 11), ONCE_NEW);
	/* Of two words the greater one is right. */
	ck_assert_int_eq(once_take(id[0], 80, 5, 4), ONCE_OLD);
}
END_TEST

/* More than there is room for: the one that was not used for longest is forgotten. */
START_TEST(full)
{
	uint64_t kept = next_id++, id;

	ck_assert_int_eq(take(kept, 1, 1), ONCE_NEW);
	for (uint64_t i = 1; i < 20ull * STREAMS_MAX; i++) {
		id = next_id++;
		ck_assert_int_eq(take(id, 1, 1), ONCE_NEW);
		if (i % 512 == 0)
			ck_assert_int_eq(take(kept, 1, 1), ONCE_OLD);
	}
	ck_assert_int_eq(take(kept, 3, 1), ONCE_AHEAD);
	ck_assert_int_eq(take(kept, 2, 1), ONCE_NEW);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("once");
	TCase *t = tcase_create("once");
	SRunner *r = srunner_create(s);
	int failed;

	tcase_add_test(t, in_order);
	tcase_add_test(t, repeated);
	tcase_add_test(t, ahead);
	tcase_add_test(t, base);
	tcase_add_test(t, wrap);
	tcase_add_test(t, moves);
	tcase_add_test(t, full);
	suite_add_tcase(s, t);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
