/* One processor for whoever traces and for whom it traces. Library code, not installed. */
#pragma once

#include <errno.h>
#include <sched.h>
#include <sys/types.h>

struct stay {
	pid_t pid;
	int own_bound, its_bound;
	cpu_set_t own, its; /* where they may run else */
};

/* This thread, and process pid if that is not 0, stay on the processor that this runs on. */
void stay_here(struct stay *s, pid_t pid);
/* The process may run where it might before. */
void stay_free_it(struct stay *s);
/* So may this thread. */
void stay_end(struct stay *s);
