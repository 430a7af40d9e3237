/* What a synthetic slave tells a master of its processes and moves, and asks it. */
#pragma once

#include "core_slave.h"

/* Home, nodes 0 and 1. Returns the number of a move of the master before this one. */
uint64_t join_three(struct fake_slave **home, struct fake_slave **n0, struct fake_slave **n1);
void free_three(struct fake_slave *home, struct fake_slave *n0, struct fake_slave *n1);
/* Home has told all: what was born there? */
void hear_asked(struct fake_slave *n0, struct fake_slave *n1);

Bproc__Proc proc_of(int pid);
void tell_state(struct fake_slave *s, int pid, bool ghost, uint64_t by);
void tell_proc(struct fake_slave *s, int pid, bool ghost);
void tell_move(struct fake_slave *s, uint64_t id, unsigned int kind, int target, int pid);
void tell_end(struct fake_slave *s);
void hear(struct fake_slave *s, Bproc__Envelope__MsgCase type);
uint64_t hear_start(struct fake_slave *s); /* the move that is to come to it */
/* What it has said so far has been heard, also while what is asked waits. */
void heard(struct fake_slave *s);
int pidnode(struct fake_slave *s, int pid);
void tell_ran(struct fake_slave *s, int pid, uint64_t id, bool left);
void tell_voided(struct fake_slave *s, uint64_t id);
void tell_born(struct fake_slave *s, int pid, bool moved);
void tell_birth(struct fake_slave *s, int pid, bool moved, bool again);
void tell_child(struct fake_slave *s, int pid, int ppid); /* it is born there */
void tell_event(struct fake_slave *s, int pid, unsigned int code, int status, uint64_t seq,
		uint64_t move);
void hear_told(struct fake_slave *s, int pid, unsigned int code, int status, uint64_t seq);
