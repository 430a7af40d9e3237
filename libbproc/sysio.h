/*
 * File descriptors and packets: closing that keeps errno, ownership macros, and
 * SOCK_SEQPACKET messages with descriptors and the kernel's word on the sender.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <time.h>

#define SYSIO_FDS_MAX 8 /* descriptors of one packet */

/* Keeps errno; does not retry on EINTR: on Linux the fd is gone by then. Returns -1. */
int close_fd(int fd);
void close_fdp(int *fd);
#define cleanup_fd __attribute__((cleanup(close_fdp)))
#define take_fd(fd) ({ int *p_ = &(fd), v_ = *p_; *p_ = -1; v_; })

struct sysio_pkt {
	size_t len;		/* of the payload, in the caller's buffer */
	int nfd;
	int fd[SYSIO_FDS_MAX];	/* owned by the receiver at once, close-on-exec */
	struct ucred cred;	/* pid 0 if the socket has no SO_PASSCRED */
};

/* One packet. 0 or -errno (-EAGAIN on a full non-blocking socket). Never SIGPIPE. */
int pkt_send(int sock, const void *buf, size_t len, const int *fds, int nfd);
/* The same to a socket that somebody else may have too, and make a blocking one. */
int pkt_send_now(int sock, const void *buf, size_t len, const int *fds, int nfd);
/*
 * One packet into buf. Returns 0 (pkt->len == 0 and no fds: the peer is gone),
 * -EMSGSIZE if it was cut (its fds are closed), or -errno.
 */
int pkt_recv(int sock, void *buf, size_t size, int flags, struct sysio_pkt *pkt);
void pkt_close(struct sysio_pkt *pkt);

/* The whole buffer; 0 or -errno (-EPIPE at end of file in read_full). */
int write_full(int fd, const void *buf, size_t len);
int read_full(int fd, void *buf, size_t len);

/* A clock, in nanoseconds. */
int64_t clock_ns(clockid_t id);
int64_t clock_ms(void); /* CLOCK_MONOTONIC */

/* A listening or connected SOCK_SEQPACKET unix socket; the fd, or -errno. */
int unix_listen(const char *path, mode_t mode);
int unix_connect(const char *path);
/*
 * A socket that is to listen or connect within the cluster goes without the pacing that
 * bbr, where it is the machine's default, does by a timer for every burst: half of the
 * time that an image of 90 KB took to send. What bbr has turned on stays on, so this is
 * for a socket that has no connection yet; those that it accepts inherit it.
 */
void tcp_unpaced(int fd);
/* A new one, close-on-exec and non-blocking; or -1 with errno. */
int tcp_socket(void);
/* Has any mapping of the process this flag (two letters, of VmFlags in proc(5))? */
bool has_vm_flag(pid_t pid, const char *flag);
/*
 * Did its last exec give it more rights than who called it had: a set-uid or set-gid program, or
 * one with capabilities of its own (AT_SECURE in getauxval(3))? Or -errno.
 */
int exec_has_raised(pid_t pid);
/* Directory of the daemons' sockets: BPROC_RUN_DIR, or its environment override. */
const char *run_dir(void);
