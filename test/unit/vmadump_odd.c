/*
 * What few programs do, one thing each:
 *
 *   vmadump_odd zmm ROUNDS    two threads with values of their own in all AVX-512 registers
 *   vmadump_odd int80 ROUNDS  sleeps by the kernel's 32-bit entry
 *   vmadump_odd far           is in 32-bit code
 *   vmadump_odd huge, hugefd  has hugetlb memory, mapped or as a memfd
 *   vmadump_odd secret, queue has a memfd_secret(2), a POSIX message queue, open
 *
 *   vmadump_odd storm ROUNDS  its child sends it so many signals; each comes, in order
 *   vmadump_odd nnp ROUNDS    a thread has no_new_privs and other settings, the first has not
 *   vmadump_odd ticks ROUNDS  a timer of 1 ms ticks that nobody reads before the end
 *   vmadump_odd strict N      a thread is in seccomp's strict mode, and N others sleep
 *   vmadump_odd apart N       the same, with a working directory of its own
 *
 * The first two, storm, nnp and ticks write a line a round, at last "odd ok"; the others "ready",
 * and wait. 77: this machine has no such thing.
 */
#include <fcntl.h>
#include <mqueue.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "vmadump_must.h"

#define SKIP 77
#define HUGE_PAGE (2ul << 20)
#define CALL_32_NANOSLEEP 162 /* arch/x86/entry/syscalls/syscall_32.tbl */
#define CS_32 0x23
#define SLEEP_NS 30000000

static long rounds;

/* All of zmm0 to 31 and k1 to k7 go in, the kernel is called, and all come out. */
struct wide {
	uint64_t z[32][8], k[8];
};
#define Z(n) "vmovdqu64 64*" #n "(%[in]), %%zmm" #n "\n\t"
#define Z_OUT(n) "vmovdqu64 %%zmm" #n ", 64*" #n "(%[out])\n\t"
#define K(n) "kmovq 2048+8*" #n "(%[in]), %%k" #n "\n\t"
#define K_OUT(n) "kmovq %%k" #n ", 2048+8*" #n "(%[out])\n\t"
#define EACH_8(M, a, b, c, d, e, f, g, h) M(a) M(b) M(c) M(d) M(e) M(f) M(g) M(h)
#define ALL_32(M)                                                                                  \
	EACH_8(M, 0, 1, 2, 3, 4, 5, 6, 7)                                                          \
	EACH_8(M, 8, 9, 10, 11, 12, 13, 14, 15)                                                    \
	EACH_8(M, 16, 17, 18, 19, 20, 21, 22, 23)                                                  \
	EACH_8(M, 24, 25, 26, 27, 28, 29, 30, 31)
#define ALL_K(M) M(1) M(2) M(3) M(4) M(5) M(6) M(7)

static void sleep_with(const struct wide *in, struct wide *out)
{
	const struct timespec ts = {.tv_nsec = 10000000};
	long r = SYS_nanosleep;

	__asm__ volatile(ALL_32(Z) ALL_K(K) "syscall\n\t" ALL_32(Z_OUT) ALL_K(K_OUT) "vzeroupper"
			 : "+a"(r)
			 : [in] "r"(in), [out] "r"(out), "D"(&ts), "S"(0)
			 : "rcx", "r11", "memory");
	MUST(r == 0);
}

static void wide_rounds(uint64_t seed, int says)
{
	struct wide in = {0}, out;

	for (long r = 0; r < rounds; r++) {
		uint64_t *v = &in.z[0][0];

		for (unsigned i = 0; i < 32 * 8 + 8; i++)
			v[i] = seed * (i + 1) + (uint64_t)r * 0x9e3779b97f4a7c15;
		in.k[0] = 0;
		memset(&out, 0, sizeof out);
		sleep_with(&in, &out);
		MUST(memcmp(&in, &out, sizeof in) == 0);
		if (says)
			MUST(dprintf(1, "%ld\n", r) > 0);
	}
}

static void *other(void *arg)
{
	(void)arg;
	wide_rounds(0xfedcba9876543211, 0);
	return NULL;
}

static void zmm(void)
{
	pthread_t t;

	if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw"))
		exit(SKIP);
	MUST(pthread_create(&t, NULL, other, NULL) == 0);
	wide_rounds(0x0123456789abcdef, 1);
	MUST(pthread_join(t, NULL) == 0);
}

static int32_t *low_page(int prot)
{
	int32_t *p = mmap(NULL, 4096, prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);

	MUST(p != MAP_FAILED);
	return p;
}

static long call_32(long nr, long first, long second)
{
	__asm__ volatile("int $0x80"
			 : "+a"(nr)
			 : "b"(first), "c"(second)
			 : "r8", "r9", "r10", "r11", "memory");
	return nr;
}

static int has_32(void)
{
	int status;

	if (fork() == 0) {
		call_32(20 /* getpid */, 0, 0);
		_exit(0);
	}
	return wait(&status) > 0 && status == 0;
}

static void int80(void)
{
	int32_t *ts = low_page(PROT_READ | PROT_WRITE);
	struct timespec a, b;

	ts[1] = SLEEP_NS;
	for (long r = 0; r < rounds; r++) {
		MUST(clock_gettime(CLOCK_MONOTONIC, &a) == 0);
		MUST((int)call_32(CALL_32_NANOSLEEP, (long)ts, 0) == 0);
		MUST(clock_gettime(CLOCK_MONOTONIC, &b) == 0);
		MUST((b.tv_sec - a.tv_sec) * 1000000000 + b.tv_nsec - a.tv_nsec >= SLEEP_NS);
		MUST(dprintf(1, "%ld\n", r) > 0);
	}
}

static _Noreturn void far(void)
{
	int32_t *code = low_page(PROT_READ | PROT_WRITE | PROT_EXEC);

	*code = 0xfeeb; /* jmp . */
	MUST(write(1, "ready\n", 6) == 6);
	__asm__ volatile("push %0\n\tpush %1\n\tlretq" : : "r"((long)CS_32), "r"((long)code));
	__builtin_unreachable();
}

static void open_one(const char *what)
{
	int fd = 0;

	if (strcmp(what, "huge") == 0) /* none of it is touched, so none has to be there */
		fd = mmap(NULL, HUGE_PAGE, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | MAP_NORESERVE, -1,
			  0) == MAP_FAILED
			     ? -1
			     : 0;
	else if (strcmp(what, "hugefd") == 0)
		fd = memfd_create("huge", MFD_HUGETLB);
	else if (strcmp(what, "secret") == 0)
		fd = (int)syscall(SYS_memfd_secret, 0);
	else if (strcmp(what, "queue") == 0)
		fd = mq_open("/vmadump-odd", O_WRONLY | O_CREAT, 0600, NULL);
	else
		exit(2);
	if (fd < 0)
		exit(SKIP);
	if (strcmp(what, "queue") == 0)
		mq_unlink("/vmadump-odd");
	MUST(write(1, "ready\n", 6) == 6);
	for (;;)
		pause();
}

/* -- signals, one behind the other */

static volatile sig_atomic_t came;

static void on_one(int sig, siginfo_t *info, void *uc)
{
	(void)sig;
	(void)uc;
	MUST(info->si_value.sival_int == came);
	came++;
}

static _Noreturn void send_all(int to, int all)
{
	const struct timespec nap = {.tv_nsec = 20000};

	for (int i = 0; i < all; nanosleep(&nap, NULL))
		if (sigqueue(to, SIGRTMIN + 2, (union sigval){.sival_int = i}) == 0)
			i++;
		else if (errno != EAGAIN)
			_exit(1);
	_exit(0);
}

static void storm(void)
{
	const struct sigaction a = {.sa_sigaction = on_one, .sa_flags = SA_SIGINFO | SA_RESTART};
	const int all = (int)rounds * 100, to = getpid();
	int status, child;

	MUST(sigaction(SIGRTMIN + 2, &a, NULL) == 0);
	child = fork();
	MUST(child >= 0);
	if (child == 0)
		send_all(to, all);
	/* It runs all the time: what comes is handled at once, or not at all. */
	for (int said = 0; said < rounds;)
		if (came / 100 > said)
			dprintf(1, "%d\n", said++);
	MUST(waitpid(child, &status, 0) == child && status == 0);
}

/* -- what one thread has */

static int reads_tsc(void)
{
	int v = 0;

	MUST(prctl(PR_GET_TSC, &v, 0, 0, 0) == 0);
	return v;
}

static void *nnp_other(void *arg)
{
	MUST(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
	MUST(prctl(PR_SET_TSC, PR_TSC_SIGSEGV, 0, 0, 0) == 0);
	MUST(prctl(PR_MCE_KILL, PR_MCE_KILL_SET, PR_MCE_KILL_LATE, 0, 0) == 0);
	*(volatile int *)arg = 1;
	for (;;) {
		usleep(1000);
		MUST(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1);
		MUST(reads_tsc() == PR_TSC_SIGSEGV);
		MUST(prctl(PR_MCE_KILL_GET, 0, 0, 0, 0) == PR_MCE_KILL_LATE);
	}
	return NULL;
}

static void nnp(void)
{
	volatile int there = 0;
	pthread_t t;

	MUST(pthread_create(&t, NULL, nnp_other, (void *)&there) == 0);
	while (!there)
		usleep(1000);
	for (long i = 0; i < rounds; i++) {
		dprintf(1, "%ld\n", i);
		usleep(20000);
		MUST(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 0);
		MUST(reads_tsc() == PR_TSC_ENABLE);
		MUST(prctl(PR_MCE_KILL_GET, 0, 0, 0, 0) == PR_MCE_KILL_DEFAULT);
	}
}

static void ticks(void)
{
	const struct itimerspec ms = {{0, 1000000}, {0, 1000000}};
	int fd = timerfd_create(CLOCK_MONOTONIC, 0);
	uint64_t n;

	MUST(fd >= 0 && timerfd_settime(fd, 0, &ms, NULL) == 0);
	for (long i = 0; i < rounds; i++) {
		dprintf(1, "%ld\n", i);
		usleep(20000);
	}
	MUST(read(fd, &n, sizeof n) == sizeof n && n + 10 >= (uint64_t)rounds * 20);
}

static void *sleeps(void *arg)
{
	for (;;)
		pause();
	return arg;
}

static void *has_own(void *strict)
{
	char c;

	if (strict)
		MUST(prctl(PR_SET_SECCOMP, 1, 0, 0, 0) == 0);
	else
		MUST(unshare(CLONE_FS) == 0);
	MUST(write(1, "ready\n", 6) == 6);
	for (;;)
		syscall(SYS_read, 1, &c, 0);
	return NULL;
}

static void one_of_many(int strict)
{
	pthread_t t;

	for (long i = 0; i < rounds; i++)
		MUST(pthread_create(&t, NULL, sleeps, NULL) == 0);
	MUST(pthread_create(&t, NULL, has_own, strict ? &t : NULL) == 0);
	sleeps(NULL);
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";

	rounds = argc == 3 ? atol(argv[2]) : 0;
	if ((strcmp(what, "int80") == 0 || strcmp(what, "far") == 0) && !has_32())
		return SKIP;
	if (strcmp(what, "far") == 0)
		far();
	if (strcmp(what, "zmm") == 0)
		zmm();
	else if (strcmp(what, "int80") == 0)
		int80();
	else if (strcmp(what, "storm") == 0)
		storm();
	else if (strcmp(what, "nnp") == 0)
		nnp();
	else if (strcmp(what, "ticks") == 0)
		ticks();
	else if (strcmp(what, "strict") == 0 || strcmp(what, "apart") == 0)
		one_of_many(strcmp(what, "strict") == 0);
	else
		open_one(what);
	dprintf(1, "odd ok\n");
	return 0;
}
