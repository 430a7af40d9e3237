/* What park.c, dump_thread.c and restore_thread.c share; runs in the blob. */
#pragma once

#include "blob.h"

static inline struct blob_thread *thread_at(const struct blob *b, uint32_t i)
{
	return (void *)(b->threads + (uint64_t)i * b->thread_len);
}
/* Where entry.S leads a thread to. */
void blob_thread_main(struct blob_thread *t);
/* Sleeps until the word is another. Lets all threads go, or end, or stay. */
void thread_wait(uint32_t *word, uint32_t was);
void thread_release(struct blob *b, enum blob_release how);
/* park_thread.c: the end of the calling thread; or it waits until it is to be another. */
_Noreturn void thread_stay(struct blob *b, struct blob_thread *t, int to_end);
/* It was kept, was to be what t says, and is kept again. */
_Noreturn void thread_back(struct blob *b, struct blob_thread *t);
_Noreturn void thread_kept_again(struct blob_thread *k);
/* Scheduling and CPUs of the calling thread; what it may not have it goes without. */
void sched_get(struct blob_sched *s);
void sched_set(const struct blob_sched *s);
/* prctl.c: PRCTL_* of the calling thread. */
uint32_t prctl_get(void);
long prctl_set(uint32_t v);
/* No longer kept on one processor. */
void sched_free(struct blob *b);
/* ghost_filter.c: what this one, which calls, has besides those of all. 0 or -errno. */
long filters_own(struct blob *b, const struct blob_thread *t);
/* restore_thread.c: the calling thread makes itself what t says, but for its registers. */
void thread_become(struct blob *b, struct blob_thread *t);
/* The capabilities that the calling thread is to have in the end. */
struct restore;
long rest_caps(struct restore *r, int kept);
/* entry.S */
struct clone_args;
long blob_clone_thread(struct clone_args *args, uint64_t size, struct blob_thread *t);
