/*
 * The codes of SIGCHLD (CLD_*), of which waitid(2) tells too, and which the wire has as they are.
 */
#pragma once

#include <signal.h>
#include <stdbool.h>

/* It has ended. */
static inline bool is_end(int code)
{
	return code == CLD_EXITED || code == CLD_KILLED || code == CLD_DUMPED;
}
