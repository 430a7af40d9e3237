/*
 * The seccomp filters of an arrival. They come from its source's bpslave, which has read them
 * from the kernel, and not with the image, which the user may have written. All that the blob does
 * they allow (calls.h), so they are set first, and what reads the image runs under them.
 *
 * A ghost has those already that its original had when it left, and so has what is cloned by
 * it: filters are never taken off. What an arrival finds is the beginning of what it is to have: a
 * child that was made before its parent set one has its own ghost wherever the parent has been
 * since. That holds after a failure too: what was set then is there the next time.
 */
#include <linux/seccomp.h>

#include "filters.h"
#include "ghost.h"

/* All threads, those that are parked in a ghost too. */
static long set(struct blob *b, const uint8_t *at)
{
	struct {
		uint16_t n, pad[3];
		const void *p;
	} prog = {0, {0}, at + FILTER_HEAD};
	uint32_t flags, n;
	long r;

	memcpy(&flags, at, sizeof flags);
	memcpy(&n, at + 4, sizeof n);
	prog.n = (uint16_t)n;
	r = sys_seccomp(SECCOMP_SET_MODE_FILTER, flags | SECCOMP_FILTER_FLAG_TSYNC, &prog);
	return r == 0 ? 0
		      : blob_err_set(&b->err, r < 0 ? (int)-r : EBUSY, "its seccomp filter: %s",
				     errno_name(r < 0 ? r : -EBUSY));
}

static long set_rest(struct blob *b, const uint8_t *bytes, size_t len)
{
	uint64_t id = 0;
	int mine = b->filters == 0;
	size_t at = 0, n;

	for (; (n = filters_next(bytes, len, at)) > 0; at += n) {
		id = filters_mix(id, bytes + at, n);
		if (mine && set(b, bytes + at) < 0)
			return -1;
		if (mine)
			b->filters = id;
		mine |= id == b->filters;
	}
	if (at < len || !mine)
		return blob_err_set(&b->err, ENOTSUP,
				    "its ghost or its parent's there has seccomp filters that "
				    "it has not");
	return 0;
}

long filters_take(struct blob *b, struct chan_pkt *p)
{
	struct stat st = {0};
	size_t len = 0;
	long at = 0, r;
	int fd;

	if (p->m.flags & CHAN_ARRIVE_FILTERS && p->nfd > 1) {
		fd = p->fd[--p->nfd];
		r = sys_fstat(fd, &st);
		len = (size_t)st.st_size;
		at = r < 0 ? r : sys_mmap(NULL, len, PROT_READ, MAP_PRIVATE, fd, 0);
		sys_close(fd);
		if (at < 0)
			return blob_err_set(&b->err, (int)-at, "its seccomp filters: %s",
					    errno_name(at));
	}
	r = set_rest(b, (const void *)at, len);
	if (len)
		sys_munmap((void *)at, len);
	return r;
}
