/*
 * Descriptors that keep waiting who closes them, or writes to them (hostile.c has the list).
 */
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "hostile.h"
#include "libbproc/local.h"
#include "libbproc/sysio.h"

#define STUBBORN_S 300

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

int hostile_stubborn(const char *what)
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
