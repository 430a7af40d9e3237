/*
 * bpslave <-> bpdata, its TLS worker: SOCK_SEQPACKET on the worker's fd 3, host
 * byte order, one build. One connection at a time, of which images go one after
 * the other; a worker whose connection has ended is used again.
 */
#pragma once

#include <stdint.h>

#include "libbproc/err.h"
#include "libbproc/keyfile.h"

#define BPDATA_FD 3
#define BPDATA_HDR 216 /* of an image: the header of doc/streams.md, section 2 */

enum bpdata_type {
	BPDATA_KEY = 1,	  /* bpslave -> worker, first: psk */
	BPDATA_RUN = 2,	  /* bpslave -> worker: + TCP fd; server */
	BPDATA_UP = 3,	  /* worker -> bpslave: the handshake is done; or err, text */
	BPDATA_IMAGE = 4, /* worker -> bpslave: + plain fd. Client: to write the next image to;
			     server: one has begun, behind the header in hdr; of a lazy move
			     + a socket: its pager is asked for there (pager.h) */
	BPDATA_BACK = 6,  /* bpslave -> client, between images: + fd: what the server says to the
			     next one is to be written there */
	BPDATA_PAGER = 7, /* worker -> bpslave: it is a pager, has ended as a worker, and the
			     connection is its own */
	BPDATA_IDLE = 5,  /* worker -> bpslave: the connection has ended, err and text say why;
			     it may be given another */
};

struct bpdata_msg {
	uint32_t type;
	uint32_t server; /* 1: TLS server, TLS -> plain; 0: TLS client, plain -> TLS */
	int32_t err;
	union {
		unsigned char psk[KEY_PSK];
		unsigned char hdr[BPDATA_HDR];
		char text[BPROC_ERR_TEXT];
	} u;
};
