/*
 * The plays. A step is "WHO VERB ARGUMENTS"; $1 is a place of the play's own, which
 * takes all values. What the answers are is not written here: home says it.
 *
 *	wait4, waitid WHOM OPTIONS	e exited, u stopped, c continued, h no hang, n no wait
 *	begin ... end			what takes a while, begun and heard of later
 *	log				the signals that it has been sent since
 *	state, over			what home's /proc says; over: an end that init may have seen
 */
#include "arrange.h"

const struct script scripts[] = {
	/* one child: its end */
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
	{"execs", 1, 0,
	 "A exec; A ids; P exec; P ids; T kill A USR1; A log; A exit 1; P wait4 any; P log"},

	/* stops */
	{"stops", 1, 0,
	 "T kill A STOP; P log; A state; P waitid A un; P waitid any un; P wait4 A h; P wait4 any "
	 "u;"
	 "P wait4 A uh; T kill A CONT; P log; A state; P waitid A cn; P wait4 any c; P wait4 any "
	 "ch;"
	 "A log; A ids; T kill A TSTP; P log; P wait4 -P u; T kill A KILL; P wait4 A; P log"},
	/* It may have waited for the continue before it is sent the SIGCHLD, with which that of the
	 * end would be one. */
	{"stops_self", 1, 0,
	 "P begin wait4 any u; A die STOP; P end; P begin waitid any c; T kill A CONT; P end;"
	 "P log; A exit 2; P wait4 any; P log"},
	/* The log is asked for first: a wait that comes between the stop and its SIGCHLD takes the
	 * number out of the siginfo (kernel/signal.c, do_signal_stop(); 4 of 300,000 at home). */
	{"stopped_parent", 1, 0,
	 "T kill P STOP; T log; T wait4 P u; A exit 9; A state; T kill P CONT; T wait4 P c; P "
	 "wait4 any;"
	 "T log; T kill P TERM; T wait4 P"},

	/* the parent goes first */
	{"orphan", 1, 0,
	 "P exit 9; T log; T wait4 P; A ids; A log; T kill A USR1; A log; A exit 4; A over"},
	{"parent_killed", 1, 0, "T kill P KILL; T wait4 P; A ids; A log; T kill A TERM; A over"},
	{"parent_death", 1, 0,
	 "A pdeath USR1; T kill P KILL; A log; T wait4 P; A ids; A log; A exit 1; A over"},
	{"orphan_stopped", 1, 0,
	 "A setpgid A A; T kill A STOP; P wait4 A u; P exit 1; T wait4 P; A log; A state; A ids;"
	 "T kill A KILL; A over"},

	/* groups and sessions */
	{"groups", 1, 0,
	 "A setpgid A A; A ids; P getpgid A; T getpgid A; P waitid -A ehn; P wait4 own h;"
	 "T kill -A USR1; A log; A exit 5; P wait4 -A; P log"},
	{"parent_groups", 1, 0,
	 "P setpgid A A; P getpgid A; A ids; T getpgid A; P setpgid A P; A ids; T getpgid A;"
	 "T kill -P KILL; T wait4 P"},
	{"sessions", 1, 0,
	 "A setsid; A ids; P getsid A; T getsid A; P getpgid A; P setpgid A P; A exit 5;"
	 "P wait4 -A; P log"},

	{"joins", 2, 0,
	 "B setpgid B B; A setpgid A B; A ids; P getpgid A; T kill -B USR1; A log; B log;"
	 "T kill -B TERM; P wait4 A; P wait4 B; P waitid -B ehn"},

	/* signals between relatives */
	{"kills", 1, 0,
	 "A kill P USR1; P log; P kill A USR2; A log; A kill T USR1; T log; P kill A STOP;"
	 "P log; P wait4 A u; P kill A CONT; P wait4 A c; A log; P kill A KILL; P wait4 A; P log;"
	 "P kill A 0"},

	/* what goes on while somebody moves */
	{"zombie_moves", 1, 1,
	 "A exit 5; P log; P move $1; P log; P waitid any en; P wait4 A; P wait4 any h; A state"},
	{"stop_moves", 1, 1,
	 "T kill A STOP; P log; P move $1; P log; P waitid any un; P wait4 A u; P wait4 A uh;"
	 "T kill A CONT; P log; P wait4 A c; A exit 3; P wait4 any; P log"},
	{"seen_moves", 1, 1,
	 "T kill A STOP; P log; P wait4 A u; P move $1; P wait4 A uh; P log; P wait4 any h;"
	 "T kill A CONT; P log; P wait4 A c; T kill A KILL; P wait4 any; P log"},
	{"parent_moves", 1, 1,
	 "P move $1; P ids; A ids; P wait4 any h; A exit 3; P log; P wait4 any; P log; A state"},
	{"child_moves", 1, 1,
	 "A move $1; A ids; P wait4 any h; T kill A USR1; A log; A exit 3; P log; P wait4 any; P "
	 "log"},
	{"fork_moves", 1, 1,
	 "A fork G; G ids; P move $1; A move $1; A ids; G ids; G exit 4; A log; A wait4 any;"
	 "A exit 1; P wait4 any; P log"},
	{"orphan_moves", 1, 1, "P exit 0; T wait4 P; A move $1; A ids; A exit 3; A over"},

	/* siblings */
	{"two_exit", 2, 0,
	 "B exit 2; P log; P wait4 A h; P waitid any en; A exit 1; P log; P wait4 A; P wait4 any;"
	 "P wait4 any h; A state; B state"},
	{"two_kill_group", 2, 0,
	 "B setpgid B B; A setpgid A B; A ids; P getpgid A; P wait4 -B h; T kill -B TERM; P waitid "
	 "A en;"
	 "P waitid -B en; P wait4 A; P wait4 -B; P wait4 any h"},
	{"two_stop", 2, 0,
	 "T kill A STOP; P wait4 A u; T kill B STOP; P wait4 any u; P wait4 any uh; T kill A CONT;"
	 "P wait4 any c; A exit 1; P wait4 any; T kill B KILL; P wait4 any"},
	{"two_orphans", 2, 0,
	 "A setpgid A A; B setpgid B A; T kill A STOP; P wait4 A u; P exit 0; T wait4 P; A log; B "
	 "log;"
	 "A ids; B ids; A exit 1; B ids; B exit 1; B over"},
	{"two_kills", 2, 0,
	 "A kill B USR1; B log; B kill A USR2; A log; A exit 1; P wait4 any;"
	 "B kill P USR1; P log"},
	{"three_exit", 3, 0,
	 "C exit 3; P log; P waitid any e; A exit 1; P wait4 any; T kill P USR1; B exit 2;"
	 "P wait4 any; P wait4 any"},
	{"three_group", 3, 0,
	 "C setpgid C C; A setpgid A C; B ids; T kill -C KILL; P waitid A en; P waitid C en; P "
	 "wait4 A; P wait4 -C; P wait4 own h;"
	 "T kill -P TERM; T wait4 P; B over"},
};
const int nscripts = sizeof(scripts) / sizeof(scripts[0]);
