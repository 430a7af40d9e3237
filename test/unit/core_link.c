/*
 * TLS links (libbproc/link.c): two processes on loopback with the right key, a
 * wrong one, no TLS at all; order and contents of what is sent; marks; the last
 * word before the end. The child is the server and tells by its exit status.
 */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <arpa/inet.h>

#include "libbproc/link.h"
#include "libbproc/wire.h"

#define MANY 5000

enum { NOTHING = 40, OTHER = 41, WRONG_DATA = 42 }; /* exit codes; else enum link_why */

struct end {
	struct event_base *base;
	struct link *link;
	bool up;
	enum link_why why; /* of on_down; 0: none yet */
	char reason[BPROC_ERR_TEXT];
	unsigned int got, drained;
	bool bad, echo, finish_at_up;
};

static const struct cluster_key key_a = {.psk = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"};
static const struct cluster_key key_b = {.psk = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaab"};

static void on_up(struct link *l, void *arg)
{
	Bproc__Refuse r = BPROC__REFUSE__INIT;
	char text[] = "the last word";
	struct end *e = arg;

	e->up = true;
	if (e->finish_at_up) {
		r.err = 1;
		r.reason = text;
		link_send(l, &r.base);
		link_finish(l);
		e->link = NULL; /* no callback comes from it any more */
		event_base_loopexit(e->base, &(struct timeval){.tv_sec = 1});
	}
}

static void on_msg(struct link *l, const Bproc__Envelope *env, void *arg)
{
	struct end *e = arg;

	if (env->msg_case == BPROC__ENVELOPE__MSG_REFUSE) {
		e->bad = strcmp(env->refuse->reason, "the last word") != 0;
	} else if (env->msg_case == BPROC__ENVELOPE__MSG_STREAM_DATA) {
		if (env->stream_data->offset != e->got)
			e->bad = true;
	} else if (env->msg_case != BPROC__ENVELOPE__MSG_MOVE_VOID ||
		   env->move_void->move != e->got) {
		e->bad = true;
	}
	if (e->echo && env->msg_case == BPROC__ENVELOPE__MSG_MOVE_VOID)
		link_send(l, &env->move_void->base);
	if (++e->got == MANY && !e->echo)
		event_base_loopbreak(e->base);
}

static void on_drained(struct link *l, void *arg)
{
	struct end *e = arg;

	ck_assert_uint_le(link_queued_bytes(l), LINK_LOW);
	e->drained++;
}

static void on_down(struct link *l, enum link_why why, const char *reason, void *arg)
{
	struct end *e = arg;

	e->why = why;
	strcpy(e->reason, reason);
	link_free(l); /* allowed inside a callback */
	e->link = NULL;
	event_base_loopbreak(e->base);
}

static const struct link_ops ops = {
	.on_up = on_up,
	.on_msg = on_msg,
	.on_drained = on_drained,
	.on_down = on_down,
};

static int listen_any(struct sockaddr_in *ret_addr)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	socklen_t len = sizeof(*ret_addr);

	*ret_addr = (struct sockaddr_in){
		.sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	ck_assert_int_eq(bind(fd, (struct sockaddr *)ret_addr, sizeof(*ret_addr)), 0);
	ck_assert_int_eq(listen(fd, 8), 0);
	ck_assert_int_eq(getsockname(fd, (struct sockaddr *)ret_addr, &len), 0);
	return fd;
}

static void run(struct end *e, unsigned int seconds)
{
	struct timeval tv = {.tv_sec = seconds};

	event_base_loopexit(e->base, &tv);
	event_base_dispatch(e->base);
}

/* The server: one connection, until it ends. Exit status: why. */
static pid_t server(int lfd, const struct cluster_key *key, struct end set)
{
	struct bproc_err err;
	struct end e = set;
	SSL_CTX *ctx;
	pid_t pid = fork();

	if (pid != 0)
		return pid;
	e.base = event_base_new();
	ctx = link_ctx_new(key, &err);
	e.link = link_accept(e.base, ctx, accept(lfd, NULL, NULL), &ops, &e, &err);
	run(&e, 20);
	link_free(e.link);
	event_base_free(e.base);
	link_ctx_free(ctx);
	if (e.bad)
		exit(WRONG_DATA);
	exit(e.why ? (int)e.why : NOTHING);
}

static int status_of(pid_t pid)
{
	int status;

	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : OTHER;
}

struct client {
	struct end e;
	SSL_CTX *ctx;
	int lfd;
	pid_t pid;
};

static void client_start(struct client *c, const struct cluster_key *mine,
			 const struct cluster_key *theirs, struct end set)
{
	struct sockaddr_in a;
	struct bproc_err err;

	*c = (struct client){.lfd = listen_any(&a)};
	c->pid = server(c->lfd, theirs, set);
	c->e.base = event_base_new();
	c->ctx = link_ctx_new(mine, &err);
	ck_assert_ptr_nonnull(c->ctx);
	c->e.link = link_connect(c->e.base, c->ctx, &a, NULL, &ops, &c->e, &err);
	ck_assert_ptr_nonnull(c->e.link);
	/* Before it is up nothing can be sent. */
	Bproc__MoveVoid number = BPROC__MOVE_VOID__INIT;
	ck_assert_int_eq(link_send(c->e.link, &number.base), -ENOTCONN);
}

static void client_end(struct client *c)
{
	link_free(c->e.link);
	c->e.link = NULL;
	event_base_free(c->e.base);
	link_ctx_free(c->ctx);
	close(c->lfd);
}

static void await_up(struct end *e)
{
	while (!e->up && !e->why)
		event_base_loop(e->base, EVLOOP_ONCE);
	ck_assert_msg(e->up, "%s", e->reason);
}

static void all_came_back(struct client *c)
{
	run(&c->e, 20);
	ck_assert(!c->e.bad);
	ck_assert_uint_eq(c->e.got, MANY);
	client_end(c);
	ck_assert_int_eq(status_of(c->pid), LINK_CLOSED);
}

START_TEST(echoes)
{
	Bproc__MoveVoid number = BPROC__MOVE_VOID__INIT;
	struct client c;

	client_start(&c, &key_a, &key_a, (struct end){.echo = true});
	await_up(&c.e);
	for (number.move = 0; number.move < MANY; number.move++)
		ck_assert_int_ge(link_send(c.e.link, &number.base), 0);
	all_came_back(&c);
}
END_TEST

/* What may wait goes out with what may not, in the order of being given, or soon by itself. */
START_TEST(later)
{
	Bproc__MoveVoid number = BPROC__MOVE_VOID__INIT;
	struct client c;

	client_start(&c, &key_a, &key_a, (struct end){.echo = true});
	ck_assert_int_eq(link_send_later(c.e.link, &number.base), -ENOTCONN);
	await_up(&c.e);
	/* Runs of them that fit into one record, that do not, and one that is left at the end. */
	for (; number.move < MANY; number.move++) {
		bool now = number.move % 1000 > 500 && number.move % 5 == 0;

		ck_assert_int_ge((now ? link_send : link_send_later)(c.e.link, &number.base), 0);
	}
	all_came_back(&c);
}
END_TEST

START_TEST(wrong_key)
{
	struct client c;

	client_start(&c, &key_b, &key_a, (struct end){0});
	run(&c.e, 20);
	ck_assert(!c.e.up);
	ck_assert_int_eq(c.e.why, LINK_KEY);
	ck_assert_ptr_nonnull(strstr(c.e.reason, "another cluster key"));
	client_end(&c);
	ck_assert_int_eq(status_of(c.pid), LINK_KEY);
}
END_TEST

START_TEST(last_word)
{
	struct client c;

	client_start(&c, &key_a, &key_a, (struct end){.finish_at_up = true});
	run(&c.e, 20);
	ck_assert(c.e.up);
	ck_assert_uint_eq(c.e.got, 1);
	ck_assert(!c.e.bad);
	ck_assert_int_eq(c.e.why, LINK_CLOSED);
	client_end(&c);
	status_of(c.pid);
}
END_TEST

START_TEST(marks)
{
	Bproc__StreamData d = BPROC__STREAM_DATA__INIT;
	unsigned int full = 0;
	struct client c;

	client_start(&c, &key_a, &key_a, (struct end){0});
	while (!c.e.up && !c.e.why)
		event_base_loop(c.e.base, EVLOOP_ONCE);
	d.data.len = 60000;
	d.data.data = calloc(1, d.data.len);
	for (d.offset = 0; d.offset < 200; d.offset++) {
		int r = link_send(c.e.link, &d.base);

		ck_assert_int_ge(r, 0);
		full += r == LINK_FULL;
		ck_assert(r != LINK_FULL || link_queued_bytes(c.e.link) >= LINK_LOW);
	}
	ck_assert_uint_gt(full, 0);
	while (c.e.drained == 0 && !c.e.why)
		event_base_loop(c.e.base, EVLOOP_ONCE);
	ck_assert_uint_eq(c.e.drained, 1);
	while (link_queued_bytes(c.e.link) > 0)
		event_base_loop(c.e.base, EVLOOP_ONCE);
	d.data.len = WIRE_MAX;
	d.data.data = realloc(d.data.data, d.data.len);
	memset(d.data.data, 0, d.data.len);
	ck_assert_int_eq(link_send(c.e.link, &d.base), -EMSGSIZE);
	free(d.data.data);
	client_end(&c);
	ck_assert_int_eq(status_of(c.pid), LINK_CLOSED);
}
END_TEST

START_TEST(not_tls)
{
	static const char line[] = "GET / HTTP/1.0\r\n\r\n";
	struct sockaddr_in a;
	int lfd = listen_any(&a), fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	pid_t pid = server(lfd, &key_a, (struct end){0});

	ck_assert_int_eq(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	ck_assert_int_eq(write(fd, line, sizeof(line) - 1), sizeof(line) - 1);
	ck_assert_int_eq(status_of(pid), LINK_PROTOCOL);
	close(fd);
	close(lfd);
}
END_TEST

/* TLS with the right key, then bytes that are no frame. */
START_TEST(not_a_frame)
{
	static const unsigned char junk[][8] = {
		{0xff, 0xff, 0xff, 0xff},
		{0, 0, 0, 0},
		{0, 0, 0, 4, 0xff, 0xff, 0xff, 0xff},
	};
	struct bproc_err err;
	SSL_CTX *ctx = link_ctx_new(&key_a, &err);
	struct sockaddr_in a;
	int lfd = listen_any(&a), fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	pid_t pid = server(lfd, &key_a, (struct end){0});
	SSL *ssl = SSL_new(ctx);

	ck_assert_int_eq(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	SSL_set_fd(ssl, fd);
	ck_assert_int_eq(SSL_connect(ssl), 1);
	ck_assert_str_eq(SSL_get_version(ssl), "TLSv1.3");
	ck_assert_int_eq(SSL_write(ssl, junk[_i], 8), 8);
	ck_assert_int_eq(status_of(pid), LINK_PROTOCOL);
	SSL_free(ssl);
	close(fd);
	close(lfd);
	link_ctx_free(ctx);
}
END_TEST

START_TEST(nobody_there)
{
	struct end e = {.base = event_base_new()};
	struct bproc_err err;
	SSL_CTX *ctx = link_ctx_new(&key_a, &err);
	struct sockaddr_in a;

	close(listen_any(&a));
	e.link = link_connect(e.base, ctx, &a, NULL, &ops, &e, &err);
	ck_assert_ptr_nonnull(e.link);
	run(&e, 10);
	ck_assert_int_eq(e.why, LINK_IO);
	ck_assert_ptr_nonnull(strstr(e.reason, "Connection refused"));
	event_base_free(e.base);
	link_ctx_free(ctx);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("link");
	TCase *t = tcase_create("link");
	SRunner *r = srunner_create(s);
	int failed;

	tcase_set_timeout(t, 40);
	tcase_add_test(t, echoes);
	tcase_add_test(t, later);
	tcase_add_test(t, wrong_key);
	tcase_add_test(t, last_word);
	tcase_add_test(t, marks);
	tcase_add_test(t, not_tls);
	tcase_add_loop_test(t, not_a_frame, 0, 3);
	tcase_add_test(t, nobody_there);
	suite_add_tcase(s, t);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
