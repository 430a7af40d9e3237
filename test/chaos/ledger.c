/*
 * The ledger and what a process does with its own page of it: heart-beats, notes of
 * its past, differences. Runs in every process of the chaos test, on every node.
 */
#include <fcntl.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <time.h>

#include "chaos.h"

struct ledger *led;
struct me me = {.slot = -1};

const char *const op_name[OP_KINDS] = {
	[OP_RFORK] = "rfork", [OP_MOVE] = "move",   [OP_EXECMOVE] = "execmove",
	[OP_REXEC] = "rexec", [OP_PIPE] = "pipe",   [OP_STOP] = "stop",
	[OP_KILL] = "kill",   [OP_FORKS] = "forks", [OP_WORKER] = "worker on a node",
	[OP_ROAM] = "roam",
	[OP_PLACE] = "group",
};
const char *const call_name[CALL_KINDS] = {
	[CALL_FORK] = "fork", [CALL_RFORK] = "rfork",	[CALL_MOVE] = "move",
	[CALL_EXEC] = "exec", [CALL_SIGNAL] = "signal", [CALL_WAIT] = "wait",
};
const char *const fault_name[FAULT_KINDS] = {
	[FAULT_KILL_NODE] = "node killed",
	[FAULT_CUT] = "cut for a moment",
	[FAULT_CUT_LONG] = "cut until fenced",
	[FAULT_SLAVE] = "bpslave restarted",
	[FAULT_SLAVE_KILL] = "bpslave killed",
	[FAULT_HOME] = "home's bpslave restarted",
	[FAULT_HOME_KILL] = "home's bpslave killed",
	[FAULT_MASTER] = "bpmaster restarted",
	[FAULT_MASTER_KILL] = "bpmaster killed",
	[FAULT_HANG] = "bpslave hung",
	[FAULT_REAL] = "process killed",
	[FAULT_GHOST] = "ghost killed",
	[FAULT_REBUILD] = "all daemons restarted",
	[FAULT_STALL] = "given up by itself",
};

int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

void nap_ms(int ms)
{
	struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L};

	while (nanosleep(&t, &t) < 0 && errno == EINTR)
		;
}

/* splitmix64, as published by S. Vigna (public domain): the finaliser. */
uint64_t mix(uint64_t a, uint64_t b)
{
	uint64_t z = a * 0x9e3779b97f4a7c15u + b + 0x632be59bd9b4e019u;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

uint32_t roll(uint64_t *rng, uint32_t n)
{
	*rng += 0x9e3779b97f4a7c15u;
	return (uint32_t)(mix(*rng, 0) >> 33) % n;
}

int ledger_open(const char *path)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	led = mmap(NULL, sizeof(*led), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	return led == MAP_FAILED ? -errno : 0;
}

int ledger_make(const char *path)
{
	int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	int r;

	if (fd < 0)
		return -errno;
	r = ftruncate(fd, sizeof(*led)) < 0 ? -errno : 0;
	close(fd);
	return r < 0 ? r : ledger_open(path);
}

void note(int slot, const char *what, int arg)
{
	struct slot *s = &led->slot[slot];
	struct past *p = &s->past[atomic_fetch_add(&s->npast, 1) % PAST];

	*p = (struct past){.t_ms = now_ms(), .node = s->at, .arg = arg};
	snprintf(p->what, sizeof(p->what), "%s", what);
}

void diff(int slot, const char *fmt, ...)
{
	uint32_t n = atomic_fetch_add(&led->ndiff, 1);
	va_list ap;

	if (slot >= 0)
		note(slot, "DIFFERENCE", (int)n);
	if (n >= DIFFS)
		return;
	va_start(ap, fmt);
	vsnprintf(led->diff[n].text, sizeof(led->diff[n].text), fmt, ap);
	va_end(ap);
	led->diff[n].slot = slot;
	led->diff[n].ready = 1;
}

/* Round and round, so that what has ended is remembered for a while. */
int slot_new(void)
{
	for (int i = 0; i < SLOTS; i++) {
		int n = (int)(atomic_fetch_add(&led->next, 1) % SLOTS);
		struct slot *s = &led->slot[n];
		uint32_t was = SLOT_FREE;

		if (!atomic_compare_exchange_strong(&s->state, &was, SLOT_NEW))
			continue;
		s->flags = 0;
		s->beat = 0;
		s->pid = 0;
		s->parent = me.slot;
		s->at = s->to = me.slot >= 0 ? led->slot[me.slot].at : -1;
		s->since = s->born = now_ms();
		s->exec = s->again = false;
		s->told = -1;
		s->exec_to = NODE_ALL;
		s->npast = 0;
		memset(s->past, 0, sizeof(s->past));
		note(n, "new, parent", me.slot);
		return n;
	}
	diff(-1, "all slots of the ledger are taken");
	exit(3);
}

static void claim(int slot, uint32_t was, const char *what)
{
	struct slot *s = &led->slot[slot];
	uint32_t got = was;

	if (!atomic_compare_exchange_strong(&s->state, &got, SLOT_RUNNING))
		diff(slot, "pid %d runs in slot %d after %s, whose state is %u: a second copy",
		     (int)getpid(), slot, what, got);
}

void slot_begin(int slot, int node)
{
	struct slot *s = &led->slot[slot];

	me = (struct me){.slot = slot};
	claim(slot, SLOT_NEW, "its birth");
	s->pid = getpid();
	s->at = s->to = node;
	s->since = now_ms();
	note(slot, "runs", getpid());
	tick();
}

void slot_again(int slot)
{
	struct slot *s = &led->slot[slot];

	me = (struct me){.slot = slot, .beat = s->beat};
	claim(slot, SLOT_EXEC, "an exec");
	if (s->pid != getpid())
		diff(slot, "pid %d was %d before its exec", (int)getpid(), (int)s->pid);
	s->exec = false;
	note(slot, "execed", getpid());
	tick();
}

/*
 * The most important line of the test: two copies have the same number in memory, and
 * only one of them finds it in the ledger.
 */
static void beat(void)
{
	struct slot *s = &led->slot[me.slot];
	uint64_t got = me.beat;

	if (!atomic_compare_exchange_strong(&s->beat, &got, me.beat + 1)) {
		diff(me.slot, "pid %d runs twice: its heart-beat is %llu, the ledger's %llu",
		     (int)getpid(), (unsigned long long)me.beat, (unsigned long long)got);
		_exit(98);
	}
	me.beat++;
	if (s->state != SLOT_RUNNING && s->state != SLOT_ENDING) {
		diff(me.slot, "pid %d runs after its end was told (state %u)", (int)getpid(),
		     s->state);
		_exit(98);
	}
	if (s->flags & SLOT_STOPPED)
		diff(me.slot, "pid %d runs after its stop was told", (int)getpid());
}

void tick(void)
{
	beat();
	while (led->hold && !led->stop) {
		nap_ms(20);
		beat();
	}
}

void live(int ms)
{
	int64_t end = now_ms() + ms;

	do {
		tick();
		nap_ms(4);
	} while (now_ms() < end && !led->stop);
}

void leave(int code)
{
	tick();
	note(me.slot, "ends", code);
	atomic_fetch_add(&led->beats, me.beat);
	led->slot[me.slot].state = SLOT_ENDING;
	_exit(code);
}

/* -- what a fault excuses ------------------------------------------------------ */

static bool deadly(int kind)
{
	return kind == FAULT_KILL_NODE || kind == FAULT_CUT_LONG || kind == FAULT_STALL;
}

/* Was the fault there at any time since t0? */
static bool overlaps(const struct fault *f, int64_t t0)
{
	int64_t until = f->until;

	return f->from != 0 && f->from <= now_ms() && (until == 0 || until + SLACK_MS >= t0);
}

static bool near(int node, int64_t t0, bool only_deadly)
{
	uint32_t n = led->nfault;

	for (uint32_t i = 0; i < n && i < FAULTS; i++) {
		const struct fault *f = &led->fault[i];

		if (f->kind == FAULT_REAL || f->kind == FAULT_GHOST)
			continue;
		if ((f->node == node || f->node == NODE_ALL) && (!only_deadly || deadly(f->kind)) &&
		    overlaps(f, t0))
			return true;
	}
	return false;
}

bool deadly_near(int node, int64_t t0)
{
	return near(node, t0, true);
}

bool told_by_fault(const struct slot *s)
{
	if (s->flags & SLOT_KILLED)
		return true;
	return deadly_near(s->at, s->since) || deadly_near(s->to, s->since);
}

/* Has any bpslave ended since its birth? It may have been on any node. */
bool streams_cut(int slot)
{
	const struct slot *s = &led->slot[slot];

	for (uint32_t i = 0; i < led->nfault && i < FAULTS; i++) {
		const struct fault *f = &led->fault[i];
		bool ends = f->kind == FAULT_SLAVE || f->kind == FAULT_SLAVE_KILL ||
			    f->kind == FAULT_HOME || f->kind == FAULT_HOME_KILL ||
			    f->kind == FAULT_REBUILD || deadly(f->kind);

		if (ends && overlaps(f, s->born))
			return true;
	}
	return false;
}

/* Home takes part in everything: its bpslave hands on what nodes say. */
bool fault_near(int from, int to, int64_t t0)
{
	return near(from, t0, false) || near(to, t0, false) || near(-1, t0, false);
}
