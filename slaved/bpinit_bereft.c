/*
 * bpinit at home: the end of a process that has orphaned a group of which one was stopped.
 * The kernel of the node where it was real has sent that group SIGHUP and SIGCONT; home's, which
 * has all of it, does so only if one is stopped when the ghost ends. But that one goes on by
 * the same signals, and home may have heard of this before, or not even of its stop. So its
 * ghost is stopped, and held so, until that of its parent has ended.
 */
#include <signal.h>
#include <unistd.h>

#include "slaved/bpinit_kill.h"
#include "slaved/bpinit_orphan.h"

#define BEREFT_MAX 32
#define PATIENCE_MS 1000

static struct bereft {
	int32_t pid;  /* whose end it is; 0: free */
	int32_t held; /* who was stopped */
	int code, status;
	bool ours;   /* we have stopped it, who may run elsewhere */
	bool ending; /* the ghost has been told */
	int64_t until;
} bereft[BEREFT_MAX];
static uint32_t nbereft;

static void end_it(struct bereft *b)
{
	struct proc *p = proc_find(b->pid);

	b->ending = true;
	b->until = clock_ms() + PATIENCE_MS;
	if (p && p->state == PROC_GHOST)
		mirror_add(p, b->code, b->status);
}

static void release(struct bereft *b)
{
	struct proc *p = proc_find(b->held);

	b->pid = 0;
	nbereft--;
	if (!p || !p->held)
		return;
	p->held = 0;
	/* The group was not orphaned here: it has a parent of whom the node knew nothing. */
	if (b->ours && !orphan_is_sent(p) && p->state == PROC_GHOST && p->stopped)
		mirror_add(p, CLD_CONTINUED, SIGCONT);
	else if (p->state == PROC_GHOST)
		mirror_next(p);
}

static bool is_free(const struct proc *p, int32_t parent)
{
	return p && p->state == PROC_GHOST && !p->dying && !p->exiting && !p->held &&
	       proc_parent(p->pid) == parent;
}

/* A SIGCONT of ours acts when it is sent, and is met later. */
static bool is_stopped(const struct proc *p)
{
	return p->stopped && p->busy != SIGCONT;
}

struct choice {
	int32_t parent;
	struct proc *ghost;
	bool none; /* one that is real here is stopped: the kernel knows without us */
};

static void one_of_group(const struct look *l, void *arg)
{
	struct choice *c = arg;
	struct proc *p = proc_find(l->pid);

	if ((!p || p->state == PROC_REAL) && l->state == 'T')
		c->none = true;
	else if (is_free(p, c->parent) && (!c->ghost || (is_stopped(p) && !is_stopped(c->ghost))))
		c->ghost = p;
}

/* A child in the group that stands in as stopped; or the one that was; or any other. */
static struct proc *choose(int32_t pid, int32_t stopped)
{
	struct choice c = {.parent = pid, .ghost = proc_find(stopped)};
	int32_t pgid = getpgid(stopped);

	if (!is_free(c.ghost, pid))
		c.ghost = NULL;
	if (pgid > 1)
		look_each(pgid, one_of_group, &c);
	return c.none ? NULL : c.ghost;
}

/*
 * It is as it was on its node before the signals, and goes on by those of our kernel: stops and
 * continues that wait to be shown are older than that.
 */
static void stop(struct proc *p)
{
	int n = 0;

	for (int i = 0; i < p->nmirror; i++)
		if (is_end(p->mirror[i].code))
			p->mirror[n++] = p->mirror[i];
	p->nmirror = n;
	if (!is_stop(p->busy))
		mirror_add(p, CLD_STOPPED, SIGSTOP);
}

bool bereft_exit(struct proc *p, const struct init_msg *m)
{
	struct bereft *b = bereft;
	struct proc *held;

	if (!self.keeper || m->u.mirror.orphaned <= 1 || p->state != PROC_GHOST || p->dying ||
	    p->exiting)
		return false;
	for (uint32_t i = 0; i < BEREFT_MAX; i++)
		if (bereft[i].pid == p->pid)
			return true; /* told again */
	while (b < bereft + BEREFT_MAX && b->pid)
		b++;
	held = b < bereft + BEREFT_MAX ? choose(p->pid, m->u.mirror.orphaned) : NULL;
	if (!held)
		return false;
	*b = (struct bereft){.pid = p->pid,
			     .held = held->pid,
			     .code = m->u.mirror.code,
			     .status = m->u.mirror.status,
			     .ours = !is_stopped(held),
			     .until = clock_ms() + PATIENCE_MS};
	nbereft++;
	held->held = b->ours ? m->u.mirror.orphaned : held->pid;
	if (b->ours)
		stop(held);
	else
		end_it(b);
	return true;
}

void bereft_stopped(struct proc *p)
{
	for (struct bereft *b = bereft; nbereft > 0 && b < bereft + BEREFT_MAX; b++)
		if (b->pid && b->held == p->pid && !b->ending && p->stopped)
			end_it(b);
}

void bereft_ended(int32_t pid)
{
	for (struct bereft *b = bereft; nbereft > 0 && b < bereft + BEREFT_MAX; b++) {
		if (b->pid && b->held == pid && !b->ending)
			end_it(b);
		if (b->pid && (b->pid == pid || b->held == pid))
			release(b);
	}
}

int bereft_tick(int ms)
{
	int64_t t = clock_ms();

	for (struct bereft *b = bereft; nbereft > 0 && b < bereft + BEREFT_MAX; b++) {
		if (!b->pid || t < b->until)
			continue;
		if (b->ending)
			release(b);
		else
			end_it(b);
	}
	return nbereft == 0 || (ms >= 0 && ms < PATIENCE_MS / 4) ? ms : PATIENCE_MS / 4;
}
