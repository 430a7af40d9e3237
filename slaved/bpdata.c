/*
 * bpdata: the TLS of one image's data connection, between a TCP socket and a
 * plain local socket that the process (or bpslave, for the header) holds. A
 * process of its own, so that a gigabyte of encryption never delays a signal
 * and the image's bytes never pass through bpslave. Started and reused by
 * bpslave (bpslave_tls.c); image bytes go one way, from TLS client to server.
 */
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>
#include <openssl/err.h>

#include "libbproc/link.h"
#include "libbproc/sysio.h"
#include "slaved/bpdata.h"

#define BUF_BYTES (512u << 10)
#define HANDSHAKE_S 10

static unsigned char buf[BUF_BYTES];

/* The plain end has bytes, or the peer has said something (it can only be goodbye). */
static int wait_plain(int plain, int tcp)
{
	struct pollfd p[2] = {{.fd = plain, .events = POLLIN}, {.fd = tcp, .events = POLLIN}};

	while (poll(p, 2, -1) < 0)
		if (errno != EINTR)
			return -errno;
	return p[0].revents ? 0 : -ECONNRESET;
}

/* Plain -> TLS until the plain end is at its end. Only then a TLS goodbye: a cut stays a cut. */
static void copy_out(SSL *ssl, int tcp, int plain)
{
	ssize_t n;
	int done, w;

	for (;;) {
		if (wait_plain(plain, tcp) < 0)
			return;
		n = read(plain, buf, sizeof(buf));
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		for (done = 0; done < n; done += w) {
			w = SSL_write(ssl, buf + done, (int)n - done);
			if (w <= 0)
				return;
		}
	}
	if (n == 0)
		SSL_shutdown(ssl);
}

/* TLS -> plain. What has come is handed on before more is waited for. */
static void copy_in(SSL *ssl, int plain)
{
	size_t have = 0;
	int n;

	for (;;) {
		n = SSL_read(ssl, buf + have, (int)(sizeof(buf) - have));
		if (n <= 0)
			break;
		have += (size_t)n;
		if (have < sizeof(buf) && SSL_has_pending(ssl))
			continue;
		if (write_full(plain, buf, have) < 0)
			return;
		have = 0;
	}
	if (have)
		write_full(plain, buf, have);
}

static int say(uint32_t type, int err, const char *text)
{
	struct bpdata_msg m = {.type = type, .err = err};

	if (text)
		strncpy(m.u.text, text, sizeof(m.u.text) - 1);
	return pkt_send(BPDATA_FD, &m, sizeof(m), NULL, 0);
}

static void run(SSL_CTX *ctx, int server, int tcp, int plain)
{
	SSL *ssl = SSL_new(ctx);
	const char *text = "no memory for TLS";

	if (!ssl || !SSL_set_fd(ssl, tcp)) {
		say(BPDATA_UP, ENOMEM, text);
		goto out;
	}
	SSL_set_mode(ssl, SSL_MODE_AUTO_RETRY);
	SSL_set_read_ahead(ssl, 1);
	SSL_set_default_read_buffer_len(ssl, 256u << 10);
	alarm(HANDSHAKE_S); /* a peer that is silent ends this worker; bpslave sees it go */
	if ((server ? SSL_accept(ssl) : SSL_connect(ssl)) != 1) {
		link_tls_why(ERR_get_error(), &text);
		say(BPDATA_UP, EPROTO, text);
		goto out;
	}
	alarm(0);
	if (say(BPDATA_UP, 0, NULL) < 0)
		goto out;
	if (server)
		copy_in(ssl, plain);
	else
		copy_out(ssl, tcp, plain);
out:
	alarm(0);
	SSL_free(ssl);
	close_fd(tcp);
	close_fd(plain);
	ERR_clear_error();
}

int main(void)
{
	struct cluster_key key;
	struct bproc_err err;
	struct bpdata_msg m;
	struct sysio_pkt pkt;
	SSL_CTX *ctx = NULL;
	cpu_set_t all;

	prctl(PR_SET_DUMPABLE, 0); /* it holds the cluster key */
	signal(SIGPIPE, SIG_IGN);
	signal(SIGALRM, SIG_DFL);
	/* bpslave may be confined to one processor; encryption is not to share it. */
	memset(&all, 0xff, sizeof(all));
	sched_setaffinity(0, sizeof(all), &all);
	while (pkt_recv(BPDATA_FD, &m, sizeof(m), 0, &pkt) == 0 && pkt.len == sizeof(m)) {
		if (m.type == BPDATA_KEY && !ctx) {
			memcpy(key.psk, m.u.psk, sizeof(key.psk));
			ctx = link_ctx_new(&key, &err);
			key_wipe(&key);
			if (!ctx)
				return EXIT_FAILURE;
			SSL_CTX_clear_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE);
		} else if (m.type == BPDATA_RUN && ctx && pkt.nfd == 2) {
			run(ctx, m.server != 0, pkt.fd[0], pkt.fd[1]);
			if (say(BPDATA_IDLE, 0, NULL) < 0)
				break;
		} else {
			return EXIT_FAILURE;
		}
	}
	link_ctx_free(ctx);
	return EXIT_SUCCESS;
}
