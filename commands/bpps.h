/*
 * What bpps.c (options, choosing, asking) and bpps_print.c (the columns) share.
 */
#pragma once

#include <stdbool.h>

#include <bproc.h>

/* Adds columns by a list of names, as of -o. -1: one is not known, with a message. */
int columns_add(const char *names);
void print_header(void);
/* args: its arguments are to be looked for in /proc of this machine. */
void print_process(const struct bproc_procstat_t *s, bool args);
/* Bytes of a line that are shown; 0: all. */
void print_width(unsigned int columns);
void usage_columns(void);
