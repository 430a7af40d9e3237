/*
 * What comes from the source of memory that follows a process (slaved/pager_frame.c): golden
 * frames, every truncated prefix, each limit, and what is no frame.
 */
#include <check.h>
#include <errno.h>
#include <string.h>

#include "slaved/pager.h"

#define AT 0x7f0000000000ull

static struct {
	unsigned int ranges, answers, ends;
	uint64_t pages, none, unasked;
} got;

static void on_ranges(void *arg, const struct lazy_range *r, uint32_t n)
{
	(void)arg;
	(void)r;
	got.ranges += n;
}
static int on_pages(void *arg, uint64_t at, const unsigned char *p, uint64_t n)
{
	(void)arg;
	ck_assert_uint_eq(at, AT + got.pages);
	ck_assert_uint_eq(p[0], 0x11 + got.pages / IMAGE_PAGE);
	got.pages += n;
	return 0;
}
static void on_answered(void *arg, uint64_t at)
{
	(void)arg;
	(void)at;
	got.answers++;
}
static int on_none(void *arg, uint64_t at, uint64_t n)
{
	(void)arg;
	(void)at;
	got.none += n;
	return 0;
}
static void on_unasked(void *arg, uint64_t n)
{
	(void)arg;
	got.unasked += n;
}
static void on_end(void *arg)
{
	(void)arg;
	got.ends++;
}
static const struct pager_ops ops = {on_ranges, on_pages, on_answered, on_none, on_unasked, on_end};

static size_t put(unsigned char *p, uint32_t type, uint32_t flags, uint64_t at, uint64_t len)
{
	const struct lazy_frame f = {type, flags, at, len};

	memcpy(p, &f, sizeof(f));
	return sizeof(f);
}

static size_t put_ranges(unsigned char *p, const struct lazy_range *r, uint32_t n)
{
	size_t at = put(p, LAZY_RANGES, 0, 0, n * sizeof(*r));

	memcpy(p + at, r, n * sizeof(*r));
	return at + n * sizeof(*r);
}

/* Two ranges, a page unasked, two asked for, nothing, the end. */
static size_t golden(unsigned char *p)
{
	const struct lazy_range r[2] = {{AT, AT + (1 << 20)}, {AT + (1 << 20), AT + (2 << 20)}};
	size_t n = put_ranges(p, r, 2);

	n += put(p + n, LAZY_PAGES, 0, AT, IMAGE_PAGE);
	memset(p + n, 0x11, IMAGE_PAGE);
	n += IMAGE_PAGE;
	n += put(p + n, LAZY_PAGES, LAZY_ASKED, AT + IMAGE_PAGE, 2 * IMAGE_PAGE);
	memset(p + n, 0x12, IMAGE_PAGE);
	memset(p + n + IMAGE_PAGE, 0x13, IMAGE_PAGE);
	n += 2 * IMAGE_PAGE;
	n += put(p + n, LAZY_NONE, LAZY_ASKED, AT, 3 * IMAGE_PAGE);
	return n + put(p + n, LAZY_END, 0, 0, 0);
}

static unsigned char buf[8 * IMAGE_PAGE + PAGER_REST];

static int take(struct pager_in *in, size_t n)
{
	return pager_take(in, buf, n, &ops, NULL);
}

static void all_came(void)
{
	ck_assert_uint_eq(got.ranges, 2);
	ck_assert_uint_eq(got.pages, 3 * IMAGE_PAGE);
	ck_assert_uint_eq(got.unasked, IMAGE_PAGE);
	ck_assert_uint_eq(got.answers, 2);
	ck_assert_uint_eq(got.none, 3 * IMAGE_PAGE);
	ck_assert_uint_eq(got.ends, 1);
}

START_TEST(whole_and_cut)
{
	size_t n = golden(buf);

	for (size_t len = 0; len <= n; len++) {
		struct pager_in in = {0};

		memset(&got, 0, sizeof(got));
		ck_assert_int_eq(take(&in, len), 0);
		ck_assert_uint_eq(got.ends, len == n);
		ck_assert_int_eq(pager_take(&in, buf + len, n - len, &ops, NULL), 0);
		all_came();
	}
}
END_TEST

/* In pieces of every length: what is left over of one is made whole by several. */
START_TEST(pieces)
{
	size_t n = golden(buf);

	for (size_t piece = 1; piece <= n; piece += piece < 100 ? 1 : 97) {
		struct pager_in in = {0};

		memset(&got, 0, sizeof(got));
		for (size_t at = 0; at < n; at += piece)
			ck_assert_int_eq(pager_take(&in, buf + at, n - at < piece ? n - at : piece,
						    &ops, NULL),
					 0);
		all_came();
	}
}
END_TEST

START_TEST(refused)
{
	static const struct lazy_frame bad[] = {
		{LAZY_PAGES, 0, AT, 0},
		{LAZY_PAGES, 0, AT + 1, IMAGE_PAGE},
		{LAZY_PAGES, 0, AT, IMAGE_PAGE + 1},
		{LAZY_PAGES, 0, AT, LAZY_PAGES_MAX + IMAGE_PAGE},
		{LAZY_PAGES, 2, AT, IMAGE_PAGE},
		{LAZY_PAGES, 0, IMAGE_ADDR_MAX, IMAGE_PAGE},
		{LAZY_PAGES, 0, -4096ull, IMAGE_PAGE},
		{LAZY_PAGES, 0, IMAGE_PAGE, -4096ull},
		{LAZY_NONE, 0, AT, IMAGE_PAGE},
		{LAZY_NONE, LAZY_ASKED, AT, 0},
		{LAZY_NONE, LAZY_ASKED, AT, IMAGE_ADDR_MAX},
		{LAZY_END, 0, 0, 1},
		{LAZY_END, 1, 0, 0},
		{LAZY_RANGES, 0, 0, sizeof(struct lazy_range)}, /* once more */
		{LAZY_GET, 0, AT, IMAGE_PAGE},
		{LAZY_MORE, 0, 0, IMAGE_PAGE},
		{0, 0, 0, 0},
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		struct pager_in in = {.begun = true};

		memcpy(buf, &bad[i], sizeof(bad[i]));
		memset(buf + LAZY_FRAME, 0, 64);
		ck_assert_msg(take(&in, LAZY_FRAME + 64) == -EBADMSG, "frame %zu is taken", i);
	}
}
END_TEST

START_TEST(ranges)
{
	static const struct lazy_range bad[][2] = {
		{{AT, AT}, {AT + IMAGE_PAGE, AT + 2 * IMAGE_PAGE}},
		{{AT + IMAGE_PAGE, AT}, {AT + 2 * IMAGE_PAGE, AT + 3 * IMAGE_PAGE}},
		{{AT, AT + 2 * IMAGE_PAGE}, {AT + IMAGE_PAGE, AT + 3 * IMAGE_PAGE}},
		{{AT, AT + 1}, {AT + IMAGE_PAGE, AT + 2 * IMAGE_PAGE}},
		{{AT, AT + IMAGE_PAGE}, {AT + IMAGE_PAGE, IMAGE_ADDR_MAX + IMAGE_PAGE}},
	};
	struct pager_in in;

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		in = (struct pager_in){0};
		ck_assert_msg(take(&in, put_ranges(buf, bad[i], 2)) == -EBADMSG, "ranges %zu", i);
	}
	/* Nothing before them; not more than there may be; none. */
	in = (struct pager_in){0};
	ck_assert_int_eq(take(&in, put(buf, LAZY_PAGES, 0, AT, IMAGE_PAGE)), -EBADMSG);
	in = (struct pager_in){0};
	put(buf, LAZY_RANGES, 0, 0, (LAZY_RANGES_MAX + 1) * sizeof(struct lazy_range));
	ck_assert_int_eq(take(&in, LAZY_FRAME), -EBADMSG);
	in = (struct pager_in){0};
	ck_assert_int_eq(take(&in, put(buf, LAZY_RANGES, 0, 0, 0)), -EBADMSG);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("pager");
	TCase *t = tcase_create("pager");
	SRunner *r = srunner_create(s);
	int failed;

	tcase_add_test(t, whole_and_cut);
	tcase_add_test(t, pieces);
	tcase_add_test(t, refused);
	tcase_add_test(t, ranges);
	suite_add_tcase(s, t);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
