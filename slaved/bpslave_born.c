/*
 * The processes of this node: which were born here, which came by a move, which are
 * ghosts (doc/born.md). Runs in bpslave of a node; fed by bpslave_source.c with what
 * happens to them, and by the moves with who comes and goes. Of those that came by a
 * move bpinit tells the master; of the others we do.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bpslave_born.h"
#include "libbproc/log.h"

#define HASH 4096
#define ORPHANED_MS 1000 /* the end that was the cause is told by then */
#define LOST_MS 1000	 /* from an overflow to the next scan */

static LIST_HEAD(, born) table[HASH];
static uint32_t count, ntold, norphaned;
static struct event *lost_timer; /* owned */

struct born *born_find(int32_t pid)
{
	struct born *b;

	LIST_FOREACH(b, &table[(uint32_t)pid % HASH], next)
	if (b->pid == pid)
		return b;
	return NULL;
}

void born_each(void (*fn)(struct born *b, void *arg), void *arg)
{
	struct born *b, *more;

	for (int i = 0; i < HASH; i++) {
		for (b = LIST_FIRST(&table[i]); b; b = more) {
			more = LIST_NEXT(b, next);
			fn(b, arg);
		}
	}
}

static void on_lost(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	(void)arg;
	init_take();
	born_scan();
	born_flush();
}

void born_overflow(void)
{
	static bool told;

	if (!told)
		log_warn("more processes than %d here, or %d with a ghost at home: some have none",
			 BORN_TABLE_MAX, BORN_TOLD_MAX);
	told = true;
	if (!lost_timer)
		lost_timer = new_timer(on_lost, NULL);
	if (lost_timer && !event_pending(lost_timer, EV_TIMEOUT, NULL))
		start_timer(lost_timer, LOST_MS);
}

bool born_room(void)
{
	if (ntold >= BORN_TOLD_MAX) {
		born_overflow();
		return false;
	}
	ntold++;
	return true;
}

struct born *born_add(int32_t pid)
{
	struct born *b = count < BORN_TABLE_MAX ? calloc(1, sizeof(*b)) : NULL;

	if (!b) {
		born_overflow();
		return NULL;
	}
	b->pid = pid;
	b->since = now_ms();
	LIST_INSERT_HEAD(&table[(uint32_t)pid % HASH], b, next);
	count++;
	return b;
}

void born_forget(struct born *b)
{
	tell_never(b);
	look_never(b);
	ntold -= b->told;
	norphaned -= b->orphaned_at != 0;
	LIST_REMOVE(b, next);
	free(b);
	count--;
}

void born_read(struct born *b)
{
	struct scan_proc p;

	b->stale = false;
	if (scan_stat(b->pid, &p) < 0 || scan_ids(b->pid, &p) < 0)
		return;
	b->ppid = p.ppid;
	if (!b->foreseen) { /* else home has that before it is so */
		b->pgid = p.pgid;
		b->sid = p.sid;
	}
	b->uid = p.uid;
	b->euid = p.euid;
	b->suid = p.suid;
	b->gid = p.gid;
	b->egid = p.egid;
	b->stack = p.stack;
	memcpy(b->comm, p.comm, sizeof(b->comm));
}

/* -- what happens */

static bool parent_is_away(const struct born *b)
{
	const struct born *parent = born_find(b->ppid);

	return parent && parent->away && !parent->ended;
}

/*
 * Of one that came by a move: where its parent is real too, or is about to be, no ghost waits for
 * it, and bpinit is not told. If it was, it has told already.
 */
static void tell_init(const struct born *b)
{
	struct init_msg m = {.type = INIT_ENDED, .pid = b->pid};

	m.u.child = child_of(b->pid, b->status);
	m.u.child.used = b->used;
	init_send(&m, NULL, 0);
}

struct stopped_child {
	int32_t parent;
	bool found;
};

static void if_stopped_child(struct born *b, void *arg)
{
	struct stopped_child *s = arg;

	s->found |= b->ppid == s->parent && b->stop && !b->ended;
}

/*
 * The kernel tells of an end before it sees to its children, and it is not known yet whether a
 * group of them is orphaned. The ghost of its parent hears of the end when that is done.
 */
static bool may_orphan(const struct born *b, const struct born *parent)
{
	struct stopped_child s = {.parent = b->pid};

	if (parent->away)
		born_each(if_stopped_child, &s);
	return s.found;
}

void born_ended(struct born *b, int32_t status)
{
	struct born *parent = born_find(b->ppid);

	if (b->ended)
		return;
	b->ended = true;
	b->status = status;
	if (parent)
		parent->brief = now_ms() - b->since < BORN_WAIT_MS ? parent->brief + 1 : 0;
	look_free(b);
	if (b->moved || b->away) {
		/* bpinit tells it, or the node where it is real; its name is of no use now. */
		if (b->moved)
			tell_never(b);
		if (parent && !b->away && !b->guessed && !may_orphan(b, parent))
			tell_init(b);
		return;
	}
	if (!b->told && !b->before_us && (!parent || !parent->away)) {
		/* Birth and death have met before anybody heard of either. */
		b->tell = false;
		tell_never(b);
		return;
	}
	/* Its birth is told before its children's, which wait behind it, and its end after them. */
	if (b->queued && b->tell && !b->told)
		tell_now(b);
	tell_never(b);
	b->end = true;
	tell_later(b, true);
}

/* Who was born before its parent has ended is told before that: its ghost is then its child. */
void born_ends(int32_t pid)
{
	if (slave.node == HOME_NODE)
		return;
	source_take_events();
	tell_children(pid);
}

void born_reaped(struct born *b)
{
	if (b->reap)
		return;
	/*
	 * Its parent may have come and waited for it before we have heard that it runs. Or it is to
	 * come: what the ghost of that one has waited for is made anew for it, under this number.
	 */
	if (parent_is_away(b) && (target_unheard || target_expects(b->ppid)))
		return look_free(b);
	/* By the ghost of its parent, which tells that it has ended; the parent itself does
	 * not know yet, and will wait for it where it is. */
	b->silent = parent_is_away(b);
	b->reap = !b->silent && (b->moved || b->away || b->told || b->queued);
	/*
	 * If its parent is real here, neither a ghost nor bpinit was told of its end; nor
	 * perhaps if the parent is not known any more: the kernel's word that a number is
	 * free comes late (by RCU), and in no order. One that is away may be back and have
	 * ended before we have read that it came. Of all but real ones bpinit takes no
	 * notice.
	 */
	if ((b->moved || b->away) && (b->guessed ? b->reap && !b->away : b->reap || b->away))
		tell_init(b);
	b->reap |= b->queued; /* its end is still to be told */
	if (b->reap)
		tell_later(b, true);
	else
		born_forget(b);
}

/* The name it is told with is read at that time. */
void born_renamed(struct born *b)
{
	if (b->ended || b->away || (!b->told && !b->moved))
		return;
	b->tell = true;
	tell_later(b, tell_token());
}

/*
 * Its number is used again, so it has been waited for, and what is to be told of it waits in
 * the queue: behind births that wait, and all numbers of a slot may be used in that time.
 */
static void last_use_over(struct born *b)
{
	if (b->told && !b->away) {
		b->tell = false;
		b->reap = true;
		tell_now(b);
	} else {
		born_forget(b);
	}
}

/* The event has the real ids only; the others are those of its parent. */
static void ids_of_parent(struct born *b, const struct event_record *r)
{
	const struct born *parent = born_find(r->ppid);

	b->uid = b->euid = b->suid = r->uid;
	b->gid = b->egid = r->gid;
	if (!parent || parent->uid != r->uid || parent->gid != r->gid)
		return;
	b->euid = parent->euid;
	b->suid = parent->suid;
	b->egid = parent->egid;
}

/*
 * Who has had children of a few milliseconds will have another such, as a rule: nobody would see
 * its ghost, and to make it costs more than its life did.
 */
static bool at_once(const struct born *b)
{
	const struct born *parent = born_find(b->ppid);

	return (!parent || parent->brief < BORN_BRIEF) && tell_token();
}

static void fork_seen(const struct event_record *r)
{
	struct born *b = born_find(r->pid);

	if (b && !b->ended && !b->missed_at)
		return; /* a ghost or an arrival; or a scan was faster */
	if (b)
		born_ended(b, SIGKILL); /* if nobody has said how */
	if (b && b->anew)
		return born_anew(b);
	if (b)
		last_use_over(b);
	b = born_add(r->pid);
	if (!b)
		return;
	b->ppid = r->ppid;
	b->pgid = r->pgid;
	b->sid = r->sid;
	ids_of_parent(b, r);
	memcpy(b->comm, r->comm, sizeof(b->comm));
	b->tell = true;
	tell_later(b, at_once(b));
}

/*
 * The kernel sends a SIGCONT by itself to a group that is orphaned while one of it is stopped (and
 * to the leader of a session whose terminal is gone). The end that was the cause is told by that.
 */
static void orphaned(struct born *b)
{
	norphaned += b->orphaned_at == 0;
	b->orphaned_at = now_ms();
}

void born_stands(int32_t pid, int32_t stop)
{
	struct born *b = born_find(pid);

	if (b && b->away)
		b->stop = stop;
}

struct search {
	int32_t parent, found;
	int rank;
};

static void of_parent(struct born *b, void *arg)
{
	/* One that was stopped, as far as that is known; its parent may be another by now. */
	struct search *s = arg;
	int rank = 1 + !b->away + (b->stop ? 2 : 0) + (b->ppid == s->parent ? 4 : 0);

	if (b->orphaned_at && now_ms() - b->orphaned_at >= ORPHANED_MS) {
		b->orphaned_at = 0;
		norphaned--;
	}
	if (!b->orphaned_at || (b->ppid > 1 && b->ppid != s->parent) || rank <= s->rank)
		return;
	s->found = b->pid;
	s->rank = rank;
}

int32_t born_orphaned(int32_t pid)
{
	struct search s = {.parent = pid};

	if (slave.node == HOME_NODE)
		return 0;
	source_take_events();
	if (norphaned > 0)
		born_each(of_parent, &s);
	return s.found;
}

/*
 * As wait4() will say it: how much time there was is counted exactly, and only how it divides into
 * the two is what ticks have found (kernel/sched/cputime.c, cputime_adjust()).
 */
static void used_of_record(const struct event_record *r, struct chan_used *ret)
{
	unsigned long long ticks = r->utime_ns + r->stime_ns;
	double part = ticks ? (double)r->stime_ns / (double)ticks : 0.0;
	uint64_t stime_ns = (uint64_t)((double)r->ran_ns * part);

	*ret = (struct chan_used){(r->ran_ns - stime_ns + r->cutime_ns) / 1000,
				  (stime_ns + r->cstime_ns) / 1000,
				  r->maxrss_pages * (uint64_t)sysconf(_SC_PAGESIZE) / 1024};
}

void born_record(const struct event_record *r)
{
	struct born *b;

	if (r->type == EVENT_FORK)
		return fork_seen(r);
	b = born_find(r->pid);
	if (!b)
		return;
	switch (r->type) {
	case EVENT_EXEC:
		b->stale = true;
		return born_renamed(b);
	case EVENT_NAME:
		if (memcmp(b->comm, r->comm, sizeof(b->comm)) == 0)
			return;
		memcpy(b->comm, r->comm, sizeof(b->comm));
		return born_renamed(b);
	case EVENT_EXIT:
		if (!b->ended)
			used_of_record(r, &b->used);
		return born_ended(b, r->status);
	case EVENT_REAPED:
		/* It comes an RCU grace period late: the number may have been given anew. */
		if (b->ended && !look_is_zombie(b))
			born_reaped(b);
		return;
	case EVENT_LOOK:
		if (r->status != SIGCONT)
			b->stop = r->status;
		else if (r->by_kernel)
			orphaned(b);
		return look_soon(b);
	default:
		return;
	}
}

/*
 * What a ghost's waitid(), or bpinit's, says of one that was born here: it is exact. Nothing is
 * left of it then, so bpinit keeps the word until the master has passed it on: a new master, and
 * one that was told it by a link that broke, hear it with the state, before they miss the process.
 */
bool born_child(const struct chan_child *c, uint64_t seq)
{
	struct born *b;

	born_ends(c->pid);
	b = born_find(c->pid);
	source_hint();
	if (!b && slave.node == NODE_NONE)
		return true; /* told again when the Welcome has said which numbers are the node's */
	if (!b && c->pid >= slave.lease_lo && c->pid < slave.lease_hi) {
		tell_end(c, seq); /* a bpslave before us knew it, or we have told all of it */
		return true;
	}
	if (!b || b->moved || b->away)
		return false;
	b->used = c->used;
	born_ended(b, wait_status_of(c));
	if (!b->told && !b->end)
		return false; /* nobody has heard of it */
	b->seq = seq;
	if (!b->end)
		tell_end(c, seq); /* for the second time: the event program was faster */
	return true;
}

void born_clear(void)
{
	for (int i = 0; i < HASH; i++)
		while (!LIST_EMPTY(&table[i]))
			born_forget(LIST_FIRST(&table[i]));
}
