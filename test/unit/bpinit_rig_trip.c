/*
 * Moves of the rig of the bpinit tests (bpinit_rig.h), step by step.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bpinit_rig.h"
#include "libbproc/local.h"
#include "libbproc/sysio.h"
#include "vmadump/blob/blob.h"
#include "vmadump/carry.h"

void my_cred(struct chan_cred *c)
{
	*c = (struct chan_cred){.cap_bnd = ~0ull};
	c->cap_prm = c->cap_eff = ~0ull;
	for (int i = 0; i < 16; i++) {
		struct rlimit l = {RLIM_INFINITY, RLIM_INFINITY};

		getrlimit((__rlimit_resource_t)i, &l);
		c->rlim[i][0] = l.rlim_cur;
		c->rlim[i][1] = l.rlim_max;
	}
}

void trip_swallow(const struct trip *t)
{
	struct init_msg m = {.type = INIT_GRANT, .move_id = t->id, .req_id = t->req_id};
	static const char end[] = "VDAMPEND"; /* who sends it keeps its side open behind that */
	char buf[8 + 65536] = {0};
	int data[2];
	ssize_t n;

	CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, data) == 0);
	tell(&home, &m, &data[0], 1);
	close_fd(data[0]);
	while (memcmp(buf, end, 8) != 0 && (n = read(data[1], buf + 8, sizeof(buf) - 8)) > 0)
		memmove(buf, buf + n, 8); /* the last eight */
	close_fd(data[1]); /* the next child must not hold it */
}

void trip_begin(struct trip *t, int far_end)
{
	static uint32_t next_req = 1;
	static uint64_t next_id = 0x1000;
	struct side *from = t->to_home ? &node : &home, *to = t->to_home ? &home : &node;
	struct init_msg m = {.type = INIT_DEPART};

	t->req_id = next_req++;
	t->id = next_id++;
	m.req_id = t->req_id;
	m.u.depart.kind = t->kind;
	m.u.depart.away = t->to_home;
	m.u.depart.dump_flags = t->dump_flags;
	m.u.depart.asker_pid = t->kind == MOVE_RFORK ? getpid() : t->pid;
	tell(from, &m, &far_end, 1);
	close_fd(far_end);

	m = (struct init_msg){.type = INIT_ARRIVE, .move_id = t->id};
	if (!t->own_chain && !t->to_home) {
		t->ppid = getpid();
		t->sid = getsid(0);
		t->pgid = getpgid(0);
		t->nchain = 2;
		t->chain[0] = (struct init_chain){
			.pid = t->sid, .pgid = t->sid, .sid = t->sid, .comm = "leader"};
		t->chain[1] = (struct init_chain){.pid = getpid(),
						  .ppid = t->sid,
						  .pgid = t->pgid,
						  .sid = t->sid,
						  .comm = "asker"};
	}
	m.u.arrive.epoch = 1;
	m.u.arrive.kind = t->kind;
	m.u.arrive.ppid = t->ppid;
	m.u.arrive.pgid = t->pgid;
	m.u.arrive.sid = t->sid;
	m.u.arrive.home_here = t->to_home;
	m.u.arrive.nchain = (uint32_t)t->nchain;
	my_cred(&m.u.arrive.cred);
	for (int i = 0; i < 4 && t->as_user; i++)
		m.u.arrive.cred.uid[i] = m.u.arrive.cred.gid[i] = t->as_user;
	if (t->as_user)
		m.u.arrive.cred.cap_prm = m.u.arrive.cred.cap_eff = 0;
	memcpy(m.u.arrive.chain, t->chain, sizeof(t->chain));
	if (t->children)
		m.pid = t->pid;
	tell(to, &m, NULL, 0);
}

void trip_send(struct trip *t)
{
	struct side *from = t->to_home ? &node : &home, *to = t->to_home ? &home : &node;
	struct init_msg m = {.type = INIT_GRANT, .move_id = t->id, .req_id = t->req_id};
	struct data_hdr h;
	bool told = t->kind != MOVE_RFORK && t->kind != MOVE_EXECMOVE;
	int data[2], fds[4], nfd = 1, pair[2], held = -1;

	if (told)
		t->pid = want(from, EV_HERE, 0).pid;
	CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, data) == 0);
	m.u.depart.epoch = 1;
	memset(m.u.depart.token, 7, 32);
	tell(from, &m, &data[0], 1);
	close_fd(data[0]);
	CHECK(read_full(data[1], &h, sizeof(h)) == 0);
	if (!told)
		t->pid = h.pid;
	CHECK(h.magic == DATA_MAGIC && h.move_id == t->id && h.pid == t->pid && h.token[31] == 7);
	if (!t->early)
		want(to, EV_READY, 0);
	m = (struct init_msg){.type = INIT_DATA, .move_id = t->id};
	m.u.data.pid = t->pid;
	fds[0] = data[1];
	if (t->arriving) {
		CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
		fds[0] = pair[0];
		held = pair[1];
		await_ghost(t->pid);
	}
	for (int i = 0; i < 3; i++) {
		t->node_sock[i] = t->home_sock[i] = -1;
		if (!(t->streams & 1 << i) || t->to_home)
			continue;
		CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
		t->node_sock[i] = pair[0];
		fds[nfd++] = pair[1];
		m.stream_mask |= 1u << i;
	}
	tell(to, &m, fds, nfd);
	for (int i = 0; i < nfd; i++)
		close_fd(fds[i]);
	if (t->arriving) {
		if (!t->told_only)
			await_arriving(t->pid);
		t->arriving(t->pid);
		pump(data[1], held);
	}
	if (told)
		want(from, EV_SENT, t->pid);
}

void trip_commit(struct trip *t)
{
	struct side *from = t->to_home ? &node : &home, *to = t->to_home ? &home : &node;
	struct init_msg m = {.type = INIT_DECIDE, .move_id = t->id, .u.decide.ghost = 1};
	int fds[3], nfd = 0, pair[2];

	CHECK(want(to, EV_RAN, t->pid).move_id == t->id);
	for (int i = 0; i < 3; i++) {
		if (t->node_sock[i] < 0 || t->to_home)
			continue;
		CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
		t->home_sock[i] = pair[0];
		fds[nfd++] = pair[1];
		m.stream_mask |= 1u << i;
	}
	tell(from, &m, fds, nfd);
	for (int i = 0; i < nfd; i++)
		close_fd(fds[i]);
	want(from, EV_GHOST, t->pid);
}

void trip_run(struct trip *t, int far_end)
{
	trip_begin(t, far_end);
	trip_send(t);
	trip_commit(t);
}

int channel(int *ret_far)
{
	int fd[2];

	CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fd) == 0);
	*ret_far = fd[1];
	return fd[0];
}

int rig_leave(int chan, uint32_t kind, const void *args, size_t len)
{
	struct blob *b;
	long r;

	home.sock = close_fd(home.sock);
	node.sock = close_fd(node.sock);
	vmad_prepare();
	b = vmad_blob_map();
	CHECK(b);
	b->verb = BLOB_LEAVE;
	b->chan = chan;
	b->exec_kind = kind;
	b->exec_args = (uint64_t)(uintptr_t)args;
	b->exec_len = len;
	b->dump_flags = VMAD_DUMP_EXEC | VMAD_DUMP_OTHER;
	b->hide_fd[0] = chan;
	r = vmad_blob_call(b);
	if (r == 1)
		return 0;
	fprintf(stderr, "pid %d not moved: %s\n", getpid(), b->err.text);
	vmad_blob_unmap(b);
	return (int)r;
}

int32_t rig_rfork_with(struct trip *t, void (*before)(void))
{
	int far, chan = channel(&far);
	pid_t pid;

	t->kind = MOVE_RFORK;
	t->dump_flags = VMAD_DUMP_EXEC | VMAD_DUMP_OTHER;
	trip_begin(t, far);
	pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		if (before)
			before();
		if (rig_leave(chan, MOVE_RFORK, NULL, 0) < 0)
			_exit(99);
		return 0;
	}
	close_fd(chan);
	return pid;
}

int32_t rig_sleeper(struct trip *t)
{
	int32_t pid = rig_rfork(t);

	if (pid == 0)
		for (;;)
			pause();
	trip_send(t);
	trip_commit(t);
	return pid;
}

void mirror(struct side *s, int32_t pid, int code, int status)
{
	struct init_msg m = {.type = INIT_MIRROR,
			     .pid = pid,
			     .u.mirror = {.pid = pid, .code = code, .status = status}};

	tell(s, &m, NULL, 0);
}

void decide_abort(struct side *s, struct trip *t, int err, const char *text)
{
	struct init_msg m = {
		.type = INIT_DECIDE, .move_id = t->id, .req_id = t->req_id, .err = err};

	snprintf(m.u.decide.text, sizeof(m.u.decide.text), "%s", text);
	tell(s, &m, NULL, 0);
}

int32_t fork_mover(struct trip *t, int kind, int *ret_far)
{
	int far, chan = channel(&far);
	int32_t pid;

	t->kind = (uint32_t)kind;
	t->dump_flags = VMAD_DUMP_EXEC | VMAD_DUMP_OTHER;
	pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		close_fd(far);
		*ret_far = chan;
		return 0;
	}
	close_fd(chan);
	t->pid = pid;
	*ret_far = far;
	return pid;
}
