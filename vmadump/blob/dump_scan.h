/*
 * ioctl(2) PAGEMAP_SCAN of /proc/PID/pagemap: linux/fs.h of 6.7 and later, older headers do not
 * have it.
 */
#pragma once

#include <stdint.h>

#define SCAN_WPALLOWED 1u
#define SCAN_WRITTEN 2u
#define SCAN_FILE 4u
#define SCAN_PRESENT 8u
#define SCAN_SWAPPED 16u
#define SCAN_PFNZERO 32u
#define SCAN_GUARD 256u /* Linux 6.15 */
#define SCAN_WP_MATCHING 1u /* a flag: what is reported is write-protected again */
struct scan_arg {
	uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages;
	uint64_t inverted, mask, anyof, report;
};
#define SCAN_IOCTL 0xc0606610u
struct scan_region {
	uint64_t start, end, categories;
};
