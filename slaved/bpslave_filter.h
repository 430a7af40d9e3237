/*
 * bpslave: the seccomp filters of a process that leaves. They are read by a child of ours, which
 * may have to wait until the process stops, and judged here.
 */
#pragma once

#include "slaved/bpslave.h"

struct filter_answer {
	int err; /* positive; with text */
	char text[LOCAL_TEXT_MAX];
	uint8_t *bytes; /* malloc'd, the receiver's; vmadump/blob/filters.h */
	size_t len;
};
struct filter_move; /* filter_run.h */
struct filter_reader;
typedef void (*filters_fn)(void *arg, const struct filter_answer *a);
/*
 * fn is called later, and *ret_reader set; or 0: it has none of its own; or -errno with the reason
 * in text.
 */
int filters_want(const struct proc_ids *ids, const struct filter_move *how, filters_fn fn,
		 void *arg, struct filter_reader **ret_reader, char text[LOCAL_TEXT_MAX]);
void filters_cancel(struct filter_reader *r); /* NULL is fine */
uint64_t filters_id(const uint8_t *bytes, size_t len);
/* Of an arrival, as a file to be read by it; -1: it has none. 0 or -errno. */
int filters_file(const Bproc__MoveStart *s, int *ret_fd);
/* LOCAL_LOOK: could the process of this pidfd leave with its filters? Asked by uid. */
void filters_look(uint32_t client, uint32_t id, const struct local_look *ask, uid_t uid, int pidfd);
