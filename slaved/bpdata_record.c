/*
 * TLS 1.3 records, client to server (bpdata_record.h). Runs in bpdata. What is read here comes from
 * anybody until its tag is right; then it is from whoever has the cluster key, and its
 * content is checked by bpdata_frame.c.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/params.h>

#include "libbproc/sysio.h"
#include "slaved/bpdata_record.h"

#define LABEL "CLIENT_TRAFFIC_SECRET_0 "
#define WIRE_MAX (RECORD_HEAD + RECORD_MAX + RECORD_OVER) /* one record */
#define WIRE_BYTES (18u * WIRE_MAX)
_Static_assert(RECORD_GATHER <= WIRE_BYTES / WIRE_MAX, "what is gathered has room");

enum { TYPE_ALERT = 21, TYPE_HANDSHAKE = 22, TYPE_DATA = 23 };

/* KeyUpdate, no answer asked for (RFC 8446, 4.6.3); close_notify, a warning (6.1). */
static const unsigned char key_update[] = {24, 0, 0, 1, 0}, close_notify[] = {1, 0};

static int nibble(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* LABEL, the client's random, a blank, the secret: in hexadecimal, as for SSLKEYLOGFILE. */
void record_keylog(const char *line, struct record_secret *ret)
{
	struct record_secret s = {.len = 0};
	const char *p;

	if (strncmp(line, LABEL, strlen(LABEL)) != 0)
		return;
	p = strchr(line + strlen(LABEL), ' ');
	for (p = p ? p + 1 : ""; s.len < sizeof(s.bytes) && nibble(p[0]) >= 0; p += 2) {
		if (nibble(p[1]) < 0)
			return;
		s.bytes[s.len++] = (unsigned char)(nibble(p[0]) << 4 | nibble(p[1]));
	}
	*ret = s;
	OPENSSL_cleanse(&s, sizeof(s));
}

/* HKDF-Expand-Label(secret, label, "", len): RFC 8446, 7.1. */
static int expand(const struct records *r, const char *label, unsigned char *ret, size_t len)
{
	char mode[] = "EXPAND_ONLY", prefix[] = "tls13 ";
	EVP_KDF *kdf = EVP_KDF_fetch(NULL, "TLS13-KDF", NULL);
	EVP_KDF_CTX *ctx = kdf ? EVP_KDF_CTX_new(kdf) : NULL;
	const OSSL_PARAM params[] = {
		OSSL_PARAM_utf8_string(OSSL_KDF_PARAM_MODE, mode, sizeof(mode) - 1),
		OSSL_PARAM_utf8_string(OSSL_KDF_PARAM_DIGEST,
				       (void *)(uintptr_t)EVP_MD_get0_name(r->md), 0),
		OSSL_PARAM_octet_string(OSSL_KDF_PARAM_KEY, (void *)(uintptr_t)r->secret.bytes,
					r->secret.len),
		OSSL_PARAM_octet_string(OSSL_KDF_PARAM_PREFIX, prefix, sizeof(prefix) - 1),
		OSSL_PARAM_octet_string(OSSL_KDF_PARAM_LABEL, (void *)(uintptr_t)label,
					strlen(label)),
		OSSL_PARAM_END,
	};
	int ok = ctx && EVP_KDF_derive(ctx, ret, len, params) == 1;

	EVP_KDF_CTX_free(ctx);
	EVP_KDF_free(kdf);
	return ok ? 0 : -EIO;
}

static int use_secret(struct records *r)
{
	unsigned char key[EVP_MAX_KEY_LENGTH];
	int e = expand(r, "key", key, (size_t)EVP_CIPHER_get_key_length(r->cipher));

	if (e == 0)
		e = expand(r, "iv", r->iv, sizeof(r->iv));
	if (e == 0 && EVP_CipherInit_ex(r->ctx, r->cipher, NULL, key, NULL, r->writes) != 1)
		e = -EIO;
	OPENSSL_cleanse(key, sizeof(key));
	r->seq = 0;
	return e;
}

/* Both ends, behind a KeyUpdate. */
static int next_secret(struct records *r)
{
	struct record_secret next = {.len = r->secret.len};
	int e = expand(r, "traffic upd", next.bytes, next.len);

	if (e == 0) {
		r->secret = next;
		e = use_secret(r);
	}
	OPENSSL_cleanse(&next, sizeof(next));
	return e;
}

int records_start(struct records *r, SSL *ssl, int fd, const struct record_secret *secret)
{
	const SSL_CIPHER *c = SSL_get_current_cipher(ssl);
	BIO *nothing;

	*r = (struct records){.fd = fd,
			      .secret = *secret,
			      .key_max = RECORD_KEY_MAX,
			      .writes = !SSL_is_server(ssl)};
	r->cipher = c ? EVP_get_cipherbynid(SSL_CIPHER_get_cipher_nid(c)) : NULL;
	r->md = c ? SSL_CIPHER_get_handshake_digest(c) : NULL;
	/* What libssl has read beyond the handshake would be missing here. */
	if (!r->cipher || !r->md || !secret->len || (!r->writes && SSL_has_pending(ssl)))
		return -EIO;
	if (r->writes) {
		nothing = BIO_new(BIO_s_null());
		if (!nothing)
			return -ENOMEM;
		SSL_set0_wbio(ssl, nothing);
	}
	r->ctx = EVP_CIPHER_CTX_new();
	r->wire = malloc(WIRE_BYTES);
	return r->ctx && r->wire ? use_secret(r) : -ENOMEM;
}

void records_free(struct records *r)
{
	EVP_CIPHER_CTX_free(r->ctx);
	free(r->wire);
	OPENSSL_cleanse(r, sizeof(*r));
}

/* The nonce of a record: its number, over the end of the iv (RFC 8446, 5.3). */
static int set_nonce(struct records *r)
{
	unsigned char nonce[sizeof(r->iv)];

	memcpy(nonce, r->iv, sizeof(nonce));
	for (unsigned int i = 0; i < 8; i++)
		nonce[sizeof(nonce) - 1 - i] ^= (unsigned char)(r->seq >> (8 * i));
	r->seq++;
	return EVP_CipherInit_ex(r->ctx, NULL, NULL, NULL, nonce, -1);
}

static int flush(struct records *r)
{
	size_t n = r->have;

	r->have = 0;
	return write_full(r->fd, r->wire, n) < 0 ? -ECONNRESET : 0;
}

/* One record of at most RECORD_MAX bytes, behind what is gathered. */
static int seal(struct records *r, unsigned char type, const unsigned char *p, size_t n)
{
	unsigned char *to = r->wire + r->have, *body = to + RECORD_HEAD;
	size_t len = n + 1 + RECORD_TAG;
	int got;

	to[0] = TYPE_DATA;
	to[1] = to[2] = 3;
	to[3] = (unsigned char)(len >> 8);
	to[4] = (unsigned char)len;
	if (set_nonce(r) != 1 || EVP_EncryptUpdate(r->ctx, NULL, &got, to, RECORD_HEAD) != 1 ||
	    EVP_EncryptUpdate(r->ctx, body, &got, p, (int)n) != 1 ||
	    EVP_EncryptUpdate(r->ctx, body + n, &got, &type, 1) != 1 ||
	    EVP_EncryptFinal_ex(r->ctx, body + n + 1, &got) != 1 ||
	    EVP_CIPHER_CTX_ctrl(r->ctx, EVP_CTRL_AEAD_GET_TAG, RECORD_TAG, body + n + 1) != 1)
		return -ECONNRESET;
	r->have += RECORD_HEAD + len;
	return 0;
}

int record_write(struct records *r, const unsigned char *p, size_t n)
{
	unsigned int sealed = 0;
	int e = 0;

	for (size_t take; n && e == 0; n -= take, p += take) {
		take = n < RECORD_MAX ? n : RECORD_MAX;
		if (r->seq >= r->key_max) {
			e = seal(r, TYPE_HANDSHAKE, key_update, sizeof(key_update));
			e = e == 0 ? next_secret(r) : e;
		}
		e = e == 0 ? seal(r, TYPE_DATA, p, take) : e;
		if (e == 0 && (++sealed % RECORD_GATHER == 0 || take == n))
			e = flush(r);
	}
	return e < 0 ? -ECONNRESET : 0;
}

void record_close(struct records *r)
{
	if (seal(r, TYPE_ALERT, close_notify, sizeof(close_notify)) == 0)
		flush(r);
}

/* The length of the record at r->at with its head, if that is there; -EBADMSG. */
static int wire_len(const struct records *r)
{
	const unsigned char *h = r->wire + r->at;
	unsigned int len;

	if (r->have - r->at < RECORD_HEAD)
		return 0;
	len = (unsigned int)h[3] << 8 | h[4];
	if (h[0] != TYPE_DATA || h[1] != 3 || len <= RECORD_TAG || len > RECORD_MAX + RECORD_OVER)
		return -EBADMSG;
	return (int)(RECORD_HEAD + len);
}

bool record_pending(const struct records *r)
{
	int n = wire_len(r);

	return n < 0 || (n > 0 && r->have - r->at >= (size_t)n);
}

/* Until the next one is whole: 1, 0 at the end, or -EBADMSG. */
static int fetch(struct records *r)
{
	ssize_t n;

	while (!record_pending(r)) {
		if (r->at) {
			memmove(r->wire, r->wire + r->at, r->have - r->at);
			r->have -= r->at;
			r->at = 0;
		}
		n = read(r->fd, r->wire + r->have, WIRE_BYTES - r->have);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return 0;
		r->have += (size_t)n;
	}
	return wire_len(r) < 0 ? -EBADMSG : 1;
}

/* Of a record that is whole: its type, and its content to p, *ret_len bytes; or -EBADMSG. */
static int unseal(struct records *r, unsigned char *p, size_t *ret_len)
{
	const unsigned char *from = r->wire + r->at, *body = from + RECORD_HEAD;
	size_t n = (size_t)wire_len(r) - RECORD_HEAD - RECORD_TAG;
	int got;

	if (set_nonce(r) != 1 || EVP_DecryptUpdate(r->ctx, NULL, &got, from, RECORD_HEAD) != 1 ||
	    EVP_DecryptUpdate(r->ctx, p, &got, body, (int)n) != 1 ||
	    EVP_CIPHER_CTX_ctrl(r->ctx, EVP_CTRL_AEAD_SET_TAG, RECORD_TAG,
				(void *)(uintptr_t)(body + n)) != 1 ||
	    EVP_DecryptFinal_ex(r->ctx, p + n, &got) != 1)
		return -EBADMSG;
	r->at += RECORD_HEAD + n + RECORD_TAG;
	/* The type is behind the content, and zeros may be behind it. */
	while (n && p[n - 1] == 0)
		n--;
	if (n == 0 || n - 1 > RECORD_MAX)
		return -EBADMSG;
	*ret_len = n - 1;
	return p[n - 1];
}

int record_read(struct records *r, unsigned char *p)
{
	size_t n = 0;
	int e;

	for (;;) {
		e = fetch(r);
		if (e > 0)
			e = unseal(r, p, &n);
		if (e <= 0)
			return e;
		if (e == TYPE_DATA && n)
			return (int)n;
		if (e == TYPE_ALERT && n == sizeof(close_notify) && p[1] == close_notify[1])
			return 0;
		if (e == TYPE_HANDSHAKE && n == sizeof(key_update) &&
		    memcmp(p, key_update, sizeof(key_update)) == 0)
			e = next_secret(r);
		else if (e != TYPE_DATA)
			e = -EBADMSG;
		if (e < 0)
			return -EBADMSG;
	}
}
