/*
 * bpdata, as TLS server: takes the images of a connection apart, and hands each on to its reader
 * (doc/streams.md, section 3).
 */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "libbproc/sysio.h"
#include "slaved/bpdata_in.h"
#include "slaved/bpdata_io.h"
#include "slaved/pager.h"
#include "vmadump/blob/channel.h"

#define HEADER_S 5 /* from an image's first byte until its header is whole */

/* With one that may become a pager the pipe never holds us: it is asked meanwhile. 0 or -errno. */
static int wait_for_room(struct in *in)
{
	struct pollfd p[2] = {{.fd = in->plain, .events = POLLOUT},
			      {.fd = in->ask, .events = POLLIN}};

	if (in->paging || in->ask < 0)
		return 0;
	while (poll(p, 2, -1) < 0)
		if (errno != EINTR)
			return -errno;
	return p[1].revents ? page_asked(in) : 0;
}

/*
 * To the image's reader. A large piece goes by reference, which saves one copy of two. Not when
 * it comes in small ones: there would be no telling when they have been read.
 */
static int hand_on(struct in *in, const unsigned char *p, size_t n)
{
	int by_reference = n >= BULK_BYTES;
	ssize_t w;

	if (by_reference && !in->any_lent)
		fcntl(in->plain, F_SETPIPE_SZ, PIPE_MAX);
	while (n) {
		struct iovec v = {.iov_base = (void *)(uintptr_t)p, .iov_len = n};
		int r = wait_for_room(in);

		if (r < 0)
			return r;
		if (in->paging)
			return pager_feed(p, n);
		if (by_reference)
			in->lent = in->any_lent = 1;
		w = by_reference ? vmsplice(in->plain, &v, 1, in->ask >= 0 ? SPLICE_F_NONBLOCK : 0)
				 : write(in->plain, p, n);
		if (w < 0 && errno != EINTR && errno != EAGAIN)
			return -errno;
		w = w < 0 ? 0 : w;
		p += w;
		n -= (size_t)w;
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
	int end[2], ask[2] = {-1, -1}, r;
	struct data_hdr hdr;

	alarm(0);
	r = data_pipe(end);
	if (r < 0)
		return r;
	in->plain = end[1];
	memcpy(m.u.hdr, in->head, sizeof(m.u.hdr));
	memcpy(&hdr, in->head, sizeof(hdr));
	if (le32toh(hdr.flags) & DATA_LAZY &&
	    (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ask) < 0 ||
	     fcntl(in->plain, F_SETFL, O_NONBLOCK) < 0))
		r = -errno;
	else
		r = pkt_send(BPDATA_FD, &m, sizeof(m), (const int[]){end[0], ask[1]},
			     ask[1] >= 0 ? 2 : 1);
	close_fd(end[0]);
	close_fd(ask[1]);
	in->ask = ask[0];
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

static int end(struct in *in)
{
	unsigned char done[FRAME_HEAD];

	in->ended = in->paging;
	if (in->paging)
		return 0; /* when all is in its place */
	if (in->plain < 0)
		return -EBADMSG; /* not even a header was in it */
	in->plain = close_fd(in->plain);
	in->ask = close_fd(in->ask);
	in->hdr = 0;
	frame_put(done, FRAME_DONE, 0);
	return data_put(in->ssl, done, sizeof(done));
}

int in_take(struct in *in, size_t n)
{
	const unsigned char *p = in->ring + in->chunk * CHUNK_BYTES, *data = NULL;
	size_t len = 0;
	int r;

	in->lent = 0;
	in->have = n;
	while ((r = frame_take(&in->frame, &p, &n, &data, &len)) > 0) {
		r = r == FRAME_BYTES ? image_bytes(in, data, len) : end(in);
		if (r < 0)
			return r;
	}
	in->have = 0;
	if (in->lent)
		in->chunk = (in->chunk + 1) % NCHUNKS;
	return r;
}

/* Of a lazy move: does it go on here, or is a pager wanted? Until more comes from the source. */
static int hear(struct in *in)
{
	int r = 0;

	while (r == 0 && in->ask >= 0 && !in->paging && !SSL_has_pending(in->ssl) &&
	       data_wait(in->ask, in->tcp, 0, 0) == 0)
		r = page_asked(in);
	return r;
}

/* TLS -> plain. What has come is handed on before more is waited for. */
static int carry_in(struct in *in)
{
	size_t have = 0;
	int n, r;

	while (!in->paging) {
		if (!have && in->plain < 0 && !SSL_has_pending(in->ssl)) {
			take_back(in);
			r = data_wait(-1, in->tcp, 1, 0);
			if (r < 0 || r == DATA_ORDER)
				return r < 0 ? r : -EPIPE;
		}
		if (!have && (r = hear(in)) < 0)
			return r;
		if (in->paging)
			break;
		n = SSL_read(in->ssl, in->ring + in->chunk * CHUNK_BYTES + have,
			     (int)(CHUNK_BYTES - have));
		if (n <= 0)
			return 0;
		have += (size_t)n;
		if (have < CHUNK_BYTES && SSL_has_pending(in->ssl))
			continue;
		r = in_take(in, have);
		if (r < 0)
			return r;
		have = 0;
	}
	return 0;
}

int run_server(SSL_CTX *ctx, SSL *ssl, int tcp)
{
	struct in in = {.ctx = ctx, .ssl = ssl, .tcp = tcp, .plain = -1, .ask = -1};
	int r;

	in.ring = mmap(NULL, NCHUNKS * CHUNK_BYTES, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (in.ring == MAP_FAILED)
		return -errno;
	r = carry_in(&in);
	if (in.paging)
		page_run(&in, r);
	/* Cut: what is there still counts for nothing without the image's end mark. */
	alarm(0);
	close_fd(in.plain);
	close_fd(in.ask);
	munmap(in.ring, NCHUNKS * CHUNK_BYTES);
	return r;
}
