/*
 * A program under seccomp filters of its own, for filters.sh.
 *
 *	filtered FILTER [COMMAND...]	sets FILTER and executes COMMAND (with REXEC in the
 *					environment by bproc_rexec() on node 0), or ticks
 *
 * FILTER: deny (mkdir() is EPROTO), table (what is not in the blob's table of calls is its death),
 * errno:NAME (that call is EPERM), kill:NAME (or a death); thread (deny, of a thread other
 * than the first alone), first (deny, of the first thread alone, when there is another), root
 *(deny, without no_new_privs), asks (chroot() asks a listener), strict. A tick is a line "FILTERS
 *ERRNO ERRNO": how many filters it is under, and what mkdir() and rmdir() say, a thread's too, on
 *descriptor 1, until there is a file "stop". SIGUSR1: one more filter, by which rmdir() is EL2HLT,
 *EBADE, then EBADR: of several filters the newest decides which error it is; of "thread", for that
 *one alone. "w/held" is kept open if it is there. SIGUSR2: a child is rforked to node 1; SIGHUP:
 *one is forked. It writes its number to "kid", and ticks as "far" or "near" until there is a file
 *"far.stop" or "near.stop".
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <bproc.h>

#include "vmadump/blob/calls.h"

#ifndef SYS_mseal
#define SYS_mseal 462
#endif
#define LONGEST 400

static struct sock_filter code[LONGEST];
static unsigned short n;

static void put(uint16_t op, uint32_t k, unsigned jt, unsigned jf)
{
	code[n++] = (struct sock_filter)BPF_JUMP(op, k, (uint8_t)jt, (uint8_t)jf);
}

/* If its number is nr. */
static void when(uint32_t nr, uint32_t action)
{
	put(BPF_JMP | BPF_JEQ, nr, 0, 1);
	put(BPF_RET, action, 0, 0);
}

static void begin(void)
{
	n = 0;
	put(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr), 0, 0);
}

static const struct {
	const char *name;
	uint32_t nr;
	int when;
} calls[] = {
#define ROW(name, when) {#name, SYS_##name, BLOB_CALL_##when},
#define ROW_OF(name, when, i, value, text) ROW(name, when)
	BLOB_CALLS(ROW, ROW_OF)};

static uint32_t number(const char *name)
{
	for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++)
		if (strcmp(calls[i].name, name) == 0)
			return calls[i].nr;
	fprintf(stderr, "filtered: %s is not in the table\n", name);
	exit(2);
}

/* What is in the table for every move, and by what this program itself lives. */
static void table(void)
{
	static const uint32_t own[] = {SYS_mkdir, SYS_rmdir, SYS_access, SYS_clock_nanosleep};

	for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++)
		if (calls[i].when == BLOB_CALL_MUST || calls[i].when == BLOB_CALL_TRIED)
			when(calls[i].nr, SECCOMP_RET_ALLOW);
	for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++)
		when(own[i], SECCOMP_RET_ALLOW);
	put(BPF_RET, SECCOMP_RET_KILL_PROCESS, 0, 0);
}

static int set(unsigned long flags)
{
	struct sock_fprog p = {.len = n, .filter = code};
	long r = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &p);

	if (r < 0)
		perror("filtered: seccomp");
	return r < 0 ? 1 : 0;
}

static int deny(int asks)
{
	begin();
	when(SYS_mkdir, SECCOMP_RET_ERRNO | EPROTO);
	if (asks)
		when(SYS_chroot, SECCOMP_RET_USER_NOTIF);
	put(BPF_RET, SECCOMP_RET_ALLOW, 0, 0);
	return set(0);
}

static unsigned long more_for = SECCOMP_FILTER_FLAG_TSYNC;

static void more(int sig)
{
	static const uint32_t says[] = {EL2HLT, EBADE, EBADR};
	static unsigned at;

	(void)sig;
	begin();
	when(SYS_rmdir, SECCOMP_RET_ERRNO | says[at++ % 3]);
	put(BPF_RET, SECCOMP_RET_ALLOW, 0, 0);
	set(more_for);
}

static volatile sig_atomic_t forks;

static void on_fork(int sig)
{
	forks = sig;
}

static int set_named(const char *what)
{
	const char *name = strchr(what, ':');

	begin();
	if (strncmp(what, "table", 5) == 0) {
		table();
	} else if (name) {
		when(number(name + 1),
		     *what == 'k' ? SECCOMP_RET_KILL_PROCESS : SECCOMP_RET_ERRNO | EPERM);
		put(BPF_RET, SECCOMP_RET_ALLOW, 0, 0);
	} else {
		return deny(strcmp(what, "asks") == 0);
	}
	return set(0);
}

/* -- ticking */

static int filters(void)
{
	int fd = open("/proc/thread-self/status", O_RDONLY | O_CLOEXEC);
	static __thread char text[8192];
	ssize_t got = read(fd, text, sizeof(text) - 1);
	const char *at;

	close(fd);
	text[got > 0 ? got : 0] = '\0';
	at = strstr(text, "\nSeccomp_filters:\t");
	return at ? atoi(at + 18) : -1;
}

static void say(int fd, const char *before)
{
	char line[80];
	int made = mkdir("/", 0700) < 0 ? errno : 0, gone = rmdir("/") < 0 ? errno : 0;
	int len = snprintf(line, sizeof(line), "%s%d %d %d\n", before, filters(), made, gone);

	if (write(fd, line, (size_t)len) != len)
		_exit(3);
}

static sigset_t usr1;

static void *other(void *arg)
{
	const struct timespec nap = {.tv_nsec = 5000000};

	if (arg && deny(0) != 0)
		exit(1);
	if (arg)
		pthread_sigmask(SIG_UNBLOCK, &usr1, NULL);
	for (;;) {
		nanosleep(&nap, NULL);
		say(1, "thread ");
	}
	return NULL;
}

static void tick(const char *before, const char *until);

static void make_child(void)
{
	int there = forks == SIGUSR2, child;
	FILE *f;

	forks = 0;
	child = there ? bproc_rfork(1) : fork();
	if (child < 0)
		dprintf(1, "child: %s\n", bproc_errtext());
	if (child != 0)
		return;
	f = fopen("kid.new", "w");
	if (!f || fprintf(f, "%d\n", getpid()) < 0 || fclose(f) != 0 ||
	    rename("kid.new", "kid") < 0)
		_exit(1);
	tick(there ? "far " : "near ", there ? "far.stop" : "near.stop");
	_exit(0);
}

static void tick(const char *before, const char *until)
{
	const struct timespec nap = {.tv_nsec = 5000000};

	while (access(until, F_OK) < 0) {
		say(1, before);
		if (forks)
			make_child();
		nanosleep(&nap, NULL);
	}
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";
	int threads = strncmp(what, "thread", 6) == 0;
	pthread_t t;

	open("w/held", O_RDONLY);
	signal(SIGUSR1, more);
	signal(SIGUSR2, on_fork);
	signal(SIGHUP, on_fork);
	if (strcmp(what, "root") != 0)
		prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	if (strcmp(what, "strict") == 0) {
		prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT, 0, 0, 0);
		for (;;)
			if (write(1, ".\n", 2) != 2)
				syscall(SYS_exit, 1);
	}
	if (strcmp(what, "thread") != 0 && strcmp(what, "first") != 0 &&
	    strcmp(what, "none") != 0 && set_named(threads ? "deny" : what) != 0)
		return 1;
	if (argc > 2) {
		if (getenv("REXEC"))
			bproc_rexec(0, argv[2], argv + 2, environ);
		else
			execvp(argv[2], argv + 2);
		perror("filtered: exec");
		return 1;
	}
	/* "threads": all of them; "thread": that one alone. */
	if (strcmp(what, "thread") == 0) {
		more_for = 0;
		sigemptyset(&usr1);
		sigaddset(&usr1, SIGUSR1);
		pthread_sigmask(SIG_BLOCK, &usr1, NULL);
	}
	if (threads || strcmp(what, "first") == 0)
		pthread_create(&t, NULL, other, strcmp(what, "thread") == 0 ? &t : NULL);
	if (strcmp(what, "first") == 0 && deny(0) != 0)
		return 1;
	tick("", "stop");
	return 0;
}
