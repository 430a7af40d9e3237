/*
 * A process that is stopped for its image has, for some 0.1 ms, registers that are not its own.
 * Who has put them there must live to take them back. Signals are blocked meanwhile; SIGKILL
 * cannot be, but it comes to the command that was typed, or to its job: so another process than
 * that does the work. Being vforked it costs no page tables, and leaves its result where it is
 * looked for.
 */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "apart.h"

/*
 * Of the two one sleeps while the other runs: both begin and are woken on the processor that is in
 * use, and not on one that has to wake up itself, which takes it 50 us in a virtual machine.
 */
static void bind_here(pid_t pid)
{
	int cpu = sched_getcpu();
	cpu_set_t here;

	CPU_ZERO(&here);
	if (cpu >= 0 && cpu < CPU_SETSIZE)
		CPU_SET(cpu, &here);
	sched_setaffinity(pid, sizeof here, &here);
}

static _Noreturn void be_apart(void (*work)(void *), void *arg, pid_t us, bool with_us,
			       const cpu_set_t *cpus)
{
	if (cpus)
		sched_setaffinity(0, sizeof *cpus, cpus);
	setpgid(0, 0);
	/* Of another group than the terminal's now: to say something it need not be continued. */
	signal(SIGTTOU, SIG_IGN);
	if (with_us) {
		prctl(PR_SET_PDEATHSIG, SIGTERM);
		if (getppid() != us)
			_exit(1);
	}
	work(arg);
	if (cpus && getppid() == us) /* it has not been killed */
		bind_here(us);
	_exit(0);
}

void run_apart(void (*work)(void *), void *arg, bool with_us)
{
	pid_t us = getpid(), pid;
	int status = 0;
	cpu_set_t all;
	const cpu_set_t *cpus = sched_getaffinity(0, sizeof all, &all) == 0 ? &all : NULL;

	if (cpus)
		bind_here(0);
	pid = vfork();
	if (pid == 0)
		be_apart(work, arg, us, with_us, cpus);
	if (cpus)
		sched_setaffinity(0, sizeof *cpus, cpus);
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
