/*
 * State machines as tables: rows {state, event, action, next}. Every pair has
 * one row (a unit test proves it); a machine does no I/O, its owner carries the
 * action out after the state is assigned.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct fsm_row {
	uint8_t state, event, action, next;
};

/* The row of the pair, or NULL. */
const struct fsm_row *fsm_find(const struct fsm_row *row, size_t nrows, unsigned int state,
			       unsigned int event);
/*
 * 0 if every pair of nstates x nevents has exactly one row and every next state
 * exists; else 1 + state * nevents + event of the first pair that is wrong.
 */
unsigned int fsm_check(const struct fsm_row *row, size_t nrows, unsigned int nstates,
		       unsigned int nevents);
