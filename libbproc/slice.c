/*
 * Time slices of the daemons (slice.h). Runs in bpmaster, bpslave and bpinit.
 */
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "libbproc/slice.h"

#define SLICE_NS 100000	      /* the kernel's least */
#define RESET_ON_FORK 0x01ull /* SCHED_FLAG_RESET_ON_FORK */

/* sched_setattr(2), its first version: libc has no declaration of it everywhere. */
struct attr {
	uint32_t size, policy;
	uint64_t flags;
	int32_t nice;
	uint32_t priority;
	uint64_t runtime, deadline, period;
};

void slice_short(void)
{
	struct attr a = {.size = sizeof(a)};

	/* Whoever runs us under another policy wants that one. */
	if (syscall(SYS_sched_getattr, 0, &a, sizeof(a), 0) < 0 || a.policy != 0)
		return;
	a.size = sizeof(a);
	a.flags |= RESET_ON_FORK;
	a.runtime = SLICE_NS;
	syscall(SYS_sched_setattr, 0, &a, 0);
}
