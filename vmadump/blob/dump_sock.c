/*
 * Unix sockets: pairs that are connected with each other and both in this process, with
 * what is on its way in either direction, and sockets that listen. Who is connected with
 * whom the kernel says (sock_diag(7)). Only read: a look at what is there takes nothing
 * out. Runs in the blob.
 */
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <linux/unix_diag.h>

#include "dump.h"
#include "lib.h"
#include "object.h"
#include "refuse.h"
#include "sys.h"
#include "tree.h"

#define SO_SNDBUF 7
#define SO_RCVBUF 8
#define SO_PASSCRED 16
#define SO_ACCEPTCONN 30
#define SO_DOMAIN 39
#define SO_PEEK_OFF 42
#define PIECE (256u << 10) /* bytes asked for at once; a longer datagram is refused */
#define SOCKET_MOST (8ul << 20)
#define ATTRS_MAX 512u

/* What sock_diag says of one socket. */
struct told {
	uint64_t peer;
	uint32_t shut, backlog;
};

static int option(int fd, int name)
{
	int v = 0, len = sizeof v;

	return sys_getsockopt(fd, SYS_SOL_SOCKET, name, &v, &len) < 0 ? 0 : v;
}

static void take_attrs(struct told *t, const uint8_t *p, const uint8_t *end)
{
	while (end - p >= 4 && get16(p) >= 4 && get16(p) <= end - p) {
		uint32_t len = get16(p), type = get16(p + 2);

		if (type == UNIX_DIAG_PEER && len >= 8)
			t->peer = get32(p + 4);
		else if (type == UNIX_DIAG_SHUTDOWN && len >= 5)
			t->shut = p[4];
		else if (type == UNIX_DIAG_RQLEN && len >= 12)
			t->backlog = get32(p + 8);
		p += ROUND_UP(len, 4) < (uint64_t)(end - p) ? ROUND_UP(len, 4)
							    : (uint64_t)(end - p);
	}
}

static long ask(struct dump *d, const struct dump_fd *f, struct told *t)
{
	struct {
		struct nlmsghdr h;
		struct unix_diag_req q;
	} req = {
		.h = {.nlmsg_len = sizeof req,
		      .nlmsg_type = SOCK_DIAG_BY_FAMILY,
		      .nlmsg_flags = NLM_F_REQUEST},
		.q = {.sdiag_family = SYS_AF_UNIX,
		      .udiag_states = ~0u,
		      .udiag_ino = (uint32_t)f->ino,
		      .udiag_show = UDIAG_SHOW_PEER | UDIAG_SHOW_RQLEN,
		      .udiag_cookie = {~0u, ~0u}},
	};
	uint8_t answer[ATTRS_MAX] __attribute__((aligned(8)));
	const uint64_t fixed = sizeof(struct nlmsghdr) + sizeof(struct unix_diag_msg);
	long fd = sys_socket(16 /* AF_NETLINK */, 3 /* SOCK_RAW */ | SYS_SOCK_CLOEXEC,
			     NETLINK_SOCK_DIAG);
	long n = fd < 0 ? fd : sys_write((int)fd, &req, sizeof req);

	if (n > 0)
		n = sys_read((int)fd, answer, sizeof answer);
	if (fd >= 0)
		sys_close((int)fd);
	if (n < (long)fixed || get16(answer + 4) != SOCK_DIAG_BY_FAMILY)
		return blob_err_set(&d->b->err, ENOTSUP,
				    "fd %d is a socket, and the kernel does not tell of which",
				    f->fd);
	take_attrs(t, answer + fixed, answer + n);
	return 0;
}

static void put_end(uint8_t *p, int fd, const struct told *t)
{
	put32(p, (uint32_t)option(fd, SO_SNDBUF));
	put32(p + 4, (uint32_t)option(fd, SO_RCVBUF));
	put32(p + 8, (option(fd, SO_PASSCRED) ? SOCKET_PASSCRED : 0) |
			     (t->shut & 1 ? SOCKET_SHUT_READ : 0) |
			     (t->shut & 2 ? SOCKET_SHUT_WRITE : 0));
}

/* Connections that nobody has accepted yet are in no process. */
static long take_listener(struct dump *d, struct dump_fd *f, int type, const struct told *t)
{
	struct sys_pollfd poll = {.fd = f->fd, .events = POLLIN};
	struct timespec now = {0};
	struct dump_obj *o = object_add(d, f, OBJECT_LISTENER, OBJECT_LISTENER_LEN);
	uint8_t name[2 + SOCKET_NAME_MAX] = {0}, *p;
	char path[SOCKET_NAME_MAX] = "";
	int len = 2 + 108;
	struct stat st;

	if (!o)
		return -ENOMEM;
	sys_ppoll(&poll, 1, &now, NULL);
	if (poll.revents & POLLIN || sys_getsockname(f->fd, name, &len) < 0 || len < 3 ||
	    len > 2 + 108)
		return refuse(d->b, REFUSE_FD_LISTENER, f->fd);
	p = o->data + OBJECT_HEAD;
	put32(p, (uint32_t)type);
	put32(p + 4, t->backlog);
	put32(p + 12, (uint32_t)len - 2);
	memcpy(p + 16, name + 2, (uint64_t)len - 2);
	if (name[2]) {
		str_copy(path, sizeof path, (char *)name + 2);
		if (sys_stat(path, &st) == 0) {
			put32(p + 8, st.st_mode & 07777);
			put64(p + 16 + SOCKET_NAME_MAX, st.st_dev);
			put64(p + 24 + SOCKET_NAME_MAX, st.st_ino);
		}
	}
	return listener_add(d, f, path);
}

static struct dump_obj *find_other(struct dump *d, uint64_t ino)
{
	for (struct dump_obj *o = d->objs; o; o = o->next)
		if (o->kind == OBJECT_SOCKET && o->peer == ino && o->ends == 1)
			return o;
	return NULL;
}

static void is_other_end(struct dump_obj *o, struct dump_fd *f, struct told *t)
{
	f->kind = FD_OBJECT;
	f->offset = o->index;
	f->path = "";
	f->stream = 1;
	o->ends = 3;
	o->fd2 = f->fd;
	put_end(o->data + OBJECT_HEAD + 24, f->fd, t);
}

long take_socket(struct dump *d, struct dump_fd *f)
{
	int type = option(f->fd, SYS_SO_TYPE);
	struct told t = {0};
	struct dump_obj *o;
	long r;

	if (option(f->fd, SO_DOMAIN) != SYS_AF_UNIX)
		return OBJECT_NONE;
	r = ask(d, f, &t);
	if (r < 0)
		return r;
	if (option(f->fd, SO_ACCEPTCONN))
		return take_listener(d, f, type, &t);
	o = find_other(d, f->ino);
	if (o) {
		is_other_end(o, f, &t);
		return 0;
	}
	o = object_add(d, f, OBJECT_SOCKET, OBJECT_SOCKET_LEN);
	if (!o)
		return -ENOMEM;
	o->ends = 1;
	o->peer = t.peer;
	put32(o->data + OBJECT_HEAD, (uint32_t)type);
	put_end(o->data + OBJECT_HEAD + 8, f->fd, &t);
	return 0;
}

/*
 * All that can be read at one end, as u32 length and bytes, at p; it grows up to end. A
 * look with an offset of its own goes from one message to the next (SO_PEEK_OFF).
 */
static long peek(struct dump *d, int fd, int empty, uint8_t **p, const uint8_t *end)
{
	int was = option(fd, SO_PEEK_OFF), zero = 0;
	int creds = option(fd, SO_PASSCRED);
	uint8_t ctl[SYS_CMSG_SPACE(sizeof(struct sys_ucred))];
	long n = sys_setsockopt(fd, SYS_SOL_SOCKET, SO_PEEK_OFF, &zero, sizeof zero);

	while (n >= 0) {
		struct iovec v = {*p + 4, PIECE};
		struct sys_msghdr h = {.iov = &v, .iovlen = 1};

		if (end - *p < (long)PIECE + 4) {
			n = object_too_much(d, fd, "a socket");
			break;
		}
		/* Room for what it asks to be told of the sender, and for no descriptor. */
		if (creds) {
			h.control = ctl;
			h.controllen = sizeof ctl;
		}
		n = sys_recvmsg(fd, &h, SYS_MSG_PEEK | SYS_MSG_DONTWAIT);
		if (n > 0 && h.flags & SYS_MSG_CTRUNC)
			n = refuse(d->b, REFUSE_FD_RIGHTS, fd);
		else if (n > 0 && h.flags & SYS_MSG_TRUNC)
			n = object_too_much(d, fd, "a socket");
		/* Not the end of what there is; but behind it nothing can be looked at. */
		if (n == 0 && empty)
			n = refuse(d->b, REFUSE_FD_EMPTY, fd);
		if (n <= 0)
			break;
		put32(*p, (uint32_t)n);
		*p += 4 + n;
	}
	sys_setsockopt(fd, SYS_SOL_SOCKET, SO_PEEK_OFF, &was, sizeof was);
	if (n == -EAGAIN || n >= 0)
		return 0;
	return n == -ENOTSUP ? n
			     : blob_err_set(&d->b->err, (int)-n, "fd %d: what is in the socket: %s",
					    fd, errno_name(n));
}

/* Of 0 to 2 a socket is taken for a stream of home's; with its other end in the tree it is none. */
static void find_among_streams(struct dump *d, struct dump_obj *o)
{
	struct told t = {0};

	for (struct dump_fd *f = d->fds; d->order && !d->order->alone && f; f = f->next)
		if (f->kind == FD_STREAM && f->ino == o->peer && ask(d, f, &t) == 0) {
			is_other_end(o, f, &t);
			return;
		}
}

long finish_socket(struct dump *d, struct dump_obj *o)
{
	const uint64_t fixed = OBJECT_HEAD + OBJECT_SOCKET_LEN, most = SOCKET_MOST;
	uint8_t *data, *p, *from;
	long r = 0;
	int empty;

	if (o->ends != 3 && o->peer)
		find_among_streams(d, o);
	if (o->ends != 3 && o->peer)
		return refuse(d->b, REFUSE_FD_SOCKET, o->fd);
	if (d->opt->aside) /* others read from it meanwhile */
		return 0;
	data = arena_raw(d->b, fixed + most);
	if (!data)
		return -ENOMEM;
	memcpy(data, o->data, fixed);
	p = data + fixed;
	for (int i = 0; r == 0 && i < 2; i++) {
		if (!(o->ends >> i & 1)) {
			put32(data + OBJECT_HEAD + 8 + 16 * i + 8, SOCKET_GONE);
			continue;
		}
		from = p;
		/* Of packets, with somebody who could send more. */
		empty = get32(data + OBJECT_HEAD) != SYS_SOCK_STREAM && o->peer &&
			!(get32(data + OBJECT_HEAD + 8 + 16 * i + 8) & SOCKET_SHUT_READ);
		r = peek(d, i ? o->fd2 : o->fd, empty, &p, data + fixed + most);
		put32(data + OBJECT_HEAD + 8 + 16 * i + 12, (uint32_t)(p - from));
	}
	put32(data + 8, (uint32_t)(p - data - fixed));
	o->len = (uint32_t)ROUND_UP((uint64_t)(p - data), 8);
	memset(p, 0, o->len - (uint64_t)(p - data));
	arena_shrink(d->b, data, o->len);
	o->data = data;
	return r;
}
