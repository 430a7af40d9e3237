/*
 * bproc.h - libbproc as this project makes it: everything of BProc 4 that
 * sys/bproc.h declares, and what is ours alone. Programs that are to compile with
 * an old BProc as well include <sys/bproc.h>.
 *
 * C99 and C++. Link with -lbproc, or `pkg-config --cflags --libs bproc`.
 */
#ifndef BPROC_H
#define BPROC_H

#include <sys/bproc.h>
#include <sys/types.h>

struct rusage;

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

/**
 * bproc_errtext() - the whole text of this thread's last failed libbproc call.
 *
 * bproc_strerror() knows only the number; this names the thing:
 * "fd 7 is /dev/st0, a device of this node".
 *
 * Return: a string of at most 159 characters, "" if no call has failed yet. It
 *         belongs to the library and stays until the thread's next failure.
 *         errno is left as it is.
 * Errors: none.
 * Blocks: no. Threads: each thread has a text of its own; a child of fork or
 * bproc_rfork starts with its parent's.
 * Since: 0.1. Source: this project, bproc_strerror(3).
 */
const char *bproc_errtext(void);

/**
 * bproc_execfirst() - bproc_execmove() of a program that is loaded without waiting.
 * @node: as bproc_execmove().
 * @cmd: as bproc_execmove().
 * @argv: as bproc_execmove().
 * @envp: as bproc_execmove().
 *
 * The program is executed while the master still judges the move, so it is on the
 * node sooner. What the master refuses after that the caller cannot be told any more:
 * it is as with a bproc_execmove() that fails behind its exec.
 *
 * Return: only on failure: -1 with errno set.
 * Errors: those of bproc_execmove().
 * Blocks: as bproc_execmove(). Threads: as bproc_execmove().
 * Since: 0.1. Source: this project, bproc_execmove(3).
 */
int bproc_execfirst(int node, const char *cmd, char *const argv[], char *const envp[]);

/**
 * bproc_movepid() - move another process, which need not know of BProc.
 * @pid: a process that is real on the caller's node; all its threads go, its children stay.
 * @node: a node number, or BPROC_NODE_MASTER to bring it home.
 * @flags: BPROC_DUMP_*, BPROC_MOVE_*.
 *
 * It is parked from outside, asks to leave as if it had called bproc_move(), and goes on in the
 * middle of what it was doing. The caller needs the right to trace it (ptrace(2)), the process
 * the right to use the node.
 *
 * With BPROC_MOVE_LIVE most of its memory is sent while it still runs, and it stands still for the
 * rest only. With BPROC_MOVE_LAZY it runs there before its large memory is there, which follows:
 * bpmove(1) has what that means; of both LIVE counts. Where that cannot be had it is moved without;
 * bproc_movestat() says so, and why.
 *
 * A process that holds a lock (fcntl(2), flock(2)) is refused, but with BPROC_MOVE_LOCKS: then its
 * locks are nobody's for the last moment of the move. One that another process shares, or waits
 * for, is refused still; if somebody gets one in that moment the move fails with EAGAIN or EACCES,
 * and the process waits where it was until it has it again. Whether what the lock protects may
 * change then is the caller's to judge.
 *
 * With BPROC_MOVE_TREE all that descend from it move too, at most 64 processes: all of them, or
 * none. What they have open together stays shared; what one of them shares with another process
 * keeps all of them here. With LOCKS, a lock may be shared among them; LIVE and LAZY do
 * not go with it.
 *
 * Its seccomp filters go along, if they allow what a move calls (ENOTSUP). With BPROC_MOVE_JUDGE
 * only that is looked at, and nothing is moved.
 *
 * Return: 0 when it runs there (also if it was there already); -1 with errno set, and it goes on
 *         where it was.
 * Errors: those of a move; ESRCH (there is no such process, or it has ended); EINVAL (@pid is a
 *         thread's; @flags); BE_INVALIDPROC (it is real on another node, which the text names);
 *         EPERM (it may not be traced, or somebody traces it); ENOTSUP (it has something that
 *         cannot be carried, or it is stopped); EBUSY (a thread waits in the kernel and cannot be
 *         stopped); EINPROGRESS (its memory is still on its way here, for a minute now).
 * Blocks: until the process runs there, or will not. If the caller ends meanwhile the move goes
 * on; of a SIGKILL at the wrong moment see vmad_dump_pid(). Threads: any.
 * Since: 0.1. Source: this project, bproc_move(3).
 */
int bproc_movepid(int pid, int node, int flags);
#define BPROC_MOVE_LAZY 0x200
#define BPROC_MOVE_LIVE 0x100
#define BPROC_MOVE_LOCKS 0x400
#define BPROC_MOVE_TREE 0x800
#define BPROC_MOVE_JUDGE 0x1000

/**
 * struct bproc_movestat_t - what the last bproc_movepid() of this thread did.
 * @frozen_us: how long the process stood still, in microseconds: from the moment in which it was
 *             stopped to the news that it runs on the node.
 * @rounds: with BPROC_MOVE_LIVE: in which pages were sent while it ran; 0: it was moved without.
 * @ahead_bytes, @ahead_us: how many bytes of pages in all, and for how long.
 * @asked_us: how long it stood still before that, to ask for it.
 * @processes: with BPROC_MOVE_TREE: how many have moved.
 * @why: why it was moved without, or "".
 */
struct bproc_movestat_t {
	unsigned long long frozen_us;
	unsigned int rounds;
	unsigned long long ahead_bytes, ahead_us, asked_us;
	unsigned int processes;
	char why[160];
};

/**
 * bproc_movestat() - figures of this thread's last bproc_movepid().
 * @stat: is filled; all zero if there was none.
 *
 * Return: nothing. Errors: none. Blocks: no. Threads: each thread has its own.
 * Since: 0.1. Source: this project, bproc_move(3).
 */
void bproc_movestat(struct bproc_movestat_t *stat);

/**
 * bproc_nodereason() - why a node was refused last, or why it went down.
 * @node: a node number, BPROC_NODE_MASTER or BPROC_NODE_SELF.
 * @reason: where the text goes, cut and NUL-terminated if @len is short. Owned by
 *          the caller. May be NULL if @len is 0.
 * @len: size of @reason in bytes.
 *
 * Return: length of the whole text, without NUL, 0 if there is nothing to say;
 *         -1 with errno set.
 * Errors: those of the local link (sys/bproc.h), and
 *         BE_INVALIDNODE (no such node), EINVAL (@len is negative).
 * Blocks: for an answer of this machine's bpslave, 60 s at most. Threads: any.
 * Since: 0.1. Source: this project, bproc_nodelist(3).
 */
int bproc_nodereason(int node, char *reason, int len);

/**
 * struct bproc_procstat_t - what a process uses up, where it is real.
 * @node: the node; BPROC_NODE_MASTER for the front end.
 * @pid, @ppid, @pgid, @sid: its number, and those of its parent, group and session.
 * @uid, @ruid: effective and real user.
 * @nice: its nice value. @threads: how many it has.
 * @cpu_us: microseconds of processor time, user and system, since it came there.
 * @age_ms: milliseconds since it was born there, or came there by a move.
 * @rss_kb, @vsz_kb: resident and whole memory, in KiB.
 * @state: the letter of proc(5): R S D T t Z I.
 * @comm: its name, NUL-terminated.
 */
struct bproc_procstat_t {
	int node, pid, ppid, pgid, sid;
	unsigned int uid, ruid;
	int nice;
	unsigned int threads;
	unsigned long long cpu_us, age_ms, rss_kb, vsz_kb;
	char state;
	char comm[16];
};

/**
 * bproc_procstat() - the processes that are real on a node, as its /proc has them now.
 * @node: a node number, BPROC_NODE_MASTER or BPROC_NODE_SELF. Of the front end: all its
 *        processes, among them those that stand in for one that is real elsewhere.
 * @pid: that process only; 0: all.
 * @list: receives an array, ordered by pid, that the caller frees with free().
 *        NULL if it is empty. Untouched on failure.
 *
 * Return: number of processes, 0 also if the one that was asked for is not there; -1
 *         with errno set.
 * Errors: those of the local link; BE_INVALIDNODE (no such node); BE_NODEDOWN (it is
 *         not connected, or was lost during the call); EINVAL (@list is NULL, @pid is
 *         negative); ETIMEDOUT (the node did not answer for 10 s).
 * Blocks: for an answer of that node's bpslave, for each 128 processes. Threads: any.
 * Since: 0.1. Source: this project, bproc_procstat(3).
 */
int bproc_procstat(int node, int pid, struct bproc_procstat_t **list);

/**
 * bproc_wait4() - wait4(2), with what the child has really used.
 * @pid: as wait4(2): a child, -1 any, 0 or less than -1 those of a group.
 * @status: as wait4(2); may be NULL.
 * @options: as wait4(2).
 * @rusage: of a child that has ended: processor time and peak memory, on all machines where it
 *          was, of itself and of its children that it has waited for. May be NULL: then this is
 *          wait4(2).
 *
 * wait4(2) says of a child that ends elsewhere what its ghost has used: the kernel takes no one's
 * word for that. Of one that was nowhere else, and of a stop or a continue, the kernel's word is
 * the answer. Of others ru_utime, ru_stime and ru_maxrss are told, in microseconds and KiB, and all
 * other fields are 0 if it ended elsewhere, or what the kernel here has if it ended here. The time
 * on a machine that it has left by a move is counted in steps of 10 ms.
 *
 * Return: as wait4(2): the child, 0 with WNOHANG, or -1 with errno set.
 * Errors: those of wait4(2), EINTR among them; with @rusage those of the local link
 *         (sys/bproc.h), and then the child has not been waited for.
 * Blocks: as wait4(2); then for an answer of this machine's bpslave, 60 s at most. Threads: any.
 * Since: 0.1. Source: this project, bproc_wait4(3).
 */
pid_t bproc_wait4(pid_t pid, int *status, int options, struct rusage *rusage);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif

#endif
