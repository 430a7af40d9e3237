/*
 * Who arrives is in its group from the first instruction on, and is its parent's child, also where
 * the ghost of that parent is still in another group, or is only about to be one.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "bpinit_rig.h"
#include "libbproc/local.h"
#include "libbproc/sysio.h"
#include "vmadump/blob/blob.h"
#include "vmadump/carry.h"

#define IN_PLACE 45

/* What the test is to the chain of its children, in that group. */
static void add_us(struct trip *t, int32_t pgid)
{
	t->own_chain = true;
	t->sid = getsid(0);
	t->chain[0] =
		(struct init_chain){.pid = t->sid, .pgid = t->sid, .sid = t->sid, .comm = "leader"};
	t->chain[1] = (struct init_chain){
		.pid = getpid(), .ppid = t->sid, .pgid = pgid, .sid = t->sid, .comm = "asker"};
	t->nchain = 2;
	t->ppid = getpid();
	t->pgid = pgid;
}

static void ended(struct trip *t, int code, int status)
{
	struct init_msg m = want(&node, EV_CHILD, t->pid);

	CHECK(m.u.child.code == code && m.u.child.status == status);
	mirror(&home, t->pid, code, status);
	wait_for(t->pid, 0);
	want(&home, EV_MIRRORED, t->pid);
}

static void end(struct trip *t)
{
	struct init_msg m = {.type = INIT_SIGNAL,
			     .u.signal = {.pid = t->pid, .code = SI_USER, .sig = SIGKILL}};

	CHECK(kill(t->pid, SIGKILL) == 0);
	tell(&node, &m, NULL, 0);
	ended(t, CLD_KILLED, SIGKILL);
}

/* Where it comes from its parent has made a group, and here nobody has heard of that yet. */
static void test_old_group(void)
{
	struct trip first = {0}, second = {0};
	int32_t pid;

	add_us(&first, getsid(0));
	CHECK(rig_sleeper(&first) > 0);
	CHECK(getpgrp() == getpid());
	add_us(&second, getpid());
	pid = rig_rfork(&second);
	if (pid == 0)
		_exit(getpgrp() == getppid() && getpgid(getppid()) == getppid() ? IN_PLACE : 1);
	trip_send(&second);
	trip_commit(&second);
	ended(&second, CLD_EXITED, IN_PLACE);
	end(&first);
	printf("old group: ok\n");
}

static void in_place(struct side *s, int32_t pid, int32_t pgid, int32_t sid)
{
	struct init_msg m = {.type = INIT_PLACE, .pid = pid};

	m.u.place.pid = pid;
	m.u.place.pgid = pgid;
	m.u.place.sid = sid;
	m.u.place.node = -1;
	tell(s, &m, NULL, 0);
}

static void in_group(struct side *s, int32_t pid, int32_t pgid)
{
	in_place(s, pid, pgid, getsid(0));
}

/*
 * It calls setsid(), home was told of that twice, and has answered twice: by the second answer it
 * leads a session that it has still to make. As leader of its group it could not.
 */
static void test_own_session(void)
{
	struct trip t = {0};
	int32_t pid;

	add_us(&t, getpid());
	pid = rig_rfork(&t);
	if (pid == 0) {
		usleep(200000);
		_exit(setsid() == getpid() ? IN_PLACE : 1);
	}
	trip_send(&t);
	trip_commit(&t);
	in_place(&node, pid, pid, pid);
	ended(&t, CLD_EXITED, IN_PLACE);
	printf("its own session: ok\n");
}

/* Where it comes from nobody has heard that its parent has made a group: that is no news here. */
static void test_old_chain(void)
{
	struct trip t = {0};
	int32_t pid;

	add_us(&t, getsid(0));
	pid = rig_rfork(&t);
	if (pid == 0)
		_exit(getpgid(getppid()) == getppid() ? IN_PLACE : 1);
	trip_send(&t);
	trip_commit(&t);
	ended(&t, CLD_EXITED, IN_PLACE);
	printf("old chain: ok\n");
}

/* Home's word on the parent has just come, and the next one, that it has made a group, has not. */
static void test_old_word(void)
{
	struct trip t = {0};
	int32_t pid;

	in_group(&node, getpid(), getsid(0));
	add_us(&t, getpid());
	pid = rig_rfork(&t);
	if (pid == 0) {
		for (int ms = 0; getpgrp() != getppid() && ms < PATIENCE_MS; ms++)
			usleep(1000);
		_exit(getpgrp() == getppid() ? IN_PLACE : 1);
	}
	trip_send(&t);
	trip_commit(&t);
	usleep(50000);
	in_group(&node, getpid(), getpid());
	ended(&t, CLD_EXITED, IN_PLACE);
	printf("old word: ok\n");
}

static void born_in(int32_t pid, int32_t parent, int32_t pgid, int32_t sid)
{
	struct init_msg m = {.type = INIT_BORN, .pid = pid};

	m.u.born.ppid = parent;
	m.u.born.parent_lives = 1;
	m.u.born.name.pgid = pgid;
	m.u.born.name.sid = sid;
	strcpy(m.u.born.name.comm, "born");
	tell(&home, &m, NULL, 0);
}

static void born(int32_t pid, int32_t parent, int32_t pgid)
{
	born_in(pid, parent, pgid, getsid(0));
}

static bool is_here(int32_t pid, int ms)
{
	for (; kill(pid, 0) < 0 && ms > 0; ms--)
		usleep(1000);
	return kill(pid, 0) == 0;
}

static void over(int32_t pid)
{
	mirror(&home, pid, CLD_EXITED, 0);
	tell(&home, &(struct init_msg){.type = INIT_REAPED, .pid = pid}, NULL, 0);
}

/* At home: what was born in a group is told before the word that its parent has made that. */
static void test_born_first(void)
{
	const int32_t pid = 70000;
	struct trip t = {0};
	int32_t parent = rig_sleeper(&t);

	born(pid, parent, parent);
	CHECK(is_here(pid, PATIENCE_MS));
	usleep(50000);
	CHECK(getpgid(pid) == getpgrp());
	in_group(&home, parent, parent);
	for (int ms = 0; getpgid(pid) != parent && ms < PATIENCE_MS; ms++)
		usleep(1000);
	CHECK(getpgid(parent) == parent && getpgid(pid) == parent);
	over(pid);
	end(&t);
	printf("born first: ok\n");
}

/* The same of a session, which nobody can be put into: the word was lost, and comes again later. */
static void test_born_in_session(void)
{
	const int32_t pid = 70004;
	struct trip t = {0};
	int32_t parent = rig_sleeper(&t);

	born_in(pid, parent, pid, parent);
	CHECK(is_here(pid, PATIENCE_MS));
	CHECK(getsid(pid) == parent && getsid(parent) == parent && getpgid(parent) == parent);
	over(pid);
	end(&t);
	printf("born in a session: ok\n");
}

/* At home: what was told of its parent was lost, and is told again after it. */
static void test_born_of_unknown(void)
{
	const int32_t parent = 70002, child = 70003;
	struct trip t = {0};
	int32_t pid = rig_sleeper(&t);

	born(child, parent, getpgrp());
	CHECK(!is_here(child, 100));
	/* Who asks what there is here hears of its ghost: there will be one. */
	side_drop(&home);
	side_connect(&home);
	CHECK(want(&home, EV_STATE, child).u.state.is_ghost);
	want(&home, EV_STATE_END, 0);
	born(parent, pid, getpgrp());
	CHECK(is_here(child, PATIENCE_MS) && is_here(parent, PATIENCE_MS));
	CHECK(getsid(child) == getsid(0) && getsid(parent) == getsid(0));
	over(child);
	over(parent);
	end(&t);
	printf("born of one unknown: ok\n");
}

/* At home: a node's process that is to be in a group, and has ended; nothing else is told. */
static void test_gone(void)
{
	struct init_msg m;
	pid_t pid = fork();

	if (pid == 0)
		for (;;)
			pause();
	/* One that was watched before: its place in the table is free. */
	tell(&home, &(struct init_msg){.type = INIT_WATCH, .pid = pid}, NULL, 0);
	CHECK(want(&home, EV_PLACE, pid).u.place.pgid == getpgrp());
	CHECK(kill(pid, SIGKILL) == 0);
	want(&home, EV_CHILD, pid);
	CHECK(wait_for(pid, 0) == SIGKILL);
	in_group(&home, 70001, 70001);
	do {
		m = want(&home, EV_PLACE, 0);
		CHECK(m.pid > 1 && m.u.place.pid == m.pid);
	} while (m.pid != 70001);
	CHECK(m.u.place.pgid == 0);
	printf("gone: ok\n");
}

/* On the node: gives out the far end of a channel by stdin, leaves by it, and sleeps at home. */
static _Noreturn void there_and_back(int chan)
{
	int far, on, null;

	if (rig_leave(chan, MOVE_RFORK, NULL, 0) < 0)
		_exit(1);
	on = channel(&far);
	if (pkt_send(0, "c", 1, &far, 1) < 0)
		_exit(2);
	close_fd(far);
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	for (int fd = 0; fd < 3; fd++)
		if (dup2(null, fd) < 0)
			_exit(3);
	close_fd(null);
	if (rig_leave(on, MOVE_MOVE, NULL, 0) < 0)
		_exit(4);
	for (;;)
		pause();
}

/* It runs at home again, but the node has not heard of that yet. */
static int32_t parent_that_left(struct trip *t)
{
	struct sysio_pkt pkt;
	int far, chan = channel(&far);
	char c;

	t->kind = MOVE_RFORK;
	t->streams = 1;
	t->dump_flags = VMAD_DUMP_EXEC | VMAD_DUMP_OTHER;
	trip_begin(t, far);
	t->pid = fork();
	if (t->pid == 0)
		there_and_back(chan);
	close_fd(chan);
	trip_send(t);
	trip_commit(t);
	CHECK(pkt_recv(t->node_sock[0], &c, 1, 0, &pkt) == 0 && pkt.nfd == 1);
	t->to_home = t->own_chain = true;
	t->nchain = 0;
	t->kind = MOVE_MOVE;
	trip_begin(t, pkt.fd[0]);
	trip_send(t);
	return t->pid;
}

/*
 * Its parent left from here for where it comes from, and made a group there, or a session: then
 * what home had to say of it before that is still to be done here. Or comes even later.
 */
static void test_parent_leaves(bool session, bool late)
{
	struct trip of_parent = {0}, t = {.early = true};
	int32_t parent, pid;

	parent = parent_that_left(&of_parent);
	add_us(&t, getpid());
	if (session) {
		if (!late)
			in_group(&node, parent, getpgrp());
		t.sid = parent;
	}
	t.chain[t.nchain++] = (struct init_chain){
		.pid = parent, .ppid = getpid(), .pgid = parent, .sid = t.sid, .comm = "parent"};
	t.ppid = t.pgid = parent;
	pid = rig_rfork(&t);
	if (pid == 0)
		_exit((getppid() == parent ? IN_PLACE : 1) + (getpgrp() == parent ? 0 : 2) +
		      (session && getsid(0) != parent ? 4 : 0));
	if (late)
		in_group(&node, parent, getpgrp());
	trip_send(&t);
	want_none(&node, EV_RAN, 100);
	trip_commit(&of_parent);
	trip_commit(&t);
	ended(&t, CLD_EXITED, IN_PLACE);
	CHECK(kill(parent, SIGKILL) == 0);
	CHECK(wait_for(parent, 0) == SIGKILL);
	printf("a parent that leaves: ok\n");
}

int main(void)
{
	rig_start();
	test_old_group();
	test_old_chain();
	test_old_word();
	test_own_session();
	test_born_first();
	test_born_in_session();
	test_born_of_unknown();
	test_gone();
	test_parent_leaves(false, false);
	test_parent_leaves(true, false);
	test_parent_leaves(true, true);
	rig_stop();
	return 0;
}
