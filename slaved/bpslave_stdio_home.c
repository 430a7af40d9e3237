/*
 * Forwarded stdio where the ghost is (bpslave_stdio.h, doc/streams.md). Runs in
 * bpslave of the front end. A stream is served to one node at a time: the next
 * one waits until the last has sent its last byte, or its machine is lost. That
 * is what keeps the bytes in order when a process moves on.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "bpslave_stdio.h"
#include "libbproc/log.h"

#define EARLY_MAX 4096 /* streams opened before the master's word has come */
#define EARLY_MS 10000
#define GIVE_UP_MS 3000 /* for the link of a node that is up */

struct early {
	TAILQ_ENTRY(early) next;
	struct peer *peer;
	int32_t pid;
	uint32_t no;
	uint64_t offset, since_ms;
};
static TAILQ_HEAD(, early) earlies = TAILQ_HEAD_INITIALIZER(earlies);
static int nearly;

static void end_early(struct early *y)
{
	TAILQ_REMOVE(&earlies, y, next);
	free(y);
	nearly--;
}

static void forget_early(uint64_t now)
{
	struct early *y;

	/* Home has never had it, or not any more: the writer there gets EPIPE. */
	while ((y = TAILQ_FIRST(&earlies)) &&
	       (now - y->since_ms > EARLY_MS || nearly >= EARLY_MAX)) {
		stdio_say_reset(y->peer, y->pid, y->no);
		end_early(y);
	}
}

/* -- whose turn it is */

static void attach(struct stdio *s, struct peer *q, uint64_t offset)
{
	s->peer = q;
	s->next_peer = NULL;
	if (s->broken)
		return stdio_say_reset(q, s->proc->pid, s->no);
	if (!s->sends && offset == STREAM_UNKNOWN)
		return stdio_say_upto(s, stream_in_rebase(&s->in));
	if (!s->sends) {
		s->in.ended = false;
		return stdio_say_credit(s, true);
	}
	if (stream_out_open(&s->out, offset) < 0)
		return stdio_break(s, true);
	stdio_fill(s);
}

static void open_or_wait(struct stdio *s, struct peer *q, uint64_t offset)
{
	if (!s->peer || s->peer == q)
		return attach(s, q, offset);
	s->next_peer = q;
	s->next_offset = offset;
}

/*
 * A process that was born on a node has no ghost here that could write for it: its output joins
 * its parent's, byte for byte as it comes. It has no stdin of its own; the parent's stays whole.
 */
static struct stdio_proc *join(const Bproc__StreamOpen *m)
{
	struct stdio_proc *parent = NULL, *p;
	struct stdio_fds f = {{-1, -1, -1}, {-1, -1, -1}, 0};

	for (size_t i = 0; i < m->n_of && !parent; i++)
		parent = stdio_find(m->of[i]);
	if (!parent)
		return NULL;
	for (int i = 1; i < CHAN_STREAMS; i++)
		if (parent->s[i].fd >= 0)
			f.ours[i] = fcntl(parent->s[i].fd, F_DUPFD_CLOEXEC, 3);
	p = stdio_new(m->proc->pid, &f);
	if (!p)
		return NULL;
	p->joined = true;
	for (int i = 0; i < CHAN_STREAMS; i++)
		p->s[i].shared = true;
	return p;
}

void stdio_home_open(struct peer *q, const Bproc__StreamOpen *m)
{
	struct stdio_proc *p = stdio_find(m->proc->pid);
	uint64_t now = now_ms();
	struct early *y;

	if (!p)
		p = join(m);
	if (p) {
		open_or_wait(&p->s[m->stream], q, m->offset);
		return stdio_home_progress(p);
	}
	forget_early(now);
	y = calloc(1, sizeof(*y));
	if (!y)
		return;
	*y = (struct early){.peer = q,
			    .pid = m->proc->pid,
			    .no = m->stream,
			    .offset = m->offset,
			    .since_ms = now};
	TAILQ_INSERT_TAIL(&earlies, y, next);
	nearly++;
}

void stdio_left_home(int32_t pid, struct stdio_fds *f)
{
	struct stdio_proc *p = stdio_find(pid);
	struct early *y, *more;

	if (p)
		stdio_forget_home(pid);
	p = stdio_new(pid, f);
	if (!p)
		return;
	for (y = TAILQ_FIRST(&earlies); y; y = more) {
		more = TAILQ_NEXT(y, next);
		if (y->pid != pid)
			continue;
		open_or_wait(&p->s[y->no], y->peer, y->offset);
		end_early(y);
	}
}

/* -- a node is done with a stream */

static void next_turn(struct stdio *s)
{
	struct peer *q = s->next_peer;

	s->peer = NULL;
	if (q)
		attach(s, q, s->next_offset);
}

void stdio_home_back(struct stdio *s, const Bproc__StreamData *m)
{
	free(s->back);
	s->back_len = 0;
	s->back = malloc(m->data.len + 1);
	if (!s->back)
		return;
	memcpy(s->back, m->data.data, m->data.len);
	s->back_len = m->data.len;
	s->back_offset = m->offset;
}

void stdio_home_end(struct stdio *s, struct peer *q, uint64_t offset)
{
	if (s->sends) {
		if (s->back && s->back_offset != offset)
			s->back_len = 0;
		if (stream_out_back(&s->out, offset, s->back, s->back_len) < 0)
			log_warn("stdin of %d: what came back does not fit", s->proc->pid);
		free(s->back);
		s->back = NULL;
		s->back_len = 0;
		return next_turn(s);
	}
	if (stream_in_end(&s->in, offset) < 0) {
		log_warn("stream %u of %d: its end is not where its bytes end", s->no,
			 s->proc->pid);
		stdio_break(s, true);
		return stdio_home_progress(s->proc);
	}
	stdio_drain(s);
	stdio_home_progress(s->proc);
	(void)q;
}

/* -- the last byte */

static bool node_is_lost(const struct stdio *s)
{
	const struct node_row *row = s->peer ? table_find(peer_node(s->peer)) : NULL;

	return row && strcmp(row->status, "down") == 0;
}

static bool flushed(const struct stdio *s)
{
	return s->broken || stream_in_finished(&s->in) || node_is_lost(s);
}

/* The node has no link to us, or a new bpslave that knows nothing of the process. */
static void on_give_up(evutil_socket_t fd, short what, void *arg)
{
	struct stdio_proc *p = arg;

	(void)fd;
	(void)what;
	free_event(&p->give_up);
	for (int i = 1; i < CHAN_STREAMS; i++)
		if (!p->s[i].peer)
			stdio_break(&p->s[i], false);
	stdio_home_progress(p);
}

void stdio_home_progress(struct stdio_proc *p)
{
	bool done = true, linked = true;

	for (int i = 1; i < CHAN_STREAMS; i++) {
		struct stdio *s = &p->s[i];

		/* All of this node's bytes are in the ghost's hands: the next node may. */
		if (s->peer && s->next_peer && (s->broken || stream_in_finished(&s->in)))
			next_turn(s);
		done = done && flushed(s);
		linked = linked && (s->peer || flushed(s));
	}
	if (p->joined && done && !p->s[1].next_peer && !p->s[2].next_peer && !p->then)
		return stdio_free(p);
	if (!p->then)
		return;
	if (!done) {
		if (!linked && !p->give_up && (p->give_up = new_timer(on_give_up, p)))
			start_timer(p->give_up, GIVE_UP_MS);
		else if (linked)
			free_event(&p->give_up);
		return;
	}
	if (p->final) {
		for (int i = 1; i < CHAN_STREAMS; i++)
			if (p->s[i].fd >= 0)
				shutdown(p->s[i].fd, SHUT_WR);
	}
	stdio_then(p);
}

/* A node that went down says no more, though its link may look alive for long. */
void stdio_table_changed(void)
{
	struct stdio_proc *p, *more;

	if (slave.node != HOME_NODE)
		return;
	for (int i = 0; i < STDIO_HASH; i++) {
		for (p = LIST_FIRST(&stdio_table[i]); p; p = more) {
			more = LIST_NEXT(p, next);
			stdio_home_progress(p);
		}
	}
}

void stdio_flush_home(int32_t pid, bool final, void (*then)(void *arg), void *arg)
{
	struct stdio_proc *p = slave.node == HOME_NODE ? stdio_find(pid) : NULL;

	if (!p)
		return then(arg);
	p->final = final;
	stdio_wait(p, then, arg);
	stdio_home_progress(p);
}

void stdio_forget_home(int32_t pid)
{
	struct stdio_proc *p = slave.node == HOME_NODE ? stdio_find(pid) : NULL;

	if (p)
		stdio_free(p);
}

void stdio_home_peer_down(struct peer *q)
{
	struct stdio_proc *p, *more;
	struct early *y, *later;

	for (y = TAILQ_FIRST(&earlies); y; y = later) {
		later = TAILQ_NEXT(y, next);
		if (y->peer == q)
			end_early(y);
	}
	for (int i = 0; i < STDIO_HASH; i++) {
		for (p = LIST_FIRST(&stdio_table[i]); p; p = more) {
			more = LIST_NEXT(p, next);
			for (int n = 0; n < CHAN_STREAMS; n++) {
				struct stdio *s = &p->s[n];

				if (s->next_peer == q)
					s->next_peer = NULL;
				/* It opens the stream again; or another node does. */
				if (s->peer == q)
					next_turn(s);
			}
			stdio_home_progress(p);
		}
	}
}
