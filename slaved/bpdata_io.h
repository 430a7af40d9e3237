/*
 * bpdata: what both ends of a connection do with it and with bpslave.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <openssl/ssl.h>

#define PIPE_SMALL (256 << 10) /* a small image goes in whole */
#define PIPE_MAX (1 << 20)     /* what an ordinary user's may grow to */

/* To bpslave; fd: -1: none. 0 or -errno. */
int data_say(uint32_t type, int err, const char *text, int fd);

#define DATA_ORDER 2 /* of bpslave, or it has ended */
/*
 * Until the plain end (-1: none) or the TCP socket has something. 0: the plain one has; 1: only
 * the other, or first of all that if tcp_first; -errno. Between images also DATA_ORDER: bpslave
 * says something, or has ended.
 */
int data_wait(int plain, int tcp, int between, int tcp_first);

/* All of it, to the last byte. 0 or -errno. */
int data_put(SSL *ssl, const unsigned char *p, size_t n);

/* For an image. */
int data_pipe(int end[2]);
