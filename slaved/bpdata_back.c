/*
 * What the far side of a TLS data connection says to the sender of the image that is on its way
 * (doc/streams.md, section 3): of a lazy move, which pages it wants. Runs in bpdata, as client.
 */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "libbproc/sysio.h"
#include "slaved/bpdata.h"
#include "slaved/bpdata_back.h"
#include "slaved/bpdata_frame.h"

static int get(SSL *ssl, unsigned char *p, int len)
{
	for (int have = 0, n; have < len; have += n) {
		n = SSL_read(ssl, p + have, len - have);
		if (n <= 0)
			return -ECONNRESET;
	}
	return 0;
}

int back_frame(SSL *ssl, struct back *back)
{
	unsigned char p[FRAME_BACK_MAX];
	int r = get(ssl, p, FRAME_HEAD), n;

	n = r == 0 ? frame_from_server(p) : r;
	if (n <= 0 || (r = get(ssl, p, n)) < 0)
		return n == 0 ? 1 : n < 0 ? n : r;
	if (!back->lazy)
		return -EBADMSG;
	back->heard = 1;
	if (back->fd >= 0 && write(back->fd, p, (size_t)n) != n)
		back->fd = close_fd(back->fd);
	return 0;
}

int back_order(struct back *back)
{
	struct bpdata_msg m;
	struct sysio_pkt pkt;

	if (pkt_recv(BPDATA_FD, &m, sizeof(m), 0, &pkt) < 0 || pkt.len != sizeof(m) ||
	    m.type != BPDATA_BACK || pkt.nfd != 1 || back->lazy) {
		pkt_close(&pkt);
		return -EPIPE;
	}
	back->fd = take_fd(pkt.fd[0]);
	back->lazy = 1;
	return fcntl(back->fd, F_SETFL, O_NONBLOCK) < 0 ? -errno : 0;
}
