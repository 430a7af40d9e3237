/*
 * Forwarded stdio where the process is (bpslave_stdio.h, doc/streams.md). Runs in
 * bpslave of a node. The node opens the streams. Where those begin of a process that
 * was on another node before, home says with its first credit; all others begin at 0.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "bpslave_stdio.h"
#include "libbproc/log.h"

/* later: nobody waits for it at home, unless somebody writes there. */
static void open_all(struct stdio_proc *p, bool later)
{
	uint64_t at[CHAN_STREAMS];
	uint32_t mask = 0;

	if (!peer_home())
		return;
	p->stdin_said = false;
	for (int i = 0; i < CHAN_STREAMS; i++) {
		struct stdio *s = &p->s[i];

		s->credit_due = s->end_due = false;
		if (s->broken)
			continue;
		mask |= STREAM_BIT(i);
		if (s->sends) {
			at[i] = stream_out_reopen(&s->out);
			continue;
		}
		at[i] = s->in.based ? s->in.next : STREAM_UNKNOWN;
		if (!stream_in_fresh(&s->in))
			stdio_say_credit(s, true);
	}
	stdio_say_open(p, mask, at, later);
	for (int i = 1; i < CHAN_STREAMS; i++)
		stdio_pump(&p->s[i]);
	stdio_say_due(p);
}

uint64_t stdio_visit(int32_t pid)
{
	const struct stdio_proc *p = stdio_at_home() ? NULL : stdio_find(pid);

	return p && !p->gone && !p->exited ? p->visit.move : 0;
}

void stdio_arrived(int32_t pid, bool fresh, bool child, const struct stdio_visit *v,
		   const struct stdio_of *of, struct stdio_fds *f)
{
	struct stdio_proc *p = f->ours[0] >= 0 ? stdio_new(pid) : NULL;

	if (!p)
		return;
	p->of = *of;
	p->visit = *v;
	for (int i = 0; i < CHAN_STREAMS; i++) {
		stream_out_init(&p->s[i].out, fresh);
		stream_in_init(&p->s[i].in, fresh);
	}
	stdio_adopt(p, f);
	open_all(p, fresh && child);
}

void stdio_node_peer_up(void)
{
	struct stdio_proc *p;

	STDIO_EACH(p, i)
	{
		free_event(&p->give_up);
		open_all(p, false);
	}
}

static bool is_stream(const char *link, uint32_t *ret_no)
{
	struct stdio_proc *p;
	char name[32];

	STDIO_EACH(p, i)
	{
		for (uint32_t no = 0; no < CHAN_STREAMS; no++) {
			if (p->s[no].fd < 0)
				continue;
			snprintf(name, sizeof(name), "pipe:[%llu]",
				 (unsigned long long)p->s[no].inode);
			if (strcmp(name, link) == 0) {
				*ret_no = no;
				return true;
			}
		}
	}
	return false;
}

/* Streams of it that are not on 0 to 2, on the lowest number that each has. */
static void find_saved(int32_t host_pid, uint32_t found, int32_t ret_saved[CHAN_STREAMS])
{
	char path[32], link[64];
	struct dirent *e;
	uint32_t no;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/fd", host_pid);
	dir = opendir(path);
	while (dir && (e = readdir(dir))) {
		ssize_t n = readlinkat(dirfd(dir), e->d_name, link, sizeof(link) - 1);
		int fd = atoi(e->d_name);

		link[n > 0 ? n : 0] = '\0';
		if (fd > 2 && is_stream(link, &no) && !(found & STREAM_BIT(no)) &&
		    (ret_saved[no] == 0 || ret_saved[no] > fd))
			ret_saved[no] = fd;
	}
	if (dir)
		closedir(dir);
}

bool stdio_streams_of(int32_t host_pid, uint32_t *ret_map, int32_t ret_saved[CHAN_STREAMS])
{
	uint32_t found = 0;
	char path[48], link[64];
	bool all = true;
	uint32_t no;
	ssize_t n;

	*ret_map = 0;
	memset(ret_saved, 0, CHAN_STREAMS * sizeof(*ret_saved));

	for (int i = 0; i < CHAN_STREAMS; i++) {
		snprintf(path, sizeof(path), "/proc/%d/fd/%d", host_pid, i);
		n = readlink(path, link, sizeof(link) - 1);
		link[n > 0 ? n : 0] = '\0';
		if (strncmp(link, "pipe:", 5) != 0)
			continue;
		if (is_stream(link, &no)) {
			*ret_map |= (no + 1) << i * CHAN_GO_STREAM_BITS;
			found |= STREAM_BIT(no);
		} else {
			all = false;
		}
	}
	if (found != STREAM_ALL)
		find_saved(host_pid, found, ret_saved);
	return all;
}

/* -- pipes that others hold when their process has ended or gone */

/*
 * They need a name of their own: the process may be on its way to other places, and
 * its pid that of another soon. Below 0, and no other node's.
 */
static int32_t rest_name(void)
{
	static uint32_t last;
	int32_t name;

	do {
		last = (last + 1) & 0xffff;
		name = -((slave.node + 1) << 16) - (int32_t)last;
	} while (stdio_find(name));
	return name;
}

/* Home knows of it before it hears the end of p, which is the last it keeps of p. */
static void rest_make(struct stdio_proc *p, uint32_t mask)
{
	struct stdio_fds f = {{-1, -1, -1}, {-1, -1, -1}};
	const uint64_t at[CHAN_STREAMS] = {0};
	struct stdio_proc *r;

	for (int i = 1; i < CHAN_STREAMS; i++)
		if (mask & STREAM_BIT(i) && p->s[i].fd >= 0)
			f.ours[i] = fcntl(p->s[i].fd, F_DUPFD_CLOEXEC, 3);
	if (p->rest || (f.ours[1] < 0 && f.ours[2] < 0) || !(r = stdio_new(rest_name())))
		return stdio_fds_close(&f);
	stdio_adopt(r, &f);
	r->of = (struct stdio_of){.n = 1, .pid = {p->pid}};
	for (size_t i = 0; i < p->of.n && r->of.n < INIT_CHAIN_MAX; i++)
		r->of.pid[r->of.n++] = p->of.pid[i];
	r->gone = r->held = true;
	mask = 0;
	for (int i = 1; i < CHAN_STREAMS; i++) {
		stream_out_init(&r->s[i].out, true);
		stream_out_reopen(&r->s[i].out);
		stdio_read_on(&r->s[i], false);
		if (!r->s[i].broken)
			mask |= STREAM_BIT(i);
	}
	p->rest = r;
	if (peer_home())
		stdio_say_open(r, mask, at, false);
}

/* What p has written is at home now: what others write comes behind it. */
void stdio_rest_begin(struct stdio_proc *r)
{
	r->held = false;
	for (int i = 1; i < CHAN_STREAMS; i++) {
		if (r->s[i].broken)
			continue;
		stdio_read_on(&r->s[i], true);
		stdio_fill(&r->s[i]);
	}
	stdio_node_progress(r);
}

/* p stays, and goes on to serve them. */
static void rest_drop(struct stdio_proc *p)
{
	struct stdio_proc *r = p->rest;

	p->rest = NULL;
	if (!r)
		return;
	for (int i = 1; i < CHAN_STREAMS; i++) {
		stdio_close(&r->s[i]);
		r->s[i].out.ended = true;
	}
	r->held = false;
	for (int i = 1; i < CHAN_STREAMS; i++)
		stdio_pump(&r->s[i]);
	stdio_node_progress(r);
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

	stdio_say_due(p);
	/* What waits to take over from another belongs to that one, also when nobody reads it. */
	if (!ending || p->held)
		return;
	if (p->exited && p->then && sent_all(&p->s[1]) && sent_all(&p->s[2]))
		stdio_then(p);
	/* What home has not acknowledged is kept, in case the link breaks. */
	if (!p->then && (p->s[0].broken || p->stdin_said) && acked_all(&p->s[1]) &&
	    acked_all(&p->s[2]))
		return stdio_free(p);
	if (!peer_home() && !p->give_up) {
		p->give_up = new_timer(on_give_up, p);
		if (p->give_up)
			start_timer(p->give_up, slave.ping_timeout_ms);
	}
}

/*
 * What is in the pipes now is of the process, and all that follows of others. If there
 * are none a pipe is read to its end, which costs one call less than to look.
 */
static void drain_outputs(struct stdio_proc *p, bool others_too)
{
	uint32_t mask = 0;

	for (int i = 1; i < CHAN_STREAMS; i++) {
		struct stdio *s = &p->s[i];
		struct pollfd at = {.fd = s->fd, .events = POLLIN};
		int n = 0;

		s->drain = true;
		if (s->fd < 0) {
			s->out.ended = true;
			continue;
		}
		/* POLLHUP: no writer is left, whatever there is to be read. */
		s->left = UINT64_MAX;
		if (others_too || poll(&at, 1, 0) < 0 || !(at.revents & POLLHUP)) {
			s->left = ioctl(s->fd, FIONREAD, &n) == 0 ? (uint64_t)n : 0;
			mask |= STREAM_BIT(i);
		}
	}
	rest_make(p, mask);
	for (int i = 1; i < CHAN_STREAMS; i++)
		stdio_fill(&p->s[i]);
}

void stdio_exited(int32_t pid, void (*then)(void *arg), void *arg)
{
	/* One that ends at home has its own descriptors. */
	struct stdio_proc *p = stdio_at_home() ? NULL : stdio_find(pid);

	if (!p || p->gone || (p->exited && !p->then)) {
		then(arg);
		return;
	}
	p->exited = true;
	p->unread_fd = close_fd(p->unread_fd);
	stdio_wait(p, then, arg);
	/* What was said for a move that it has not survived is said again, for good. */
	for (int i = 1; p->leaves_by && i < CHAN_STREAMS; i++)
		p->s[i].end_due |= p->s[i].out.end_sent;
	drain_outputs(p, false);
	stdio_node_progress(p);
}

static void nobody_waits(void *arg)
{
	(void)arg;
}

void stdio_init_lost(void)
{
	struct stdio_proc *p, *more;

	if (stdio_at_home())
		return;
	for (int i = 0; i < STDIO_HASH; i++) {
		for (p = LIST_FIRST(&stdio_table[i]); p; p = more) {
			more = LIST_NEXT(p, next);
			if (p->pid > 0 && !p->exited)
				stdio_exited(p->pid, nobody_waits, NULL);
		}
	}
}

/* -- departure: the process is parked, so what is in its pipes is all there is */

/*
 * What the process has not read, read by ourselves: home sends it again, to the next node. If it
 * stays it finds it there again; until then who has the pipe too must not take it for ended.
 */
static void take_unread(struct stdio *s)
{
	int fd = s->fd >= 0 ? stdio_reopen(s->fd, O_RDWR) : -1;
	struct stdio_proc *p = s->proc;
	int len = 0;
	ssize_t n;

	p->unread_fd = fd;
	if (fd < 0 || ioctl(fd, FIONREAD, &len) < 0 || len <= 0)
		return;
	p->unread = malloc((size_t)len);
	while (p->unread && p->unread_len < (size_t)len) {
		n = read(fd, p->unread + p->unread_len, (size_t)len - p->unread_len);
		if (n <= 0)
			break;
		p->unread_len += (size_t)n;
	}
}

static void begin_leaving(struct stdio_proc *p)
{
	p->leaving = true;
	for (int i = 0; i < CHAN_STREAMS; i++)
		stdio_read_on(&p->s[i], false);
	take_unread(&p->s[0]);
	drain_outputs(p, true);
	for (int i = 1; i < CHAN_STREAMS; i++)
		stdio_read_on(&p->s[i], false);
}

void stdio_departing(int32_t pid, uint64_t move)
{
	struct stdio_proc *p = stdio_find(pid);

	if (!p)
		return;
	p->leaves_by = move;
	if (!p->leaving)
		begin_leaving(p);
	stdio_say_due(p);
}

/* Its pipe is empty now, and held all of this before. */
static void put_back(struct stdio *s)
{
	struct stdio_proc *p = s->proc;

	if (p->unread_len > 0 && !s->broken &&
	    write(p->unread_fd, p->unread, p->unread_len) != (ssize_t)p->unread_len)
		log_warn("process %d: some of its stdin is lost", p->pid);
	p->unread_fd = close_fd(p->unread_fd);
	free(p->unread);
	p->unread = NULL;
	p->unread_len = 0;
}

void stdio_stays(int32_t pid)
{
	struct stdio_proc *p = stdio_find(pid);

	if (!p || !p->leaving)
		return;
	p->leaving = false;
	p->leaves_by = 0;
	rest_drop(p);
	put_back(&p->s[0]);
	for (int i = 1; i < CHAN_STREAMS; i++) {
		p->s[i].drain = false;
		if (p->s[i].fd >= 0)
			p->s[i].out.ended = false;
	}
	open_all(p, false);
	for (int i = 0; i < CHAN_STREAMS; i++)
		if (!p->s[i].at_end)
			stdio_read_on(&p->s[i], true);
	stdio_drain(&p->s[0]);
	stdio_node_progress(p);
}

void stdio_departed(int32_t pid)
{
	struct stdio_proc *p = stdio_find(pid);

	if (!p)
		return;
	p->gone = true;
	p->unread_fd = close_fd(p->unread_fd);
	stdio_node_progress(p);
}
