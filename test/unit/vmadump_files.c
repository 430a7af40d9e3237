/*
 * A program that knows nothing of vmadump and has one of each kind of open file that can be
 * carried. It waits in epoll for a timer, writes a line a round to descriptor 1, and at last
 * looks whether all is as it made it: "files ok".
 *
 *   vmadump_files ROUNDS, in a directory where it may write
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmadump_must.h"

#define PAGE 4096

static struct {
	int in, out, out_twin, ended, event, timer, signal, set, memory, gone, log, dir, path;
	int link, fifo, locked, ranged, stream[2], gram[2], half, watch, second_wd, shared, lost;
} fd;
static struct {
	char *shared, *again, *lost, *twice, *tail;
} memory;

static void make_pipes(void)
{
	int p[2], q[2];

	MUST(pipe2(p, O_CLOEXEC | O_NONBLOCK) == 0 && pipe(q) == 0);
	fd.in = p[0];
	fd.out = p[1];
	MUST(fcntl(fd.out, F_SETPIPE_SZ, 1 << 18) == 1 << 18);
	MUST((fd.out_twin = dup(fd.out)) >= 0);
	for (int i = 0; i < 30000; i++)
		MUST(write(fd.out, &i, sizeof i) == sizeof i);
	/* One without a writer. */
	MUST(write(q[1], "rest", 4) == 4 && close(q[1]) == 0);
	fd.ended = q[0];
}

static void look_pipes(void)
{
	char c[8];
	int n;

	MUST(fcntl(fd.in, F_GETFD) == FD_CLOEXEC && fcntl(fd.out_twin, F_GETFD) == 0);
	MUST(fcntl(fd.in, F_GETPIPE_SZ) == 1 << 18 && fcntl(fd.out, F_GETFL) & O_NONBLOCK);
	MUST(write(fd.out_twin, "x", 1) == 1 && close(fd.out) == 0 && close(fd.out_twin) == 0);
	for (int i = 0; i < 30000; i++)
		MUST(read(fd.in, &n, sizeof n) == sizeof n && n == i);
	MUST(read(fd.in, c, 8) == 1 && *c == 'x' && read(fd.in, c, 8) == 0);
	MUST(read(fd.ended, c, 8) == 4 && memcmp(c, "rest", 4) == 0 && read(fd.ended, c, 8) == 0);
}

static void make_sockets(void)
{
	int p[2];

	MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd.stream) == 0);
	MUST(send(fd.stream[0], "one way", 7, 0) == 7 && send(fd.stream[1], "and ", 4, 0) == 4);
	MUST(send(fd.stream[1], "back", 4, 0) == 4);
	for (int i = 0; i < 200; i++)
		MUST(write(fd.stream[0], &i, sizeof i) == sizeof i);
	MUST(shutdown(fd.stream[0], SHUT_WR) == 0);
	MUST(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, fd.gram) == 0);
	MUST(send(fd.gram[0], "first", 5, 0) == 5 && send(fd.gram[0], "2nd", 3, 0) == 3);
	/* One whose other end is closed. */
	MUST(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, p) == 0);
	MUST(send(p[0], "last", 4, 0) == 4 && close(p[0]) == 0);
	fd.half = p[1];
}

static void look_sockets(void)
{
	char c[16];
	int n;

	MUST(fcntl(fd.stream[0], F_GETFD) == FD_CLOEXEC && fcntl(fd.gram[0], F_GETFD) == 0);
	MUST(read(fd.stream[1], c, 7) == 7 && memcmp(c, "one way", 7) == 0);
	for (int i = 0; i < 200; i++)
		MUST(recv(fd.stream[1], &n, sizeof n, MSG_WAITALL) == sizeof n && n == i);
	MUST(read(fd.stream[1], c, 1) == 0);
	MUST(recv(fd.stream[0], c, 16, 0) == 8 && memcmp(c, "and back", 8) == 0);
	MUST(send(fd.stream[1], "more", 4, 0) == 4 && recv(fd.stream[0], c, 16, 0) == 4);
	MUST(send(fd.stream[0], "x", 1, MSG_NOSIGNAL) == -1 && errno == EPIPE);
	MUST(fcntl(fd.gram[1], F_GETFL) & O_NONBLOCK);
	MUST(recv(fd.gram[1], c, 16, 0) == 5 && recv(fd.gram[1], c, 16, 0) == 3 && *c == '2');
	MUST(recv(fd.gram[1], c, 16, 0) == -1 && errno == EAGAIN);
	MUST(recv(fd.half, c, 16, 0) == 4 && recv(fd.half, c, 16, 0) == 0);
}

static void make_watch(void)
{
	int first;

	MUST(mkdir("watched", 0700) == 0 && (fd.watch = inotify_init1(IN_NONBLOCK)) >= 0);
	MUST((first = inotify_add_watch(fd.watch, "/", IN_DELETE_SELF)) > 0);
	MUST((fd.second_wd = inotify_add_watch(fd.watch, "watched", IN_CREATE)) > first);
	MUST(inotify_rm_watch(fd.watch, first) == 0);
	MUST(read(fd.watch, &(char[64]){0}, 64) > 0); /* IN_IGNORED */
}

static void look_watch(void)
{
	union {
		struct inotify_event ev;
		char room[512];
	} b;

	MUST(read(fd.watch, &b, sizeof b) == -1 && errno == EAGAIN);
	MUST(close(open("watched/new", O_CREAT | O_WRONLY, 0600)) == 0);
	MUST(read(fd.watch, &b, sizeof b) > 0 && b.ev.wd == fd.second_wd &&
	     b.ev.mask == IN_CREATE && strcmp(b.ev.name, "new") == 0);
}

static void make_events(void)
{
	struct itimerspec its = {{0, 4000000}, {0, 4000000}};
	struct epoll_event ev = {.events = EPOLLIN, .data.u64 = 0x123456789abcdef0};
	struct epoll_event ev2 = {.events = EPOLLIN | EPOLLONESHOT, .data.u64 = 7};
	sigset_t set;

	MUST((fd.event = eventfd(3, EFD_SEMAPHORE | EFD_CLOEXEC)) >= 0);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	MUST(sigprocmask(SIG_BLOCK, &set, NULL) == 0 && kill(getpid(), SIGUSR1) == 0);
	MUST((fd.signal = signalfd(-1, &set, SFD_NONBLOCK)) >= 0);
	MUST((fd.timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK)) >= 0);
	MUST(timerfd_settime(fd.timer, 0, &its, NULL) == 0);
	MUST((fd.set = epoll_create1(0)) >= 0);
	MUST(epoll_ctl(fd.set, EPOLL_CTL_ADD, fd.timer, &ev) == 0);
	MUST(epoll_ctl(fd.set, EPOLL_CTL_ADD, fd.ended, &ev2) == 0);
	/* Seen once, and no more. */
	MUST(epoll_wait(fd.set, &ev2, 1, -1) == 1 && ev2.data.u64 == 7);
}

static void look_events(void)
{
	struct signalfd_siginfo info;
	struct epoll_event ev;
	uint64_t n;

	for (int i = 0; i < 3; i++)
		MUST(read(fd.event, &n, 8) == 8 && n == 1);
	MUST(fcntl(fd.event, F_SETFL, O_NONBLOCK) == 0 && read(fd.event, &n, 8) == -1);
	MUST(read(fd.signal, &info, sizeof info) == sizeof info && info.ssi_signo == SIGUSR1 &&
	     info.ssi_pid == (uint32_t)getpid());
	MUST(read(fd.signal, &info, sizeof info) == -1 && errno == EAGAIN);
	MUST(epoll_wait(fd.set, &ev, 1, -1) == 1 && ev.data.u64 == 0x123456789abcdef0);
}

static void make_files(void)
{
	struct flock l = {.l_type = F_WRLCK, .l_start = 10, .l_len = 20};

	MUST((fd.memory = memfd_create("mine", MFD_ALLOW_SEALING)) >= 0);
	MUST(write(fd.memory, "held in memory", 14) == 14 && lseek(fd.memory, 8, SEEK_SET) == 8);
	MUST(fcntl(fd.memory, F_ADD_SEALS, F_SEAL_GROW) == 0);
	MUST((fd.gone = open("gone", O_RDWR | O_CREAT | O_APPEND, 0640)) >= 0);
	MUST(write(fd.gone, "deleted", 7) == 7 && unlink("gone") == 0);
	MUST(lseek(fd.gone, 3, SEEK_SET) == 3);
	MUST((fd.log = open("log", O_WRONLY | O_CREAT | O_APPEND, 0600)) >= 0);
	MUST((fd.dir = open(".", O_RDONLY | O_DIRECTORY)) >= 0);
	MUST((fd.path = open("log", O_PATH)) >= 0);
	MUST(symlink("log", "link") == 0 && mkfifo("fifo", 0600) == 0);
	MUST((fd.link = open("link", O_PATH | O_NOFOLLOW)) >= 0);
	MUST((fd.fifo = open("fifo", O_PATH)) >= 0);
	MUST((fd.locked = open("locked", O_RDWR | O_CREAT, 0600)) >= 0);
	MUST(flock(fd.locked, LOCK_EX) == 0);
	MUST((fd.ranged = open("ranged", O_RDWR | O_CREAT, 0600)) >= 0);
	MUST(fcntl(fd.ranged, F_SETLK, &l) == 0);
}

/* A memfd and a deleted file that are mapped too; memory that is mapped twice and nowhere open. */
static void make_memory(void)
{
	const int rw = PROT_READ | PROT_WRITE;
	int own;

	MUST((fd.shared = memfd_create("shared", 0)) >= 0 && ftruncate(fd.shared, 2 * PAGE) == 0);
	memory.shared = mmap(NULL, 2 * PAGE, rw, MAP_SHARED, fd.shared, 0);
	memory.again = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd.shared, PAGE);
	strcpy(memory.shared + PAGE, "open and mapped");
	MUST((fd.lost = open("lost", O_RDWR | O_CREAT, 0600)) >= 0 && unlink("lost") == 0);
	MUST(ftruncate(fd.lost, PAGE) == 0);
	memory.lost = mmap(NULL, PAGE, rw, MAP_SHARED, fd.lost, 0);
	strcpy(memory.lost, "deleted and mapped");
	MUST((own = memfd_create("own", 0)) >= 0 && ftruncate(own, 3 * PAGE) == 0);
	memory.twice = mmap(NULL, 3 * PAGE, rw, MAP_SHARED, own, 0);
	memory.tail = mmap(NULL, PAGE, rw, MAP_SHARED, own, 2 * PAGE);
	close(own);
	strcpy(memory.tail, "mapped twice");
}

static void look_memory(void)
{
	char b[32] = "";

	MUST(strcmp(memory.again, "open and mapped") == 0);
	strcpy(memory.shared + PAGE, "one memory");
	MUST(strcmp(memory.again, "one memory") == 0 && pread(fd.shared, b, 11, PAGE) == 11 &&
	     strcmp(b, "one memory") == 0);
	MUST(pread(fd.lost, b, 19, 0) == 19 && strcmp(b, "deleted and mapped") == 0);
	MUST(pwrite(fd.lost, "DEL", 3, 0) == 3 && strcmp(memory.lost, "DELeted and mapped") == 0);
	MUST(strcmp(memory.twice + 2 * PAGE, "mapped twice") == 0);
	memory.twice[2 * PAGE] = 'M';
	MUST(strcmp(memory.tail, "Mapped twice") == 0);
}

static void look_locks(void)
{
	int other = open("locked", O_RDWR);

	MUST(other >= 0 && flock(other, LOCK_EX | LOCK_NB) == -1 && errno == EWOULDBLOCK);
	close(other);
	if (fork() == 0) {
		struct flock l = {.l_type = F_WRLCK, .l_start = 0, .l_len = 100};

		MUST(fcntl(fd.ranged, F_GETLK, &l) == 0);
		_exit(l.l_type == F_WRLCK && l.l_start == 10 && l.l_len == 20 &&
				      l.l_pid == getppid()
			      ? 0
			      : 1);
	}
}

static void look_files(void)
{
	char b[32];
	struct stat st;

	MUST(read(fd.memory, b, 32) == 6 && memcmp(b, "memory", 6) == 0);
	MUST(fcntl(fd.memory, F_GET_SEALS) == F_SEAL_GROW && write(fd.memory, "x", 1) == -1);
	MUST(fstat(fd.gone, &st) == 0 && st.st_nlink == 0 && (st.st_mode & 0777) == 0640);
	MUST(read(fd.gone, b, 32) == 4 && memcmp(b, "eted", 4) == 0);
	MUST(write(fd.gone, "!", 1) == 1 && pread(fd.gone, b, 32, 0) == 8);
	MUST(fcntl(fd.log, F_GETFL) & O_APPEND);
	MUST(faccessat(fd.dir, "log", R_OK, 0) == 0);
	MUST(read(fd.path, b, 1) == -1 && errno == EBADF);
	MUST(readlinkat(fd.link, "", b, sizeof b) == 3 && memcmp(b, "log", 3) == 0);
	MUST(read(fd.link, b, 1) == -1 && errno == EBADF);
	MUST(fstat(fd.fifo, &st) == 0 && S_ISFIFO(st.st_mode));
	MUST(read(fd.fifo, b, 1) == -1 && errno == EBADF);
}

int main(int argc, char **argv)
{
	long rounds = argc == 2 ? atol(argv[1]) : 0;
	struct stat st;
	int status;

	MUST(rounds > 0);
	make_pipes();
	make_events();
	make_sockets();
	make_watch();
	make_files();
	make_memory();
	for (long r = 0; r < rounds; r++) {
		struct epoll_event ev;
		uint64_t ticks;

		MUST(epoll_wait(fd.set, &ev, 1, 5000) == 1 && ev.data.u64 == 0x123456789abcdef0);
		MUST(read(fd.timer, &ticks, 8) == 8 && ticks > 0);
		MUST(dprintf(1, "%ld\n", r) > 0 && dprintf(fd.log, "%ld\n", r) > 0);
	}
	look_locks();
	MUST(wait(&status) > 0 && status == 0);
	look_pipes();
	look_sockets();
	look_watch();
	look_events();
	look_files();
	look_memory();
	MUST(stat("log", &st) == 0 && st.st_size > 0);
	dprintf(1, "files ok\n");
	return 0;
}
