/*
 * What a process has used, and those of its children that it has waited for, as the kernel of
 * this machine tells it: processor time to a tick of its clock, which is 10 ms.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "vmadump/blob/channel.h"

/* Of the text of /proc/PID/stat. start_ns, of CLOCK_BOOTTIME, may be NULL. maxrss_kb stays 0. */
bool used_parse(const char *stat, struct chan_used *ret_used, uint64_t *ret_start_ns);
/* Of one that runs, or has not been waited for, without maxrss_kb; zeros: it has gone. */
void used_read(int32_t pid, struct chan_used *ret_used, uint64_t *ret_start_ns);
