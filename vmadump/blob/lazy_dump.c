/*
 * Which memory of a process follows it when it has moved, and the state that serves it. Runs in
 * the blob of a process that leaves. Large private anonymous mappings do; what a thread's stack
 * lies in, and all else, goes along in the image.
 */
#include "dump.h"
#include "dump_scan.h"
#include "ghost.h"
#include "lazy_out.h"
#include "lib.h"
#include "pagemap.h"
#include "sys.h"
#include "thread.h"

/* A ghost has its vdso and the code that it shares with others near its blob. */
#define NEAR_BLOB (4ul << 20)

int dump_has_stack(const struct blob *b, uint64_t start, uint64_t end)
{
	if (b->regs.sp >= start && b->regs.sp < end)
		return 1;
	for (uint32_t i = 0; i < b->nthreads; i++) {
		uint64_t sp = thread_at(b, i)->regs.sp;

		if (sp >= start && sp < end)
			return 1;
	}
	return 0;
}

static int may_follow(const struct dump *d, const struct dump_vma *v)
{
	/* Of one that is wiped on fork the pager would fill in what the child is not to have. */
	const uint32_t no = VMA_GROWSDOWN | VMA_DROPPABLE | VMA_LOCKED | VMA_LOCK_ON_FAULT |
			    VMA_SEALED | VMA_WIPEONFORK;
	uint64_t lo = blob_low(d->b) - NEAR_BLOB;
	uint64_t hi = d->b->arena.base + d->b->arena.size + NEAR_BLOB;

	return v->kind == VMA_ANON && !v->copy && !v->shared && !v->file && !(v->flags & no) &&
	       v->prot & PROT_READ && v->end - v->start >= LAZY_MIN &&
	       (v->end <= lo || v->start >= hi) && !dump_has_stack(d->b, v->start, v->end);
}

/*
 * What has guard pages goes along: whoever follows can make none. To look for them is 1 ms for a
 * GiB, in which it stands still; who has it leave has looked before, as a rule.
 */
void lazy_choose(struct dump *d)
{
	int fd = d->b->no_guards ? -1 : (int)pagemap_open();
	uint32_t n = 0;

	for (struct dump_vma *v = d->vmas; v && n < LAZY_RANGES_MAX; v = v->next) {
		if (!may_follow(d, v) || (fd >= 0 && guard_within(fd, v->start, v->end)))
			continue;
		v->flags |= VMA_LAZY;
		n++;
	}
	if (fd >= 0)
		sys_close(fd);
	d->nlazy = n;
}

/* One that has voted has the numbers of its descriptors still: these are to be in nobody's way. */
static void set_up(struct blob *b, struct lazy_out *l, int data, int back)
{
	struct stat st;

	l->data = above_streams(data);
	l->back = back >= 0 ? above_streams(back) : l->data;
	l->pagemap = above_streams((int)pagemap_open());
	l->scans = b->env.kernel & KERNEL_SCAN;
	l->guard = b->env.kernel & KERNEL_GUARD ? SCAN_GUARD : 0;
	l->pipe = sys_fstat(l->data, &st) == 0 && (st.st_mode & 0170000) == 0010000;
	sys_fcntl(l->data, F_SETFL, sys_fcntl(l->data, F_GETFL, 0) | O_NONBLOCK);
	sys_fcntl(l->back, F_SETFL, sys_fcntl(l->back, F_GETFL, 0) | O_NONBLOCK);
}

long lazy_begin(struct blob *b, int data, int back)
{
	const struct dump *d = (void *)b->dump;
	const uint64_t len = ROUND_UP(sizeof(struct lazy_out), IMAGE_PAGE);
	struct lazy_out *l;
	long at;

	if (!d->nlazy)
		return 0;
	at = sys_mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (at < 0)
		return blob_err_set(&b->err, (int)-at, "the state of what follows: %s",
				    errno_name(at));
	l = (void *)at;
	l->len = len;
	set_up(b, l, data, back);
	for (const struct dump_vma *v = d->vmas; v; v = v->next)
		if (v->flags & VMA_LAZY)
			l->range[l->nranges++] = (struct lazy_range){v->start, v->end};
	l->at = l->range[0].start;
	b->lazy = (uint64_t)at;
	if (l->pagemap >= 0 && l->data >= 0 && l->back >= 0)
		return 1;
	at = MIN(l->pagemap, MIN(l->data, l->back));
	lazy_end(b); /* that the caller closes its descriptors as well is nothing to anybody */
	return blob_err_set(&b->err, EIO, "/proc/self/pagemap: %s", errno_name(at));
}
