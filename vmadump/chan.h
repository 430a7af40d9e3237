/* Our end of a channel to a process that is parked or restored. Library code, not installed. */
#pragma once

#include <stdbool.h>

#include "vmadump/trace.h"

/* One message, with a descriptor unless with is -1. -1 with errno set. */
int chan_send_with(int fd, const struct chan_msg *m, int with);
int chan_send_two(int fd, const struct chan_msg *m, int with, int and_with);
/* One order, with a descriptor unless with is -1. -1 with errno set. */
int chan_order(int fd, uint32_t type, int with);
/* To a parked process: CHAN_DUMP of one of a tree; CHAN_LEND; CHAN_REAP. */
int chan_dump(int fd, int image, int order, uint32_t flags);
int chan_lend(int fd, int with, int number);
int chan_reap(int fd, pid_t pid);
/*
 * One packet, and its descriptors, at most CHAN_TAKE_MAX: with has room for n, those that did not
 * come are -1. False: the other end is gone, or it was no message.
 */
#define CHAN_TAKE_MAX 2
bool chan_take(int fd, struct chan_msg *m, int *with, unsigned n);
/* Its answer. -1 with err filled: a failure that it tells of, or its end. */
int chan_answer(struct trace *t, int fd, struct chan_msg *m);
