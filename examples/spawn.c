/*
 * spawn NODE PROGRAM [ARGUMENT...]: runs a program that is installed on the
 * node. Only the arguments travel (bproc_rexec); this process becomes it.
 *
 *	cc spawn.c $(pkg-config --cflags --libs bproc) -o spawn && ./spawn 0 /bin/hostname
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/bproc.h>

extern char **environ;

int main(int argc, char **argv)
{
	if (argc < 3) {
		fprintf(stderr, "usage: spawn NODE PROGRAM [ARGUMENT...]\n");
		return 2;
	}
	bproc_rexec(atoi(argv[1]), argv[2], argv + 2, environ);
	fprintf(stderr, "spawn: %s on node %s: %s\n", argv[2], argv[1], bproc_strerror(errno));
	return errno == ENOENT ? 127 : 126;
}
