/*
 * Descriptors and packets (sysio.h). Used by the library and the daemons.
 */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "local.h"
#include "sysio.h"

int close_fd(int fd)
{
	int saved = errno;

	if (fd >= 0)
		close(fd);
	errno = saved;
	return -1;
}

void close_fdp(int *fd)
{
	close_fd(*fd);
}

static int send_packet(int sock, const void *buf, size_t len, const int *fds, int nfd, int flags)
{
	union {
		struct cmsghdr h;
		char space[CMSG_SPACE(sizeof(int) * SYSIO_FDS_MAX)];
	} ctl = {0};
	struct iovec iov = {.iov_base = (void *)(uintptr_t)buf, .iov_len = len};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
	ssize_t n;

	if (nfd < 0 || nfd > SYSIO_FDS_MAX)
		return -EINVAL;
	if (nfd > 0) {
		m.msg_control = &ctl;
		m.msg_controllen = CMSG_SPACE(sizeof(int) * nfd);
		ctl.h.cmsg_level = SOL_SOCKET;
		ctl.h.cmsg_type = SCM_RIGHTS;
		ctl.h.cmsg_len = CMSG_LEN(sizeof(int) * nfd);
		memcpy(CMSG_DATA(&ctl.h), fds, sizeof(int) * nfd);
	}
	do {
		n = sendmsg(sock, &m, MSG_NOSIGNAL | flags);
	} while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : 0;
}

int pkt_send(int sock, const void *buf, size_t len, const int *fds, int nfd)
{
	return send_packet(sock, buf, len, fds, nfd, 0);
}

int pkt_send_now(int sock, const void *buf, size_t len, const int *fds, int nfd)
{
	return send_packet(sock, buf, len, fds, nfd, MSG_DONTWAIT);
}

static void take_control(struct msghdr *m, struct sysio_pkt *pkt)
{
	struct cmsghdr *c;
	size_t n;

	for (c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
		if (c->cmsg_level != SOL_SOCKET)
			continue;
		if (c->cmsg_type == SCM_CREDENTIALS) {
			memcpy(&pkt->cred, CMSG_DATA(c), sizeof(pkt->cred));
		} else if (c->cmsg_type == SCM_RIGHTS) {
			n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
			memcpy(pkt->fd, CMSG_DATA(c), n * sizeof(int));
			pkt->nfd = (int)n;
		}
	}
}

int pkt_recv(int sock, void *buf, size_t size, int flags, struct sysio_pkt *pkt)
{
	union {
		struct cmsghdr h;
		char space[CMSG_SPACE(sizeof(int) * SYSIO_FDS_MAX) +
			   CMSG_SPACE(sizeof(struct ucred))];
	} ctl;
	struct iovec iov = {.iov_base = buf, .iov_len = size};
	struct msghdr m = {
		.msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = &ctl, .msg_controllen = sizeof(ctl),
	};
	ssize_t n;

	*pkt = (struct sysio_pkt){0};
	do {
		n = recvmsg(sock, &m, flags | MSG_CMSG_CLOEXEC);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	pkt->len = (size_t)n;
	take_control(&m, pkt);
	if (m.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) {
		pkt_close(pkt);
		return -EMSGSIZE;
	}
	return 0;
}

void pkt_close(struct sysio_pkt *pkt)
{
	for (int i = 0; i < pkt->nfd; i++)
		close_fd(pkt->fd[i]);
	pkt->nfd = 0;
}

int write_full(int fd, const void *buf, size_t len)
{
	const char *p = buf;
	ssize_t n;

	while (len > 0) {
		n = write(fd, p, len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		p += n;
		len -= (size_t)n;
	}
	return 0;
}

int read_full(int fd, void *buf, size_t len)
{
	char *p = buf;
	ssize_t n;

	while (len > 0) {
		n = read(fd, p, len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EPIPE;
		p += n;
		len -= (size_t)n;
	}
	return 0;
}

static int unix_socket(const char *path, struct sockaddr_un *ret_addr)
{
	int fd;

	*ret_addr = (struct sockaddr_un){.sun_family = AF_UNIX};
	if (strlen(path) >= sizeof(ret_addr->sun_path))
		return -ENAMETOOLONG;
	strcpy(ret_addr->sun_path, path);
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	return fd < 0 ? -errno : fd;
}

int unix_listen(const char *path, mode_t mode)
{
	struct sockaddr_un a;
	int fd = unix_socket(path, &a), e;

	if (fd < 0)
		return fd;
	/* A path left by a daemon that was killed; the caller holds the lock. */
	unlink(path);
	if (bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0 || chmod(path, mode) < 0 ||
	    listen(fd, SOMAXCONN) < 0) {
		e = -errno;
		close_fd(fd);
		return e;
	}
	return fd;
}

int unix_connect(const char *path)
{
	struct sockaddr_un a;
	int fd = unix_socket(path, &a), e;

	if (fd < 0)
		return fd;
	if (connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0) {
		e = -errno;
		close_fd(fd);
		return e;
	}
	return fd;
}

const char *run_dir(void)
{
	const char *dir = secure_getenv("BPROC_RUN_DIR");

	return dir && *dir ? dir : BPROC_RUN_DIR;
}

void tcp_unpaced(int fd)
{
	static const char cubic[] = "cubic";

	/* Fails on a kernel without cubic: it has no bbr either. */
	setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, cubic, sizeof(cubic) - 1);
}

int tcp_socket(void)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd >= 0)
		tcp_unpaced(fd);
	return fd;
}

int64_t clock_ns(clockid_t id)
{
	struct timespec t;

	clock_gettime(id, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

int64_t clock_ms(void)
{
	return clock_ns(CLOCK_MONOTONIC) / 1000000;
}

bool has_vm_flag(pid_t pid, const char *flag)
{
	const char *at;
	char line[512];
	bool found = false;
	FILE *f;

	snprintf(line, sizeof(line), "/proc/%d/smaps", pid);
	f = fopen(line, "re");
	while (f && !found && fgets(line, sizeof(line), f)) {
		if (strncmp(line, "VmFlags:", 8) != 0)
			continue;
		at = strstr(line, flag);
		found = at && at[-1] == ' ';
	}
	if (f)
		fclose(f);
	return found;
}

int exec_has_raised(pid_t pid)
{
	cleanup_fd int fd = -1;
	Elf64_auxv_t aux[64];
	char path[32];
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d/auxv", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, aux, sizeof(aux));
	if (n < 0)
		return -errno;
	for (size_t i = 0; i < (size_t)n / sizeof(aux[0]); i++)
		if (aux[i].a_type == AT_SECURE)
			return aux[i].a_un.a_val != 0;
	return 0;
}
