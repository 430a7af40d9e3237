/*
 * What is broken, one thing at a time, and where a process may be in the end: the rows of matrix.c
 * and matrix_io.c. Node 0 is the one in trouble.
 */
#pragma once

#define HOME (-1)
#define GONE (-2) /* dead, as its parent has heard; as where to: it does not move */
#define PATIENCE_S 20
#define BIG (48u << 20) /* bytes of one that is met on its way */

/* Where one may be in the end: a set. */
enum { AT_HOME = 1, AT_N0 = 2, AT_N1 = 4, KILLED = 8 };

static const struct column {
	const char *name;
	int from, to; /* to: a move that is under way */
} columns[] = {
	{"idle on n0", 0, GONE}, {"idle on n1", 1, GONE}, {"home to n0", HOME, 0},
	{"n0 to n1", 0, 1},	 {"n0 to home", 0, HOME}, {"n1 to n0", 1, 0},
};
#define COLUMNS (int)(sizeof(columns) / sizeof(columns[0]))

static const struct row {
	const char *name, *command;
	int expect[COLUMNS];
	bool fenced;	  /* node 0 is declared dead: nothing runs there then */
	const char *mend; /* afterwards */
} rows[] = {
	{"power of n0 lost",
	 "bplab kill 0; until [ \"$(bpstat -s 0)\" = down ]; do sleep 0.05; done",
	 {KILLED, AT_N1, AT_HOME | KILLED, AT_N1 | KILLED, AT_HOME | KILLED, AT_N1 | KILLED},
	 true,
	 "bplab start 0"},
	{"n0 cut, healed in time",
	 "bplab cut 0; until [ \"$(bpstat -s 0)\" = unreachable ]; do sleep 0.05; done;"
	 "bplab heal 0; bplab wait -w 20 0",
	 {AT_N0, AT_N1, AT_HOME | AT_N0, AT_N0 | AT_N1, AT_N0 | AT_HOME, AT_N0 | AT_N1},
	 false,
	 "true"},
	{"n0 cut, not healed",
	 "bplab cut 0; until [ \"$(bpstat -s 0)\" = down ]; do sleep 0.05; done",
	 {KILLED, AT_N1, AT_HOME | KILLED, AT_N1 | KILLED, AT_HOME | KILLED, AT_N1 | KILLED},
	 true,
	 "bplab heal 0"},
	{"bpmaster killed",
	 "bplab restart-master --kill; bplab wait -w 20 0 1 2",
	 {AT_N0, AT_N1, AT_HOME | AT_N0, AT_N0 | AT_N1, AT_N0 | AT_HOME, AT_N0 | AT_N1},
	 false,
	 "true"},
	{"bpslave at home killed",
	 "bplab restart-slave --kill master; bplab wait -w 20 0 1 2",
	 {AT_N0, AT_N1, AT_HOME | AT_N0, AT_N0 | AT_N1, AT_N0 | AT_HOME, AT_N0 | AT_N1},
	 false,
	 "true"},
	{"bpslave of n0 killed",
	 "bplab restart-slave --kill 0; bplab wait -w 20 0 1 2",
	 {AT_N0, AT_N1, AT_HOME | AT_N0, AT_N0 | AT_N1, AT_N0 | AT_HOME, AT_N0 | AT_N1},
	 false,
	 "true"},
	{"bpinit of n0 killed",
	 "bplab exec 0 sh -c 'kill -9 $(pgrep -x bpinit)'; sleep 0.5; bplab wait -w 20 0 1 2",
	 {KILLED, AT_N1, AT_HOME | KILLED, AT_N1 | KILLED, AT_HOME | KILLED, AT_N1 | KILLED},
	 true,
	 "true"},
	{"bpinit at home killed",
	 "kill -9 $(pgrep -x bpinit); sleep 0.5; bplab wait -w 20 0 1 2",
	 {KILLED, KILLED, AT_HOME | KILLED, KILLED, AT_HOME | KILLED, KILLED},
	 false,
	 "true"},
	{"the ghosts killed",
	 "kill -9 $(cat \"$MATRIX_GHOSTS\")",
	 {KILLED, KILLED, KILLED, KILLED, KILLED, KILLED},
	 false,
	 "true"},
};
#define ROWS (int)(sizeof(rows) / sizeof(rows[0]))
