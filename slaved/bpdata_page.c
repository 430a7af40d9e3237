/*
 * bpdata as the pager of one process: its memory comes by the TLS connection that its image came
 * by. Between the two it forgets the cluster key, and gives up its rights; what it has left is
 * that connection, which carries nothing of anybody else's any more, and ends with it.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>
#include <openssl/err.h>

#include "libbproc/link.h"
#include "libbproc/sysio.h"
#include "slaved/bpdata_in.h"
#include "slaved/bpdata_io.h"
#include "slaved/bpdata_keys.h"
#include "slaved/pager.h"

#define TURN_BYTES (128u << 10) /* taken in before faults are looked at again */
#define END_MS 5000		/* for the source's last word, which nothing depends on */

/* What is said in one BACK; of one that could not be sent whole the same has to be tried again. */
#define SAY_MAX 1024u
static size_t tried;
static int freed; /* libssl's buffers were */

static int is_want(SSL *ssl, int r)
{
	int e = SSL_get_error(ssl, r);

	return e == SSL_ERROR_WANT_READ || e == SSL_ERROR_WANT_WRITE;
}

static int read_tls(void *arg)
{
	struct in *in = arg;
	size_t have = 0;
	int n, r;

	if (!freed)
		freed = SSL_free_buffers(in->ssl);
	do {
		ERR_clear_error();
		n = SSL_read(in->ssl, in->ring + in->chunk * CHUNK_BYTES + have,
			     (int)(CHUNK_BYTES - have));
		if (n <= 0 && !is_want(in->ssl, n))
			return -EPIPE;
		have += n > 0 ? (size_t)n : 0;
	} while (n > 0 && have < TURN_BYTES);
	r = in_take(in, have);
	if (r == 0 && in->ended && !pager_all_came())
		r = -EPIPE;
	return r < 0 ? r : n > 0;
}

static long write_tls(void *arg, const unsigned char *p, size_t n)
{
	struct in *in = arg;
	unsigned char f[FRAME_HEAD + SAY_MAX];
	size_t len = tried ? tried : n < SAY_MAX ? n : SAY_MAX;
	int w;

	frame_put(f, FRAME_BACK, (uint32_t)len);
	memcpy(f + FRAME_HEAD, p, len);
	ERR_clear_error();
	w = SSL_write(in->ssl, f, (int)(FRAME_HEAD + len));
	tried = w > 0 ? 0 : len;
	if (w > 0)
		return (long)len;
	return is_want(in->ssl, w) ? -EAGAIN : -EPIPE;
}

/* What the reader of the image has left in the pipe came before all that is still to come. */
static int drain(int pipe)
{
	unsigned char buf[16 << 10];
	ssize_t n;
	int r = 0, on = 1;

	if (ioctl(pipe, FIONBIO, &on) < 0)
		return -errno;
	while (r == 0 && (n = read(pipe, buf, sizeof(buf))) > 0)
		r = pager_feed(buf, (size_t)n);
	return r;
}

/*
 * What is left in our buffers of images that the connection carried before, somebody else's, goes:
 * of the ring all but what is being looked at, and libssl's as soon as nothing waits there.
 */
static void forget_others(struct in *in)
{
	unsigned char *mine = in->ring + in->chunk * CHUNK_BYTES;
	size_t size = NCHUNKS * CHUNK_BYTES, from = (in->have + 4095) & ~(size_t)4095;

	madvise(in->ring, (size_t)(mine - in->ring), MADV_DONTNEED);
	explicit_bzero(mine + in->have, from - in->have);
	madvise(mine + from, (size_t)(in->ring + size - (mine + from)), MADV_DONTNEED);
	freed = SSL_free_buffers(in->ssl);
}

int page_asked(struct in *in)
{
	const struct pager_line line = {
		.fd = in->tcp, .relayed = true, .read = read_tls, .write = write_tls, .arg = in};
	struct sysio_pkt pkt;
	pager_word word;
	int on = 1, r;

	if (pkt_recv(in->ask, &word, sizeof(word), 0, &pkt) < 0 || pkt.nfd != 2) {
		pkt_close(&pkt);
		in->ask = close_fd(in->ask);
		return fcntl(in->plain, F_SETFL, 0) < 0 ? -errno : 0;
	}
	in->paging = 1;
	data_say(BPDATA_PAGER, 0, NULL, -1);
	close_fd(BPDATA_FD);
	keys_forget(in->ctx);
	forget_others(in);
	ioctl(in->tcp, FIONBIO, &on);
	pager_drop_rights();
	pager_begin(pkt.fd[0], &line);
	r = drain(pkt.fd[1]);
	close_fd(pkt.fd[1]);
	in->plain = close_fd(in->plain);
	return r;
}

/* So that the source's end does not take it for lost: its END is answered, if that comes. */
static void say_done(struct in *in)
{
	struct pollfd p = {.fd = in->tcp, .events = POLLIN};
	unsigned char done[FRAME_HEAD];
	int r = 0;

	while (!in->ended && r >= 0) {
		r = read_tls(in);
		if (r == 0 && !in->ended && poll(&p, 1, END_MS) != 1)
			return;
	}
	frame_put(done, FRAME_DONE, 0);
	if (in->ended && data_put(in->ssl, done, sizeof(done)) == 0)
		SSL_shutdown(in->ssl);
}

_Noreturn void page_run(struct in *in, int e)
{
	if (e == 0)
		e = pager_serve();
	pager_finish(in->ask, e);
	if (pager_all_came())
		say_done(in);
	_exit(0);
}
