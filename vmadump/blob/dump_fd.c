/*
 * The descriptors of this process: what can be opened again by path, what is a
 * stream, what shares an open description with another, and what must be refused.
 * Runs in the blob.
 */
#include "libbproc/local.h"

#include "dump.h"
#include "lib.h"
#include "object.h"
#include "proc.h"
#include "refuse.h"
#include "sys.h"
#include "tree.h"

#define DENTS_BUF 4096u
#define FDS_TRIED 64u	 /* the kernel's smallest table */
#define SO_ACCEPTCONN 30 /* asm-generic/socket.h, which libc's would not bear */
#define FD_STAYS 1	 /* not an error: it is not part of the image */
#define TYPE_MASK 0170000u
#define TYPE_FIFO 0010000u
#define TYPE_CHR 0020000u
#define TYPE_DIR 0040000u
#define TYPE_REG 0100000u
#define TYPE_SOCK 0140000u
#define REOPEN_FLAGS                                                                               \
	(O_ACCMODE | O_APPEND | O_NONBLOCK | O_DSYNC | O_DIRECT | O_LARGEFILE | O_DIRECTORY |      \
	 O_NOFOLLOW | O_NOATIME | O_SYNC | O_PATH)

static uint32_t dev_major(uint64_t dev)
{
	return (uint32_t)(dev >> 8 & 0xfff);
}

static uint32_t dev_minor(uint64_t dev)
{
	return (uint32_t)((dev & 0xff) | (dev >> 12 & 0xfff00));
}

static int is_tty(uint64_t rdev)
{
	uint32_t major = dev_major(rdev);

	return major == 4 || major == 5 || (major >= 136 && major <= 143);
}

/* What is the same on every machine, by that name; NULL: not such a device. */
static const char *common_device(uint64_t rdev)
{
	static const struct {
		uint32_t major, minor;
		char name[16];
	} same[] = {
		{1, 3, "/dev/null"},   {1, 5, "/dev/zero"},    {1, 7, "/dev/full"},
		{1, 8, "/dev/random"}, {1, 9, "/dev/urandom"}, {5, 0, "/dev/tty"},
	};

	for (uint32_t i = 0; i < COUNT(same); i++)
		if (dev_major(rdev) == same[i].major && dev_minor(rdev) == same[i].minor)
			return same[i].name;
	return NULL;
}

static int is_null(const struct stat *st)
{
	return (st->st_mode & TYPE_MASK) == TYPE_CHR && dev_major(st->st_rdev) == 1 &&
	       dev_minor(st->st_rdev) == 3;
}

static int is_ours(const struct dump *d, int fd)
{
	const struct blob *b = d->b;

	if (fd == d->opt->fd || fd == b->chan || (d->order && fd == d->opt->order))
		return 1;
	for (uint32_t i = 0; i < COUNT(b->hide_fd); i++)
		if (fd == b->hide_fd[i])
			return 1;
	return 0;
}

/* Not at home: which stream fd is, plus 1; 0: none. */
static uint32_t away_stream(const struct dump *d, int fd)
{
	return d->opt->away_streams >> fd * CHAN_GO_STREAM_BITS & 3;
}

/*
 * A pipe without a far end says the same to its reader, and to its writer, wherever that
 * is. So are the streams of a node whose bpslave was started anew.
 */
static int is_dead_pipe(int fd)
{
	struct sys_pollfd p = {.fd = fd, .events = POLLIN};
	struct timespec now = {0};

	sys_ppoll(&p, 1, &now, NULL);
	return (p.revents & (POLLHUP | POLLERR)) && !(p.revents & POLLIN);
}

/* Is it, on 0..2, something that its home (or whoever undumps) provides? */
static int is_stream(struct dump *d, const struct dump_fd *f, const struct stat *st)
{
	uint32_t type = st->st_mode & TYPE_MASK;

	const struct tree_fd *t = tree_fd_of(d, f->fd);

	if (f->fd > 2 || is_null(st))
		return 0;
	if (d->order && t && t->flags & TREE_FD_INSIDE)
		return 0;
	/* Whoever moves has streams of its own, but for what it shares with its tree. */
	if (d->order && d->order->index && (!d->opt->leaves || (t && t->as >= 0)))
		return 0;
	if (d->opt->streams)
		return 1;
	if (d->opt->away)
		return type == TYPE_FIFO && (away_stream(d, f->fd) || is_dead_pipe(f->fd));
	return type == TYPE_FIFO || type == TYPE_SOCK || (type == TYPE_CHR && is_tty(st->st_rdev));
}

/*
 * An idle connection of libbproc's to bpslave: it is for this machine's, and the library makes
 * a new one when it finds that it is gone (client.c).
 */
static int is_daemons(const struct dump_fd *f)
{
	struct {
		uint16_t family;
		char path[108];
	} at;
	int len = sizeof at;

	memset(&at, 0, sizeof at);
	return f->cloexec && sys_getpeername(f->fd, &at, &len) == 0 && at.family == SYS_AF_UNIX &&
	       str_ends(at.path, "/" LOCAL_SOCK);
}

static int listens(const struct dump_fd *f)
{
	int yes = 0, len = sizeof yes;

	return sys_getsockopt(f->fd, SYS_SOL_SOCKET, SO_ACCEPTCONN, &yes, &len) == 0 && yes;
}

/*
 * What cannot be carried is refused by name. One exception: a child of rfork
 * leaves behind what is marked close-on-exec, as an exec would. A parent that
 * keeps a pipe's reading end for itself has said so with the mark.
 */
static long refuse_file(struct dump *d, struct dump_fd *f, const struct stat *st)
{
	struct blob *b = d->b;

	if (d->opt->for_fork && f->cloexec)
		return FD_STAYS;
	if (d->opt->leaves && (st->st_mode & TYPE_MASK) == TYPE_SOCK) {
		if (is_daemons(f))
			return FD_STAYS;
		/* Who wants to be connected comes to its name, and that is for its tree at most. */
		if ((!d->order || d->order->alone) && listens(f))
			return refuse(b, REFUSE_FD_SOCKET, f->fd);
	}
	if (d->opt->objects) {
		long r = object_take(d, f, st);

		if (r != OBJECT_NONE)
			return r;
	}
	switch (st->st_mode & TYPE_MASK) {
	case TYPE_SOCK:
		return refuse(b, REFUSE_FD_SOCKET, f->fd);
	case TYPE_FIFO:
		if (f->path[0] == '/' && (f->oflags & O_ACCMODE) != O_RDWR && stream_saved(d, f))
			return 0;
		if (f->path[0] == '/')
			return refuse(b, REFUSE_FD_FIFO, f->fd, f->path);
		return refuse(b, REFUSE_FD_PIPE, f->fd);
	case TYPE_CHR:
		if (is_tty(st->st_rdev) && stream_saved(d, f))
			return 0;
		if (is_tty(st->st_rdev))
			return refuse(b, REFUSE_FD_TTY, f->fd, f->path);
		return refuse(b, REFUSE_FD_DEVICE, f->fd, f->path);
	case TYPE_REG:
	case TYPE_DIR:
		if (str_starts(f->path, "/memfd:"))
			return refuse(b, REFUSE_FD_MEMFD, f->fd, f->path);
		if (f->path[0] != '/')
			return refuse(b, REFUSE_FD_NS, f->fd, f->path);
		if (st->st_nlink == 0 && (st->st_mode & TYPE_MASK) == TYPE_DIR)
			return refuse(b, REFUSE_FD_DELETED_DIR, f->fd, f->path);
		if (st->st_nlink == 0)
			return refuse(b, REFUSE_FD_DELETED, f->fd, f->path);
		return refuse(b, REFUSE_FD_MOVED, f->fd, f->path);
	default:
		if (f->path[0] == '/')
			return refuse(b, REFUSE_FD_DEVICE, f->fd, f->path);
		return refuse(b, REFUSE_FD_ANON, f->fd, f->path);
	}
}

/*
 * A lock is the process's, and goes along only where it may be given up meanwhile. A child of fork
 * has none of its own.
 */
static long check_lock(struct dump *d, struct dump_fd *f)
{
	char path[40], buf[1024];
	long n;

	if (d->opt->for_fork)
		return 0;
	if (d->opt->objects && (!d->opt->leaves || d->opt->flags & DUMP_LOCKS))
		return locks_take(d, f);
	/* The process's own: to a copy the kernel shows no POSIX locks. */
	str_format(path, sizeof path, "/proc/%d/fdinfo/%d", d->mem, f->fd);
	n = proc_read(path, buf, sizeof buf);
	for (const char *s = buf; n > 0 && *s; s++)
		if (str_starts(s, "\nlock:"))
			return refuse(d->b, lock_refusal(s + 1), f->fd, f->path);
	return 0;
}

/* A file that is to be opened by its path: is it the one that the path leads to? */
static long check_path(struct dump *d, struct dump_fd *f, const struct stat *st)
{
	struct stat by_path;

	if (st->st_nlink == 0 || sys_lstat(f->path, &by_path) < 0 || by_path.st_dev != st->st_dev ||
	    by_path.st_ino != st->st_ino)
		return refuse_file(d, f, st);
	return 0;
}

/* 0: to be opened on the node; FD_STAYS; or refused. */
static long classify(struct dump *d, struct dump_fd *f, const struct stat *st)
{
	uint32_t type = st->st_mode & TYPE_MASK;
	long off;

	if (type == TYPE_CHR && common_device(st->st_rdev)) {
		f->kind = FD_DEV;
		return 0;
	}
	/* By O_PATH it is a place, whatever is there. */
	if ((type != TYPE_REG && type != TYPE_DIR && !(f->oflags & O_PATH)) || f->path[0] != '/' ||
	    str_starts(f->path, "/memfd:"))
		return refuse_file(d, f, st);
	f->kind = type == TYPE_DIR ? FD_DIR : FD_FILE;
	if (!(f->oflags & O_PATH)) {
		off = sys_lseek(f->fd, 0, 1 /* SEEK_CUR */);
		f->offset = off > 0 ? (uint64_t)off : 0;
		if (type == TYPE_REG && (off = check_lock(d, f)) < 0)
			return off;
	}
	return check_path(d, f, st);
}

static long read_path(struct blob *b, struct dump_fd *f)
{
	char link[32], *path = arena_raw(b, IMAGE_PATH_MAX);
	long n;

	if (!path)
		return -ENOMEM;
	str_format(link, sizeof link, "/proc/self/fd/%d", f->fd);
	n = sys_readlink(link, path, IMAGE_PATH_MAX - 1);
	if (n < 0)
		return blob_err_set(&b->err, EIO, "%s: %s", link, errno_name(n));
	path[n] = 0;
	arena_shrink(b, path, (uint64_t)n + 1);
	f->path = path;
	return 0;
}

/* What the first of its tree has as well is carried with that one; locks of the process are not. */
static long share(struct dump *d, struct dump_fd *f, const struct stat *st)
{
	const struct tree_fd *t = tree_fd_of(d, f->fd);
	const char *none = f->path;
	long r;

	f->others = t && t->flags & TREE_FD_EXTRA;
	if (!t || t->as < 0 || !d->order->index)
		return 0;
	if (d->opt->leaves && (st->st_mode & TYPE_MASK) == TYPE_SOCK && is_daemons(f))
		return FD_STAYS;
	f->kind = FD_TREE;
	f->dup_of = t->as;
	if ((st->st_mode & TYPE_MASK) == TYPE_SOCK && listens(f))
		return listener_add(d, f, NULL);
	if ((st->st_mode & TYPE_MASK) != TYPE_REG || f->oflags & O_PATH)
		return 0;
	r = read_path(d->b, f); /* for the name of what is locked */
	if (r == 0)
		r = check_lock(d, f);
	f->path = none;
	return r;
}

static void append(struct dump *d, struct dump_fd *f)
{
	d->nfds++;
	if (d->last_fd)
		d->last_fd->next = f;
	else
		d->fds = f;
	d->last_fd = f;
	twin_add(d, f);
}

/*
 * A child of rfork is new: the first look at each of its links in /proc makes an inode, 7 us. So
 * none is looked at where it says nothing: of a device that has one name everywhere, and of what
 * stays behind whatever it is. 1: it is done with.
 */
static int needs_no_path(struct dump *d, struct dump_fd *f, const struct stat *st)
{
	uint32_t type = st->st_mode & TYPE_MASK;

	if (!d->opt->for_fork)
		return 0;
	if (type == TYPE_CHR && common_device(st->st_rdev)) {
		f->kind = FD_DEV;
		f->path = common_device(st->st_rdev);
	}
	return f->cloexec && (type == TYPE_FIFO || type == TYPE_SOCK);
}

long fd_by_path(struct dump *d, struct dump_fd *f, const struct stat *st)
{
	long r = read_path(d->b, f);

	return r < 0 ? r : classify(d, f, st);
}

static long add_fd(struct dump *d, int fd)
{
	struct blob *b = d->b;
	struct dump_fd *f;
	struct stat st;
	long n, stream;

	f = arena_alloc(b, sizeof *f);
	if (!f || sys_fstat(fd, &st) < 0)
		return f ? 0 : -ENOMEM; /* gone: it was the directory being read */
	if (d->nfds == IMAGE_FDS_MAX)
		return refuse(b, REFUSE_LIMIT, (unsigned long)IMAGE_FDS_MAX, "open files");
	f->fd = fd;
	f->dup_of = -1;
	f->dev = st.st_dev;
	f->ino = st.st_ino;
	f->rdev = st.st_rdev;
	f->cloexec = (uint32_t)sys_fcntl(fd, F_GETFD, 0) & FD_CLOEXEC;
	f->oflags = (uint32_t)sys_fcntl(fd, F_GETFL, 0) & REOPEN_FLAGS;
	f->path = "";
	n = share(d, f, &st);
	if (n != 0)
		return n == FD_STAYS ? 0 : n;
	stream = is_stream(d, f, &st);
	if (!f->kind)
		twin_find(d, f);
	for (uint32_t i = 0; d->opt->away && i < COUNT(b->away_saved); i++)
		if (b->away_saved[i] == fd && fd > 2 && !f->kind) {
			f->kind = FD_STREAM;
			f->stream = i;
		}
	if (d->opt->objects && !f->kind && is_tty(st.st_rdev) &&
	    (st.st_mode & TYPE_MASK) == TYPE_CHR)
		twin_terminal(d, f);
	if (f->kind == FD_DUP && f->dup_of <= 2 && is_tty(st.st_rdev) &&
	    (st.st_mode & TYPE_MASK) == TYPE_CHR && (n = terminal_saved(d, f)) < 0)
		return n;
	if (stream && f->kind != FD_DUP) {
		f->kind = FD_STREAM;
		f->stream =
			d->opt->away && away_stream(d, fd) ? away_stream(d, fd) - 1 : (uint32_t)fd;
		f->dup_of = -1;
	}
	if (!f->kind && needs_no_path(d, f, &st))
		return 0;
	if (!f->kind && (n = fd_by_path(d, f, &st)) != 0)
		return n == FD_STAYS ? 0 : n;
	append(d, f);
	return more_of_fd(d, f);
}

static long take_fd(struct dump *d, int fd)
{
	return is_ours(d, fd) ? 0 : dump_look_on(d, add_fd(d, fd));
}

/* Of a small table each number is tried: less work for the kernel than a directory of them. */
static long try_fds(struct dump *d)
{
	long r = 0;

	for (int fd = 0; r == 0 && fd < (int)d->status.fd_size; fd++)
		if (sys_fcntl(fd, F_GETFD, 0) >= 0)
			r = take_fd(d, fd);
	return r;
}

static long list_fds(struct dump *d)
{
	struct blob *b = d->b;
	uint8_t *buf = arena_alloc(b, DENTS_BUF);
	long dir, n, r = 0;

	if (!buf)
		return -ENOMEM;
	dir = sys_open("/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
	if (dir < 0)
		return blob_err_set(&b->err, EIO, "/proc/self/fd: %s", errno_name(dir));
	while (r == 0 && (n = sys_getdents((int)dir, buf, DENTS_BUF)) > 0) {
		for (long at = 0; r == 0 && at < n;) {
			struct sys_dirent *e = (void *)(buf + at);
			const char *s = e->name;
			int fd = (int)str_dec(&s);

			at += e->reclen;
			if (s != e->name && fd != dir)
				r = take_fd(d, fd);
		}
	}
	sys_close((int)dir);
	return r;
}

long dump_fds(struct dump *d)
{
	int few = d->status.fd_size && d->status.fd_size <= FDS_TRIED;
	long r;

	memset(d->b->saved, 0, sizeof d->b->saved);
	r = few ? try_fds(d) : list_fds(d);

	return r < 0 ? r : objects_finish(d);
}
