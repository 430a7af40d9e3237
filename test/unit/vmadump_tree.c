/*
 * A family that knows nothing of vmadump. Its members talk over pipes and sockets, share memory
 * and offsets, are in sessions and groups, stopped and dead; at last each looks whether all
 * is as it was. Writes a line a round to descriptor 1, at last "tree ok".
 *
 *   vmadump_tree ROUNDS, in a directory where it may write
 */
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "vmadump_must.h"

#define PAGE 4096

/* MAP_SHARED, of nobody's file. */
struct board {
	volatile long sum, stopped;
	volatile pid_t session, group;
	volatile int end;
};

static struct board *board, *again; /* the second: the same memory at another place */
static volatile long *memory;	    /* a memfd, open as well */
static int numbers[2];		    /* a pipe from producer to adder */
static int talk[2];		    /* a socketpair between producer and us */
static int held[2]; /* a pipe with something in it that nobody reads until the end */
static int shared_file, memfd;
static pid_t producer, adder, leader, sleeper, dead, killed;

static void nap(void)
{
	const struct timespec ts = {.tv_nsec = 3000000};

	nanosleep(&ts, NULL);
}

/* Numbers down the pipe, one for each that we ask for over the socket. */
static void produce(void)
{
	long n;

	close(numbers[0]);
	close(talk[0]);
	while (read(talk[1], &n, sizeof n) == sizeof n) {
		MUST(write(numbers[1], &n, sizeof n) == sizeof n);
		MUST(write(talk[1], &n, sizeof n) == sizeof n);
	}
	_exit(11);
}

static void add(void)
{
	long n;

	close(numbers[1]);
	close(talk[0]);
	close(talk[1]);
	while (read(numbers[0], &n, sizeof n) == sizeof n) {
		again->sum += n;
		memory[PAGE / sizeof(long)] += n;
		MUST(dprintf(shared_file, "a%ld\n", n) > 0);
	}
	_exit(12);
}

/* A session of its own, and in it a group that a child leads. */
static void lead(void)
{
	int ready[2], status, secure;
	pid_t child;
	char c;

	close(numbers[0]);
	close(numbers[1]);
	close(talk[0]);
	close(talk[1]);
	MUST(setsid() == getpid() && pipe(ready) == 0 && prctl(PR_SET_CHILD_SUBREAPER, 1) == 0);
	/* Only root may. */
	prctl(PR_SET_SECUREBITS, 1 << 6 /* SECBIT_NO_CAP_AMBIENT_RAISE */);
	secure = prctl(PR_GET_SECUREBITS);
	child = fork();
	if (child == 0) {
		MUST(setpgid(0, 0) == 0 && write(ready[1], "x", 1) == 1);
		while (!board->end)
			nap();
		MUST(getsid(0) == board->session && getpgid(0) == getpid());
		_exit(14);
	}
	MUST(read(ready[0], &c, 1) == 1);
	board->group = child;
	board->session = getpid();
	MUST(waitpid(child, &status, 0) == child && WEXITSTATUS(status) == 14);
	MUST(prctl(PR_GET_CHILD_SUBREAPER, &status) == 0 && status == 1);
	MUST(prctl(PR_GET_SECUREBITS) == secure);
	_exit(getsid(0) == getpid() ? 13 : 1);
}

static pid_t start(void (*what)(void))
{
	pid_t pid = fork();

	MUST(pid >= 0);
	if (pid == 0) {
		what();
		_exit(1);
	}
	return pid;
}

static void stay(void)
{
	raise(SIGSTOP);
	board->stopped++;
	_exit(15);
}

static void just_end(void)
{
	_exit(7);
}

static void wait_for_end(void)
{
	for (;;)
		pause();
}

/* Dead, and not waited for. */
static void make_zombies(void)
{
	siginfo_t info;

	dead = start(just_end);
	killed = start(wait_for_end);
	MUST(kill(killed, SIGTERM) == 0);
	MUST(waitid(P_PID, (id_t)dead, &info, WEXITED | WNOWAIT) == 0);
	MUST(waitid(P_PID, (id_t)killed, &info, WEXITED | WNOWAIT) == 0);
}

static void make(void)
{
	const int rw = PROT_READ | PROT_WRITE;
	int status;

	board = mmap(NULL, PAGE, rw, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	MUST(board != MAP_FAILED);
	again = mremap(board, 0, PAGE, MREMAP_MAYMOVE);
	MUST(again != MAP_FAILED && again != board);
	MUST((memfd = memfd_create("mine", MFD_CLOEXEC)) >= 0 && ftruncate(memfd, 2 * PAGE) == 0);
	memory = mmap(NULL, 2 * PAGE, rw, MAP_SHARED, memfd, 0);
	MUST(memory != MAP_FAILED);
	memory[0] = 4711;
	MUST(pipe(numbers) == 0 && pipe(held) == 0);
	MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, talk) == 0);
	MUST(write(held[1], "still here", 10) == 10);
	MUST((shared_file = open("shared", O_RDWR | O_CREAT | O_TRUNC, 0600)) >= 0);
	make_zombies();
	producer = start(produce);
	adder = start(add);
	leader = start(lead);
	sleeper = start(stay);
	MUST(waitpid(sleeper, &status, WUNTRACED) == sleeper && WIFSTOPPED(status));
	close(numbers[0]);
	close(numbers[1]);
	close(talk[1]);
	while (!board->session)
		nap();
}

static void ended(pid_t pid, int want)
{
	int status = 0;

	MUST(waitpid(pid, &status, 0) == pid);
	if (status != want)
		fprintf(stderr, "process %d: status %x, not %x\n", pid, status, want);
	MUST(status == want);
}

static void look(long rounds)
{
	char b[16];
	long sum = rounds * (rounds - 1) / 2;
	siginfo_t info = {0};

	/* The stopped one is so, and nobody is told of it a second time. */
	MUST(waitid(P_PID, (id_t)sleeper, &info, WSTOPPED | WNOHANG) == 0 && info.si_pid == 0);
	MUST(board->stopped == 0 && kill(sleeper, SIGCONT) == 0);
	ended(sleeper, 15 << 8);
	MUST(again->stopped == 1);
	ended(dead, 7 << 8);
	ended(killed, SIGTERM);
	MUST(getpgid(board->group) == board->group && getsid(board->group) == board->session);
	MUST(getsid(leader) == leader && getpgid(producer) == getpgrp());
	board->end = 1;
	ended(leader, 13 << 8);
	close(talk[0]);
	ended(producer, 11 << 8);
	ended(adder, 12 << 8);
	MUST(board->sum == sum && memory[0] == 4711 && memory[PAGE / sizeof(long)] == sum);
	MUST(pread(memfd, b, 8, 0) == 8 && *(long *)(void *)b == 4711);
	MUST(read(held[0], b, 16) == 10 && memcmp(b, "still here", 10) == 0);
	/* All wrote with one offset: nothing has overwritten anything. */
	MUST(lseek(shared_file, 0, SEEK_CUR) == lseek(shared_file, 0, SEEK_END));
}

static volatile sig_atomic_t told;

static void on_child(int sig)
{
	(void)sig;
	told++;
}

int main(int argc, char **argv)
{
	long rounds = argc == 2 ? atol(argv[1]) : 0;

	MUST(rounds > 0);
	make();
	signal(SIGCHLD, on_child);
	for (long r = 0; r < rounds; r++) {
		long back;

		MUST(write(talk[0], &r, sizeof r) == sizeof r);
		nap();
		MUST(read(talk[0], &back, sizeof back) == sizeof back && back == r);
		MUST(dprintf(shared_file, "p%ld\n", r) > 0 && dprintf(1, "%ld\n", r) > 0);
	}
	MUST(told == 0); /* nobody has ended or stopped meanwhile */
	look(rounds);
	dprintf(1, "tree ok\n");
	return 0;
}
