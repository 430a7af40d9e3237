/*
 * In what order a bpinit that starts hears (slaved/bpslave_init.c): what it has to know before it
 * clones anything, then what has come before it was there.
 */
#include <check.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "slaved/bpslave.h"

struct slave slave;

static int started; /* bpinit, so often */

/* -- what bpslave has around it */

bool master_send(const void *msg)
{
	(void)msg;
	return true;
}

bool master_is_up(void)
{
	return false;
}

void master_reconnect(void)
{
}

uint32_t gen_of(int32_t pid)
{
	(void)pid;
	return 0;
}

void start_bpinit(int64_t mono_off_ns, int64_t boot_off_ns)
{
	(void)mono_off_ns;
	(void)boot_off_ns;
	started++;
}

void id_new(void)
{
}

void id_read(void)
{
}

void id_write(void)
{
}

void move_on_init(const struct init_msg *m)
{
	(void)m;
}

void move_init_lost(void)
{
}

void move_ask_again(void)
{
}

void move_tell_granted(void)
{
}

void query_init_lost(void)
{
}

void stdio_init_lost(void)
{
}

void stdio_lost(int32_t pid)
{
	(void)pid;
}

void born_state(const struct init_msg *m)
{
	(void)m;
}

void born_tell_all(void)
{
}

void source_start(int32_t init_pid)
{
	(void)init_pid;
}

void source_stop(void)
{
}

void zombies_ask(void)
{
}

void event_on_init(const struct init_msg *m)
{
	(void)m;
}

/* -- */

static uint32_t hear(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	struct sysio_pkt pkt;
	struct init_msg m;

	for (int i = 0; i < 500 && poll(&p, 1, 10) == 0; i++)
		event_base_loop(slave.base, EVLOOP_NONBLOCK);
	ck_assert_int_eq(pkt_recv(fd, &m, sizeof(m), MSG_DONTWAIT, &pkt), 0);
	ck_assert_uint_eq(pkt.len, sizeof(m));
	return m.type;
}

/* A process that is cloned before the filter never has one, nor has what it bears. */
START_TEST(greeted_first)
{
	char dir[] = "/tmp/slave-init-XXXXXX", path[64];
	struct pollfd p = {.events = POLLIN};
	struct bproc_err err;
	int fd;

	ck_assert_ptr_nonnull(mkdtemp(dir));
	setenv("BPROC_RUN_DIR", dir, 1);
	slave.base = event_base_new();
	slave.node = 0;
	slave.lease_lo = 65536;
	slave.lease_hi = 131072;
	slave.kill_from_nodes = true;
	ck_assert_int_eq(init_start(&err), 0);
	init_want(0, 0);
	ck_assert_int_eq(started, 1);
	ck_assert(init_is_up()); /* what is for it waits */
	init_send(&(struct init_msg){.type = INIT_ARRIVE, .pid = 5}, NULL, 0);
	init_send(&(struct init_msg){.type = INIT_MIRROR, .pid = 6}, NULL, 0);
	snprintf(path, sizeof(path), "%s/" INIT_SOCK, dir);
	p.fd = unix_listen(path, 0600);
	ck_assert_int_ge(p.fd, 0);
	for (int i = 0; i < 500 && poll(&p, 1, 10) == 0; i++)
		event_base_loop(slave.base, EVLOOP_NONBLOCK);
	fd = accept(p.fd, NULL, NULL);
	ck_assert_int_ge(fd, 0);
	ck_assert_uint_eq(hear(fd), INIT_HELLO);
	ck_assert_uint_eq(hear(fd), INIT_LEASE);
	ck_assert_uint_eq(hear(fd), INIT_FILTER);
	ck_assert_uint_eq(hear(fd), INIT_ARRIVE);
	ck_assert_uint_eq(hear(fd), INIT_MIRROR);
	init_stop();
	event_base_free(slave.base);
	close(fd);
	close(p.fd);
	unlink(path);
	rmdir(dir);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("init");
	TCase *t = tcase_create("init");
	SRunner *r = srunner_create(s);
	int failed;

	tcase_set_timeout(t, 30);
	tcase_add_test(t, greeted_first);
	suite_add_tcase(s, t);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
