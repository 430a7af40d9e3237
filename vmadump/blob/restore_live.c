/*
 * An image whose pages went ahead of it, but for the rest (live.h; doc/image.md, section 11): what
 * was put aside is moved to where it belongs, page tables and all, and what the process has not
 * got any more is dropped. Runs in the blob, in the ghost that took the pages in.
 */
#include "lib.h"
#include "live.h"
#include "restore.h"
#include "sys.h"

static const uint8_t *gap(const struct restore *r, uint32_t i)
{
	return r->gone + 16ul * i;
}

/* Gaps lie in order, and each in one mapping that went ahead. */
static long parse_gaps(struct restore *r)
{
	uint64_t before = 0;
	uint32_t v = 0;

	for (uint32_t i = 0; i < r->ngone; i++) {
		uint64_t start = get64(gap(r, i)), len = get64(gap(r, i) + 8);

		while (v < r->nvmas && r->vmas[v].end <= start)
			v++;
		if (v == r->nvmas || !r->vmas[v].live || !len || (start | len) % IMAGE_PAGE ||
		    start < before || start < r->vmas[v].start || len > r->vmas[v].end - start)
			return rest_bad(r, "a gap in its memory");
		before = start + len;
	}
	return 0;
}

long rest_parse_live(struct restore *r)
{
	const uint8_t *p = r->rec[TAG_LIVE].p;
	uint32_t len = r->rec[TAG_LIVE].len, n;
	int64_t before = -1;

	if (!len)
		return 0;
	n = len < LIVE_REC_HEAD ? 0 : get32(p + 8);
	r->ngone = len < LIVE_REC_HEAD ? 0 : get32(p + 12);
	if (!n || n > r->nvmas || r->ngone > LIVE_GONE_MAX || !get64(p) ||
	    len != LIVE_REC_HEAD + ROUND_UP(4ul * n, 8) + 16ul * r->ngone)
		return rest_bad(r, "the list of what went ahead");
	for (uint32_t i = 0; i < n; i++) {
		uint32_t k = get32(p + LIVE_REC_HEAD + 4ul * i);
		struct rest_vma *v = &r->vmas[k];

		if (k <= before || k >= r->nvmas || v->kind != VMA_ANON ||
		    v->flags & (VMA_GROWSDOWN | VMA_DROPPABLE))
			return rest_bad(r, "a mapping that went ahead");
		v->live = v->fill = 1;
		before = k;
	}
	r->live_id = get64(p);
	r->gone = p + LIVE_REC_HEAD + ROUND_UP(4ul * n, 8);
	return parse_gaps(r);
}

long rest_check_live(struct restore *r)
{
	struct live_stream *s = r->opt->live;
	struct blob *b = r->b;

	if (!r->live_id) {
		if (s)
			live_drop(b, s);
		return 0;
	}
	if (!s || !live_all(b, s) || s->in->id != r->live_id)
		return blob_err_set(&b->err, ESTALE, "what was sent ahead of it is not here");
	sys_close(s->fd);
	s->fd = -1;
	for (uint32_t i = 0; i < r->nvmas; i++)
		if (r->vmas[i].start < b->aside_hi && b->aside_lo < r->vmas[i].end)
			return blob_err_set(&b->err, ESTALE,
					    "it has memory at %lx, where its pages were put aside",
					    r->vmas[i].start);
	return 0;
}

/* One piece, alone if it begins the mapping: then it grows with it, and both are one. */
static long move_piece(struct restore *r, const struct rest_vma *v, const struct live_map *m)
{
	uint64_t start = MAX(v->start, m->start), end = MIN(v->end, m->end), to = end;
	long e;

	if (start == v->start)
		to = v->end;
	e = sys_mremap((void *)(m->at + (start - m->start)), end - start, to - start,
		       MREMAP_MAYMOVE | MREMAP_FIXED, (void *)start);
	return e == (long)start ? 0
				: blob_err_set(&r->b->err, (int)-e, "moving memory to %lx: %s",
					       start, errno_name(e));
}

/*
 * The piece that begins the mapping goes first, and makes all of it; the others go onto that.
 * NULL pieces: map_one() makes it.
 */
int rest_map_live(struct restore *r, const struct rest_vma *v, long *ret)
{
	const struct live_in *in = r->opt->live->in;
	int made = 0;

	*ret = 0;
	for (uint32_t i = 0; i < in->n; i++)
		if (in->map[i].start <= v->start && v->start < in->map[i].end) {
			*ret = move_piece(r, v, &in->map[i]);
			made = 1;
		}
	return made;
}

long rest_map_rest(struct restore *r, const struct rest_vma *v)
{
	const struct live_in *in = r->opt->live->in;
	long e;

	for (uint32_t i = 0; i < in->n; i++)
		if (in->map[i].start > v->start && in->map[i].start < v->end &&
		    (e = move_piece(r, v, &in->map[i])) < 0)
			return e;
	return 0;
}

/* All is in place: what it has not any more goes, and what is left over with the table. */
void rest_live_end(struct restore *r)
{
	struct live_stream *s = r->opt->live;

	for (uint32_t i = 0; i < r->ngone; i++)
		sys_madvise((void *)get64(gap(r, i)), get64(gap(r, i) + 8), MADV_DONTNEED);
	if (s)
		live_drop(r->b, s);
}
