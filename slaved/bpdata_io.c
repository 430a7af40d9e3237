/*
 * bpdata: what both ends of a connection do with it and with bpslave.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "libbproc/sysio.h"
#include "slaved/bpdata.h"
#include "slaved/bpdata_io.h"

int data_say(uint32_t type, int err, const char *text, int fd)
{
	struct bpdata_msg m = {.type = type, .err = err};

	if (text)
		strncpy(m.u.text, text, sizeof(m.u.text) - 1);
	return pkt_send(BPDATA_FD, &m, sizeof(m), &fd, fd >= 0);
}

int data_wait(int plain, int tcp, int between, int tcp_first)
{
	struct pollfd p[3] = {{.fd = plain, .events = POLLIN},
			      {.fd = tcp, .events = POLLIN},
			      {.fd = between ? BPDATA_FD : -1, .events = POLLIN}};

	while (poll(p, 3, -1) < 0)
		if (errno != EINTR)
			return -errno;
	if (p[2].revents)
		return DATA_ORDER;
	return p[1].revents && (tcp_first || !p[0].revents);
}

/* In few system calls: libssl alone makes one a record of 16 KiB. */
int data_put(SSL *ssl, const unsigned char *p, size_t n)
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
int data_pipe(int end[2])
{
	if (pipe2(end, O_CLOEXEC) < 0)
		return -errno;
	fcntl(end[1], F_SETPIPE_SZ, PIPE_SMALL);
	return 0;
}
