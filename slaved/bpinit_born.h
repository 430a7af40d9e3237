/*
 * Ghosts at home of what was born on a node: how they are made, how their originals come home, and
 * how they are waited for. Included by bpinit.h.
 */
#pragma once

/* -- bpinit_born.c */

void init_born(const struct init_msg *m);
void init_reaped(const struct init_msg *m);
void init_ended(const struct init_msg *m);
bool born_of(int32_t ppid);		   /* a child of it is still to be made */
void born_made(struct proc *p);		   /* the ghost says so */
void born_failed(struct proc *p, int err); /* it could not be made; p is removed by the caller */
/* Its end, its last stop or continue has come first; true: kept until its ghost is made. */
bool born_mirror(const struct init_msg *m);
bool born_waits(int32_t pid);	/* its ghost is still to be made */
bool born_settled(int32_t pid); /* it may come home, as far as its children go */
int born_tick(void);		/* tries again what is due; ms until the next, or -1 */

/* -- bpinit_home.c */

#define UNTOLD_MS 5000 /* what was told while bpslave was away is told again by then */

/* What it has on 0..2 when it comes home: what the nearest ancestor has that left from here. */
void born_stdio(int32_t pid, int ret_fd[CHAN_STREAMS]);
/* Has this arrival nobody here yet that could make it? Then arrive_progress() follows. */
bool home_waits(struct move *m);
int home_tick(int ms); /* ms until the next look, at most this (-1: any time) */

/* -- bpinit_reap.c */

void born_over(int32_t pid, uint64_t use); /* its ghost has ended as it did, or never was */
bool born_was(int32_t pid, uint64_t use);  /* such a one, not too long ago */

/* A ghost whose original has been waited for: so is it, by the ghost that is its parent. */
void born_reap(int32_t pid);
void born_reap_due(int32_t ppid); /* it is a ghost now */
void born_gone(int32_t pid);	  /* ended, and its original has been waited for */
