/*
 * Open files that no path leads to, with what is in them: pipes whose ends are all in
 * this process, event, timer and signal descriptors, epoll sets. Others are in dump_nameless.c,
 * dump_sock.c and dump_watch.c. Only read: the process goes on with them. Runs in the blob.
 */
#include "dump.h"
#include "lib.h"
#include "object.h"
#include "proc.h"
#include "refuse.h"
#include "sys.h"
#include "tree.h"

#define TYPE_MASK 0170000u
#define TYPE_FIFO 0010000u
#define TYPE_REG 0100000u
#define TYPE_SOCK 0140000u
#define F_GETPIPE 1032
#define F_SETPIPE 1031

static struct dump_obj *find(struct dump *d, const struct dump_fd *f)
{
	struct dump_obj *o;

	for (o = d->objs; o; o = o->next)
		if (o->dev == f->dev && o->ino == f->ino && o->kind == OBJECT_PIPE)
			return o;
	return NULL;
}

/* A new object with room for len bytes behind its head. */
struct dump_obj *object_add(struct dump *d, struct dump_fd *f, uint32_t kind, uint64_t len)
{
	struct dump_obj *o = arena_alloc(d->b, sizeof *o);

	if (!o)
		return NULL;
	*o = (struct dump_obj){.dev = f->dev, .ino = f->ino, .kind = kind, .fd = f->fd};
	o->len = (uint32_t)ROUND_UP(OBJECT_HEAD + len, 8);
	o->data = arena_alloc(d->b, o->len);
	if (!o->data)
		return NULL;
	o->index = d->nobjs++;
	if (d->last_obj)
		d->last_obj->next = o;
	else
		d->objs = o;
	d->last_obj = o;
	f->kind = FD_OBJECT;
	f->offset = o->index;
	f->path = "";
	return o;
}

long object_too_much(struct dump *d, int fd, const char *what)
{
	return refuse(d->b, REFUSE_FD_CONTENTS, fd, what, (unsigned long)OBJECT_CONTENTS_MAX >> 20);
}

/* -- pipes */

static long take_pipe(struct dump *d, struct dump_fd *f)
{
	struct dump_obj *o = find(d, f);
	uint32_t mode = f->oflags & O_ACCMODE, end = mode == O_WRONLY ? 2 : 1;

	/* A second description of one end (by way of /proc), or one for both. */
	if (mode == O_RDWR || (o && o->ends & end))
		return OBJECT_NONE;
	if (o) {
		f->kind = FD_OBJECT;
		f->offset = o->index;
		f->path = "";
	} else {
		o = object_add(d, f, OBJECT_PIPE, OBJECT_PIPE_LEN);
	}
	if (!o)
		return -ENOMEM;
	o->ends |= end;
	*(end == 1 ? &o->fd : &o->fd2) = f->fd;
	return 0;
}

/* What is in it, by way of a copy: tee() takes nothing out. */
static long pipe_contents(struct dump *d, struct dump_obj *o, uint32_t have)
{
	struct blob *b = d->b;
	int p[2], capacity = (int)get32(o->data + OBJECT_HEAD);
	uint8_t *data = arena_alloc(b, ROUND_UP(OBJECT_HEAD + OBJECT_PIPE_LEN + have, 8));
	long r;

	if (!data)
		return -ENOMEM;
	memcpy(data, o->data, OBJECT_HEAD + OBJECT_PIPE_LEN);
	r = sys_pipe2(p, O_CLOEXEC | O_NONBLOCK);
	if (r < 0)
		return blob_err_set(&b->err, (int)-r, "a pipe: %s", errno_name(r));
	sys_fcntl(p[1], F_SETPIPE, capacity);
	r = sys_tee(o->fd, p[1], have, 2 /* SPLICE_F_NONBLOCK */);
	for (uint32_t got = 0; r >= 0 && got < have; got += (uint32_t)r) {
		r = sys_read(p[0], data + OBJECT_HEAD + OBJECT_PIPE_LEN + got, have - got);
		if (r == 0)
			r = -EIO;
	}
	sys_close(p[0]);
	sys_close(p[1]);
	if (r < 0)
		return blob_err_set(&b->err, (int)-r, "fd %d: what is in the pipe: %s", o->fd,
				    errno_name(r));
	put32(data + 8, have);
	o->data = data;
	o->len = (uint32_t)ROUND_UP(OBJECT_HEAD + OBJECT_PIPE_LEN + have, 8);
	return 0;
}

/* It is no object then, and no descriptor names what is in the list for it. */
static int is_saved(struct dump *d, const struct dump_obj *o)
{
	struct dump_fd *f = d->fds;

	while (f && f->fd != o->fd)
		f = f->next;
	return f && stream_saved(d, f);
}

static long finish_pipe(struct dump *d, struct dump_obj *o)
{
	struct sys_pollfd p = {.fd = o->fd, .events = POLLIN | POLLOUT};
	struct timespec now = {0};
	int have = 0;

	/* The other end is somewhere else; or nowhere, and then it stays so. */
	if (o->ends != 3) {
		sys_ppoll(&p, 1, &now, NULL);
		if (!(p.revents & (o->ends == 1 ? POLLHUP : POLLERR)))
			return is_saved(d, o) ? 0 : refuse(d->b, REFUSE_FD_PIPE, o->fd);
	}
	if (d->opt->aside || d->opt->only_look)
		return 0;
	put32(o->data + OBJECT_HEAD, (uint32_t)or_zero(sys_fcntl(o->fd, F_GETPIPE, 0)));
	if (o->ends & 1)
		sys_ioctl(o->fd, FIONREAD, &have);
	if ((uint32_t)have > OBJECT_CONTENTS_MAX)
		return object_too_much(d, o->fd, "a pipe");
	/* The kernel has that flag at the end for writing alone (create_pipe_files()). */
	if (have > 0 && o->ends & 2 && sys_fcntl(o->fd2, F_GETFL, 0) & O_DIRECT)
		return refuse(d->b, REFUSE_FD_PACKETS, o->fd);
	return have > 0 ? pipe_contents(d, o, (uint32_t)have) : 0;
}

/* -- what fdinfo tells all of */

static const char *value(const char *line, const char *key)
{
	const char *s = line + str_len(key);

	if (!str_starts(line, key))
		return NULL;
	str_skip_spaces(&s);
	return s;
}

long object_fdinfo(struct dump *d, const struct dump_fd *f, struct text *t)
{
	char path[40];

	str_format(path, sizeof path, "/proc/self/fdinfo/%d", f->fd);
	return text_open(d->b, t, path);
}

static void eventfd_line(uint8_t *p, const char *line)
{
	const char *s;

	if ((s = value(line, "eventfd-count:")))
		put64(p, str_hex(&s));
	else if ((s = value(line, "eventfd-semaphore:")))
		put32(p + 8, (uint32_t)str_dec(&s));
}

static void signalfd_line(uint8_t *p, const char *line)
{
	const char *s = value(line, "sigmask:");

	if (s)
		put64(p, str_hex(&s));
}

/* "it_value: (1, 500)": seconds and nanoseconds. */
static void put_time(uint8_t *p, const char *s)
{
	s += *s == '(';
	put64(p, str_dec(&s));
	s += *s == ',';
	str_skip_spaces(&s);
	put64(p + 8, str_dec(&s));
}

static void timerfd_line(uint8_t *p, const char *line)
{
	const char *s;

	if ((s = value(line, "clockid:")))
		put32(p, (uint32_t)str_dec(&s));
	else if ((s = value(line, "settime flags:"))) /* octal, and of two bits */
		put32(p + 4, (uint32_t)str_dec(&s));
	else if ((s = value(line, "ticks:")))
		put64(p + 8, str_dec(&s));
	else if ((s = value(line, "it_interval:")))
		put_time(p + 16, s);
	else if ((s = value(line, "it_value:")))
		put_time(p + 32, s);
}

/* An object of len bytes of fields; each line of fdinfo is asked for some of them. */
static long take_lines(struct dump *d, struct dump_fd *f, uint32_t kind, uint32_t len,
		       void (*take)(uint8_t *p, const char *line))
{
	struct dump_obj *o = object_add(d, f, kind, len);
	struct text t;
	char *line;
	long r = o ? object_fdinfo(d, f, &t) : -ENOMEM;

	if (r < 0)
		return r;
	while ((line = text_line(&t)))
		take(o->data + OBJECT_HEAD, line);
	text_close(&t);
	return 0;
}

/*
 * Nothing is left and nothing has been counted: it is not armed; or its interrupt is late, on a
 * processor that is busy with something else. Who is asked a little later knows; once a dump.
 */
static long take_timerfd(struct dump *d, struct dump_fd *f)
{
	const struct timespec nap = {.tv_nsec = 1000000};
	struct sys_itimerspec left;
	uint8_t *p;
	struct text t;
	char *line;
	long r;

	/* What a periodic one has missed since it expired is counted when it is asked. */
	sys_timerfd_gettime(f->fd, &left);
	r = take_lines(d, f, OBJECT_TIMERFD, OBJECT_TIMERFD_LEN, timerfd_line);
	p = r == 0 ? d->last_obj->data + OBJECT_HEAD : NULL;
	if (r < 0 || get64(p + 8) || get64(p + 32) || get64(p + 40))
		return r;
	if (!d->napped)
		sys_nanosleep(&nap);
	d->napped = 1;
	r = object_fdinfo(d, f, &t);
	while (r == 0 && (line = text_line(&t)))
		timerfd_line(p, line);
	text_close(&t);
	return r;
}

/* The file that fd is now must be the one that was put into the set. */
static int still_there(int fd, uint64_t ino)
{
	struct stat st;

	return sys_fstat(fd, &st) == 0 && st.st_ino == ino;
}

static uint64_t word_after(const char *line, const char *key, int hex)
{
	for (const char *s = line; *s; s++)
		if (str_starts(s, key)) {
			s += str_len(key);
			str_skip_spaces(&s);
			return hex ? str_hex(&s) : str_dec(&s);
		}
	return 0;
}

static long take_epoll(struct dump *d, struct dump_fd *f)
{
	struct text t;
	char *line;
	uint32_t n = 0;
	struct dump_obj *o;
	long r = object_fdinfo(d, f, &t);
	uint8_t *p;

	while (r == 0 && (line = text_line(&t)))
		n += str_starts(line, "tfd:");
	if (r == 0)
		text_close(&t);
	o = r == 0 ? object_add(d, f, OBJECT_EPOLL, n * (uint64_t)OBJECT_EPOLL_LEN) : NULL;
	if (!o)
		return r < 0 ? r : -ENOMEM;
	r = object_fdinfo(d, f, &t);
	p = o->data + OBJECT_HEAD;
	while (r == 0 && n && (line = text_line(&t))) {
		int fd = (int)word_after(line, "tfd:", 0);

		if (!str_starts(line, "tfd:"))
			continue;
		if (!still_there(fd, word_after(line, "ino:", 1)))
			r = refuse(d->b, REFUSE_FD_EPOLL, f->fd, fd);
		put32(p, (uint32_t)fd);
		put32(p + 4, (uint32_t)word_after(line, "events:", 1));
		put64(p + 8, word_after(line, "data:", 1));
		p += OBJECT_EPOLL_LEN;
		n--;
	}
	if (r == 0)
		text_close(&t);
	return r;
}

long object_take(struct dump *d, struct dump_fd *f, const struct stat *st)
{
	uint32_t type = st->st_mode & TYPE_MASK;

	if (d->nobjs == OBJECTS_MAX)
		return OBJECT_NONE;
	if (type == TYPE_FIFO)
		return str_starts(f->path, "pipe:") ? take_pipe(d, f) : OBJECT_NONE;
	if (str_eq(f->path, "anon_inode:[eventfd]"))
		return take_lines(d, f, OBJECT_EVENTFD, OBJECT_EVENTFD_LEN, eventfd_line);
	if (str_eq(f->path, "anon_inode:[timerfd]"))
		return take_timerfd(d, f);
	if (str_eq(f->path, "anon_inode:[signalfd]"))
		return take_lines(d, f, OBJECT_SIGNALFD, OBJECT_SIGNALFD_LEN, signalfd_line);
	if (str_eq(f->path, "anon_inode:[eventpoll]"))
		return take_epoll(d, f);
	if (str_eq(f->path, "anon_inode:inotify"))
		return take_inotify(d, f);
	if (type == TYPE_SOCK)
		return take_socket(d, f);
	if (type != TYPE_REG || f->path[0] != '/')
		return OBJECT_NONE;
	return take_nameless(d, f, st);
}

long objects_finish(struct dump *d)
{
	long r = 0;

	for (struct dump_obj *o = d->objs; r == 0 && o; o = o->next) {
		if (o->kind == OBJECT_PIPE)
			r = finish_pipe(d, o);
		else if (o->kind == OBJECT_SOCKET)
			r = finish_socket(d, o);
		r = dump_look_on(d, r);
	}
	for (struct dump_obj *o = d->objs; r == 0 && o; o = o->next) {
		if (o->kind == OBJECT_MEMFD || o->kind == OBJECT_FILE)
			r = finish_nameless(d, o);
		put32(o->data, o->len);
		put32(o->data + 4, o->kind);
	}
	return r;
}

uint64_t objects_max(const struct dump *d)
{
	uint64_t n = IMAGE_REC_HEAD;

	for (const struct dump_obj *o = d->objs; o; o = o->next)
		n += o->len;
	return n;
}

uint8_t *objects_rec(struct dump *d, uint8_t *rec)
{
	uint8_t *p = rec + IMAGE_REC_HEAD;

	if (!d->objs)
		return rec;
	for (const struct dump_obj *o = d->objs; o; o = o->next)
		p = (uint8_t *)memcpy(p, o->data, o->len) + o->len;
	return rec_end(rec, TAG_OBJECTS, (uint64_t)(p - rec - IMAGE_REC_HEAD));
}
