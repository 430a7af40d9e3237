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

uint64_t stdio_visit_of(const struct stdio *s)
{
	return stdio_at_home() ? s->visit : s->proc->visit.move;
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
	if (s->no == 0)
		s->proc->unread_fd = close_fd(s->proc->unread_fd);
	stream_out_free(&s->out);
	stream_in_free(&s->in);
	stream_out_init(&s->out, true);
	stream_in_init(&s->in, true);
	if (tell)
		stdio_say_reset(stdio_link(s), s->proc->pid, stdio_visit_of(s), STREAM_BIT(s->no),
				used);
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
	p->unread_fd = -1;
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
	close_fd(p->unread_fd);
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

/* -- links */

void stdio_peer_up(struct peer *q)
{
	if (stdio_at_home())
		stdio_home_peer_up(q);
	else
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
