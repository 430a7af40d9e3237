/*
 * Moves that are asked for rightly, by who means harm with the channel (hostile.c has the list).
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "hostile.h"
#include "libbproc/local.h"
#include "libbproc/sysio.h"
#include "vmadump/blob/channel.h"

#define CLONED_S 8
#define CLONED_PIDS 400

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

int hostile_channel(int32_t victim)
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
int hostile_cloned(int32_t first)
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
int hostile_silent(int32_t node)
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
int hostile_later(int32_t node, const char *program)
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

int hostile_raised(int32_t node, const char *program)
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
