/*
 * The part of a restore that needs no image, done ahead of it by a skeleton: the next
 * child of a process has its memory where the last one had it, as a rule. Runs in the
 * blob, in a fresh clone that has its user's credentials. The template is an image's
 * head like any other, written by a user, and checked as one.
 */
#include "lib.h"
#include "restore.h"
#include "sys.h"

/* Pages that will be received: made at once and ahead, where a fault each is on the way. */
static void populate(const struct restore *r)
{
	const uint8_t *ph = r->phdrs + 2 * 56;

	for (uint64_t i = 2; i < r->nph; i++, ph += 56)
		if (get64(ph + 32))
			sys_madvise((void *)get64(ph + 16), get64(ph + 32), MADV_POPULATE_WRITE);
}

struct restore *blob_restore_warm(struct blob *b, struct blob_restore *opt)
{
	const struct blob_template *t = blob_template(b);
	struct restore *r;
	uint64_t len = t->len;

	arena_reset(b);
	r = arena_alloc(b, sizeof *r);
	if (!r || len < IMAGE_PREFIX || len > sizeof t->head || blob_env_fill(b) < 0)
		return NULL;
	r->b = b;
	r->opt = opt;
	r->cwd_fd = -1;
	/* A copy: others may write there. */
	r->head = arena_raw(b, len);
	if (!r->head)
		return NULL;
	memcpy(r->head, t->head, len);
	r->head_len = len;
	r->note_at = get64(r->head + 72);
	r->note_end = r->note_at + get64(r->head + 96);
	if (r->note_at < IMAGE_PREFIX || r->note_at > len || r->note_end < r->note_at ||
	    r->note_end > len || rest_parse(r) < 0 || rest_check(r) < 0) {
		rest_close(r);
		return NULL;
	}
	sys_set_robust_list(NULL, 24);
	rest_clear(r);
	if (rest_map(r) < 0)
		sys_exit_group(127);
	populate(r);
	return r;
}

static int same_file(const struct rest_file *f, const struct rest_file *w)
{
	return f->id_kind == w->id_kind && f->flags == w->flags && f->id_len == w->id_len &&
	       memcmp(f->id, w->id, FILE_ID_MAX) == 0 && str_eq(f->path, w->path);
}

static int same_vma(const struct rest_vma *v, const struct rest_vma *w)
{
	return v->start == w->start && v->end == w->end && v->off == w->off && v->prot == w->prot &&
	       v->kind == w->kind && v->flags == w->flags && v->file == w->file &&
	       v->map_end == w->map_end && v->fill == w->fill && str_eq(v->name, w->name);
}

/*
 * What was populated and is not sent reads as what it would have been: zeros, or the file's
 * page. The files are those that the template's image named, whatever their paths lead to now.
 */
int rest_take_warm(struct restore *r, struct restore *w)
{
	int same = r->nvmas == w->nvmas && r->nfiles == w->nfiles &&
		   get32(r->need + NEED_NSPECIAL) == get32(w->need + NEED_NSPECIAL) &&
		   memcmp(r->need + NEED_VDSO_SUM, w->need + NEED_VDSO_SUM,
			  NEED_XCOMP - NEED_VDSO_SUM) == 0;

	for (uint32_t i = 0; same && i < r->nfiles; i++)
		same = same_file(&r->files[i], &w->files[i]);
	for (uint32_t i = 0; same && i < r->nvmas; i++)
		same = same_vma(&r->vmas[i], &w->vmas[i]);
	if (!same) {
		rest_close(w);
		return 0;
	}
	for (uint32_t i = 0; i < r->nfiles; i++)
		r->files[i].fd = w->files[i].fd;
	return 1;
}
