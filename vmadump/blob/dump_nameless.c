/*
 * Open files that have no name: memfds and deleted files, with what is in them. Only read: the
 * process goes on with them. Runs in the blob.
 */
#include "dump.h"
#include "lib.h"
#include "object.h"
#include "refuse.h"
#include "sys.h"
#include "tree.h"

#define QUEUE_FILE_LEN 80

/* Does memory of this process share it? Then it is not by itself. */
static int is_mapped(const struct dump *d, const struct dump_fd *f)
{
	for (const struct dump_vma *v = d->vmas; v; v = v->next)
		if (v->shared && v->ino == f->ino && !v->object)
			return 1;
	return 0;
}

static long read_all(struct dump *d, int fd, uint8_t *p, uint64_t n)
{
	char path[32];
	long from, r = 0;

	/* It may be open for writing only. */
	str_format(path, sizeof path, "/proc/self/fd/%d", fd);
	from = sys_open(path, O_RDONLY | O_CLOEXEC, 0);
	for (uint64_t at = 0; from >= 0 && at < n; at += (uint64_t)r) {
		r = sys_pread((int)from, p + at, n - at, (long)at);
		if (r <= 0)
			break;
	}
	if (from >= 0)
		sys_close((int)from);
	if (from < 0 || r < 0)
		return blob_err_set(&d->b->err, EIO, "fd %d: its contents: %s", fd,
				    errno_name(from < 0 ? from : r));
	return 0;
}

static long take_contents(struct dump *d, struct dump_fd *f, const struct stat *st, uint32_t kind)
{
	const char *name = f->path;
	uint32_t room = kind == OBJECT_MEMFD ? 256 : IMAGE_PATH_MAX, fixed = 16 + room;
	struct dump_obj *o;
	uint8_t *p;

	if ((uint64_t)st->st_size > OBJECT_CONTENTS_MAX)
		return object_too_much(d, f->fd,
				       kind == OBJECT_MEMFD ? "a memfd" : "a deleted file");
	if (is_mapped(d, f))
		return OBJECT_NONE;
	o = object_add(d, f, kind, fixed);
	if (!o)
		return -ENOMEM;
	p = o->data + OBJECT_HEAD;
	put32(o->data + 8, (uint32_t)st->st_size);
	put64(p, or_zero(sys_lseek(f->fd, 0, 1 /* SEEK_CUR */)));
	if (kind == OBJECT_MEMFD)
		put32(p + 8, (uint32_t)or_zero(sys_fcntl(f->fd, F_GET_SEALS, 0)));
	/* Who maps it next is to be able to. */
	if (get32(p + 8) & SEAL_FUTURE_WRITE && d->order && !d->order->alone)
		return refuse(d->b, REFUSE_FD_SEALED, f->fd);
	put32(p + 12, st->st_mode & 07777);
	/* "/memfd:NAME (deleted)", "/tmp/NAME (deleted)" */
	if (kind == OBJECT_MEMFD)
		name += 7;
	str_copy((char *)p + 16, room, name);
	if (str_ends((char *)p + 16, " (deleted)"))
		p[16 + str_len((char *)p + 16) - 10] = 0;
	return 0;
}

/* When it is sure that nothing else is refused: this may be much. */
long finish_nameless(struct dump *d, struct dump_obj *o)
{
	uint64_t before =
		OBJECT_HEAD + (o->kind == OBJECT_MEMFD ? OBJECT_MEMFD_LEN : OBJECT_FILE_LEN);
	uint64_t n = get32(o->data + 8), len = ROUND_UP(before + n, 8);
	uint8_t *data;

	if (d->opt->refused || d->opt->only_look) {
		put32(o->data + 8, 0);
		return 0;
	}
	data = arena_raw(d->b, len);
	if (!data)
		return -ENOMEM;
	memcpy(data, o->data, before);
	memset(data + len - 8, 0, 8);
	o->data = data;
	o->len = (uint32_t)len;
	return read_all(d, o->fd, data + before, n);
}

/* A memfd of another file system than that of all others. */
static int is_huge(const struct stat *st)
{
	struct stat other = {.st_dev = st->st_dev};
	long fd = st->st_blksize == IMAGE_PAGE ? -1 : sys_memfd_create("", 1 /* MFD_CLOEXEC */);

	if (fd < 0)
		return 0;
	sys_fstat((int)fd, &other);
	sys_close((int)fd);
	return other.st_dev != st->st_dev;
}

/* Its file says how much is in it, ipc/mqueue.c of the kernel, and takes no room. */
static int is_queue(const struct dump_fd *f, const struct stat *st)
{
	char path[40], text[6] = "";
	long fd;

	if (st->st_size != QUEUE_FILE_LEN || st->st_blocks)
		return 0;
	str_format(path, sizeof path, "/proc/self/fd/%d", f->fd);
	fd = sys_open(path, O_RDONLY | O_CLOEXEC, 0);
	if (fd < 0)
		return 0;
	sys_pread((int)fd, text, sizeof text, 0);
	sys_close((int)fd);
	return memcmp(text, "QSIZE:", sizeof text) == 0;
}

/* What looks like a file that has no name, and is something else. */
static long check_nameless(struct dump *d, const struct dump_fd *f, const struct stat *st)
{
	if (str_starts(f->path, "/secretmem") && st->st_nlink)
		return refuse(d->b, REFUSE_FD_SECRET, f->fd);
	if (is_queue(f, st))
		return refuse(d->b, REFUSE_FD_QUEUE, f->fd, f->path);
	return str_starts(f->path, "/memfd:") && is_huge(st) ? refuse(d->b, REFUSE_FD_HUGE, f->fd)
							     : 0;
}

long take_nameless(struct dump *d, struct dump_fd *f, const struct stat *st)
{
	long r = check_nameless(d, f, st);

	if (r < 0)
		return r;
	if (str_starts(f->path, "/memfd:"))
		return take_contents(d, f, st, OBJECT_MEMFD);
	return st->st_nlink == 0 ? take_contents(d, f, st, OBJECT_FILE) : OBJECT_NONE;
}
