/*
 * bpinit: groups and sessions of processes that are real on one machine and stand in
 * on others (doc/local.md, section 5).
 */
#pragma once

#include "slaved/bpinit.h"

/* Home, or a node, is told where a process has its place now. */
void init_place(const struct init_msg *m);
void init_place_again(const struct init_msg *m); /* home: all that have changed */
void place_done(const struct chan_msg *c);	 /* a ghost's answer to CHAN_PLACE */
void place_made(int32_t pid);			 /* it is a ghost now */
/* Home: looks at the places of all that have a ghost somewhere; ms until the next look. */
int place_tick(int ms);
/* Home: at one now, before more is told of it or of its group. */
void place_look(int32_t pid);

/*
 * A ghost that is to be its original is where that was when it left, unless home has had another
 * word on it since. False: it is being put there, and arrive_progress() follows.
 */
bool place_ready(struct move *m, const struct proc *p);
/*
 * Ghosts that are here of the relatives with which one arrives: put where those are, as far as that
 * is known better than here. Done: its arrival will be born into that.
 */
void place_chain(struct move *m);
bool place_chain_done(const struct move *m);
/*
 * A ghost whose original has a child in a session of its own leads that, also if nobody has said so
 * here yet. False: it is just making it; *told: that was said once, and is not again.
 */
bool place_leads(const struct proc *p, bool *told);
/* It is a ghost, or runs, here since now and was to be in this group: later, if it is not. */
void place_misses(const struct proc *p, int32_t pgid, int32_t sid);
/* Home: a process that leaves has its place, of which nobody will hear from here any more. */
void place_leaves(struct proc *p);
/* Is somebody of that group here? Else the ghost of its leader, if there is one, is being made. */
bool place_have_group(const struct init_place *p);

/* -- bpinit_group.c: on a node */
/* The caller of setpgid(), or (pgid -1) setsid(), has to wait; false: it may go on. */
bool group_ask(uint64_t notif, int32_t pid, int32_t pgid);
void group_answer(const struct init_place *p);
int group_tick(int ms);

struct place place_of(int32_t pid); /* pgid 0: it has gone */

/*
 * Its ghosts were made as the relative of theirs was read that moves, and it may have changed
 * since: what it has now is told.
 */
void place_watched(int32_t pid, struct place *known);

/* -- bpinit_wait.c: fn for each real process that is watched; *known is fn's to keep */
extern uint32_t watches_count;
void watch_each(void (*fn)(int32_t pid, struct place *known));
struct place *watch_place(int32_t pid); /* NULL: it is not watched */
