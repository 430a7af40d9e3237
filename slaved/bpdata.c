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
#include <sys/uio.h>
#include <unistd.h>
#include <openssl/err.h>

#include "libbproc/link.h"
#include "libbproc/sysio.h"
#include "slaved/bpdata.h"
#include "slaved/bpdata_back.h"
#include "slaved/bpdata_frame.h"
#include "vmadump/blob/channel.h"

#define BUF_BYTES (512u << 10)
#define PIPE_SMALL (256 << 10) /* a small image goes in whole */
#define PIPE_MAX (1 << 20)     /* what an ordinary user's may grow to */
#define BULK_BYTES (128 << 10)
#define CHUNK_BYTES (256u << 10)
/*
 * Chunks are handed on by reference, at least BULK_BYTES of each, or copied. One is used again
 * when NCHUNKS - 1 others have gone by reference behind it: these take more slots, of at most
 * a page each, than the pipe has, so that it has been read.
 */
#define NCHUNKS 10u
_Static_assert((NCHUNKS - 1) * (BULK_BYTES / 4096) > PIPE_MAX / 4096, "used again too soon");
#define GATHER_BYTES (128 << 10)
#define HANDSHAKE_S 10
#define HEADER_S 5 /* from an image's first byte until its header is whole */

_Static_assert(BUF_BYTES <= FRAME_MAX, "what is read at once is one frame");

static unsigned char buf[FRAME_HEAD + BUF_BYTES];

static int say(uint32_t type, int err, const char *text, int fd)
{
	struct bpdata_msg m = {.type = type, .err = err};

	if (text)
		strncpy(m.u.text, text, sizeof(m.u.text) - 1);
	return pkt_send(BPDATA_FD, &m, sizeof(m), &fd, fd >= 0);
}

#define ORDER 2 /* of bpslave, or it has ended */

/*
 * Until the plain end (-1: none) or the TCP socket has something. 0: the plain one has; 1: only
 * the other, or first of all that if tcp_first; -errno. Between images also ORDER: bpslave says
 * something, or has ended.
 */
static int wait_for(int plain, int tcp, int between, int tcp_first)
{
	struct pollfd p[3] = {{.fd = plain, .events = POLLIN},
			      {.fd = tcp, .events = POLLIN},
			      {.fd = between ? BPDATA_FD : -1, .events = POLLIN}};

	while (poll(p, 3, -1) < 0)
		if (errno != EINTR)
			return -errno;
	if (p[2].revents)
		return ORDER;
	return p[1].revents && (tcp_first || !p[0].revents);
}

/* All of it, to the last byte, in few system calls: libssl alone makes one a record of 16 KiB. */
static int put(SSL *ssl, const unsigned char *p, size_t n)
{
	int w;

	for (; n; n -= (size_t)w, p += w) {
		w = SSL_write(ssl, p, (int)n);
		if (w <= 0)
			return -ECONNRESET;
	}
	return BIO_flush(SSL_get_wbio(ssl)) == 1 ? 0 : -ECONNRESET;
}

/* The kernel may refuse a larger one to an ordinary user who has many: it works with any. */
static int make_pipe(int end[2])
{
	if (pipe2(end, O_CLOEXEC) < 0)
		return -errno;
	fcntl(end[1], F_SETPIPE_SZ, PIPE_SMALL);
	return 0;
}

/*
 * The image has ended; is it handed on? Only then may the next one use the connection: it would
 * wait behind a reader that is slow or does not come. bpslave's end is not looked at here, for
 * a close with the answer unread is a reset, which can overtake the image's last bytes.
 */
static int finish(SSL *ssl, struct back *back)
{
	int r;

	frame_put(buf, FRAME_END, 0);
	r = put(ssl, buf, FRAME_HEAD);
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
		r = wait_for(plain, tcp, !begun && !alone, back->lazy);
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
		if (r == ORDER) {
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
		r = put(ssl, buf, FRAME_HEAD + (size_t)n);
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
		r = make_pipe(end);
		if (r < 0)
			return r;
		r = say(BPDATA_IMAGE, 0, NULL, end[1]);
		close_fd(end[1]);
		if (r == 0)
			r = image_out(ssl, tcp, end[0], &back);
		close_fd(end[0]);
		close_fd(back.fd);
		back = (struct back){.fd = -1};
	} while (r > 0);
	if (r == 0)
		SSL_shutdown(ssl);
	return r;
}

/* What the server end knows of the images that come. */
struct in {
	struct frame_in frame;
	int plain;	  /* owned; -1 between images */
	int back;	  /* owned: what the reader says to the source; -1 */
	unsigned int hdr; /* bytes of the header that are there */
	unsigned char head[BPDATA_HDR];
	unsigned char *ring; /* NCHUNKS of CHUNK_BYTES */
	unsigned int chunk;  /* the one that is filled */
	int lent, any_lent;  /* by reference: of this chunk; of this image */
};

/*
 * To the image's reader. A large piece goes by reference, which saves one copy of two. Not when
 * it comes in small ones: there would be no telling when they have been read.
 */
static int hand_on(struct in *in, const unsigned char *p, size_t n)
{
	struct iovec v = {.iov_base = (void *)(uintptr_t)p, .iov_len = n};
	ssize_t w;

	if (n < BULK_BYTES)
		return write_full(in->plain, p, n);
	if (!in->any_lent)
		fcntl(in->plain, F_SETPIPE_SZ, PIPE_MAX);
	in->lent = in->any_lent = 1;
	while (v.iov_len) {
		w = vmsplice(in->plain, &v, 1, 0);
		if (w < 0 && errno != EINTR)
			return -errno;
		w = w < 0 ? 0 : w;
		v.iov_base = (unsigned char *)v.iov_base + w;
		v.iov_len -= (size_t)w;
	}
	return 0;
}

/* A reader could have kept references: what was lent is never written again for another. */
static void take_back(struct in *in)
{
	if (in->any_lent)
		madvise(in->ring, NCHUNKS * CHUNK_BYTES, MADV_DONTNEED);
	in->lent = in->any_lent = 0;
}

/* The header is whole: bpslave gets it, and the end from which the rest can be read. */
static int begin(struct in *in)
{
	struct bpdata_msg m = {.type = BPDATA_IMAGE, .server = 1};
	int end[2], back[2] = {-1, -1}, r;
	struct data_hdr hdr;

	alarm(0);
	r = make_pipe(end);
	if (r < 0)
		return r;
	in->plain = end[1];
	memcpy(m.u.hdr, in->head, sizeof(m.u.hdr));
	memcpy(&hdr, in->head, sizeof(hdr));
	if (le32toh(hdr.flags) & DATA_LAZY && pipe2(back, O_CLOEXEC) < 0)
		r = -errno;
	else
		r = pkt_send(BPDATA_FD, &m, sizeof(m), (const int[]){end[0], back[1]},
			     back[1] >= 0 ? 2 : 1);
	close_fd(end[0]);
	close_fd(back[1]);
	in->back = back[0];
	return r;
}

static int image_bytes(struct in *in, const unsigned char *p, size_t n)
{
	size_t take;

	if (in->hdr < BPDATA_HDR) {
		take = BPDATA_HDR - in->hdr < n ? BPDATA_HDR - in->hdr : n;
		if (!in->hdr)
			alarm(HEADER_S);
		memcpy(in->head + in->hdr, p, take);
		in->hdr += (unsigned int)take;
		p += take;
		n -= take;
		if (in->hdr == BPDATA_HDR) {
			int r = begin(in);

			if (r < 0)
				return r;
		}
	}
	/* Its reader is gone: the source has to hear of it, and does by the end of all. */
	return n ? hand_on(in, p, n) : 0;
}

static int end(struct in *in, SSL *ssl)
{
	unsigned char done[FRAME_HEAD];

	if (in->plain < 0)
		return -EBADMSG; /* not even a header was in it */
	in->plain = close_fd(in->plain);
	in->back = close_fd(in->back);
	in->hdr = 0;
	frame_put(done, FRAME_DONE, 0);
	return put(ssl, done, sizeof(done));
}

/* What was read into the present chunk. */
static int take_in(struct in *in, SSL *ssl, size_t n)
{
	const unsigned char *p = in->ring + in->chunk * CHUNK_BYTES, *data = NULL;
	size_t len = 0;
	int r;

	in->lent = 0;
	while ((r = frame_take(&in->frame, &p, &n, &data, &len)) > 0) {
		r = r == FRAME_BYTES ? image_bytes(in, data, len) : end(in, ssl);
		if (r < 0)
			return r;
	}
	if (in->lent)
		in->chunk = (in->chunk + 1) % NCHUNKS;
	return r;
}

/* Of a lazy move, until there is something from the source: what its reader says goes back. */
static int carry_back(struct in *in, SSL *ssl, int tcp)
{
	unsigned char p[FRAME_HEAD + FRAME_BACK_MAX];
	ssize_t n;
	int r = 0;

	while (r == 0 && in->back >= 0 && !SSL_has_pending(ssl) &&
	       wait_for(in->back, tcp, 0, 0) == 0) {
		n = read(in->back, p + FRAME_HEAD, FRAME_BACK_MAX);
		if (n <= 0) {
			in->back = close_fd(in->back);
			return 0;
		}
		frame_put(p, FRAME_BACK, (uint32_t)n);
		r = put(ssl, p, FRAME_HEAD + (size_t)n);
	}
	return r;
}

/* TLS -> plain. What has come is handed on before more is waited for. */
static int carry_in(struct in *in, SSL *ssl, int tcp)
{
	size_t have = 0;
	int n, r;

	for (;;) {
		if (!have && in->plain < 0 && !SSL_has_pending(ssl)) {
			take_back(in);
			r = wait_for(-1, tcp, 1, 0);
			if (r < 0 || r == ORDER)
				return r < 0 ? r : -EPIPE;
		}
		if (!have && (r = carry_back(in, ssl, tcp)) < 0)
			return r;
		n = SSL_read(ssl, in->ring + in->chunk * CHUNK_BYTES + have,
			     (int)(CHUNK_BYTES - have));
		if (n <= 0)
			return 0;
		have += (size_t)n;
		if (have < CHUNK_BYTES && SSL_has_pending(ssl))
			continue;
		r = take_in(in, ssl, have);
		if (r < 0)
			return r;
		have = 0;
	}
}

static int run_server(SSL *ssl, int tcp)
{
	struct in in = {.plain = -1, .back = -1};
	int r;

	in.ring = mmap(NULL, NCHUNKS * CHUNK_BYTES, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (in.ring == MAP_FAILED)
		return -errno;
	r = carry_in(&in, ssl, tcp);
	/* Cut: what is there still counts for nothing without the image's end mark. */
	alarm(0);
	close_fd(in.plain);
	close_fd(in.back);
	munmap(in.ring, NCHUNKS * CHUNK_BYTES);
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
		say(BPDATA_UP, ENOMEM, text, -1);
		goto out;
	}
	SSL_set_mode(ssl, SSL_MODE_AUTO_RETRY);
	SSL_set_read_ahead(ssl, 1);
	SSL_set_default_read_buffer_len(ssl, 256u << 10);
	alarm(HANDSHAKE_S); /* a peer that is silent ends this worker; bpslave sees it go */
	if ((server ? SSL_accept(ssl) : SSL_connect(ssl)) != 1) {
		link_tls_why(ERR_get_error(), &text);
		say(BPDATA_UP, EPROTO, text, -1);
		goto out;
	}
	alarm(0);
	if (say(BPDATA_UP, 0, NULL, -1) == 0) {
		r = server ? run_server(ssl, tcp) : run_client(ssl, tcp);
		if (r == -EBADMSG)
			text = "what came is no sequence of images";
		else
			text = strerror(-r);
		say(BPDATA_IDLE, -r, text, -1);
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
		} else if (m.type == BPDATA_RUN && ctx && pkt.nfd == 1) {
			run(ctx, m.server != 0, pkt.fd[0]);
		} else {
			return EXIT_FAILURE;
		}
	}
	link_ctx_free(ctx);
	return EXIT_SUCCESS;
}
