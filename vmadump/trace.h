/*
 * A process of somebody else's, held by ptrace for as long as it takes to put the blob
 * into it or to take it out again. Library code, not installed.
 */
#pragma once

#include <signal.h>
#include <stdint.h>
#include <sys/ptrace.h>
#include <sys/types.h>

#include "vmadump/blob/blob.h"
#include "vmadump/carry.h"

/* As the kernel has them; the C libraries do not agree on their names. */
struct trace_rseq {
	uint64_t addr;
	uint32_t len, sig, flags, zero;
};
struct trace_peek {
	uint64_t off;
	uint32_t flags; /* 1: those of the process */
	int32_t nr;
};

struct task {
	pid_t tid;
	uint8_t seized, stopped;
	struct blob_regs regs;
	uint64_t mask;
	int32_t waits_in; /* number of the call that the kernel would resume, 0: none, -1: unknown
			   */
	struct trace_rseq rseq;
	uint8_t *xsave; /* malloc'd, xsave_size bytes */
	uint64_t xsave_size;
	struct blob_pending *pending; /* malloc'd */
	uint32_t npending;
};

struct trace {
	pid_t pid;
	struct task *task; /* the first is the first thread, once all are stopped */
	uint32_t n, room;
	pid_t highest;
	uint32_t group_stop;   /* the signal that the process was stopped by before, or 0 */
	unsigned long options; /* PTRACE_O_* that it is seized with, */
	int optional;	       /* if that may be: 0 otherwise */
	uint32_t stop_after;   /* a SIGSTOP came meanwhile: it is to be sent again */
	uint64_t gadget;       /* address of a system call instruction in it, 0: none */
	/* wait.c */
	int listening, heard_other;
	siginfo_t heard; /* the last SIGCHLD of another child of the caller */
	sigset_t mask_was;
	struct source *source; /* where what is restored is read from; NULL */
	struct vmad_err *err;
};

/* Fills err (which may be NULL) and errno; returns -1. */
int trace_fail(struct trace *t, int code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* As trace_fail(), with ENOTSUP and a text of the table of refusals. */
enum refusal;
int trace_refuse(struct trace *t, int why, ...);

/* Seizes and stops every thread, those included that are being made. May be called again. */
int trace_stop(struct trace *t);
/* Stops them again; all are seized still. */
int trace_interrupt(struct trace *t);
/* Registers, mask, rseq, pending signals of every thread. */
int trace_read(struct trace *t);
/* Runs every thread from where its registers are. */
int trace_continue(struct trace *t);
/* One system call by the first thread, which has all signals blocked (trace_block()); what it
 * returned, or -1 with err filled and *ret set. */
int trace_syscall(struct trace *t, long nr, const uint64_t arg[6], int64_t *ret);
/* The same by another of its threads. */
int trace_syscall_by(struct trace *t, struct task *task, long nr, const uint64_t arg[6],
		     int64_t *ret);
/* Registers of one thread, all of them: as they are in blob_regs. */
int trace_set_regs(struct trace *t, const struct task *task, const struct blob_regs *regs);
int trace_get_regs(struct trace *t, const struct task *task, struct blob_regs *ret_regs);
/* Serves what its threads report while they run: 1 it has ended, 0 it has not. */
int trace_serve(struct trace *t);
/* Lets one thread go on by PTRACE_CONT or PTRACE_SYSCALL; stops it again, registers read anew. */
int trace_resume(struct trace *t, struct task *task, int request);
int trace_stop_one(struct trace *t, struct task *task);
void trace_detach(struct trace *t);
/* One that was let go of: it is stopped by the next trace_interrupt(). */
int trace_seize(struct trace *t, struct task *task);
/* wait.c: from listen to deafen trace_pause() sleeps until one of its threads has stopped, or a
 * little, if it has been asked before. */
void trace_listen(struct trace *t);
void trace_pause(struct trace *t, unsigned tries);
void trace_deafen(struct trace *t);
/* Between the two a process has registers of ours: no signal but SIGKILL ends us there. */
void trace_shield(sigset_t *ret_was);
void trace_unshield(const sigset_t *was);
void trace_free(struct trace *t);

int trace_block(struct trace *t, const struct task *task);
int trace_write(struct trace *t, uint64_t to, const void *from, size_t n);
int trace_get(struct trace *t, uint64_t from, void *to, size_t n);

/*
 * restart.c: which call a thread waits in, and what a copy of it is to do about it. To be
 * asked it may have to run: 1 says that it has run on, and nothing read before is true.
 */
int restart_find(struct trace *t, struct task *task);
void restart_settle(const struct task *task, struct blob_regs *r);
