/*
 * bpsh with pipes: what the nodes' processes write is shown as the options say,
 * and bpsh's stdin goes to all of them. One poll loop in the bpsh process.
 *
 * stdin is read into a ring that every node's process has a position in. The ring
 * moves on with the slowest of those that still read; one that has ended, or has
 * closed its stdin, counts no more, so it can neither lose data for the others
 * nor hold them up.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "bpsh.h"

#define RING (1u << 20) /* bytes of stdin that a slow node may be behind */
#define POLL_PER_JOB 3
#define FOREGROUND_MS 100 /* how soon it is noticed that the terminal is ours again */

struct io {
	const struct options *o;
	struct job *jobs;
	int n;
	int turn;     /* -s: whose output is shown */
	char *ring;   /* owned */
	uint64_t got; /* bytes of stdin read so far */
	bool in_open, in_tty;
	char *buf;	  /* owned, o->buffer bytes: for one read of output */
	struct pollfd *p; /* owned: n * POLL_PER_JOB, stdin, signals */
};

static int write_all(int fd, const char *s, size_t len)
{
	ssize_t n;

	while (len > 0) {
		n = write(fd, s, len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN) {
			struct pollfd p = {.fd = fd, .events = POLLOUT};

			poll(&p, 1, -1);
			continue;
		}
		if (n < 0)
			return -1;
		s += n;
		len -= (size_t)n;
	}
	return 0;
}

/* -- output */

static int show(struct io *io, const struct job *j, int to, const char *s, size_t len)
{
	char prefix[16];

	if (io->o->prefix &&
	    write_all(to, prefix, (size_t)snprintf(prefix, sizeof(prefix), "%3d: ", j->node)) < 0)
		return -1;
	return write_all(to, s, len);
}

/* What is complete goes out, the rest is kept; all of it goes out at the end. */
static int show_lines(struct io *io, struct job *j, struct output *out, const char *s, size_t len,
		      bool end)
{
	const char *nl;
	size_t part;

	while (len > 0 || (end && out->len > 0)) {
		nl = memchr(s, '\n', len);
		part = nl ? (size_t)(nl - s) + 1 : len;
		if (part > io->o->buffer - out->len) {
			part = io->o->buffer - out->len;
			nl = NULL;
		}
		memcpy(out->line + out->len, s, part);
		out->len += part;
		s += part;
		len -= part;
		if (!nl && out->len < io->o->buffer && !end)
			return 0;
		/* With a number before each line a part of one has to end like one. */
		if (out->line[out->len - 1] != '\n' && io->o->prefix)
			out->line[out->len++] = '\n';
		if (show(io, j, out->to, out->line, out->len) < 0)
			return -1;
		out->len = 0;
	}
	return 0;
}

static int output(struct io *io, struct job *j, struct output *out, const char *s, size_t len,
		  bool end)
{
	if (io->o->lines)
		return show_lines(io, j, out, s, len, end);
	return write_all(out->to, s, len);
}

/* Before its turn, what a node writes is kept in an unnamed file: it must not be held up,
 * since it might then not read its stdin, and hold up the others. */
struct spool_hdr {
	int which;
	size_t len;
};

static int to_spool(struct io *io, struct job *j, int which, size_t len)
{
	struct spool_hdr h = {.which = which, .len = len};

	if (!j->spool)
		j->spool = tmpfile();
	if (!j->spool || fwrite(&h, sizeof(h), 1, j->spool) != 1 ||
	    fwrite(io->buf, 1, len, j->spool) != len) {
		fprintf(stderr, "bpsh: file for the output of node %d: %s\n", j->node,
			strerror(errno));
		return -1;
	}
	return 0;
}

static int from_spool(struct io *io, struct job *j)
{
	struct spool_hdr h;
	int e = 0;

	if (!j->spool)
		return 0;
	rewind(j->spool);
	while (e == 0 && fread(&h, sizeof(h), 1, j->spool) == 1 &&
	       fread(io->buf, 1, h.len, j->spool) == h.len)
		e = output(io, j, &j->out[h.which], io->buf, h.len, false);
	fclose(j->spool);
	j->spool = NULL;
	return e;
}

static int start_turn(struct io *io)
{
	struct job *j = &io->jobs[io->turn];
	char line[100];

	if (io->o->divider) {
		memset(line, '-', sizeof(line));
		int n = snprintf(line, sizeof(line), "%d\t", j->node);

		line[n] = '-';
		line[72] = '\n';
		if (write_all(1, line, 73) < 0)
			return -1;
	}
	return from_spool(io, j);
}

static bool is_done(const struct job *j)
{
	return j->reaped && j->out[0].fd < 0 && j->out[1].fd < 0;
}

/* -s: on to the next node when this one has ended. */
static int next_turns(struct io *io)
{
	struct job *j;

	while (io->turn < io->n && is_done(&io->jobs[io->turn])) {
		j = &io->jobs[io->turn];
		for (int w = 0; w < 2; w++)
			if (output(io, j, &j->out[w], "", 0, true) < 0)
				return -1;
		if (++io->turn < io->n && start_turn(io) < 0)
			return -1;
	}
	return 0;
}

static int read_output(struct io *io, struct job *j, int w)
{
	struct output *out = &j->out[w];
	ssize_t n;

	do {
		n = read(out->fd, io->buf, io->o->buffer);
	} while (n < 0 && errno == EINTR);
	if (n < 0 && errno == EAGAIN)
		return 0;
	if (n <= 0) {
		close(out->fd);
		out->fd = -1;
		return io->o->sequential ? 0 : output(io, j, out, "", 0, true);
	}
	if (io->o->sequential && j != &io->jobs[io->turn])
		return to_spool(io, j, w, (size_t)n);
	return output(io, j, out, io->buf, (size_t)n, false);
}

/* -- stdin */

static void end_input(struct job *j)
{
	if (j->in >= 0)
		close(j->in);
	j->in = -1;
}

/* How far the slowest reader is; what has been read if nobody reads. */
static uint64_t slowest(const struct io *io)
{
	uint64_t low = io->got;

	for (int i = 0; i < io->n; i++)
		if (io->jobs[i].in >= 0 && io->jobs[i].in_pos < low)
			low = io->jobs[i].in_pos;
	return low;
}

static bool anybody_reads(const struct io *io)
{
	for (int i = 0; i < io->n; i++)
		if (io->jobs[i].in >= 0)
			return true;
	return false;
}

/*
 * Whoever is in the foreground types at the terminal. A read in the background would stop
 * us, and with us what runs on the nodes and reads nothing; ghosts do it in this way too.
 */
static bool in_background(const struct io *io)
{
	pid_t front = io->in_tty && io->in_open ? tcgetpgrp(0) : -1;

	return front >= 0 && front != getpgrp();
}

static void read_input(struct io *io)
{
	size_t at = io->got % RING, room = RING - (size_t)(io->got - slowest(io));
	ssize_t n;

	if (room > RING - at)
		room = RING - at;
	if (room == 0 || in_background(io))
		return;
	n = read(0, io->ring + at, room);
	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	if (n > 0)
		io->got += (uint64_t)n;
	else
		io->in_open = false;
}

static void feed(struct io *io, struct job *j)
{
	size_t at, len;
	ssize_t n;

	while (j->in >= 0 && j->in_pos < io->got) {
		at = j->in_pos % RING;
		len = (size_t)(io->got - j->in_pos);
		if (len > RING - at)
			len = RING - at;
		n = write(j->in, io->ring + at, len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return;
		if (n < 0)
			end_input(j); /* EPIPE: it reads no more */
		else
			j->in_pos += (uint64_t)n;
	}
	if (!io->in_open && j->in_pos == io->got)
		end_input(j);
}

/* -- the loop */

/* ms until a look is due, or -1. */
static int fill_poll(struct io *io)
{
	struct pollfd *p = io->p;
	bool room = io->got - slowest(io) < RING, background = in_background(io);

	for (int i = 0; i < io->n; i++, p += POLL_PER_JOB) {
		struct job *j = &io->jobs[i];

		p[0] = (struct pollfd){.fd = j->out[0].fd, .events = POLLIN};
		p[1] = (struct pollfd){.fd = j->out[1].fd, .events = POLLIN};
		/* Without data to send only the end of the reader is of interest. */
		p[2] = (struct pollfd){.fd = j->in, .events = j->in_pos < io->got ? POLLOUT : 0};
	}
	room = room && io->in_open && anybody_reads(io);
	p[0] = (struct pollfd){.fd = room && !background ? 0 : -1, .events = POLLIN};
	return room && background ? FOREGROUND_MS : -1;
}

static int serve(struct io *io)
{
	struct pollfd *p = io->p;

	for (int i = 0; i < io->n; i++, p += POLL_PER_JOB) {
		struct job *j = &io->jobs[i];

		for (int w = 0; w < 2; w++)
			if (p[w].revents && read_output(io, j, w) < 0)
				return -1;
		if (p[2].revents & (POLLERR | POLLNVAL))
			end_input(j);
	}
	if (p[0].revents)
		read_input(io);
	for (int i = 0; i < io->n; i++)
		if (io->jobs[i].in >= 0)
			feed(io, &io->jobs[i]);
	return 0;
}

static bool all_done(const struct io *io)
{
	for (int i = 0; i < io->n; i++)
		if (!is_done(&io->jobs[i]))
			return false;
	return true;
}

static int loop(struct io *io, int sigs)
{
	struct signalfd_siginfo si;
	size_t np = (size_t)io->n * POLL_PER_JOB + 2;
	int wait_ms;

	if (io->o->sequential && start_turn(io) < 0)
		return -1;
	for (;;) {
		reap(false);
		if (io->o->sequential && next_turns(io) < 0)
			return -1;
		if (all_done(io))
			return 0;
		wait_ms = fill_poll(io);
		io->p[np - 1] = (struct pollfd){.fd = sigs, .events = POLLIN};
		if (poll(io->p, np, wait_ms) < 0) {
			if (errno == EINTR)
				continue;
			return -1;
		}
		if (io->p[np - 1].revents)
			while (read(sigs, &si, sizeof(si)) > 0)
				;
		if (serve(io) < 0)
			return -1;
	}
}

int io_run(const struct options *o, struct job *jobs, int n)
{
	struct io io = {.o = o, .jobs = jobs, .n = n, .in_open = true, .in_tty = isatty(0)};
	sigset_t chld;
	int sigs, e;

	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&chld);
	sigaddset(&chld, SIGCHLD);
	sigprocmask(SIG_BLOCK, &chld, NULL);
	sigs = signalfd(-1, &chld, SFD_CLOEXEC | SFD_NONBLOCK);
	io.ring = malloc(RING);
	io.buf = malloc(o->buffer);
	io.p = calloc((size_t)n * POLL_PER_JOB + 2, sizeof(*io.p));
	if (sigs < 0 || !io.ring || !io.buf || !io.p)
		goto bad;
	for (int i = 0; i < n; i++) {
		/* Only our ends: what the processes have is theirs. */
		if (jobs[i].in >= 0)
			fcntl(jobs[i].in, F_SETFL, O_NONBLOCK);
		for (int w = 0; w < 2; w++) {
			if (jobs[i].out[w].fd >= 0)
				fcntl(jobs[i].out[w].fd, F_SETFL, O_NONBLOCK);
			jobs[i].out[w].line = malloc(o->buffer + 1);
			if (!jobs[i].out[w].line)
				goto bad;
		}
	}
	e = loop(&io, sigs);
	/* Nobody reads us any more: as for any program, and the processes get it in turn. */
	if (e < 0 && errno == EPIPE) {
		signal(SIGPIPE, SIG_DFL);
		raise(SIGPIPE);
	}
	if (e < 0)
		fprintf(stderr, "bpsh: %s\n", strerror(errno));
	for (int i = 0; i < n; i++) {
		end_input(&jobs[i]);
		for (int w = 0; w < 2; w++) {
			if (jobs[i].out[w].fd >= 0)
				close(jobs[i].out[w].fd);
			free(jobs[i].out[w].line);
		}
	}
	free(io.ring);
	free(io.buf);
	free(io.p);
	return e;
bad:
	fprintf(stderr, "bpsh: out of memory\n");
	return -1;
}
