/*
 * What bpgdb, bpstrace, bpmove and bprsh share (attach.c): which process, where it is,
 * and which program of this machine is to run there.
 */
#pragma once

#include <limits.h>

/*
 * Which argument is the process: the first if it is a number, else the last. Its number is
 * stored; a message and exit status 1 if neither is one.
 */
int attach_argument(int argc, char **argv, int *ret_pid);
/* The node where it is real; -1 is the front end. A message and exit status 1: nobody's. */
int attach_node(const char *prog, int pid);
/* Is that here? */
int attach_is_here(int node);
/* Full name of a program in PATH; or a message and exit status 127. */
void attach_program(const char *prog, const char *name, char path[PATH_MAX]);
/* Becomes the program, on the node; or tells why not, and ends with status failed. */
_Noreturn void attach_there(const char *prog, int node, const char *path, char **argv, int failed);
