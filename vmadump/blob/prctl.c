/*
 * What prctl(2) sets of a thread, or of all of the process, and most programs leave as it is: one
 * word of each thread (image.h, TAG_PRCTL), 0 if all is so. Runs in the blob, in that thread.
 */
#include "image.h"
#include "lib.h"
#include "sys.h"
#include "thread.h"

/* Linux 6.4 */
#define SET_MEMORY_MERGE 67
#define GET_MEMORY_MERGE 68

uint32_t prctl_get(void)
{
	int tsc = PR_TSC_ENABLE;
	long mce = sys_prctl(PR_MCE_KILL_GET, 0, 0, 0, 0);
	uint32_t v = 0;

	sys_prctl(PR_GET_TSC, (unsigned long)&tsc, 0, 0, 0);
	if (tsc == PR_TSC_SIGSEGV)
		v |= PRCTL_TSC;
	if (mce == PR_MCE_KILL_EARLY || mce == PR_MCE_KILL_LATE)
		v |= mce == PR_MCE_KILL_EARLY ? PRCTL_EARLY : PRCTL_LATE;
	if (sys_prctl(GET_MEMORY_MERGE, 0, 0, 0, 0) == 1)
		v |= PRCTL_MERGE;
	return v;
}

/* A ghost, and who was made by another process, may have what the image has not. */
long prctl_set(uint32_t v)
{
	unsigned long mce = v & PRCTL_EARLY  ? PR_MCE_KILL_EARLY
			    : v & PRCTL_LATE ? PR_MCE_KILL_LATE
					     : PR_MCE_KILL_DEFAULT;
	long tsc = sys_prctl(PR_SET_TSC, v & PRCTL_TSC ? PR_TSC_SIGSEGV : PR_TSC_ENABLE, 0, 0, 0);
	long e = sys_prctl(PR_MCE_KILL, PR_MCE_KILL_SET, mce, 0, 0);

	/* No result depends on it: a kernel that cannot merge goes without. */
	sys_prctl(SET_MEMORY_MERGE, !!(v & PRCTL_MERGE), 0, 0, 0);
	e = MIN(tsc, e);
	return v & ~PRCTL_MERGE ? e : 0;
}
