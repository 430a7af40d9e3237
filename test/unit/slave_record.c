/*
 * The records of bpdata: libssl reads what they write, and the other way round, over keys that
 * change; what was changed, cut or sent again on the way is refused, and nothing of it is used.
 */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "libbproc/link.h"
#include "libbproc/sysio.h"
#include "slaved/bpdata_record.h"

#define SIZE (1u << 20)
#define FEW 3 /* records under one key */

static unsigned char data[SIZE];
static struct record_secret secret[2]; /* of the client's end, of the server's */

/* A connection whose handshake is done. */
struct ends {
	SSL_CTX *ctx;
	SSL *ssl[2];
	int fd[2];
};

static void on_secret(const SSL *ssl, const char *line)
{
	record_keylog(line, &secret[SSL_is_server(ssl)]);
}

static void set_blocking(int fd, int yes)
{
	ck_assert_int_eq(fcntl(fd, F_SETFL, yes ? 0 : O_NONBLOCK), 0);
}

static struct ends connected(void)
{
	struct cluster_key key;
	struct bproc_err err;
	struct ends e;
	int done[2] = {0, 0};

	memset(&key, 7, sizeof(key));
	for (size_t i = 0; i < SIZE; i++)
		data[i] = (unsigned char)(i * 2654435761u >> 11);
	e.ctx = link_ctx_new(&key, &err);
	ck_assert_ptr_nonnull(e.ctx);
	SSL_CTX_clear_mode(e.ctx, SSL_MODE_ENABLE_PARTIAL_WRITE);
	SSL_CTX_set_keylog_callback(e.ctx, on_secret);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, e.fd), 0);
	for (int i = 0; i < 2; i++) {
		e.ssl[i] = SSL_new(e.ctx);
		SSL_set_fd(e.ssl[i], e.fd[i]);
		set_blocking(e.fd[i], 0);
		if (i)
			SSL_set_accept_state(e.ssl[i]);
		else
			SSL_set_connect_state(e.ssl[i]);
	}
	for (int turn = 0; turn < 20; turn++)
		done[turn % 2] = SSL_do_handshake(e.ssl[turn % 2]) == 1;
	ck_assert(done[0] && done[1]);
	for (int i = 0; i < 2; i++)
		set_blocking(e.fd[i], 1);
	return e;
}

static void over(struct ends *e)
{
	for (int i = 0; i < 2; i++) {
		SSL_free(e->ssl[i]);
		close_fd(e->fd[i]);
	}
	link_ctx_free(e->ctx);
}

static struct records started(struct ends *e, int server)
{
	struct records r;

	ck_assert_uint_eq(secret[server].len, 32);
	ck_assert_int_eq(records_start(&r, e->ssl[server], e->fd[server], &secret[server]), 0);
	return r;
}

static const size_t piece[] = {1,     7,     8,	    15,	   16,	   17,	  4095,
			       16383, 16384, 16385, 50000, 131072, 200001};
#define PIECES (sizeof(piece) / sizeof(piece[0]))

static size_t all_pieces(void)
{
	size_t n = 0;

	for (size_t i = 0; i < PIECES; i++)
		n += piece[i];
	return n;
}

static void child_is_good(pid_t pid)
{
	int status;

	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(status, 0);
}

/* libssl reads all of it, and an orderly end; a key is used for FEW records. */
START_TEST(to_libssl)
{
	struct ends e = connected();
	struct records r = started(&e, 0);
	size_t at = 0;
	pid_t pid = fork();

	ck_assert_int_eq(r.key_max, 1 << 24);
	if (pid == 0) {
		static unsigned char got[SIZE];
		int n;

		close(e.fd[0]);
		while ((n = SSL_read(e.ssl[1], got + at, (int)(SIZE - at))) > 0)
			at += (size_t)n;
		_exit(at != all_pieces() || memcmp(got, data, at) != 0 ||
		      SSL_get_error(e.ssl[1], n) != SSL_ERROR_ZERO_RETURN);
	}
	/* If that one gives up, so does what is written here. */
	signal(SIGPIPE, SIG_IGN);
	e.fd[1] = close_fd(e.fd[1]);
	r.key_max = FEW;
	for (size_t i = 0; i < PIECES; at += piece[i++])
		ck_assert_int_eq(record_write(&r, data + at, piece[i]), 0);
	record_close(&r);
	child_is_good(pid);
	records_free(&r);
	over(&e);
}
END_TEST

/* And what libssl writes, with other keys in between, and zeros behind what is in a record. */
START_TEST(from_libssl)
{
	static unsigned char got[SIZE + RECORD_SLACK];
	struct ends e = connected();
	struct records r = started(&e, 1);
	size_t at = 0;
	int n;
	pid_t pid = fork();

	if (pid == 0) {
		SSL *ssl = e.ssl[0];

		close(e.fd[1]);
		SSL_set_block_padding(ssl, 512);
		for (size_t i = 0; i < PIECES; at += piece[i++])
			if (SSL_write(ssl, data + at, (int)piece[i]) != (int)piece[i] ||
			    SSL_key_update(ssl, SSL_KEY_UPDATE_NOT_REQUESTED) != 1)
				_exit(1);
		SSL_shutdown(ssl);
		_exit(0);
	}
	e.fd[0] = close_fd(e.fd[0]);
	while ((n = record_read(&r, got + at)) > 0)
		at += (size_t)n;
	ck_assert_int_eq(n, 0);
	ck_assert_uint_eq(at, all_pieces());
	ck_assert(memcmp(got, data, at) == 0);
	child_is_good(pid);
	records_free(&r);
	over(&e);
}
END_TEST

/* What the client's libssl has to say from then on would be under a nonce that is in use. */
START_TEST(libssl_is_silent)
{
	struct ends e = connected();
	struct records r = started(&e, 0);
	unsigned char byte;

	SSL_write(e.ssl[0], data, 100);
	SSL_shutdown(e.ssl[0]);
	set_blocking(e.fd[1], 0);
	ck_assert_int_eq(read(e.fd[1], &byte, 1), -1);
	ck_assert_int_eq(errno, EAGAIN);
	records_free(&r);
	over(&e);
}
END_TEST

/* The records of a write of n bytes as they are on the wire. */
static size_t sealed(struct ends *e, size_t n, unsigned char *wire, size_t room)
{
	struct records r = started(e, 0);
	ssize_t len;

	ck_assert_int_eq(record_write(&r, data, n), 0);
	len = read(e->fd[1], wire, room);
	ck_assert_int_gt(len, (int)n);
	records_free(&r);
	return (size_t)len;
}

/* What becomes of n bytes on the wire behind which it ends: the last word of record_read(). */
static int opened(struct ends *e, const unsigned char *wire, size_t n, size_t *ret_good)
{
	static unsigned char got[RECORD_MAX + RECORD_SLACK];
	struct records r;
	int fd[2], k;

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd), 0);
	ck_assert_int_eq(write_full(fd[0], wire, n), 0);
	close_fd(fd[0]);
	r = started(e, 1);
	r.fd = fd[1];
	*ret_good = 0;
	while ((k = record_read(&r, got)) > 0) {
		ck_assert(memcmp(got, data + *ret_good, (size_t)k) == 0);
		*ret_good += (size_t)k;
	}
	records_free(&r);
	close_fd(fd[1]);
	return k;
}

START_TEST(changed)
{
	enum { ONE = RECORD_HEAD + 100 + 1 + RECORD_TAG };
	unsigned char wire[2 * ONE + 200];
	struct ends e = connected();
	size_t n = sealed(&e, 100, wire, sizeof(wire)), good;

	ck_assert_uint_eq(n, ONE);
	ck_assert_int_eq(opened(&e, wire, n, &good), 0);
	ck_assert_uint_eq(good, 100);
	for (size_t i = 0; i < n; i++) {
		int k;

		/* Of a length that has grown more is waited for, and it ends instead. */
		wire[i] ^= 1;
		k = opened(&e, wire, n, &good);
		ck_assert(k == -EBADMSG || (k == 0 && (i == 3 || i == 4)));
		ck_assert_uint_eq(good, 0);
		wire[i] ^= 1;
		/* Cut there. */
		ck_assert_int_eq(opened(&e, wire, i, &good), 0);
		ck_assert_uint_eq(good, 0);
	}
	/* Once more. */
	memcpy(wire + n, wire, n);
	ck_assert_int_eq(opened(&e, wire, 2 * n, &good), -EBADMSG);
	ck_assert_uint_eq(good, 100);
	over(&e);
}
END_TEST

START_TEST(lengths)
{
	static const unsigned int bad[] = {0, 1, RECORD_TAG, RECORD_MAX + RECORD_OVER + 1, 0xffff};
	static unsigned char wire[RECORD_HEAD + RECORD_MAX + RECORD_OVER];
	struct ends e = connected();
	size_t good;

	wire[0] = 23;
	wire[1] = wire[2] = 3;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		wire[3] = (unsigned char)(bad[i] >> 8);
		wire[4] = (unsigned char)bad[i];
		ck_assert_int_eq(opened(&e, wire, RECORD_HEAD, &good), -EBADMSG);
	}
	/* The longest that there may be fits; it is nobody's. */
	wire[3] = (RECORD_MAX + RECORD_OVER) >> 8;
	wire[4] = (unsigned char)(RECORD_MAX + RECORD_OVER);
	ck_assert_int_eq(opened(&e, wire, sizeof(wire), &good), -EBADMSG);
	over(&e);
}
END_TEST

/* An answer to a new key is not to be had, since libssl has the other direction. */
START_TEST(asks_for_a_key)
{
	static unsigned char got[RECORD_MAX + RECORD_SLACK];
	struct ends e = connected();
	struct records r = started(&e, 1);

	ck_assert_int_eq(SSL_key_update(e.ssl[0], SSL_KEY_UPDATE_REQUESTED), 1);
	ck_assert_int_eq(SSL_write(e.ssl[0], data, 10), 10);
	ck_assert_int_eq(record_read(&r, got), -EBADMSG);
	records_free(&r);
	over(&e);
}
END_TEST

START_TEST(keylog)
{
	static const char *const bad[] = {
		"CLIENT_HANDSHAKE_TRAFFIC_SECRET 00 11", "SERVER_TRAFFIC_SECRET_0 00 11",
		"CLIENT_TRAFFIC_SECRET_0 00 1", "CLIENT_TRAFFIC_SECRET_0 00 112", ""};
	struct record_secret s = {.len = 0};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		record_keylog(bad[i], &s);
		ck_assert_uint_eq(s.len, 0);
	}
	record_keylog("CLIENT_TRAFFIC_SECRET_0", &s);
	record_keylog("CLIENT_TRAFFIC_SECRET_0 0011", &s);
	ck_assert_uint_eq(s.len, 0);
	record_keylog("CLIENT_TRAFFIC_SECRET_0 0011 0aFf10", &s);
	ck_assert_uint_eq(s.len, 3);
	ck_assert(memcmp(s.bytes, "\x0a\xff\x10", 3) == 0);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("records");
	TCase *t = tcase_create("records");
	SRunner *r = srunner_create(s);
	int failed;

	tcase_set_timeout(t, 60);
	tcase_add_test(t, to_libssl);
	tcase_add_test(t, from_libssl);
	tcase_add_test(t, libssl_is_silent);
	tcase_add_test(t, changed);
	tcase_add_test(t, lengths);
	tcase_add_test(t, asks_for_a_key);
	tcase_add_test(t, keylog);
	suite_add_tcase(s, t);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
