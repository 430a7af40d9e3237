/*
 * Stdin that a ghost has read and its original has not, when the original comes home
 * or ends. Of a regular file the offset is put back, which is exact and free. What
 * came from a pipe, a terminal or a socket cannot be put back: the process gets a
 * pipe with those bytes as its stdin, and an orphan of the ghost goes on feeding it
 * from what was its stdin before. doc/streams.md, section 6.
 */
#include "ghost.h"

#define FEED_POLL_MS 100

/*
 * It has nothing of the process any more when that goes on: not its memory, which a move would
 * find to be somebody else's as well.
 */
int orphan(struct blob *b, int *keep, int n)
{
	struct clone_args ca;
	siginfo_t si;
	long pid;

	memset(&ca, 0, sizeof ca); /* exit_signal 0: no SIGCHLD, and in no wait but __WALL */
	pid = sys_clone3(&ca, sizeof ca);
	if (pid == 0) {
		/* The kernel writes there when it likes, and the memory is about to go. */
		blob_rseq_off(b);
		b->aside_hi = 0;
		b->lazy = 0; /* what is to follow is not cloned with it, nor what is known of it */
		b->chan = -1;
		close_all_but(keep, n);
		blob_unmap_others(b);
		if (sys_clone3(&ca, sizeof ca) != 0)
			sys_exit_group(0);
		return 1;
	}
	while (pid > 0 && sys_waitid(P_PID, (int)pid, &si, WEXITED | __WALL, NULL) == -EINTR)
		;
	return 0;
}

/* The last that was said: words of homecomings that failed come before it. */
static int read_used(const struct relay *r, uint64_t *ret_used)
{
	uint64_t word;
	struct iovec v = {&word, sizeof word};
	struct sys_msghdr h = {.iov = &v, .iovlen = 1};
	int said = 0;

	while (r->sock >= 0 && sys_recvmsg(r->sock, &h, SYS_MSG_DONTWAIT) == (long)sizeof word) {
		*ret_used = word;
		said = 1;
	}
	return said && *ret_used <= r->taken;
}

/* Did nobody else read on from where we had come to? The offset is theirs too. */
static int can_seek(const struct relay *r, int fd)
{
	return r->regular && sys_lseek(fd, 0, 1 /* SEEK_CUR */) == r->at;
}

static void seek_back(struct relay *r, int fd, uint64_t used)
{
	if (can_seek(r, fd))
		r->at = sys_lseek(fd, r->at - (long)(r->taken - used), 0 /* SEEK_SET */);
	r->taken = used;
}

int input_settle(struct relay *r)
{
	uint64_t used = 0;

	if (!read_used(r, &used))
		return r->taken == 0;
	if (r->regular)
		seek_back(r, r->fd, used);
	return r->regular || used == r->taken;
}

/* -- homecoming */

static uint64_t unread_bytes(const struct relay *r, const struct input *in)
{
	uint64_t n = r->have - r->off;
	struct stat st;
	int queued = 0;

	if (in->file >= 0 && sys_fstat(in->file, &st) == 0)
		n += (uint64_t)st.st_size;
	if (in->far >= 0 && sys_ioctl(in->far, FIONREAD, &queued) == 0)
		n += (uint64_t)queued;
	return n;
}

long input_prepare(struct ghost *g, struct input *in)
{
	struct relay *r = &g->relay[0];
	int pair[2];
	long e;

	in->seek = 0;
	in->orig = in->out = in->in = -1;
	if (in->far < 0 && !r->lost)
		return 0;
	in->seek = in->far >= 0 && can_seek(r, 0) && read_used(r, &in->used);
	e = sys_fcntl(0, F_DUPFD_CLOEXEC, CHAN_STREAMS);
	if (e < 0)
		return e == -EBADF ? 0 : e;
	in->orig = (int)e;
	if (!r->lost && (in->seek || unread_bytes(r, in) == 0))
		return 0;
	e = sys_pipe2(pair, O_CLOEXEC);
	if (e < 0)
		return e;
	in->in = pair[0];
	in->out = pair[1];
	if (r->lost) { /* what follows would come behind a gap */
		sys_close(in->out);
		in->out = -1;
	}
	return 0;
}

void input_close(struct input *in)
{
	int *fd[] = {&in->file, &in->far, &in->orig, &in->in, &in->out};

	for (unsigned i = 0; i < COUNT(fd); i++) {
		if (*fd[i] >= 0)
			sys_close(*fd[i]);
		*fd[i] = -1;
	}
}

static void feed_bytes(int out, const char *p, long n)
{
	while (n > 0) {
		long done = sys_write(out, p, (size_t)n);

		if (done == -EINTR)
			continue;
		if (done < 0)
			sys_exit_group(0); /* nobody reads */
		p += done;
		n -= done;
	}
}

/* All that a descriptor has now. */
static void feed_from(int fd, int out)
{
	char buf[4096];
	struct iovec v = {buf, sizeof buf};
	struct sys_msghdr h = {.iov = &v, .iovlen = 1};
	long n;

	if (fd < 0)
		return;
	while ((n = sys_recvmsg(fd, &h, SYS_MSG_DONTWAIT)) > 0)
		feed_bytes(out, buf, n);
	while (n == -ENOTSOCK && (n = sys_read(fd, buf, sizeof buf)) > 0) {
		feed_bytes(out, buf, n);
		n = -ENOTSOCK;
	}
}

/* Nobody's child: waits for the reader as long as it takes, and reads on as that reads. */
static _Noreturn void feed(struct ghost *g, struct input *in)
{
	struct relay *r = &g->relay[0];
	uint64_t all = ~0ul;
	long n = 0;

	sys_sigprocmask(SIG_SETMASK, &all, NULL);
	relay_open(r, in->orig, O_RDONLY);
	int keep[] = {in->file, in->far, in->out, r->fd};

	close_all_but(keep, COUNT(keep));
	/* In the order in which they were read: the node's, those on their way, our own. */
	feed_from(in->file, in->out);
	feed_from(in->far, in->out);
	feed_bytes(in->out, r->buf + r->off, r->have - r->off);
	while (!r->ended) {
		struct timespec t = {.tv_sec = 0, .tv_nsec = FEED_POLL_MS * 1000000};
		int wait = relay_in_background(r);
		struct sys_pollfd p[2] = {{.fd = in->out},
					  {.fd = wait ? -1 : r->fd, .events = POLLIN}};

		if (sys_ppoll(p, 2, wait ? &t : NULL, NULL) < 0)
			continue;
		if (p[0].revents)
			break; /* nobody reads */
		if (!p[1].revents)
			continue;
		n = relay_take(r);
		if (n == 0 || (n < 0 && n != -EAGAIN && n != -EINTR))
			break;
		feed_bytes(in->out, r->buf, n);
	}
	sys_exit_group(0);
}

void input_run(struct ghost *g, struct input *in)
{
	int keep[] = {in->file, in->far, in->out, in->orig};

	if (in->seek && in->orig >= 0)
		seek_back(&g->relay[0], in->orig, in->used);
	if (in->out >= 0 && orphan(g->b, keep, COUNT(keep)))
		feed(g, in);
	input_close(in);
}

void input_undo(struct input *in)
{
	/* The restorer may have come so far as to put the pipe there. */
	if (in->orig >= 0)
		sys_dup3(in->orig, 0, 0);
	input_close(in);
}
