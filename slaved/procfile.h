/*
 * A file of /proc/PID, read whole into a buffer of the caller's: no memory is asked for.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/*
 * proc: a /proc that is open, or AT_FDCWD for the one that is mounted. buf ends with a NUL, and
 * what does not fit is cut. Bytes without it, or -errno.
 */
ssize_t proc_file(int proc, int32_t pid, const char *file, char *buf, size_t size);
