/*
 * carry.h - how libbproc and bpinit use vmadump: the blob, and processes that leave.
 *
 * What carries a process in or out is the blob: BLOB_SIZE bytes of code and data that are mapped
 * for the length of one call (blob/blob.h). Here is what maps and calls it, and what parks a
 * process, this one or another, that leaves by a channel to bpinit. What a program that is not
 * of this tree may use is in vmadump.h.
 */
#pragma once

#include <stdbool.h>

#include "vmadump.h"

struct blob;

/**
 * vmad_blob_bytes() - the blob, as it is to lie at the start of its mapping.
 * @ret_len: its length, at most BLOB_CODE_MAX. Read and execute; entry is its
 *           first byte, struct blob follows at BLOB_CODE_MAX.
 * Return: its first byte, for ever. Since: 0.1.
 */
const void *vmad_blob_bytes(size_t *ret_len);

/**
 * vmad_blob_map() - map the blob into the calling process and fill struct blob.
 *
 * At BLOB_ADDR if nothing of others is there, else elsewhere; one that an earlier
 * vmad_blob_unmap() has kept is used again. Everything but verb
 * and its arguments is filled: base, self, -1 for descriptors, rseq, env as far
 * as vmad_prepare() knows it.
 *
 * Return: the struct in it; NULL with errno set by mmap(2) or mprotect(2).
 * Since: 0.1.
 */
struct blob *vmad_blob_map(void);

/**
 * vmad_blob_call() - run b->verb, saving this thread's registers for the image.
 *
 * Return: what the verb returned, b still mapped; or 1 in a copy that arrived by
 *         what was called here, and then the blob of the copy is unmapped and b
 *         is not valid. Since: 0.1.
 */
long vmad_blob_call(struct blob *b);

/**
 * vmad_blob_unmap() - done with what vmad_blob_map() gave; errno stays as it is.
 *
 * The process keeps one such mapping for its next call, code only: 60 KiB of memory
 * that a child of fork shares. It is never part of an image. Since: 0.1.
 */
void vmad_blob_unmap(struct blob *b);

/* The same after a verb that leaves its working memory for the caller (BLOB_CHECK). */
void vmad_blob_drop(struct blob *b);

/**
 * vmad_prepare() - learn what vmad_blob_map() puts into struct blob's env.
 *
 * Once per process and machine, 100 us; later calls cost nothing. A parent that is
 * about to fork a child that dumps itself calls it before the fork. Since: 0.1.
 */
void vmad_prepare(void);

/**
 * vmad_leave_pid() - park a process, which need not know of it, and have it leave this machine.
 * @pid: the process; all its threads go.
 * @conn: a connection to this machine's bpslave, on which it asks to leave.
 * @node: where to.
 * @flags: VMAD_DUMP_*.
 * @ret_us: how long it stood still here, in microseconds; may be NULL.
 * @err: filled on failure; may be NULL.
 *
 * Return: 0 when it runs there; -1 with errno set, and it goes on here as it was: the
 *         errors of vmad_dump_pid() and those of the move (bproc_move(3)).
 * Blocks: until then. If the caller ends meanwhile the move goes on. Threads: any.
 * Since: 0.1.
 */
int vmad_leave_pid(pid_t pid, int conn, int node, unsigned flags, uint64_t *ret_us,
		   struct vmad_err *err);

/**
 * vmad_leave_tree() - vmad_leave_pid() of a process and all that descend from it, together.
 * @pid, @node, @flags, @ret_us, @err: as there.
 * @conn: the same, and nobody else's; it is closed.
 * @how: VMAD_AWAY or 0.
 *
 * All of them leave, or all go on where they were. What they have open together goes along as it
 * is shared; what one of them shares with a process that is not among them is refused by name.
 *
 * Return: how many have left; -1 with errno set as by vmad_leave_pid(), or E2BIG (more than 64).
 *         @err names the process that could not. Blocks, Threads: as there. Since: 0.1.
 */
int vmad_leave_tree(pid_t pid, int conn, int node, unsigned flags, unsigned how, uint64_t *ret_us,
		    struct vmad_err *err);

/**
 * vmad_alone() - does the caller, if it goes alone, leave nothing cut off?
 * @err: names the first thing that another process has as well; may be NULL.
 *
 * Pipes, sockets, event descriptors and files without a name; its memory is copied. Who takes
 * another process away asks by himself (vmadump/others.h); bproc_move() of one thread has nobody
 * else who would.
 *
 * Return: 0; -1 with errno ENOTSUP, or ENOMEM. Blocks: no. Threads: one only. Since: 0.1.
 */
int vmad_alone(struct vmad_err *err);

/**
 * vmad_filters_pid() - the seccomp filters of a process, for who moves it.
 * @place: so many of the oldest are not its own.
 * @n: so many its first thread has besides; others may have more.
 * @restarts: do they allow restart_syscall(2)? If not, or they cannot be read, what sleeps there
 *            begins its sleep anew.
 * @ret: FILTERS_MAX bytes: as vmadump/blob/filters.h has them.
 *
 * Return: 0; -1 with errno set: it has others, or its first thread has one that another has not, or
 * they may not be read. Blocks: until it has stopped, for which it may have to be waited for 2 s.
 * Since: 0.1.
 */
int vmad_filters_pid(pid_t pid, uint32_t place, uint32_t n,
		     bool (*restarts)(const uint8_t *bytes, size_t len), uint8_t *ret,
		     uint32_t *ret_len, struct vmad_err *err);

/**
 * vmad_leave_marked() - vmad_leave_pid(), and in the process @value is at @at where it arrives.
 * @at: address in it, of 32 bits. Where it goes on here they are as they were; but if the caller
 *      is killed meanwhile they may be @value here as well.
 * @value: what is written there while it stands still.
 *
 * All else is as with vmad_leave_pid(). Since: 0.1.
 */
int vmad_leave_marked(pid_t pid, int conn, int node, unsigned flags, uint64_t at, uint32_t value,
		      struct vmad_err *err);

/**
 * vmad_leave_exec() - another process becomes a program of a node, as by bproc_rexec().
 * @args: address in it of @len bytes: the block of arguments (vmadump/blob/channel.h).
 *
 * Its threads but the first are ended. All else is as with vmad_leave_pid(). Since: 0.1.
 */
int vmad_leave_exec(pid_t pid, int conn, int node, uint64_t args, uint64_t len,
		    struct vmad_err *err);

/**
 * struct vmad_live - what vmad_leave_live() did.
 * @rounds: in which pages were sent while the process ran.
 * @bytes: so many, in all of them.
 * @ahead_us: for so long, in microseconds.
 * @asked_us: how long the process stood still before that, to ask.
 * @frozen_us: how long it stood still then: until it ran there, and was a ghost here.
 */
struct vmad_live {
	unsigned rounds;
	uint64_t bytes, ahead_us, asked_us, frozen_us;
};

/**
 * vmad_leave_live() - vmad_leave_pid(), with most pages sent while the process still runs.
 * @pid: the process; all its threads go.
 * @conn: a connection to this machine's bpslave, on which it asks, twice.
 * @node: where to.
 * @flags: VMAD_DUMP_*.
 * @ret: filled as far as it came; may be NULL.
 * @err: filled on failure; may be NULL.
 *
 * Return: as vmad_leave_pid(). With ENOTSUP and no round made it cannot be had here, or of this
 *         process; with ESTALE what was sent could not be made use of. vmad_leave_pid() is left.
 * Blocks: until then. If the caller ends before the last stop nothing has happened. Threads: any.
 * Since: 0.1.
 */
int vmad_leave_live(pid_t pid, int conn, int node, unsigned flags, struct vmad_live *ret,
		    struct vmad_err *err);
