/*
 * The event source of a node: fork, exec, rename, exit and the freeing of processes
 * of one pid namespace, and the signals that stop and continue them, into a ring
 * that bpslave reads. Runs in the kernel. Only tp_btf programs: fentry is refused
 * by some kernels, and a probe on every system call would tax the whole machine.
 *
 * Many nodes may run on one kernel (bplab): whatever is not of our namespace is
 * left at the first test.
 */
#include "kernel.h"

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include "events.h"

#define RING_BYTES (2 << 20)
#define DYING_MAX 16384 /* processes that have ended and are not freed */

enum { PGID = 2, SID = 3 };		 /* enum pid_type, since Linux 4.19 */
enum { SIGNAL_GROUP_EXIT = 0x00000004 }; /* include/linux/sched/signal.h */

#define SEND_SIG_PRIV ((struct kernel_siginfo *)1) /* include/linux/sched/signal.h */

enum { SIG_CONT = 18, SIG_STOP = 19, SIG_TSTP = 20, SIG_TTIN = 21, SIG_TTOU = 22 };

const volatile unsigned int pidns; /* inode of the node's pid namespace */
unsigned long long dropped;	   /* records that found the ring full */
unsigned long long begun;	   /* records that have had a place in it */
unsigned int asleep;		   /* bpslave will not look by itself: wake it */

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, RING_BYTES);
} ring SEC(".maps");

/* From its end to its freeing a process has lost its number of the namespace. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, DYING_MAX);
	__type(key, int);
	__type(value, int);
} dying SEC(".maps");

/* Its number in the node's namespace; 0: it has none there. */
static __always_inline int number(struct pid *pid)
{
	unsigned int level = BPF_CORE_READ(pid, level);
	struct upid u = {};

	if (!pid || level > 32)
		return 0;
	bpf_probe_read_kernel(&u, sizeof(u),
			      (char *)__builtin_preserve_access_index(&pid->numbers[0]) +
				      level * sizeof(u));
	return BPF_CORE_READ(u.ns, ns.inum) == pidns ? u.nr : 0;
}

static __always_inline int number_of(struct task_struct *task)
{
	return number(BPF_CORE_READ(task, group_leader, thread_pid));
}

/*
 * Does our blob make this system call, in a ghost or an arrival? What it does is told
 * by itself, and a record in the middle of a move would wake bpslave for nothing.
 * (A program that puts code of its own there hides its children until the next look
 * at /proc.)
 */
static __always_inline int by_blob(void)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct pt_regs *regs = (struct pt_regs *)bpf_task_pt_regs(task);
	unsigned long ip = BPF_CORE_READ(regs, ip);

	return ip >= BLOB_LOW && ip < BLOB_HIGH;
}

static __always_inline struct event_record *begin(unsigned int type, int pid)
{
	struct event_record *r = bpf_ringbuf_reserve(&ring, sizeof(*r), 0);

	if (!r) {
		__sync_fetch_and_add(&dropped, 1);
		return 0;
	}
	__sync_fetch_and_add(&begun, 1);
	__builtin_memset(r, 0, sizeof(*r));
	r->type = type;
	r->pid = pid;
	return r;
}

/*
 * The kernel would wake a reader that has caught up for each record anew. bpslave looks by itself
 * for as long as something comes; then it says that it sleeps, and looks whether any has begun
 * since. We have counted ours before we look whether it sleeps, so one of the two sees the other.
 */
static __always_inline void end(struct event_record *r)
{
	unsigned long long flags = BPF_RB_NO_WAKEUP;

	if (*(volatile unsigned int *)&asleep) {
		asleep = 0;
		flags = BPF_RB_FORCE_WAKEUP;
	}
	bpf_ringbuf_submit(r, flags);
}

SEC("tp_btf/sched_process_fork")
int BPF_PROG(on_fork, struct task_struct *parent, struct task_struct *child)
{
	int pid = number_of(child);
	struct signal_struct *sig;
	struct event_record *r;
	const struct cred *cred;

	if (pid == 0 || child->pid != child->tgid)
		return 0;
	if (number_of(parent) <= 1 || by_blob())
		return 0; /* bpinit's ghosts, arrivals and postmen */
	r = begin(EVENT_FORK, pid);
	if (!r)
		return 0;
	sig = child->signal;
	cred = child->cred;
	r->ppid = number_of(BPF_CORE_READ(child, real_parent));
	r->pgid = number(BPF_CORE_READ(sig, pids[PGID]));
	r->sid = number(BPF_CORE_READ(sig, pids[SID]));
	r->uid = BPF_CORE_READ(cred, uid.val);
	r->gid = BPF_CORE_READ(cred, gid.val);
	BPF_CORE_READ_STR_INTO(&r->comm, child, comm);
	end(r);
	return 0;
}

static __always_inline void tell_name(unsigned int type, struct task_struct *task, const char *comm)
{
	int pid = number_of(task);
	struct event_record *r = pid > 1 ? begin(type, pid) : 0;

	if (!r)
		return;
	bpf_probe_read_kernel_str(&r->comm, sizeof(r->comm), comm);
	end(r);
}

SEC("tp_btf/sched_process_exec")
int BPF_PROG(on_exec, struct task_struct *task, int old_pid, struct linux_binprm *bprm)
{
	tell_name(EVENT_EXEC, task, task->comm);
	return 0;
}

SEC("tp_btf/task_rename")
int BPF_PROG(on_rename, struct task_struct *task, const char *comm)
{
	if (task->pid == task->tgid && !by_blob())
		tell_name(EVENT_NAME, task, comm);
	return 0;
}

/*
 * A skeleton (local.md, section 3), whose beginning was not told either: its end comes between
 * an arrival and its first instruction.
 */
static __always_inline int is_skeleton(struct task_struct *task)
{
	static const char name[] = SKELETON_NAME;
	char comm[16];

	BPF_CORE_READ_STR_INTO(&comm, task, comm);
	/* bpf_strncmp() is younger, of Linux 5.17. */
#pragma unroll
	for (unsigned int i = 0; i < sizeof(name); i++)
		if (comm[i] != name[i])
			return 0;
	return by_blob();
}

/* Of one thread, which is not in the sums of its process yet: the last one, or the first. */
static __always_inline void add_thread(struct event_record *r, struct task_struct *t)
{
	r->utime_ns += BPF_CORE_READ(t, utime);
	r->stime_ns += BPF_CORE_READ(t, stime);
	r->ran_ns += BPF_CORE_READ(t, se.sum_exec_runtime);
}

/* kernel/exit.c, wait_task_zombie() and __exit_signal(). */
static __always_inline void used(struct event_record *r, struct task_struct *task)
{
	struct signal_struct *sig = task->signal;
	unsigned long own = BPF_CORE_READ(sig, maxrss), children = BPF_CORE_READ(sig, cmaxrss);

	r->utime_ns = BPF_CORE_READ(sig, utime);
	r->stime_ns = BPF_CORE_READ(sig, stime);
	r->ran_ns = BPF_CORE_READ(sig, sum_sched_runtime);
	r->cutime_ns = BPF_CORE_READ(sig, cutime);
	r->cstime_ns = BPF_CORE_READ(sig, cstime);
	r->maxrss_pages = own > children ? own : children;
	add_thread(r, task);
	if (task->pid != task->tgid)
		add_thread(r, BPF_CORE_READ(task, group_leader));
}

SEC("tp_btf/sched_process_exit")
int BPF_PROG(on_exit, struct task_struct *task)
{
	int pid = number_of(task), tgid = task->tgid;
	struct signal_struct *sig = task->signal;
	struct event_record *r;

	/* The threads before the last one are nobody's news. */
	if (pid <= 1 || BPF_CORE_READ(sig, live.counter) != 0 || is_skeleton(task))
		return 0;
	bpf_map_update_elem(&dying, &tgid, &pid, BPF_ANY);
	r = begin(EVENT_EXIT, pid);
	if (!r)
		return 0;
	if (BPF_CORE_READ(sig, flags) & SIGNAL_GROUP_EXIT)
		r->status = BPF_CORE_READ(sig, group_exit_code);
	else
		r->status = BPF_CORE_READ(task, group_leader, exit_code);
	used(r, task);
	end(r);
	return 0;
}

SEC("tp_btf/sched_process_free")
int BPF_PROG(on_free, struct task_struct *task)
{
	int tgid = task->tgid, *pid;
	struct event_record *r;

	if (task->pid != tgid)
		return 0;
	pid = bpf_map_lookup_elem(&dying, &tgid);
	if (!pid)
		return 0;
	r = begin(EVENT_REAPED, *pid);
	bpf_map_delete_elem(&dying, &tgid);
	if (r)
		end(r);
	return 0;
}

SEC("tp_btf/signal_generate")
int BPF_PROG(on_signal, int sig, struct kernel_siginfo *info, struct task_struct *task)
{
	struct event_record *r;
	int pid;

	if (sig < SIG_CONT || sig > SIG_TTOU)
		return 0;
	pid = number_of(task);
	r = pid > 1 ? begin(EVENT_LOOK, pid) : 0;
	if (!r)
		return 0;
	r->status = sig;
	r->by_kernel = info == SEND_SIG_PRIV;
	end(r);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
