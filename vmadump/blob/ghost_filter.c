/*
 * The seccomp filters of an arrival. They come from its source's bpslave, which has read them
 * from the kernel, and not with the image, which the user may have written. All that the blob does
 * they allow (calls.h), so they are set first, and what reads the image runs under them.
 *
 * A ghost has those already that its original had when it left, and so has what is cloned by
 * it: filters are never taken off. What an arrival finds is the beginning of what it is to have: a
 * child that was made before its parent set one has its own ghost wherever the parent has been
 * since. That holds after a failure too: what was set then is there the next time.
 *
 * Threads may have more than the first. These each sets itself, when it is all else that it was.
 */
#include <linux/seccomp.h>

#include "filters.h"
#include "ghost.h"
#include "thread.h"

static long set(const uint8_t *at, unsigned sync)
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
	r = sys_seccomp(SECCOMP_SET_MODE_FILTER, flags | sync, &prog);
	return r > 0 ? -EBUSY : r;
}

/* How many the calling thread is under. */
static uint32_t count(void)
{
	static const char key[] = "\nSeccomp_filters:\t";
	long fd = sys_openat(AT_FDCWD, "/proc/thread-self/status", O_RDONLY | O_CLOEXEC, 0);
	uint32_t n = 0, at = 0;
	char c;

	while (fd >= 0 && sys_read((int)fd, &c, 1) == 1) {
		if (key[at])
			at = c == key[at] ? at + 1 : c == '\n';
		else if (c >= '0' && c <= '9')
			n = n * 10 + (uint32_t)(c - '0');
		else
			break;
	}
	if (fd >= 0)
		sys_close((int)fd);
	return n;
}

/* All threads have these, those that are parked in a ghost too. */
static long set_rest(struct blob *b, const uint8_t *bytes, size_t len)
{
	uint64_t id = 0;
	int mine = b->filters == 0;
	size_t at = 0, n;
	long r;

	for (; (n = filters_next(bytes, len, at)) > 0; at += n) {
		id = filters_mix(id, bytes + at, n);
		r = mine ? set(bytes + at, SECCOMP_FILTER_FLAG_TSYNC) : 0;
		if (r < 0)
			return blob_err_set(&b->err, (int)-r, "its seccomp filter: %s",
					    errno_name(r));
		if (mine)
			b->filters = id;
		mine |= id == b->filters;
	}
	b->own_len = 0;
	if (!mine || (at < len && !filters_of(bytes, len, at)))
		return blob_err_set(&b->err, ENOTSUP,
				    "its ghost or its parent's there has seccomp filters that "
				    "it has not");
	if (at == len)
		return 0;
	b->own = (uint64_t)arena_raw(b, len - at);
	if (!b->own)
		return -1;
	memcpy((void *)b->own, bytes + at, len - at);
	b->own_len = (uint32_t)(len - at);
	b->own_base = count();
	return 0;
}

/*
 * One that its ghost has kept has some of them: all that it had when it left. That is more than the
 * first thread has, and no other has a filter that it has not, so what is set here is the kernel's
 * word on the one with this number, and who has a number that is not here is as its maker.
 */
long filters_own(struct blob *b, const struct blob_thread *t)
{
	const uint8_t *bytes = (void *)b->own;
	uint32_t has = b->own_len && t->restored == THREAD_KEPT ? count() - b->own_base : 0;
	int32_t of = 0;
	size_t n;
	long r;

	for (size_t at = 0; at < b->own_len; at += n) {
		n = filters_next(bytes, b->own_len, at);
		if (!n) {
			of = filters_of(bytes, b->own_len, at);
			n = FILTER_HEAD;
			if (!of)
				return -EBADMSG;
		} else if (of != t->tid) {
			continue;
		} else if (has)
			has--;
		else if ((r = set(bytes + at, 0)) < 0)
			return r;
	}
	return has ? -ENOTSUP : 0;
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
