/*
 * What is read of a process (slaved/bpslave_proc.c): texts of /proc/PID/status,
 * whole, cut at every byte and strange, and this very process.
 */
#include <check.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "slaved/bpslave.h"

struct slave slave; /* of bpslave.c, which is not linked here */

static const char node_text[] =
	"Name:\ta b\\nPid:\\\\x\nUmask:\t0022\nState:\tR (running)\nTgid:\t4242\nNgid:\t0\n"
	"Pid:\t4242\nPPid:\t4000\nTracerPid:\t0\nUid:\t1000\t1001\t1002\t1003\n"
	"Gid:\t100\t101\t102\t103\nFDSize:\t256\nGroups:\t4 24 27 \n"
	"NStgid:\t4242\t131074\nNSpid:\t4242\t131074\nNSpgid:\t4200\t131072\nNSsid:\t4100\t77\n"
	"Kthread:\t0\nVmPeak:\t 100 kB\nThreads:\t1\nSigQ:\t0/15000\nCapInh:\t0000000000000001\n"
	"CapPrm:\t000001ffffffffff\nCapEff:\t0000000000000002\nCapBnd:\t0000000000000004\n"
	"CapAmb:\t0000000000000008\nNoNewPrivs:\t1\nSeccomp:\t0\n";

START_TEST(of_a_node)
{
	struct proc_ids ids;

	ck_assert_int_eq(proc_parse_status(node_text, &ids), 0);
	ck_assert_str_eq(ids.comm, "a b\nPid:\\x");
	ck_assert_int_eq(ids.host_pid, 4242);
	ck_assert_int_eq(ids.host_ppid, 4000);
	ck_assert_int_eq(ids.pid, 131074);
	ck_assert_int_eq(ids.ns_depth, 2);
	ck_assert_int_eq(ids.pgid, 131072);
	ck_assert_int_eq(ids.sid, 77);
	ck_assert_uint_eq(ids.uid[3], 1003);
	ck_assert_uint_eq(ids.gid[0], 100);
	ck_assert_uint_eq(ids.ngroups, 3);
	ck_assert_uint_eq(ids.group[2], 27);
	ck_assert_uint_eq(ids.cap_prm, 0x1ffffffffff);
	ck_assert_uint_eq(ids.cap_amb, 8);
	ck_assert_uint_eq(ids.no_new_privs, 1);
}
END_TEST

START_TEST(cut)
{
	size_t whole = (size_t)(strstr(node_text, "NoNewPrivs:\t") + 11 - node_text);
	char text[sizeof(node_text)];
	struct proc_ids ids;

	for (size_t n = 0; n < whole; n++) {
		memcpy(text, node_text, n);
		text[n] = '\0';
		ck_assert_int_eq(proc_parse_status(text, &ids), -EBADMSG);
	}
}
END_TEST

START_TEST(this_one)
{
	struct proc_chain chain;
	struct chan_cred cred;
	struct proc_ids ids;
	struct rlimit lim;

	slave.node = HOME_NODE;
	ck_assert_int_eq(proc_read_ids(getpid(), &ids), 0);
	ck_assert_int_eq(ids.pid, getpid());
	ck_assert_int_eq(ids.host_ppid, getppid());
	ck_assert_int_eq(ids.pgid, getpgrp());
	ck_assert_int_eq(ids.sid, getsid(0));
	ck_assert_int_eq(proc_read_cred(&ids, &cred), 0);
	getrlimit(RLIMIT_STACK, &lim);
	ck_assert_uint_eq(cred.rlim[RLIMIT_STACK][0], lim.rlim_cur);
	ck_assert_int_eq(cred.nice, getpriority(PRIO_PROCESS, 0));
	ck_assert_uint_eq(cred.uid[0], getuid());
	ck_assert_int_eq(proc_read_chain(&ids, true, &chain), 0);
	ck_assert_int_ge(chain.n, 1);
	ck_assert_int_eq(chain.member[chain.n - 1].pid, getpid());
	ck_assert_int_eq(proc_read_ids(0x7fffff, &ids), -ENOENT);
}
END_TEST

/* The fallback says what the kernel's call says. */
START_TEST(limits)
{
	uint64_t rlim[16][2];
	struct rlimit lim;
	char text[4096];
	FILE *f = fopen("/proc/self/limits", "r");
	size_t n = fread(text, 1, sizeof(text) - 1, f);

	fclose(f);
	text[n] = '\0';
	ck_assert_int_eq(proc_parse_limits(text, rlim), 0);
	for (int r = 0; r < 16; r++) {
		getrlimit(r, &lim);
		ck_assert_uint_eq(rlim[r][0], lim.rlim_cur);
		ck_assert_uint_eq(rlim[r][1], lim.rlim_max);
	}
	*strstr(text, "Max locked") = 'x';
	ck_assert_int_eq(proc_parse_limits(text, rlim), -EBADMSG);
}
END_TEST

/* A session of three: leader, a group leader that is no ancestor, and its member. */
START_TEST(chain_of_group)
{
	int ready[2];
	char c;
	pid_t leader;

	slave.node = HOME_NODE;
	ck_assert_int_eq(pipe(ready), 0);
	leader = fork();
	if (leader == 0) {
		pid_t a, b;

		setsid();
		a = fork();
		if (a == 0) {
			setpgid(0, 0);
			pause();
		}
		setpgid(a, a);
		b = fork();
		if (b == 0) {
			struct proc_chain ch;
			struct proc_ids me;
			int bad = 0;

			setpgid(0, a);
			bad |= proc_read_ids(getpid(), &me) != 0;
			bad |= proc_read_chain(&me, false, &ch) != 0;
			bad |= ch.n != 2 || ch.member[0].pid != getsid(0) ||
			       ch.member[1].pid != a || ch.member[1].ppid != getppid();
			bad |= proc_read_chain(&me, true, &ch) != 0;
			bad |= ch.n != 3 || ch.member[1].pid != a || ch.member[2].pid != getpid() ||
			       ch.member[2].pgid != a;
			c = bad ? 'n' : 'y';
			_exit(write(ready[1], &c, 1) != 1);
		}
		waitpid(b, NULL, 0);
		kill(a, SIGKILL);
		_exit(0);
	}
	ck_assert_int_eq(read(ready[0], &c, 1), 1);
	ck_assert_int_eq(c, 'y');
	waitpid(leader, NULL, 0);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("proc");
	TCase *t = tcase_create("proc");
	SRunner *r = srunner_create(s);
	int failed;

	tcase_add_test(t, of_a_node);
	tcase_add_test(t, cut);
	tcase_add_test(t, this_one);
	tcase_add_test(t, limits);
	tcase_add_test(t, chain_of_group);
	suite_add_tcase(s, t);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
