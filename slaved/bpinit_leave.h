/*
 * bpinit: what the files share that have to do with a process on its way out. Included by
 * bpinit.h.
 */
#pragma once

struct proc;
struct move;

/* bpinit_leave.c */
void leave_message(struct proc *p, const struct chan_msg *c); /* from a LEAVING process */
bool leave_is_ghosting(const struct proc *p); /* told to be a ghost, has not said so */
void leave_injected(struct proc *p);	      /* its blob is about to run */
void leave_inject_failed(struct proc *p, int err, const char *what);
uint32_t leave_go_flags(const struct move *m); /* of CHAN_GO */
void leave_failed(struct move *m, int err, const char *text);
void leave_became_ghost(struct move *m, struct proc *p);
void leave_may_go(int32_t pid); /* all that it was sent has come */

/* bpinit_gone.c */
void leave_exit_stop(struct proc *p); /* killed while parked */
void leave_died(struct proc *p, int status);

/* bpinit_live.c: pages that go ahead; live_over(): of a process that is here, at the target. */
void live_granted(struct move *m);
void live_arrived(struct move *m);
void live_over(const struct move *m);
