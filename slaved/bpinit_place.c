/*
 * bpinit: the group and session of a process are the same on every machine that has
 * it, really or as a ghost (doc/local.md, section 5). What a node's processes change
 * home is told (bpinit_group.c); home looks at all that have a ghost somewhere, again
 * and again, for it has no filter and the kernel tells nobody. What home has then holds
 * for all.
 *
 * A ghost takes its place itself. What is real here has its group from the ghost of
 * its parent, as the kernel lets a parent do it; a session is its own to make.
 */
#include <errno.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "slaved/bpinit_place.h"

#define LOOK_MS 25    /* between looks at home */
#define LOOK_SHARE 50 /* at most this part of the time goes into looking */
#define RETRY_MS 10
#define TRIES_MAX 500  /* 5 s: it is moving, or its birth has not been told yet */
#define ANSWER_MS 5000 /* of a ghost, which may have been killed */
#define ORDERS_MAX 512
#define YOUNG_MS 5000 /* home's word on a ghost: what comes of it may not have heard it yet */

/* Whose word is an order? */
enum whose {
	OF_HOME,
	OF_SOURCE, /* the node's from which somebody comes */
	OF_NOBODY, /* it was made, or has come, and its group was not here yet */
};

/* What is to be done, until it is done. */
struct order {
	struct init_place place; /* pid 0: free */
	enum whose whose;
	int tries;
	bool asked; /* a ghost has been told */
	int64_t due;
	uint64_t word;
};
static uint64_t last_word;
static struct order orders[ORDERS_MAX];
static uint32_t norders; /* in use */
static int64_t look_at_ms;

/* -- home tells */

static void tell(int32_t pid, const struct place *p, const struct init_place *answers)
{
	struct init_msg m = {.type = EV_PLACE, .pid = pid};

	m.u.place.pid = pid;
	m.u.place.pgid = p->pgid;
	m.u.place.sid = p->sid;
	m.u.place.node = answers ? answers->node : -1;
	m.u.place.number = answers ? answers->number : 0;
	event(&m);
}

struct place place_of(int32_t pid)
{
	int32_t pgid = getpgid(pid), sid = getsid(pid);

	return (struct place){.pgid = pgid > 0 && sid > 0 ? pgid : 0, .sid = sid > 0 ? sid : 0};
}

static void look(int32_t pid, struct place *known)
{
	struct place is = place_of(pid);

	if (!is.pgid || (is.pgid == known->pgid && is.sid == known->sid))
		return;
	is.changed = known->pgid != 0;
	is.when = is.changed ? clock_ms() : 0;
	*known = is;
	if (is.changed)
		tell(pid, known, NULL);
}

/* Of one on its way, too, since what it becomes here is compared with that only. */
static void again(int32_t pid, struct place *known)
{
	if (known->changed)
		tell(pid, known, NULL);
}

static void each(void (*fn)(int32_t pid, struct place *known), bool moving)
{
	for (uint32_t i = 0; i < procs_used; i++) {
		struct proc *p = &procs[i];

		if (p->state == PROC_GHOST || p->state == PROC_REAL ||
		    (moving && p->state != PROC_FREE))
			fn(p->pid, &p->place);
	}
}

void place_watched(int32_t pid, struct place *known)
{
	*known = place_of(pid);
	if (!self.keeper || !known->pgid)
		return;
	known->changed = true;
	known->when = clock_ms();
	tell(pid, known, NULL);
}

/* Of those at home that have come back there is a record of their own. */
static void look_native(int32_t pid, struct place *known)
{
	if (!proc_find(pid))
		look(pid, known);
}

/*
 * It may have changed since the last look, and as a ghost it is where it was when it left. What
 * goes to a node from where it is then must not find its ghost there in another place.
 */
void place_leaves(struct proc *p)
{
	const struct place *known = p->place.pgid ? NULL : watch_place(p->pid);

	if (known)
		p->place = *known;
	look(p->pid, &p->place);
}

static void look_all(void)
{
	each(look, false);
	watch_each(look_native);
}

static void again_native(int32_t pid, struct place *known)
{
	if (!proc_find(pid))
		again(pid, known);
}

void place_look(int32_t pid)
{
	const bool any = self.keeper && pid > 0; /* 0: whoever it was has gone */
	struct proc *p = any ? proc_find(pid) : NULL;
	struct place *known = any && !p ? watch_place(pid) : NULL;

	if (p && (p->state == PROC_GHOST || p->state == PROC_REAL))
		look(pid, &p->place);
	else if (known)
		look(pid, known);
}

void init_place_again(const struct init_msg *m)
{
	(void)m;
	if (!self.keeper)
		return;
	each(again, true);
	watch_each(again_native);
}

/* -- orders */

static void done(struct order *o)
{
	struct place is = place_of(o->place.pid);
	struct proc *p = proc_find(o->place.pid);

	is.changed = self.keeper;
	is.when = o->whose == OF_HOME ? clock_ms() : p ? p->place.when : 0;
	is.word = o->whose == OF_HOME ? o->word : p ? p->place.word : 0;
	if (p)
		p->place = is;
	/* A ghost that still is not where its original is says nothing of that. */
	if (self.keeper &&
	    (o->whose != OF_NOBODY || is.pgid == o->place.pgid || !p || p->state != PROC_GHOST)) {
		place_look(is.pgid); /* who leads it has made it: that is told first */
		tell(o->place.pid, &is, &o->place);
	}
	o->place.pid = 0;
	norders--;
}

static void later(struct order *o)
{
	if (++o->tries == TRIES_MAX)
		return done(o);
	o->due = clock_ms() + RETRY_MS;
}

/*
 * The leader of a group of which nobody is here: its ghost is made. False: it is being made, or
 * cannot be.
 */
bool place_have_group(const struct init_place *pl)
{
	const struct init_chain *c = &pl->leader;
	struct chan_clone id = {.kind = CLONE_GHOST, .pid = c->pid, .pgid = c->pgid, .sid = c->sid};
	struct proc *p = proc_find(c->pid);

	if (c->pid <= 1 || c->pid == pl->pid || own_kill(-pl->pgid, 0) == 0)
		return true;
	if (p || own_kill(c->pid, 0) == 0)
		return false; /* being made, or in another group still */
	memcpy(id.comm, c->comm, sizeof(id.comm));
	chan_cred_ids(&id.cred, (uint32_t[]){c->uid, c->uid, c->uid}, (uint32_t[]){c->gid, c->gid});
	proc_make(NULL, c->ppid, &id, PROC_MAKING);
	return false;
}

static void attempt(struct order *o)
{
	const struct init_place *pl = &o->place;
	struct proc *p = proc_find(pl->pid), *by = p;
	struct chan_msg c = {.type = CHAN_PLACE};
	struct place is = place_of(pl->pid);

	if (!is.pgid || (p && p->state != PROC_GHOST && p->state != PROC_REAL))
		return later(o);
	if ((is.pgid == pl->pgid && is.sid == pl->sid) || (pl->was && is.pgid != pl->was))
		return done(o);
	/* Its own call is on its way: with its group made before, the kernel would refuse that. */
	if ((!p || p->state == PROC_REAL) && pl->sid == pl->pid && is.sid != pl->sid)
		return later(o);
	/* Of what is real here its parent's ghost has to: a real parent has done it itself. */
	if (!p || p->state == PROC_REAL)
		by = proc_find(proc_parent(pl->pid));
	if (by && by->state != PROC_GHOST && by->state != PROC_REAL)
		return later(o); /* it is becoming a ghost, or its original */
	if (!by || by->state == PROC_REAL || by->chan < 0 || by->exiting || by->dying)
		return done(o);
	if (pl->pgid != pl->pid && !place_have_group(pl))
		return later(o);
	c.u.place.pid = pl->pid;
	c.u.place.pgid = pl->pgid;
	c.u.place.sid = pl->sid;
	c.u.place.was = pl->was;
	c.u.place.found = !self.keeper && pl->leader.pid <= 1 && pl->pgid != pl->pid &&
			  !proc_find(pl->pgid) && own_kill(-pl->pgid, 0) < 0 && errno == ESRCH;
	if (proc_tell(by, &c, NULL, 0) < 0)
		return later(o);
	if (is.sid != pl->sid)
		skel_drop(pl->pid); /* warm children of it are in the old session */
	trace_wake(by);
	o->asked = true;
	o->due = clock_ms() + ANSWER_MS;
}

void place_done(const struct chan_msg *c)
{
	for (uint32_t i = 0; i < ORDERS_MAX && norders > 0; i++) {
		struct order *o = &orders[i];

		if (o->place.pid != c->u.place.pid || !o->asked)
			continue;
		o->asked = false;
		/* A leader that is a ghost may make its group a moment later. */
		if (c->err == EPERM && (o->whose == OF_NOBODY || o->tries < TRIES_MAX / 10))
			later(o);
		else
			done(o);
		arrive_progress();
		return;
	}
}

static void begin(const struct init_place *place, enum whose whose)
{
	struct order *o = NULL;

	for (uint32_t i = 0; i < ORDERS_MAX; i++) {
		struct init_place *old = &orders[i].place;

		if (old->pid == 0 && !o)
			o = &orders[i];
		/* What waits is overtaken, but has still to be answered. A session that it has made
		 * is for good: a word that has it in another one is older, whenever it comes. */
		if (old->pid != place->pid || orders[i].asked ||
		    (old->sid == old->pid && place->sid != old->sid))
			continue;
		old->pgid = place->pgid;
		old->sid = place->sid;
		old->was = place->was;
		old->leader = place->leader;
		orders[i].whose = whose;
		orders[i].word = last_word + 1;
	}
	if (!o) {
		say("pid %d: too many change their group at once", place->pid);
		return;
	}
	*o = (struct order){.place = *place, .whose = whose, .word = ++last_word};
	norders++;
	attempt(o);
}

void init_place(const struct init_msg *m)
{
	if (m->u.place.pid <= 1)
		return;
	if (!self.keeper && m->u.place.sid == 0)
		return group_answer(&m->u.place);
	begin(&m->u.place, OF_HOME);
}

void place_made(int32_t pid)
{
	for (uint32_t i = 0; i < ORDERS_MAX && norders > 0; i++)
		if (orders[i].place.pid == pid && !orders[i].asked)
			attempt(&orders[i]);
}

/* What has been said of it and is not done yet. */
static struct order *waiting_for(int32_t pid)
{
	for (uint32_t i = 0; i < ORDERS_MAX && norders > 0; i++)
		if (orders[i].place.pid == pid && orders[i].whose != OF_NOBODY)
			return &orders[i];
	return NULL;
}

/*
 * Its leader stands in here in another group, and the word that it has made this one is on its
 * way: then nobody will say anything of those that have been in it all the time.
 */
void place_misses(const struct proc *p, int32_t pgid, int32_t sid)
{
	struct place is = place_of(p->pid);

	if (is.pgid && pgid > 0 && is.pgid != pgid && is.sid == sid && pgid != p->pid &&
	    proc_find(pgid) && !waiting_for(p->pid))
		begin(&(struct init_place){.pid = p->pid,
					   .pgid = pgid,
					   .sid = sid,
					   .was = is.pgid,
					   .node = -1},
		      OF_NOBODY);
}

/* Home has said where it is, and who comes from elsewhere may have left before that. */
static bool is_young(const struct proc *p)
{
	return p->place.when && clock_ms() - p->place.when < YOUNG_MS;
}

/*
 * Home's last word on it is younger than what comes with it. Who comes from home has what home had
 * then: its words before that are older. And a session that was made is not given up.
 */
static bool is_older(const struct move *m, const struct proc *p, const struct place *is)
{
	if (!is_young(p))
		return false;
	return (!m->from_home || p->place.word > m->word) &&
	       (m->sid != p->pid || is->sid == p->pid);
}

bool place_ready(struct move *m, const struct proc *p)
{
	const struct init_place where = {.pid = p->pid, .pgid = m->pgid, .sid = m->sid, .node = -1};
	struct place is = place_of(p->pid);
	struct order *o = waiting_for(p->pid);

	if (!o) {
		if (m->place_tried || (is.pgid == m->pgid && is.sid == m->sid) ||
		    is_older(m, p, &is) || m->pgid <= 0 || (m->sid != p->pid && m->sid != is.sid))
			return true;
		m->place_tried = true;
		begin(&where, m->from_home ? OF_HOME : OF_SOURCE);
	} else if (!o->asked) {
		attempt(o);
	}
	return !waiting_for(p->pid);
}

bool place_leads(const struct proc *p, bool *told)
{
	const struct init_place where = {
		.pid = p->pid, .pgid = p->pid, .sid = p->pid, .node = -1};
	struct place is = place_of(p->pid);

	if (!is.pgid || is.sid == p->pid)
		return true;
	if (!*told)
		begin(&where, OF_SOURCE);
	*told = true;
	return !waiting_for(p->pid);
}

/* Or will in a moment. */
static bool stands_in(const struct proc *p)
{
	return p && !p->exiting && !p->dying &&
	       (p->state == PROC_GHOST || p->state == PROC_LEAVING || p->state == PROC_MAKING);
}

/* Has it to be said to its ghost? What waits to be done comes before it, so that is older. */
static bool is_news(const struct move *m, const struct proc *p, const struct init_chain *c)
{
	const struct order *o = waiting_for(c->pid);
	const bool leads = c->sid == c->pid;
	struct place is = place_of(c->pid);

	if (o) {
		is.pgid = o->place.pgid;
		is.sid = o->place.sid;
	}
	if (is.pgid == c->pgid && is.sid == c->sid)
		return false;
	/* Who leads a session does for good. Of a group a node may have an old word as well, but
	 * not of that in which the arrival itself is; home's is the younger one if it has just
	 * come. */
	if (leads)
		return is.sid != c->sid;
	return is.sid == c->sid && (m->from_home || (!o && !c->child && c->pid == m->pgid &&
						     c->pgid == m->pgid && !is_young(p)));
}

void place_chain(struct move *m)
{
	m->word = last_word;
	for (uint32_t i = 0; i < m->nchain; i++) {
		const struct init_chain *c = &m->chain[i];
		const struct proc *p = proc_find(c->pid);
		const struct init_place where = {
			.pid = c->pid, .pgid = c->pgid, .sid = c->sid, .node = -1};

		if (stands_in(p) && c->pgid > 0 && is_news(m, p, c))
			begin(&where, m->from_home ? OF_HOME : OF_SOURCE);
	}
}

bool place_chain_done(const struct move *m)
{
	for (uint32_t i = 0; norders > 0 && i < m->nchain; i++) {
		int32_t pid = m->chain[i].pid;

		if (waiting_for(pid) && stands_in(proc_find(pid)))
			return false;
	}
	return true;
}

int place_tick(int ms)
{
	int64_t t = clock_ms(), begun;
	bool ended = false;
	int due = -1;

	for (uint32_t i = 0; i < ORDERS_MAX && norders > 0; i++) {
		struct order *o = &orders[i];

		if (o->place.pid && o->due <= t) {
			o->asked ? done(o) : attempt(o);
			ended |= !o->place.pid;
		}
		if (o->place.pid)
			due = RETRY_MS;
	}
	if (ended)
		arrive_progress();
	if (self.keeper && (procs_count > 0 || watches_count > 0)) {
		if (t >= look_at_ms) {
			begun = clock_ns(CLOCK_MONOTONIC);
			look_all();
			begun = (clock_ns(CLOCK_MONOTONIC) - begun) * LOOK_SHARE / 1000000;
			look_at_ms = t + (begun > LOOK_MS ? begun : LOOK_MS);
		}
		if (due < 0 || due > look_at_ms - t)
			due = (int)(look_at_ms - t) + 1;
	}
	return due < 0 ? ms : ms < 0 || ms > due ? due : ms;
}
