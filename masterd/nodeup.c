/*
 * The node_up script: run once for each node that connects, with its number as
 * the argument, in a process group of its own. Its exit status makes the node
 * "up" or "error", unless the script itself has set the status (bpctl). Runs in
 * bpmaster; the end is seen by a pidfd.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "libbproc/log.h"
#include "libbproc/sysio.h"
#include "master.h"

#define NODE_UP_DEFAULT "/etc/bproc/node_up"

extern char **environ;

struct nodeup {
	struct master *m;
	struct node *n;
	pid_t pid;
	int pidfd;	    /* owned */
	struct event *done; /* owned */
};

static void nodeup_free(struct nodeup *u)
{
	if (u->done)
		event_free(u->done);
	close_fd(u->pidfd);
	free(u);
}

static void ended(evutil_socket_t fd, short what, void *arg)
{
	struct nodeup *u = arg;
	struct master *m = u->m;
	struct node *n = u->n;
	int status;

	(void)fd;
	(void)what;
	if (waitpid(u->pid, &status, WNOHANG) != u->pid)
		return;
	n->script = NULL;
	nodeup_free(u);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
		nodes_event(m, n, NE_SCRIPT_OK);
		return;
	}
	if (WIFSIGNALED(status))
		node_reason(n, "node_up was killed by signal %d", WTERMSIG(status));
	else
		node_reason(n, "node_up ended with status %d", WEXITSTATUS(status));
	nodes_event(m, n, NE_SCRIPT_FAIL);
}

static int spawn_script(const char *path, int32_t num, pid_t *ret_pid)
{
	char node[16], *argv[] = {(char *)(uintptr_t)path, node, NULL};
	posix_spawn_file_actions_t fa;
	posix_spawnattr_t at;
	sigset_t none, dfl;
	cpu_set_t all;
	int r;

	snprintf(node, sizeof(node), "%d", num);
	memset(&all, 0xff, sizeof(all));
	sigemptyset(&none);
	sigemptyset(&dfl);
	sigaddset(&dfl, SIGPIPE);
	sigaddset(&dfl, SIGTERM);
	sigaddset(&dfl, SIGINT);
	sigaddset(&dfl, SIGHUP);
	posix_spawnattr_init(&at);
	posix_spawnattr_setflags(&at, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK |
					      POSIX_SPAWN_SETSIGDEF);
	posix_spawnattr_setpgroup(&at, 0);
	posix_spawnattr_setsigmask(&at, &none);
	posix_spawnattr_setsigdefault(&at, &dfl);
	posix_spawn_file_actions_init(&fa);
	posix_spawn_file_actions_addopen(&fa, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_adddup2(&fa, STDERR_FILENO, STDOUT_FILENO);
	r = posix_spawn(ret_pid, path, &fa, &at, argv, environ);
	if (r == 0) /* on all processors again: the daemon has one only */
		sched_setaffinity(*ret_pid, sizeof(all), &all);
	posix_spawn_file_actions_destroy(&fa);
	posix_spawnattr_destroy(&at);
	return -r;
}

int nodeup_start(struct master *m, struct node *n)
{
	const char *path = m->conf.node_up[0] ? m->conf.node_up : NODE_UP_DEFAULT;
	struct nodeup *u;
	int r;

	nodeup_stop(n);
	/* Only the one that was asked for by name has to be there. */
	if (!m->conf.node_up[0] && access(path, F_OK) < 0)
		return 0;
	u = calloc(1, sizeof(*u));
	if (!u)
		return -ENOMEM;
	*u = (struct nodeup){.m = m, .n = n, .pidfd = -1};
	r = spawn_script(path, n->num, &u->pid);
	if (r < 0) {
		node_reason(n, "%s: %s", path, strerror(-r));
		nodeup_free(u);
		return r;
	}
	u->pidfd = (int)syscall(SYS_pidfd_open, u->pid, 0);
	u->done =
		u->pidfd < 0 ? NULL : event_new(m->base, u->pidfd, EV_READ | EV_PERSIST, ended, u);
	if (!u->done || event_add(u->done, NULL) < 0) {
		kill(u->pid, SIGKILL);
		waitpid(u->pid, NULL, 0);
		nodeup_free(u);
		return -ENOMEM;
	}
	n->script = u;
	return 1;
}

void nodeup_stop(struct node *n)
{
	struct nodeup *u = n->script;

	if (!u)
		return;
	n->script = NULL;
	kill(-u->pid, SIGKILL);
	kill(u->pid, SIGKILL);
	waitpid(u->pid, NULL, 0);
	nodeup_free(u);
}
