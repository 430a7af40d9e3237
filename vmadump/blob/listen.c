/*
 * Sockets that listen, of a process that leaves with its tree: their names go along. Until it is
 * known whether it has left, whoever arrives may have the same file system, and then puts the
 * name aside (restore_sock.c). Runs in the blob, at the source.
 */
#include "dump.h"
#include "lib.h"
#include "object.h"
#include "refuse.h"
#include "sys.h"

long listener_add(struct dump *d, const struct dump_fd *f, const char *name)
{
	struct blob_listener *l = &d->b->listener[d->b->nlisteners];
	struct stat st;

	if (!d->opt->leaves)
		return 0;
	if (d->b->nlisteners == BLOB_LISTENERS)
		return refuse(d->b, REFUSE_LIMIT, (unsigned long)BLOB_LISTENERS,
			      "sockets that listen");
	memset(l, 0, sizeof *l);
	l->fd = f->others ? -1 : f->fd;
	if (name && *name && sys_stat(name, &st) == 0) {
		str_copy(l->name, sizeof l->name, name);
		l->dev = st.st_dev;
		l->ino = st.st_ino;
	}
	d->b->nlisteners++;
	return 0;
}

static int is_its(const struct blob_listener *l, const char *path)
{
	struct stat st;

	return sys_stat(path, &st) == 0 && st.st_ino == l->ino && st.st_dev == l->dev;
}

void listeners_decided(struct blob *b, int left)
{
	for (uint32_t i = 0; i < b->nlisteners; i++) {
		const struct blob_listener *l = &b->listener[i];
		char aside[SOCKET_ASIDE_MAX];

		/* A ghost at home keeps what it had open, and that would have its name still. */
		if (left && l->fd >= 0)
			sys_close(l->fd);
		if (!l->ino)
			continue;
		str_format(aside, sizeof aside, SOCKET_ASIDE, l->name);
		if (left && is_its(l, l->name))
			sys_unlink(l->name);
		if (!is_its(l, aside))
			continue;
		if (left)
			sys_unlink(aside);
		else
			sys_rename(aside, l->name);
	}
	b->nlisteners = 0;
}
