/*
 * The seccomp filters of a process, as they go along in a move (doc/wire.md): the oldest first,
 * for each u32 flags (SECCOMP_FILTER_FLAG_LOG), u32 instructions, and those, 8 bytes each; host
 * order, which is little endian. These are of all threads. Behind them, for each thread that has
 * more: u32 thread id, u32 FILTERS_OF, and those that it has besides. For the blob and the daemons.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define FILTER_HEAD 8u
#define FILTERS_MAX 65536u   /* bytes, of a process */
#define FILTER_LONGEST 4096u /* instructions: BPF_MAXINSNS */
#define FILTERS_OF 0x80000000u

/* Length of the one at bytes + at; 0: there is none, or it is cut short or empty. */
static inline size_t filters_next(const uint8_t *bytes, size_t len, size_t at)
{
	uint32_t n;

	if (at > len || len - at < FILTER_HEAD)
		return 0;
	__builtin_memcpy(&n, bytes + at + 4, sizeof n);
	if (n == 0 || n > FILTER_LONGEST || (len - at - FILTER_HEAD) / 8 < n)
		return 0;
	return FILTER_HEAD + 8ul * n;
}

/* Whose those behind at are, where the list of a thread begins; else 0. */
static inline int32_t filters_of(const uint8_t *bytes, size_t len, size_t at)
{
	uint32_t of[2] = {0, 0};

	if (at <= len && len - at >= FILTER_HEAD)
		__builtin_memcpy(of, bytes + at, sizeof of);
	return of[1] == FILTERS_OF ? (int32_t)of[0] : 0;
}

/*
 * What a process has, as a number: 0 of none, then of each prefix of the list another one. By it a
 * ghost knows how many of its original's it has itself: filters are only ever added.
 */
static inline uint64_t filters_mix(uint64_t id, const uint8_t *p, size_t len)
{
	id ^= 0xcbf29ce484222325ull;
	while (len--)
		id = (id ^ *p++) * 0x100000001b3ull;
	return id ? id : 1;
}
