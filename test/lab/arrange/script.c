/*
 * The plays. A step is "WHO VERB ARGUMENTS"; $1 is a place of the play's own, which
 * takes all values. What the answers are is not written here: home says it.
 *
 *	wait4, waitid WHOM OPTIONS	e exited, u stopped, c continued, h no hang, n no wait
 *	begin ... end			what takes a while, begun and heard of later
 *	log				the signals that it has been sent since
 *	state				what home's /proc says
 */
#include "arrange.h"

const struct script scripts[] = {
	/* one child */
	{"exit", 1, 0,
	 "P ids; A ids; P wait4 A h; P waitid any ehn; A exit 7; P log; P waitid any en;"
	 "P waitid A ehn; P waitid -P en; P wait4 A u; P wait4 any h; A state; T kill A 0;"
	 "P log; P exit 3; T log; T waitid any e; T log"},
	{"waits", 1, 0, "P begin wait4 A; A exit 200; P end; P wait4 A; P log"},
	{"waits_any", 1, 0, "P begin waitid any e; T kill A KILL; P end; P log; P ids"},
	{"waits_group", 1, 0, "P begin wait4 own; T kill A TERM; P end; P log"},
	{"killed", 1, 0,
	 "T kill A KILL; P log; P waitid any euc; P waitid any euch; A state; T kill A 0"},
	{"termed", 1, 0, "T kill A TERM; P log; A state; P wait4 -P; A state; P log"},
	{"faults", 1, 0, "A dfl SEGV; A die SEGV; P log; P wait4 any"},
};
const int nscripts = sizeof(scripts) / sizeof(scripts[0]);
