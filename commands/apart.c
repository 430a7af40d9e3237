/*
 * A process that is stopped for its image has, for some 0.1 ms, registers that are not its own.
 * Who has put them there must live to take them back. Signals are blocked meanwhile; SIGKILL
 * cannot be, but it comes to the command that was typed, or to its job: so another process than
 * that does the work. Being vforked it costs no page tables, and leaves its result where it is
 * looked for.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "apart.h"

static _Noreturn void be_apart(void (*work)(void *), void *arg, pid_t with)
{
	setpgid(0, 0);
	/* Of another group than the terminal's now: to say something it need not be continued. */
	signal(SIGTTOU, SIG_IGN);
	if (with) {
		prctl(PR_SET_PDEATHSIG, SIGTERM);
		if (getppid() != with)
			_exit(1);
	}
	work(arg);
	_exit(0);
}

void run_apart(void (*work)(void *), void *arg, bool with_us)
{
	pid_t us = getpid(), pid = vfork();
	int status = 0;

	if (pid == 0)
		be_apart(work, arg, with_us ? us : 0);
	if (pid < 0) {
		work(arg);
		return;
	}
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (WIFSIGNALED(status)) {
		signal(WTERMSIG(status), SIG_DFL);
		raise(WTERMSIG(status));
	}
}
