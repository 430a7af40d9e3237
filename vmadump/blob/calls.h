/*
 * Every system call that the blob makes, in whatever role: as who leaves, as a ghost, as an
 * arrival. A program that has seccomp filters can be moved if they allow these (doc/move.md);
 * bpslave runs them over this list (slaved/filter_run.c). test/unit/filter_calls.sh holds it
 * against sys.h and the sources: a call that is not here does not pass.
 *
 *	X(name, when)			by its number alone
 *	Y(name, when, i, value, text)	its argument i is this value
 */
#pragma once

#define BLOB_CALLS_MUST(X, Y) \
	/* files */ \
	X(read, MUST) X(write, MUST) X(pread64, MUST) X(readv, MUST) X(writev, MUST) \
	X(vmsplice, MUST) X(tee, MUST) X(openat, MUST) X(close, MUST) X(close_range, MUST) \
	X(lseek, MUST) X(fstat, MUST) X(newfstatat, MUST) X(readlink, MUST) X(getdents64, MUST) \
	X(fcntl, MUST) X(dup3, MUST) X(chdir, MUST) X(fchdir, MUST) X(getcwd, MUST) \
	X(umask, MUST) X(kcmp, MUST) X(pipe2, MUST) X(ppoll, MUST) X(ftruncate, MUST) \
	X(signalfd4, MUST) \
	Y(ioctl, MUST, 1, FIONREAD, "FIONREAD") Y(ioctl, MUST, 1, TCGETS, "TCGETS") \
	Y(ioctl, MUST, 1, TIOCGPGRP, "TIOCGPGRP") \
	Y(ioctl, MUST, 1, 0xc0606610u /* PAGEMAP_SCAN, linux/fs.h */, "SCAN_IOCTL") \
	Y(ioctl, HAS, 1, 0x40085400u, "TFD_SET_TICKS") \
	/* sockets */ \
	X(sendmsg, MUST) X(recvmsg, MUST) X(getsockopt, MUST) X(getpeername, MUST) \
	X(getsockname, MUST) X(setsockopt, MUST) X(shutdown, MUST) \
	Y(socketpair, MUST, 0, 1, "SYS_AF_UNIX") \
	/* memory */ \
	X(mmap, MUST) X(munmap, MUST) X(mprotect, MUST) X(mremap, MUST) X(madvise, MUST) \
	X(mincore, MUST) X(mlock2, MUST) X(process_vm_readv, MUST) X(brk, MUST) X(sysinfo, MUST) \
	/* this process */ \
	X(getpid, MUST) X(gettid, MUST) X(futex, MUST) X(sched_getattr, MUST) \
	X(sched_setattr, MUST) X(sched_getaffinity, MUST) X(sched_setaffinity, MUST) \
	X(setsid, MUST) X(setpgid, MUST) X(getpgid, MUST) X(getsid, MUST) \
	Y(personality, MUST, 0, 0xffffffffu, "") X(prlimit64, MUST) X(setpriority, MUST) \
	X(set_tid_address, MUST) X(set_robust_list, MUST) X(get_robust_list, MUST) \
	X(rseq, MUST) X(clock_gettime, MUST) X(nanosleep, MUST) \
	/* by the kernel, of a sleep that a stop has interrupted */ \
	X(restart_syscall, MUST) \
	X(arch_prctl, MUST) X(seccomp, SET) \
	Y(prctl, MUST, 0, PR_SET_SECUREBITS, "PR_SET_SECUREBITS") Y(prctl, MUST, 0, PR_GET_SECUREBITS, "PR_GET_SECUREBITS") \
	Y(prctl, MUST, 0, PR_CAPBSET_READ, "PR_CAPBSET_READ") Y(prctl, MUST, 0, PR_CAPBSET_DROP, "PR_CAPBSET_DROP") \
	Y(prctl, MUST, 0, PR_SET_NAME, "PR_SET_NAME") Y(prctl, MUST, 0, PR_GET_NAME, "PR_GET_NAME") \
	Y(prctl, MUST, 0, 0x41555856, "PR_GET_AUXV") Y(prctl, MUST, 0, PR_SET_KEEPCAPS, "PR_SET_KEEPCAPS") \
	Y(prctl, MUST, 0, PR_GET_KEEPCAPS, "PR_GET_KEEPCAPS") Y(prctl, MUST, 0, 40, "PR_GET_TID_ADDRESS") \
	Y(prctl, MUST, 0, PR_GET_PDEATHSIG, "PR_GET_PDEATHSIG") Y(prctl, MUST, 0, PR_SET_PDEATHSIG, "PR_SET_PDEATHSIG") \
	Y(prctl, MUST, 0, PR_GET_DUMPABLE, "PR_GET_DUMPABLE") Y(prctl, MUST, 0, PR_SET_DUMPABLE, "PR_SET_DUMPABLE") \
	Y(prctl, MUST, 0, PR_GET_TIMERSLACK, "PR_GET_TIMERSLACK") Y(prctl, MUST, 0, PR_SET_TIMERSLACK, "PR_SET_TIMERSLACK") \
	Y(prctl, MUST, 0, 42, "PR_GET_THP_DISABLE") Y(prctl, MUST, 0, 41, "PR_SET_THP_DISABLE") \
	Y(prctl, MUST, 0, PR_GET_CHILD_SUBREAPER, "PR_GET_CHILD_SUBREAPER") Y(prctl, MUST, 0, PR_SET_CHILD_SUBREAPER, "PR_SET_CHILD_SUBREAPER") \
	Y(prctl, MUST, 0, PR_GET_NO_NEW_PRIVS, "PR_GET_NO_NEW_PRIVS") \
	Y(prctl, MUST, 0, PR_GET_SECCOMP, "PR_GET_SECCOMP") Y(prctl, MUST, 0, PR_SET_NO_NEW_PRIVS, "PR_SET_NO_NEW_PRIVS") \
	Y(prctl, MUST, 0, 35, "PR_SET_MM") Y(prctl, MUST, 0, 47, "PR_CAP_AMBIENT") \
	Y(prctl, MUST, 0, 0x53564d41, "PR_SET_VMA") Y(prctl, MUST, 0, 77, "TIMER_RESTORE_IDS") \
	/* credentials */ \
	X(getresuid, MUST) X(getresgid, MUST) X(setresuid, MUST) X(setresgid, MUST) \
	X(setfsuid, MUST) X(setfsgid, MUST) X(getgroups, MUST) X(setgroups, MUST) \
	X(capget, MUST) X(capset, MUST) \
	/* signals and timers */ \
	X(rt_sigprocmask, MUST) X(rt_sigaction, MUST) X(rt_sigpending, MUST) \
	X(rt_sigtimedwait, MUST) X(rt_sigqueueinfo, MUST) X(rt_tgsigqueueinfo, MUST) \
	X(rt_sigreturn, MUST) X(sigaltstack, MUST) X(kill, MUST) X(tgkill, MUST) \
	X(getitimer, MUST) X(setitimer, MUST) X(timer_create, MUST) X(timer_settime, MUST) \
	X(timer_gettime, MUST) X(timer_getoverrun, MUST) X(timer_delete, MUST) \
	/* other processes */ \
	X(clone3, MUST) X(waitid, MUST) X(wait4, MUST) X(exit, MUST) X(exit_group, MUST) \
	X(execve, EXEC)

/* In every move, for what few programs set. */
#define BLOB_CALLS_TRIED(X, Y) \
	Y(prctl, TRIED, 0, PR_GET_TSC, "PR_GET_TSC") Y(prctl, TRIED, 0, PR_SET_TSC, "PR_SET_TSC") \
	Y(prctl, TRIED, 0, PR_MCE_KILL_GET, "PR_MCE_KILL_GET") Y(prctl, TRIED, 0, PR_MCE_KILL, "PR_MCE_KILL") \
	Y(prctl, TRIED, 0, 68, "GET_MEMORY_MERGE") Y(prctl, TRIED, 0, 67, "SET_MEMORY_MERGE") \
	X(membarrier, TRIED) X(modify_ldt, TRIED) X(ioprio_get, TRIED) X(ioprio_set, TRIED) \
	X(mlockall, TRIED) X(munlockall, TRIED)

/* Made only for a program that has such a thing; if it is an error its move fails with that. */
#define BLOB_CALLS_HAS(X, Y) \
	X(eventfd2, HAS) X(timerfd_create, HAS) X(timerfd_settime, HAS) X(timerfd_gettime, HAS) \
	X(epoll_create1, HAS) \
	X(epoll_ctl, HAS) X(epoll_wait, HAS) X(memfd_create, HAS) X(inotify_init1, HAS) \
	X(inotify_add_watch, HAS) X(inotify_rm_watch, HAS) X(open_by_handle_at, HAS) \
	X(unlinkat, HAS) X(renameat, HAS) X(fchmodat, HAS) X(fchmod, HAS) \
	X(flock, LOCKS) X(bind, HAS) X(listen, HAS) \
	X(connect, HAS) X(mseal, SEAL) \
	Y(socket, HAS, 0, 1, "SYS_AF_UNIX") Y(socket, HAS, 0, 16, "16") \
	/* of memory that goes ahead, or follows */ \
	X(userfaultfd, AHEAD) Y(ioctl, AHEAD, 1, 0xc018aa3fu, "UFFDIO_API") \
	Y(ioctl, AHEAD, 1, 0xc020aa00u, "UFFDIO_REGISTER") \
	Y(ioctl, AHEAD, 1, 0x8010aa01u, "UFFDIO_UNREGISTER") \
	Y(ioctl, AHEAD, 1, 0xaa00u, "USERFAULTFD_IOC_NEW") \
	/* of images only: a root directory and clocks of its own; or by nobody, sys.h has them */ \
	X(chroot, NEVER) X(unshare, NEVER) X(setns, NEVER) X(pwrite64, NEVER) X(dup, NEVER) \
	X(getppid, NEVER) X(getpriority, NEVER) X(getrandom, NEVER) X(fork, NEVER) \
	X(fsync, NEVER)

#define BLOB_CALLS(X, Y) BLOB_CALLS_MUST(X, Y) BLOB_CALLS_TRIED(X, Y) BLOB_CALLS_HAS(X, Y)

/* Made by it or not; and what is asked of a filter. */
enum blob_call_when {
	BLOB_CALL_MUST,	 /* in every move: allowed */
	BLOB_CALL_AHEAD, /* if memory goes ahead or follows: allowed */
	BLOB_CALL_EXEC,	 /* by bproc_rexec(): allowed */
	BLOB_CALL_SET,	 /* allowed by all but the newest, behind which nothing is set */
	/* The others: allowed, or an error, and then the move fails with that, if there is one. */
	BLOB_CALL_TRIED, /* in every move */
	BLOB_CALL_HAS,	 /* if it has open what is no file, pipe or device */
	BLOB_CALL_LOCKS, /* if its locks on files are to go along */
	BLOB_CALL_SEAL,	 /* if it has sealed a mapping */
	BLOB_CALL_NEVER, /* not in a move */
};
