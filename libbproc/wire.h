/*
 * Frames of the control and peer links (doc/wire.md): a 4-byte big-endian
 * length, then one protobuf Envelope of exactly that many bytes. And struct
 * chan_cred as it travels in Creds.raw. No I/O here.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/bproc.pb-c.h"
#include "vmadump/blob/channel.h"

/* Changes with every message whose meaning changes: both ends must agree exactly. */
#define BPROC_PROTOCOL 1u
#define WIRE_HDR 4u
#define WIRE_MAX (1u << 20)    /* bytes of an Envelope; checked before anything is allocated */
#define WIRE_RETRY_MAX_MS 5000 /* a slave without a link tries again after no longer than this */
#define WIRE_PID_MAX (1 << 22) /* every number is below it: PID_MAX_LIMIT of the kernel */

static inline bool wire_pid_ok(int32_t pid)
{
	return pid > 0 && pid < WIRE_PID_MAX;
}

/*
 * Wraps msg, which is not copied, in an envelope: the case follows from the type
 * of the message. 0, or -EINVAL if an Envelope cannot hold that type.
 */
int wire_envelope(const ProtobufCMessage *msg, Bproc__Envelope *ret_env);
/* Bytes of the frame, header included; 0 if it would be over WIRE_MAX. */
size_t wire_frame_size(const Bproc__Envelope *env);
/* buf must have wire_frame_size() bytes. Returns the bytes written. */
size_t wire_put_frame(const Bproc__Envelope *env, unsigned char *buf);
/* Length of the Envelope that follows; -EMSGSIZE if over WIRE_MAX, -EBADMSG if 0. */
int wire_get_length(const unsigned char hdr[WIRE_HDR], uint32_t *ret_len);
/*
 * The Envelope of exactly len bytes, or -EBADMSG: bytes that are not one, or a
 * message this version does not know. Free it with bproc__envelope__free_unpacked.
 */
int wire_get_envelope(const unsigned char *buf, size_t len, Bproc__Envelope **ret_env);
/* "MoveAsk"; "nothing" for an empty envelope. */
const char *wire_name(const Bproc__Envelope *env);

#define WIRE_CRED_SIZE 480u
void wire_put_cred(const struct chan_cred *cred, unsigned char buf[WIRE_CRED_SIZE]);
/* -EBADMSG unless len is WIRE_CRED_SIZE, ngroups fits and the reserved words are 0. */
int wire_get_cred(const void *buf, size_t len, struct chan_cred *ret_cred);
