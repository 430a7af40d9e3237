/*
 * Why a process cannot be carried: one table, one place. The blob fills in those that
 * it finds (refuse.c), the library those that show from outside (vmadump/trace.c). The
 * same texts reach the API, the commands and the manual.
 */
#pragma once

#include "blob.h"

/* clang-format off */
#define REFUSALS(X)                                                                                \
	X(REFUSE_THREADS, "it has %lu threads; only one can be carried") \
	X(REFUSE_32BIT, "it runs 32-bit code; it cannot move") \
	X(REFUSE_MDWE, "it may run no memory that was written (PR_SET_MDWE); it cannot be carried") \
	X(REFUSE_SHSTK, "it uses a shadow stack (CET); it cannot move") \
	X(REFUSE_RSEQ, "its restartable sequences are registered at an unknown address") \
	X(REFUSE_SYSVSHM, "mapping at %lx is System V shared memory; it cannot move") \
	X(REFUSE_DEVICE_MAP, "mapping at %lx is of device %s; it cannot move") \
	X(REFUSE_PFN_MAP, "mapping at %lx is of a device's memory; it cannot move") \
	X(REFUSE_HUGETLB, "mapping at %lx is of hugetlb pages; it cannot move") \
	X(REFUSE_UFFD_MAP, "mapping at %lx is watched by userfaultfd; it cannot move") \
	X(REFUSE_PKEY, "mapping at %lx has a protection key; it cannot move") \
	X(REFUSE_AIO, "it has an asynchronous I/O context (io_setup); it cannot move") \
	X(REFUSE_MAP_DELETED, "mapping at %lx is of a deleted file, %s; it cannot move") \
	X(REFUSE_MAP_ANON_INODE, "mapping at %lx is of %s; it cannot move") \
	X(REFUSE_MAP_TWICE, "mapping at %lx shares its memory with another one; it cannot move") \
	X(REFUSE_GUARD, "mapping at %lx is shared, and has guard pages (MADV_GUARD_INSTALL); it cannot be carried") \
	X(REFUSE_LDT, "it has segments of its own (modify_ldt); it cannot be carried") \
	X(REFUSE_DISPATCH, "thread %d has its system calls dispatched (PR_SET_SYSCALL_USER_DISPATCH); it cannot be carried") \
	X(REFUSE_FD_OWNER, "fd %d tells process %d of what happens (F_SETOWN); it cannot move alone") \
	X(REFUSE_FD_NOTIFY, "fd %d is %s, and may tell of changes in it (F_NOTIFY); it cannot be carried") \
	X(REFUSE_FD_EMPTY, "fd %d is a socket with an empty packet in it; it cannot be carried") \
	X(REFUSE_FD_SEALED, "fd %d is a memfd, and sealed against writing to come; it cannot be carried in a tree") \
	X(REFUSE_MAP_SECRET, "mapping at %lx is secret memory; it cannot move") \
	X(REFUSE_FD_PIPE, "fd %d is a pipe; it cannot move") \
	X(REFUSE_FD_FIFO, "fd %d is the fifo %s; it cannot move") \
	X(REFUSE_FD_SOCKET, "fd %d is a socket; it cannot move") \
	X(REFUSE_FD_PEER, "fd %d is a socket whose other end process %d (%s) has; it cannot move alone") \
	X(REFUSE_FD_LISTENER, "fd %d is a socket with connections that are not accepted; it cannot move") \
	X(REFUSE_FD_RIGHTS, "fd %d is a socket with descriptors on their way in it; it cannot move") \
	X(REFUSE_FD_WATCH, "fd %d is inotify, and what it watches is not known: %s") \
	X(REFUSE_FD_EVENTS, "fd %d is inotify with events that are not read; try again") \
	X(REFUSE_FD_PACKETS, "fd %d is a pipe with packets in it (O_DIRECT); it cannot be carried") \
	X(REFUSE_FD_TTY_SAVED, "fd %d is its terminal, kept for input or for output; it cannot move") \
	X(REFUSE_FD_TTY, "fd %d is the terminal %s; it cannot move") \
	X(REFUSE_FD_MEMFD, "fd %d is a memfd (%s); it cannot move") \
	X(REFUSE_FD_HUGE, "fd %d is a memfd of hugetlb pages; it cannot move") \
	X(REFUSE_FD_SECRET, "fd %d is secret memory; it cannot move") \
	X(REFUSE_FD_QUEUE, "fd %d is a message queue, %s; it cannot move") \
	X(REFUSE_FD_DELETED_DIR, "fd %d is a deleted directory, %s; it cannot move") \
	X(REFUSE_CWD, "its working directory is gone, or out of reach; it cannot move") \
	X(REFUSE_FD_DELETED, "fd %d is a deleted file, %s; it cannot move") \
	X(REFUSE_FD_MOVED, "fd %d is %s, which is another file by now; it cannot move") \
	X(REFUSE_FD_DEVICE, "fd %d is %s, a device of this node; it cannot move") \
	X(REFUSE_FD_ANON, "fd %d is %s; it cannot move") \
	X(REFUSE_FD_NS, "fd %d is a namespace (%s); it cannot move") \
	X(REFUSE_FD_OTHERS, "fd %d is %s that process %d (%s) has as well; it cannot move alone") \
	X(REFUSE_MAP_OTHERS, "mapping at %lx is memory that process %d (%s) shares; it cannot move alone") \
	X(REFUSE_FD_CONTENTS, "fd %d is %s with more than %lu MiB in it; it cannot move") \
	X(REFUSE_FD_EPOLL, "fd %d watches a file that was fd %d and is not open there any more") \
	X(REFUSE_FD_LOCK, "fd %d holds a lock on %s; it cannot move") \
	X(REFUSE_FD_LOCK_STAYS, "fd %d holds a lock on %s; it cannot move, but by --locks") \
	X(REFUSE_FD_LOCK_WAIT, "fd %d holds a lock that another process waits for; try again") \
	X(REFUSE_FD_LOCK_SHARED, "fd %d holds a lock that process %d shares; it cannot move") \
	X(REFUSE_PENDING, "more than %lu signals are queued for it") \
	X(REFUSE_TIMER, "its timer %d cannot be carried (%s)") \
	X(REFUSE_LIMIT, "it has more than %lu %s") \
	X(REFUSE_FIRST_THREAD, "its first thread has ended, others have not; it cannot be carried") \
	X(REFUSE_UNSHARED, "thread %d does not share all that threads share; it cannot be carried") \
	X(REFUSE_TRACED, "it is traced by process %d; it cannot be stopped") \
	X(REFUSE_SECCOMP, "it has a seccomp filter; it cannot move") \
	X(REFUSE_SECCOMP_READ, "it has a seccomp filter, which only root may read; it cannot be carried") \
	X(REFUSE_SECCOMP_ASKS, "it has a seccomp filter with a listener of its own; it cannot be carried") \
	X(REFUSE_SECCOMP_SET, "it has a seccomp filter that it could not set again; it cannot be carried") \
	X(REFUSE_SECCOMP_THREAD, "thread %d has a seccomp filter of its own; it cannot be carried") \
	X(REFUSE_NNP, "thread %d lacks no_new_privs, which the first has; it cannot move") \
	X(REFUSE_PLACE, "it has a %s of its own; it cannot be carried") \
	X(REFUSE_ZOMBIE, "it has ended already") \
	X(REFUSE_KERNEL_THREAD, "it is a thread of the kernel") \
	X(REFUSE_SELF, "a process cannot stop itself; vmad_dump() dumps the caller") \
	X(REFUSE_STOPPED, "it is stopped (signal %d): it can move when it goes on") \
	X(REFUSE_CREDS, "thread %d has a user or capabilities of its own; it cannot be carried")
/* clang-format on */

enum refusal {
#define REFUSAL_NAME(name, text) name,
	REFUSALS(REFUSAL_NAME)
#undef REFUSAL_NAME
		REFUSAL_COUNT,
};

/* Fills b->err with the refusal's text and arguments; returns -ENOTSUP. */
long refuse(struct blob *b, enum refusal why, ...);
