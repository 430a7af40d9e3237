/*
 * Faults, one after the other: each is done with bplab or a signal, repaired, and over
 * when every node is up again. While it lasts, and shortly after, it excuses what a
 * fault of its kind may do to calls and processes near it, and nothing else.
 */
#include <signal.h>

#include "chaos.h"

int run_tool(const char *const *argv)
{
	pid_t pid = fork();
	int st;

	if (pid == 0) {
		execvp(argv[0], (char *const *)argv);
		_exit(127);
	}
	while (waitpid(pid, &st, 0) < 0)
		if (errno != EINTR)
			return -1;
	return WIFEXITED(st) ? WEXITSTATUS(st) : 128;
}

int lab_ask(const char *verb, const char *flag, int node)
{
	const char *argv[5] = {"bplab", verb};
	int n = 2, r;

	if (flag)
		argv[n++] = flag;
	if (node != NODE_ALL)
		argv[n++] = place_name(node);
	r = run_tool(argv);
	if (r != 0)
		diff(-1, "bplab %s %s %d: exit status %d", verb, flag ?: "", node, r);
	return r;
}

/* In that place: a daemon by name, or a process by its number. */
static int signal_there(int node, int sig, const char *who)
{
	char text[16];
	const char *argv[] = {"bplab", "exec", place_name(node), led->program, "--signal", text,
			      who,     NULL};

	snprintf(text, sizeof(text), "%d", sig);
	return run_tool(argv);
}

static bool node_is(int node, const char *state)
{
	char got[BPROC_STATE_LEN + 1] = "";

	return bproc_nodestatus(node, got, sizeof(got)) >= 0 && !strcmp(got, state);
}

static bool await_is(int node, const char *state, bool is, int limit_ms)
{
	int64_t end = now_ms() + limit_ms;

	while (node_is(node, state) != is) {
		if (now_ms() > end)
			return false;
		nap_ms(5);
	}
	return true;
}

static bool await(int node, const char *state, int limit_ms)
{
	return await_is(node, state, true, limit_ms);
}

static bool await_not(int node, const char *state, int limit_ms)
{
	return await_is(node, state, false, limit_ms);
}

/* Only the master answers this, so a new one has told how it finds the nodes. */
static bool master_answers(void)
{
	struct bproc_proc_info_t *list = NULL;
	int n = bproc_proclist(BPROC_NODE_ANY, &list);

	free(list);
	return n >= 0;
}

bool all_up(int limit_ms)
{
	int64_t end = now_ms() + limit_ms;
	int up;

	do {
		if (!master_answers()) {
			nap_ms(10);
			continue;
		}
		up = 0;
		for (int n = 0; n < led->nodes; n++)
			up += node_is(n, "up");
		if (up == led->nodes)
			return true;
		nap_ms(10);
	} while (now_ms() < end);
	return false;
}

/* Also by the watcher, so places are taken at once and a fault counts from its time on. */
static struct fault *begin(enum fault_kind kind, int node)
{
	uint32_t n = atomic_fetch_add(&led->nfault, 1);
	struct fault *f = &led->fault[n];

	if (n >= FAULTS) {
		diff(-1, "more than %d faults: not all are remembered", FAULTS);
		exit(3);
	}
	f->kind = kind;
	f->node = node;
	f->until = 0;
	f->from = now_ms();
	return f;
}

/* In a file beside the logs, to be read with them. */
static void log_fault(const struct fault *f)
{
	static FILE *out;
	char path[300];

	if (!out) {
		snprintf(path, sizeof(path), "%s/faults", getenv("CHAOS_LOGS") ?: "/tmp");
		out = fopen(path, "ae");
	}
	if (!out)
		return;
	fprintf(out, "%s", clock_text(f->from));
	fprintf(out, " to %s: %s, node %d\n", clock_text(f->until), fault_name[f->kind], f->node);
	fflush(out);
}

static void end_fault(struct fault *f)
{
	f->until = now_ms();
	log_fault(f);
}

static bool expected(int node)
{
	uint32_t n = led->nfault;

	for (uint32_t i = n > 8 ? n - 8 : 0; i < n && i < FAULTS; i++) {
		const struct fault *f = &led->fault[i];

		if (f->from && (f->node == node || f->node == NODE_ALL || f->node == -1) &&
		    (f->until == 0 || f->until + SLACK_MS > now_ms()))
			return true;
	}
	return false;
}

/*
 * A node that is given up though nothing was done to it: this machine was too slow for the
 * ping timeout. It is excused like a cut, reported, and ends when the node is up.
 */
void watch_nodes(void)
{
	struct fault *stall[NODES_MAX] = {NULL};
	int64_t seen_up[NODES_MAX] = {0};

	for (;; nap_ms(25)) {
		for (int n = 0; n < led->nodes; n++) {
			int64_t now = now_ms();
			bool up = node_is(n, "up");

			if (up && stall[n]) {
				end_fault(stall[n]);
				stall[n] = NULL;
			} else if (!up && !stall[n] && !expected(n)) {
				stall[n] = begin(FAULT_STALL, n);
				/* Some time after that; this looks seldom on a slow machine. */
				if (seen_up[n])
					stall[n]->from = seen_up[n];
			}
			if (up)
				seen_up[n] = now;
		}
	}
}

/* -- single processes ------------------------------------------------------------ */

/* One that runs, from a random place of the ledger on; -1: none. */
static int victim(uint64_t *rng, bool away)
{
	uint32_t first = roll(rng, SLOTS), top = led->next < SLOTS ? led->next : SLOTS;

	for (uint32_t i = 0; top && i < top; i++) {
		int n = (int)((first + i) % top);
		struct slot *s = &led->slot[n];

		if (s->state == SLOT_RUNNING && s->pid > 0 && !(s->flags & SLOT_SPARED) &&
		    (!away || s->at >= 0))
			return n;
	}
	return -1;
}

static void kill_process(uint64_t *rng, enum fault_kind kind)
{
	int n = victim(rng, kind == FAULT_GHOST), node;
	struct slot *s = &led->slot[n < 0 ? 0 : n];
	struct fault *f;
	char who[16];

	if (n < 0)
		return;
	atomic_fetch_or(&s->flags, SLOT_KILLED);
	node = kind == FAULT_REAL ? s->at : (int)roll(rng, (uint32_t)led->nodes + 1) - 1;
	f = begin(kind, node);
	note(n, "SIGKILL there", node);
	snprintf(who, sizeof(who), "%d", (int)s->pid);
	if (node < 0 || signal_there(node, SIGKILL, who) != 0)
		kill(s->pid, SIGKILL);
	end_fault(f);
}

/* -- machines and daemons ----------------------------------------------------------- */

/* As the master's log has it; -1: there is none. */
static int times_connected(int node)
{
	char path[300], text[64], line[256];
	int n = 0;
	FILE *f;

	snprintf(path, sizeof(path), "%s/bpmaster", getenv("CHAOS_LOGS") ?: "");
	snprintf(text, sizeof(text), "node %d: connected from", node);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f))
		n += strstr(line, text) != NULL;
	if (!f)
		return -1;
	fclose(f);
	return n;
}

/* The master has missed the one before: also if that is over before it could be seen. */
static bool await_new(int node, int was, int limit_ms)
{
	int64_t end = now_ms() + limit_ms;

	while (now_ms() < end)
		if (await_not(node, "up", 300) || times_connected(node) > was)
			return true;
	return false;
}

static void kill_node(uint64_t *rng, int node)
{
	int ms, was = times_connected(node);
	bool till_down = roll(rng, 4) == 0;

	ms = (int)roll(rng, 400);

	lab_ask("kill", NULL, node);
	if (till_down)
		await(node, "down", 6 * led->ping_ms);
	else
		nap_ms(ms);
	lab_ask("start", NULL, node);
	/* Nobody has told the master: it lets the new one in when it has missed the old one. */
	if (!till_down && !await_new(node, was, 3 * led->ping_ms))
		diff(-1, "node %d was killed and is up after %d ms", node, 3 * led->ping_ms);
}

static void cut(uint64_t *rng, enum fault_kind kind, int node)
{
	int ms = (int)roll(rng, (uint32_t)led->ping_ms / 3);

	lab_ask("cut", NULL, node);
	if (kind == FAULT_CUT)
		nap_ms(ms);
	else if (!await(node, "down", 6 * led->ping_ms))
		diff(-1, "node %d is cut off for %d ms and not down", node, 6 * led->ping_ms);
	lab_ask("heal", NULL, node);
}

static void hang(uint64_t *rng, int node)
{
	signal_there(node, SIGSTOP, "bpslave");
	nap_ms((int)roll(rng, (uint32_t)led->ping_ms / 3));
	signal_there(node, SIGCONT, "bpslave");
}

/* Killed, away for a moment, and started again. */
static void kill_daemon(uint64_t *rng, bool master, int node)
{
	int ms = (int)roll(rng, 300);

	lab_ask(master ? "stop-master" : "stop-slave", "--kill", master ? NODE_ALL : node);
	nap_ms(ms);
	lab_ask(master ? "start-master" : "start-slave", NULL, master ? NODE_ALL : node);
}

static void do_fault(uint64_t *rng, enum fault_kind kind, int node)
{
	switch (kind) {
	case FAULT_KILL_NODE:
		kill_node(rng, node);
		break;
	case FAULT_CUT:
	case FAULT_CUT_LONG:
		cut(rng, kind, node);
		break;
	case FAULT_SLAVE:
		lab_ask("restart-slave", NULL, node);
		break;
	case FAULT_HOME:
		lab_ask("restart-slave", NULL, -1);
		break;
	case FAULT_MASTER:
		lab_ask("restart-master", NULL, NODE_ALL);
		break;
	case FAULT_SLAVE_KILL:
	case FAULT_HOME_KILL:
	case FAULT_MASTER_KILL:
		kill_daemon(rng, kind == FAULT_MASTER_KILL, node);
		break;
	case FAULT_HANG:
		hang(rng, node);
		break;
	default:
		break;
	}
}

static int where(enum fault_kind kind, int node)
{
	if (kind == FAULT_MASTER || kind == FAULT_MASTER_KILL)
		return NODE_ALL;
	return kind == FAULT_HOME || kind == FAULT_HOME_KILL ? -1 : node;
}

void fault_one(uint64_t seed, bool overlap)
{
	static const unsigned char dice[] = {FAULT_KILL_NODE,	FAULT_KILL_NODE,   FAULT_CUT,
					     FAULT_CUT,		FAULT_CUT_LONG,	   FAULT_SLAVE,
					     FAULT_SLAVE_KILL,	FAULT_SLAVE_KILL,  FAULT_HOME,
					     FAULT_HOME_KILL,	FAULT_HOME_KILL,   FAULT_MASTER,
					     FAULT_MASTER_KILL, FAULT_MASTER_KILL, FAULT_HANG,
					     FAULT_REAL,	FAULT_REAL,	   FAULT_REAL,
					     FAULT_GHOST,	FAULT_GHOST,	   FAULT_GHOST};
	uint64_t rng = seed;
	enum fault_kind kind = dice[roll(&rng, sizeof(dice))];
	int node = (int)roll(&rng, (uint32_t)led->nodes);
	struct fault *f;

	if (kind == FAULT_REAL || kind == FAULT_GHOST) {
		kill_process(&rng, kind);
		return;
	}
	f = begin(kind, where(kind, node));
	do_fault(&rng, kind, where(kind, node) == NODE_ALL ? node : where(kind, node));
	if (!overlap && !all_up(PATIENCE_MS))
		diff(-1, "%s, node %d: not everything is up %d s later", fault_name[kind], node,
		     PATIENCE_MS / 1000);
	end_fault(f);
}

/* Every daemon but the bpinits, so that the master's table is made anew of theirs. */
void fault_rebuild(void)
{
	struct fault *f = begin(FAULT_REBUILD, NODE_ALL);

	for (int n = -1; n < led->nodes; n++)
		lab_ask("restart-slave", NULL, n);
	lab_ask("restart-master", "--kill", NODE_ALL);
	nap_ms(led->ping_ms / 8);
	if (!all_up(PATIENCE_MS))
		diff(-1, "not everything is up after all daemons were restarted");
	end_fault(f);
}
