/*
 * What bpinit says: handed to whom it concerns, and acknowledged when it is safe elsewhere. Runs
 * in bpslave; doc/local.md. bpinit keeps an event until INIT_ACK, so a bpslave that is killed
 * loses none; acknowledgements are gathered, since each would wake bpinit up.
 */
#include <errno.h>

#include "bpslave_heard.h"

#define ACK_MS 100

static struct {
	struct event *ack;    /* owned */
	struct init_msg done; /* INIT_ACK that is being filled */
	bool state_running;
	uint32_t hello; /* number of the last one: only its answer counts */
	uint32_t held;	/* real processes in the last state */
	bool told_once; /* all that was here when we began */
} heard;

/* Rather too often: a fence for nothing costs nothing. */
bool init_has_processes(void)
{
	return heard.held > 0;
}

/* -- acknowledging */

void heard_ack(void)
{
	event_del(heard.ack);
	if (init_is_connected() && heard.done.u.ack.n > 0)
		init_send(&heard.done, NULL, 0);
	heard.done.u.ack.n = 0;
}

static void on_ack(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	(void)arg;
	heard_ack();
}

void init_done(uint64_t seq)
{
	if (seq == 0)
		return;
	heard.done.type = INIT_ACK;
	heard.done.u.ack.seq[heard.done.u.ack.n++] = seq;
	if (heard.done.u.ack.n == INIT_ACKS_MAX)
		heard_ack();
	else if (!event_pending(heard.ack, EV_TIMEOUT, NULL))
		start_timer(heard.ack, ACK_MS);
}

/* -- hearing */

static void tell_state(const struct init_msg *m)
{
	Bproc__ProcState s = BPROC__PROC_STATE__INIT;
	PROC_OF(proc, m->u.state.pid);

	if (!m->u.state.is_ghost)
		heard.held++;
	born_state(m);
	/* It was here before us: what a bpslave had of its streams has gone with that one. */
	if (!heard.told_once && m->u.state.is_ghost && slave.node == HOME_NODE)
		stdio_lost(m->u.state.pid);
	s.proc = &proc;
	s.ghost = m->u.state.is_ghost;
	s.move = m->move_id;
	master_send(&s.base);
}

static void handle(const struct init_msg *m)
{
	switch (m->type) {
	case EV_STATE:
		if (m->u.state.is_move)
			return move_on_init(m);
		return tell_state(m);
	case EV_STATE_END:
		if (m->req_id != heard.hello)
			return;
		heard.state_running = false;
		heard.told_once = true;
		source_start(init_pid());
		if (master_is_up()) {
			Bproc__StateEnd end = BPROC__STATE_END__INIT;

			born_tell_all();
			move_tell_granted();
			master_send(&end.base);
			move_ask_again();
			zombies_ask();
		}
		return;
	case EV_HERE:
	case EV_SENT:
	case EV_FAILED:
	case EV_READY:
	case EV_RAN:
	case EV_VOIDED:
	case EV_GHOST:
		if (m->type == EV_RAN)
			heard.held++;
		return move_on_init(m);
	default:
		return event_on_init(m);
	}
}

void heard_message(const struct init_msg *m)
{
	/* Events come after the state; one that is here before its end is told again behind it. Of
	 * what was born here they come before: it has to be told with the state. */
	if (m->seq == 0 || !heard.state_running || m->flags & EVF_NATIVE)
		handle(m);
}

uint32_t heard_hello(void)
{
	heard.state_running = true;
	heard.held = 0;
	return ++heard.hello;
}

void heard_none(void)
{
	heard.held = 0;
}

void heard_lost(void)
{
	heard.done.u.ack.n = 0;
	heard.held = 0;
}

int heard_start(void)
{
	heard.ack = new_timer(on_ack, NULL);
	return heard.ack ? 0 : -ENOMEM;
}

void heard_stop(void)
{
	if (heard.ack)
		heard_ack();
	free_event(&heard.ack);
}
