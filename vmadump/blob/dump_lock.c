/*
 * Locks on files: of the process (POSIX) or of an open description (flock, OFD), as
 * fdinfo tells them. Runs in the blob.
 */
#include "dump.h"
#include "lib.h"
#include "object.h"
#include "proc.h"
#include "refuse.h"
#include "sys.h"

static const char *word(const char *s)
{
	while (*s && *s != ' ' && *s != '\t')
		s++;
	str_skip_spaces(&s);
	return s;
}

/* "lock:	1: POSIX  ADVISORY  WRITE 4242 fe:00:123 0 EOF". 0: it is none that is carried. */
static int parse(const char *line, struct dump_lock *l)
{
	const char *s = word(word(line));

	l->kind = str_starts(s, "FLOCK")    ? LOCK_FLOCK
		  : str_starts(s, "POSIX")  ? LOCK_POSIX
		  : str_starts(s, "OFDLCK") ? LOCK_OFD
					    : 0;
	s = word(word(s));
	l->exclusive = str_starts(s, "WRITE");
	if (!l->kind || (!l->exclusive && !str_starts(s, "READ")))
		return 0;
	s = word(word(word(s)));
	l->start = str_dec(&s);
	str_skip_spaces(&s);
	l->end = str_starts(s, "EOF") ? ~0ull : str_dec(&s);
	return 1;
}

long locks_take(struct dump *d, struct dump_fd *f)
{
	char path[40], *line;
	struct text t;
	long r;

	str_format(path, sizeof path, "/proc/self/fdinfo/%d", f->fd);
	r = text_open(d->b, &t, path);
	while (r == 0 && (line = text_line(&t))) {
		struct dump_lock *l;

		if (!str_starts(line, "lock:"))
			continue;
		l = d->nlocks < LOCKS_MAX ? arena_alloc(d->b, sizeof *l) : NULL;
		if (!l)
			r = -ENOMEM;
		else if (!parse(line, l))
			r = refuse(d->b, REFUSE_FD_LOCK, f->fd, f->path);
		else if (f->kind == FD_TREE && l->kind != LOCK_POSIX)
			continue; /* the description's, and so the first's */
		else {
			l->fd = (uint32_t)f->fd;
			l->next = d->locks;
			d->locks = l;
			d->nlocks++;
		}
	}
	text_close(&t);
	return r;
}

uint64_t locks_max(const struct dump *d)
{
	return IMAGE_REC_HEAD + d->nlocks * (uint64_t)REC_LOCK_LEN;
}

uint8_t *locks_rec(struct dump *d, uint8_t *rec)
{
	uint8_t *p = rec + IMAGE_REC_HEAD;

	if (!d->locks)
		return rec;
	for (const struct dump_lock *l = d->locks; l; l = l->next, p += REC_LOCK_LEN) {
		put32(p, l->fd);
		put32(p + 4, l->kind);
		put32(p + 8, l->exclusive);
		put32(p + 12, 0);
		put64(p + 16, l->start);
		put64(p + 24, l->end);
	}
	return rec_end(rec, TAG_LOCKS, d->nlocks * (uint64_t)REC_LOCK_LEN);
}
