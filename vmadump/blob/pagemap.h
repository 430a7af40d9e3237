/*
 * Which pages there are: /proc/self/pagemap and its ioctl. Runs in the blob.
 */
#pragma once

#include <stdint.h>

#include "blob.h"
#include "dump_scan.h"

#define PM_PRESENT (1ull << 63)
#define PM_SWAP (1ull << 62)
#define PM_FILE (1ull << 61)

/* Bits. */
#define KERNEL_SCAN 1u
#define KERNEL_NO_SCAN 2u
#define KERNEL_GUARD 4u /* and it tells of guard pages */

/* dump_mem.c: a descriptor, or -errno. */
long pagemap_open(void);
void pagemap_env(struct blob_env *e);
