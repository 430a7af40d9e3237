/*
 * Do a program's seccomp filters allow what the blob does in a move? They are run, by an
 * interpreter, over the blob's table of calls (vmadump/blob/calls.h).
 */
#pragma once

#include <linux/filter.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A call as far as it is known beforehand: its number, and perhaps one argument. */
struct filter_call {
	const char *name;
	uint32_t nr;
	int32_t arg; /* the one that is known; -1: none is */
	uint64_t value;
};

enum filter_verdict {
	FILTER_ALLOWS, /* whatever the unknown arguments are */
	FILTER_ERRNO,  /* or, for some of them, an error is returned; nothing worse */
	FILTER_DENIES,
	FILTER_TOO_LONG, /* *steps are used up */
	FILTER_NOT_ONE,	 /* no program that a kernel takes */
};
/*
 * Each way through n instructions that the call may take; an instruction is a step, which is
 * taken off *steps. For any bytes whatever nothing beyond them is read.
 */
enum filter_verdict filter_run(const struct sock_filter *f, size_t n, const struct filter_call *c,
			       uint32_t *steps);

/* What a move does, and a process has, beyond what all of them do and have. */
struct filter_move {
	bool ahead, exec, locks; /* memory goes ahead or follows; bproc_rexec(); locks go along */
	bool objects, sealed;	 /* not only files, pipes and devices are open; mseal(2) */
	bool asks;		 /* it asks itself: it has a channel and a connection for that */
	bool fork;		 /* bproc_rfork() */
	bool each;		 /* its threads have said that they differ */
};
/*
 * The filters of a process, the oldest first: for each u32 flags, u32 instructions, then those
 * (vmadump/blob/filters.h). NULL, or the name of the first call of a move that they do not allow,
 * with the verdict in *ret_why.
 */
const char *filters_judge(const uint8_t *bytes, size_t len, const struct filter_move *m,
			  enum filter_verdict *ret_why);
/* The same of restart_syscall() alone. */
bool filters_restart(const uint8_t *bytes, size_t len);
