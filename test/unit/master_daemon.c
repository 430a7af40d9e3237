/*
 * A real bpmaster and synthetic slaves: who is let in and who is refused, why,
 * and where that is shown; pings; loss and return; what the administrator sets.
 */
#include <check.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core_slave.h"
#include "include/sys/bproc_common.h"
#include "libbproc/local.h"

static void setup(void)
{
	master_setup("pingtimeout 2\n");
	master_start();
}

START_TEST(joins)
{
	struct fake_slave *home, *n2;
	Bproc__Welcome w;

	home = slave_join(-1, "1.1", &w);
	ck_assert(w.lease_lo == 300 && w.lease_hi == 65536);
	ck_assert_uint_eq(w.ping_timeout_ms, 2000);
	ck_assert(w.image_encryption);
	ck_assert_uint_gt(w.epoch, 0);
	n2 = slave_join(2, "2.1", &w);
	ck_assert(w.lease_lo == 65536 * 3 && w.lease_hi == 65536 * 4);
	ck_assert(slave_sees(home, 2, "up", 3000));
	ck_assert(slave_sees(home, -1, "up", 3000));
	ck_assert(slave_sees(n2, 0, "down", 3000));
	ck_assert_uint_eq(slave_node(home, 2)->mode, 0100);
	ck_assert_uint_eq(slave_node(home, 2)->addr, 0x7f000103);
	ck_assert_uint_eq(slave_node(home, 2)->data_port, 2224);
	fake_run(1000);
	ck_assert_uint_gt(n2->pings, 1);
	slave_free(n2);
	ck_assert(slave_sees(home, 2, "unreachable", 3000));
	slave_free(home);
}
END_TEST

START_TEST(wrong_key)
{
	struct fake_slave *home = slave_join(-1, "1.1", NULL), *s;

	for (int i = 0; i < 3; i++) {
		s = slave_new(1, false);
		ck_assert(slave_closed(s, 3000));
		ck_assert_int_eq(s->why, LINK_KEY);
		slave_free(s);
	}
	fake_run(200);
	ck_assert(slave_sees(home, 1, "down", 1000));
	ck_assert_ptr_nonnull(strstr(slave_node(home, 1)->reason, "another cluster key"));
	ck_assert_uint_eq(master_log_count("another cluster key"), 1);
	/* The right key makes it good again. */
	s = slave_join(1, "2.1", NULL);
	ck_assert(slave_sees(home, 1, "up", 3000));
	ck_assert_str_eq(slave_node(home, 1)->reason, "");
	slave_free(s);
	slave_free(home);
}
END_TEST

static void expect_refuse(struct fake_slave *s, unsigned int err, const char *text)
{
	Bproc__Envelope *env = slave_expect(s, BPROC__ENVELOPE__MSG_REFUSE);

	ck_assert_uint_eq(env->refuse->err, err);
	ck_assert_msg(strstr(env->refuse->reason, text) != NULL, "%s", env->refuse->reason);
	bproc__envelope__free_unpacked(env, NULL);
	ck_assert(slave_closed(s, 3000));
	slave_free(s);
}

START_TEST(refusals)
{
	struct fake_slave *home = slave_join(-1, "1.1", NULL), *n0, *s;

	s = slave_new(1, true);
	slave_hello(s, -3, BPROC_PROTOCOL + 1, "1.1");
	expect_refuse(s, EPROTO, "protocol 2, not 1");
	fake_run(200);
	ck_assert_ptr_nonnull(strstr(slave_node(home, 1)->reason, "protocol 2"));

	s = slave_new(200, true);
	slave_hello(s, -3, BPROC_PROTOCOL, "1.1");
	expect_refuse(s, ENOENT, "not the address of a node");

	s = slave_new(1, true);
	slave_hello(s, 3, BPROC_PROTOCOL, "1.1");
	expect_refuse(s, EINVAL, "its address is node 1's");

	n0 = slave_join(0, "a", NULL);
	s = slave_new(0, true);
	slave_hello(s, -3, BPROC_PROTOCOL, "b");
	expect_refuse(s, EALREADY, "a second slave; node 0 is connected from 127.0.1.1:");
	slave_expect_nothing(n0, 200);
	ck_assert(slave_sees(home, 0, "up", 1000));
	ck_assert_ptr_nonnull(strstr(slave_node(home, 0)->reason, "second slave"));

	/* The same slave by a new connection takes the place of its old link. */
	s = slave_join(0, "a", NULL);
	ck_assert(slave_closed(n0, 2000));
	slave_free(n0);
	slave_expect_nothing(s, 200);
	slave_free(s);
	slave_free(home);
}
END_TEST

START_TEST(out_of_turn)
{
	Bproc__Welcome w = BPROC__WELCOME__INIT;
	Bproc__Pong pong = BPROC__PONG__INIT;
	Bproc__MoveSent sent = BPROC__MOVE_SENT__INIT;
	struct fake_slave *s;
	char empty[] = "";

	s = slave_new(0, true);
	slave_send(s, &pong.base);
	ck_assert(slave_closed(s, 3000));
	slave_free(s);
	ck_assert(master_logged("Pong before Hello"));
	s = slave_join(0, "a", NULL);
	w.boot_id = empty;
	slave_send(s, &w.base);
	ck_assert(slave_closed(s, 3000));
	slave_free(s);
	ck_assert(master_logged("Welcome is not for a slave to send"));
	s = slave_join(0, "a", NULL);
	slave_hello(s, -3, BPROC_PROTOCOL, "a");
	ck_assert(slave_closed(s, 3000));
	slave_free(s);
	/* A move that nobody knows, of another epoch: no answer, and no harm. */
	s = slave_join(0, "a", NULL);
	sent.move = 77;
	slave_send(s, &sent.base);
	slave_expect_nothing(s, 300);
	slave_free(s);
}
END_TEST

/* A node that is started anew goes on behind the numbers that were born there before. */
START_TEST(lease_goes_on)
{
	struct fake_slave *s = slave_join(1, "x", NULL);
	Bproc__ProcBorn m = BPROC__PROC_BORN__INIT;
	Bproc__Birth b[2] = {BPROC__BIRTH__INIT, BPROC__BIRTH__INIT}, *list[2] = {&b[0], &b[1]};
	Bproc__Proc p[2] = {BPROC__PROC__INIT, BPROC__PROC__INIT};
	Bproc__Welcome w;

	for (int i = 0; i < 2; i++) {
		p[i].home = -1;
		p[i].pid = 131072 + 77 - i; /* all are told again, in any order */
		b[i].proc = &p[i];
	}
	m.n_birth = 2;
	m.birth = list;
	slave_send(s, &m.base);
	fake_run(100);
	slave_free(s);
	s = slave_join(1, "x", &w);
	ck_assert_int_eq(w.lease_next, 131072 + 78);
	slave_free(s);
	/* Of a new master's time as well, who has not been told of one yet. */
	master_stop(SIGKILL);
	master_start();
	s = slave_join(1, "y", &w);
	ck_assert_int_ge(w.lease_next, 131072 + 78);
	ck_assert_int_lt(w.lease_next, 131072 + 65536 / 2);
	slave_free(s);
}
END_TEST

START_TEST(ping_timeout)
{
	struct fake_slave *home = slave_join(-1, "1.1", NULL), *s = slave_join(1, "x", NULL);
	Bproc__Welcome w;
	uint64_t life;

	ck_assert(slave_sees(home, 1, "up", 2000));
	life = slave_node(home, 1)->life;
	s->silent = true;
	ck_assert(slave_sees(home, 1, "unreachable", 4000));
	ck_assert_ptr_nonnull(strstr(slave_node(home, 1)->reason, "no answer to pings for 2 s"));
	ck_assert(slave_closed(s, 1000));
	slave_free(s);
	/* Back in time: as it was. */
	s = slave_join(1, "x", &w);
	ck_assert(!w.fence);
	ck_assert(slave_sees(home, 1, "up", 1000));
	ck_assert_uint_eq(slave_node(home, 1)->life, life);
	slave_free(s);
	ck_assert(slave_sees(home, 1, "unreachable", 1000));
	ck_assert(slave_sees(home, 1, "down", 5000));
	/* Declared dead: the same bpinit has to kill what it still has; another has nothing. */
	s = slave_join(1, "x", &w);
	ck_assert(w.fence);
	ck_assert(slave_sees(home, 1, "up", 1000)); /* else it is the last "down" that is seen */
	slave_free(s);
	ck_assert(slave_sees(home, 1, "down", 6000));
	s = slave_join(1, "y", &w);
	ck_assert(!w.fence);
	ck_assert(slave_sees(home, 1, "up", 1000));
	ck_assert_uint_ne(slave_node(home, 1)->life, life);
	slave_free(s);
	slave_free(home);
}
END_TEST

static Bproc__Answer set(struct fake_slave *s, int node, unsigned int what, unsigned int value,
			 const char *status, unsigned int uid)
{
	Bproc__NodeSet m = BPROC__NODE_SET__INIT;
	static unsigned int req;
	Bproc__Envelope *env;
	Bproc__Answer a;
	char text[32];

	snprintf(text, sizeof(text), "%s", status);
	m.req = ++req;
	m.node = node;
	m.what = what;
	m.value = value;
	m.status = text;
	m.asker_uid = uid;
	slave_send(s, &m.base);
	env = slave_expect(s, BPROC__ENVELOPE__MSG_ANSWER);
	ck_assert_uint_eq(env->answer->req, req);
	a = *env->answer; /* the numbers of it */
	bproc__envelope__free_unpacked(env, NULL);
	return a;
}

START_TEST(settings)
{
	Bproc__Fenced fenced = BPROC__FENCED__INIT;
	struct fake_slave *home = slave_join_empty(-1, "1.1"), *s = slave_join_empty(1, "x");

	ck_assert(slave_sees(home, 1, "up", 2000));
	ck_assert_uint_eq(set(home, 9, SETNODE_STATUS, 0, "up", 0).err, BE_INVALIDNODE);
	ck_assert_uint_eq(set(home, 1, SETNODE_STATUS, 0, "busy", 7).err, EPERM);
	ck_assert_uint_eq(set(home, 1, SETNODE_STATUS, 0, "1x", 0).err, EINVAL);
	ck_assert_uint_eq(set(home, 1, SETNODE_STATUS, 0, "abcdefghijklmnop", 0).err, ENOSPC);
	ck_assert_uint_eq(set(home, 1, SETNODE_STATUS, 0, "unreachable", 0).err, EINVAL);
	ck_assert_uint_eq(set(home, 2, SETNODE_STATUS, 0, "busy", 0).err, EINVAL);
	ck_assert_uint_eq(set(home, -1, SETNODE_STATUS, 0, "busy", 0).err, EPERM);
	ck_assert_uint_eq(set(home, 1, SETNODE_STATUS, 0, "busy", 0).err, 0);
	ck_assert(slave_sees(home, 1, "busy", 1000));
	ck_assert_uint_eq(set(home, 1, SETNODE_MODE, 0644, "", 0).err, EINVAL);
	ck_assert_uint_eq(set(home, 1, SETNODE_MODE, 0111, "", 7).err, EPERM);
	ck_assert_uint_eq(set(home, 2, SETNODE_MODE, 0111, "", 0).err, EPERM);
	ck_assert_uint_eq(set(home, 1, SETNODE_UID, 7, "", 7).err, EPERM);
	ck_assert_uint_eq(set(home, 1, SETNODE_UID, 7, "", 0).err, 0);
	ck_assert_uint_eq(set(home, 1, SETNODE_MODE, 0110, "", 7).err, 0);
	ck_assert_uint_eq(set(home, 1, SETNODE_GID, 8, "", 7).err, 0);
	fake_run(200);
	ck_assert_uint_eq(slave_node(home, 1)->mode, 0110);
	ck_assert_uint_eq(slave_node(home, 1)->uid, 7);
	ck_assert_uint_eq(slave_node(home, 1)->gid, 8);
	ck_assert_uint_eq(set(home, 1, 99, 0, "", 0).err, EINVAL);
	/* "down": first it kills what it has; then its link ends with a word, and all is reset. */
	ck_assert_uint_eq(set(home, 1, SETNODE_STATUS, 0, "down", 0).err, 0);
	bproc__envelope__free_unpacked(slave_expect(s, BPROC__ENVELOPE__MSG_FENCE), NULL);
	fake_run(200);
	ck_assert_str_eq(slave_node(home, 1)->status, "busy");
	slave_send(s, &fenced.base);
	expect_refuse(s, ESHUTDOWN, "node 1 was set down");
	ck_assert(slave_sees(home, 1, "down", 1000));
	ck_assert_uint_eq(slave_node(home, 1)->mode, 0100);
	slave_free(home);
}
END_TEST

/* A new master has them as they were, of a node that is the same; the script does not run again. */
START_TEST(settings_kept)
{
	struct fake_slave *home = slave_join_empty(-1, "1.1"), *s = slave_join_empty(1, "x");
	struct fake_slave *other = slave_join_empty(0, "y");

	ck_assert(slave_sees(home, 1, "up", 2000));
	ck_assert_uint_eq(set(home, 1, SETNODE_MODE, 0111, "", 0).err, 0);
	ck_assert_uint_eq(set(home, 1, SETNODE_UID, 7, "", 0).err, 0);
	ck_assert_uint_eq(set(home, 1, SETNODE_STATUS, 0, "busy", 0).err, 0);
	ck_assert_uint_eq(set(home, 0, SETNODE_MODE, 0111, "", 0).err, 0);
	ck_assert(slave_sees(home, 1, "busy", 1000));
	fake_run(200);
	slave_free(home);
	slave_free(s);
	slave_free(other);
	master_stop(SIGKILL);
	master_start();
	home = slave_join(-1, "1.1", NULL);
	s = slave_join(1, "x", NULL);
	other = slave_join(0, "z", NULL);
	ck_assert(slave_sees(home, 1, "busy", 1000));
	ck_assert_uint_eq(slave_node(home, 1)->mode, 0111);
	ck_assert_uint_eq(slave_node(home, 1)->uid, 7);
	/* Another bpinit: a node that was started anew. */
	ck_assert(slave_sees(home, 0, "up", 2000));
	ck_assert_uint_eq(slave_node(home, 0)->mode, 0100);
	slave_free(home);
	slave_free(s);
	slave_free(other);
}
END_TEST

START_TEST(bursts)
{
	struct fake_slave *home = slave_join_empty(-1, "1.1"), *s = slave_join_empty(1, "x");
	unsigned int before;

	fake_run(300);
	before = home->tables;
	for (int i = 0; i < 100; i++)
		set(home, 1, SETNODE_MODE, i % 2 ? 0111 : 0100, "", 0);
	fake_run(300);
	ck_assert_uint_eq(slave_node(home, 1)->mode, 0111);
	ck_assert_uint_lt(home->tables - before, 50);
	slave_free(s);
	slave_free(home);
}
END_TEST

/* The script gets the number; its exit status makes the status. */
START_TEST(node_up)
{
	struct fake_slave *home, *a, *b;
	char cmd[512], name[96];
	FILE *f;

	master_setup("");
	snprintf(name, sizeof(name), "%s/node_up", fm.dir);
	f = fopen(name, "we");
	fprintf(f, "#!/bin/sh\nsleep 0.3\nexit $(($1 * 3))\n");
	fclose(f);
	ck_assert_int_eq(chmod(name, 0755), 0);
	/* In place of the line that names /bin/true. */
	snprintf(cmd, sizeof(cmd),
		 "sed -i '/node_up/d' %s/config && echo 'node_up %s' >> %s/config", fm.dir, name,
		 fm.dir);
	ck_assert_int_eq(system(cmd), 0);
	master_start();
	home = slave_join(-1, "1.1", NULL);
	a = slave_join(0, "x", NULL);
	b = slave_join(1, "x", NULL);
	ck_assert(slave_sees(home, 0, "boot", 250));
	ck_assert(slave_sees(home, 0, "up", 3000));
	ck_assert(slave_sees(home, 1, "error", 3000));
	ck_assert_str_eq(slave_node(home, 1)->reason, "node_up ended with status 3");
	slave_free(a);
	slave_free(b);
	slave_free(home);
	master_cleanup();
}
END_TEST

START_TEST(one_master)
{
	char cmd[512];

	/* A second one in the same run directory, and one whose port is taken. */
	snprintf(cmd, sizeof(cmd),
		 "BPROC_RUN_DIR=%s %s -c %s/config 2>&1 | grep -q 'another bpmaster is running, "
		 "pid %d'",
		 fm.dir, BPMASTER, fm.dir, fm.pid);
	ck_assert_int_eq(system(cmd), 0);
	snprintf(cmd, sizeof(cmd),
		 "mkdir %s.2; BPROC_RUN_DIR=%s.2 %s -c %s/config 2>&1 | "
		 "grep -q 'port %d of 0.0.0.0: Address already in use'; r=$?; rm -r %s.2; exit $r",
		 fm.dir, fm.dir, BPMASTER, fm.dir, fm.port, fm.dir);
	ck_assert_int_eq(system(cmd), 0);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("master");
	TCase *t = tcase_create("master"), *own = tcase_create("own");
	SRunner *r = srunner_create(s);
	int failed;

	tcase_set_timeout(t, 40);
	tcase_add_checked_fixture(t, setup, master_cleanup);
	tcase_add_test(t, joins);
	tcase_add_test(t, wrong_key);
	tcase_add_test(t, refusals);
	tcase_add_test(t, out_of_turn);
	tcase_add_test(t, lease_goes_on);
	tcase_add_test(t, ping_timeout);
	tcase_add_test(t, settings);
	tcase_add_test(t, settings_kept);
	tcase_add_test(t, bursts);
	tcase_add_test(t, one_master);
	suite_add_tcase(s, t);
	tcase_set_timeout(own, 40);
	tcase_add_test(own, node_up);
	suite_add_tcase(s, own);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
