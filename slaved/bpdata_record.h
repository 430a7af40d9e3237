/*
 * The records of a TLS 1.3 connection in the one direction in which images go, from client to
 * server, once libssl has made the handshake (RFC 8446, 5; doc/streams.md, section 3). Runs in
 * bpdata. libssl copies each record once more at either end, which is a third of what
 * its server end costs; the other direction, of a few bytes, stays with it.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <openssl/ssl.h>

#define RECORD_MAX (16u << 10) /* bytes of content in one */
#define RECORD_HEAD 5u
#define RECORD_TAG 16u
#define RECORD_OVER 256u /* what a record may be longer than its content (RFC 8446, 5.2) */
/* What record_read() may write behind the RECORD_MAX bytes that it is given, and nobody reads. */
#define RECORD_SLACK RECORD_OVER
/*
 * Records under one key. RFC 8446, 5.5 allows AES-GCM 2^24.5 full ones; after these many a new
 * key is made of the old one.
 */
#define RECORD_KEY_MAX (1u << 24)
#define RECORD_GATHER 8u /* are sealed before they are written */
#define RECORD_SECRET_MAX 48u

/* The secret of the client's direction, as libssl tells it in a handshake. */
struct record_secret {
	unsigned char bytes[RECORD_SECRET_MAX];
	size_t len; /* 0: not known */
};

struct records {
	int fd;		     /* the caller's: the TCP socket */
	EVP_CIPHER_CTX *ctx; /* owned */
	const EVP_CIPHER *cipher;
	const EVP_MD *md;
	struct record_secret secret;
	unsigned char iv[12];
	uint64_t seq;	     /* of the next one */
	uint32_t key_max;    /* RECORD_KEY_MAX; a test's own */
	bool writes;	     /* the client's end */
	unsigned char *wire; /* owned: what is sealed, or has come and is not opened */
	size_t at, have;     /* of wire: the first byte of use, the first that is free */
};

/* For SSL_CTX_set_keylog_callback(): takes the secret out of a line of a handshake, if it is it. */
void record_keylog(const char *line, struct record_secret *ret);

/*
 * Behind a handshake on fd, of which the secret was told. From here on libssl does not write as
 * client, and does not read as server: what it wrote would be under a nonce that is in use here.
 * 0 or -errno; what is here goes with records_free().
 */
int records_start(struct records *r, SSL *ssl, int fd, const struct record_secret *secret);
void records_free(struct records *r);

/* The client's: all of it, to the last byte. 0, or -ECONNRESET. */
int record_write(struct records *r, const unsigned char *p, size_t n);
/* Nothing follows. */
void record_close(struct records *r);

/*
 * The server's: the content of the next record, to p, which has room for RECORD_MAX and behind that
 * RECORD_SLACK; waits for it. Its length, 0: the connection has ended, or -EBADMSG: it is not what
 * the client has written. Nothing of such a record may be used, and nothing can follow.
 */
int record_read(struct records *r, unsigned char *p);
/* A whole one is there: record_read() does not wait. */
bool record_pending(const struct records *r);
