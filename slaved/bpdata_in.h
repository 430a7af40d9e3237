/*
 * bpdata, as TLS server. It carries images, one after the other; with one whose memory follows it
 * becomes, when it is asked to, the pager of that memory (pager.h) and nothing else ever after.
 */
#pragma once

#include <openssl/ssl.h>

#include "slaved/bpdata.h"
#include "slaved/bpdata_frame.h"
#include "slaved/bpdata_io.h"

#define BULK_BYTES (128 << 10)
#define CHUNK_BYTES (256u << 10)
/*
 * Chunks are handed on by reference, at least BULK_BYTES of each, or copied. One is used again
 * when NCHUNKS - 1 others have gone by reference behind it: these take more slots, of at most
 * a page each, than the pipe has, so that it has been read.
 */
#define NCHUNKS 10u
_Static_assert((NCHUNKS - 1) * (BULK_BYTES / 4096) > PIPE_MAX / 4096, "used again too soon");

struct in {
	SSL_CTX *ctx;
	SSL *ssl;
	int tcp;
	struct frame_in frame;
	int plain;	   /* owned; -1 between images */
	int ask;	   /* owned: bpinit asks for a pager here; -1 */
	int paging, ended; /* it is one; and the image's END has come */
	unsigned int hdr;  /* bytes of the header that are there */
	unsigned char head[BPDATA_HDR];
	unsigned char *ring; /* NCHUNKS of CHUNK_BYTES */
	unsigned int chunk;  /* the one that is filled */
	size_t have;	     /* bytes of it that are being looked at */
	int lent, any_lent;  /* by reference: of this chunk; of this image */
};

/* Only returns as a worker. 0 or -errno: why the connection is over. */
int run_server(SSL_CTX *ctx, SSL *ssl, int tcp);
/* What was read into the present chunk. 0 or -errno. */
int in_take(struct in *in, size_t n);

/* bpdata_page.c. There is something at in->ask: it is a pager from here on, or never will be. */
int page_asked(struct in *in);
/* Until all is there; e: -errno: it has failed already. */
_Noreturn void page_run(struct in *in, int e);
