/*
 * Groups and sessions: a process on a node makes one, has children who join it or make
 * their own, and all go round. Where each is, it finds itself in what it made; the
 * books compare that with its ghost at home.
 */
#include "chaos.h"

/*
 * Whose parent was killed, and with it the leader of its session, is in that of process 1 where it
 * goes then (bproc(7)).
 */
static bool is_orphan(void)
{
	const struct slot *parent = &led->slot[led->slot[me.slot].parent];

	/* That it was killed its own parent may still have to hear. */
	return parent->state != SLOT_RUNNING || getppid() == 1;
}

static void stays(pid_t group, pid_t session)
{
	int64_t t0 = now_ms();
	pid_t g, s;

	/* Made while home was away, it is told to others when that is back. */
	while ((g = getpgrp(), s = getsid(0), g != group || s != session) &&
	       fault_near(here(), -1, t0) && now_ms() - t0 < SLACK_MS)
		live(4);
	if (s == 1 && is_orphan())
		return;
	if (g != group)
		diff(me.slot, "on node %d its group is %d, not %d", here(), (int)g, (int)group);
	if (s != session)
		diff(me.slot, "on node %d its session is %d, not %d", here(), (int)s, (int)session);
}

/* It waits for home, however long that is away; the node may be fenced meanwhile, it not fail. */
static void make(bool session)
{
	int64_t t0 = now_ms();
	int r;

	tick();
	note(me.slot, session ? "setsid" : "setpgid", here());
	r = session ? setsid() : setpgid(0, 0);
	if (r < 0 && !fault_near(here(), -1, t0))
		diff(me.slot, "%s on node %d: %s", session ? "setsid" : "setpgid", here(),
		     strerror(errno));
	note(me.slot, "is in", getpgrp());
	tick();
}

static void go_round(uint64_t *rng, pid_t group, pid_t session)
{
	for (uint32_t i = roll(rng, 3); i > 0 && !led->stop; i--) {
		do_move(other_node(rng, true));
		stays(group, session);
		live((int)roll(rng, 40));
	}
	stays(group, session);
}

static pid_t member(uint64_t seed, int slot, int code)
{
	pid_t pid = do_fork(slot);

	if (pid)
		return pid;
	if (roll(&seed, 2))
		make(false);
	go_round(&seed, getpgrp(), getsid(0));
	leave(code);
}

void op_place(uint64_t *rng)
{
	int node = other_node(rng, true), slot = slot_new(), kid_slot[3], kid_code[3], n;
	int code = (int)roll(rng, 97) + 1;
	uint64_t seed = mix(*rng, 8);
	pid_t pid = do_rfork(slot, node), kid[3];

	if (pid > 0)
		do_wait(slot, pid, 0, WANT_EXIT(code));
	if (pid != 0)
		return;
	make(roll(&seed, 2));
	n = (int)roll(&seed, 3) + 1;
	for (int i = 0; i < n; i++) {
		kid_slot[i] = slot_new();
		kid_code[i] = (int)roll(&seed, 97) + 1;
		kid[i] = member(mix(seed, (uint64_t)i), kid_slot[i], kid_code[i]);
	}
	go_round(&seed, getpgrp(), getsid(0));
	for (int i = n - 1; i >= 0; i--)
		if (kid[i] > 0)
			do_wait(kid_slot[i], kid[i], 0, WANT_EXIT(kid_code[i]));
	leave(code);
}
