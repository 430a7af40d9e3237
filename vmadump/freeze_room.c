/*
 * Room for the blob in a process that is stopped. Library code; runs in whoever dumps. A blob
 * that nobody is in any more goes first: it is left where an image was restored by itself, and
 * a program that dumps itself keeps one for the next time. Both find out (self.c).
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "vmadump/blob/refuse.h"
#include "vmadump/freeze.h"

#define CODE_LOOK 4096u

static int look(struct trace *t, uint64_t at, void *to, size_t n)
{
	struct iovec l = {to, n}, r = {(void *)at, n};

	return process_vm_readv(t->pid, &l, 1, &r, 1, 0) == (ssize_t)n ? 0 : -1;
}

/*
 * From where to where what is at this address reaches, if it is a blob: its threads lie below,
 * if it was parked, its working memory behind.
 */
static int is_blob(struct trace *t, uint64_t at, uint64_t *ret_low, uint64_t *ret_end)
{
	uint8_t code[CODE_LOOK];
	struct blob b;
	size_t len;

	if (look(t, at, code, sizeof code) < 0 ||
	    memcmp(code, vmad_blob_bytes(&len), sizeof code) != 0)
		return 0;
	*ret_low = at;
	*ret_end = at + BLOB_SIZE;
	if (look(t, at + BLOB_CODE_MAX, &b, sizeof b) < 0 || b.magic != BLOB_MAGIC || b.base != at)
		return 1;
	if (b.low && b.low < at && at - b.low < BLOB_APART)
		*ret_low = b.low;
	if (b.arena.base == at + BLOB_CODE_MAX + BLOB_SCRATCH && b.arena.size < BLOB_APART)
		*ret_end = b.arena.base + b.arena.size;
	return 1;
}

static int call(struct freeze *f, long nr, uint64_t a, uint64_t b, uint64_t c, uint64_t d,
		int64_t *ret)
{
	const uint64_t arg[6] = {a, b, c, d, (uint64_t)-1, 0};

	return trace_syscall(&f->t, nr, arg, ret);
}

int freeze_room(struct freeze *f, uint64_t below, uint64_t len)
{
	const uint64_t prot = PROT_READ | PROT_WRITE | PROT_EXEC,
		       flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE;
	int64_t ret = -ENOMEM;

	for (unsigned i = 0; i < BLOB_TRIES; i++) {
		uint64_t at = BLOB_ADDR + i * BLOB_APART, low, end;

		if (is_blob(&f->t, at, &low, &end) &&
		    call(f, SYS_munmap, low, end - low, 0, 0, &ret) < 0)
			return -1;
		if (call(f, SYS_mmap, at - below, len, prot, flags, &ret) < 0)
			return -1;
		if (ret != -EEXIST)
			break;
	}
	/* mmap() says so of nothing else that has no file. */
	if (ret == -EACCES)
		return trace_refuse(&f->t, REFUSE_MDWE);
	if (ret < 0)
		return trace_fail(&f->t, (int)-ret, "no room for the blob in process %d: %s",
				  f->t.pid, strerror((int)-ret));
	f->low = (uint64_t)ret;
	f->len = len;
	return 0;
}
