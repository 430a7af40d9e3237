/*
 * What a tracer does: ghosts, whose signals are met before they act, and which show what their
 * originals do; and a program that has just been exec'd. Included by bpinit.h.
 */
#pragma once

/* -- bpinit_trace.c */

int trace_begin(struct proc *p, long options);
void trace_stopped(struct proc *p, int status);
void trace_ended(struct proc *p, int status);
/* Lets go of it, wherever it runs, then calls done. */
void trace_release(struct proc *p, void (*done)(struct proc *p));
bool is_stop(int sig);
void trace_exit(struct proc *p, int status); /* dies so, now */
void trace_tell(struct proc *p, const siginfo_t *si); /* its original is to have this signal */
void trace_unmet(struct proc *p, const void *siginfo); /* no tracer stood in front of it */
void trace_held_stop(struct proc *p); /* a SIGSTOP met before it was a ghost: its original's */
void trace_killed(struct proc *p); /* it is in its exit stop: told as a SIGKILL */
/* A stopped ghost is to read its channel; calls nest. */
void trace_wake(struct proc *p);
void trace_sleep(struct proc *p);

/* -- bpinit_mirror.c */

#define STOP_MARK SIGRTMAX /* sent in place of a mirrored stop */
void init_mirror(const struct init_msg *m);
/* Kept, in order, while it is still being made: mirror_next() goes on. */
void mirror_add(struct proc *p, int code, int status);
void mirror_next(struct proc *p);
void mirror_stop(struct proc *p); /* the one that is under way is sent, once more */

/* -- bpinit_mark.c */

bool mark_set(struct proc *p); /* false: it has one, or cannot have one */
void mark_continue(struct proc *p); /* its group stop ends, which its parent sees */
void mark_met(struct proc *p, int sig);
void mark_look(struct proc *p); /* its group stop has ended */
void mark_drop(struct proc *p); /* it is met next, if it is there */

/* -- bpinit_inject.c */

int inject_begin(struct proc *p, int chan_fd); /* 0; or -errno: not traced */
void inject_exec(struct proc *p);	       /* in PTRACE_EVENT_EXEC */
bool inject_trap(struct proc *p);	       /* a SIGTRAP: true if it was ours */
