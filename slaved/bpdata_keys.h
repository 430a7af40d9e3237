/*
 * bpdata: where the cluster key is in its memory. A worker that becomes a pager (bpdata_page.c) is
 * to have it nowhere, nor what a handshake could be made from in its place.
 */
#pragma once

#include <openssl/ssl.h>

/* Before libcrypto is used at all. 0 or -errno. */
int keys_count(void);
/* What is to be looked for: this context's key. 0 or -errno. */
int keys_learn(SSL_CTX *ctx);
/* After a handshake: what libssl has kept of it is zeros. How many copies there were. */
int keys_wipe(void);
/* For good: the context can make no connection any more, those there are go on. */
void keys_forget(SSL_CTX *ctx);
