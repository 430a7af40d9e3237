/*
 * bpinit: the table of processes that a move made or left here, what their
 * parents (we or a ghost) are told of them, and the orders of bpslave that
 * concern one process. Everything else in the namespace is native and unknown.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "slaved/bpinit.h"

#define HASH 4096
#define ROOM_MS 50	   /* the next look whether events have room again */
#define CHILDREN_BATCH 256 /* waited for in one round */
#define CHAN_BATCH 16	   /* messages of one process before the others have their turn */

struct proc procs[PROCS_MAX];
uint32_t procs_reaped, procs_dropped;
static uint32_t bucket[HASH]; /* index + 1 of the first */
uint32_t procs_used;	      /* no slot at or above this was ever used */
static uint32_t free_list[PROCS_MAX], nfree;

struct proc *proc_find(int32_t pid)
{
	for (uint32_t i = bucket[(uint32_t)pid % HASH]; i; i = procs[i - 1].next)
		if (procs[i - 1].pid == pid)
			return &procs[i - 1];
	return NULL;
}

struct proc *proc_add(int32_t pid, enum proc_state state)
{
	uint32_t i, *head = &bucket[(uint32_t)pid % HASH], gen;

	if (nfree == 0 && procs_used == PROCS_MAX)
		return NULL;
	i = nfree ? free_list[--nfree] : procs_used++;
	gen = procs[i].gen;
	procs[i] = (struct proc){.state = state,
				 .pid = pid,
				 .gen = gen + 1,
				 .next = *head,
				 .chan = -1,
				 .at_home = self.keeper};
	*head = i + 1;
	return &procs[i];
}

void proc_close_chan(struct proc *p)
{
	p->chan = close_fd(p->chan);
	p->gen++; /* events of it that are under way are nobody's */
}

void proc_remove(struct proc *p)
{
	uint32_t i = proc_index(p), *at = &bucket[(uint32_t)p->pid % HASH];

	events_forget_signals(p);
	proc_close_chan(p);
	later_drop(p);
	procs_reaped -= p->reaped;
	procs_dropped -= p->dropped_of != 0;
	while (*at != i + 1)
		at = &procs[*at - 1].next;
	*at = p->next;
	p->state = PROC_FREE;
	p->pid = 0;
	free_list[nfree++] = i;
}

int proc_set_chan(struct proc *p, int chan)
{
	proc_close_chan(p);
	p->chan = chan;
	fcntl(chan, F_SETFL, O_NONBLOCK);
	/* It may be watched already, as its move's. */
	if (rewatch_fd(chan, ON_PROC, proc_index(p), p->gen, EPOLLIN) == 0)
		return 0;
	return watch_fd(chan, ON_PROC, proc_index(p), p->gen, EPOLLIN);
}

int proc_tell(struct proc *p, const struct chan_msg *m, const int *fds, int nfd)
{
	int e = p->chan < 0 ? -EBADF : p->later ? -EAGAIN : 0;

	if (e == 0)
		e = pkt_send(p->chan, m, sizeof(*m), fds, nfd);
	if (e == -EAGAIN && nfd == 0)
		e = later_put(p, m);
	if (e < 0 && e != -EPIPE)
		say("pid %d: message %u: %s", p->pid, m->type, strerror(-e));
	return e;
}

int proc_order(struct proc *p, enum chan_type type, uint64_t move_id)
{
	return proc_tell(p, &(struct chan_msg){.type = type, .move_id = move_id}, NULL, 0);
}

/* -- messages */

void ghost_made(struct proc *p)
{
	int e = trace_begin(p, 0);

	if (e < 0)
		say("ghost %d cannot be traced: %s", p->pid, strerror(-e));
	p->state = PROC_GHOST;
	trace_held_stop(p);
	p->move = 0;
	born_made(p);
	trace_mirror_next(p);
	arrive_progress();
}

static void message(struct proc *p, const struct chan_msg *c)
{
	if (!chan_is_right(p, c))
		return;
	switch (c->type) {
	case CHAN_CHILD:
		child_report(&c->u.child);
		return;
	case CHAN_CLONED:
		if (!p->move || !moves[p->move - 1].skel) /* a skeleton that could not */
			trace_sleep(p);
		arrive_cloned(p, c);
		return;
	case CHAN_HELD:
		children_held(p, c);
		return;
	case CHAN_SIG:
		trace_unmet(p, c->u.siginfo);
		return;
	default:
		break;
	}
	switch (p->state) {
	case PROC_MAKING:
		if (c->type == CHAN_GHOST)
			ghost_made(p);
		else if (c->type == CHAN_FAILED)
			say("ghost %d: %.*s", p->pid, CHAN_TEXT_MAX, c->u.text);
		break;
	case PROC_LEAVING:
		leave_message(p, c);
		break;
	case PROC_ARRIVING:
		arrive_message(p, c);
		break;
	case PROC_GHOST:
		if (c->type == CHAN_FAILED)
			say("ghost %d: %.*s", p->pid, CHAN_TEXT_MAX, c->u.text);
		break;
	default:
		break;
	}
}

void proc_readable(struct proc *p)
{
	uint32_t gen = p->gen;
	struct sysio_pkt pkt;
	struct chan_msg c;

	for (int i = 0; i < CHAN_BATCH && p->gen == gen; i++) {
		int e = pkt_recv(p->chan, &c, sizeof(c), MSG_DONTWAIT, &pkt);

		if (e == -EAGAIN)
			return;
		pkt_close(&pkt);
		if (e == 0 && pkt.len == sizeof(c)) {
			c.u.text[CHAN_TEXT_MAX - 1] = '\0';
			message(p, &c);
			continue;
		}
		if (e == 0 && pkt.len != 0)
			continue; /* not of this protocol */
		/* The end of a channel orders nothing: the tracer and wait() tell deaths. */
		proc_close_chan(p);
		arrive_chan_closed(p);
		return;
	}
}

/* -- children */

static void real_ended(struct proc *p, const struct chan_child *c)
{
	event(&(struct init_msg){
		.type = EV_CHILD, .move_id = p->came, .pid = p->pid, .u.child = *c});
	if (c->code == CLD_EXITED || c->code == CLD_KILLED || c->code == CLD_DUMPED) {
		move_life_ended(p->came, c);
		proc_remove(p);
	}
}

void child_report(const struct chan_child *c)
{
	bool ended = c->code == CLD_EXITED || c->code == CLD_KILLED || c->code == CLD_DUMPED;
	struct proc *p;

	arrive_settle();
	p = proc_find(c->pid);
	if (!p) {
		/* Native here: of use where the event source cannot see how it ended; at home
		 * there is none, and its parent is away and has to hear of its stops. */
		if (ended == !self.keeper)
			event(&(struct init_msg){.type = EV_CHILD,
						 .flags = ended ? EVF_NATIVE : 0,
						 .pid = c->pid,
						 .u.child = *c});
		return;
	}
	if (p->state == PROC_ARRIVING && ended) {
		/* It may have said how on its own channel, which is read after its parent's. */
		if (p->chan >= 0)
			proc_readable(p);
		p = proc_find(c->pid);
		if (p && p->state == PROC_ARRIVING)
			arrive_died(p);
		p = proc_find(c->pid);
	}
	if (!p)
		return;
	if (p->state == PROC_REAL)
		real_ended(p, c);
	else if (p->state == PROC_MAKING && ended) {
		if (p->birth)
			born_failed(p, ECHILD);
		proc_remove(p);
		arrive_progress();
	}
}

static uint64_t us(const struct timeval *t)
{
	return (uint64_t)t->tv_sec * 1000000 + (uint64_t)t->tv_usec;
}

static void child_status(pid_t pid, int status, const struct rusage *ru)
{
	struct chan_child c = {.pid = pid,
			       .utime_us = us(&ru->ru_utime),
			       .stime_us = us(&ru->ru_stime),
			       .maxrss_kb = (uint64_t)ru->ru_maxrss};

	if (WIFSTOPPED(status)) {
		c.code = CLD_STOPPED;
		c.status = WSTOPSIG(status);
	} else if (WIFCONTINUED(status)) {
		c.code = CLD_CONTINUED;
		c.status = SIGCONT;
	} else if (WIFEXITED(status)) {
		c.code = CLD_EXITED;
		c.status = WEXITSTATUS(status);
	} else {
		c.code = WCOREDUMP(status) ? CLD_DUMPED : CLD_KILLED;
		c.status = WTERMSIG(status);
	}
	child_report(&c);
}

static uint32_t nstopped; /* children of ours, real, that were told as stopped */

/* Only a stopped one continues, so these alone are asked, one by one. */
static void continued_wait(void)
{
	struct rusage ru;
	int status;

	for (uint32_t i = 0; i < procs_used && nstopped > 0; i++) {
		struct proc *p = &procs[i];

		if (p->state != PROC_REAL || !p->stopped)
			continue;
		if (wait4(p->pid, &status, WNOHANG | WCONTINUED | __WALL, &ru) == p->pid) {
			p->stopped = false;
			nstopped--;
			child_status(p->pid, status, &ru);
		}
	}
}

static void child_changed(pid_t pid, int status, const struct rusage *ru)
{
	struct proc *p = proc_find(pid);

	if (p && WIFSTOPPED(status) && status >> 16 && p->state == PROC_MAKING)
		p->traced = true; /* from its birth on, as the ghost that cloned it */
	if (p && p->traced && WIFSTOPPED(status)) {
		trace_stopped(p, status);
		return;
	}
	if (p && p->traced) {
		trace_ended(p, status);
		return;
	}
	if (p && p->state == PROC_REAL && p->stopped != WIFSTOPPED(status)) {
		p->stopped = WIFSTOPPED(status);
		nstopped += p->stopped ? 1u : -1u;
	}
	child_status(pid, status, ru);
}

bool children_left;

int children_due(int ms)
{
	if (!children_left)
		return ms;
	return events_have_room() ? 0 : ms < 0 || ms > ROOM_MS ? ROOM_MS : ms;
}

/*
 * Without WCONTINUED: a tracer that asks for it takes the one continued state that
 * there is away from the real parent (kernel/exit.c, wait_consider_task).
 */
void children_wait(void)
{
	struct rusage ru;
	int status;
	pid_t pid;

	continued_wait();
	for (int n = 0; n < CHILDREN_BATCH && events_have_room(); n++) {
		pid = wait4(-1, &status, WNOHANG | WUNTRACED | __WALL, &ru);
		children_left = pid > 0;
		if (!children_left)
			return;
		child_changed(pid, status, &ru);
	}
	children_left = true;
}

/* -- orders */

/*
 * A stop or continue comes until somebody has said that it is here, so it may come again, behind
 * younger ones. True: it is to be done. What is not of a move and has no number is the master's.
 */
static bool mirror_is_news(struct proc *p, const struct init_msg *m)
{
	uint64_t move = m->u.mirror.move, seq = m->u.mirror.seq;

	if (!p || seq == 0)
		return true;
	if (move < p->mirror_move || (move == p->mirror_move && seq <= p->mirror_seq))
		return false;
	p->mirror_move = move;
	p->mirror_seq = seq;
	return true;
}

void init_mirror(const struct init_msg *m)
{
	struct proc *p = proc_find(m->pid ? m->pid : m->u.mirror.pid);
	int code = m->u.mirror.code, status = m->u.mirror.status;
	bool ended = code == CLD_EXITED || code == CLD_KILLED || code == CLD_DUMPED, news = true;

	if (ended && (children_later(m) || born_ended(m)))
		return;
	/* The ghost of its number's last use, which has ended, or of the next: told so below. */
	if (p && use_differs(p->use, m->use))
		p = NULL;
	if (p && m->use)
		p->use = m->use;
	if (!ended) {
		news = mirror_is_news(p, m);
		if (m->u.mirror.seq)
			event(&(struct init_msg){.type = EV_MIRRORED,
						 .pid = m->u.mirror.pid,
						 .use = m->use,
						 .u.mirror = m->u.mirror});
	}
	if (!news || (!ended && children_later(m)))
		return;
	if (p && (p->state == PROC_GHOST || p->state == PROC_MAKING)) {
		trace_mirror(p, code, status);
		return;
	}
	if (p && leave_is_ghosting(p)) {
		/* It was told to be one and has not said so yet. */
		if (p->nmirror == MIRRORS_MAX)
			p->nmirror--;
		p->mirror[p->nmirror++] = (struct mirror){code, status, 0};
		return;
	}
	/* Told again by a bpslave that does not know that it is done. */
	if (!p && ended)
		event(&(struct init_msg){
			.type = EV_MIRRORED, .pid = m->u.mirror.pid, .use = m->use});
}

void init_forget(const struct init_msg *m)
{
	struct proc *p = proc_find(m->pid);

	if (p && p->state == PROC_GHOST)
		trace_exit(p, 0);
}

/* -- ends of processes that are not our children */

static struct {
	int32_t pid;
	int fd;
} watches[WATCHES_MAX];
static uint32_t nwatches;

/* PIDFD_GET_INFO of Linux 6.13, its exit code of 6.15: once somebody has waited for it. */
struct pidfd_exit_info {
	uint64_t mask, cgroupid;
	uint32_t pid, tgid, ppid, ids[8];
	int32_t exit_code;
};
#define PIDFD_EXIT_INFO _IOWR(0xFF, 11, struct pidfd_exit_info)
#define PIDFD_HAS_EXIT (1u << 3)

static bool reaped_status(int pidfd, int *ret_status)
{
	struct pidfd_exit_info info = {.mask = PIDFD_HAS_EXIT};

	if (pidfd < 0 || ioctl(pidfd, PIDFD_EXIT_INFO, &info) < 0 || !(info.mask & PIDFD_HAS_EXIT))
		return false;
	*ret_status = info.exit_code;
	return true;
}

/* Nobody waits for it here: at home its zombie stays until it has been waited for where its
 * parent is. */
static void watch_ended(int32_t pid, int pidfd)
{
	struct proc *p = proc_find(pid);
	struct chan_child c;
	int status = 0;

	/* Called off on its arrival: nobody else ever waits for it. */
	if (p && p->state == PROC_MAKING && p->chan < 0)
		return born_gone(pid);
	/* A ghost by now: its end is mirrored, whoever ordered that knows it. */
	if (p && p->state != PROC_REAL)
		return;
	if (!proc_zombie_status(pid, &status))
		reaped_status(pidfd, &status);
	c = child_of(pid, status);
	event(&(struct init_msg){
		.type = EV_CHILD, .move_id = p ? p->came : 0, .pid = pid, .u.child = c});
	if (p) {
		move_life_ended(p->came, &c);
		proc_remove(p);
	}
}

void watch_ready(uint32_t index)
{
	int fd = watches[index].fd;
	struct pollfd alive = {.fd = fd, .events = POLLIN};
	int32_t pid = watches[index].pid;

	if (fd < 0 || poll(&alive, 1, 0) <= 0)
		return;
	watch_ended(pid, fd);
	watches[index].fd = close_fd(fd);
	watches[index].pid = 0;
}

void init_watch(const struct init_msg *m)
{
	uint32_t at = nwatches;
	int fd;

	for (uint32_t i = 0; i < nwatches; i++) {
		if (watches[i].pid == m->pid)
			return;
		if (watches[i].pid == 0)
			at = i;
	}
	if (at == WATCHES_MAX) {
		say("pid %d: too many processes are watched", m->pid);
		return;
	}
	fd = (int)syscall(SYS_pidfd_open, m->pid, 0);
	if (fd < 0) {
		watch_ended(m->pid, -1);
		return;
	}
	watches[at].pid = m->pid;
	watches[at].fd = fd;
	if (at == nwatches)
		nwatches++;
	watch_fd(fd, ON_PIDFD, at, 0, EPOLLIN);
}
