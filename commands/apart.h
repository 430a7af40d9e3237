/* What bpmove and vmadump share (apart.c). */
#pragma once

#include <stdbool.h>

/*
 * Runs work(arg) in a process of its own group that shares our memory; back when it has ended,
 * and if it was killed, so are we. With with_us it is told to end (SIGTERM) when we are killed,
 * else it goes on.
 */
void run_apart(void (*work)(void *arg), void *arg, bool with_us);
