/*
 * bpinit: stops and ends of the processes of its table, as their parents are told of
 * them: by a ghost that is the parent, by wait() where we are, by a pidfd where it is
 * neither.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "slaved/used.h"
#include "slaved/bpinit_kill.h"
#include "slaved/bpinit_place.h"

#define ROOM_MS 50	   /* the next look whether events have room again */
#define PUT_OFF_MS 100	   /* a stop that may be told already */
#define CHILDREN_BATCH 256 /* waited for in one round */
#define OVER_MAX 512
#define OVER_MS 60000

/* -- children */

/*
 * Real ones that were told as stopped, by whomever: each may be our child by now, and that it
 * goes on is for us to see then.
 */
static uint32_t nstopped;

/*
 * A stop is shown twice if bpslave has told it, because the parent was real here too, and that one
 * has left without waiting for it: then its ghost finds it. At home it may be over by then. Only
 * if it was sent a SIGCONT may it be another stop, and it is one if it lasts.
 */
static bool put_off; /* there are such */

static bool is_again(struct proc *p, const struct chan_child *c)
{
	p->stop_due = 0;
	if (c->code != CLD_STOPPED || !p->stopped)
		return false;
	if (p->conted) {
		p->stop_due = clock_ms() + PUT_OFF_MS;
		p->stop_sig = c->status;
		put_off = true;
	}
	return true;
}

int stops_tick(int ms)
{
	int64_t now = clock_ms();
	struct look l;

	if (!put_off)
		return ms;
	put_off = false;
	for (uint32_t i = 0; i < procs_used; i++) {
		struct proc *p = &procs[i];
		struct chan_child c = {.pid = p->pid, .code = CLD_STOPPED, .status = p->stop_sig};

		if (p->state != PROC_REAL || !p->stop_due)
			continue;
		put_off |= now < p->stop_due;
		if (now < p->stop_due)
			continue;
		p->stop_due = 0;
		if (look_at(p->pid, &l) < 0 || l.state != 'T')
			continue;
		p->conted = false;
		event(&(struct init_msg){
			.type = EV_CHILD, .move_id = p->came, .pid = p->pid, .u.child = c});
	}
	return put_off && (ms < 0 || ms > PUT_OFF_MS) ? PUT_OFF_MS : ms;
}

/*
 * bpslave tells what one has done whose parent is real here too, and when that leaves its ghost
 * does: the two meet here in no order. A stop that the ghost has read, and then said behind the
 * continue that bpslave had told by then, is over.
 */
static bool is_over(const struct proc *p, const struct chan_child *c)
{
	struct look l;

	return c->code == CLD_STOPPED && p->cont_told && look_at(p->pid, &l) == 0 &&
	       l.state != 'T' && l.state != 't';
}

static void real_changed(struct proc *p, const struct chan_child *c)
{
	bool stopped = c->code == CLD_STOPPED;
	struct init_msg told;

	if (is_again(p, c) || is_over(p, c))
		return;
	p->conted = p->cont_told = false;
	if (!is_end(c->code))
		children_heard(c->pid, c->code, c->status);
	if (p->stopped != stopped)
		nstopped += stopped ? 1u : -1u;
	p->stopped = stopped;
	told = (struct init_msg){
		.type = EV_CHILD, .move_id = p->came, .pid = p->pid, .u.child = *c};
	if (is_end(c->code))
		used_add(p->pid, &told.u.child.used, true);
	event(&told);
	if (is_end(c->code)) {
		move_life_ended(p->came, c);
		proc_remove(p);
	}
}

/*
 * Ghosts and arrivals that have ended, of which the ghosts of their parents have still to tell that
 * they have waited for them: none of them was born here, and who they stood for may live elsewhere.
 */
static struct {
	int32_t pid;
	int64_t until_ms; /* the number may be another's by then */
} over[OVER_MAX];
static uint32_t nover;

void ended_known(int32_t pid)
{
	over[nover % OVER_MAX].pid = pid;
	over[nover++ % OVER_MAX].until_ms = clock_ms() + OVER_MS;
}

static bool is_known(int32_t pid)
{
	for (uint32_t i = 0; i < OVER_MAX; i++) {
		if (over[i].pid != pid || over[i].until_ms < clock_ms())
			continue;
		over[i].pid = 0;
		return true;
	}
	return false;
}

/* Native here: of use where the event source cannot see how it ended; at home there is none, and
 * its parent is away and has to hear of its stops. */
static void native_changed(const struct chan_child *c)
{
	bool ended = is_end(c->code);

	if (!ended)
		children_heard(c->pid, c->code, c->status);
	if (ended == !self.keeper && !(ended && is_known(c->pid)))
		event(&(struct init_msg){.type = EV_CHILD,
					 .flags = ended ? EVF_NATIVE : 0,
					 .pid = c->pid,
					 .u.child = *c});
}

static void report(const struct chan_child *c, bool last_use)
{
	bool ended = is_end(c->code);
	struct proc *p;

	arrive_settle();
	place_look(c->pid); /* its parent may wait for its group */
	p = last_use ? NULL : proc_find(c->pid);
	if (!p)
		return native_changed(c);
	if (p->state == PROC_ARRIVING && ended) {
		/* It may have said how on its own channel, which is read after its parent's. */
		if (p->chan >= 0)
			proc_readable(p);
		p = proc_find(c->pid);
		if (p && p->state == PROC_ARRIVING)
			arrive_died(p);
		p = proc_find(c->pid);
	}
	/* It had ended before it could be traced: nobody else says so. */
	if (p && p->state == PROC_LEAVING && !p->traced && ended) {
		leave_died(p, wait_status_of(c));
		p = proc_find(c->pid);
	}
	if (!p)
		return;
	if (p->state == PROC_REAL)
		real_changed(p, c);
	else if (p->state == PROC_MAKING && ended && clone_is_to_be(p->pid))
		p->orphan = true; /* that of its number's last use, or its own */
	else if (p->state == PROC_MAKING && c->code == CLD_KILLED && c->status == SIGKILL)
		trace_ended(p, SIGKILL);
	else if (p->state == PROC_GHOST && !p->traced && ended) /* killed before it could be */
		trace_ended(p, wait_status_of(c));
	else if (p->state == PROC_MAKING && ended) {
		if (p->birth)
			born_failed(p, ECHILD);
		proc_remove(p);
		arrive_progress();
	}
}

void child_report(const struct chan_child *c)
{
	report(c, false);
}

/*
 * A ghost says what it has waited for before it says what it has made since: while one of that
 * number is still to be made, by it or by another, the end is that of the number's last use, and
 * of nobody's child a ghost never has any to tell. Who took it for the other's would have that one
 * made twice, and the first of the two be nobody's.
 */
void ghost_report(const struct chan_child *c)
{
	const struct proc *p = proc_find(c->pid);

	report(c, clone_is_to_be(c->pid) || (p && p->state == PROC_MAKING && p->orphan));
}

/*
 * One that came by a move and whose parent has come too, so that no ghost of it and
 * not we were told of its end.
 */
void init_ended(const struct init_msg *m)
{
	struct proc *p = proc_find(m->u.child.pid);

	if (!p || p->state != PROC_REAL)
		return;
	p->cont_told = false;
	child_report(&m->u.child);
	p = proc_find(m->u.child.pid);
	if (p && p->state == PROC_REAL)
		p->cont_told = m->u.child.code == CLD_CONTINUED;
}

static uint64_t us(const struct timeval *t)
{
	return (uint64_t)t->tv_sec * 1000000 + (uint64_t)t->tv_usec;
}

static void child_status(pid_t pid, int status, const struct rusage *ru)
{
	struct chan_child c = {
		.pid = pid,
		.used = {us(&ru->ru_utime), us(&ru->ru_stime), (uint64_t)ru->ru_maxrss}};

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

/* Only a stopped one continues, so these alone are asked, one by one. */
static void continued_wait(void)
{
	struct rusage ru;
	int status;

	for (uint32_t i = 0; i < procs_used && nstopped > 0; i++) {
		struct proc *p = &procs[i];

		if (p->state != PROC_REAL || !p->stopped)
			continue;
		if (wait4(p->pid, &status, WNOHANG | WCONTINUED | __WALL, &ru) == p->pid)
			child_status(p->pid, status, &ru);
	}
}

static void child_changed(pid_t pid, int status, const struct rusage *ru)
{
	struct proc *p = proc_find(pid);

	if (!p && !WIFSTOPPED(status) && lazy_child(pid))
		return;
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

void children_signalled(void)
{
	struct signalfd_siginfo si[16];

	while (read(self.signals, si, sizeof(si)) > 0)
		;
	children_wait();
}

/* -- ends of processes that are not our children */

static struct {
	int32_t pid;
	int fd;
	struct place place;
} watches[WATCHES_MAX];
static uint32_t nwatches;
uint32_t watches_count;

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

void watch_told(int32_t pid, int status)
{
	struct proc *p = proc_find(pid);
	struct chan_child c = child_of(pid, status);

	used_read(pid, &c.used, NULL);
	used_add(pid, &c.used, p && p->came);
	place_look(pid); /* its parent may wait for its group */
	event(&(struct init_msg){
		.type = EV_CHILD, .move_id = p ? p->came : 0, .pid = pid, .u.child = c});
	if (p) {
		move_life_ended(p->came, &c);
		proc_remove(p);
	}
}

/* Nobody waits for it here: at home its zombie stays until it has been waited for where its
 * parent is. */
static void watch_ended(int32_t pid, int pidfd)
{
	struct proc *p = proc_find(pid);
	int status = 0;

	/* Called off on its arrival: nobody else ever waits for it. */
	if (p && p->state == PROC_MAKING && p->chan < 0)
		return born_gone(pid);
	/* Its tracer's wait, which comes behind this, says whether it has left (leave_died()). */
	if (p && p->state == PROC_LEAVING)
		p->watch_over = true;
	if (p && p->state == PROC_LEAVING && p->traced)
		return;
	/* A ghost by now: its end is mirrored, whoever ordered that knows it. */
	if (p && p->state != PROC_REAL && p->state != PROC_LEAVING)
		return;
	/* Where nobody knows any more, as the master says of what it misses. */
	if (!proc_zombie_status(pid, &status) && !reaped_status(pidfd, &status))
		status = SIGKILL;
	if (p && p->state == PROC_LEAVING)
		leave_died(p, status); /* before it could be traced */
	else
		watch_told(pid, status);
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
	watches_count--;
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
	watches_count++;
	place_watched(m->pid, &watches[at].place);
	watch_fd(fd, ON_PIDFD, at, 0, EPOLLIN);
}

struct place *watch_place(int32_t pid)
{
	for (uint32_t i = 0; i < nwatches; i++)
		if (watches[i].pid == pid)
			return &watches[i].place;
	return NULL;
}

void watch_each(void (*fn)(int32_t pid, struct place *known))
{
	for (uint32_t i = 0; i < nwatches; i++)
		if (watches[i].pid)
			fn(watches[i].pid, &watches[i].place);
}
