/* What a test program is sure of; it says where it was wrong, and ends. */
#pragma once

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define MUST(x)                                                                                    \
	do {                                                                                       \
		if (!(x)) {                                                                        \
			fprintf(stderr, "%s:%d: %s (errno %d)\n", __FILE__, __LINE__, #x, errno);  \
			abort();                                                                   \
		}                                                                                  \
	} while (0)
