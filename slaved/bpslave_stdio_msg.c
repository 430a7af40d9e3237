/*
 * Forwarded stdio: what comes from the links (bpslave_stdio.h, doc/streams.md, section 5). Runs in
 * bpslave at both ends. A word is for one visit of a process to the node that says it, or hears it.
 */
#include "bpslave_stdio.h"
#include "libbproc/log.h"

static void protocol_error(struct stdio *s, const char *what)
{
	log_warn("stream %u of %d: %s; it is closed", s->no, s->proc->pid, what);
	stdio_break(s, true);
}

static void on_data(struct stdio *s, const Bproc__StreamData *m)
{
	if (s->sends) {
		if (stdio_at_home())
			stdio_home_back(s, m);
		return;
	}
	if (stream_in_data(&s->in, m->offset, m->data.data, m->data.len) < 0)
		protocol_error(s, "data that no credit was given for");
	else
		stdio_drain(s);
	stdio_progress(s->proc);
}

static void on_credit(struct stdio *s, uint64_t upto)
{
	if (!s->sends)
		return;
	if (stream_out_credit(&s->out, upto) < 0)
		return protocol_error(s, "credit beyond what was sent");
	stdio_pump(s);
	/* Room in the window again: the pipe may have been waiting. */
	if (!s->reading || s->drain)
		stdio_fill(s);
}

static void on_end(struct stdio *s, uint64_t offset)
{
	if (stdio_at_home())
		return stdio_home_end(s, offset);
	if (s->sends)
		return;
	if (stream_in_end(&s->in, offset) < 0)
		return protocol_error(s, "an end that is not where the bytes end");
	stdio_drain(s);
}

static void on_reset(struct stdio *s, uint64_t used)
{
	if (stdio_at_home())
		stdio_home_reset(s, used);
	else
		stdio_break(s, false);
}

static bool is_of(const struct stdio *s, uint64_t visit)
{
	uint64_t its = stdio_visit_of(s);

	return !visit || !its || visit == its;
}

/*
 * A record that has left still gets what belongs to its last bytes, and the one of the next visit
 * what is that one's.
 */
static struct stdio *stream_of(struct peer *q, const Bproc__Proc *proc, uint64_t visit, uint32_t no)
{
	struct stdio_proc *p, *old = NULL;

	if (!proc || no >= CHAN_STREAMS)
		return NULL;
	LIST_FOREACH(p, &stdio_table[(uint32_t)proc->pid % STDIO_HASH], next)
	if (p->pid == proc->pid && !p->s[no].broken && is_of(&p->s[no], visit))
		old = p;
	if (!old || (stdio_at_home() && old->s[no].peer != q))
		return NULL;
	return &old->s[no];
}

/* Home: whoever takes over knows by that whether it is the one that is meant. */
static void note_leave(struct peer *q, const Bproc__StreamEnd *m)
{
	for (uint32_t i = 0; i < CHAN_STREAMS; i++) {
		struct stdio *s = stream_of(q, m->proc, m->visit, i);

		if (s && m->mask & STREAM_BIT(i))
			s->left_by = m->move;
	}
}

/* A word on streams of a process: the fields of its message. */
struct word {
	const Bproc__Proc *proc;
	uint64_t visit;
	uint32_t mask;
	const uint64_t *at;
	size_t n;
};

/* Each stream of the mask, with its value; then their process, once. */
static void each(struct peer *q, const struct word *w, void (*on)(struct stdio *s, uint64_t at))
{
	struct stdio_proc *p[CHAN_STREAMS] = {NULL};
	size_t k = 0;

	for (uint32_t i = 0; i < CHAN_STREAMS && k < w->n; i++) {
		bool is_in = w->mask & STREAM_BIT(i);
		struct stdio *s = is_in ? stream_of(q, w->proc, w->visit, i) : NULL;

		if (s) {
			p[i] = s->proc;
			on(s, w->at[k]);
		}
		k += is_in;
	}
	for (int i = 0; i < CHAN_STREAMS; i++)
		if (p[i] && (i == 0 || p[i] != p[0]) && (i != 2 || p[2] != p[1]))
			stdio_progress(p[i]);
}

static void on_stream_data(struct peer *q, const Bproc__StreamData *m)
{
	struct stdio *s = stream_of(q, m->proc, m->visit, m->stream);

	if (s)
		on_data(s, m);
}

static void on_stream_credit(struct peer *q, const Bproc__StreamCredit *m)
{
	each(q, &(struct word){m->proc, m->visit, m->mask, m->upto, m->n_upto}, on_credit);
}

static void on_stream_end(struct peer *q, const Bproc__StreamEnd *m)
{
	note_leave(q, m);
	each(q, &(struct word){m->proc, m->visit, m->mask, m->at, m->n_at}, on_end);
}

static void on_stream_reset(struct peer *q, const Bproc__StreamReset *m)
{
	const uint64_t at[CHAN_STREAMS] = {m->used, STREAM_UNKNOWN, STREAM_UNKNOWN};

	if (stdio_at_home())
		stdio_home_reset_later(q, m);
	each(q, &(struct word){m->proc, m->visit, m->mask, at, CHAN_STREAMS}, on_reset);
}

void stdio_on_msg(struct peer *q, const Bproc__Envelope *env)
{
	switch (env->msg_case) {
	case BPROC__ENVELOPE__MSG_STREAM_OPEN:
		if (stdio_at_home() && env->stream_open->proc)
			stdio_home_open(q, env->stream_open);
		return;
	case BPROC__ENVELOPE__MSG_STREAM_DATA:
		return on_stream_data(q, env->stream_data);
	case BPROC__ENVELOPE__MSG_STREAM_CREDIT:
		return on_stream_credit(q, env->stream_credit);
	case BPROC__ENVELOPE__MSG_STREAM_END:
		return on_stream_end(q, env->stream_end);
	case BPROC__ENVELOPE__MSG_STREAM_RESET:
		return on_stream_reset(q, env->stream_reset);
	default:
		return;
	}
}
