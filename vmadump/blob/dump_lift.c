/*
 * /proc/self/smaps without its price. Only smaps tells the flags of a mapping, and it goes through
 * all page tables of it: 7 ms a GiB of small pages, for sums that nobody wants. So the pages of a
 * large private anonymous mapping are elsewhere while its entry is written: mremap(2) with
 * MREMAP_DONTUNMAP leaves the mapping, with its flags, and moves whole page tables, of 2 MiB and
 * of 1 GiB; there and back is 0.2 ms, of any size. The entries come in order of addresses, so
 * "elsewhere" is below the one that has been read last. Runs in the blob: nobody else runs in the
 * process. What cannot be lifted is read as it is.
 */
#include <linux/userfaultfd.h>

#include "dump.h"
#include "lib.h"
#include "proc.h"
#include "sys.h"

#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1
#endif
#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4 /* Linux 5.7 */
#endif
#define LIFT_MIN (4ull << 20)	/* a smaller one is read as fast */
#define LIFT_ROOM (8ull << 40)	/* of addresses that nobody has */
#define LIFT_APART (1ull << 30) /* what one page table's table covers */
#define NAP_NS 1000000

static uint64_t place_for(uint64_t from, uint64_t start)
{
	return ROUND_UP(from + LIFT_APART, LIFT_APART) + start % LIFT_APART;
}

static int is_liftable(const struct blob *b, const struct map_line *m)
{
	uint64_t lo = blob_low(b), hi = b->arena.base + b->arena.size;

	return m->end - m->start >= LIFT_MIN && m->prot && !m->shared && !m->ino &&
	       (!m->name[0] || str_starts(m->name, "[heap]") || str_starts(m->name, "[anon:")) &&
	       (m->end <= lo || m->start >= hi) && m->end < IMAGE_ADDR_MAX &&
	       !dump_has_stack(b, m->start, m->end);
}

/* Locked memory stays locked where it goes to, and its entry would not say so. */
static int has_locked(struct blob *b)
{
	struct text t;
	char *line;
	int locked = 1;

	if (text_open(b, &t, "/proc/self/status") == 0)
		while ((line = text_line(&t)))
			if (str_starts(line, "VmLck:")) {
				const char *s = line + 6;

				str_skip_spaces(&s);
				locked = str_dec(&s) != 0;
				break;
			}
	text_close(&t);
	return locked;
}

static void find(struct dump *d, struct lift *l)
{
	uint64_t before = 0, room = 0, room_end = 0;
	struct map_line m;
	struct text t;
	char *line;

	if (text_open(d->b, &t, "/proc/self/maps") < 0)
		return;
	while ((line = text_line(&t)) && l->n < LIFT_MAX) {
		uint64_t to;

		if (!map_line_parse(line, &m))
			continue;
		if (!room_end && m.start - before >= LIFT_ROOM && m.start < IMAGE_ADDR_MAX) {
			room = before;
			room_end = m.start - LIFT_APART;
			l->gate = m.start;
		}
		before = m.end;
		to = place_for(room, m.start);
		if (!room_end || m.start == l->gate || !is_liftable(d->b, &m) ||
		    to + (m.end - m.start) > room_end)
			continue;
		l->m[l->n++] = (struct lifted){m.start, m.end - m.start, to};
		room = to + (m.end - m.start);
	}
	text_close(&t);
}

struct lift *lift_plan(struct dump *d)
{
	struct lift *l;
	uint64_t mark;

	if (!d->opt->lazy || d->mem != d->pid || d->b->seccomp_len)
		return NULL;
	l = arena_alloc(d->b, sizeof *l);
	mark = arena_mark(d->b);
	if (l && !has_locked(d->b))
		find(d, l);
	arena_release(d->b, mark);
	d->b->err.code = 0;
	return l && l->n ? l : NULL;
}

/*
 * One that another's userfaultfd is told of stays: the kernel would wait until its holder has
 * heard of the move, and that may be a thread of this process.
 */
static int is_watched(int uffd, const struct lifted *m)
{
	struct uffdio_register reg = {
		.range = {m->at, m->len},
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};

	return sys_ioctl(uffd, UFFDIO_REGISTER, &reg) < 0 ||
	       sys_ioctl(uffd, UFFDIO_UNREGISTER, &reg.range) < 0;
}

void lift_away(struct lift *l)
{
	struct uffdio_api api = {.api = UFFD_API};
	int uffd = (int)sys1(__NR_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);
	uint32_t away = 0;

	for (uint32_t i = 0; uffd >= 0 && i < l->n; i++) {
		struct lifted *m = &l->m[i];

		if (i == 0 && sys_ioctl(uffd, UFFDIO_API, &api) < 0)
			break;
		if (is_watched(uffd, m))
			continue;
		if (sys_mremap((void *)m->at, m->len, m->len,
			       MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP,
			       (void *)m->to) == (long)m->to)
			l->m[away++] = *m;
	}
	if (uffd >= 0)
		sys_close(uffd);
	l->n = away;
	l->away = 1;
}

void lift_back(struct lift *l)
{
	const struct timespec nap = {.tv_nsec = NAP_NS};

	/* For want of memory for a page table it waits: without its pages it cannot go on. */
	for (uint32_t i = 0; l && l->away && i < l->n; i++)
		while (sys_mremap((void *)l->m[i].to, l->m[i].len, l->m[i].len,
				  MREMAP_MAYMOVE | MREMAP_FIXED,
				  (void *)l->m[i].at) != (long)l->m[i].at)
			sys_nanosleep(&nap);
}
