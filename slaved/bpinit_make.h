/*
 * How a process comes to be under the number that it is to have: by clone of bpinit, of its
 * parent's ghost, or out of a skeleton. Included by bpinit.h.
 */
#pragma once

/* -- bpinit_make.c */

bool proc_can_clone(const struct proc *p);
/* The parent of what is to be made has left, and is no ghost yet: arrive_progress() follows. */
bool proc_maker_leaves(int32_t ppid);
/*
 * A process under its pid, child of its parent's ghost, or of ours if there is none. It is in
 * the table when this returns 0; -errno otherwise. m: the move it is for, or NULL.
 */
int proc_make(struct move *m, int32_t ppid, const struct chan_clone *id, enum proc_state state);
/* Was this one told to make that, and has not answered yet? Then it has now. */
bool clone_is_due(const struct proc *by, int32_t pid);
void clone_answered(struct proc *by, int32_t pid);
bool clone_is_to_be(int32_t pid); /* somebody was told so, and has not answered yet */
void clones_forget(struct proc *by); /* it never will answer */
/* Of what is being made: its maker has answered; it has said that it cannot be a ghost. */
void making_made(struct proc *p);
void making_refused(struct proc *p);
/* It has lost its channel. False: somebody else tells what has become of it. */
bool making_ended(struct proc *p);

/* -- bpinit_skel.c */

int skel_prepare(void);		      /* 0 or -errno */
void skel_want(const struct move *m); /* it runs: another child of its parent may follow */
void skel_drop(int32_t parent);	      /* this ghost is not to have any */
void skel_work(void);		      /* what has time until all else is done */
void skel_readable(uint32_t index, uint32_t gen);
int skel_tick(int ms); /* ms until the next look, at most this (-1: any time) */
/* The arrival of m out of a skeleton: then it is in the table. */
bool skel_take(struct move *m, const struct chan_clone *id);
void skel_release(struct move *m);
void skel_arm(const struct move *m); /* from here on it may run */
bool skel_ran(const struct move *m); /* it has taken its word */
bool skel_off(const struct move *m); /* it will never run; false: too late, it does */
void skel_close_later(int fd);

/* -- bpinit_spawn.c */

int spawn_prepare(void); /* blob in our memory, code memfd. 0 or -errno */
/* A child of ours under a wanted pid that begins in the blob on chan. 0 or -errno. */
int spawn_blob(int32_t pid, int chan);
/* A postman: a child with the sender's pid and uid that sends one signal. 0 or -errno. */
int spawn_postman(int32_t pid, uint32_t uid, int32_t to, int sig, bool thread);
int spawn_namespaces(const int64_t *timens_ns, int ready_fd);
void lease_probe(void);
void init_lease(const struct init_msg *m);
int lease_tick(void); /* steers the cursor; ms until the next look, or -1 */
void lease_raise(int32_t pid);
bool lease_is_beyond(int32_t pid); /* to clone it takes lease_raise() and lease_lower() */
void lease_lower(int32_t pid);
