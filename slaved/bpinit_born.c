/*
 * bpinit: ghosts at home of processes that were born on a node. The ghost of the
 * parent clones it under its number, so that the kernel has every relation right
 * by itself; where there is none, or it may not, it hangs under the keeper. A
 * birth waits here until its ghost has been made. Home's ghosts do not reap by
 * themselves: a zombie stays until the original has been waited for.
 */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "slaved/bpinit_place.h"

#define HASH 4096
#define LIMIT_TRIES 5	/* with the user's limits in the way, before the keeper does it */
#define RETRY_MS 20	/* its number is taken: by a zombie of its last use, as a rule */
#define TAKEN_TRIES 100 /* 2 s of that: something else lives on with it, */
#define TAKEN_MS 500	/* maybe for long */
#define TRIES_MAX 500	/* of what is no matter of the number */

struct birth {
	TAILQ_ENTRY(birth) next;
	LIST_ENTRY(birth) by_pid, by_parent;
	int32_t pid, ppid; /* ppid 0: it is in no by_parent */
	uint64_t use;
	struct chan_name name;
	bool making;
	bool reaped;
	bool led;	    /* its parent's ghost was told that it leads their session */
	bool plain;	    /* it is made by us: who could have made it in its session may not */
	struct mirror stop; /* the last stop or continue; code 0: none */
	struct mirror end;  /* code 0: it has not ended */
	int tries;
	int64_t due;   /* ms; 0: now */
	int64_t until; /* ms: its parent is to have a ghost here, and is waited for; 0: not */
};
static struct birth births[BIRTHS_MAX];
static TAILQ_HEAD(birth_list, birth) waiting = TAILQ_HEAD_INITIALIZER(waiting),
				     unused = TAILQ_HEAD_INITIALIZER(unused);
static LIST_HEAD(birth_chain, birth) by_pid[HASH], by_parent[HASH];
static uint32_t births_used; /* no slot at or above it was ever used */
static uint32_t making;
static bool full_told;

static struct birth *find(int32_t pid)
{
	struct birth *b;

	LIST_FOREACH(b, &by_pid[(uint32_t)pid % HASH], by_pid)
	if (b->pid == pid)
		return b;
	return NULL;
}

static void set_parent(struct birth *b, int32_t ppid)
{
	if (b->ppid)
		LIST_REMOVE(b, by_parent);
	b->ppid = ppid;
	if (ppid)
		LIST_INSERT_HEAD(&by_parent[(uint32_t)ppid % HASH], b, by_parent);
}

/* It is not, or no longer, to be made by this parent, whose own end may have waited for it. */
static void not_of(int32_t ppid)
{
	struct proc *parent = proc_find(ppid);

	if (parent && parent->state == PROC_GHOST)
		mirror_next(parent);
}

static void drop(struct birth *b)
{
	int32_t ppid = b->ppid;

	making -= b->making;
	set_parent(b, 0);
	LIST_REMOVE(b, by_pid);
	b->pid = 0;
	TAILQ_REMOVE(&waiting, b, next);
	TAILQ_INSERT_TAIL(&unused, b, next);
	not_of(ppid);
	arrive_progress();
}

/* One whose number stays taken is not waited for: its parent may end before it has a ghost. */
bool born_of(int32_t ppid)
{
	const struct birth *b;

	LIST_FOREACH(b, &by_parent[(uint32_t)ppid % HASH], by_parent)
	if (b->ppid == ppid && b->tries < TAKEN_TRIES)
		return true;
	return false;
}

static struct birth *add(int32_t pid)
{
	struct birth *b = TAILQ_FIRST(&unused);

	if (b)
		TAILQ_REMOVE(&unused, b, next);
	else if (births_used < BIRTHS_MAX)
		b = &births[births_used++];
	else
		return NULL;
	*b = (struct birth){.pid = pid};
	LIST_INSERT_HEAD(&by_pid[(uint32_t)pid % HASH], b, by_pid);
	TAILQ_INSERT_TAIL(&waiting, b, next);
	return b;
}

static void show(struct proc *p, const struct chan_name *name)
{
	struct chan_msg c = {.type = CHAN_NAME, .u.name = *name};

	/* A stopped one has its new name when it goes on, or when there is other work. */
	if (p->chan >= 0 && !p->dying && !p->exiting)
		proc_tell(p, &c, NULL, 0);
}

/* All of its life has come before its ghost: nobody can wait for it any more. */
static bool is_over(struct birth *b)
{
	if (!b->end.code || !b->reaped)
		return false;
	event(&(struct init_msg){.type = EV_MIRRORED, .pid = b->pid, .use = b->use});
	born_over(b->pid, b->use);
	drop(b);
	return true;
}

static void later(struct birth *b, int ms)
{
	making -= b->making;
	b->making = false;
	b->due = clock_ms() + ms;
}

static void give_up(struct birth *b, int err)
{
	say("pid %d was born on a node; its ghost: %s", b->pid, strerror(err));
	/* The master is not to wait for a ghost that never was. */
	event(&(struct init_msg){
		.type = b->end.code ? EV_MIRRORED : EV_LOST, .pid = b->pid, .use = b->use});
	drop(b);
}

/*
 * Its number is taken, here by what has it for whatever reason. It is tried for as long as the
 * process lives: nobody would tell of it again.
 */
static void taken(struct birth *b)
{
	if (b->tries < TAKEN_TRIES && ++b->tries == TAKEN_TRIES) {
		say("pid %d was born on a node, and is taken here: it has its ghost when that is "
		    "free",
		    b->pid);
		not_of(b->ppid);
	}
	later(b, b->tries < TAKEN_TRIES ? RETRY_MS : TAKEN_MS);
}

static void failed(struct birth *b, int err)
{
	int32_t ppid = b->ppid;

	if (err == EEXIST)
		return taken(b);
	if (ppid && (err != EAGAIN || b->tries > LIMIT_TRIES)) {
		set_parent(b, 0); /* the parent's ghost may not, or has gone: the keeper */
		not_of(ppid);
	} else if (!ppid && !b->plain && b->name.sid != b->pid) {
		b->plain = true;
	} else if (++b->tries >= TRIES_MAX || err != EAGAIN) {
		give_up(b, err);
		return;
	}
	later(b, RETRY_MS);
}

static void is_made(struct proc *p, struct birth *b)
{
	struct mirror stop = b->stop, end = b->end;

	show(p, &b->name);
	p->use = b->use;
	procs_reaped += b->reaped && !p->reaped;
	p->reaped |= b->reaped;
	drop(b);
	if (stop.code)
		mirror_add(p, stop.code, stop.status);
	if (end.code)
		mirror_add(p, end.code, end.status);
}

/* False: there is no room for more at the moment. */
static bool make(struct birth *b)
{
	struct proc *p = proc_find(b->pid), *parent = proc_find(b->ppid);
	struct chan_clone id = {
		.kind = CLONE_GHOST, .pid = b->pid, .pgid = b->name.pgid, .sid = b->name.sid};
	int e;

	if (making >= BIRTHS_AT_ONCE)
		return false;
	if (p && p->state == PROC_GHOST && !p->dying && !use_differs(p->use, b->use)) {
		is_made(p, b);
		return true;
	}
	if (p && p->state != PROC_GHOST && p->state != PROC_MAKING) {
		drop(b); /* it is real here by now */
		return true;
	}
	if (p) {
		later(b, RETRY_MS); /* dying, of the number's last use; or made for a chain */
		return true;
	}
	/* Its parent first: it becomes a ghost in a moment, or is one again. */
	if (parent ? parent->state != PROC_GHOST && parent->state != PROC_REAL
		   : find(b->ppid) != NULL)
		return true;
	/* Nobody is put into a session later: its leader's ghost makes it before. */
	if (!parent ? b->ppid && clock_ms() < b->until
		    : parent->state == PROC_GHOST && b->name.sid == b->ppid &&
			      !place_leads(parent, &b->led)) {
		later(b, RETRY_MS);
		return true;
	}
	if (b->plain)
		id.sid = 0;
	memcpy(id.comm, b->name.comm, sizeof(id.comm));
	chan_cred_ids(&id.cred, (uint32_t[]){b->name.uid, b->name.euid, b->name.suid},
		      (uint32_t[]){b->name.gid, b->name.egid});
	b->making = true;
	making++;
	e = proc_make(NULL, b->ppid, &id, PROC_MAKING);
	if (e < 0) {
		failed(b, -e);
		return true;
	}
	p = proc_find(b->pid);
	p->birth = (uint32_t)(b - births) + 1;
	p->use = b->use;
	return true;
}

static void progress(void)
{
	int64_t t = clock_ms();
	struct birth *b, *more;

	for (b = TAILQ_FIRST(&waiting); b; b = more) {
		more = TAILQ_NEXT(b, next);
		if (!b->making && b->due <= t && !make(b))
			return;
	}
}

int born_tick(void)
{
	int64_t t = clock_ms(), due = INT64_MAX;
	struct birth *b;

	if (TAILQ_EMPTY(&waiting))
		return -1;
	progress();
	TAILQ_FOREACH(b, &waiting, next)
	if (!b->making && b->due < due)
		due = b->due;
	if (due == INT64_MAX || making >= BIRTHS_AT_ONCE)
		return -1;
	return due - t > RETRY_MS / 4 ? (int)(due - t) : RETRY_MS / 4;
}

void born_made(struct proc *p)
{
	/* Made for an arrival's chain before its birth was told, maybe. */
	struct birth *b = p->birth ? &births[p->birth - 1] : find(p->pid);

	if (!b)
		return;
	p->birth = 0;
	p->born_of = b->ppid;
	is_made(p, b);
	full_told = false;
}

void born_failed(struct proc *p, int err)
{
	struct birth *b = &births[p->birth - 1];

	p->birth = 0;
	for (int i = 0; i < p->nmirror; i++) {
		if (is_end(p->mirror[i].code))
			b->end = p->mirror[i];
		else
			b->stop = p->mirror[i];
	}
	b->reaped |= p->reaped;
	if (!is_over(b))
		failed(b, err);
}

/* Is it the ghost of the one that is spoken of now, and not of its number's last use? */
static bool is_here(const struct proc *p, uint64_t use)
{
	return p && (p->state == PROC_GHOST || p->state == PROC_MAKING) && !p->dying &&
	       !use_differs(p->use, use);
}

bool born_mirror(const struct init_msg *m)
{
	struct mirror change = {(int)m->u.mirror.code, m->u.mirror.status, 0};
	int32_t pid = m->u.mirror.pid;
	struct birth *b = find(pid);

	if (!b || b->making || use_differs(b->use, m->use) || is_here(proc_find(pid), m->use))
		return false;
	if (!is_end(change.code)) {
		b->stop = change;
		return true;
	}
	/* Its ghost is made all the same: its parent may come home, and wait for it. A master that
	 * was told of the ghost only guesses how it ended. */
	if (!b->end.code)
		b->end = change;
	is_over(b);
	return true;
}

/* Another process has the number by now: what the last one did is over, with or without a ghost. */
static void used_again(struct birth *b)
{
	event(&(struct init_msg){.type = EV_MIRRORED, .pid = b->pid, .use = b->use});
	b->stop = b->end = (struct mirror){0};
	b->reaped = false;
	b->tries = 0;
	b->due = 0;
}

void init_born(const struct init_msg *m)
{
	struct proc *p = proc_find(m->pid);
	struct chan_name name;
	struct birth *b;

	if (!self.keeper)
		return;
	if (p && p->state == PROC_GHOST && !p->dying && !use_differs(p->use, m->use)) {
		if (m->use)
			p->use = m->use;
		name = m->u.born.name;
		name.sid = 0; /* its place is told by itself, in its own order (bpinit_place.c) */
		show(p, &name);
		return;
	}
	if (born_was(m->pid, m->use)) {
		event(&(struct init_msg){.type = EV_MIRRORED, .pid = m->pid, .use = m->use});
		return;
	}
	b = find(m->pid);
	if (!b)
		b = add(m->pid);
	if (!b) {
		if (!full_told)
			say("%d ghosts are waiting to be made: more are not", BIRTHS_MAX);
		full_told = true;
		event(&(struct init_msg){.type = EV_LOST, .pid = m->pid, .use = m->use});
		return;
	}
	if (!b->making && use_differs(b->use, m->use))
		used_again(b);
	b->name = m->u.born.name;
	b->use = m->use;
	if (!m->u.born.parent_lives)
		b->until = 0;
	else if (b->until == 0)
		b->until = clock_ms() + UNTOLD_MS;
	if (!b->making)
		set_parent(b, m->u.born.ppid);
}

/* A ghost that is still to be made: a new master would not know whose it is, nor end it. */
bool born_state_msg(uint32_t *at, struct init_msg *m)
{
	for (; *at < births_used; (*at)++) {
		const struct birth *b = &births[*at];

		if (!b->pid || b->making)
			continue;
		(*at)++;
		m->pid = m->u.state.pid = b->pid;
		m->u.state.is_ghost = 1;
		m->u.state.ppid = b->ppid;
		m->u.state.pgid = b->name.pgid;
		m->u.state.sid = b->name.sid;
		return true;
	}
	return false;
}

/* -- it comes home */

bool born_waits(int32_t pid)
{
	const struct birth *b = find(pid);

	return b && b->tries == 0;
}

/*
 * What it has waited for there it is not to find as its child here, and its children are to
 * be its own: they are made, and reaped, before it is itself again.
 */
bool born_settled(int32_t pid)
{
	const struct birth *b;

	LIST_FOREACH(b, &by_parent[(uint32_t)pid % HASH], by_parent)
	if (b->ppid == pid && b->tries == 0)
		return false;
	for (uint32_t i = 0; procs_reaped > 0 && i < PROCS_MAX; i++)
		if (procs[i].state != PROC_FREE && procs[i].reaped && procs[i].born_of == pid)
			return false;
	return true;
}

/* -- its end */

void init_reaped(const struct init_msg *m)
{
	struct proc *p = proc_find(m->pid);
	struct birth *b = find(m->pid);

	if (b && !b->making && !is_here(p, b->use)) {
		b->reaped = true;
		is_over(b);
		return;
	}
	if (p && (p->state == PROC_GHOST || p->state == PROC_MAKING)) {
		procs_reaped += !p->reaped; /* it has not ended here yet */
		p->reaped = true;
	} else if (!p) {
		born_reap(m->pid);
	}
}
