/*
 * All processes of this node at once: compared with /proc, and told again when the master, or home,
 * may have missed what was told (doc/born.md). Runs in bpslave of a node.
 */
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "bpslave_born.h"

#define MISSED_MS 1000	/* bpinit's word on an end is here by then */
#define EXPECT_MS 30000 /* a move that failed may never make what was expected of it */

static uint32_t scan_no;

void born_seen(struct born *b)
{
	if (b->seen == 0)
		b->seen = scan_no ? scan_no : 1;
}

static void seen(const struct scan_proc *p, void *arg)
{
	struct born *b = born_find(p->pid);
	bool changed, first;

	(void)arg;
	if (!b) {
		if (p->state == 'X' || p->ours || !(b = born_add(p->pid)))
			return;
		b->stale = b->tell = b->was_stopped = true;
		b->before_us = scan_no == 1;
		b->ppid = p->ppid;
		b->stack = p->stack;
		memcpy(b->comm, p->comm, sizeof(b->comm));
		tell_later(b, tell_token());
		if (p->state == 'T')
			look_soon(b); /* when its birth has been told */
	}
	first = b->seen == 0;
	b->seen = scan_no;
	b->missed_at = 0;
	if (b->ended)
		return;
	if (p->state == 'Z' || p->state == 'X') {
		b->used = p->used;
		return born_ended(b, p->status);
	}
	/* Of one that came by a move it is not known what name it has at home. */
	/* One that was seen in the middle of its exec had no stack, nor arguments. */
	changed = (b->stack != p->stack && (b->stack || !first)) ||
		  memcmp(b->comm, p->comm, sizeof(b->comm)) != 0 || (first && b->moved);
	b->ppid = p->ppid;
	b->stack = p->stack;
	if (changed) {
		b->stale = true;
		born_renamed(b);
	}
	memcpy(b->comm, p->comm, sizeof(b->comm));
	look_state(b, p->state);
}

/* A ghost or bpinit has waited for it, and bpinit's word on that may still be on its way. */
static bool init_tells(const struct born *b)
{
	const struct born *parent = born_find(b->ppid);

	return !b->ended && !b->moved && !b->away && (!parent || parent->away || parent->ended);
}

/*
 * It was in the table, and is not in /proc. Nobody knows how it ended but who waited for it; of
 * others this is said as the master does of what it misses.
 */
void born_missed(struct born *b)
{
	if (!b->missed_at) {
		b->missed_at = now_ms();
		look_soon(b);
	}
	if (init_tells(b) && now_ms() - b->missed_at < MISSED_MS)
		return;
	b->guessed = !b->ended;
	born_ended(b, SIGKILL);
	born_reaped(b);
}

static void not_seen(struct born *b, void *arg)
{
	(void)arg;
	if (b->seen == scan_no || b->reap || (b->seen == 0 && now_ms() - b->since < EXPECT_MS))
		return;
	born_missed(b);
}

void born_scan(void)
{
	if (++scan_no == 0)
		scan_no = 1;
	if (scan_each(seen, NULL) == 0)
		born_each(not_seen, NULL);
}

/* -- told again */

static struct {
	int32_t pid[BORN_TABLE_MAX];
	uint32_t n, no;
} all;

/*
 * Of each process the node where it is real tells: of one that left from here this table does not
 * know how it is, nor whether.
 */
static void tell_one(struct born *b)
{
	if (b->place_due && (b->away || b->moved))
		place_tell(b, false);
	if (b->away || (b->ended && (b->moved || !b->told)))
		return;
	b->tell = true;
	b->end = b->ended;
	if (b->reap)
		return tell_now(b); /* it is freed */
	tell_now(b);
	if (b->place_due && !b->moved)
		place_tell(b, false);
	look_told(b);
}

/*
 * In the order of their births: a parent before its children, and who leads a group or a session
 * before those who were born in it, or joined it. Who is told may be freed.
 */
static void tell_again(int32_t pid)
{
	struct born *b = pid > 1 ? born_find(pid) : NULL;

	if (!b || b->told_again == all.no)
		return;
	b->told_again = all.no;
	tell_again(b->ppid);
	tell_again(b->sid);
	tell_again(b->pgid);
	tell_one(b);
}

static void note(struct born *b, void *arg)
{
	(void)arg;
	all.pid[all.n++] = b->pid;
}

static int by_age(const void *one, const void *other)
{
	const struct born *a = born_find(*(const int32_t *)one),
			  *b = born_find(*(const int32_t *)other);

	if (a->since != b->since)
		return a->since < b->since ? -1 : 1;
	return a->pid - b->pid; /* of one scan: so the slot's numbers were given */
}

void born_tell_all(void)
{
	all.n = 0;
	if (++all.no == 0)
		all.no = 1;
	born_each(note, NULL);
	qsort(all.pid, all.n, sizeof(*all.pid), by_age);
	for (uint32_t i = 0; i < all.n; i++)
		tell_again(all.pid[i]);
	tell_rest();
}
