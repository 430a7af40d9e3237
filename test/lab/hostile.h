/* What the files of hostile share. */
#pragma once

#include <stddef.h>
#include <stdint.h>

uint32_t rnd(void);
uint32_t small(void); /* mostly a small number: they are more often right */
void fill(void *p, size_t n);
void die(const char *what);
void be_nobody(void);
int call(void); /* a connection to the machine's bpslave */

/* hostile_move.c: exit statuses */
int hostile_channel(int32_t victim);
int hostile_cloned(int32_t first);
int hostile_silent(int32_t node);
int hostile_later(int32_t node, const char *program);
int hostile_raised(int32_t node, const char *program);

/* hostile_stubborn.c */
int hostile_stubborn(const char *what);
