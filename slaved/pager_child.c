/*
 * The pager as a child of bpinit: its connection is in the clear, and the arrival has read its
 * image from it.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "libbproc/sysio.h"
#include "slaved/pager.h"

#define FD_CONN 3
#define FD_CTL 4
#define FD_FREE 64 /* out of the way of those */
#define READ_BYTES (256u << 10)

static int read_conn(void *arg)
{
	static unsigned char buf[READ_BYTES];
	ssize_t n = read(FD_CONN, buf, sizeof(buf));

	(void)arg;
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	return n > 0 ? pager_feed(buf, (size_t)n) : n ? -errno : -EPIPE;
}

static long write_conn(void *arg, const unsigned char *p, size_t n)
{
	ssize_t w;

	(void)arg;
	do
		w = write(FD_CONN, p, n);
	while (w < 0 && errno == EINTR);
	return w < 0 ? -errno : w;
}

static void take_places(int conn, int ctl)
{
	int up_conn = fcntl(conn, F_DUPFD_CLOEXEC, FD_FREE);
	int up_ctl = fcntl(ctl, F_DUPFD_CLOEXEC, FD_FREE);

	if (up_conn < 0 || up_ctl < 0 || dup2(up_conn, FD_CONN) < 0 || dup2(up_ctl, FD_CTL) < 0)
		_exit(1);
	close_range(FD_CTL + 1, ~0u, 0);
}

/*
 * Until the memory is there, and the image is read: the arrival reads it from the same connection,
 * in calls that wait. If there is no such memory, or the move fails, the socket ends.
 */
static int wait_for_memory(void)
{
	struct sysio_pkt pkt;
	pager_word word;
	int on = 1;

	if (pkt_recv(FD_CTL, &word, sizeof(word), 0, &pkt) < 0 || pkt.nfd != 1)
		_exit(0);
	ioctl(FD_CONN, FIONBIO, &on);
	return pkt.fd[0];
}

_Noreturn void pager_main(int conn, int ctl)
{
	const struct pager_line line = {.fd = FD_CONN, .read = read_conn, .write = write_conn};
	cpu_set_t all;

	take_places(conn, ctl);
	memset(&all, 0xff, sizeof(all));
	sched_setaffinity(0, sizeof(all), &all);
	pager_drop_rights();
	pager_begin(wait_for_memory(), &line);
	pager_finish(FD_CTL, pager_serve());
	_exit(0);
}
