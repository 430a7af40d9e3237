/*
 * A program that has set whatever a program can set of itself, and looks again and again whether
 * it is still so: after a dump and a restore it must be. It writes a line each time; a word
 * "filter" or "strict" puts a seccomp filter or strict mode on top. test: vmadump_state.sh.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define TICKS 150 /* 4 s at least: what takes it may be slow */
#define SECRET 77 /* what the filter makes of getppid() */

static char text[8192];
static size_t len;

static void put(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	len += (size_t)vsnprintf(text + len, sizeof text - len, fmt, ap);
	va_end(ap);
}

static void put_file(const char *path, const char *keys)
{
	char line[256];
	FILE *f = fopen(path, "re");

	while (f && fgets(line, sizeof line, f)) {
		char key[64];
		int n = (int)strcspn(line, ":\n");

		snprintf(key, sizeof key, "%.*s ", n < 60 ? n : 60, line);
		if (!keys || strstr(keys, key))
			put("%s", line);
	}
	if (f)
		fclose(f);
}

static const struct {
	const char *name;
	int get, by_address;
} settings[] = {
	{"parent-death signal", PR_GET_PDEATHSIG, 1},
	{"child subreaper", PR_GET_CHILD_SUBREAPER, 1},
	{"timer slack", PR_GET_TIMERSLACK, 0},
	{"no huge pages", PR_GET_THP_DISABLE, 0},
	{"keep capabilities", PR_GET_KEEPCAPS, 0},
	{"securebits", PR_GET_SECUREBITS, 0},
	{"dumpable", PR_GET_DUMPABLE, 0},
	{"time stamp counter", PR_GET_TSC, 1},
	{"broken memory", PR_MCE_KILL_GET, 0},
	{"memory is merged", 68 /* PR_GET_MEMORY_MERGE */, 0},
};

static const char *state(void)
{
	struct rlimit l;
	cpu_set_t cpus;
	char cwd[256];
	mode_t mask = umask(0);

	umask(mask);
	len = 0;
	CPU_ZERO(&cpus);
	sched_getaffinity(0, sizeof cpus, &cpus);
	put("umask: %o\npersonality: %x\nnice: %d\npolicy: %d\ncpus: %d %d\n", mask,
	    personality(0xffffffff), getpriority(PRIO_PROCESS, 0), sched_getscheduler(0),
	    CPU_COUNT(&cpus), CPU_ISSET(0, &cpus));
	for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) {
		int v = 0, at = settings[i].by_address;
		int r = prctl(settings[i].get, at ? &v : NULL, 0, 0, 0);

		put("%s: %d\n", settings[i].name, at ? v : r);
	}
	for (int i = 0; i < RLIM_NLIMITS; i++) {
		if (getrlimit((__rlimit_resource_t)i, &l) == 0)
			put("limit %d: %lu %lu\n", i, l.rlim_cur, l.rlim_max);
	}
	put("cwd: %s\noom: ", getcwd(cwd, sizeof cwd));
	put_file("/proc/self/oom_score_adj", NULL);
	put_file("/proc/self/status",
		 "Name Uid Gid Groups CapInh CapPrm CapEff CapBnd CapAmb NoNewPrivs Seccomp "
		 "Seccomp_filters SigIgn SigBlk ");
	put("parent: %s\n", syscall(SYS_getppid) < 0 && errno == SECRET ? "hidden" : "there");
	return text;
}

static void set_all(void)
{
	struct rlimit l = {1000, 2000};
	/* Version 3; then effective, permitted, inheritable, of 32 capabilities each, twice. */
	uint32_t head[2] = {0x20080522, 0}, caps[6];
	cpu_set_t one;
	FILE *f;

	CPU_ZERO(&one);
	CPU_SET(0, &one);
	umask(0137);
	personality(ADDR_NO_RANDOMIZE | ADDR_COMPAT_LAYOUT);
	setpriority(PRIO_PROCESS, 0, 7);
	sched_setscheduler(0, SCHED_BATCH, &(struct sched_param){0});
	sched_setaffinity(0, sizeof one, &one);
	setrlimit(RLIMIT_NOFILE, &l);
	setrlimit(RLIMIT_CORE, &(struct rlimit){0, 4096});
	f = fopen("/proc/self/oom_score_adj", "w");
	if (f) {
		fprintf(f, "321\n");
		fclose(f);
	}
	signal(SIGUSR2, SIG_IGN);
	prctl(PR_SET_NAME, "a state", 0, 0, 0);
	prctl(PR_SET_PDEATHSIG, SIGURG, 0, 0, 0);
	prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
	prctl(PR_SET_TIMERSLACK, 123456, 0, 0, 0);
	prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);
	prctl(PR_SET_TSC, PR_TSC_SIGSEGV, 0, 0, 0);
	prctl(PR_MCE_KILL, PR_MCE_KILL_SET, PR_MCE_KILL_EARLY, 0, 0);
	prctl(67 /* PR_SET_MEMORY_MERGE, Linux 6.4 */, 1, 0, 0, 0);
	/* Of root: SECBIT_NO_SETUID_FIXUP; CAP_SYS_BOOT, 22, is out of reach for good. */
	prctl(PR_SET_SECUREBITS, 4, 0, 0, 0);
	prctl(PR_CAPBSET_DROP, 22, 0, 0, 0);
	/* And CAP_CHOWN, 0, ambient: inheritable first. */
	syscall(SYS_capget, head, caps);
	caps[2] |= 1;
	if (syscall(SYS_capset, head, caps) == 0)
		prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, 0, 0, 0);
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
}

/* Two: the order of them is kept as well. The second allows what the first forbids. */
static void set_filter(void)
{
	struct sock_filter hide[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getppid, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | SECRET),
		/* What the blob does a lot, and this program does not any more. */
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_rt_sigreturn, 1, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_kcmp, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_filter pass[] = {BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
	struct sock_fprog a = {sizeof hide / sizeof *hide, hide}, b = {1, pass};

	if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &a) < 0 ||
	    syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &b) < 0)
		exit(2);
}

/* read, write and exit are all that is left. */
static _Noreturn void be_strict(void)
{
	prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT, 0, 0, 0);
	for (int i = 0; i < TICKS; i++) {
		char line[8] = "0\n";
		volatile unsigned long spin = 0;

		line[0] = (char)('0' + i % 10);
		if (write(1, line, 2) != 2)
			syscall(SYS_exit, 3);
		while (spin < 20000000)
			spin++;
	}
	syscall(SYS_exit, write(1, "state ok\n", 9) != 9);
	__builtin_unreachable();
}

int main(int argc, char **argv)
{
	const struct timespec tick = {.tv_nsec = 30000000};
	static char first[sizeof text];

	set_all();
	if (argc > 1 && strcmp(argv[1], "strict") == 0)
		be_strict();
	if (argc > 1)
		set_filter();
	strcpy(first, state());
	setvbuf(stdout, NULL, _IOLBF, 0);
	for (int i = 0; i < TICKS; i++) {
		printf("%d\n", i % 10);
		nanosleep(&tick, NULL);
		if (strcmp(state(), first) != 0) {
			printf("was\n%s\nis\n%s\n", first, text);
			return 1;
		}
	}
	puts("state ok");
	return 0;
}
