/*
 * bpinit: the fence. Everything of the node ends before the master may say that it
 * has: when bpslave orders it, and by the clock when there is no bpslave that could,
 * since it was killed, hangs or was never started again. doc/wire.md, section 4.
 */
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include "slaved/bpinit_kill.h"

static struct {
	uint64_t until_ms; /* CLOCK_BOOTTIME: a machine that sleeps is cut off too; 0: no limit */
	bool up;
} fence;

static uint64_t boot_ms(void)
{
	return (uint64_t)clock_ns(CLOCK_BOOTTIME) / 1000000;
}

void init_fence(void)
{
	if (self.keeper) {
		say("the front end is never fenced");
		return;
	}
	say("cut off for too long: every process here is ended");
	fence.up = true;
	fence.until_ms = 0;
	kill_forget_all();
	/* First: what has not run must not, and may have no process yet that a signal finds. */
	arrive_fence();
	for (uint32_t i = 0; i < procs_used; i++)
		procs[i].dying = procs[i].state != PROC_FREE;
	/* All of this pid namespace but us, who are its pid 1. */
	if (getpid() == 1)
		own_kill(-1, SIGKILL);
	for (uint32_t i = 0; i < procs_used; i++)
		if (procs[i].state == PROC_GHOST && procs[i].exiting)
			trace_exit(&procs[i], SIGKILL);
}

void init_alive(const struct init_msg *m)
{
	if (m->u.alive.ms)
		ran_keep(m->u.alive.ms);
	if (!self.keeper && m->u.alive.ms && !fence.up)
		fence.until_ms = boot_ms() + m->u.alive.ms;
}

void fence_lift(void)
{
	fence.up = false;
}

bool fence_is_up(void)
{
	return fence.up;
}

int fence_tick(int ms)
{
	uint64_t now;

	if (!fence.until_ms)
		return ms;
	now = boot_ms();
	if (now >= fence.until_ms) {
		init_fence();
		return ms;
	}
	/* The loop wakes a little late rather than twice. */
	if (ms < 0 || fence.until_ms - now < (uint64_t)ms)
		return (int)(fence.until_ms - now) + 1;
	return ms;
}
