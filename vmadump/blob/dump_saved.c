/*
 * What a shell keeps of its streams when it has put something else on 0 to 2, for a while
 * ("while read ...; done <file") or for good ("exec 3>&1 >log"): a pipe or a terminal above 2 that
 * leads out of here. Runs in the blob.
 *
 * It goes along as the stream of a number that has no use for it, since a file is there, which is
 * opened by its path as any other. At home the ghost puts it there (b->saved), and relays it as
 * ever. Not in an image that stays: nobody would relay it. What is read is read ahead, and others
 * may read there as well: so input only where a file on 0 shows that a shell keeps what was there.
 *
 * A terminal is open for both ways. What a shell keeps of it, close-on-exec and from 10 on, while
 * 0 is off it and 1 and 2 are not, was 0; if more are off it nobody can tell which of them it was.
 */
#include "dump.h"
#include "image.h"
#include "lib.h"
#include "refuse.h"
#include "sys.h"
#include "tree.h"

#define SHELLS_OWN 10 /* bash, dash and zsh keep what they put aside from here on */

/* 1: number no needs no stream, or not any more. */
static int set_free(struct dump *d, uint32_t no)
{
	struct dump_fd *o = d->fds;
	struct blob_err was = d->b->err;
	struct stat st;

	if (d->b->saved[no])
		return 0;
	while (o && o->fd < (int)no)
		o = o->next;
	if (!o || o->fd != (int)no || o->kind != FD_STREAM)
		return no != 0;
	if (sys_fstat(o->fd, &st) < 0 || (st.st_mode & 0170000) != 0100000 /* S_IFREG */)
		return 0;
	o->kind = 0;
	if (fd_by_path(d, o, &st) == 0) {
		d->freed |= 1u << no;
		return 1;
	}
	o->kind = FD_STREAM;
	d->b->err = was;
	return 0;
}

static int saved_as(struct dump *d, struct dump_fd *f, int in)
{
	uint32_t no = in ? 0 : 1, last = in ? 0 : 2;

	if (f->fd <= 2 || !d->opt->objects || (d->order && d->order->index) ||
	    !(d->opt->streams || (d->opt->away && d->opt->refused)))
		return 0;
	while (no <= last && !set_free(d, no))
		no++;
	if (no > last)
		return 0;
	f->kind = FD_STREAM;
	f->stream = no;
	f->path = "";
	d->b->saved[no] = f->fd;
	return 1;
}

int stream_saved(struct dump *d, struct dump_fd *f)
{
	return saved_as(d, f, (f->oflags & O_ACCMODE) == O_RDONLY);
}

static int is_on(const struct dump *d, int fd, uint64_t rdev)
{
	const struct dump_fd *o = d->fds;

	while (o && o->fd < fd)
		o = o->next;
	return o && o->fd == fd && (o->kind == FD_STREAM || o->kind == FD_DUP) && o->rdev == rdev;
}

long terminal_saved(struct dump *d, struct dump_fd *f)
{
	if (!d->opt->streams || !d->opt->leaves || f->fd < SHELLS_OWN || !f->cloexec ||
	    (f->oflags & O_ACCMODE) != O_RDWR || d->b->saved[0] || is_on(d, 0, f->rdev))
		return 0;
	f->kind = 0;
	if (is_on(d, 1, f->rdev) && is_on(d, 2, f->rdev) && saved_as(d, f, 1))
		return 0;
	return refuse(d->b, REFUSE_FD_TTY_SAVED, f->fd);
}
