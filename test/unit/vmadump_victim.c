/*
 * The program that the vmadump tests dump: built plain, dynamic and static.
 *
 *   victim state FILE      sets up everything, dumps to FILE, looks that all is as
 *                          it was; the copy looks again and says "copy"
 *   victim small FILE      dumps a process that has nothing
 *   victim big FILE MIB    with that much dirty memory
 *   victim noscan FILE     as state, in a kernel without PAGEMAP_SCAN
 *   victim undump FILE     becomes the image; FILE "-" is standard input
 *   victim prefixes FILE   no prefix of the image is taken, nor one with a byte changed
 *   victim refuse WHAT     tries to dump what cannot be; prints the refusal
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vmadump.h"
#include "vmadump_victim.h"

int victim_refuse(const char *what);

static const char *image_path;

long victim_dump(void)
{
	struct vmad_err err = {0};
	int fd = open(image_path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	long r;

	MUST(fd >= 0);
	r = vmad_dump(fd, 0, &err);
	if (r < 0)
		fprintf(stderr, "vmad_dump: %s\n", err.text);
	MUST(r >= 0);
	/* The copy has no such descriptor. */
	if (r > 0)
		close(fd);
	return r;
}

static int has_avx(void)
{
	return __builtin_cpu_supports("avx");
}

long victim_dump_with_registers(void)
{
	static const char in[32] = "the upper half of a ymm register";
	static char out[32];
	unsigned mxcsr = 0x7f80, mxcsr_out = 0; /* rounding toward zero */
	unsigned mxcsr_was;
	unsigned short cw = 0x0e7f, cw_out = 0, cw_was;
	long r;

	__asm__ volatile("stmxcsr %0" : "=m"(mxcsr_was));
	__asm__ volatile("fnstcw %0" : "=m"(cw_was));
	__asm__ volatile("ldmxcsr %0" : : "m"(mxcsr));
	__asm__ volatile("fldcw %0" : : "m"(cw));
	/* No C between the loads and the stores but the dump itself. */
	if (has_avx())
		__asm__ volatile("vmovups %1, %%ymm13\n\t"
				 "vmovups %1, %%ymm15\n\t"
				 "call victim_dump\n\t"
				 "vmovups %%ymm15, %2\n\t"
				 "vxorps %%ymm13, %%ymm13, %%ymm13"
				 : "=a"(r)
				 : "m"(in), "m"(out)
				 : "rbx", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11",
				   "memory", "cc", "xmm13", "xmm15");
	else
		r = victim_dump();
	__asm__ volatile("stmxcsr %0" : "=m"(mxcsr_out));
	__asm__ volatile("fnstcw %0" : "=m"(cw_out));
	__asm__ volatile("ldmxcsr %0" : : "m"(mxcsr_was));
	__asm__ volatile("fldcw %0" : : "m"(cw_was));
	MUST(!has_avx() || memcmp(in, out, 32) == 0);
	MUST(mxcsr_out == mxcsr && cw_out == cw);
	return r;
}

static int state(void)
{
	static const struct part *const all[] = {memory_parts, signal_parts, process_parts};
	long r;

	for (unsigned i = 0; i < 3; i++)
		for (const struct part *p = all[i]; p->name; p++)
			p->set();
	r = victim_dump_with_registers();
	for (unsigned i = 0; i < 3; i++) {
		const struct part *p = all[i];

		while (p->name)
			p++;
		while (p-- > all[i])
			p->look(r == 0);
	}
	if (r == 0)
		printf("copy\n");
	return 0;
}

static int big(long mib)
{
	size_t n = (size_t)mib << 20;
	uint64_t *m = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	MUST(m != MAP_FAILED);
	for (size_t i = 0; i < n / 8; i += 64)
		m[i] = i * 0x9e3779b97f4a7c15ull + 1;
	if (victim_dump() == 0)
		printf("copy\n");
	for (size_t i = 0; i < n / 8; i += 64)
		MUST(m[i] == i * 0x9e3779b97f4a7c15ull + 1);
	return 0;
}

/* ioctl(PAGEMAP_SCAN) fails as in a kernel before 6.7. */
static void hide_pagemap_scan(void)
{
	struct sock_filter f[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_ioctl, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[1])),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0xc0606610u, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOTTY),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = {sizeof f / sizeof f[0], f};

	MUST(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
	MUST(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog) == 0);
}

static int undump(const char *path)
{
	struct vmad_err err = {0};
	int fd = strcmp(path, "-") == 0 ? dup(0) : open(path, O_RDONLY | O_CLOEXEC);

	MUST(fd >= 0);
	vmad_undump(fd, &err);
	fprintf(stderr, "vmad_undump: %s\n", err.text);
	return 3;
}

/* One try with a file of our own; nothing of this process may have changed. */
static void must_fail(int fd, int code, const char *what, size_t at)
{
	struct vmad_err err = {0};

	MUST(lseek(fd, 0, SEEK_SET) == 0);
	errno = 0;
	if (vmad_undump(fd, &err) != -1 || err.code != errno || !err.text[0] ||
	    (code && errno != code)) {
		fprintf(stderr, "%s %zu: errno %d, %s\n", what, at, errno, err.text);
		exit(1);
	}
}

static int prefixes(const char *path)
{
	static unsigned char image[1 << 20];
	int in = open(path, O_RDONLY | O_CLOEXEC), fd = memfd_create("image", MFD_CLOEXEC);
	ssize_t n = read(in, image, sizeof image);
	uint64_t sum_at = 0;

	MUST(in >= 0 && fd >= 0 && n > 8192 && n < (ssize_t)sizeof image);
	close(in);
	/* Everything up to the SUM note, which ends the notes, is guarded by it. */
	memcpy(&sum_at, image + 64 + 8, 8);
	{
		uint64_t len;

		memcpy(&len, image + 64 + 32, 8);
		sum_at += len - 28;
	}
	MUST(sum_at < (uint64_t)n);

	for (ssize_t len = 0; len < n; len += len < 9000 || len > n - 100 ? 1 : 61) {
		MUST(ftruncate(fd, 0) == 0 && pwrite(fd, image, (size_t)len, 0) == len);
		must_fail(fd, EBADMSG, "prefix", (size_t)len);
	}
	MUST(pwrite(fd, image, (size_t)n, 0) == n);
	for (uint64_t i = 0; i < sum_at; i++) {
		unsigned char c = image[i] ^ (1u << (i % 8));

		MUST(pwrite(fd, &c, 1, (off_t)i) == 1);
		must_fail(fd, 0, "changed byte", i);
		MUST(pwrite(fd, image + i, 1, (off_t)i) == 1);
	}
	return 0;
}

int main(int argc, char **argv)
{
	const char *verb = argc > 2 ? argv[1] : "";

	image_path = argc > 2 ? argv[2] : NULL;
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (strcmp(verb, "state") == 0)
		return state();
	if (strcmp(verb, "small") == 0) {
		if (victim_dump() == 0)
			printf("copy\n");
		return 0;
	}
	if (strcmp(verb, "big") == 0 && argc > 3)
		return big(atol(argv[3]));
	if (strcmp(verb, "noscan") == 0) {
		hide_pagemap_scan();
		return state();
	}
	if (strcmp(verb, "undump") == 0)
		return undump(argv[2]);
	if (strcmp(verb, "prefixes") == 0)
		return prefixes(argv[2]);
	if (strcmp(verb, "refuse") == 0)
		return victim_refuse(argv[2]);
	fprintf(stderr, "usage: see the source\n");
	return 2;
}
