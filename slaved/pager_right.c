/*
 * What a pager gives up before it looks at the first byte from the source: every capability and
 * all but a few system calls. It stays root's by number, so that a user cannot end it and have
 * zeros in place of pages.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "libbproc/sysio.h"
#include "slaved/pager.h"
#include "vmadump/blob/mark.h"

/* For want of memory others go first: whoever has this one's pages would go with it. */
static void keep_alive(void)
{
	cleanup_fd int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

	if (fd >= 0)
		write_full(fd, "-1000", 5);
}

void pager_drop_rights(void)
{
	static struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
#define ALLOWED(nr)                                                                                \
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)
		ALLOWED(SYS_read),
		ALLOWED(SYS_write),
		ALLOWED(SYS_poll),
		ALLOWED(SYS_recvmsg),
		ALLOWED(SYS_ioctl),
		ALLOWED(SYS_close),
		ALLOWED(SYS_mmap),
		ALLOWED(SYS_munmap),
		ALLOWED(SYS_mremap),
		ALLOWED(SYS_brk),
		ALLOWED(SYS_clock_gettime),
		ALLOWED(SYS_futex),
		ALLOWED(SYS_madvise),
		ALLOWED(SYS_exit_group),
		ALLOWED(SYS_exit),
		ALLOWED(SYS_restart_syscall),
		ALLOWED(SYS_rt_sigreturn),
#undef ALLOWED
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
	};
	struct sock_fprog prog = {sizeof(code) / sizeof(*code), code};
	struct __user_cap_header_struct head = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct none[2] = {{0}};

	syscall(SYS_prctl, PR_SET_NAME, PAGER_NAME, 0, 0, 0, CALL_MARK);
	keep_alive();
	/* CALL_MARK: on a node bpinit, which we come from, has a filter that would ask it. */
	syscall(SYS_prctl, PR_SET_DUMPABLE, 0, 0, 0, 0, CALL_MARK);
	syscall(SYS_capset, &head, none);
	syscall(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, CALL_MARK);
	syscall(SYS_prctl, PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog, 0, 0, CALL_MARK);
}
