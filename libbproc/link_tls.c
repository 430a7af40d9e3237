/*
 * TLS of the links (link.h): a context that knows one thing, the cluster key as
 * an external PSK (RFC 8446, 4.2.11) under one name, and what its failures mean.
 * With psk_dhe_ke as the only mode every connection has an ephemeral exchange.
 * Runs in bpmaster, bpslave and bpdata.
 */
#include <errno.h>
#include <string.h>
#include <openssl/err.h>

#include "link.h"

/*
 * The PSK belongs to one hash, SHA-256: so do both suites. AES first; ChaCha is
 * for machines without AES instructions.
 */
#define SUITES "TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256"
static const unsigned char psk_name[] = "bproc-1";
#define PSK_NAME_LEN (sizeof(psk_name) - 1)

static const struct cluster_key *key_of(SSL *ssl)
{
	return SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));
}

static SSL_SESSION *psk_session(SSL *ssl)
{
	static const unsigned char aes128_sha256[] = {0x13, 0x01};
	const struct cluster_key *key = key_of(ssl);
	SSL_SESSION *sess = SSL_SESSION_new();
	const SSL_CIPHER *c = SSL_CIPHER_find(ssl, aes128_sha256);

	if (sess && c && SSL_SESSION_set1_master_key(sess, key->psk, sizeof(key->psk)) &&
	    SSL_SESSION_set_cipher(sess, c) &&
	    SSL_SESSION_set_protocol_version(sess, TLS1_3_VERSION))
		return sess;
	SSL_SESSION_free(sess);
	return NULL;
}

static int use_psk(SSL *ssl, const EVP_MD *md, const unsigned char **id, size_t *idlen,
		   SSL_SESSION **sess)
{
	/* md: the hash asked for after a HelloRetryRequest; ours is SHA-256 only. */
	if (md && EVP_MD_get_type(md) != NID_sha256)
		return 0;
	*sess = psk_session(ssl);
	*id = psk_name;
	*idlen = PSK_NAME_LEN;
	return *sess != NULL;
}

static int find_psk(SSL *ssl, const unsigned char *id, size_t idlen, SSL_SESSION **sess)
{
	*sess = NULL;
	if (idlen != PSK_NAME_LEN || memcmp(id, psk_name, idlen) != 0)
		return 1; /* not ours: goes on without, and ends for want of a certificate */
	*sess = psk_session(ssl);
	return *sess != NULL;
}

SSL_CTX *link_ctx_new(const struct cluster_key *key, struct bproc_err *err)
{
	struct cluster_key *copy = OPENSSL_memdup(key, sizeof(*key));
	SSL_CTX *ctx = SSL_CTX_new(TLS_method());

	if (!copy || !ctx || !SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION) ||
	    !SSL_CTX_set_max_proto_version(ctx, TLS1_3_VERSION) ||
	    !SSL_CTX_set_ciphersuites(ctx, SUITES) || !SSL_CTX_set1_groups_list(ctx, "X25519") ||
	    !SSL_CTX_set_num_tickets(ctx, 0)) {
		bproc_err_set(err, EIO, "TLS 1.3 context: %s",
			      ERR_reason_error_string(ERR_get_error()));
		OPENSSL_free(copy);
		SSL_CTX_free(ctx);
		return NULL;
	}
	SSL_CTX_set_app_data(ctx, copy);
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET | SSL_OP_CIPHER_SERVER_PREFERENCE);
	SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	/* The binder says whether the key is right; there is no certificate to look at. */
	SSL_CTX_set_verify(ctx, SSL_VERIFY_NONE, NULL);
	SSL_CTX_set_psk_use_session_callback(ctx, use_psk);
	SSL_CTX_set_psk_find_session_callback(ctx, find_psk);
	return ctx;
}

void link_ctx_free(SSL_CTX *ctx)
{
	struct cluster_key *key;

	if (!ctx)
		return;
	key = SSL_CTX_get_app_data(ctx);
	SSL_CTX_set_app_data(ctx, NULL);
	SSL_CTX_free(ctx);
	key_wipe(key);
	OPENSSL_free(key);
}

const struct cluster_key *link_ctx_key(SSL_CTX *ctx)
{
	return SSL_CTX_get_app_data(ctx);
}

void link_ctx_forget(SSL_CTX *ctx)
{
	key_wipe(SSL_CTX_get_app_data(ctx));
}

enum link_why link_tls_why(unsigned long ssl_err, const char **ret_text)
{
	*ret_text = "connection closed";
	if (ssl_err == 0)
		return LINK_CLOSED;
	switch (ERR_GET_REASON(ssl_err)) {
	case SSL_R_BINDER_DOES_NOT_VERIFY:
	/* What the other end says when our binder does not verify there. */
	case SSL_R_SSLV3_ALERT_ILLEGAL_PARAMETER:
	case SSL_R_TLSV1_ALERT_DECRYPT_ERROR:
	case SSL_R_SSLV3_ALERT_BAD_RECORD_MAC:
		*ret_text = "the peer has another cluster key";
		return LINK_KEY;
	case SSL_R_UNEXPECTED_EOF_WHILE_READING:
		return LINK_CLOSED;
	default:
		*ret_text = ERR_reason_error_string(ssl_err);
		if (!*ret_text)
			*ret_text = "not TLS 1.3";
		return LINK_PROTOCOL;
	}
}
