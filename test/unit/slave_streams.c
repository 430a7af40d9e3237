/* What slave_streams.h has: home's bpslave, but for its streams, and nodes without a process. */
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "slave_streams.h"

struct slave slave = {.node = HOME_NODE};
struct peer n0 = {.node = 0}, n1 = {.node = 1}, n2 = {.node = 2}, home = {.node = HOME_NODE};
uint64_t told_visit, of_visit, used, leave;
char told[TOLD_MAX];
struct stdio_fds ghost;
Bproc__Proc proc = BPROC__PROC__INIT;
int flushes;
static struct event *timer; /* the one that runs */

/* -- what home's bpslave has around it */

uint32_t gen_of(int32_t pid)
{
	(void)pid;
	return 0;
}

bool master_is_up(void)
{
	return true;
}

struct node_row n0_row = {.node = 0, .status = "up"};

const struct node_row *table_find(int32_t node)
{
	return node == 0 ? &n0_row : NULL;
}

struct peer *peer_home(void)
{
	return slave.node == HOME_NODE ? NULL : &home;
}

int32_t peer_node(const struct peer *p)
{
	return p->node;
}

bool peer_is_full(const struct peer *p)
{
	(void)p;
	return false;
}

bool peer_send(struct peer *p, const void *msg)
{
	const ProtobufCMessage *m = msg;

	if (m->descriptor == &bproc__stream_credit__descriptor)
		p->credits |= ((const Bproc__StreamCredit *)msg)->mask;
	if (m->descriptor == &bproc__stream_reset__descriptor)
		p->resets |= ((const Bproc__StreamReset *)msg)->mask;
	if (m->descriptor == &bproc__stream_end__descriptor) {
		const Bproc__StreamEnd *e = msg;

		p->stdin_ends += e->mask & STREAM_BIT(0);
		p->used = e->mask & STREAM_BIT(0) ? e->at[0] : p->used;
	}
	if (m->descriptor == &bproc__stream_data__descriptor) {
		const Bproc__StreamData *d = msg;

		told_visit = d->visit;
		strncat(told, (const char *)d->data.data, d->data.len);
	}
	return true;
}

bool peer_send_later(struct peer *p, const void *msg)
{
	return peer_send(p, msg);
}

struct event *watch_fd(int fd, short what, event_callback_fn fn, void *arg)
{
	struct event *ev = event_new(slave.base, fd, EV_READ | EV_PERSIST, fn, arg);

	(void)what;
	if (ev && slave.node != HOME_NODE)
		event_add(ev, NULL);
	return ev;
}

struct event *new_timer(event_callback_fn fn, void *arg)
{
	return event_new(slave.base, -1, 0, fn, arg);
}

void start_timer(struct event *ev, uint32_t ms)
{
	(void)ms;
	timer = ev;
}

void let_time_pass(void)
{
	ck_assert_ptr_nonnull(timer);
	event_active(timer, EV_TIMEOUT, 0);
	event_base_loop(slave.base, EVLOOP_NONBLOCK);
}

void free_event(struct event **ev)
{
	if (*ev == timer)
		timer = NULL;
	if (*ev)
		event_free(*ev);
	*ev = NULL;
}

uint64_t now = 1;

uint64_t now_ms(void)
{
	return now;
}

/* -- what nodes say */

void say(struct peer *q, Bproc__Envelope__MsgCase type, void *msg)
{
	Bproc__Envelope env = BPROC__ENVELOPE__INIT;

	env.msg_case = type;
	env.stream_open = msg; /* of a union */
	stdio_on_msg(q, &env);
}

void open_visit(struct peer *q, uint64_t visit, uint64_t after, uint64_t at)
{
	Bproc__StreamOpen m = BPROC__STREAM_OPEN__INIT;
	uint64_t list[CHAN_STREAMS] = {at, at, at};

	m.proc = &proc;
	m.mask = STREAM_ALL;
	m.at = list;
	m.n_at = CHAN_STREAMS;
	m.visit = visit;
	m.after = after;
	say(q, BPROC__ENVELOPE__MSG_STREAM_OPEN, &m);
}

void open_streams(struct peer *q, uint64_t at)
{
	open_visit(q, 0, 0, at);
}

void open_three(void)
{
	open_streams(&n0, 0);
	open_streams(&n1, STREAM_UNKNOWN);
	open_streams(&n2, STREAM_UNKNOWN);
}

static void say_data(struct peer *q, uint32_t stream, uint64_t visit, uint64_t offset,
		     const char *text)
{
	Bproc__StreamData m = BPROC__STREAM_DATA__INIT;

	m.proc = &proc;
	m.stream = stream;
	m.offset = offset;
	m.visit = visit;
	m.data = (ProtobufCBinaryData){.len = strlen(text), .data = (uint8_t *)(uintptr_t)text};
	say(q, BPROC__ENVELOPE__MSG_STREAM_DATA, &m);
}

void data(struct peer *q, uint64_t offset, const char *text)
{
	say_data(q, 1, of_visit, offset, text);
}

void stdin_data(struct peer *q, uint64_t visit, const char *text)
{
	say_data(q, 0, visit, 0, text);
}

void end(struct peer *q, uint32_t mask, uint64_t out)
{
	Bproc__StreamEnd m = BPROC__STREAM_END__INIT;
	uint64_t list[CHAN_STREAMS];

	m.proc = &proc;
	m.mask = mask;
	m.at = list;
	m.move = leave;
	m.visit = of_visit;
	for (uint32_t i = 0; i < CHAN_STREAMS; i++)
		if (mask & STREAM_BIT(i))
			list[m.n_at++] = i == 1 ? out : i == 0 ? used : 0;
	say(q, BPROC__ENVELOPE__MSG_STREAM_END, &m);
}

void reset_stdin(struct peer *q)
{
	Bproc__StreamReset m = BPROC__STREAM_RESET__INIT;

	m.proc = &proc;
	m.mask = STREAM_BIT(0);
	m.used = STREAM_UNKNOWN;
	m.visit = of_visit;
	say(q, BPROC__ENVELOPE__MSG_STREAM_RESET, &m);
}

/* -- the ghost's side */

static void flushed(void *arg)
{
	flushes++;
	free(arg);
}

void await_home(uint64_t visit, uint64_t move)
{
	flushes = 0;
	stdio_flush_home(PID, move, visit, flushed, malloc(1));
}

void await_visit(uint64_t visit)
{
	await_home(visit, 99);
}

void await_flush(void)
{
	await_visit(0);
}

void end_for(struct peer *q, uint64_t move, uint64_t out)
{
	leave = move;
	end(q, STREAM_ALL, out);
	leave = 0;
}

void check_output(const char *want)
{
	char got[64] = "";
	ssize_t n = recv(ghost.theirs[1], got, sizeof(got) - 1, MSG_DONTWAIT);

	ck_assert_str_eq(got, want);
	ck_assert_int_eq((int)n, (int)strlen(want));
}

void streams_setup(void)
{
	struct stdio_fds ours;

	slave.base = event_base_new();
	proc.home = HOME_NODE;
	proc.pid = PID;
	n0.credits = n1.credits = n2.credits = n0.resets = n1.resets = n2.resets = 0;
	timer = NULL;
	told[0] = '\0';
	of_visit = 0;
	for (int i = 0; i < CHAN_STREAMS; i++) {
		int pair[2];

		ck_assert(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0,
				     pair) == 0);
		ours.ours[i] = pair[0];
		ghost.theirs[i] = pair[1];
	}
	stdio_left_home(PID, &ours);
}

void streams_teardown(void)
{
	stdio_forget_home(PID);
	for (int i = 0; i < CHAN_STREAMS; i++)
		close(ghost.theirs[i]);
	event_base_free(slave.base);
}
