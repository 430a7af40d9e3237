/*
 * bpinit: SIGHUP and SIGCONT of a group that is orphaned while one of it is stopped.
 * Every kernel that has some of the group sends them when it sees the last parent
 * outside end: home's, which has all of it, to ghosts; that of a node to what is real
 * there. Each process is to have them once. Ghosts on nodes that meet them say that this
 * kernel has sent them, and no more. Those at home are told with the number of one that
 * is stopped: where the process is real it has them by that word, unless the node's kernel
 * was first; and whoever stands in there as stopped is continued with it, so that the
 * kernel is not second.
 */
#include <signal.h>
#include <string.h>
#include <sys/wait.h>

#include "slaved/bpinit_kill.h"
#include "slaved/bpinit_orphan.h"

#define EPISODE_MS 1000 /* what the kernel sends to all of a group at once is met one by one */
#define WORD_MS 10000	/* home's word may be as late as a node is that comes back */

static bool is_recent(int64_t ms)
{
	return ms && clock_ms() - ms < EPISODE_MS;
}

/* Its group stop may have ended by the very SIGCONT, or by the word that its original goes on. */
static bool was_stopped(const struct proc *p)
{
	return p->stopped || is_stop(p->busy) || p->cont_due || is_recent(p->cont_ms) ||
	       is_recent(p->hup_ms);
}

static bool has_pending(int32_t pid, int sig)
{
	uint64_t blocked;

	return look_pending(pid, &blocked) & 1ul << (sig - 1);
}

/* Has this kernel sent it a SIGHUP? It is sent at once, but met when the ghost has run. */
static bool was_sent(struct proc *p, int ms)
{
	int32_t pid = p->pid;
	int status;

	if (p->traced && waitpid(pid, &status, WNOHANG | __WALL) == pid) {
		if (!WIFSTOPPED(status)) {
			trace_ended(p, status);
			return false;
		}
		trace_stopped(p, status);
		p = proc_find(pid);
	}
	if (!p || p->state != PROC_GHOST)
		return false;
	return (p->hup_ms && clock_ms() - p->hup_ms < ms) || has_pending(pid, SIGHUP);
}

bool orphan_is_sent(struct proc *ghost)
{
	return was_sent(ghost, EPISODE_MS);
}

struct search {
	int32_t found;
};

/* Whose stop it is that home's kernel has seen. */
static int32_t stopped_one(const struct proc *p)
{
	return p->held ? p->held : p->pid;
}

static void if_stopped(const struct look *l, void *arg)
{
	const struct proc *p = proc_find(l->pid);
	struct search *s = arg;

	if (!s->found && p && p->state == PROC_GHOST && was_stopped(p))
		s->found = stopped_one(p);
}

bool orphan_met(struct proc *p, int sig)
{
	struct init_msg m = {.type = EV_SIGNAL, .pid = p->pid, .use = p->use};
	struct search s = {0};
	struct look l;

	if (sig != SIGHUP && sig != SIGCONT)
		return false;
	if (!self.keeper) {
		if (sig == SIGHUP)
			p->hup_ms = clock_ms();
		return true;
	}
	if (sig == SIGCONT) {
		bool told = p->hup_told;

		p->hup_told = false;
		return told;
	}
	if (was_stopped(p))
		s.found = stopped_one(p);
	else if (look_at(p->pid, &l) == 0)
		look_each(l.pgid, if_stopped, &s);
	/* Without the SIGCONT it is its terminal's. With it who is stopped is real here. */
	if (!s.found && !has_pending(p->pid, SIGCONT))
		return false;
	p->hup_told = true;
	if (s.found == p->pid)
		p->hup_ms = clock_ms();
	m.u.signal.pid = p->pid;
	m.u.signal.sig = SIGHUP;
	m.u.signal.code = SIGNAL_ORPHANED;
	m.u.signal.value = (uint64_t)s.found;
	event_signal(p, &m);
	return true;
}

/* -- where it is real */

static bool is_real_here(int32_t pid)
{
	const struct proc *p = proc_find(pid);

	return p ? p->state == PROC_REAL : own_kill(pid, 0) == 0;
}

/* *arg: one that has them. */
static void both(const struct look *l, void *arg)
{
	const int32_t *has = arg;

	if ((has && *has == l->pid) || l->pid == self.self || !is_real_here(l->pid))
		return;
	own_kill(l->pid, SIGHUP);
	own_kill(l->pid, SIGCONT);
}

/* Those of the group that stand in here. */
static bool each_ghost(int32_t pgid, bool (*fn)(struct proc *p))
{
	for (uint32_t i = 0; i < procs_used; i++)
		if (procs[i].state == PROC_GHOST && getpgid(procs[i].pid) == pgid && fn(&procs[i]))
			return true;
	return false;
}

static bool is_sent_late(struct proc *p)
{
	return was_sent(p, WORD_MS);
}

/* A stop that is under way is called off: the end of the parent's ghost would find it. */
static bool goes_on(struct proc *p)
{
	if (is_stop(p->busy)) {
		p->busy = 0;
		own_kill(p->pid, SIGCONT);
	}
	mirror_add(p, CLD_CONTINUED, SIGCONT);
	return false;
}

/*
 * Who is stopped is real here: all of the group that is here has them, as its kernel would have
 * done, or has, or is about to when the ghost of the parent ends.
 */
static void by_kernel(const struct look *of)
{
	const struct proc *parent = proc_find(proc_parent(of->pid));
	int32_t first = of->pid;
	struct look now;

	/* It is looked at again: that ghost may have ended just now. */
	if ((parent && parent->state == PROC_GHOST && parent->dying) || look_at(first, &now) < 0 ||
	    now.state != 'T')
		return;
	both(of, NULL);
	look_each(of->pgid, both, &first);
}

void orphan_deliver(const struct init_msg *m)
{
	int32_t pid = m->u.signal.pid, stopped = (int32_t)m->u.signal.value;
	struct look l, of;

	if (look_at(pid, &l) < 0)
		return;
	/* From here on the kernel sends none for those that stand in. Has it? */
	if (!self.keeper) {
		each_ghost(l.pgid, goes_on);
		if (each_ghost(l.pgid, is_sent_late))
			return;
	}
	if (stopped == pid)
		by_kernel(&l);
	else if (stopped > 1 && is_real_here(stopped) && look_at(stopped, &of) == 0 &&
		 of.pgid == l.pgid)
		by_kernel(&of);
	else
		both(&l, NULL);
}
