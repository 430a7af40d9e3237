/*
 * Which memory of a running process goes ahead: private anonymous mappings, by its smaps. They are
 * registered with the userfaultfd that it has handed over, and the far end is told of each. All
 * else goes with the image, as of any move: files' pages, stacks that grow, what is small.
 * Library code; runs in whoever moves.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

#include "vmadump/blob/blob.h"
#include "vmadump/blob/dump_scan.h"
#include "vmadump/live.h"

#define LIVE_SMALL (64ul << 10) /* a mapping of less is not worth its table entry */
#define LIVE_APART (1ul << 30)	/* room for a mapping to grow, where it is put aside */

struct seen {
	uint64_t start, end;
	int plain; /* private, anonymous, may be read */
};

static int begin(const char *line, struct seen *v)
{
	char perms[5] = "", name[16] = "";
	unsigned long start, end, ino;
	int n = sscanf(line, "%lx-%lx %4s %*x %*x:%*x %lu %15s", &start, &end, perms, &ino, name);

	if (n < 4)
		return 0;
	v->start = start;
	v->end = end;
	v->plain = perms[0] == 'r' && perms[3] == 'p' && ino == 0 &&
		   (n == 4 || strcmp(name, "[heap]") == 0 || strncmp(name, "[anon:", 6) == 0);
	return 1;
}

static int has_flag(const char *flags, const char *two)
{
	for (const char *at = flags; (at = strstr(at, two)); at += 2)
		if (at[-1] == ' ' && (at[2] == ' ' || at[2] == '\n'))
			return 1;
	return 0;
}

/* Not what has a flag that a mapping put aside could not have. */
static int may_go(const char *flags)
{
	static const char not [][3] = {"gd", "dp", "sl", "ht", "io", "pf", "um", "ui", "ss"};

	for (unsigned i = 0; i < sizeof not / sizeof not [0]; i++)
		if (has_flag(flags, not [i]))
			return 0;
	return 1;
}

/* Pages of it that nobody looks after. */
static int is_fresh(const struct live *l, uint64_t start, uint64_t end)
{
	struct scan_region r;
	struct scan_arg a = {.size = sizeof a,
			     .start = start,
			     .end = end,
			     .vec = (uint64_t)(uintptr_t)&r,
			     .vec_len = 1,
			     .max_pages = 1,
			     .inverted = SCAN_WPALLOWED,
			     .mask = SCAN_WPALLOWED,
			     .anyof = SCAN_PRESENT | SCAN_SWAPPED,
			     .report = SCAN_PRESENT};

	return ioctl(l->pagemap, SCAN_IOCTL, &a) > 0;
}

static struct live_own *at_end(struct live *l, uint64_t start, uint32_t flags)
{
	for (uint32_t i = 0; i < l->n; i++)
		if (l->own[i].m.end == start && l->own[i].flags == flags)
			return &l->own[i];
	return NULL;
}

/* What of it the far end has no place for yet. Next to what it has, if that is so here. */
static int tell(struct live *l, uint64_t start, uint64_t end, uint32_t flags)
{
	struct live_own *o = at_end(l, start, flags);
	uint64_t len = end - start, at;

	at = o ? o->m.at + (o->m.end - o->m.start) : l->next + (start - l->next) % LIVE_ALIGN;
	if (len > LIVE_WINDOW || at + len > l->window + LIVE_WINDOW ||
	    (!o && l->n == LIVE_MAPS_MAX))
		return 0;
	if (o && o != &l->own[l->n - 1])
		for (uint32_t i = 0; i < l->n; i++) /* the room that it had is used up */
			if (at < l->own[i].m.at + (l->own[i].m.end - l->own[i].m.start) &&
			    l->own[i].m.at < at + len)
				return 0;
	if (live_frame(l, LIVE_MAP, flags, start, len, at) < 0)
		return -1;
	if (o)
		o->m.end = end;
	else
		l->own[l->n++] = (struct live_own){{start, end, at}, flags};
	if (at + 2 * len + LIVE_APART > l->next)
		l->next = at + 2 * len + LIVE_APART;
	return 1;
}

/* 1: all of it has a place there. */
static int place(struct live *l, uint64_t start, uint64_t end, uint32_t flags)
{
	while (start < end) {
		uint64_t to = end;
		const struct live_own *in = NULL;
		int r;

		for (uint32_t i = 0; i < l->n; i++) {
			const struct live_map *m = &l->own[i].m;

			if (m->start <= start && start < m->end)
				in = &l->own[i];
			else if (m->start > start && m->start < to)
				to = m->start;
		}
		if (in) {
			start = in->m.end;
			continue;
		}
		r = tell(l, start, to, flags);
		if (r <= 0)
			return r;
		start = to;
	}
	return 1;
}

static int add(struct live *l, const struct seen *v, uint32_t flags)
{
	struct uffdio_register reg = {.range = {v->start, v->end - v->start},
				      .mode = UFFDIO_REGISTER_MODE_WP};
	int fresh, r;

	/* The blob of the first stop is there still, at one of its places. */
	if (v->start < BLOB_ADDR + BLOB_TRIES * BLOB_APART && BLOB_ADDR - BLOB_APART < v->end)
		return 0;
	if (v->end - v->start < LIVE_SMALL ||
	    (v->start < l->window + LIVE_WINDOW && l->window < v->end))
		return 0;
	fresh = is_fresh(l, v->start, v->end);
	if (fresh && l->nfresh == LIVE_MAPS_MAX)
		return 0;
	r = place(l, v->start, v->end, flags);
	if (r <= 0)
		return r;
	/* It may have gone since it was read of; then there is nothing to look after. */
	if (ioctl(l->uffd, UFFDIO_REGISTER, &reg) < 0)
		return errno == EBUSY ? live_fail(l, ENOTSUP,
						  "pages do not go ahead: process %d has a "
						  "userfaultfd of its own",
						  l->pid)
				      : 0;
	if (fresh)
		l->fresh[l->nfresh++] = (struct live_map){v->start, v->end, 0};
	return 0;
}

int live_look(struct live *l)
{
	struct seen v = {.plain = 0};
	char path[40], line[4200];
	int r = 0;
	FILE *f;

	snprintf(path, sizeof path, "/proc/%d/smaps", l->pid);
	f = fopen(path, "re");
	if (!f)
		return live_fail(l, ESRCH, "process %d: %s", l->pid, strerror(errno));
	while (r == 0 && fgets(line, sizeof line, f)) {
		if (begin(line, &v) || strncmp(line, "VmFlags:", 8) != 0)
			continue;
		if (v.plain && may_go(line))
			r = add(l, &v, has_flag(line, "nr") ? LIVE_NORESERVE : 0);
	}
	fclose(f);
	return r;
}
