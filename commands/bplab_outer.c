/*
 * What the user started: clones the lab's pid 1 into its namespaces, writes the
 * id maps, then relays signals and, for COMMAND on a terminal, bytes and window
 * size. Ends with COMMAND's status when the last process of the lab is gone.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "bplab.h"

/* What COMMAND gets to end by itself after a signal for bplab. */
#define GRACE_MS 2000

struct outer {
	int sock;
	int sig; /* signalfd */
	int pty; /* master side, or -1 */
	bool raw;
	bool in_eof;
	struct termios saved;
	int killed_by; /* signal that ends the lab, or 0 */
	int64_t deadline;
};

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void copy_winsize(struct outer *s)
{
	struct winsize w;

	if (s->pty >= 0 && ioctl(STDIN_FILENO, TIOCGWINSZ, &w) == 0)
		ioctl(s->pty, TIOCSWINSZ, &w);
}

static void terminal_raw(struct outer *s)
{
	struct termios t;

	if (tcgetattr(STDIN_FILENO, &s->saved) < 0)
		return;
	/* The lab's terminal starts as this one is, and this one only passes on. */
	tcsetattr(s->pty, TCSANOW, &s->saved);
	t = s->saved;
	cfmakeraw(&t);
	if (tcsetattr(STDIN_FILENO, TCSADRAIN, &t) == 0)
		s->raw = true;
}

static void terminal_restore(struct outer *s)
{
	if (s->raw)
		tcsetattr(STDIN_FILENO, TCSADRAIN, &s->saved);
	s->raw = false;
}

/* From COMMAND's terminal to the user; false at its end. */
static bool relay_out(struct outer *s)
{
	char buf[16384];
	ssize_t n = read(s->pty, buf, sizeof(buf));

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return true;
	/* EIO: the last descriptor of the slave side is closed. */
	return n > 0 && write_full(STDOUT_FILENO, buf, (size_t)n) == 0;
}

static void relay_in(struct outer *s)
{
	char buf[4096];
	ssize_t n = read(STDIN_FILENO, buf, sizeof(buf));

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	if (n > 0) {
		write_full(s->pty, buf, (size_t)n);
		return;
	}
	/* No terminal on this side (-t with a pipe): end of file is typed. */
	s->in_eof = true;
	write_full(s->pty, "\004", 1);
}

static void on_signal(struct outer *s)
{
	static struct lab_msg m;
	struct signalfd_siginfo si;

	if (read(s->sig, &si, sizeof(si)) != sizeof(si))
		return;
	if (si.ssi_signo == SIGWINCH) {
		copy_winsize(s);
		return;
	}
	m = (struct lab_msg){.type = OUTER_SIGNAL, .value = (int)si.ssi_signo};
	lab_send(s->sock, &m, NULL, 0);
	if (!s->killed_by) {
		s->killed_by = (int)si.ssi_signo;
		s->deadline = now_ms() + GRACE_MS;
	}
}

/* From the lab; true with a status when it is over. */
static bool on_lab(struct outer *s, int *ret_status)
{
	static struct lab_msg m;
	struct sysio_pkt pkt;
	int r = lab_recv(s->sock, &m, &pkt);

	if (r < 0) {
		lab_warn("the lab ended unexpectedly");
		*ret_status = LAB_EXIT_FAIL;
		return true;
	}
	if (m.type == OUTER_EXIT) {
		*ret_status = m.value;
		return true;
	}
	if (m.type == OUTER_PTY && pkt.nfd == 1) {
		s->pty = take_fd(pkt.fd[0]);
		copy_winsize(s);
		terminal_raw(s);
	}
	pkt_close(&pkt);
	return false;
}

static int relay(struct outer *s)
{
	struct pollfd pfd[4];
	int status, timeout;

	for (;;) {
		pfd[0] = (struct pollfd){.fd = s->sock, .events = POLLIN};
		pfd[1] = (struct pollfd){.fd = s->sig, .events = POLLIN};
		pfd[2] = (struct pollfd){.fd = s->pty, .events = POLLIN};
		pfd[3] = (struct pollfd){.fd = s->pty < 0 || s->in_eof ? -1 : STDIN_FILENO,
					 .events = POLLIN};
		timeout = -1;
		if (s->killed_by) {
			timeout = (int)(s->deadline - now_ms());
			if (timeout <= 0)
				return 128 + s->killed_by;
		}
		if (poll(pfd, 4, timeout) < 0 && errno != EINTR)
			return LAB_EXIT_FAIL;
		if (pfd[1].revents)
			on_signal(s);
		if (pfd[2].revents && !relay_out(s)) {
			close_fd(s->pty);
			s->pty = -1;
		}
		if (pfd[3].revents)
			relay_in(s);
		if (pfd[0].revents && on_lab(s, &status))
			return status;
	}
}

/* What COMMAND wrote before it ended and has not been read yet. */
static void drain(struct outer *s)
{
	struct pollfd p = {.fd = s->pty, .events = POLLIN};

	while (s->pty >= 0 && poll(&p, 1, 0) > 0 && (p.revents & POLLIN) && relay_out(s))
		;
}

/* The lab's pid 1, in all its new namespaces. */
static pid_t clone_lab(struct lab_opts *o, int *ret_sock)
{
	unsigned long flags =
		CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWUTS | CLONE_NEWIPC | SIGCHLD;
	int sp[2], e;
	pid_t pid;

	o->userns = !user_is_privileged();
	if (o->userns)
		flags |= CLONE_NEWUSER;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sp) < 0)
		return -errno;
	pid = (pid_t)syscall(SYS_clone, flags, NULL, NULL, NULL, 0);
	if (pid == 0) {
		dup2(sp[1], 3);
		syscall(SYS_close_range, 4u, ~0u, 0u);
		fcntl(3, F_SETFD, FD_CLOEXEC);
		lab_main(o, 3);
	}
	e = errno;
	close_fd(sp[1]);
	if (pid < 0) {
		close_fd(sp[0]);
		user_explain(e, NULL);
		return -e;
	}
	*ret_sock = sp[0];
	return pid;
}

/* Three descriptors below our own, whatever the caller had closed. */
static void open_stdio(void)
{
	int fd;

	do {
		fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	} while (fd >= 0 && fd < 3);
	close_fd(fd);
	for (int i = 0; i < 3; i++)
		fcntl(i, F_SETFD, 0);
}

int outer_run(struct lab_opts *o)
{
	static struct lab_msg m = {.type = OUTER_GO};
	struct outer s = {.sock = -1, .pty = -1};
	sigset_t set;
	int status = LAB_EXIT_FAIL, r = 0;
	pid_t pid;

	open_stdio();
	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGQUIT);
	sigaddset(&set, SIGWINCH);
	pid = clone_lab(o, &s.sock);
	if (pid < 0)
		return LAB_EXIT_FAIL;
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	s.sig = signalfd(-1, &set, SFD_CLOEXEC);
	if (o->userns)
		r = user_map(pid);
	if (r < 0)
		lab_warn("cannot map this user into a user namespace: %s", strerror(-r));
	else if (s.sig >= 0 && lab_send(s.sock, &m, NULL, 0) == 0)
		status = relay(&s);
	kill(pid, SIGKILL);
	/* Returns when the kernel has reaped the last process of the lab. */
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
	drain(&s);
	terminal_restore(&s);
	return status;
}
