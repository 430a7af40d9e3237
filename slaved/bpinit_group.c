/*
 * bpinit of a node: a process changes its group or session, or its child's. Its call waits
 * in the filter until home has done the same, so that whoever hears of it afterwards
 * finds it done there (doc/local.md, section 5). If nobody is here of the group that is
 * joined, the ghost of its leader, as home tells it, is made first. Then the call goes
 * on: here the kernel judges it. Without an answer it goes on too.
 */
#include <errno.h>
#include <signal.h>

#include "slaved/bpinit_kill.h"
#include "slaved/bpinit_place.h"

#define ASKING_MAX 256
#define LOOK_MS 2 /* has the ghost made its group? */
#define PATIENCE_MS 1000

static struct asking {
	uint64_t notif;
	int32_t pid, pgid; /* pid 0: free */
	uint32_t number;
	int64_t until; /* ms */
	bool answered;
} asking[ASKING_MAX];
static uint32_t nasking, last_number;

static bool is_here(int32_t pgid)
{
	return own_kill(-pgid, 0) == 0 || errno != ESRCH;
}

/* What it will be, if the kernel lets it. pgid -1: its session is to be its own. */
static bool foresee(int32_t pid, int32_t pgid, struct init_place *ret)
{
	struct look l;

	if (look_at(pid, &l) < 0)
		return false;
	*ret = (struct init_place){.pid = l.tgid, .pgid = pgid > 0 ? pgid : l.tgid, .sid = l.sid};
	if (pgid < 0)
		ret->sid = l.tgid;
	/* A leader stays where it is; and where nothing changes nobody need hear of it. */
	return pgid < 0 ? l.pgid != l.tgid : l.sid != l.tgid && l.pgid != ret->pgid;
}

/* Home has not answered, and is told when there is somebody to tell it. */
static void unheard(int32_t pid)
{
	event(&(struct init_msg){.type = EV_PLACE, .pid = pid, .u.place.pid = pid});
}

bool group_ask(uint64_t notif, int32_t pid, int32_t pgid)
{
	struct init_msg m = {.type = EV_PLACE};
	struct asking *a = asking;

	if (!foresee(pid, pgid, &m.u.place) || !filter_is_valid(notif))
		return false;
	if (self.slave < 0) {
		unheard(m.u.place.pid);
		return false;
	}
	while (a < asking + ASKING_MAX && a->pid)
		a++;
	if (a == asking + ASKING_MAX)
		return false;
	*a = (struct asking){.notif = notif,
			     .pid = m.u.place.pid,
			     .pgid = m.u.place.pgid,
			     .number = ++last_number,
			     .until = clock_ms() + PATIENCE_MS};
	nasking++;
	m.pid = a->pid;
	m.u.place.number = a->number;
	event(&m);
	return true;
}

static void go_on(struct asking *a)
{
	filter_go_on(a->notif);
	if (!a->answered)
		unheard(a->pid);
	event(&(struct init_msg){.type = EV_IDENTITY, .pid = a->pid});
	a->pid = 0;
	nasking--;
}

void group_answer(const struct init_place *p)
{
	for (struct asking *a = asking; a < asking + ASKING_MAX; a++) {
		if (!a->pid || a->pid != p->pid || a->number != p->number)
			continue;
		a->answered = true;
		if (p->leader.pid <= 1 || p->leader.pid != a->pgid || place_have_group(p))
			go_on(a);
		return;
	}
}

int group_tick(int ms)
{
	if (nasking == 0)
		return ms;
	for (struct asking *a = asking; a < asking + ASKING_MAX; a++)
		if (a->pid && (clock_ms() >= a->until || (a->answered && is_here(a->pgid))))
			go_on(a);
	return nasking == 0 || (ms >= 0 && ms < LOOK_MS) ? ms : LOOK_MS;
}
