/*
 * On a node a seccomp filter asks bpinit about some calls (slaved/bpinit_filter.c,
 * doc/local.md). What bpinit and the blob do on their own account must not wait for
 * bpinit: their calls have this number as the sixth argument, which none of those
 * calls has and no kernel looks at. It opens no door: whoever uses it, too, only has
 * the native call.
 */
#pragma once

#define CALL_MARK 0x7a1d9e4bc3560f28l
