/*
 * wait4() with what a child has used on all machines. The kernel has that of what stands in for
 * it here; the rest is this machine's bpinit's to say. In every process that uses the library;
 * bproc_wait4(3).
 */
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bproc.h"
#include "libbproc/api.h"
#include "libbproc/child.h"
#include "libbproc/client.h"

#define US_PER_S 1000000
#define CONTINUED 0xffff /* as a status of wait4(): WIFCONTINUED() */
#define WAIT4_OPTIONS (WNOHANG | WUNTRACED | WCONTINUED | __WNOTHREAD | __WCLONE | __WALL)

/* waitid(2), which has in the kernel one argument more than in libc. */
static int wait_id(idtype_t type, id_t id, siginfo_t *si, int options, struct rusage *ru)
{
	si->si_pid = 0;
	return (int)syscall(SYS_waitid, type, id, si, options, ru);
}

/* Of whom wait4() would tell, without waiting for it; si_pid 0: of none, with WNOHANG. */
static int peek(pid_t pid, int options, siginfo_t *ret)
{
	idtype_t type = pid == -1 ? P_ALL : pid > 0 ? P_PID : P_PGID;
	id_t id = (id_t)(pid > 0 ? pid : pid == -1 ? 0 : pid == 0 ? getpgrp() : -pid);
	int kinds = WEXITED | (options & WUNTRACED ? WSTOPPED : 0) | (options & WCONTINUED);

	return wait_id(type, id, ret, kinds | WNOWAIT | (options & ~(WUNTRACED | WCONTINUED)),
		       NULL);
}

static struct timeval sum(struct timeval here, int64_t more_us)
{
	int64_t us = (int64_t)here.tv_sec * US_PER_S + here.tv_usec + more_us;

	if (us < 0)
		us = 0;
	return (struct timeval){.tv_sec = us / US_PER_S, .tv_usec = us % US_PER_S};
}

static void add(struct rusage *ru, const struct local_used *u)
{
	if (u->what == USED_AS_IS)
		return;
	if (u->what == USED_ALL)
		*ru = (struct rusage){0};
	ru->ru_utime = sum(ru->ru_utime, u->utime_us);
	ru->ru_stime = sum(ru->ru_stime, u->stime_us);
	if (ru->ru_maxrss < (long)u->maxrss_kb)
		ru->ru_maxrss = (long)u->maxrss_kb;
}

/* Its stop or continue. As wait4(); 0: it has done something else since. */
static pid_t take_other(pid_t pid, int options, int *status, struct rusage *ru)
{
	int kinds = (options & WUNTRACED ? WSTOPPED : 0) | (options & WCONTINUED);
	siginfo_t si;

	if (wait_id(P_PID, (id_t)pid, &si, kinds | WNOHANG | (options & (__WALL | __WCLONE)), ru) <
	    0)
		return errno == ECHILD ? 0 : -1;
	if (si.si_pid == 0)
		return 0;
	if (status)
		*status = si.si_code == CLD_CONTINUED ? CONTINUED : si.si_status << 8 | 0x7f;
	return si.si_pid;
}

/* Its end: what it used is asked for while its number is still its own. Likewise. */
static pid_t take_end(pid_t pid, int options, int *status, struct rusage *ru)
{
	struct local_used used;
	int e = api_ask_pid(LOCAL_USED, pid, &used, sizeof(used));
	pid_t got;

	if (e < 0)
		return api_ret(e);
	got = wait4(pid, status, WNOHANG | (options & (__WALL | __WCLONE)), ru);
	if (got < 0)
		return errno == ECHILD ? 0 : -1;
	if (got > 0)
		add(ru, &used);
	return got;
}

pid_t bproc_wait4(pid_t pid, int *status, int options, struct rusage *ru)
{
	siginfo_t si;
	pid_t got;

	if (!ru || options & ~WAIT4_OPTIONS || pid == INT_MIN)
		return wait4(pid, status, options, ru);
	do {
		if (peek(pid, options, &si) < 0)
			return -1;
		if (si.si_pid == 0)
			return 0;
		/* 0: another thread was faster, and there may be others to wait for. */
		got = is_end(si.si_code) ? take_end(si.si_pid, options, status, ru)
					 : take_other(si.si_pid, options, status, ru);
	} while (got == 0);
	return got;
}
