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

/* The file behind fd by a description of our own that does not block. */
static void open_own(struct relay *r, int fd, int flags)
{
	char path[32], termios[64];
	struct stat st;
	long own;

	r->fd = fd;
	if (sys_fstat(fd, &st) < 0)
		return;
	r->tty = S_TYPE(st) == T_CHR && sys_ioctl(fd, TCGETS, termios) == 0;
	r->bounded = S_TYPE(st) != T_REG && S_TYPE(st) != T_SOCK;
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

void relay_set(struct ghost *g, const int sock[CHAN_STREAMS])
{
	for (int i = 0; i < CHAN_STREAMS; i++) {
		struct relay *r = &g->relay[i];

		*r = (struct relay){.sock = sock[i], .fd = -1};
		r->buf = (char *)(g->b->self + BLOB_SCRATCH + (uint64_t)i * GHOST_RELAY_BUF);
		if (sock[i] >= 0)
			open_own(r, i, i == 0 ? O_RDONLY : O_WRONLY);
	}
}

void relay_stop(struct ghost *g)
{
	for (int i = 0; i < CHAN_STREAMS; i++)
		relay_end(&g->relay[i]);
}

/* In the background of its terminal a ghost must not take the shell's input. */
static int in_background(const struct relay *r)
{
	int pgrp;

	return r->tty && sys_ioctl(r->fd, TIOCGPGRP, &pgrp) == 0 && pgrp != sys_getpgid(0);
}

int relay_poll_fill(struct ghost *g, struct sys_pollfd *p, long *timeout_ms)
{
	int n = 0;

	for (int i = 0; i < CHAN_STREAMS; i++) {
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
		} else if (r->have || !r->room) {
			sock->events = POLLOUT;
		} else if (in_background(r)) {
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

static void stdin_step(struct relay *r, const struct sys_pollfd *sock,
		       const struct sys_pollfd *file)
{
	long n;

	if (sock->revents & (POLLERR | POLLHUP | POLLNVAL)) {
		relay_end(r); /* nobody reads there any more */
		return;
	}
	if (sock->revents & POLLOUT)
		r->room = 1;
	if (r->have == 0 && (file->revents & (POLLIN | POLLHUP | POLLERR | POLLNVAL))) {
		n = take(r, r->fd, 0);
		if (n == 0) {
			relay_end(r); /* the far side reads its end of file */
			return;
		}
		r->have = n > 0 ? (uint32_t)n : 0;
	}
	if (r->have && r->room) {
		r->room = 0;
		if (give(r, r->sock, 1) < 0)
			relay_end(r);
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

void relay_poll_done(struct ghost *g, const struct sys_pollfd *p, int n)
{
	for (int i = 0, at = 0; i < CHAN_STREAMS && at < n; i++) {
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
struct stash {
	uint32_t mask, have;
};

long relay_stash(struct ghost *g)
{
	struct relay *in = &g->relay[0];
	struct stash s = {0};
	struct iovec v[2] = {{&s, sizeof s}, {in->buf + in->off, 0}};
	union {
		struct sys_cmsghdr h;
		char space[SYS_CMSG_SPACE(sizeof(int) * CHAN_STREAMS)];
	} ctl;
	struct sys_msghdr h = {.iov = v, .iovlen = 2};
	int n = 0, pair[2], moved = 1;
	long r;

	while (outputs_round(g, 0, &moved) > 0 && (g->relay[1].have || g->relay[2].have))
		;
	r = sys_socketpair(SYS_AF_UNIX, SYS_SOCK_SEQPACKET | SYS_SOCK_CLOEXEC, 0, pair);
	if (r < 0)
		return r;
	for (int i = 0; i < CHAN_STREAMS; i++) {
		if (g->relay[i].sock < 0)
			continue;
		s.mask |= 1u << i;
		((int *)SYS_CMSG_DATA(&ctl.h))[n++] = g->relay[i].sock;
	}
	if (in->sock >= 0)
		v[1].iov_len = s.have = in->have - in->off;
	if (n > 0) {
		ctl.h.level = SYS_SOL_SOCKET;
		ctl.h.type = SYS_SCM_RIGHTS;
		ctl.h.len = SYS_CMSG_LEN(sizeof(int) * (size_t)n);
		h.control = &ctl;
		h.controllen = SYS_CMSG_SPACE(sizeof(int) * (size_t)n);
	}
	r = sys_sendmsg(pair[0], &h, SYS_MSG_NOSIGNAL);
	sys_close(pair[0]);
	if (r < 0) {
		sys_close(pair[1]);
		return r;
	}
	relay_stop(g);
	if (pair[1] < CHAN_STREAMS) { /* such a number is a stream's */
		r = sys_fcntl(pair[1], F_DUPFD_CLOEXEC, CHAN_STREAMS);
		sys_close(pair[1]);
		return r;
	}
	return pair[1];
}

void relay_unstash(struct ghost *g, int stash)
{
	char *buf = arena_alloc(g->b, GHOST_RELAY_BUF);
	struct chan_pkt p = {.nfd = 0};
	struct stash s = {0};
	struct iovec v[2] = {{&s, sizeof s}, {buf, buf ? GHOST_RELAY_BUF : 0}};
	union {
		struct sys_cmsghdr h;
		char space[SYS_CMSG_SPACE(sizeof(int) * CHAN_STREAMS)];
	} ctl;
	struct sys_msghdr h = {.iov = v, .iovlen = 2, .control = &ctl, .controllen = sizeof ctl};
	int sock[CHAN_STREAMS];

	if (sys_recvmsg(stash, &h, SYS_MSG_CMSG_CLOEXEC) >= (long)sizeof s &&
	    h.controllen >= sizeof ctl.h && ctl.h.type == SYS_SCM_RIGHTS) {
		p.nfd = (int)((ctl.h.len - sizeof ctl.h) / sizeof(int));
		memcpy(p.fd, SYS_CMSG_DATA(&ctl.h), sizeof(int) * (size_t)p.nfd);
		p.m.stream_mask = s.mask;
	}
	sys_close(stash);
	chan_streams(&p, 0, sock);
	relay_set(g, sock);
	for (int i = 1; i < CHAN_STREAMS; i++)
		if (sock[i] >= 0 && (g->relay[i].buf = arena_alloc(g->b, GHOST_RELAY_BUF)) == NULL)
			relay_end(&g->relay[i]);
	if (buf) {
		g->relay[0].buf = buf;
		g->relay[0].have = s.have;
	}
}

/* One round for the outputs alone. Returns how many are still open. */
static int outputs_round(struct ghost *g, long timeout_ms, int *ret_moved)
{
	struct timespec t = {.tv_sec = 0, .tv_nsec = timeout_ms * 1000000};
	struct sys_pollfd p[2 * CHAN_STREAMS];
	int n, pending = 0, open = 0;
	long unused;

	n = relay_poll_fill(g, p, &unused);
	for (int i = 1; i < CHAN_STREAMS; i++)
		pending += g->relay[i].sock >= 0 && g->relay[i].have > 0;
	/* With bytes in hand it waits for the reader; else it only looks. */
	*ret_moved = sys_ppoll(p, (unsigned)n, timeout_ms < 0 || pending ? NULL : &t, NULL) != 0;
	relay_poll_done(g, p, n);
	for (int i = 1; i < CHAN_STREAMS; i++)
		open += g->relay[i].sock >= 0;
	return open;
}

/* Nobody's child, nobody's name in a wait: relays until the far ends are closed. */
static _Noreturn void go_on_alone(struct ghost *g)
{
	int keep[] = {g->relay[1].sock, g->relay[2].sock, g->relay[1].fd, g->relay[2].fd};
	int moved;

	g->b->chan = -1;
	close_all_but(keep, COUNT(keep));
	blob_unmap_others(g->b);
	while (outputs_round(g, -1, &moved) > 0)
		;
	sys_exit_group(0);
}

void relay_drain(struct ghost *g)
{
	struct clone_args ca;
	int moved = 1;

	relay_end(&g->relay[0]);
	while (outputs_round(g, 0, &moved) > 0 && moved)
		;
	if (g->relay[1].sock >= 0 || g->relay[2].sock >= 0) {
		memset(&ca, 0, sizeof ca); /* exit_signal 0: no SIGCHLD to anybody */
		if (sys_clone3(&ca, sizeof ca) == 0)
			go_on_alone(g);
	}
	relay_stop(g);
}
