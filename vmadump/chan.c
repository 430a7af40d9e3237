/*
 * Our end of a channel to a process that is parked or restored. Library code; runs in
 * whoever dumps, restores or moves.
 */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmadump/chan.h"

#define SERVE_MS 20 /* how long a stop signal waits to be taken note of */

static int send_fds(int fd, const struct chan_msg *m, const int *with, unsigned n)
{
	struct iovec v = {(void *)m, sizeof *m};
	union {
		struct cmsghdr h;
		char space[CMSG_SPACE(2 * sizeof(int))];
	} ctl = {.h = {.cmsg_len = CMSG_LEN(n * sizeof(int)),
		       .cmsg_level = SOL_SOCKET,
		       .cmsg_type = SCM_RIGHTS}};
	struct msghdr h = {.msg_iov = &v, .msg_iovlen = 1};

	if (n) {
		memcpy(CMSG_DATA(&ctl.h), with, n * sizeof(int));
		h.msg_control = &ctl;
		h.msg_controllen = CMSG_SPACE(n * sizeof(int));
	}
	while (sendmsg(fd, &h, MSG_NOSIGNAL) < 0)
		if (errno != EINTR)
			return -1;
	return 0;
}

int chan_send_with(int fd, const struct chan_msg *m, int with)
{
	return send_fds(fd, m, &with, with >= 0);
}

int chan_send_two(int fd, const struct chan_msg *m, int with, int and_with)
{
	return send_fds(fd, m, (const int[]){with, and_with}, 2);
}

int chan_dump(int fd, int image, int order, uint32_t flags)
{
	const struct chan_msg m = {.type = CHAN_DUMP, .flags = flags};

	return chan_send_two(fd, &m, image, order);
}

int chan_lend(int fd, int with, int number)
{
	return chan_send_with(fd, &(struct chan_msg){.type = CHAN_LEND, .u.status = number}, with);
}

int chan_reap(int fd, pid_t pid)
{
	return chan_send_with(fd, &(struct chan_msg){.type = CHAN_REAP, .u.pid = pid}, -1);
}

int chan_order(int fd, uint32_t type, int with)
{
	return chan_send_with(fd, &(struct chan_msg){.type = type}, with);
}

bool chan_take(int fd, struct chan_msg *m, int *with, unsigned n)
{
	struct iovec v = {m, sizeof *m};
	union {
		struct cmsghdr h;
		char space[CMSG_SPACE(CHAN_TAKE_MAX * sizeof(int))];
	} ctl;
	struct msghdr h = {
		.msg_iov = &v, .msg_iovlen = 1, .msg_control = &ctl, .msg_controllen = sizeof ctl};
	unsigned came = 0;
	ssize_t r;

	memset(with, 0xff, n * sizeof(int));
	do {
		r = recvmsg(fd, &h, MSG_CMSG_CLOEXEC);
	} while (r < 0 && errno == EINTR);
	if (r > 0 && CMSG_FIRSTHDR(&h) && ctl.h.cmsg_type == SCM_RIGHTS)
		came = (unsigned)((ctl.h.cmsg_len - CMSG_LEN(0)) / sizeof(int));
	for (unsigned i = 0; i < came; i++) {
		int got;

		memcpy(&got, CMSG_DATA(&ctl.h) + i * sizeof got, sizeof got);
		if (i < n && r == (ssize_t)sizeof *m)
			with[i] = got;
		else
			close(got);
	}
	if (r != (ssize_t)sizeof *m)
		return false;
	m->u.text[CHAN_TEXT_MAX - 1] = 0;
	return true;
}

int chan_answer(struct trace *t, int fd, struct chan_msg *m)
{
	for (;;) {
		struct pollfd p = {.fd = fd, .events = POLLIN};
		ssize_t n;

		if (poll(&p, 1, SERVE_MS) == 0) {
			if (trace_serve(t))
				return trace_fail(t, ESRCH, "process %d has ended", t->pid);
			continue;
		}
		n = recv(fd, m, sizeof *m, MSG_DONTWAIT);
		if (n == (ssize_t)sizeof *m)
			break;
		if (n == 0 || (n < 0 && errno != EINTR && errno != EAGAIN))
			return trace_fail(t, ESRCH, "process %d has ended", t->pid);
	}
	if (m->type != CHAN_FAILED)
		return 0;
	m->u.text[CHAN_TEXT_MAX - 1] = 0;
	return trace_fail(t, m->err > 0 ? m->err : EIO, "%s", m->u.text);
}
