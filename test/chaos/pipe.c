/*
 * Data through a process that is elsewhere: bytes go in at its stdin and come back
 * from its stdout, in order and once, wherever it goes meanwhile. What a process that
 * was killed had not sent is forgiven, nothing else.
 */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>

#include "chaos.h"

#define TURN 0x5a

static unsigned char byte_at(uint64_t seed, size_t i)
{
	return (unsigned char)(mix(seed, i >> 3) >> (i & 7) * 8);
}

/* In the child: until end of file. */
static _Noreturn void mill(uint64_t seed, size_t total, int code)
{
	unsigned char buf[4096];
	size_t done = 0, leap = total / (roll(&seed, 4) + 1) + 1, next = leap;
	ssize_t n, w;

	signal(SIGPIPE, SIG_DFL);
	while ((n = read(0, buf, sizeof(buf))) != 0) {
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			diff(me.slot, "read of stdin on node %d: %s", here(), strerror(errno));
			leave(125);
		}
		for (ssize_t i = 0; i < n; i++)
			buf[i] ^= TURN ^ (led->corrupt ? 1 : 0);
		for (ssize_t at = 0; at < n; at += w) {
			w = write(1, buf + at, (size_t)(n - at));
			if (w < 0 && errno == EINTR)
				w = 0;
			if (w < 0 && errno == EPIPE)
				raise(SIGPIPE);
			if (w < 0) {
				diff(me.slot, "write of stdout on node %d: %s", here(),
				     strerror(errno));
				leave(126);
			}
		}
		tick();
		done += (size_t)n;
		if (done >= next) {
			next += leap;
			do_move(other_node(&seed, true));
		}
	}
	leave(code);
}

struct flow {
	int in, out; /* the parent's ends; -1: closed */
	uint64_t seed;
	size_t total, sent, got;
	bool wrong;
};

static void feed(struct flow *f)
{
	unsigned char buf[2048];
	size_t n = f->total - f->sent;
	ssize_t w;

	if (n > sizeof(buf))
		n = sizeof(buf);
	for (size_t i = 0; i < n; i++)
		buf[i] = byte_at(f->seed, f->sent + i);
	w = n ? write(f->in, buf, n) : 0;
	if (w > 0)
		f->sent += (size_t)w;
	if (f->sent == f->total || (w < 0 && errno != EAGAIN && errno != EINTR)) {
		close(f->in);
		f->in = -1;
	}
}

static void take(struct flow *f)
{
	unsigned char buf[8192];
	ssize_t n = read(f->out, buf, sizeof(buf));

	for (ssize_t i = 0; i < n; i++, f->got++) {
		if (f->got < f->sent && (buf[i] ^ TURN) == byte_at(f->seed, f->got))
			continue;
		diff(me.slot, "byte %zu of %zu came as %#x, not %#x (%zu were sent)", f->got,
		     f->total, buf[i], byte_at(f->seed, f->got) ^ TURN, f->sent);
		f->wrong = true;
		n = 0;
		break;
	}
	if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
		close(f->out);
		f->out = -1;
	}
}

/* Until its output has ended. */
static void run_flow(struct flow *f, int slot)
{
	int64_t last = now_ms();

	while (f->out >= 0) {
		struct pollfd p[2] = {{.fd = f->out, .events = POLLIN},
				      {.fd = f->in, .events = POLLOUT}};
		int n = poll(p, 2, 20);

		tick();
		if (n > 0 || led->hold)
			last = now_ms();
		if (now_ms() - last > PATIENCE_MS) {
			diff(slot, "no byte for %d s: %zu sent, %zu back, of %zu",
			     PATIENCE_MS / 1000, f->sent, f->got, f->total);
			break;
		}
		if (p[1].revents)
			feed(f);
		if (p[0].revents)
			take(f);
	}
	if (f->out >= 0)
		close(f->out);
	if (f->in >= 0)
		close(f->in);
}

static void in_child(int in[2], int out[2], int node, uint64_t seed, size_t total, int code)
{
	dup2(in[0], 0);
	dup2(out[1], 1);
	for (int i = 0; i < 2; i++) {
		close(in[i]);
		close(out[i]);
	}
	do_move(node);
	mill(seed, total, code);
}

void op_pipe(uint64_t *rng)
{
	int in[2], out[2], slot = slot_new(), code = (int)roll(rng, 90) + 1;
	int node = other_node(rng, false);
	uint64_t seed = mix(*rng, 8);
	struct flow f = {.seed = seed, .total = (size_t)1 << roll(rng, 19)};
	pid_t pid;

	f.total += roll(rng, 4096);
	if (pipe2(in, O_CLOEXEC) < 0 || pipe2(out, O_CLOEXEC) < 0) {
		diff(me.slot, "pipe: %s", strerror(errno));
		return;
	}
	pid = do_fork(slot);
	if (pid == 0)
		in_child(in, out, node, mix(seed, 1), f.total, code);
	close(in[0]);
	close(out[1]);
	f.in = in[1];
	f.out = out[0];
	fcntl(f.in, F_SETFL, O_NONBLOCK);
	run_flow(&f, slot);
	if (pid > 0 && do_wait(slot, pid, 0, WANT_EXIT(code)) && f.got != f.total && !f.wrong &&
	    !streams_cut(slot))
		diff(slot, "%zu bytes of %zu came back (%zu sent)", f.got, f.total, f.sent);
	atomic_fetch_add(&led->bytes, f.got);
}
