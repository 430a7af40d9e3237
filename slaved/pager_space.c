/*
 * Memory that is still missing: in the address space of the process that arrived and in those
 * that it forked since, each with a userfaultfd of its own. A piece is what has neither come nor
 * been dropped, unmapped or moved by the program. Runs in the pager.
 *
 * The kernel holds back whoever unmaps, moves, drops or forks until the event is read here, and
 * refuses to fill (EAGAIN) from the change on until then: so no page is filled by what was true
 * before. What is missing here and in no piece is zeros.
 */
#include <errno.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "slaved/pager.h"

#define EVENT_BATCH 16
#define EVENT_MS 20		 /* for an event that has to come */
#define ZERO_BYTES (64ull << 10) /* who touches one page of nothing touches the next */
#ifndef UFFDIO_POISON		 /* Linux 6.6 */
struct uffdio_poison {
	struct uffdio_range range;
	__u64 mode;
	__s64 updated;
};
#define UFFDIO_POISON _IOWR(UFFDIO, 0x08, struct uffdio_poison)
#endif

/* -- pieces */

static int room_for(void *array, uint32_t n, uint32_t *room, size_t size)
{
	uint32_t more = *room ? *room * 2 : 64;
	void *p;

	if (n < *room)
		return 0;
	p = realloc(*(void **)array, more * size);
	if (!p)
		return -ENOMEM;
	*(void **)array = p;
	*room = more;
	return 0;
}

/* The first piece that ends behind at. */
static uint32_t piece_at(const struct space *s, uint64_t at)
{
	uint32_t lo = 0, hi = s->n;

	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;

		if (s->p[mid].end <= at)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static int insert(struct space *s, uint32_t i, struct piece p)
{
	int e = room_for(&s->p, s->n, &s->room, sizeof(*s->p));

	if (e < 0)
		return e;
	memmove(s->p + i + 1, s->p + i, (s->n - i) * sizeof(*s->p));
	s->p[i] = p;
	s->n++;
	return 0;
}

static void take_out(struct space *s, uint32_t i)
{
	memmove(s->p + i, s->p + i + 1, (s->n - i - 1) * sizeof(*s->p));
	s->n--;
}

/* Nothing of [start, end) is missing any more. */
static int cut(struct space *s, uint64_t start, uint64_t end)
{
	uint32_t i = piece_at(s, start);

	while (i < s->n && s->p[i].start < end) {
		struct piece *p = &s->p[i];

		if (p->start < start && p->end > end) {
			struct piece rest = {end, p->end, p->src + (end - p->start)};

			p->end = start;
			return insert(s, i + 1, rest);
		}
		if (p->start < start) {
			p->end = start;
			i++;
		} else if (p->end > end) {
			p->src += end - p->start;
			p->start = end;
			return 0;
		} else {
			take_out(s, i);
		}
	}
	return 0;
}

/* mremap(2): what was missing at from is missing at to. */
static int shift(struct space *s, uint64_t from, uint64_t to, uint64_t len)
{
	struct space moved = {0};
	int e = cut(s, to, to + len);

	for (uint32_t i = piece_at(s, from); e == 0 && i < s->n && s->p[i].start < from + len;
	     i++) {
		struct piece p = s->p[i];

		if (p.start < from) {
			p.src += from - p.start;
			p.start = from;
		}
		p.end = p.end > from + len ? from + len : p.end;
		p.start = p.start - from + to;
		p.end = p.end - from + to;
		e = insert(&moved, moved.n, p);
	}
	if (e == 0)
		e = cut(s, from, from + len);
	for (uint32_t i = 0; e == 0 && i < moved.n; i++)
		e = insert(s, piece_at(s, moved.p[i].start), moved.p[i]);
	free(moved.p);
	return e;
}

/* -- address spaces */

static void gone(struct space *s)
{
	if (s->uffd >= 0)
		close(s->uffd);
	free(s->p);
	*s = (struct space){.uffd = -1};
}

static int add_space(struct spaces *all, int uffd, uint32_t *ret)
{
	uint32_t i = 0;
	int e;

	while (i < all->n && all->s[i].uffd >= 0)
		i++;
	e = room_for(&all->s, i, &all->room, sizeof(*all->s));
	if (e < 0)
		return e;
	all->s[i] = (struct space){.uffd = uffd};
	all->n = i == all->n ? i + 1 : all->n;
	*ret = i;
	return 0;
}

int spaces_begin(struct spaces *all, int uffd, const struct lazy_range *r, uint32_t n)
{
	uint32_t at;
	int e = add_space(all, uffd, &at);

	for (uint32_t i = 0; e == 0 && i < n; i++)
		e = insert(&all->s[at], i, (struct piece){r[i].start, r[i].end, r[i].start});
	return e;
}

/* A child has what its parent had by then, and misses what that missed. */
static int forked(struct spaces *all, uint32_t parent, int uffd)
{
	uint32_t child;
	int e = add_space(all, uffd, &child);

	for (uint32_t i = 0; e == 0 && i < all->s[parent].n; i++)
		e = insert(&all->s[child], i, all->s[parent].p[i]);
	return e;
}

/* -- the kernel */

static void wake(struct space *s, uint64_t start, uint64_t end)
{
	struct uffdio_range r = {start, end - start};

	if (ioctl(s->uffd, UFFDIO_WAKE, &r) < 0 && errno == ESRCH)
		gone(s);
}

/* Bytes that are filled now, or -errno. */
static int64_t zero_some(struct space *s, uint64_t at, uint64_t n)
{
	struct uffdio_zeropage z = {.range = {at, n}};

	if (ioctl(s->uffd, UFFDIO_ZEROPAGE, &z) == 0 || z.zeropage > 0)
		return z.zeropage;
	return z.zeropage < 0 ? z.zeropage : -errno;
}

/* Whatever keeps it from being zeros, whoever waits there looks again. */
static void zero(struct space *s, uint64_t at)
{
	uint32_t i = piece_at(s, at);
	uint64_t n = ZERO_BYTES;
	int64_t r;

	if (i < s->n && s->p[i].start < at + n)
		n = s->p[i].start - at;
	r = zero_some(s, at, n);
	if (r < 0 && n > IMAGE_PAGE)
		r = zero_some(s, at, IMAGE_PAGE);
	if (r < 0)
		wake(s, at, at + IMAGE_PAGE);
}

static int64_t copy_some(struct space *s, uint64_t at, const unsigned char *p, uint64_t n)
{
	struct uffdio_copy c = {.dst = at, .src = (uintptr_t)p, .len = n};

	if (ioctl(s->uffd, UFFDIO_COPY, &c) == 0 || c.copy > 0)
		return c.copy;
	return c.copy < 0 ? c.copy : -errno;
}

/* -- faults and events */

static int add_want(struct spaces *all, uint32_t space, uint64_t at)
{
	int e;

	for (uint32_t i = 0; i < all->nwant; i++)
		if (all->want[i].space == space && all->want[i].at == at)
			return 0;
	e = room_for(&all->want, all->nwant, &all->want_room, sizeof(*all->want));
	if (e == 0)
		all->want[all->nwant++] = (struct want){space, at};
	return e;
}

static int one_event(struct spaces *all, uint32_t i, const struct uffd_msg *m)
{
	struct space *s = &all->s[i];
	uint64_t at;
	int e = 0;

	switch (m->event) {
	case UFFD_EVENT_PAGEFAULT:
		all->faulted = true;
		at = m->arg.pagefault.address & ~(uint64_t)(IMAGE_PAGE - 1);
		return add_want(all, i, at);
	case UFFD_EVENT_FORK:
		return forked(all, i, (int)m->arg.fork.ufd);
	case UFFD_EVENT_REMAP:
		e = shift(s, m->arg.remap.from, m->arg.remap.to, m->arg.remap.len);
		wake(s, m->arg.remap.from, m->arg.remap.from + m->arg.remap.len);
		return e;
	case UFFD_EVENT_REMOVE:
	case UFFD_EVENT_UNMAP:
		e = cut(s, m->arg.remove.start, m->arg.remove.end);
		wake(s, m->arg.remove.start, m->arg.remove.end);
		return e;
	default:
		return 0;
	}
}

int space_events(struct spaces *all, uint32_t i)
{
	struct uffd_msg m[EVENT_BATCH];
	ssize_t n;
	int e = 0;

	while (e == 0 && all->s[i].uffd >= 0) {
		n = read(all->s[i].uffd, m, sizeof(m));
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return 0;
		if (n <= 0)
			return n ? -errno : -EIO;
		for (ssize_t k = 0; e == 0 && k < n / (ssize_t)sizeof(*m); k++)
			e = one_event(all, i, &m[k]);
	}
	return e;
}

/* The address space changes: how, its event says, and nothing can be filled before it is read. */
static int settle(struct spaces *all, uint32_t i)
{
	struct pollfd p = {.fd = all->s[i].uffd, .events = POLLIN};

	if (poll(&p, 1, EVENT_MS) < 0 && errno != EINTR)
		return -errno;
	return space_events(all, i);
}

/* The piece whose source begins first at or behind src, and before end. */
static const struct piece *piece_of(const struct space *s, uint64_t src, uint64_t end)
{
	const struct piece *best = NULL;

	for (uint32_t i = 0; i < s->n; i++) {
		const struct piece *p = &s->p[i];

		if (p->src < end && p->src + (p->end - p->start) > src &&
		    (!best || p->src < best->src))
			best = p;
	}
	return best;
}

/*
 * One span, as far as it is missing in one space; it shrinks where the program has made several
 * mappings of one. ENOENT is believed the second time: the kernel (since 6.9) looks for the mapping
 * before it looks, once more, for a change that is under way, so what is being moved may be in
 * neither place. The second time that change is EAGAIN, or its event has been read.
 */
static int fill_one(struct spaces *all, uint32_t i, uint64_t src, const unsigned char *p,
		    uint64_t n)
{
	uint64_t end = src + n, from = src, most = n, absent = 0;
	const struct piece *q;
	int e = 0;

	while (e == 0 && all->s[i].uffd >= 0 && (q = piece_of(&all->s[i], from, end))) {
		uint64_t at = q->src > from ? q->src : from, dst = q->start + (at - q->src);
		uint64_t len = q->src + (q->end - q->start) < end ? q->end - dst : end - at;
		int64_t r;

		len = len < most ? len : most;
		r = copy_some(&all->s[i], dst, p + (at - src), len);
		if (r == -ESRCH) {
			gone(&all->s[i]);
		} else if (r == -EAGAIN) {
			e = settle(all, i);
		} else if (r == -ENOENT && len > IMAGE_PAGE) {
			most = len / 2 / IMAGE_PAGE * IMAGE_PAGE;
		} else if (r == -ENOENT && dst != absent) {
			absent = dst;
			e = space_events(all, i);
		} else if (r == -EEXIST || r == -ENOENT) {
			e = cut(&all->s[i], dst, dst + IMAGE_PAGE);
			wake(&all->s[i], dst, dst + IMAGE_PAGE);
		} else if (r > 0) {
			e = cut(&all->s[i], dst, dst + (uint64_t)r);
			most = n;
		} else {
			return r ? (int)r : -EIO;
		}
	}
	return e;
}

int spaces_fill(struct spaces *all, uint64_t src, const unsigned char *p, uint64_t n)
{
	int e = 0;

	/* One that is forked meanwhile is at the end, or in a place that is come to again. */
	for (uint32_t i = 0; e == 0 && i < all->n; i++)
		e = fill_one(all, i, src, p, n);
	for (uint32_t i = 0; e == 0 && i < all->n; i++)
		e = fill_one(all, i, src, p, n);
	return e;
}

int spaces_none(struct spaces *all, uint64_t src, uint64_t n)
{
	const struct piece *q;
	int e = 0;

	for (uint32_t i = 0; e == 0 && i < all->n; i++) {
		struct space *s = &all->s[i];

		while (e == 0 && s->uffd >= 0 && (q = piece_of(s, src, src + n))) {
			uint64_t at = q->src > src ? q->src : src, dst = q->start + (at - q->src);
			uint64_t stop = q->start + (src + n - q->src);

			e = cut(s, dst, stop < q->end ? stop : q->end);
		}
	}
	return e;
}

uint64_t spaces_src(struct spaces *all, const struct want *w)
{
	struct space *s = &all->s[w->space];
	uint32_t i;

	if (s->uffd < 0)
		return 0;
	i = piece_at(s, w->at);
	if (i < s->n && s->p[i].start <= w->at)
		return s->p[i].src + (w->at - s->p[i].start);
	zero(s, w->at);
	return 0;
}

/* -- the end */

static void poison_piece(struct spaces *all, uint32_t i, uint64_t start, uint64_t end)
{
	while (start < end && all->s[i].uffd >= 0) {
		struct uffdio_poison u = {.range = {start, end - start}};

		if (ioctl(all->s[i].uffd, UFFDIO_POISON, &u) == 0)
			return;
		if (u.updated > 0)
			start += (uint64_t)u.updated;
		else if (errno == EAGAIN && settle(all, i) == 0)
			continue;
		else if (errno == ESRCH)
			gone(&all->s[i]);
		else
			start += IMAGE_PAGE;
	}
}

void spaces_poison(struct spaces *all)
{
	for (uint32_t i = 0; i < all->n; i++)
		while (all->s[i].uffd >= 0 && all->s[i].n) {
			struct piece p = all->s[i].p[0];

			poison_piece(all, i, p.start, p.end);
			if (all->s[i].uffd >= 0)
				cut(&all->s[i], p.start, p.end);
		}
}

bool spaces_any(const struct spaces *all)
{
	for (uint32_t i = 0; i < all->n; i++)
		if (all->s[i].uffd >= 0)
			return true;
	return false;
}

void spaces_end(struct spaces *all)
{
	for (uint32_t i = 0; i < all->n; i++)
		gone(&all->s[i]);
	free(all->s);
	free(all->want);
	*all = (struct spaces){0};
}
