/*
 * bpinit: signals to what is not, or not all, here, and what they ask of /proc.
 */
#pragma once

#include "slaved/bpinit.h"

/* -- bpinit_look.c */

struct look {
	int32_t pid, tgid, pgid, sid;
	uint32_t uid, euid, suid;
	bool cap_kill;
	char state; /* as in /proc/PID/stat */
	char comm[16];
};
int look_at(int32_t pid, struct look *ret); /* 0 or -errno; a thread's number will do */
/* Every process of group pgid, or every one (-1). */
void look_each(int32_t pgid, void (*fn)(const struct look *l, void *arg), void *arg);
uint64_t look_pending(int32_t pid, uint64_t *ret_blocked); /* signals, one bit each */

/* -- bpinit_filter.c, bpinit_kill.c: on a node */

struct seccomp_notif;
void init_filter(const struct init_msg *m);
void filter_ready(void);
bool filter_is_valid(uint64_t id); /* the caller waits, and is the one it was */
void filter_answer(uint64_t id, int err);
void filter_go_on(uint64_t id); /* natively */
struct kill_call {
	uint64_t notif;
	int32_t tid; /* of the caller */
	int32_t target, sig, code;
	uint64_t info; /* SI_QUEUE: address of its siginfo; compat: of a 32-bit program's */
	bool compat;
};
void kill_called(const struct kill_call *c);
void init_killed(const struct init_msg *m);
void init_kill_again(const struct init_msg *m);
void kill_forget_all(void); /* fenced: nobody waits any more */
/* What a new bpslave is told: as proc_state_msg(). */
bool kill_state_msg(uint32_t *at, struct init_msg *m);

/* -- bpinit_judge.c */

/* The rule of kill(2), as kernel/signal.c has it. */
bool may_signal(const struct init_kill *k, const struct look *to);
bool is_daemon(const struct look *l); /* one of ours: not of the cluster */
void init_kill_done(const struct init_msg *m);
void init_kill(const struct init_msg *m);

/* -- bpinit_sent.c */

void sent_by(const struct proc *by, int32_t to); /* it was told to send it a signal */
/* Have all obeyed? If not they are asked, and leave_may_go() follows when they have. */
bool sent_all(int32_t to);
bool sent_is_asked(const struct proc *by, int32_t to);
void sent_said(struct proc *by, int32_t to);
void sent_forget(const struct proc *by); /* it is not spoken to any more */
