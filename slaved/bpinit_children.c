/*
 * bpinit: the children of a process that arrives. It has to find here, really or as
 * ghosts, all that it has not waited for, as its own children and as it knows them:
 * running, stopped (and whether it has waited for that), or zombies. So it is made as
 * a ghost first if it is not one here, its ghost clones those that are missing, and
 * they are brought to that state; then the image is restored into the ghost. What
 * becomes of them meanwhile waits until the arrival runs, so that it is news to it.
 */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "slaved/bpinit_kill.h"
#include "slaved/bpinit_place.h"

static bool has_child(const struct move *m)
{
	for (uint32_t i = 0; i < m->nchain; i++)
		if (m->chain[i].child)
			return true;
	return false;
}

#define EACH_CHILD(m, c)                                                                           \
	for (struct init_chain *c = (m)->chain; c < (m)->chain + (m)->nchain; c++)                 \
		if (c->child)

static bool is_stopped(const struct proc *p)
{
	return p->stopped && !p->busy && p->nmirror == 0;
}

/* And nothing is on its way that would show a stop. Its end may wait for its own children. */
static bool runs(const struct proc *p)
{
	return !p->stopped && !p->busy && (p->nmirror == 0 || is_end(p->mirror[0].code));
}

static void hold(struct proc *p, struct move *m, uint32_t how)
{
	struct chan_msg c = {.type = CHAN_HOLD, .move_id = m->id, .flags = how};

	if (proc_tell(p, &c, NULL, 0) == 0)
		trace_wake(p);
}

void children_held(struct proc *p, const struct chan_msg *c)
{
	struct move *m = move_find(c->move_id);

	trace_sleep(p);
	if (m && m->pid == p->pid && m->kids == KIDS_HOLDING)
		m->kids = KIDS_MAKING;
	else if (m && m->pid == p->pid && m->kids == KIDS_TAKING)
		m->kids = KIDS_ENDING;
	arrive_progress();
}

/* -- those who come by moves of their own */

static bool awaited;

/*
 * The ghost of its parent has made it; if its own move is called off it ends, and that must not
 * be the end that its parent is told of. So the parent waits until that is decided.
 */
static bool child_arrives(struct move *m)
{
	EACH_CHILD(m, c)
	{
		const struct proc *p = proc_find(c->pid);

		if (!p || p->state != PROC_ARRIVING || p->was_ghost)
			continue;
		awaited = true;
		return true;
	}
	return false;
}

bool children_are_coming(int32_t ppid)
{
	for (uint32_t i = 0; i < moves_used; i++)
		if (moves[i].phase == ARRIVE_CHAIN && moves[i].pid == ppid &&
		    (moves[i].kids == KIDS_HOLDING || moves[i].kids == KIDS_MAKING))
			return true;
	return false;
}

void children_decided(void)
{
	if (!awaited)
		return;
	awaited = false;
	arrive_progress();
}

/* -- its own ghost, whose children they will be. False: it is being made. */

static bool make_parent(struct move *m)
{
	struct chan_clone id = {.kind = CLONE_GHOST, .pid = m->pid, .pgid = m->pgid, .sid = m->sid};
	struct proc *p = proc_find(m->pid);

	if (p && (p->state == PROC_MAKING || p->state == PROC_LEAVING ||
		  arrive_has_dropped(p->pid) || child_arrives(m)))
		return false;
	if (p && proc_can_clone(p)) {
		if (!place_ready(m, p)) /* before its children, who are born into that */
			return false;
		m->kids = KIDS_HOLDING;
		hold(p, m, CHAN_HOLD_DEAD);
		return false;
	}
	/* Killed here meanwhile: start_arrival() says so. At home there is one, or will be. */
	if (p || m->home_here) {
		if (!p && born_waits(m->pid))
			return false;
		m->kids = KIDS_READY;
		return true;
	}
	if (proc_maker_leaves(m->ppid))
		return false;
	id.cred.uid[0] = m->cred.uid[0];
	id.cred.gid[0] = m->cred.gid[0];
	if (proc_make(m, m->ppid, &id, PROC_MAKING) < 0)
		m->kids = KIDS_READY;
	return m->kids == KIDS_READY;
}

/* -- those that are missing */

static bool make_missing(struct move *m)
{
	EACH_CHILD(m, c)
	{
		struct proc *p = proc_find(c->pid);
		struct chan_clone id = {
			.kind = CLONE_GHOST, .pid = c->pid, .pgid = c->pgid, .sid = c->sid};

		if (c->child == CHILD_NOT_HERE)
			continue; /* it could not be made: once is enough */
		if (p ? p->state == PROC_MAKING : m->home_here && born_waits(c->pid))
			return false;
		if (p || own_kill(c->pid, 0) == 0 || errno != ESRCH)
			continue;
		memcpy(id.comm, c->comm, sizeof(id.comm));
		id.cred.uid[0] = c->uid;
		id.cred.gid[0] = c->gid;
		if (proc_make(m, m->pid, &id, PROC_MAKING) == 0)
			return false;
		c->child = CHILD_NOT_HERE;
	}
	m->kids = KIDS_STOPPING;
	return true;
}

void children_not_made(struct move *m, int32_t pid, int err)
{
	EACH_CHILD(m, c)
	{
		if (c->pid != pid)
			continue;
		say("process %d arrives without its child %d: %s", m->pid, pid, strerror(err));
		c->child = CHILD_NOT_HERE;
	}
	if (pid == m->pid)
		m->kids = KIDS_READY; /* it will be seen again that it cannot be made */
}

/* -- as it knows them */

/*
 * Stops that it has waited for: shown now, they are taken by its ghost, with whatever was still to
 * be shown of those that run by its word, which is younger.
 */
static bool stop_seen(struct move *m)
{
	bool all = true;

	EACH_CHILD(m, c)
	{
		struct proc *p = proc_find(c->pid);

		if (!p || p->state != PROC_GHOST || p->dying || p->exiting)
			continue;
		if (c->state == CHAIN_RUNS && p->stopped && is_stopped(p))
			mirror_add(p, CLD_CONTINUED, SIGCONT);
		if (c->state == CHAIN_STOP_SEEN && !p->stopped && !p->busy && p->nmirror == 0)
			mirror_add(p, CLD_STOPPED, c->status);
		all &= c->state == CHAIN_STOP_SEEN ? is_stopped(p)
						   : c->state != CHAIN_RUNS || runs(p);
	}
	return all;
}

static bool is_real_child(const struct move *m, const struct init_chain *c)
{
	const struct proc *p = c->child ? proc_find(c->pid) : NULL;

	return c->child && (!p || p->state == PROC_REAL) && proc_parent(c->pid) == m->pid;
}

/*
 * One that runs as it knows it, or whose stop it has seen, and is real here, has stopped since. Its
 * ghost has taken that, or the stop is there to be waited for, and nothing is to be done.
 */
void children_stop(const struct move *m)
{
	for (uint32_t i = 0; i < m->nchain; i++) {
		const struct init_chain *c = &m->chain[i];

		if (m->stop[i] && (c->state == CHAIN_RUNS || c->state == CHAIN_STOP_SEEN) &&
		    is_real_child(m, c) && proc_stop(c->pid) == 0)
			restop(c->pid, m->stop[i]);
	}
}

/* What it has still to wait for. */
static void begin_news(struct move *m)
{
	children_stop(m);
	EACH_CHILD(m, c)
	{
		struct proc *p = proc_find(c->pid);

		if (c->state == CHAIN_STOPPED && is_real_child(m, c))
			restop(c->pid, c->status);
		if (!p || p->state != PROC_GHOST || p->dying)
			continue;
		if (c->state == CHAIN_ENDED)
			trace_exit(p, c->status);
		if (c->state != CHAIN_STOPPED)
			continue;
		/* Its stop was taken by the ghost of its parent, or is about to: only a new one
		 * shows. */
		mirror_add(p, CLD_CONTINUED, SIGCONT);
		mirror_add(p, CLD_STOPPED, c->status);
	}
	m->kids = KIDS_WAITING;
}

static bool news_are_there(struct move *m)
{
	EACH_CHILD(m, c)
	{
		struct proc *p = proc_find(c->pid);

		if (!p || p->state != PROC_GHOST)
			continue;
		/* Its parent is sent the SIGCHLD when we have waited for it, not before. */
		if (c->state == CHAIN_ENDED)
			return false;
		if (c->state == CHAIN_STOPPED && !p->exiting && !is_stopped(p))
			return false;
	}
	return true;
}

bool children_ready(struct move *m)
{
	struct proc *p;

	if (m->kids == KIDS_NONE && (!has_child(m) || m->pid == 0))
		return true;
	if (m->kids == KIDS_NONE)
		m->kids = KIDS_PARENT;
	if (m->kids == KIDS_PARENT && !make_parent(m))
		return false;
	if (m->kids == KIDS_MAKING && !make_missing(m))
		return false;
	if (m->kids == KIDS_STOPPING && stop_seen(m)) {
		p = proc_find(m->pid);
		m->kids = KIDS_TAKING;
		if (p && p->state == PROC_GHOST)
			hold(p, m, CHAN_HOLD_ALL);
	}
	if (m->kids == KIDS_ENDING)
		begin_news(m);
	if (m->kids == KIDS_WAITING && news_are_there(m))
		m->kids = KIDS_READY;
	return m->kids == KIDS_READY;
}

/*
 * One that is real here and has ended, or stopped, since its parent was parked where it comes from.
 * The SIGCHLD of that went with those of what it knows, and nobody mirrors it to where it is true.
 */
siginfo_t children_unheard(const struct move *m)
{
	siginfo_t si = {0};

	for (uint32_t i = 0; i < m->nchain; i++) {
		const struct init_chain *c = &m->chain[i];
		struct chan_child end;
		struct look l = {0};
		int status, sig;

		if (c->state == CHAIN_ENDED || !is_real_child(m, c))
			continue;
		sig = c->state == CHAIN_STOPPED ? 0 : proc_stop(c->pid);
		if (sig > 0)
			end = (struct chan_child){
				.pid = c->pid, .code = CLD_STOPPED, .status = sig};
		else if (proc_zombie_status(c->pid, &status))
			end = child_of(c->pid, status);
		else
			continue;
		look_at(c->pid, &l);
		si.si_signo = SIGCHLD;
		si.si_code = end.code;
		si.si_pid = end.pid;
		si.si_uid = l.uid;
		si.si_status = end.status;
		break;
	}
	return si;
}

bool children_are_made(const struct move *m)
{
	return m->kids != KIDS_NONE;
}

/* -- what becomes of them meanwhile */

/* Told by its ghost here, or by the master, who may have heard of it before we began. */
void children_heard(int32_t pid, int code, int status)
{
	for (uint32_t i = 0; i < moves_used; i++) {
		struct move *m = &moves[i];

		for (uint32_t k = 0; m->phase >= ARRIVE_CHAIN && k < m->nchain; k++)
			if (m->chain[k].pid == pid && m->chain[k].child)
				m->stop[k] = code == CLD_STOPPED ? status : 0;
		/* Before the image: then its ghost drops the SIGCHLDs of that, the first of which
		 * is of the continue. */
		if (m->kids > KIDS_ENDING && m->phase >= ARRIVE_CHAIN && m->phase <= ARRIVE_GHOST)
			children_stop(m);
	}
}

/*
 * The master's word on a stop comes when the parent runs: of one that its ghost had taken, and told
 * of, before the parent was announced. What was told later is known, or was the parent's to see.
 */
static void stop_late(const struct init_msg *msg)
{
	int32_t pid = msg->u.mirror.pid;
	const struct proc *p = proc_find(pid), *parent = proc_find(proc_parent(pid));

	if (p ? p->state != PROC_REAL || p->came != msg->u.mirror.move : msg->u.mirror.move != 0)
		return;
	if (parent && parent->state == PROC_REAL && msg->u.mirror.seq &&
	    msg->u.mirror.seq <= parent->upto && proc_stop(pid) == 0)
		restop(pid, msg->u.mirror.status);
}

bool children_later(const struct init_msg *msg)
{
	int code = msg->u.mirror.code;

	for (uint32_t i = 0; i < moves_used; i++) {
		struct move *m = &moves[i];

		if (m->phase < ARRIVE_CHAIN)
			continue;
		for (uint32_t k = 0; k < m->nchain; k++) {
			struct init_chain *c = &m->chain[k];

			if (c->pid != msg->u.mirror.pid || c->child == CHILD_NOT_HERE ||
			    (!c->child && (m->phase != ARRIVE_CHAIN || proc_find(c->pid))))
				continue;
			if (!is_end(code) && is_real_child(m, c))
				children_heard(c->pid, code, msg->u.mirror.status);
			else if (!is_end(m->late[k].code))
				m->late[k] = (struct mirror){code, msg->u.mirror.status, msg->use};
			return true;
		}
	}
	if (code == CLD_STOPPED)
		stop_late(msg);
	return false;
}

void children_go_on(struct move *m)
{
	for (uint32_t k = 0; k < m->nchain; k++) {
		struct mirror late = m->late[k];
		struct init_msg msg = {
			.type = INIT_MIRROR, .pid = m->chain[k].pid, .use = late.use};

		m->late[k].code = 0;
		m->chain[k].child = CHILD_NOT_HERE; /* not to wait again */
		msg.u.mirror.pid = msg.pid;
		msg.u.mirror.code = late.code;
		msg.u.mirror.status = late.status;
		if (late.code)
			init_mirror(&msg);
	}
}

/* Its ghost stays, also if it was made for this move, or its children's would have no parent. */
void children_abandon(struct move *m)
{
	struct proc *p = m->pid ? proc_find(m->pid) : NULL;

	if (m->kids != KIDS_NONE && p && p->state == PROC_GHOST)
		hold(p, m, CHAN_HOLD_NOT);
	children_go_on(m);
}
