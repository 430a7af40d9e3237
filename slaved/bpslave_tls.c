/*
 * bpslave: its bpdata workers. A worker is a process that speaks TLS on one data
 * connection, which carries images one after the other; when the connection has
 * ended it is kept (at most IDLE_MAX) and used again. Nothing here blocks: a worker
 * answers by events.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "libbproc/log.h"
#include "slaved/bpdata.h"
#include "slaved/bpslave.h"
#include "slaved/bpslave_data.h"

#define IDLE_MAX 4
#define WORKERS_MAX 256 /* data connections of one node at a time */

struct worker {
	LIST_ENTRY(worker) list;
	pid_t pid;
	int ctl;	  /* owned */
	struct event *ev; /* owned */
	bool busy, up;	  /* it has a connection; and the handshake is done */
	worker_fn *tell;  /* NULL: nobody waits */
	void *arg;
};

static LIST_HEAD(, worker) workers = LIST_HEAD_INITIALIZER(workers);
static int nworkers, nidle;

/*
 * The end of ctl tells it to end: between images at once, in a handshake when that is done or
 * its time is up. It is never killed: on_child() may have reaped it, and its pid be another's.
 */
static void worker_drop(struct worker *w)
{
	LIST_REMOVE(w, list);
	nworkers--;
	nidle -= !w->busy;
	free_event(&w->ev);
	close_fd(w->ctl);
	free(w);
}

/* The connection has ended, or was never made. */
static void worker_over(struct worker *w, int err, const char *text)
{
	worker_fn *tell = w->tell;

	w->tell = NULL;
	if (err && err != ECONNRESET)
		log_stranger("data connection: %s%s", w->up ? "" : "TLS failed: ", text);
	if (tell)
		tell(err ? -err : -ECONNRESET, -1, NULL, w->arg);
}

static void on_idle(struct worker *w)
{
	w->busy = w->up = false;
	if (++nidle > IDLE_MAX)
		worker_drop(w);
}

static void on_ctl(evutil_socket_t sock, short what, void *arg)
{
	struct worker *w = arg;
	struct bpdata_msg m;
	struct sysio_pkt pkt;
	int r = pkt_recv(sock, &m, sizeof(m), MSG_DONTWAIT, &pkt);

	(void)what;
	if (r == -EAGAIN)
		return;
	if (r < 0 || pkt.len != sizeof(m)) {
		worker_over(w, ECONNABORTED, "the worker has ended");
		worker_drop(w);
		return;
	}
	m.u.text[sizeof(m.u.text) - 1] = '\0';
	if (m.type == BPDATA_UP && m.err == 0) {
		w->up = true;
	} else if (m.type == BPDATA_UP || m.type == BPDATA_IDLE) {
		worker_over(w, m.err, m.u.text);
		on_idle(w);
	} else if (m.type == BPDATA_PAGER) {
		worker_over(w, 0, NULL);
		worker_drop(w);
	} else if (m.type == BPDATA_IMAGE && pkt.nfd >= 1 && w->tell) {
		w->tell(take_fd(pkt.fd[0]), pkt.nfd > 1 ? take_fd(pkt.fd[1]) : -1,
			m.server ? m.u.hdr : NULL, w->arg);
	}
	pkt_close(&pkt);
}

static pid_t spawn_bpdata(int ctl)
{
	char path[PATH_MAX];
	char name[] = "bpdata", *argv[] = {name, NULL};
	posix_spawn_file_actions_t fa;
	posix_spawnattr_t at;
	sigset_t none;
	pid_t pid;
	int r, safe;

	/* dup2 onto itself would keep close-on-exec: stand clear of the target number. */
	safe = fcntl(ctl, F_DUPFD_CLOEXEC, BPDATA_FD + 1);
	if (safe < 0)
		return -errno;
	program_beside("bpdata", path);
	sigemptyset(&none);
	posix_spawn_file_actions_init(&fa);
	posix_spawn_file_actions_adddup2(&fa, safe, BPDATA_FD);
	posix_spawnattr_init(&at);
	posix_spawnattr_setsigmask(&at, &none);
	posix_spawnattr_setflags(&at, POSIX_SPAWN_SETSIGMASK);
	r = posix_spawn(&pid, path, &fa, &at, argv, environ);
	posix_spawnattr_destroy(&at);
	posix_spawn_file_actions_destroy(&fa);
	close_fd(safe);
	return r ? -r : pid;
}

static struct worker *worker_new(void)
{
	struct bpdata_msg key = {.type = BPDATA_KEY};
	struct worker *w;
	int sv[2];

	if (nworkers >= WORKERS_MAX) {
		errno = EAGAIN;
		return NULL;
	}
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv) < 0)
		return NULL;
	w = calloc(1, sizeof(*w));
	if (!w)
		goto fail;
	*w = (struct worker){.ctl = sv[0]};
	w->ev = watch_fd(sv[0], EV_READ | EV_PERSIST, on_ctl, w);
	memcpy(key.u.psk, slave.key.psk, sizeof(key.u.psk));
	w->pid = w->ev && !pkt_send(sv[0], &key, sizeof(key), NULL, 0) ? spawn_bpdata(sv[1]) : -EIO;
	explicit_bzero(&key, sizeof(key));
	if (w->pid <= 0) {
		log_error("cannot start bpdata: %s", strerror(-w->pid));
		goto fail;
	}
	close_fd(sv[1]);
	LIST_INSERT_HEAD(&workers, w, list);
	nworkers++;
	nidle++;
	return w;
fail:
	if (w)
		free_event(&w->ev);
	free(w);
	close_fd(sv[0]);
	close_fd(sv[1]);
	errno = EIO;
	return NULL;
}

static struct worker *worker_idle(void)
{
	struct worker *w;

	LIST_FOREACH(w, &workers, list)
	if (!w->busy)
		return w;
	return worker_new();
}

struct worker *worker_start(int tcp, bool server, worker_fn *tell, void *arg)
{
	struct bpdata_msg m = {.type = BPDATA_RUN, .server = server};
	struct worker *w = worker_idle();
	int r = -EIO;

	/* The worker blocks: the socket's flags are shared with it. */
	if (w && fcntl(tcp, F_SETFL, 0) == 0)
		r = pkt_send(w->ctl, &m, sizeof(m), &tcp, 1);
	close_fd(tcp);
	if (r < 0)
		return NULL;
	w->busy = true;
	nidle--;
	w->tell = tell;
	w->arg = arg;
	return w;
}

int worker_back(struct worker *w, int fd)
{
	struct bpdata_msg m = {.type = BPDATA_BACK};

	return pkt_send(w->ctl, &m, sizeof(m), &fd, 1);
}

void worker_end(struct worker *w)
{
	/* An image that is on its way is the process's, not ours: the worker ends after it. */
	worker_drop(w);
}

void worker_stop_all(void)
{
	while (!LIST_EMPTY(&workers))
		worker_drop(LIST_FIRST(&workers));
}
