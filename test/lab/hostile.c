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
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "libbproc/local.h"
#include "libbproc/sysio.h"
#include "vmadump/blob/channel.h"

#define NOBODY 65534
#define CLONED_S 8
#define CLONED_PIDS 400
#define STUBBORN_S 300

static uint64_t state;

static uint32_t rnd(void)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (uint32_t)(state >> 16);
}

/* Mostly small numbers: they are more often right. */
static uint32_t small(void)
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

static void fill(void *p, size_t n)
{
	unsigned char *at = p;

	for (size_t i = 0; i + 4 <= n; i += 4) {
		uint32_t v = small();

		memcpy(at + i, &v, 4);
	}
}

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static void be_nobody(void)
{
	if (setresgid(NOBODY, NOBODY, NOBODY) < 0 || setresuid(NOBODY, NOBODY, NOBODY) < 0)
		die("setresuid");
	signal(SIGPIPE, SIG_IGN);
}

static int call(void)
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

/* One message of the channel: a word that fits somewhere, with contents that do not. */
static void nonsense(int chan, int spare)
{
	struct chan_msg m;
	uint32_t move = small();

	fill(&m, sizeof(m));
	m.type = rnd() % 16 ? 1 + rnd() % 8 : rnd() % 64;
	if (rnd() % 2)
		m.flags = rnd() % 4;
	if (rnd() % 2)
		m.err = 0;
	m.move_id = rnd() % 2 ? 0 : move;
	pkt_send(chan, &m, rnd() % 16 ? sizeof(m) : rnd() % sizeof(m), &spare, rnd() % 8 == 0);
}

/* Takes what comes down the channel; remembers the number of the move for the next lie. */
static void listen_to(int chan)
{
	struct chan_msg m;
	struct sysio_pkt p;

	while (pkt_recv(chan, &m, sizeof(m), MSG_DONTWAIT, &p) == 0 && (p.len || p.nfd))
		pkt_close(&p);
}

static int channel_of(int fd, uint32_t *ret_id, uint32_t kind, int32_t node)
{
	struct {
		struct local_hdr h;
		struct local_move ask;
	} m = {.h = {.version = LOCAL_VERSION, .type = LOCAL_MOVE, .len = sizeof(m.ask)}};
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		die("socketpair");
	m.h.id = *ret_id = rnd();
	m.ask.kind = kind;
	m.ask.node = node;
	if (pkt_send(fd, &m, sizeof(m), &pair[1], 1) < 0)
		die("the question");
	close_fd(pair[1]);
	return pair[0];
}

/* As the library announces a child, which this is not. */
static void lie(int fd, uint32_t id, int32_t pid)
{
	struct {
		struct local_hdr h;
		struct local_pid child;
	} m = {.h = {.version = LOCAL_VERSION,
		     .type = LOCAL_MOVE_CHILD,
		     .id = id,
		     .len = sizeof(m.child)},
	       .child = {rnd() % 4 ? pid : (int32_t)small()}};

	pkt_send(fd, &m, sizeof(m), NULL, 0);
}

static int channel(int32_t victim)
{
	int fd, spare = open("/dev/null", O_RDONLY | O_CLOEXEC);

	be_nobody();
	for (int round = 0; round < 400; round++) {
		uint32_t id;
		int chan;

		fd = call();
		if (fd < 0)
			die("connect");
		chan = channel_of(fd, &id, 1 + rnd() % 4, (int32_t)(rnd() % 4) - 1);
		if (rnd() % 2)
			lie(fd, id, victim);
		for (unsigned int n = rnd() % 20; n > 0; n--) {
			struct pollfd p = {.fd = chan, .events = POLLIN};

			nonsense(chan, spare);
			poll(&p, 1, (int)(rnd() % 3));
			if (rnd() % 4)
				listen_to(chan);
		}
		close_fd(chan);
		if (rnd() % 2) {
			struct pollfd p = {.fd = fd, .events = POLLIN};

			poll(&p, 1, 20);
		}
		close_fd(fd);
	}
	return 0;
}

/*
 * Every answer to CHAN_CLONE that somebody else might be waiting for. What comes is not read: were
 * the connection in CHAN_GO closed, the move would be over.
 */
static int cloned(int32_t first)
{
	struct chan_msg m = {.type = CHAN_HERE};
	uint32_t id;
	int fd, chan;

	be_nobody();
	fd = call();
	if (fd < 0)
		die("connect");
	chan = channel_of(fd, &id, MOVE_MOVE, 1);
	pkt_send(chan, &m, sizeof(m), NULL, 0);
	poll(NULL, 0, 200); /* now it is bpinit's, a process that leaves */
	m.type = CHAN_CLONED;
	m.err = EAGAIN;
	for (time_t end = time(NULL) + CLONED_S; time(NULL) < end;)
		for (m.u.pid = first; m.u.pid < first + CLONED_PIDS; m.u.pid++)
			if (pkt_send(chan, &m, sizeof(m), NULL, 0) < 0)
				die("the channel");
	return 0;
}

/* It is called off, by name, and not before the node has waited. */
static int silent(int32_t node)
{
	struct pollfd p = {.events = POLLIN};
	struct sysio_pkt pkt;
	struct chan_msg m;
	uint32_t id;
	int fd;

	fd = call();
	if (fd < 0)
		die("connect");
	p.fd = channel_of(fd, &id, MOVE_MOVE, node);
	if (poll(&p, 1, 40000) != 1 || pkt_recv(p.fd, &m, sizeof(m), 0, &pkt) < 0)
		die("no word on it");
	pkt_close(&pkt);
	m.u.text[CHAN_TEXT_MAX - 1] = '\0';
	printf("type %u, errno %d: %s\n", m.type, m.err, m.u.text);
	return m.type != CHAN_ABORT || m.err != ETIMEDOUT;
}

/* What is the last word on the channel. */
static int hear(int chan)
{
	struct pollfd p = {.fd = chan, .events = POLLIN};
	struct sysio_pkt pkt;
	struct chan_msg m;

	if (poll(&p, 1, 20000) != 1 || pkt_recv(chan, &m, sizeof(m), 0, &pkt) < 0 ||
	    pkt.len != sizeof(m))
		die("no word on it");
	m.u.text[CHAN_TEXT_MAX - 1] = '\0';
	printf("type %u with %d descriptors, errno %d: %s\n", m.type, pkt.nfd, m.err,
	       m.type == CHAN_ABORT ? m.u.text : "");
	pkt_close(&pkt);
	return m.type != CHAN_ABORT || m.err != EPERM;
}

/* Both words are said before, and read when it is another program. */
static int later(int32_t node, const char *program)
{
	struct chan_msg here = {.type = CHAN_HERE};
	int fd, chan, status;
	uint32_t id;
	pid_t pid;

	be_nobody();
	fd = call();
	if (fd < 0)
		die("connect");
	chan = channel_of(fd, &id, MOVE_MOVE, node);
	pkt_send(chan, &here, sizeof(here), NULL, 0);
	pid = fork();
	if (pid < 0)
		die("fork");
	if (pid > 0) {
		execl(program, "raised", "30", (char *)NULL);
		die(program);
	}
	status = hear(chan);
	kill(getppid(), SIGKILL); /* its real user may */
	return status;
}

static int raised(int32_t node, const char *program)
{
	struct chan_msg here = {.type = CHAN_HERE, .flags = CHAN_HERE_EXEC};
	struct pollfd p = {.events = POLLIN};
	uint32_t id;
	pid_t pid;
	int fd, status = 0;

	be_nobody();
	pid = fork();
	if (pid == 0) {
		fd = call();
		if (fd < 0)
			die("connect");
		p.fd = channel_of(fd, &id, MOVE_EXECMOVE, node);
		here.u.exec.chan = p.fd;
		pkt_send(p.fd, &here, sizeof(here), NULL, 0);
		if (poll(&p, 1, 20000) != 1)
			die("no word on it");
		listen_to(p.fd);
		fcntl(p.fd, F_SETFD, 0);
		execl(program, "raised", "1", (char *)NULL);
		die(program);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		die("fork");
	printf("ended with %x\n", (unsigned int)status);
	return !WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL;
}

/* A connection that has more to say than its reader takes, and waits for him when it is closed. */
static int lingering(void)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int listener = socket(AF_INET, SOCK_STREAM, 0), fd = socket(AF_INET, SOCK_STREAM, 0);
	struct linger wait = {1, STUBBORN_S};
	socklen_t len = sizeof(a);
	static char buf[65536];

	if (bind(listener, (struct sockaddr *)&a, len) < 0 || listen(listener, 1) < 0 ||
	    getsockname(listener, (struct sockaddr *)&a, &len) < 0 ||
	    connect(fd, (struct sockaddr *)&a, len) < 0)
		die("a connection");
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &wait, sizeof(wait));
	while (send(fd, buf, sizeof(buf), MSG_DONTWAIT) > 0)
		;
	return fd; /* the listener stays, and so does what it has not accepted */
}

static void fill_up(int sock)
{
	char byte = 0;

	while (send(sock, &byte, 1, MSG_DONTWAIT) > 0)
		;
}

static int within(int fd)
{
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair) < 0 ||
	    pkt_send(pair[0], "", 0, NULL, 0) < 0 || pkt_send(pair[0], "", 0, &fd, 1) < 0)
		die("socketpair");
	close_fd(fd);
	return pair[1];
}

/* Refused by bpslave (no such kind), or by the master: the node does not take him. */
static void stubborn_channel(int fd, const char *what, uint32_t kind)
{
	struct {
		struct local_hdr h;
		struct local_move ask;
	} m = {.h = {.version = LOCAL_VERSION, .type = LOCAL_MOVE, .len = sizeof(m.ask)},
	       .ask = {.kind = kind, .node = 0}};
	int pair[2], given;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair) < 0)
		die("socketpair");
	if (strcmp(what, "full") == 0)
		fill_up(pair[1]);
	if (strcmp(what, "told") == 0) {
		given = lingering();
		pkt_send(pair[0], &m, sizeof(m), &given, 1);
		close_fd(given);
	}
	if (pkt_send(fd, &m, sizeof(m), &pair[1], 1) < 0)
		die("the question");
	/* bpinit makes it a non-blocking one, which it shares with us. */
	for (int64_t until = clock_ms() + 300; clock_ms() < until;)
		fcntl(pair[1], F_SETFL, 0);
}

static int stubborn(const char *what)
{
	struct local_hdr h = {.version = LOCAL_VERSION, .type = LOCAL_VERSION_ASK};
	int fd, given = -1;

	be_nobody();
	fd = call();
	if (fd < 0)
		die("connect");
	if (strcmp(what, "asked") == 0)
		given = lingering();
	else if (strcmp(what, "within") == 0)
		given = within(lingering());
	else
		for (uint32_t kind = 9; kind; kind = kind == 9 ? MOVE_MOVE : 0)
			stubborn_channel(fd, what, kind);
	if (given >= 0 && pkt_send(fd, &h, sizeof(h), &given, 1) < 0)
		die("the question");
	close_fd(given);
	puts("given");
	fflush(stdout);
	sleep(STUBBORN_S);
	return 0;
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
		return channel(atoi(argv[2]));
	if (argc == 3 && strcmp(argv[1], "cloned") == 0)
		return cloned(atoi(argv[2]));
	if (argc == 4 && strcmp(argv[1], "wire") == 0)
		return wire(argv[2], argv[3]);
	if (argc == 3 && strcmp(argv[1], "silent") == 0)
		return silent(atoi(argv[2]));
	if (argc == 3 && strcmp(argv[1], "stubborn") == 0)
		return stubborn(argv[2]);
	if (argc == 3 && strcmp(argv[1], "missing") == 0)
		return missing(atoi(argv[2]));
	if (argc == 4 && strcmp(argv[1], "later") == 0)
		return later(atoi(argv[2]), argv[3]);
	if (argc == 4 && strcmp(argv[1], "raised") == 0)
		return raised(atoi(argv[2]), argv[3]);
	fprintf(stderr, "usage: hostile local | channel PID | cloned PID | silent NODE | "
			"stubborn WHAT | missing PID | later NODE PROGRAM | raised NODE PROGRAM | wire ADDR PORT\n");
	return 2;
}
