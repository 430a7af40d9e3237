/*
 * What the source of a process's memory sends, taken apart. Runs in the pager, which has no
 * rights but those on the memory of the process; the bytes are anybody's, and checked so.
 */
#include <errno.h>
#include <string.h>

#include "slaved/pager.h"

static bool is_span(uint64_t at, uint64_t n)
{
	return n && (at | n) % IMAGE_PAGE == 0 && n <= IMAGE_ADDR_MAX && at <= IMAGE_ADDR_MAX - n;
}

static int check(const struct pager_in *in, const struct lazy_frame *f)
{
	bool ok = false;

	if (f->type == LAZY_RANGES)
		ok = !in->begun && !f->flags && !f->at && f->len &&
		     f->len % sizeof(struct lazy_range) == 0 &&
		     f->len <= LAZY_RANGES_MAX * sizeof(struct lazy_range);
	else if (!in->begun)
		ok = false;
	else if (f->type == LAZY_PAGES)
		ok = !(f->flags & ~LAZY_ASKED) && is_span(f->at, f->len) &&
		     f->len <= LAZY_PAGES_MAX;
	else if (f->type == LAZY_NONE)
		ok = f->flags == LAZY_ASKED && is_span(f->at, f->len);
	else if (f->type == LAZY_END)
		ok = !f->flags && !f->at && !f->len;
	return ok ? 0 : -EBADMSG;
}

static int take_ranges(struct pager_in *in, const unsigned char *p, const struct pager_ops *ops,
		       void *arg)
{
	struct lazy_range r[LAZY_RANGES_MAX];
	uint32_t n = (uint32_t)(in->f.len / sizeof(*r));
	uint64_t before = 0;

	memcpy(r, p, in->f.len);
	for (uint32_t i = 0; i < n; i++) {
		if (r[i].start < before || r[i].end <= r[i].start ||
		    !is_span(r[i].start, r[i].end - r[i].start))
			return -EBADMSG;
		before = r[i].end;
	}
	in->begun = true;
	ops->ranges(arg, r, n);
	return 0;
}

/* A head, and of RANGES the list. How many bytes it took, 0: it is not whole. */
static long take_head(struct pager_in *in, const unsigned char *p, size_t n,
		      const struct pager_ops *ops, void *arg)
{
	long took = LAZY_FRAME;
	int e;

	if (n < LAZY_FRAME)
		return 0;
	memcpy(&in->f, p, LAZY_FRAME);
	e = check(in, &in->f);
	if (e < 0)
		return e;
	if (in->f.type == LAZY_RANGES) {
		if (n - LAZY_FRAME < in->f.len)
			return 0;
		took += (long)in->f.len;
		e = take_ranges(in, p + LAZY_FRAME, ops, arg);
	} else if (in->f.type == LAZY_PAGES) {
		in->left = in->f.len;
	} else if (in->f.type == LAZY_NONE) {
		e = ops->none(arg, in->f.at, in->f.len);
		ops->answered(arg, in->f.at);
	} else {
		ops->end(arg);
	}
	return e < 0 ? e : took;
}

static long take_pages(struct pager_in *in, const unsigned char *p, size_t n,
		       const struct pager_ops *ops, void *arg)
{
	uint64_t take = n < in->left ? n : in->left;
	int e;

	take -= take % IMAGE_PAGE;
	if (!take)
		return 0;
	e = ops->pages(arg, in->f.at + in->f.len - in->left, p, take);
	if (e < 0)
		return e;
	in->left -= take;
	if (!(in->f.flags & LAZY_ASKED))
		ops->unasked(arg, take);
	else if (!in->left)
		ops->answered(arg, in->f.at);
	return (long)take;
}

/* How many bytes of p it took. */
static long take_some(struct pager_in *in, const unsigned char *p, size_t n,
		      const struct pager_ops *ops, void *arg)
{
	size_t at = 0;
	long r;

	do {
		r = (in->left ? take_pages : take_head)(in, p + at, n - at, ops, arg);
		if (r < 0)
			return r;
		at += (size_t)r;
	} while (r > 0);
	return (long)at;
}

/* With how many bytes what is left over is a whole: a page, a head, a head with its list. */
static size_t whole(const struct pager_in *in)
{
	if (in->left)
		return IMAGE_PAGE;
	return in->nrest < LAZY_FRAME ? LAZY_FRAME : LAZY_FRAME + in->f.len;
}

int pager_take(struct pager_in *in, const unsigned char *p, size_t n, const struct pager_ops *ops,
	       void *arg)
{
	size_t add;
	long took;

	while (n && in->nrest) {
		add = whole(in) - in->nrest < n ? whole(in) - in->nrest : n;
		memcpy(in->rest + in->nrest, p, add);
		in->nrest += add;
		p += add;
		n -= add;
		took = take_some(in, in->rest, in->nrest, ops, arg);
		if (took < 0)
			return (int)took;
		in->nrest -= (size_t)took; /* of what is whole nothing is left, of another all */
	}
	took = n ? take_some(in, p, n, ops, arg) : 0;
	if (took < 0)
		return (int)took;
	n -= (size_t)took;
	if (n) {
		memcpy(in->rest, p + took, n);
		in->nrest = n;
	}
	return 0;
}
