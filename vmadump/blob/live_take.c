/*
 * The stream of pages that goes ahead of an image, into memory that is put aside (live.h). Runs in
 * the ghost that is to be its original again: between its other work, a little at a time, and to
 * the end of it when the image is there. The stream is written by the process's user: every number
 * is held against a limit or against what was mapped before, nothing is written but into that, and
 * what is wrong ends it.
 */
#include "image.h"
#include "lib.h"
#include "live.h"
#include "sys.h"

/* Before the ghost looks at its other work. */
#define TURN_BYTES (1ul << 20)
#define TURN_READS 1024

/*
 * What was put aside, piece by piece: where the window lies is for the stream to say, and between
 * its pieces may be what is not of it.
 */
void live_unmap(struct blob *b)
{
	const struct live_in *in = (const void *)b->aside_lo;

	if (!b->aside_hi)
		return;
	for (uint32_t i = 0; i < in->n; i++)
		sys_munmap((void *)in->map[i].at, in->map[i].end - in->map[i].start);
	sys_munmap((void *)b->aside_lo, LIVE_TABLE);
	b->aside_lo = b->aside_hi = 0;
}

void live_drop(struct blob *b, struct live_stream *s)
{
	if (s->fd >= 0)
		sys_close(s->fd);
	s->fd = -1;
	s->have = 0;
	s->in = NULL;
	live_unmap(b);
}

void live_start(struct blob *b, struct live_stream *s, int fd)
{
	live_drop(b, s);
	/* Numbers 0 to 2 are its original's, even if they are closed now. */
	if (fd <= 2) {
		s->fd = (int)sys_fcntl(fd, F_DUPFD_CLOEXEC, 3);
		sys_close(fd);
	} else {
		s->fd = fd;
	}
}

static int is_page(uint64_t at)
{
	return at % IMAGE_PAGE == 0;
}

static int put_aside(uint64_t at, uint64_t len, int flags)
{
	return sys_mmap((void *)at, len, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE | flags, -1,
			0) == (long)at;
}

static int hello(struct blob *b, struct live_stream *s, uint64_t id, uint64_t lo)
{
	struct live_in *in = (void *)lo;

	if (s->in || get32(s->head + 4) != LIVE_VERSION || get64(s->head + 8) != LIVE_MAGIC ||
	    lo % LIVE_ALIGN || lo == 0 || lo > IMAGE_ADDR_MAX - LIVE_WINDOW ||
	    !put_aside(lo, LIVE_TABLE, 0))
		return 0;
	in->id = id;
	in->lo = lo;
	in->hi = lo + LIVE_WINDOW;
	b->aside_lo = lo;
	b->aside_hi = lo + LIVE_TABLE;
	s->in = in;
	return 1;
}

/* The entry that this is the rest of, in both places; or a new one, or NULL. */
static struct live_map *place_for(struct live_in *in, uint64_t start, uint64_t at)
{
	for (uint32_t i = 0; i < in->n; i++) {
		struct live_map *m = &in->map[i];

		if (m->end == start && m->at + (m->end - m->start) == at)
			return m;
	}
	return in->n < LIVE_MAPS_MAX ? &in->map[in->n] : NULL;
}

static int add_map(struct blob *b, struct live_in *in, uint64_t start, uint64_t len, uint64_t at,
		   uint32_t flags)
{
	struct live_map *m = place_for(in, start, at);
	uint64_t end = start + len;

	if (!m || !is_page(start | len | at) || !len || len > LIVE_WINDOW ||
	    start > IMAGE_ADDR_MAX - len || at < in->lo + LIVE_TABLE || at > in->hi - len ||
	    (at ^ start) % LIVE_ALIGN)
		return 0;
	for (uint32_t i = 0; i < in->n; i++)
		if (start < in->map[i].end && in->map[i].start < end)
			return 0;
	if (!put_aside(at, len, flags & LIVE_NORESERVE ? MAP_NORESERVE : 0))
		return 0;
	b->aside_hi = MAX(b->aside_hi, at + len);
	if (m == &in->map[in->n])
		in->map[in->n++] = (struct live_map){start, end, at};
	m->end = end;
	return 1;
}

static int begin_pages(struct live_in *in, uint64_t start, uint64_t len)
{
	if (!is_page(start | len) || !len || len > LIVE_PIECE_MAX || start > IMAGE_ADDR_MAX - len)
		return 0;
	for (uint32_t i = 0; i < in->n; i++) {
		const struct live_map *m = &in->map[i];

		if (start < m->start || start + len > m->end)
			continue;
		in->to = m->at + (start - m->start);
		in->left = len;
		sys_madvise((void *)in->to, len, MADV_POPULATE_WRITE);
		return 1;
	}
	return 0;
}

/* A whole frame is there. 0: it is none. */
static int frame(struct blob *b, struct live_stream *s)
{
	const uint8_t *h = s->head;
	uint64_t x = get64(h + 8), y = get64(h + 16), z = get64(h + 24);
	struct live_in *in = s->in;

	if (get32(h) == LIVE_HELLO)
		return hello(b, s, y, z);
	if (!in || in->ended)
		return 0;
	switch (get32(h)) {
	case LIVE_MAP:
		return add_map(b, in, x, y, z, get32(h + 4));
	case LIVE_PAGES:
		return begin_pages(in, x, y);
	case LIVE_END:
		in->ended = x == in->bytes;
		return (int)in->ended;
	default:
		return 0;
	}
}

/* One read. 1: it has read something; 0: the stream has ended, or is none. */
static int take(struct blob *b, struct live_stream *s)
{
	struct live_in *in = s->in;
	int pages = in && in->left;
	long n = pages ? sys_read(s->fd, (void *)in->to, in->left)
		       : sys_read(s->fd, s->head + s->have, LIVE_FRAME - s->have);

	if (n == -EINTR || n == -EAGAIN)
		return 1;
	if (n <= 0)
		return 0;
	if (pages) {
		in->to += (uint64_t)n;
		in->left -= (uint64_t)n;
		in->bytes += (uint64_t)n;
		return 1;
	}
	s->have += (uint32_t)n;
	if (s->have < LIVE_FRAME)
		return 1;
	s->have = 0;
	return frame(b, s);
}

void live_some(struct blob *b, struct live_stream *s)
{
	uint64_t from = s->in ? s->in->bytes : 0;
	int there, reads = 0;

	do {
		there = 0;
		if (!take(b, s)) {
			live_drop(b, s);
			return;
		}
	} while (++reads < TURN_READS && (!s->in || s->in->bytes - from < TURN_BYTES) &&
		 sys_ioctl(s->fd, FIONREAD, &there) >= 0 && there > 0);
}

int live_all(struct blob *b, struct live_stream *s)
{
	struct sys_pollfd p = {.fd = s->fd, .events = POLLIN};

	while (s->fd >= 0 && !(s->in && s->in->ended)) {
		/* A ghost that is traced is stopped at times, which is EINTR. */
		if (sys_ppoll(&p, 1, NULL, NULL) < 0)
			continue;
		if (!take(b, s))
			live_drop(b, s);
	}
	return s->fd >= 0;
}
