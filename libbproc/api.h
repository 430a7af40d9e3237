/*
 * What the files of the API share among themselves.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/types.h>

#include "libbproc/client.h"

#define API_ARGS_MAX (1 << 20) /* bytes of the argument block of rexec */

static inline void api_freep(char **p)
{
	free(*p);
}
#define cleanup_free __attribute__((cleanup(api_freep)))

/* Number of the caller's node; 0 or -errno with the thread's text set. */
int api_currnode(int *ret_node);
int api_pidnode(int pid, int *ret_node); /* where it is real; 0 or -code */
/*
 * The same of one that is about to be stopped for a move. What it has left gives its memory back,
 * 50 ms a GiB and more, before it is a ghost: going there again it would stand still meanwhile.
 * For two seconds at most.
 */
int api_settled(int pid, int *ret_node);

/*
 * Asks for leave to move: makes the channel and begins the question on c. The
 * process's end of the channel is never 0, 1 or 2. 0 or -errno.
 */
int api_start_move(enum move_kind kind, int node, int flags, struct client *c, int *ret_chan);
/* The caller cannot go after all: says so on the channel, with the thread's last error. */
void api_tell_failure(int chan, uint64_t move_id);
/*
 * The caller leaves through the blob; hide_fd (or -1) does not go along, nor does
 * chan. 0 on the node; -errno where it was. Every signal must be blocked.
 */
/* e: its memory is still on its way here. It is waited for; then it is to be tried again. */
#define FOLLOW_NAP_MS 10
#define FOLLOW_WAIT_MS 60000
bool api_follows(int e, int pid);
/* client_again(), of a move of pid: not if its streams were cut. */
bool api_again(int e, struct client_mark *m, int pid);
int api_leave(enum move_kind kind, int flags, int chan, int hide_fd, const void *args, size_t len);

/*
 * api_threads.c: the caller leaves with all its threads; 0 on the node, -errno where it was. With
 * args it leaves as a program of the node does, and its threads end.
 */
bool api_has_threads(void);
int api_leave_threads(int node, int flags, const void *args, size_t len);

/*
 * api_filters.c: would this machine's bpslave refuse to move process pid for its seccomp filters?
 * flags: LOCAL_LOOK_*. 0, or -errno with the thread's text set.
 */
int api_look_filters(int pid, unsigned flags);
/* Or of one of all that descend from it, which the text names. */
int api_look_tree(int pid, unsigned flags);

/* api_proc.c: a question about one process, whose answer is len bytes. 0, or -errno. */
int api_ask_pid(enum local_type type, int pid, void *ret, size_t len);

/* A child that was not to be: ended and reaped, so that the caller never sees it. */
void api_reap(pid_t child);
