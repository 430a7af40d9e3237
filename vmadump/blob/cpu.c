/*
 * What this machine and CPU offer (struct blob_env), the xsave area, and the way
 * back into a process by rt_sigreturn. Runs in the blob. x86-64 only.
 */
#include "cpu.h"
#include "image.h"
#include "lib.h"
#include "pagemap.h"
#include "proc.h"
#include "sys.h"

#define XSAVE_LEGACY 512u
#define XSAVE_MIN 576u /* legacy area and header */
#define XSAVE_SW_BYTES 464u
#define XSAVE_LEAF 0xdu
#define XCOMP_AVX 2
#define FP_MAGIC1 0x46505853u /* asm/sigcontext.h: FP_XSTATE_MAGIC1 and 2 */
#define FP_MAGIC2 0x46505845u
#define XCOMP_TILE_DATA 18
#define REQ_XCOMP_PERM 0x1023 /* ARCH_REQ_XCOMP_PERM */

enum leaf { L1C, L1D, L7B, L7C, LEC, LED };
/*
 * The features whose instructions a program (or libc's ifuncs) may have chosen:
 * what the source has of these the target must have.
 */
static const struct {
	uint8_t leaf, bit;
	char name[14];
} features[] = {
	{L1C, 0, "sse3"},	   {L1C, 1, "pclmulqdq"},   {L1C, 9, "ssse3"},
	{L1C, 12, "fma"},	   {L1C, 13, "cx16"},	    {L1C, 19, "sse4.1"},
	{L1C, 20, "sse4.2"},	   {L1C, 22, "movbe"},	    {L1C, 23, "popcnt"},
	{L1C, 25, "aes"},	   {L1C, 26, "xsave"},	    {L1C, 28, "avx"},
	{L1C, 29, "f16c"},	   {L1C, 30, "rdrand"},	    {L1D, 15, "cmov"},
	{L1D, 23, "mmx"},	   {L1D, 25, "sse"},	    {L1D, 26, "sse2"},
	{L7B, 0, "fsgsbase"},	   {L7B, 3, "bmi1"},	    {L7B, 4, "hle"},
	{L7B, 5, "avx2"},	   {L7B, 8, "bmi2"},	    {L7B, 11, "rtm"},
	{L7B, 14, "mpx"},	   {L7B, 16, "avx512f"},    {L7B, 17, "avx512dq"},
	{L7B, 18, "rdseed"},	   {L7B, 19, "adx"},	    {L7B, 21, "avx512ifma"},
	{L7B, 23, "clflushopt"},   {L7B, 24, "clwb"},	    {L7B, 28, "avx512cd"},
	{L7B, 29, "sha"},	   {L7B, 30, "avx512bw"},   {L7B, 31, "avx512vl"},
	{L7C, 1, "avx512vbmi"},	   {L7C, 3, "pku"},	    {L7C, 5, "waitpkg"},
	{L7C, 6, "avx512vbmi2"},   {L7C, 8, "gfni"},	    {L7C, 9, "vaes"},
	{L7C, 10, "vpclmulqdq"},   {L7C, 11, "avx512vnni"}, {L7C, 12, "avx512bitalg"},
	{L7C, 14, "avx512vpopcn"}, {L7C, 22, "rdpid"},	    {L7C, 27, "movdiri"},
	{L7C, 28, "movdir64b"},	   {LEC, 0, "lahf"},	    {LEC, 5, "lzcnt"},
	{LEC, 6, "sse4a"},	   {LEC, 11, "xop"},	    {LEC, 16, "fma4"},
	{LEC, 21, "tbm"},	   {LED, 27, "rdtscp"},
};

static void cpuid(uint32_t leaf, uint32_t sub, uint32_t r[4])
{
	__asm__ volatile("cpuid"
			 : "=a"(r[0]), "=b"(r[1]), "=c"(r[2]), "=d"(r[3])
			 : "a"(leaf), "c"(sub));
}

static uint64_t xgetbv(void)
{
	uint32_t lo, hi;

	__asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
	return (uint64_t)hi << 32 | lo;
}

static int has_xsave(const struct blob_env *e)
{
	return e->cpuid[L1C] >> 27 & 1; /* OSXSAVE */
}

void cpu_fill(struct blob_env *e)
{
	uint32_t r[4], max = XSAVE_LEAF;

	if (e->cpu_known)
		return;
	cpuid(1, 0, r);
	e->cpuid[L1C] = r[2];
	e->cpuid[L1D] = r[3];
	if (!has_xsave(e)) { /* else leaf 13 is there */
		cpuid(0, 0, r);
		max = r[0];
	}
	if (max >= 7) {
		cpuid(7, 0, r);
		e->cpuid[L7B] = r[1];
		e->cpuid[L7C] = r[2];
	}
	cpuid(0x80000001u, 0, r); /* that there is long mode is said there */
	e->cpuid[LEC] = r[2];
	e->cpuid[LED] = r[3];
	e->xcr0 = has_xsave(e) ? xgetbv() : 3;
	e->cpu_known = 1;
}

/* Where those lie; asked for as they are needed, since each is a CPUID. */
static void components(struct blob_env *e, uint64_t which)
{
	uint32_t r[4];

	which &= e->xcr0;
	for (uint32_t i = 2; i < BLOB_XCOMP_MAX; i++) {
		if (!(which >> i & 1) || e->xlen[i])
			continue;
		if (i == XCOMP_AVX) { /* behind the header in every CPU: there XSAVE began */
			e->xlen[i] = 256;
			e->xoff[i] = XSAVE_MIN;
			continue;
		}
		cpuid(XSAVE_LEAF, i, r);
		e->xlen[i] = r[0];
		e->xoff[i] = r[1];
	}
}

uint32_t cpu_area(struct blob_env *e)
{
	uint32_t r[4];

	if (!e->xsave_size) {
		e->xsave_size = XSAVE_MIN;
		if (has_xsave(e)) {
			cpuid(XSAVE_LEAF, 0, r);
			e->xsave_size = r[1];
		}
	}
	return e->xsave_size;
}

static const Elf64_Dyn *vdso_dynamic(uint64_t at, uint64_t *ret_bias)
{
	const Elf64_Ehdr *eh = (void *)at;
	const Elf64_Phdr *ph = (void *)(at + eh->e_phoff);
	const Elf64_Dyn *dyn = NULL;

	*ret_bias = at;
	for (int i = 0; i < eh->e_phnum; i++) {
		if (ph[i].p_type == PT_LOAD)
			*ret_bias = at - ph[i].p_vaddr + ph[i].p_offset;
		if (ph[i].p_type == PT_DYNAMIC)
			dyn = (void *)(at + ph[i].p_offset);
	}
	return dyn;
}

/*
 * Programs keep the addresses of the vdso's functions, not its bytes, which the
 * kernel patches for the CPU it runs on: equal symbols make two vdsos equal.
 */
uint64_t vdso_sum(uint64_t at)
{
	uint64_t bias, sym = 0, str = 0, str_size = 0;
	const Elf64_Dyn *d = vdso_dynamic(at, &bias);

	for (; d && d->d_tag != DT_NULL; d++) {
		if (d->d_tag == DT_SYMTAB)
			sym = bias + d->d_un.d_ptr;
		else if (d->d_tag == DT_STRTAB)
			str = bias + d->d_un.d_ptr;
		else if (d->d_tag == DT_STRSZ)
			str_size = d->d_un.d_val;
	}
	/* Linkers put .dynstr right behind .dynsym. */
	if (!sym || str < sym || str - sym > 8192)
		return 0;
	return image_sum(1, (const uint8_t *)sym, str + str_size - sym);
}

static long fill_specials(struct blob *b)
{
	uint64_t mark = arena_mark(b);
	struct text t;
	struct map_line m;
	char *line;
	long r = text_open(b, &t, "/proc/self/maps");

	if (r < 0)
		return r;
	while ((line = text_line(&t))) {
		uint32_t kind;

		if (!map_line_parse(line, &m))
			continue;
		kind = special_kind(m.name);
		if (!kind || b->env.nspecial == BLOB_SPECIALS)
			continue;
		b->env.special[b->env.nspecial].start = m.start;
		b->env.special[b->env.nspecial].len = m.end - m.start;
		b->env.special[b->env.nspecial++].kind = kind;
	}
	text_close(&t);
	arena_release(b, mark);
	return 0;
}

long blob_env_all(struct blob *b)
{
	long r = blob_env_fill(b);

	components(&b->env, ~0ull);
	cpu_area(&b->env);
	pagemap_env(&b->env);
	return r;
}

long blob_env_fill(struct blob *b)
{
	struct blob_env *e = &b->env;
	long r = 0;

	cpu_fill(e);
	if (!e->nspecial)
		r = fill_specials(b);
	for (uint32_t i = 0; r == 0 && !e->vdso_sum && i < e->nspecial; i++)
		if (e->special[i].kind == SPECIAL_VDSO)
			e->vdso_sum = vdso_sum(e->special[i].start);
	return r;
}

uint64_t cpu_xsave_trim(struct blob_env *e, const uint8_t *xsave, uint64_t *ret_len)
{
	uint64_t bv = get64(xsave + XSAVE_LEGACY), len = XSAVE_MIN;

	components(e, bv);
	for (uint32_t i = 2; i < BLOB_XCOMP_MAX; i++)
		if (bv >> i & 1)
			len = MAX(len, e->xoff[i] + e->xlen[i]);
	*ret_len = len;
	return bv;
}

uint64_t cpu_xsave(struct blob *b)
{
	struct blob_env *e = &b->env;

	if (!b->regs_given) {
		uint32_t lo = (uint32_t)e->xcr0, hi = (uint32_t)(e->xcr0 >> 32);

		/* XSAVE leaves the rest of the header as it finds it. */
		memset(b->xsave + XSAVE_LEGACY, 0, 64);
		if (has_xsave(e)) {
			__asm__ volatile("xsave64 (%0)"
					 :
					 : "r"(b->xsave), "a"(lo), "d"(hi)
					 : "memory");
		} else {
			__asm__ volatile("fxsave64 (%0)" : : "r"(b->xsave) : "memory");
			put64(b->xsave + XSAVE_LEGACY, 3);
		}
	}
	return cpu_xsave_trim(e, b->xsave, &b->xsave_size);
}

static const char *leaf_name(uint32_t leaf)
{
	return leaf < L7B ? "CPUID 1" : leaf < LEC ? "CPUID 7" : "CPUID 80000001";
}

long cpu_check(struct blob *b, const uint8_t *need)
{
	struct blob_env *e = &b->env;
	uint64_t bv = get64(need + NEED_XSTATE_BV);

	components(e, bv);
	for (uint32_t i = 0; i < COUNT(features); i++) {
		uint32_t leaf = features[i].leaf, bit = features[i].bit;

		if (get32(need + NEED_CPUID + 4 * leaf) & ~e->cpuid[leaf] & (1u << bit))
			return blob_err_set(&b->err, ENOEXEC,
					    "the image needs CPU feature %s (%s), absent here",
					    features[i].name, leaf_name(leaf));
	}
	for (uint32_t i = 0; i < 64; i++) {
		const uint8_t *at = need + NEED_XCOMP + 8 * i;

		if (!(bv >> i & 1))
			continue;
		if (i >= BLOB_XCOMP_MAX || !(e->xcr0 >> i & 1) ||
		    (i >= 2 && (get32(at) != e->xoff[i] || get32(at + 4) != e->xlen[i])))
			return blob_err_set(&b->err, ENOEXEC,
					    "the image has xsave component %u, absent or laid out "
					    "otherwise in this CPU",
					    i);
	}
	/* Tile data is granted to a process once it asks; the restored one had asked. */
	if (bv >> XCOMP_TILE_DATA & 1) {
		long r = sys_arch_prctl(REQ_XCOMP_PERM, XCOMP_TILE_DATA);

		if (r < 0)
			return blob_err_set(&b->err, ENOEXEC, "the image needs AMX tiles: %s",
					    errno_name(r));
	}
	return 0;
}

/* What rt_sigreturn reads: struct ucontext and struct sigcontext of asm/. */
struct frame {
	uint64_t flags, link;
	uint64_t stack_sp;
	uint32_t stack_flags, stack_pad;
	uint64_t stack_size;
	uint64_t r8, r9, r10, r11, r12, r13, r14, r15, di, si, bp, bx, dx, ax, cx, sp, ip, eflags;
	uint16_t cs, gs, fs, ss;
	uint64_t err, trapno, oldmask, cr2, fpstate, reserved[8];
	uint64_t sigmask;
};
#define UC_FP_XSTATE 1
#define UC_SIGCONTEXT_SS 2
#define UC_STRICT_RESTORE_SS 4

struct cpu_state {
	const struct blob_regs *regs;
	uint8_t *xsave;
	uint64_t xsave_size, xcr0, sigmask;
};

/*
 * A system call that was interrupted begins again, as the kernel does it where no
 * handler runs: rt_sigreturn forgets that there was a call.
 */
static void restart_call(struct frame *f, const struct blob_regs *r)
{
	int64_t ret = (int64_t)r->ax;

	if ((int64_t)r->orig_ax < 0 || ret > -512 || ret < -514)
		return;
	f->ip -= 2;
	f->ax = r->orig_ax;
}

static _Noreturn void resume(const struct cpu_state *c)
{
	const struct blob_regs *r = c->regs;
	struct frame f __attribute__((aligned(16))) = {
		.flags = UC_FP_XSTATE | UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS,
		.r8 = r->r8,
		.r9 = r->r9,
		.r10 = r->r10,
		.r11 = r->r11,
		.r12 = r->r12,
		.r13 = r->r13,
		.r14 = r->r14,
		.r15 = r->r15,
		.di = r->di,
		.si = r->si,
		.bp = r->bp,
		.bx = r->bx,
		.dx = r->dx,
		.ax = r->ax,
		.cx = r->cx,
		.sp = r->sp,
		.ip = r->ip,
		.eflags = r->flags,
		.cs = (uint16_t)r->cs,
		.ss = (uint16_t)r->ss,
		.fpstate = (uint64_t)c->xsave,
		.sigmask = c->sigmask,
	};
	uint8_t *sw = c->xsave + XSAVE_SW_BYTES;
	stack_t alt = {0};

	restart_call(&f, r);
	/* The alternate stack is set already; rt_sigreturn sets it again from the frame. */
	sys_sigaltstack(NULL, &alt);
	f.stack_sp = (uint64_t)alt.ss_sp;
	f.stack_flags = alt.ss_flags & ~1u; /* SS_ONSTACK is refused on the way in */
	f.stack_size = alt.ss_size;

	memset(sw, 0, 48);
	put32(sw, FP_MAGIC1);
	put32(sw + 4, (uint32_t)c->xsave_size + 4);
	put64(sw + 8, c->xcr0);
	put32(sw + 16, (uint32_t)c->xsave_size);
	put32(c->xsave + c->xsave_size, FP_MAGIC2);
	blob_sigreturn(&f);
}

_Noreturn void blob_resume(struct blob *b)
{
	struct cpu_state c = {&b->regs, b->xsave, b->xsave_size, b->env.xcr0, b->sigmask};

	blob_release(b);
	resume(&c);
}

_Noreturn void blob_thread_resume(struct blob_thread *t)
{
	const struct blob *b = (void *)t->blob;
	struct cpu_state c = {&t->regs, t->xsave, t->xsave_size, b->env.xcr0, t->sigmask};

	resume(&c);
}

#define RSEQ_SIG 0x53053053u
#define RSEQ_MIN 32u /* the first kernel's struct rseq; libc registers at least this */

/*
 * The kernel does not tell where rseq is registered, but registering it again says
 * EBUSY for the right place and length, and EINVAL for a wrong one. libc knows the
 * part of it that is in use, which may be less than it registered.
 */
int rseq_find(struct blob *b)
{
	void *at = (void *)b->rseq_addr;
	uint8_t probe[64] __attribute__((aligned(32))) = {0};
	uint32_t len[2] = {b->rseq_len, (uint32_t)ROUND_UP(MAX(b->rseq_len, RSEQ_MIN), RSEQ_MIN)};
	long r;

	for (int i = 0; at && i < 2; i++) {
		r = sys_rseq(at, len[i], 0, b->rseq_sig);
		b->rseq_len = len[i];
		if (r == -EBUSY)
			return 0;
		if (r == 0) { /* there was none: take it back */
			sys_rseq(at, len[i], 1, b->rseq_sig);
			break;
		}
	}
	b->rseq_addr = 0;
	r = sys_rseq(probe, RSEQ_MIN, 0, RSEQ_SIG);
	if (r == 0)
		sys_rseq(probe, RSEQ_MIN, 1, RSEQ_SIG);
	return r == 0 || r == -ENOSYS ? 0 : -1;
}

void blob_rseq_off(struct blob *b)
{
	if (rseq_find(b) == 0 && b->rseq_addr)
		sys_rseq((void *)b->rseq_addr, b->rseq_len, 1, b->rseq_sig);
	b->rseq_addr = 0;
}
