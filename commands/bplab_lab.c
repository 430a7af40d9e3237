/*
 * Pid 1 of the lab: starts the places and in them the daemons, waits until the
 * nodes are up, runs COMMAND on the front end, and serves the control socket
 * (bplab_ctl.c). One poll loop; when it ends, the kernel ends everything else.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bplab_lab.h"

/* How long the slaves' start waits for the master's word that it listens. */
#define MASTER_READY_MS 3000

struct lab lab;

static int place_clone(struct lab_place *p)
{
	unsigned long flags =
		CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWUTS | CLONE_NEWIPC | SIGCHLD;
	int sp[2], null;
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sp) < 0)
		return -errno;
	pid = (pid_t)syscall(SYS_clone, flags, NULL, NULL, NULL, 0);
	if (pid == 0) {
		/* Nothing of the lab's stays open here: each side must see the
		 * other's end. Descriptor 2 stays the user's, for trouble. */
		null = open("/dev/null", O_RDWR | O_CLOEXEC);
		dup2(null, 0);
		dup2(null, 1);
		dup2(sp[1], 3);
		syscall(SYS_close_range, 4u, ~0u, 0u);
		fcntl(3, F_SETFD, FD_CLOEXEC);
		place_main(lab.opts, p->node, 3);
	}
	close_fd(sp[1]);
	if (pid < 0) {
		int e = errno;

		close_fd(sp[0]);
		user_explain(e, NULL);
		return -e;
	}
	p->pid = pid;
	p->sock = sp[0];
	p->state = PLACE_MAKING;
	p->cut = false;
	return 0;
}

/* Places first .. first + count - 1, cabled; they answer PLACE_READY. */
int lab_make_places(int first, int count)
{
	static pid_t pids[LAB_NODES_MAX + 1];
	static struct lab_msg m;
	int r;

	for (int i = 0; i < count; i++) {
		r = place_clone(lab_at(first + i));
		if (r < 0)
			return r;
		pids[i] = lab_at(first + i)->pid;
	}
	r = net_cables(first, count, pids);
	if (r < 0)
		return r;
	for (int i = 0; i < count; i++) {
		m = (struct lab_msg){.type = PLACE_NET};
		r = lab_send(lab_at(first + i)->sock, &m, NULL, 0);
		if (r < 0)
			return r;
	}
	return 0;
}

static void tail(const char *name)
{
	char path[512], buf[3000];
	cleanup_fd int fd = -1;
	ssize_t n;

	snprintf(path, sizeof(path), "%s/%s", LAB_LOG, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	if (lseek(fd, -(off_t)sizeof(buf), SEEK_END) < 0)
		lseek(fd, 0, SEEK_SET);
	n = read(fd, buf, sizeof(buf));
	if (n <= 0)
		return;
	dprintf(STDERR_FILENO, "--- %s:\n", name);
	write_full(STDERR_FILENO, buf, (size_t)n);
}

static _Noreturn void lab_end(int status)
{
	static struct lab_msg m;

	m = (struct lab_msg){.type = OUTER_EXIT, .value = status};
	lab_send(lab.outer, &m, NULL, 0);
	/* outer kills this process; if it has gone, so have we. */
	for (;;)
		pause();
}

/* The lab cannot be had: what the daemons said, then the end. */
static _Noreturn void lab_fail(void)
{
	char name[32];

	if (!lab.opts->bare) {
		tail("bpmaster");
		for (int i = LAB_MASTER; i < lab.opts->nodes; i++) {
			snprintf(name, sizeof(name), "bpslave.%s", lab_name(i));
			tail(name);
		}
	}
	lab_end(LAB_EXIT_FAIL);
}

static void daemon_path(char *buf, size_t size, const char *name)
{
	const char *const where[] = {"%s/%s", "%s/../sbin/%s"};

	for (size_t i = 0; i < 2; i++) {
		snprintf(buf, size, where[i], lab.opts->bin, name);
		if (access(buf, X_OK) == 0)
			return;
	}
	snprintf(buf, size, "%s", name);
}

/* env: NAME=VALUE strings packed as in a lab_msg, or NULL. */
int lab_start_daemon(struct lab_place *p, int role, const char *env, uint32_t nenv)
{
	static struct lab_msg m;
	char path[4200], log[64];
	cleanup_fd int out = -1, null = open("/dev/null", O_RDONLY | O_CLOEXEC);

	m = (struct lab_msg){.type = PLACE_SPAWN, .role = role};
	daemon_path(path, sizeof(path), role == ROLE_MASTER ? "bpmaster" : "bpslave");
	lab_add(&m, path, false);
	if (role == ROLE_MASTER || p->node == LAB_MASTER) {
		lab_add(&m, "-c", false);
		lab_add(&m, LAB_CONFIG, false);
	}
	if (lab.opts->verbose)
		lab_add(&m, "-v", false);
	if (role == ROLE_SLAVE) {
		lab_slave_args(&m, p->node);
	} else {
		lab_add(&m, "NOTIFY_SOCKET=" LAB_NOTIFY, true);
	}
	for (; nenv > 0; nenv--, env += strlen(env) + 1)
		lab_add(&m, env, true);
	if (role == ROLE_MASTER)
		snprintf(log, sizeof(log), "%s/bpmaster", LAB_LOG);
	else
		snprintf(log, sizeof(log), "%s/bpslave.%s", LAB_LOG, lab_name(p->node));
	out = open(log, O_CREAT | O_WRONLY | O_APPEND | O_CLOEXEC, 0644);
	if (out < 0 || null < 0)
		return -errno;
	p->daemon[role] = DAEMON_RUNS;
	return lab_send(p->sock, &m, (int[]){null, out, out}, 3);
}

static int start_waiter(void)
{
	static struct lab_msg m;
	char count[16], seconds[16];

	m = (struct lab_msg){.type = PLACE_SPAWN, .role = ROLE_WAIT};
	snprintf(count, sizeof(count), "%d", lab.opts->nodes);
	snprintf(seconds, sizeof(seconds), "%.3f", lab.opts->wait_ms / 1000.0);
	lab_add(&m, lab.opts->exe, false);
	lab_add(&m, "wait", false);
	lab_add(&m, "-w", false);
	lab_add(&m, seconds, false);
	lab_add(&m, "-n", false);
	lab_add(&m, count, false);
	return lab_send(lab_at(LAB_MASTER)->sock, &m, (int[]){0, 2, 2}, 3);
}

static int start_command(void)
{
	static struct lab_msg m;

	m = (struct lab_msg){.type = PLACE_SPAWN, .role = ROLE_COMMAND, .flags = SPAWN_COMMAND};
	if (lab.opts->pty)
		m.flags |= SPAWN_PTY;
	lab.phase = PHASE_COMMAND;
	return lab_send(lab_at(LAB_MASTER)->sock, &m, (int[]){0, 1, 2}, 3);
}

static int start_slaves(void)
{
	int r = 0;

	lab.phase = PHASE_SLAVES;
	for (int i = LAB_MASTER; i < lab.opts->nodes && r == 0; i++)
		r = lab_start_daemon(lab_at(i), ROLE_SLAVE, NULL, 0);
	return r < 0 ? r : start_waiter();
}

/* All places are there. */
static int start_cluster(void)
{
	if (lab.opts->bare)
		return start_command();
	lab.phase = PHASE_MASTER;
	lab.master_deadline = lab_now_ms() + MASTER_READY_MS;
	return lab_start_daemon(lab_at(LAB_MASTER), ROLE_MASTER, NULL, 0);
}

static void place_is_ready(struct lab_place *p, const struct lab_msg *m)
{
	int r;

	if (m->value) {
		lab_warn("%s: %s", lab_name(p->node), m->text);
		if (lab.phase != PHASE_COMMAND)
			lab_fail();
		kill(p->pid, SIGKILL);
		return;
	}
	p->state = PLACE_UP;
	if (lab.phase == PHASE_COMMAND) {
		ctl_place_up(p);
		return;
	}
	for (int i = LAB_MASTER; i < lab.opts->nodes; i++)
		if (lab_at(i)->state != PLACE_UP)
			return;
	r = start_cluster();
	if (r < 0) {
		lab_warn("cannot start the cluster: %s", strerror(-r));
		lab_fail();
	}
}

static void started(struct lab_place *p, const struct lab_msg *m, struct sysio_pkt *pkt)
{
	static struct lab_msg out;

	if (m->role == ROLE_COMMAND && m->value == 0) {
		if (pkt->nfd == 1) {
			out = (struct lab_msg){.type = OUTER_PTY};
			lab_send(lab.outer, &out, pkt->fd, 1);
		}
		return;
	}
	if (m->role == ROLE_COMMAND) {
		lab_warn("%s", m->text);
		lab_end(m->value == ENOENT ? LAB_EXIT_NOTFOUND : LAB_EXIT_NOEXEC);
	}
	if (m->role < ROLE_DAEMONS && m->value)
		p->daemon[m->role] = DAEMON_OFF;
	if (lab.phase != PHASE_COMMAND && m->value) {
		lab_warn("%s on %s", m->text, lab_name(p->node));
		lab_fail();
	}
	if (lab.phase == PHASE_COMMAND)
		ctl_started(p, m);
}

static void exited(struct lab_place *p, const struct lab_msg *m)
{
	const char *name = m->role == ROLE_MASTER ? "bpmaster" : "bpslave";
	int r;

	if (m->role == ROLE_COMMAND)
		lab_end(lab_exit_of(m->value));
	if (m->role == ROLE_WAIT) {
		r = m->value ? -ETIMEDOUT : start_command();
		if (r < 0)
			lab_fail();
		return;
	}
	if (m->role < ROLE_DAEMONS) {
		p->daemon[m->role] = DAEMON_OFF;
		if (lab.phase != PHASE_COMMAND) {
			lab_warn("%s on %s ended with status %d", name, lab_name(p->node),
				 lab_exit_of(m->value));
			lab_fail();
		}
	}
	ctl_exited(p, m);
}

static void place_is_gone(struct lab_place *p)
{
	if (lab.phase != PHASE_COMMAND || p->node == LAB_MASTER) {
		lab_warn("%s ended too early", lab_name(p->node));
		lab_fail();
	}
	while (waitpid(p->pid, NULL, 0) < 0 && errno == EINTR)
		;
	close_fd(p->sock);
	p->sock = -1;
	p->pid = 0;
	p->state = PLACE_OFF;
	p->daemon[ROLE_MASTER] = p->daemon[ROLE_SLAVE] = DAEMON_OFF;
	/* The namespace's own end comes a little later than its last process. */
	net_unplug(p->node);
	ctl_place_gone(p);
}

static void from_place(struct lab_place *p)
{
	static struct lab_msg m;
	struct sysio_pkt pkt;

	if (lab_recv(p->sock, &m, &pkt) < 0) {
		place_is_gone(p);
		return;
	}
	if (m.type == PLACE_READY)
		place_is_ready(p, &m);
	else if (m.type == PLACE_STARTED)
		started(p, &m, &pkt);
	else if (m.type == PLACE_EXITED)
		exited(p, &m);
	pkt_close(&pkt);
}

static void from_outer(void)
{
	static struct lab_msg m;
	struct sysio_pkt pkt;

	if (lab_recv(lab.outer, &m, &pkt) < 0)
		_exit(1);
	pkt_close(&pkt);
	if (m.type == OUTER_SIGNAL && lab.phase == PHASE_COMMAND) {
		int sig = m.value;

		m = (struct lab_msg){.type = PLACE_KILL, .role = ROLE_COMMAND, .value = sig};
		lab_send(lab_at(LAB_MASTER)->sock, &m, NULL, 0);
	} else if (m.type == OUTER_SIGNAL) {
		lab_end(128 + m.value);
	}
}

/* sd_notify(3) of bpmaster, or the end of the time given to it. */
static void master_ready(void)
{
	int r;

	lab.master_deadline = 0;
	if (lab.phase == PHASE_MASTER) {
		r = start_slaves();
		if (r < 0) {
			lab_warn("cannot start the slaves: %s", strerror(-r));
			lab_fail();
		}
	} else {
		ctl_master_ready();
	}
}

static void from_notify(void)
{
	char buf[512];
	ssize_t n = recv(lab.notify, buf, sizeof(buf) - 1, MSG_DONTWAIT);

	if (n <= 0)
		return;
	buf[n] = '\0';
	if (strstr(buf, "READY=1"))
		master_ready();
}

static void loop(void)
{
	static struct pollfd pfd[3 + LAB_NODES_MAX + 1 + CTL_CLIENTS_MAX];
	int n, places, timeout;

	for (;;) {
		pfd[0] = (struct pollfd){.fd = lab.outer, .events = POLLIN};
		pfd[1] = (struct pollfd){.fd = lab.notify, .events = POLLIN};
		n = 2;
		for (int i = LAB_MASTER; i < lab.opts->nodes; i++)
			pfd[n++] = (struct pollfd){.fd = lab_at(i)->sock, .events = POLLIN};
		places = n;
		n += ctl_poll_add(pfd + n);
		timeout = -1;
		if (lab.master_deadline) {
			int64_t left = lab.master_deadline - lab_now_ms();

			timeout = left < 0 ? 0 : (int)left;
		}
		if (poll(pfd, (nfds_t)n, timeout) < 0 && errno != EINTR)
			_exit(1);
		if (lab.master_deadline && lab_now_ms() >= lab.master_deadline)
			master_ready();
		if (pfd[0].revents)
			from_outer();
		if (pfd[1].revents)
			from_notify();
		for (int i = 2; i < places; i++)
			if (pfd[i].revents)
				from_place(lab_at(i - 2 + LAB_MASTER));
		ctl_poll_done(pfd + places);
	}
}

static int notify_socket(void)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX, .sun_path = LAB_NOTIFY};
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd >= 0 && bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0)
		return close_fd(fd);
	return fd;
}

void lab_main(struct lab_opts *o, int outer)
{
	static struct lab_msg m;
	struct sysio_pkt pkt;

	/* Killed with outer, however it ends; the EOF of its socket says the
	 * same for the moments before this call. */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	prctl(PR_SET_NAME, "bplab-lab");
	lab_title("bplab: lab");
	setsid();
	signal(SIGPIPE, SIG_IGN);
	lab.opts = o;
	lab_set_env();
	lab.outer = outer;
	lab.notify = -1;
	if (lab_recv(outer, &m, &pkt) < 0)
		_exit(1);
	for (int i = LAB_MASTER; i < LAB_NODES_MAX; i++)
		*lab_at(i) = (struct lab_place){.node = i, .sock = -1};
	if (o->userns && (setgid(0) < 0 || setuid(0) < 0)) {
		lab_warn("cannot become root of the user namespace: %s", strerror(errno));
		lab_fail();
	}
	prctl(PR_SET_PDEATHSIG, SIGKILL); /* setuid() has cleared it */
	umask(022);
	if (setup_lab(o) < 0 || net_bridge() < 0 || ctl_listen() < 0)
		lab_fail();
	lab.notify = notify_socket();
	if (lab_make_places(LAB_MASTER, o->nodes + 1) < 0)
		lab_fail();
	loop();
	_exit(1);
}
