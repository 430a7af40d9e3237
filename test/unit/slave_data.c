/*
 * bpdata, the program: 64 MiB through two of them, a cut on either side, a wrong
 * key, a worker that is used again. Prints its speed beside that of a plain
 * OpenSSL loop over the same kind of socket (never a reason to fail).
 */
#include <arpa/inet.h>
#include <check.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "libbproc/link.h"
#include "libbproc/sysio.h"
#include "slaved/bpdata.h"

#define SIZE (64u << 20)

static unsigned char *image;

static double now_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void tcp_pair(int fd[2])
{
	struct sockaddr_in a = {.sin_family = AF_INET};
	socklen_t len = sizeof(a);
	int l = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	ck_assert(bind(l, (struct sockaddr *)&a, sizeof(a)) == 0 && listen(l, 1) == 0 &&
		  getsockname(l, (struct sockaddr *)&a, &len) == 0);
	fd[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ck_assert(connect(fd[0], (struct sockaddr *)&a, sizeof(a)) == 0);
	fd[1] = accept4(l, NULL, NULL, SOCK_CLOEXEC);
	close(l);
}

static int start_worker(unsigned char key)
{
	struct bpdata_msg m = {.type = BPDATA_KEY};
	int ctl[2];

	ck_assert(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ctl) == 0);
	if (fork() == 0) {
		char name[] = "bpdata", *argv[] = {name, NULL};

		dup2(ctl[1], BPDATA_FD);
		execv(BPDATA, argv);
		_exit(127);
	}
	close(ctl[1]);
	memset(m.u.psk, key, sizeof(m.u.psk));
	ck_assert(pkt_send(ctl[0], &m, sizeof(m), NULL, 0) == 0);
	return ctl[0];
}

/* The plain end of a connection that the worker is to run over tcp. */
static int run_on(int ctl, int server, int tcp)
{
	struct bpdata_msg m = {.type = BPDATA_RUN, .server = (uint32_t)server};
	int sv[2];

	ck_assert(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv) == 0);
	ck_assert(pkt_send(ctl, &m, sizeof(m), (int[]){tcp, sv[1]}, 2) == 0);
	close(tcp);
	close(sv[1]);
	return sv[0];
}

static struct bpdata_msg heard(int ctl)
{
	struct pollfd p = {.fd = ctl, .events = POLLIN};
	struct bpdata_msg m = {0};
	struct sysio_pkt pkt;

	ck_assert_int_eq(poll(&p, 1, 15000), 1);
	ck_assert(pkt_recv(ctl, &m, sizeof(m), 0, &pkt) == 0 && pkt.len == sizeof(m));
	return m;
}

static void fill(void)
{
	if (!image)
		image = malloc(SIZE);
	ck_assert_ptr_nonnull(image);
	for (size_t i = 0; i < SIZE; i += 4)
		*(uint32_t *)(void *)(image + i) = (uint32_t)(i * 2654435761u);
}

/* Reads to the end of file; bytes read, each compared. */
static size_t drain(int fd)
{
	static unsigned char buf[256 << 10];
	size_t at = 0;
	ssize_t n;

	while ((n = read(fd, buf, sizeof(buf))) > 0) {
		if (at + (size_t)n > SIZE || memcmp(buf, image + at, (size_t)n) != 0)
			ck_abort_msg("other bytes come out, at %zu", at);
		at += (size_t)n;
	}
	return at;
}

static pid_t writer(int fd, int reader, size_t len)
{
	pid_t pid = fork();

	if (pid == 0) {
		close(reader);
		_exit(write_full(fd, image, len) < 0);
	}
	close(fd);
	return pid;
}

/* 64 MiB, twice over the same two workers. */
START_TEST(copies)
{
	int out = start_worker(7), in = start_worker(7), tcp[2], a, b;
	double t0;

	fill();
	for (int i = 0; i < 2; i++) {
		tcp_pair(tcp);
		a = run_on(out, 0, tcp[0]);
		b = run_on(in, 1, tcp[1]);
		ck_assert_int_eq(heard(out).err, 0);
		ck_assert_int_eq(heard(in).err, 0);
		t0 = now_s();
		writer(a, b, SIZE);
		ck_assert_uint_eq(drain(b), SIZE);
		printf("bpdata: %.2f GB/s\n", SIZE / (now_s() - t0) / 1e9);
		close(b);
		ck_assert_uint_eq(heard(out).type, BPDATA_IDLE);
		ck_assert_uint_eq(heard(in).type, BPDATA_IDLE);
	}
}
END_TEST

START_TEST(plain_loop)
{
	struct cluster_key key = {{7}};
	struct bproc_err err;
	SSL_CTX *ctx = link_ctx_new(&key, &err);
	static unsigned char buf[256 << 10];
	size_t done = 0;
	int tcp[2], n;
	double t0;
	SSL *ssl;

	fill();
	tcp_pair(tcp);
	ssl = SSL_new(ctx);
	if (fork() == 0) {
		SSL_set_fd(ssl, tcp[0]);
		for (int w = SSL_connect(ssl); w > 0 && done < SIZE; done += (size_t)w)
			w = SSL_write(ssl, image + done, 256 << 10);
		SSL_shutdown(ssl);
		_exit(done != SIZE);
	}
	close(tcp[0]);
	SSL_set_fd(ssl, tcp[1]);
	SSL_set_read_ahead(ssl, 1);
	SSL_set_default_read_buffer_len(ssl, 256 << 10);
	ck_assert_int_eq(SSL_accept(ssl), 1);
	t0 = now_s();
	while ((n = SSL_read(ssl, buf, sizeof(buf))) > 0)
		done += (size_t)n;
	printf("a plain loop: %.2f GB/s\n", SIZE / (now_s() - t0) / 1e9);
	ck_assert_uint_eq(done, SIZE);
	SSL_free(ssl);
	link_ctx_free(ctx);
}
END_TEST

START_TEST(wrong_key)
{
	int out = start_worker(7), in = start_worker(8), tcp[2];
	struct bpdata_msg m;

	tcp_pair(tcp);
	run_on(out, 0, tcp[0]);
	run_on(in, 1, tcp[1]);
	m = heard(in);
	ck_assert(m.type == BPDATA_UP && m.err != 0 && m.u.text[0]);
	m = heard(out);
	ck_assert(m.type == BPDATA_UP && m.err != 0);
}
END_TEST

/* The reader goes: the writer gets EPIPE. The writer's TCP is cut: the reader sees an end. */
START_TEST(cuts)
{
	int out = start_worker(7), in = start_worker(7), tcp[2], a, b, s;
	pid_t pid;

	fill();
	tcp_pair(tcp);
	a = run_on(out, 0, tcp[0]);
	b = run_on(in, 1, tcp[1]);
	heard(out);
	heard(in);
	signal(SIGPIPE, SIG_IGN);
	pid = writer(a, b, SIZE);
	ck_assert_int_eq(read(b, image, 10), 10);
	close(b);
	waitpid(pid, &s, 0);
	ck_assert(WIFEXITED(s) && WEXITSTATUS(s) == 1);
	ck_assert_uint_eq(heard(out).type, BPDATA_IDLE);
	ck_assert_uint_eq(heard(in).type, BPDATA_IDLE);

	fill();
	tcp_pair(tcp);
	b = dup(tcp[0]);
	a = run_on(out, 0, tcp[0]);
	s = run_on(in, 1, tcp[1]);
	heard(out);
	heard(in);
	ck_assert(write_full(a, image, 1000) == 0);
	usleep(50000);
	shutdown(b, SHUT_RDWR);
	ck_assert_uint_le(drain(s), 1000);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("bpdata");
	TCase *t = tcase_create("bpdata");
	SRunner *r = srunner_create(s);
	int failed;

	tcase_set_timeout(t, 60);
	tcase_add_test(t, copies);
	tcase_add_test(t, plain_loop);
	tcase_add_test(t, wrong_key);
	tcase_add_test(t, cuts);
	suite_add_tcase(s, t);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
