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
/* Home: looks at the places of all that have a ghost somewhere; ms until the next look. */
int place_tick(int ms);

struct place place_of(int32_t pid); /* pgid 0: it has gone */

/* -- bpinit_wait.c: fn for each real process that is watched; *known is fn's to keep */
void watch_each(void (*fn)(int32_t pid, struct place *known));
