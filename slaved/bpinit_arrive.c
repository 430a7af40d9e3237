/*
 * bpinit: the target's side of a move, in the order in which it happens (steps as
 * in doc/move.md). Ghosts of its ancestors and leaders are made by clone from
 * their parent's ghost, so that the kernel has every relation right by itself;
 * the arrival likewise, or the ghost that is here becomes its original again.
 * What follows when it is complete is in bpinit_complete.c.
 */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "slaved/bpinit_place.h"

/* -- making processes */

static void make_failed(struct move *m, int32_t pid, int err)
{
	char text[CHAN_TEXT_MAX];

	if (err == EEXIST)
		snprintf(text, sizeof(text),
			 "number %d is in use on this node as a process, group "
			 "or session",
			 pid);
	else
		snprintf(text, sizeof(text), "process %d on this node: %s", pid, strerror(err));
	arrive_failed(m, err, text);
}

/* -- step 4: what must be here before it */

static void start_arrival(struct move *m);
static void make_early(struct move *m);

/*
 * Home has every process: what it has not has ended, and the word of it is on its way to where
 * this one comes from. Elsewhere the number says so itself: it is there no more but as the name
 * of a group or session that its ghost was in (EEXIST), so the ghost has ended.
 */
static bool is_over(const struct move *m, int32_t pid)
{
	return m->home_here && !born_waits(pid);
}

static bool of_chain(const struct move *m, int32_t pid)
{
	return m->phase == ARRIVE_CHAIN && m->chain_at < m->nchain &&
	       m->chain[m->chain_at].pid == pid;
}

static void chain_step(struct move *m)
{
	while (m->chain_at < m->nchain && !m->chain[m->chain_at].child) {
		const struct init_chain *c = &m->chain[m->chain_at];
		struct proc *p = proc_find(c->pid);
		struct chan_clone id = {
			.kind = CLONE_GHOST, .pid = c->pid, .pgid = c->pgid, .sid = c->sid};
		int e;

		if (p && p->state == PROC_MAKING)
			return; /* ours or another move's: arrive_progress() comes back */
		if (!p && own_kill(c->pid, 0) < 0 && errno == ESRCH && !is_over(m, c->pid)) {
			if (proc_maker_leaves(c->ppid))
				return;
			memcpy(id.comm, c->comm, sizeof(id.comm));
			chan_cred_ids(&id.cred, (uint32_t[]){c->uid, c->uid, c->uid},
				      (uint32_t[]){c->gid, c->gid});
			e = proc_make(m, c->ppid, &id, PROC_MAKING);
			if (e >= 0)
				return;
			if (e != -EEXIST)
				return make_failed(m, c->pid, -e);
		}
		m->chain_at++;
	}
	if (!place_chain_done(m) || !children_ready(m))
		return; /* likewise */
	m->phase = ARRIVE_READY;
	event_move(EV_READY, m->id, m->req_id, 0);
	if (m->data >= 0)
		start_arrival(m);
	else
		make_early(m);
}

void arrive_progress(void)
{
	for (uint32_t i = 0; i < moves_used; i++) {
		if (moves[i].phase == ARRIVE_CHAIN)
			chain_step(&moves[i]);
		else if (moves[i].phase == ARRIVE_GHOST)
			start_arrival(&moves[i]);
	}
}

/* Why it is not even begun, or NULL. */
static const char *refused(const struct init_msg *msg, int *ret_err)
{
	*ret_err = ECONNABORTED;
	/* A bpslave that hung reads what the master said before it gave the node up. */
	if (fence_is_up())
		return "the node was cut off for too long";
	*ret_err = ECANCELED;
	if (tree_is_over(msg->u.arrive.tree))
		return "one that was to come with it cannot";
	*ret_err = EAGAIN;
	return NULL;
}

void init_arrive(const struct init_msg *msg)
{
	struct move *m = move_find(msg->move_id);
	enum init_type how;
	const char *why;
	int32_t pid = 0;
	int err;

	if (m) {
		if (m->phase == ARRIVE_READY)
			event_move(EV_READY, m->id, m->req_id, 0);
		return;
	}
	how = move_how_ended(msg->move_id, &pid);
	if (how == EV_RAN || how == EV_VOIDED) {
		event_move(how, msg->move_id, msg->req_id, pid);
		return;
	}
	why = refused(msg, &err);
	m = !why && msg->u.arrive.nchain <= INIT_CHAIN_MAX && ran_has_room(msg->move_id)
		    ? move_new(ARRIVE_CHAIN)
		    : NULL;
	if (!m) {
		event_failed(msg->move_id, msg->req_id, EVF_TARGET, err, "%s",
			     why ? why : "too many moves at once on the node");
		return;
	}
	m->id = msg->move_id;
	m->req_id = msg->req_id;
	m->pid = msg->pid;
	m->epoch = msg->u.arrive.epoch;
	m->kind = msg->u.arrive.kind;
	m->ppid = msg->u.arrive.ppid;
	m->pgid = msg->u.arrive.pgid;
	m->sid = msg->u.arrive.sid;
	m->home_here = msg->u.arrive.home_here;
	m->from_home = msg->u.arrive.from_home;
	m->threads = msg->u.arrive.threads > 1;
	m->tree = msg->u.arrive.tree;
	m->members = msg->u.arrive.members;
	m->upto = events_upto();
	if (m->threads)
		lease_raise(INT32_MAX); /* whatever numbers those have */
	m->cred = msg->u.arrive.cred;
	m->nchain = msg->u.arrive.nchain;
	memcpy(m->chain, msg->u.arrive.chain, sizeof(m->chain));
	place_chain(m);
	chain_step(m);
}

/* A ghost has tried to make a child. On success the child speaks for itself. */
void arrive_cloned(const struct proc *by, const struct chan_msg *c)
{
	struct proc *p = proc_find(c->u.pid);
	struct move *m = p ? move_of(p) : NULL;

	if (c->err == 0 && p && p->state == PROC_MAKING && p->orphan)
		return making_made(p);
	if (c->err == 0 && p && p->state == PROC_MAKING && p->chan < 0 &&
	    proc_parent(p->pid) == by->pid)
		arrive_end(p);
	if (c->err == 0 || !p || (p->state != PROC_MAKING && p->state != PROC_ARRIVING))
		return;
	if (p->birth)
		born_failed(p, c->err);
	proc_remove(p);
	if (m && m->phase == ARRIVE_CHAIN && m->chain_at < m->nchain && m->chain[m->chain_at].child)
		children_not_made(m, c->u.pid, c->err);
	else if (m && c->err == EEXIST && of_chain(m, c->u.pid))
		m->chain_at++;
	else if (m)
		make_failed(m, c->u.pid, c->err);
	arrive_progress();
}

/* -- step 7: the image has come */

static int send_arrive(struct move *m, struct proc *p, uint32_t flags)
{
	struct chan_msg c = {.type = CHAN_ARRIVE,
			     .move_id = m->id,
			     .flags = flags | (m->threads ? CHAN_ARRIVE_THREADS : 0) |
				      (m->tree ? CHAN_ARRIVE_TREE : 0),
			     .u.clone.cred = m->cred};
	int fd[3 + CHAN_STREAMS] = {m->data}, n = 1, e;
	const char *why_not;

	for (int i = 0; i < CHAN_STREAMS; i++) {
		if (m->stream[i] < 0)
			continue;
		c.stream_mask |= 1u << i;
		fd[n++] = m->stream[i];
	}
	if (m->lazy && lazy_device(&why_not) >= 0) {
		c.flags |= CHAN_ARRIVE_LAZY;
		fd[n++] = lazy_device(&why_not);
	}
	if (m->filters >= 0) {
		c.flags |= CHAN_ARRIVE_FILTERS;
		fd[n++] = m->filters;
	}
	skel_arm(m);
	e = proc_tell(p, &c, fd, n);
	/* m->data stays open: whoever closes a TCP socket last has 15 us of work with it, and the
	 * arrival is waited for. */
	close_streams(m->stream);
	if (c.flags & CHAN_ARRIVE_LAZY)
		lazy_start(m);
	return e;
}

static void arrive_into_ghost(struct move *m, struct proc *p)
{
	uint32_t flags = (m->kind == MOVE_REXEC ? CHAN_ARRIVE_EXEC : 0) |
			 (children_are_made(m) ? CHAN_ARRIVE_CHILDREN : 0);

	/* A ghost that was made by clone has nothing on 0..2. */
	if (m->home_here && !p->in_place)
		born_stdio(p->pid, m->stream);
	else if (m->home_here)
		flags |= CHAN_ARRIVE_HOME;
	skel_drop(p->pid);
	p->state = PROC_ARRIVING;
	p->move = move_index(m) + 1;
	p->held_stop = false;
	p->busy = 0; /* what is under way is dropped with all signals that the blob blocks */
	p->was_ghost = true;
	if (send_arrive(m, p, flags) < 0) {
		p->state = PROC_GHOST;
		arrive_failed(m, EPIPE, "its ghost does not answer");
		return;
	}
	trace_wake(p);
}

/* Its parent's ghost makes it. NULL: the move has failed. */
static struct proc *make_arrival(struct move *m)
{
	struct chan_clone id = {.kind = m->home_here ? CLONE_ARRIVAL_HOME : CLONE_ARRIVAL,
				.pid = m->pid,
				.pgid = m->pgid,
				.sid = m->sid,
				.cred = m->cred};
	int e = skel_take(m, &id) ? 0 : proc_make(m, m->ppid, &id, PROC_ARRIVING);

	if (e == 0)
		return proc_find(m->pid);
	make_failed(m, m->pid, -e);
	return NULL;
}

/*
 * While its image is still to come: what is to take it in. It then sleeps until that is there, and
 * who is woken goes before what computes there; who is new waits for the end of a slice.
 */
static void make_early(struct move *m)
{
	/* What is in the way of it is told when the image is here, not before. */
	if (m->kind != MOVE_LIVE && !m->tree && m->pid > 0 && !proc_find(m->pid) &&
	    !born_waits(m->pid) && !children_are_coming(m->ppid) && !proc_maker_leaves(m->ppid) &&
	    (!m->home_here || proc_can_clone(proc_find(m->ppid))))
		make_arrival(m);
}

static void start_arrival(struct move *m)
{
	struct proc *p = proc_find(m->pid);

	if (m->kind == MOVE_LIVE) {
		live_arrived(m);
		return;
	}
	/* Born on a node, and its ghost at home is being made; or it has left from here, and a new
	 * master has not said so yet: arrive_progress() comes back. */
	m->phase = ARRIVE_GHOST;
	if (p ? p->state == PROC_MAKING || p->state == PROC_LEAVING || arrive_has_dropped(p->pid) ||
			    (m->home_here && !born_settled(p->pid))
	      : born_waits(m->pid))
		return;
	if (!p && children_are_coming(m->ppid))
		return;
	if (m->tree && tree_not_yet(m, p))
		return;
	if (!p && proc_maker_leaves(m->ppid))
		return;
	if (p && proc_can_clone(p) && !place_ready(m, p))
		return; /* likewise */
	if (!p && m->home_here && home_waits(m))
		return;
	m->phase = ARRIVE_RESTORING;
	if (p && proc_can_clone(p)) {
		arrive_into_ghost(m, p);
		return;
	}
	if (p && (p->exiting || p->dying)) {
		arrive_failed(m, ESRCH, "the process was killed at the place where it goes");
		return;
	}
	/* Born on a node: home has its parent's ghost, whose stdio is its own too. */
	if (!p && m->home_here && !proc_can_clone(proc_find(m->ppid))) {
		arrive_failed(m, ESRCH, "neither it nor its parent has a ghost at home");
		return;
	}
	if (p && move_of(p) != m) {
		make_failed(m, m->pid, EEXIST);
		return;
	}
	if (!p)
		p = make_arrival(m);
	if (p)
		send_arrive(m, p,
			    (m->kind == MOVE_REXEC ? CHAN_ARRIVE_EXEC : 0) |
				    (m->home_here ? CHAN_ARRIVE_HOME : 0));
}

/* Of what comes with the image: streams, seccomp filters, by which its source is heard. */
static int take_fds(struct move *m, const struct init_msg *msg, struct sysio_pkt *pkt)
{
	int n = 1 + __builtin_popcount(msg->stream_mask),
	    e = sort_streams(pkt, 1, msg->stream_mask, m->stream);

	if (e == 0 && msg->flags & INIT_DATA_FILTERS && pkt->nfd > n)
		m->filters = take_fd(pkt->fd[n++]);
	m->lazy = msg->flags & INIT_DATA_LAZY && m->kind == MOVE_MOVE;
	if (e == 0 && m->lazy && pkt->nfd > n)
		m->back = take_fd(pkt->fd[n]);
	return e;
}

void init_data(const struct init_msg *msg, struct sysio_pkt *pkt)
{
	struct move *m = move_find(msg->move_id);

	if (!m || m->phase > ARRIVE_READY || m->phase < ARRIVE_CHAIN || m->data >= 0 || m->voided)
		return; /* its descriptors are closed with the packet: the source sees it */
	if (m->pid == 0)
		m->pid = msg->u.data.pid;
	if (pkt->nfd < 1 || m->pid <= 0 || m->pid != msg->u.data.pid || take_fds(m, msg, pkt) < 0) {
		arrive_failed(m, EPROTO, "no connection came with the image");
		return;
	}
	m->data = take_fd(pkt->fd[0]);
	if (m->kind != MOVE_LIVE)
		once_put(m->pid, msg->u.data.streams);
	m->used = msg->u.data.used;
	if (m->phase == ARRIVE_READY)
		start_arrival(m);
}
