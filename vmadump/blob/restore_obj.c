/*
 * Open files that no path leads to, made anew from an image, with what was in them; and
 * the locks on files. Runs in the blob. object_open() comes before anything is destroyed,
 * objects_settle() when every descriptor has its number.
 */
#include "lib.h"
#include "object.h"
#include "restore.h"
#include "sys.h"

#define F_SETPIPE 1031
#define TFD_ABSOLUTE 1u		  /* TFD_TIMER_ABSTIME */
#define TFD_SET_TICKS 0x40085400u /* TFD_IOC_SET_TICKS */
#define FLAGS_KEPT (O_NONBLOCK | O_APPEND | O_DIRECT)

static long fail(struct restore *r, const struct rest_fd *f, long e, const char *what)
{
	return blob_err_set(&r->b->err, (int)-e, "fd %d, %s: %s", f->fd, what, errno_name(e));
}

static long write_all(int fd, const uint8_t *p, uint64_t n)
{
	while (n) {
		long w = sys_write(fd, p, n);

		if (w <= 0)
			return w ? w : -EIO;
		p += w;
		n -= (uint64_t)w;
	}
	return 0;
}

static long open_pipe(struct restore *r, struct rest_obj *o)
{
	uint32_t capacity = get32(o->p);
	int end[2];
	long e = sys_pipe2(end, O_CLOEXEC | O_NONBLOCK);

	if (e < 0)
		return e;
	if (capacity)
		sys_fcntl(end[1], F_SETPIPE, (long)capacity);
	e = write_all(end[1], o->p + OBJECT_PIPE_LEN, o->contents);
	for (int i = 0; i < 2; i++) {
		o->fd[i] = (int32_t)rest_move_up(r, end[i]);
		if (e >= 0 && o->fd[i] < 0)
			e = o->fd[i];
	}
	return e;
}

static long open_timer(struct rest_obj *o)
{
	const uint8_t *p = o->p;
	struct sys_itimerspec v = {(long)get64(p + 16), (long)get64(p + 24), (long)get64(p + 32),
				   (long)get64(p + 40)};
	uint64_t ticks = get64(p + 8);
	uint32_t flags = get32(p + 4);
	struct timespec now = {0};
	int armed;
	long fd = sys_timerfd_create((int)get32(p), O_CLOEXEC), e = 0;

	/* A periodic one that has expired stands still until it is read: nothing is left then. */
	if (ticks && !v.value_s && !v.value_ns) {
		v.value_s = v.interval_s;
		v.value_ns = v.interval_ns;
	}
	armed = v.value_s || v.value_ns;
	if (flags & TFD_ABSOLUTE) {
		sys_clock_gettime((int)get32(p), &now);
		v.value_ns += now.tv_nsec;
		v.value_s += now.tv_sec + v.value_ns / 1000000000;
		v.value_ns %= 1000000000;
	}
	if (fd >= 0 && armed)
		e = sys_timerfd_settime((int)fd, (int)flags, &v);
	if (e < 0) {
		sys_close((int)fd);
		return e;
	}
	/* ENOTTY: a kernel without it; then its next expiration is the first that is seen. */
	if (fd >= 0 && ticks)
		sys_ioctl((int)fd, TFD_SET_TICKS, &ticks);
	return fd;
}

/*
 * A file without a name: where it was, if that file system can, else in memory. Opened
 * once more, for the flags that it was open with.
 */
static long open_contents(struct rest_obj *o, uint32_t kind, uint32_t flags)
{
	const uint8_t *p = o->p;
	uint32_t fixed = kind == OBJECT_MEMFD ? OBJECT_MEMFD_LEN : OBJECT_FILE_LEN;
	char path[IMAGE_PATH_MAX], link[32];
	long fd = -ENOENT, e, again;

	if (kind == OBJECT_FILE) {
		size_t n = str_copy(path, sizeof path, (const char *)p + 16);

		while (n > 1 && path[n - 1] != '/')
			n--;
		path[n] = 0;
		fd = sys_open(path, O_RDWR | O_TMPFILE | O_CLOEXEC, (int)(get32(p + 12) & 07777));
	}
	if (fd < 0)
		fd = sys_memfd_create((const char *)p + 16, 2 /* MFD_ALLOW_SEALING */ | 1);
	if (fd < 0)
		return fd;
	e = write_all((int)fd, p + fixed, o->contents);
	/* In front of the seals: there is one against it, and one that is more where it may run. */
	if (e == 0 && kind == OBJECT_MEMFD)
		e = sys_fchmod((int)fd, get32(p + 12) & 07777);
	if (e == 0 && kind == OBJECT_MEMFD && get32(p + 8) && !(get32(p + 8) & SEAL_FUTURE_WRITE))
		e = sys_fcntl((int)fd, F_ADD_SEALS, (long)get32(p + 8));
	str_format(link, sizeof link, "/proc/self/fd/%d", (int)fd);
	again = e < 0 ? e
		      : sys_open(link, (int)((flags & (O_ACCMODE | FLAGS_KEPT)) | O_CLOEXEC), 0);
	sys_close((int)fd);
	if (again >= 0)
		sys_lseek((int)again, (long)get64(p), 0 /* SEEK_SET */);
	return again;
}

static long make(struct restore *r, struct rest_obj *o, const struct rest_fd *f)
{
	uint64_t mask;
	long fd;

	switch (o->kind) {
	case OBJECT_PIPE:
		return open_pipe(r, o);
	case OBJECT_SOCKET:
		return open_socket(r, o);
	case OBJECT_LISTENER:
		fd = open_listener(r, o);
		break;
	case OBJECT_INOTIFY:
		fd = open_inotify(o);
		break;
	case OBJECT_EVENTFD:
		fd = sys_eventfd(0, O_CLOEXEC | (get32(o->p + 8) ? 1 /* EFD_SEMAPHORE */ : 0));
		if (fd >= 0 && get64(o->p) && get64(o->p) != ~0ull)
			sys_write((int)fd, o->p, 8);
		break;
	case OBJECT_TIMERFD:
		fd = open_timer(o);
		break;
	case OBJECT_SIGNALFD:
		mask = get64(o->p);
		fd = sys_signalfd(-1, &mask, O_CLOEXEC);
		break;
	case OBJECT_EPOLL:
		fd = sys_epoll_create(O_CLOEXEC);
		break;
	default:
		fd = open_contents(o, o->kind, f->oflags);
	}
	fd = rest_move_up(r, fd);
	o->fd[0] = o->fd[1] = (int32_t)fd;
	return fd;
}

static int second_end(const struct rest_obj *o, const struct rest_fd *f)
{
	if (o->kind == OBJECT_SOCKET)
		return f->stream & 1;
	return o->kind == OBJECT_PIPE && (f->oflags & O_ACCMODE) == O_WRONLY;
}

long object_open(struct restore *r, struct rest_fd *f)
{
	static const char names[OBJECT_KINDS][24] = {
		"",	      "a pipe",
		"an eventfd", "a timerfd",
		"a signalfd", "an epoll set",
		"a memfd",    "a deleted file",
		"a socket",   "a socket that listens",
		"inotify",
	};
	struct rest_obj *o = &r->objs[f->offset];
	long e;

	/* A name would be taken by it that somebody may be about to use. */
	if (r->opt->look && o->kind == OBJECT_LISTENER)
		return 0;
	if (!o->made) {
		e = make(r, o, f);
		if (e < 0)
			return fail(r, f, e, names[o->kind]);
		o->made = 1;
	}
	f->opened = o->fd[second_end(o, f)];
	if (f->opened < 0)
		return rest_bad(r, "a descriptor of an end that nobody has");
	sys_fcntl(f->opened, F_SETFL, (long)(f->oflags & FLAGS_KEPT));
	return 0;
}

void objects_close(struct restore *r)
{
	for (uint32_t i = 0; r->objs && i < r->nobjs; i++)
		for (int k = 0; k < 2; k++)
			if (r->objs[i].made && r->objs[i].fd[k] >= 0 &&
			    (k == 0 || r->objs[i].fd[1] != r->objs[i].fd[0]))
				sys_close(r->objs[i].fd[k]);
}

/* struct epoll_event as the kernel has it. */
struct event {
	uint32_t events;
	uint64_t data;
} __attribute__((packed));
#define EVENT_PRIVATE 0xf0000000u /* wakeup, oneshot, edge, exclusive: no event */

/*
 * What has been seen with EPOLLONESHOT is in the set and says nothing. Put in anew it would
 * tell of an error or a hang-up: it is asked for that at once, while it is all there is.
 */
static long add_event(int set, const uint8_t *p)
{
	struct event ev = {get32(p + 4), get64(p + 8)}, seen;
	long e = sys_epoll_ctl(set, 1 /* EPOLL_CTL_ADD */, (int)get32(p), &ev);

	if (e >= 0 && !(ev.events & ~EVENT_PRIVATE))
		sys_epoll_wait(set, &seen, 1, 0);
	return e;
}

/* A set holds files by their numbers, so it is filled when they have those. */
static long fill_epoll(struct restore *r, const struct rest_fd *f)
{
	const struct rest_obj *o = &r->objs[f->offset];
	const uint8_t *p, *end = o->p + o->len / OBJECT_EPOLL_LEN * OBJECT_EPOLL_LEN;
	long e = 0;

	for (int silent = 1; e >= 0 && silent >= 0; silent--)
		for (p = o->p; e >= 0 && p < end; p += OBJECT_EPOLL_LEN)
			if ((get32(p + 4) & ~EVENT_PRIVATE ? 0 : 1) == silent)
				e = add_event(f->fd, p);
	return e < 0 ? fail(r, f, e, "its epoll set") : 0;
}

/* It was mapped for writing first, and is so again. */
static long seal_late(struct restore *r, const struct rest_fd *f, uint32_t seals)
{
	long e = seals & SEAL_FUTURE_WRITE ? sys_fcntl(f->fd, F_ADD_SEALS, (long)seals) : 0;

	return e < 0 ? fail(r, f, e, "its seals") : 0;
}

static long do_lock(const uint8_t *p, enum lock_call how)
{
	const struct dump_lock l = {
		.fd = get32(p),
		.kind = get32(p + 4),
		.exclusive = get32(p + 8),
		.start = get64(p + 16),
		.end = get64(p + 24),
	};

	return lock_call(&l, how);
}

static long take_lock(struct restore *r, const uint8_t *p)
{
	long e = do_lock(p, LOCK_TRY);

	if (e < 0)
		return blob_err_set(&r->b->err, (int)-e, "fd %d: its lock is held by another (%s)",
				    (int)get32(p), errno_name(e));
	r->locked += REC_LOCK_LEN;
	return 0;
}

void rest_unlock(const struct restore *r)
{
	const uint8_t *p = r->rec[TAG_LOCKS].p;

	for (const uint8_t *end = p + r->locked; p < end; p += REC_LOCK_LEN)
		do_lock(p, LOCK_DROP);
}

long objects_settle(struct restore *r)
{
	const struct rest_rec *rec = &r->rec[TAG_LOCKS];
	long e = 0;

	for (uint32_t i = 0; e == 0 && i < r->nfds; i++) {
		const struct rest_fd *f = &r->fds[i];
		const struct rest_obj *o = f->kind == FD_OBJECT ? &r->objs[f->offset] : NULL;

		if (o && !f->others && o->kind == OBJECT_EPOLL)
			e = fill_epoll(r, f);
		if (o && !f->others && o->kind == OBJECT_MEMFD)
			e = seal_late(r, f, get32(o->p + 8));
	}
	for (const uint8_t *p = rec->p; e == 0 && p < rec->p + rec->len; p += REC_LOCK_LEN)
		e = take_lock(r, p);
	return e;
}
