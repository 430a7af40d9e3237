/*
 * Forwarded stdio: the pipes of a node, the sockets of a ghost, and the messages of
 * a stream. Runs in bpslave at both ends.
 *
 * A process on a node holds pipes, since that is what programs know: /dev/stdout
 * and /dev/stderr can be opened, and a writer whose reader goes gets SIGPIPE also if
 * it sleeps for room. A pipe's two ends are two descriptions: O_NONBLOCK of ours is
 * not the process's.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bpslave_stdio.h"
#include "libbproc/log.h"

/* -- descriptors */

#define NO_FDS ((struct stdio_fds){{-1, -1, -1}, {-1, -1, -1}})

/* pair[0] is ours. The process's user may open his own pipe by its name in /proc. */
static int make_pipe(bool to_process, int pair[2])
{
	int end[2];

	if (pipe2(end, O_CLOEXEC) < 0)
		return -errno;
	pair[0] = end[to_process ? 1 : 0];
	pair[1] = end[to_process ? 0 : 1];
	fchmod(end[0], 0666);
	return 0;
}

static int make_socket(int pair[2])
{
	return socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0 ? -errno : 0;
}

static struct stdio_fds spare = NO_FDS;

static int make_fds(struct stdio_fds *ret)
{
	struct stdio_fds f = NO_FDS;
	int pair[2], e = 0;

	for (int i = 0; e == 0 && i < CHAN_STREAMS; i++) {
		e = stdio_at_home() ? make_socket(pair) : make_pipe(i == 0, pair);
		if (e < 0)
			break;
		f.ours[i] = pair[0];
		f.theirs[i] = pair[1];
		if (fcntl(pair[0], F_SETFL, O_NONBLOCK) < 0)
			e = -errno;
	}
	if (e < 0)
		stdio_fds_close(&f);
	*ret = f;
	return e;
}

int stdio_fds_make(struct stdio_fds *ret)
{
	if (spare.ours[0] < 0)
		return make_fds(ret);
	*ret = spare;
	spare = NO_FDS;
	return 0;
}

void stdio_fds_spare(void)
{
	if (spare.ours[0] < 0)
		make_fds(&spare);
}

void stdio_fds_close(struct stdio_fds *f)
{
	for (int i = 0; i < CHAN_STREAMS; i++) {
		f->ours[i] = close_fd(f->ours[i]);
		f->theirs[i] = close_fd(f->theirs[i]);
	}
}

int stdio_reopen(int fd, int flags)
{
	char path[32];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return open(path, flags | O_NONBLOCK | O_CLOEXEC);
}

/* A busy stream's only: it is memory of the user's, who may have no more (pipe(7)). */
void stdio_enlarge(struct stdio *s)
{
	if (s->large || stdio_at_home())
		return;
	s->large = true;
	fcntl(s->fd, F_SETPIPE_SZ, STREAM_WINDOW);
}

uint64_t stdio_used(const struct stdio *s)
{
	int unread = 0;

	if (!s->in.based)
		return STREAM_UNKNOWN;
	if (s->fd >= 0 && ioctl(s->fd, FIONREAD, &unread) < 0)
		unread = 0;
	return s->in.done - (uint64_t)unread;
}

/*
 * No writing end may be left for the reader to see the end. A reading end of ours
 * keeps what is unread, also if the process ends before it is counted.
 */
void stdio_end_input(struct stdio *s)
{
	int fd = stdio_reopen(s->fd, O_RDONLY);

	stdio_close(s);
	s->fd = fd;
	s->at_end = true;
}

void stdio_close(struct stdio *s)
{
	char rest[16384];

	free_event(&s->rd);
	free_event(&s->wr);
	s->reading = false;
	if (s->fd >= 0 && stdio_at_home() && !s->shared) {
		shutdown(s->fd, SHUT_RDWR);
		/* A unix socket that is closed with bytes unread gives ECONNRESET. */
		while (recv(s->fd, rest, sizeof(rest), MSG_DONTWAIT) > 0)
			;
	}
	s->fd = close_fd(s->fd);
}

/* -- messages */

static void tell(const char *what, const struct peer *to, int32_t pid, uint32_t mask, uint64_t at)
{
	log_debug("process %d: %s to %d: streams %#x, %lld", pid, what, peer_node(to), mask,
		  (long long)at);
}

static void send_to(struct peer *to, const ProtobufCMessage *m, int32_t pid, uint32_t mask,
		    uint64_t at)
{
	tell(m->descriptor->short_name, to, pid, mask, at);
	peer_send(to, m);
}

void stdio_say_open(struct stdio_proc *p, uint32_t mask, const uint64_t at[CHAN_STREAMS],
		    bool later)
{
	Bproc__StreamOpen m = BPROC__STREAM_OPEN__INIT;
	uint64_t list[CHAN_STREAMS];
	PROC_OF(proc, p->pid);

	m.proc = &proc;
	m.mask = mask;
	m.at = list;
	for (int i = 0; i < CHAN_STREAMS; i++)
		if (mask & STREAM_BIT(i))
			list[m.n_at++] = at[i];
	m.visit = p->visit.move;
	/* When home has said where it begins there is nothing more to wait for. */
	m.after = p->s[1].out.based || p->s[2].out.based ? 0 : p->visit.after;
	m.n_of = p->of.n;
	m.of = p->of.pid;
	if (mask) {
		tell("StreamOpen", peer_home(), p->pid, mask, m.at[m.n_at - 1]);
		(later ? peer_send_later : peer_send)(peer_home(), &m.base);
	}
}

/* over: they are for bytes that have all come, so the other end waits for no room. */
static void say_credits(struct peer *to, const struct stdio *first, uint32_t mask, uint64_t *upto,
			size_t n, bool over)
{
	int32_t pid = first->proc->pid;
	Bproc__StreamCredit m = BPROC__STREAM_CREDIT__INIT;
	PROC_OF(proc, pid);

	m.proc = &proc;
	m.mask = mask;
	m.upto = upto;
	m.n_upto = n;
	m.visit = stdio_visit_of(first);
	tell("StreamCredit", to, pid, mask, upto[n - 1]);
	(over ? peer_send_later : peer_send)(to, &m.base);
}

static void say_ends(struct peer *to, const struct stdio_proc *p, uint32_t mask, uint64_t *at,
		     size_t n)
{
	Bproc__StreamEnd m = BPROC__STREAM_END__INIT;
	PROC_OF(proc, p->pid);

	m.proc = &proc;
	m.mask = mask;
	m.at = at;
	m.n_at = n;
	m.move = p->exited ? 0 : p->leaves_by;
	m.visit = p->visit.move;
	send_to(to, &m.base, p->pid, mask, at[n - 1]);
}

void stdio_say_credit(struct stdio *s, bool now)
{
	if (stream_in_credit(&s->in, now, &s->upto))
		s->credit_due = true;
}

void stdio_say_data(const struct stdio *s, uint64_t offset, const unsigned char *p, size_t len)
{
	Bproc__StreamData m = BPROC__STREAM_DATA__INIT;
	PROC_OF(proc, s->proc->pid);

	m.proc = &proc;
	m.stream = s->no;
	m.offset = offset;
	m.data.data = (unsigned char *)(uintptr_t)p;
	m.data.len = len;
	m.visit = stdio_visit_of(s);
	send_to(stdio_link(s), &m.base, s->proc->pid, STREAM_BIT(s->no), offset);
}

void stdio_say_reset(struct peer *to, int32_t pid, uint64_t visit, uint32_t mask, uint64_t used)
{
	Bproc__StreamReset m = BPROC__STREAM_RESET__INIT;
	PROC_OF(proc, pid);

	m.proc = &proc;
	m.mask = mask;
	m.used = used;
	m.visit = visit;
	if (to && mask)
		send_to(to, &m.base, pid, mask, used);
}

/*
 * A process that ends or leaves says all in one: the ends of its outputs, and how far
 * it has read. 0: it is not ready for that. An output that ends before is no news at
 * home: its ghost holds what was its stdout to the end.
 */
static uint32_t last_word(struct stdio_proc *p, uint64_t *ret_used)
{
	struct stdio *in = &p->s[0];
	uint32_t mask = 0;

	if (!p->exited && !p->leaves_by)
		return 0;
	for (int i = 1; i < CHAN_STREAMS; i++) {
		if (!p->s[i].broken && !p->s[i].out.end_sent)
			return 0;
		if (p->s[i].end_due)
			mask |= STREAM_BIT(i);
	}
	if (p->stdin_said || in->broken || !peer_home())
		return mask;
	p->stdin_said = true;
	/* It came from another node, and of an idle stdin home has told nothing here. */
	if (!in->in.based)
		*ret_used = STREAM_UNKNOWN;
	else if (p->leaving)
		*ret_used = in->in.done - p->unread_len;
	else
		*ret_used = p->stdin_used = in->fd < 0 ? p->stdin_used : stdio_used(in);
	if (in->in.based && p->leaving && p->unread_len > 0)
		stdio_say_data(in, *ret_used, p->unread, p->unread_len);
	return mask | STREAM_BIT(0);
}

static void say_due_ends(struct stdio_proc *p)
{
	bool last = !stdio_at_home() && p->pid > 0;
	uint64_t at[CHAN_STREAMS], used = 0;
	uint32_t mask = last ? last_word(p, &used) : 0;
	struct peer *to = NULL;
	size_t n = 0;

	for (int i = 0; i < CHAN_STREAMS; i++) {
		struct stdio *s = &p->s[i];

		if (!last && s->end_due)
			mask |= STREAM_BIT(i);
		if (!(mask & STREAM_BIT(i)))
			continue;
		at[n++] = s->end_due ? s->out.end : used;
		s->end_due = false;
		to = stdio_link(s);
	}
	if (to)
		say_ends(to, p, mask, at, n);
	/* What is in its ring is home's to send again; children that stay see its end. What was
	 * read is said once more if the link breaks before home has all of the outputs. */
	if ((p->exited || p->gone) && p->stdin_said)
		stdio_close(&p->s[0]);
}

void stdio_say_due(struct stdio_proc *p)
{
	for (int i = 0; i < CHAN_STREAMS; i++) {
		struct peer *to = stdio_link(&p->s[i]);
		uint64_t upto[CHAN_STREAMS];
		uint32_t mask = 0;
		bool over = true;
		size_t n = 0;

		for (int k = i; to && k < CHAN_STREAMS; k++) {
			struct stdio *s = &p->s[k];

			if (!s->credit_due || stdio_link(s) != to ||
			    stdio_visit_of(s) != stdio_visit_of(&p->s[i]))
				continue;
			mask |= STREAM_BIT(k);
			upto[n++] = s->upto;
			s->credit_due = false;
			over = over && stream_in_finished(&s->in);
		}
		if (n > 0)
			say_credits(to, &p->s[i], mask, upto, n, over);
	}
	say_due_ends(p);
}
