/*
 * One of a tree of processes: what whoever dumps them all has found out, and what of it goes
 * into this one's image. Runs in the blob.
 */
#include "dump.h"
#include "lib.h"
#include "refuse.h"
#include "sys.h"
#include "tree.h"

static uint64_t order_bytes(const struct tree_order *o)
{
	return sizeof *o + o->nfds * sizeof(struct tree_fd) + o->nmaps * sizeof(struct tree_map) +
	       o->plan_len + o->memory_len;
}

static const struct tree_map *maps(const struct dump *d)
{
	return (const void *)(d->order + 1);
}

static const struct tree_fd *fds(const struct dump *d)
{
	return (const void *)(maps(d) + d->order->nmaps);
}

long tree_read(struct dump *d)
{
	struct tree_order head, *o;
	uint64_t n;

	if (!d->opt->has_order)
		return 0;
	if (sys_pread(d->opt->order, &head, sizeof head, 0) != sizeof head)
		return blob_err_set(&d->b->err, EIO, "what it is to be told of its tree");
	n = order_bytes(&head);
	o = arena_raw(d->b, n);
	if (!o)
		return -ENOMEM;
	if (sys_pread(d->opt->order, o, n, 0) != (long)n)
		return blob_err_set(&d->b->err, EIO, "what it is to be told of its tree");
	d->order = o;
	for (uint32_t i = 0; i < o->nfds; i++)
		if (fds(d)[i].flags & TREE_FD_EXTRA && sys_fcntl(fds(d)[i].fd, F_GETFD, 0) < 0)
			return blob_err_set(&d->b->err, EMFILE,
					    "no descriptors are left in process %d for what its "
					    "children have open",
					    d->pid);
	return 0;
}

const struct tree_fd *tree_fd_of(const struct dump *d, int fd)
{
	uint32_t lo = 0, hi = d->order ? d->order->nfds : 0;

	while (lo < hi) {
		uint32_t i = (lo + hi) / 2;

		if (fds(d)[i].fd == fd)
			return &fds(d)[i];
		if (fds(d)[i].fd < fd)
			lo = i + 1;
		else
			hi = i;
	}
	return NULL;
}

const struct tree_map *tree_map_at(const struct dump *d, uint64_t start)
{
	for (uint32_t i = 0; d->order && i < d->order->nmaps; i++)
		if (maps(d)[i].start == start)
			return &maps(d)[i];
	return NULL;
}

/* A reader that does not know it goes by its own clocks. */
uint8_t *clocks_rec(struct dump *d, uint8_t *rec)
{
	uint8_t *p = rec + IMAGE_REC_HEAD, *end;
	struct timespec now[2] = {0};

	if (!d->opt->goes_on)
		return rec;
	sys_clock_gettime(1 /* CLOCK_MONOTONIC */, &now[0]);
	sys_clock_gettime(7 /* CLOCK_BOOTTIME */, &now[1]);
	for (int i = 0; i < 2; i++) {
		put64(p + 16 * i, (uint64_t)now[i].tv_sec);
		put64(p + 16 * i + 8, (uint64_t)now[i].tv_nsec);
	}
	end = rec_end(rec, TAG_CLOCKS, REC_CLOCKS_LEN);
	put16(rec + 2, 0);
	return end;
}

/* For a kernel whose own is another. */
uint8_t *vdso_rec(struct dump *d, uint8_t *rec)
{
	const struct blob_env *e = &d->b->env;

	for (uint32_t i = 0; d->opt->goes_on && i < e->nspecial; i++) {
		const uint8_t *p = (const void *)e->special[i].start;
		uint64_t n = MIN(e->special[i].len, VDSO_MOST);

		if (e->special[i].kind != SPECIAL_VDSO)
			continue;
		while (n && !p[n - 1])
			n--;
		memcpy(rec + IMAGE_REC_HEAD, p, n);
		rec_end(rec, TAG_VDSO, n);
		put16(rec + 2, 0);
		return rec + IMAGE_REC_HEAD + ROUND_UP(n, 8);
	}
	return rec;
}

uint64_t tree_recs_max(const struct dump *d)
{
	uint64_t n = IMAGE_REC_HEAD + REC_CLOCKS_LEN + IMAGE_REC_HEAD + VDSO_MOST +
		     2 * IMAGE_REC_HEAD + MEMBER_LEN;

	return d->order ? n + d->order->plan_len + d->order->memory_len : n;
}

uint8_t *tree_recs(struct dump *d, uint8_t *rec)
{
	const struct tree_order *o = d->order;
	const uint8_t *plan = o ? (const void *)(fds(d) + o->nfds) : NULL;

	if (!o)
		return rec;
	if (o->index) {
		put32(rec + IMAGE_REC_HEAD, o->index);
		put32(rec + IMAGE_REC_HEAD + 4, o->first_pid);
		put64(rec + IMAGE_REC_HEAD + 8, 0);
		rec = rec_end(rec, TAG_MEMBER, MEMBER_LEN);
	}
	if (o->plan_len) { /* else it moves, and so do the others, each by itself */
		memcpy(rec + IMAGE_REC_HEAD, plan, o->plan_len);
		rec = rec_end(rec, TAG_TREE, o->plan_len);
	}
	if (!o->memory_len)
		return rec;
	memcpy(rec + IMAGE_REC_HEAD, plan + o->plan_len, o->memory_len);
	return rec_end(rec, TAG_MEMORY, o->memory_len);
}
