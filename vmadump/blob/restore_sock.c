/*
 * Unix sockets and inotify, made anew from an image (dump_sock.c, dump_watch.c wrote them).
 * Runs in the blob, before anything is destroyed.
 */
#include "lib.h"
#include "object.h"
#include "restore.h"
#include "sys.h"

#define SO_SNDBUF 7
#define SO_RCVBUF 8
#define SO_PASSCRED 16
#define SO_SNDBUFFORCE 32
#define MOST_WATCHES 65536

static void set(int fd, int name, int v)
{
	sys_setsockopt(fd, SYS_SOL_SOCKET, name, &v, sizeof v);
}

/* What was to be read at the other end of fd; each piece as it was sent. */
static long send_all(int fd, const uint8_t *p, uint32_t n)
{
	const uint8_t *end = p + n;

	/* Twice for the kernel's own; one may be allowed more than the limit. */
	set(fd, SO_SNDBUF, (int)(2 * n));
	set(fd, SO_SNDBUFFORCE, (int)(2 * n));
	while (end - p >= 4) {
		uint32_t len = get32(p);
		struct iovec v = {(void *)(p + 4), len};
		struct sys_msghdr h = {.iov = &v, .iovlen = 1};
		long r;

		if (len > (uint64_t)(end - p) - 4)
			return -EBADMSG;
		r = sys_sendmsg(fd, &h, SYS_MSG_DONTWAIT | SYS_MSG_NOSIGNAL);
		if (r != (long)len)
			return r < 0 ? r : -ENOBUFS;
		p += 4 + len;
	}
	return 0;
}

static void settle_end(int fd, const uint8_t *p)
{
	uint32_t flags = get32(p + 8);

	/* The kernel doubles what it is given. */
	set(fd, SO_SNDBUF, (int)(get32(p) / 2));
	set(fd, SO_RCVBUF, (int)(get32(p + 4) / 2));
	if (flags & SOCKET_PASSCRED)
		set(fd, SO_PASSCRED, 1);
	if (flags & SOCKET_SHUT_READ)
		sys_shutdown(fd, 0);
	if (flags & SOCKET_SHUT_WRITE)
		sys_shutdown(fd, SYS_SHUT_WR);
}

long open_socket(struct restore *r, struct rest_obj *o)
{
	const uint8_t *end[2] = {o->p + 8, o->p + 24}, *data = o->p + OBJECT_SOCKET_LEN;
	int pair[2];
	long e = sys_socketpair(SYS_AF_UNIX, (int)get32(o->p) | SYS_SOCK_CLOEXEC, 0, pair);

	if (e < 0)
		return e;
	for (int i = 0; e == 0 && i < 2; data += get32(end[i++] + 12))
		e = send_all(pair[!i], data, get32(end[i] + 12));
	for (int i = 0; i < 2; i++)
		settle_end(pair[i], end[i]);
	for (int i = 0; i < 2; i++) {
		if (get32(end[i] + 8) & SOCKET_GONE) {
			sys_close(pair[i]);
			continue;
		}
		o->fd[i] = (int32_t)rest_move_up(r, pair[i]);
		if (e >= 0 && o->fd[i] < 0)
			e = o->fd[i];
	}
	return e;
}

/*
 * Its name in the file system may still be there, with nobody behind it. Of one that moves, where
 * this is the file system that it comes from, it is put aside: should it go on there, it takes it
 * back (listen.c). By its number it is known in one that two machines share.
 */
static void clear_name(struct restore *r, const struct rest_obj *o, const uint8_t *addr, int len)
{
	const char *name = (const char *)addr + 2;
	const uint8_t *at = o->p + 16 + SOCKET_NAME_MAX;
	char aside[SOCKET_ASIDE_MAX];
	struct stat st;
	long probe;
	int its, here;

	if (!*name || sys_stat(name, &st) < 0 || (st.st_mode & 0170000) != 0140000)
		return;
	its = r->opt->tree && st.st_ino == get64(at + 8);
	here = its && st.st_dev == get64(at);
	probe = here ? -1 : sys_socket(SYS_AF_UNIX, (int)get32(o->p) | SYS_SOCK_CLOEXEC, 0);
	if (!here && sys_connect((int)probe, addr, len) == -ECONNREFUSED)
		here = 1;
	if (probe >= 0)
		sys_close((int)probe);
	if (!here)
		return;
	str_format(aside, sizeof aside, SOCKET_ASIDE, name);
	if (its)
		sys_rename(name, aside);
	else
		sys_unlink(name);
}

long open_listener(struct restore *r, struct rest_obj *o)
{
	uint8_t addr[2 + SOCKET_NAME_MAX] = {SYS_AF_UNIX, 0};
	uint32_t n = get32(o->p + 12), mode = get32(o->p + 8);
	long fd, e;

	memcpy(addr + 2, o->p + 16, n);
	if (addr[2] && addr[2] != '/')
		sys_fchdir(r->cwd_fd);
	fd = sys_socket(SYS_AF_UNIX, (int)get32(o->p) | SYS_SOCK_CLOEXEC, 0);
	if (fd < 0)
		return fd;
	clear_name(r, o, addr, (int)n + 2);
	e = sys_bind((int)fd, addr, (int)n + 2);
	if (e == 0 && addr[2])
		sys_chmod((const char *)addr + 2, mode & 07777);
	if (e == 0)
		e = sys_listen((int)fd, (int)get32(o->p + 4));
	if (e == 0)
		return fd;
	sys_close((int)fd);
	return e;
}

/* The kernel counts upwards: what is in front of the wanted number is given back. */
static long add_watch(int fd, const char *path, uint32_t mask, uint32_t want)
{
	for (uint32_t i = 0; i < MOST_WATCHES; i++) {
		long wd = sys_inotify_add_watch(fd, path, mask & 0x07ffffffu);

		if (wd < 0 || (uint32_t)wd == want)
			return wd < 0 ? wd : 0;
		if ((uint32_t)wd > want)
			break;
		sys_inotify_rm_watch(fd, (int)wd);
	}
	return -EBUSY;
}

/* Numbers that rise have been given out in that order; the image has them as they come. */
static const uint8_t *lowest_above(const struct rest_obj *o, uint32_t above)
{
	const uint8_t *p = o->p, *end = p + o->contents, *best = NULL;

	for (; end - p >= (long)INOTIFY_HEAD; p += INOTIFY_HEAD + ROUND_UP(get32(p + 8), 8))
		if (get32(p) > above && (!best || get32(p) < get32(best)))
			best = p;
	return best;
}

long open_inotify(struct rest_obj *o)
{
	long fd = sys_inotify_init(O_CLOEXEC), e = 0;
	const uint8_t *p;
	uint64_t event[64];

	for (uint32_t at = 0; fd >= 0 && e == 0 && (p = lowest_above(o, at)); at = get32(p))
		e = add_watch((int)fd, (const char *)p + INOTIFY_HEAD, get32(p + 4), get32(p));
	if (fd < 0 || e < 0) {
		if (fd >= 0)
			sys_close((int)fd);
		return fd < 0 ? fd : e;
	}
	/* What was given back has left a word each (IN_IGNORED). */
	sys_fcntl((int)fd, F_SETFL, O_NONBLOCK);
	while (sys_read((int)fd, event, sizeof event) > 0)
		;
	sys_fcntl((int)fd, F_SETFL, 0);
	return fd;
}
