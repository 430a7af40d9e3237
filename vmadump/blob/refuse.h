/*
 * Why a process cannot be carried: one table, one place (refuse.c). The same
 * texts reach the API, the commands and the manual.
 */
#pragma once

#include "blob.h"

enum refusal {
	REFUSE_THREADS,
	REFUSE_32BIT,
	REFUSE_SHSTK,
	REFUSE_RSEQ,
	REFUSE_SYSVSHM,
	REFUSE_DEVICE_MAP,
	REFUSE_PFN_MAP,
	REFUSE_HUGETLB,
	REFUSE_UFFD_MAP,
	REFUSE_PKEY,
	REFUSE_AIO,
	REFUSE_MAP_DELETED,
	REFUSE_MAP_ANON_INODE,
	REFUSE_MAP_TWICE,
	REFUSE_MAP_SECRET,
	REFUSE_FD_PIPE,
	REFUSE_FD_FIFO,
	REFUSE_FD_SOCKET,
	REFUSE_FD_TTY,
	REFUSE_FD_MEMFD,
	REFUSE_FD_DELETED,
	REFUSE_FD_MOVED,
	REFUSE_FD_DEVICE,
	REFUSE_FD_ANON,
	REFUSE_FD_NS,
	REFUSE_FD_LOCK,
	REFUSE_PENDING,
	REFUSE_TIMER,
	REFUSE_LIMIT,
	REFUSAL_COUNT,
};

/* Fills b->err with the refusal's text and arguments; returns -ENOTSUP. */
long refuse(struct blob *b, enum refusal why, ...);
