/*
 * Named places where a daemon kills itself with SIGKILL, for tests of what is
 * left: BPROC_FAULT=name[:n], at the n-th time it is there (1 if not given).
 * All of them are listed here.
 */
#pragma once

#include "err.h"

enum fault {
	FAULT_NONE,
	FAULT_MASTER_ASKED,	/* a MoveAsk was judged good, nobody has been told */
	FAULT_MASTER_STARTED,	/* MoveStart is out, MoveGrant is not */
	FAULT_MASTER_GRANTED,	/* both are out */
	FAULT_MASTER_SENT,	/* the source's vote has come */
	FAULT_MASTER_RAN,	/* MoveRan has come, the source has not been told */
	FAULT_MASTER_COMMITTED, /* MoveCommit is out */
	FAULT_MASTER_VOIDED,	/* MoveVoided has come, MoveAbort is not out */
	FAULT_MASTER_EXIT,	/* a ProcEvent of an exit has come, nothing is out */
	FAULT_COUNT
};

/* Reads the environment. -EINVAL: no place is called so. */
int fault_init(struct bproc_err *err);
void fault_point(enum fault f);
const char *fault_name(enum fault f);
