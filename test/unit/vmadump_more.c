/*
 * What few programs set of their memory and their descriptors.
 *
 *   vmadump_more ROUNDS	sets all of it, and looks in each round whether it is still so: a
 *line a round, at last "more ok". Two threads. vmadump_more WHAT	has one thing that cannot be
 *carried, says "ready" and waits: ldt, dispatch, notify, owner, empty, guard. 77: this machine has
 *no such thing.
 */
#include <asm/ldt.h>
#include <fcntl.h>
#include <linux/membarrier.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "vmadump_must.h"

#define SKIP 77
#define PAGE 4096ul
#define GUARD_INSTALL 102	    /* MADV_GUARD_INSTALL, Linux 6.13; to be seen since 6.15 */
#define NOEXEC_SEAL 8		    /* MFD_NOEXEC_SEAL, Linux 6.3 */
#define FUTURE_WRITE 0x10	    /* F_SEAL_FUTURE_WRITE */
#define REGISTERED (1 << 9)	    /* MEMBARRIER_CMD_GET_REGISTRATIONS, Linux 6.3 */
#define EXCEPT_ADVISED 2	    /* PR_THP_DISABLE_EXCEPT_ADVISED, Linux 6.18 */
#define DISPATCH 59		    /* PR_SET_SYSCALL_USER_DISPATCH */
#define BEST_EFFORT_3 (2 << 13 | 3) /* of ioprio_set() */

static char text[4096];
static size_t len;
static char *guarded, *mapped;
static int sealed, noexec, timer, pair[2];
static timer_t cpu;
static volatile int others_prio = -1;

static void put(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	len += (size_t)vsnprintf(text + len, sizeof text - len, fmt, ap);
	va_end(ap);
}

/* -- memory */

static char *page(void)
{
	char *p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	MUST(p != MAP_FAILED);
	return p;
}

static void set_memory(void)
{
	FILE *f = fopen("/proc/self/coredump_filter", "w");

	guarded = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	MUST(guarded != MAP_FAILED);
	memset(guarded, 'g', 4 * PAGE);
	madvise(guarded + PAGE, PAGE, GUARD_INSTALL);
	MUST(mlockall(MCL_FUTURE) == 0);
	prctl(PR_SET_THP_DISABLE, 1, EXCEPT_ADVISED, 0, 0);
	syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0);
	syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED, 0, 0);
	if (f) {
		fprintf(f, "0x7b\n");
		fclose(f);
	}
}

/* What is locked cannot be given back. */
static int is_locked(void)
{
	char *p = page();
	int locked = madvise(p, PAGE, MADV_DONTNEED) < 0;

	munmap(p, PAGE);
	return locked;
}

static int can_be_read(const char *at)
{
	int p[2], r;

	MUST(pipe(p) == 0);
	r = write(p[1], at, 1) == 1;
	close(p[0]);
	close(p[1]);
	return r;
}

static void see_memory(void)
{
	char line[32] = "";
	FILE *f = fopen("/proc/self/coredump_filter", "r");

	if (f && !fgets(line, sizeof line, f))
		line[0] = 0;
	if (f)
		fclose(f);
	put("core filter: %s\nmemory to come is locked: %d\nhuge pages: %d\n", line, is_locked(),
	    prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0));
	put("guard: %d %d %d\n", can_be_read(guarded), can_be_read(guarded + PAGE),
	    can_be_read(guarded + 2 * PAGE));
	put("barriers: %ld %ld %ld\n", syscall(SYS_membarrier, REGISTERED, 0, 0),
	    syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0),
	    syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL_EXPEDITED, 0, 0));
}

/* -- descriptors */

static void set_descriptors(void)
{
	const struct timeval soon = {.tv_sec = 3, .tv_usec = 40000};
	struct itimerspec far = {.it_value.tv_sec = time(NULL) + 100000};
	int at = 3;

	sealed = memfd_create("sealed", MFD_ALLOW_SEALING);
	MUST(sealed >= 0 && ftruncate(sealed, PAGE) == 0);
	mapped = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, sealed, 0);
	MUST(mapped != MAP_FAILED && fcntl(sealed, F_ADD_SEALS, FUTURE_WRITE | F_SEAL_SEAL) == 0);
	noexec = (int)syscall(SYS_memfd_create, "noexec", NOEXEC_SEAL);
	timer = timerfd_create(CLOCK_REALTIME, 0);
	MUST(timer >= 0 &&
	     timerfd_settime(timer, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &far, NULL) == 0);
	MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0 && write(pair[1], "abcdef", 6) == 6);
	MUST(setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &soon, sizeof soon) == 0);
	MUST(setsockopt(pair[0], SOL_SOCKET, SO_PEEK_OFF, &at, sizeof at) == 0);
	MUST(fcntl(pair[1], F_SETOWN, getpid()) == 0 && fcntl(pair[1], F_SETSIG, SIGUSR2) == 0);
	MUST(fcntl(pair[1], F_SETFL, O_ASYNC) == 0);
}

static void see_timer(void)
{
	char path[40], line[128];
	FILE *f;

	snprintf(path, sizeof path, "/proc/self/fdinfo/%d", timer);
	f = fopen(path, "r");
	while (f && fgets(line, sizeof line, f))
		if (strncmp(line, "settime", 7) == 0)
			put("%s", line);
	if (f)
		fclose(f);
}

static void see_descriptors(void)
{
	struct timeval wait = {0};
	socklen_t n = sizeof wait;
	struct stat st = {0};
	char c = 0;

	(*mapped)++;
	MUST(pread(sealed, &c, 1, 0) == 1 && c == *mapped);
	put("sealed: %x, mapped again: %d\n", fcntl(sealed, F_GET_SEALS),
	    mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, sealed, 0) != MAP_FAILED);
	if (noexec >= 0)
		MUST(fstat(noexec, &st) == 0);
	put("not to be run: %x %o\n", fcntl(noexec, F_GET_SEALS), st.st_mode);
	see_timer();
	getsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &wait, &n);
	put("it waits: %ld %ld\n", wait.tv_sec, wait.tv_usec);
	put("told: %d %d %x\n", fcntl(pair[1], F_GETOWN), fcntl(pair[1], F_GETSIG),
	    fcntl(pair[1], F_GETFL));
}

/* -- the rest */

static void *other(void *unused)
{
	MUST(syscall(SYS_ioprio_set, 1, 0, BEST_EFFORT_3) == 0);
	for (;; usleep(1000))
		others_prio = (int)syscall(SYS_ioprio_get, 1, 0);
	return unused;
}

static const char *state(void)
{
	struct itimerspec left;

	len = 0;
	see_memory();
	see_descriptors();
	others_prio = -1;
	while (others_prio < 0)
		usleep(1000);
	MUST(timer_gettime(cpu, &left) == 0);
	put("ioprio: %ld %d\ncpu time: %d\n", syscall(SYS_ioprio_get, 1, 0), others_prio,
	    left.it_value.tv_sec > 90000);
	return text;
}

static void rounds(long n)
{
	const struct itimerspec far = {.it_value.tv_sec = 100000};
	struct sigevent none = {.sigev_notify = SIGEV_NONE};
	static char first[sizeof text];
	sigset_t usr2;
	pthread_t t;
	char c = 0;

	sigemptyset(&usr2);
	sigaddset(&usr2, SIGUSR2);
	MUST(sigprocmask(SIG_BLOCK, &usr2, NULL) == 0);
	MUST(timer_create(CLOCK_PROCESS_CPUTIME_ID, &none, &cpu) == 0);
	MUST(timer_settime(cpu, 0, &far, NULL) == 0);
	set_memory();
	set_descriptors();
	MUST(pthread_create(&t, NULL, other, NULL) == 0);
	while (others_prio < 0)
		usleep(1000);
	strcpy(first, state());
	for (long i = 0; i < n; i++) {
		MUST(dprintf(1, "%ld\n", i) > 0);
		usleep(30000);
		if (strcmp(state(), first) != 0) {
			dprintf(1, "was\n%s\nis\n%s\n", first, text);
			exit(1);
		}
	}
	MUST(recv(pair[0], &c, 1, MSG_PEEK) == 1 && c == 'd');
	sigpending(&usr2);
	MUST(!sigismember(&usr2, SIGUSR2));
	MUST(write(pair[0], "x", 1) == 1);
	sigpending(&usr2);
	MUST(sigismember(&usr2, SIGUSR2));
	dprintf(1, "more ok\n");
}

/* -- what cannot be carried */

static int has_ldt(void)
{
	struct user_desc u = {.entry_number = 1, .limit = 0xfff, .seg_32bit = 1, .useable = 1};

	return syscall(SYS_modify_ldt, 1, &u, sizeof u) == 0;
}

static int has_guard(void)
{
	char *p = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	uint64_t region[3];
	/* struct pm_scan_arg of linux/fs.h: 256 is PAGE_IS_GUARD. */
	uint64_t arg[12] = {
		96,  0, (uint64_t)p, (uint64_t)p + 2 * PAGE, 0, (uint64_t)region, 1, 0, 0,
		256, 0, 256};
	int fd = open("/proc/self/pagemap", O_RDONLY);

	return madvise(p, PAGE, GUARD_INSTALL) == 0 &&
	       syscall(SYS_ioctl, fd, 0xc0606610u, arg) == 1 && close(fd) == 0;
}

static int has(const char *what)
{
	static char none;
	int fd;

	if (strcmp(what, "ldt") == 0)
		return has_ldt();
	if (strcmp(what, "guard") == 0)
		return has_guard();
	if (strcmp(what, "dispatch") == 0) /* none: dispatched are those that are told to be */
		return prctl(DISPATCH, 1, 0, 0, &none) == 0;
	if (strcmp(what, "notify") == 0)
		return (fd = open("/", O_RDONLY)) >= 0 && fcntl(fd, F_NOTIFY, DN_CREATE) == 0;
	MUST(socketpair(AF_UNIX, SOCK_DGRAM, 0, pair) == 0);
	if (strcmp(what, "owner") == 0)
		return fcntl(pair[0], F_SETOWN, getppid()) == 0;
	return strcmp(what, "empty") == 0 && write(pair[0], "", 0) == 0;
}

int main(int argc, char **argv)
{
	char *end = NULL;
	long n = argc == 2 ? strtol(argv[1], &end, 10) : -1;

	if (n < 0)
		return 2;
	if (!*end) {
		rounds(n);
		return 0;
	}
	if (!has(argv[1]))
		return SKIP;
	MUST(write(1, "ready\n", 6) == 6);
	for (;;)
		pause();
}
