/*
 * bpinit: processes whose memory follows them to here. The arrival makes a userfaultfd, we give
 * it the features that take a privilege, and hand it to a pager (pager.h). We keep the
 * userfaultfd as long as the pager lives: if that ended and nobody had it, what is missing would
 * be zeros, and so the process is ended. At the source: a ghost that serves such memory works on
 * while it is stopped.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "slaved/bpinit.h"
#include "slaved/pager.h"

#define LAZY_MAX 64 /* processes whose memory is on its way to here; one more moves at once */
#ifndef UFFD_FEATURE_POISON
#define UFFD_FEATURE_POISON (1 << 14) /* Linux 6.6 */
#endif
#define NO_FAULT_VAR "BPROC_NO_USERFAULTFD" /* for tests: as if the kernel had none */
#define FEATURES                                                                                   \
	(UFFD_FEATURE_EVENT_FORK | UFFD_FEATURE_EVENT_REMAP | UFFD_FEATURE_EVENT_REMOVE |          \
	 UFFD_FEATURE_EVENT_UNMAP | UFFD_FEATURE_POISON)

static struct lazy {
	uint64_t move; /* by which it came; 0: free */
	int32_t pid;
	int uffd, ctl; /* owned; uffd: -1: it has not come, and may never */
	int image;     /* owned: the pipe that the image is read from, if bpdata is the pager; -1 */
	pid_t pager;   /* 0: waited for, or bpdata */
	bool begun;    /* it has the userfaultfd too, and serves */
	uint32_t gen;
} lazies[LAZY_MAX];

static int device = -1; /* /dev/userfaultfd */
static char why_not[CHAN_TEXT_MAX];

/* -- can it be done here */

static int make_able(int uffd)
{
	struct uffdio_api api = {.api = UFFD_API, .features = FEATURES};

	return ioctl(uffd, UFFDIO_API, &api) < 0 ? -errno : 0;
}

void lazy_prepare(void)
{
	int uffd, e;

	device = getenv(NO_FAULT_VAR) ? -1 : open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
	if (device < 0) {
		snprintf(why_not, sizeof(why_not),
			 "no memory can follow a process to this node: "
			 "/dev/userfaultfd (Linux 6.1) cannot be had");
		return;
	}
	uffd = ioctl(device, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK);
	e = uffd < 0 ? -errno : make_able(uffd);
	close_fd(uffd);
	if (e == 0)
		return;
	snprintf(why_not, sizeof(why_not),
		 "no memory can follow a process to this node: userfaultfd with fork events and "
		 "poison (Linux 6.6): %s",
		 strerror(-e));
	device = close_fd(device);
}

static struct lazy *find_free(void)
{
	for (uint32_t i = 0; i < LAZY_MAX; i++)
		if (!lazies[i].move)
			return &lazies[i];
	return NULL;
}

int lazy_device(const char **ret_why_not)
{
	*ret_why_not = device < 0 ? why_not : "the memory of too many processes is on its way here";
	return find_free() ? device : -1;
}

const char *lazy_why(const struct move *m, const struct chan_msg *c)
{
	const char *why;

	if (!m->lazy || c->err != EOPNOTSUPP || lazy_device(&why) >= 0)
		return c->u.text;
	return why;
}

/* -- the arrival */

static void answer(struct proc *p, int err)
{
	struct chan_msg c = {.type = CHAN_LAZY_SET, .err = err};

	if (err)
		snprintf(c.u.text, sizeof(c.u.text), "userfaultfd: %s", strerror(err));
	proc_tell(p, &c, NULL, 0);
}

static void let_go(struct lazy *z)
{
	z->uffd = foreign_close(z->uffd);
	z->ctl = close_fd(z->ctl);
	z->image = close_fd(z->image);
	z->gen++;
	if (!z->pager)
		z->move = 0;
}

/* Whoever closes the last one of it may have to wait for the memory's owner: not we. */
static void let_another_close(struct lazy *z)
{
	if (z->uffd >= 0 && fork() == 0) {
		z->uffd = close_fd(z->uffd); /* ours is closed by then, or nobody waits for it */
		_exit(0);
	}
}

static struct lazy *of_move(const struct move *m)
{
	for (uint32_t i = 0; m && m->id && i < LAZY_MAX; i++)
		if (lazies[i].move == m->id)
			return &lazies[i];
	return NULL;
}

static void take_uffd(struct move *m, struct proc *p, int uffd)
{
	struct lazy *z = of_move(m);
	bool is_one =
		z && z->ctl >= 0 && z->uffd < 0 && foreign_is(uffd, "anon_inode:[userfaultfd]");
	int e = is_one ? make_able(uffd) : -EOPNOTSUPP;

	if (e == 0)
		z->uffd = uffd;
	else
		foreign_close(uffd);
	answer(p, e < 0 ? EOPNOTSUPP : 0);
}

/* TLS: bpdata, which has the connection, becomes the pager. The image's pipe is to be had then. */
static void ask_bpdata(struct lazy *z, const struct move *m)
{
	z->ctl = fcntl(m->back, F_DUPFD_CLOEXEC, 0);
	z->image = fcntl(m->data, F_DUPFD_CLOEXEC, 0);
}

/*
 * It is made while the image comes, when we have nothing else to do: a fork takes 0.15 ms, and
 * once the memory is there the arrival waits for us.
 */
static void make_pager(struct lazy *z, const struct move *m)
{
	int sv[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv) < 0)
		return;
	z->ctl = sv[0];
	z->pager = fork();
	if (z->pager == 0)
		pager_main(m->data, sv[1]);
	close_fd(sv[1]);
	if (z->pager < 0) {
		say("a pager for %d: %s", z->pid, strerror(errno));
		z->ctl = close_fd(z->ctl);
		z->pager = 0;
	}
}

/* What goes wrong is told by take_uffd(). */
void lazy_start(const struct move *m)
{
	struct lazy *z = of_move(m) ? NULL : find_free();

	if (!z || m->data < 0)
		return;
	*z = (struct lazy){.move = m->id,
			   .pid = m->pid,
			   .uffd = -1,
			   .ctl = -1,
			   .image = -1,
			   .gen = z->gen + 1};
	if (m->back >= 0)
		ask_bpdata(z, m);
	else
		make_pager(z, m);
	if (z->ctl < 0) {
		let_go(z);
		return;
	}
	fcntl(z->ctl, F_SETFL, O_NONBLOCK);
	watch_fd(z->ctl, ON_LAZY, (uint32_t)(z - lazies), z->gen, EPOLLIN);
}

/* Its memory is under the userfaultfd, and nobody reads the connection. */
static void begin_paging(const struct move *m)
{
	struct lazy *z = of_move(m);
	const pager_word word = 0;

	if (!z || z->uffd < 0 || z->begun)
		return;
	z->begun = true;
	/* If that fails its pager has ended, which is told by the end of the socket. */
	pkt_send_now(z->ctl, &word, sizeof(word), (const int[]){z->uffd, z->image},
		     z->image >= 0 ? 2 : 1);
	z->image = close_fd(z->image);
}

void lazy_message(struct proc *p, const struct chan_msg *c, struct sysio_pkt *pkt)
{
	struct move *m = move_of(p);

	if (c->type == CHAN_LAZY && pkt->nfd == 1 && p->state == PROC_ARRIVING)
		take_uffd(m, p, take_fd(pkt->fd[0]));
	else if (c->type == CHAN_LAZY_READY && p->state == PROC_ARRIVING && m)
		begin_paging(m);
	else if (c->type == CHAN_FOLLOWS && !p->serves) {
		p->serves = true;
		trace_wake(p);
	} else if (c->type == CHAN_FOLLOWED && p->serves) {
		if (c->err)
			say("pid %d: its memory has not all followed it: %s", p->pid,
			    strerror(c->err));
		p->serves = false;
		trace_sleep(p);
	}
}

/* -- the pager */

/* It misses what will never come: it is ended, as if its node had gone. */
static void lost(struct lazy *z, int err)
{
	struct proc *p = proc_find(z->pid);
	const struct move *m = p ? move_of(p) : NULL;
	bool it_is = p && z->uffd >= 0 &&
		     ((p->state == PROC_ARRIVING && m && m->id == z->move) ||
		      (p->state != PROC_ARRIVING && p->came == z->move));

	if (!it_is)
		return;
	say("pid %d: memory that was to follow it is lost (%s): it is ended", z->pid,
	    err == ECHILD ? "its pager was killed" : strerror(err));
	own_kill(z->pid, SIGKILL);
}

void lazy_readable(uint32_t index, uint32_t gen)
{
	struct lazy *z = &lazies[index];
	pager_word word = 0;
	ssize_t n;

	if (z->gen != gen || z->ctl < 0)
		return;
	n = read(z->ctl, &word, sizeof(word));
	if (n < 0 && errno == EAGAIN)
		return;
	if (n != sizeof(word) || word)
		lost(z, n == sizeof(word) ? word : ECHILD);
	if (n != sizeof(word)) {
		let_another_close(z);
	} else {
		/* It closes its own behind this, and that is the last. */
		z->uffd = close_fd(z->uffd);
		if (write(z->ctl, &word, sizeof(word)) < 0)
			say("pager of %d: %s", z->pid, strerror(errno));
	}
	let_go(z);
}

bool lazy_child(pid_t pid)
{
	for (uint32_t i = 0; i < LAZY_MAX; i++) {
		struct lazy *z = &lazies[i];

		if (!z->move || z->pager != pid)
			continue;
		z->pager = 0;
		if (z->ctl >= 0)
			lazy_readable(i, z->gen); /* its last word, or that there was none */
		else
			z->move = 0;
		return true;
	}
	return false;
}

/* The move is over, or not to be: who has come without such memory needs no pager. */
void lazy_off(const struct move *m)
{
	struct lazy *z = of_move(m);

	if (z && !z->begun)
		let_go(z);
}
