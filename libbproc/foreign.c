/*
 * What users give to the daemons (foreign.h). Runs in bpslave and in bpinit.
 */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "libbproc/foreign.h"

#define SCM_FDS 253    /* SCM_MAX_FD of the kernel's net/scm.h: what one message can bring */
#define SCM_PIDFD_ 0x4 /* Linux 6.5: brings one more, if somebody has set SO_PASSPIDFD */
#define CLOSERS_MAX 64 /* that wait; from then on what comes is left open */
#define END_TRIES 2

/*
 * A child that shares our descriptors closes them: a thread, but that its end is seen as that of
 * every child of ours. How many there are is in memory that they share.
 */
static void close_all(const int *fd, int n)
{
	static uint32_t *closers;
	pid_t pid = -1;

	if (n == 0)
		return;
	if (!closers)
		closers = mmap(NULL, sizeof(*closers), PROT_READ | PROT_WRITE,
			       MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (closers == MAP_FAILED) {
		closers = NULL;
		return;
	}
	if (__atomic_add_fetch(closers, 1, __ATOMIC_SEQ_CST) <= CLOSERS_MAX)
		pid = (pid_t)syscall(SYS_clone, CLONE_FILES | SIGCHLD, NULL, NULL, NULL, 0ul);
	if (pid == 0) {
		prctl(PR_SET_NAME, "bproc-closer", 0, 0, 0);
		for (int i = 0; i < n; i++)
			close(fd[i]);
	}
	if (pid <= 0)
		__atomic_sub_fetch(closers, 1, __ATOMIC_SEQ_CST);
	if (pid == 0)
		_exit(0);
}

bool foreign_is(int fd, const char *what)
{
	char path[32], to[64] = "";

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return readlink(path, to, sizeof(to) - 1) > 0 && strncmp(to, what, strlen(what)) == 0;
}

int foreign_close(int fd)
{
	/* Whose close is nobody's business. A path would begin with a slash. */
	if (fd >= 0 && (foreign_is(fd, "pipe:") || foreign_is(fd, "pidfd:") ||
			foreign_is(fd, "anon_inode:[pidfd]")))
		return close_fd(fd);
	close_all(&fd, fd >= 0);
	return -1;
}

void foreign_pkt_close(struct sysio_pkt *pkt)
{
	int fd[SYSIO_FDS_MAX], n = 0;

	for (int i = 0; i < pkt->nfd; i++)
		if (pkt->fd[i] >= 0)
			fd[n++] = pkt->fd[i];
	close_all(fd, n);
	pkt->nfd = 0;
}

/* How many descriptors it has brought. */
static int take_control(struct msghdr *m, struct sysio_pkt *pkt, int fd[SCM_FDS])
{
	struct cmsghdr *c;
	int n = 0, pidfd;

	for (c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
		if (c->cmsg_level != SOL_SOCKET)
			continue;
		if (c->cmsg_type == SCM_CREDENTIALS) {
			memcpy(&pkt->cred, CMSG_DATA(c), sizeof(pkt->cred));
		} else if (c->cmsg_type == SCM_PIDFD_) {
			memcpy(&pidfd, CMSG_DATA(c), sizeof(pidfd));
			close_fd(pidfd);
		} else if (c->cmsg_type == SCM_RIGHTS) {
			n = (int)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
			memcpy(fd, CMSG_DATA(c), (size_t)n * sizeof(int));
		}
	}
	return n;
}

int foreign_recv(int sock, void *buf, size_t size, struct sysio_pkt *pkt)
{
	union {
		struct cmsghdr h;
		char space[CMSG_SPACE(sizeof(int) * SCM_FDS) + CMSG_SPACE(sizeof(struct ucred)) +
			   CMSG_SPACE(sizeof(int))];
	} ctl;
	struct iovec iov = {.iov_base = buf, .iov_len = size};
	struct msghdr m = {
		.msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = &ctl, .msg_controllen = sizeof(ctl),
	};
	int fd[SCM_FDS], nfd;
	ssize_t n;

	*pkt = (struct sysio_pkt){0};
	do {
		n = recvmsg(sock, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	pkt->len = (size_t)n;
	nfd = take_control(&m, pkt, fd);
	if (m.msg_flags & (MSG_TRUNC | MSG_CTRUNC) || nfd > SYSIO_FDS_MAX) {
		close_all(fd, nfd);
		return -EMSGSIZE;
	}
	pkt->nfd = nfd;
	memcpy(pkt->fd, fd, (size_t)nfd * sizeof(int));
	return 0;
}

int foreign_end(int sock)
{
	struct sysio_pkt pkt;
	int on = 1, tries = 0, e;
	char byte;

	if (sock < 0)
		return -1;
	/* Nothing more comes. A message without a byte in it has a sender; the end has none. */
	shutdown(sock, SHUT_RD);
	while (tries < END_TRIES) {
		setsockopt(sock, SOL_SOCKET, SO_PASSCRED, &on, sizeof(on));
		e = foreign_recv(sock, &byte, sizeof(byte), &pkt);
		foreign_pkt_close(&pkt);
		if (e < 0 && e != -EMSGSIZE)
			break;
		tries += e == 0 && pkt.len == 0 && pkt.cred.pid == 0 && pkt.cred.uid == 0;
	}
	return close_fd(sock);
}

bool foreign_is_channel(int fd)
{
	int domain = 0, type = 0;
	socklen_t len = sizeof(int);

	return getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) == 0 && domain == AF_UNIX &&
	       getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) == 0 && type == SOCK_SEQPACKET;
}
