/*
 * The header of a data connection (slaved/bpslave_hdr.c): golden bytes, every
 * truncated prefix, every byte wrong of what is compared, and each thing that must match the move.
 */
#include <check.h>
#include <errno.h>
#include <string.h>

#include "slaved/bpslave.h"
#include "slaved/bpslave_data.h"

/* Move 0x0102030405060708, epoch 9, pid 4242, rfork, token 0, 1 ... 31. */
#define HDR sizeof(struct data_hdr)

static void golden(unsigned char buf[HDR])
{
	static const unsigned char head[32] = {
		'B', 'P', 'R', 'D', 3,	  0,	0, 0, 8, 7, 6, 5, 4, 3, 2, 1,
		9,   0,	  0,   0,   0x92, 0x10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0,
	};

	memset(buf, 0, HDR);
	memcpy(buf, head, 32);
	for (int i = 0; i < 32; i++)
		buf[32 + i] = (unsigned char)i;
	buf[64 + 16 + 1] = 3; /* stream 0x300 up to 5 is the second one */
	buf[64 + 24] = 5;
	buf[192 + 1] = 1; /* 256 us, 2 us, 3 KiB */
	buf[200] = 2;
	buf[208] = 3;
}

START_TEST(parse)
{
	unsigned char buf[HDR + 1] = {0};
	struct data_hdr h;

	golden(buf);
	ck_assert_int_eq(data_parse_hdr(buf, HDR, &h), 0);
	ck_assert_uint_eq(h.move_id, 0x0102030405060708ull);
	ck_assert_uint_eq(h.epoch, 9);
	ck_assert_int_eq(h.pid, 4242);
	ck_assert_uint_eq(h.kind, MOVE_RFORK);
	ck_assert_uint_eq(h.token[31], 31);
	ck_assert_uint_eq(h.streams[0].id, 0);
	ck_assert_uint_eq(h.streams[1].id, 0x300);
	ck_assert_uint_eq(h.streams[1].upto, 5);
	ck_assert_uint_eq(h.used.utime_us, 256);
	ck_assert_uint_eq(h.used.stime_us, 2);
	ck_assert_uint_eq(h.used.maxrss_kb, 3);
	for (size_t n = 0; n <= HDR + 1; n++)
		if (n != HDR)
			ck_assert_int_eq(data_parse_hdr(buf, n, &h), -EBADMSG);
}
END_TEST

START_TEST(each_byte)
{
	struct data_hdr want, h;
	unsigned char buf[HDR];
	int e;

	golden(buf);
	ck_assert_int_eq(data_parse_hdr(buf, HDR, &want), 0);
	for (int i = 0; i < 64; i++) {
		for (int bit = 0; bit < 8; bit++) {
			/* Its memory may follow: a flag that binds nobody. */
			if (i == 28 && bit == 0)
				continue;
			golden(buf);
			buf[i] ^= (unsigned char)(1 << bit);
			e = data_parse_hdr(buf, HDR, &h);
			if (e == 0)
				e = data_admits(&h, &want);
			ck_assert_msg(e < 0, "byte %d, bit %d is not looked at", i, bit);
		}
	}
}
END_TEST

START_TEST(admits)
{
	struct data_hdr want, h;
	unsigned char buf[HDR];

	golden(buf);
	ck_assert_int_eq(data_parse_hdr(buf, HDR, &want), 0);
	h = want;
	ck_assert_int_eq(data_admits(&h, &want), 0);
	h.token[31] ^= 1;
	ck_assert_int_eq(data_admits(&h, &want), -EACCES);
	h = want;
	h.move_id++;
	ck_assert_int_eq(data_admits(&h, &want), -ENOENT);
	h = want;
	h.epoch++;
	ck_assert_int_eq(data_admits(&h, &want), -ESTALE);
	h = want;
	h.kind = MOVE_MOVE;
	ck_assert_int_eq(data_admits(&h, &want), -EPROTO);
	h = want;
	h.pid++;
	ck_assert_int_eq(data_admits(&h, &want), -EPROTO);
	want.pid = 0; /* rfork: the master cannot know it */
	ck_assert_int_eq(data_admits(&h, &want), 0);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("hdr");
	TCase *t = tcase_create("hdr");
	SRunner *r = srunner_create(s);
	int failed;

	tcase_add_test(t, parse);
	tcase_add_test(t, each_byte);
	tcase_add_test(t, admits);
	suite_add_tcase(s, t);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
