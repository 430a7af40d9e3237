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
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

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
/* Other processes. In libvmadump only, not in libbproc. */

#define VMAD_DUMP_ALL 7	   /* every class of file: an image that needs no file */
#define VMAD_KILL 0x100	   /* the process ends (SIGKILL) when its image is complete */
#define VMAD_STOP 0x200	   /* it is stopped then (SIGSTOP) */
#define VMAD_NEW_PID 0x400 /* whatever process id there is */
#define VMAD_TREE 0x800	   /* all that descend from it as well */

/**
 * vmad_dump_pid() - write an image of another process, which need not know of it.
 * @pid: the process; all its threads are in the image, its children with VMAD_TREE.
 * @fd: where to, from its present offset on: a file, a pipe, a stream socket.
 * @flags: VMAD_DUMP_*, VMAD_TREE, and VMAD_KILL or VMAD_STOP; else it goes on when it is dumped.
 * @ret_us: how long it was stopped, in microseconds; may be NULL.
 * @err: filled on failure; may be NULL.
 *
 * The process is stopped by ptrace(2), parked in a piece of code that is put into
 * it, and writes its image itself. A system call that it was in goes on as after any
 * signal that is ignored. If the caller ends meanwhile it goes on; but for some 0.1 ms, in which
 * the caller's signals are blocked, a SIGKILL to the caller leaves it with registers that are
 * not its own, so that vmadump(1) calls from a process that nobody knows. One with very many
 * descriptors or mappings is looked at before it is stopped, by a short-lived child that takes
 * copies of its descriptors: what cannot be carried need not stand still for that.
 *
 * Return: bytes written (> 0); -1 with errno set, and then the process goes on as
 *         it was.
 * Errors: ENOTSUP (it has something that an image cannot carry; @err names it; its
 *         limit of file sizes counts for the image as well), EPERM (ptrace(2) is not allowed),
 *         ESRCH (there is no such process, or it has ended), EBUSY (a thread waits in
 *         the kernel and cannot be stopped), EMFILE (it has no two descriptors left),
 *         EINVAL (@flags), and those of vmad_dump().
 * Blocks: as long as writing does; up to 2 s for a thread that does not stop.
 * Threads: any; waits for the process with waitpid(2), so its parent, if that is the
 *         caller, must not wait for any child in another thread. Since: 0.2.
 * Source: doc/image.md; ptrace(2).
 */
long vmad_dump_pid(pid_t pid, int fd, unsigned flags, uint64_t *ret_us, struct vmad_err *err);

/**
 * vmad_restore() - make the process in an image, as a child of the caller.
 * @fd: the image, read from its present offset up to its end mark, no further.
 * @flags: VMAD_NEW_PID, or 0: it gets the process id that it had.
 * @err: filled on failure; may be NULL.
 *
 * It runs when this returns. It has the caller's cgroup and namespaces; descriptors
 * 0, 1 and 2 are the caller's where they were a terminal, a pipe or a socket. The leader of a
 * session or process group is that again, but in the caller's session if one of those three is a
 * terminal. An image is a program: it runs with every right of its user and no more than the
 * caller's.
 *
 * The image of a tree becomes the whole tree, and this returns when all of it runs; only the
 * first is the caller's child.
 *
 * Return: its process id; -1 with errno set, and then there is no such process.
 * Errors: EEXIST (its process id is in use), EPERM (that id needs CAP_CHECKPOINT_RESTORE in the
 *         pid namespace's user namespace; its user is another), ENOTSUP (VMAD_NEW_PID and it has
 *         threads, or is a tree), EBUSY (a thread id is in use), EINVAL (@flags), those of
 * vmad_undump(). Blocks: as long as reading does. Threads: any. Since: 0.2. Source: doc/image.md.
 */
pid_t vmad_restore(int fd, unsigned flags, struct vmad_err *err);

/**
 * vmad_check() - is this image whole, and could this machine run it now?
 * @fd: the image, read up to its end mark.
 * @err: filled on failure; may be NULL.
 *
 * Its head is parsed and its sum compared, all of it is read, the CPU and the kernel are compared
 * with what it needs, and every file that it refers to is opened and compared. Nothing is changed.
 *
 * Return: 0; -1 with errno set as by vmad_undump(). Blocks: as long as reading does.
 * Threads: any. Since: 0.2. Source: doc/image.md.
 */
int vmad_check(int fd, struct vmad_err *err);

/**
 * vmad_member() - one process's image out of that of a tree, for a debugger.
 * @fd: the image, read from its present offset on.
 * @pid: the process; a zombie has none.
 * @out: where to.
 * @err: filled on failure; may be NULL.
 *
 * Return: 0; -1 with errno set: ESRCH (it is not in there), those of vmad_info(), of writing.
 * Threads: any. Since: 0.2.
 */
int vmad_member(int fd, pid_t pid, int out, struct vmad_err *err);

/**
 * vmad_info() - say in words what is in an image.
 * @fd: the image; its head is read, its pages are not.
 * @out: where to: lines of "key: value", then tables of its threads, files, mappings
 *       and descriptors.
 * @flags: VMAD_INFO_*; 0: the first lines only. VMAD_INFO_OPEN: threads and descriptors alone.
 * @err: filled on failure; may be NULL.
 *
 * Return: 0; -1 with errno set: EBADMSG (not an image, damaged, cut short), ENOEXEC
 *         (another version), or that of writing. Threads: any. Since: 0.2.
 */
#define VMAD_INFO_TABLES 1
#define VMAD_INFO_OPEN 2
int vmad_info(int fd, FILE *out, unsigned flags, struct vmad_err *err);

#define VMAD_AWAY 1 /* it is on a node: its stdin, stdout and stderr, if pipes, are home's */

/**
 * vmad_look_pid() - could another process leave this machine?
 * @pid: the process.
 * @fd: where the head of its image goes, without its pages: for vmad_info().
 * @flags: VMAD_AWAY or 0.
 * @refused: called with a text for each thing that cannot be carried.
 * @arg: for @refused.
 * @ret_us: how long it was stopped, in microseconds; may be NULL.
 * @err: filled on failure; may be NULL.
 *
 * One with very many descriptors or mappings is looked at before it is stopped, and if that finds
 * something it is not stopped at all: nothing is written to @fd then, and *ret_us is 0.
 *
 * Return: how many there are, 0: it could leave; -1 with errno set: it cannot even be
 *         looked at, or not be carried for what shows from outside (ENOTSUP).
 * Errors: those of vmad_dump_pid(). Blocks: for some milliseconds. Threads: any. Since: 0.2.
 */
int vmad_look_pid(pid_t pid, int fd, unsigned flags, void (*refused)(const char *text, void *arg),
		  void *arg, uint64_t *ret_us, struct vmad_err *err);

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

/* The same in a process that has no other use for the blob and never will: vmad_blob_bytes() is
 * not there any more. Faster; for a child that becomes another process. */
struct blob *vmad_blob_map_own(void);

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

/**
 * vmad_leave_pid() - the same of another process, which need not know of it.
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
 * Since: 0.2.
 */
int vmad_leave_pid(pid_t pid, int conn, int node, unsigned flags, uint64_t *ret_us,
		   struct vmad_err *err);

/**
 * vmad_leave_marked() - vmad_leave_pid(), and in the process @value is at @at where it arrives.
 * @at: address in it, of 32 bits. Where it goes on here they are as they were; but if the caller
 *      is killed meanwhile they may be @value here as well.
 * @value: what is written there while it stands still.
 *
 * All else is as with vmad_leave_pid(). Since: 0.2.
 */
int vmad_leave_marked(pid_t pid, int conn, int node, unsigned flags, uint64_t at, uint32_t value,
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
 * Since: 0.3.
 */
int vmad_leave_live(pid_t pid, int conn, int node, unsigned flags, struct vmad_live *ret,
		    struct vmad_err *err);

#ifdef __cplusplus
}
#endif

#endif
