/*
 * The pager: asks the source for the page that a thread waits for, and for the rest in between,
 * as much at once as does not make the next question wait. Runs in a child of bpinit or in what
 * was a bpdata. doc/image.md, section 12.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "libbproc/sysio.h"
#include "slaved/pager.h"

#define ASK_FIRST IMAGE_PAGE	  /* what a thread waits for; the next question is behind it */
#define ASK_MOST (32ull << 10)	  /* where it goes on near the end of an answer, four times that */
#define RUNS 8u			  /* so many threads that do are known */
#define ASKS_MAX 16u		  /* questions on their way */
#define WINDOW_IDLE (1ull << 20)  /* on its way unasked, while nobody waits */
#define WINDOW_BUSY (32ull << 10) /* while threads do: a question waits behind it, */
#define WINDOW_NS 1000000ll	  /* but not behind more than one in this time */
#define BUSY_NS 2000000ll	  /* threads do, so long after a fault */

struct asked {
	uint64_t at, len; /* where the pages were */
};

static struct {
	struct spaces all;
	struct pager_in in;
	int uffd;
	struct asked ask[ASKS_MAX]; /* not answered */
	uint32_t nask;
	struct asked run[RUNS]; /* questions of late, and the one to forget next */
	uint32_t old;
	uint64_t credit; /* given and not used up */
	bool held;	 /* for a moment */
	struct pager_line line;
	int64_t busy_until, credit_at;
	unsigned char out[(ASKS_MAX + 8) * LAZY_FRAME]; /* questions that are still to be written */
	size_t nout;
	bool ended;
	int err;
} pg;

static int64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000000ll + t.tv_nsec;
}

/* -- questions and credit */

/* Who has sent the end listens no more: what is lost is told by what is read, or is not there. */
static void flush_out(void)
{
	long n;

	while (pg.nout) {
		n = pg.line.write(pg.line.arg, pg.out, pg.nout);
		if (n == -EAGAIN)
			return;
		if (n < 0)
			n = (long)pg.nout;
		pg.nout -= (size_t)n;
		memmove(pg.out, pg.out + n, pg.nout);
	}
}

static bool say(uint32_t type, uint64_t at, uint64_t len)
{
	const struct lazy_frame f = {.type = type, .at = at, .len = len};

	if (pg.nout + sizeof(f) > sizeof(pg.out))
		return false;
	memcpy(pg.out + pg.nout, &f, sizeof(f));
	pg.nout += sizeof(f);
	return true;
}

static bool is_asked(uint64_t src)
{
	for (uint32_t i = 0; i < pg.nask; i++)
		if (src >= pg.ask[i].at && src < pg.ask[i].at + pg.ask[i].len)
			return true;
	return false;
}

/* What is not asked for goes on behind an answer as well, so the end of one is not met exactly. */
static uint64_t how_much(uint64_t src)
{
	for (uint32_t i = 0; i < RUNS; i++) {
		struct asked *r = &pg.run[i];

		if (src - (r->at + r->len) > WINDOW_BUSY)
			continue;
		r->len = r->len * 4 < ASK_MOST ? r->len * 4 : ASK_MOST;
		r->at = src;
		return r->len;
	}
	pg.run[pg.old++ % RUNS] = (struct asked){src, pg.line.relayed ? ASK_FIRST : ASK_MOST};
	return pg.line.relayed ? ASK_FIRST : ASK_MOST;
}

static void ask_for(uint64_t src)
{
	struct asked a = {src, 0};

	if (pg.nask == ASKS_MAX || is_asked(src))
		return;
	a.len = how_much(src);
	if (say(LAZY_GET, a.at, a.len))
		pg.ask[pg.nask++] = a;
}

/* For each thread that waits: the page, a question for it, or patience. */
static void look_at_wants(void)
{
	struct spaces *all = &pg.all;
	uint32_t kept = 0;

	for (uint32_t i = 0; i < all->nwant; i++) {
		struct want w = all->want[i];
		uint64_t src = spaces_src(all, &w);

		if (!src)
			continue;
		ask_for(src);
		all->want[kept++] = w;
	}
	all->nwant = kept;
}

static void give_credit(void)
{
	int64_t now = now_ns();
	uint64_t window;

	if (pg.all.faulted || pg.all.nwant)
		pg.busy_until = now + BUSY_NS;
	pg.all.faulted = false;
	window = now < pg.busy_until ? WINDOW_BUSY : WINDOW_IDLE;
	pg.held = false;
	if (!pg.in.begun || pg.ended || pg.credit > window / 2)
		return;
	if (pg.line.relayed && now < pg.busy_until && now < pg.credit_at) {
		pg.held = true;
	} else if (say(LAZY_MORE, 0, window - pg.credit)) {
		pg.credit = window;
		pg.credit_at = now + WINDOW_NS;
	}
}

/* -- what comes */

static void failed(int e)
{
	if (e < 0 && !pg.err)
		pg.err = e;
}

static void on_ranges(void *arg, const struct lazy_range *r, uint32_t n)
{
	(void)arg;
	failed(spaces_begin(&pg.all, pg.uffd, r, n));
}

static int on_pages(void *arg, uint64_t at, const unsigned char *p, uint64_t n)
{
	(void)arg;
	return spaces_fill(&pg.all, at, p, n);
}

static void on_answered(void *arg, uint64_t at)
{
	(void)arg;
	for (uint32_t i = 0; i < pg.nask; i++)
		if (pg.ask[i].at == at) {
			pg.ask[i] = pg.ask[--pg.nask];
			return;
		}
}

static int on_none(void *arg, uint64_t at, uint64_t n)
{
	(void)arg;
	return spaces_none(&pg.all, at, n);
}

static void on_unasked(void *arg, uint64_t n)
{
	(void)arg;
	pg.credit -= pg.credit < n ? pg.credit : n;
}

static void on_end(void *arg)
{
	(void)arg;
	pg.ended = true;
}

static const struct pager_ops ops = {.ranges = on_ranges,
				     .pages = on_pages,
				     .answered = on_answered,
				     .none = on_none,
				     .unasked = on_unasked,
				     .end = on_end};

int pager_feed(const unsigned char *p, size_t n)
{
	int e = pager_take(&pg.in, p, n, &ops, NULL);

	return e < 0 ? e : pg.err;
}

bool pager_all_came(void)
{
	return pg.ended;
}

/* -- the loop */

static struct pollfd *polls;
static uint32_t npolls;

static int wait_for(bool more)
{
	uint32_t n = 1 + pg.all.n;
	int ms = more ? 0 : pg.held ? 1 : -1;

	if (n > npolls) {
		struct pollfd *room = realloc(polls, (n + 16) * sizeof(*polls));

		if (!room)
			return -ENOMEM;
		polls = room;
		npolls = n + 16;
	}
	polls[0] = (struct pollfd){.fd = pg.line.fd,
				   .events = (short)(pg.nout ? POLLIN | POLLOUT : POLLIN)};
	for (uint32_t i = 0; i < pg.all.n; i++)
		polls[1 + i] = (struct pollfd){.fd = pg.all.s[i].uffd, .events = POLLIN};
	return poll(polls, n, ms) < 0 && errno != EINTR ? -errno : 0;
}

void pager_begin(int uffd, const struct pager_line *line)
{
	pg.uffd = uffd;
	pg.line = *line;
}

int pager_serve(void)
{
	int e = 0, more = 1; /* it may have been read ahead */

	while (e == 0 && !pg.ended) {
		uint32_t n = pg.all.n;

		e = wait_for(more);
		/* Faults first: their questions go out before what has come is filled in. */
		for (uint32_t i = 0; e == 0 && i < n; i++)
			if (polls[1 + i].revents & POLLIN)
				e = space_events(&pg.all, i);
		look_at_wants();
		flush_out();
		if (e == 0 && (more || polls[0].revents & ~POLLOUT)) {
			more = pg.line.read(pg.line.arg);
			e = more < 0 ? more : 0;
		}
		if (pg.in.begun && !spaces_any(&pg.all))
			return 0;
		look_at_wants();
		give_credit();
		flush_out();
	}
	return e;
}

/* bpinit has the userfaultfd too, so that our end by force is no release of it; it lets go first.
 */
void pager_finish(int ctl, int e)
{
	pager_word word = -e;

	if (write(ctl, &word, sizeof(word)) == sizeof(word))
		while (read(ctl, &word, sizeof(word)) < 0 && errno == EINTR)
			;
	/* The process has been killed by now: this is for those that it has forked. */
	if (e < 0 && pg.in.begun)
		spaces_poison(&pg.all);
	spaces_end(&pg.all);
}
