/*
 * One processor for whoever traces and for the process that it steps through a few stops.
 * Library code; runs in whoever dumps or restores.
 *
 * Only one of the two runs at a time, but the scheduler wakes each on a processor that is
 * idle, and one that is idle sleeps: in a virtual machine it takes 50 us to come back, eight
 * times in a dump of 0.5 ms. What has more than one thread is left where it is.
 */
#include "vmadump/stay.h"

void stay_here(struct stay *s, pid_t pid)
{
	int cpu = sched_getcpu(), e = errno;
	cpu_set_t here;

	*s = (struct stay){.pid = pid};
	CPU_ZERO(&here);
	if (cpu >= 0 && cpu < CPU_SETSIZE)
		CPU_SET(cpu, &here);
	s->own_bound = sched_getaffinity(0, sizeof s->own, &s->own) == 0 &&
		       sched_setaffinity(0, sizeof here, &here) == 0;
	if (pid && s->own_bound)
		s->its_bound = sched_getaffinity(pid, sizeof s->its, &s->its) == 0 &&
			       sched_setaffinity(pid, sizeof here, &here) == 0;
	errno = e;
}

void stay_free_it(struct stay *s)
{
	int e = errno;

	if (s->its_bound)
		sched_setaffinity(s->pid, sizeof s->its, &s->its);
	s->its_bound = 0;
	errno = e;
}

void stay_end(struct stay *s)
{
	int e = errno;

	if (s->own_bound)
		sched_setaffinity(0, sizeof s->own, &s->own);
	s->own_bound = 0;
	errno = e;
}
