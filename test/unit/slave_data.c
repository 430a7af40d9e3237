/*
 * bpdata, the program: 64 MiB through two of them, images one after the other, a
 * cut on either side, frames that are none, a wrong key, a worker that is used again. Prints its
 * speed beside that of a plain OpenSSL loop over the same kind of socket (never a reason to fail).
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
#include "slaved/bpdata_frame.h"

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

static void run_on(int ctl, int server, int tcp)
{
	struct bpdata_msg m = {.type = BPDATA_RUN, .server = (uint32_t)server};

	ck_assert(pkt_send(ctl, &m, sizeof(m), &tcp, 1) == 0);
	close(tcp);
}

/* What the worker says next, and the fd that came with it, or -1. */
static struct bpdata_msg heard_fd(int ctl, int *ret_fd)
{
	struct pollfd p = {.fd = ctl, .events = POLLIN};
	struct bpdata_msg m = {0};
	struct sysio_pkt pkt;

	ck_assert_int_eq(poll(&p, 1, 15000), 1);
	ck_assert(pkt_recv(ctl, &m, sizeof(m), 0, &pkt) == 0 && pkt.len == sizeof(m));
	*ret_fd = pkt.nfd ? pkt.fd[0] : -1;
	return m;
}

static struct bpdata_msg heard(int ctl)
{
	int fd;
	struct bpdata_msg m = heard_fd(ctl, &fd);

	ck_assert_int_eq(fd, -1);
	return m;
}

/* The plain end of the next image, at one end or the other. */
static int image_end(int ctl)
{
	int fd;
	struct bpdata_msg m = heard_fd(ctl, &fd);

	ck_assert_uint_eq(m.type, BPDATA_IMAGE);
	ck_assert_int_ge(fd, 0);
	if (m.server)
		ck_assert(memcmp(m.u.hdr, image, BPDATA_HDR) == 0);
	return fd;
}

/* Two workers with a connection between them. */
static void connect_workers(int out, int in)
{
	int tcp[2];

	tcp_pair(tcp);
	run_on(out, 0, tcp[0]);
	run_on(in, 1, tcp[1]);
	ck_assert_int_eq(heard(out).err, 0);
	ck_assert_int_eq(heard(in).err, 0);
}

static void fill(void)
{
	if (!image)
		image = malloc(SIZE);
	ck_assert_ptr_nonnull(image);
	for (size_t i = 0; i < SIZE; i += 4)
		*(uint32_t *)(void *)(image + i) = (uint32_t)(i * 2654435761u);
}

/* Reads to the end of file, behind the header; bytes read, each compared. */
static size_t drain(int fd)
{
	static unsigned char buf[256 << 10];
	size_t at = BPDATA_HDR;
	ssize_t n;

	while ((n = read(fd, buf, sizeof(buf))) > 0) {
		if (at + (size_t)n > SIZE || memcmp(buf, image + at, (size_t)n) != 0)
			ck_abort_msg("other bytes come out, at %zu", at);
		at += (size_t)n;
	}
	return at;
}

static pid_t writer(int fd, size_t len)
{
	pid_t pid = fork();

	if (pid == 0)
		_exit(write_full(fd, image, len) < 0);
	close(fd);
	return pid;
}

/* 64 MiB, twice over the same two workers, each time by another connection. */
START_TEST(copies)
{
	int out = start_worker(7), in = start_worker(7), a, b;
	double t0;

	fill();
	for (int i = 0; i < 2; i++) {
		connect_workers(out, in);
		a = image_end(out);
		t0 = now_s();
		writer(a, SIZE);
		b = image_end(in);
		ck_assert_uint_eq(drain(b), SIZE);
		printf("bpdata: %.2f GB/s\n", SIZE / (now_s() - t0) / 1e9);
		close(b);
		/* An end to which nothing is written is an end of the connection. */
		close(image_end(out));
		ck_assert_uint_eq(heard(out).type, BPDATA_IDLE);
		ck_assert_uint_eq(heard(in).type, BPDATA_IDLE);
	}
}
END_TEST

/* Images of all lengths around the borders, one connection; also one that was cut short. */
START_TEST(many_images)
{
	static const size_t len[] = {
		BPDATA_HDR, BPDATA_HDR + 1,   500,     16383, 16384, 16385, 65536, (512u << 10) - 1,
		512u << 10, (512u << 10) + 1, 3u << 20};
	int out = start_worker(7), in = start_worker(7), a, b;

	fill();
	connect_workers(out, in);
	a = image_end(out);
	for (size_t i = 0; i < sizeof(len) / sizeof(len[0]); i++) {
		writer(a, len[i]);
		b = image_end(in);
		ck_assert_uint_eq(drain(b), len[i]);
		close(b);
		a = image_end(out);
	}
}
END_TEST

/*
 * An image whose reader has not come keeps its connection: no other is begun behind it, and it
 * is all there when the reader comes.
 */
START_TEST(slow_reader)
{
	int out = start_worker(7), in = start_worker(7), a, b;
	struct pollfd p = {.fd = out, .events = POLLIN};

	fill();
	connect_workers(out, in);
	a = image_end(out);
	writer(a, 4u << 20);
	b = image_end(in);
	ck_assert_int_eq(poll(&p, 1, 300), 0);
	ck_assert_uint_eq(drain(b), 4u << 20);
	close(b);
	close(image_end(out));
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

/* The reader goes: the writer gets EPIPE, and the connection is no more. */
START_TEST(reader_gone)
{
	int out = start_worker(7), in = start_worker(7), a, b, s;
	pid_t pid;

	fill();
	connect_workers(out, in);
	signal(SIGPIPE, SIG_IGN);
	a = image_end(out);
	pid = writer(a, SIZE);
	b = image_end(in);
	ck_assert_int_eq(read(b, image, 10), 10);
	close(b);
	waitpid(pid, &s, 0);
	ck_assert(WIFEXITED(s) && WEXITSTATUS(s) == 1);
	ck_assert_uint_eq(heard(out).type, BPDATA_IDLE);
	ck_assert_uint_eq(heard(in).type, BPDATA_IDLE);
}
END_TEST

/* The TCP connection is cut in the middle: the reader sees an end, and what came before it. */
START_TEST(tcp_cut)
{
	int out = start_worker(7), in = start_worker(7), tcp[2], a, b, cut;

	fill();
	tcp_pair(tcp);
	cut = dup(tcp[0]);
	run_on(out, 0, tcp[0]);
	run_on(in, 1, tcp[1]);
	heard(out);
	heard(in);
	a = image_end(out);
	ck_assert(write_full(a, image, 1000) == 0);
	b = image_end(in);
	shutdown(cut, SHUT_RDWR);
	ck_assert_uint_le(drain(b), 1000);
	ck_assert_uint_eq(heard(out).type, BPDATA_IDLE);
	ck_assert_uint_eq(heard(in).type, BPDATA_IDLE);
	/* Both can be given another. */
	connect_workers(out, in);
}
END_TEST

/* The writer ends in the middle of its image: so it is cut there, and the next one is whole. */
START_TEST(writer_cut)
{
	int out = start_worker(7), in = start_worker(7), a, b;

	fill();
	connect_workers(out, in);
	a = image_end(out);
	writer(a, 5000);
	b = image_end(in);
	ck_assert_uint_eq(drain(b), 5000);
	close(b);
	a = image_end(out);
	writer(a, 70000);
	b = image_end(in);
	ck_assert_uint_eq(drain(b), 70000);
}
END_TEST

/* bpslave ends when a process has its end, and nothing is written yet: the image is that one's. */
START_TEST(alone)
{
	int out = start_worker(7), in = start_worker(7), a, b;
	struct pollfd p = {.fd = in, .events = POLLIN};

	fill();
	connect_workers(out, in);
	a = image_end(out);
	close(out);
	ck_assert_int_eq(poll(&p, 1, 200), 0);
	writer(a, 70000);
	b = image_end(in);
	ck_assert_uint_eq(drain(b), 70000);
	close(b);
	ck_assert_uint_eq(heard(in).type, BPDATA_IDLE);
}
END_TEST

/* A peer with the right key that sends what is none of our frames: dropped, and said so. */
static void sends(const void *p, size_t n)
{
	struct cluster_key key = {{7}};
	struct bproc_err err;
	SSL_CTX *ctx;
	int in = start_worker(7), tcp[2];
	struct bpdata_msg m;
	SSL *ssl;

	memset(key.psk, 7, sizeof(key.psk));
	ctx = link_ctx_new(&key, &err);
	tcp_pair(tcp);
	run_on(in, 1, tcp[1]);
	ssl = SSL_new(ctx);
	SSL_set_fd(ssl, tcp[0]);
	ck_assert_int_eq(SSL_connect(ssl), 1);
	ck_assert_int_eq(heard(in).err, 0);
	ck_assert_int_eq(SSL_write(ssl, p, (int)n), (int)n);
	m = heard(in);
	ck_assert_uint_eq(m.type, BPDATA_IDLE);
	ck_assert_int_eq(m.err, EBADMSG);
	SSL_free(ssl);
	close(tcp[0]);
	link_ctx_free(ctx);
}

START_TEST(no_frames)
{
	unsigned char f[FRAME_HEAD + 10] = {0};

	sends(f, sizeof(f)); /* no such type */
	frame_put(f, FRAME_DATA, FRAME_MAX + 1);
	sends(f, sizeof(f));
	frame_put(f, FRAME_DATA, UINT32_MAX);
	sends(f, sizeof(f));
	frame_put(f, FRAME_DATA, 0);
	sends(f, sizeof(f));
	frame_put(f, FRAME_END, 1);
	sends(f, sizeof(f));
	frame_put(f, FRAME_END, 0); /* without an image in front of it */
	sends(f, FRAME_HEAD);
	frame_put(f, FRAME_DONE, 0); /* the server's word, not the client's */
	sends(f, FRAME_HEAD);
}
END_TEST

/* A sequence, at every length of the pieces in which it may come. */
START_TEST(frames)
{
	unsigned char s[5 * FRAME_HEAD + 100];
	size_t at = 0;

	memset(s, 'x', sizeof(s));
	frame_put(s, FRAME_DATA, 60);
	frame_put(s + 68, FRAME_DATA, 1);
	frame_put(s + 77, FRAME_END, 0);
	frame_put(s + 85, FRAME_DATA, 39);
	frame_put(s + 132, FRAME_END, 0);
	for (size_t piece = 1; piece <= sizeof(s); piece++) {
		struct frame_in f = {.have = 0};
		size_t bytes = 0, len, n;
		const unsigned char *p, *data;
		int ends = 0, r;

		for (at = 0; at < sizeof(s); at += piece) {
			p = s + at;
			n = sizeof(s) - at < piece ? sizeof(s) - at : piece;
			while ((r = frame_take(&f, &p, &n, &data, &len)) > 0) {
				if (r == FRAME_STOP) {
					ck_assert_uint_eq(bytes, ends ? 100 : 61);
					ends++;
					continue;
				}
				ck_assert(*data == 'x');
				bytes += len;
			}
			ck_assert_int_eq(r, FRAME_MORE);
			ck_assert_uint_eq(n, 0);
		}
		ck_assert_int_eq(ends, 2);
	}
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
	tcase_add_test(t, many_images);
	tcase_add_test(t, slow_reader);
	tcase_add_test(t, reader_gone);
	tcase_add_test(t, tcp_cut);
	tcase_add_test(t, writer_cut);
	tcase_add_test(t, alone);
	tcase_add_test(t, no_frames);
	tcase_add_test(t, frames);
	suite_add_tcase(s, t);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
