/*
 * A skeleton: a child of a ghost, ready to become an arrival. The ghost's original was
 * rforked from before, so another of its children is likely: the skeleton has its user's
 * credentials, the memory of the last one mapped and populated, and sleeps. To arrive is
 * then clone3() with CLONE_VM and CLONE_PARENT: the new process has the right number, the
 * right parent and warm memory at once. With CLONE_VFORK the skeleton sleeps in that call, and
 * the arrival goes first; when it has told that it runs it kills the skeleton, which so never
 * runs in memory that is the arrival's own by then. If the arrival ends before that the kernel
 * wakes the skeleton, and it ends as well.
 */
#include "ghost.h"
#include "proc.h"

#define GAP 1024u /* of the stack: the skeleton calls nothing after the clone */
#define MASK_WORDS 128

void annex_make(struct blob *b)
{
	uint64_t at = b->base - BLOB_ANNEX;

	if (b->annex)
		return;
	if (sys_mmap((void *)at, BLOB_ANNEX, PROT_READ | PROT_WRITE,
		     MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == (long)at)
		b->annex = b->low = at;
}

void annex_drop(struct blob *b)
{
	if (!b->annex)
		return;
	sys_munmap((void *)b->annex, BLOB_ANNEX);
	b->annex = b->low = 0;
}

int skeleton_ended(struct ghost *g, int pid)
{
	for (int i = 0; i < GHOST_SKELETONS; i++)
		if (g->skeleton[i] == pid) {
			g->skeleton[i] = 0;
			return 1;
		}
	return 0;
}

void skeletons_end(struct ghost *g)
{
	siginfo_t si;

	for (int i = 0; i < GHOST_SKELETONS; i++) {
		if (!g->skeleton[i])
			continue;
		sys_kill(g->skeleton[i], SIGKILL);
		while (sys_waitid(P_PID, g->skeleton[i], &si, WEXITED | __WALL, NULL) == -EINTR)
			;
		g->skeleton[i] = 0;
	}
}

/*
 * The daemons share one processor, and it began there: what comes is better made on another, at
 * the same time. Where there is no other, or none is ours, it may be made anywhere. By its parent,
 * before it has run: then the kernel only puts it into another queue.
 */
void skeleton_place(int pid)
{
	uint64_t mask[MASK_WORDS], any[MASK_WORDS];
	long n = sys_sched_getaffinity(0, sizeof mask, mask);
	int bits = 0;

	for (long i = 0; i < n / 8; i++) {
		for (uint64_t w = mask[i]; w; w &= w - 1)
			bits++;
		mask[i] = ~mask[i];
	}
	memset(any, 0xff, sizeof any);
	if (bits != 1 || sys_sched_setaffinity(pid, (size_t)n, mask) < 0)
		sys_sched_setaffinity(pid, sizeof any, any);
}

struct arrival {
	struct blob *b;
	struct chan_pkt who;
	struct made_ahead ahead;
};

/* The new process, on a stack of its own. */
static _Noreturn void arrival(struct arrival *a)
{
	struct blob *b = a->b;
	const struct chan_clone *c = &a->who.m.u.clone;

	take_place(c->pid, c->pgid, c->sid, 1);
	if (cred_finish(b, &c->cred) < 0) {
		chan_fail(b, a->who.m.move_id);
		sys_exit_group(127);
	}
	a->ahead.cred = &c->cred;
	take_in(b, a->who.m.move_id, &a->ahead);
}

/* -errno; or the arrival begins, and this process does nothing more. */
static long become(struct arrival *a)
{
	uint64_t stack = a->b->self + BLOB_STRUCT_MAX;
	uint64_t sp;
	int tid = a->who.m.u.clone.pid;
	struct clone_args ca;
	long r = __NR_clone3;

	__asm__ volatile("mov %%rsp, %0" : "=r"(sp));
	sp = (sp - GAP) & ~15ul;
	memset(&ca, 0, sizeof ca);
	ca.flags = CLONE_VM | CLONE_VFORK | CLONE_PARENT | CLONE_CLEAR_SIGHAND;
	ca.set_tid = (uint64_t)&tid;
	ca.set_tid_size = 1;
	ca.stack = stack;
	ca.stack_size = sp - stack;
	__asm__ volatile(
		"syscall\n\t"
		"test %%rax, %%rax\n\t"
		"js 2f\n\t"
		"jnz 1f\n\t"
		"mov %[arg], %%rdi\n\t"
		"call *%[begin]\n\t"
		"1: mov %[end], %%eax\n\t"
		"xor %%edi, %%edi\n\t"
		"syscall\n\t"
		"ud2\n\t"
		"2:"
		: "+a"(r)
		: "D"(&ca),
		  "S"(sizeof ca), [arg] "r"(a), [begin] "r"(arrival), [end] "i"(__NR_exit_group)
		: "rcx", "r11", "memory");
	return r;
}

_Noreturn void skeleton(struct blob *b, struct chan_pkt *who)
{
	struct blob_restore opt;
	struct arrival a;
	struct chan_msg m;
	uint64_t at = b->annex;
	long r;

	sys_prctl(PR_SET_NAME, (unsigned long)CHAN_SKELETON_NAME, 0, 0, 0);
	/* What is sent to its parent's group is not for it. */
	sys_setpgid(0, 0);
	if (!at || who->nfd < 1 ||
	    sys_mmap((void *)at, CHAN_WORD_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
		     who->fd[0], (long)who->m.stream_mask * CHAN_WORD_BYTES) != (long)at)
		sys_exit_group(127);
	close_all_but(&b->chan, 1);
	if (cred_skeleton(b, &who->m.u.clone.cred) < 0)
		sys_exit_group(127);
	memset(&opt, 0, sizeof opt);
	b->sigs_default = 1;
	a.b = b;
	memset(&a.ahead, 0, sizeof a.ahead);
	a.ahead.oom_known = (uint32_t)oom_score(&a.ahead.oom);
	a.ahead.warm = blob_restore_warm(b, &opt);
	memset(&m, 0, sizeof m);
	m.type = CHAN_WARM;
	m.u.pid = (int)sys_getpid();
	chan_send(b, &m);
	do {
		if (chan_recv(b, &a.who, 0) <= 0)
			sys_exit_group(0);
	} while (a.who.m.type != CHAN_CLONE);
	b->err.code = 0;
	b->maker = (int)sys_getpid();
	r = become(&a);
	memset(&m, 0, sizeof m);
	m.type = CHAN_CLONED;
	m.move_id = a.who.m.move_id;
	m.u.pid = a.who.m.u.clone.pid;
	m.err = (int)-r;
	chan_send(b, &m);
	sys_exit_group(1);
}
