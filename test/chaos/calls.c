/*
 * The calls under test, each judged at once: what it may return is what its manual
 * says, and a failure or a SIGKILL is forgiven only if a fault was near enough in
 * place and time. Runs in every process of the load.
 */
#include <signal.h>

#include "chaos.h"

extern char **environ;

int here(void)
{
	return led->slot[me.slot].at;
}

int other_node(uint64_t *rng, bool home)
{
	int n;

	do
		n = (int)roll(rng, (uint32_t)led->nodes + home) - home;
	while (n == here());
	return n;
}

/* Errors that the manual lists for a node or a daemon that is away. */
static bool excusable(int e)
{
	static const int list[] = {BE_NODEDOWN, BE_SLAVEDIED, BE_INVALIDPROC, EAGAIN,
				   EIO,		EPIPE,	      EBADMSG,	      EBUSY,
				   ETIMEDOUT,	ECONNREFUSED, ECONNRESET,     ENOTCONN,
				   ENOENT,	EHOSTUNREACH, ENETUNREACH};

	for (size_t i = 0; i < sizeof(list) / sizeof(*list); i++)
		if (list[i] == e)
			return true;
	return false;
}

static bool excusable_byte(int e)
{
	return excusable(e) || excusable(e + 256);
}

static void judge(const char *call, int from, int to, int64_t t0, int e)
{
	atomic_fetch_add(&led->failed_calls, 1);
	note(me.slot, call, -e);
	/* The copy that was arriving has got the SIGKILL: the original goes on. */
	if (e == ESRCH && led->slot[me.slot].flags & SLOT_KILLED)
		return;
	if (!fault_near(from, to, t0))
		diff(me.slot, "%s from %d to %d failed without a fault: %s (%s)", call, from, to,
		     bproc_strerror(e), bproc_errtext());
	else if (!excusable(e))
		diff(me.slot, "%s from %d to %d: no error for a fault: %d %s (%s)", call, from, to,
		     e, bproc_strerror(e), bproc_errtext());
}

pid_t do_fork(int slot)
{
	int node = here();
	pid_t pid;

	atomic_fetch_add(&led->call[CALL_FORK], 1);
	pid = fork();
	if (pid == 0)
		slot_begin(slot, node);
	if (pid < 0)
		diff(me.slot, "fork: %s", strerror(errno));
	else if (pid > 0)
		note(me.slot, "forked", pid);
	return pid;
}

/* Where its birth may be looked for, should it end before it says so itself. */
static void destined(int slot, int node)
{
	struct slot *s = &led->slot[slot];

	s->to = node;
	s->since = now_ms();
}

pid_t do_rfork(int slot, int node)
{
	int64_t t0 = now_ms();
	uint32_t was = SLOT_NEW;
	int e, from = here();
	pid_t pid;

	atomic_fetch_add(&led->call[CALL_RFORK], 1);
	note(me.slot, "rfork to", node);
	destined(slot, node);
	pid = bproc_rfork(node);
	e = errno;
	if (pid == 0) {
		slot_begin(slot, node);
		if (bproc_currnode() != node && !fault_near(from, node, t0))
			diff(slot, "after an rfork to %d: on node %d", node, bproc_currnode());
		return 0;
	}
	if (pid > 0) {
		note(me.slot, "rforked", pid);
		led->slot[slot].pid = pid;
		return pid;
	}
	/* Unless it ran there, unheard of, until that node was fenced: as take_up() says. */
	if (atomic_compare_exchange_strong(&led->slot[slot].state, &was, SLOT_REVOKED))
		;
	else if (e == BE_SLAVEDIED && deadly_near(node, t0))
		led->slot[slot].state = SLOT_TOLD;
	else
		diff(slot, "rfork to %d said %s, but the child has run", node, bproc_strerror(e));
	errno = e;
	judge("rfork", from, node, t0, e);
	return -1;
}

/*
 * After a move that failed. It may have run there, unheard of, until that node was dead or
 * fenced: then the one that was kept here, of a rexec the caller, goes on from where it left
 * (doc/move.md, "8, ran, not heard of"). Should the other one still be there, its next beat
 * will show it.
 */
static void take_up(int from, int node, int64_t t0, int e)
{
	struct slot *s = &led->slot[me.slot];

	if (e == BE_SLAVEDIED && deadly_near(node, t0) && s->beat != me.beat) {
		me.beat = s->beat;
		s->at = from;
		s->state = SLOT_RUNNING;
		s->again = true;
		note(me.slot, "taken up again", (int)me.beat);
	}
}

int do_move(int node)
{
	struct slot *s = &led->slot[me.slot];
	int64_t t0 = now_ms();
	int r, e, from = here();

	tick();
	atomic_fetch_add(&led->call[CALL_MOVE], 1);
	note(me.slot, "move to", node);
	s->to = node;
	s->since = t0;
	r = bproc_move(node);
	e = errno;
	if (r < 0)
		take_up(from, node, t0, e);
	tick();
	if (r < 0) {
		judge("move", from, node, t0, e);
		s->to = from;
		return -1;
	}
	s->at = node;
	note(me.slot, "moved to", node);
	if (bproc_currnode() != node && !fault_near(from, node, t0))
		diff(me.slot, "after a move to %d: on node %d", node, bproc_currnode());
	return 0;
}

/* Does not return, unless the exec fails. */
void do_exec(bool execmove, int node, uint64_t seed, int code)
{
	struct slot *s = &led->slot[me.slot];
	char slot_text[16], seed_text[32], code_text[16];
	char child[] = "--child";
	char *argv[] = {led->program, child, slot_text, seed_text, code_text, NULL};
	int64_t t0 = now_ms();
	int r, e, from = here();

	snprintf(slot_text, sizeof(slot_text), "%d", me.slot);
	snprintf(seed_text, sizeof(seed_text), "%llu", (unsigned long long)seed);
	snprintf(code_text, sizeof(code_text), "%d", code);
	tick();
	atomic_fetch_add(&led->call[CALL_EXEC], 1);
	note(me.slot, execmove ? "execmove to" : "rexec on", node);
	s->to = node;
	s->since = t0;
	s->exec = execmove;
	s->exec_to = execmove ? node : NODE_ALL;
	s->exec_at = t0;
	s->state = SLOT_EXEC;
	r = execmove ? bproc_execmove(node, led->program, argv, environ)
		     : bproc_rexec(node, led->program, argv, environ);
	e = errno;
	s->state = SLOT_RUNNING;
	if (r < 0)
		take_up(from, node, t0, e);
	tick();
	if (r < 0)
		judge(execmove ? "execmove" : "rexec", from, node, t0, e);
	else
		diff(me.slot, "an exec returned %d", r);
	s->to = from;
}

static void do_signal(int slot, pid_t pid, int sig)
{
	atomic_fetch_add(&led->call[CALL_SIGNAL], 1);
	note(slot, "gets signal", sig);
	if (sig != SIGSTOP && sig != SIGCONT)
		atomic_fetch_or(&led->slot[slot].flags, SLOT_DOOMED);
	if (kill(pid, sig) < 0)
		diff(slot, "kill(%d, %d): %s", (int)pid, sig, strerror(errno));
}

static const char *status_text(int st, char *buf, size_t size)
{
	if (WIFEXITED(st))
		snprintf(buf, size, "exit %d", WEXITSTATUS(st));
	else if (WIFSIGNALED(st))
		snprintf(buf, size, "killed by %d", WTERMSIG(st));
	else if (WIFSTOPPED(st))
		snprintf(buf, size, "stopped by %d", WSTOPSIG(st));
	else
		snprintf(buf, size, "status %#x", st);
	return buf;
}

/*
 * An execmove that fails after the exec has nothing to return to (bproc_execmove(3)). It may have
 * run there, unheard of, until that node died: then the original fails all the same (take_up()).
 */
static bool execmove_failed(const struct slot *s, int st)
{
	if (!WIFEXITED(st) || !excusable_byte(WEXITSTATUS(st)))
		return false;
	if (s->exec)
		return fault_near(s->at, s->to, s->since);
	return s->exec_to == s->at && deadly_near(s->at, s->exec_at);
}

/* The copy of its parent that was lost has waited for it, which nobody may have heard of. */
static bool waited_before(const struct slot *s)
{
	return led->slot[me.slot].again && s->told >= 0;
}

/* Its parent knows. Returns whether this is what was ordered. */
static bool judge_end(int slot, int st, int want)
{
	struct slot *s = &led->slot[slot];
	char got[32], wanted[32];
	bool was_ending = s->state == SLOT_ENDING;

	if (waited_before(s) && s->told == st)
		return st == want;
	s->told = st;
	s->flags &= ~(uint32_t)SLOT_STOPPED;
	if (st == want && (!WIFEXITED(st) || was_ending)) {
		s->state = WIFEXITED(st) ? SLOT_FREE : SLOT_TOLD;
		return true;
	}
	s->state = SLOT_TOLD;
	if (WIFSIGNALED(st) && WTERMSIG(st) == SIGKILL && told_by_fault(s)) {
		atomic_fetch_add(&led->killed, 1);
		return false;
	}
	/* A bpslave that ends cuts the standard streams of what is away: bpslave(8). */
	if (WIFSIGNALED(st) && WTERMSIG(st) == SIGPIPE && streams_cut(slot)) {
		atomic_fetch_add(&led->cut, 1);
		return false;
	}
	if (execmove_failed(s, st)) {
		atomic_fetch_add(&led->failed_calls, 1);
		return false;
	}
	diff(slot, "pid %d: wait says %s, ordered was %s%s", (int)s->pid,
	     status_text(st, got, sizeof(got)), status_text(want, wanted, sizeof(wanted)),
	     was_ending ? ", and it had come to its end" : "");
	return false;
}

/* 0: nothing yet; 1: what is wanted, or an end that is judged. */
static int wait_once(int slot, pid_t pid, int flags, int want, int *ret_alive)
{
	int st;
	pid_t r = waitpid(pid, &st, flags | WNOHANG);

	if (r == 0 || (r < 0 && errno == EINTR))
		return 0;
	if (r < 0 && errno == ECHILD && waited_before(&led->slot[slot])) {
		*ret_alive = 0;
		return 1;
	}
	if (r < 0) {
		/* The parent may not know it any more; that is a difference in itself. */
		diff(slot, "waitpid(%d): %s", (int)pid, strerror(errno));
		led->slot[slot].state = SLOT_TOLD;
		*ret_alive = 0;
		return 1;
	}
	note(slot, "wait says", st);
	if (WIFEXITED(st) || WIFSIGNALED(st)) {
		*ret_alive = judge_end(slot, st, want);
		return 1;
	}
	if (st != want)
		return 0; /* an earlier stop or continue, of a signal that was sent again */
	*ret_alive = 1;
	return 1;
}

/* Waits for one event of a child. Returns whether it was the one that was ordered. */
int do_wait(int slot, pid_t pid, int flags, int want)
{
	int64_t t0 = now_ms();
	int alive = 0, pause_ms = 1;

	atomic_fetch_add(&led->call[CALL_WAIT], 1);
	while (!wait_once(slot, pid, flags, want, &alive)) {
		if (led->hold)
			t0 = now_ms();
		if (now_ms() - t0 > PATIENCE_MS) {
			diff(slot, "pid %d: nothing to wait for in %d s (state %u, node %d to %d)",
			     (int)pid, PATIENCE_MS / 1000, led->slot[slot].state,
			     (int)led->slot[slot].at, (int)led->slot[slot].to);
			return 0;
		}
		tick();
		nap_ms(pause_ms);
		if (pause_ms < 8)
			pause_ms++;
	}
	return alive;
}

/* Sends a signal and waits for what it does. It comes once, whatever breaks meanwhile. */
int do_signal_wait(int slot, pid_t pid, int sig, int flags, int want)
{
	const struct slot *s = &led->slot[slot];
	int64_t t0 = now_ms();
	int alive = 0;

	do_signal(slot, pid, sig);
	while (!wait_once(slot, pid, flags, want, &alive)) {
		if (led->hold)
			t0 = now_ms();
		if (now_ms() - t0 > PATIENCE_MS) {
			diff(slot, "pid %d: signal %d did nothing in %d s (node %d to %d)",
			     (int)pid, sig, PATIENCE_MS / 1000, (int)s->at, (int)s->to);
			return 0;
		}
		tick();
		nap_ms(4);
	}
	return alive;
}
