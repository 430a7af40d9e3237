/*
 * Events for bpslave. Each has a number and is kept until it is safe elsewhere
 * (INIT_ACK, of a signal INIT_SIGNALLED); a bpslave that was killed and one that is
 * not there lose none. They are let go one by one: what waits for a node that is cut
 * off holds up nothing. Room is fixed: when it gets short signals are not taken any
 * more, since an exit or a commit that is lost is never told again.
 *
 * A signal of a ghost is kept until the bpinit of its process has it, and told again
 * every RESEND_MS (doc/wire.md, section 9): who passes it on may forget it at any time.
 */
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "slaved/bpinit.h"

#define RESEND_MS 1000
#define EVENTS_BUSY (EVENTS_MAX / 4)
#define STUCK_MS 1000 /* nothing has been let go for so long */

struct kept {
	struct init_msg_head {
		uint32_t type, version;
		uint64_t seq, move_id;
		int32_t pid, err;
		uint32_t flags, stream_mask, req_id, zero;
		uint64_t use;
	} head;
	union {
		char bytes[CHAN_TEXT_MAX];
		struct {
			int32_t pid, sender_pid;
			uint32_t sender_uid;
			int32_t code, sig, origin;
			uint64_t value, stream, number, base;
		} signal;
	} u;
	uint64_t sent_ms;    /* 0: it has not been told to this bpslave */
	uint32_t next, prev; /* index + 1, in the order of seq */
	bool waits;	     /* a signal beyond SIGNALS_WINDOW: not to be told yet */
};
_Static_assert(sizeof(struct init_msg_head) == offsetof(struct init_msg, u), "initproto.h");
_Static_assert(sizeof(((struct init_msg *)0)->u.signal) == sizeof(((struct kept *)0)->u.signal) &&
		       sizeof(((struct init_msg *)0)->u.signal) <= CHAN_TEXT_MAX,
	       "initproto.h");

static struct kept kept[EVENTS_MAX];
static uint32_t first, last, free_list, nused, nkept; /* links: index + 1 */
static uint32_t unsent;				      /* none before it is to be told */
static uint64_t seq;
static uint32_t nsignals;  /* ours, kept */
static uint64_t resend_ms; /* the next look at them */
static uint64_t let_go_ms; /* when room was made last */
static uint64_t dropped;

#define at(link) (&kept[(link)-1])

static bool is_signal(const struct kept *k)
{
	return k->head.type == EV_SIGNAL && !(k->head.flags & EVF_RELAYED);
}

static uint32_t let_go(uint32_t link)
{
	struct kept *k = at(link);
	uint32_t next = k->next;

	*(k->prev ? &at(k->prev)->next : &first) = next;
	*(next ? &at(next)->prev : &last) = k->prev;
	if (unsent == link)
		unsent = next;
	nsignals -= is_signal(k);
	k->head.type = 0;
	k->next = free_list;
	free_list = link;
	if (nkept-- >= EVENTS_BUSY)
		let_go_ms = clock_ms();
	return next;
}

static struct kept *keep(const struct init_msg *m, bool minor)
{
	uint32_t link = free_list;
	struct kept *k;

	if (nkept == EVENTS_MAX || (minor && nkept >= EVENTS_MAX - EVENTS_RESERVED)) {
		if (dropped++ == 0)
			say("events are full: bpslave does not take them; event %u dropped",
			    m->type);
		return NULL;
	}
	dropped = 0;
	if (link)
		free_list = at(link)->next;
	else
		link = ++nused;
	/* No number of another bpinit of this machine: what is for it may come late. */
	if (seq == 0)
		seq = (uint64_t)clock_ns(CLOCK_REALTIME);
	k = at(link);
	memcpy(k, m, sizeof(k->head) + sizeof(k->u));
	k->head.seq = ++seq;
	k->sent_ms = 0;
	k->waits = false;
	k->next = 0;
	k->prev = last;
	*(last ? &at(last)->next : &first) = link;
	last = link;
	if (!unsent)
		unsent = link;
	if (++nkept == EVENTS_BUSY)
		let_go_ms = clock_ms();
	nsignals += is_signal(k);
	return k;
}

void event(const struct init_msg *m)
{
	keep(m, m->type == EV_SIGNAL || m->type == EV_SIGNALLED || m->type == EV_IDENTITY ||
			m->flags & EVF_NATIVE);
}

uint64_t events_upto(void)
{
	return seq;
}

void event_move(enum init_type type, uint64_t move_id, uint32_t req_id, int32_t pid)
{
	event(&(struct init_msg){.type = type, .move_id = move_id, .req_id = req_id, .pid = pid});
}

void event_failed(uint64_t move_id, uint32_t req_id, uint32_t flags, int err, const char *fmt, ...)
{
	struct init_msg m = {.type = EV_FAILED,
			     .move_id = move_id,
			     .req_id = req_id,
			     .flags = flags,
			     .err = err > 0 ? err : EIO};
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(m.u.text, sizeof(m.u.text), fmt, ap);
	va_end(ap);
	event(&m);
}

/* Those that were told first are acknowledged first, as a rule. */
void events_ack(const struct init_msg *m)
{
	uint32_t n = m->u.ack.n < INIT_ACKS_MAX ? m->u.ack.n : INIT_ACKS_MAX;

	for (uint32_t i = 0; i < n; i++) {
		for (uint32_t l = first; l && at(l)->head.seq <= m->u.ack.seq[i]; l = at(l)->next) {
			if (at(l)->head.seq == m->u.ack.seq[i]) {
				let_go(l);
				break;
			}
		}
	}
}

/* -- signals of ghosts */

static bool is_of(const struct kept *k, const struct proc *p)
{
	return is_signal(k) && k->head.pid == p->pid;
}

static uint32_t signal_let_go(struct proc *p, uint32_t link)
{
	*(at(link)->waits ? &p->nwaiting : &p->nsignals) -= 1;
	return let_go(link);
}

static void number(struct proc *p, struct kept *k)
{
	k->waits = false;
	p->nsignals++;
	k->u.signal.stream = p->stream;
	k->u.signal.number = ++p->number;
	if (nsignals == 1 || resend_ms == 0)
		resend_ms = clock_ms() + RESEND_MS;
}

/* Of those that wait: each standard signal is pending at most once, of stop and continue the last.
 */
static bool coalesces(struct proc *p, int sig)
{
	uint32_t next;

	for (uint32_t l = first; l; l = next) {
		int other = at(l)->u.signal.sig;

		next = at(l)->next;
		if (!at(l)->waits || !is_of(at(l), p))
			continue;
		if (sig == SIGKILL || (sig == SIGCONT && is_stop(other)) ||
		    (other == SIGCONT && is_stop(sig)))
			signal_let_go(p, l);
		else if (other == sig && sig < SIGRTMIN)
			return true;
	}
	return false;
}

void event_signal(struct proc *p, const struct init_msg *m)
{
	bool full = p->nsignals >= SIGNALS_WINDOW, killed = m->u.signal.sig == SIGKILL;
	struct kept *k;

	while (p->stream == 0)
		if (getrandom(&p->stream, sizeof(p->stream), GRND_NONBLOCK) < 0)
			p->stream = (uint64_t)clock_ns(CLOCK_REALTIME);
	if (full && coalesces(p, m->u.signal.sig))
		return;
	if (p->nwaiting >= SIGNALS_MAX && !killed) {
		say("ghost %d: signal %d is dropped: %d wait", p->pid, m->u.signal.sig,
		    SIGNALS_MAX);
		return;
	}
	k = keep(m, !killed);
	if (!k)
		return;
	k->waits = full && !killed;
	if (k->waits)
		p->nwaiting++;
	else
		number(p, k);
}

static void promote(struct proc *p)
{
	for (uint32_t l = first; l && p->nwaiting > 0 && p->nsignals < SIGNALS_WINDOW;
	     l = at(l)->next) {
		if (!at(l)->waits || !is_of(at(l), p))
			continue;
		p->nwaiting--;
		number(p, at(l));
		unsent = first;
	}
}

void events_signalled(const struct init_msg *m)
{
	struct proc *p = proc_find(m->u.signalled.pid);
	uint64_t upto = m->u.signalled.upto;
	uint32_t next;

	if (!p || !p->stream || p->stream != m->u.signalled.stream ||
	    (int64_t)(p->number - upto) < 0)
		return;
	for (uint32_t l = first; l && p->nsignals > 0; l = next) {
		struct kept *k = at(l);

		next = k->next;
		if (!is_of(k, p) || k->waits)
			continue;
		if ((int64_t)(k->u.signal.number - upto) <= 0) {
			signal_let_go(p, l);
		} else if (m->u.signalled.again) {
			k->sent_ms = 0;
			unsent = first;
		}
	}
	if ((int64_t)(p->acked - upto) < 0)
		p->acked = upto;
	promote(p);
}

void events_forget_signals(struct proc *p)
{
	for (uint32_t l = first; l && p->nsignals + p->nwaiting > 0;)
		l = is_of(at(l), p) ? signal_let_go(p, l) : at(l)->next;
}

int events_tick(int ms)
{
	uint64_t now;

	if (nsignals == 0 || self.slave < 0)
		return ms;
	now = clock_ms();
	if (now >= resend_ms) {
		resend_ms = now + RESEND_MS;
		for (uint32_t l = first; l; l = at(l)->next)
			if (is_signal(at(l)) && now - at(l)->sent_ms >= RESEND_MS / 2)
				at(l)->sent_ms = 0;
		unsent = first;
	}
	if (ms < 0 || resend_ms - now < (uint64_t)ms)
		return (int)(resend_ms - now) + 1;
	return ms;
}

/* -- to bpslave */

/*
 * A thousand ghosts that are signalled or end at once tell more than there is room for. They
 * can wait in their stops, where nothing is lost, while what is kept is being let go; not
 * when it waits for a node that is cut off.
 */
bool events_have_room(void)
{
	return nkept < EVENTS_BUSY || clock_ms() - let_go_ms > STUCK_MS;
}

void events_restart(void)
{
	for (uint32_t l = first; l; l = at(l)->next)
		at(l)->sent_ms = 0;
	unsent = first;
}

static int tell(struct kept *k)
{
	static struct init_msg m;
	int e;

	m = (struct init_msg){0};
	memcpy(&m, k, sizeof(k->head) + sizeof(k->u));
	if (m.type == EV_RAN && move_went_on(m.move_id, m.pid))
		m.flags |= EVF_LEFT;
	if (is_signal(k))
		m.u.signal.base = proc_find(k->head.pid)->acked + 1;
	e = pkt_send(self.slave, &m, sizeof(m), NULL, 0);
	if (e == 0)
		k->sent_ms = clock_ms();
	return e;
}

/* It was free when the end was told. The next one's birth says that, and its end will be told. */
static bool in_use_again(int32_t pid)
{
	int status;

	return own_kill(pid, 0) == 0 && !proc_zombie_status(pid, &status);
}

/*
 * Before the state: of what was born here the master takes for dead, when that has been told, whom
 * nobody has told of, and would tell another end.
 */
int events_tell_ends(void)
{
	uint32_t next;
	int e = 0;

	for (uint32_t l = first; l && e == 0; l = next) {
		struct kept *k = at(l);

		next = k->next;
		if (k->sent_ms || k->head.type != EV_CHILD || !(k->head.flags & EVF_NATIVE))
			continue;
		if (in_use_again(k->head.pid))
			let_go(l);
		else
			e = tell(k);
	}
	return e;
}

int events_flush(void)
{
	int e;

	for (; unsent; unsent = at(unsent)->next) {
		struct kept *k = at(unsent);

		e = k->sent_ms || k->waits ? 0 : tell(k);
		if (e < 0)
			return e;
	}
	return 0;
}
