/*
 * What no event tells: that a process has stopped or goes on, and that it has another
 * group, session or ids. It is known what may cause that, a signal or a call that the
 * filter saw (bpinit_filter.c), and then /proc is looked at for a while. Runs in bpslave
 * of a node.
 */
#include <signal.h>
#include <sys/wait.h>

#include "bpslave_born.h"

#define LOOKS 5 /* the last ones for a machine that is busy with other things */

static struct born_list looking = TAILQ_HEAD_INITIALIZER(looking);
static struct event *timer; /* owned */

static void on_look(evutil_socket_t fd, short what, void *arg);

static void look_again(struct born *b)
{
	static const uint32_t ms[LOOKS] = {5000, 1000, 200, 20, 2};

	b->look_at = now_ms() + ms[b->looks - 1];
	if (!b->looked)
		TAILQ_INSERT_TAIL(&looking, b, look);
	b->looked = true;
	if (!timer)
		timer = new_timer(on_look, NULL);
	if (timer)
		start_timer(timer, ms[LOOKS - 1]);
}

void look_soon(struct born *b)
{
	b->looks = LOOKS;
	look_again(b);
}

void look_never(struct born *b)
{
	if (b->looked)
		TAILQ_REMOVE(&looking, b, look);
	b->looked = false;
}

void look_state(struct born *b, char state)
{
	bool stopped = state == 'T';

	if (b->moved || b->away || !b->told || b->ended || stopped == b->stopped)
		return;
	b->stopped = stopped;
	tell_event(b, stopped ? CLD_STOPPED : CLD_CONTINUED,
		   !stopped  ? SIGCONT
		   : b->stop ? b->stop
			     : SIGSTOP);
}

/* It asked to change them: nobody can say better than /proc whether it has. */
static void ids_seen(struct born *b, struct scan_proc *p)
{
	if (!b->changes || b->away || b->ended || scan_ids(b->pid, p) < 0)
		return;
	if (b->pgid == p->pgid && b->sid == p->sid && b->uid == p->uid && b->euid == p->euid &&
	    b->suid == p->suid && b->gid == p->gid && b->egid == p->egid)
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
	if (!b || b->ended || b->away)
		return;
	if (reaper != NAME_REAPER_AS_IS) {
		b->reaper = reaper;
		born_renamed(b);
		born_flush();
		return;
	}
	b->stale = b->changes = true;
	look_soon(b);
}

static void on_look(evutil_socket_t fd, short what, void *arg)
{
	uint64_t t = now_ms(), next = UINT64_MAX;
	struct born *b, *more;
	struct scan_proc p;

	(void)fd;
	(void)what;
	(void)arg;
	for (b = TAILQ_FIRST(&looking); b; b = more) {
		more = TAILQ_NEXT(b, look);
		if (b->look_at <= t) {
			if (scan_stat(b->pid, &p) == 0) {
				look_state(b, p.state);
				ids_seen(b, &p);
			}
			if (--b->looks == 0 || b->ended) {
				TAILQ_REMOVE(&looking, b, look);
				b->looked = b->changes = false;
				continue;
			}
			look_again(b);
		}
		next = b->look_at < next ? b->look_at : next;
	}
	if (next != UINT64_MAX)
		start_timer(timer, next > t ? (uint32_t)(next - t) : 1);
	born_flush();
}
