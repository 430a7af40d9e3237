/*
 * What a C library would give: memory, strings, numbers, one error formatter and
 * the arena. All of the blob; freestanding, no writable data.
 */
#pragma once

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "blob.h"

void *memcpy(void *dst, const void *src, size_t n);
void *memmove(void *dst, const void *src, size_t n);
void *memset(void *dst, int c, size_t n);
int memcmp(const void *a, const void *b, size_t n);

#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))
/* What a system call has returned, which MAX() would make twice; 0 for an error. */
static inline uint64_t or_zero(long r)
{
	return r < 0 ? 0 : (uint64_t)r;
}
#define ROUND_UP(x, to) (((x) + (to)-1) & ~((uint64_t)(to)-1))
#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

size_t str_len(const char *s);
int str_eq(const char *a, const char *b);
/* Does s begin with prefix? */
int str_starts(const char *s, const char *prefix);
int str_ends(const char *s, const char *suffix);
/* Copies at most size-1 bytes and always ends with NUL; returns bytes without it. */
size_t str_copy(char *dst, size_t size, const char *src);
/* Reads a number and moves *s behind it; 0 if there is none. */
uint64_t str_hex(const char **s);
uint64_t str_dec(const char **s);
void str_skip_spaces(const char **s);

/* Knows %s %d %u %ld %lu %x %lx %c %%, no widths. Always ends with NUL; returns the length. */
size_t str_vformat(char *dst, size_t size, const char *fmt, va_list ap);
size_t str_format(char *dst, size_t size, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* Fills err and returns -code. */
long blob_err_set(struct blob_err *err, int code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* Words for an errno, of either sign. */
const char *errno_name(long code);

/*
 * Zeroed memory from the arena, aligned to 64; NULL when there is no more (err
 * filled). arena_grow() makes the last allocation larger in place, not zeroed.
 */
void *arena_alloc(struct blob *b, uint64_t bytes);
void *arena_raw(struct blob *b, uint64_t bytes); /* not zeroed: untouched memory costs nothing */
int arena_grow(struct blob *b, void *last, uint64_t bytes);
/* Gives back the end of the last allocation. */
void arena_shrink(struct blob *b, void *last, uint64_t bytes);
#define arena_mark(b) ((b)->arena.used)
/* Everything allocated since the mark is free again; its contents may be anything. */
void arena_release(struct blob *b, uint64_t mark);
/* Unmaps what lies behind the blob. */
void arena_reset(struct blob *b);
