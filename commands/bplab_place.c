/*
 * Pid 1 of a place (the front end or a node): makes the place's own mounts,
 * starts and kills what the lab asks for, and reaps everything. Its death is
 * the death of the place: the kernel kills what is left in its pid namespace.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "bplab.h"

#define CHILDREN_MAX 256

struct place {
	const struct lab_opts *opts;
	int node;
	int sock; /* to the lab */
	struct {
		pid_t pid; /* 0: free */
		int role;
	} child[CHILDREN_MAX];
};

static void tell(struct place *p, uint32_t type, int role, int value, const char *text, int fd)
{
	static struct lab_msg m;

	m = (struct lab_msg){.type = type, .node = p->node, .role = role, .value = value};
	if (text)
		lab_text(&m, "%s", text);
	/* The lab is gone: so are we, by its pid namespace. */
	if (lab_send(p->sock, &m, &fd, fd >= 0) < 0)
		_exit(1);
}

/* A terminal of this place's own /dev/pts; the master side, or -errno. */
static int open_pty(int *ret_slave)
{
	cleanup_fd int master = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC);
	int zero = 0, n;
	char path[32];

	if (master < 0 || ioctl(master, TIOCSPTLCK, &zero) < 0 || ioctl(master, TIOCGPTN, &n) < 0)
		return -errno;
	snprintf(path, sizeof(path), "/dev/pts/%d", n);
	*ret_slave = open(path, O_RDWR | O_NOCTTY | O_CLOEXEC);
	return *ret_slave < 0 ? -errno : take_fd(master);
}

/* Splits the packed strings; the array is allocated. */
static char **strings(char *text, uint32_t n, char **ret_end)
{
	char **v = calloc(n + 1, sizeof(*v));

	for (uint32_t i = 0; v && i < n; i++) {
		v[i] = text;
		text += strlen(text) + 1;
	}
	*ret_end = text;
	return v;
}

/* In the child: never returns. The reason of a failed exec goes up the pipe. */
static void __attribute__((noreturn))
become(const struct lab_opts *o, struct lab_msg *m, const int *fds, int slave, int report)
{
	char *end, **argv = strings(m->text, m->nargs, &end);
	char **env = strings(end, m->nenv, &end);
	sigset_t none;
	int e;

	setsid();
	if (slave >= 0) {
		ioctl(slave, TIOCSCTTY, 0);
		for (int i = 0; i < 3; i++)
			dup2(slave, i);
	} else {
		for (int i = 0; i < 3; i++)
			dup2(fds[i], i);
	}
	for (uint32_t i = 0; env && i < m->nenv; i++)
		putenv(env[i]);
	if (m->role < ROLE_DAEMONS && chdir("/") < 0)
		_exit(1);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	/*
	 * What whoever started the lab ignores (a shell's background job ignores SIGINT) would
	 * be ignored by every program in it: an exec keeps that, and a shell cannot undo it.
	 */
	for (int sig = 1; sig < NSIG; sig++)
		signal(sig, SIG_DFL);
	if (m->flags & SPAWN_COMMAND)
		argv = o->command;
	if (argv && argv[0])
		execvp(argv[0], argv);
	e = errno;
	write_full(report, &e, sizeof(e));
	_exit(127);
}

static int remember(struct place *p, pid_t pid, int role)
{
	for (int i = 0; i < CHILDREN_MAX; i++) {
		if (p->child[i].pid == 0) {
			p->child[i].pid = pid;
			p->child[i].role = role;
			return 0;
		}
	}
	return -EAGAIN;
}

static void spawn(struct place *p, struct lab_msg *m, struct sysio_pkt *pkt)
{
	cleanup_fd int master = -1, slave = -1;
	int report[2], e = 0;
	char text[256];
	pid_t pid;

	if (m->flags & SPAWN_PTY) {
		master = open_pty(&slave);
		if (master < 0) {
			tell(p, PLACE_STARTED, m->role, -master, "no terminal: /dev/ptmx", -1);
			return;
		}
	} else if (pkt->nfd != 3) {
		tell(p, PLACE_STARTED, m->role, EPROTO, "no descriptors", -1);
		return;
	}
	if (pipe2(report, O_CLOEXEC) < 0 || (pid = fork()) < 0) {
		tell(p, PLACE_STARTED, m->role, errno, strerror(errno), -1);
		return;
	}
	if (pid == 0)
		become(p->opts, m, pkt->fd, slave, report[1]);
	close(report[1]);
	/* Ends at exec (the pipe is close-on-exec) or with the reason. */
	if (read_full(report[0], &e, sizeof(e)) < 0)
		e = 0;
	close(report[0]);
	if (e || remember(p, pid, m->role) < 0) {
		snprintf(text, sizeof(text), "%.200s: %s",
			 m->flags & SPAWN_COMMAND ? p->opts->command[0] : m->text,
			 strerror(e ? e : EAGAIN));
		kill(pid, SIGKILL);
		tell(p, PLACE_STARTED, m->role, e ? e : EAGAIN, text, -1);
		return;
	}
	tell(p, PLACE_STARTED, m->role, 0, NULL, master);
}

static void kill_role(struct place *p, int role, int sig)
{
	for (int i = 0; i < CHILDREN_MAX; i++) {
		if (p->child[i].pid == 0 || p->child[i].role != role)
			continue;
		/* A command is a session and gets it as from a terminal; a daemon alone. */
		if (role >= ROLE_COMMAND)
			kill(-p->child[i].pid, sig);
		else
			kill(p->child[i].pid, sig);
	}
}

static void reap(struct place *p)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		for (int i = 0; i < CHILDREN_MAX; i++) {
			if (p->child[i].pid != pid)
				continue;
			p->child[i].pid = 0;
			tell(p, PLACE_EXITED, p->child[i].role, status, NULL, -1);
		}
	}
}

static void serve(struct place *p)
{
	static struct lab_msg m;
	struct sysio_pkt pkt;

	if (lab_recv(p->sock, &m, &pkt) < 0)
		_exit(1);
	switch (m.type) {
	case PLACE_NET:
		if (net_place(p->node) < 0)
			tell(p, PLACE_READY, 0, EIO, "cannot set up its network (see above)", -1);
		else
			tell(p, PLACE_READY, 0, 0, NULL, -1);
		break;
	case PLACE_SPAWN:
		spawn(p, &m, &pkt);
		break;
	case PLACE_KILL:
		kill_role(p, m.role, m.value);
		break;
	}
	pkt_close(&pkt);
}

void place_main(const struct lab_opts *o, int node, int sock)
{
	static struct place p;
	struct pollfd pfd[2];
	sigset_t set;
	int r;

	p.opts = o;
	p.node = node;
	p.sock = sock;
	prctl(PR_SET_NAME, "bplab-place");
	lab_title("bplab: %s", lab_name(node));
	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigprocmask(SIG_SETMASK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	r = setup_place(o, node);
	if (r < 0)
		tell(&p, PLACE_READY, 0, -r, "cannot make its mounts (see above)", -1);
	pfd[0] = (struct pollfd){.fd = sock, .events = POLLIN};
	pfd[1] = (struct pollfd){.fd = signalfd(-1, &set, SFD_CLOEXEC), .events = POLLIN};
	for (;;) {
		struct signalfd_siginfo si;

		if (poll(pfd, 2, -1) < 0 && errno != EINTR)
			_exit(1);
		if (pfd[1].revents && read(pfd[1].fd, &si, sizeof(si)) > 0)
			reap(&p);
		if (pfd[0].revents)
			serve(&p);
	}
}
