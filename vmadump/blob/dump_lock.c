/*
 * Locks on files: of the process (POSIX) or of an open description (flock, OFD), as
 * fdinfo tells them. Runs in the blob.
 *
 * One that leaves by a move that was asked for with BPROC_MOVE_LOCKS gives its locks up when its
 * image is all but written, and the node takes them when it has read the end. A description may
 * be another process's as well: the mover looks (freeze_lock.c), and says that it is not, or one's
 * that moves with it. Each of a tree that has a description gives up its lock, and takes it: the
 * second time nothing is done. Not the first, of what it is only lent: it has given that back when
 * it has to take the lock again.
 */
#include "dump.h"
#include "lib.h"
#include "object.h"
#include "proc.h"
#include "refuse.h"
#include "sys.h"

#define LOCK_SH 1
#define LOCK_EX 2
#define LOCK_NB 4
#define LOCK_UN 8

static const char *word(const char *s)
{
	while (*s && *s != ' ' && *s != '\t')
		s++;
	str_skip_spaces(&s);
	return s;
}

/* At "fe:00:123 0 EOF": the file and the range. */
static void parse_place(const char *s, struct dump_lock *l)
{
	l->major = str_hex(&s);
	s += *s == ':';
	l->minor = str_hex(&s);
	s += *s == ':';
	l->ino = str_dec(&s);
	str_skip_spaces(&s);
	l->start = str_dec(&s);
	str_skip_spaces(&s);
	l->end = str_starts(s, "EOF") ? ~0ull : str_dec(&s);
}

/* "POSIX  ADVISORY  WRITE 4242 fe:00:123 0 EOF". 0: it is none that is carried. */
static int parse(const char *s, struct dump_lock *l)
{
	l->kind = str_starts(s, "FLOCK")    ? LOCK_FLOCK
		  : str_starts(s, "POSIX")  ? LOCK_POSIX
		  : str_starts(s, "OFDLCK") ? LOCK_OFD
					    : 0;
	s = word(word(s));
	l->exclusive = str_starts(s, "WRITE");
	if (!l->kind || (!l->exclusive && !str_starts(s, "READ")))
		return 0;
	parse_place(word(word(s)), l);
	return 1;
}

enum refusal lock_refusal(const char *line)
{
	struct dump_lock l;

	return parse(word(word(line)), &l) ? REFUSE_FD_LOCK_STAYS : REFUSE_FD_LOCK;
}

static int may_leave(const struct dump *d, const struct dump_lock *l)
{
	return !d->opt->leaves || l->kind == LOCK_POSIX || d->opt->flags & DUMP_FLOCKS;
}

long locks_take(struct dump *d, struct dump_fd *f)
{
	char path[40], *line;
	struct text t;
	long r;

	str_format(path, sizeof path, "/proc/%d/fdinfo/%d", d->mem, f->fd);
	r = text_open(d->b, &t, path);
	while (r == 0 && (line = text_line(&t))) {
		struct dump_lock *l;

		if (!str_starts(line, "lock:"))
			continue;
		l = d->nlocks < LOCKS_MAX ? arena_alloc(d->b, sizeof *l) : NULL;
		if (!l)
			r = -ENOMEM;
		else if (!parse(word(word(line)), l) || !may_leave(d, l))
			r = refuse(d->b, REFUSE_FD_LOCK, f->fd, f->path);
		else if (l->kind != LOCK_POSIX && f->others)
			continue; /* another's of its tree, who tells of it */
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

long lock_call(const struct dump_lock *l, enum lock_call how)
{
	const struct {
		short type, whence;
		long start, len;
		int pid;
	} range = {
		.type = how == LOCK_DROP ? F_UNLCK : l->exclusive ? F_WRLCK : F_RDLCK,
		.start = (long)l->start,
		.len = l->end == ~0ull ? 0 : (long)(l->end - l->start + 1),
	};
	int wait = how == LOCK_WAIT;

	if (l->kind != LOCK_FLOCK)
		return sys_fcntl((int)l->fd,
				 l->kind == LOCK_POSIX ? (wait ? F_SETLKW : F_SETLK)
						       : (wait ? F_OFD_SETLKW : F_OFD_SETLK),
				 (long)&range);
	return sys_flock((int)l->fd, how == LOCK_DROP ? LOCK_UN
						      : (l->exclusive ? LOCK_EX : LOCK_SH) |
								(wait ? 0 : LOCK_NB));
}

static const struct dump_lock *on_same_file(const struct dump *d, const struct dump_lock *other)
{
	const struct dump_lock *l = d->locks;

	while (l && (l->ino != other->ino || l->major != other->major || l->minor != other->minor))
		l = l->next;
	return l;
}

/*
 * "1: -> POSIX  ADVISORY  WRITE 4243 fe:00:123 0 EOF": who waits, below the lock that is in the
 * way. Only processes of this machine's pid namespace show.
 */
long locks_are_free(struct dump *d)
{
	uint64_t mark = arena_mark(d->b);
	struct text t;
	char *line;
	long r;

	if (!d->opt->leaves || !d->locks)
		return 0;
	r = text_open(d->b, &t, "/proc/locks");
	while (r == 0 && (line = text_line(&t))) {
		const char *s = word(line);
		const struct dump_lock *its;
		struct dump_lock l;

		if (!str_starts(s, "->"))
			continue;
		parse_place(word(word(word(word(word(s))))), &l);
		its = on_same_file(d, &l);
		if (its)
			r = refuse(d->b, REFUSE_FD_LOCK_WAIT, (int)its->fd);
	}
	text_close(&t);
	arena_release(d->b, mark);
	return r;
}

long locks_give_up(struct dump *d)
{
	long r = locks_are_free(d);

	if (r < 0)
		return r;
	d->b->frozen.locks = (uint64_t)d->locks;
	for (const struct dump_lock *l = d->locks; l; l = l->next)
		lock_call(l, LOCK_DROP);
	return 0;
}

/* Who has one meanwhile is waited for: this process believes that it holds it. */
void locks_take_again(const struct dump_lock *l)
{
	for (; l; l = l->next)
		lock_call(l, LOCK_WAIT);
}
