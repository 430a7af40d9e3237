/*
 * Proves: what a process is does not change when it moves. Home, node 0, node 1,
 * home: after each step memory of every kind, registers, signals, timers, files,
 * limits and names are what they were. Runs on a lab of 2 nodes.
 */
#include <fcntl.h>
#include <fenv.h>
#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/time.h>

#include "check.h"

static __thread int in_tls = 1234;
static volatile sig_atomic_t got_usr1, got_alarm, on_alt;
static char alt_stack[65536] __attribute__((aligned(16)));

struct before {
	pid_t pid, ppid, pgid, sid;
	char *heap, *anon, *shared, *file, *ro, *none;
	void *brk;
	int fd;
	off_t offset;
	char cwd[256];
	double fpu;
};

static void on_usr1(int sig)
{
	char here;

	(void)sig;
	got_usr1++;
	on_alt = &here >= alt_stack && &here < alt_stack + sizeof(alt_stack);
}

static void on_alarm(int sig)
{
	(void)sig;
	got_alarm++;
}

static void make_memory(struct before *b)
{
	int fd = open("/etc/passwd", O_RDONLY);

	b->heap = malloc(3 << 20);
	memset(b->heap, 'h', 3 << 20);
	b->anon = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	b->anon[4096 * 17] = 'a'; /* the other pages are never touched */
	b->shared = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	strcpy(b->shared, "shared");
	b->file = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	b->file[0] = '#';
	b->ro = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	strcpy(b->ro + 4096, "read only");
	mprotect(b->ro, 8192, PROT_READ);
	b->none = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	close(fd);
	b->brk = sbrk(0);
}

static void make_state(struct before *b, const char *path)
{
	struct sigaction sa = {.sa_handler = on_usr1, .sa_flags = SA_ONSTACK | SA_RESTART};
	stack_t ss = {.ss_sp = alt_stack, .ss_size = sizeof(alt_stack)};
	struct rlimit rl = {1000, 2000};
	sigset_t set;

	sigaltstack(&ss, NULL);
	sigaction(SIGUSR1, &sa, NULL);
	sa.sa_handler = on_alarm;
	sigaction(SIGALRM, &sa, NULL);
	signal(SIGUSR2, SIG_IGN);
	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN + 3);
	sigaddset(&set, SIGHUP);
	sigprocmask(SIG_BLOCK, &set, NULL);
	umask(027);
	setrlimit(RLIMIT_NOFILE, &rl);
	CHECK(chdir("/usr/share") == 0 && getcwd(b->cwd, sizeof(b->cwd)), "cwd");
	prctl(PR_SET_NAME, "rover");
	setpriority(PRIO_PROCESS, 0, 5);
	setenv("ROVER", "yes", 1);
	fesetround(FE_UPWARD);
	b->fpu = 1.0 / 3.0;
	b->fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
	MUST(b->fd >= 0 && write(b->fd, "0123456789", 10) == 10, "%s", path);
	b->offset = lseek(b->fd, 4, SEEK_SET);
	b->pid = getpid();
	b->ppid = getppid();
	b->pgid = getpgrp();
	b->sid = getsid(0);
	in_tls = 4321;
}

static void check_memory(const struct before *b)
{
	CHECK(b->heap[0] == 'h' && b->heap[(3 << 20) - 1] == 'h', "heap");
	CHECK(b->anon[4096 * 17] == 'a' && b->anon[0] == 0, "anonymous");
	CHECK(!strcmp(b->shared, "shared"), "shared anonymous");
	CHECK(b->file[0] == '#' && b->file[1], "private file mapping");
	CHECK(!strcmp(b->ro + 4096, "read only"), "read-only memory");
	CHECK(sbrk(0) == b->brk, "brk");
	CHECK(in_tls == 4321, "thread-local storage");
	CHECK(mprotect(b->none, 4096, PROT_READ) == 0 && b->none[0] == 0, "PROT_NONE mapping");
	mprotect(b->none, 4096, PROT_NONE);
}

static void check_signals(void)
{
	struct sigaction sa;
	sigset_t set, pending;
	int before = got_usr1;

	sigaction(SIGUSR2, NULL, &sa);
	CHECK(sa.sa_handler == SIG_IGN, "ignored signal");
	sigprocmask(SIG_BLOCK, NULL, &set);
	CHECK(sigismember(&set, SIGRTMIN + 3) == 1 && sigismember(&set, SIGHUP) == 1 &&
		      sigismember(&set, SIGUSR1) == 0,
	      "mask");
	CHECK(sigpending(&pending) == 0 && sigismember(&pending, SIGHUP) == 1,
	      "the pending signal is lost");
	raise(SIGUSR1);
	CHECK(got_usr1 == before + 1 && on_alt, "handler on its stack");
}

static void check_names(const struct before *b)
{
	char buf[256] = "";
	FILE *f = fopen("/proc/self/comm", "r");

	CHECK(f && fgets(buf, sizeof(buf), f) && !strcmp(buf, "rover\n"), "comm is %s", buf);
	if (f)
		fclose(f);
	f = fopen("/proc/self/cmdline", "r");
	CHECK(f && fgets(buf, sizeof(buf), f) && strstr(buf, "roam"), "cmdline is %s", buf);
	if (f)
		fclose(f);
	CHECK(getpid() == b->pid && getppid() == b->ppid, "pid %d parent %d", getpid(), getppid());
	CHECK(getpgrp() == b->pgid && getsid(0) == b->sid, "group %d session %d", getpgrp(),
	      getsid(0));
	CHECK(!strcmp(getenv("ROVER") ?: "", "yes"), "environment");
}

static void check_state(const struct before *b)
{
	char buf[256];
	struct rlimit rl;
	mode_t mask = umask(0);

	umask(mask);
	CHECK(mask == 027, "umask %o", mask);
	CHECK(getcwd(buf, sizeof(buf)) && !strcmp(buf, b->cwd), "cwd %s", buf);
	getrlimit(RLIMIT_NOFILE, &rl);
	CHECK(rl.rlim_cur == 1000 && rl.rlim_max == 2000, "limit");
	CHECK(getpriority(PRIO_PROCESS, 0) == 5, "nice %d", getpriority(PRIO_PROCESS, 0));
	CHECK(fegetround() == FE_UPWARD && b->fpu == 1.0 / 3.0, "rounding");
	CHECK(lseek(b->fd, 0, SEEK_CUR) == b->offset, "offset %ld",
	      (long)lseek(b->fd, 0, SEEK_CUR));
	CHECK(pread(b->fd, buf, 10, 0) == 10 && !memcmp(buf, "0123456789", 10), "open file");
}

static void step(const struct before *b, int node)
{
	double x = sin(0.5) * (double)b->pid; /* in a register across the call */
	int r = bproc_move(node);

	MUST(r == 0, "move to node %d", node);
	CHECK(bproc_currnode() == node, "not node %d", node);
	CHECK(x == sin(0.5) * (double)b->pid, "floating point");
	check_memory(b);
	check_signals();
	check_names(b);
	check_state(b);
}

/* setsid's alarm, and a clock that must not jump. */
static void check_timer(double started)
{
	while (!got_alarm && now_s() - started < 10)
		nap_ms(10);
	CHECK(got_alarm == 1, "%d alarms", got_alarm);
	CHECK(now_s() - started > 0.9 && now_s() - started < 5, "after %.3f s", now_s() - started);
}

int main(void)
{
	static struct before b;
	char path[PATH_LEN];
	double started;
	char byte = 'x';

	tmp_path(path, "roam");
	make_memory(&b);
	make_state(&b, path);
	raise(SIGHUP); /* blocked: goes along, pending */
	started = now_s();
	setitimer(ITIMER_REAL, &(struct itimerval){.it_value = {1, 0}}, NULL);
	step(&b, 0);
	step(&b, 1);
	step(&b, BPROC_NODE_MASTER);
	check_timer(started);
	step(&b, 1);
	/* A file that is written away from home. */
	CHECK(write(b.fd, &byte, 1) == 1, "write");
	b.offset++;
	CHECK(pwrite(b.fd, "4", 1, 4) == 1, "pwrite");
	step(&b, 0);
	step(&b, 0); /* where it is already */
	step(&b, BPROC_NODE_MASTER);
	for (int i = 0; i < 20 && !failures; i++) {
		MUST(bproc_move(i % 2) == 0, "round %d", i);
		MUST(bproc_currnode() == i % 2, "round %d", i);
	}
	step(&b, BPROC_NODE_MASTER);
	unlink(path);
	return finish("roam");
}
