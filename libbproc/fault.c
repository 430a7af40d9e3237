/*
 * Fault points (fault.h). Runs in the daemons; without BPROC_FAULT a point is
 * one comparison.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fault.h"

static const char *const names[FAULT_COUNT] = {
	[FAULT_NONE] = "none",
	[FAULT_MASTER_ASKED] = "master-asked",
	[FAULT_MASTER_STARTED] = "master-started",
	[FAULT_MASTER_GRANTED] = "master-granted",
	[FAULT_MASTER_SENT] = "master-sent",
	[FAULT_MASTER_RAN] = "master-ran",
	[FAULT_MASTER_COMMITTED] = "master-committed",
	[FAULT_MASTER_VOIDED] = "master-voided",
	[FAULT_MASTER_EXIT] = "master-exit",
};

static enum fault armed;
static unsigned long left;

int fault_init(struct bproc_err *err)
{
	const char *s = secure_getenv("BPROC_FAULT"), *colon;
	size_t n;

	if (!s || !*s)
		return 0;
	colon = strchr(s, ':');
	n = colon ? (size_t)(colon - s) : strlen(s);
	left = colon ? strtoul(colon + 1, NULL, 10) : 1;
	for (int i = 1; i < FAULT_COUNT; i++)
		if (strlen(names[i]) == n && memcmp(names[i], s, n) == 0)
			armed = (enum fault)i;
	if (armed == FAULT_NONE || left == 0)
		return bproc_err_set(err, EINVAL, "BPROC_FAULT=%s: no such place", s);
	return 0;
}

void fault_point(enum fault f)
{
	if (f == armed && left > 0 && --left == 0)
		kill(getpid(), SIGKILL);
}

const char *fault_name(enum fault f)
{
	return names[f];
}
