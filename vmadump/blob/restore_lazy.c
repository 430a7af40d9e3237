/*
 * An image whose large memory follows when it runs: that is put under a userfaultfd before
 * anything can touch it. bpinit has the right to make one that also serves the kernel's own
 * accesses, and the pager that serves it. Runs in the blob.
 */
#include <linux/userfaultfd.h>

#include "ghost.h"
#include "restore.h"

static long refused(struct restore *r, long e)
{
	return blob_err_set(&r->b->err, EOPNOTSUPP, "no memory can follow a process here: %s",
			    errno_name(e));
}

/* bpinit's word on it. */
static long wait_set(struct restore *r)
{
	struct blob *b = r->b;
	struct chan_pkt p;

	for (;;) {
		if (chan_recv(b, &p, 0) <= 0)
			return blob_err_set(&b->err, ECONNRESET, "bpinit has ended");
		chan_close_fds(&p, 0);
		if (p.m.type == CHAN_ABORT)
			return blob_err_set(&b->err, ECANCELED, "it was called off");
		if (p.m.type != CHAN_LAZY_SET)
			continue;
		p.m.u.text[CHAN_TEXT_MAX - 1] = 0;
		return p.m.err ? blob_err_set(&b->err, p.m.err, "%s", p.m.u.text) : 0;
	}
}

static long watch(struct restore *r, int uffd)
{
	for (uint32_t i = 0; i < r->nvmas; i++) {
		const struct rest_vma *v = &r->vmas[i];
		struct uffdio_register reg = {
			.range = {v->start, v->end - v->start},
			.mode = UFFDIO_REGISTER_MODE_MISSING,
		};
		long e = v->flags & VMA_LAZY ? sys_ioctl(uffd, UFFDIO_REGISTER, &reg) : 0;

		if (e < 0)
			return refused(r, e);
	}
	return 0;
}

long rest_lazy(struct restore *r)
{
	struct chan_msg m = {.type = CHAN_LAZY};
	uint32_t i = 0;
	long uffd, e;

	while (i < r->nvmas && !(r->vmas[i].flags & VMA_LAZY))
		i++;
	if (i == r->nvmas)
		return 0;
	uffd = sys_ioctl(r->opt->lazy_fd, USERFAULTFD_IOC_NEW, (void *)(O_CLOEXEC | O_NONBLOCK));
	if (uffd < 0)
		return refused(r, uffd);
	e = chan_send_fd(r->b, &m, (int)uffd);
	e = e < 0 ? refused(r, e) : wait_set(r);
	if (e == 0)
		e = watch(r, (int)uffd);
	sys_close((int)uffd);
	return e < 0 ? e : chan_tell(r->b, CHAN_LAZY_READY, CHAN_NO_MOVE);
}
