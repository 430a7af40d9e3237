/*
 * Each signal of a ghost once and in its order, at the process that it is for
 * (doc/wire.md, section 9): which numbers of which stream have been delivered
 * here. No I/O, and no memory asked for.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "vmadump/blob/channel.h"

#define STREAMS_MAX 4096 /* remembered; of those in one bucket the one unused for longest goes */

enum once {
	ONCE_NEW,   /* deliver it: it is noted as delivered */
	ONCE_OLD,   /* it has been delivered */
	ONCE_AHEAD, /* others come before it, and this was the first to show that */
	ONCE_LATER, /* the same, and they have been asked for already */
};
/*
 * base: the oldest number that the sender has no acknowledgement of. What is older has been
 * delivered, here or where the process was, whatever is remembered.
 */
enum once once_take(uint64_t stream, int32_t pid, uint64_t number, uint64_t base);
/* The last one of a stream that was delivered; 0: it is not known. */
uint64_t once_upto(uint64_t stream);
/* A process leaves, or has come: the streams it goes with, the latest ones. */
void once_of(int32_t pid, struct data_stream ret[DATA_STREAMS]);
void once_put(int32_t pid, const struct data_stream v[DATA_STREAMS]);
