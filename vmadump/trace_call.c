/*
 * What a stopped process is made to do: registers set, memory written, the kernel called
 * in its name. Library code; runs in whoever dumps or restores.
 */
#include <elf.h>
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmadump/trace.h"

int trace_set_regs(struct trace *t, const struct task *task, const struct blob_regs *regs)
{
	struct iovec v = {(void *)regs, sizeof *regs};

	if (ptrace(PTRACE_SETREGSET, task->tid, (void *)NT_PRSTATUS, &v) < 0)
		return trace_fail(t, errno, "the registers of thread %d: %s", task->tid,
				  strerror(errno));
	return 0;
}

int trace_get_regs(struct trace *t, const struct task *task, struct blob_regs *ret_regs)
{
	struct iovec v = {ret_regs, sizeof *ret_regs};

	if (ptrace(PTRACE_GETREGSET, task->tid, (void *)NT_PRSTATUS, &v) < 0)
		return trace_fail(t, errno, "the registers of thread %d: %s", task->tid,
				  strerror(errno));
	return 0;
}

/* Every signal that can be blocked: one that it runs into is not ours to deliver, or to lose. */
int trace_block(struct trace *t, const struct task *task)
{
	const uint64_t all = ~0ull;

	if (ptrace(PTRACE_SETSIGMASK, task->tid, (void *)sizeof all, &all) < 0)
		return trace_fail(t, errno, "thread %d: %s", task->tid, strerror(errno));
	return 0;
}

/* Is it the instruction itself that has failed? Blocked as it is, it would fail for ever. */
static int is_fault(const struct task *task, int sig)
{
	siginfo_t info;

	return (sig == SIGSEGV || sig == SIGBUS || sig == SIGILL || sig == SIGFPE) &&
	       ptrace(PTRACE_GETSIGINFO, task->tid, NULL, &info) == 0 && info.si_code > 0;
}

/*
 * Waits for both stops of one call. All signals are blocked: of those that come in between only a
 * SIGSTOP is seen, which is for later.
 */
static int wait_call(struct trace *t, struct task *task)
{
	int entered = 0;

	for (unsigned tries = 0;;) {
		int status;
		pid_t r = waitpid(task->tid, &status, __WALL | WNOHANG);

		if (r == 0) {
			trace_pause(t, tries++);
			continue;
		}
		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0 || !WIFSTOPPED(status))
			return trace_fail(t, ESRCH, "process %d has ended", t->pid);
		if (WSTOPSIG(status) == SIGTRAP && status >> 16 == 0) {
			if (entered++) {
				task->stopped = 1;
				return 0;
			}
			tries = 0;
		}
		if (status >> 16 == 0 && is_fault(task, WSTOPSIG(status))) {
			task->stopped = 1;
			return trace_fail(t, EFAULT, "process %d cannot be made to call the kernel",
					  t->pid);
		}
		if (status >> 16 == 0 && WSTOPSIG(status) == SIGSTOP)
			t->stop_after = SIGSTOP;
		ptrace(PTRACE_SYSCALL, task->tid, NULL, NULL);
	}
}

int trace_syscall(struct trace *t, long nr, const uint64_t arg[6], int64_t *ret)
{
	return trace_syscall_by(t, t->task, nr, arg, ret);
}

int trace_syscall_by(struct trace *t, struct task *task, long nr, const uint64_t arg[6],
		     int64_t *ret)
{
	struct blob_regs r = task->regs;

	*ret = -ENOSYS;
	if (!t->gadget)
		return trace_fail(t, ENOTSUP, "process %d has no vdso to call the kernel from",
				  t->pid);
	r.ip = t->gadget;
	r.ax = (uint64_t)nr;
	r.orig_ax = (uint64_t)-1; /* or the kernel restarts the call that was interrupted */
	r.di = arg[0];
	r.si = arg[1];
	r.dx = arg[2];
	r.r10 = arg[3];
	r.r8 = arg[4];
	r.r9 = arg[5];
	/*
	 * Not a step over the instruction, of one stop where these are two: for its SIGTRAP, which
	 * is blocked, the kernel sets the default action for good, and unblocks it
	 * (force_sig_info_to_task()); and one that is pending would be taken for it.
	 */
	if (trace_set_regs(t, task, &r) < 0 || trace_resume(t, task, PTRACE_SYSCALL) < 0 ||
	    wait_call(t, task) < 0)
		return -1;
	if (trace_get_regs(t, task, &r) < 0)
		return -1;
	*ret = (int64_t)r.ax;
	return 0;
}

int trace_write(struct trace *t, uint64_t to, const void *from, size_t n)
{
	struct iovec l = {(void *)from, n}, r = {(void *)to, n};

	if (process_vm_writev(t->pid, &l, 1, &r, 1, 0) != (ssize_t)n)
		return trace_fail(t, errno ? errno : EFAULT, "memory of process %d at %lx: %s",
				  t->pid, to, strerror(errno));
	return 0;
}

int trace_get(struct trace *t, uint64_t from, void *to, size_t n)
{
	struct iovec l = {to, n}, r = {(void *)from, n};

	if (process_vm_readv(t->pid, &l, 1, &r, 1, 0) != (ssize_t)n)
		return trace_fail(t, errno ? errno : EFAULT, "memory of process %d at %lx: %s",
				  t->pid, from, strerror(errno));
	return 0;
}
