/*
 * A ghost that was restored in place and is not to run after all is a ghost again: what its
 * original's timers, queued signals and locks are is the original's, where that goes on. Left in
 * the ghost a signal would be met there too, and told, and a lock would never be free. Runs in
 * the blob, all signals blocked.
 */
#include "lib.h"
#include "proc.h"
#include "restore.h"
#include "sys.h"

#define TURNS 64 /* signals of others that were queued before one of its own */

void rest_drop_timers(struct blob *b)
{
	const struct sys_itimerval off = {0};
	uint64_t mark = arena_mark(b);
	struct text t;
	char *line;

	for (int i = 0; i < 3; i++)
		sys_setitimer(i, &off, NULL);
	if (text_open(b, &t, "/proc/self/timers") == 0)
		while ((line = text_line(&t)))
			if (str_starts(line, "ID: ")) {
				const char *s = line + 4;

				sys_timer_delete((int)str_dec(&s));
			}
	text_close(&t);
	arena_release(b, mark);
}

/* One that is the same is the same; others go to the end of the queue. */
static void take_one(const uint8_t *info)
{
	uint64_t set = 1ull << ((get32(info) - 1) & 63);
	const struct timespec now = {0};
	uint8_t got[128];

	for (int i = 0; i < TURNS; i++) {
		memset(got, 0, sizeof got);
		if (sys_sigtimedwait(&set, got, &now) < 0 || memcmp(got, info, sizeof got) == 0)
			return;
		sys_sigqueueinfo((int)sys_getpid(), (int)get32(got), got);
	}
}

void rest_unqueue(const struct restore *r, int32_t whose)
{
	const struct rest_rec *rec = &r->rec[TAG_PENDING];

	for (const uint8_t *p = rec->p; p < rec->p + rec->len; p += REC_PENDING_LEN)
		if (get64(p) == (uint64_t)whose)
			take_one(p + 8);
}

void rest_undo(struct blob *b)
{
	const struct restore *r = (void *)b->restore;

	rest_drop_timers(b);
	if (r)
		rest_unlock(r);
	if (!r || !r->queued)
		return;
	rest_unqueue(r, (int32_t)get32(r->rec[TAG_IDENT].p + 4));
	rest_unqueue(r, 0);
}
