/*
 * The table of refusals. A process that has one of these stays where it is,
 * untouched, and its caller is told which it was (ENOTSUP). Runs in the blob.
 * The texts are arrays, not pointers: the blob is never relocated.
 */
#include <stdarg.h>

#include "lib.h"
#include "refuse.h"
#include "sys.h"

static const char texts[REFUSAL_COUNT][96] = {
	[REFUSE_THREADS] = "it has %lu threads; only one can be carried",
	[REFUSE_32BIT] = "it runs 32-bit code; it cannot move",
	[REFUSE_SHSTK] = "it uses a shadow stack (CET); it cannot move",
	[REFUSE_RSEQ] = "its restartable sequences are registered at an unknown address",
	[REFUSE_SYSVSHM] = "mapping at %lx is System V shared memory; it cannot move",
	[REFUSE_DEVICE_MAP] = "mapping at %lx is of device %s; it cannot move",
	[REFUSE_PFN_MAP] = "mapping at %lx is of a device's memory; it cannot move",
	[REFUSE_HUGETLB] = "mapping at %lx is of hugetlb pages; it cannot move",
	[REFUSE_UFFD_MAP] = "mapping at %lx is watched by userfaultfd; it cannot move",
	[REFUSE_PKEY] = "mapping at %lx has a protection key; it cannot move",
	[REFUSE_AIO] = "it has an asynchronous I/O context (io_setup); it cannot move",
	[REFUSE_MAP_DELETED] = "mapping at %lx is of a deleted file, %s; it cannot move",
	[REFUSE_MAP_ANON_INODE] = "mapping at %lx is of %s; it cannot move",
	[REFUSE_MAP_TWICE] = "mapping at %lx shares its memory with another one; it cannot move",
	[REFUSE_MAP_SECRET] = "mapping at %lx is secret memory; it cannot move",
	[REFUSE_FD_PIPE] = "fd %d is a pipe; it cannot move",
	[REFUSE_FD_FIFO] = "fd %d is the fifo %s; it cannot move",
	[REFUSE_FD_SOCKET] = "fd %d is a socket; it cannot move",
	[REFUSE_FD_TTY] = "fd %d is the terminal %s; it cannot move",
	[REFUSE_FD_MEMFD] = "fd %d is a memfd (%s); it cannot move",
	[REFUSE_FD_DELETED] = "fd %d is a deleted file, %s; it cannot move",
	[REFUSE_FD_MOVED] = "fd %d is %s, which is another file by now; it cannot move",
	[REFUSE_FD_DEVICE] = "fd %d is %s, a device of this node; it cannot move",
	[REFUSE_FD_ANON] = "fd %d is %s; it cannot move",
	[REFUSE_FD_NS] = "fd %d is a namespace (%s); it cannot move",
	[REFUSE_FD_LOCK] = "fd %d holds a lock on %s; it cannot move",
	[REFUSE_PENDING] = "more than %lu signals are queued for it",
	[REFUSE_TIMER] = "its timer %d cannot be carried (%s)",
	[REFUSE_LIMIT] = "it has more than %lu %s",
};

long refuse(struct blob *b, enum refusal why, ...)
{
	va_list ap;

	b->err.code = ENOTSUP;
	va_start(ap, why);
	str_vformat(b->err.text, sizeof b->err.text, texts[why], ap);
	va_end(ap);
	return -ENOTSUP;
}
