/*
 * CHAN_PRECOPY: a process is to leave, and its pages are to go ahead while it still runs. Parked
 * for a moment it asks bpslave for a connection to where it is to go, and makes the userfaultfd by
 * which whoever parked it sees what is written; both are handed over, and nothing stays here.
 * Runs in the blob.
 */
#include <linux/userfaultfd.h>

#include "ghost.h"
#include "libbproc/local.h"

#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1
#endif

/* What is handed over. */
static long hand_over(struct blob *b, int chan, int uffd)
{
	struct chan_msg m = {.type = CHAN_PRECOPIED};
	const int fd[2] = {chan, uffd};

	return fd_send(b->chan, &m, sizeof m, fd, 2);
}

void park_precopy(struct blob *b, struct chan_pkt *order)
{
	long uffd = sys1(__NR_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY), r = uffd;
	int end[2] = {-1, -1};

	b->err.code = 0;
	if (r < 0)
		blob_err_set(&b->err, ENOTSUP, "userfaultfd: %s", errno_name(r));
	if (r >= 0) {
		r = sys_socketpair(SYS_AF_UNIX, SYS_SOCK_SEQPACKET | SYS_SOCK_CLOEXEC, 0, end);
		if (r >= 0)
			r = park_ask(b, order, end[1], MOVE_LIVE);
		if (r >= 0)
			r = hand_over(b, end[0], (int)uffd);
		if (r < 0)
			blob_err_set(&b->err, (int)-r, "the question to bpslave: %s",
				     errno_name(r));
	}
	for (int i = 0; i < 2; i++)
		if (end[i] >= 0)
			sys_close(end[i]);
	if (uffd >= 0)
		sys_close((int)uffd);
	chan_close_fds(order, 0);
	/* With this we may be taken out, wherever we are: nothing may be left to do. */
	if (r < 0)
		chan_fail(b, CHAN_NO_MOVE);
	else
		chan_tell(b, CHAN_PRECOPIED, CHAN_NO_MOVE);
}
