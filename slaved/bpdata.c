/*
 * bpdata: the TLS of one data connection, between a TCP socket and local
 * pipes, one for each image, that the processes hold. A process of its own, so
 * that a gigabyte of encryption never delays a signal and the image's bytes never
 * pass through bpslave. Started and used again by bpslave (bpslave_tls.c); images
 * go one way, from TLS client to server (doc/streams.md, section 3).
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>
#include <openssl/err.h>

#include "libbproc/link.h"
#include "libbproc/sysio.h"
#include "slaved/bpdata.h"
#include "slaved/bpdata_back.h"
#include "slaved/bpdata_frame.h"
#include "slaved/bpdata_in.h"
#include "slaved/bpdata_io.h"
#include "slaved/bpdata_keys.h"

#define BUF_BYTES (512u << 10)
#define BULK_BYTES (128 << 10)
#define GATHER_BYTES (128 << 10)
#define HANDSHAKE_S 10

_Static_assert(BUF_BYTES <= FRAME_MAX, "what is read at once is one frame");

static _Alignas(4096) unsigned char buf[4096 + BUF_BYTES]; /* a head, and what it announces */

/*
 * The image has ended; is it handed on? Only then may the next one use the connection: it would
 * wait behind a reader that is slow or does not come. bpslave's end is not looked at here, for
 * a close with the answer unread is a reset, which can overtake the image's last bytes.
 */
static int finish(SSL *ssl, struct back *back)
{
	int r;

	frame_put(buf, FRAME_END, 0);
	r = data_put(ssl, buf, FRAME_HEAD);
	while (r == 0)
		r = back_frame(ssl, back);
	return r;
}

/*
 * One image, plain -> TLS. 1: there is another; 0: none was sent, bpslave has let go of the
 * connection; -errno: the connection is of no use any more.
 */
static int image_out(SSL *ssl, int tcp, int plain, struct back *back)
{
	int begun = 0, alone = 0, wide = 0, r;
	ssize_t n;

	for (;;) {
		r = data_wait(plain, tcp, !begun && !alone, back->lazy);
		if (r == 1) {
			/* Else the server says nothing: what comes from it is its end. */
			r = back->lazy ? 0 : -ECONNRESET;
			do
				r = r < 0 ? r : back_frame(ssl, back);
			while (r == 0 && SSL_has_pending(ssl));
			if (r)
				return r < 0 ? r : -EBADMSG;
			continue;
		}
		if (r == DATA_ORDER) {
			/* bpslave has ended: its own end of the pipe with it, and if a process has
			 * that already the image is the process's, also before its first byte. */
			alone = back_order(back) < 0;
			continue;
		}
		if (r < 0)
			return r;
		n = read(plain, buf + FRAME_HEAD, BUF_BYTES);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		begun = 1;
		if (n >= BULK_BYTES && !wide++)
			fcntl(plain, F_SETPIPE_SZ, PIPE_MAX);
		frame_put(buf, FRAME_DATA, (uint32_t)n);
		r = data_put(ssl, buf, FRAME_HEAD + (size_t)n);
		if (r < 0)
			return r;
	}
	if (n < 0 || !begun)
		return n < 0 ? -errno : 0;
	return finish(ssl, back);
}

static int run_client(SSL *ssl, int tcp)
{
	struct back back = {.fd = -1};
	int end[2], r;

	do {
		r = data_pipe(end);
		if (r < 0)
			return r;
		r = data_say(BPDATA_IMAGE, 0, NULL, end[1]);
		close_fd(end[1]);
		if (r == 0)
			r = image_out(ssl, tcp, end[0], &back);
		/* The far side is, or was, a pager: the connection was that one's. */
		if (r > 0 && back.heard)
			r = 0;
		close_fd(end[0]);
		close_fd(back.fd);
		back = (struct back){.fd = -1};
	} while (r > 0);
	if (r == 0)
		SSL_shutdown(ssl);
	/* This worker may be the pager of another user's process next (bpdata_page.c). */
	madvise(buf, sizeof(buf), MADV_DONTNEED);
	return r;
}

static int set_socket(SSL *ssl, int tcp, int server)
{
	BIO *gather;

	if (!SSL_set_fd(ssl, tcp))
		return 0;
	if (server)
		return 1; /* it has little to say */
	gather = BIO_new(BIO_f_buffer());
	if (!gather || !BIO_set_write_buffer_size(gather, GATHER_BYTES)) {
		BIO_free(gather);
		return 0;
	}
	/* SSL_set_fd gave one socket BIO to both directions: the gathering one goes in front. */
	BIO_up_ref(SSL_get_rbio(ssl));
	SSL_set0_wbio(ssl, BIO_push(gather, SSL_get_rbio(ssl)));
	return 1;
}

static void run(SSL_CTX *ctx, int server, int tcp)
{
	SSL *ssl = SSL_new(ctx);
	const char *text = "no memory for TLS";
	int r;

	if (!ssl || !set_socket(ssl, tcp, server)) {
		data_say(BPDATA_UP, ENOMEM, text, -1);
		goto out;
	}
	SSL_set_mode(ssl, SSL_MODE_AUTO_RETRY);
	SSL_set_read_ahead(ssl, 1);
	SSL_set_default_read_buffer_len(ssl, 256u << 10);
	alarm(HANDSHAKE_S); /* a peer that is silent ends this worker; bpslave sees it go */
	if ((server ? SSL_accept(ssl) : SSL_connect(ssl)) != 1) {
		link_tls_why(ERR_get_error(), &text);
		data_say(BPDATA_UP, EPROTO, text, -1);
		goto out;
	}
	alarm(0);
	if (data_say(BPDATA_UP, 0, NULL, -1) == 0) {
		keys_wipe();
		r = server ? run_server(ctx, ssl, tcp) : run_client(ssl, tcp);
		if (r == -EBADMSG)
			text = "what came is no sequence of images";
		else
			text = strerror(-r);
		data_say(BPDATA_IDLE, -r, text, -1);
	}
out:
	SSL_free(ssl);
	close_fd(tcp);
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
	if (keys_count() < 0)
		return EXIT_FAILURE;
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
			explicit_bzero(&m, sizeof(m));
			if (!ctx || keys_learn(ctx) < 0)
				return EXIT_FAILURE;
			SSL_CTX_clear_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE);
		} else if (m.type == BPDATA_RUN && ctx && pkt.nfd == 1) {
			run(ctx, m.server != 0, pkt.fd[0]);
		} else {
			return EXIT_FAILURE;
		}
	}
	link_ctx_free(ctx);
	return EXIT_SUCCESS;
}
