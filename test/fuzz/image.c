/*
 * The head of an image, as the blob reads it from a peer or a file. The arena is
 * malloc() here, so that a sanitizer sees each byte beyond a record; the sum of the
 * head is made right first, since nobody who means harm would leave it wrong.
 */
#include "fuzz.h"
#include "vmadump/blob/lib.h"
#include "vmadump/blob/restore.h"
#include "vmadump/blob/sys.h"
#include "vmadump/blob/tree.h"

#define HEAD_MAX (256u << 10) /* bytes of an input; a real head is 10 to 30 KiB */
#define BLOCKS 64
#define PAGES_THERE (1l << 50)

static void *block[BLOCKS];
static unsigned int nblocks;
static unsigned int parsed; /* heads that were believed */

void *arena_raw(struct blob *b, uint64_t bytes)
{
	(void)b;
	MUST(nblocks < BLOCKS);
	block[nblocks] = __builtin_malloc(bytes ? bytes : 1);
	return block[nblocks++];
}

void *arena_alloc(struct blob *b, uint64_t bytes)
{
	void *p = arena_raw(b, bytes);

	return p ? memset(p, 0, bytes) : NULL;
}

/* blob_restore() calls it before all and after all. */
void arena_reset(struct blob *b)
{
	(void)b;
	while (nblocks)
		__builtin_free(block[--nblocks]);
}

long blob_env_fill(struct blob *b)
{
	(void)b;
	return 0;
}

static unsigned int touch(const void *p, size_t n)
{
	const volatile uint8_t *at = p;
	unsigned int sum = 0;

	while (n--)
		sum += *at++;
	return sum;
}

/* Of what is said to have gone ahead; nothing has, here. */
static void check_gaps(struct restore *r)
{
	uint32_t v = 0;

	MUST(!r->ngone || r->live_id);
	for (uint32_t i = 0; i < r->ngone; i++) {
		uint64_t start = get64(r->gone + 16ul * i), n = get64(r->gone + 16ul * i + 8);

		while (v < r->nvmas && r->vmas[v].end <= start)
			v++;
		MUST(v < r->nvmas && r->vmas[v].live && start >= r->vmas[v].start &&
		     n <= r->vmas[v].end - start);
	}
	MUST(r->live_id ? rest_check_live(r) == -ESTALE : rest_check_live(r) == 0);
}

/* In place of the check against this machine: what was parsed is all there and in order. */
long rest_check(struct restore *r)
{
	MUST(r->nvmas > 0 && r->nvmas <= IMAGE_VMAS_MAX && r->nfiles <= IMAGE_FILES_MAX &&
	     r->nfds <= IMAGE_FDS_MAX);
	for (uint32_t i = 0; i < r->nfiles; i++) {
		MUST(r->files[i].path[0] == '/' && r->files[i].id_len <= FILE_ID_MAX);
		touch(r->files[i].path, str_len(r->files[i].path));
		touch(r->files[i].id, FILE_ID_MAX);
	}
	for (uint32_t i = 0; i < r->nvmas; i++) {
		const struct rest_vma *v = &r->vmas[i];

		MUST(v->start < v->end && v->end <= IMAGE_ADDR_MAX && v->map_end >= v->end);
		MUST(i == 0 || v->start >= v[-1].end);
		MUST(v->file == VMA_NO_FILE || v->file < r->nfiles || v->kind == VMA_MEMORY);
		touch(v->name, str_len(v->name));
	}
	for (uint32_t i = 0; i < r->nfds; i++) {
		MUST(r->fds[i].fd >= 0 && (i == 0 || r->fds[i].fd > r->fds[i - 1].fd));
		touch(r->fds[i].path, str_len(r->fds[i].path));
	}
	touch(r->auxv, r->auxv_len);
	touch(r->xsave, r->xsave_len);
	MUST(r->nthreads <= BLOB_THREADS_MAX);
	for (uint32_t i = 0; i <= r->nthreads; i++) {
		MUST(r->xsaves[i].len >= 576 && r->xsaves[i].len + 64 <= BLOB_XSAVE_MAX);
		touch(r->xsaves[i].p, r->xsaves[i].len);
	}
	for (uint32_t i = 0; i < r->nplan; i++) {
		const uint8_t *e = tree_entry(r, i);

		touch(e, TREE_ENTRY);
		MUST(i == 0 || get32(e + TREE_PARENT) < i);
	}
	touch(r->rec[TAG_MEMORY].p, r->nmemory * (uint64_t)MEMORY_LEN);
	if (rest_foreign_vdso(r) == 0) {
		uint64_t len = get64(r->foreign + 8);
		uint8_t *to = __builtin_malloc(len);

		MUST(len <= VDSO_MOST);
		if (to)
			rest_patch_vdso(r, to, r->rec[TAG_VDSO].p, r->rec[TAG_VDSO].len);
		__builtin_free(to);
	}
	check_gaps(r);
	touch(r->rec[TAG_THREADS].p, r->nthreads * (uint64_t)REC_THREAD_LEN);
	touch(r->rec[TAG_SCHED].p, r->rec[TAG_SCHED].len);
	MUST(!r->rec[TAG_NNP].len || r->rec[TAG_NNP].len == 4 * r->nthreads);
	touch(r->need, IMAGE_NEED_LEN);
	touch(r->phdrs, r->nph * 56);
	for (uint32_t i = 0; i < REST_TAGS; i++)
		if (r->rec[i].p)
			touch(r->rec[i].p, r->rec[i].len);
	MUST(r->page_bytes % IMAGE_PAGE == 0);
	parsed++;
	return -ECANCELED;
}

/* Nothing comes behind a check that fails. */
#define NEVER(fn)                                                                                  \
	long fn(struct restore *r)                                                                 \
	{                                                                                          \
		(void)r;                                                                           \
		__builtin_abort();                                                                 \
	}
NEVER(rest_open)
NEVER(rest_tree)
NEVER(rest_clocks)
NEVER(rest_creds)
NEVER(rest_map)
NEVER(rest_fill)
NEVER(rest_settle)
NEVER(rest_lazy)
NEVER(rest_mm)
NEVER(rest_fds)
NEVER(rest_state)
void rest_groups(struct restore *r)
{
	(void)r;
	__builtin_abort();
}
void rest_clear(struct restore *r)
{
	(void)r;
	__builtin_abort();
}
int rest_take_warm(struct restore *r, struct restore *w)
{
	(void)r;
	(void)w;
	__builtin_abort();
}
void rest_close(struct restore *r)
{
	(void)r;
}
void blob_rseq_off(struct blob *b)
{
	(void)b;
	__builtin_abort();
}

/* Puts the right sum where the head has a note for it. */
static void mend_sum(uint8_t *head, uint64_t len)
{
	uint64_t at, end;

	if (len < IMAGE_PREFIX)
		return;
	at = get64(head + 72);
	if (at > len || get64(head + 96) > len - at)
		return;
	end = at + get64(head + 96);
	while (end - at >= 12) {
		uint64_t name = ROUND_UP((uint64_t)get32(head + at), 4);
		uint64_t desc = ROUND_UP((uint64_t)get32(head + at + 4), 4);

		if (name > end - at - 12 || desc > end - at - 12 - name)
			return;
		if (get32(head + at + 8) == IMAGE_NOTE_SUM && desc == 8) {
			put64(head + at + 12 + name, image_sum(0, head, at));
			return;
		}
		at += 12 + name + desc;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static struct blob b;
	/* As it is looked at: for no process that was made for it, and nothing is to be made. */
	struct blob_restore opt = {.fd = -1, .alone = 1, .look = 1};
	static uint8_t head[HEAD_MAX];

	if (len > sizeof(head))
		return 0;
	memcpy(head, data, len);
	mend_sum(head, len);
	b.err.text[0] = 0;
	b.chan = -1;
	opt.fd = (int)sys2(__NR_memfd_create, (long)"image", 0);
	MUST(opt.fd >= 0 && sys_write(opt.fd, head, len) == (long)len &&
	     sys_lseek(opt.fd, 0, 0 /* SEEK_SET */) == 0);
	/* A whole head may be a whole image: as many pages as it could have are there. */
	if (len % IMAGE_PAGE == 0)
		MUST(sys_ftruncate(opt.fd, PAGES_THERE) == 0);
	/* A failure of the sender is returned in its words; all others have ours. */
	MUST(blob_restore(&b, &opt) < 0);
	MUST(b.err.text[0] || parsed || (len >= 8 && get64(head) == IMAGE_FAIL_MAGIC));
	sys_close(opt.fd);
	return 0;
}
