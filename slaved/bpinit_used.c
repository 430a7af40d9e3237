/*
 * bpinit: what processes have used on other machines. The kernel takes no one's word for a
 * child's rusage, so it is kept here for whoever asks (bproc_wait4(3)): of one that came by a move
 * what it had used before, to which the kernel here adds; of one whose ghost was here, all of it.
 *
 * An entry is good as long as its process is there, or its zombie. Who asks names a process that
 * has not been waited for, so it is found out by its age whether the number is another's by now;
 * nothing need be told of those that have gone. Where there is no room the oldest of a few goes.
 */
#include <errno.h>
#include <signal.h>
#include <time.h>

#include "slaved/bpinit.h"
#include "slaved/used.h"

#define WAYS 8
#define BUCKETS 4096 /* numbers of a slot follow each other */

static struct entry {
	int32_t pid;   /* 0: free */
	uint32_t what; /* enum local_used_what */
	int64_t utime_us, stime_us;
	uint64_t maxrss_kb, since_ns;
} table[BUCKETS][WAYS];

static struct entry *find(int32_t pid)
{
	struct entry *e = table[(uint32_t)pid % BUCKETS];

	for (int i = 0; pid > 0 && i < WAYS; i++)
		if (e[i].pid == pid)
			return &e[i];
	return NULL;
}

static struct entry *room(int32_t pid)
{
	struct entry *e = table[(uint32_t)pid % BUCKETS], *oldest = e, *had = find(pid);

	if (had)
		return had;
	for (int i = 0; i < WAYS; i++) {
		if (e[i].pid == 0 || (own_kill(e[i].pid, 0) < 0 && errno == ESRCH))
			return &e[i];
		if (e[i].since_ns < oldest->since_ns)
			oldest = &e[i];
	}
	return oldest;
}

static void put(int32_t pid, uint32_t what, const struct chan_used *u)
{
	*room(pid) = (struct entry){.pid = pid,
				    .what = what,
				    .utime_us = (int64_t)u->utime_us,
				    .stime_us = (int64_t)u->stime_us,
				    .maxrss_kb = u->maxrss_kb,
				    .since_ns = (uint64_t)clock_ns(CLOCK_BOOTTIME)};
}

void used_all(int32_t pid, const struct chan_used *u)
{
	if (u->utime_us || u->stime_us || u->maxrss_kb)
		put(pid, USED_ALL, u);
}

void used_before(int32_t pid, const struct chan_used *u, bool in_place)
{
	struct chan_used here = {0};

	/* Its ghost's time is the kernel's for it too, and so is what it used here before it left,
	 * which is in u. */
	if (in_place)
		used_read(pid, &here, NULL);
	else if (u->utime_us == 0 && u->stime_us == 0 && u->maxrss_kb == 0 && !find(pid))
		return;
	put(pid, USED_MORE,
	    &(struct chan_used){u->utime_us - here.utime_us, u->stime_us - here.stime_us,
				u->maxrss_kb});
}

/* NULL: there is none, or it is of an earlier use of the number. */
static const struct entry *good(int32_t pid)
{
	const struct entry *e = find(pid);
	struct chan_used here;
	uint64_t start_ns = 0;

	if (e)
		used_read(pid, &here, &start_ns);
	return e && start_ns <= e->since_ns ? e : NULL;
}

static uint64_t sum(uint64_t here, int64_t more)
{
	int64_t s = (int64_t)here + more;

	return s > 0 ? (uint64_t)s : 0;
}

void used_add(int32_t pid, struct chan_used *u, bool came)
{
	const struct entry *e = came ? find(pid) : good(pid);

	if (!e || e->what != USED_MORE)
		return;
	u->utime_us = sum(u->utime_us, e->utime_us);
	u->stime_us = sum(u->stime_us, e->stime_us);
	if (u->maxrss_kb < e->maxrss_kb)
		u->maxrss_kb = e->maxrss_kb;
}

void init_used(const struct init_msg *m)
{
	struct init_msg a = {.type = EV_USED, .pid = m->pid, .req_id = m->req_id};
	const struct entry *e = good(m->pid);

	if (e)
		a.u.used = (struct local_used){.what = e->what,
					       .utime_us = e->utime_us,
					       .stime_us = e->stime_us,
					       .maxrss_kb = e->maxrss_kb};
	event(&a);
}
