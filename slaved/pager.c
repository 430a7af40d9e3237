/*
 * The pager: asks the source for the page that a thread waits for, and for the rest in between,
 * as much at once as does not make the next question wait. Runs in a child of bpinit, with no
 * capability and few system calls; it is root's by number only, so that a user cannot end it and
 * have zeros in place of pages. doc/image.md, section 12.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "libbproc/sysio.h"
#include "slaved/pager.h"
#include "vmadump/blob/mark.h"

#define FD_IN 3
#define FD_BACK 4
#define FD_CTL 5
#define FD_FREE 64 /* out of the way of those */
#define READ_BYTES (256u << 10)
#define ASK_FIRST IMAGE_PAGE	  /* what a thread waits for; the next question is behind it */
#define ASK_MOST (32ull << 10)	  /* where it goes on near the end of an answer, four times that */
#define RUNS 8u			  /* so many threads that do are known */
#define ASKS_MAX 16u		  /* questions on their way */
#define WINDOW_IDLE (1ull << 20)  /* on its way unasked, while nobody waits */
#define WINDOW_BUSY (32ull << 10) /* while threads do: a question waits behind it, */
#define WINDOW_NS 1000000ll	  /* but not behind more than one in this time */
#define BUSY_NS 2000000ll	  /* threads do, so long after a fault */

struct asked {
	uint64_t at, len; /* where the pages were */
};

static struct {
	struct spaces all;
	struct pager_in in;
	int uffd;
	struct asked ask[ASKS_MAX]; /* not answered */
	uint32_t nask;
	struct asked run[RUNS]; /* questions of late, and the one to forget next */
	uint32_t old;
	uint64_t credit; /* given and not used up */
	bool held;	 /* for a moment */
	bool relayed; /* through bpdata: what is in front of an answer costs several times as much
		       */
	int64_t busy_until, credit_at;
	unsigned char out[(ASKS_MAX + 8) * LAZY_FRAME]; /* questions that are still to be written */
	size_t nout;
	bool ended;
	int err;
} pg;
static unsigned char buf[READ_BYTES + PAGER_REST];

static int64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000000ll + t.tv_nsec;
}

/* -- questions and credit */

/* Who has sent the end listens no more: what is lost is told by what is read, or is not there. */
static void flush_out(void)
{
	ssize_t n;

	while (pg.nout) {
		n = write(FD_BACK, pg.out, pg.nout);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return;
		if (n < 0)
			n = (ssize_t)pg.nout;
		pg.nout -= (size_t)n;
		memmove(pg.out, pg.out + n, pg.nout);
	}
}

static bool say(uint32_t type, uint64_t at, uint64_t len)
{
	const struct lazy_frame f = {.type = type, .at = at, .len = len};

	if (pg.nout + sizeof(f) > sizeof(pg.out))
		return false;
	memcpy(pg.out + pg.nout, &f, sizeof(f));
	pg.nout += sizeof(f);
	return true;
}

static bool is_asked(uint64_t src)
{
	for (uint32_t i = 0; i < pg.nask; i++)
		if (src >= pg.ask[i].at && src < pg.ask[i].at + pg.ask[i].len)
			return true;
	return false;
}

/* What is not asked for goes on behind an answer as well, so the end of one is not met exactly. */
static uint64_t how_much(uint64_t src)
{
	for (uint32_t i = 0; i < RUNS; i++) {
		struct asked *r = &pg.run[i];

		if (src - (r->at + r->len) > WINDOW_BUSY)
			continue;
		r->len = r->len * 4 < ASK_MOST ? r->len * 4 : ASK_MOST;
		r->at = src;
		return r->len;
	}
	pg.run[pg.old++ % RUNS] = (struct asked){src, pg.relayed ? ASK_FIRST : ASK_MOST};
	return pg.relayed ? ASK_FIRST : ASK_MOST;
}

static void ask_for(uint64_t src)
{
	struct asked a = {src, 0};

	if (pg.nask == ASKS_MAX || is_asked(src))
		return;
	a.len = how_much(src);
	if (say(LAZY_GET, a.at, a.len))
		pg.ask[pg.nask++] = a;
}

/* For each thread that waits: the page, a question for it, or patience. */
static void look_at_wants(void)
{
	struct spaces *all = &pg.all;
	uint32_t kept = 0;

	for (uint32_t i = 0; i < all->nwant; i++) {
		struct want w = all->want[i];
		uint64_t src = spaces_src(all, &w);

		if (!src)
			continue;
		ask_for(src);
		all->want[kept++] = w;
	}
	all->nwant = kept;
}

static void give_credit(void)
{
	int64_t now = now_ns();
	uint64_t window;

	if (pg.all.faulted || pg.all.nwant)
		pg.busy_until = now + BUSY_NS;
	pg.all.faulted = false;
	window = now < pg.busy_until ? WINDOW_BUSY : WINDOW_IDLE;
	pg.held = false;
	if (!pg.in.begun || pg.ended || pg.credit > window / 2)
		return;
	if (pg.relayed && now < pg.busy_until && now < pg.credit_at) {
		pg.held = true;
	} else if (say(LAZY_MORE, 0, window - pg.credit)) {
		pg.credit = window;
		pg.credit_at = now + WINDOW_NS;
	}
}

/* -- what comes */

static void failed(int e)
{
	if (e < 0 && !pg.err)
		pg.err = e;
}

static void on_ranges(void *arg, const struct lazy_range *r, uint32_t n)
{
	(void)arg;
	failed(spaces_begin(&pg.all, pg.uffd, r, n));
}

static int on_pages(void *arg, uint64_t at, const unsigned char *p, uint64_t n)
{
	(void)arg;
	return spaces_fill(&pg.all, at, p, n);
}

static void on_answered(void *arg, uint64_t at)
{
	(void)arg;
	for (uint32_t i = 0; i < pg.nask; i++)
		if (pg.ask[i].at == at) {
			pg.ask[i] = pg.ask[--pg.nask];
			return;
		}
}

static int on_none(void *arg, uint64_t at, uint64_t n)
{
	(void)arg;
	return spaces_none(&pg.all, at, n);
}

static void on_unasked(void *arg, uint64_t n)
{
	(void)arg;
	pg.credit -= pg.credit < n ? pg.credit : n;
}

static void on_end(void *arg)
{
	(void)arg;
	pg.ended = true;
}

static const struct pager_ops ops = {.ranges = on_ranges,
				     .pages = on_pages,
				     .answered = on_answered,
				     .none = on_none,
				     .unasked = on_unasked,
				     .end = on_end};

static int read_some(void)
{
	static size_t have;
	ssize_t n = read(FD_IN, buf + have, sizeof(buf) - have);
	long took;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n <= 0)
		return n ? -errno : -EPIPE;
	have += (size_t)n;
	took = pager_take(&pg.in, buf, have, &ops, NULL);
	if (took < 0)
		return (int)took;
	have -= (size_t)took;
	memmove(buf, buf + took, have);
	return pg.err;
}

/* -- the loop */

static struct pollfd *polls;
static uint32_t npolls;

static int wait_for(void)
{
	uint32_t n = 2 + pg.all.n;

	if (n > npolls) {
		struct pollfd *more = realloc(polls, (n + 16) * sizeof(*polls));

		if (!more)
			return -ENOMEM;
		polls = more;
		npolls = n + 16;
	}
	polls[0] = (struct pollfd){.fd = FD_IN, .events = POLLIN};
	polls[1] = (struct pollfd){.fd = pg.nout ? FD_BACK : -1, .events = POLLOUT};
	for (uint32_t i = 0; i < pg.all.n; i++)
		polls[2 + i] = (struct pollfd){.fd = pg.all.s[i].uffd, .events = POLLIN};
	return poll(polls, n, pg.held ? 1 : -1) < 0 && errno != EINTR ? -errno : 0;
}

/* 0: all is there, or nobody is left; -errno: it never will be. */
static int serve(void)
{
	int e = 0;

	while (e == 0 && !pg.ended) {
		uint32_t n = pg.all.n;

		e = wait_for();
		/* Faults first: their questions go out before what has come is filled in. */
		for (uint32_t i = 0; e == 0 && i < n; i++)
			if (polls[2 + i].revents & POLLIN)
				e = space_events(&pg.all, i);
		look_at_wants();
		flush_out();
		if (e == 0 && polls[0].revents)
			e = read_some();
		if (pg.in.begun && !spaces_any(&pg.all))
			return 0;
		look_at_wants();
		give_credit();
		flush_out();
	}
	return e;
}

/* bpinit has one of it too, so that our end by force is no release of it; it lets go first. */
static void finish(int e)
{
	pager_word word = -e;

	if (write(FD_CTL, &word, sizeof(word)) == sizeof(word))
		while (read(FD_CTL, &word, sizeof(word)) < 0 && errno == EINTR)
			;
	/* The process has been killed by now: this is for those that it has forked. */
	if (e < 0 && pg.in.begun)
		spaces_poison(&pg.all);
	spaces_end(&pg.all);
}

/* -- what it may do */

static void drop_rights(void)
{
	static struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
#define ALLOWED(nr)                                                                                \
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)
		ALLOWED(SYS_read),
		ALLOWED(SYS_write),
		ALLOWED(SYS_poll),
		ALLOWED(SYS_recvmsg),
		ALLOWED(SYS_ioctl),
		ALLOWED(SYS_close),
		ALLOWED(SYS_mmap),
		ALLOWED(SYS_munmap),
		ALLOWED(SYS_mremap),
		ALLOWED(SYS_brk),
		ALLOWED(SYS_clock_gettime),
		ALLOWED(SYS_futex),
		ALLOWED(SYS_madvise),
		ALLOWED(SYS_exit_group),
		ALLOWED(SYS_exit),
		ALLOWED(SYS_restart_syscall),
		ALLOWED(SYS_rt_sigreturn),
#undef ALLOWED
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
	};
	struct sock_fprog prog = {sizeof(code) / sizeof(*code), code};
	struct __user_cap_header_struct head = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct none[2] = {{0}};

	/* CALL_MARK: on a node bpinit, which we come from, has a filter that would ask it. */
	syscall(SYS_prctl, PR_SET_DUMPABLE, 0, 0, 0, 0, CALL_MARK);
	syscall(SYS_capset, &head, none);
	syscall(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, CALL_MARK);
	syscall(SYS_prctl, PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog, 0, 0, CALL_MARK);
}

/* For want of memory others go first: whoever has this one's pages would go with it. */
static void keep_alive(void)
{
	cleanup_fd int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

	if (fd >= 0)
		write_full(fd, "-1000", 5);
}

static void take_places(int in, int back, int ctl)
{
	const int from[] = {in, back, ctl}, to[] = {FD_IN, FD_BACK, FD_CTL};
	int up[3];

	for (int i = 0; i < 3; i++)
		up[i] = fcntl(from[i], F_DUPFD_CLOEXEC, FD_FREE);
	for (int i = 0; i < 3; i++)
		if (up[i] < 0 || dup2(up[i], to[i]) < 0)
			_exit(1);
	close_range(FD_CTL + 1, ~0u, 0);
}

/*
 * Until the memory is there, and the image is read: the arrival reads it from the same connection,
 * in calls that wait. If there is no such memory, or the move fails, the socket ends.
 */
static void wait_for_memory(void)
{
	struct sysio_pkt pkt;
	pager_word word;
	int on = 1;

	if (pkt_recv(FD_CTL, &word, sizeof(word), 0, &pkt) < 0 || pkt.nfd != 1)
		_exit(0);
	pg.uffd = pkt.fd[0];
	ioctl(FD_IN, FIONBIO, &on);
	ioctl(FD_BACK, FIONBIO, &on);
}

_Noreturn void pager_main(int in, int back, int ctl)
{
	cpu_set_t all;

	pg.relayed = in != back;
	take_places(in, back, ctl);
	syscall(SYS_prctl, PR_SET_NAME, PAGER_NAME, 0, 0, 0, CALL_MARK);
	memset(&all, 0xff, sizeof(all));
	sched_setaffinity(0, sizeof(all), &all);
	keep_alive();
	drop_rights();
	wait_for_memory();
	finish(serve());
	_exit(0);
}
