/*
 * vmadump.h - a process image, in and out.
 *
 * vmad_dump() writes the calling process to a descriptor; vmad_undump() makes the
 * calling process become what such an image holds. An image is a valid ELF core
 * file written and read as a stream: a file, a pipe or a socket will do
 * (doc/image.md). vmadump knows nothing of clusters.
 *
 * C99 and C++. Link with -lvmadump, or `pkg-config --cflags --libs vmadump`. A program that uses
 * libbproc as well links both: neither shows the other what it has inside.
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
/* Other processes. */

#define VMAD_DUMP_ALL 7	   /* every class of file: an image that needs no file */
#define VMAD_KILL 0x100	   /* the process ends (SIGKILL) when its image is complete */
#define VMAD_STOP 0x200	   /* it is stopped then (SIGSTOP) */
#define VMAD_NEW_PID 0x400 /* whatever process id there is */
#define VMAD_TREE 0x800	   /* all that descend from it as well */
#define VMAD_PACK 0x1000   /* the image is compressed: one zstd frame */

/**
 * vmad_dump_pid() - write an image of another process, which need not know of it.
 * @pid: the process; all its threads are in the image, its children with VMAD_TREE.
 * @fd: where to, from its present offset on: a file, a pipe, a stream socket.
 * @flags: VMAD_DUMP_*, VMAD_TREE, VMAD_PACK, and VMAD_KILL or VMAD_STOP; else it goes on when it
 *         is dumped.
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
 * With VMAD_PACK a clone of the caller compresses what the process writes, and keeps what comes
 * too fast in up to half of the memory that is available: the process goes on before that is all
 * written, but with VMAD_KILL and VMAD_STOP. Every call below that reads an image knows such a
 * one by its first four bytes; vmad_undump() does not, and a debugger does not either.
 *
 * Return: bytes written (> 0); -1 with errno set, and then the process goes on as
 *         it was.
 * Errors: ENOTSUP (it has something that an image cannot carry; @err names it; its
 *         limit of file sizes counts for the image as well), EPERM (ptrace(2) is not allowed),
 *         ESRCH (there is no such process, or it has ended), EBUSY (a thread waits in
 *         the kernel and cannot be stopped), EMFILE (it has no two descriptors left),
 *         EINVAL (@flags; @pid is a thread's), and those of vmad_dump().
 * Blocks: as long as writing does; up to 2 s for a thread that does not stop.
 * Threads: any; waits for the process with waitpid(2), so its parent, if that is the
 *         caller, must not wait for any child in another thread. Since: 0.1.
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
 * vmad_undump(). Blocks: as long as reading does. Threads: any. Since: 0.1. Source: doc/image.md.
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
 * Return: 0; -1 with errno set.
 * Errors: those of vmad_undump(), but for the caller's threads and addresses.
 * Blocks: as long as reading does. Threads: any. Since: 0.1. Source: doc/image.md.
 */
int vmad_check(int fd, struct vmad_err *err);

/**
 * vmad_member() - one process's image out of that of a tree, for a debugger.
 * @fd: the image, read from its present offset on.
 * @pid: the process; a zombie has none.
 * @out: where to.
 * @err: filled on failure; may be NULL.
 *
 * Return: 0; -1 with errno set.
 * Errors: ESRCH (it is not in there), those of vmad_info().
 * Blocks: as long as reading and writing do. Threads: any. Since: 0.1. Source: doc/image.md.
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
 * Return: 0; -1 with errno set.
 * Errors: EBADMSG (not an image, damaged, cut short), ENOEXEC (another version), ENOMEM, those of
 *         reading and writing.
 * Blocks: as long as reading does. Threads: any. Since: 0.1. Source: doc/image.md.
 */
#define VMAD_INFO_TABLES 1
#define VMAD_INFO_OPEN 2
int vmad_info(int fd, FILE *out, unsigned flags, struct vmad_err *err);

#define VMAD_AWAY 1 /* it is on a node: its stdin, stdout and stderr, if pipes, are home's */
#define VMAD_JUDGED 2 /* its seccomp filters, if it has any, are known to allow a move */

/**
 * vmad_look_pid() - could another process leave this machine?
 * @pid: the process.
 * @fd: where the head of its image goes, without its pages: for vmad_info().
 * @flags: VMAD_AWAY, VMAD_JUDGED; VMAD_TREE: it and all that descend from it, together.
 * @refused: called with a text for each thing that cannot be carried.
 * @arg: for @refused.
 * @ret_us: how long it was stopped, in microseconds; may be NULL.
 * @err: filled on failure; may be NULL.
 *
 * One with very many descriptors or mappings is looked at before it is stopped, and if that finds
 * something it is not stopped at all: nothing is written to @fd then, and *ret_us is 0. If not, it
 * is stopped for the rest, and what is written is of it as it runs: for VMAD_INFO_OPEN. A tree is
 * stopped as a whole, whatever it has, and nothing is written of it.
 *
 * Return: how many there are, 0: it could leave; -1 with errno set: it cannot even be
 *         looked at, or not be carried for what shows from outside (ENOTSUP).
 * Errors: those of vmad_dump_pid(). Blocks: for some milliseconds. Threads: any. Since: 0.1.
 * Source: doc/image.md; bpmove(1).
 */
int vmad_look_pid(pid_t pid, int fd, unsigned flags, void (*refused)(const char *text, void *arg),
		  void *arg, uint64_t *ret_us, struct vmad_err *err);

#ifdef __cplusplus
}
#endif

#endif
