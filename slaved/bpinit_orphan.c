/*
 * bpinit: SIGHUP and SIGCONT of a group that is orphaned while one of it is stopped.
 * Every kernel that has some of the group sends them when it sees the last parent
 * outside end: home's, which has all of it, to ghosts; that of a node to what is real
 * there. Each process is to have them once. Of ghosts on nodes they are dropped. Of
 * those at home they are told with the condition that the stopped one is stopped still
 * when they come: the node's kernel, which was there first, would have continued it;
 * and who is continued by what home says, of that the node's kernel says no more.
 */
#include <signal.h>
#include <string.h>
#include <time.h>

#include "slaved/bpinit_kill.h"

#define EPISODE_MS 1000 /* what the kernel sends to all of a group at once is met one by one */

static int64_t now_ms(void)
{
	return clock_ns(CLOCK_MONOTONIC) / 1000000;
}

/* Its group stop may have ended by the very SIGCONT: then that has still to be met. */
static bool was_stopped(const struct proc *p)
{
	return p->stopped || p->cont_due || (p->hup_ms && now_ms() - p->hup_ms < EPISODE_MS);
}

struct search {
	int32_t found;
};

static void if_stopped(const struct look *l, void *arg)
{
	const struct proc *p = proc_find(l->pid);
	struct search *s = arg;

	if (!s->found && p && p->state == PROC_GHOST && was_stopped(p))
		s->found = p->pid;
}

bool orphan_met(struct proc *p, int sig)
{
	struct init_msg m = {.type = EV_SIGNAL, .pid = p->pid, .use = p->use};
	struct search s = {0};
	struct look l;

	if (sig != SIGHUP && sig != SIGCONT)
		return false;
	if (!self.keeper)
		return true;
	if (sig == SIGCONT) {
		bool told = p->hup_told;

		p->hup_told = false;
		return told;
	}
	if (was_stopped(p))
		s.found = p->pid;
	else if (look_at(p->pid, &l) == 0)
		look_each(l.pgid, if_stopped, &s);
	if (!s.found)
		return false; /* of its terminal; or it is not in our hands who is stopped */
	p->hup_told = true;
	if (s.found == p->pid)
		p->hup_ms = now_ms();
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

static void both(const struct look *l, void *arg)
{
	(void)arg;
	if (l->pid == self.self || !is_real_here(l->pid))
		return;
	own_kill(l->pid, SIGHUP);
	own_kill(l->pid, SIGCONT);
}

void orphan_deliver(const struct init_msg *m)
{
	int32_t pid = m->u.signal.pid, stopped = (int32_t)m->u.signal.value;
	struct look l, of;

	if (look_at(pid, &l) < 0)
		return;
	if (stopped == pid || !is_real_here(stopped) || look_at(stopped, &of) < 0 ||
	    of.pgid != l.pgid) {
		if (stopped != pid || l.state == 'T')
			both(&l, NULL);
		return;
	}
	/* All of the group that is here, as its kernel would have done. */
	if (of.state == 'T')
		look_each(l.pgid, both, NULL);
}
