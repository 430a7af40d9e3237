/*
 * Forwarded stdio where the process is (bpslave_stdio.h, doc/streams.md). Runs in
 * bpslave of a node. The node opens the streams; where they begin home says, with
 * its first credit, since earlier nodes may have sent a part of them.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "bpslave_stdio.h"
#include "libbproc/log.h"

#define UNREAD_MAX (1u << 20) /* a unix socket holds a fifth of it */

static void open_stream(struct stdio *s)
{
	if (s->broken || !peer_home())
		return;
	if (s->sends) {
		stream_out_rewind(&s->out);
		stdio_say_open(s, s->out.based ? s->out.acked : STREAM_UNKNOWN);
		return;
	}
	stdio_say_open(s, s->in.based ? s->in.next : STREAM_UNKNOWN);
	stdio_say_credit(s, true);
}

void stdio_arrived(int32_t pid, const struct stdio_of *of, struct stdio_fds *f)
{
	struct stdio_proc *p = f->ours[0] >= 0 ? stdio_new(pid, f) : NULL;

	if (!p)
		return;
	p->of = *of;
	for (int i = 0; i < CHAN_STREAMS; i++)
		open_stream(&p->s[i]);
}

void stdio_node_peer_up(void)
{
	struct stdio_proc *p;

	STDIO_EACH(p, i)
	{
		free_event(&p->give_up);
		for (int n = 0; n < CHAN_STREAMS; n++)
			open_stream(&p->s[n]);
	}
}

/* -- the end of a process */

static bool sent_all(const struct stdio *s)
{
	return s->broken || stream_out_all_sent(&s->out);
}

static bool acked_all(const struct stdio *s)
{
	return s->broken || (stream_out_all_sent(&s->out) && s->out.acked == s->out.end);
}

/* Home has not been reached for the ping timeout: whoever read there has gone with it. */
static void on_give_up(evutil_socket_t fd, short what, void *arg)
{
	struct stdio_proc *p = arg;

	(void)fd;
	(void)what;
	log_warn("process %d: its output cannot be sent home", p->pid);
	for (int i = 0; i < CHAN_STREAMS; i++)
		stdio_break(&p->s[i], false);
	stdio_node_progress(p);
}

void stdio_node_progress(struct stdio_proc *p)
{
	bool ending = p->exited || p->gone;

	if (!ending)
		return;
	if (p->exited && p->then && sent_all(&p->s[1]) && sent_all(&p->s[2]))
		stdio_then(p);
	/* What home has not acknowledged is kept, in case the link breaks. */
	if (!p->then && acked_all(&p->s[1]) && acked_all(&p->s[2]))
		return stdio_free(p);
	if (!peer_home() && !p->give_up) {
		p->give_up = new_timer(on_give_up, p);
		if (p->give_up)
			start_timer(p->give_up, slave.ping_timeout_ms);
	}
}

static void drain_outputs(struct stdio_proc *p)
{
	for (int i = 1; i < CHAN_STREAMS; i++) {
		p->s[i].drain = true;
		if (p->s[i].fd < 0)
			p->s[i].out.ended = true;
		stdio_fill(&p->s[i]);
	}
}

void stdio_exited(int32_t pid, void (*then)(void *arg), void *arg)
{
	struct stdio_proc *p = stdio_find(pid);

	if (!p || p->gone || (p->exited && !p->then)) {
		then(arg);
		return;
	}
	p->exited = true;
	stdio_wait(p, then, arg);
	stdio_break(&p->s[0], true);
	drain_outputs(p);
	stdio_node_progress(p);
}

/* -- departure: the process is parked, so what is in its sockets is all there is */

/* What the process has not read is taken out of its own end, which only it has. */
static void take_unread(struct stdio_proc *p, int32_t host_pid)
{
	cleanup_fd int pidfd = (int)syscall(SYS_pidfd_open, host_pid, 0), fd = -1;
	struct stat st;
	ssize_t n;

	if (pidfd >= 0)
		fd = (int)syscall(SYS_pidfd_getfd, pidfd, 0, 0);
	if (fd < 0 || fstat(fd, &st) < 0 || st.st_ino != p->inode || !S_ISSOCK(st.st_mode))
		return;
	p->unread = malloc(UNREAD_MAX);
	p->unread_len = 0;
	while (p->unread && p->unread_len < UNREAD_MAX) {
		n = recv(fd, p->unread + p->unread_len, UNREAD_MAX - p->unread_len, MSG_DONTWAIT);
		if (n <= 0)
			break;
		p->unread_len += (size_t)n;
	}
}

/* Home sends it again, to the next node. */
static void give_back(struct stdio_proc *p)
{
	struct stdio *s = &p->s[0];
	uint64_t used = s->in.done - p->unread_len;

	if (s->broken || !s->in.based || !peer_home())
		return;
	if (p->unread_len > 0)
		stdio_say_data(s, used, p->unread, p->unread_len);
	stdio_say_end(s, used);
}

void stdio_departing(int32_t pid, int32_t host_pid)
{
	struct stdio_proc *p = stdio_find(pid);

	if (!p || p->leaving)
		return;
	p->leaving = true;
	for (int i = 0; i < CHAN_STREAMS; i++)
		stdio_read_on(&p->s[i], false);
	take_unread(p, host_pid);
	give_back(p);
	drain_outputs(p);
	for (int i = 1; i < CHAN_STREAMS; i++)
		stdio_read_on(&p->s[i], false);
}

void stdio_stays(int32_t pid)
{
	struct stdio_proc *p = stdio_find(pid);
	struct stdio *in;

	if (!p || !p->leaving)
		return;
	p->leaving = false;
	in = &p->s[0];
	/* Its socket is empty now, and held all of this before. */
	if (p->unread_len > 0 && !in->broken &&
	    send(in->fd, p->unread, p->unread_len, MSG_DONTWAIT | MSG_NOSIGNAL) !=
		    (ssize_t)p->unread_len)
		log_warn("process %d: some of its stdin is lost", pid);
	free(p->unread);
	p->unread = NULL;
	p->unread_len = 0;
	for (int i = 0; i < CHAN_STREAMS; i++) {
		struct stdio *s = &p->s[i];

		s->drain = false;
		if (s->sends && s->fd >= 0)
			s->out.ended = false;
		open_stream(s);
		stdio_read_on(s, true);
	}
	stdio_drain(in);
}

void stdio_departed(int32_t pid)
{
	struct stdio_proc *p = stdio_find(pid);

	if (!p)
		return;
	p->gone = true;
	/* The ring of stdin is home's to send again. Children that stay lose their stdio. */
	stdio_break(&p->s[0], false);
	stdio_node_progress(p);
}
