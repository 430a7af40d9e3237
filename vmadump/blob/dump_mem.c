/*
 * Which pages of this process go into the image. Runs in the blob.
 *
 * Of an anonymous mapping those that are its own and not all zero; of a private
 * file mapping those that were written to; of a mapping that is copied all, up to
 * the end of its file; of shared anonymous memory what the object holds.
 */
#include "dump.h"
#include "dump_scan.h"
#include "lib.h"
#include "pagemap.h"
#include "refuse.h"
#include "sys.h"

#define VMA_RUNS_SOFT 131072u /* runs of one mapping; beyond it gaps are sent as well */
#define SCAN_REGIONS 168u     /* a page of them */
#define PAGEMAP_BATCH 4096u
#define AHEAD_PAGES 16u /* whose first word is fetched ahead of the look at it */

struct pages {
	struct dump *d;
	struct dump_vma *v;
	int fd;			    /* /proc/self/pagemap */
	int all_shared;		    /* mincore() does not tell all: there is swap */
	struct scan_region *region; /* SCAN_REGIONS */
	uint32_t next, have;
	uint64_t scanned, end; /* address reached; where the last mapping ends */
	uint64_t *map;	       /* PAGEMAP_BATCH entries, or mincore bytes; NULL: not needed */
	uint64_t room;	       /* runs that fit into d->runs */
};

static int is_zero(uint64_t page)
{
	const uint64_t *p = (void *)page, *end = p + IMAGE_PAGE / 8;

	for (; p < end; p++)
		if (*p)
			return 0;
	return 1;
}

/* Joins runs of the present mapping over gaps until they are at most half as many. */
static void join_runs(struct dump *d, struct dump_vma *v)
{
	uint64_t want = v->nruns / 2;

	for (uint64_t gap = IMAGE_PAGE; v->nruns > want; gap *= 2) {
		struct dump_run *to = d->runs + v->first_run, *from = to + 1;
		struct dump_run *end = to + v->nruns;

		for (; from < end; from++) {
			if (from->start - (to->start + to->len) <= gap)
				to->len = from->start + from->len - to->start;
			else
				*++to = *from;
		}
		v->nruns = (uint64_t)(to + 1 - (d->runs + v->first_run));
	}
	d->nruns = v->first_run + v->nruns;
}

static long add_run(struct pages *p, uint64_t start, uint64_t end)
{
	struct dump *d = p->d;
	struct dump_vma *v = p->v;

	if (v->nruns) {
		struct dump_run *last = &d->runs[d->nruns - 1];

		if (last->start + last->len == start) {
			last->len += end - start;
			return 0;
		}
		/* Only memory whose gaps can be read without a fault that kills. */
		if (v->nruns == VMA_RUNS_SOFT && v->kind == VMA_ANON && !v->copy && !d->live &&
		    !d->guards)
			join_runs(d, v);
	}
	if (d->nruns == IMAGE_RUNS_MAX)
		return refuse(d->b, REFUSE_LIMIT, (unsigned long)IMAGE_RUNS_MAX, "runs of pages");
	if (d->nruns == p->room) {
		p->room *= 2;
		if (arena_grow(d->b, d->runs, p->room * sizeof(struct dump_run)) < 0)
			return -ENOMEM;
	}
	d->runs[d->nruns++] = (struct dump_run){start, end - start};
	v->nruns++;
	return 0;
}

/* Pages that are there; leaves out those that are all zero where that means the same. */
static long add_nonzero(struct pages *p, uint64_t start, uint64_t end)
{
	uint64_t from = start;
	long r;

	if (!(p->v->prot & PROT_READ) || p->v->kind == VMA_FILE)
		return add_run(p, start, end);
	for (uint64_t at = start; at < end; at += IMAGE_PAGE) {
		/*
		 * Of most pages one word is looked at, and it costs what memory and page tables
		 * cost: 0.12 s a GiB, in which nothing else of the move can go on. A prefetch
		 * of what is not there is nothing.
		 */
		__builtin_prefetch((void *)(at + AHEAD_PAGES * IMAGE_PAGE));
		if (!is_zero(at))
			continue;
		if (from < at && (r = add_run(p, from, at)) < 0)
			return r;
		from = at + IMAGE_PAGE;
	}
	return from < end ? add_run(p, from, end) : 0;
}

/* The next region with private pages that ends above lo, or NULL. */
static struct scan_region *scan_next(struct pages *p, uint64_t lo)
{
	const uint64_t guard = p->d->b->env.kernel & KERNEL_GUARD ? SCAN_GUARD : 0;

	for (;;) {
		struct scan_arg arg = {
			.size = sizeof arg,
			.start = MAX(p->scanned, lo),
			/* What went ahead is looked at by itself, quicker; what follows is not. */
			.end = p->d->live || p->d->nlazy ? p->v->end : p->end,
			.vec = (uint64_t)p->region,
			.vec_len = SCAN_REGIONS,
			.inverted = SCAN_FILE | SCAN_PFNZERO,
			.mask = SCAN_FILE | SCAN_PFNZERO,
			.anyof = SCAN_PRESENT | SCAN_SWAPPED,
			.report = SCAN_PRESENT | SCAN_SWAPPED | guard,
		};
		long n;

		while (p->next < p->have && p->region[p->next].end <= lo)
			p->next++;
		if (p->next < p->have)
			return &p->region[p->next];
		if (arg.start >= arg.end)
			return NULL;
		n = sys_ioctl(p->fd, SCAN_IOCTL, &arg);
		if (n < 0)
			return NULL;
		p->next = 0;
		p->have = (uint32_t)n;
		p->scanned = arg.walk_end;
	}
}

static long private_by_scan(struct pages *p)
{
	struct dump_vma *v = p->v;
	uint64_t at = v->start;
	struct scan_region *g;
	long r;

	while (at < v->end && (g = scan_next(p, at)) && g->start < v->end) {
		uint64_t from = MAX(g->start, at), to = MIN(g->end, v->end);

		r = g->categories & SCAN_GUARD ? guard_add(p->d, from, to)
					       : add_nonzero(p, from, to);
		if (r)
			return r;
		at = to;
	}
	return 0;
}

static long private_by_pagemap(struct pages *p)
{
	struct dump_vma *v = p->v;
	uint64_t from = 0, at = v->start;
	long r;

	while (at < v->end) {
		uint64_t n = MIN((v->end - at) / IMAGE_PAGE, PAGEMAP_BATCH);
		long got = sys_pread(p->fd, p->map, n * 8, (long)(at / IMAGE_PAGE * 8));

		if (got <= 0 || got % 8)
			return blob_err_set(&p->d->b->err, EIO, "/proc/self/pagemap: %s",
					    errno_name(got));
		for (long i = 0; i < got / 8; i++, at += IMAGE_PAGE) {
			uint64_t e = p->map[i];
			int own = (e & (PM_PRESENT | PM_SWAP)) && !(e & PM_FILE);

			if (own && !from)
				from = at;
			if (!own && from) {
				if ((r = add_nonzero(p, from, at)) < 0)
					return r;
				from = 0;
			}
		}
	}
	return from ? add_nonzero(p, from, v->end) : 0;
}

/*
 * What of a copied mapping lies before the end of its file: populating stops with
 * EFAULT at the first page for which a read would be a SIGBUS.
 */
static long copied(struct pages *p)
{
	struct dump_vma *v = p->v;
	uint64_t good = 0, bad = (v->end - v->start) / IMAGE_PAGE;

	if (!(v->prot & PROT_READ)) {
		/* Read by way of /proc/self/mem, where a page that is missing reads as an error. */
		return add_run(p, v->start, v->end);
	}
	if (sys_madvise((void *)v->start, v->end - v->start, MADV_POPULATE_READ) == 0)
		return add_run(p, v->start, v->end);
	while (good < bad) {
		uint64_t mid = good + (bad - good) / 2;

		if (sys_madvise((void *)(v->start + mid * IMAGE_PAGE), IMAGE_PAGE,
				MADV_POPULATE_READ) == 0)
			good = mid + 1;
		else
			bad = mid;
	}
	return good ? add_run(p, v->start, v->start + good * IMAGE_PAGE) : 0;
}

/*
 * Shared anonymous memory: this process's page tables do not tell what others
 * have written. mincore() does, but for what is swapped out.
 */
static long shared(struct pages *p)
{
	struct dump_vma *v = p->v;
	uint8_t *in = (uint8_t *)p->map;
	uint64_t at = v->start;
	long r;

	if (!(v->prot & PROT_READ))
		return add_run(p, v->start, v->end);
	while (at < v->end) {
		uint64_t n = MIN((v->end - at) / IMAGE_PAGE, PAGEMAP_BATCH * 8);
		int known = !p->all_shared && sys_mincore((void *)at, n * IMAGE_PAGE, in) == 0;

		for (uint64_t i = 0; i < n; i++, at += IMAGE_PAGE)
			if ((!known || (in[i] & 1)) && !is_zero(at) &&
			    (r = add_run(p, at, at + IMAGE_PAGE)) < 0)
				return r;
	}
	return 0;
}

static int swap_in_use(void)
{
	struct {
		long uptime;
		unsigned long loads[3], total, free, shared, buffer, totalswap, freeswap;
		uint64_t rest[8];
	} s = {0};

	return sys1(__NR_sysinfo, &s) < 0 || s.totalswap != s.freeswap;
}

long pagemap_open(void)
{
	long fd = sys_open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC, 0);

	/*
	 * The files of a process that is not dumpable (it changed its uid) are root's;
	 * it may make itself dumpable for the length of the open.
	 */
	if (fd == -EACCES) {
		long was = sys_prctl(PR_GET_DUMPABLE, 0, 0, 0, 0);

		sys_prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
		fd = sys_open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC, 0);
		sys_prctl(PR_SET_DUMPABLE, (unsigned long)(was == 1), 0, 0, 0);
	}
	return fd;
}

static long open_pagemap(struct pages *p)
{
	long fd = pagemap_open();

	if (fd < 0)
		return blob_err_set(&p->d->b->err, EIO, "/proc/self/pagemap: %s", errno_name(fd));
	p->fd = (int)fd;
	return 0;
}

static uint32_t probe_scan(int fd)
{
	struct scan_region none;
	struct scan_arg arg = {
		.size = sizeof arg,
		.start = IMAGE_PAGE,
		.end = IMAGE_PAGE,
		.anyof = SCAN_PRESENT,
		.report = SCAN_PRESENT | SCAN_GUARD,
		.vec = (uint64_t)&none,
		.vec_len = 1,
	};

	if (sys_ioctl(fd, SCAN_IOCTL, &arg) >= 0)
		return KERNEL_SCAN | KERNEL_GUARD;
	arg.report = SCAN_PRESENT;
	return sys_ioctl(fd, SCAN_IOCTL, &arg) < 0 ? KERNEL_NO_SCAN : KERNEL_SCAN;
}

void pagemap_env(struct blob_env *e)
{
	long fd = pagemap_open();

	if (fd < 0)
		return;
	e->kernel = probe_scan((int)fd);
	sys_close((int)fd);
}

static long add_written(void *p, uint64_t start, uint64_t end)
{
	return add_run(p, start, end);
}

static long runs_of(struct pages *p)
{
	struct dump_vma *v = p->v;
	long r;

	v->first_run = p->d->nruns;
	r = live_runs(p->d, v, p->fd, p->region, SCAN_REGIONS, add_written, p);
	if (r)
		return r < 0 ? r : 0;
	/* Of what is private they show as pages do. */
	if ((v->shared || v->copy) && p->d->b->env.kernel & KERNEL_GUARD &&
	    guard_within(p->fd, v->start, v->end))
		return refuse(p->d->b, REFUSE_GUARD, v->start);
	if (v->kind == VMA_FILE_SHARED || v->no_pages || v->flags & VMA_LAZY)
		return 0;
	if (v->kind == VMA_ANON_SHARED)
		return shared(p);
	if (v->copy)
		return copied(p);
	return p->d->b->env.kernel & KERNEL_SCAN ? private_by_scan(p) : private_by_pagemap(p);
}

/* Only where it is needed: what comes behind it would lie where no pages are yet (populate()). */
static long room_for_map(struct pages *p)
{
	int shares = 0;

	for (const struct dump_vma *v = p->d->vmas; v; v = v->next)
		shares |= v->kind == VMA_ANON_SHARED;
	p->all_shared = shares && swap_in_use();
	if (!shares && p->d->b->env.kernel & KERNEL_SCAN)
		return 0;
	p->map = arena_raw(p->d->b, PAGEMAP_BATCH * 8);
	return p->map ? 0 : -ENOMEM;
}

static long all_runs(struct pages *p)
{
	struct dump *d = p->d;
	long r = 0;

	/* The last: it grows. */
	p->room = 256;
	d->runs = arena_raw(d->b, p->room * sizeof *d->runs);
	if (!d->runs)
		return -ENOMEM;
	for (p->v = d->vmas; r == 0 && p->v; p->v = p->v->next)
		r = runs_of(p);
	return r;
}

/* Once more, with room for guard pages: nearly nobody has any. */
static long again_with_guards(struct pages *p)
{
	struct dump *d = p->d;

	d->guards = arena_raw(d->b, GUARDS_MAX * sizeof *d->guards);
	if (!d->guards)
		return -ENOMEM;
	p->next = p->have = 0;
	p->scanned = 0;
	d->nruns = d->ngone = d->nlive = 0;
	for (struct dump_vma *v = d->vmas; v; v = v->next)
		v->nruns = v->live = 0;
	return all_runs(p);
}

long dump_runs(struct dump *d)
{
	struct blob *b = d->b;
	struct pages p = {.d = d, .fd = -1};
	long r;

	if (!d->last_vma)
		return blob_err_set(&b->err, EIO, "/proc/self/smaps: nothing in it");
	p.region = arena_raw(b, SCAN_REGIONS * sizeof *p.region);
	if (!p.region)
		return -ENOMEM;
	p.end = d->last_vma->end;
	r = open_pagemap(&p);
	if (r == 0 && !b->env.kernel)
		b->env.kernel = probe_scan(p.fd);
	if (r == 0)
		r = room_for_map(&p);
	if (r == 0)
		r = live_open(d);
	if (r == 0)
		r = all_runs(&p);
	if (r == GUARD_FIRST)
		r = again_with_guards(&p);
	if (p.fd >= 0)
		sys_close(p.fd);
	for (uint64_t i = 0; i < d->nruns; i++)
		d->page_bytes += d->runs[i].len;
	return r;
}
