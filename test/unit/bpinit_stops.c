/*
 * A ghost that is shown as stopped is shown to go on, by a SIGCONT that takes stops out of its
 * queue, and at that very moment it is sent a stop: its original has it, once. And it is sent a
 * SIGCONT as it is about to be shown as stopped, or when it is, also by its thread's number.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bpinit_rig.h"

#define LAPS 10

enum moment { NEVER, EARLIER, LOOKED, SENT };

struct play {
	const char *what;
	int sig[2]; /* in this order; 0: none */
	enum moment when[2];
	int told[2]; /* what its original is to have */
};

static const struct play plays[] = {
	{"nothing", {0}, {NEVER}, {0}},
	{"stopped before", {SIGSTOP}, {EARLIER}, {SIGSTOP}},
	{"stopped when looked at", {SIGSTOP}, {LOOKED}, {SIGSTOP}},
	{"stopped by a terminal's", {SIGTSTP}, {LOOKED}, {SIGSTOP}},
	{"stopped behind it", {SIGSTOP}, {SENT}, {SIGSTOP}},
	{"a terminal's behind it", {SIGTSTP}, {SENT}, {SIGTSTP}},
	{"stopped twice", {SIGSTOP, SIGTSTP}, {LOOKED, SENT}, {SIGTSTP}},
	{"continued, stopped", {SIGCONT, SIGSTOP}, {LOOKED, LOOKED}, {SIGSTOP}},
	{"stopped, continued", {SIGSTOP, SIGCONT}, {LOOKED, LOOKED}, {SIGSTOP, SIGCONT}},
	{"another signal", {SIGUSR1}, {LOOKED}, {SIGUSR1}},
};

/* Of one that is about to be shown as stopped. */
static const struct play early[] = {
	{"continued before", {SIGCONT}, {LOOKED}, {SIGCONT}},
	{"continued", {SIGCONT}, {SENT}, {SIGCONT}},
};

/* bpinit traces it. */
static int32_t tracer_of(int32_t pid)
{
	char path[64], line[128];
	int32_t tracer = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	f = fopen(path, "r");
	CHECK(f);
	while (fgets(line, sizeof(line), f))
		if (strncmp(line, "TracerPid:", 10) == 0)
			tracer = atoi(line + 10);
	fclose(f);
	CHECK(tracer > 0);
	return tracer;
}

static void act(const struct play *p, enum moment when, int32_t pid)
{
	for (int i = 0; i < 2; i++)
		if (p->sig[i] && p->when[i] == when)
			CHECK(kill(pid, p->sig[i]) == 0);
}

static void await_stop(int32_t tracee)
{
	int status;

	CHECK(waitpid(tracee, &status, __WALL) == tracee && WIFSTOPPED(status));
}

/* Is it about to send pid a SIGCONT by this call, or has it just done so? */
static bool sends(int32_t bpinit, uint64_t call, int32_t pid, bool *in)
{
	struct __ptrace_syscall_info s;
	uint64_t sig;

	CHECK(ptrace(PTRACE_GET_SYSCALL_INFO, bpinit, sizeof(s), &s) > 0);
	sig = s.entry.args[call == SYS_kill ? 1 : 2];
	if (s.op == PTRACE_SYSCALL_INFO_ENTRY)
		*in = s.entry.nr == call && (int32_t)s.entry.args[0] == pid && sig == SIGCONT;
	return *in && s.op != PTRACE_SYSCALL_INFO_NONE;
}

/* Shows what pid's original did, and is held where it sends a SIGCONT by this call. */
static void shows(const struct play *p, int32_t bpinit, uint64_t call, int32_t pid)
{
	bool in = false;

	CHECK(ptrace(PTRACE_SEIZE, bpinit, NULL, PTRACE_O_TRACESYSGOOD) == 0);
	CHECK(ptrace(PTRACE_INTERRUPT, bpinit, NULL, NULL) == 0);
	await_stop(bpinit);
	if (call == SYS_kill)
		mirror(&home, pid, CLD_CONTINUED, SIGCONT);
	else
		mirror(&home, pid, CLD_STOPPED, SIGSTOP);
	do {
		CHECK(ptrace(PTRACE_SYSCALL, bpinit, NULL, NULL) == 0);
		await_stop(bpinit);
	} while (!sends(bpinit, call, pid, &in));
	act(p, LOOKED, pid);
	CHECK(ptrace(PTRACE_SYSCALL, bpinit, NULL, NULL) == 0);
	await_stop(bpinit);
	act(p, SENT, pid);
	CHECK(ptrace(PTRACE_DETACH, bpinit, NULL, NULL) == 0);
}

/* The next that its original is to have. */
static int told(int32_t pid)
{
	struct init_msg m = want(&home, EV_SIGNAL, pid), ack = {.type = INIT_SIGNALLED};

	ack.pid = ack.u.signalled.pid = pid;
	ack.u.signalled.stream = m.u.signal.stream;
	ack.u.signalled.upto = m.u.signal.number;
	tell(&home, &ack, NULL, 0);
	return m.u.signal.sig;
}

static void are_told(const struct play *p, int32_t pid)
{
	/* The kernel gives it out behind the others. */
	CHECK(kill(pid, SIGRTMIN) == 0);
	for (int i = 0; i < 2 && p->told[i]; i++)
		CHECK(told(pid) == p->told[i]);
	CHECK(told(pid) == SIGRTMIN);
}

static void goes_on(const struct play *p, int32_t bpinit, int32_t pid)
{
	mirror(&home, pid, CLD_STOPPED, SIGSTOP);
	CHECK(WIFSTOPPED(wait_for(pid, WUNTRACED)));
	act(p, EARLIER, pid);
	shows(p, bpinit, SYS_kill, pid);
	CHECK(WIFCONTINUED(wait_for(pid, WCONTINUED)));
	are_told(p, pid);
}

/* Continued, it is told so when it is shown as stopped, and not when it goes on. */
static void stops(const struct play *p, int32_t bpinit, int32_t pid)
{
	shows(p, bpinit, SYS_tgkill, pid);
	CHECK(WIFSTOPPED(wait_for(pid, WUNTRACED)));
	for (int i = 0; i < 2 && p->told[i]; i++)
		CHECK(told(pid) == p->told[i]);
	mirror(&home, pid, CLD_CONTINUED, SIGCONT);
	CHECK(WIFCONTINUED(wait_for(pid, WCONTINUED)));
	are_told(&(struct play){.what = "nothing"}, pid);
}

static void continued_itself(int32_t pid, bool by_thread)
{
	mirror(&home, pid, CLD_STOPPED, SIGSTOP);
	CHECK(WIFSTOPPED(wait_for(pid, WUNTRACED)));
	CHECK((by_thread ? syscall(SYS_tgkill, pid, pid, SIGCONT) : kill(pid, SIGCONT)) == 0);
	CHECK(WIFCONTINUED(wait_for(pid, WCONTINUED)));
	are_told(&(struct play){.told = {SIGCONT}}, pid);
}

int main(void)
{
	struct trip t = {0};
	int32_t pid, bpinit;

	rig_start();
	pid = rig_sleeper(&t);
	await_ghost(pid);
	bpinit = tracer_of(pid);
	for (size_t i = 0; i < sizeof(plays) / sizeof(*plays); i++) {
		for (int lap = 0; lap < LAPS; lap++)
			goes_on(&plays[i], bpinit, pid);
		printf("%s: ok\n", plays[i].what);
	}
	for (int lap = 0; lap < LAPS; lap++) {
		stops(&early[lap % 2], bpinit, pid);
		continued_itself(pid, lap % 2);
	}
	printf("continued before and as it is stopped: ok\n");
	CHECK(kill(pid, SIGKILL) == 0);
	want(&home, EV_SIGNAL, pid);
	mirror(&home, pid, CLD_KILLED, SIGKILL);
	CHECK(wait_for(pid, 0) == SIGKILL);
	rig_stop();
	return 0;
}
