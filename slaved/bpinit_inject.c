/*
 * bpinit: execmove. The asker execs under our trace; before the new program's first
 * instruction, its dynamic loader's included, the blob is put into it and started
 * with the verb to leave. So the loader runs where the program will run, and what
 * has to travel is little more than a stack.
 *
 *	1 PTRACE_EVENT_EXEC: "mmap; mmap; int3" in place of the first instructions
 *	2 that int3: write the blob's data, with the registers of 1, and jump into it
 */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <unistd.h>

#include "slaved/bpinit.h"
#include "vmadump/carry.h"

/*
 * Room for the blob, then the blob's bytes over the first part of it: of a file that all ghosts of
 * this machine share. If the second fails they are written, as 32 pages of its own.
 *
 * b8 9 0 0 0   mov $SYS_mmap,%eax   the exec under way would overwrite a register of ours
 * 0f 05        syscall
 * 48 39 f8     cmp %rdi,%rax
 * 75 12        jne 1f
 * 89 de        mov %ebx,%esi        its length
 * 44 89 ea     mov %r13d,%edx       its protection
 * 41 89 ea     mov %ebp,%r10d       its flags
 * 4d 89 e0     mov %r12,%r8         its descriptor
 * b8 9 0 0 0   mov $SYS_mmap,%eax
 * 0f 05        syscall
 * cc        1: int3
 */
static const union {
	uint8_t byte[INJECT_WORDS * 8];
	uint64_t word[INJECT_WORDS];
} mmap_code = {{0xb8, SYS_mmap, 0,	  0,	0,    0x0f, 0x05, 0x48, 0x39, 0xf8, 0x75,
		0x12, 0x89,	0xde,	  0x44, 0x89, 0xea, 0x41, 0x89, 0xea, 0x4d, 0x89,
		0xe0, 0xb8,	SYS_mmap, 0,	0,    0,    0x0f, 0x05, 0xcc}};
#define MMAP_CODE_LEN 31

_Static_assert(sizeof(struct blob_regs) == sizeof(struct user_regs_struct), "same registers");

static int open_proc(const struct proc *p, const char *what, int flags)
{
	char path[48];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/%s", p->pid, what);
	fd = open(path, flags | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

static void fail(struct proc *p, int err, const char *what)
{
	leave_inject_failed(p, err > 0 ? err : EIO, what);
	ptrace(PTRACE_CONT, p->pid, NULL, NULL);
}

static long get_regs(struct proc *p, struct blob_regs *r)
{
	return ptrace(PTRACE_GETREGS, p->pid, NULL, r);
}

static long set_regs(struct proc *p, struct blob_regs *r)
{
	return ptrace(PTRACE_SETREGS, p->pid, NULL, r);
}

int inject_begin(struct proc *p, int chan_fd)
{
	p->inject = INJECT_EXEC;
	p->inject_chan = chan_fd;
	return 0;
}

static long peek(struct proc *p, uint64_t at, uint64_t words[INJECT_WORDS])
{
	for (uint64_t i = 0; i < INJECT_WORDS; i++) {
		errno = 0;
		words[i] = (uint64_t)ptrace(PTRACE_PEEKTEXT, p->pid, (void *)(at + i * 8), NULL);
		if (errno)
			return -errno;
	}
	return 0;
}

/* POKETEXT writes into private pages whatever their protection. */
static long poke(struct proc *p, uint64_t at, const uint64_t words[INJECT_WORDS])
{
	for (uint64_t i = 0; i < INJECT_WORDS; i++)
		if (ptrace(PTRACE_POKETEXT, p->pid, (void *)(at + i * 8), (void *)words[i]) < 0)
			return -errno;
	return 0;
}

static void run_mmap(struct proc *p, unsigned int try)
{
	struct blob_regs r = p->inject_regs;

	r.di = BLOB_ADDR + try * BLOB_APART;
	r.si = BLOB_SIZE;
	/* Its own later pages are r-x and rw-; one call here for a few milliseconds. */
	r.dx = PROT_READ | PROT_WRITE | PROT_EXEC;
	r.r10 = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE;
	r.r8 = (uint64_t)-1;
	r.r9 = 0;
	r.bx = BLOB_CODE_MAX;
	r.r13 = PROT_READ | PROT_EXEC;
	r.bp = MAP_PRIVATE | MAP_FIXED;
	r.r12 = (uint64_t)p->inject_code;
	set_regs(p, &r);
	p->inject = INJECT_MMAP + (int)try;
	ptrace(PTRACE_CONT, p->pid, NULL, NULL);
}

void inject_exec(struct proc *p)
{
	struct blob_regs *r = &p->inject_regs;

	if (p->inject != INJECT_EXEC) {
		ptrace(PTRACE_CONT, p->pid, NULL, NULL);
		return;
	}
	/* We trace it, so it has got them; and who has asked holds the channel that the blob in it
	 * would take orders from. It has not run yet, and does not. */
	if (exec_has_raised(p->pid)) {
		own_kill(p->pid, SIGKILL);
		fail(p, EPERM, "a set-uid program, or one with capabilities, cannot move");
		return;
	}
	if (get_regs(p, r) < 0 || peek(p, r->ip, p->inject_saved) < 0 ||
	    poke(p, r->ip, mmap_code.word) < 0) {
		fail(p, ENOEXEC, "the new program cannot be stopped at its start");
		return;
	}
	r->ax = 0; /* what the exec returns into it */
	r->orig_ax = (uint64_t)-1;
	run_mmap(p, 0);
}

static int get_xsave(struct proc *p, struct blob *b)
{
	struct iovec v = {b->xsave, sizeof(b->xsave)};

	if (ptrace(PTRACE_GETREGSET, p->pid, (void *)NT_X86_XSTATE, &v) < 0)
		return -errno;
	b->xsave_size = v.iov_len;
	return 0;
}

/* The fixed part of struct blob as vmad_blob_map() would fill it in that process. */
static int fill(struct proc *p, struct blob *b, uint64_t base)
{
	struct __ptrace_rseq_configuration rs = {0};
	struct move *m = move_of(p);

	*b = (struct blob){
		.magic = BLOB_MAGIC,
		.base = base,
		.self = base + BLOB_CODE_MAX,
		.verb = BLOB_LEAVE,
		.chan = p->inject_chan,
		.fd = -1,
		.regs_given = 1,
		.exec_kind = MOVE_EXECMOVE,
		.dump_flags = m ? m->dump_flags : 0,
		.hide_fd = {p->inject_chan, -1, -1, -1},
		.close_fd = p->inject_code > 0 ? (uint32_t)p->inject_code : 0,
		.regs = p->inject_regs,
		.env = self.blob->env,
	};
	b->env.nspecial = 0; /* its vdso lies elsewhere than ours */
	if (ptrace(PTRACE_GET_RSEQ_CONFIGURATION, p->pid, (void *)sizeof(rs), &rs) > 0) {
		b->rseq_addr = rs.rseq_abi_pointer;
		b->rseq_len = rs.rseq_abi_size;
		b->rseq_sig = rs.signature;
	}
	return get_xsave(p, b);
}

static int put(int mem, const void *from, size_t len, uint64_t at)
{
	ssize_t n = pwrite(mem, from, len, (off_t)at);

	return n == (ssize_t)len ? 0 : n < 0 ? -errno : -EIO;
}

static int put_blob(struct proc *p, uint64_t base, const struct cpu_mask *cpu)
{
	static struct blob b;
	cleanup_fd int mem = open_proc(p, "mem", O_RDWR);
	size_t len;
	const void *code = vmad_blob_bytes(&len);
	int e = fill(p, &b, base);

	if (e < 0)
		return e;
	if (mem < 0)
		return mem;
	_Static_assert(sizeof(b.cpus) == sizeof(cpu->was), "the same mask");
	if (cpu->set) {
		b.cpus_len = sizeof(b.cpus);
		memcpy(b.cpus, &cpu->was, sizeof(b.cpus));
	}
	if (!p->inject_shares)
		e = put(mem, code, len, base);
	return e < 0 ? e : put(mem, &b, sizeof(b), b.self);
}

static void start_blob(struct proc *p, uint64_t base)
{
	struct blob_regs r = p->inject_regs;
	/* From here on it parks by itself. Its order comes while it makes its image, which is
	 * what takes longest: here it would wait for the daemons. It takes its own mask back
	 * first of all: if that were done here, its image could have read the narrow one. */
	struct cpu_mask mask = cpu_woken_away(p->pid);
	int e = put_blob(p, base, &mask);

	if (e < 0) {
		cpu_back(p->pid, &mask);
		set_regs(p, &p->inject_regs);
		fail(p, -e, "the blob cannot be written into the new program");
		return;
	}
	r.ip = base;
	r.di = base + BLOB_CODE_MAX;
	r.ax = 0;
	r.orig_ax = (uint64_t)-1;
	set_regs(p, &r);
	ptrace(PTRACE_CONT, p->pid, NULL, NULL);
	leave_injected(p);
}

bool inject_trap(struct proc *p)
{
	unsigned int try = (unsigned int)(p->inject - INJECT_MMAP) + 1;
	struct blob_regs r;

	if (p->inject < INJECT_MMAP || get_regs(p, &r) < 0 ||
	    r.ip != p->inject_regs.ip + MMAP_CODE_LEN)
		return false;
	if (r.si == BLOB_SIZE && r.ax == (uint64_t)-EEXIST && try < BLOB_TRIES) {
		run_mmap(p, try);
		return true;
	}
	poke(p, p->inject_regs.ip, p->inject_saved);
	if (r.si == BLOB_SIZE) {
		set_regs(p, &p->inject_regs);
		fail(p, (int)-r.ax, "no room for the blob in the new program");
		return true;
	}
	p->inject_shares = r.ax == r.di;
	start_blob(p, r.di);
	return true;
}
