/*
 * The records of a tree of processes, held against their limits, as restore_parse.c does with
 * all else. Runs in the blob; touches nothing but the arena.
 */
#include "lib.h"
#include "restore.h"
#include "sys.h"
#include "tree.h"

#define CLOCK_MOST (1ull << 32) /* seconds since the machine was started */

static int entry_ok(const struct restore *r, uint32_t i)
{
	const uint8_t *e = tree_entry(r, i);
	uint32_t parent = get32(e + TREE_PARENT), kind = get32(e + TREE_KIND);

	if (get32(e + TREE_PID) < 1 || get32(e + TREE_PID) > 1u << 22 ||
	    get32(e + TREE_EXIT_SIGNAL) > SYS_NSIG || e[TREE_NAME + 15] ||
	    (kind != TREE_PROCESS && kind != TREE_ZOMBIE))
		return 0;
	if (i == 0)
		return parent == TREE_NO_PARENT && kind == TREE_PROCESS &&
		       get32(e + TREE_PID) == get32(r->rec[TAG_IDENT].p);
	return parent < i && get32(tree_entry(r, parent) + TREE_KIND) == TREE_PROCESS;
}

/* Each level is a few frames of the blob's stack, which is not large. */
static int depth_ok(const struct restore *r, uint8_t *depth)
{
	for (uint32_t i = 1; i < r->nplan; i++) {
		depth[i] = depth[get32(tree_entry(r, i) + TREE_PARENT)] + 1;
		if (depth[i] > TREE_DEPTH)
			return 0;
	}
	return 1;
}

static long parse_plan(struct restore *r)
{
	const struct rest_rec *rec = &r->rec[TAG_TREE];
	uint8_t *depth;
	uint32_t base;

	if (rec->len < TREE_HEAD + TREE_ENTRY || (rec->len - TREE_HEAD) % TREE_ENTRY ||
	    (rec->len - TREE_HEAD) / TREE_ENTRY > TREE_MAX ||
	    get32(rec->p) != (rec->len - TREE_HEAD) / TREE_ENTRY)
		return rest_bad(r, "the length of its tree");
	r->nplan = get32(rec->p);
	base = get32(rec->p + 4);
	for (uint32_t i = 0; i < r->nplan; i++)
		if (!entry_ok(r, i))
			return rest_bad(r, "a process of its tree");
	depth = arena_alloc(r->b, r->nplan);
	if (!depth)
		return -ENOMEM;
	if (!depth_ok(r, depth) || base > 1u << 20)
		return rest_bad(r, "the depth of its tree");
	r->fd_base = MAX(r->fd_base, (int32_t)base);
	return 0;
}

static long parse_memory(struct restore *r)
{
	const struct rest_rec *rec = &r->rec[TAG_MEMORY];

	if (rec->len % MEMORY_LEN || rec->len / MEMORY_LEN > MEMORY_MAX)
		return rest_bad(r, "the length of its shared memory");
	r->nmemory = rec->len / MEMORY_LEN;
	for (uint32_t i = 0; i < r->nmemory; i++) {
		const uint8_t *p = rec->p + i * (uint64_t)MEMORY_LEN;

		if (get32(p) < MEMORY_NEW || get32(p) > MEMORY_FD ||
		    get64(p + 8) > IMAGE_ADDR_MAX || get64(p + 8) % IMAGE_PAGE)
			return rest_bad(r, "its shared memory");
	}
	return 0;
}

static int clocks_ok(const struct rest_rec *rec)
{
	return !rec->len || (rec->len == REC_CLOCKS_LEN && get64(rec->p) <= CLOCK_MOST &&
			     get64(rec->p + 16) <= CLOCK_MOST && get64(rec->p + 8) < 1000000000 &&
			     get64(rec->p + 24) < 1000000000);
}

long rest_parse_tree(struct restore *r)
{
	const struct rest_rec *member = &r->rec[TAG_MEMBER];
	long e = 0;

	if (!clocks_ok(&r->rec[TAG_CLOCKS]))
		return rest_bad(r, "its clocks");

	if (member->len && (member->len != MEMBER_LEN || r->rec[TAG_TREE].len))
		return rest_bad(r, "the length of its place in a tree");
	r->index = member->len ? get32(member->p) : 0;
	if (member->len && (r->index < 1 || r->index >= TREE_MAX))
		return rest_bad(r, "its place in a tree");
	if (r->rec[TAG_TREE].len)
		e = parse_plan(r);
	return e < 0 ? e : parse_memory(r);
}
