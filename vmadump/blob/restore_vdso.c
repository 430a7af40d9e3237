/*
 * An image that was made with another kernel's vdso. The program knows that one's functions by
 * their addresses, so they stay: the image has the bytes, and each function of it is made a
 * jump to the one of the same name in this kernel's vdso, which lies where nothing of the
 * image does. Runs in the blob.
 */
#include "cpu.h"
#include "lib.h"
#include "restore.h"
#include "sys.h"

#define JUMP_LEN 12u /* mov $address, %rax; jmp *%rax */

/* A vdso: n bytes, as they are linked, from offset 0 on. Every offset is held against n. */
struct vdso {
	const uint8_t *p;
	uint64_t n, sym, str, str_len;
	uint32_t nsyms;
};

static int read_dynamic(struct vdso *v, uint64_t at, uint64_t len)
{
	for (; len >= 16; at += 16, len -= 16) {
		uint64_t tag = get64(v->p + at), val = get64(v->p + at + 8);

		if (tag == DT_NULL)
			break;
		if (tag == DT_SYMTAB)
			v->sym = val;
		else if (tag == DT_STRTAB)
			v->str = val;
		else if (tag == DT_STRSZ)
			v->str_len = val;
	}
	/* Linkers put .dynstr right behind .dynsym. */
	if (!v->sym || v->str < v->sym || v->str > v->n || v->str_len > v->n - v->str ||
	    !v->str_len || v->p[v->str + v->str_len - 1])
		return 0;
	v->nsyms = (uint32_t)((v->str - v->sym) / sizeof(Elf64_Sym));
	return 1;
}

static int read_vdso(struct vdso *v, const uint8_t *p, uint64_t n)
{
	uint64_t at;

	*v = (struct vdso){.p = p, .n = n};
	if (n < 64 || memcmp(p, "\177ELF\2\1", 6) != 0)
		return 0;
	at = get64(p + 32);
	for (uint32_t i = get16(p + 56); i && at <= n && n - at >= 56; i--, at += 56) {
		uint64_t from = get64(p + at + 8), len = get64(p + at + 32);

		if (get32(p + at) == PT_DYNAMIC)
			return from <= n && len <= n - from && read_dynamic(v, from, len);
	}
	return 0;
}

/* The i-th symbol if it is a function: its name, and where it is. */
static const char *function(const struct vdso *v, uint32_t i, uint64_t *ret_at)
{
	const uint8_t *s = v->p + v->sym + i * sizeof(Elf64_Sym);

	if ((s[4] & 15) != STT_FUNC || !get16(s + 6) || get32(s) >= v->str_len)
		return NULL;
	*ret_at = get64(s + 8);
	return (const char *)v->p + v->str + get32(s);
}

static uint64_t find(const struct vdso *v, const char *name)
{
	uint64_t at;

	for (uint32_t i = 0; i < v->nsyms; i++) {
		const char *s = function(v, i, &at);

		if (s && str_eq(s, name))
			return (uint64_t)v->p + at;
	}
	return 0;
}

/* What this kernel's vdso does not have says so to its caller, who then makes a system call. */
static void patch(uint8_t *to, uint64_t n, const struct vdso *old, const struct vdso *new)
{
	static const uint8_t none[8] = {0x48, 0xc7, 0xc0, 0xda, 0xff, 0xff, 0xff, 0xc3};
	uint64_t at;

	for (uint32_t i = 0; i < old->nsyms; i++) {
		const char *name = function(old, i, &at);
		uint64_t goal = name ? find(new, name) : 0;

		if (!name || at < 64 || at > n || n - at < JUMP_LEN)
			continue;
		if (!goal) {
			memcpy(to + at, none, sizeof none);
			continue;
		}
		put16(to + at, 0xb848);
		put64(to + at + 2, goal);
		put16(to + at + 10, 0xe0ff);
	}
}

static const uint8_t *special(const struct restore *r, uint32_t kind)
{
	for (uint32_t i = 0; i < get32(r->need + NEED_NSPECIAL) && i < BLOB_SPECIALS; i++) {
		const uint8_t *p = r->need + NEED_SPECIALS + 24 * i;

		if (get32(p + 16) == kind)
			return p;
	}
	return NULL;
}

static int is_in(uint64_t ip, const uint8_t *vdso)
{
	return ip - get64(vdso) < get64(vdso + 8);
}

long rest_foreign_vdso(struct restore *r)
{
	const struct rest_rec *rec = &r->rec[TAG_VDSO], *threads = &r->rec[TAG_THREADS];
	const uint8_t *at = special(r, SPECIAL_VDSO);
	struct vdso v;
	int inside;

	if (!rec->len || !at || !r->opt->alone || !read_vdso(&v, rec->p, rec->len) ||
	    get64(at + 8) > VDSO_MOST || get64(at + 8) < rec->len || get64(at) % IMAGE_PAGE ||
	    get64(at + 8) % IMAGE_PAGE || get64(at) > IMAGE_ADDR_MAX - VDSO_MOST)
		return blob_err_set(&r->b->err, ENOEXEC,
				    "the image was made with another kernel's vdso");
	inside = is_in(get64(r->rec[TAG_REGS].p + 16 * 8), at);
	for (uint64_t i = 0; i < threads->len; i += REC_THREAD_LEN)
		inside |= is_in(get64(threads->p + i + 8 + 16 * 8), at);
	if (inside)
		return blob_err_set(&r->b->err, ENOEXEC,
				    "a thread was in the vdso of another kernel; take it again");
	r->foreign = at;
	r->specials = 0;
	return 0;
}

static int is_free(const struct restore *r, uint64_t lo, uint64_t hi)
{
	const struct blob *b = r->b;

	if (lo < b->arena.base + b->arena.size && blob_low(b) < hi)
		return 0;
	for (uint32_t i = 0; i < r->nvmas; i++)
		if (r->vmas[i].start < hi && lo < r->vmas[i].end)
			return 0;
	return hi <= get64(r->foreign) || lo >= get64(r->foreign) + get64(r->foreign + 8);
}

/* This kernel's, all of it by the same distance: its parts look for each other. */
static long move_own(struct restore *r, uint64_t *ret_vdso, uint64_t *ret_len)
{
	struct blob_env *e = &r->b->env;
	uint64_t lo = ~0ull, hi = 0, to = 0;
	long m;

	for (uint32_t i = 0; i < e->nspecial; i++) {
		lo = MIN(lo, e->special[i].start);
		hi = MAX(hi, e->special[i].start + e->special[i].len);
	}
	for (uint32_t k = 0; lo < hi && !to && k < BLOB_TRIES; k++)
		if (is_free(r, BLOB_ADDR + k * BLOB_APART + BLOB_APART / 2,
			    BLOB_ADDR + k * BLOB_APART + BLOB_APART / 2 + (hi - lo)))
			to = BLOB_ADDR + k * BLOB_APART + BLOB_APART / 2;
	if (!to)
		return -ENOMEM;
	for (uint32_t i = 0; i < e->nspecial; i++) {
		uint64_t from = e->special[i].start, len = e->special[i].len;

		m = sys_mremap((void *)from, len, len, MREMAP_MAYMOVE | MREMAP_FIXED,
			       (void *)(to + (from - lo)));
		if (m < 0)
			return m;
		e->special[i].start = to + (from - lo);
		if (e->special[i].kind == SPECIAL_VDSO) {
			*ret_vdso = e->special[i].start;
			*ret_len = len;
		}
	}
	return 0;
}

long rest_patch_vdso(struct restore *r, uint8_t *to, const uint8_t *own, uint64_t own_len)
{
	const struct rest_rec *rec = &r->rec[TAG_VDSO];
	struct vdso old, new;

	if (!read_vdso(&old, rec->p, rec->len) || !read_vdso(&new, own, own_len))
		return -ENOEXEC;
	memcpy(to, rec->p, rec->len);
	patch(to, get64(r->foreign + 8), &old, &new);
	return 0;
}

long rest_map_foreign(struct restore *r)
{
	uint64_t own = 0, own_len = 0, len = get64(r->foreign + 8);
	uint8_t *to = NULL;
	long e = move_own(r, &own, &own_len);

	if (e == 0)
		e = sys_mmap((void *)get64(r->foreign), len, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	if (e > 0) {
		to = (uint8_t *)e;
		e = rest_patch_vdso(r, to, (const uint8_t *)own, own_len);
	}
	if (e == 0)
		e = sys_mprotect(to, len, PROT_READ | PROT_EXEC);
	return e < 0 ? blob_err_set(&r->b->err, (int)-e, "another kernel's vdso at %lx: %s",
				    get64(r->foreign), errno_name(e))
		     : 0;
}
