/*
 * What the files of bpsh share: bpsh.c (starting, waiting), bpsh_args.c, bpsh_io.c
 * (input to and output of several nodes), bpsh_file.c (files on a node).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

struct options {
	bool no_stdin;	     /* -n */
	bool no_io;	     /* -N */
	bool lines;	     /* -L, and all below */
	bool prefix;	     /* -p */
	bool sequential;     /* -s */
	bool divider;	     /* -d */
	bool time;	     /* -t */
	size_t buffer;	     /* -b, bytes */
	const char *file[3]; /* -I -O -E, on the node; or NULL */
	const char *path;    /* of the program */
	char **argv;	     /* its arguments */
};

/* One output of one node's process: 1 stdout, 2 stderr. */
struct output {
	int fd;	    /* our end of its pipe; -1: none, or ended */
	int to;	    /* 1 or 2 */
	char *line; /* owned: an unfinished line, if lines are kept together */
	size_t len;
};

struct job {
	int node;
	bool admits; /* the node, as far as can be seen */
	pid_t pid;
	bool reaped;
	int status;	 /* wait status word */
	pid_t helper[3]; /* that carry a file of the node; 0: none */
	int in;		 /* our end of its stdin; -1: none, or ended */
	uint64_t in_pos; /* bytes of our stdin that it has got */
	struct output out[2];
	FILE *spool; /* owned: what it wrote before its turn, -s */
};

_Noreturn void usage(FILE *to);
_Noreturn void die(int status, const char *what);
/* Options may stand before and after the nodes, as rsh had it. Returns the nodes. */
const char *parse_options(int argc, char **argv, struct options *o);
/* The program is looked for here, not on the node: it is loaded here. Or no return. */
const char *find_program(const char *name);

/* close_range(2) from a descriptor on: flags 0 closes. */
void shut_from(int fd, unsigned int flags);
/* Children of a job that ended since the last call are taken note of. */
void reap(bool wait);

/*
 * Shows what the jobs write and feeds them our stdin until all of them have
 * ended. 0, or -1 with a message printed.
 */
int io_run(const struct options *o, struct job *jobs, int n);

/*
 * Puts a process on job's node that carries between a pipe and the file there;
 * returns our end of the pipe, to become descriptor `which` of the job's process.
 * -1 with errno set.
 */
int file_open(const struct options *o, struct job *j, int which);
