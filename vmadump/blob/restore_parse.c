/*
 * The head of an image, taken apart into records of our own. Every number that
 * comes from the image is held against a named limit before it is used. Runs in
 * the blob; touches nothing but the arena.
 */
#include "lib.h"
#include "object.h"
#include "restore.h"
#include "sys.h"
#include "tree.h"

struct note {
	const uint8_t *desc;
	uint32_t type, len;
	const char *name;
};

/* The note at *at, which moves behind it; 0 at the end or when it does not fit. */
static int next_note(const struct restore *r, uint64_t *at, struct note *n)
{
	const uint8_t *p = r->head + *at;
	uint64_t left = r->note_end - *at, name, desc;

	if (left < 12)
		return 0;
	name = ROUND_UP((uint64_t)get32(p), 4);
	desc = ROUND_UP((uint64_t)get32(p + 4), 4);
	if (name == 0 || name > left - 12 || desc > left - 12 - name || p[12 + get32(p) - 1])
		return 0;
	n->name = (const char *)p + 12;
	n->type = get32(p + 8);
	n->desc = p + 12 + name;
	n->len = get32(p + 4);
	*at += 12 + name + desc;
	return 1;
}

static long find_notes(struct restore *r)
{
	uint64_t at = r->note_at, start = at;
	struct note n;
	const uint8_t *sum = NULL;

	for (; next_note(r, &at, &n); start = at) {
		if (str_eq(n.name, "CORE") && n.type == NT_AUXV) {
			r->auxv = n.desc;
			r->auxv_len = n.len;
		} else if (str_eq(n.name, "LINUX") && n.type == NT_X86_XSTATE) {
			if (r->xsave)
				continue; /* of another thread */
			r->xsave = n.desc;
			r->xsave_len = n.len;
		} else if (!str_eq(n.name, IMAGE_NAME)) {
			continue;
		} else if (n.type == IMAGE_NOTE_NEED && n.len == IMAGE_NEED_LEN) {
			r->need = n.desc;
		} else if (n.type == IMAGE_NOTE_STATE) {
			r->state = n.desc;
			r->state_len = n.len;
		} else if (n.type == IMAGE_NOTE_SUM && n.len == 8) {
			sum = n.desc;
			break;
		}
	}
	if (!r->need)
		return rest_bad(r, "it is a core file, but not one of vmadump");
	/* The version first: the rest may be laid out otherwise. */
	if (get32(r->need + NEED_VERSION) != IMAGE_VERSION)
		return blob_err_set(&r->b->err, ENOEXEC, "the image has version %u, this reads %u",
				    get32(r->need + NEED_VERSION), IMAGE_VERSION);
	if (!sum || get64(sum) != image_sum(0, r->head, start))
		return rest_bad(r, "the sum of its head is wrong");
	if (!r->state || !r->xsave || !r->auxv)
		return rest_bad(r, "a note is missing");
	return 0;
}

static long find_records(struct restore *r)
{
	const uint8_t *p = r->state, *end = p + r->state_len;

	while (end - p >= (long)IMAGE_REC_HEAD) {
		uint32_t tag = get16(p), flags = get16(p + 2), len = get32(p + 4);
		uint64_t all = IMAGE_REC_HEAD + ROUND_UP((uint64_t)len, 8);

		if (all > (uint64_t)(end - p))
			return rest_bad(r, "a record is longer than the state");
		if (tag && tag <= TAG_LAST) {
			r->rec[tag].p = p + IMAGE_REC_HEAD;
			r->rec[tag].len = len;
		} else if (flags & IMAGE_REC_REFUSE) {
			return blob_err_set(&r->b->err, ENOEXEC,
					    "the image has a record (%u) that this does not know",
					    tag);
		}
		p += all;
	}
	for (uint32_t t = TAG_REGS; t <= TAG_FDS; t++)
		if (!r->rec[t].p)
			return rest_bad(r, "a record is missing");
	/* The others are empty where there is nothing of their kind. */
	for (uint32_t t = TAG_FDS + 1; t <= TAG_LAST; t++)
		if (!r->rec[t].p)
			r->rec[t].p = r->state;
	return 0;
}

/* The registers of every thread: a note each, in the order of the threads. */
static long find_thread_notes(struct restore *r)
{
	uint64_t at = r->note_at;
	struct note n;
	uint32_t have = 0;

	r->xsaves = arena_raw(r->b, (r->nthreads + 1ul) * sizeof *r->xsaves);
	if (!r->xsaves)
		return -ENOMEM;
	while (have <= r->nthreads && next_note(r, &at, &n)) {
		if (!str_eq(n.name, "LINUX") || n.type != NT_X86_XSTATE)
			continue;
		if (n.len < 576 || n.len + 64 > BLOB_XSAVE_MAX)
			break;
		r->xsaves[have++] = (struct rest_rec){n.desc, n.len};
	}
	return have == r->nthreads + 1 ? 0 : rest_bad(r, "the registers of a thread");
}

/* Lengths of the fixed records, and of whole entries in the arrays. */
static long check_lengths(struct restore *r)
{
	static const struct {
		uint16_t tag, len, array;
		uint32_t max;
	} rule[] = {
		{TAG_REGS, REC_REGS_LEN, 0, 0},
		{TAG_SIGNALS, REC_SIGNAL_LEN, 1, SYS_NSIG},
		{TAG_PENDING, REC_PENDING_LEN, 1, BLOB_PENDING_MAX},
		{TAG_ITIMERS, REC_ITIMERS_LEN, 0, 0},
		{TAG_TIMERS, REC_TIMER_LEN, 1, IMAGE_TIMERS_MAX},
		{TAG_MM, REC_MM_LEN, 0, 0},
		{TAG_PROC, REC_PROC_LEN, 0, 0},
		{TAG_RLIMITS, REC_RLIMITS_LEN, 0, 0},
		{TAG_FILES, REC_FILE_LEN, 1, IMAGE_FILES_MAX},
		{TAG_VMAS, REC_VMA_LEN, 1, IMAGE_VMAS_MAX},
		{TAG_FDS, REC_FD_LEN, 1, IMAGE_FDS_MAX},
		{TAG_THREADS, REC_THREAD_LEN, 1, BLOB_THREADS_MAX},
		{TAG_LOCKS, REC_LOCK_LEN, 1, LOCKS_MAX},
		{TAG_SCHED, REC_SCHED_LEN, 1, BLOB_THREADS_MAX + 1},
		{TAG_FD_MORE, REC_MORE_LEN, 1, MORE_LAST *IMAGE_FDS_MAX},
		{TAG_GUARDS, REC_GUARD_LEN, 1, GUARDS_MAX},
	};
	const struct rest_rec *ident = &r->rec[TAG_IDENT], *s = &r->rec[TAG_STRINGS];
	const struct rest_rec *cwd = &r->rec[TAG_CWD];

	for (uint32_t i = 0; i < COUNT(rule); i++) {
		uint32_t len = r->rec[rule[i].tag].len;

		if (rule[i].array ? len % rule[i].len || len / rule[i].len > rule[i].max
				  : len != rule[i].len)
			return rest_bad(r, "length of a record");
	}
	if (ident->len < REC_IDENT_FIXED || get32(ident->p + 88) > IMAGE_GROUPS_MAX ||
	    ident->len != REC_IDENT_FIXED + 4 * get32(ident->p + 88))
		return rest_bad(r, "length of its identity");
	if (!cwd->len || cwd->len > IMAGE_PATH_MAX || cwd->p[cwd->len - 1] || !s->len || s->p[0] ||
	    s->p[s->len - 1])
		return rest_bad(r, "a string without an end");
	if (r->auxv_len % 16 || r->auxv_len > 16 * IMAGE_AUXV_MAX)
		return rest_bad(r, "length of its auxiliary vector");
	if (r->xsave_len < 576 || r->xsave_len != get32(r->need + NEED_XSAVE_LEN) ||
	    r->xsave_len + 64 > BLOB_XSAVE_MAX)
		return rest_bad(r, "length of its register area");
	r->nthreads = r->rec[TAG_THREADS].len / REC_THREAD_LEN;
	if (r->rec[TAG_NNP].len && r->rec[TAG_NNP].len != 4 * r->nthreads)
		return rest_bad(r, "length of a record");
	if (r->rec[TAG_PRCTL].len && r->rec[TAG_PRCTL].len != 4 + 4 * r->nthreads)
		return rest_bad(r, "length of a record");
	return find_thread_notes(r);
}

/* A string by its offset; NULL if there is none such. */
static const char *string_at(const struct restore *r, uint32_t at)
{
	const struct rest_rec *s = &r->rec[TAG_STRINGS];

	return at < s->len ? (const char *)s->p + at : NULL;
}

static long parse_files(struct restore *r)
{
	const uint8_t *p = r->rec[TAG_FILES].p;

	r->nfiles = r->rec[TAG_FILES].len / REC_FILE_LEN;
	r->files = arena_alloc(r->b, r->nfiles * sizeof *r->files);
	if (!r->files)
		return -ENOMEM;
	for (uint32_t i = 0; i < r->nfiles; i++, p += REC_FILE_LEN) {
		struct rest_file *f = &r->files[i];

		f->fd = -1;
		f->id_kind = get32(p);
		f->flags = get32(p + 4);
		f->path = string_at(r, get32(p + 8));
		f->id_len = get32(p + 12);
		f->id = p + 16;
		if (!f->path || f->path[0] != '/' || f->id_kind < FILE_BUILD_ID ||
		    f->id_kind > FILE_ANY || f->id_len > FILE_ID_MAX)
			return rest_bad(r, "a file");
	}
	return 0;
}

static long parse_vmas(struct restore *r)
{
	const uint8_t *p = r->rec[TAG_VMAS].p;
	struct rest_vma *before = NULL, *first = NULL;

	r->nvmas = r->rec[TAG_VMAS].len / REC_VMA_LEN;
	r->vmas = arena_alloc(r->b, r->nvmas * sizeof *r->vmas);
	if (!r->vmas)
		return -ENOMEM;
	for (uint32_t i = 0; i < r->nvmas; i++, p += REC_VMA_LEN) {
		struct rest_vma *v = &r->vmas[i];
		int by_file;

		v->start = get64(p);
		v->end = v->map_end = get64(p + 8);
		v->off = get64(p + 16);
		v->prot = get32(p + 24);
		v->kind = get32(p + 28);
		v->flags = get32(p + 32);
		v->file = get32(p + 36);
		v->name = string_at(r, get32(p + 40));
		v->nruns = get32(p + 44);
		by_file = v->kind == VMA_FILE || v->kind == VMA_FILE_SHARED;
		if (v->start >= v->end || v->end > IMAGE_ADDR_MAX ||
		    (v->start | v->end | v->off) % IMAGE_PAGE || (before && v->start < before->end))
			return rest_bad(r, "the addresses of a mapping");
		if (v->kind < VMA_ANON || v->kind > VMA_MEMORY || v->prot > 7 ||
		    v->flags & ~VMA_ALL_FLAGS || !v->name ||
		    (by_file		     ? v->file >= r->nfiles
		     : v->kind == VMA_MEMORY ? v->file >= MEMORY_MAX
					     : v->file != VMA_NO_FILE))
			return rest_bad(r, "the kind of a mapping");
		if (v->flags & VMA_LAZY && v->kind != VMA_ANON)
			return rest_bad(r, "a mapping that is to follow");
		if (v->flags & VMA_JOINED) {
			if (!first || v->kind != VMA_ANON_SHARED || before->end != v->start)
				return rest_bad(r, "a joined mapping");
			/* Mapped at once, and protected piece by piece when it is filled. */
			first->map_end = v->end;
			first->fill = v->fill = 1;
		} else {
			first = v->kind == VMA_ANON_SHARED ? v : NULL;
		}
		before = v;
	}
	return r->nvmas ? 0 : rest_bad(r, "it has no memory");
}

static long parse_fds(struct restore *r)
{
	const uint8_t *p = r->rec[TAG_FDS].p;

	r->nfds = r->rec[TAG_FDS].len / REC_FD_LEN;
	r->fds = arena_alloc(r->b, r->nfds * sizeof *r->fds);
	if (!r->fds)
		return -ENOMEM;
	for (uint32_t i = 0; i < r->nfds; i++, p += REC_FD_LEN) {
		struct rest_fd *f = &r->fds[i];

		f->opened = -1;
		f->fd = (int32_t)get32(p);
		f->kind = get32(p + 4);
		f->cloexec = get32(p + 8) & FD_CLOEXEC_FLAG;
		f->others = get32(p + 8) & FD_OTHERS_FLAG;
		f->oflags = get32(p + 12);
		f->offset = get64(p + 16);
		f->path = string_at(r, get32(p + 24));
		f->dup_of = (int32_t)get32(p + 28);
		f->stream = get32(p + 32);
		if (f->fd < 0 || (i && f->fd <= f[-1].fd) || f->fd >= 1 << 30 || !f->path ||
		    f->kind < FD_FILE || f->kind > FD_TREE || f->stream >= CHAN_STREAMS ||
		    f->offset >> 63)
			return rest_bad(r, "a descriptor");
		if (f->kind == FD_TREE)
			continue; /* the first of its tree has it, or not */
		if (f->kind == FD_DUP	   ? f->dup_of < 0 || f->dup_of >= f->fd
		    : f->kind == FD_OBJECT ? f->offset >= r->nobjs
					   : f->kind != FD_STREAM && f->path[0] != '/')
			return rest_bad(r, "a descriptor's origin");
	}
	r->fd_base = r->nfds ? r->fds[r->nfds - 1].fd + 1 : 0;
	r->fd_base = MAX(r->fd_base, 3);
	return 0;
}

/* The runs of pages: in order, inside their mappings, and as many as were said. */
static long check_runs(struct restore *r)
{
	const uint8_t *ph = r->phdrs + 2 * 56;
	uint64_t off = r->head_len;
	uint32_t i = 0, in_vma = 0;

	for (uint64_t n = 2; n < r->nph; n++, ph += 56) {
		uint64_t at = get64(ph + 16), len = get64(ph + 32);

		if (get32(ph) != PT_LOAD)
			return rest_bad(r, "a program header");
		if (!len)
			continue;
		while (i < r->nvmas && at >= r->vmas[i].end) {
			if (in_vma != r->vmas[i].nruns)
				return rest_bad(r, "the number of a mapping's runs");
			i++;
			in_vma = 0;
		}
		if (i == r->nvmas || at < r->vmas[i].start || len > r->vmas[i].end - at ||
		    (at | len) % IMAGE_PAGE || get64(ph + 8) != off ||
		    r->vmas[i].kind == VMA_FILE_SHARED || r->vmas[i].flags & VMA_LAZY)
			return rest_bad(r, "a run of pages");
		if (in_vma && at < get64(ph - 56 + 16) + get64(ph - 56 + 32))
			return rest_bad(r, "the order of its pages");
		r->vmas[i].fill = 1;
		off += len;
		in_vma++;
	}
	r->page_bytes = off - r->head_len;
	if (r->page_bytes != get64(r->need + NEED_PAGE_BYTES) || get64(r->phdrs + 56 + 8) != off ||
	    get64(r->phdrs + 56 + 32) != IMAGE_END_NOTE)
		return rest_bad(r, "the number of its pages");
	return 0;
}

static long find_phdrs(struct restore *r)
{
	uint64_t n = get16(r->head + 56), at = 64;

	if (n == PN_XNUM) {
		uint64_t sh = get64(r->head + 40);

		if (sh > r->note_at || r->note_at - sh < 64)
			return rest_bad(r, "its section header");
		n = get32(r->head + sh + 44);
	}
	if (n < 2 || n > 2ul * IMAGE_RUNS_MAX + IMAGE_VMAS_MAX || at + 56 * n > r->note_at)
		return rest_bad(r, "the number of its program headers");
	r->nph = n;
	r->phdrs = r->head + at;
	return 0;
}

long rest_parse(struct restore *r)
{
	long e;

	if ((e = find_phdrs(r)) < 0 || (e = find_notes(r)) < 0 || (e = find_records(r)) < 0 ||
	    (e = check_lengths(r)) < 0 || (e = parse_files(r)) < 0 || (e = parse_vmas(r)) < 0 ||
	    (e = rest_parse_objects(r)) < 0 || (e = parse_fds(r)) < 0 ||
	    (e = rest_parse_tree(r)) < 0 || (e = rest_parse_live(r)) < 0 ||
	    (e = rest_parse_guards(r)) < 0 || (e = rest_parse_more(r)) < 0)
		return e;
	return check_runs(r);
}

long rest_end(struct restore *r)
{
	if (get32(r->end + 8) != IMAGE_NOTE_END || get64(r->end + 20) != r->page_bytes ||
	    get64(r->end + 28) != IMAGE_END_MAGIC)
		return rest_bad(r, "its end mark");
	return 0;
}
