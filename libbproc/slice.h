/*
 * The share of a daemon in its processor: small pieces, soon.
 */
#pragma once

/*
 * Asks for time slices of 0.1 ms for this process, not for its children: when it is woken
 * it then goes before what computes on its processor, which otherwise ends its own slice
 * of 3 ms first, and all who wait for the daemon wait with it. It gets no more time of the
 * processor by this. Linux 6.12 and later; an older kernel takes no notice.
 */
void slice_short(void);
