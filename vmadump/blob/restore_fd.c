/*
 * The descriptors of the image take their numbers; every other one is closed but
 * the channel and the caller's keep_fd. Runs in the blob, after the last byte of the image was
 * read.
 */
#include "lib.h"
#include "restore.h"
#include "sys.h"

static long place(struct restore *r, const struct rest_fd *f, int from)
{
	long e = sys_dup3(from, f->fd, f->cloexec ? O_CLOEXEC : 0);

	if (e < 0)
		return blob_err_set(&r->b->err, (int)-e, "fd %d: %s", f->fd, errno_name(e));
	return 0;
}

/* 0 to 2 of this process, and of others as well: status flags are theirs. */
struct streams {
	int fd[CHAN_STREAMS];
	uint32_t originals; /* bits */
};

static long place_stream(struct restore *r, const struct rest_fd *f, const struct streams *s)
{
	long e = place(r, f, s->fd[f->stream]);

	if (e == 0 && f->oflags & O_NONBLOCK && !(s->originals >> f->stream & 1))
		sys_fcntl(f->fd, F_SETFL, O_NONBLOCK);
	return e;
}

/* Of 0 to 2: is it, as its twin, one that this process brings along? */
static int twin_stays(const struct restore *r, const struct rest_fd *f, const int *stream)
{
	if (f->fd > 2)
		return 0;
	for (uint32_t i = 0; i < r->nfds; i++)
		if (r->fds[i].fd == f->dup_of)
			return r->fds[i].kind == FD_STREAM && stream[r->fds[i].stream] < 0;
	return 0;
}

/* What is here is no part of it unless it was there at first. */
static void stay(const struct restore *r, const struct rest_fd *f)
{
	if (f->fd < CHAN_STREAMS && !(r->had >> f->fd & 1))
		sys_close(f->fd);
	else
		sys_fcntl(f->fd, F_SETFD, f->cloexec ? FD_CLOEXEC : 0);
}

static long place_all(struct restore *r, const struct streams *s)
{
	long e = 0;

	for (uint32_t i = 0; e == 0 && i < r->nfds; i++) {
		const struct rest_fd *f = &r->fds[i];

		if (f->others) {
			continue;
		} else if (f->opened >= 0) {
			e = place(r, f, f->opened);
		} else if (f->kind == FD_STREAM && s->fd[f->stream] >= 0) {
			e = place_stream(r, f, s);
		} else if (f->kind == FD_DUP && !twin_stays(r, f, s->fd)) {
			e = place(r, f, f->dup_of);
		} else {
			stay(r, f);
		}
	}
	return e;
}

static void close_gap(int lo, int hi)
{
	if (lo <= hi)
		sys_close_range((unsigned)lo, (unsigned)hi, 0);
}

/* What is still needed must not have a number of the image's. */
static long move_up(struct restore *r, int *fd, const char *what)
{
	long e;

	if (*fd < 0 || *fd >= r->fd_base)
		return 0;
	e = sys_fcntl(*fd, F_DUPFD_CLOEXEC, r->fd_base);
	if (e < 0)
		return blob_err_set(&r->b->err, (int)-e, "moving the %s out of the way: %s", what,
				    errno_name(e));
	*fd = (int)e;
	return 0;
}

/* Out of the way, each; at home those that nobody has brought are this process's own. */
static void find_streams(struct restore *r, struct streams *s)
{
	for (int i = 0; i < CHAN_STREAMS; i++) {
		s->fd[i] = r->opt->stream_fd[i];
		if (s->fd[i] < 0 && r->opt->keep_streams && r->had >> i & 1) {
			s->fd[i] = i;
			s->originals |= 1u << i;
		}
		if (s->fd[i] >= 0 && s->fd[i] < r->fd_base)
			s->fd[i] = (int)sys_fcntl(s->fd[i], F_DUPFD_CLOEXEC, r->fd_base);
	}
}

long rest_fds(struct restore *r)
{
	struct blob *b = r->b;
	struct streams streams = {0};
	int next = 0, keep[2], lower;
	long e;

	sys_fchdir(r->cwd_fd);
	tree_keep(r);
	find_streams(r, &streams);
	e = move_up(r, &b->chan, "channel");
	if (e == 0 && r->opt->keep_fd > 0)
		e = move_up(r, &r->opt->keep_fd, "ghost's streams");
	if (e == 0)
		e = place_all(r, &streams);
	if (e < 0)
		return e;
	for (uint32_t i = 0; i < r->nfds; i++) {
		if (r->fds[i].others)
			continue;
		close_gap(next, r->fds[i].fd - 1);
		next = r->fds[i].fd + 1;
	}
	lower = r->opt->keep_fd > 0 && r->opt->keep_fd < b->chan;
	keep[lower] = b->chan;
	keep[!lower] = r->opt->keep_fd > 0 ? r->opt->keep_fd : -1;
	for (int i = 0; i < 2; i++) {
		if (keep[i] < 0)
			continue;
		close_gap(next, keep[i] - 1);
		next = keep[i] + 1;
	}
	close_gap(next, 0x7fffffff);
	r->opt->fd = -1;
	return objects_settle(r);
}
