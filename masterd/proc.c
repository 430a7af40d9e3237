/*
 * The process table and its state machine (proc.h). Runs in bpmaster; no I/O.
 */
#include <errno.h>
#include <stdlib.h>

#include "node.h"
#include "proc.h"

const struct fsm_row proc_rows[] = {
	{PS_ALIVE, PE_MOVE, PA_BEGIN, PS_MOVING},
	{PS_ALIVE, PE_DECIDED, PA_FLUSH, PS_ALIVE},
	{PS_ALIVE, PE_SIGNAL, PA_FORWARD, PS_ALIVE},
	{PS_ALIVE, PE_STOPCONT, PA_MIRROR, PS_ALIVE},
	{PS_ALIVE, PE_EXIT, PA_MIRROR_EXIT, PS_DYING},
	{PS_ALIVE, PE_REAL_DOWN, PA_MIRROR_EXIT, PS_DYING},
	{PS_ALIVE, PE_NO_GHOST, PA_RELEASE, PS_ALIVE},
	{PS_ALIVE, PE_FOUND, PA_IGNORE, PS_ALIVE},

	{PS_MOVING, PE_MOVE, PA_DENY, PS_MOVING},
	{PS_MOVING, PE_DECIDED, PA_FLUSH, PS_ALIVE},
	{PS_MOVING, PE_SIGNAL, PA_QUEUE, PS_MOVING},
	{PS_MOVING, PE_STOPCONT, PA_QUEUE, PS_MOVING},
	{PS_MOVING, PE_EXIT, PA_QUEUE_EXIT, PS_MOVING},
	{PS_MOVING, PE_REAL_DOWN, PA_IGNORE, PS_MOVING},
	{PS_MOVING, PE_NO_GHOST, PA_IGNORE, PS_MOVING},
	{PS_MOVING, PE_FOUND, PA_IGNORE, PS_MOVING},

	{PS_DYING, PE_MOVE, PA_DENY, PS_DYING},
	{PS_DYING, PE_DECIDED, PA_IGNORE, PS_DYING},
	{PS_DYING, PE_SIGNAL, PA_IGNORE, PS_DYING},
	{PS_DYING, PE_STOPCONT, PA_IGNORE, PS_DYING},
	{PS_DYING, PE_EXIT, PA_IGNORE, PS_DYING},
	{PS_DYING, PE_REAL_DOWN, PA_IGNORE, PS_DYING},
	{PS_DYING, PE_NO_GHOST, PA_REMOVE, PS_GONE},
	{PS_DYING, PE_FOUND, PA_IGNORE, PS_DYING},

	{PS_LOST, PE_MOVE, PA_DENY, PS_LOST},
	{PS_LOST, PE_DECIDED, PA_FLUSH, PS_ALIVE},
	{PS_LOST, PE_SIGNAL, PA_QUEUE, PS_LOST},
	{PS_LOST, PE_STOPCONT, PA_QUEUE, PS_LOST},
	{PS_LOST, PE_EXIT, PA_MIRROR_EXIT, PS_DYING},
	{PS_LOST, PE_REAL_DOWN, PA_MIRROR_EXIT, PS_DYING},
	{PS_LOST, PE_NO_GHOST, PA_REMOVE, PS_GONE},
	{PS_LOST, PE_FOUND, PA_FLUSH, PS_ALIVE},

	{PS_GONE, PE_MOVE, PA_DENY, PS_GONE},
	{PS_GONE, PE_DECIDED, PA_IGNORE, PS_GONE},
	{PS_GONE, PE_SIGNAL, PA_IGNORE, PS_GONE},
	{PS_GONE, PE_STOPCONT, PA_IGNORE, PS_GONE},
	{PS_GONE, PE_EXIT, PA_IGNORE, PS_GONE},
	{PS_GONE, PE_REAL_DOWN, PA_IGNORE, PS_GONE},
	{PS_GONE, PE_NO_GHOST, PA_IGNORE, PS_GONE},
	{PS_GONE, PE_FOUND, PA_IGNORE, PS_GONE},
};
const size_t proc_nrows = sizeof(proc_rows) / sizeof(*proc_rows);

void proc_table_init(struct proc_table *t, uint32_t nnodes)
{
	*t = (struct proc_table){.words = (nnodes + 63) / 64};
}

static void free_proc(struct proc *p)
{
	struct queued *q;

	while ((q = proc_dequeue(p)))
		free(q);
	while (p->told)
		free(told_take_first(p));
	free(p->birth.args);
	free(p);
}

void proc_table_free(struct proc_table *t)
{
	struct proc *p;

	for (size_t i = 0; i < PROC_HASH; i++) {
		while ((p = t->chain[i])) {
			t->chain[i] = p->next;
			free_proc(p);
		}
	}
	t->count = 0;
}

struct proc *proc_new(struct proc_table *t, int32_t pid, int32_t node)
{
	struct proc *p = calloc(1, sizeof(*p) + t->words * sizeof(p->ghost[0]));
	struct proc **at = &t->chain[(uint32_t)pid % PROC_HASH];

	if (!p)
		return NULL;
	p->pid = pid;
	p->node = node;
	p->conted = NODE_NONE;
	p->awaited_at = NODE_NONE;
	if (++t->last_gen == 0) /* 0 says "not known" on the wire */
		t->last_gen = 1;
	p->gen = t->last_gen;
	p->queue_end = &p->queue;
	p->told_end = &p->told;
	p->next = *at;
	*at = p;
	t->count++;
	return p;
}

struct proc *proc_get(const struct proc_table *t, int32_t pid, uint32_t gen)
{
	struct proc *p;

	for (p = t->chain[(uint32_t)pid % PROC_HASH]; p; p = p->next)
		if (p->pid == pid && (gen == 0 || p->gen == gen))
			return p;
	return NULL;
}

void proc_remove(struct proc_table *t, struct proc *p)
{
	for (struct proc **at = &t->chain[(uint32_t)p->pid % PROC_HASH]; *at; at = &(*at)->next) {
		if (*at != p)
			continue;
		*at = p->next;
		t->count--;
		free_proc(p);
		return;
	}
}

void proc_each(struct proc_table *t, void (*fn)(struct proc *p, void *arg), void *arg)
{
	struct proc *p, *next;

	for (size_t i = 0; i < PROC_HASH; i++) {
		for (p = t->chain[i]; p; p = next) {
			next = p->next;
			fn(p, arg);
		}
	}
}

enum proc_action proc_step(struct proc *p, enum proc_event event)
{
	const struct fsm_row *row = fsm_find(proc_rows, proc_nrows, p->state, event);

	p->state = row->next;
	return row->action;
}

void ghost_add(struct proc *p, uint32_t index)
{
	p->ghost[index / 64] |= 1ull << index % 64;
}

void ghost_del(struct proc *p, uint32_t index)
{
	p->ghost[index / 64] &= ~(1ull << index % 64);
}

bool ghost_has(const struct proc *p, uint32_t index)
{
	return p->ghost[index / 64] >> index % 64 & 1;
}

bool ghost_any(const struct proc_table *t, const struct proc *p)
{
	for (uint32_t i = 0; i < t->words; i++)
		if (p->ghost[i])
			return true;
	return false;
}

struct told *told_add(const struct proc_table *t, struct proc *p, const struct tale *tale)
{
	struct told *d = malloc(sizeof(*d) + t->words * sizeof(d->waits[0]));

	if (!d)
		return NULL;
	d->next = NULL;
	d->tale = *tale;
	for (uint32_t i = 0; i < t->words; i++)
		d->waits[i] = p->ghost[i];
	*p->told_end = d;
	p->told_end = &d->next;
	p->ntold++;
	return d;
}

static bool same_tale(const struct tale *a, const struct tale *b)
{
	return a->seq == b->seq && a->move == b->move && a->node == b->node;
}

bool told_has(const struct proc *p, const struct tale *tale)
{
	if (tale->seq == 0)
		return false;
	for (const struct told *d = p->told; d; d = d->next)
		if (same_tale(&d->tale, tale))
			return true;
	for (const struct queued *q = p->queue; q; q = q->next)
		if (!q->sig && same_tale(&q->tale, tale))
			return true;
	return false;
}

bool told_waits(const struct proc *p, uint32_t index, const struct tale *tale)
{
	for (const struct told *d = p->told; d; d = d->next)
		if (d->tale.seq == tale->seq && d->tale.move == tale->move)
			return d->waits[index / 64] >> index % 64 & 1;
	return false;
}

void told_confirm(struct proc *p, uint32_t index, uint64_t move, uint64_t seq)
{
	for (struct told *d = p->told; d; d = d->next)
		if (d->tale.seq == seq && d->tale.move == move)
			d->waits[index / 64] &= ~(1ull << index % 64);
}

static struct told *take(struct proc *p, struct told **at)
{
	struct told *d = *at;

	*at = d->next;
	if (!d->next)
		p->told_end = at;
	p->ntold--;
	return d;
}

struct told *told_take_done(const struct proc_table *t, struct proc *p)
{
	for (struct told **at = &p->told; *at; at = &(*at)->next) {
		uint64_t waits = 0;

		/* Where there is no ghost any more nobody answers. */
		for (uint32_t i = 0; i < t->words; i++)
			waits |= (*at)->waits[i] &= p->ghost[i];
		if (!waits)
			return take(p, at);
	}
	return NULL;
}

struct told *told_take_first(struct proc *p)
{
	return p->told ? take(p, &p->told) : NULL;
}

/* A signal that its bpinit has repeated while it waits here. */
static bool queue_has(const struct proc *p, const struct queued *s)
{
	for (const struct queued *q = p->queue; s->sig && s->stream && q; q = q->next)
		if (q->stream == s->stream && q->number == s->number)
			return true;
	return false;
}

int proc_enqueue(struct proc *p, const struct queued *q)
{
	struct queued *copy;

	if (queue_has(p, q))
		return 0;
	if (p->nqueued >= PROC_QUEUE_MAX)
		return -ENOBUFS;
	copy = malloc(sizeof(*copy));
	if (!copy)
		return -ENOMEM;
	*copy = *q;
	copy->next = NULL;
	*p->queue_end = copy;
	p->queue_end = &copy->next;
	p->nqueued++;
	return 0;
}

struct queued *proc_dequeue(struct proc *p)
{
	struct queued *q = p->queue;

	if (!q)
		return NULL;
	p->queue = q->next;
	if (!p->queue)
		p->queue_end = &p->queue;
	p->nqueued--;
	return q;
}

struct pid_node {
	int32_t pid, node;
};

static int by_pid(const void *a, const void *b)
{
	const struct pid_node *x = a, *y = b;

	return (x->pid > y->pid) - (x->pid < y->pid);
}

size_t proc_list(const struct proc_table *t, int32_t node, int32_t first, int32_t *ret_pid,
		 int32_t *ret_node, size_t max)
{
	struct pid_node *v = malloc((t->count + 1) * sizeof(*v));
	const struct proc *p;
	size_t n = 0;

	if (!v)
		return 0;
	for (size_t i = 0; i < PROC_HASH; i++) {
		for (p = t->chain[i]; p; p = p->next) {
			if (p->pid <= first || p->node < 0 || p->state == PS_DYING ||
			    (node != PROC_NODE_ANY && p->node != node))
				continue;
			v[n++] = (struct pid_node){.pid = p->pid, .node = p->node};
		}
	}
	qsort(v, n, sizeof(*v), by_pid);
	if (n > max)
		n = max;
	for (size_t i = 0; i < n; i++) {
		ret_pid[i] = v[i].pid;
		ret_node[i] = v[i].node;
	}
	free(v);
	return n;
}
