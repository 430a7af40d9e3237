/*
 * bpdata: the cluster key out of its memory. libssl keeps, for as long as a connection lasts, what
 * the key was made into first: the early secret (RFC 8446, 7.1), by which another connection could
 * be had as well as by the key, and no call of it frees that. So what it asks memory for is
 * counted here, and looked through after each handshake, when nobody waits for it; what it gives
 * back is zeros.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <openssl/crypto.h>
#include <openssl/hmac.h>

#include "libbproc/link.h"
#include "slaved/bpdata_keys.h"

/* -- what libssl has asked for */

struct block {
	LIST_ENTRY(block) list;
	size_t size;
	_Alignas(16) unsigned char bytes[];
};

static LIST_HEAD(, block) blocks = LIST_HEAD_INITIALIZER(blocks);

static struct block *block_of(void *p)
{
	return (struct block *)(void *)((unsigned char *)p - sizeof(struct block));
}

static void *block_new(size_t size, const char *file, int line)
{
	struct block *b = size <= SIZE_MAX - sizeof(*b) ? malloc(sizeof(*b) + size) : NULL;

	(void)file;
	(void)line;
	if (!b)
		return NULL;
	b->size = size;
	LIST_INSERT_HEAD(&blocks, b, list);
	return b->bytes;
}

static void block_free(void *p, const char *file, int line)
{
	(void)file;
	(void)line;
	if (!p)
		return;
	LIST_REMOVE(block_of(p), list);
	explicit_bzero(p, block_of(p)->size);
	free(block_of(p));
}

static void *block_grow(void *p, size_t size, const char *file, int line)
{
	void *more = block_new(size, file, line);

	if (p && more) {
		memcpy(more, p, block_of(p)->size < size ? block_of(p)->size : size);
		block_free(p, file, line);
	}
	return more;
}

int keys_count(void)
{
	return CRYPTO_set_mem_functions(block_new, block_grow, block_free) ? 0 : -ENOMEM;
}

/* -- what is in there */

static struct {
	const struct cluster_key *kept; /* the context's copy, which is needed */
	unsigned char value[2][KEY_PSK];
} secrets;

int keys_learn(SSL_CTX *ctx)
{
	static const unsigned char salt[KEY_PSK];
	unsigned int len = KEY_PSK;

	secrets.kept = link_ctx_key(ctx);
	memcpy(secrets.value[0], secrets.kept->psk, KEY_PSK);
	return HMAC(EVP_sha256(), salt, sizeof(salt), secrets.kept->psk, KEY_PSK, secrets.value[1],
		    &len)
		       ? 0
		       : -EIO;
}

static int wipe_in(struct block *b, const unsigned char *secret)
{
	unsigned char *p = b->bytes;
	int n = 0;

	while ((p = memmem(p, (size_t)(b->bytes + b->size - p), secret, KEY_PSK))) {
		if (p != secrets.kept->psk) {
			explicit_bzero(p, KEY_PSK);
			n++;
		}
		p += KEY_PSK;
	}
	return n;
}

int keys_wipe(void)
{
	struct block *b;
	int n = 0;

	LIST_FOREACH(b, &blocks, list)
	n += wipe_in(b, secrets.value[0]) + wipe_in(b, secrets.value[1]);
	return n;
}

void keys_forget(SSL_CTX *ctx)
{
	keys_wipe();
	link_ctx_forget(ctx);
	explicit_bzero(&secrets, sizeof(secrets));
}
