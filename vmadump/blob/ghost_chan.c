/*
 * The process's end of the channel (channel.h): packets in and out, with
 * descriptors. Part of the blob; runs in a process that leaves, stands in or
 * arrives.
 */
#include "ghost.h"

long chan_send(struct blob *b, const struct chan_msg *m)
{
	struct iovec v = {(void *)m, sizeof *m};
	struct sys_msghdr h = {.iov = &v, .iovlen = 1};
	long r;

	if (b->chan < 0)
		return -EBADF;
	do {
		r = sys_sendmsg(b->chan, &h, SYS_MSG_NOSIGNAL);
	} while (r == -EINTR);
	return r < 0 ? r : 0;
}

long fd_send(int sock, const void *data, size_t len, const int *fd, uint32_t nfd)
{
	struct iovec v = {(void *)data, len};
	union {
		struct sys_cmsghdr h;
		char space[SYS_CMSG_SPACE(FD_SEND_MAX * sizeof *fd)];
	} ctl;
	struct sys_msghdr h = {.iov = &v,
			       .iovlen = 1,
			       .control = &ctl,
			       .controllen = SYS_CMSG_SPACE(nfd * sizeof *fd)};
	long r;

	memset(&ctl, 0, sizeof ctl);
	ctl.h.level = SYS_SOL_SOCKET;
	ctl.h.type = SYS_SCM_RIGHTS;
	ctl.h.len = SYS_CMSG_LEN(nfd * sizeof *fd);
	memcpy(SYS_CMSG_DATA(&ctl.h), fd, nfd * sizeof *fd);
	do {
		r = sys_sendmsg(sock, &h, SYS_MSG_NOSIGNAL);
	} while (r == -EINTR);
	return r < 0 ? r : 0;
}

long chan_send_fd(struct blob *b, const struct chan_msg *m, int fd)
{
	return fd_send(b->chan, m, sizeof *m, &fd, 1);
}

long chan_tell(struct blob *b, uint32_t type, uint64_t move_id)
{
	struct chan_msg m;

	memset(&m, 0, sizeof m);
	m.type = type;
	m.move_id = move_id;
	return chan_send(b, &m);
}

void chan_fail(struct blob *b, uint64_t move_id)
{
	struct chan_msg m;

	memset(&m, 0, sizeof m);
	m.type = CHAN_FAILED;
	m.move_id = move_id;
	m.err = b->err.code > 0 ? b->err.code : EIO;
	str_copy(m.u.text, sizeof m.u.text, b->err.text);
	chan_send(b, &m);
}

long chan_here(struct blob *b, uint32_t flags)
{
	union {
		struct sys_cmsghdr h;
		char space[SYS_CMSG_SPACE(sizeof(struct sys_ucred))];
	} ctl;
	struct chan_msg m;
	struct iovec v = {&m, sizeof m};
	struct sys_msghdr h = {.iov = &v, .iovlen = 1, .control = &ctl, .controllen = sizeof ctl};
	struct sys_ucred *c = SYS_CMSG_DATA(&ctl.h);
	unsigned r, e, s;

	memset(&m, 0, sizeof m);
	m.type = CHAN_HERE;
	m.flags = flags;
	/* Written out: the kernel adds them by itself only if the reader asked before. */
	memset(&ctl, 0, sizeof ctl);
	ctl.h.level = SYS_SOL_SOCKET;
	ctl.h.type = SYS_SCM_CREDENTIALS;
	ctl.h.len = SYS_CMSG_LEN(sizeof *c);
	c->pid = (int)sys_getpid();
	sys_getresuid(&r, &e, &s);
	c->uid = r;
	sys_getresgid(&r, &e, &s);
	c->gid = r;
	return sys_sendmsg(b->chan, &h, SYS_MSG_NOSIGNAL);
}

static void take_fds(struct sys_msghdr *h, struct chan_pkt *p)
{
	char *at = h->control, *end = at + h->controllen;

	while (at + sizeof(struct sys_cmsghdr) <= end) {
		struct sys_cmsghdr *c = (struct sys_cmsghdr *)at;
		int *fd = SYS_CMSG_DATA(c);

		if (c->len < sizeof *c)
			break;
		if (c->level == SYS_SOL_SOCKET && c->type == SYS_SCM_RIGHTS) {
			int n = (int)((c->len - sizeof *c) / sizeof(int));

			for (int i = 0; i < n; i++) {
				if (p->nfd < GHOST_FDS_MAX)
					p->fd[p->nfd++] = fd[i];
				else
					sys_close(fd[i]);
			}
		}
		at += SYS_CMSG_ALIGN(c->len);
	}
}

long chan_recv(struct blob *b, struct chan_pkt *p, int flags)
{
	union {
		struct sys_cmsghdr h;
		char space[SYS_CMSG_SPACE(sizeof(int) * GHOST_FDS_MAX) + 64];
	} ctl;
	struct iovec v = {&p->m, sizeof p->m};
	struct sys_msghdr h;
	long r;

	for (;;) {
		h = (struct sys_msghdr){
			.iov = &v, .iovlen = 1, .control = &ctl, .controllen = sizeof ctl};
		p->nfd = 0;
		for (int i = 0; i < GHOST_FDS_MAX; i++)
			p->fd[i] = -1;
		r = sys_recvmsg(b->chan, &h, flags | SYS_MSG_CMSG_CLOEXEC);
		/*
		 * Closed with something of ours unread in it, a channel gives this once, before
		 * what was said last (unix_release_sock()): the abort of one that has just voted.
		 */
		if (r == -EINTR || r == -ECONNRESET)
			continue;
		if (r < 0)
			return r;
		take_fds(&h, p);
		if (r == (long)sizeof p->m)
			return 1;
		chan_close_fds(p, 0);
		if (r == 0)
			return 0;
		/* Not a message of this protocol: never an order. */
	}
}

void chan_close_fds(struct chan_pkt *p, int from)
{
	for (int i = from; i < p->nfd; i++) {
		sys_close(p->fd[i]);
		p->fd[i] = -1;
	}
	p->nfd = MIN(p->nfd, from);
}

int above_streams(int fd)
{
	int up = fd;

	if (fd >= 0 && fd < CHAN_STREAMS) {
		up = (int)sys_fcntl(fd, F_DUPFD_CLOEXEC, CHAN_STREAMS);
		sys_close(fd);
	}
	return up;
}

void chan_streams(struct chan_pkt *p, int from, int ret[CHAN_STREAMS])
{
	for (int i = 0; i < CHAN_STREAMS; i++) {
		ret[i] = -1;
		if ((p->m.stream_mask & 1u << i) && from < p->nfd)
			ret[i] = p->fd[from++];
	}
}

void close_all_but(int *keep, int n)
{
	unsigned from = 0;

	for (int i = 1; i < n; i++)
		for (int j = i; j > 0 && keep[j - 1] > keep[j]; j--) {
			int t = keep[j];

			keep[j] = keep[j - 1];
			keep[j - 1] = t;
		}
	for (int i = 0; i < n; i++) {
		if (keep[i] < 0 || (unsigned)keep[i] < from)
			continue;
		if ((unsigned)keep[i] > from)
			sys_close_range(from, (unsigned)keep[i] - 1, 0);
		from = (unsigned)keep[i] + 1;
	}
	sys_close_range(from, ~0u, 0);
}
