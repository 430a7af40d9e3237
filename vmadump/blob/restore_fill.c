/*
 * The pages of the image, from the stream to where they belong. Runs in the blob.
 *
 * Two walks over the same list of runs: one reads, the other goes ahead of it and
 * has the kernel make the pages. Whenever the stream has nothing to read the second
 * goes on, so the time that the sender needs is not lost.
 */
#include "lib.h"
#include "restore.h"
#include "sys.h"

#define BATCH_BYTES (4ul << 20) /* made or read at once */
#define HUGE_PAGE (2ul << 20)
#define POPULATE_MIN (16u * IMAGE_PAGE)
#define READ_MIN (64 << 10) /* rather than reading less, pages are made */
#define HUGE_NS 1000000ll   /* 512 small pages take less */
#define SLOW_MAX 2

/* A walk over all bytes of pages, in the order of the stream. */
struct walk {
	const struct restore *r;
	const uint8_t *ph;
	uint64_t i, at, left; /* the program header; what of it is to come */
	uint64_t done;	      /* bytes that lie behind */
};

struct fill {
	struct restore *r;
	struct walk read, made;
	struct iovec *iov; /* SYS_IOV_MAX: one batch, gathered, then read in one call or more */
	int n, not_socket, no_collapse, slow;
	uint64_t bytes;
	uint32_t vma; /* of the walk that makes pages */
};

static void walk_start(struct walk *w, const struct restore *r)
{
	*w = (struct walk){.r = r, .ph = r->phdrs + 56, .i = 1};
}

/* The next piece, of at most max bytes. 0: there is none. */
static uint64_t walk_next(struct walk *w, uint64_t max, uint64_t *ret_at)
{
	uint64_t n;

	while (!w->left) {
		if (w->i + 1 >= w->r->nph)
			return 0;
		w->i++;
		w->ph += 56;
		w->at = get64(w->ph + 16);
		w->left = get64(w->ph + 32);
	}
	n = MIN(w->left, max);
	/* Cut where a huge page ends. */
	if (n < w->left && (w->at + n) % HUGE_PAGE < n)
		n -= (w->at + n) % HUGE_PAGE;
	*ret_at = w->at;
	w->at += n;
	w->left -= n;
	w->done += n;
	return n;
}

/* -- making pages */

/* Of the processor, so not while others have it: a batch takes ms, and several of them go on. */
static int64_t used_ns(void)
{
	struct timespec t = {0};

	sys_clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (int64_t)t.tv_sec * 1000000000ll + t.tv_nsec;
}

/* Of a file or a shared object it would be the page cache that is collapsed. */
static int may_be_huge(struct fill *f, uint64_t at)
{
	const struct rest_vma *v;

	while (f->r->vmas[f->vma].end <= at)
		f->vma++;
	v = &f->r->vmas[f->vma];
	return v->kind == VMA_ANON && !(v->flags & (VMA_NOHUGEPAGE | VMA_DROPPABLE));
}

/*
 * Huge pages where all of one is about to be read: half the time of small ones.
 * MADV_COLLAPSE (Linux 6.1) makes them without marking the mapping for ever, as
 * MADV_HUGEPAGE would. It wants a first page to be there.
 *
 * In a virtual machine a huge page may be one that the host has taken back, for just those
 * are given to it, and takes 4.5 ms instead of 0.2; or it takes memory to be moved out of the way.
 * Where they are slow twice in a row, small ones are made.
 */
static void make_huge(struct fill *f, uint64_t start, uint64_t end)
{
	uint64_t lo = ROUND_UP(start, HUGE_PAGE), hi = end & ~(HUGE_PAGE - 1);
	int64_t from;
	long e;

	if (f->no_collapse || lo >= hi)
		return;
	from = used_ns();
	for (uint64_t at = lo; at < hi; at += HUGE_PAGE)
		*(volatile char *)at = 0;
	e = sys_madvise((void *)lo, hi - lo, MADV_COLLAPSE);
	f->slow = used_ns() - from > HUGE_NS * (int64_t)((hi - lo) / HUGE_PAGE) ? f->slow + 1 : 0;
	f->no_collapse = e == -EINVAL || f->slow == SLOW_MAX;
}

/* 0: all pages are made. */
static int make_some(struct fill *f)
{
	uint64_t at, n = walk_next(&f->made, BATCH_BYTES, &at);

	if (n && may_be_huge(f, at))
		make_huge(f, at, at + n);
	if (n >= POPULATE_MIN)
		sys_madvise((void *)at, n, MADV_POPULATE_WRITE);
	return n != 0;
}

/* -- reading */

static long get_some(struct fill *f, struct iovec *iov, int n, int all)
{
	int fd = f->r->opt->fd;

	if (!f->not_socket) {
		struct sys_msghdr m = {.iov = iov, .iovlen = (size_t)n};
		long e = sys_recvmsg(fd, &m, all ? SYS_MSG_WAITALL : 0);

		if (e != -ENOTSOCK)
			return e;
		f->not_socket = 1;
	}
	return sys_readv(fd, iov, n);
}

/* Makes pages until there is something to read. 0: it was the last; waiting is all there is. */
static int make_ahead(struct fill *f)
{
	int there;

	do {
		there = 0;
		/* What cannot tell (a file) always has something. */
		if (sys_ioctl(f->r->opt->fd, FIONREAD, &there) < 0 || there >= READ_MIN)
			return 1;
	} while (make_some(f));
	return 0;
}

static long read_batch(struct fill *f)
{
	struct blob *b = f->r->b;
	struct sys_pollfd p = {.fd = f->r->opt->fd, .events = POLLIN};
	struct iovec *iov = f->iov;
	int more = 1;

	while (f->made.done < f->read.done && more)
		more = make_some(f);
	while (f->n) {
		long e;

		/* The last of the image may be less than READ_MIN. */
		more = more && f->made.done < f->r->page_bytes && make_ahead(f);
		e = get_some(f, iov, f->n, !more);
		if (e == -EINTR)
			continue;
		if (e == -EAGAIN) {
			sys_ppoll(&p, 1, NULL, NULL);
			continue;
		}
		if (e <= 0)
			return e ? blob_err_set(&b->err, (int)-e, "reading the image's pages: %s",
						errno_name(e))
				 : blob_err_set(&b->err, EBADMSG,
						"the image is cut short in its pages");
		for (; f->n && (uint64_t)e >= iov->iov_len; f->n--, iov++)
			e -= (long)iov->iov_len;
		if (f->n) {
			iov->iov_base = (char *)iov->iov_base + e;
			iov->iov_len -= (size_t)e;
		}
	}
	f->bytes = 0;
	return 0;
}

long rest_fill(struct restore *r)
{
	struct fill f = {.r = r};
	uint64_t at, n;
	long e;

	f.iov = arena_raw(r->b, SYS_IOV_MAX * sizeof *f.iov);
	if (!f.iov)
		return -ENOMEM;
	walk_start(&f.read, r);
	walk_start(&f.made, r);
	while ((n = walk_next(&f.read, BATCH_BYTES - f.bytes, &at))) {
		f.iov[f.n++] = (struct iovec){(void *)at, n};
		f.bytes += n;
		if ((f.bytes > BATCH_BYTES - HUGE_PAGE || f.n == SYS_IOV_MAX - 1) &&
		    (e = read_batch(&f)) < 0)
			return e;
	}
	f.iov[f.n++] = (struct iovec){r->end, IMAGE_END_NOTE};
	if ((e = read_batch(&f)) < 0)
		return e;
	return rest_end(r);
}
