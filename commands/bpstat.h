/*
 * What bpstat.c (options, choosing, sorting) and bpstat_print.c (the forms) share.
 */
#pragma once

#include <bproc.h>

void print_compact(const struct bproc_node_set_t *ns);
void print_long(const struct bproc_node_set_t *ns);
void print_addresses(const struct bproc_node_set_t *ns);
void print_states(const struct bproc_node_set_t *ns);
void print_numbers(const struct bproc_node_set_t *ns);
void print_total(const struct bproc_node_set_t *ns);
/* 0, or -1 with a message printed. */
int print_processes(const struct bproc_node_set_t *ns);
int print_ps(void);
