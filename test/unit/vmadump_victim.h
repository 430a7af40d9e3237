/* The victim's parts: each sets something up before the dump and looks at it after. */
#pragma once

#include <stdio.h>
#include <stdlib.h>

/* Ends the program with what was wrong; 1 tells the driver. */
#define MUST(x)                                                                                    \
	do {                                                                                       \
		if (!(x)) {                                                                        \
			fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #x);            \
			exit(1);                                                                   \
		}                                                                                  \
	} while (0)

/* after: 0 in the process that dumped and goes on, 1 in its copy. */
struct part {
	const char *name;
	void (*set)(void);
	void (*look)(int after);
};
extern const struct part memory_parts[], signal_parts[], process_parts[];

/* Writes the image where the command line said; > 0, or 0 in the copy. */
long victim_dump(void);
/* vmadump_victim.c: victim_dump() with known values in vector registers. */
long victim_dump_with_registers(void);
