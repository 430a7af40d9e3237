/*
 * What a synthetic slave tells a master of its processes and moves, and asks it. In the
 * tests of a master that was away.
 */
#include <check.h>

#include "libbproc/config.h"
#include "libbproc/local.h"
#include "master_tell.h"

Bproc__Proc proc_of(int pid)
{
	Bproc__Proc p = BPROC__PROC__INIT;

	p.home = -1;
	p.pid = pid;
	return p;
}

uint64_t join_three(struct fake_slave **home, struct fake_slave **n0, struct fake_slave **n1)
{
	Bproc__Welcome w;

	*home = slave_join(-1, "h", &w);
	*n0 = slave_join(0, "a", NULL);
	*n1 = slave_join(1, "b", NULL);
	return (uint64_t)(w.epoch - 1) << 32 | 5;
}

void free_three(struct fake_slave *home, struct fake_slave *n0, struct fake_slave *n1)
{
	slave_free(n1);
	slave_free(n0);
	slave_free(home);
}

/* Home has told all: what was born there? */
void hear_asked(struct fake_slave *n0, struct fake_slave *n1)
{
	hear(n0, BPROC__ENVELOPE__MSG_BORN_ASK);
	hear(n1, BPROC__ENVELOPE__MSG_BORN_ASK);
}

void tell_state(struct fake_slave *s, int pid, bool ghost, uint64_t by)
{
	Bproc__ProcState m = BPROC__PROC_STATE__INIT;
	Bproc__Proc p = proc_of(pid);

	m.proc = &p;
	m.ghost = ghost;
	m.move = by;
	slave_send(s, &m.base);
}

void tell_proc(struct fake_slave *s, int pid, bool ghost)
{
	tell_state(s, pid, ghost, 0);
}

void tell_move(struct fake_slave *s, uint64_t id, unsigned int kind, int target, int pid)
{
	Bproc__MoveState m = BPROC__MOVE_STATE__INIT;
	Bproc__Proc p = proc_of(pid);

	m.move = id;
	m.kind = kind;
	m.target = target;
	m.proc = &p;
	slave_send(s, &m.base);
}

void tell_end(struct fake_slave *s)
{
	Bproc__StateEnd m = BPROC__STATE_END__INIT;

	slave_send(s, &m.base);
}

void hear(struct fake_slave *s, Bproc__Envelope__MsgCase type)
{
	bproc__envelope__free_unpacked(slave_expect(s, type), NULL);
}

void heard(struct fake_slave *s)
{
	slave_ask(s, &(struct slave_question){.kind = MOVE_RFORK,
					      .node = CONFIG_NODES_MAX,
					      .asker = 900,
					      .pid = 901,
					      .parent = 900});
	hear(s, BPROC__ENVELOPE__MSG_MOVE_DENY);
}

int pidnode(struct fake_slave *s, int pid)
{
	Bproc__PidAsk m = BPROC__PID_ASK__INIT;
	Bproc__Envelope *env;
	int node;

	m.pid = pid;
	slave_send(s, &m.base);
	env = slave_expect(s, BPROC__ENVELOPE__MSG_ANSWER);
	node = env->answer->node;
	bproc__envelope__free_unpacked(env, NULL);
	return node;
}

void tell_ran(struct fake_slave *s, int pid, uint64_t id, bool left)
{
	Bproc__MoveRan ran = BPROC__MOVE_RAN__INIT;
	Bproc__Proc p = proc_of(pid);

	ran.move = id;
	ran.proc = &p;
	ran.left = left;
	slave_send(s, &ran.base);
}

void tell_voided(struct fake_slave *s, uint64_t id)
{
	Bproc__MoveVoided m = BPROC__MOVE_VOIDED__INIT;

	m.move = id;
	slave_send(s, &m.base);
}

static void born(struct fake_slave *s, int pid, int ppid, bool moved, bool again)
{
	Bproc__ProcBorn m = BPROC__PROC_BORN__INIT;
	Bproc__Birth b = BPROC__BIRTH__INIT, *list[1] = {&b};
	Bproc__Proc p = proc_of(pid);
	uint8_t args[] = "prog";

	b.proc = &p;
	b.ppid = ppid;
	b.moved = moved;
	b.again = again;
	b.args = (ProtobufCBinaryData){.len = sizeof(args), .data = args};
	m.n_birth = 1;
	m.birth = list;
	slave_send(s, &m.base);
}

void tell_birth(struct fake_slave *s, int pid, bool moved, bool again)
{
	born(s, pid, 0, moved, again);
}

void tell_child(struct fake_slave *s, int pid, int ppid)
{
	born(s, pid, ppid, false, false);
}

void tell_born(struct fake_slave *s, int pid, bool moved)
{
	tell_birth(s, pid, moved, false);
}

void tell_event(struct fake_slave *s, int pid, unsigned int code, int status, uint64_t seq,
		uint64_t move)
{
	Bproc__ProcEvent m = BPROC__PROC_EVENT__INIT;
	Bproc__Proc p = proc_of(pid);

	m.proc = &p;
	m.code = code;
	m.status = status;
	m.seq = seq;
	m.move = move;
	slave_send(s, &m.base);
}

void hear_told(struct fake_slave *s, int pid, unsigned int code, int status, uint64_t seq)
{
	Bproc__Envelope *env = slave_expect(s, BPROC__ENVELOPE__MSG_MIRROR);

	ck_assert_int_eq(env->mirror->proc->pid, pid);
	ck_assert_uint_eq(env->mirror->code, code);
	ck_assert_int_eq(env->mirror->status, status);
	ck_assert_uint_eq(env->mirror->seq, seq);
	bproc__envelope__free_unpacked(env, NULL);
}

uint64_t hear_start(struct fake_slave *s)
{
	Bproc__Envelope *env = slave_expect(s, BPROC__ENVELOPE__MSG_MOVE_START);
	uint64_t id = env->move_start->move;

	bproc__envelope__free_unpacked(env, NULL);
	return id;
}
