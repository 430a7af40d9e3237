/*
 * Forwarded stdio: its socketpairs, how one is closed so that its writer gets
 * SIGPIPE, and the messages of a stream. Runs in bpslave at both ends.
 */
#include <errno.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <linux/sockios.h>
#include <unistd.h>

#include "bpslave_stdio.h"

#define WAKE_MS 50
#define AWAKE_BYTES (16 << 10)

/* -- socketpairs */

int stdio_fds_make(struct stdio_fds *ret)
{
	struct stdio_fds f = {{-1, -1, -1}, {-1, -1, -1}, 0};
	struct stat st;
	int pair[2];

	for (int i = 0; i < CHAN_STREAMS; i++) {
		if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) {
			int e = -errno;

			stdio_fds_close(&f);
			*ret = f;
			return e;
		}
		f.ours[i] = pair[0];
		f.theirs[i] = pair[1];
	}
	if (fstat(f.theirs[0], &st) == 0)
		f.inode = st.st_ino;
	*ret = f;
	return 0;
}

void stdio_fds_close(struct stdio_fds *f)
{
	for (int i = 0; i < CHAN_STREAMS; i++) {
		f->ours[i] = close_fd(f->ours[i]);
		f->theirs[i] = close_fd(f->theirs[i]);
	}
}

/* -- messages */

#define OF_STREAM(m, s)                                                                            \
	PROC_OF(proc_, (s)->proc->pid);                                                            \
	(m).proc = &proc_;                                                                         \
	(m).stream = (s)->no

void stdio_say_open(const struct stdio *s, uint64_t offset)
{
	Bproc__StreamOpen m = BPROC__STREAM_OPEN__INIT;
	OF_STREAM(m, s);

	m.offset = offset;
	m.n_of = s->proc->of.n;
	m.of = (int32_t *)(uintptr_t)s->proc->of.pid;
	peer_send(stdio_link(s), &m);
}

void stdio_say_upto(struct stdio *s, uint64_t upto)
{
	Bproc__StreamCredit m = BPROC__STREAM_CREDIT__INIT;
	OF_STREAM(m, s);

	m.upto = upto;
	peer_send(stdio_link(s), &m);
}

void stdio_say_credit(struct stdio *s, bool now)
{
	uint64_t upto;

	if (stdio_link(s) && stream_in_credit(&s->in, now, &upto))
		stdio_say_upto(s, upto);
}

void stdio_say_data(const struct stdio *s, uint64_t offset, const unsigned char *p, size_t len)
{
	Bproc__StreamData m = BPROC__STREAM_DATA__INIT;
	OF_STREAM(m, s);

	m.offset = offset;
	m.data.data = (unsigned char *)(uintptr_t)p;
	m.data.len = len;
	peer_send(stdio_link(s), &m);
}

void stdio_say_end(const struct stdio *s, uint64_t offset)
{
	Bproc__StreamEnd m = BPROC__STREAM_END__INIT;
	OF_STREAM(m, s);

	m.offset = offset;
	peer_send(stdio_link(s), &m);
}

void stdio_say_reset(struct peer *to, int32_t pid, uint32_t no)
{
	Bproc__StreamReset m = BPROC__STREAM_RESET__INIT;
	PROC_OF(proc, pid);

	m.proc = &proc;
	m.stream = no;
	if (to)
		peer_send(to, &m);
}

/* -- closing */

/* Throws away what is unread, since a unix socket closed with that gives ECONNRESET. */
static size_t discard(int fd, uint64_t end_ms)
{
	char rest[16384];
	size_t all = 0;
	ssize_t n;

	while ((n = recv(fd, rest, sizeof(rest), MSG_DONTWAIT)) > 0 && now_ms() <= end_ms)
		all += (size_t)n;
	return all;
}

/*
 * The writer is to get SIGPIPE. A unix socket gives none to a writer that sleeps
 * for room in it, only EPIPE (net/core/sock.c, sock_alloc_send_pskb). So one that
 * may sleep is let run first: when a few bytes come into a socket that was empty,
 * it is writing, and cannot be asleep again so soon.
 */
static void wake_writer(int fd, uint64_t end_ms)
{
	int queued = 0;

	do {
		discard(fd, end_ms);
		while (ioctl(fd, SIOCINQ, &queued) == 0 && queued == 0 && now_ms() <= end_ms)
			sched_yield();
	} while (queued > AWAKE_BYTES && now_ms() <= end_ms);
}

void stdio_close(struct stdio *s)
{
	free_event(&s->rd);
	free_event(&s->wr);
	s->reading = false;
	if (s->fd < 0)
		return;
	if (!s->shared) {
		uint64_t end = now_ms() + WAKE_MS;
		size_t unread = discard(s->fd, end);

		/* It is woken only when three quarters are free: it can sleep with little in it. */
		if (unread > 0 && s->sends)
			wake_writer(s->fd, unread > AWAKE_BYTES ? end : now_ms() + 2);
		shutdown(s->fd, SHUT_RDWR);
		discard(s->fd, end + WAKE_MS);
	}
	s->fd = close_fd(s->fd);
}
