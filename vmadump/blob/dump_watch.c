/*
 * inotify: what is watched, by path. The kernel names the watched files by handle; whoever
 * may open those (CAP_DAC_READ_SEARCH) can ask for their paths. Runs in the blob.
 */
#include "dump.h"
#include "lib.h"
#include "object.h"
#include "proc.h"
#include "refuse.h"
#include "sys.h"

#define HANDLE_MAX 128u
#define WATCHES_MOST (1ul << 20) /* bytes of their paths */

struct watch {
	uint32_t wd, mask;
	uint64_t dev;
	struct {
		uint32_t bytes;
		int32_t type;
		uint8_t handle[HANDLE_MAX];
	} at;
};

static const char *after(const char *line, const char *key)
{
	for (; *line; line++)
		if (str_starts(line, key))
			return line + str_len(key);
	return "";
}

static uint32_t digit(char c)
{
	return (uint32_t)(c <= '9' ? c - '0' : (c | 32) - 'a' + 10);
}

/* "inotify wd:1 ino:.. sdev:fe00000 mask:2 ignored_mask:0 fhandle-bytes:8 fhandle-type:1
 * f_handle:.." */
static int parse(const char *line, struct watch *w)
{
	const char *s = after(line, "wd:");

	w->wd = (uint32_t)str_hex(&s);
	s = after(line, "sdev:");
	w->dev = str_hex(&s);
	s = after(line, " mask:");
	w->mask = (uint32_t)str_hex(&s);
	s = after(line, "fhandle-bytes:");
	w->at.bytes = (uint32_t)str_hex(&s);
	s = after(line, "fhandle-type:");
	w->at.type = (int32_t)str_hex(&s);
	s = after(line, "f_handle:");
	if (!w->at.bytes || w->at.bytes > HANDLE_MAX)
		return 0;
	for (uint32_t i = 0; i < w->at.bytes; i++, s += 2) {
		if (!s[0] || !s[1])
			return 0;
		w->at.handle[i] = (uint8_t)(digit(s[0]) << 4 | digit(s[1]));
	}
	return 1;
}

/* The kernel's own form of a device number, as in fdinfo, and what stat() has. */
static int same_device(uint64_t kernel, uint64_t dev)
{
	return kernel == ((dev >> 8 & 0xfff) << 20 | (dev & 0xff) | (dev >> 12 & 0xfff00));
}

/* Any directory of the file system that the watch is on: a mount point. */
static long open_mount(struct dump *d, uint64_t dev)
{
	uint64_t mark = arena_mark(d->b);
	struct text t;
	struct stat st;
	char *line;
	long fd = -1;

	if (text_open(d->b, &t, "/proc/self/mountinfo") == 0)
		while (fd < 0 && (line = text_line(&t))) {
			char *s = line, *end;

			for (int i = 0; i < 4 && *s; s++)
				i += *s == ' ';
			for (end = s; *end && *end != ' '; end++)
				;
			*end = 0;
			if (sys_stat(s, &st) == 0 && same_device(dev, st.st_dev))
				fd = sys_open(s, O_RDONLY | O_CLOEXEC | O_NONBLOCK, 0);
		}
	text_close(&t);
	arena_release(d->b, mark);
	return fd;
}

static long path_of(struct dump *d, struct watch *w, char *path)
{
	char link[32];
	long mount = open_mount(d, w->dev), fd, n;

	if (mount < 0)
		return -ENOENT;
	fd = sys_open_by_handle_at((int)mount, &w->at, O_PATH | O_CLOEXEC);
	sys_close((int)mount);
	if (fd < 0)
		return fd;
	str_format(link, sizeof link, "/proc/self/fd/%d", (int)fd);
	n = sys_readlink(link, path, IMAGE_PATH_MAX - 1);
	sys_close((int)fd);
	if (n > 0)
		path[n] = 0;
	return n > 0 && path[0] == '/' ? n + 1 : -ENOENT;
}

long take_inotify(struct dump *d, struct dump_fd *f)
{
	struct dump_obj *o = object_add(d, f, OBJECT_INOTIFY, OBJECT_INOTIFY_LEN);
	uint8_t *data = arena_raw(d->b, WATCHES_MOST), *p = data + OBJECT_HEAD;
	int have = 0;
	struct text t;
	char *line;
	long r, n = 0;

	if (!o || !data)
		return -ENOMEM;
	memset(data, 0, OBJECT_HEAD);
	sys_ioctl(f->fd, FIONREAD, &have);
	if (have)
		return refuse(d->b, REFUSE_FD_EVENTS, f->fd);
	/* What is allocated from here on lies behind the object; it is released by the line. */
	r = object_fdinfo(d, f, &t);
	while (r == 0 && (line = text_line(&t))) {
		struct watch w = {0};

		if (!str_starts(line, "inotify "))
			continue;
		if ((uint64_t)(p - data) > WATCHES_MOST - 2 * IMAGE_PATH_MAX)
			r = object_too_much(d, f->fd, "inotify");
		else if (!parse(line, &w))
			r = refuse(d->b, REFUSE_FD_WATCH, f->fd, "a handle of an unknown kind");
		else if ((n = path_of(d, &w, (char *)p + INOTIFY_HEAD)) < 0)
			r = refuse(d->b, REFUSE_FD_WATCH, f->fd,
				   n == -EPERM ? "to be told needs CAP_DAC_READ_SEARCH"
					       : errno_name(n));
		if (r < 0)
			break;
		put32(p, w.wd);
		put32(p + 4, w.mask);
		put32(p + 8, (uint32_t)n);
		put32(p + 12, 0);
		memset(p + INOTIFY_HEAD + n, 0, 8);
		p += INOTIFY_HEAD + ROUND_UP((uint64_t)n, 8);
	}
	if (r == 0)
		text_close(&t);
	o->data = data;
	o->len = (uint32_t)(p - data);
	put32(data + 8, o->len - OBJECT_HEAD);
	return r;
}
