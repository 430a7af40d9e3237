/*
 * Which descriptors share an open file description. Runs in the blob.
 *
 * kcmp(2) tells not only whether two are one but orders them, so one of each description is kept
 * in a binary tree: inode first, which costs no call, then the kernel's order. Descriptors come
 * by rising numbers and descriptions in whatever order; what keeps the tree shallow is a rank made
 * of the number, higher ones above (a treap). Each step of a search is a call: what it has found
 * is kept for the insertion, which goes the same way.
 */
#include "dump.h"
#include "image.h"
#include "lib.h"
#include "sys.h"

#define KCMP_SAME_FILE 0
#define KCMP_LESS 1
#define DEV_TTY 0x500 /* 5, 0 */

static uint32_t rank(const struct dump_fd *f)
{
	uint32_t x = (uint32_t)f->fd * 0x9e3779b1u;

	return (x ^ x >> 15) * 0x85ebca6bu;
}

/* -1, 0: one description, 1. Flags are the description's, too. */
static int order(const struct dump *d, const struct dump_fd *a, const struct dump_fd *b)
{
	long r;

	if (a->dev != b->dev)
		return a->dev < b->dev ? -1 : 1;
	if (a->ino != b->ino)
		return a->ino < b->ino ? -1 : 1;
	if (a->oflags != b->oflags)
		return a->oflags < b->oflags ? -1 : 1;
	r = sys_kcmp(d->pid, d->pid, KCMP_SAME_FILE, a->fd, b->fd);
	return r == 0 ? 0 : r == KCMP_LESS ? -1 : 1;
}

/* 0 to 2 are looked at one by one: a terminal on 0 and on 1 or 2 is a stream each way. */
static int find_stream(struct dump *d, struct dump_fd *f)
{
	for (struct dump_fd *o = d->fds; o && o->fd <= 2; o = o->next) {
		if ((o->kind != FD_STREAM && !(d->freed >> o->fd & 1)) ||
		    (o->fd == 0 && f->fd <= 2) || order(d, o, f) != 0)
			continue;
		f->kind = FD_DUP;
		f->dup_of = o->fd;
	}
	return f->kind == FD_DUP;
}

void twin_find(struct dump *d, struct dump_fd *f)
{
	struct dump_fd *o = d->descriptions;
	int to;

	if (find_stream(d, f))
		return;
	d->twin_depth = 0;
	while (o && (to = order(d, f, o)) != 0) {
		if (d->twin_depth < DUMP_TWIN_DEPTH)
			d->twin_way[d->twin_depth] = to > 0;
		d->twin_depth++;
		o = o->below[to > 0];
	}
	if (!o)
		return;
	f->kind = FD_DUP;
	f->dup_of = o->fd;
}

/*
 * The terminal that is on 0 to 2, opened once more: whoever restores brings another one,
 * and this is to be that. It shares more than it did; a terminal has no offset.
 */
void twin_terminal(struct dump *d, struct dump_fd *f)
{
	/* /dev/tty is another name of it, which means nothing where there is none. */
	uint64_t tty = f->rdev == DEV_TTY ? d->stat.tty : f->rdev;

	for (struct dump_fd *o = d->fds; o && o->fd <= 2 && f->fd > 2; o = o->next)
		if (o->kind == FD_STREAM && o->rdev && o->rdev == tty) {
			f->kind = FD_DUP;
			f->dup_of = o->fd;
			/* Elsewhere each of them is a stream one way. */
			if ((f->oflags & O_ACCMODE) == O_RDONLY)
				return;
		}
}

/* Where f is from a node of the way to it: 1 right. */
static int way(const struct dump *d, const struct dump_fd *f, const struct dump_fd *o, uint32_t i)
{
	return i < DUMP_TWIN_DEPTH ? d->twin_way[i] : order(d, f, o) > 0;
}

/* After twin_find(). Goes down to where it belongs by its rank; what was below is split by it. */
void twin_add(struct dump *d, struct dump_fd *f)
{
	struct dump_fd **at = &d->descriptions, *rest, **side[2] = {&f->below[0], &f->below[1]};
	uint32_t i = 0;

	if (f->kind == FD_DUP || f->kind == FD_TREE || (f->kind == FD_STREAM && f->fd <= 2))
		return;
	for (; *at && rank(*at) > rank(f); i++)
		at = &(*at)->below[way(d, f, *at, i)];
	rest = *at;
	*at = f;
	for (; rest; i++) {
		int left = way(d, f, rest, i); /* what f is right of is left of f */

		*side[!left] = rest;
		side[!left] = &rest->below[left];
		rest = rest->below[left];
	}
	*side[0] = NULL;
	*side[1] = NULL;
}
