/*
 * A link: one TLS 1.3 connection that carries frames (wire.h), inside a libevent
 * loop. The cluster key is the external PSK of both ends, with an ephemeral key
 * exchange, so a key that leaks later does not open what was recorded. There is
 * no plaintext mode and there are no certificates.
 *
 * Life: link_connect or link_accept -> on_up once the handshake is done ->
 * on_msg ... -> on_down at most once -> link_free, by the owner, always.
 * link_free may be called from inside any callback. After on_down nothing is
 * called any more. Before on_up only on_down can come.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <netinet/in.h>
#include <event2/event.h>
#include <openssl/ssl.h>

#include "err.h"
#include "keyfile.h"
#include "proto/bproc.pb-c.h"

#define LINK_HANDSHAKE_MS 10000	   /* both ends give up then */
#define LINK_LATER_MS 2		   /* link_send_later() at most */
#define LINK_HIGH (512u << 10)	   /* bytes queued: LINK_FULL from here ... */
#define LINK_LOW (128u << 10)	   /* ... and on_drained when it has fallen to here */
#define LINK_QUEUE_MAX (64u << 20) /* bytes queued for a peer that does not read: it is dropped */

enum link_why {
	LINK_CLOSED = 1, /* the peer closed it */
	LINK_KEY,	 /* the peer has another cluster key */
	LINK_TIMEOUT,	 /* no connection or no handshake in time */
	LINK_PROTOCOL,	 /* bytes that are no frame, or not TLS 1.3 */
	LINK_IO,	 /* reset, unreachable, refused ... */
};

struct link;
struct link_ops {
	void (*on_up)(struct link *l, void *arg);
	/* env belongs to the link and ends with the call. */
	void (*on_msg)(struct link *l, const Bproc__Envelope *env, void *arg);
	/* May be NULL. Queue was at LINK_HIGH and is at LINK_LOW now. */
	void (*on_drained)(struct link *l, void *arg);
	/* reason: one line for the log, which names the peer. */
	void (*on_down)(struct link *l, enum link_why why, const char *reason, void *arg);
};

/*
 * A context for links, or for any other TLS of the cluster (SSL_new on it, then
 * SSL_set_connect_state or SSL_set_accept_state): TLS 1.3 only, PSK only, no
 * tickets, no session cache. The key is copied. NULL with err filled.
 */
SSL_CTX *link_ctx_new(const struct cluster_key *key, struct bproc_err *err);
void link_ctx_free(SSL_CTX *ctx);
/* The key that it has; and it has none any more: it makes no connection, those there are go on. */
const struct cluster_key *link_ctx_key(SSL_CTX *ctx);
void link_ctx_forget(SSL_CTX *ctx);
/*
 * Why a handshake failed, from OpenSSL's error code (ERR_get_error(), 0 if none)
 * and text for it; for users of link_ctx_new that have no link.
 */
enum link_why link_tls_why(unsigned long ssl_err, const char **ret_text);

/* bind_addr may be NULL. Never blocks; failure to connect comes as on_down. NULL: err. */
struct link *link_connect(struct event_base *base, SSL_CTX *ctx, const struct sockaddr_in *to,
			  const struct sockaddr_in *bind_addr, const struct link_ops *ops,
			  void *arg, struct bproc_err *err);
/* fd is a connected TCP socket and belongs to the link from here, also on failure. */
struct link *link_accept(struct event_base *base, SSL_CTX *ctx, int fd, const struct link_ops *ops,
			 void *arg, struct bproc_err *err);
/* NULL is fine. What is queued is lost. */
void link_free(struct link *l);
/*
 * Lets the queue go out, then closes; frees by itself. No callback comes any
 * more. For a last word (Refuse) before the line goes dead; at most 2 s.
 */
void link_finish(struct link *l);

/*
 * Copies the message into the queue. 0; LINK_FULL (1) if it was queued and the queue is at
 * LINK_HIGH or above: stop until on_drained; -EMSGSIZE over WIRE_MAX; -ENOTCONN when not up.
 */
#define LINK_FULL 1
int link_send(struct link *l, const ProtobufCMessage *msg);
/*
 * The same for what nobody waits for: it goes out with the next message, in one record, or
 * after LINK_LATER_MS.
 */
int link_send_later(struct link *l, const ProtobufCMessage *msg);
size_t link_queued_bytes(const struct link *l);
bool link_is_up(const struct link *l);
const struct sockaddr_in *link_peer(const struct link *l);
/* "10.0.0.2:41234" */
const char *link_peer_name(const struct link *l);
/* The socket, for SO_ options and getsockname only. */
int link_fd(const struct link *l);
