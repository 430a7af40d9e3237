/*
 * Frames and credentials (libbproc/wire.c): round trip, every truncated prefix,
 * every length off by one, and a golden frame that doc/wire.md shows.
 */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "libbproc/wire.h"

static unsigned char *frame_of(const ProtobufCMessage *msg, size_t *ret_len)
{
	Bproc__Envelope env;
	unsigned char *buf;

	ck_assert_int_eq(wire_envelope(msg, &env), 0);
	*ret_len = wire_frame_size(&env);
	ck_assert_uint_gt(*ret_len, WIRE_HDR);
	buf = malloc(*ret_len);
	ck_assert_uint_eq(wire_put_frame(&env, buf), *ret_len);
	return buf;
}

START_TEST(golden)
{
	/* doc/wire.md, section 1: Signal 15 to pid 4242 of generation 7, epoch 3. */
	static const unsigned char want[] = {
		0x00, 0x00, 0x00, 0x16, 0xc2, 0x02, 0x13, 0x0a, 0x09, 0x08, 0x01, 0x10, 0x03,
		0x18, 0x92, 0x21, 0x20, 0x07, 0x10, 0x0f, 0x20, 0x8c, 0x20, 0x28, 0xe8, 0x07,
	};
	Bproc__Signal s = BPROC__SIGNAL__INIT;
	Bproc__Proc p = BPROC__PROC__INIT;
	unsigned char *buf;
	size_t len;

	p.home = -1;
	p.epoch = 3;
	p.pid = 4242;
	p.gen = 7;
	s.proc = &p;
	s.sig = 15;
	s.sender_pid = 4108;
	s.sender_uid = 1000;
	buf = frame_of(&s.base, &len);
	ck_assert_uint_eq(len, sizeof(want));
	ck_assert_mem_eq(buf, want, len);
	free(buf);
}
END_TEST

START_TEST(round_trip)
{
	Bproc__MoveFailed f = BPROC__MOVE_FAILED__INIT;
	char text[] = "pid 42: fd 7 is /dev/st0";
	Bproc__Envelope *env;
	unsigned char *buf;
	uint32_t body;
	size_t len;

	f.move = 0x1122334455667788ull;
	f.err = 22;
	f.text = text;
	f.target = 1;
	buf = frame_of(&f.base, &len);
	ck_assert_int_eq(wire_get_length(buf, &body), 0);
	ck_assert_uint_eq(body + WIRE_HDR, len);
	ck_assert_int_eq(wire_get_envelope(buf + WIRE_HDR, body, &env), 0);
	ck_assert_int_eq(env->msg_case, BPROC__ENVELOPE__MSG_MOVE_FAILED);
	ck_assert_str_eq(wire_name(env), "MoveFailed");
	ck_assert_uint_eq(env->move_failed->move, f.move);
	ck_assert_str_eq(env->move_failed->text, text);
	ck_assert(env->move_failed->target);
	bproc__envelope__free_unpacked(env, NULL);
	free(buf);
}
END_TEST

START_TEST(prefixes)
{
	Bproc__Hello h = BPROC__HELLO__INIT;
	char version[] = "0.1.0", arch[] = "x86_64";
	Bproc__Envelope *env;
	unsigned char *buf;
	size_t len;

	h.protocol = BPROC_PROTOCOL;
	h.version = version;
	h.arch = arch;
	h.want_node = -3;
	h.data_port = 2224;
	buf = frame_of(&h.base, &len);
	for (size_t n = 0; n < len - WIRE_HDR; n++) {
		/* A copy of its own size, so that a sanitizer sees a read beyond it. */
		unsigned char *cut = malloc(n ? n : 1);

		memcpy(cut, buf + WIRE_HDR, n);
		ck_assert_int_eq(wire_get_envelope(cut, n, &env), -EBADMSG);
		free(cut);
	}
	/* One byte more than the message: a field with a number of 0, or cut. */
	buf = realloc(buf, len + 1);
	buf[len] = 0;
	ck_assert_int_eq(wire_get_envelope(buf + WIRE_HDR, len - WIRE_HDR + 1, &env), -EBADMSG);
	free(buf);
}
END_TEST

START_TEST(lengths)
{
	static const struct {
		unsigned char hdr[4];
		int want;
	} c[] = {
		{{0, 0, 0, 0}, -EBADMSG},
		{{0, 0, 0, 1}, 0},
		{{0, 0x10, 0, 0}, 0},
		{{0, 0x10, 0, 1}, -EMSGSIZE},
		{{0xff, 0xff, 0xff, 0xff}, -EMSGSIZE},
		{{0x80, 0, 0, 0}, -EMSGSIZE},
		{{0, 0x0f, 0xff, 0xff}, 0},
	};
	uint32_t len;

	for (size_t i = 0; i < sizeof(c) / sizeof(*c); i++)
		ck_assert_int_eq(wire_get_length(c[i].hdr, &len), c[i].want);
}
END_TEST

START_TEST(too_long)
{
	Bproc__StreamData d = BPROC__STREAM_DATA__INIT;
	Bproc__Envelope env;

	d.data.len = WIRE_MAX;
	d.data.data = calloc(1, WIRE_MAX);
	ck_assert_int_eq(wire_envelope(&d.base, &env), 0);
	ck_assert_uint_eq(wire_frame_size(&env), 0);
	d.data.len = WIRE_MAX - 64;
	ck_assert_uint_gt(wire_frame_size(&env), 0);
	free(d.data.data);
}
END_TEST

START_TEST(unknown)
{
	Bproc__Chain no_case = BPROC__CHAIN__INIT;
	/* Field 1000 of the envelope, a message of no bytes; and an envelope with nothing. */
	static const unsigned char field[] = {0xc2, 0x3e, 0x00};
	/* Field 1000 of a Hello, which is field 1 of the envelope. */
	static const unsigned char within[] = {0x0a, 0x03, 0xc2, 0x3e, 0x00};
	Bproc__Envelope *out, env;

	ck_assert_int_eq(wire_envelope(&no_case.base, &env), -EINVAL);
	ck_assert_int_eq(wire_get_envelope(field, sizeof(field), &out), -EBADMSG);
	ck_assert_int_eq(wire_get_envelope(within, sizeof(within), &out), -EBADMSG);
	ck_assert_int_eq(wire_get_envelope(field, 0, &out), -EBADMSG);
}
END_TEST

START_TEST(creds)
{
	struct chan_cred c = {
		.uid = {1, 2, 3, 4},
		.gid = {5, 6, 7, 0xfffffffe},
		.ngroups = 2,
		.group = {8, 9},
		.cap_inh = 1ull << 40,
		.cap_bnd = ~0ull,
		.securebits = 3,
		.no_new_privs = 1,
		.nice = -20,
	};
	unsigned char buf[WIRE_CRED_SIZE + 1] = {0};
	struct chan_cred back;

	for (int i = 0; i < 16; i++) {
		c.rlim[i][0] = (uint64_t)i << 33;
		c.rlim[i][1] = ~0ull;
	}
	wire_put_cred(&c, buf);
	ck_assert_mem_eq(buf, "\1\0\0\0\2\0\0\0", 8);
	ck_assert_int_eq(wire_get_cred(buf, WIRE_CRED_SIZE, &back), 0);
	ck_assert_mem_eq(&back, &c, sizeof(c));
	for (size_t n = 0; n < WIRE_CRED_SIZE; n++)
		ck_assert_int_eq(wire_get_cred(buf, n, &back), -EBADMSG);
	ck_assert_int_eq(wire_get_cred(buf, WIRE_CRED_SIZE + 1, &back), -EBADMSG);
	buf[32] = CHAN_NGROUPS;
	ck_assert_int_eq(wire_get_cred(buf, WIRE_CRED_SIZE, &back), 0);
	buf[32] = CHAN_NGROUPS + 1;
	ck_assert_int_eq(wire_get_cred(buf, WIRE_CRED_SIZE, &back), -EBADMSG);
	buf[32] = 2;
	buf[164] = 1; /* reserved */
	ck_assert_int_eq(wire_get_cred(buf, WIRE_CRED_SIZE, &back), -EBADMSG);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("wire");
	TCase *t = tcase_create("wire");
	SRunner *r = srunner_create(s);
	int failed;

	tcase_add_test(t, golden);
	tcase_add_test(t, round_trip);
	tcase_add_test(t, prefixes);
	tcase_add_test(t, lengths);
	tcase_add_test(t, too_long);
	tcase_add_test(t, unknown);
	tcase_add_test(t, creds);
	suite_add_tcase(s, t);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
