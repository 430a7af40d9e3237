/*
 * The lab's control socket: what `bplab kill`, `cut`, `exec` and the others ask
 * for. Runs in the lab's pid 1. A client has one request; those that end with
 * an event (a place is gone, a daemon has started) wait for it here.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bplab_lab.h"

struct client {
	int fd; /* -1: free */
	bool asked;
	uint32_t type;
	int node;
	int role;  /* of a daemon, or ROLE_EXEC and up */
	char *env; /* owned: packed strings for the daemon to start */
	uint32_t nenv;
};

static struct client client[CTL_CLIENTS_MAX];
static int listener = -1;
static int next_exec = ROLE_EXEC;

int ctl_listen(void)
{
	for (int i = 0; i < CTL_CLIENTS_MAX; i++)
		client[i].fd = -1;
	listener = unix_listen(LAB_CONTROL, 0600);
	if (listener < 0)
		lab_warn("%s: %s", LAB_CONTROL, strerror(-listener));
	return listener;
}

static void drop(struct client *c)
{
	close_fd(c->fd);
	free(c->env);
	*c = (struct client){.fd = -1};
}

static void answer(struct client *c, int status, const char *text)
{
	static struct lab_msg m;

	m = (struct lab_msg){.type = CTL_ANSWER, .value = status};
	if (text)
		lab_text(&m, "%s", text);
	lab_send(c->fd, &m, NULL, 0);
	drop(c);
}

static void refuse(struct client *c, const char *what)
{
	char buf[256];

	snprintf(buf, sizeof(buf), "%s: %.200s", lab_name(c->node), what);
	answer(c, 1, buf);
}

/* The client that waits for an event of this daemon or place. */
static struct client *waiting(uint32_t type, int node, int role)
{
	for (int i = 0; i < CTL_CLIENTS_MAX; i++)
		if (client[i].fd >= 0 && client[i].asked && client[i].type == type &&
		    client[i].node == node && client[i].role == role)
			return &client[i];
	return NULL;
}

static void send_kill(struct lab_place *p, int role, int sig)
{
	static struct lab_msg m;

	m = (struct lab_msg){.type = PLACE_KILL, .role = role, .value = sig};
	lab_send(p->sock, &m, NULL, 0);
}

static void start_daemon(struct client *c)
{
	struct lab_place *p = lab_at(c->node);
	int r;

	/* From here on it is the start that is waited for. */
	c->type = CTL_START_DAEMON;
	r = lab_start_daemon(p, c->role, c->env, c->nenv);
	if (r < 0)
		refuse(c, strerror(-r));
	else if (c->role == ROLE_MASTER)
		lab.master_deadline = lab_now_ms() + 3000;
}

/* A power cut: the node falls silent, then it is gone. */
static void do_kill(struct client *c, const struct lab_msg *m)
{
	struct lab_place *p = lab_at(c->node);

	if (c->node == LAB_MASTER) {
		refuse(c, "the front end is the lab itself (stop-master stops its daemon)");
		return;
	}
	if (!(m->flags & KILL_CRASH))
		net_cut(c->node, true);
	kill(p->pid, SIGKILL);
}

static void do_cut(struct client *c, bool cut)
{
	struct lab_place *p = lab_at(c->node);

	if (net_cut(c->node, cut) < 0) {
		refuse(c, "bridge(8) failed, see the lab's standard error");
		return;
	}
	p->cut = cut;
	answer(c, 0, NULL);
}

static void do_daemon(struct client *c, const struct lab_msg *m)
{
	struct lab_place *p = lab_at(c->node);
	bool runs = p->daemon[c->role] == DAEMON_RUNS;

	if (lab.opts->bare) {
		refuse(c, "a bare lab has no daemons");
	} else if (c->role == ROLE_MASTER && c->node != LAB_MASTER) {
		refuse(c, "bpmaster runs on the front end only");
	} else if (m->type == CTL_START_DAEMON && runs) {
		refuse(c, "the daemon runs already");
	} else if (m->type == CTL_STOP_DAEMON && !runs) {
		refuse(c, "the daemon does not run");
	} else if (runs) {
		send_kill(p, c->role, m->value);
	} else {
		start_daemon(c);
	}
}

static void do_exec(struct client *c, struct lab_msg *m, const struct sysio_pkt *pkt)
{
	if (pkt->nfd != 3) {
		refuse(c, "no descriptors came with exec");
		return;
	}
	c->role = next_exec++;
	m->type = PLACE_SPAWN;
	m->flags = 0;
	m->role = c->role;
	if (lab_send(lab_at(c->node)->sock, m, pkt->fd, 3) < 0)
		refuse(c, "does not answer");
}

static void do_status(struct client *c)
{
	char *text = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&text, &len);

	for (int i = LAB_MASTER; f && i < lab.opts->nodes; i++) {
		const struct lab_place *p = lab_at(i);
		const char *state = p->state == PLACE_OFF      ? "off"
				    : p->state == PLACE_MAKING ? "starting"
				    : p->cut		       ? "cut"
							       : "on";

		fprintf(f, "%s%s\t%s\t%s%s%s", i > LAB_MASTER ? "\n" : "", lab_name(i),
			lab_ip(i == LAB_MASTER ? LAB_MASTER_ADDR : LAB_ADDR(i)), state,
			p->daemon[ROLE_MASTER] == DAEMON_RUNS ? " bpmaster" : "",
			p->daemon[ROLE_SLAVE] == DAEMON_RUNS ? " bpslave" : "");
	}
	if (f)
		fclose(f);
	answer(c, 0, text);
	free(text);
}

/* The environment of a daemon that is started later than now. */
static void keep_env(struct client *c, struct lab_msg *m)
{
	if (m->nenv == 0 || m->nargs != 0)
		return;
	c->env = malloc(m->len);
	if (!c->env)
		return;
	memcpy(c->env, m->text, m->len);
	c->nenv = m->nenv;
}

static void request(struct client *c, struct lab_msg *m, const struct sysio_pkt *pkt)
{
	bool off;

	c->asked = true;
	c->type = m->type;
	c->node = m->node;
	c->role = m->role == ROLE_MASTER ? ROLE_MASTER : ROLE_SLAVE;
	if (m->node < LAB_MASTER || m->node >= lab.opts->nodes) {
		refuse(c, "no such node in this lab");
		return;
	}
	off = lab_at(m->node)->state != PLACE_UP;
	keep_env(c, m);
	if (m->type == CTL_STATUS) {
		do_status(c);
	} else if (m->type == CTL_START) {
		c->role = ROLE_SLAVE;
		if (lab_at(m->node)->state != PLACE_OFF)
			refuse(c, "it is on");
		else if (lab_make_places(m->node, 1) < 0)
			refuse(c, "cannot be made");
	} else if (off) {
		refuse(c, "it is off");
	} else if (m->type == CTL_KILL) {
		do_kill(c, m);
	} else if (m->type == CTL_CUT || m->type == CTL_HEAL) {
		do_cut(c, m->type == CTL_CUT);
	} else if (m->type == CTL_EXEC) {
		do_exec(c, m, pkt);
	} else if (m->type >= CTL_STOP_DAEMON && m->type <= CTL_RESTART_DAEMON) {
		do_daemon(c, m);
	} else {
		refuse(c, "unknown request");
	}
}

static void from_client(struct client *c)
{
	static struct lab_msg m;
	struct sysio_pkt pkt;

	if (lab_recv(c->fd, &m, &pkt) < 0) {
		/* It was interrupted: what it started in a node goes too. */
		if (c->asked && c->type == CTL_EXEC && lab_at(c->node)->state == PLACE_UP)
			send_kill(lab_at(c->node), c->role, SIGKILL);
		drop(c);
		return;
	}
	if (!c->asked)
		request(c, &m, &pkt);
	pkt_close(&pkt);
}

static void accept_client(void)
{
	int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

	for (int i = 0; fd >= 0 && i < CTL_CLIENTS_MAX; i++) {
		if (client[i].fd < 0) {
			client[i].fd = fd;
			return;
		}
	}
	close_fd(fd);
}

int ctl_poll_add(struct pollfd *pfd)
{
	pfd[0] = (struct pollfd){.fd = listener, .events = POLLIN};
	for (int i = 0; i < CTL_CLIENTS_MAX; i++)
		pfd[1 + i] = (struct pollfd){.fd = client[i].fd, .events = POLLIN};
	return 1 + CTL_CLIENTS_MAX;
}

void ctl_poll_done(const struct pollfd *pfd)
{
	for (int i = 0; i < CTL_CLIENTS_MAX; i++)
		if (pfd[1 + i].revents && pfd[1 + i].fd == client[i].fd)
			from_client(&client[i]);
	if (pfd[0].revents)
		accept_client();
}

void ctl_place_up(struct lab_place *p)
{
	struct client *c = waiting(CTL_START, p->node, ROLE_SLAVE);

	if (lab.opts->bare) {
		if (c)
			answer(c, 0, NULL);
	} else if (c) {
		start_daemon(c);
	} else {
		lab_start_daemon(p, ROLE_SLAVE, NULL, 0);
	}
}

void ctl_place_gone(struct lab_place *p)
{
	for (int i = 0; i < CTL_CLIENTS_MAX; i++) {
		struct client *c = &client[i];

		if (c->fd < 0 || !c->asked || c->node != p->node)
			continue;
		if (c->type == CTL_KILL)
			answer(c, 0, NULL);
		else
			refuse(c, "it went off");
	}
}

void ctl_started(struct lab_place *p, const struct lab_msg *m)
{
	struct client *c;

	if (m->role >= ROLE_EXEC) {
		c = waiting(CTL_EXEC, p->node, m->role);
		if (c && m->value)
			answer(c, m->value == ENOENT ? LAB_EXIT_NOTFOUND : LAB_EXIT_NOEXEC,
			       m->text);
		return;
	}
	c = waiting(CTL_START_DAEMON, p->node, m->role);
	if (!c)
		return;
	if (m->value)
		refuse(c, m->text);
	else if (m->role != ROLE_MASTER)
		answer(c, 0, NULL);
}

void ctl_exited(struct lab_place *p, const struct lab_msg *m)
{
	struct client *c;
	char buf[64];

	if (m->role >= ROLE_EXEC) {
		c = waiting(CTL_EXEC, p->node, m->role);
		if (c)
			answer(c, lab_exit_of(m->value), NULL);
		return;
	}
	if ((c = waiting(CTL_STOP_DAEMON, p->node, m->role)))
		answer(c, 0, NULL);
	else if ((c = waiting(CTL_RESTART_DAEMON, p->node, m->role)))
		start_daemon(c);
	else if ((c = waiting(CTL_START_DAEMON, p->node, m->role))) {
		snprintf(buf, sizeof(buf), "the daemon ended at once with status %d",
			 lab_exit_of(m->value));
		refuse(c, buf);
	}
}

/* bpmaster listens (or had its time for it). */
void ctl_master_ready(void)
{
	struct client *c = waiting(CTL_START_DAEMON, LAB_MASTER, ROLE_MASTER);

	if (c)
		answer(c, 0, NULL);
}
