/*
 * The cluster key: a file of at least KEY_MIN bytes that whoever may join the
 * cluster has, and nobody else. Refused when it is not a regular file of root or
 * of the caller, or when group or others may do anything with it.
 */
#pragma once

#include <stddef.h>

#include "err.h"

#define KEY_FILE_DEFAULT "/etc/bproc/key"
#define KEY_MIN 32u   /* bytes */
#define KEY_MAX 4096u /* bytes */
#define KEY_PSK 32u   /* bytes of what TLS gets: one SHA-256 */

struct cluster_key {
	unsigned char psk[KEY_PSK]; /* derived from the file; the file's bytes are not kept */
};

/* 0, or -errno with the file, and the mode or owner that is wrong, in err. */
int key_load(const char *path, struct cluster_key *ret_key, struct bproc_err *err);
void key_wipe(struct cluster_key *key);
