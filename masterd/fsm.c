/*
 * State machines as tables (fsm.h). Runs in bpmaster.
 */
#include "fsm.h"

const struct fsm_row *fsm_find(const struct fsm_row *row, size_t nrows, unsigned int state,
			       unsigned int event)
{
	for (size_t i = 0; i < nrows; i++)
		if (row[i].state == state && row[i].event == event)
			return &row[i];
	return NULL;
}

unsigned int fsm_check(const struct fsm_row *row, size_t nrows, unsigned int nstates,
		       unsigned int nevents)
{
	unsigned int n;

	for (unsigned int s = 0; s < nstates; s++) {
		for (unsigned int e = 0; e < nevents; e++) {
			n = 0;
			for (size_t i = 0; i < nrows; i++)
				if (row[i].state == s && row[i].event == e)
					n += row[i].next < nstates ? 1 : 2;
			if (n != 1)
				return 1 + s * nevents + e;
		}
	}
	return 0;
}
