/* CPU state and what a machine offers: env, xsave, the return into an image. */
#pragma once

#include "blob.h"

/* The CPU's part of env, unless it is there already. */
void cpu_fill(struct blob_env *e);
/* The length of a whole area; asked for when it is needed, since it is a CPUID. */
uint32_t cpu_area(struct blob_env *e);
/* Writes the whole xsave area of this thread to b->xsave and trims it to what is
 * in use; b->xsave_size, and the bits in use. Needs b->env. */
uint64_t cpu_xsave(struct blob *b);
/* The components in use in an area, and how long it is without those that are not. */
uint64_t cpu_xsave_trim(struct blob_env *e, const uint8_t *xsave, uint64_t *ret_len);
/* -ENOEXEC with b->err filled if need (IMAGE_NOTE_NEED) asks for what this CPU has not. */
long cpu_check(struct blob *b, const uint8_t *need);
/* Identity of the vdso mapped at addr: its symbols, names and values. */
uint64_t vdso_sum(uint64_t addr);

/* Makes b->rseq_* what the kernel has; -1 if it has something else and will not say what. */
int rseq_find(struct blob *b);
