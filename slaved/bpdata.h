/*
 * bpslave <-> bpdata, its TLS worker: SOCK_SEQPACKET on the worker's fd 3, host
 * byte order, one build. One connection at a time; the worker is used again.
 */
#pragma once

#include <stdint.h>

#include "libbproc/err.h"
#include "libbproc/keyfile.h"

#define BPDATA_FD 3

enum bpdata_type {
	BPDATA_KEY = 1, /* bpslave -> worker, first: psk */
	BPDATA_RUN = 2, /* bpslave -> worker: + TCP fd, + plain fd; server */
	BPDATA_UP = 3,	/* worker -> bpslave: the handshake is done; or err, text */
	BPDATA_IDLE = 4, /* worker -> bpslave: both ends are closed, it may be given another */
};

struct bpdata_msg {
	uint32_t type;
	uint32_t server; /* 1: TLS server, TLS -> plain; 0: TLS client, plain -> TLS */
	int32_t err;
	union {
		unsigned char psk[KEY_PSK];
		char text[BPROC_ERR_TEXT];
	} u;
};
