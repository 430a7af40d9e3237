/*
 * bpinit: start, the loop, the socket of bpslave. Beside every bpslave there is
 * one: on a node it is pid 1 of the node's own pid namespace, on the front end
 * (--keeper) an ordinary process. It owns what must outlive bpslave: channels,
 * ghosts, the record of what runs (doc/local.md).
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "libbproc/slice.h"
#include "slaved/bpinit_kill.h"
#include "slaved/bpinit_orphan.h"
#include "slaved/bpinit_place.h"

#define EPOLL_BATCH 64
#define SLAVE_BATCH 64 /* messages of bpslave before the others have their turn */

struct bpinit self = {.epoll = -1, .listener = -1, .signals = -1, .slave = -1, .code = -1};

void say(const char *fmt, ...)
{
	char line[512];
	va_list ap;
	int n;

	n = snprintf(line, sizeof(line), "<4>bpinit: ");
	va_start(ap, fmt);
	n += vsnprintf(line + n, sizeof(line) - (size_t)n - 1, fmt, ap);
	va_end(ap);
	if ((size_t)n > sizeof(line) - 2)
		n = sizeof(line) - 2;
	line[n++] = '\n';
	/* stderr is the log of whoever started us; if it has gone there is none. */
	if (write(2, line, (size_t)n) < 0)
		return;
}

/* -- what the loop waits for */

static uint64_t tag(enum watch_kind kind, uint32_t index, uint32_t gen)
{
	return (uint64_t)kind << 56 | (uint64_t)index << 32 | gen;
}

int watch_fd(int fd, enum watch_kind kind, uint32_t index, uint32_t gen, uint32_t events)
{
	struct epoll_event ev = {.events = events, .data.u64 = tag(kind, index, gen)};

	return epoll_ctl(self.epoll, EPOLL_CTL_ADD, fd, &ev) < 0 ? -errno : 0;
}

int rewatch_fd(int fd, enum watch_kind kind, uint32_t index, uint32_t gen, uint32_t events)
{
	struct epoll_event ev = {.events = events, .data.u64 = tag(kind, index, gen)};

	return epoll_ctl(self.epoll, EPOLL_CTL_MOD, fd, &ev) < 0 ? -errno : 0;
}

/* -- bpslave */

/* EV_STATE of everything, then the events that were not acknowledged, then live. */
static struct {
	bool greeted, running;
	unsigned int part;
	uint32_t req_id; /* of the HELLO that asked */
	uint32_t at;
} state_dump;

static void slave_drop(void)
{
	self.slave = close_fd(self.slave);
	self.slave_gen++;
	state_dump.greeted = state_dump.running = false;
}

static void want_write(bool on)
{
	rewatch_fd(self.slave, ON_SLAVE, 0, self.slave_gen, EPOLLIN | (on ? EPOLLOUT : 0));
}

static int dump_state(void)
{
	static bool (*const part[])(uint32_t * at, struct init_msg * m) = {
		born_state_msg, proc_state_msg, move_state_msg, kill_state_msg};
	const unsigned int parts = sizeof(part) / sizeof(*part);
	static struct init_msg m;
	uint32_t before;
	bool more;
	int e;

	for (;;) {
		m = (struct init_msg){.type = EV_STATE};
		before = state_dump.at;
		more = state_dump.part < parts && part[state_dump.part](&state_dump.at, &m);
		if (!more && state_dump.part < parts) {
			state_dump.part++;
			state_dump.at = 0;
			continue;
		}
		if (!more) {
			m.type = EV_STATE_END;
			m.req_id = state_dump.req_id;
		}
		e = pkt_send(self.slave, &m, sizeof(m), NULL, 0);
		if (e < 0) {
			state_dump.at = before;
			return e;
		}
		if (!more)
			return 0;
	}
}

static void slave_writable(void)
{
	int e = 0;

	if (self.slave < 0 || !state_dump.greeted)
		return;
	if (state_dump.running) {
		e = events_tell_ends();
		if (e == 0)
			e = dump_state();
		state_dump.running = e < 0;
	}
	if (e == 0)
		e = events_flush();
	if (e == -EAGAIN)
		want_write(true);
	else if (e < 0)
		slave_drop();
}

static void hello(const struct init_msg *m)
{
	if (m->version != INIT_VERSION) {
		say("bpslave speaks version %u of this protocol, we speak %u", m->version,
		    INIT_VERSION);
		slave_drop();
		return;
	}
	state_dump.greeted = state_dump.running = true;
	state_dump.part = 0;
	state_dump.at = 0;
	state_dump.req_id = m->req_id;
	fence_lift();
	events_restart();
}

static void init_message(struct init_msg *m, struct sysio_pkt *pkt)
{
	static void (*const order[])(const struct init_msg *m) = {
		[INIT_HELLO] = hello,
		[INIT_ARRIVE] = init_arrive,
		[INIT_VOID] = init_void,
		[INIT_SIGNAL] = init_signal,
		[INIT_MIRROR] = init_mirror,
		[INIT_LEASE] = init_lease,
		[INIT_WATCH] = init_watch,
		[INIT_BORN] = init_born,
		[INIT_REAPED] = init_reaped,
		[INIT_ENDED] = init_ended,
		[INIT_ALIVE] = init_alive,
		[INIT_FILTER] = init_filter,
		[INIT_KILL_DONE] = init_kill_done,
		[INIT_KILL] = init_kill,
		[INIT_KILLED] = init_killed,
		[INIT_KILL_AGAIN] = init_kill_again,
		[INIT_PLACE] = init_place,
		[INIT_PLACE_AGAIN] = init_place_again,
		[INIT_SIGNALLED] = events_signalled,
		[INIT_USED] = init_used,
		[INIT_ACK] = events_ack,
	};

	arrive_settle();
	switch (m->type) {
	case INIT_DEPART:
		init_depart(m, pkt);
		return;
	case INIT_GRANT:
		init_grant(m, pkt);
		return;
	case INIT_DECIDE:
		init_decide(m, pkt);
		return;
	case INIT_DATA:
		init_data(m, pkt);
		return;
	case INIT_FENCE:
		init_fence();
		event_move(EV_FENCED, 0, 0, 0);
		return;
	}
	if (m->type < sizeof(order) / sizeof(*order) && order[m->type])
		order[m->type](m);
	else
		say("message %u from bpslave: not known", m->type);
}

static void slave_readable(void)
{
	static struct init_msg m;
	struct sysio_pkt pkt;
	uint32_t gen = self.slave_gen;

	for (int i = 0; i < SLAVE_BATCH && gen == self.slave_gen; i++) {
		int e = pkt_recv(self.slave, &m, sizeof(m), MSG_DONTWAIT, &pkt);

		if (e == -EAGAIN)
			return;
		if (e < 0 || pkt.len != sizeof(m)) {
			pkt_close(&pkt);
			if (e == 0 && pkt.len != 0)
				say("message of %zu bytes from bpslave, not %zu", pkt.len,
				    sizeof(m));
			slave_drop();
			return;
		}
		init_message(&m, &pkt);
		pkt_close(&pkt);
	}
}

static void slave_accept(void)
{
	int fd = accept4(self.listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK), on = 1 << 20;

	if (fd < 0)
		return;
	if (self.slave >= 0)
		slave_drop();
	self.slave = fd;
	setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &on, sizeof(on));
	watch_fd(fd, ON_SLAVE, 0, self.slave_gen, EPOLLIN);
}

/* -- the loop */

static void dispatch(const struct epoll_event *ev)
{
	enum watch_kind kind = (enum watch_kind)(ev->data.u64 >> 56);
	uint32_t index = (uint32_t)(ev->data.u64 >> 32) & 0xffffff, gen = (uint32_t)ev->data.u64;

	switch (kind) {
	case ON_LISTENER:
		slave_accept();
		break;
	case ON_SIGNAL:
		children_signalled();
		break;
	case ON_SLAVE:
		if (gen != self.slave_gen)
			break; /* of a bpslave that was displaced in this round */
		if (ev->events & EPOLLOUT)
			want_write(false);
		slave_readable();
		break;
	case ON_MOVE:
		if (moves[index].gen == gen)
			move_readable(&moves[index]);
		break;
	case ON_PROC:
		if (procs[index].gen == gen && ev->events & EPOLLOUT)
			later_flush(&procs[index]);
		if (procs[index].gen == gen)
			proc_readable(&procs[index]);
		break;
	case ON_PIDFD:
		watch_ready(index);
		break;
	case ON_FILTER:
		filter_ready();
		break;
	case ON_SKEL:
		skel_readable(index, gen);
		break;
	case ON_LAZY:
		lazy_readable(index, gen);
		break;
	}
}

/* ms until something is due; the keeper has no lease, a node no births. */
static int next_look(void)
{
	int ms = self.keeper ? home_tick(born_tick()) : group_tick(skel_tick(lease_tick()));

	return bereft_tick(stops_tick(place_tick(ms)));
}

static _Noreturn void loop(void)
{
	struct epoll_event ev[EPOLL_BATCH];

	for (;;) {
		int ms = children_due(events_tick(fence_tick(next_look()))), n;

		slave_writable(); /* what was due now may have something to tell */
		n = epoll_wait(self.epoll, ev, EPOLL_BATCH, ms);
		for (int i = 0; i < n; i++)
			dispatch(&ev[i]);
		if (children_left)
			children_wait();
		children_decided();
		slave_writable();
		skel_work();
	}
}

/* -- start */

static int start(void)
{
	char path[256];
	struct rlimit lim;
	sigset_t all;
	int e;

	umask(022);
	if (chdir("/") < 0)
		return -errno;
	if (getrlimit(RLIMIT_NOFILE, &lim) == 0) {
		lim.rlim_cur = lim.rlim_max;
		setrlimit(RLIMIT_NOFILE, &lim);
	}
	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, NULL);
	self.self = getpid();
	self.epoll = epoll_create1(EPOLL_CLOEXEC);
	/* SIGTERM and the like too: nothing but its namespace's end ends a bpinit. */
	self.signals = signalfd(-1, &all, SFD_CLOEXEC | SFD_NONBLOCK);
	if (self.epoll < 0 || self.signals < 0)
		return -errno;
	slice_short();
	e = spawn_prepare();
	if (e == 0)
		e = skel_prepare();
	if (e < 0)
		return e;
	lease_probe();
	lazy_prepare();
	if (mkdir(run_dir(), 0755) < 0 && errno != EEXIST)
		return -errno;
	snprintf(path, sizeof(path), "%s/" INIT_SOCK, run_dir());
	self.listener = unix_listen(path, 0600);
	if (self.listener < 0)
		return self.listener;
	cpu_start();
	fcntl(self.listener, F_SETFL, O_NONBLOCK);
	e = watch_fd(self.listener, ON_LISTENER, 0, 0, EPOLLIN);
	return e < 0 ? e : watch_fd(self.signals, ON_SIGNAL, 0, 0, EPOLLIN);
}

/* One bpinit a run directory: the second would take the first one's socket away. */
static int lock_dir(void)
{
	char path[256];
	int fd;

	if (mkdir(run_dir(), 0755) < 0 && errno != EEXIST)
		return -errno;
	snprintf(path, sizeof(path), "%s/init.lock", run_dir());
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	/* Kept open for life and never passed on: free when this process has ended. */
	return flock(fd, LOCK_EX | LOCK_NB) < 0 ? -errno : 0;
}

static _Noreturn void run(int ready_fd)
{
	int e = lock_dir();

	if (e < 0)
		say("%s: %s", run_dir(),
		    e == -EWOULDBLOCK ? "another bpinit is here" : strerror(-e));
	if (e == 0) {
		e = start();
		if (e < 0)
			say("start: %s", strerror(-e));
	}
	if (ready_fd >= 0 && write(ready_fd, &e, sizeof(e)) < 0)
		_exit(1);
	close_fd(ready_fd);
	if (e < 0)
		_exit(1);
	loop();
}

/* The starter's part: exit status 0 says that the socket listens. */
static int wait_ready(int fd)
{
	int e;

	return read_full(fd, &e, sizeof(e)) < 0 || e < 0 ? 1 : 0;
}

static void usage(FILE *f)
{
	fprintf(f,
		"usage: bpinit --node [--timens MONO_NS:BOOT_NS] [--run-dir DIR] [--foreground]\n"
		"       bpinit --keeper [--run-dir DIR] [--foreground]\n");
}

static int detach_and_run(const int64_t *timens_ns, bool foreground)
{
	int fd[2];
	pid_t child;

	if (foreground && self.keeper)
		run(-1);
	if (pipe2(fd, O_CLOEXEC) < 0)
		return 1;
	if (!self.keeper && spawn_namespaces(timens_ns, fd[1]) < 0)
		return 1;
	child = fork();
	if (child < 0) {
		say("fork: %s", strerror(errno));
		return 1;
	}
	if (child == 0) {
		close_fd(fd[0]);
		setsid();
		if (!self.keeper && spawn_namespaces(NULL, -1) < 0)
			_exit(1);
		run(fd[1]);
	}
	close_fd(fd[1]);
	if (wait_ready(fd[0]) != 0)
		return 1;
	while (foreground && waitpid(child, NULL, 0) < 0 && errno == EINTR)
		;
	return 0;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{"node", no_argument, NULL, 'n'},
		{"keeper", no_argument, NULL, 'k'},
		{"timens", required_argument, NULL, 't'},
		{"run-dir", required_argument, NULL, 'R'},
		{"foreground", no_argument, NULL, 'f'},
		{"help", no_argument, NULL, 'h'},
		{NULL, 0, NULL, 0},
	};
	bool node = false, foreground = false;
	int64_t timens_ns[2] = {0, 0};
	int opt;

	while ((opt = getopt_long(argc, argv, "nkt:R:fh", options, NULL)) >= 0) {
		switch (opt) {
		case 'n':
			node = true;
			break;
		case 'k':
			self.keeper = true;
			break;
		case 't':
			if (sscanf(optarg, "%ld:%ld", &timens_ns[0], &timens_ns[1]) != 2) {
				usage(stderr);
				return 2;
			}
			break;
		case 'R':
			setenv("BPROC_RUN_DIR", optarg, 1);
			break;
		case 'f':
			foreground = true;
			break;
		case 'h':
			usage(stdout);
			return 0;
		default:
			usage(stderr);
			return 2;
		}
	}
	if (optind != argc || node == self.keeper) {
		usage(stderr);
		return 2;
	}
	/* Not by exit(): a leak checker there would clone into the new pid namespace. */
	_exit(detach_and_run(timens_ns, foreground));
}
