/*
 * Forwarded stdio: one stream between a pipe (at home, a socket) and a link
 * (bpslave_stdio.h). Runs in bpslave at both ends. A pipe is read only as far as
 * the window has room, and the window is sent only as far as the reader gave
 * credit and the link takes it, so a flood stops its own writer and delays nobody
 * else.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bpslave_stdio.h"
#include "libbproc/log.h"

#define TURN_BYTES (256u << 10) /* of one stream before the loop looks at the others */

struct stdio_list stdio_table[STDIO_HASH];

static struct stdio_list *bucket(int32_t pid)
{
	return &stdio_table[(uint32_t)pid % STDIO_HASH];
}

struct stdio_proc *stdio_find(int32_t pid)
{
	struct stdio_proc *p;

	LIST_FOREACH(p, bucket(pid), next)
	if (p->pid == pid)
		return p;
	return NULL;
}

bool stdio_at_home(void)
{
	return slave.node == HOME_NODE;
}

struct peer *stdio_link(const struct stdio *s)
{
	return stdio_at_home() ? s->peer : peer_home();
}

/* -- one stream */

void stdio_progress(struct stdio_proc *p)
{
	if (stdio_at_home())
		stdio_home_progress(p);
	else
		stdio_node_progress(p);
}

void stdio_break(struct stdio *s, bool tell)
{
	uint64_t used = s->no == 0 && !stdio_at_home() ? stdio_used(s) : STREAM_UNKNOWN;

	if (s->broken)
		return;
	s->broken = true;
	s->credit_due = s->end_due = false;
	stdio_close(s);
	stream_out_free(&s->out);
	stream_in_free(&s->in);
	stream_out_init(&s->out, true);
	stream_in_init(&s->in, true);
	if (tell)
		stdio_say_reset(stdio_link(s), s->proc->pid, STREAM_BIT(s->no), used);
}

void stdio_read_on(struct stdio *s, bool on)
{
	if (s->reading == on || !s->rd)
		return;
	if (on)
		event_add(s->rd, NULL);
	else
		event_del(s->rd);
	s->reading = on;
}

void stdio_pump(struct stdio *s)
{
	struct peer *to = stdio_link(s);
	const unsigned char *p;
	uint64_t offset;
	size_t n;

	if (!to || s->broken)
		return;
	while (!peer_is_full(to) && (n = stream_out_next(&s->out, &offset, &p)) > 0) {
		stdio_say_data(s, offset, p, n);
		stream_out_sent(&s->out, n);
	}
	if (stream_out_take_end(&s->out))
		s->end_due = true;
}

static void end_reading(struct stdio *s)
{
	s->out.ended = true;
	stdio_read_on(s, false);
}

/* One read. False: there is nothing more for now. */
static bool fill_once(struct stdio *s, size_t *done)
{
	size_t room;
	unsigned char *to = stream_out_space(&s->out, &room);
	ssize_t n;

	if (!to) {
		/* Full: the next credit reads on. */
		stdio_read_on(s, false);
		return false;
	}
	if (s->drain && room > s->left)
		room = (size_t)s->left;
	n = read(s->fd, to, room);
	if (n < 0 && errno == EINTR)
		return true;
	if (n <= 0) {
		/* A closed end with unread bytes of ours in it says ECONNRESET. */
		if (n == 0 || errno != EAGAIN || s->drain)
			end_reading(s);
		else
			stdio_read_on(s, true);
		return false;
	}
	stream_out_filled(&s->out, (size_t)n);
	*done += (size_t)n;
	if ((size_t)n >= STREAM_CHUNK)
		stdio_enlarge(s);
	if (s->drain) {
		s->left -= (uint64_t)n;
		return true;
	}
	stdio_pump(s);
	/* Less than there was room for: it is empty now, without a call to learn that. */
	if ((size_t)n < room)
		stdio_read_on(s, true);
	return (size_t)n == room;
}

void stdio_fill(struct stdio *s)
{
	size_t done = 0;

	while (s->fd >= 0 && !s->proc->held && !s->out.ended && (s->drain || done < TURN_BYTES)) {
		if (s->drain && s->left == 0)
			end_reading(s);
		else if (!fill_once(s, &done))
			break;
	}
	stdio_pump(s);
}

void stdio_drain(struct stdio *s)
{
	const unsigned char *p;
	ssize_t n;
	size_t len;

	/* Of a parked process what it has not read is counted already. */
	if (s->proc->leaving || s->at_end)
		return;
	while (!s->broken && s->fd >= 0 && (len = stream_in_next(&s->in, &p)) > 0) {
		n = write(s->fd, p, len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN) {
			stdio_enlarge(s);
			event_add(s->wr, NULL);
			break;
		}
		if (n < 0)
			return stdio_break(s, true);
		stream_in_taken(&s->in, (size_t)n);
	}
	if (s->broken || s->fd < 0)
		return;
	/* The end of an output is acknowledged; of an empty stdin there is nothing to be let go. */
	stdio_say_credit(s, stream_in_finished(&s->in) && (stdio_at_home() || s->in.done > 0));
	/* The end of stdin. Of an output, the process may still go on, from another node. */
	if (stream_in_finished(&s->in) && !stdio_at_home())
		stdio_end_input(s);
}

static void on_writable(evutil_socket_t fd, short what, void *arg)
{
	struct stdio *s = arg;

	(void)fd;
	(void)what;
	stdio_drain(s);
	stdio_progress(s->proc);
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
	struct stdio *s = arg;
	char byte[512];
	ssize_t n;

	(void)what;
	if (s->sends) {
		stdio_fill(s);
		return stdio_progress(s->proc);
	}
	if (!stdio_at_home()) {
		/*
		 * Of a pipe's writing end: it has no reader (EPOLLERR). Mostly the process ends,
		 * and what it has read is told with its end, if nothing waits for it here.
		 */
		if (stream_in_next(&s->in, &(const unsigned char *){NULL}) == 0 &&
		    stdio_used(s) == s->in.done)
			return stdio_read_on(s, false);
	} else {
		/* Only its end can come from a reader. */
		n = read(fd, byte, sizeof(byte));
		if (n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR)))
			return;
	}
	stdio_break(s, true);
	stdio_progress(s->proc);
}

/* -- the table */

struct stdio_proc *stdio_new(int32_t pid)
{
	struct stdio_proc *p = calloc(1, sizeof(*p));

	if (!p)
		return NULL;
	p->pid = pid;
	for (int i = 0; i < CHAN_STREAMS; i++) {
		struct stdio *s = &p->s[i];

		*s = (struct stdio){.proc = p, .no = (uint8_t)i, .fd = -1};
		s->sends = stdio_at_home() == (i == 0);
		stream_out_init(&s->out, stdio_at_home());
		stream_in_init(&s->in, stdio_at_home());
		TAILQ_INIT(&s->next);
	}
	LIST_INSERT_HEAD(bucket(pid), p, next);
	return p;
}

void stdio_adopt(struct stdio_proc *p, struct stdio_fds *f)
{
	struct stat st;

	for (int i = 0; i < CHAN_STREAMS; i++) {
		struct stdio *s = &p->s[i];

		s->fd = take_fd(f->ours[i]);
		if (s->fd < 0) {
			stdio_break(s, false);
			continue;
		}
		if (s->broken) {
			/* Its reader went before the ghost was there. */
			if (s->turned)
				stdio_home_used(s, s->used);
			stdio_close(s);
			continue;
		}
		if (fstat(s->fd, &st) == 0)
			s->inode = st.st_ino;
		s->rd = watch_fd(s->fd, EV_READ, on_readable, s);
		s->wr = event_new(slave.base, s->fd, EV_WRITE, on_writable, s);
		s->reading = true;
		if (!s->rd || !s->wr)
			stdio_break(s, false);
	}
}

void stdio_free(struct stdio_proc *p)
{
	struct stdio_proc *rest = p->rest;

	LIST_REMOVE(p, next);
	for (int i = 0; i < CHAN_STREAMS; i++) {
		stdio_close(&p->s[i]);
		turn_drop_all(&p->s[i]);
		stream_out_free(&p->s[i].out);
		stream_in_free(&p->s[i].in);
		free(p->s[i].back);
	}
	free_event(&p->give_up);
	free_event(&p->late);
	free(p->unread);
	free(p->arg);
	free(p);
	if (rest)
		stdio_rest_begin(rest);
}

void stdio_wait(struct stdio_proc *p, void (*then)(void *arg), void *arg)
{
	free(p->arg);
	p->then = then;
	p->arg = arg;
}

void stdio_then(struct stdio_proc *p)
{
	void (*then)(void *) = p->then;
	void *arg = p->arg;

	p->then = NULL;
	p->arg = NULL;
	free_event(&p->give_up);
	if (then)
		then(arg);
}

/* -- from the links */

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

/* A record that has left still gets what belongs to its last bytes. */
static struct stdio *stream_of(struct peer *q, const Bproc__Proc *proc, uint32_t no)
{
	struct stdio_proc *p, *old = NULL;

	if (!proc || no >= CHAN_STREAMS)
		return NULL;
	LIST_FOREACH(p, bucket(proc->pid), next)
	if (p->pid == proc->pid && !p->s[no].broken)
		old = p;
	if (!old || (stdio_at_home() && old->s[no].peer != q))
		return NULL;
	return &old->s[no];
}

/* Home: whoever takes over knows by that whether it is the one that is meant. */
static void note_leave(struct peer *q, const Bproc__StreamEnd *m)
{
	for (uint32_t i = 0; i < CHAN_STREAMS; i++) {
		struct stdio *s = m->mask & STREAM_BIT(i) ? stream_of(q, m->proc, i) : NULL;

		if (s)
			s->left_by = m->move;
	}
}

/* Each stream of a mask, with its value; then their process, once. */
static void each(struct peer *q, const Bproc__Proc *proc, uint32_t mask, const uint64_t *at,
		 size_t n, void (*on)(struct stdio *s, uint64_t at))
{
	struct stdio_proc *p[CHAN_STREAMS] = {NULL};
	size_t k = 0;

	for (uint32_t i = 0; i < CHAN_STREAMS && k < n; i++) {
		struct stdio *s = mask & STREAM_BIT(i) ? stream_of(q, proc, i) : NULL;

		if (s) {
			p[i] = s->proc;
			on(s, at[k]);
		}
		k += !!(mask & STREAM_BIT(i));
	}
	for (int i = 0; i < CHAN_STREAMS; i++)
		if (p[i] && (i == 0 || p[i] != p[0]) && (i != 2 || p[2] != p[1]))
			stdio_progress(p[i]);
}

void stdio_on_msg(struct peer *q, const Bproc__Envelope *env)
{
	const uint64_t *at;
	struct stdio *s;

	switch (env->msg_case) {
	case BPROC__ENVELOPE__MSG_STREAM_OPEN:
		if (stdio_at_home() && env->stream_open->proc)
			stdio_home_open(q, env->stream_open);
		return;
	case BPROC__ENVELOPE__MSG_STREAM_DATA:
		s = stream_of(q, env->stream_data->proc, env->stream_data->stream);
		if (s)
			on_data(s, env->stream_data);
		return;
	case BPROC__ENVELOPE__MSG_STREAM_CREDIT:
		return each(q, env->stream_credit->proc, env->stream_credit->mask,
			    env->stream_credit->upto, env->stream_credit->n_upto, on_credit);
	case BPROC__ENVELOPE__MSG_STREAM_END:
		note_leave(q, env->stream_end);
		return each(q, env->stream_end->proc, env->stream_end->mask, env->stream_end->at,
			    env->stream_end->n_at, on_end);
	case BPROC__ENVELOPE__MSG_STREAM_RESET:
		if (stdio_at_home())
			stdio_home_reset_later(q, env->stream_reset);
		at = (uint64_t[]){env->stream_reset->used, STREAM_UNKNOWN, STREAM_UNKNOWN};
		return each(q, env->stream_reset->proc, env->stream_reset->mask, at, CHAN_STREAMS,
			    on_reset);
	default:
		return;
	}
}

void stdio_peer_up(struct peer *q)
{
	(void)q;
	if (!stdio_at_home())
		stdio_node_peer_up();
}

void stdio_peer_down(struct peer *q)
{
	if (stdio_at_home())
		stdio_home_peer_down(q);
}

void stdio_peer_drained(struct peer *q)
{
	struct stdio_proc *p, *more;

	for (int i = 0; i < STDIO_HASH; i++) {
		for (p = LIST_FIRST(&stdio_table[i]); p; p = more) {
			more = LIST_NEXT(p, next);
			for (int n = 0; n < CHAN_STREAMS; n++)
				if (p->s[n].sends && stdio_link(&p->s[n]) == q)
					stdio_fill(&p->s[n]);
			stdio_progress(p);
		}
	}
}
