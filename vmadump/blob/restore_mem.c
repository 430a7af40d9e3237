/*
 * Memory of the image: everything else goes, its mappings are made, and get their
 * protection when their pages are there (restore_fill.c). Runs in the blob.
 */
#include "lazy_out.h"
#include "lib.h"
#include "restore.h"
#include "sys.h"

#define ANON_NAME_MAX 80u
#ifndef MAP_DROPPABLE
#define MAP_DROPPABLE 0x08
#endif
#ifndef PR_SET_VMA
#define PR_SET_VMA 0x53564d41
#define PR_SET_VMA_ANON_NAME 0
#endif
#ifndef ARCH_MAP_VDSO_64
#define ARCH_MAP_VDSO_64 0x2003
#endif
#ifndef MLOCK_ONFAULT
#define MLOCK_ONFAULT 1
#endif

struct range {
	uint64_t start, end;
};

/* Unmaps all addresses but the n ranges, which are in order. */
static void unmap_around(const struct range *keep, int n)
{
	uint64_t at = 0;

	for (int i = 0; i <= n; i++) {
		uint64_t to = i < n ? keep[i].start : IMAGE_ADDR_MAX;

		if (at < to)
			sys_munmap((void *)at, to - at);
		if (i < n)
			at = MAX(at, keep[i].end);
	}
}

static int add_range(struct range *set, int n, uint64_t start, uint64_t end)
{
	int i = n;

	for (; i > 0 && set[i - 1].start > start; i--)
		set[i] = set[i - 1];
	set[i] = (struct range){start, end};
	return n + 1;
}

/* What is to follow the process stays, and what is known of it: in one order with the rest. */
static void unmap_around_lazy(const struct lazy_out *l, const struct range *keep, int n)
{
	struct range own = {(uint64_t)l, (uint64_t)l + l->len};
	uint64_t at = 0;

	for (;;) {
		struct range next = {IMAGE_ADDR_MAX, IMAGE_ADDR_MAX};

		for (int i = 0; i < n; i++)
			if (keep[i].start >= at && keep[i].start < next.start)
				next = keep[i];
		for (uint32_t i = 0; i < l->nranges && l->range[i].start < next.start; i++)
			if (l->range[i].start >= at)
				next = (struct range){l->range[i].start, l->range[i].end};
		if (own.start >= at && own.start < next.start)
			next = own;
		if (at < next.start)
			sys_munmap((void *)at, next.start - at);
		if (next.end == IMAGE_ADDR_MAX)
			return;
		at = next.end;
	}
}

void blob_unmap_others(struct blob *b)
{
	struct range keep[2 + BLOB_SPECIALS];
	int n = add_range(keep, 0, blob_low(b), b->arena.base + b->arena.size);

	if (b->aside_hi)
		n = add_range(keep, n, b->aside_lo, b->aside_hi);

	for (uint32_t i = 0; i < b->env.nspecial; i++)
		n = add_range(keep, n, b->env.special[i].start,
			      b->env.special[i].start + b->env.special[i].len);
	if (b->lazy)
		unmap_around_lazy(lazy_of(b), keep, n);
	else
		unmap_around(keep, n);
}

static uint64_t special_at(const struct restore *r, uint32_t i)
{
	return get64(r->need + NEED_SPECIALS + 24 * i);
}

static int specials_there(const struct restore *r)
{
	const struct blob_env *e = &r->b->env;

	for (uint32_t i = 0; i < e->nspecial; i++)
		if (i >= r->specials || e->special[i].start != special_at(r, i))
			return 0;
	return 1;
}

/*
 * A process without a vdso is given one where it wants it, by arch_prctl(2) of a kernel
 * with CHECKPOINT_RESTORE (EEXIST says that it knows how): in one piece, as the kernel
 * lays it out. Two calls instead of six mremap, each of which has page tables to make
 * and a TLB to flush. It needs the old one gone, so only a clone may, which ends if this fails.
 */
static int can_map_vdso(const struct restore *r)
{
	const struct blob_env *e = &r->b->env;

	if (!r->b->sigs_default || !r->specials || r->specials != e->nspecial || specials_there(r))
		return 0;
	for (uint32_t i = 1; i < r->specials; i++)
		if (special_at(r, i) != special_at(r, i - 1) + e->special[i - 1].len ||
		    e->special[i].start != e->special[i - 1].start + e->special[i - 1].len)
			return 0;
	return sys_arch_prctl(ARCH_MAP_VDSO_64, special_at(r, 0)) == -EEXIST;
}

static long map_vdso(struct restore *r)
{
	struct blob *b = r->b;
	char magic[4] = "";
	long e = sys_arch_prctl(ARCH_MAP_VDSO_64, special_at(r, 0));

	for (uint32_t i = 0; i < r->specials; i++) {
		struct iovec to = {magic, sizeof magic}, from = {(void *)special_at(r, i), 4};

		b->env.special[i].start = special_at(r, i);
		/* The address is a hint to the kernel. */
		if (e >= 0 && b->env.special[i].kind == SPECIAL_VDSO &&
		    (sys_process_vm_readv((int)sys_getpid(), &to, &from) != 4 ||
		     memcmp(magic, "\177ELF", 4) != 0))
			e = -EEXIST;
	}
	b->env.nspecial = r->specials;
	return e >= 0 ? 0
		      : blob_err_set(&b->err, (int)-e, "cannot map the vdso at %lx: %s",
				     special_at(r, 0), errno_name(e));
}

/* vdso and vvar to where the image has them; the kernel follows the vdso's move. */
static long move_specials(struct restore *r)
{
	struct blob *b = r->b;
	uint64_t aside = b->arena.base + b->arena.size + (1ul << 20);

	if (r->new_vdso)
		return map_vdso(r);
	if (specials_there(r))
		return 0;
	/* By way of free addresses: an old place may overlap with another's new one. */
	for (int pass = 0; pass < 2; pass++) {
		for (uint32_t i = 0; i < b->env.nspecial; i++) {
			uint64_t from = b->env.special[i].start, len = b->env.special[i].len;
			uint64_t to = pass && i < r->specials ? special_at(r, i) : aside;
			long e;

			if (i >= r->specials) {
				sys_munmap((void *)from, len);
				continue;
			}
			e = sys_mremap((void *)from, len, len, MREMAP_MAYMOVE | MREMAP_FIXED,
				       (void *)to);
			if (e < 0)
				return blob_err_set(&b->err, (int)-e,
						    "cannot move the vdso to %lx: %s", to,
						    errno_name(e));
			b->env.special[i].start = to;
			aside += len;
		}
	}
	b->env.nspecial = r->specials;
	return 0;
}

void rest_clear(struct restore *r)
{
	r->new_vdso = can_map_vdso(r);
	if (r->new_vdso)
		r->b->env.nspecial = 0;
	blob_unmap_others(r->b);
	/* What is mapped from here on would be locked if this process has asked for that. */
	sys_munlockall();
}

static long map_one(struct restore *r, const struct rest_vma *v)
{
	int shared = v->kind != VMA_ANON && v->kind != VMA_FILE;
	int flags = MAP_FIXED_NOREPLACE | (shared ? MAP_SHARED : MAP_PRIVATE);
	int prot = (int)v->prot | (v->fill ? PROT_READ | PROT_WRITE : 0);
	int fd = -1;
	long e;

	if (v->kind == VMA_ANON || v->kind == VMA_ANON_SHARED)
		flags |= MAP_ANONYMOUS;
	else
		fd = v->kind == VMA_MEMORY ? (int)tree_memory(r, v->file) : r->files[v->file].fd;
	if (v->kind == VMA_MEMORY && fd < 0)
		return fd;
	if (v->flags & VMA_DROPPABLE)
		flags = (flags & ~MAP_PRIVATE) | MAP_DROPPABLE;
	if (v->flags & VMA_GROWSDOWN)
		flags |= MAP_GROWSDOWN;
	if (v->flags & VMA_NORESERVE)
		flags |= MAP_NORESERVE;
	e = sys_mmap((void *)v->start, v->map_end - v->start, prot, flags, fd, (long)v->off);
	if (e == (long)v->start)
		return 0;
	return blob_err_set(&r->b->err, e < 0 ? (int)-e : EEXIST, "mapping %s at %lx: %s",
			    fd < 0 || v->kind == VMA_MEMORY ? "memory" : r->files[v->file].path,
			    v->start, errno_name(e < 0 ? e : EEXIST));
}

long rest_map(struct restore *r)
{
	long e = r->foreign ? rest_map_foreign(r) : move_specials(r);

	for (uint32_t i = 0; e == 0 && i < r->nvmas; i++) {
		const struct rest_vma *v = &r->vmas[i];

		if (v->flags & VMA_JOINED || (v->live && rest_map_live(r, v, &e)))
			continue;
		e = map_one(r, v);
	}
	for (uint32_t i = 0; e == 0 && r->live_id && i < r->nvmas; i++)
		if (r->vmas[i].live)
			e = rest_map_rest(r, &r->vmas[i]);
	if (e == 0 && r->opt->live)
		rest_live_end(r);
	return e;
}

static long advise(struct restore *r, const struct rest_vma *v)
{
	static const struct {
		uint32_t flag;
		int advice;
	} table[] = {
		{VMA_DONTFORK, MADV_DONTFORK},	   {VMA_WIPEONFORK, MADV_WIPEONFORK},
		{VMA_HUGEPAGE, MADV_HUGEPAGE},	   {VMA_NOHUGEPAGE, MADV_NOHUGEPAGE},
		{VMA_MERGEABLE, MADV_MERGEABLE},   {VMA_DONTDUMP, MADV_DONTDUMP},
		{VMA_SEQUENTIAL, MADV_SEQUENTIAL}, {VMA_RANDOM, MADV_RANDOM},
	};
	void *at = (void *)v->start;
	uint64_t len = v->end - v->start;
	long e;

	/* Advice that this kernel does not know changes no result, but for the fork ones. */
	for (uint32_t i = 0; i < COUNT(table); i++) {
		if (!(v->flags & table[i].flag) || v->flags & VMA_DROPPABLE)
			continue;
		e = sys_madvise(at, len, table[i].advice);
		if (e < 0 && (v->flags & table[i].flag & (VMA_DONTFORK | VMA_WIPEONFORK)))
			return blob_err_set(&r->b->err, (int)-e, "advice for memory at %lx: %s",
					    v->start, errno_name(e));
	}
	if (v->flags & VMA_LOCKED) {
		/* Locked first, then there: of what cannot be touched nothing can be. */
		e = sys_mlock2(at, len, MLOCK_ONFAULT);
		if (e >= 0 && !(v->flags & VMA_LOCK_ON_FAULT))
			sys_mlock2(at, len, 0);
		if (e < 0)
			return blob_err_set(&r->b->err, (int)-e, "locking memory at %lx: %s",
					    v->start, errno_name(e));
	}
	return 0;
}

/* "[anon:NAME]"; a kernel without names goes without. */
static void set_name(const struct rest_vma *v)
{
	char name[ANON_NAME_MAX];
	size_t n;

	if (!str_starts(v->name, "[anon:"))
		return;
	n = str_copy(name, sizeof name, v->name + 6);
	if (n && name[n - 1] == ']')
		name[n - 1] = 0;
	sys_prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, v->start, v->end - v->start,
		  (unsigned long)name);
}

long rest_settle(struct restore *r)
{
	long e = rest_guards(r); /* not where memory is locked */

	for (uint32_t i = 0; e >= 0 && i < r->nvmas; i++) {
		const struct rest_vma *v = &r->vmas[i];

		if (v->fill && v->prot != (PROT_READ | PROT_WRITE)) {
			e = sys_mprotect((void *)v->start, v->end - v->start, (int)v->prot);
			if (e < 0)
				return blob_err_set(&r->b->err, (int)-e, "protection at %lx: %s",
						    v->start, errno_name(e));
		}
		if (v->flags & ~(VMA_GROWSDOWN | VMA_NORESERVE | VMA_JOINED) &&
		    (e = advise(r, v)) < 0)
			return e;
		if (v->name[0])
			set_name(v);
		if (v->flags & VMA_SEALED)
			sys_mseal((void *)v->start, v->end - v->start);
	}
	return MIN(e, 0);
}
