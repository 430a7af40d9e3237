/*
 * Forwarded stdio where the ghost is (bpslave_stdio.h, doc/streams.md). Runs in
 * bpslave of the front end. Which node is served is in bpslave_stdio_turn.c.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bpslave_stdio.h"
#include "libbproc/log.h"

#define EARLY_MAX 1024 /* processes whose streams came before the master's word */
#define EARLY_MS 10000

/* The oldest first. What they write is kept, and goes no further. */
static TAILQ_HEAD(, stdio_proc) earlies = TAILQ_HEAD_INITIALIZER(earlies);
static int nearly;

static void end_early(struct stdio_proc *p)
{
	if (!p->early)
		return;
	TAILQ_REMOVE(&earlies, p, early_next);
	p->early = false;
	nearly--;
}

/* Home has never had it, or not any more: the writer there gets EPIPE. */
static void forget_early(struct stdio_proc *p)
{
	end_early(p);
	for (int i = 0; i < CHAN_STREAMS; i++)
		if (p->s[i].peer)
			stdio_break(&p->s[i], true);
	stdio_free(p);
}

static struct event *early_timer; /* lives as long as we */

/* Nobody else may come, and the node keeps all of it until it hears something. */
static void on_early_late(evutil_socket_t fd, short what, void *arg)
{
	struct stdio_proc *p, *more;
	uint64_t now = now_ms();

	(void)fd;
	(void)what;
	(void)arg;
	for (p = TAILQ_FIRST(&earlies); p; p = more) {
		more = TAILQ_NEXT(p, early_next);
		if (!master_is_up())
			p->since_ms = now; /* whose word is waited for */
		else if (now - p->since_ms >= EARLY_MS)
			forget_early(p);
	}
	if (nearly > 0)
		start_timer(early_timer, EARLY_MS);
}

static void sweep_later(void)
{
	if (!early_timer)
		early_timer = new_timer(on_early_late, NULL);
	if (early_timer && !event_pending(early_timer, EV_TIMEOUT, NULL))
		start_timer(early_timer, EARLY_MS);
}

static struct stdio_proc *new_early(const Bproc__StreamOpen *m)
{
	struct stdio_proc *p;
	uint64_t now = now_ms();

	while ((p = TAILQ_FIRST(&earlies)) && (now - p->since_ms > EARLY_MS || nearly >= EARLY_MAX))
		forget_early(p);
	p = stdio_new(m->proc->pid);
	if (!p)
		return NULL;
	for (size_t i = 0; i < m->n_of && i < INIT_CHAIN_MAX; i++)
		p->of.pid[p->of.n++] = m->of[i];
	p->early = true;
	p->since_ms = now;
	TAILQ_INSERT_TAIL(&earlies, p, early_next);
	nearly++;
	sweep_later();
	return p;
}

/* -- a node opens them */

/*
 * Who has no ghost here that could write for it: a process that was born on a node, or
 * what others hold of a process that has ended. Its output joins its parent's, byte for byte as
 * it comes. It has no stdin of its own; the parent's stays whole.
 */
static bool join(struct stdio_proc *p, struct stdio_proc *parent)
{
	struct stdio_fds f = {{-1, -1, -1}, {-1, -1, -1}};

	if (parent == p || parent->early)
		return false;
	p->joined = true;
	for (int i = 1; i < CHAN_STREAMS; i++) {
		if (parent->s[i].fd < 0)
			continue;
		f.ours[i] = fcntl(parent->s[i].fd, F_DUPFD_CLOEXEC, 3);
		p->s[i].shared = parent->s[i].shared = true;
	}
	end_early(p);
	stdio_adopt(p, &f);
	for (int i = 0; i < CHAN_STREAMS; i++) {
		if (p->s[i].broken && p->s[i].peer)
			stdio_say_reset(p->s[i].peer, p->pid, p->s[i].visit, STREAM_BIT(i),
					STREAM_UNKNOWN);
		stdio_drain(&p->s[i]);
	}
	return true;
}

/* What its node has not opened, it has not: nothing comes, and no end of it. */
static void close_unopened(struct stdio_proc *p)
{
	for (int i = 0; i < CHAN_STREAMS; i++)
		if (!p->s[i].peer && TAILQ_EMPTY(&p->s[i].next))
			stdio_break(&p->s[i], false);
}

static void join_first(struct stdio_proc *p)
{
	bool joined = false;

	for (size_t i = 0; i < p->of.n && !joined; i++) {
		struct stdio_proc *parent = stdio_find(p->of.pid[i]);

		joined = parent && join(p, parent);
	}
}

void stdio_home_open(struct peer *q, const Bproc__StreamOpen *m)
{
	struct stdio_proc *p = stdio_find(m->proc->pid);
	size_t k = 0;

	if (!p) {
		p = new_early(m);
		if (!p)
			return stdio_say_reset(q, m->proc->pid, m->visit, m->mask,
					       STREAM_UNKNOWN);
		join_first(p);
	}
	for (uint32_t i = 0; i < CHAN_STREAMS && k < m->n_at; i++)
		if (m->mask & STREAM_BIT(i))
			turn_open(&p->s[i], q, m->at[k++], m);
	if (p->joined)
		close_unopened(p);
	stdio_home_progress(p);
}

void stdio_left_home(int32_t pid, struct stdio_fds *f)
{
	struct stdio_proc *p = stdio_find(pid), *more;

	if (p && !p->early) {
		stdio_forget_home(pid);
		p = NULL;
	}
	if (p)
		end_early(p);
	else
		p = stdio_new(pid);
	if (!p)
		return;
	stdio_adopt(p, f);
	stdio_fill(&p->s[0]);
	stdio_drain(&p->s[1]);
	stdio_drain(&p->s[2]);
	for (struct stdio_proc *y = TAILQ_FIRST(&earlies); y; y = more) {
		more = TAILQ_NEXT(y, early_next);
		for (size_t i = 0; i < y->of.n; i++)
			if (y->of.pid[i] == pid && join(y, p)) {
				close_unopened(y);
				stdio_home_progress(y);
				break;
			}
	}
	stdio_home_progress(p);
}

/* -- a node is done with a stream */

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

void stdio_home_end(struct stdio *s, uint64_t offset)
{
	if (s->sends) {
		if (offset == STREAM_UNKNOWN) /* nothing has come there, so nothing was read */
			offset = s->out.acked;
		if (s->back && s->back_offset != offset)
			s->back_len = 0;
		/* A process that has ended sends nothing back: what it left is nobody's. */
		if (stream_out_back(&s->out, offset, s->back, s->back_len) < 0 && s->back)
			log_warn("stdin of %d: what came back does not fit", s->proc->pid);
		free(s->back);
		s->back = NULL;
		s->back_len = 0;
		s->turned = true;
		s->used = offset;
		s->peer = NULL;
		turn_next(s);
		return;
	}
	if (stream_in_end(&s->in, offset) < 0) {
		log_warn("stream %u of %d: its end is not where its bytes end", s->no,
			 s->proc->pid);
		return stdio_break(s, true);
	}
	stdio_drain(s);
}

void stdio_home_used(const struct stdio *s, uint64_t used)
{
	/* A short word into an empty socket: it is taken, or the ghost is gone. */
	if (s->fd >= 0 && used != STREAM_UNKNOWN)
		send(s->fd, &used, sizeof(used), MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* -- the last byte */

/* Is this the visit that is waited for, and not its end for a move that was aborted? */
static bool is_wanted(const struct stdio *s)
{
	const struct stdio_proc *p = s->proc;

	return !p->want || (s->visit == p->want && (!s->left_by || s->left_by == p->want_by));
}

static bool flushed(const struct stdio *s)
{
	return s->broken ||
	       (is_wanted(s) && (stream_in_finished(&s->in) || stdio_lost_with_all(s)));
}

/* Its node has said what was read there: a process that comes home needs the rest. */
static bool turned(const struct stdio_proc *p)
{
	const struct stdio *s = &p->s[0];

	return p->final || s->broken || (is_wanted(s) && (s->turned || stdio_node_is_lost(s)));
}

/* It is a joined one's end for good: nobody opens its streams any more. */
static bool is_over(const struct stdio_proc *p)
{
	bool over = p->joined && !p->then;

	for (int i = 1; i < CHAN_STREAMS; i++)
		over = over && !p->s[i].left_by && TAILQ_EMPTY(&p->s[i].next);
	return over;
}

/* The node has no link to us, or a new bpslave that knows nothing of the process. */
static void on_give_up(evutil_socket_t fd, short what, void *arg)
{
	struct stdio_proc *p = arg;

	(void)fd;
	(void)what;
	free_event(&p->give_up);
	p->want = 0;
	for (int i = 1; i < CHAN_STREAMS; i++)
		if (!p->s[i].peer && TAILQ_EMPTY(&p->s[i].next))
			stdio_break(&p->s[i], false);
	/* Nobody can say what was read: nothing is read twice. */
	if (!turned(p) && !p->s[0].peer && TAILQ_EMPTY(&p->s[0].next))
		stdio_break(&p->s[0], false);
	stdio_home_progress(p);
}

void stdio_home_progress(struct stdio_proc *p)
{
	bool done = turned(p), linked = done || (p->s[0].peer && is_wanted(&p->s[0]));

	/* To the node that they are for, before it is the next one's turn. */
	stdio_say_due(p);
	for (int i = 1; i < CHAN_STREAMS; i++) {
		struct stdio *s = &p->s[i];

		/* All of this node's bytes are in the ghost's hands: the next node may. */
		while (s->peer && (s->broken || stream_in_finished(&s->in)))
			if (!turn_next(s))
				break;
		done = done && flushed(s);
		linked = linked && ((s->peer && is_wanted(s)) || flushed(s));
	}
	stdio_say_due(p);
	turn_watch(p);
	if (done && is_over(p))
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
		/* The ghost sees the end, unless others go on writing there. */
		for (int i = 1; i < CHAN_STREAMS; i++)
			stdio_close(&p->s[i]);
		if (p->s[0].turned && !p->s[0].broken)
			stdio_home_used(&p->s[0], p->s[0].used);
	}
	stdio_then(p);
}

/* A node that went down says no more, though its link may look alive for long. */
void stdio_table_changed(void)
{
	struct stdio_proc *p, *more;

	if (slave.node != HOME_NODE)
		return;
	stdio_lost_look();
	for (int i = 0; i < STDIO_HASH; i++) {
		for (p = LIST_FIRST(&stdio_table[i]); p; p = more) {
			more = LIST_NEXT(p, next);
			stdio_home_progress(p);
		}
	}
}

void stdio_flush_home(int32_t pid, uint64_t move, uint64_t visit, void (*then)(void *arg),
		      void *arg)
{
	struct stdio_proc *p = slave.node == HOME_NODE ? stdio_find(pid) : NULL;

	/* Opened by its node to a bpslave that was started anew: its ghost's sockets are lost. */
	if (p && p->early) {
		forget_early(p);
		p = NULL;
	}
	if (!p)
		return then(arg);
	p->final = move == 0;
	p->want = visit;
	p->want_by = move;
	stdio_wait(p, then, arg);
	stdio_home_progress(p);
}

/* -- homecoming */

/* The bytes of stdin that are here, behind all that was read; in a file: it holds any number. */
static int unread_file(const struct stream_out *o)
{
	int fd = memfd_create("stdin", MFD_CLOEXEC);
	const unsigned char *p;
	size_t at = 0, n;

	while (fd >= 0 && (n = stream_out_kept(o, at, &p)) > 0) {
		if (write(fd, p, n) != (ssize_t)n)
			return close_fd(fd);
		at += n;
	}
	if (fd >= 0 && lseek(fd, 0, SEEK_SET) < 0)
		return close_fd(fd);
	return fd;
}

void stdio_homecoming(int32_t pid, int ret[CHAN_STREAMS])
{
	struct stdio_proc *p = stdio_find(pid);
	struct stdio *s = p ? &p->s[0] : NULL;

	if (!p || p->joined || s->broken || !s->turned || s->fd < 0 || s->used != s->out.acked)
		return;
	/* From here on they are the ghost's. If it does not become the process: attach(). */
	p->held = s->shared = true;
	stdio_read_on(s, false);
	stdio_home_used(s, s->out.acked);
	ret[0] = s->out.end > s->out.acked ? unread_file(&s->out) : -1;
	ret[1] = fcntl(s->fd, F_DUPFD_CLOEXEC, 3);
}

void stdio_forget_home(int32_t pid)
{
	struct stdio_proc *p = slave.node == HOME_NODE ? stdio_find(pid) : NULL;

	if (!p)
		return;
	end_early(p);
	stdio_free(p);
}

/*
 * A record with nothing in it: whoever opens these streams is told that nobody reads, and the
 * end of the process waits for none of their bytes.
 */
void stdio_lost(int32_t pid)
{
	struct stdio_proc *p = stdio_find(pid);

	/* Its node's link was there before bpinit's word. It would wait for a move that is over. */
	if (p && p->early) {
		forget_early(p);
		p = NULL;
	}
	p = p ? NULL : stdio_new(pid);
	for (int i = 0; p && i < CHAN_STREAMS; i++)
		stdio_break(&p->s[i], false);
}

/* What it has not opened again soon, a new bpslave there knows nothing of. */
void stdio_home_peer_up(struct peer *q)
{
	struct stdio_proc *p;

	STDIO_EACH(p, i)
	{
		if (p->pid > 0 || p->early || p->give_up || stdio_rest_node(p->pid) != peer_node(q))
			continue;
		p->give_up = new_timer(on_give_up, p);
		if (p->give_up)
			start_timer(p->give_up, GIVE_UP_MS);
	}
}

void stdio_home_peer_down(struct peer *q)
{
	struct stdio_proc *p, *more;

	for (int i = 0; i < STDIO_HASH; i++) {
		for (p = LIST_FIRST(&stdio_table[i]); p; p = more) {
			more = LIST_NEXT(p, next);
			for (int n = 0; n < CHAN_STREAMS; n++) {
				struct stdio *s = &p->s[n];

				turn_forget(s, q);
				/* It opens the stream again; or another node does. */
				if (s->peer == q) {
					s->peer = NULL;
					turn_next(s);
				}
			}
			stdio_home_progress(p);
		}
	}
}
