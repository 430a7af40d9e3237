/*
 * What somebody may send who means harm: hostile KIND [ARGUMENT] with a seed in
 * the environment (SEED). Everything is tried as an ordinary user; that nobody
 * else notices is for hostile.sh to see.
 *
 *   local           packets to the machine's bpslave: wrong, cut, without end
 *   channel PID     moves that are asked for rightly, whose channel talks nonsense, and
 *                   forks whose child is said to be PID, somebody else's process
 *   cloned PID      a process that leaves, and says that others, PID and those behind it, could
 *                   not be made; for some seconds
 *   silent NODE     a move that is asked for rightly, and of which no image ever comes
 *   later NODE PROGRAM  a move that is asked for rightly, by who then executes a set-uid program;
 *                   the channel is somebody else's, who hears what comes of it
 *   raised NODE PROGRAM  bproc_execmove() of a set-uid program, by who keeps its channel
 *   stubborn WHAT   what keeps waiting who closes it, or writes to it: given as 'asked' with a
 *                   question, or on a channel as 'told', or 'within' another socket; or a channel
 *                   that is 'full', or 'kept' by who gave it away. For some seconds
 *   missing PID     a signal for PID, described in memory that nobody can have
 *   wire ADDR PORT  bytes and silent connections to a port of a daemon
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "hostile.h"
#include "libbproc/local.h"
#include "libbproc/sysio.h"

#define NOBODY 65534

static uint64_t state;

uint32_t rnd(void)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (uint32_t)(state >> 16);
}

uint32_t small(void)
{
	switch (rnd() % 4) {
	case 0:
		return rnd();
	case 1:
		return (uint32_t) - (int32_t)(rnd() % 5);
	case 2:
		return 65536 * (rnd() % 3) + rnd() % 400;
	default:
		return rnd() % 60;
	}
}

void fill(void *p, size_t n)
{
	unsigned char *at = p;

	for (size_t i = 0; i + 4 <= n; i += 4) {
		uint32_t v = small();

		memcpy(at + i, &v, 4);
	}
}

void die(const char *what)
{
	perror(what);
	exit(1);
}

void be_nobody(void)
{
	if (setresgid(NOBODY, NOBODY, NOBODY) < 0 || setresuid(NOBODY, NOBODY, NOBODY) < 0)
		die("setresuid");
	signal(SIGPIPE, SIG_IGN);
}

int call(void)
{
	char path[200];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", run_dir(), LOCAL_SOCK);
	fd = unix_connect(path);
	if (fd >= 0)
		fcntl(fd, F_SETFL, O_NONBLOCK);
	return fd;
}

/* Reads what has come, or does not: a client that never reads must hurt itself only. */
static void drain(int fd)
{
	char buf[65536];

	while (recv(fd, buf, sizeof(buf), MSG_DONTWAIT) > 0)
		;
}

static size_t make_packet(unsigned char *buf, size_t max)
{
	static const uint16_t sizes[] = {0, 0, 8, 4, 28, 16, 0, 4};
	struct local_hdr h = {
		.version = LOCAL_VERSION, .type = (uint16_t)(rnd() % 24), .id = rnd()};
	size_t n;

	if (h.type < sizeof(sizes) / sizeof(*sizes) && rnd() % 8)
		n = sizes[h.type];
	else
		n = rnd() % 16 ? rnd() % 64 : rnd() % (max - sizeof(h));
	h.len = rnd() % 16 ? (uint32_t)n : small();
	if (rnd() % 32 == 0)
		h.version = (uint16_t)rnd();
	fill(buf + sizeof(h), n);
	memcpy(buf, &h, sizeof(h));
	return rnd() % 32 ? sizeof(h) + n : rnd() % (sizeof(h) + n + 1);
}

static int local(void)
{
	static unsigned char buf[LOCAL_MSG_MAX + 64];
	int fd[64], pair[2];
	unsigned int sent = 0;

	be_nobody();
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		die("socketpair");
	for (int i = 0; i < 64; i++)
		fd[i] = -1;
	for (int round = 0; round < 30000; round++) {
		int *f = &fd[rnd() % 64];
		int give[] = {pair[rnd() & 1], pair[0], pair[1]}, e;

		if (*f < 0 || rnd() % 200 == 0) {
			close_fd(*f);
			*f = call();
			if (*f < 0)
				die("connect");
		}
		if (rnd() % 4)
			drain(*f);
		e = pkt_send(*f, buf, make_packet(buf, sizeof(buf)), give,
			     rnd() % 4 ? 0 : (int)(rnd() % 4));
		if (e == 0)
			sent++;
		else if (e != -EAGAIN)
			*f = close_fd(*f);
		else
			poll(&(struct pollfd){.fd = *f, .events = POLLOUT}, 1, 10);
	}
	printf("%u packets\n", sent);
	return sent > 10000 ? 0 : 1;
}

/* Root's: the kernel serves nobody else's userfaultfd; others have files of FUSE. */
static int missing(int32_t pid)
{
	struct uffdio_api api = {.api = UFFD_API};
	struct uffdio_register reg = {.range.len = 4096, .mode = UFFDIO_REGISTER_MODE_MISSING};
	void *page = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);

	reg.range.start = (uintptr_t)page;
	if (fd < 0 || ioctl(fd, UFFDIO_API, &api) < 0 || ioctl(fd, UFFDIO_REGISTER, &reg) < 0)
		die("userfaultfd");
	if (syscall(SYS_rt_sigqueueinfo, pid, SIGUSR1, page) == 0 || errno != EFAULT)
		die("not refused");
	return 0;
}

static int dial(const char *addr, const char *port)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || inet_pton(AF_INET, addr, &to.sin_addr) != 1)
		die("socket");
	if (connect(fd, (struct sockaddr *)&to, sizeof(to)) < 0)
		fd = close_fd(fd);
	return fd;
}

static int wire(const char *addr, const char *port)
{
	static const unsigned char hello[] = {0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3};
	unsigned char buf[4096];
	int silent[200];

	be_nobody();
	for (int i = 0; i < 200; i++) {
		int fd = dial(addr, port);

		if (fd < 0)
			die("connect");
		fill(buf, sizeof(buf));
		if (rnd() % 2)
			memcpy(buf, hello, sizeof(hello)); /* as TLS begins */
		if (send(fd, buf, rnd() % sizeof(buf), MSG_NOSIGNAL) < 0 && errno != EPIPE &&
		    errno != ECONNRESET)
			die("send");
		if (rnd() % 4 == 0)
			usleep(1000);
		close_fd(fd);
	}
	for (int i = 0; i < 200; i++)
		silent[i] = dial(addr, port);
	puts("silent");
	fflush(stdout);
	getchar(); /* the script looks whether others get in, meanwhile */
	for (int i = 0; i < 200; i++)
		close_fd(silent[i]);
	return 0;
}

int main(int argc, char **argv)
{
	const char *seed = getenv("SEED");

	state = seed ? strtoull(seed, NULL, 0) : 1;
	state = state * 0x9e3779b97f4a7c15u | 1;
	if (argc == 2 && strcmp(argv[1], "local") == 0)
		return local();
	if (argc == 3 && strcmp(argv[1], "channel") == 0)
		return hostile_channel(atoi(argv[2]));
	if (argc == 3 && strcmp(argv[1], "cloned") == 0)
		return hostile_cloned(atoi(argv[2]));
	if (argc == 4 && strcmp(argv[1], "wire") == 0)
		return wire(argv[2], argv[3]);
	if (argc == 3 && strcmp(argv[1], "silent") == 0)
		return hostile_silent(atoi(argv[2]));
	if (argc == 3 && strcmp(argv[1], "stubborn") == 0)
		return hostile_stubborn(argv[2]);
	if (argc == 3 && strcmp(argv[1], "missing") == 0)
		return missing(atoi(argv[2]));
	if (argc == 4 && strcmp(argv[1], "later") == 0)
		return hostile_later(atoi(argv[2]), argv[3]);
	if (argc == 4 && strcmp(argv[1], "raised") == 0)
		return hostile_raised(atoi(argv[2]), argv[3]);
	fprintf(stderr, "usage: hostile local | channel PID | cloned PID | silent NODE | "
			"stubborn WHAT | missing PID | later NODE PROGRAM | raised NODE PROGRAM | "
			"wire ADDR PORT\n");
	return 2;
}
