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
#define LITTLE_BYTES (16 << 10)
#define ROOM_BYTES (64 << 20)

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

/*
 * The writer is to get SIGPIPE. A unix socket gives none to a writer that sleeps
 * for room in it, only EPIPE (net/core/sock.c, sock_alloc_send_pskb). So the
 * socket is made so large that it wakes, and it is let run: when more bytes come,
 * it is awake, and there is room enough for it to stay so.
 */
static void wake_writer(const struct stdio *s)
{
	int before = 0, queued = 0, room = ROOM_BYTES;
	uint64_t end;

	if (s->writer < 0 || ioctl(s->fd, SIOCINQ, &before) < 0 || before == 0)
		return;
	/* Few bytes fill it only if they were written one by one. */
	end = now_ms() + (before > LITTLE_BYTES ? WAKE_MS : 2);
	setsockopt(s->writer, SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof(room));
	while (ioctl(s->fd, SIOCINQ, &queued) == 0 && queued <= before && now_ms() <= end)
		sched_yield();
}

void stdio_close(struct stdio *s)
{
	char rest[16384];

	free_event(&s->rd);
	free_event(&s->wr);
	s->reading = false;
	if (s->fd < 0)
		return;
	if (!s->shared) {
		wake_writer(s);
		shutdown(s->fd, SHUT_RDWR);
		/* A unix socket that is closed with bytes unread gives ECONNRESET. */
		while (recv(s->fd, rest, sizeof(rest), MSG_DONTWAIT) > 0)
			;
	}
	s->fd = close_fd(s->fd);
	s->writer = close_fd(s->writer);
}
