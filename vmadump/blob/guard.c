/*
 * Pages of a mapping that nobody may touch, by MADV_GUARD_INSTALL: a C library has them at the
 * ends of its threads' stacks. They have no contents, and who reads them has a fault. Which ones
 * they are PAGEMAP_SCAN says, since Linux 6.15. Runs in the blob.
 */
#include "dump.h"
#include "dump_scan.h"
#include "lib.h"
#include "pagemap.h"
#include "refuse.h"
#include "restore.h"
#include "sys.h"

#define MADV_GUARD_INSTALL 102

int guard_within(int fd, uint64_t start, uint64_t end)
{
	struct scan_region one;
	struct scan_arg arg = {
		.size = sizeof arg,
		.start = start,
		.end = end,
		.vec = (uint64_t)&one,
		.vec_len = 1,
		.max_pages = 1,
		.mask = SCAN_GUARD,
		.report = SCAN_GUARD,
	};

	return sys_ioctl(fd, SCAN_IOCTL, &arg) > 0;
}

long guard_add(struct dump *d, uint64_t start, uint64_t end)
{
	if (!d->guards)
		return GUARD_FIRST;
	if (d->nguards == GUARDS_MAX)
		return refuse(d->b, REFUSE_LIMIT, (unsigned long)GUARDS_MAX, "guard pages");
	d->guards[d->nguards++] = (struct dump_run){start, end};
	return 0;
}

uint8_t *guard_rec(struct dump *d, uint8_t *rec)
{
	uint64_t len = d->nguards * REC_GUARD_LEN;

	if (!len)
		return rec;
	memcpy(rec + IMAGE_REC_HEAD, d->guards, len);
	return rec_end(rec, TAG_GUARDS, len);
}

long rest_guards(struct restore *r)
{
	const struct rest_rec *rec = &r->rec[TAG_GUARDS];

	for (const uint8_t *p = rec->p; p < rec->p + rec->len; p += REC_GUARD_LEN) {
		uint64_t start = get64(p), len = get64(p + 8) - start;
		long e = sys_madvise((void *)start, len, MADV_GUARD_INSTALL);

		if (e < 0)
			return blob_err_set(&r->b->err, (int)-e, "guard pages at %lx: %s", start,
					    errno_name(e));
	}
	return 0;
}
