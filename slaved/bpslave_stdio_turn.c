/*
 * Forwarded stdio at home: whose turn it is (bpslave_stdio.h, doc/streams.md). Runs in bpslave of
 * the front end. A stream is served to one node at a time: the next one waits until the last has
 * sent its last byte, or its machine is lost. That is what keeps the bytes in order when a process
 * moves on.
 */
#include <stdlib.h>

#include "bpslave_stdio.h"

static void is_over(const struct stdio *s, struct peer *q, uint64_t visit)
{
	stdio_say_reset(q, s->proc->pid, visit, STREAM_BIT(s->no), STREAM_UNKNOWN);
}

static void attach(struct stdio *s, struct peer *q, uint64_t visit, uint64_t offset)
{
	bool other = !visit || visit != s->visit;

	s->peer = q;
	s->visit = visit;
	s->left_by = 0;
	s->turned = s->credit_due = false;
	if (s->broken)
		return is_over(s, q, visit);
	if (!s->sends && offset == STREAM_UNKNOWN) {
		s->upto = stream_in_rebase(&s->in);
		s->credit_due = true;
		return;
	}
	if (!s->sends) {
		if (!stream_in_fresh(&s->in))
			stdio_say_credit(s, true);
		s->in.ended = false;
		return;
	}
	s->proc->held = false;
	if (stream_out_open(&s->out, offset) < 0)
		return stdio_break(s, true);
	if (other)
		s->begun = s->out.sent;
	stdio_fill(s);
}

/* The last node has said its end: without a link it may still be about to. */
static bool has_ended(const struct stdio *s)
{
	return s->broken || (s->sends ? s->turned : s->in.ended);
}

/*
 * Links are not in step: a node may open a stream before the one where the process was before. And
 * that one may have said its end for a move that was aborted, and is to open the stream again. A
 * bpslave that was started anew does not know after what: on_late() is for what comes from there.
 */
static bool follows(const struct stdio *s, uint64_t visit, uint64_t after)
{
	if (after == 0)
		return s->visit == 0;
	return after == s->visit && has_ended(s) && (!s->left_by || s->left_by == visit);
}

void turn_open(struct stdio *s, struct peer *q, uint64_t offset, const Bproc__StreamOpen *m)
{
	bool again = m->visit && m->visit == s->visit;
	struct turn *t;

	/* All of it has come, or was given up: but its node has not heard that, or too late. The
	 * numbers of moves grow. */
	if (m->visit && m->visit < s->visit)
		return is_over(s, q, m->visit);
	if (s->broken || (!s->peer && (again || follows(s, m->visit, m->after))) ||
	    (s->peer == q && (again || (!m->visit && TAILQ_EMPTY(&s->next)))))
		return attach(s, q, m->visit, offset);
	/* It may go on from there as well before the first has sent its last byte. */
	TAILQ_FOREACH(t, &s->next, list)
	if (t->peer == q && t->visit == m->visit)
		break;
	if (!t) {
		t = malloc(sizeof(*t));
		if (!t)
			return is_over(s, q, m->visit);
		TAILQ_INSERT_TAIL(&s->next, t, list);
	}
	t->peer = q;
	t->visit = m->visit;
	t->after = m->after;
	t->offset = offset;
	t->reset = false;
}

/* Their turn will never come: a process that has ended there would wait for it with its end. */
void turn_drop_all(struct stdio *s)
{
	struct turn *t;

	while ((t = TAILQ_FIRST(&s->next))) {
		TAILQ_REMOVE(&s->next, t, list);
		is_over(s, t->peer, t->visit);
		free(t);
	}
}

static void take(struct stdio *s, struct turn *t)
{
	TAILQ_REMOVE(&s->next, t, list);
	if (!t->reset) {
		attach(s, t->peer, t->visit, t->offset);
	} else {
		s->peer = t->peer;
		s->visit = t->visit;
		s->left_by = 0;
		stdio_home_reset(s, t->used);
	}
	free(t);
}

/* False: the one that comes next has not opened it yet. */
bool turn_next(struct stdio *s)
{
	struct turn *t;

	TAILQ_FOREACH(t, &s->next, list)
	if (s->broken || follows(s, t->visit, t->after))
		break;
	if (t)
		take(s, t);
	return t != NULL;
}

void stdio_home_reset(struct stdio *s, uint64_t used)
{
	if (s->no == 0) {
		stdio_home_used(s, used);
		s->turned = true;
		s->used = used;
	}
	stdio_break(s, false);
}

/* The process closes its stdin on the next node before the last one has said its end. */
void stdio_home_reset_later(const struct peer *q, const Bproc__StreamReset *m)
{
	struct stdio_proc *p = m->proc ? stdio_find(m->proc->pid) : NULL;
	struct turn *t;

	for (int i = 0; p && i < CHAN_STREAMS; i++) {
		if (!(m->mask & STREAM_BIT(i)))
			continue;
		TAILQ_FOREACH(t, &p->s[i].next, list)
		if (t->peer == q && (!m->visit || t->visit == m->visit)) {
			t->reset = true;
			t->used = i == 0 ? m->used : STREAM_UNKNOWN;
		}
	}
}

/* Is it a node's turn that does not come, since the one before it has not opened the stream? */
static bool stuck(const struct stdio *s)
{
	return !TAILQ_EMPTY(&s->next) &&
	       (!s->peer || s->broken || (!s->sends && stream_in_finished(&s->in)));
}

/*
 * Of stdin that node was given something, and nobody can say what of that was read. The process
 * finds its stdin ended, and nothing left out of the middle of it, or read twice.
 */
static bool is_unknown(const struct stdio *s)
{
	return s->sends && !s->broken && !s->turned && s->out.sent > s->begun;
}

/* Nor will it: its node has died, or has a new bpslave that knows nothing of the process. */
static void on_late(evutil_socket_t fd, short what, void *arg)
{
	struct stdio_proc *p = arg;

	(void)fd;
	(void)what;
	free_event(&p->late);
	for (int i = 0; i < CHAN_STREAMS; i++) {
		if (!stuck(&p->s[i]))
			continue;
		if (is_unknown(&p->s[i]))
			stdio_break(&p->s[i], false);
		take(&p->s[i], TAILQ_FIRST(&p->s[i].next));
	}
	stdio_home_progress(p);
}

void turn_watch(struct stdio_proc *p)
{
	if (!stuck(&p->s[0]) && !stuck(&p->s[1]) && !stuck(&p->s[2]))
		return free_event(&p->late);
	if (!p->late && (p->late = new_timer(on_late, p)))
		start_timer(p->late, GIVE_UP_MS);
}

void turn_forget(struct stdio *s, const struct peer *q)
{
	struct turn *t, *more;

	for (t = TAILQ_FIRST(&s->next); t; t = more) {
		more = TAILQ_NEXT(t, list);
		if (t->peer != q)
			continue;
		TAILQ_REMOVE(&s->next, t, list);
		free(t);
	}
}
