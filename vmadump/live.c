/*
 * vmad_leave_live(): a process leaves, and its pages go ahead while it still runs (doc/move.md).
 * Library code; runs in whoever moves it, with no right but ptrace's.
 *
 *	1 it is parked for a moment, asks for a connection to its ghost where it is to go, and
 *	  hands that over, with a userfaultfd
 *	2 rounds: what was written since the last one is found, write-protected again, sent
 *	3 it is parked again, and leaves as ever (away.c); of its memory it sends what was
 *	  written since the last round
 *
 * Nothing of this is left in the process between 1 and 3, and when we end it is as it was: the
 * kernel ends the tracking with the last descriptor of it.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "vmadump/chan.h"
#include "vmadump/freeze.h"
#include "vmadump/live.h"
#include "vmadump/others.h"

#define ENOUGH (256ul << 10) /* bytes in a round: the rest may as well go with the image */
#define ROUNDS_MAX 30
#define ROUNDS_US 60000000ull
#define DRAIN_NS 25000000
#define AGAIN_NS 20000000
#define TRIES 5
#define LOOK_US 200000 /* a round of more: there may be mappings that are new */

/* -- 1: parked for a moment */

/* CHAN_PRECOPIED, at first with its two descriptors; or why not. */
static int take_one(struct live *l, struct freeze *f)
{
	struct chan_msg m;
	struct pollfd p = {.fd = f->chan, .events = POLLIN};
	int fd[2];

	while (poll(&p, 1, 20) <= 0)
		if (trace_serve(&f->t))
			return live_fail(l, ESRCH, "process %d has ended", l->pid);
	if (!chan_take(f->chan, &m, fd, 2))
		return live_fail(l, ESRCH, "process %d has ended", l->pid);
	if (m.type == CHAN_FAILED)
		return live_fail(l, m.err > 0 ? m.err : EIO, "%s", m.u.text);
	if (m.type == CHAN_PRECOPIED && l->chan >= 0)
		return 0;
	if (m.type != CHAN_PRECOPIED || fd[1] < 0)
		return live_fail(l, EPROTO, "process %d does not answer", l->pid);
	l->chan = fd[0];
	l->uffd = fd[1];
	return 0;
}

/*
 * What it could not take along is said now, and not when all of it was sent. One that has only
 * just come by a move has descriptors of the blob's for a moment: so it is looked at again.
 */
static int stop(struct live *l, struct freeze *f, unsigned flags)
{
	const struct timespec nap = {.tv_nsec = AGAIN_NS};

	flags |= FREEZE_LOOK | FREEZE_JUDGED;
	for (int tries = 0; freeze_enter(f, l->pid, flags, 1, l->err) < 0; tries++) {
		int e = errno;

		freeze_free(f);
		errno = e;
		if (e != ENOTSUP || tries == TRIES)
			return -1;
		nanosleep(&nap, NULL);
	}
	return 0;
}

static int ask(struct live *l, int conn, int node, unsigned flags, uint64_t *ret_us)
{
	struct chan_msg m = {.type = CHAN_PRECOPY, .u.leave = {.node = node, .flags = flags}};
	struct freeze f;
	int r = -1;

	if (stop(l, &f, flags) < 0)
		return -1;
	if (freeze_alone(&f, NULL, NULL) < 0)
		;
	else if (chan_send_with(f.chan, &m, conn) < 0)
		live_fail(l, errno, "process %d: %s", l->pid, strerror(errno));
	else
		r = take_one(l, &f) < 0 ? -1 : take_one(l, &f);
	/*
	 * It goes on by itself, untraced: to lead it out would leave it half-way, if we were
	 * killed then. The blob, which nobody is in, goes with the next stop.
	 */
	chan_order(f.chan, CHAN_RESUME, -1);
	*ret_us = freeze_now_us() - f.since_us;
	if (f.t.stop_after)
		kill(l->pid, (int)f.t.stop_after);
	freeze_free(&f);
	return r;
}

/* -- 2: ahead of it */

/* A word of bpinit's: the connection; or that there will be none. */
static int hear(struct live *l, int *ret_data)
{
	struct chan_msg m;
	int fd;

	if (!chan_take(l->chan, &m, &fd, 1))
		return live_fail(l, ECONNRESET, "bpinit has ended before the move");
	if (m.type == CHAN_GO && fd >= 0) {
		*ret_data = fd;
		l->go = m.flags;
	} else if (fd >= 0) {
		close(fd);
	}
	if (m.type == CHAN_ABORT)
		return live_fail(l, m.err > 0 ? m.err : EIO, "%s", m.u.text);
	return 0;
}

int live_called_off(struct live *l)
{
	int more = -1, r = hear(l, &more);

	if (more >= 0)
		close(more);
	return r;
}

static int wait_go(struct live *l)
{
	struct pollfd p[2] = {{.fd = l->pidfd, .events = POLLIN},
			      {.fd = l->chan, .events = POLLIN}};

	while (l->data < 0) {
		if (poll(p, 2, -1) < 0 && errno != EINTR)
			return live_fail(l, errno, "%s", strerror(errno));
		if (p[0].revents)
			return live_fail(l, ESRCH, "process %d has ended", l->pid);
		if (p[1].revents && hear(l, &l->data) < 0)
			return -1;
	}
	return 0;
}

/* Addresses that it has no use for, nor has a blob (BLOB_ADDR): where its pages are put aside. */
static int find_window(struct live *l)
{
	static const uint64_t at[] = {0x100000000000, 0x180000000000, 0x200000000000,
				      0x280000000000, 0x400000000000, 0x480000000000};
	unsigned long start, end;
	char path[40], line[4200];
	unsigned used = 0;
	FILE *f;

	snprintf(path, sizeof path, "/proc/%d/maps", l->pid);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof line, f))
		for (unsigned i = 0; i < sizeof at / sizeof at[0]; i++)
			if (sscanf(line, "%lx-%lx", &start, &end) == 2 &&
			    start < at[i] + LIVE_WINDOW && at[i] < end)
				used |= 1u << i;
	if (f)
		fclose(f);
	for (unsigned i = 0; i < sizeof at / sizeof at[0]; i++)
		if (!(used & 1u << i)) {
			l->window = at[i];
			l->next = at[i] + LIVE_TABLE;
			return 0;
		}
	return live_fail(l, ENOTSUP,
			 "pages do not go ahead: process %d has memory all over its addresses",
			 l->pid);
}

static int open_files(struct live *l)
{
	struct uffdio_api api = {.api = UFFD_API, .features = LIVE_UFFD_FEATURES};
	char path[40];

	if (ioctl(l->uffd, UFFDIO_API, &api) < 0)
		return live_fail(l, ENOTSUP, "userfaultfd: %s", strerror(errno));
	snprintf(path, sizeof path, "/proc/%d/pagemap", l->pid);
	l->pagemap = open(path, O_RDONLY | O_CLOEXEC);
	snprintf(path, sizeof path, "/proc/%d/mem", l->pid);
	l->mem = open(path, O_RDONLY | O_CLOEXEC);
	if (l->pagemap < 0 || l->mem < 0)
		return live_fail(l, errno, "process %d: %s", l->pid, strerror(errno));
	return find_window(l);
}

/* Until a round is as small as it gets: it halves no more, or time is up. */
static int rounds(struct live *l, struct vmad_live *s)
{
	const struct timespec drain = {.tv_nsec = DRAIN_NS};
	uint64_t since = freeze_now_us(), bytes = 0, last, from;

	if (live_hello(l) < 0 || live_look(l) < 0)
		return -1;
	do {
		from = freeze_now_us();
		last = bytes;
		if (live_round(l, &bytes) < 0)
			return -1;
		s->rounds++;
		if (freeze_now_us() - from > LOOK_US && live_look(l) < 0)
			return -1;
	} while (l->nfresh || (s->rounds < ROUNDS_MAX && freeze_now_us() - since < ROUNDS_US &&
			       bytes > ENOUGH && (s->rounds < 3 || bytes < last / 4 * 3)));
	/* What is on its way yet would be waited for when the process stands still. */
	nanosleep(&drain, NULL);
	if (live_round(l, &bytes) < 0)
		return -1;
	s->rounds++;
	s->bytes = l->bytes;
	s->ahead_us = freeze_now_us() - since;
	return live_frame(l, LIVE_END, 0, l->bytes, 0, 0);
}

/* -- all of it */

static void end(struct live *l)
{
	int *fd[] = {&l->pidfd, &l->pagemap, &l->mem, &l->uffd, &l->chan, &l->data};
	int e = errno;

	for (unsigned i = 0; i < sizeof fd / sizeof fd[0]; i++)
		if (*fd[i] >= 0)
			close(*fd[i]);
	free(l->own);
	free(l->fresh);
	free(l->buf);
	errno = e;
}

static int begin(struct live *l, pid_t pid, struct vmad_err *err)
{
	const char *why = live_probe();

	*l = (struct live){.pid = pid,
			   .pidfd = -1,
			   .pagemap = -1,
			   .mem = -1,
			   .uffd = -1,
			   .chan = -1,
			   .data = -1,
			   .err = err};
	if (why)
		return live_fail(l, ENOTSUP, "%s", why);
	l->own = calloc(LIVE_MAPS_MAX, sizeof *l->own);
	l->fresh = calloc(LIVE_MAPS_MAX, sizeof *l->fresh);
	l->buf = malloc(LIVE_FRAME + LIVE_PIECE_MAX);
	l->pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (!l->own || !l->fresh || !l->buf)
		return live_fail(l, ENOMEM, "%s", strerror(ENOMEM));
	if (l->pidfd < 0)
		return live_fail(l, errno, "process %d: %s", pid, strerror(errno));
	while (!l->id)
		if (getrandom(&l->id, sizeof l->id, 0) < 0)
			return live_fail(l, errno, "random numbers: %s", strerror(errno));
	return 0;
}

int vmad_leave_live(pid_t pid, int conn, int node, unsigned flags, struct vmad_live *ret,
		    struct vmad_err *err)
{
	struct vmad_live s = {0};
	sigset_t pipe, was;
	struct live l;
	int r;

	sigemptyset(&pipe);
	sigaddset(&pipe, SIGPIPE);
	pthread_sigmask(SIG_BLOCK, &pipe, &was);
	r = begin(&l, pid, err);
	if (r == 0)
		r = ask(&l, conn, node, flags, &s.asked_us);
	if (r == 0)
		r = open_files(&l);
	if (r == 0)
		r = wait_go(&l);
	if (r == 0)
		r = rounds(&l, &s);
	if (r == 0)
		r = leave_pid(pid, conn, node, flags, &l, &s.frozen_us, err);
	end(&l);
	pthread_sigmask(SIG_SETMASK, &was, NULL);
	if (ret)
		*ret = s;
	return r;
}
