/*
 * The few kernel structures that the event program reads, and of each only the
 * fields it reads. Where a field really is, libbpf learns from the running kernel's
 * BTF when it loads the program: nothing here depends on the machine that builds.
 */
#pragma once

typedef unsigned char __u8;
typedef unsigned short __u16;
typedef unsigned int __u32;
typedef unsigned long long __u64;
typedef signed char __s8;
typedef short __s16;
typedef int __s32;
typedef long long __s64;
typedef __u16 __be16;
typedef __u32 __be32;
typedef __u32 __wsum;

enum { false, true };
typedef _Bool bool;

/* include/uapi/linux/bpf.h */
enum bpf_map_type { BPF_MAP_TYPE_LRU_HASH = 9, BPF_MAP_TYPE_RINGBUF = 27 };
enum { BPF_ANY = 0 };
enum { BPF_RB_NO_WAKEUP = 1, BPF_RB_FORCE_WAKEUP = 2 };

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct ns_common {
	unsigned int inum;
};
struct pid_namespace {
	struct ns_common ns;
};
struct upid {
	int nr;
	struct pid_namespace *ns;
};
struct pid {
	unsigned int level;
	struct upid numbers[1];
};
typedef struct {
	int counter;
} atomic_t;
struct signal_struct {
	atomic_t live;
	struct pid *pids[4]; /* PID, TGID, PGID, SID: enum pid_type */
	int group_exit_code;
	unsigned int flags;
	__u64 utime, stime, cutime, cstime; /* of threads that have ended; of children */
	unsigned long long sum_sched_runtime;
	unsigned long maxrss, cmaxrss;
};
struct sched_entity {
	__u64 sum_exec_runtime;
};
typedef struct {
	unsigned int val;
} kuid_t;
typedef struct {
	unsigned int val;
} kgid_t;
struct cred {
	kuid_t uid;
	kgid_t gid;
};
struct task_struct {
	int pid, tgid;
	int exit_code;
	__u64 utime, stime;
	struct sched_entity se;
	struct task_struct *real_parent, *group_leader;
	struct pid *thread_pid;
	struct signal_struct *signal;
	const struct cred *cred;
	char comm[16];
};
struct pt_regs {
	unsigned long ip;
};
struct linux_binprm;
struct kernel_siginfo;

#pragma clang attribute pop
