/*
 * vmad_dump_pid(): another process, as it is, to a descriptor. Library code; runs in
 * whoever dumps. The image is written by the process itself, from its park (blob/park.c):
 * its pages are copied once, from where they are to where they go.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmadump/chan.h"
#include "vmadump/freeze.h"

#define SERVE_MS 20 /* how long a stop signal waits to be taken note of */

int chan_order(int fd, uint32_t type, int with)
{
	struct chan_msg m = {.type = type};
	struct iovec v = {&m, sizeof m};
	union {
		struct cmsghdr h;
		char space[CMSG_SPACE(sizeof(int))];
	} ctl = {.h = {.cmsg_len = CMSG_LEN(sizeof(int)),
		       .cmsg_level = SOL_SOCKET,
		       .cmsg_type = SCM_RIGHTS}};
	struct msghdr h = {.msg_iov = &v, .msg_iovlen = 1};

	if (with >= 0) {
		memcpy(CMSG_DATA(&ctl.h), &with, sizeof with);
		h.msg_control = &ctl;
		h.msg_controllen = sizeof ctl;
	}
	while (sendmsg(fd, &h, MSG_NOSIGNAL) < 0)
		if (errno != EINTR)
			return -1;
	return 0;
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

/* Ends it where it is parked: it never runs again. */
static void end_it(struct freeze *f)
{
	trace_interrupt(&f->t);
	kill(f->t.pid, SIGKILL);
	trace_detach(&f->t);
}

long vmad_dump_pid(pid_t pid, int fd, unsigned flags, uint64_t *ret_us, struct vmad_err *err)
{
	const unsigned copy = VMAD_DUMP_LIBS | VMAD_DUMP_EXEC | VMAD_DUMP_OTHER;
	struct freeze f;
	struct chan_msg m = {0};
	long r = -1;

	if (flags & ~(copy | VMAD_KILL | VMAD_STOP) || (flags & VMAD_KILL && flags & VMAD_STOP)) {
		f.t = (struct trace){.err = err};
		return trace_fail(&f.t, EINVAL, "vmadump: flags");
	}
	if (freeze_enter(&f, pid, flags & copy, err) < 0) {
		trace_free(&f.t);
		return -1;
	}
	if (chan_order(f.chan, CHAN_DUMP, fd) < 0)
		trace_fail(&f.t, errno, "process %d: %s", pid, strerror(errno));
	else if (chan_answer(&f.t, f.chan, &m) == 0)
		r = (long)m.u.bytes;
	if (r > 0 && flags & VMAD_KILL) {
		end_it(&f);
	} else {
		int e = errno;

		if (r > 0 && flags & VMAD_STOP)
			f.t.stop_after = SIGSTOP;
		freeze_leave(&f);
		errno = e;
	}
	if (ret_us)
		*ret_us = freeze_now_us() - f.since_us;
	freeze_free(&f);
	return r;
}
