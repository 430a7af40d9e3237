/*
 * Processes that were born on a node: entered in the table with what the node tells
 * of them, and passed on to the front end's slave, whose bpinit makes their ghosts.
 * The same message says again how a process looks, after an exec for instance. Runs
 * in bpmaster; doc/born.md.
 */
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "include/sys/bproc_common.h"
#include "libbproc/log.h"
#include "master.h"

#define BORN_ALL_MAX 12000 /* of one cluster: the table of home's bpinit is PROCS_MAX */
#define BORN_ONCE_MAX 64   /* in one message */
#define MISSED_MS 1000	   /* an end that came while the node told all is heard by then */

static struct proc *enter(struct master *m, struct node *n, const Bproc__Birth *b)
{
	static bool told;

	if (m->procs.count >= BORN_ALL_MAX) {
		if (!told)
			log_warn("%u processes: more that are born on nodes get no ghost",
				 m->procs.count);
		told = true;
		return NULL;
	}
	told = false;
	return proc_new(&m->procs, b->proc->pid, n->num);
}

/* Of a child of rfork too, which is in no move's hands before it has run. */
static struct move *undecided(const struct master *m, const struct proc *p)
{
	struct move *mv = p->move ? p->move : move_get(&m->moves, p->rfork);

	return mv && (mv == p->move || mv->state != MV_COMMITTED) ? mv : NULL;
}

/*
 * Its end is told already, and home, which was away or is still to hear of it, has not said that
 * its ghost is gone. Entered anew it would be two, with one number between them.
 */
static bool is_ending(const struct node *n, const struct proc *p, const Bproc__Birth *b)
{
	return p->state == PS_DYING && p->node == n->num && b->again && !b->moved;
}

/* The entry, if home is to have a ghost that looks so. */
static struct proc *take(struct master *m, struct node *n, const Bproc__Birth *b)
{
	struct move *mv;
	struct proc *p;

	if (!b->proc || b->proc->pid <= 1 || b->proc->pid >= WIRE_PID_MAX)
		return NULL;
	if (!b->moved && node_note_born(&m->nodes, b->proc->pid))
		nodefile_write(m);
	p = proc_get(&m->procs, b->proc->pid, 0);
	if (p && is_ending(n, p, b))
		return p;
	/* A new name of one that came by a move, and has ended since, is nobody's. */
	if (!p || p->state == PS_DYING)
		p = b->moved ? NULL : enter(m, n, b);
	if (!p)
		return NULL;
	if (p->state == PS_LOST && !b->moved)
		procs_found(m, p, n->num);
	if (p->node == n->num && !b->moved) {
		p->born = true;
		p->seen = n->told_all;
	}
	/* It may have left in the meantime; where it is real it needs no ghost. */
	if (p->node == NODE_HOME)
		return NULL;
	/*
	 * It may be real there already, or have ended there or elsewhere, by a move that is
	 * undecided only here. Whoever has it then is asked for it again (ask_untold()).
	 */
	mv = undecided(m, p);
	if (mv && (mv->target == NODE_HOME || mv->epoch != m->epoch)) {
		mv->untold = true;
		return NULL;
	}
	ghost_add(p, 0);
	return p;
}

static void keep_args(struct kept_birth *k, const Bproc__Birth *b)
{
	uint8_t *args = b->args.len > 0 ? malloc(b->args.len) : NULL;

	free(k->args);
	k->args = args;
	k->nargs = args ? b->args.len : 0;
	if (args)
		memcpy(args, b->args.data, b->args.len);
}

/* Home may have missed it, and its node may have forgotten it when home's slave is back. */
static void keep(struct master *m, struct proc *p, const Bproc__Birth *b)
{
	struct kept_birth *k = &p->birth;

	if (b->moved)
		return;
	if (!k->pid)
		k->order = ++m->procs.births;
	k->pid = p->pid;
	k->ppid = b->ppid;
	k->pgid = b->pgid;
	k->sid = b->sid;
	k->uid = b->uid;
	k->euid = b->euid;
	k->suid = b->suid;
	k->gid = b->gid;
	k->egid = b->egid;
	k->reaper = b->reaper;
	memset(k->comm, 0, sizeof(k->comm));
	if (b->comm.len > 0 && b->comm.len < sizeof(k->comm))
		memcpy(k->comm, b->comm.data, b->comm.len);
	keep_args(k, b);
}

/* What was told of it may have been lost with home's slave, and then is told again after this. */
static bool has_ghost_at_home(const struct master *m, int32_t pid)
{
	const struct proc *p = pid > 1 ? proc_get(&m->procs, pid, 0) : NULL;

	return p && p->state != PS_DYING && p->state != PS_GONE && ghost_has(p, 0);
}

void born_tell(struct peer *peer, const Bproc__ProcBorn *in)
{
	struct master *m = peer->m;
	struct node *home = node_get(&m->nodes, NODE_HOME);
	Bproc__ProcBorn out = BPROC__PROC_BORN__INIT;
	Bproc__Birth birth[BORN_ONCE_MAX], *list[BORN_ONCE_MAX];
	Bproc__Proc proc[BORN_ONCE_MAX];
	struct proc *p, *ending[BORN_ONCE_MAX];
	size_t nending = 0;

	if (peer->node->num == NODE_HOME || in->n_birth > BORN_ONCE_MAX) {
		peer_drop(peer, "protocol error: %zu births", in->n_birth);
		return;
	}
	for (size_t i = 0; i < in->n_birth; i++) {
		p = take(m, peer->node, in->birth[i]);
		if (!p)
			continue;
		keep(m, p, in->birth[i]);
		birth[out.n_birth] = *in->birth[i];
		proc_wire(m, p, &proc[out.n_birth]);
		birth[out.n_birth].proc = &proc[out.n_birth];
		birth[out.n_birth].parent_lives = has_ghost_at_home(m, in->birth[i]->ppid);
		list[out.n_birth] = &birth[out.n_birth];
		out.n_birth++;
		if (p->state == PS_DYING)
			ending[nending++] = p;
	}
	out.birth = list;
	if (out.n_birth > 0)
		node_send(m, home, &out.base);
	/* Behind its birth, if home has missed that; else for the second time. */
	for (size_t i = 0; i < nending; i++) {
		ghost_add(ending[i], 0);
		procs_mirror_exit(m, ending[i], home);
	}
}

static void send_reaped(struct master *m, int32_t pid)
{
	Bproc__ProcReaped r = BPROC__PROC_REAPED__INIT;
	Bproc__Proc proc = BPROC__PROC__INIT, *list[1] = {&proc};

	proc.home = NODE_HOME;
	proc.epoch = m->epoch;
	proc.pid = pid;
	r.n_proc = 1;
	r.proc = list;
	node_send(m, node_get(&m->nodes, NODE_HOME), &r.base);
}

void born_reaped(struct peer *peer, const Bproc__ProcReaped *r)
{
	if (peer->node->num == NODE_HOME) {
		peer_drop(peer, "protocol error: ProcReaped by the front end");
		return;
	}
	for (size_t i = 0; i < r->n_proc; i++) {
		int32_t pid = r->proc[i]->pid;
		struct proc *p = pid > 1 ? proc_get(&peer->m->procs, pid, 0) : NULL;

		if (p && p->state == PS_DYING)
			p->birth.reaped = true;
		if (pid > 1 && pid < WIRE_PID_MAX)
			send_reaped(peer->m, pid);
	}
}

/* Those that home may have missed: they live, or home has not said that their ghosts have ended. */
struct missed {
	struct master *m;
	struct proc **p; /* owned */
	size_t n, room;
};

static void if_missed(struct proc *p, void *arg)
{
	struct missed *w = arg;
	bool lives = p->born && (p->state == PS_ALIVE || p->state == PS_MOVING);
	struct move *mv = lives ? undecided(w->m, p) : NULL;

	/* As in take(): it may be real there already, or have ended there. */
	if (mv && (mv->target == NODE_HOME || mv->epoch != w->m->epoch)) {
		mv->untold = true;
		return;
	}
	if (p->birth.pid && ghost_has(p, 0) && (lives || p->state == PS_DYING) && w->n < w->room)
		w->p[w->n++] = p;
}

static int by_order(const void *a, const void *b)
{
	const struct proc *const *x = a, *const *y = b;

	return (*x)->birth.order < (*y)->birth.order ? -1 : 1;
}

static void put_kept(struct master *m, struct proc *p, Bproc__Birth *b, Bproc__Proc *proc)
{
	struct kept_birth *k = &p->birth;

	bproc__birth__init(b);
	proc_wire(m, p, proc);
	b->proc = proc;
	b->ppid = k->ppid;
	b->pgid = k->pgid;
	b->sid = k->sid;
	b->uid = k->uid;
	b->euid = k->euid;
	b->suid = k->suid;
	b->gid = k->gid;
	b->egid = k->egid;
	b->reaper = k->reaper;
	b->again = true;
	b->parent_lives = has_ghost_at_home(m, k->ppid);
	b->comm.data = (uint8_t *)k->comm;
	b->comm.len = strnlen(k->comm, sizeof(k->comm));
	b->args.data = k->args;
	b->args.len = k->nargs;
}

static void send_kept(struct master *m, struct proc **p, size_t n)
{
	Bproc__ProcBorn out = BPROC__PROC_BORN__INIT;
	Bproc__Birth birth[BORN_ONCE_MAX], *list[BORN_ONCE_MAX];
	Bproc__Proc proc[BORN_ONCE_MAX];

	for (size_t i = 0; i < n; i++) {
		put_kept(m, p[i], &birth[i], &proc[i]);
		list[i] = &birth[i];
	}
	out.n_birth = n;
	out.birth = list;
	node_send(m, node_get(&m->nodes, NODE_HOME), &out.base);
}

/*
 * Before any end: a child whose parent's end is shown first belongs to the keeper, and is in that
 * one's session for good. What is ended its node may not know any more.
 */
void born_again(struct master *m)
{
	struct missed w = {.m = m, .room = m->procs.count};

	w.p = calloc(w.room + 1, sizeof(*w.p));
	if (!w.p)
		return log_error("no memory: home is not told of %u births", m->procs.count);
	proc_each(&m->procs, if_missed, &w);
	qsort(w.p, w.n, sizeof(*w.p), by_order);
	for (size_t i = 0, n; i < w.n; i += n) {
		n = w.n - i < BORN_ONCE_MAX ? w.n - i : BORN_ONCE_MAX;
		send_kept(m, w.p + i, n);
	}
	free(w.p);
}

/* Home is back, behind born_again(), and has not said that its ghost has ended. */
void born_ended_again(struct master *m, struct proc *p)
{
	const bool reaped = p->birth.pid && p->birth.reaped;
	const int32_t pid = p->pid;

	procs_mirror_exit(m, p, node_get(&m->nodes, NODE_HOME));
	if (reaped)
		send_reaped(m, pid);
}

/* Of one that is moving, or that no node has told of yet, home asks again. */
void born_zombies(struct peer *peer, const Bproc__Zombies *z)
{
	struct master *m = peer->m;

	if (peer->node->num != NODE_HOME) {
		peer_drop(peer, "protocol error: Zombies by a node");
		return;
	}
	for (size_t i = 0; i < z->n_zombie; i++) {
		const struct proc *parent = proc_get(&m->procs, z->zombie[i]->ppid, 0);
		Bproc__Zombies one = BPROC__ZOMBIES__INIT;

		if (!parent || parent->state != PS_ALIVE || parent->node < 0)
			continue;
		one.n_zombie = 1;
		one.zombie = &z->zombie[i];
		node_send(m, node_get(&m->nodes, parent->node), &one.base);
	}
}

struct told_news {
	struct master *m;
	struct node *n;
};

/*
 * It was told before, and now all were told but this one: it has ended, and whoever has waited for
 * it on its node has not said how.
 */
static void if_not_told(struct proc *p, void *arg)
{
	struct told_news *w = arg;
	int32_t pid = p->pid;

	if (!p->born || p->node != w->n->num || p->move || p->seen == w->n->told_all ||
	    p->state != PS_ALIVE)
		return;
	procs_killed(w->m, p, PE_EXIT);
	send_reaped(w->m, pid);
}

static void ask_all(struct master *m)
{
	Bproc__BornAsk ask = BPROC__BORN_ASK__INIT;

	for (uint32_t i = 1; i < m->nodes.count; i++)
		node_send(m, &m->nodes.node[i], &ask.base);
}

void born_state_end(struct master *m, struct node *n)
{
	Bproc__BornAsk ask = BPROC__BORN_ASK__INIT;

	/* What home has said of groups and sessions while this node was away is lost too. */
	if (n->num != NODE_HOME)
		node_send(m, node_get(&m->nodes, NODE_HOME), &ask.base);
	if (n->num == NODE_HOME)
		ask_all(m); /* what was told while it was away has been lost */
	else
		n->missed_ms = now_ms() + MISSED_MS;
}

void born_tick(struct master *m, struct node *n, uint64_t now)
{
	struct told_news w = {.m = m, .n = n};

	if (!n->missed_ms || now < n->missed_ms)
		return;
	n->missed_ms = 0;
	proc_each(&m->procs, if_not_told, &w);
}
