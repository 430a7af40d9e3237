/*
 * bpinit: on which processor a process is woken. The daemons share one; what is part
 * of their own work is done best beside them, and what is not, elsewhere.
 */
#include <string.h>

#include "slaved/bpinit.h"

static cpu_set_t ours, others;
static bool confined; /* to one processor, of several */

/* Is there a processor that the daemons, ours to inherit from, keep off? */
void cpu_start(void)
{
	if (sched_getaffinity(0, sizeof(ours), &ours) < 0 || CPU_COUNT(&ours) != 1)
		return;
	memset(&others, 0xff, sizeof(others));
	CPU_XOR(&others, &others, &ours);
	confined = true;
}

void cpu_away(int32_t pid)
{
	if (confined)
		sched_setaffinity(pid, sizeof(others), &others);
}

static bool put(int32_t pid, const cpu_set_t *where, cpu_set_t *was)
{
	cpu_set_t both;

	if (!confined || sched_getaffinity(pid, sizeof(*was), was) < 0)
		return false;
	/* Only where it may be, and if that says anything. */
	CPU_AND(&both, was, where);
	return CPU_COUNT(&both) > 0 && !CPU_EQUAL(&both, was) &&
	       sched_setaffinity(pid, sizeof(both), &both) == 0;
}

struct cpu_mask cpu_woken_away(int32_t pid)
{
	struct cpu_mask m;

	m.set = put(pid, &others, &m.was);
	return m;
}

struct cpu_mask cpu_woken_here(int32_t pid)
{
	struct cpu_mask m;

	m.set = put(pid, &ours, &m.was);
	return m;
}

void cpu_back(int32_t pid, const struct cpu_mask *m)
{
	if (m->set)
		sched_setaffinity(pid, sizeof(m->was), &m->was);
}
