/*
 * A ghost's streams: fd 0 of this process -> stream 0, streams 1 and 2 -> fd 1
 * and 2, so that the terminal's own rules hold for the original too. No byte is
 * lost: what was read is kept until it is written. The ghost has other work, so
 * it must never sleep in a read or a write: terminals and pipes are opened once
 * more, non-blocking (the flag is the description's, and that is shared with
 * others), and where this is not allowed it writes PIPE_BUF after POLLOUT.
 */
#include "ghost.h"

#define PIPE_BUF_BYTES 4096
#define BACKGROUND_POLL_MS 100
#define S_TYPE(st) ((st).st_mode & 0170000)
#define T_FIFO 0010000
#define T_CHR 0020000
#define T_REG 0100000
#define T_SOCK 0140000

static void relay_end(struct relay *r)
{
	if (r->sock >= 0)
		sys_close(r->sock);
	if (r->own_fd)
		sys_close(r->fd);
	*r = (struct relay){.sock = -1, .fd = -1};
}

void relay_open(struct relay *r, int fd, int flags)
{
	char path[32], termios[64];
	struct stat st;
	long own;

	r->fd = fd;
	if (sys_fstat(fd, &st) < 0)
		return;
	r->tty = S_TYPE(st) == T_CHR && sys_ioctl(fd, TCGETS, termios) == 0;
	r->bounded = S_TYPE(st) != T_REG && S_TYPE(st) != T_SOCK;
	r->regular = S_TYPE(st) == T_REG;
	if (!r->tty && S_TYPE(st) != T_FIFO)
		return;
	str_format(path, sizeof path, "/proc/self/fd/%d", fd);
	own = sys_open(path, flags | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0);
	if (own < 0)
		return;
	r->fd = (int)own;
	r->own_fd = 1;
	r->bounded = 0;
}

/* to: where it leads; owned, but for i itself. */
static void relay_begin(struct ghost *g, int i, int sock, int to)
{
	struct relay *r = &g->relay[i];

	*r = (struct relay){.sock = sock, .fd = -1};
	r->buf = (char *)(g->b->self + BLOB_SCRATCH + (uint64_t)i * GHOST_RELAY_BUF);
	if (sock >= 0)
		relay_open(r, to, i == 0 ? O_RDONLY : O_WRONLY);
	if (to < 0 || to == i)
		return;
	if (sock < 0 || r->own_fd)
		sys_close(to);
	else
		r->own_fd = 1;
}

void relay_set(struct ghost *g, const int sock[CHAN_STREAMS])
{
	for (int i = 0; i < CHAN_STREAMS; i++)
		relay_begin(g, i, sock[i], i);
}

void relay_stop(struct ghost *g)
{
	for (int i = 0; i < CHAN_STREAMS; i++)
		relay_end(&g->relay[i]);
}

int relay_in_background(const struct relay *r)
{
	int pgrp;

	return r->tty && sys_ioctl(r->fd, TIOCGPGRP, &pgrp) == 0 && pgrp != sys_getpgid(0);
}

int relay_poll_fill(struct ghost *g, int first, struct sys_pollfd *p, long *timeout_ms)
{
	int n = 0;

	for (int i = first; i < CHAN_STREAMS; i++) {
		struct relay *r = &g->relay[i];
		struct sys_pollfd *sock = &p[n], *file = &p[n + 1];

		if (r->sock < 0)
			continue;
		*sock = (struct sys_pollfd){.fd = r->sock};
		*file = (struct sys_pollfd){.fd = -1};
		if (i != 0 && r->have == 0) {
			sock->events = POLLIN;
		} else if (i != 0) {
			sock->fd = -1; /* its end is of no interest while there are bytes */
			*file = (struct sys_pollfd){.fd = r->fd, .events = POLLOUT};
		} else if (r->ended && !r->have) {
			/* Only the far end's going is of interest. */
		} else if (r->have || !r->room) {
			sock->events = POLLOUT;
		} else if (relay_in_background(r)) {
			*timeout_ms = BACKGROUND_POLL_MS;
		} else {
			*file = (struct sys_pollfd){.fd = r->fd, .events = POLLIN};
		}
		n += 2;
	}
	return n;
}

/* Reading never waits: the socket is told so, files and own descriptions do not. */
static long take(struct relay *r, int fd, int is_sock)
{
	struct iovec v = {r->buf, GHOST_RELAY_BUF};
	struct sys_msghdr h = {.iov = &v, .iovlen = 1};
	long n;

	if (is_sock)
		return sys_recvmsg(fd, &h, SYS_MSG_DONTWAIT);
	n = sys_read(fd, r->buf, r->bounded ? PIPE_BUF_BYTES : GHOST_RELAY_BUF);
	if (n == -ENOTCONN || n == -EISDIR || n == -EBADF || n == -EINVAL || n == -EIO)
		return 0; /* as good as its end */
	return n;
}

/* Writes from the buffer once. 0, or -errno when there is no more reader. */
static long give(struct relay *r, int fd, int is_sock)
{
	struct iovec v = {r->buf + r->off, r->have - r->off};
	struct sys_msghdr h = {.iov = &v, .iovlen = 1};
	long n;

	if (r->bounded)
		v.iov_len = MIN(v.iov_len, PIPE_BUF_BYTES);
	n = is_sock ? sys_sendmsg(fd, &h, SYS_MSG_DONTWAIT | SYS_MSG_NOSIGNAL)
		    : sys_write(fd, v.iov_base, v.iov_len);
	if (n == -EAGAIN || n == -EINTR)
		return 0;
	if (n < 0)
		return n;
	r->off += (uint32_t)n;
	if (r->off == r->have)
		r->off = r->have = 0;
	return 0;
}

long relay_take(struct relay *r)
{
	long n = take(r, r->fd, 0);

	if (n > 0) {
		r->taken += (uint64_t)n;
		r->at = r->regular ? sys_lseek(r->fd, 0, 1 /* SEEK_CUR */) : 0;
	}
	return n;
}

/*
 * Nobody reads there any more: it has ended, or closed it, and we are told what of it was read; or
 * home's bpslave was killed, with what it had of it, and is not heard again.
 */
static void stdin_over(struct relay *r)
{
	int lost = !input_settle(r) && !r->ended;

	relay_end(r);
	r->lost = (uint8_t)lost;
}

static void stdin_step(struct relay *r, const struct sys_pollfd *sock,
		       const struct sys_pollfd *file)
{
	long n;

	if (sock->revents & (POLLERR | POLLHUP | POLLNVAL)) {
		stdin_over(r);
		return;
	}
	if (sock->revents & POLLOUT)
		r->room = 1;
	/* A poll that a stop interrupted goes on when the job does, in the background by now. */
	if (r->have == 0 && (file->revents & (POLLIN | POLLHUP | POLLERR | POLLNVAL)) &&
	    !relay_in_background(r)) {
		n = relay_take(r);
		if (n == 0) {
			r->ended = 1;
			sys_shutdown(r->sock, SYS_SHUT_WR); /* the far side reads its end of file */
			return;
		}
		r->have = n > 0 ? (uint32_t)n : 0;
	}
	if (r->have && r->room) {
		r->room = 0;
		if (give(r, r->sock, 1) < 0)
			stdin_over(r);
	}
}

static void output_step(struct relay *r, const struct sys_pollfd *sock,
			const struct sys_pollfd *file)
{
	long n;

	if (r->have == 0 && (sock->revents & (POLLIN | POLLHUP | POLLERR))) {
		n = take(r, r->sock, 1);
		if (n == -EAGAIN || n == -EINTR)
			return;
		if (n <= 0) {
			relay_end(r);
			return;
		}
		r->have = (uint32_t)n;
		if (r->bounded)
			return; /* not before POLLOUT */
	} else if (!(file->revents)) {
		return;
	}
	/* EPIPE, EIO: closing the socket makes the writer over there see EPIPE too. */
	if (r->have && give(r, r->fd, 0) < 0)
		relay_end(r);
}

void relay_poll_done(struct ghost *g, int first, const struct sys_pollfd *p, int n)
{
	for (int i = first, at = 0; i < CHAN_STREAMS && at < n; i++) {
		struct relay *r = &g->relay[i];

		if (r->sock < 0)
			continue;
		if (i == 0)
			stdin_step(r, &p[at], &p[at + 1]);
		else
			output_step(r, &p[at], &p[at + 1]);
		at += 2;
	}
}

static int outputs_round(struct ghost *g, long timeout_ms, int *ret_moved);

/*
 * While a ghost becomes its original again every descriptor is the restorer's to
 * close and every page of scratch the restorer's to use, but the relays are needed
 * if that fails. A packet in a socket that nobody reads keeps both.
 */
#define STASH_ORIGINAL (CHAN_STREAMS + 4)
#define STASH_FDS (STASH_ORIGINAL + CHAN_STREAMS)
struct stash {
	/* bit 0..2: the streams; then file, far, orig, out; and 0 to 2 of those streams */
	uint32_t mask, have;
	uint8_t ended, regular, seek, lost;
	long at;
	uint64_t taken, used;
};

long relay_stash(struct ghost *g, struct input *in)
{
	struct relay *r = &g->relay[0];
	struct stash s = {.ended = r->ended,
			  .regular = r->regular,
			  .seek = (uint8_t)in->seek,
			  .lost = r->lost,
			  .at = r->at,
			  .taken = r->taken,
			  .used = in->used};
	int fd[STASH_FDS] = {r->sock, g->relay[1].sock, g->relay[2].sock, in->file,
			     in->far, in->orig,		in->out};
	struct iovec v[2] = {{&s, sizeof s}, {r->buf + r->off, 0}};
	union {
		struct sys_cmsghdr h;
		char space[SYS_CMSG_SPACE(sizeof(int) * STASH_FDS)];
	} ctl;
	struct sys_msghdr h = {.iov = v, .iovlen = 2};
	int n = 0, pair[2], moved = 1;
	long e;

	while (outputs_round(g, 0, &moved) > 0 && (g->relay[1].have || g->relay[2].have))
		;
	fd[1] = g->relay[1].sock;
	fd[2] = g->relay[2].sock;
	for (int i = 0; i < CHAN_STREAMS; i++)
		fd[STASH_ORIGINAL + i] = fd[i] >= 0 && sys_fcntl(i, F_GETFD, 0) >= 0 ? i : -1;
	e = sys_socketpair(SYS_AF_UNIX, SYS_SOCK_SEQPACKET | SYS_SOCK_CLOEXEC, 0, pair);
	if (e < 0)
		return e;
	for (int i = 0; i < STASH_FDS; i++) {
		if (fd[i] < 0)
			continue;
		s.mask |= 1u << i;
		((int *)SYS_CMSG_DATA(&ctl.h))[n++] = fd[i];
	}
	if (r->sock >= 0)
		v[1].iov_len = s.have = r->have - r->off;
	if (n > 0) {
		ctl.h.level = SYS_SOL_SOCKET;
		ctl.h.type = SYS_SCM_RIGHTS;
		ctl.h.len = SYS_CMSG_LEN(sizeof(int) * (size_t)n);
		h.control = &ctl;
		h.controllen = SYS_CMSG_SPACE(sizeof(int) * (size_t)n);
	}
	e = sys_sendmsg(pair[0], &h, SYS_MSG_NOSIGNAL);
	sys_close(pair[0]);
	if (e < 0) {
		sys_close(pair[1]);
		return e;
	}
	relay_stop(g);
	n = in->in;
	in->in = -1;
	input_close(in);
	in->in = n;
	return above_streams(pair[1]);
}

void relay_unstash(struct ghost *g, struct input *in, int stash, int undo)
{
	char *buf = arena_alloc(g->b, GHOST_RELAY_BUF);
	struct stash s = {0};
	struct iovec v[2] = {{&s, sizeof s}, {buf, buf ? GHOST_RELAY_BUF : 0}};
	union {
		struct sys_cmsghdr h;
		char space[SYS_CMSG_SPACE(sizeof(int) * STASH_FDS)];
	} ctl;
	struct sys_msghdr h = {.iov = v, .iovlen = 2, .control = &ctl, .controllen = sizeof ctl};
	int fd[STASH_FDS], got[STASH_FDS], n = 0, next = 0;

	if (sys_recvmsg(stash, &h, SYS_MSG_CMSG_CLOEXEC) >= (long)sizeof s &&
	    h.controllen >= sizeof ctl.h && ctl.h.type == SYS_SCM_RIGHTS) {
		n = (int)((ctl.h.len - sizeof ctl.h) / sizeof(int));
		memcpy(got, SYS_CMSG_DATA(&ctl.h), sizeof(int) * (size_t)n);
	}
	sys_close(stash);
	for (int i = 0; i < STASH_FDS; i++)
		fd[i] = (s.mask & 1u << i) && next < n ? above_streams(got[next++]) : -1;
	*in = (struct input){.file = fd[3],
			     .far = fd[4],
			     .orig = fd[5],
			     .out = fd[6],
			     .in = -1,
			     .seek = s.seek,
			     .used = s.used};
	for (int i = 0; i < CHAN_STREAMS; i++) {
		int to = fd[STASH_ORIGINAL + i];

		if (undo && to >= 0) {
			sys_dup3(to, i, 0);
			sys_close(to);
		}
		relay_begin(g, i, fd[i], undo || to < 0 ? i : to);
	}
	for (int i = 1; i < CHAN_STREAMS; i++)
		if (fd[i] >= 0 && (g->relay[i].buf = arena_alloc(g->b, GHOST_RELAY_BUF)) == NULL)
			relay_end(&g->relay[i]);
	g->relay[0].ended = s.ended;
	g->relay[0].regular = s.regular;
	g->relay[0].lost = s.lost;
	g->relay[0].at = s.at;
	g->relay[0].taken = s.taken;
	if (buf) {
		g->relay[0].buf = buf;
		g->relay[0].have = s.have;
	}
}

/*
 * One round for the outputs alone: what stdin has when a homecoming begins is counted
 * already. Returns how many are still open.
 */
static int outputs_round(struct ghost *g, long timeout_ms, int *ret_moved)
{
	struct timespec t = {.tv_sec = 0, .tv_nsec = timeout_ms * 1000000};
	struct sys_pollfd p[2 * CHAN_STREAMS];
	int n, pending = 0, open = 0;
	long unused;

	n = relay_poll_fill(g, 1, p, &unused);
	for (int i = 1; i < CHAN_STREAMS; i++)
		pending += g->relay[i].sock >= 0 && g->relay[i].have > 0;
	/* With bytes in hand it waits for the reader; else it only looks. */
	*ret_moved = sys_ppoll(p, (unsigned)n, timeout_ms < 0 || pending ? NULL : &t, NULL) != 0;
	relay_poll_done(g, 1, p, n);
	for (int i = 1; i < CHAN_STREAMS; i++)
		open += g->relay[i].sock >= 0;
	return open;
}

/* Nobody's child, nobody's name in a wait: relays until the far ends are closed. */
static _Noreturn void go_on_alone(struct ghost *g)
{
	int moved;

	while (outputs_round(g, -1, &moved) > 0)
		;
	sys_exit_group(0);
}

void relay_drain(struct ghost *g)
{
	int keep[] = {g->relay[1].sock, g->relay[2].sock, g->relay[1].fd, g->relay[2].fd};
	int moved = 1;

	input_settle(&g->relay[0]);
	relay_end(&g->relay[0]);
	while (outputs_round(g, 0, &moved) > 0 && moved)
		;
	if ((g->relay[1].sock >= 0 || g->relay[2].sock >= 0) && orphan(g->b, keep, COUNT(keep)))
		go_on_alone(g);
	relay_stop(g);
}
