/*
 * Of a process whose pages went ahead while it ran (live.h): what of its memory was written since.
 * The mapping is write-protected by a userfaultfd that somebody else holds, so the kernel tells;
 * where that is not so any more (a mapping that is new, or was moved) all of it goes. Runs in the
 * blob.
 */
#include "dump.h"
#include "dump_scan.h"
#include "lib.h"
#include "pagemap.h"
#include "refuse.h"
#include "sys.h"

#define O_DIRECT_FLAG 040000u

/* What is read from a disk past the page tables is seen by nobody: then all of it goes. */
static int writes_unseen(const struct dump *d)
{
	for (const struct dump_fd *f = d->fds; f; f = f->next)
		if (f->oflags & O_DIRECT_FLAG)
			return 1;
	return 0;
}

long live_open(struct dump *d)
{
	d->live = d->opt->live && !writes_unseen(d) ? d->opt->live : 0;
	if (!d->live)
		return 0;
	/* Not the arena, whose last piece are the runs. */
	d->gone = (void *)sys_mmap(NULL, LIVE_GONE_MAX * sizeof *d->gone, PROT_READ | PROT_WRITE,
				   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	return (long)d->gone < 0 && (long)d->gone > -4096
		       ? blob_err_set(&d->b->err, ENOMEM, "no memory for the list of pages")
		       : 0;
}

/* Pages that are not there: the node may have them from before. */
static long add_gone(struct dump *d, uint64_t start, uint64_t end)
{
	if (start >= end)
		return 0;
	if (d->ngone == LIVE_GONE_MAX)
		return refuse(d->b, REFUSE_LIMIT, (unsigned long)LIVE_GONE_MAX, "gaps of memory");
	d->gone[d->ngone++] = (struct dump_run){start, end - start};
	return 0;
}

/*
 * SCAN_FILE is not asked for: no page here is a file's, and to find that out takes ten times as
 * long as all the rest. has: what a page is, not: what it is not.
 */
static long scan(const struct dump *d, int fd, uint64_t start, uint64_t end, uint64_t has,
		 uint64_t not, struct scan_region *to, uint32_t room, uint64_t *ret_walked)
{
	const uint64_t guard = d->b->env.kernel & KERNEL_GUARD ? SCAN_GUARD : 0;
	struct scan_arg a = {
		.size = sizeof a,
		.start = start,
		.end = end,
		.vec = (uint64_t)to,
		.vec_len = room,
		.max_pages = room == 1,
		.inverted = not,
		.mask = has | not,
		.anyof = SCAN_PRESENT | SCAN_SWAPPED,
		.report = SCAN_WPALLOWED | guard,
	};
	long n = sys_ioctl(fd, SCAN_IOCTL, &a);

	*ret_walked = a.walk_end;
	return n;
}

static long no_scan(struct dump *d, long n)
{
	return blob_err_set(&d->b->err, EIO, "/proc/self/pagemap: %s", errno_name(n));
}

struct walk {
	struct dump *d;
	int fd;
	struct scan_region *g; /* room of them, in two halves */
	uint32_t room;
	long (*add)(void *arg, uint64_t start, uint64_t end);
	void *arg;
};

/* Between what is as it was sent: pages that were written since, and none at all. */
static long between(struct walk *w, uint64_t start, uint64_t end)
{
	struct scan_region *g = w->g + w->room / 2;
	uint64_t at = start, walked;
	long n, r;

	for (uint64_t done = start; done < end; done = walked) {
		n = scan(w->d, w->fd, done, end, 0, SCAN_PFNZERO, g, w->room / 2, &walked);
		if (n < 0 || walked <= done)
			return no_scan(w->d, n);
		for (long i = 0; i < n; i++) {
			if (g[i].categories & SCAN_GUARD)
				return GUARD_FIRST;
			if ((r = add_gone(w->d, at, g[i].start)) < 0 ||
			    (r = w->add(w->arg, g[i].start, g[i].end)) < 0)
				return r;
			at = g[i].end;
		}
	}
	return add_gone(w->d, at, end);
}

/* It is not one that can go so after all: as if none of it was known. */
static long take_back(struct dump *d, struct dump_vma *v, uint64_t gone)
{
	d->ngone = gone;
	d->nruns = v->first_run;
	v->nruns = 0;
	return 0;
}

/* 1: these are its runs, and the gaps. 0: it is a mapping like any other. */
long live_runs(struct dump *d, struct dump_vma *v, int fd, struct scan_region *g, uint32_t room,
	       long (*add)(void *arg, uint64_t start, uint64_t end), void *arg)
{
	struct walk w = {.d = d, .fd = fd, .g = g, .room = room, .add = add, .arg = arg};
	uint64_t at = v->start, walked, gone = d->ngone;
	long n, r;

	if (!d->live || v->kind != VMA_ANON || v->copy ||
	    scan(d, fd, v->start, v->end, SCAN_WPALLOWED, 0, g, 1, &walked) <= 0)
		return 0;
	for (uint64_t done = v->start; done < v->end; done = walked) {
		n = scan(d, fd, done, v->end, 0, SCAN_WRITTEN, g, room / 2, &walked);
		if (n < 0 || walked <= done)
			return no_scan(d, n);
		for (long i = 0; i < n; i++) {
			if (at < g[i].start && (r = between(&w, at, g[i].start)))
				return r < 0 ? r : take_back(d, v, gone);
			at = g[i].end;
		}
	}
	if (at < v->end && (r = between(&w, at, v->end)))
		return r < 0 ? r : take_back(d, v, gone);
	v->live = 1;
	d->nlive++;
	return 1;
}

uint64_t live_rec_max(const struct dump *d)
{
	return d->nlive ? 24 + 4ul * d->nlive + 16ul * d->ngone : 0;
}

uint8_t *live_rec(struct dump *d, uint8_t *rec)
{
	uint8_t *p = rec + IMAGE_REC_HEAD, *start = p;
	uint32_t i = 0;

	if (!d->nlive)
		return rec;
	put64(p, d->live);
	put32(p + 8, d->nlive);
	put32(p + 12, (uint32_t)d->ngone);
	p += LIVE_REC_HEAD;
	for (const struct dump_vma *v = d->vmas; v; v = v->next, i++)
		if (v->live) {
			put32(p, i);
			p += 4;
		}
	if (d->nlive % 2) {
		put32(p, 0);
		p += 4;
	}
	for (uint64_t k = 0; k < d->ngone; k++, p += 16) {
		put64(p, d->gone[k].start);
		put64(p + 8, d->gone[k].len);
	}
	return rec_end(rec, TAG_LIVE, (uint64_t)(p - start));
}

void live_close(struct dump *d)
{
	if (d->gone)
		sys_munmap(d->gone, LIVE_GONE_MAX * sizeof *d->gone);
	d->gone = NULL;
}
