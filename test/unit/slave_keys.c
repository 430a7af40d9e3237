/*
 * bpdata and the cluster key (slaved/bpdata_keys.c): behind a handshake no copy of it, and nothing
 * a handshake could be made from, is anywhere in the memory of the process; the connection goes on.
 */
#include <check.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <openssl/hmac.h>

#include "libbproc/link.h"
#include "slaved/bpdata_keys.h"

#define HUGE_MAP (1ull << 30) /* a sanitizer's own */

/* What is looked for, inverted: so it is not found here. */
static unsigned char psk[KEY_PSK], early[KEY_PSK];
static struct cluster_key key;
static SSL_CTX *ctx;
static SSL *end[2];

/* Byte by byte: what libc has for it a sanitizer would look over. */
__attribute__((no_sanitize("address"))) static int hunt_in(const volatile unsigned char *p,
							   const volatile unsigned char *to,
							   const unsigned char *inverted)
{
	int n = 0;

	for (; p + KEY_PSK <= to; p++) {
		size_t i = 0;

		while (i < KEY_PSK && p[i] + inverted[i] == 0xff)
			i++;
		n += i == KEY_PSK;
	}
	return n;
}

/* How often it is in what this process can write. */
static int hunt(const unsigned char *inverted)
{
	FILE *f = fopen("/proc/self/maps", "re");
	char line[512], prot[5];
	uint64_t from, to;
	int n = 0;

	ck_assert_ptr_nonnull(f);
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s", &from, &to, prot) == 3 &&
		    strcmp(prot, "rw-p") == 0 && to - from < HUGE_MAP)
			n += hunt_in((const unsigned char *)(uintptr_t)from,
				     (const unsigned char *)(uintptr_t)to, inverted);
	fclose(f);
	return n;
}

static void invert(unsigned char *p)
{
	for (int i = 0; i < (int)KEY_PSK; i++)
		p[i] ^= 0xff;
}

static void prepare(void)
{
	static const unsigned char salt[KEY_PSK];
	struct bproc_err err;
	unsigned int len;

	for (int i = 0; i < (int)KEY_PSK; i++)
		psk[i] = key.psk[i] = (unsigned char)(i * 37 + 11);
	ck_assert_ptr_nonnull(HMAC(EVP_sha256(), salt, sizeof(salt), psk, KEY_PSK, early, &len));
	invert(psk);
	invert(early);
	ctx = link_ctx_new(&key, &err);
	ck_assert_ptr_nonnull(ctx);
	key_wipe(&key);
	ck_assert_int_eq(keys_learn(ctx), 0);
}

/* 1: both ends are connected. */
static int handshake(void)
{
	BIO *a, *b;
	int r[2] = {0, 0};

	ck_assert_int_eq(BIO_new_bio_pair(&a, 0, &b, 0), 1);
	end[0] = SSL_new(ctx);
	end[1] = SSL_new(ctx);
	SSL_set_bio(end[0], a, a);
	SSL_set_bio(end[1], b, b);
	for (int i = 0; i < 10 && (r[0] != 1 || r[1] != 1); i++) {
		r[0] = SSL_connect(end[0]);
		r[1] = SSL_accept(end[1]);
	}
	return r[0] == 1 && r[1] == 1;
}

static void hang_up(void)
{
	SSL_free(end[0]);
	SSL_free(end[1]);
}

static void says(SSL *from, SSL *to, char c)
{
	char got = 0;

	ck_assert_int_eq(SSL_write(from, &c, 1), 1);
	ck_assert_int_eq(SSL_read(to, &got, 1), 1);
	ck_assert_int_eq(got, c);
}

START_TEST(wiped)
{
	int kept, known;

	prepare();
	kept = hunt(psk);
	known = hunt(early);
	ck_assert_int_eq(kept, 2); /* the context's, and what is looked for */
	ck_assert_int_eq(known, 1);
	for (int lap = 0; lap < 2; lap++) {
		ck_assert_int_eq(handshake(), 1);
		ck_assert_int_gt(hunt(early), known); /* else this here would be of no use */
		ck_assert_int_gt(keys_wipe(), 0);
		ck_assert_int_eq(hunt(psk), kept);
		ck_assert_int_eq(hunt(early), known);
		says(end[0], end[1], 'a');
		says(end[1], end[0], 'b');
		ck_assert_int_eq(SSL_key_update(end[0], SSL_KEY_UPDATE_REQUESTED), 1);
		says(end[0], end[1], 'c');
		says(end[1], end[0], 'd');
		hang_up();
	}
}
END_TEST

START_TEST(forgotten)
{
	prepare();
	ck_assert_int_eq(handshake(), 1);
	keys_forget(ctx);
	ck_assert_int_eq(hunt(psk), 0);
	ck_assert_int_eq(hunt(early), 0);
	says(end[0], end[1], 'a');
	says(end[1], end[0], 'b');
	hang_up();
	link_ctx_free(ctx);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("keys");
	TCase *t = tcase_create("keys");
	SRunner *r;
	int failed = keys_count();

	if (failed)
		return 1;
	r = srunner_create(s);
	tcase_set_timeout(t, 60);
	tcase_add_test(t, wiped);
	tcase_add_test(t, forgotten);
	suite_add_tcase(s, t);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
