/*
 * What freeze_more.c and filters_each.c have of each other: seccomp filters as images have them.
 * Library code, not installed.
 */
#pragma once

#include "vmadump/blob/image.h"
#include "vmadump/freeze.h"

#define CAP_SYS_ADMIN_BIT 21
#define SUSPEND_SECCOMP (1ul << 21)		 /* PTRACE_O_SUSPEND_SECCOMP */
#define FILTER_LEN(at) (8 + 8 * get32((at) + 4)) /* of one in a list, with its head */

/* Of a file status of /proc; 0 where it is not in it. */
uint64_t status_number(const char *status, const char *key, int base);
/* Of a thread that is stopped, and by who may read them. */
int has_filter(pid_t tid);
uint32_t count_filters(pid_t tid);
int read_filters(struct trace *t, pid_t tid, uint32_t most, uint8_t *rec, uint32_t *ret_len);
/* The one at at here, at from there; flags: TSYNC or 0. */
int put_filter(struct trace *t, struct task *task, const struct blob *b, const uint8_t *at,
	       uint64_t from, uint32_t flags);

/* filters_each.c: the file status of a thread, n bytes with a NUL. 0 or -1. */
int thread_status(pid_t pid, pid_t tid, char *text, size_t n);
/* The number that a thread has where it is; it is tid here. */
pid_t thread_number(pid_t pid, pid_t tid);
/* Is there any, of threads of one whose first has none? f->seccomp; or refused. */
int find_thread_filters(struct freeze *f);
/* f->filters, of threads that differ. */
int freeze_filters_each(struct freeze *f);
int revive_filters_each(struct trace *t, const struct blob *b, const uint8_t *rec, uint32_t len);
