/*
 * vmadump.h - a process image, in and out.
 *
 * vmad_dump() writes the calling process to a descriptor; vmad_undump() makes the
 * calling process become what such an image holds. An image is a valid ELF core
 * file written and read as a stream: a file, a pipe or a socket will do
 * (doc/image.md). vmadump knows nothing of clusters.
 *
 * What carries a process in or out is the blob: BLOB_SIZE bytes of code and data
 * that are mapped for the length of one call. The lower half of this header is
 * for those who map it themselves (libbproc and bpinit).
 *
 * C99 and C++. Link with -lvmadump; libbproc has it inside.
 */
#ifndef VMADUMP_H
#define VMADUMP_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Copy the contents of this class of file mapping instead of a reference to the
 * file. Values of BProc's BPROC_DUMP_*. A writable shared mapping of a file is
 * always a reference: what is written to it has to reach the file.
 */
#define VMAD_DUMP_LIBS 1  /* mapped with execute permission, not the program itself */
#define VMAD_DUMP_EXEC 2  /* the program */
#define VMAD_DUMP_OTHER 4 /* every other file */

#define VMAD_TEXT_MAX 160 /* bytes of an error text, NUL included */

/* Why a call failed; owned by the caller, filled only then. */
struct vmad_err {
	int code; /* positive errno */
	char text[VMAD_TEXT_MAX];
};

/**
 * vmad_dump() - write an image of the calling process.
 * @fd: where to, from its present offset on. Not part of the image itself.
 * @flags: VMAD_DUMP_*, or 0: files are referred to by path and build-id.
 * @err: filled on failure; may be NULL.
 *
 * Return: bytes written (> 0) in the process that called; 0 in a copy that
 *         vmad_undump() or a move has made of it; -1 with errno set, and then
 *         the process is as it was.
 * Errors: ENOTSUP (it has something that an image cannot carry; @err names it:
 *         more than one thread, "fd 7 is a pipe"), EINVAL (@flags), EPIPE, ENOSPC
 *         and whatever else write(2) gives, ENOMEM, EIO (/proc is not there).
 * Blocks: as long as writing does. All signals are blocked meanwhile.
 * Threads: the process must have one only. Since: 0.1.
 * Source: bproc_dump of BProc 4; doc/image.md.
 */
long vmad_dump(int fd, unsigned flags, struct vmad_err *err);

/**
 * vmad_undump() - become the process in an image.
 * @fd: the image, read from its present offset up to its end mark, no further.
 * @err: filled on failure; may be NULL.
 *
 * Everything of the calling process but its pid, parents, cgroup, namespaces and
 * seccomp filters is replaced. Descriptors 0, 1 and 2 stay the caller's if in the
 * dumped process they were a terminal, pipe or socket; all others are closed and
 * the image's opened. Credentials become the image's if they differ.
 *
 * Return: only on failure, -1 with errno set; the process is as it was but for
 *         the offset of @fd. On success the image's vmad_dump() returns 0.
 *         When an image ends before its end mark and @fd was no regular file,
 *         nothing is left to return to: the text goes to descriptor 2 and the
 *         process exits with 127.
 * Errors: EBADMSG (not an image, damaged, cut short), ENOEXEC (made by another
 *         version, architecture, or for a CPU or kernel that this one is not; the
 *         text names what is missing), ESTALE (a file that it maps is not the
 *         file it was), ENOENT, EACCES … (a file of the image, named), EPERM (its
 *         credentials), ENOTSUP (the caller has more than one thread), ENOMEM,
 *         EBUSY (the image needs the addresses where the blob is).
 * Blocks: as long as reading does. Threads: the process must have one only.
 * Since: 0.1. Source: bproc_undump of BProc 4; doc/image.md.
 */
int vmad_undump(int fd, struct vmad_err *err);

/* ------------------------------------------------------------------------- */
/* For libbproc and bpinit, in whose tree vmadump/blob/blob.h is. */

struct blob;
struct blob_env;

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

/**
 * vmad_prepare() - learn what vmad_blob_map() puts into struct blob's env.
 *
 * Once per process and machine, 100 us; later calls cost nothing. A parent that is
 * about to fork a child that dumps itself calls it before the fork. Since: 0.1.
 */
void vmad_prepare(void);

/**
 * vmad_env() - the same, for who maps blobs into its children (bpinit).
 * @ret_env: filled; valid for children made by fork or clone of the caller.
 * Return: 0, or -1 with errno set. Since: 0.1.
 */
int vmad_env(struct blob_env *ret_env);

/**
 * vmad_leave() - park, and leave this machine by order of the channel's far end.
 * @chan_fd: the process's end of a channel (vmadump/blob/channel.h); close-on-exec.
 * @move_kind: enum move_kind of libbproc/local.h.
 * @exec_args, @exec_len: MOVE_REXEC: the argument block; else NULL and 0.
 * @dump_flags: VMAD_DUMP_*.
 * @err: filled on failure; may be NULL.
 *
 * Return: 1 when it has arrived on another machine (its descriptors are those of
 *         the image; @chan_fd is not open); -errno when it was aborted, and it is
 *         as it was, @chan_fd still open.
 * Blocks: until then, all signals blocked. Threads: one only. Since: 0.1.
 */
long vmad_leave(int chan_fd, int move_kind, const void *exec_args, size_t exec_len,
		unsigned dump_flags, struct vmad_err *err);

#ifdef __cplusplus
}
#endif

#endif
