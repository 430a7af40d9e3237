/*
 * Small things that all of bplab's processes use: messages, names, running a
 * tool, and the mapping of a wait status to an exit status.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bplab.h"

const char *lab_name(int node)
{
	static char buf[4][16];
	static unsigned turn;
	char *p = buf[turn++ % 4];

	if (node == LAB_MASTER)
		return "master";
	snprintf(p, sizeof(buf[0]), "n%d", node);
	return p;
}

const char *lab_ip(uint32_t addr)
{
	static char buf[4][INET_ADDRSTRLEN];
	static unsigned turn;
	struct in_addr a = {.s_addr = htonl(addr)};

	return inet_ntop(AF_INET, &a, buf[turn++ % 4], INET_ADDRSTRLEN);
}

int lab_parse_node(const char *s, int *ret_node)
{
	char *end;
	long n;

	if (!strcmp(s, "master")) {
		*ret_node = LAB_MASTER;
		return 0;
	}
	n = strtol(*s == 'n' ? s + 1 : s, &end, 10);
	if (!*s || *end || end == s || n < -1 || n >= LAB_NODES_MAX)
		return -EINVAL;
	*ret_node = (int)n;
	return 0;
}

int lab_send(int sock, struct lab_msg *m, const int *fds, int nfd)
{
	return pkt_send(sock, m, offsetof(struct lab_msg, text) + m->len, fds, nfd);
}

/* 0, or -errno; -EPIPE when the other side is gone. */
int lab_recv(int sock, struct lab_msg *m, struct sysio_pkt *pkt)
{
	int r = pkt_recv(sock, m, sizeof(*m), 0, pkt);

	if (r < 0)
		return r;
	if (pkt->len == 0)
		return -EPIPE;
	if (pkt->len < offsetof(struct lab_msg, text) ||
	    pkt->len != offsetof(struct lab_msg, text) + m->len ||
	    (m->len && m->text[m->len - 1] != '\0')) {
		pkt_close(pkt);
		return -EPROTO;
	}
	return 0;
}

int lab_add(struct lab_msg *m, const char *s, bool env)
{
	size_t n = strlen(s) + 1;

	if (m->len + n > sizeof(m->text))
		return -E2BIG;
	memcpy(m->text + m->len, s, n);
	m->len += (uint32_t)n;
	if (env)
		m->nenv++;
	else
		m->nargs++;
	return 0;
}

void lab_text(struct lab_msg *m, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(m->text, 1024, fmt, ap);
	va_end(ap);
	m->len = (uint32_t)strlen(m->text) + 1;
}

void lab_warn(const char *fmt, ...)
{
	char buf[2048];
	va_list ap;
	int n;

	va_start(ap, fmt);
	vsnprintf(buf, sizeof(buf), fmt, ap);
	va_end(ap);
	/* One write: places write to the same file. */
	n = dprintf(STDERR_FILENO, "bplab: %s\n", buf);
	(void)n;
}

int lab_run(const char *const argv[], const char *input)
{
	sigset_t none;
	int p[2], status;
	pid_t pid;

	if (pipe2(p, 0) < 0)
		return -errno;
	pid = fork();
	if (pid == 0) {
		sigemptyset(&none);
		sigprocmask(SIG_SETMASK, &none, NULL);
		dup2(p[0], STDIN_FILENO);
		dup2(STDERR_FILENO, STDOUT_FILENO);
		close(p[0]);
		close(p[1]);
		execvp(argv[0], (char *const *)(uintptr_t)argv);
		lab_warn("%s: %s", argv[0], strerror(errno));
		_exit(127);
	}
	close_fd(p[0]);
	if (pid > 0 && input)
		write_full(p[1], input, strlen(input));
	close_fd(p[1]);
	if (pid < 0)
		return -errno;
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	return status == 0 ? 0 : -EIO;
}

static char *title;
/* Owned, for life; "used", since nobody reads it but a leak checker. */
static char **title_argv __attribute__((used));
static size_t title_room;

/* The strings of argv lie one after the other: that is what ps shows. */
char **lab_title_room(int argc, char **argv)
{
	char **copy = calloc((size_t)argc + 1, sizeof(*copy));

	if (!copy)
		return argv;
	for (int i = 0; i < argc; i++) {
		copy[i] = strdup(argv[i]);
		if (!copy[i])
			return argv;
	}
	title_argv = copy;
	title = argv[0];
	title_room = (size_t)(argv[argc - 1] + strlen(argv[argc - 1]) - title);
	return copy;
}

void lab_title(const char *fmt, ...)
{
	va_list ap;

	if (!title)
		return;
	memset(title, 0, title_room + 1);
	va_start(ap, fmt);
	vsnprintf(title, title_room + 1, fmt, ap);
	va_end(ap);
}

int lab_exit_of(int wait_status)
{
	return WIFSIGNALED(wait_status) ? 128 + WTERMSIG(wait_status) : WEXITSTATUS(wait_status);
}
