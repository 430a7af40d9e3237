/*
 * sys/bproc.h - the C interface of BProc 4, as its programs include it. What is
 * declared here has the prototype it has in BProc 4.0.0pre8; a call of BProc 4
 * that is not here does not exist in this version, so a configure test is true.
 * <bproc.h> adds what is this project's own.
 *
 * C99 and C++. Link with -lbproc.
 *
 * The words "Errors: those of the local link" below stand for this list, since
 * every call but the purely local ones asks the bpslave of its own machine:
 *   ENOSYS        BProc is not set up here: no socket of it in /run/bproc
 *   ECONNREFUSED  bpslave of this machine is not running; after one that was killed the next is
 *                 waited for, 5 s at most
 *   ECONNRESET    it was killed during the call, and so were the next three that were asked
 *   ETIMEDOUT     it did not answer for 60 s (queries only)
 *   ENOTCONN      it has no link to the master, and has had none for the ping timeout; until
 *                 then the call waits
 *   EAGAIN        too many questions of this process are unanswered
 *   EACCES        the socket may not be used by this user
 *   EPROTO        library and daemon are of different versions
 *   ENAMETOOLONG  BPROC_RUN_DIR is too long for the path of a socket
 *   EMFILE, ENFILE, ENOMEM  no descriptor or memory for the question
 * After any failure bproc_errtext() has a text that names the thing.
 *
 * Threads: every call may be made from any thread at any time. No call takes a lock while it waits.
 * Interrupted waits are resumed: no call returns EINTR. The library holds close-on-exec descriptors
 * of its own; a child of fork() does not share them.
 */
#ifndef _SYS_BPROC_H
#define _SYS_BPROC_H

#include <stdint.h>
#include <sys/types.h>
#include <sys/socket.h>
#include <sys/bproc_common.h>

/* Generation of the interface: 4 is BProc 4 (missing before 4.0.0pre7). */
#define BPROC_API_VERSION 4

/*
 * Which file mappings travel as contents instead of as a reference to the file:
 * those of libraries, of the program, of other files. The calls without a flags
 * argument use EXEC|OTHER. Source: bproc_move(3) of BProc 4.
 */
#define BPROC_DUMP_LIBS 1
#define BPROC_DUMP_EXEC 2
#define BPROC_DUMP_OTHER 4
#define BPROC_DUMP_ALL 7

/* Special node numbers: the front end; where the caller is; no node; any node. */
#define BPROC_NODE_MASTER (-1)
#define BPROC_NODE_SELF (-2)
#define BPROC_NODE_NONE (-3)
#define BPROC_NODE_ANY (-4)

#define BPROC_STATUS_NONE (-2)

/* The only mode of bproc_access(): may I start processes there? */
#define BPROC_X_OK 1

/**
 * struct bproc_node_set_t - a growing list of nodes.
 * @size: how many there are.
 * @alloc: how many there is room for.
 * @node: the nodes; owned by the set.
 *
 * A set starts as BPROC_EMPTY_NODESET or by bproc_nodeset_init(), and ends with
 * bproc_nodeset_free(), after which it is empty and may be used again. A set that
 * is passed to be filled must not own anything: its old contents are not freed.
 */
struct bproc_node_set_t {
	int size, alloc;
	struct bproc_node_info_t *node;
};
/* clang-format off */
#define BPROC_EMPTY_NODESET {0, 0, 0}
/* clang-format on */

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

/* -- nodes ------------------------------------------------------------------ */

/**
 * bproc_version() - whether BProc is here, and which.
 * @vers: filled on success. Owned by the caller.
 *
 * Return: 0; -1 with errno set.
 * Errors: those of the local link; EINVAL (@vers is NULL).
 * Blocks: for an answer of this machine's bpslave, 60 s at most. Threads: any.
 * Since: 0.1. Source: bproc_version(3) of BProc 4.
 */
int bproc_version(struct bproc_version_t *vers);

/**
 * bproc_numnodes() - how many nodes are configured, the front end not counted.
 *
 * Not the highest node number plus one: numbers may be sparse.
 *
 * Return: 0 or more; -1 with errno set.
 * Errors: those of the local link.
 * Blocks: for an answer of this machine's bpslave, 60 s at most. Threads: any.
 * Since: 0.1. Source: bproc_numnodes(3) of BProc 4.
 */
int bproc_numnodes(void);

/**
 * bproc_currnode() - the node the caller runs on.
 *
 * Return: its number; BPROC_NODE_MASTER (-1) on the front end, and also on
 *         failure, as in BProc 4: set errno to 0 before to tell them apart.
 * Errors: those of the local link.
 * Blocks: for an answer of this machine's bpslave, 60 s at most. Threads: any.
 * Since: 0.1. Source: bproc_currnode(3) of BProc 4.
 */
int bproc_currnode(void);

/**
 * bproc_nodestatus() - the state of a node.
 * @node: a node number, BPROC_NODE_MASTER or BPROC_NODE_SELF.
 * @status: where the name goes, NUL-terminated if there is room. Owned by the caller.
 * @len: size of @status in bytes; BPROC_STATE_LEN + 1 always suffices.
 *
 * Return: characters written, without the NUL; -1 with errno set.
 * Errors: those of the local link; BE_INVALIDNODE (no such node);
 *         EINVAL (@status is NULL or @len negative).
 * Blocks: for an answer of this machine's bpslave, 60 s at most. Threads: any.
 * Since: 0.1. Source: bproc_nodestatus(3) of BProc 4.
 */
int bproc_nodestatus(int node, char *status, int len);

/**
 * bproc_nodeinfo() - all there is to know of one node.
 * @node: a node number, BPROC_NODE_MASTER or BPROC_NODE_SELF.
 * @info: filled on success. Owned by the caller.
 *
 * Return: 0; -1 with errno set.
 * Errors: those of the local link; BE_INVALIDNODE (no such node);
 *         EINVAL (@info is NULL).
 * Blocks: for an answer of this machine's bpslave, 60 s at most. Threads: any.
 * Since: 0.1. Source: bproc_nodeinfo(3) of BProc 4.
 */
int bproc_nodeinfo(int node, struct bproc_node_info_t *info);

/**
 * bproc_nodelist() - every configured node, the front end not included.
 * @ns: filled on success; to be freed by bproc_nodeset_free(). What it held
 *      before is not freed. Untouched on failure.
 *
 * Return: number of nodes; -1 with errno set.
 * Errors: those of the local link (ENOMEM also for the set itself);
 *         EINVAL (@ns is NULL).
 * Blocks: for an answer of this machine's bpslave, 60 s at most. Threads: any.
 * Since: 0.1. Source: bproc_nodelist(3) of BProc 4.
 */
int bproc_nodelist(struct bproc_node_set_t *ns);

/**
 * bproc_nodeaddr() - the network address of a node.
 * @node: a node number, BPROC_NODE_MASTER or BPROC_NODE_SELF.
 * @s: where a struct sockaddr_in goes. Owned by the caller.
 * @size: in: bytes at @s; out: bytes of the address. More than there is room for
 *        is cut, as in getsockname(2).
 *
 * Return: 0; -1 with errno set.
 * Errors: those of the local link; BE_INVALIDNODE (no such node);
 *         BE_NODEDOWN (it has never connected); EINVAL (NULL, negative size).
 * Blocks: for an answer of this machine's bpslave, 60 s at most. Threads: any.
 * Since: 0.1. Source: bproc_nodeaddr(3) of BProc 4.
 */
int bproc_nodeaddr(int node, struct sockaddr *s, int *size);

/* -- permissions and states --------------------------------------------------- */

/**
 * bproc_access() - may the caller start processes on a node?
 * @node: a node number, BPROC_NODE_MASTER or BPROC_NODE_SELF.
 * @mode: BPROC_X_OK.
 *
 * Judged like the execute bit of a file, with the effective ids of the caller;
 * the user 0 needs one x bit, no matter which. The front end admits everybody.
 *
 * Return: 0 if yes; -1 with errno set.
 * Errors: EACCES (no); those of the local link; BE_INVALIDNODE (no such node);
 *         EINVAL (another @mode).
 * Blocks: for an answer of this machine's bpslave, 60 s at most. Threads: any.
 * Since: 0.1. Source: bproc_access(3) of BProc 4.
 */
int bproc_access(int node, int mode);

/**
 * bproc_chmod() - set who may start processes on a node.
 * @node: a node number or BPROC_NODE_SELF.
 * @mode: execute bits, out of 0111.
 *
 * Return: 0; -1 with errno set.
 * Errors: EPERM (neither root nor the node's owner; the node is down);
 *         EINVAL (@mode has other bits); BE_INVALIDNODE (no such node);
 *         those of the local link.
 * Blocks: for an answer of the master, 60 s at most. Threads: any.
 * Since: 0.1. Source: bproc_chmod(3) of BProc 4.
 */
int bproc_chmod(int node, int mode);

/**
 * bproc_chown() - give a node to another user.
 * @node: a node number or BPROC_NODE_SELF.
 * @user: numeric user id.
 *
 * Return: 0; -1 with errno set.
 * Errors: EPERM (not root; the node is down); BE_INVALIDNODE (no such node);
 *         those of the local link.
 * Blocks: for an answer of the master, 60 s at most. Threads: any.
 * Since: 0.1. Source: bproc_chown(3) of BProc 4.
 */
int bproc_chown(int node, int user);

/**
 * bproc_chgrp() - give a node to another group.
 * @node: a node number or BPROC_NODE_SELF.
 * @group: numeric group id.
 *
 * Return: 0; -1 with errno set.
 * Errors: EPERM (neither root nor the node's owner; the node is down);
 *         BE_INVALIDNODE (no such node); those of the local link.
 * Blocks: for an answer of the master, 60 s at most. Threads: any.
 * Since: 0.1. Source: bproc_chgrp(3) of BProc 4.
 */
int bproc_chgrp(int node, int group);

/**
 * bproc_nodesetstatus() - set the state of a node.
 * @node: a node number or BPROC_NODE_SELF.
 * @status: a name [A-Za-z][A-Za-z0-9_]* of at most BPROC_STATE_LEN characters.
 *          "down" disconnects the node and kills its processes.
 *
 * Return: 0; -1 with errno set.
 * Errors: EPERM (not root; the front end, which has none to set); EINVAL (no valid name,
 *         or "unreachable", which is the master's to set; the node is down);
 *         ENOSPC (the name is too long); BE_INVALIDNODE (no such node);
 *         those of the local link.
 * Blocks: for an answer of the master, 60 s at most. Threads: any.
 * Since: 0.1. Source: bproc_nodesetstatus(3) of BProc 4.
 */
int bproc_nodesetstatus(int node, char *status);

/* -- processes --------------------------------------------------------------- */

/**
 * bproc_proclist() - the processes of a node that belong to the cluster.
 * @node: a node number, BPROC_NODE_SELF, or BPROC_NODE_ANY for those of all nodes.
 *        Processes that run on the front end are never listed.
 * @list: receives an array, ordered by pid, that the caller frees with free().
 *        NULL if it is empty. Untouched on failure.
 *
 * Return: number of processes; -1 with errno set.
 * Errors: those of the local link; BE_INVALIDNODE (no such node);
 *         EINVAL (@list is NULL).
 * Blocks: for an answer of this machine's bpslave, 60 s at most, for each 8,192
 * processes. Threads: any.
 * Since: 0.1. Source: bproc_proclist(3) of BProc 4.
 */
int bproc_proclist(int node, struct bproc_proc_info_t **list);

/**
 * bproc_pidnode() - where a process runs.
 * @pid: a process number of the cluster.
 *
 * Return: the node; -1 for "on the front end" and, as in BProc 4, for "no such
 *         process" and for failure: set errno to 0 before to tell them apart.
 * Errors: BE_INVALIDPROC (no such process); those of the local link.
 * Blocks: for an answer of this machine's bpslave, 60 s at most. Threads: any.
 * Since: 0.1. Source: bproc_pidnode(3) of BProc 4.
 */
int bproc_pidnode(int pid);

/* -- node sets ----------------------------------------------------------------- */

/**
 * bproc_nodeset_init() - make a set of a given size.
 * @ns: the set; what it held is not freed.
 * @size: number of nodes, all zero; 0 or less makes it empty.
 *
 * Return: 0; -1 with errno set, and then the set is empty.
 * Errors: ENOMEM (no memory).
 * Blocks: no. Threads: any, one at a time for one set.
 * Since: 0.1. Source: bproc_nodeset(3) of BProc 4.
 */
int bproc_nodeset_init(struct bproc_node_set_t *ns, int size);

/**
 * bproc_nodeset_grow() - make room.
 * @ns: a set.
 * @size: for how many nodes there shall be room in all. The set's size stays.
 *
 * Return: 0; -1 with errno set, and then the set is as it was.
 * Errors: ENOMEM (no memory, or no such amount can be asked for).
 * Blocks: no. Threads: any, one at a time for one set.
 * Since: 0.1. Source: bproc_nodeset(3) of BProc 4.
 */
int bproc_nodeset_grow(struct bproc_node_set_t *ns, int size);

/**
 * bproc_nodeset_free() - free what a set holds; it is empty then.
 * @ns: a set.
 *
 * Errors: none.
 * Blocks: no. Threads: any, one at a time for one set.
 * Since: 0.1. Source: bproc_nodeset(3) of BProc 4.
 */
void bproc_nodeset_free(struct bproc_node_set_t *ns);

/* Pointer to the nn-th node of a set, 0 .. size-1. */
#define bproc_node_set_node(ns, nn) (&(ns)->node[(nn)])

/**
 * bproc_nodeset_add() - append one node.
 * @ns: a set.
 * @n: copied. May not lie in @ns itself.
 *
 * Return: 0; -1 with errno set, and then the set is as it was.
 * Errors: ENOMEM (no memory).
 * Blocks: no. Threads: any, one at a time for one set.
 * Since: 0.1. Source: bproc_nodeset(3) of BProc 4.
 */
int bproc_nodeset_add(struct bproc_node_set_t *ns, struct bproc_node_info_t *n);

/**
 * bproc_nodeset_append() - append the nodes of another set.
 * @a: the set that grows.
 * @b: copied. May be @a.
 *
 * Return: 0; -1 with errno set, and then @a is as it was.
 * Errors: ENOMEM (no memory).
 * Blocks: no. Threads: any, one at a time for one set.
 * Since: 0.1. Source: bproc_nodeset(3) of BProc 4.
 */
int bproc_nodeset_append(struct bproc_node_set_t *a, struct bproc_node_set_t *b);

/**
 * bproc_nodefilter() - the nodes of a set that a text names, in its order.
 * @out: filled on success; to be freed by bproc_nodeset_free(). What it held
 *       before is not freed. Untouched on failure.
 * @in: where to take them from. May not be @out.
 * @str: comma list of a number (5, n5, .5), a range (5-10, 5-), all, master, or a
 *       state with "all" or "not" before it (up, allup, notup, allnotdown).
 *       A number that is not in @in is left out. Twice named is twice in @out.
 *
 * Return: 0; -1 with errno set.
 * Errors: EINVAL (@str cannot be understood), ENOMEM (no memory); for "master"
 *         those of bproc_nodeinfo().
 * Blocks: no, except for "master": as bproc_nodeinfo(). Threads: any.
 * Since: 0.1. Source: bproc_nodefilter(3) of BProc 4, bpstat(1).
 */
int bproc_nodefilter(struct bproc_node_set_t *out, struct bproc_node_set_t *in, const char *str);

/**
 * bproc_nodespec() - the configured nodes that a text names.
 * @ns: as @out of bproc_nodefilter().
 * @str: as @str of bproc_nodefilter().
 *
 * Return: 0; -1 with errno set.
 * Errors: those of bproc_nodelist() and of bproc_nodefilter().
 * Blocks: as bproc_nodelist(). Threads: any.
 * Since: 0.1. Source: bproc_nodespec(3) of BProc 4.
 */
int bproc_nodespec(struct bproc_node_set_t *ns, const char *str);

/* -- processes that start on a node, or go there -------------------------------- */

/*
 * A move is a transaction: it happens wholly, or the caller is told why not and
 * nothing has changed anywhere. "Errors: those of a move" stands for this list:
 *   BE_INVALIDNODE  no such node
 *   BE_NODEDOWN     the node is down, or not reachable now
 *   BE_SAMENODE     the caller runs there already (bproc_rfork only: the others
 *                   do what they have to do here)
 *   BE_SLAVEDIED    the node was lost before the process ran there
 *   EACCES          the node's permissions do not admit the caller
 *   EINVAL          flags outside BPROC_DUMP_ALL; a NULL where none may be
 *   ENOTSUP         the process cannot leave: it has several threads, or an open
 *                   file, mapping or state that no image can carry
 *   EAGAIN          no process number or no room for a process there, or too many moves under way
 *   E2BIG           the caller is a member of more than 32 groups, or has more than 64 ancestors,
 *                   leaders and children that it has not waited for
 *   EBUSY           its last move has failed for a lost link, and is not undone yet; or it is
 *                   being moved by another already
 *   ENOMEM, EIO, EPIPE, EBADMSG, EHOSTUNREACH, ETIMEDOUT  the image could not be made,
 *                   sent or put in place
 *   ENOSYS, ECONNREFUSED, ECONNRESET, ENOTCONN, EACCES, EPROTO, EMFILE, ENFILE
 *                   as in the list of the local link
 * Other values are those of the system call that failed on either side.
 *
 * stdin, stdout and stderr of the process are forwarded to where it came from;
 * regular files are opened again by their path; the library's own descriptors
 * are closed. A child of bproc_rfork leaves behind what cannot be carried and is
 * marked close-on-exec (a pipe's other end, say). Signals that arrive meanwhile
 * wait.
 */

/**
 * bproc_rfork() - fork, with the child going on on another node.
 * @node: a node number, or BPROC_NODE_MASTER.
 *
 * Return: 0 in the child, on the node; in the parent the child's pid (> 0), which
 *         is its pid everywhere; -1 with errno set in the parent, and then no
 *         child exists anywhere. (BProc 4.0.0pre8 gives the negative error value
 *         instead of -1: there is nothing to tell that a test for < 0 misses.)
 * Errors: those of a move; those of fork(2): EAGAIN, ENOMEM.
 * Blocks: until the child runs there, or will not; signals are served meanwhile,
 * SIGCHLD after it. Threads: only the caller is copied, as in fork(2);
 * pthread_atfork() handlers run.
 * Since: 0.1. Source: bproc_rfork(3) of BProc 4; doc/move.md.
 */
int bproc_rfork(int node);

/**
 * _bproc_rfork() - bproc_rfork() with flags.
 * @node: as bproc_rfork().
 * @flags: BPROC_DUMP_*: which file mappings go as contents.
 *
 * Return, Errors, Blocks, Threads: as bproc_rfork().
 * Since: 0.1. Source: bproc_rfork(3) of BProc 4.
 */
int _bproc_rfork(int node, int flags);

/**
 * bproc_vrfork() - one child on each of many nodes.
 * @nnodes: number of nodes, 1 or more.
 * @nodes: their numbers. Owned by the caller.
 * @pids: receives for each the child's pid, or the negative of the error. Owned
 *        by the caller.
 *
 * The children are made one after the other.
 *
 * Return: in child k its index k, 0 .. @nnodes-1; in the parent @nnodes, whatever
 *         failed; -1 with errno set if nothing was tried.
 * Errors: EINVAL (@nnodes below 1, NULL); in @pids those of bproc_rfork().
 * Blocks, Threads: as bproc_rfork(), for each child.
 * Since: 0.1. Source: bproc_vrfork(3) of BProc 4.
 */
int bproc_vrfork(int nnodes, int *nodes, int *pids);

/**
 * _bproc_vrfork() - bproc_vrfork() with flags.
 * @nnodes: as bproc_vrfork().
 * @nodes: as bproc_vrfork().
 * @pids: as bproc_vrfork().
 * @flags: BPROC_DUMP_*.
 *
 * Return, Errors, Blocks, Threads: as bproc_vrfork().
 * Since: 0.1. Source: bproc_vrfork(3) of BProc 4.
 */
int _bproc_vrfork(int nnodes, int *nodes, int *pids, int flags);

/**
 * bproc_move() - go to another node.
 * @node: a node number, or BPROC_NODE_MASTER to come home.
 *
 * Return: 0, on the node (also if the caller was there already);
 *         -1 with errno set, and then the process is where it was.
 * Errors: those of a move.
 * Blocks: until the process runs there, or will not. Threads: all go along. Of several, it is
 * moved as by bproc_movepid(), by a child's child of its own: EPERM if that may not trace it.
 * Since: 0.1. Source: bproc_move(3) of BProc 4; doc/move.md.
 */
int bproc_move(int node);

/**
 * _bproc_move() - bproc_move() with flags.
 * @node: as bproc_move().
 * @flags: BPROC_DUMP_*, and BPROC_MOVE_LOCKS (bproc.h).
 *
 * Return, Errors, Blocks, Threads: as bproc_move().
 * Since: 0.1. Source: bproc_move(3) of BProc 4.
 */
int _bproc_move(int node, int flags);

/**
 * bproc_rexec() - run a program that is installed on a node, as this process.
 * @node: a node number.
 * @cmd: path of the program on the node; PATH is not searched.
 * @argv: its arguments, NULL at the end.
 * @envp: its environment, NULL at the end.
 *
 * Only the arguments travel. Files other than stdin, stdout and stderr do not.
 *
 * Return: does not return on success; -1 with errno set, and then the process is
 *         where and what it was.
 * Errors: those of a move; E2BIG (arguments and environment over 1 MiB);
 *         those of execve(2) on the node: ENOENT, EACCES, ENOEXEC and so on.
 * Blocks: until the program runs, or will not. Threads: any; the others end when it has
 * succeeded, as with execve(2), and are stopped meanwhile.
 * Since: 0.1. Source: bproc_rexec(3) of BProc 4.
 */
int bproc_rexec(int node, const char *cmd, char *const argv[], char *const envp[]);

/**
 * bproc_execmove() - exec a program of this machine and let it run on a node.
 * @node: a node number.
 * @cmd: path of the program here; PATH is not searched.
 * @argv: its arguments, NULL at the end.
 * @envp: its environment, NULL at the end.
 *
 * The program is loaded here with its libraries and leaves before its first
 * instruction: nothing need be installed on the node.
 *
 * Return: does not return on success; -1 with errno set if the node refuses or the
 *         exec fails: the process is then what it was. If the move fails after the
 *         exec, the process ends with the error's low 8 bits as its status, as in
 *         BProc 4.
 * Errors: those of a move; those of execve(2) here: ENOENT, EACCES, ENOEXEC,
 *         E2BIG and so on; EPERM (a set-uid or set-gid program of another, or one
 *         with capabilities).
 * Blocks: until the node has agreed. Threads: as execve(2), which ends the others.
 * Since: 0.1. Source: bproc_execmove(3) of BProc 4; doc/move.md.
 */
int bproc_execmove(int node, const char *cmd, char *const argv[], char *const envp[]);

/**
 * bproc_vexecmove() - bproc_execmove() of a new child to each of many nodes.
 * @nnodes: number of nodes, 1 or more.
 * @nodes: their numbers. Owned by the caller.
 * @pids: receives for each the child's pid, or the negative of the error. Owned
 *        by the caller.
 * @cmd: as bproc_execmove().
 * @argv: as bproc_execmove().
 * @envp: as bproc_execmove(). The X of an entry BPROC_RANK=XXXXXXX are replaced by
 *        the index of each child.
 *
 * Return: @nnodes, whatever failed; -1 with errno set if nothing was tried.
 * Errors: EINVAL (@nnodes below 1, NULL); in @pids those of bproc_execmove() and
 *         of fork(2).
 * Blocks: until each child has been loaded, or refused. Threads: as fork(2).
 * Since: 0.1. Source: bproc_vexecmove(3) of BProc 4.
 */
int bproc_vexecmove(int nnodes, int *nodes, int *pids, const char *cmd, char *const argv[],
		    char *const envp[]);

/* -- images -------------------------------------------------------------------- */

/**
 * bproc_dump() - write an image of the calling process.
 * @fd: where to; a file, a pipe or a socket.
 * @flags: BPROC_DUMP_*: which file mappings are written as contents.
 *
 * Return: bytes written (> 0), INT_MAX if there are more; 0 in the process that
 *         bproc_undump() makes of the image; -1 with errno set.
 * Errors: EBADF (@fd is not open for writing); EINVAL (@flags); ENOTSUP (the
 *         process has something that no image can carry; bproc_errtext() names it);
 *         ENOMEM (no memory); EIO (there is no /proc); those of write(2): ENOSPC,
 *         EPIPE and so on.
 * Blocks: as write(2). Threads: the process must have one thread.
 * Since: 0.1. Source: bproc_dump(3) of BProc 4; doc/image.md.
 */
int bproc_dump(int fd, int flags);

/**
 * bproc_undump() - become the process whose image is read from a descriptor.
 * @fd: where from.
 *
 * Return: does not return on success; -1 with errno set.
 * Errors: EBADF (@fd is not open for reading); EBADMSG (not an image, or it is
 *         damaged or cut short); ENOEXEC (of another architecture or version, or of
 *         a CPU or kernel that this one is not); ESTALE (a file that it maps has
 *         changed); ENOTSUP (the caller has more than one thread); EPERM (its
 *         credentials); EBUSY (it needs addresses that are taken); ENOMEM; those
 *         of read(2) and of opening its files again: ENOENT, EACCES and so on. If
 *         an image that comes by a pipe or socket is found to be cut short when
 *         this process's memory is gone already, the process says so on
 *         descriptor 2 and exits with 127.
 * Blocks: as read(2). Threads: the process must have one thread.
 * Since: 0.1. Source: bproc_undump(3) of BProc 4; doc/image.md.
 */
int bproc_undump(int fd);

/* -- texts ---------------------------------------------------------------------- */

/**
 * bproc_strerror() - the text of an error number.
 * @err: an errno or BE_ value, or the negative of one.
 *
 * Return: a string that belongs to the library, never NULL.
 * Errors: none; errno is left as it is.
 * Blocks: no. Threads: any; for a number that has no text, as strerror(3).
 * Since: 0.1. Source: bproc_strerror(3) of BProc 4.
 */
const char *bproc_strerror(int err);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif

#endif
