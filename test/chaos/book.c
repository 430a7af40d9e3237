/*
 * The books against the truth: bpmaster's table (as bpstat shows it), the ghosts at
 * home, the processes and ghosts of each node, and the ledger. Bpinit's tables are
 * compared by making the master's anew out of them (chaos.c restarts it) and comparing
 * again.
 */
#include <stdarg.h>

#include "chaos.h"

enum {
	LIST_MAX = 48,
	DAEMONS_MAX = 4 * (NODES_MAX + 1),
	FDS_MORE = 24,
	RSS_MORE_KIB = 24576,
	STEADY_LOOKS = 3, /* alike, one after the other */
	SPARE_MS = 40000  /* data connections that are not needed are closed after 20 s */
};

struct books {
	struct place place[NODES_MAX + 1]; /* the front end first */
	struct bproc_proc_info_t *table;
	int ntable;
};

static struct {
	char text[LIST_MAX][200];
	int pid[LIST_MAX];
	int n;
} list;

static struct place *place_of(struct books *b, int node)
{
	return &b->place[node + 1];
}

static void differs(int pid, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void differs(int pid, const char *fmt, ...)
{
	va_list ap;

	if (list.n >= LIST_MAX)
		return;
	list.pid[list.n] = pid;
	va_start(ap, fmt);
	vsnprintf(list.text[list.n++], sizeof(list.text[0]), fmt, ap);
	va_end(ap);
}

bool book_names(const char *text)
{
	for (int i = 0; i < list.n; i++)
		if (strstr(list.text[i], text))
			return true;
	return false;
}

static void free_books(struct books *b)
{
	for (int i = 0; i <= led->nodes; i++)
		place_free(&b->place[i]);
	free(b->table);
	*b = (struct books){0};
}

static int gather(struct books *b)
{
	*b = (struct books){0};
	b->ntable = bproc_proclist(BPROC_NODE_ANY, &b->table);
	if (b->ntable < 0) {
		differs(0, "bproc_proclist: %s", bproc_errtext());
		return -1;
	}
	for (int n = -1; n < led->nodes; n++) {
		if (look_at(n, place_of(b, n)) < 0) {
			differs(0, "node %d cannot be looked at", n);
			return -1;
		}
	}
	return 0;
}

static const struct seen *find(const struct place *p, int pid)
{
	for (int i = 0; i < p->nproc; i++)
		if (p->proc[i].pid == pid)
			return &p->proc[i];
	return NULL;
}

static bool is_real(const struct seen *s)
{
	return s && s->pid != 1 && !s->tracer && s->state != 'Z' && s->state != 'X';
}

static bool is_ghost(const struct seen *s)
{
	return s && s->tracer && s->state != 'Z' && s->state != 'X';
}

static int in_table(const struct books *b, int pid)
{
	for (int i = 0; i < b->ntable; i++)
		if (b->table[i].pid == pid)
			return b->table[i].node;
	return BPROC_NODE_NONE;
}

/* How many are real, and on which node the last one is; zombies make it -1. */
static int count_real(struct books *b, int pid, int *ret_node)
{
	int n = 0;
	bool zombie = false;

	for (int node = -1; node < led->nodes; node++) {
		const struct seen *s = find(place_of(b, node), pid);

		zombie = zombie || (s && s->state == 'Z');
		if (!is_real(s))
			continue;
		n++;
		*ret_node = node;
	}
	return n == 0 && zombie ? -1 : n;
}

/* It and its ghost at home are in one group and one session; but see is_orphan() in place.c. */
static void check_place(struct books *b, const struct seen *there, const struct seen *home,
			int node)
{
	if (there->sid == 1 && !find(place_of(b, -1), home->sid))
		return;
	if (there->pgid != home->pgid || there->sid != home->sid)
		differs(there->pid, "pid %d: group %d and session %d on node %d, %d and %d at home",
			there->pid, there->pgid, there->sid, node, home->pgid, home->sid);
}

static void check_table(struct books *b)
{
	for (int i = 0; i < b->ntable; i++) {
		int pid = b->table[i].pid, node = b->table[i].node;
		const struct seen *there, *home = find(place_of(b, -1), pid);

		if (node < 0 || node >= led->nodes) {
			differs(pid, "pid %d: the table has it on node %d", pid, node);
			continue;
		}
		there = find(place_of(b, node), pid);
		if (!is_real(there))
			differs(pid, "pid %d: in the table on node %d, there it is %s", pid, node,
				!there		  ? "not"
				: is_ghost(there) ? "a ghost"
						  : "a zombie");
		if (!is_ghost(home))
			differs(pid, "pid %d: in the table on node %d, at home it is %s", pid, node,
				!home		     ? "not"
				: home->state == 'Z' ? "a zombie"
						     : "real");
		if (is_real(there) && is_ghost(home))
			check_place(b, there, home, node);
	}
}

static void check_node(struct books *b, int node)
{
	const struct place *p = place_of(b, node);

	for (int i = 0; i < p->nproc; i++) {
		const struct seen *s = &p->proc[i];
		int at = in_table(b, s->pid), real_on = BPROC_NODE_NONE;

		if (is_real(s) && node >= 0 && at != node)
			differs(s->pid, "pid %d (%s): real on node %d, in the table on node %d",
				s->pid, s->name, node, at);
		if (is_ghost(s) && node < 0 && at == BPROC_NODE_NONE)
			differs(s->pid, "pid %d (%s): a ghost at home, the table has it not",
				s->pid, s->name);
		if (is_ghost(s) && node >= 0 && count_real(b, s->pid, &real_on) == 0)
			differs(s->pid, "pid %d (%s): a ghost on node %d of nobody", s->pid,
				s->name, node);
	}
}

static bool is_orphan_that_was_killed(const struct slot *s)
{
	return s->flags & SLOT_DOOMED && s->parent >= 0 &&
	       led->slot[s->parent].state != SLOT_RUNNING;
}

static void check_slot(struct books *b, int n)
{
	struct slot *s = &led->slot[n];
	int node = BPROC_NODE_NONE, real;

	if ((s->state != SLOT_RUNNING && s->state != SLOT_EXEC) || s->pid <= 0)
		return;
	real = count_real(b, s->pid, &node);
	if (real > 1)
		differs(s->pid, "pid %d: real on %d nodes", (int)s->pid, real);
	else if (real == 0 && !told_by_fault(s) && !is_orphan_that_was_killed(s))
		differs(s->pid, "pid %d: vanished from node %d (to %d), its parent was not told",
			(int)s->pid, (int)s->at, (int)s->to);
	else if (real == 1 && node != s->at && node != s->to)
		differs(s->pid, "pid %d: real on node %d, it thinks itself on %d", (int)s->pid,
			node, (int)s->at);
}

/* Of the load: a ghost whose original is no process of the lab itself, or one of ours. */
static bool is_left(struct books *b, int node, const struct seen *s)
{
	int real_on = BPROC_NODE_NONE;

	if (s->pid == 1 || s->pid == getpid())
		return false;
	if (s->tracer) /* what started the test has ghosts as long as it runs */
		return node < 0 || count_real(b, s->pid, &real_on) != 1 || real_on >= 0;
	return node >= 0 || (!strcmp(s->name, "chaos") && s->ppid != getpid());
}

/* When the load has ended nothing of it is anywhere. */
static void check_empty(struct books *b)
{
	for (int node = -1; node < led->nodes; node++) {
		const struct place *p = place_of(b, node);

		for (int i = 0; i < p->nproc; i++) {
			const struct seen *s = &p->proc[i];

			if (is_left(b, node, s))
				differs(s->pid, "pid %d (%s, %c, parent %d): left on node %d%s",
					s->pid, s->name, s->state, s->ppid, node,
					s->tracer ? ", a ghost" : "");
		}
	}
	for (int i = 0; i < b->ntable; i++)
		differs(b->table[i].pid, "pid %d: left in the table, node %d", b->table[i].pid,
			b->table[i].node);
}

static void compare_once(bool empty)
{
	struct books b;

	list.n = 0;
	if (gather(&b) == 0) {
		check_table(&b);
		for (int n = -1; n < led->nodes; n++)
			check_node(&b, n);
		for (int n = 0; n < SLOTS; n++)
			check_slot(&b, n);
		if (empty)
			check_empty(&b);
	}
	free_books(&b);
}

static int slot_of(int pid)
{
	int best = -1;

	for (int n = 0; n < SLOTS; n++)
		if (pid > 0 && led->slot[n].pid == pid &&
		    (best < 0 || led->slot[n].since > led->slot[best].since))
			best = n;
	return best;
}

/* Each process once: what is wrong with it in one comparison is so in the next. */
static bool told_before(int pid)
{
	static int told[1024];
	static int ntold;

	for (int i = 0; pid && i < ntold; i++)
		if (told[i] == pid)
			return true;
	if (pid && ntold < 1024)
		told[ntold++] = pid;
	return false;
}

/* What is in flight settles; what is still different at the end of the time is. */
int book_compare(bool empty, int limit_ms, bool report)
{
	int64_t end = now_ms() + limit_ms;

	compare_once(empty);
	while (list.n > 0 && now_ms() < end) {
		nap_ms(200);
		compare_once(empty);
	}
	for (int i = 0; report && i < list.n; i++)
		if (!told_before(list.pid[i]))
			diff(slot_of(list.pid[i]), "%s", list.text[i]);
	return list.n;
}

/* -- the daemons --------------------------------------------------------------------- */

static struct {
	int node;
	struct daemon d;
} before[DAEMONS_MAX];
static int nbefore;

static const struct daemon *at_the_start(int node, const struct daemon *d)
{
	for (int i = 0; i < nbefore; i++)
		if (before[i].node == node && !strcmp(before[i].d.name, d->name))
			return &before[i].d;
	return NULL;
}

static void judge_daemon(int node, const struct daemon *d)
{
	const struct daemon *b = at_the_start(node, d);

	if (!b)
		return;
	printf("  %-8s of %-6s descriptors %d -> %d, memory %d -> %d KiB\n", d->name,
	       place_name(node), b->fds, d->fds, b->rss_kib, d->rss_kib);
	if (d->fds > b->fds + FDS_MORE)
		diff(-1, "%s of %d holds %d descriptors, %d at the start", d->name, node, d->fds,
		     b->fds);
	if (d->rss_kib > b->rss_kib + RSS_MORE_KIB)
		diff(-1, "%s of %d holds %d KiB, %d at the start", d->name, node, d->rss_kib,
		     b->rss_kib);
}

static bool holds_more(int node, const struct place *p)
{
	bool more = false;

	for (int i = 0; i < p->ndaemon; i++) {
		const struct daemon *b = at_the_start(node, &p->daemon[i]);

		more |= b && p->daemon[i].fds > b->fds + FDS_MORE;
	}
	return more;
}

static int count_all(const struct place *p)
{
	int n = p->ndaemon;

	for (int i = 0; i < p->ndaemon; i++)
		n += p->daemon[i].fds;
	return n;
}

/* A bpslave that has just started loads its event program, and has more open when that is done. */
static int look_steady(int node, struct place *ret)
{
	int64_t end = now_ms() + PATIENCE_MS;
	int same = 0, last, r = look_at(node, ret);

	while (r == 0 && same < STEADY_LOOKS && now_ms() < end) {
		last = count_all(ret);
		place_free(ret);
		nap_ms(300);
		r = look_at(node, ret);
		same = r == 0 && count_all(ret) == last ? same + 1 : 0;
	}
	return r;
}

/* Many connections to one node at once are kept a while after that (bpslave_out.c). */
static int look_until(int node, int64_t end, struct place *ret)
{
	int r = look_at(node, ret);

	while (r == 0 && holds_more(node, ret) && now_ms() < end) {
		place_free(ret);
		nap_ms(500);
		r = look_at(node, ret);
	}
	return r;
}

void book_daemons(const char *when, bool judge)
{
	int64_t end = judge ? now_ms() + SPARE_MS : 0;
	struct place p;

	printf("daemons %s:\n", when);
	for (int node = -1; node < led->nodes; node++) {
		if ((judge ? look_until(node, end, &p) : look_steady(node, &p)) < 0) {
			diff(-1, "node %d cannot be looked at", node);
			continue;
		}
		/* One that is just starting a helper shows twice. */
		if (p.ndaemon < (node < 0 ? 3 : 2))
			diff(-1, "node %d has %d daemons", node, p.ndaemon);
		for (int i = 0; i < p.ndaemon; i++) {
			if (judge) {
				judge_daemon(node, &p.daemon[i]);
			} else if (nbefore < DAEMONS_MAX) {
				before[nbefore].node = node;
				before[nbefore++].d = p.daemon[i];
			}
		}
		place_free(&p);
	}
}
