/*
 * At home, of what was born on a node: the ghost of one whose parent has none is in its session,
 * and nobody's child, also when the end of another of its number is heard while it is made. One
 * comes home before anything was told of it, or of its parent: what was told was lost with a
 * bpslave. And bpinit is killed when nobody traces an orphan's ghost yet.
 */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bpinit_rig.h"
#include "libbproc/local.h"
#include "libbproc/sysio.h"
#include "vmadump.h"

#define ORPHAN 70001 /* of a node's slot, and so are these: */
#define NOBODY 70002

static void tell_born(int32_t pid, int32_t ppid, int32_t sid)
{
	struct init_msg m = {.type = INIT_BORN, .pid = pid};

	m.u.born.ppid = ppid;
	m.u.born.name.pgid = getpgrp();
	m.u.born.name.sid = sid;
	strcpy(m.u.born.name.comm, "born");
	tell(&home, &m, NULL, 0);
}

static int32_t parent_of(int32_t pid)
{
	char path[64];
	int32_t ppid = -1;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	f = fopen(path, "re");
	if (f && fscanf(f, "%*d (%*[^)]) %*c %d", &ppid) != 1)
		ppid = -1;
	if (f)
		fclose(f);
	return ppid;
}

static void is_here(int32_t pid)
{
	for (int ms = 0; kill(pid, 0) < 0 && ms < PATIENCE_MS; ms++)
		usleep(1000);
	CHECK(kill(pid, 0) == 0);
}

static void over(int32_t pid)
{
	tell(&home, &(struct init_msg){.type = INIT_REAPED, .pid = pid}, NULL, 0);
	mirror(&home, pid, CLD_EXITED, 0);
	want(&home, EV_MIRRORED, pid);
	for (int ms = 0; kill(pid, 0) == 0 && ms < PATIENCE_MS; ms++)
		usleep(1000);
	CHECK(kill(pid, 0) < 0);
}

static void end(struct trip *t)
{
	CHECK(kill(t->pid, SIGKILL) == 0);
	mirror(&home, t->pid, CLD_KILLED, SIGKILL);
	CHECK(wait_for(t->pid, 0) == SIGKILL);
	want(&home, EV_MIRRORED, t->pid);
}

/* Its parent had ended before anybody heard of either; another of its session has a ghost. */
static void test_orphan(void)
{
	struct trip t = {0};
	int32_t other = rig_sleeper(&t);

	tell_born(ORPHAN, NOBODY, getsid(0));
	is_here(ORPHAN);
	usleep(50000);
	CHECK(getsid(ORPHAN) == getsid(0) && getpgid(ORPHAN) == getpgrp());
	CHECK(parent_of(ORPHAN) != other);
	over(ORPHAN);
	end(&t);
	printf("an orphan: ok\n");
}

/* No ghost of its session is here: it can be in none but ours. */
static void test_alone(void)
{
	tell_born(ORPHAN, NOBODY, NOBODY);
	is_here(ORPHAN);
	usleep(50000);
	CHECK(getsid(ORPHAN) == parent_of(ORPHAN) && getsid(ORPHAN) != getsid(0));
	over(ORPHAN);
	printf("nobody of its session: ok\n");
}

/* It waits on the node, and its channel is in other hands too. */
static int32_t gives_channel(struct trip *t, int *ret_chan)
{
	int far, chan = channel(&far);

	*t = (struct trip){.kind = MOVE_RFORK, .dump_flags = VMAD_DUMP_EXEC | VMAD_DUMP_OTHER};
	trip_begin(t, far);
	t->pid = fork();
	if (t->pid == 0) {
		if (rig_leave(chan, MOVE_RFORK, NULL, 0) < 0)
			_exit(1);
		for (;;)
			pause();
	}
	trip_send(t);
	trip_commit(t);
	*ret_chan = chan;
	return t->pid;
}

/*
 * A ghost has waited for the ghost that had the number before, and its word of that is read while
 * another one makes the orphan: it is not this one's end.
 */
static void test_last_use(void)
{
	struct chan_msg word = {.type = CHAN_CHILD, .u.child = {.pid = ORPHAN, .code = CLD_EXITED}};
	struct trip maker = {0}, t;
	struct pollfd ended = {.fd = -1, .events = POLLIN};
	int chan;

	rig_sleeper(&maker);
	gives_channel(&t, &chan);
	tell_born(ORPHAN, NOBODY, getsid(0));
	for (int64_t until = now_ms() + PATIENCE_MS; ended.fd < 0 && now_ms() < until;) {
		pkt_send_now(chan, &word, sizeof(word), NULL, 0);
		ended.fd = (int)syscall(SYS_pidfd_open, ORPHAN, 0);
	}
	CHECK(ended.fd >= 0 && poll(&ended, 1, 200) == 0);
	over(ORPHAN);
	CHECK(poll(&ended, 1, PATIENCE_MS) == 1);
	close_fd(ended.fd);
	close_fd(chan);
	end(&t);
	end(&maker);
	printf("an orphan, and the word on its number's last use: ok\n");
}

/* The master has not heard that its end was mirrored, and tells all of it again. */
static void test_told_again(void)
{
	struct init_msg born = {.type = INIT_BORN, .pid = ORPHAN, .use = (uint64_t)1 << 32 | 7};
	struct init_msg end = {.type = INIT_MIRROR, .pid = ORPHAN, .use = born.use};

	strcpy(born.u.born.name.comm, "born");
	end.u.mirror.pid = ORPHAN;
	end.u.mirror.code = CLD_EXITED;
	for (int again = 0; again < 2; again++) {
		tell(&home, &born, NULL, 0);
		if (!again)
			is_here(ORPHAN);
		tell(&home, &end, NULL, 0);
		want(&home, EV_MIRRORED, ORPHAN);
	}
	want(&home, EV_MIRRORED, ORPHAN); /* once for each that was told again */
	usleep(50000);
	CHECK(kill(ORPHAN, 0) < 0);
	/* But that number may be used again. */
	born.use++;
	end.use++;
	tell(&home, &born, NULL, 0);
	is_here(ORPHAN);
	tell(&home, &end, NULL, 0);
	want(&home, EV_MIRRORED, ORPHAN);
	printf("told again: ok\n");
}

struct comes {
	int32_t pid, ppid, pgid, sid;
};

/* On the node: has a child, which has one that comes home by a channel that it gives out on 0. */
static _Noreturn void grandparent(int chan)
{
	struct comes c;

	if (rig_leave(chan, MOVE_RFORK, NULL, 0) < 0)
		_exit(1);
	if (fork() > 0)
		for (;;)
			pause();
	c.ppid = getpid();
	if (fork() > 0)
		for (;;)
			pause();
	c.pid = getpid();
	c.pgid = getpgrp();
	c.sid = getsid(0);
	rig_come_home(&c, sizeof(c));
	for (;;)
		pause();
}

/* Its parent is told of only when its image is there; or never, for it has ended by then. */
static void test_untold(bool parent)
{
	struct trip of = {.kind = MOVE_RFORK,
			  .streams = 1,
			  .dump_flags = VMAD_DUMP_EXEC | VMAD_DUMP_OTHER},
		    t = {.kind = MOVE_MOVE, .to_home = true, .own_chain = true};
	struct sysio_pkt pkt;
	struct comes c;
	int far, chan = channel(&far);

	trip_begin(&of, far);
	of.pid = fork();
	if (of.pid == 0)
		grandparent(chan);
	close_fd(chan);
	trip_send(&of);
	trip_commit(&of);
	CHECK(pkt_recv(of.node_sock[0], &c, sizeof(c), 0, &pkt) == 0 && pkt.nfd == 1);
	t.pid = c.pid;
	t.ppid = c.ppid;
	t.pgid = c.pgid;
	t.sid = c.sid;
	trip_begin(&t, pkt.fd[0]);
	trip_send(&t);
	want_none(&home, EV_RAN, 100);
	want_none(&home, EV_FAILED, 1);
	if (parent)
		tell_born(c.ppid, of.pid, getsid(0));
	trip_commit(&t);
	CHECK(parent ? parent_of(c.pid) == c.ppid : parent_of(c.pid) != c.ppid);
	CHECK(getsid(c.pid) == getsid(0) && getpgid(c.pid) == getpgrp());
	CHECK(kill(c.pid, SIGKILL) == 0);
	if (parent)
		over(c.ppid);
	end(&of);
	side_forget(&home);
	side_forget(&node);
	printf("home, and its parent is %s: ok\n", parent ? "told later" : "no more");
}

/* Last: it has an orphan made that nobody traces yet, and is no more. */
static void test_bpinit_killed(void)
{
	socklen_t len = sizeof(struct ucred);
	struct ucred bpinit;
	struct trip t = {0};

	rig_sleeper(&t);
	CHECK(getsockopt(home.sock, SOL_SOCKET, SO_PEERCRED, &bpinit, &len) == 0);
	tell_born(ORPHAN, NOBODY, getsid(0));
	for (int64_t until = now_ms() + PATIENCE_MS; kill(ORPHAN, 0) < 0 && now_ms() < until;)
		;
	CHECK(kill(bpinit.pid, SIGKILL) == 0);
	for (int ms = 0; kill(ORPHAN, 0) == 0 && ms < PATIENCE_MS; ms++)
		usleep(1000);
	CHECK(kill(ORPHAN, 0) < 0);
	printf("an orphan that is not traced, and bpinit is killed: ok\n");
}

int main(void)
{
	rig_start();
	test_orphan();
	test_alone();
	test_last_use();
	test_told_again();
	test_untold(true);
	test_untold(false);
	test_bpinit_killed();
	rig_stop();
	return 0;
}
