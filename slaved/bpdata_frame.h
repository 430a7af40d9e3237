/*
 * Images inside one TLS connection, one after the other (doc/streams.md, section 3).
 * A frame is 8 bytes, little endian: its type, the length of what follows. The
 * sender says where an image ends; whether it is whole only its own end mark says.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define FRAME_DATA 0x41544144u /* "DATA": bytes of an image, at least one */
#define FRAME_END 0x20444e45u  /* "END ": nothing follows, the next image begins */
#define FRAME_BACK 0x4b434142u /* "BACK", from the server: bytes for who sends the image */
#define FRAME_DONE 0x454e4f44u /* "DONE", from the server: the image is handed on whole */
#define FRAME_HEAD 8u
#define FRAME_MAX (1u << 20) /* bytes in one DATA */
#define FRAME_BACK_MAX 4096u /* in one BACK */

/* Writes FRAME_HEAD bytes. */
void frame_put(unsigned char *to, uint32_t type, uint32_t len);

/* The reader's place in the sequence; zeros at first. */
struct frame_in {
	unsigned char head[FRAME_HEAD];
	unsigned int have; /* bytes of head that are there */
	uint32_t left;	   /* bytes of the present DATA that are to come */
};

enum frame_what {
	FRAME_MORE = 0, /* all of it is taken */
	FRAME_BYTES,	/* *ret_data, *ret_len: bytes of the image */
	FRAME_STOP,	/* the image has ended */
};

/* Of the server's frames: 0 if these FRAME_HEAD bytes are a DONE; of a BACK, the bytes that follow;
 * or -EBADMSG. */
int frame_from_server(const unsigned char *p);

/* Takes from *p, *n, which it moves on; one of frame_what, or -EBADMSG: the connection is over. */
int frame_take(struct frame_in *f, const unsigned char **p, size_t *n,
	       const unsigned char **ret_data, size_t *ret_len);
