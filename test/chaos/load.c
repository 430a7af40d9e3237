/*
 * The load: each operation is made of one seed, so the same seed orders the same
 * things of the same nodes. A worker does one after the other, at home or on a
 * node; each process it makes has a slot of the ledger and is waited for.
 */
#include <fcntl.h>
#include <signal.h>

#include "chaos.h"

static void steps(uint64_t *rng, int depth);

static void count(enum op_kind k)
{
	atomic_fetch_add(&led->op[k], 1);
}

static int a_code(uint64_t *rng)
{
	return (int)roll(rng, 97) + 1;
}

static int a_deadly_signal(uint64_t *rng)
{
	const int list[] = {SIGTERM, SIGKILL, SIGINT, SIGHUP, SIGUSR1, SIGALRM, SIGRTMIN};

	return list[roll(rng, sizeof(list) / sizeof(*list))];
}

/* A child on this node that does a few things and ends as ordered. */
static void native_child(uint64_t *rng)
{
	uint64_t seed = mix(*rng, 1);
	int code = a_code(rng), slot = slot_new();
	pid_t pid = do_fork(slot);

	if (pid == 0) {
		live((int)roll(&seed, 30));
		leave(code);
	}
	if (pid > 0)
		do_wait(slot, pid, 0, WANT_EXIT(code));
}

/* A program of the node's own; it has no slot, so only its status is looked at. */
static void native_exec(void)
{
	pid_t pid;
	int st;

	pid = vfork();
	if (pid == 0) {
		execl("/bin/sh", "sh", "-c", "exit 7", (char *)NULL);
		_exit(127);
	}
	if (pid < 0 || waitpid(pid, &st, 0) != pid)
		diff(me.slot, "sh on node %d: %s", here(), strerror(errno));
	else if (st != WANT_EXIT(7))
		diff(me.slot, "sh on node %d: status %#x", here(), st);
}

static void step(uint64_t *rng, int depth)
{
	switch (roll(rng, 6)) {
	case 0:
	case 1:
		live((int)roll(rng, 60));
		break;
	case 2:
	case 3:
		do_move(other_node(rng, true));
		break;
	case 4:
		native_child(rng);
		break;
	case 5:
		if (depth > 0 && here() >= 0)
			native_exec();
		break;
	}
}

static void steps(uint64_t *rng, int depth)
{
	for (uint32_t i = roll(rng, 5) + 1; i > 0 && !led->stop; i--)
		step(rng, depth);
}

static void op_rfork(uint64_t *rng)
{
	int node = other_node(rng, true), code = a_code(rng), slot = slot_new();
	uint64_t seed = mix(*rng, 2);
	pid_t pid = do_rfork(slot, node);

	if (pid == 0) {
		steps(&seed, 1);
		leave(code);
	}
	if (pid > 0)
		do_wait(slot, pid, 0, WANT_EXIT(code));
}

static void op_move(uint64_t *rng)
{
	int code = a_code(rng), slot = slot_new();
	uint64_t seed = mix(*rng, 3);
	pid_t pid = do_fork(slot);

	if (pid == 0) {
		for (uint32_t i = roll(&seed, 6) + 1; i > 0 && !led->stop; i--) {
			do_move(other_node(&seed, true));
			live((int)roll(&seed, 20));
		}
		leave(code);
	}
	if (pid > 0)
		do_wait(slot, pid, 0, WANT_EXIT(code));
}

static void op_exec(uint64_t *rng, bool execmove)
{
	int node = other_node(rng, false), code = a_code(rng), slot = slot_new();
	uint64_t seed = mix(*rng, 4);
	pid_t pid = do_fork(slot);

	if (pid == 0) {
		do_exec(execmove, node, seed, code);
		leave(code);
	}
	if (pid > 0)
		do_wait(slot, pid, 0, WANT_EXIT(code));
}

/* One that beats until a signal ends it. */
static pid_t beater(uint64_t *rng, int slot, bool home)
{
	int node = other_node(rng, home);
	pid_t pid = do_rfork(slot, node);

	while (pid == 0) {
		tick();
		nap_ms(4);
	}
	return pid;
}

static void op_kill(uint64_t *rng)
{
	int slot = slot_new(), sig = a_deadly_signal(rng), ms = (int)roll(rng, 60);
	pid_t pid = beater(rng, slot, true);

	if (pid <= 0)
		return;
	live(ms);
	do_signal_wait(slot, pid, sig, 0, WANT_SIGNAL(sig));
}

/* After its stop was told nothing beats; tick() of the child looks at the flag. */
static bool stop_once(int slot, pid_t pid, int ms)
{
	struct slot *s = &led->slot[slot];

	if (!do_signal_wait(slot, pid, SIGSTOP, WUNTRACED, WANT_STOP(SIGSTOP)))
		return false;
	atomic_fetch_or(&s->flags, SLOT_STOPPED);
	live(ms);
	atomic_fetch_and(&s->flags, ~(uint32_t)SLOT_STOPPED);
	return do_signal_wait(slot, pid, SIGCONT, WCONTINUED, WANT_CONT);
}

static void op_stop(uint64_t *rng)
{
	int slot = slot_new(), ms = (int)roll(rng, 60), times = (int)roll(rng, 3) + 1;
	int sig = a_deadly_signal(rng);
	pid_t pid = beater(rng, slot, true);

	if (pid <= 0)
		return;
	live(ms);
	while (times-- > 0)
		if (!stop_once(slot, pid, ms))
			return;
	do_signal_wait(slot, pid, sig, 0, WANT_SIGNAL(sig));
}

static void op_forks(uint64_t *rng)
{
	int node = other_node(rng, false), code = a_code(rng), slot = slot_new();
	uint64_t seed = mix(*rng, 5);
	pid_t pid = do_rfork(slot, node), kid[12];
	int kid_slot[12], kid_code[12], n;

	if (pid > 0)
		do_wait(slot, pid, 0, WANT_EXIT(code));
	if (pid != 0)
		return;
	n = (int)roll(&seed, 12) + 1;
	for (int i = 0; i < n; i++) {
		kid_slot[i] = slot_new();
		kid_code[i] = a_code(&seed);
		kid[i] = do_fork(kid_slot[i]);
		if (kid[i] == 0) {
			live((int)roll(&seed, 40));
			leave(kid_code[i]);
		}
	}
	for (int i = n - 1; i >= 0; i--)
		if (kid[i] > 0)
			do_wait(kid_slot[i], kid[i], 0, WANT_EXIT(kid_code[i]));
	leave(code);
}

static void op_worker(uint64_t *rng, int depth)
{
	int node = other_node(rng, false), code = a_code(rng), slot = slot_new();
	uint64_t seed = mix(*rng, 6);
	pid_t pid = do_rfork(slot, node);

	if (pid == 0) {
		for (uint32_t i = roll(&seed, 3) + 1; i > 0 && !led->stop; i--)
			op_any(mix(seed, i), depth - 1);
		leave(code);
	}
	if (pid > 0)
		do_wait(slot, pid, 0, WANT_EXIT(code));
}

/* Long-lived, now here, now there. */
static void op_roam(uint64_t *rng)
{
	int code = a_code(rng), slot = slot_new(), ms = (int)roll(rng, 4000);
	uint64_t seed = mix(*rng, 7);
	int64_t end = now_ms() + ms;
	pid_t pid = do_fork(slot);

	if (pid == 0) {
		while (now_ms() < end && !led->stop) {
			do_move(other_node(&seed, true));
			live((int)roll(&seed, 300));
		}
		leave(code);
	}
	if (pid > 0)
		do_wait(slot, pid, 0, WANT_EXIT(code));
}

void op_any(uint64_t seed, int depth)
{
	static const unsigned char dice[] = {OP_RFORK, OP_RFORK,  OP_MOVE,   OP_MOVE, OP_EXECMOVE,
					     OP_REXEC, OP_PIPE,	  OP_PIPE,   OP_STOP, OP_KILL,
					     OP_FORKS, OP_WORKER, OP_WORKER, OP_ROAM,
					     OP_PLACE, OP_PLACE};
	uint64_t rng = seed;
	enum op_kind kind = dice[roll(&rng, sizeof(dice))];

	if ((kind == OP_WORKER && depth <= 0) || (kind == OP_PIPE && here() >= 0))
		kind = OP_RFORK;
	tick();
	note(me.slot, op_name[kind], depth);
	switch (kind) {
	case OP_RFORK:
		op_rfork(&rng);
		break;
	case OP_MOVE:
		op_move(&rng);
		break;
	case OP_EXECMOVE:
	case OP_REXEC:
		op_exec(&rng, kind == OP_EXECMOVE);
		break;
	case OP_PIPE:
		op_pipe(&rng);
		break;
	case OP_STOP:
		op_stop(&rng);
		break;
	case OP_KILL:
		op_kill(&rng);
		break;
	case OP_FORKS:
		op_forks(&rng);
		break;
	case OP_WORKER:
		op_worker(&rng, depth);
		break;
	case OP_ROAM:
		op_roam(&rng);
		break;
	case OP_PLACE:
		op_place(&rng);
		break;
	default:
		break;
	}
	count(kind);
}

void worker(int number)
{
	uint64_t seed = mix(led->seed, (uint64_t)number);

	signal(SIGPIPE, SIG_IGN);
	for (uint64_t i = 0; !led->stop; i++)
		op_any(mix(seed, i), 2);
	leave(0);
}

/* After an exec: --child SLOT SEED CODE */
int child_main(char **argv)
{
	const char *path = getenv(LEDGER_ENV);
	uint64_t seed = strtoull(argv[1], NULL, 10);
	int slot = atoi(argv[0]), code = atoi(argv[2]);
	struct slot *s;

	if (!path || ledger_open(path) < 0 || slot < 0 || slot >= SLOTS)
		return 120;
	slot_again(slot);
	s = &led->slot[slot];
	s->at = s->to;
	s->since = now_ms();
	if (bproc_currnode() != s->at && !fault_near(-1, s->at, now_ms()))
		diff(slot, "after an exec to %d: on node %d", (int)s->at, bproc_currnode());
	steps(&seed, 1);
	leave(code);
}
