/*
 * A member of the family: waits for an order in the scene's memory, does it, writes
 * what came of it. Every number in an answer is replaced by the name of whose it is,
 * so that two performances can be compared.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <bproc.h>

#include "arrange.h"

bool actor_at_home;
static struct member *self;
static const char *scene_path;

static const struct {
	const char *name;
	int sig;
} signals[] = {
	{"HUP", SIGHUP},   {"INT", SIGINT},   {"QUIT", SIGQUIT}, {"ABRT", SIGABRT},
	{"KILL", SIGKILL}, {"USR1", SIGUSR1}, {"SEGV", SIGSEGV}, {"USR2", SIGUSR2},
	{"TERM", SIGTERM}, {"CHLD", SIGCHLD}, {"CONT", SIGCONT}, {"STOP", SIGSTOP},
	{"TSTP", SIGTSTP}, {"TTIN", SIGTTIN}, {"TTOU", SIGTTOU}, {"ALRM", SIGALRM},
};
#define NSIGNALS ((int)(sizeof(signals) / sizeof(signals[0])))

static int signal_of(const char *name)
{
	for (int i = 0; i < NSIGNALS; i++)
		if (strcmp(signals[i].name, name) == 0)
			return signals[i].sig;
	return atoi(name);
}

const char *signal_name(int sig)
{
	static char number[12];

	for (int i = 0; i < NSIGNALS; i++)
		if (signals[i].sig == sig)
			return signals[i].name;
	snprintf(number, sizeof(number), "%d", sig);
	return number;
}

int role_of(const char *name)
{
	const char *at = name[0] && !name[1] ? strchr(ROLE_NAMES, name[0]) : NULL;

	return at ? (int)(at - ROLE_NAMES) : -1;
}

const char *role_name(const struct scene *s, pid_t pid)
{
	static const char name[ROLE_COUNT][2] = {"T", "P", "A", "B", "C", "G"};

	for (int i = 0; i < ROLE_COUNT; i++)
		if (pid > 0 && s->member[i].pid == pid)
			return name[i];
	return pid == 1 ? "init" : pid == 0 ? "nobody" : "stranger";
}

struct scene *scene_map(const char *path)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);
	void *p = fd < 0 ? MAP_FAILED
			 : mmap(NULL, sizeof(struct scene), PROT_READ | PROT_WRITE, MAP_SHARED, fd,
				0);

	if (fd >= 0)
		close(fd);
	return p == MAP_FAILED ? NULL : p;
}

/* -- signals */

static void on_signal(int sig, siginfo_t *si, void *uc)
{
	uint32_t at = self->nlog;

	(void)uc;
	if (at == LOG_MAX)
		return;
	self->log[at] = (struct logged){.sig = sig, .code = si->si_code, .pid = si->si_pid};
	if (sig == SIGCHLD)
		self->log[at].status = si->si_status;
	self->nlog = at + 1;
}

void actor_listen(struct scene *s, int role)
{
	static const int heard[] = {SIGCHLD, SIGHUP, SIGCONT, SIGUSR1, SIGUSR2};
	struct sigaction act = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO};

	self = &s->member[role];
	sigfillset(&act.sa_mask);
	for (size_t i = 0; i < sizeof(heard) / sizeof(heard[0]); i++)
		sigaction(heard[i], &act, NULL);
}

/* -- orders */

static const char *error_name(int e)
{
	return e == ECHILD   ? "ECHILD"
	       : e == ESRCH  ? "ESRCH"
	       : e == EPERM  ? "EPERM"
	       : e == EACCES ? "EACCES"
	       : e == EINTR  ? "EINTR"
	       : e == EINVAL ? "EINVAL"
			     : strerror(e);
}

static void put_status(struct scene *s, pid_t pid, int status, char *answer)
{
	const char *who = role_name(s, pid);

	if (WIFSTOPPED(status))
		snprintf(answer, TEXT_MAX, "%s stopped %s", who, signal_name(WSTOPSIG(status)));
	else if (WIFCONTINUED(status))
		snprintf(answer, TEXT_MAX, "%s continued", who);
	else if (WIFSIGNALED(status))
		snprintf(answer, TEXT_MAX, "%s killed %s", who, signal_name(WTERMSIG(status)));
	else
		snprintf(answer, TEXT_MAX, "%s exited %d", who, WEXITSTATUS(status));
}

static int wait_options(const char *letters)
{
	int o = 0;

	for (; *letters; letters++)
		o |= *letters == 'h'   ? WNOHANG
		     : *letters == 'u' ? WUNTRACED
		     : *letters == 'c' ? WCONTINUED
		     : *letters == 'n' ? WNOWAIT
		     : *letters == 'e' ? WEXITED
				       : 0;
	return o;
}

/* any, own (the group), -X (the group that X leads), X */
static pid_t wait_whom(struct scene *s, const char *sel)
{
	if (strcmp(sel, "any") == 0)
		return -1;
	if (strcmp(sel, "own") == 0)
		return 0;
	if (sel[0] == '-')
		return -s->member[role_of(sel + 1)].pid;
	return s->member[role_of(sel)].pid;
}

static void do_wait4(struct scene *s, const char *sel, const char *letters, char *answer)
{
	int status = 0, o = wait_options(letters);
	pid_t pid;

	do {
		pid = waitpid(wait_whom(s, sel), &status, o);
	} while (pid < 0 && errno == EINTR);
	if (pid < 0)
		snprintf(answer, TEXT_MAX, "%s", error_name(errno));
	else if (pid == 0)
		snprintf(answer, TEXT_MAX, "none");
	else
		put_status(s, pid, status, answer);
}

static const char *code_name(int code)
{
	static const char *const cld[] = {"",	     "exited",	"killed",   "dumped",
					  "trapped", "stopped", "continued"};

	return code >= CLD_EXITED && code <= CLD_CONTINUED ? cld[code] : "?";
}

static void do_waitid(struct scene *s, const char *sel, const char *letters, char *answer)
{
	pid_t whom = wait_whom(s, sel);
	idtype_t type = whom == -1 ? P_ALL : whom > 0 ? P_PID : P_PGID;
	siginfo_t si;
	int r;

	do {
		memset(&si, 0, sizeof(si));
		r = waitid(type, (id_t)(whom < 0 ? -whom : whom), &si, wait_options(letters));
	} while (r < 0 && errno == EINTR);
	if (r < 0)
		snprintf(answer, TEXT_MAX, "%s", error_name(errno));
	else if (si.si_pid == 0)
		snprintf(answer, TEXT_MAX, "none");
	else
		snprintf(answer, TEXT_MAX, "%s %s %d uid %d", role_name(s, si.si_pid),
			 code_name(si.si_code), si.si_status, (int)si.si_uid);
}

static void do_ids(struct scene *s, char *answer)
{
	snprintf(answer, TEXT_MAX, "pid %s, ppid %s, pgrp %s, sid %s", role_name(s, getpid()),
		 role_name(s, getppid()), role_name(s, getpgrp()), role_name(s, getsid(0)));
}

static void do_answer(int r, char *answer)
{
	snprintf(answer, TEXT_MAX, "%s", r < 0 ? error_name(errno) : "ok");
}

static void do_kill(struct scene *s, const char *whom, const char *sig, char *answer)
{
	pid_t pid = strcmp(whom, "own") == 0   ? 0
		    : strcmp(whom, "all") == 0 ? -1
		    : whom[0] == '-'	       ? -s->member[role_of(whom + 1)].pid
					       : s->member[role_of(whom)].pid;
	int r;

	/* bproc(7): on a node a handler without SA_RESTART may come before bpinit has heard. */
	do {
		r = kill(pid, signal_of(sig));
	} while (r < 0 && errno == EINTR);
	do_answer(r, answer);
}

static void do_move(int node, char *answer)
{
	if (actor_at_home || bproc_move(node) == 0)
		snprintf(answer, TEXT_MAX, "ok");
	else
		snprintf(answer, TEXT_MAX, "move to %d: %s: %s", node, bproc_strerror(errno),
			 bproc_errtext());
}

static void do_fork(struct scene *s, int role, int node, bool far, char *answer)
{
	struct member *m = &s->member[role];
	pid_t pid;

	*m = (struct member){0};
	pid = far && !actor_at_home && bproc_currnode() != node ? bproc_rfork(node) : fork();
	if (pid == 0) {
		m->pid = getpid();
		actor_play(s, scene_path, role);
	}
	if (pid < 0) {
		snprintf(answer, TEXT_MAX, "fork: %s: %s", strerror(errno), bproc_errtext());
		return;
	}
	m->pid = pid;
	snprintf(answer, TEXT_MAX, "ok");
}

static void do_exec(int role)
{
	char name[2] = {ROLE_NAMES[role], '\0'}, home[2] = {actor_at_home ? 'h' : 'c', '\0'};
	char path[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 1);

	path[n > 0 ? n : 0] = '\0';
	execl(path, path, "--actor", scene_path, name, home, (char *)NULL);
}

static int be_user(uid_t uid)
{
	return setgroups(0, NULL) < 0 || setresgid(uid, uid, uid) < 0 ? -1
								       : setresuid(uid, uid, uid);
}

void actor_do(struct scene *s, int role, const char *order, char *answer)
{
	char verb[16] = "", a[16] = "", b[16] = "", c[16] = "";

	sscanf(order, "%15s %15s %15s %15s", verb, a, b, c);
	snprintf(answer, TEXT_MAX, "ok");
	if (strcmp(verb, "getready") == 0)
		return;
	if (strcmp(verb, "wait4") == 0)
		do_wait4(s, a, b, answer);
	else if (strcmp(verb, "waitid") == 0)
		do_waitid(s, a, b, answer);
	else if (strcmp(verb, "ids") == 0)
		do_ids(s, answer);
	else if (strcmp(verb, "kill") == 0)
		do_kill(s, a, b, answer);
	else if (strcmp(verb, "move") == 0)
		do_move(atoi(a), answer);
	else if (strcmp(verb, "fork") == 0)
		do_fork(s, role_of(a), 0, false, answer);
	else if (strcmp(verb, "rfork") == 0)
		do_fork(s, role_of(a), atoi(b), true, answer);
	else if (strcmp(verb, "setpgid") == 0)
		do_answer(setpgid(s->member[role_of(a)].pid, s->member[role_of(b)].pid), answer);
	else if (strcmp(verb, "getpgid") == 0)
		snprintf(answer, TEXT_MAX, "%s", role_name(s, getpgid(s->member[role_of(a)].pid)));
	else if (strcmp(verb, "getsid") == 0)
		snprintf(answer, TEXT_MAX, "%s", role_name(s, getsid(s->member[role_of(a)].pid)));
	else if (strcmp(verb, "setsid") == 0)
		do_answer(setsid(), answer);
	else if (strcmp(verb, "user") == 0)
		do_answer(be_user((uid_t)atoi(a)), answer);
	else if (strcmp(verb, "pdeath") == 0)
		do_answer(prctl(PR_SET_PDEATHSIG, signal_of(a)), answer);
	else if (strcmp(verb, "dfl") == 0)
		signal(signal_of(a), SIG_DFL);
	else if (strcmp(verb, "exit") == 0)
		_exit(atoi(a));
	else if (strcmp(verb, "exec") == 0)
		do_exec(role);
	else
		snprintf(answer, TEXT_MAX, "unknown order '%s'", order);
}

void actor_stage(const char *path)
{
	scene_path = path;
}

_Noreturn void actor_play(struct scene *s, const char *path, int role)
{
	struct member *m = &s->member[role];
	char order[sizeof(m->order)], answer[TEXT_MAX];

	scene_path = path;
	actor_listen(s, role);
	for (;;) {
		uint32_t at = m->answered;

		while (m->asked == at)
			syscall(SYS_futex, &m->asked, FUTEX_WAIT, at, NULL, NULL, 0);
		memcpy(order, m->order, sizeof(order));
		actor_do(s, role, order, answer);
		memcpy(m->answer, answer, sizeof(answer));
		m->answered = at + 1;
		syscall(SYS_futex, &m->answered, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
	}
}
