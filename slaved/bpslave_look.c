/*
 * What no event tells, or too late: that a process has stopped or goes on, that it has
 * another group, session or ids, that one that has ended was waited for. It is known what
 * may cause that, a signal, a call that the filter saw (bpinit_filter.c), an end, and then
 * /proc is looked at for a while. Runs in bpslave of a node.
 */
#include <signal.h>
#include <string.h>
#include <sys/wait.h>

#include "bpslave_born.h"

#define LOOKS 5 /* the last ones for a machine that is busy with other things */
#define LATE_LOOKS 2 /* after 1.2 s */
#define FREE_LOOKS 8
#define FREE_MS 50 /* an RCU grace period takes less, if nothing is in its way */

static struct born_list looking = TAILQ_HEAD_INITIALIZER(looking);
static struct event *timer; /* owned */
static uint64_t timer_at;   /* ms; 0: it does not run */

static void on_look(evutil_socket_t fd, short what, void *arg);

static void wake_at(uint64_t at, uint64_t now)
{
	if (timer_at && timer_at <= at)
		return;
	if (!timer)
		timer = new_timer(on_look, NULL);
	if (timer) {
		start_timer(timer, at > now ? (uint32_t)(at - now) : 1);
		timer_at = at;
	}
}

static void look_in(struct born *b, uint32_t ms)
{
	uint64_t now = now_ms();

	b->look_at = now + ms;
	if (!b->looked)
		TAILQ_INSERT_TAIL(&looking, b, look);
	b->looked = true;
	wake_at(b->look_at, now);
}

static void look_again(struct born *b)
{
	static const uint32_t ms[LOOKS] = {5000, 1000, 200, 20, 2};

	look_in(b, ms[b->looks - 1]);
}

void look_soon(struct born *b)
{
	b->looks = LOOKS;
	look_again(b);
}

/*
 * Who waits for a process frees its number, but the kernel tells of that only when it frees the
 * task, and nothing says how long after that is: mostly a few ms, at times seconds.
 */
void look_free(struct born *b)
{
	b->looks = FREE_LOOKS;
	look_in(b, FREE_MS);
}

/*
 * A ghost or an arrival may have the number of one that has just ended here and whose end comes
 * late, and have ended too: then it is the earlier one that is free. Births are told by an event.
 */
bool look_is_zombie(const struct born *b)
{
	struct scan_proc p;

	return (b->moved || b->away) && scan_stat(b->pid, &p) == 0 && p.state == 'Z';
}

/*
 * Did somebody wait for it? Then it may be no more. The kernel tells of an end when it begins, and
 * until its memory is given back it has the state that it had.
 */
static void look_if_free(struct born *b)
{
	struct scan_proc p;

	if (scan_stat(b->pid, &p) < 0 ||
	    (p.state != 'Z' && p.state != 'X' && !scan_is_dying(b->pid))) {
		look_never(b);
		born_reaped(b);
		return;
	}
	b->looks -= b->looks > 1;
	look_in(b, FREE_MS << (FREE_LOOKS - b->looks));
}

void look_never(struct born *b)
{
	if (b->looked)
		TAILQ_REMOVE(&looking, b, look);
	b->looked = false;
}

/*
 * Of one that came by a move bpinit or its parent's ghost hears, unless its parent is real here
 * too: then the kernel tells that one alone, and bpinit has it from us.
 */
static void tell_init(const struct born *b)
{
	const struct born *parent = born_find(b->ppid);
	struct init_msg m = {.type = INIT_ENDED, .pid = b->pid};

	if (!parent || parent->away || parent->ended)
		return;
	m.u.child.pid = b->pid;
	m.u.child.code = b->stopped ? CLD_STOPPED : CLD_CONTINUED;
	m.u.child.status = !b->stopped ? SIGCONT : b->stop ? b->stop : SIGSTOP;
	init_send(&m, NULL, 0);
}

static void tell_state(struct born *b, bool stopped)
{
	b->stopped = stopped;
	b->was_stopped |= stopped;
	if (b->moved)
		return tell_init(b);
	tell_event(b, stopped ? CLD_STOPPED : CLD_CONTINUED,
		   !stopped  ? SIGCONT
		   : b->stop ? b->stop
			     : SIGSTOP);
}

static bool is_told_of(const struct born *b)
{
	return !b->away && !b->ended && (b->moved || b->told);
}

void look_state(struct born *b, char state)
{
	bool stopped = state == 'T';

	/* Held by a tracer, as bpinit does for a moment: it is as it was. Or it has ended. */
	if (state == 't' || state == 'Z' || state == 'X')
		return;
	if (!is_told_of(b) || b->stopped == stopped)
		return;
	/* What is killed in its stop runs to its end, and does not continue. */
	if (stopped || !scan_is_dying(b->pid))
		tell_state(b, stopped);
}

void look_now(struct born *b)
{
	struct scan_proc p;

	if (b->looked && !b->ended && scan_stat(b->pid, &p) == 0)
		look_state(b, p.state);
}

void look_told(struct born *b)
{
	struct scan_proc p;

	if (!is_told_of(b) || scan_stat(b->pid, &p) < 0 || strchr("tZX", p.state))
		return;
	if (p.state != 'T' && !b->was_stopped)
		return;
	b->stopped = p.state != 'T'; /* as the master may have it */
	look_state(b, p.state);
}

/* It asked to change them: nobody can say better than /proc whether it has. */
static void ids_seen(struct born *b, struct scan_proc *p)
{
	if (!b->changes || b->ended)
		return;
	if (place_differs(b, p, b->looks <= LATE_LOOKS)) {
		b->foreseen = false;
		b->pgid = p->pgid;
		b->sid = p->sid;
		place_tell(b, true);
	}
	if (b->away || scan_ids(b->pid, p) < 0)
		return;
	if (b->uid == p->uid && b->euid == p->euid && b->suid == p->suid && b->gid == p->gid &&
	    b->egid == p->egid)
		return;
	born_read(b);
	born_renamed(b);
}

void born_changes(int32_t tid, uint32_t reaper)
{
	struct scan_proc p;
	struct born *b;

	source_take();
	b = born_find(tid);
	if (!b && scan_ids(tid, &p) == 0)
		b = born_find(p.pid); /* a thread but the first */
	if (!b || b->ended || (b->away && reaper != NAME_REAPER_AS_IS))
		return;
	if (reaper != NAME_REAPER_AS_IS) {
		b->reaper = reaper;
		born_renamed(b);
		born_flush();
		return;
	}
	b->stale = b->changes = true;
	b->asked = 0; /* it goes on */
	look_soon(b);
}

static void look_at(struct born *b)
{
	struct scan_proc p;

	if (scan_stat(b->pid, &p) == 0) {
		look_state(b, p.state);
		ids_seen(b, &p);
	} else if (b->missed_at && b->looks <= LATE_LOOKS) {
		return born_missed(b);
	}
	if (--b->looks > 0) {
		look_again(b);
		return;
	}
	look_never(b);
	b->changes = false;
}

static void on_look(evutil_socket_t fd, short what, void *arg)
{
	uint64_t t = now_ms(), next = UINT64_MAX;
	struct born *b, *more;

	(void)fd;
	(void)what;
	(void)arg;
	timer_at = 0;
	init_take(); /* who runs here was said before it did what is seen here */
	for (b = TAILQ_FIRST(&looking); b; b = more) {
		more = TAILQ_NEXT(b, look);
		if (b->look_at > t)
			next = b->look_at < next ? b->look_at : next;
		else if (b->ended)
			look_if_free(b);
		else
			look_at(b);
	}
	if (next != UINT64_MAX)
		wake_at(next, t);
	born_flush();
}
