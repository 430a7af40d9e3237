/*
 * Forwarded stdio: one stream between a socket and a link (bpslave_stdio.h). Runs
 * in bpslave at both ends. A socket is read only as far as the window has room,
 * and the window is sent only as far as the reader gave credit and the link takes
 * it, so a flood stops its own writer and delays nobody else.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
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

static bool at_home(void)
{
	return slave.node == HOME_NODE;
}

struct peer *stdio_link(const struct stdio *s)
{
	return at_home() ? s->peer : peer_home();
}

/* -- one stream */

static void progress(struct stdio *s)
{
	if (at_home())
		stdio_home_progress(s->proc);
	else
		stdio_node_progress(s->proc);
}

void stdio_break(struct stdio *s, bool tell)
{
	if (s->broken)
		return;
	s->broken = true;
	stdio_close(s);
	stream_out_free(&s->out);
	stream_in_free(&s->in);
	stream_out_init(&s->out, true);
	stream_in_init(&s->in, true);
	if (tell)
		stdio_say_reset(stdio_link(s), s->proc->pid, s->no);
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
		stdio_say_end(s, s->out.end);
}

void stdio_fill(struct stdio *s)
{
	size_t room, done = 0;
	unsigned char *to;
	ssize_t n = 1;

	while (s->fd >= 0 && !s->out.ended && (s->drain || done < TURN_BYTES)) {
		to = stream_out_space(&s->out, &room);
		if (!to) {
			/* Full: the next credit reads on. */
			stdio_read_on(s, false);
			break;
		}
		n = recv(s->fd, to, room, MSG_DONTWAIT);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			/* A closed end with unread bytes of ours in it says ECONNRESET. */
			if (n == 0 || errno != EAGAIN || s->drain) {
				s->out.ended = true;
				stdio_read_on(s, false);
			} else {
				stdio_read_on(s, true);
			}
			break;
		}
		stream_out_filled(&s->out, (size_t)n);
		done += (size_t)n;
		if (!s->drain)
			stdio_pump(s);
		/* Less than there was room for: it is empty now, without a call to learn that. */
		if ((size_t)n < room && !s->drain) {
			stdio_read_on(s, true);
			break;
		}
	}
	stdio_pump(s);
}

void stdio_drain(struct stdio *s)
{
	const unsigned char *p;
	ssize_t n;
	size_t len;

	while (!s->broken && s->fd >= 0 && (len = stream_in_next(&s->in, &p)) > 0) {
		n = send(s->fd, p, len, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN) {
			event_add(s->wr, NULL);
			break;
		}
		if (n < 0)
			return stdio_break(s, true);
		stream_in_taken(&s->in, (size_t)n);
	}
	if (s->broken || s->fd < 0)
		return;
	stdio_say_credit(s, stream_in_finished(&s->in));
	/* The end of stdin. Of an output, the process may still go on, from another node. */
	if (stream_in_finished(&s->in) && !at_home())
		shutdown(s->fd, SHUT_WR);
}

static void on_writable(evutil_socket_t fd, short what, void *arg)
{
	struct stdio *s = arg;

	(void)fd;
	(void)what;
	stdio_drain(s);
	progress(s);
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
	struct stdio *s = arg;
	char byte[512];
	ssize_t n;

	(void)what;
	if (s->sends) {
		stdio_fill(s);
		return progress(s);
	}
	/* Only its end can come from a reader; what a program writes to its stdin goes nowhere. */
	n = recv(fd, byte, sizeof(byte), MSG_DONTWAIT);
	if (n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR)))
		return;
	stdio_break(s, true);
	progress(s);
}

/* -- the table */

struct stdio_proc *stdio_new(int32_t pid, struct stdio_fds *f)
{
	struct stdio_proc *p = calloc(1, sizeof(*p));
	struct stdio *s;

	if (!p)
		return NULL;
	p->pid = pid;
	p->inode = f->inode;
	for (int i = 0; i < CHAN_STREAMS; i++) {
		s = &p->s[i];
		*s = (struct stdio){.proc = p,
				    .no = (uint8_t)i,
				    .fd = take_fd(f->ours[i]),
				    .writer = at_home() ? -1 : take_fd(f->theirs[i])};
		s->sends = at_home() == (i == 0);
		stream_out_init(&s->out, at_home());
		stream_in_init(&s->in, at_home());
		if (s->fd < 0) {
			stdio_break(s, false);
			continue;
		}
		s->rd = watch_fd(s->fd, EV_READ, on_readable, s);
		s->wr = event_new(slave.base, s->fd, EV_WRITE, on_writable, s);
		s->reading = true;
		if (!s->rd || !s->wr)
			stdio_break(s, false);
	}
	LIST_INSERT_HEAD(bucket(pid), p, next);
	return p;
}

void stdio_free(struct stdio_proc *p)
{
	LIST_REMOVE(p, next);
	for (int i = 0; i < CHAN_STREAMS; i++) {
		stdio_close(&p->s[i]);
		stream_out_free(&p->s[i].out);
		stream_in_free(&p->s[i].in);
		free(p->s[i].back);
	}
	free_event(&p->give_up);
	free(p->unread);
	free(p->arg);
	free(p);
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
	progress(s);
}

static void on_data(struct stdio *s, const Bproc__StreamData *m)
{
	if (s->sends) {
		if (at_home())
			stdio_home_back(s, m);
		return;
	}
	if (stream_in_data(&s->in, m->offset, m->data.data, m->data.len) < 0)
		return protocol_error(s, "data that no credit was given for");
	stdio_drain(s);
	progress(s);
}

static void on_credit(struct stdio *s, uint64_t upto)
{
	if (!s->sends)
		return;
	if (stream_out_credit(&s->out, upto) < 0)
		return protocol_error(s, "credit beyond what was sent");
	stdio_pump(s);
	/* Room in the window again: the socket may have been waiting. */
	if (!s->reading || s->drain)
		stdio_fill(s);
	progress(s);
}

static void on_end(struct peer *q, struct stdio *s, uint64_t offset)
{
	if (at_home())
		return stdio_home_end(s, q, offset);
	if (s->sends)
		return;
	if (stream_in_end(&s->in, offset) < 0)
		return protocol_error(s, "an end that is not where the bytes end");
	stdio_drain(s);
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
	if (!old || (at_home() && old->s[no].peer != q))
		return NULL;
	return &old->s[no];
}

void stdio_on_msg(struct peer *q, const Bproc__Envelope *env)
{
	struct stdio *s;

	switch (env->msg_case) {
	case BPROC__ENVELOPE__MSG_STREAM_OPEN:
		if (at_home() && env->stream_open->proc && env->stream_open->stream < CHAN_STREAMS)
			stdio_home_open(q, env->stream_open);
		return;
	case BPROC__ENVELOPE__MSG_STREAM_DATA:
		s = stream_of(q, env->stream_data->proc, env->stream_data->stream);
		if (s)
			on_data(s, env->stream_data);
		return;
	case BPROC__ENVELOPE__MSG_STREAM_CREDIT:
		s = stream_of(q, env->stream_credit->proc, env->stream_credit->stream);
		if (s)
			on_credit(s, env->stream_credit->upto);
		return;
	case BPROC__ENVELOPE__MSG_STREAM_END:
		s = stream_of(q, env->stream_end->proc, env->stream_end->stream);
		if (s)
			on_end(q, s, env->stream_end->offset);
		return;
	case BPROC__ENVELOPE__MSG_STREAM_RESET:
		s = stream_of(q, env->stream_reset->proc, env->stream_reset->stream);
		if (!s)
			return;
		stdio_break(s, false);
		return progress(s);
	default:
		return;
	}
}

void stdio_peer_up(struct peer *q)
{
	(void)q;
	if (!at_home())
		stdio_node_peer_up();
}

void stdio_peer_down(struct peer *q)
{
	if (at_home())
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
			if (at_home())
				stdio_home_progress(p);
			else
				stdio_node_progress(p);
		}
	}
}
