/*
 * System calls as the kernel takes them: no errno, no restart, no libc. Each
 * returns what the kernel returned, -4095..-1 being an error. Types are the
 * kernel's own headers'; those it keeps to itself (msghdr) are written out here.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <asm/errno.h>
#include <asm/fcntl.h>
#include <asm/ioctls.h>
#include <asm/poll.h>
#include <asm/prctl.h>
#include <asm/stat.h>
#include <asm/unistd.h>
#include <linux/capability.h>
#include <linux/fcntl.h>
#include <linux/futex.h>
#include <linux/mman.h>
#include <linux/prctl.h>
#include <linux/resource.h>
#include <linux/sched.h>
#include <linux/signal.h>
#include <linux/signalfd.h>
#include <linux/time.h>
#include <linux/uio.h>
#include <linux/wait.h>

#include "vmadump/blob/mark.h"

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif
#ifndef CLONE_CLEAR_SIGHAND
#define CLONE_CLEAR_SIGHAND 0x100000000ull
#endif
#ifndef ENOTSUP
#define ENOTSUP EOPNOTSUPP
#endif
#define SYS_SIGSET 8 /* bytes of the kernel's signal set */
#define SYS_NSIG 64
#define SYS_IOV_MAX 1024

/* Sockets: the kernel exports neither these structures nor their constants. */
#define SYS_MSG_PEEK 0x2
#define SYS_MSG_TRUNC 0x20
#define SYS_MSG_CTRUNC 0x8
#define SYS_MSG_DONTWAIT 0x40
#define SYS_MSG_WAITALL 0x100
#define SYS_SHUT_WR 1
#define SYS_MSG_NOSIGNAL 0x4000
#define SYS_MSG_CMSG_CLOEXEC 0x40000000
#define SYS_SOL_SOCKET 1
#define SYS_SCM_RIGHTS 1
#define SYS_SCM_CREDENTIALS 2
#define SYS_SO_TYPE 3
#define SYS_AF_UNIX 1
#define SYS_SOCK_STREAM 1
#define SYS_SOCK_SEQPACKET 5
#define SYS_SOCK_CLOEXEC 02000000

struct sys_msghdr {
	void *name;
	int namelen, pad0;
	struct iovec *iov;
	size_t iovlen;
	void *control;
	size_t controllen;
	unsigned flags, pad1;
};
struct sys_cmsghdr {
	size_t len;
	int level, type;
};
#define SYS_CMSG_ALIGN(n) (((n) + 7) & ~7ul)
#define SYS_CMSG_SPACE(n) (sizeof(struct sys_cmsghdr) + SYS_CMSG_ALIGN(n))
#define SYS_CMSG_LEN(n) (sizeof(struct sys_cmsghdr) + (n))
#define SYS_CMSG_DATA(c) ((void *)((struct sys_cmsghdr *)(c) + 1))
struct sys_ucred {
	int pid;
	unsigned uid, gid;
};
struct sys_pollfd {
	int fd;
	short events, revents;
};
struct sys_dirent {
	uint64_t ino;
	int64_t off;
	uint16_t reclen;
	uint8_t type;
	char name[];
};
struct sys_rusage { /* what waitid() fills; times as two longs each */
	long utime_s, utime_us, stime_s, stime_us, maxrss_kb, rest[13];
};
struct sys_itimerval {
	long interval_s, interval_us, value_s, value_us;
};
struct sys_itimerspec {
	long interval_s, interval_ns, value_s, value_ns;
};
struct sys_rlimit {
	uint64_t cur, max;
};

static inline long sys6(long n, long a, long b, long c, long d, long e, long f)
{
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;
	long r;

	__asm__ volatile("syscall"
			 : "=a"(r)
			 : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return r;
}

static inline long sys3(long n, long a, long b, long c)
{
	long r;

	__asm__ volatile("syscall"
			 : "=a"(r)
			 : "a"(n), "D"(a), "S"(b), "d"(c)
			 : "rcx", "r11", "memory");
	return r;
}

static inline long sys4(long n, long a, long b, long c, long d)
{
	register long r10 __asm__("r10") = d;
	long r;

	__asm__ volatile("syscall"
			 : "=a"(r)
			 : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10)
			 : "rcx", "r11", "memory");
	return r;
}

#define sys0(n) sys3(n, 0, 0, 0)
#define sys1(n, a) sys3(n, (long)(a), 0, 0)
#define sys2(n, a, b) sys3(n, (long)(a), (long)(b), 0)

/* One line a call: the name it has here, its parameters, its number and its arguments. */
#define SYS(name, params, expr)                                                                    \
	static inline long name params                                                             \
	{                                                                                          \
		return expr;                                                                       \
	}

/* files */
SYS(sys_read, (int fd, void *p, size_t n), sys3(__NR_read, fd, (long)p, (long)n))
SYS(sys_write, (int fd, const void *p, size_t n), sys3(__NR_write, fd, (long)p, (long)n))
SYS(sys_pread, (int fd, void *p, size_t n, long off), sys4(__NR_pread64, fd, (long)p, (long)n, off))
SYS(sys_pwrite, (int fd, const void *p, size_t n, long off),
    sys4(__NR_pwrite64, fd, (long)p, (long)n, off))
SYS(sys_readv, (int fd, const struct iovec *v, int n), sys3(__NR_readv, fd, (long)v, n))
SYS(sys_writev, (int fd, const struct iovec *v, int n), sys3(__NR_writev, fd, (long)v, n))
SYS(sys_vmsplice, (int fd, const struct iovec *v, int n), sys4(__NR_vmsplice, fd, (long)v, n, 0))
SYS(sys_open, (const char *path, int flags, int mode),
    sys4(__NR_openat, AT_FDCWD, (long)path, flags, mode))
SYS(sys_openat, (int dir, const char *path, int flags, int mode),
    sys4(__NR_openat, dir, (long)path, flags, mode))
SYS(sys_close, (int fd), sys1(__NR_close, fd))
SYS(sys_close_range, (unsigned lo, unsigned hi, unsigned flags),
    sys3(__NR_close_range, lo, hi, flags))
SYS(sys_lseek, (int fd, long off, int whence), sys3(__NR_lseek, fd, off, whence))
SYS(sys_fstat, (int fd, struct stat *st), sys2(__NR_fstat, fd, st))
SYS(sys_stat, (const char *path, struct stat *st),
    sys4(__NR_newfstatat, AT_FDCWD, (long)path, (long)st, 0))
SYS(sys_lstat, (const char *path, struct stat *st),
    sys4(__NR_newfstatat, AT_FDCWD, (long)path, (long)st, AT_SYMLINK_NOFOLLOW))
SYS(sys_readlink, (const char *path, char *buf, size_t n),
    sys3(__NR_readlink, (long)path, (long)buf, (long)n))
SYS(sys_getdents, (int fd, void *buf, size_t n), sys3(__NR_getdents64, fd, (long)buf, (long)n))
SYS(sys_fcntl, (int fd, int cmd, long arg), sys3(__NR_fcntl, fd, cmd, arg))
SYS(sys_ioctl, (int fd, unsigned cmd, void *arg), sys3(__NR_ioctl, fd, cmd, (long)arg))
SYS(sys_dup, (int fd), sys1(__NR_dup, fd))
SYS(sys_dup3, (int from, int to, int flags), sys3(__NR_dup3, from, to, flags))
SYS(sys_chdir, (const char *path), sys1(__NR_chdir, path))
SYS(sys_chroot, (const char *path), sys1(__NR_chroot, path))
SYS(sys_fchdir, (int fd), sys1(__NR_fchdir, fd))
SYS(sys_getcwd, (char *buf, size_t n), sys2(__NR_getcwd, buf, n))
SYS(sys_sched_setaffinity, (int tid, uint64_t len, const void *mask),
    sys3(__NR_sched_setaffinity, tid, len, (long)mask))
SYS(sys_sched_getaffinity, (int pid, size_t n, void *set),
    sys3(__NR_sched_getaffinity, pid, (long)n, (long)set))
SYS(sys_umask, (int mask), sys1(__NR_umask, mask))
SYS(sys_kcmp, (int p1, int p2, int type, long a, long b), sys6(__NR_kcmp, p1, p2, type, a, b, 0))
SYS(sys_pipe2, (int *fds, int flags), sys2(__NR_pipe2, fds, flags))
SYS(sys_ppoll, (struct sys_pollfd * p, unsigned n, const struct timespec *t, const uint64_t *mask),
    sys6(__NR_ppoll, (long)p, n, (long)t, (long)mask, SYS_SIGSET, 0))
SYS(sys_tee, (int from, int to, size_t n, unsigned flags), sys4(__NR_tee, from, to, (long)n, flags))
SYS(sys_eventfd, (unsigned count, int flags), sys2(__NR_eventfd2, count, flags))
SYS(sys_timerfd_create, (int clock, int flags), sys2(__NR_timerfd_create, clock, flags))
SYS(sys_timerfd_settime, (int fd, int flags, const struct sys_itimerspec *v),
    sys4(__NR_timerfd_settime, fd, flags, (long)v, 0))
SYS(sys_timerfd_gettime, (int fd, struct sys_itimerspec *v),
    sys2(__NR_timerfd_gettime, fd, (long)v))
SYS(sys_epoll_create, (int flags), sys1(__NR_epoll_create1, flags))
SYS(sys_epoll_ctl, (int fd, int op, int target, void *event),
    sys4(__NR_epoll_ctl, fd, op, target, (long)event))
SYS(sys_epoll_wait, (int fd, void *events, int n, int ms),
    sys4(__NR_epoll_wait, fd, (long)events, n, ms))
SYS(sys_memfd_create, (const char *name, unsigned flags), sys2(__NR_memfd_create, name, flags))
SYS(sys_inotify_init, (int flags), sys1(__NR_inotify_init1, flags))
SYS(sys_inotify_add_watch, (int fd, const char *path, unsigned mask),
    sys3(__NR_inotify_add_watch, fd, (long)path, mask))
SYS(sys_inotify_rm_watch, (int fd, int wd), sys2(__NR_inotify_rm_watch, fd, wd))
SYS(sys_open_by_handle_at, (int mount, void *handle, int flags),
    sys3(__NR_open_by_handle_at, mount, (long)handle, flags))
SYS(sys_rename, (const char *from, const char *to),
    sys4(__NR_renameat, AT_FDCWD, (long)from, AT_FDCWD, (long)to))
SYS(sys_unlink, (const char *path), sys3(__NR_unlinkat, AT_FDCWD, (long)path, 0))
SYS(sys_chmod, (const char *path, unsigned mode), sys3(__NR_fchmodat, AT_FDCWD, (long)path, mode))
SYS(sys_flock, (int fd, int op), sys2(__NR_flock, fd, op))
SYS(sys_ftruncate, (int fd, long n), sys2(__NR_ftruncate, fd, n))
SYS(sys_fsync, (int fd), sys1(__NR_fsync, fd))

/* sockets */
SYS(sys_sendmsg, (int fd, const struct sys_msghdr *m, int flags),
    sys3(__NR_sendmsg, fd, (long)m, flags))
SYS(sys_recvmsg, (int fd, struct sys_msghdr *m, int flags), sys3(__NR_recvmsg, fd, (long)m, flags))
SYS(sys_socketpair, (int domain, int type, int proto, int *fds),
    sys4(__NR_socketpair, domain, type, proto, (long)fds))
SYS(sys_getpeername, (int fd, void *at, int *len), sys3(__NR_getpeername, fd, (long)at, (long)len))
SYS(sys_shutdown, (int fd, int how), sys2(__NR_shutdown, fd, how))
SYS(sys_socket, (int domain, int type, int proto), sys3(__NR_socket, domain, type, proto))
SYS(sys_bind, (int fd, const void *name, int len), sys3(__NR_bind, fd, (long)name, len))
SYS(sys_listen, (int fd, int backlog), sys2(__NR_listen, fd, backlog))
SYS(sys_connect, (int fd, const void *name, int len), sys3(__NR_connect, fd, (long)name, len))
SYS(sys_getsockname, (int fd, void *name, int *len),
    sys3(__NR_getsockname, fd, (long)name, (long)len))
SYS(sys_getsockopt, (int fd, int level, int name, void *val, int *len),
    sys6(__NR_getsockopt, fd, level, name, (long)val, (long)len, 0))
SYS(sys_setsockopt, (int fd, int level, int name, const void *val, int len),
    sys6(__NR_setsockopt, fd, level, name, (long)val, len, 0))

/* memory */
SYS(sys_mmap, (void *at, size_t n, int prot, int flags, int fd, long off),
    sys6(__NR_mmap, (long)at, (long)n, prot, flags, fd, off))
SYS(sys_munmap, (void *at, size_t n), sys2(__NR_munmap, at, n))
SYS(sys_mprotect, (void *at, size_t n, int prot), sys3(__NR_mprotect, (long)at, (long)n, prot))
SYS(sys_mremap, (void *at, size_t n, size_t m, int flags, void *to),
    sys6(__NR_mremap, (long)at, (long)n, (long)m, flags, (long)to, 0))
SYS(sys_madvise, (void *at, size_t n, int advice), sys3(__NR_madvise, (long)at, (long)n, advice))
SYS(sys_mincore, (void *at, size_t n, uint8_t *vec),
    sys3(__NR_mincore, (long)at, (long)n, (long)vec))
SYS(sys_mlock2, (void *at, size_t n, int flags), sys3(__NR_mlock2, (long)at, (long)n, flags))
SYS(sys_mlockall, (int flags), sys1(__NR_mlockall, flags))
SYS(sys_munlockall, (void), sys0(__NR_munlockall))
SYS(sys_membarrier, (int what), sys3(__NR_membarrier, what, 0, 0))
SYS(sys_modify_ldt, (int what, void *p, unsigned long n),
    sys3(__NR_modify_ldt, what, (long)p, (long)n))
SYS(sys_ioprio_get, (int tid), sys2(__NR_ioprio_get, 1 /* IOPRIO_WHO_PROCESS */, tid))
SYS(sys_ioprio_set, (int tid, int prio), sys3(__NR_ioprio_set, 1, tid, prio))
SYS(sys_fchmod, (int fd, unsigned mode), sys2(__NR_fchmod, fd, mode))
SYS(sys_process_vm_readv, (int pid, const struct iovec *to, const struct iovec *from),
    sys6(__NR_process_vm_readv, pid, (long)to, 1, (long)from, 1, 0))
SYS(sys_mseal, (void *at, size_t n), sys3(462 /* Linux 6.10 */, (long)at, (long)n, 0))
SYS(sys_brk, (void *at), sys1(__NR_brk, at))

/* this process */
SYS(sys_getpid, (void), sys0(__NR_getpid))
SYS(sys_gettid, (void), sys0(__NR_gettid))
SYS(sys_getppid, (void), sys0(__NR_getppid))
SYS(sys_futex, (uint32_t * at, int op, uint32_t v, const struct timespec *t),
    sys4(__NR_futex, (long)at, op, v, (long)t))
SYS(sys_sched_getattr, (int tid, void *attr, unsigned n),
    sys4(__NR_sched_getattr, tid, (long)attr, n, 0))
SYS(sys_sched_setattr, (int tid, const void *attr), sys3(__NR_sched_setattr, tid, (long)attr, 0))
SYS(sys_setsid, (void), sys6(__NR_setsid, 0, 0, 0, 0, 0, CALL_MARK))
SYS(sys_setpgid, (int pid, int pgid), sys6(__NR_setpgid, pid, pgid, 0, 0, 0, CALL_MARK))
SYS(sys_getpgid, (int pid), sys1(__NR_getpgid, pid))
SYS(sys_getsid, (int pid), sys1(__NR_getsid, pid))
SYS(sys_arch_prctl, (int op, unsigned long arg), sys2(__NR_arch_prctl, op, arg))
SYS(sys_prctl, (int op, unsigned long a, unsigned long b, unsigned long c, unsigned long d),
    sys6(__NR_prctl, op, (long)a, (long)b, (long)c, (long)d, CALL_MARK))
SYS(sys_seccomp, (unsigned op, unsigned flags, const void *arg),
    sys3(__NR_seccomp, op, flags, (long)arg))
SYS(sys_personality, (unsigned long p), sys1(__NR_personality, p))
SYS(sys_prlimit, (int pid, int what, const struct sys_rlimit *set, struct sys_rlimit *old),
    sys4(__NR_prlimit64, pid, what, (long)set, (long)old))
SYS(sys_getpriority, (int which, int who), sys2(__NR_getpriority, which, who))
SYS(sys_setpriority, (int which, int who, int nice), sys3(__NR_setpriority, which, who, nice))
SYS(sys_set_tid_address, (int *at), sys1(__NR_set_tid_address, at))
SYS(sys_set_robust_list, (void *head, size_t n), sys2(__NR_set_robust_list, head, n))
SYS(sys_get_robust_list, (int tid, void **head, size_t *n),
    sys3(__NR_get_robust_list, tid, (long)head, (long)n))
SYS(sys_rseq, (void *at, unsigned len, int flags, unsigned sig),
    sys4(__NR_rseq, (long)at, len, flags, sig))
SYS(sys_getrandom, (void *p, size_t n, unsigned flags),
    sys3(__NR_getrandom, (long)p, (long)n, flags))
SYS(sys_unshare, (int flags), sys1(__NR_unshare, flags))
SYS(sys_setns, (int fd, int flags), sys2(__NR_setns, fd, flags))
SYS(sys_clock_gettime, (int clock, struct timespec *t), sys2(__NR_clock_gettime, clock, t))
SYS(sys_nanosleep, (const struct timespec *t), sys2(__NR_nanosleep, t, 0))

/* credentials */
SYS(sys_getresuid, (unsigned *r, unsigned *e, unsigned *s),
    sys3(__NR_getresuid, (long)r, (long)e, (long)s))
SYS(sys_getresgid, (unsigned *r, unsigned *e, unsigned *s),
    sys3(__NR_getresgid, (long)r, (long)e, (long)s))
SYS(sys_setresuid, (unsigned r, unsigned e, unsigned s),
    sys6(__NR_setresuid, r, e, s, 0, 0, CALL_MARK))
SYS(sys_setresgid, (unsigned r, unsigned e, unsigned s),
    sys6(__NR_setresgid, r, e, s, 0, 0, CALL_MARK))
SYS(sys_setfsuid, (unsigned id), sys1(__NR_setfsuid, id))
SYS(sys_setfsgid, (unsigned id), sys1(__NR_setfsgid, id))
SYS(sys_getgroups, (int n, unsigned *g), sys2(__NR_getgroups, n, g))
SYS(sys_setgroups, (int n, const unsigned *g), sys2(__NR_setgroups, n, g))
SYS(sys_capget, (struct __user_cap_header_struct * h, struct __user_cap_data_struct *d),
    sys2(__NR_capget, h, d))
SYS(sys_capset, (struct __user_cap_header_struct * h, const struct __user_cap_data_struct *d),
    sys2(__NR_capset, h, d))

/* signals and timers */
SYS(sys_sigprocmask, (int how, const uint64_t *set, uint64_t *old),
    sys4(__NR_rt_sigprocmask, how, (long)set, (long)old, SYS_SIGSET))
SYS(sys_sigaction, (int sig, const struct sigaction *act, struct sigaction *old),
    sys4(__NR_rt_sigaction, sig, (long)act, (long)old, SYS_SIGSET))
SYS(sys_sigpending, (uint64_t * set), sys2(__NR_rt_sigpending, set, SYS_SIGSET))
SYS(sys_sigtimedwait, (const uint64_t *set, void *info, const struct timespec *t),
    sys4(__NR_rt_sigtimedwait, (long)set, (long)info, (long)t, SYS_SIGSET))
SYS(sys_sigqueueinfo, (int pid, int sig, const void *info),
    sys6(__NR_rt_sigqueueinfo, pid, sig, (long)info, 0, 0, CALL_MARK))
SYS(sys_tgsigqueueinfo, (int pid, int tid, int sig, const void *info),
    sys6(__NR_rt_tgsigqueueinfo, pid, tid, sig, (long)info, 0, CALL_MARK))
SYS(sys_sigaltstack, (const void *set, void *old), sys2(__NR_sigaltstack, set, old))
SYS(sys_signalfd, (int fd, const uint64_t *set, int flags),
    sys4(__NR_signalfd4, fd, (long)set, SYS_SIGSET, flags))
SYS(sys_kill, (int pid, int sig), sys6(__NR_kill, pid, sig, 0, 0, 0, CALL_MARK))
SYS(sys_tgkill, (int pid, int tid, int sig), sys6(__NR_tgkill, pid, tid, sig, 0, 0, CALL_MARK))
SYS(sys_getitimer, (int which, struct sys_itimerval *v), sys2(__NR_getitimer, which, v))
SYS(sys_setitimer, (int which, const struct sys_itimerval *v, struct sys_itimerval *old),
    sys3(__NR_setitimer, which, (long)v, (long)old))
SYS(sys_timer_create, (int clock, void *ev, int *id),
    sys3(__NR_timer_create, clock, (long)ev, (long)id))
SYS(sys_timer_settime,
    (int id, int flags, const struct sys_itimerspec *v, struct sys_itimerspec *old),
    sys4(__NR_timer_settime, id, flags, (long)v, (long)old))
SYS(sys_timer_gettime, (int id, struct sys_itimerspec *v), sys2(__NR_timer_gettime, id, v))
SYS(sys_timer_getoverrun, (int id), sys1(__NR_timer_getoverrun, id))
SYS(sys_timer_delete, (int id), sys1(__NR_timer_delete, id))

/* other processes */
SYS(sys_clone3, (struct clone_args * args, size_t n), sys2(__NR_clone3, args, n))
SYS(sys_fork, (void), sys0(__NR_fork))
SYS(sys_execve, (const char *path, char *const *argv, char *const *envp),
    sys3(__NR_execve, (long)path, (long)argv, (long)envp))
SYS(sys_waitid, (int type, int id, void *info, int options, struct sys_rusage *ru),
    sys6(__NR_waitid, type, id, (long)info, options, (long)ru, 0))
SYS(sys_wait4, (int pid, int *status, int options, struct sys_rusage *ru),
    sys4(__NR_wait4, pid, (long)status, options, (long)ru))
SYS(sys_exit, (int status), sys1(__NR_exit, status))
static inline _Noreturn void sys_exit_group(int status)
{
	for (;;)
		sys1(__NR_exit_group, status);
}

#undef SYS

/* entry.S */
_Noreturn void blob_sigreturn(void *ucontext);
