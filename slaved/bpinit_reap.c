/*
 * bpinit: ghosts at home whose originals have been waited for where those and their parents
 * are. Their zombies stay until then; a ghost that is their parent then waits for them.
 */
#include "slaved/bpinit.h"

#define DUE_MAX 1024
#define OVER_MAX 4096

/* Ghosts whose end was mirrored. The master may tell of one once more that has not heard so. */
static struct {
	int32_t pid;
	uint64_t use;
} over[OVER_MAX];

void born_over(int32_t pid, uint64_t use)
{
	over[(uint32_t)pid % OVER_MAX].pid = pid;
	over[(uint32_t)pid % OVER_MAX].use = use;
}

bool born_was(int32_t pid, uint64_t use)
{
	return use && over[(uint32_t)pid % OVER_MAX].pid == pid &&
	       over[(uint32_t)pid % OVER_MAX].use == use;
}

/* Waited for on a node by one that runs there, but is still parked here. */
static struct {
	int32_t pid, ppid;
} due[DUE_MAX];
static uint32_t ndue;

static void reap_when_ghost(int32_t pid, int32_t ppid)
{
	for (uint32_t i = ndue; i-- > 0;) {
		const struct proc *p = proc_find(due[i].ppid);

		/* It has ended, or stays after all and waits by itself. */
		if (due[i].pid == pid || !p || p->state != PROC_LEAVING)
			due[i] = due[--ndue];
	}
	if (ndue == DUE_MAX) {
		say("pid %d stays a zombie: too many wait for their parents", pid);
		return;
	}
	due[ndue].pid = pid;
	due[ndue++].ppid = ppid;
}

void born_reap(int32_t pid)
{
	struct proc *parent = proc_find(proc_parent(pid));

	/* Any other parent at home waits for itself: it is real here, or init, or we. */
	if (!parent)
		return;
	if (parent->state == PROC_LEAVING)
		return reap_when_ghost(pid, parent->pid);
	if (parent->state != PROC_GHOST || parent->chan < 0)
		return;
	proc_tell(parent, &(struct chan_msg){.type = CHAN_REAP, .u.pid = pid}, NULL, 0);
	if (parent->stopped) {
		trace_wake(parent);
		trace_sleep(parent);
	}
}

void born_reap_due(int32_t ppid)
{
	for (uint32_t i = 0; i < ndue;) {
		int32_t pid = due[i].pid;

		if (due[i].ppid != ppid) {
			i++;
			continue;
		}
		due[i] = due[--ndue];
		born_reap(pid);
	}
}

void born_gone(int32_t pid)
{
	born_reap(pid);
	arrive_progress();
}
