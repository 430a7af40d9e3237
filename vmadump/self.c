/*
 * The calling process and the blob: maps it, calls it, unmaps it. Library code,
 * runs in user programs; never instrumented, since it goes with them in images.
 *
 * vmad_prepare() leaves a blob mapped, with its code, so that a child of fork has
 * it without a copy of its own; that blob and what env holds are used by every
 * later call, and forgotten when a copy comes out of a call: it may be on another
 * machine, and its blob was another one.
 */
#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include "vmadump/blob/blob.h"
#include "vmadump/carry.h"

#define RSEQ_SIG_X86 0x53053053u /* glibc registers with it on x86 */
#define STACK_USED (8ul << 10) /* bytes, about; see populate() */
#define SCRATCH_USED (44ul << 10)
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* linux/mman.h; not every libc has it */
#endif
#define ENTERED 1 /* what the blob of a restored copy puts into rax */

_Static_assert(offsetof(struct blob, base) == 0x08, "enter.S");
_Static_assert(offsetof(struct blob, regs) == 0x50, "enter.S");
_Static_assert(offsetof(struct blob_regs, ss) == 0xa0, "enter.S");
_Static_assert(sizeof(((struct vmad_err *)0)->text) == CHAN_TEXT_MAX, "texts are copied whole");

extern const char vmad_blob_start[], vmad_blob_stop[];
long vmad_enter(struct blob *b, void **ret_base);

/* glibc 2.35 and later; absent elsewhere. */
extern const ptrdiff_t __rseq_offset __attribute__((weak));
extern const unsigned int __rseq_size __attribute__((weak));

static struct blob_env env_cache;
static struct blob *kept; /* not in use; taken and given back whole, for threads may fork */

const void *vmad_blob_bytes(size_t *ret_len)
{
	*ret_len = (size_t)(vmad_blob_stop - vmad_blob_start);
	return vmad_blob_start;
}

/* Is what lies at addr a blob that a process was injected with, and left there? */
static int is_left_over(void *addr)
{
	uint64_t head[2];
	struct iovec to = {head, sizeof head};
	struct iovec from = {(char *)addr + BLOB_CODE_MAX, sizeof head};

	return process_vm_readv(getpid(), &to, 1, &from, 1, 0) == (ssize_t)sizeof head &&
	       head[0] == BLOB_MAGIC && head[1] == (uint64_t)addr;
}

/* Its threads lay below it, its working memory behind. */
static void unmap_left_over(struct blob *b)
{
	uint64_t low = b->low ? b->low : b->base, end = b->arena.base + b->arena.size;

	munmap((void *)low, (b->arena.base ? end : b->base + BLOB_SIZE) - low);
}

static int is_mapped(struct blob *b)
{
	uint8_t code[16];
	struct iovec to = {code, sizeof code};
	struct iovec from = {(char *)b - BLOB_CODE_MAX, sizeof code};

	/* What we keep is zeroed; one that brought us here by order of another may lie there. */
	return process_vm_readv(getpid(), &to, 1, &from, 1, 0) == (ssize_t)sizeof code &&
	       memcmp(code, vmad_blob_start, sizeof code) == 0 &&
	       !is_left_over((char *)b - BLOB_CODE_MAX);
}

static void *map_somewhere(void)
{
	const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE;
	const int prot = PROT_READ | PROT_WRITE;

	for (unsigned i = 0; i < BLOB_TRIES; i++) {
		char *at = (char *)(BLOB_ADDR + i * BLOB_APART);
		void *p = mmap(at, BLOB_SIZE, prot, flags, -1, 0);

		if (p == MAP_FAILED && errno == EEXIST && is_left_over(at)) {
			unmap_left_over((struct blob *)(at + BLOB_CODE_MAX));
			p = mmap(at, BLOB_SIZE, prot, flags, -1, 0);
		}
		if (p != MAP_FAILED || errno != EEXIST)
			return p;
	}
	return mmap(NULL, BLOB_SIZE, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

static struct blob *map_new(void)
{
	size_t len = (size_t)(vmad_blob_stop - vmad_blob_start);
	char *base = map_somewhere();

	if (base == MAP_FAILED)
		return NULL;
	madvise(base, (len + 4095) & ~4095ul, MADV_POPULATE_WRITE);
	memcpy(base, vmad_blob_start, len);
	if (mprotect(base, BLOB_CODE_MAX, PROT_READ | PROT_EXEC) < 0) {
		int e = errno;

		munmap(base, BLOB_SIZE);
		errno = e == EACCES ? ENOTSUP : e; /* PR_SET_MDWE: as of whoever may not move */
		return NULL;
	}
	return (struct blob *)(base + BLOB_CODE_MAX);
}

/* Pages that every verb writes to: at once they cost half of what faults cost. */
static void populate(struct blob *b)
{
	char *at = (char *)b;
	uint64_t xsave = env_cache.xsave_size ? env_cache.xsave_size : BLOB_XSAVE_MAX;

	madvise(at, (offsetof(struct blob, xsave) + xsave + 4095) & ~4095ul, MADV_POPULATE_WRITE);
	madvise(at + BLOB_SCRATCH - STACK_USED, STACK_USED + SCRATCH_USED, MADV_POPULATE_WRITE);
}

struct blob *vmad_blob_map(void)
{
	struct blob *b = __atomic_exchange_n(&kept, NULL, __ATOMIC_ACQ_REL);

	/* Who moved us from outside has unmapped it, and we may be on another machine. */
	if (b && !is_mapped(b)) {
		b = NULL;
		env_cache = (struct blob_env){0};
	}
	if (!b)
		b = map_new();
	if (!b)
		return NULL;
	populate(b);
	b->magic = BLOB_MAGIC;
	b->self = (uint64_t)b;
	b->base = b->self - BLOB_CODE_MAX;
	b->chan = -1;
	b->fd = -1;
	memset(b->hide_fd, 0xff, sizeof b->hide_fd);
	if (&__rseq_size && __rseq_size) {
		b->rseq_addr = (uint64_t)__builtin_thread_pointer() + (uint64_t)__rseq_offset;
		b->rseq_len = __rseq_size;
		b->rseq_sig = RSEQ_SIG_X86;
	}
	b->env = env_cache;
	return b;
}

void vmad_blob_unmap(struct blob *b)
{
	struct blob *none = NULL;
	int e = errno;

	/* Zeroed, as a new one, and no memory of its own but the code. */
	if (madvise(b, BLOB_DATA, MADV_DONTNEED) < 0 ||
	    !__atomic_compare_exchange_n(&kept, &none, b, 0, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
		munmap((char *)b - BLOB_CODE_MAX, BLOB_SIZE);
	errno = e;
}

void vmad_blob_drop(struct blob *b)
{
	uint64_t end = b->arena.base + b->arena.size;

	if (b->arena.base && end > b->base + BLOB_SIZE)
		munmap((char *)b + BLOB_DATA, end - (b->base + BLOB_SIZE));
	vmad_blob_unmap(b);
}

long vmad_blob_call(struct blob *b)
{
	uint32_t verb = b->verb;
	void *base;
	long r = vmad_enter(b, &base);

	/* The copy's blob may lie elsewhere than ours did. */
	if ((verb == BLOB_DUMP || verb == BLOB_LEAVE) && r == ENTERED) {
		env_cache = (struct blob_env){0};
		kept = NULL;
		if ((uint64_t)base & BLOB_ANNEXED)
			munmap((char *)base - BLOB_ANNEXED - BLOB_ANNEX, BLOB_ANNEX + BLOB_SIZE);
		else
			munmap(base, BLOB_SIZE);
		return ENTERED;
	}
	return r;
}

static int vmad_env(struct blob_env *ret_env)
{
	struct blob *b = vmad_blob_map();
	long r;

	if (!b)
		return -1;
	b->verb = BLOB_ENV;
	r = vmad_blob_call(b);
	if (r == 0)
		*ret_env = b->env;
	vmad_blob_unmap(b);
	if (r == 0)
		return 0;
	errno = (int)-r;
	return -1;
}

void vmad_prepare(void)
{
	struct blob_env env;
	struct blob *b = __atomic_load_n(&kept, __ATOMIC_ACQUIRE);

	if (b && !is_mapped(b)) /* see vmad_blob_map() */
		env_cache = (struct blob_env){0};
	if (!env_cache.cpu_known && vmad_env(&env) == 0)
		env_cache = env;
}

static int fail(struct vmad_err *err, int code, const char *what)
{
	if (err) {
		err->code = code;
		snprintf(err->text, sizeof err->text, "%s: %s", what, strerror(code));
	}
	errno = code;
	return -1;
}

static void take_err(struct vmad_err *err, const struct blob *b, long r)
{
	if (!err)
		return;
	err->code = (int)-r;
	memcpy(err->text, b->err.text, sizeof err->text);
}

/* Runs b and unmaps it. ENTERED in a copy. */
static long call_once(struct blob *b, struct vmad_err *err)
{
	long r = vmad_blob_call(b);

	if (r == ENTERED)
		return r;
	if (r < 0)
		take_err(err, b, r);
	vmad_blob_unmap(b);
	return r;
}

long vmad_dump(int fd, unsigned flags, struct vmad_err *err)
{
	struct blob *b;
	long r;

	if (flags & ~(unsigned)(VMAD_DUMP_LIBS | VMAD_DUMP_EXEC | VMAD_DUMP_OTHER))
		return fail(err, EINVAL, "vmadump: flags");
	vmad_prepare();
	b = vmad_blob_map();
	if (!b)
		return fail(err, errno, "vmadump: cannot map the blob");
	b->verb = BLOB_DUMP;
	b->fd = fd;
	b->dump_flags = flags;
	b->hide_fd[0] = fd;
	r = call_once(b, err);
	if (r == ENTERED)
		return 0;
	if (r < 0) {
		errno = (int)-r;
		return -1;
	}
	return r;
}

int vmad_undump(int fd, struct vmad_err *err)
{
	struct blob *b = vmad_blob_map();
	long r;

	if (!b)
		return fail(err, errno, "vmadump: cannot map the blob");
	b->verb = BLOB_RESTORE;
	b->fd = fd;
	r = call_once(b, err);
	errno = (int)-r;
	return -1;
}
