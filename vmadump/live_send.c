/*
 * Pages of a running process, to where it is to go: what was written since the last time is found
 * and write-protected again by one call of the kernel, then read, then sent. What is written while
 * it is read is found the next time. Library code; runs in whoever moves.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "vmadump/blob/dump_scan.h"
#include "vmadump/blob/image.h"
#include "vmadump/live.h"

#define REGIONS 512

int live_fail(struct live *l, int code, const char *fmt, ...)
{
	va_list ap;

	if (l->err) {
		va_start(ap, fmt);
		vsnprintf(l->err->text, sizeof l->err->text, fmt, ap);
		va_end(ap);
		l->err->code = code;
	}
	errno = code;
	return -1;
}

/* SIGPIPE is blocked; one that this makes is taken back. */
static int broken(struct live *l)
{
	const struct timespec now = {0};
	sigset_t pipe;
	int e = errno;

	if (e == EPIPE) {
		sigemptyset(&pipe);
		sigaddset(&pipe, SIGPIPE);
		sigtimedwait(&pipe, NULL, &now);
	}
	return live_fail(l, e, "sending pages to the node: %s", strerror(e));
}

static int put(struct live *l, const void *p, size_t n)
{
	for (const char *at = p; n;) {
		ssize_t w = write(l->data, at, n);

		if (w < 0 && errno == EINTR)
			continue;
		if (w < 0)
			return broken(l);
		at += w;
		n -= (size_t)w;
	}
	return 0;
}

static void fill(uint8_t *h, uint32_t type, uint32_t flags, uint64_t a, uint64_t b, uint64_t c)
{
	put32(h, type);
	put32(h + 4, flags);
	put64(h + 8, a);
	put64(h + 16, b);
	put64(h + 24, c);
}

int live_frame(struct live *l, uint32_t type, uint32_t flags, uint64_t a, uint64_t b, uint64_t c)
{
	uint8_t h[LIVE_FRAME];

	fill(h, type, flags, a, b, c);
	return put(l, h, sizeof h);
}

int live_hello(struct live *l)
{
	return live_frame(l, LIVE_HELLO, LIVE_VERSION, LIVE_MAGIC, l->id, l->window);
}

/*
 * So many bytes as can be read, whole pages. What cannot be read by the process itself any more is
 * read as a debugger would; what is not mapped any more is nobody's.
 */
static size_t get(struct live *l, uint64_t at, size_t n)
{
	struct iovec to = {l->buf + LIVE_FRAME, n}, from = {(void *)(uintptr_t)at, n};
	ssize_t r = process_vm_readv(l->pid, &to, 1, &from, 1, 0);

	if (r < (ssize_t)IMAGE_PAGE)
		r = pread(l->mem, l->buf + LIVE_FRAME, n, (off_t)at);
	return r < 0 ? 0 : (size_t)r / IMAGE_PAGE * IMAGE_PAGE;
}

static int send_region(struct live *l, uint64_t start, uint64_t end)
{
	while (start < end) {
		/* Cut where a piece of the largest size would lie. */
		size_t n = LIVE_PIECE_MAX - start % LIVE_PIECE_MAX;

		n = get(l, start, n < end - start ? n : end - start);
		if (n == 0) {
			start += IMAGE_PAGE;
			continue;
		}
		fill(l->buf, LIVE_PAGES, 0, start, n, 0);
		if (put(l, l->buf, LIVE_FRAME + n) < 0)
			return -1;
		l->bytes += n;
		start += n;
	}
	return 0;
}

/* The process has ended, or the connection was called off: nothing else would tell. */
static int look_around(struct live *l)
{
	struct pollfd p[2] = {{.fd = l->pidfd, .events = POLLIN},
			      {.fd = l->chan, .events = POLLIN}};

	if (poll(p, 2, 0) <= 0)
		return 0;
	if (p[0].revents)
		return live_fail(l, ESRCH, "process %d has ended", l->pid);
	return live_called_off(l);
}

/* flags: what the pages have to be besides being there. */
static int pass(struct live *l, uint64_t start, uint64_t end, uint64_t flags)
{
	struct scan_region r[REGIONS];
	struct scan_arg a = {.size = sizeof a,
			     .flags = SCAN_WP_MATCHING,
			     .start = start,
			     .end = end,
			     .vec = (uint64_t)(uintptr_t)r,
			     .vec_len = REGIONS,
			     .inverted = SCAN_PFNZERO,
			     .mask = SCAN_WPALLOWED | SCAN_PFNZERO | flags,
			     .anyof = SCAN_PRESENT | SCAN_SWAPPED,
			     .report = SCAN_PRESENT,
			     .max_pages = LIVE_BATCH};

	while (a.start < end) {
		int n = ioctl(l->pagemap, SCAN_IOCTL, &a);

		if (n < 0 || a.walk_end <= a.start)
			return live_fail(l, ESRCH,
					 "process %d has ended, or is another program now", l->pid);
		for (int i = 0; i < n; i++)
			if (send_region(l, r[i].start, r[i].end) < 0)
				return -1;
		if (look_around(l) < 0)
			return -1;
		a.start = a.walk_end;
	}
	return 0;
}

/* All that is there, place by place: a mapping may lie in several. */
static int pass_fresh(struct live *l, const struct live_map *f)
{
	for (uint32_t i = 0; i < l->n; i++) {
		const struct live_map *m = &l->own[i].m;
		uint64_t start = m->start > f->start ? m->start : f->start;
		uint64_t end = m->end < f->end ? m->end : f->end;

		if (start < end && pass(l, start, end, 0) < 0)
			return -1;
	}
	return 0;
}

int live_round(struct live *l, uint64_t *ret_bytes)
{
	uint64_t before = l->bytes;

	for (uint32_t i = 0; i < l->nfresh; i++)
		if (pass_fresh(l, &l->fresh[i]) < 0)
			return -1;
	l->nfresh = 0;
	for (uint32_t i = 0; i < l->n; i++)
		if (pass(l, l->own[i].m.start, l->own[i].m.end, SCAN_WRITTEN) < 0)
			return -1;
	*ret_bytes = l->bytes - before;
	return 0;
}
