/*
 * A table that all users fill: who is not root may have SHARE_TIMES as much of it as is left for
 * all others, and the last entries are root's. So however many users take what they can, the next
 * one finds room, and root does.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define SHARE_TIMES 3
#define SHARE_ROOT(max) ((max) / 16)

/* May one who has own of the taken ones have one more? */
static inline bool share_allows(uint32_t uid, uint32_t own, uint32_t taken, uint32_t max)
{
	uint32_t users = max - SHARE_ROOT(max);

	return uid == 0 ? taken < max : taken < users && own < SHARE_TIMES * (users - taken);
}
