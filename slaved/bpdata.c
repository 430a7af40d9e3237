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
#include "slaved/bpdata_record.h"
#include "vmadump/blob/channel.h"

#define BUF_BYTES (512u << 10)
#define PIPE_SMALL (256 << 10) /* a small image goes in whole */
#define PIPE_MAX (1 << 20)     /* what an ordinary user's may grow to */
#define BULK_BYTES (128 << 10)
#define CHUNK_BYTES (256u << 10)
#define CHUNK_ROOM (CHUNK_BYTES + 4096) /* behind it, RECORD_SLACK and up to the next page */
/*
 * Chunks are handed on by reference, at least BULK_BYTES of each, or copied. One is used again
 * when NCHUNKS - 1 others have gone by reference behind it: these take more slots, of at most
 * a page each, than the pipe has, so that it has been read.
 */
#define NCHUNKS 10u
_Static_assert((NCHUNKS - 1) * (BULK_BYTES / 4096) > PIPE_MAX / 4096, "used again too soon");
#define HANDSHAKE_S 10
#define HEADER_S 5 /* from an image's first byte until its header is whole */

_Static_assert(BUF_BYTES <= FRAME_MAX, "what is read at once is one frame");
_Static_assert(RECORD_SLACK <= CHUNK_ROOM - CHUNK_BYTES, "a chunk has room for its last record");

/* The connection: images go in records of ours, what the server says by libssl. */
struct conn {
	SSL *ssl;
	int tcp;
	struct records rec;
};

static struct record_secret secret; /* of the handshake that was made last */

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

/* The server's word, a few bytes. */
static int answer(struct conn *c, const unsigned char *p, size_t n)
{
	return SSL_write(c->ssl, p, (int)n) == (int)n ? 0 : -ECONNRESET;
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
static int finish(struct conn *c, struct back *back)
{
	int r;

	frame_put(buf, FRAME_END, 0);
	r = record_write(&c->rec, buf, FRAME_HEAD);
	while (r == 0)
		r = back_frame(c->ssl, back);
	return r;
}

/*
 * One image, plain -> TLS. 1: there is another; 0: none was sent, bpslave has let go of the
 * connection; -errno: the connection is of no use any more.
 */
static int image_out(struct conn *c, int plain, struct back *back)
{
	int begun = 0, alone = 0, wide = 0, r;
	ssize_t n;

	for (;;) {
		r = wait_for(plain, c->tcp, !begun && !alone, back->lazy);
		if (r == 1) {
			/* Else the server says nothing: what comes from it is its end. */
			r = back->lazy ? 0 : -ECONNRESET;
			do
				r = r < 0 ? r : back_frame(c->ssl, back);
			while (r == 0 && SSL_has_pending(c->ssl));
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
		r = record_write(&c->rec, buf, FRAME_HEAD + (size_t)n);
		if (r < 0)
			return r;
	}
	if (n < 0 || !begun)
		return n < 0 ? -errno : 0;
	return finish(c, back);
}

static int run_client(struct conn *c)
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
			r = image_out(c, end[0], &back);
		close_fd(end[0]);
		close_fd(back.fd);
		back = (struct back){.fd = -1};
	} while (r > 0);
	if (r == 0)
		record_close(&c->rec);
	return r;
}

/* What the server end knows of the images that come. */
struct in {
	struct frame_in frame;
	int plain;	  /* owned; -1 between images */
	int back;	  /* owned: what the reader says to the source; -1 */
	unsigned int hdr; /* bytes of the header that are there */
	unsigned char head[BPDATA_HDR];
	unsigned char *ring; /* NCHUNKS of CHUNK_ROOM */
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
		madvise(in->ring, NCHUNKS * CHUNK_ROOM, MADV_DONTNEED);
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

static int end(struct in *in, struct conn *c)
{
	unsigned char done[FRAME_HEAD];

	if (in->plain < 0)
		return -EBADMSG; /* not even a header was in it */
	in->plain = close_fd(in->plain);
	in->back = close_fd(in->back);
	in->hdr = 0;
	frame_put(done, FRAME_DONE, 0);
	return answer(c, done, sizeof(done));
}

/* What was read into the present chunk. */
static int take_in(struct in *in, struct conn *c, size_t n)
{
	const unsigned char *p = in->ring + in->chunk * CHUNK_ROOM, *data = NULL;
	size_t len = 0;
	int r;

	in->lent = 0;
	while ((r = frame_take(&in->frame, &p, &n, &data, &len)) > 0) {
		r = r == FRAME_BYTES ? image_bytes(in, data, len) : end(in, c);
		if (r < 0)
			return r;
	}
	if (in->lent)
		in->chunk = (in->chunk + 1) % NCHUNKS;
	return r;
}

/* Of a lazy move, until there is something from the source: what its reader says goes back. */
static int carry_back(struct in *in, struct conn *c)
{
	unsigned char p[FRAME_HEAD + FRAME_BACK_MAX];
	ssize_t n;
	int r = 0;

	while (r == 0 && in->back >= 0 && !record_pending(&c->rec) &&
	       wait_for(in->back, c->tcp, 0, 0) == 0) {
		n = read(in->back, p + FRAME_HEAD, FRAME_BACK_MAX);
		if (n <= 0) {
			in->back = close_fd(in->back);
			return 0;
		}
		frame_put(p, FRAME_BACK, (uint32_t)n);
		r = answer(c, p, FRAME_HEAD + (size_t)n);
	}
	return r;
}

/* TLS -> plain. What has come is handed on before more is waited for. */
static int carry_in(struct in *in, struct conn *c)
{
	size_t have = 0;
	int n, r;

	for (;;) {
		if (!have && in->plain < 0 && !record_pending(&c->rec)) {
			take_back(in);
			r = wait_for(-1, c->tcp, 1, 0);
			if (r < 0 || r == ORDER)
				return r < 0 ? r : -EPIPE;
		}
		if (!have && (r = carry_back(in, c)) < 0)
			return r;
		n = record_read(&c->rec, in->ring + in->chunk * CHUNK_ROOM + have);
		if (n <= 0)
			return n;
		have += (size_t)n;
		if (have + RECORD_MAX <= CHUNK_BYTES && record_pending(&c->rec))
			continue;
		r = take_in(in, c, have);
		if (r < 0)
			return r;
		have = 0;
	}
}

static int run_server(struct conn *c)
{
	struct in in = {.plain = -1, .back = -1};
	int r;

	in.ring = mmap(NULL, NCHUNKS * CHUNK_ROOM, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (in.ring == MAP_FAILED)
		return -errno;
	r = carry_in(&in, c);
	/* Cut: what is there still counts for nothing without the image's end mark. */
	alarm(0);
	close_fd(in.plain);
	close_fd(in.back);
	munmap(in.ring, NCHUNKS * CHUNK_ROOM);
	return r;
}

static void on_secret(const SSL *ssl, const char *line)
{
	(void)ssl;
	record_keylog(line, &secret);
}

/* The handshake; 0, or what bpslave is to hear. */
static int connect_tls(struct conn *c, int server, const char **text)
{
	*text = "no memory for TLS";
	if (!c->ssl || !SSL_set_fd(c->ssl, c->tcp))
		return ENOMEM;
	SSL_set_mode(c->ssl, SSL_MODE_AUTO_RETRY);
	SSL_set_read_ahead(c->ssl, !server); /* what follows the handshake there is not libssl's */
	alarm(HANDSHAKE_S); /* a peer that is silent ends this worker; bpslave sees it go */
	if ((server ? SSL_accept(c->ssl) : SSL_connect(c->ssl)) != 1) {
		link_tls_why(ERR_get_error(), text);
		return EPROTO;
	}
	alarm(0);
	return -records_start(&c->rec, c->ssl, c->tcp, &secret);
}

static void run(SSL_CTX *ctx, int server, int tcp)
{
	struct conn c = {.ssl = SSL_new(ctx), .tcp = tcp};
	const char *text;
	int r = connect_tls(&c, server, &text);

	OPENSSL_cleanse(&secret, sizeof(secret));
	if (say(BPDATA_UP, r, r ? text : NULL, -1) == 0 && r == 0) {
		r = server ? run_server(&c) : run_client(&c);
		if (r == -EBADMSG)
			text = "what came is no sequence of images";
		else
			text = strerror(-r);
		say(BPDATA_IDLE, -r, text, -1);
	}
	records_free(&c.rec);
	SSL_free(c.ssl);
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
			SSL_CTX_set_keylog_callback(ctx, on_secret);
		} else if (m.type == BPDATA_RUN && ctx && pkt.nfd == 1) {
			run(ctx, m.server != 0, pkt.fd[0]);
		} else {
			return EXIT_FAILURE;
		}
	}
	link_ctx_free(ctx);
	return EXIT_SUCCESS;
}
