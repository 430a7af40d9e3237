/*
 * bpinit of a node: the seccomp filter that asks us about the few calls whose
 * outcome reaches beyond the node (doc/local.md, section 4). It is on this process
 * itself, and so on all that we clone and all that is born of it; put there with
 * CAP_SYS_ADMIN and without no_new_privs, so set-uid programs work. The listener is
 * ours alone and we live as long as the node: a caller never waits for a bpslave
 * that has gone.
 *
 * A pid in a register cannot change while its caller waits; what is read of the
 * caller or its memory counts only if filter_is_valid() afterwards. Letting a call
 * go on is never a matter of security here: the kernel judges it then.
 */
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "slaved/bpinit_kill.h"
#include "slaved/bpinit_place.h"

#ifndef SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV /* Linux 5.19 */
#define SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV (1ul << 5)
#endif
#ifndef SECCOMP_IOCTL_NOTIF_SET_FLAGS /* Linux 6.6 */
#define SECCOMP_IOCTL_NOTIF_SET_FLAGS SECCOMP_IOW(4, __u64)
#define SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP (1ul << 0)
#endif

#define PROGRAM_MAX 160
#define CALLS_MAX 16

enum call {
	CALL_NONE,
	CALL_KILL,   /* pid, sig: a pid of ours, of anybody's, or a group */
	CALL_TKILL,  /* tid, sig */
	CALL_TGKILL, /* tgid, tid, sig */
	CALL_QUEUE,  /* pid, sig, siginfo */
	CALL_TGQUEUE,
	CALL_SETPGID,
	CALL_SETSID,
	CALL_IDENTITY,
	CALL_PRCTL,
	CALL_COUNT
};
struct known {
	uint16_t nr;
	uint16_t call;
};

static const struct known calls_64[CALLS_MAX] = {
	{SYS_kill, CALL_KILL},
	{SYS_tkill, CALL_TKILL},
	{SYS_tgkill, CALL_TGKILL},
	{SYS_rt_sigqueueinfo, CALL_QUEUE},
	{SYS_rt_tgsigqueueinfo, CALL_TGQUEUE},
	{SYS_setpgid, CALL_SETPGID},
	{SYS_setsid, CALL_SETSID},
	{SYS_setuid, CALL_IDENTITY},
	{SYS_setreuid, CALL_IDENTITY},
	{SYS_setresuid, CALL_IDENTITY},
	{SYS_setgid, CALL_IDENTITY},
	{SYS_setregid, CALL_IDENTITY},
	{SYS_setresgid, CALL_IDENTITY},
	{SYS_prctl, CALL_PRCTL},
};
/* Numbers of arch/x86/entry/syscalls/syscall_32.tbl: programs of 32 bits, the 16-bit ids too. */
static const struct known calls_32[] = {
	{37, CALL_KILL},      {238, CALL_TKILL},    {270, CALL_TGKILL},	  {178, CALL_QUEUE},
	{335, CALL_TGQUEUE},  {57, CALL_SETPGID},   {66, CALL_SETSID},  {23, CALL_IDENTITY},
	{213, CALL_IDENTITY}, {70, CALL_IDENTITY},  {203, CALL_IDENTITY}, {164, CALL_IDENTITY},
	{208, CALL_IDENTITY}, {46, CALL_IDENTITY},  {214, CALL_IDENTITY}, {71, CALL_IDENTITY},
	{204, CALL_IDENTITY}, {170, CALL_IDENTITY}, {210, CALL_IDENTITY}, {172, CALL_PRCTL},
};

/* -- the program */

/* Jumps go forward to labels, which are filled in when all is there. */
enum label { NEXT, ALLOW, ASK, ARCH_32, BLOCK, LABELS = BLOCK + CALL_COUNT };

static struct {
	struct sock_filter code[PROGRAM_MAX];
	uint8_t to[PROGRAM_MAX][2];
	uint8_t at[LABELS];
	unsigned short n;
} prog;

static void put(uint16_t code, uint32_t k, enum label yes, enum label no)
{
	prog.code[prog.n] = (struct sock_filter){.code = code, .k = k};
	prog.to[prog.n][0] = (uint8_t)yes;
	prog.to[prog.n][1] = (uint8_t)no;
	prog.n++; /* well under PROGRAM_MAX: the tables are constant */
}

static void load(size_t offset)
{
	put(BPF_LD | BPF_W | BPF_ABS, (uint32_t)offset, NEXT, NEXT);
}

#define DATA(field) offsetof(struct seccomp_data, field)

static void label(enum label l)
{
	prog.at[l] = (uint8_t)prog.n;
}

static void table(const struct known *k, size_t n)
{
	load(DATA(nr));
	for (size_t i = 0; i < n; i++)
		if (k[i].call)
			put(BPF_JMP | BPF_JEQ, k[i].nr, (enum label)(BLOCK + k[i].call), NEXT);
	put(BPF_RET, SECCOMP_RET_ALLOW, NEXT, NEXT);
}

/* Ours is allowed. */
static void mark(void)
{
	load(DATA(args[5]));
	put(BPF_JMP | BPF_JEQ, (uint32_t)CALL_MARK, NEXT, NEXT);
	prog.code[prog.n - 1].jf = 2;
	load(DATA(args[5]) + 4);
	put(BPF_JMP | BPF_JEQ, (uint32_t)((uint64_t)CALL_MARK >> 32), ALLOW, NEXT);
}

/*
 * What is born here has a number of [lo, hi), and is here, or stands in here, for as long as it
 * lives: no question of it. Nor is pid 1, which is every pid namespace's own.
 */
static void pid_block(enum call c, int32_t lo, int32_t hi)
{
	label((enum label)(BLOCK + c));
	mark();
	load(DATA(args[0]));
	if (c == CALL_TGKILL || c == CALL_TGQUEUE) {
		/* Other threads than the first have no name elsewhere, so it is one of here. */
		put(BPF_MISC | BPF_TAX, 0, NEXT, NEXT);
		load(DATA(args[1]));
		put(BPF_JMP | BPF_JEQ | BPF_X, 0, NEXT, ALLOW);
	}
	put(BPF_JMP | BPF_JEQ, 1, ALLOW, NEXT);
	put(BPF_JMP | BPF_JEQ, 0, c == CALL_KILL ? ASK : ALLOW, NEXT);
	put(BPF_JMP | BPF_JGE, 0x80000000u, c == CALL_KILL ? ASK : ALLOW, NEXT);
	put(BPF_JMP | BPF_JGE, (uint32_t)hi, ASK, NEXT);
	put(BPF_JMP | BPF_JGE, (uint32_t)lo, ALLOW, ASK);
}

static void resolve(void)
{
	for (unsigned int i = 0; i < prog.n; i++) {
		struct sock_filter *f = &prog.code[i];

		if (prog.to[i][0] != NEXT)
			f->jt = (uint8_t)(prog.at[prog.to[i][0]] - i - 1);
		if (prog.to[i][1] != NEXT)
			f->jf = (uint8_t)(prog.at[prog.to[i][1]] - i - 1);
	}
}

/*
 * Calls that are in no table are decided by their number alone; of these the kernel keeps a
 * bitmap (Linux 5.11) and does not run the program. x32 programs, which no kernel of today's
 * distributions runs, are not served.
 */
static void build(int32_t lo, int32_t hi)
{
	static const enum call pid_calls[] = {CALL_KILL, CALL_TKILL, CALL_TGKILL, CALL_QUEUE,
					      CALL_TGQUEUE};

	load(DATA(arch));
	put(BPF_JMP | BPF_JEQ, AUDIT_ARCH_X86_64, NEXT, ARCH_32);
	table(calls_64, CALLS_MAX);
	label(ARCH_32);
	put(BPF_JMP | BPF_JEQ, AUDIT_ARCH_I386, NEXT, ALLOW);
	table(calls_32, sizeof(calls_32) / sizeof(*calls_32));
	for (size_t i = 0; i < sizeof(pid_calls) / sizeof(*pid_calls); i++)
		pid_block(pid_calls[i], lo, hi);
	label((enum label)(BLOCK + CALL_PRCTL));
	load(DATA(args[0]));
	put(BPF_JMP | BPF_JEQ, PR_SET_CHILD_SUBREAPER, NEXT, ALLOW);
	label((enum label)(BLOCK + CALL_SETPGID));
	label((enum label)(BLOCK + CALL_SETSID));
	label((enum label)(BLOCK + CALL_IDENTITY));
	mark();
	label(ASK);
	put(BPF_RET, SECCOMP_RET_USER_NOTIF, NEXT, NEXT);
	label(ALLOW);
	put(BPF_RET, SECCOMP_RET_ALLOW, NEXT, NEXT);
	resolve();
}

/* -- the listener */

static int listener = -1;

static int install(void)
{
	struct sock_fprog p = {.len = prog.n, .filter = prog.code};
	/*
	 * A signal that is not fatal does not take a caller away from us once we have heard it:
	 * it would call again, and its signal be sent twice. Kernels without that do.
	 */
	static const unsigned long flags[] = {SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, 0};
	long fd = -1;

	for (size_t i = 0; i < 2 && fd < 0; i++)
		fd = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
			     flags[i] | SECCOMP_FILTER_FLAG_NEW_LISTENER |
				     SECCOMP_FILTER_FLAG_SPEC_ALLOW,
			     &p);
	return fd < 0 ? -errno : (int)fd;
}

void init_filter(const struct init_msg *m)
{
	/* Said again by a bpslave that was restarted; a filter is for life. */
	if (self.keeper || listener >= 0 || self.self != 1)
		return;
	build(m->u.lease.lo, m->u.lease.hi);
	listener = install();
	if (listener < 0) {
		say("kill() from here reaches this node only: seccomp: %s", strerror(-listener));
		return;
	}
	/* A caller and we take turns: Linux 6.6 can wake the one on the other's processor. */
	ioctl(listener, SECCOMP_IOCTL_NOTIF_SET_FLAGS, SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP);
	watch_fd(listener, ON_FILTER, 0, 0, EPOLLIN);
}

bool filter_is_valid(uint64_t id)
{
	return ioctl(listener, SECCOMP_IOCTL_NOTIF_ID_VALID, &id) == 0;
}

/* ENOENT: it was killed meanwhile, and nobody waits. */
static void send_answer(struct seccomp_notif_resp *r)
{
	if (ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, r) < 0 && errno != ENOENT)
		say("seccomp: answer to a caller: %s", strerror(errno));
}

void filter_answer(uint64_t id, int err)
{
	send_answer(&(struct seccomp_notif_resp){.id = id, .error = -err});
}

void filter_go_on(uint64_t id)
{
	send_answer(
		&(struct seccomp_notif_resp){.id = id, .flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE});
}

/* -- what is asked */

static enum call call_of(const struct seccomp_data *d)
{
	bool wide = d->arch == AUDIT_ARCH_X86_64;
	const struct known *k = wide ? calls_64 : calls_32;
	size_t n = wide ? CALLS_MAX : sizeof(calls_32) / sizeof(*calls_32);

	for (size_t i = 0; i < n; i++)
		if (k[i].nr == d->nr)
			return (enum call)k[i].call;
	return CALL_NONE;
}

/* It is done by the kernel; what came of it bpslave sees in /proc a moment later. */
static void changes(const struct seccomp_notif *n, int32_t pid, uint32_t flags)
{
	filter_go_on(n->id);
	event(&(struct init_msg){.type = EV_IDENTITY, .pid = pid, .flags = flags});
}

/* Home first, if there is anything to do. pgid -1: setsid(). */
static void moves_group(const struct seccomp_notif *n, int32_t pid, int32_t pgid)
{
	if (!group_ask(n->id, pid, pgid))
		changes(n, pid, 0);
}

static void kills(const struct seccomp_notif *n, enum call c)
{
	bool thread = c == CALL_TGKILL || c == CALL_TGQUEUE;
	int code = c == CALL_KILL			 ? SI_USER
		   : c == CALL_TKILL || c == CALL_TGKILL ? SI_TKILL
							 : SI_QUEUE;
	const __u64 *arg = n->data.args + thread;

	kill_called(&(struct kill_call){
		.notif = n->id,
		.tid = (int32_t)n->pid,
		.target = (int32_t)arg[0],
		.sig = (int32_t)arg[1],
		.code = code,
		.info = arg[2],
		.compat = n->data.arch != AUDIT_ARCH_X86_64,
	});
}

void filter_ready(void)
{
	struct seccomp_notif n = {0};
	int32_t arg;

	/* ENOENT: it was killed between its call and now. */
	if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &n) < 0)
		return;
	arg = (int32_t)n.data.args[0];
	switch (call_of(&n.data)) {
	case CALL_KILL:
	case CALL_TKILL:
	case CALL_TGKILL:
	case CALL_QUEUE:
	case CALL_TGQUEUE:
		kills(&n, call_of(&n.data));
		break;
	case CALL_SETPGID:
		if ((int32_t)n.data.args[1] < 0)
			filter_go_on(n.id); /* to fail */
		else
			moves_group(&n, arg ? arg : (int32_t)n.pid, (int32_t)n.data.args[1]);
		break;
	case CALL_SETSID:
		moves_group(&n, (int32_t)n.pid, -1);
		break;
	case CALL_PRCTL:
		changes(&n, (int32_t)n.pid, n.data.args[1] ? EVF_REAPER_ON : EVF_REAPER_OFF);
		break;
	case CALL_IDENTITY:
		changes(&n, (int32_t)n.pid, 0);
		break;
	default:
		filter_go_on(n.id);
	}
}
