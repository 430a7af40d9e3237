/*
 * bpinit: groups that are orphaned while one of them is stopped.
 */
#pragma once

#include "slaved/bpinit.h"

/* -- bpinit_orphan.c */

/* The kernel's SIGHUP or SIGCONT to a ghost: true if there is nothing left to tell of it. */
bool orphan_met(struct proc *p, int sig);
/* What home has told so, for a process that may be real here. */
void orphan_deliver(const struct init_msg *m);
/* Has the kernel sent its SIGHUP to this ghost in these moments? It may have gone after that. */
bool orphan_is_sent(struct proc *ghost);

/* -- bpinit_bereft.c */

/* At home: the end of a ghost that has to wait until one of that group is stopped here too. */
bool bereft_exit(struct proc *p, const struct init_msg *m);
void bereft_stopped(struct proc *p); /* one that is held has stopped, or goes on */
void bereft_ended(int32_t pid);
int bereft_tick(int ms); /* ms until the next look, at most this (-1: any time) */
