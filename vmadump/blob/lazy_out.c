/*
 * The source of memory that follows a process: answers what its pager asks for, sends the rest in
 * the order of addresses as far as it has credit, and drops what has left once the move is
 * committed. Runs in the blob, parked first, then as a ghost; nobody runs here who could change a
 * page. It never sleeps in a write: a ghost has other work.
 */
#include "ghost.h"
#include "image.h"
#include "lazy_out.h"
#include "lib.h"
#include "pagemap.h"
#include "sys.h"

#define CHUNK (256ull << 10)	/* most of what nobody has asked for; a question waits behind it */
#define DROP_BYTES (2ull << 20) /* at once: a huge page is not taken apart for less */
#define TURN 16			/* pieces before others have theirs */
#define SPLICE_MIN (64ull << 10)
#define PAGEMAP_PAGES 64u

/* -- which pages there are */

/* By PAGEMAP_SCAN: the first run in [at, end), of at most max bytes. */
static uint64_t run_by_scan(const struct lazy_out *l, uint64_t at, uint64_t end, uint64_t max,
			    uint64_t *ret_at)
{
	struct scan_region region = {0};
	struct scan_arg arg = {
		.size = sizeof arg,
		.start = at,
		.end = end,
		.vec = (uint64_t)&region,
		.vec_len = 1,
		.max_pages = max / IMAGE_PAGE,
		.inverted = SCAN_FILE | SCAN_PFNZERO | l->guard,
		.mask = SCAN_FILE | SCAN_PFNZERO | l->guard,
		.anyof = SCAN_PRESENT | SCAN_SWAPPED,
		.report = SCAN_PRESENT | SCAN_SWAPPED,
	};

	if (sys_ioctl(l->pagemap, SCAN_IOCTL, &arg) <= 0)
		return 0;
	*ret_at = region.start;
	return MIN(region.end - region.start, max);
}

static uint64_t run_by_pagemap(const struct lazy_out *l, uint64_t at, uint64_t end, uint64_t max,
			       uint64_t *ret_at)
{
	uint64_t map[PAGEMAP_PAGES], from = 0;

	while (at < end) {
		uint64_t n = MIN((end - at) / IMAGE_PAGE, PAGEMAP_PAGES);
		long got = sys_pread(l->pagemap, map, n * 8, (long)(at / IMAGE_PAGE * 8));

		if (got <= 0)
			return 0;
		for (long i = 0; i < got / 8; i++, at += IMAGE_PAGE) {
			int own = (map[i] & (PM_PRESENT | PM_SWAP)) && !(map[i] & PM_FILE);

			if (own && !from)
				from = at;
			*ret_at = from;
			if (from && (!own || at - from == max))
				return at - from;
		}
	}
	return from ? MIN(end - from, max) : 0;
}

static uint64_t next_run(const struct lazy_out *l, uint64_t at, uint64_t end, uint64_t max,
			 uint64_t *ret_at)
{
	return (l->scans ? run_by_scan : run_by_pagemap)(l, at, end, max, ret_at);
}

/* -- what has left */

static void drop(struct lazy_out *l)
{
	if (l->drop_hi > l->drop_lo)
		sys_madvise((void *)l->drop_lo, l->drop_hi - l->drop_lo, MADV_DONTNEED);
	l->drop_lo = l->drop_hi = 0;
}

static void has_left(struct lazy_out *l, uint64_t at, uint64_t n)
{
	if (!l->committed) { /* it may have to go on here */
		l->early[l->nearly++] = (struct lazy_range){at, at + n};
		return;
	}
	if (at != l->drop_hi) {
		drop(l);
		l->drop_lo = at;
	}
	l->drop_hi = at + n;
	if (l->drop_hi - l->drop_lo >= DROP_BYTES)
		drop(l);
}

/* -- what is to be sent next */

static void put(struct lazy_out *l, uint32_t type, uint32_t flags, uint64_t at, uint64_t n)
{
	l->out = (struct lazy_frame){type, flags, at, n};
	l->head_left = LAZY_FRAME;
	l->body = at;
	l->body_left = type == LAZY_PAGES ? n : 0;
}

static void put_ranges(struct lazy_out *l)
{
	put(l, LAZY_RANGES, 0, 0, l->nranges * sizeof l->range[0]);
	l->body = (uint64_t)l->range;
	l->body_left = l->out.len;
	l->told = 1;
}

/* One question has one answer. What nobody asks for goes on behind it: programs go on so, too. */
static void put_asked(struct lazy_out *l)
{
	struct lazy_frame g = l->get[l->first_get];
	uint64_t from = 0, n, end = 0;
	uint32_t i = 0;

	l->first_get = (l->first_get + 1) % LAZY_GETS_MAX;
	l->nget--;
	while (i < l->nranges && g.at >= l->range[i].end)
		i++;
	if (i < l->nranges && g.at >= l->range[i].start)
		end = MIN(l->range[i].end, g.at + g.len);
	n = end ? next_run(l, g.at, end, g.len, &from) : 0;
	if (!n || from > g.at) {
		put(l, LAZY_NONE, LAZY_ASKED, g.at,
		    n ? from - g.at : MAX(end, g.at + IMAGE_PAGE) - g.at);
		return;
	}
	put(l, LAZY_PAGES, LAZY_ASKED, g.at, n);
	if (g.at + n == l->at)
		return;
	l->in_range = i;
	l->at = g.at + n;
	l->again = 1;
}

/*
 * 0: there is nothing to be sent now. Before the commit nothing is that nobody waits for: the
 * arrival is not running yet, and what is pushed takes the processors that it needs for that.
 */
static int put_next(struct lazy_out *l)
{
	uint64_t most = MIN(CHUNK, MAX(l->credit / IMAGE_PAGE * IMAGE_PAGE, IMAGE_PAGE)), from, n;

	if (l->ended || !l->credit || !l->committed)
		return 0;
	for (;;) {
		const struct lazy_range *r = &l->range[l->in_range];

		n = l->in_range < l->nranges ? next_run(l, l->at, r->end, most, &from) : 0;
		if (n)
			break;
		if (l->in_range + 1 < l->nranges) {
			l->at = l->range[++l->in_range].start;
			continue;
		}
		drop(l);
		l->in_range = 0;
		l->at = l->range[0].start;
		if (!l->again) {
			put(l, LAZY_END, 0, 0, 0);
			l->ended = 1;
			return 1;
		}
		l->again = 0;
	}
	l->at = from + n;
	l->credit -= MIN(l->credit, n);
	put(l, LAZY_PAGES, 0, from, n);
	return 1;
}

static int is_busy(const struct lazy_out *l)
{
	return l->head_left || l->body_left;
}

/* 1: there is something to send. */
static int prepare(struct lazy_out *l)
{
	if (is_busy(l))
		return 1;
	if (!l->told)
		put_ranges(l);
	else if (l->nget && (l->committed || l->nearly < LAZY_EARLY))
		put_asked(l);
	else
		return put_next(l);
	return 1;
}

/* -- the connection */

/* SIGPIPE is for the program's own writes. */
static long write_pipe(struct lazy_out *l, const struct iovec *v, int n, int by_reference)
{
	const uint64_t sigpipe = 1ull << (SIGPIPE - 1);
	const struct timespec now = {0};
	uint64_t mask, pending = 0;
	long r;

	sys_sigprocmask(SIG_BLOCK, &sigpipe, &mask);
	sys_sigpending(&pending);
	if (by_reference)
		r = sys4(__NR_vmsplice, l->data, (long)v, n, 2 /* SPLICE_F_NONBLOCK */);
	else
		r = sys_writev(l->data, v, n);
	if (r == -EPIPE && !(pending & sigpipe))
		sys_sigtimedwait(&sigpipe, NULL, &now);
	sys_sigprocmask(SIG_SETMASK, &mask, NULL);
	return r;
}

static long write_some(struct lazy_out *l)
{
	struct iovec v[2] = {{(char *)&l->out + LAZY_FRAME - l->head_left, l->head_left},
			     {(void *)l->body, l->body_left}};
	struct sys_msghdr m = {.iov = v, .iovlen = 2};
	int by_reference =
		l->pipe && l->out.type == LAZY_PAGES && !l->out.flags && l->body_left >= SPLICE_MIN;

	/* The page that a thread waits for is on its way while the others behind it are sent. */
	if (l->out.flags & LAZY_ASKED && l->head_left)
		v[1].iov_len = MIN(l->body_left, IMAGE_PAGE);
	if (!l->pipe)
		return sys_sendmsg(l->data, &m, SYS_MSG_NOSIGNAL | SYS_MSG_DONTWAIT);
	if (!by_reference)
		return write_pipe(l, v, 2, 0);
	return l->head_left ? write_pipe(l, v, 1, 0) : write_pipe(l, v + 1, 1, 1);
}

static void written(struct lazy_out *l, uint64_t n)
{
	uint64_t head = MIN(n, l->head_left);

	l->head_left -= head;
	l->body += n - head;
	l->body_left -= n - head;
	if (is_busy(l))
		return;
	if (l->out.type == LAZY_PAGES)
		has_left(l, l->out.at, l->out.len);
	l->ended_out |= l->out.type == LAZY_END;
}

/* A question or credit; nothing else comes from there. 0 or -EPROTO. */
static long take(struct lazy_out *l, const struct lazy_frame *f)
{
	if (f->type == LAZY_MORE && !f->flags && f->len <= LAZY_CREDIT_MAX) {
		l->credit = MIN(l->credit + f->len, LAZY_CREDIT_MAX);
		return 0;
	}
	if (f->type != LAZY_GET || f->flags || f->at % IMAGE_PAGE || f->len % IMAGE_PAGE ||
	    !f->len || f->len > LAZY_PAGES_MAX || f->at > IMAGE_ADDR_MAX - f->len ||
	    l->nget == LAZY_GETS_MAX)
		return -EPROTO;
	l->get[(l->first_get + l->nget++) % LAZY_GETS_MAX] = *f;
	return 0;
}

static long read_some(struct lazy_out *l)
{
	for (;;) {
		long r = sys_read(l->back, l->in + l->have, LAZY_FRAME - l->have);

		if (r == -EINTR)
			continue;
		if (r == -EAGAIN)
			return 0;
		if (r <= 0)
			return r ? r : -EPIPE;
		l->have += (uint32_t)r;
		if (l->have < LAZY_FRAME)
			continue;
		l->have = 0;
		r = take(l, (const struct lazy_frame *)l->in);
		if (r < 0)
			return r;
	}
}

/*
 * Questions first, then what there is. -errno: nobody is there any more. After the end it is for
 * the pager to close a TCP connection: closed here with credit unread, it would be reset, and
 * what is on its way be lost.
 */
static long work(struct lazy_out *l)
{
	for (int i = 0; i < TURN; i++) {
		long r = is_busy(l) ? 0 : read_some(l);

		if (r < 0) {
			l->closed = 1;
			return l->ended_out ? 0 : r;
		}
		if (!prepare(l))
			return 0;
		r = write_some(l);
		if (r == -EAGAIN || r == -EINTR)
			return 0;
		if (r < 0)
			return r;
		written(l, (uint64_t)r);
	}
	return 0;
}

void lazy_poll(struct blob *b, struct sys_pollfd *p)
{
	struct lazy_out *l = lazy_of(b);

	for (int i = 0; i < LAZY_POLL; i++)
		p[i] = (struct sys_pollfd){.fd = -1};
	if (!l || l->data < 0 || l->closed)
		return;
	p[0] = (struct sys_pollfd){.fd = l->back, .events = POLLIN};
	if (prepare(l))
		p[1] = (struct sys_pollfd){.fd = l->data, .events = POLLOUT};
}

static int is_over(const struct lazy_out *l)
{
	return l->committed && l->ended_out && (l->closed || l->back != l->data);
}

/* All of it has left, or nobody is there who could take the rest. */
static void tell_followed(struct ghost *g, int err)
{
	struct chan_msg m;

	memset(&m, 0, sizeof m);
	m.type = CHAN_FOLLOWED;
	m.err = err;
	g->serves = 0;
	chan_send(g->b, &m);
}

void lazy_tell(struct ghost *g)
{
	if (g->serves)
		chan_tell(g->b, CHAN_FOLLOWS, CHAN_NO_MOVE);
	if (g->serves && !g->b->lazy)
		tell_followed(g, 0);
}

void lazy_polled(struct ghost *g, const struct sys_pollfd *p)
{
	struct lazy_out *l = lazy_of(g->b);
	long r;

	if (!l || (!p[0].revents && !p[1].revents))
		return;
	r = work(l);
	if (r == 0 && !is_over(l))
		return;
	lazy_end(g->b);
	tell_followed(g, (int)-r);
}

int lazy_finish(struct ghost *g)
{
	struct blob *b = g->b;
	struct sys_pollfd p[1 + LAZY_POLL];

	while (lazy_of(b)) {
		lazy_poll(b, p);
		p[LAZY_POLL] = (struct sys_pollfd){.fd = b->chan, .events = POLLIN};
		if (sys_ppoll(p, 1 + LAZY_POLL, NULL, NULL) < 0)
			continue;
		lazy_polled(g, p);
		if (p[LAZY_POLL].revents)
			return 0;
	}
	return 1;
}

void lazy_close_others(struct blob *b, int fd)
{
	const struct lazy_out *l = lazy_of(b);
	int keep[] = {b->chan, fd, l ? l->data : -1, l ? l->back : -1, l ? l->pagemap : -1};

	close_all_but(keep, COUNT(keep));
}

static void hang_up(struct lazy_out *l)
{
	if (l->back != l->data && l->back >= 0)
		sys_close(l->back);
	if (l->data >= 0)
		sys_close(l->data);
	l->data = l->back = -1;
}

void lazy_serve(struct blob *b, int fd)
{
	struct lazy_out *l = lazy_of(b);
	struct sys_pollfd p[1 + LAZY_POLL];
	long r;

	while (l && l->data >= 0 && !l->closed) {
		lazy_poll(b, p);
		p[LAZY_POLL] = (struct sys_pollfd){.fd = fd, .events = POLLIN};
		if (sys_ppoll(p, 1 + LAZY_POLL, NULL, NULL) < 0)
			continue;
		/* Nothing is decided yet, whatever has become of the connection. */
		r = p[0].revents || p[1].revents ? work(l) : 0;
		if (r < 0)
			hang_up(l);
		if (p[LAZY_POLL].revents)
			return;
	}
}

int lazy_commit(struct blob *b)
{
	struct lazy_out *l = lazy_of(b);

	if (!l)
		return 0;
	l->committed = 1;
	for (uint32_t i = 0; i < l->nearly; i++)
		sys_madvise((void *)l->early[i].start, l->early[i].end - l->early[i].start,
			    MADV_DONTNEED);
	/* What a ghost clones is none of it. */
	for (uint32_t i = 0; i < l->nranges; i++)
		sys_madvise((void *)l->range[i].start, l->range[i].end - l->range[i].start,
			    MADV_DONTFORK);
	sys_madvise(l, l->len, MADV_DONTFORK);
	if (l->data < 0 || is_over(l))
		lazy_end(b);
	return 1;
}

void lazy_end(struct blob *b)
{
	struct lazy_out *l = lazy_of(b);

	if (!l)
		return;
	hang_up(l);
	if (l->pagemap >= 0)
		sys_close(l->pagemap);
	for (uint32_t i = 0; l->committed && i < l->nranges; i++)
		sys_munmap((void *)l->range[i].start, l->range[i].end - l->range[i].start);
	b->lazy = 0;
	sys_munmap(l, l->len);
}
