/*
 * The move table and its state machine (move.h, doc/move.md). Runs in bpmaster;
 * no I/O.
 */
#include <stdlib.h>
#include <sys/random.h>

#include "libbproc/share.h"
#include "move.h"

const struct fsm_row move_rows[] = {
	{MV_GRANTED, ME_SENT, MA_NOTE, MV_SENT},
	{MV_GRANTED, ME_SRC_FAILED, MA_VOID, MV_VOIDING},
	{MV_GRANTED, ME_DST_FAILED, MA_ABORT, MV_DONE},
	{MV_GRANTED, ME_VOIDED, MA_BAD, MV_GRANTED},
	/* The target's word may overtake the source's MoveSent. */
	{MV_GRANTED, ME_RAN, MA_COMMIT, MV_COMMITTED},
	{MV_GRANTED, ME_GHOSTED, MA_BAD, MV_GRANTED},
	/* The grant or the start may have been lost with the link: ask, by voiding. */
	{MV_GRANTED, ME_SRC_BACK, MA_VOID, MV_VOIDING},
	{MV_GRANTED, ME_DST_BACK, MA_VOID, MV_VOIDING},
	{MV_GRANTED, ME_SRC_DOWN, MA_VOID, MV_ORPHAN},
	{MV_GRANTED, ME_DST_DOWN, MA_ABORT, MV_DONE},

	{MV_SENT, ME_SENT, MA_IGNORE, MV_SENT},
	/* The parked original was killed after its vote. */
	{MV_SENT, ME_SRC_FAILED, MA_VOID, MV_VOIDING},
	{MV_SENT, ME_DST_FAILED, MA_ABORT, MV_DONE},
	{MV_SENT, ME_VOIDED, MA_BAD, MV_SENT},
	{MV_SENT, ME_RAN, MA_COMMIT, MV_COMMITTED},
	{MV_SENT, ME_GHOSTED, MA_BAD, MV_SENT},
	{MV_SENT, ME_SRC_BACK, MA_IGNORE, MV_SENT},
	{MV_SENT, ME_DST_BACK, MA_VOID, MV_VOIDING},
	{MV_SENT, ME_SRC_DOWN, MA_VOID, MV_ORPHAN},
	{MV_SENT, ME_DST_DOWN, MA_ABORT, MV_DONE},

	{MV_VOIDING, ME_SENT, MA_IGNORE, MV_VOIDING},
	{MV_VOIDING, ME_SRC_FAILED, MA_IGNORE, MV_VOIDING},
	{MV_VOIDING, ME_DST_FAILED, MA_ABORT, MV_DONE},
	{MV_VOIDING, ME_VOIDED, MA_ABORT, MV_DONE},
	/* Too late: it runs, and that is the truth. */
	{MV_VOIDING, ME_RAN, MA_COMMIT, MV_COMMITTED},
	/* Of a commit that an older master has sent; the target's MoveRan is on its way. */
	{MV_VOIDING, ME_GHOSTED, MA_IGNORE, MV_VOIDING},
	{MV_VOIDING, ME_SRC_BACK, MA_IGNORE, MV_VOIDING},
	{MV_VOIDING, ME_DST_BACK, MA_VOID, MV_VOIDING},
	{MV_VOIDING, ME_SRC_DOWN, MA_NOTE, MV_ORPHAN},
	{MV_VOIDING, ME_DST_DOWN, MA_ABORT, MV_DONE},

	{MV_ORPHAN, ME_SENT, MA_IGNORE, MV_ORPHAN},
	{MV_ORPHAN, ME_SRC_FAILED, MA_IGNORE, MV_ORPHAN},
	{MV_ORPHAN, ME_DST_FAILED, MA_DEAD, MV_DONE},
	{MV_ORPHAN, ME_VOIDED, MA_DEAD, MV_DONE},
	{MV_ORPHAN, ME_RAN, MA_INHERIT, MV_DONE},
	{MV_ORPHAN, ME_GHOSTED, MA_IGNORE, MV_ORPHAN},
	{MV_ORPHAN, ME_SRC_BACK, MA_IGNORE, MV_ORPHAN},
	{MV_ORPHAN, ME_DST_BACK, MA_VOID, MV_ORPHAN},
	{MV_ORPHAN, ME_SRC_DOWN, MA_IGNORE, MV_ORPHAN},
	{MV_ORPHAN, ME_DST_DOWN, MA_DEAD, MV_DONE},

	{MV_COMMITTED, ME_SENT, MA_IGNORE, MV_COMMITTED},
	{MV_COMMITTED, ME_SRC_FAILED, MA_RECOMMIT, MV_COMMITTED},
	{MV_COMMITTED, ME_DST_FAILED, MA_BAD, MV_COMMITTED},
	{MV_COMMITTED, ME_VOIDED, MA_BAD, MV_COMMITTED},
	{MV_COMMITTED, ME_RAN, MA_IGNORE, MV_COMMITTED},
	{MV_COMMITTED, ME_GHOSTED, MA_END, MV_DONE},
	{MV_COMMITTED, ME_SRC_BACK, MA_RECOMMIT, MV_COMMITTED},
	{MV_COMMITTED, ME_DST_BACK, MA_IGNORE, MV_COMMITTED},
	{MV_COMMITTED, ME_SRC_DOWN, MA_END, MV_DONE},
	/* The process is dead there, which the process table mirrors; the ghost is still to come.
	 */
	{MV_COMMITTED, ME_DST_DOWN, MA_IGNORE, MV_COMMITTED},

	{MV_DONE, ME_SENT, MA_IGNORE, MV_DONE},
	{MV_DONE, ME_SRC_FAILED, MA_IGNORE, MV_DONE},
	{MV_DONE, ME_DST_FAILED, MA_IGNORE, MV_DONE},
	{MV_DONE, ME_VOIDED, MA_IGNORE, MV_DONE},
	{MV_DONE, ME_RAN, MA_IGNORE, MV_DONE},
	{MV_DONE, ME_GHOSTED, MA_IGNORE, MV_DONE},
	{MV_DONE, ME_SRC_BACK, MA_IGNORE, MV_DONE},
	{MV_DONE, ME_DST_BACK, MA_IGNORE, MV_DONE},
	{MV_DONE, ME_SRC_DOWN, MA_IGNORE, MV_DONE},
	{MV_DONE, ME_DST_DOWN, MA_IGNORE, MV_DONE},
};
const size_t move_nrows = sizeof(move_rows) / sizeof(*move_rows);

#define NCHAINS (sizeof(((struct move_table *)0)->chain) / sizeof(struct move *))

static struct move **chain_of(const struct move_table *t, uint64_t id)
{
	return (struct move **)&t->chain[id % NCHAINS];
}

static struct move *insert(struct move_table *t, uint64_t id)
{
	struct move *m, **at = chain_of(t, id);

	if (t->count >= MOVES_MAX)
		return NULL;
	m = calloc(1, sizeof(*m));
	if (!m)
		return NULL;
	m->id = id;
	m->next = *at;
	*at = m;
	t->count++;
	return m;
}

uint32_t move_count(const struct move_table *t, uint32_t uid)
{
	uint32_t n = 0;

	for (size_t i = 0; i < NCHAINS; i++)
		for (const struct move *m = t->chain[i]; m; m = m->next)
			n += m->uid == uid;
	return n;
}

struct move *move_new(struct move_table *t, uint32_t uid)
{
	unsigned char token[MOVE_TOKEN];
	struct move *m;

	/* Who could not be over it, had all that are under way been his, is not counted. */
	if (!share_allows(uid, t->count, t->count, MOVES_MAX) &&
	    !share_allows(uid, move_count(t, uid), t->count, MOVES_MAX))
		return NULL;
	if (getrandom(token, sizeof(token), 0) != (ssize_t)sizeof(token))
		return NULL;
	m = insert(t, (uint64_t)t->epoch << 32 | (t->last + 1));
	if (!m)
		return NULL;
	t->last++;
	m->epoch = t->epoch;
	m->uid = uid;
	m->state = MV_GRANTED;
	for (size_t i = 0; i < sizeof(token); i++)
		m->token[i] = token[i];
	return m;
}

struct move *move_revive(struct move_table *t, uint64_t id)
{
	struct move *m = insert(t, id);

	if (m) {
		m->epoch = (uint32_t)(id >> 32);
		m->state = MV_VOIDING;
	}
	return m;
}

struct move *move_get(const struct move_table *t, uint64_t id)
{
	for (struct move *m = *chain_of(t, id); m; m = m->next)
		if (m->id == id)
			return m;
	return NULL;
}

const struct move *move_asked(const struct move_table *t, int32_t source, uint32_t req, int32_t pid)
{
	for (size_t i = 0; i < NCHAINS; i++)
		for (const struct move *m = t->chain[i]; m; m = m->next)
			if (m->source == source && m->req == req && m->pid == pid &&
			    m->epoch == t->epoch)
				return m;
	return NULL;
}

void move_remove(struct move_table *t, struct move *m)
{
	for (struct move **at = chain_of(t, m->id); *at; at = &(*at)->next) {
		if (*at != m)
			continue;
		*at = m->next;
		t->count--;
		free(m);
		return;
	}
}

void move_aborted(struct move_table *t, const struct move *m)
{
	t->aborted[t->naborted++ % ABORTED_MAX] = (struct aborted){.id = m->id, .err = m->err};
}

const struct bproc_err *move_why_aborted(const struct move_table *t, uint64_t id)
{
	for (uint32_t i = 0; i < ABORTED_MAX; i++)
		if (t->aborted[i].id == id)
			return &t->aborted[i].err;
	return NULL;
}

void move_each(struct move_table *t, void (*fn)(struct move *m, void *arg), void *arg)
{
	struct move *m, *next;

	for (size_t i = 0; i < NCHAINS; i++) {
		for (m = t->chain[i]; m; m = next) {
			next = m->next;
			fn(m, arg);
		}
	}
}

void move_table_free(struct move_table *t)
{
	struct move *m;

	for (size_t i = 0; i < NCHAINS; i++) {
		while ((m = t->chain[i])) {
			t->chain[i] = m->next;
			free(m);
		}
	}
	t->count = 0;
}

enum move_action move_step(struct move *m, enum move_event event)
{
	const struct fsm_row *row = fsm_find(move_rows, move_nrows, m->state, event);

	m->state = row->next;
	return row->action;
}

const char *move_state_name(enum move_state s)
{
	static const char *const name[] = {
		"granted", "sent", "voiding", "orphan", "committed", "done",
	};

	return name[s];
}
