/*
 * Events for bpslave. Each has a number and is kept until bpslave has it safe
 * (INIT_ACK); a bpslave that was killed and one that is not there lose none. The
 * ring is of fixed size: when it fills up, signals are dropped before anything
 * else, since an exit or a commit that is lost is never told again.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "slaved/bpinit.h"

struct kept {
	struct init_msg_head {
		uint32_t type, version;
		uint64_t seq, move_id;
		int32_t pid, err;
		uint32_t flags, stream_mask, req_id, zero;
	} head;
	char u[CHAN_TEXT_MAX];
};
_Static_assert(sizeof(struct init_msg_head) == offsetof(struct init_msg, u), "initproto.h");

static struct kept ring[EVENTS_MAX];
/* Numbers, not indices: acked <= sent <= last. Event n is ring[n % EVENTS_MAX]. */
static uint64_t acked, sent, last;
static uint64_t dropped;

void event(const struct init_msg *m)
{
	struct kept *k;
	uint64_t room = EVENTS_MAX - (last - acked);
	bool minor = m->type == EV_SIGNAL || m->flags & EVF_NATIVE;

	if (room == 0 || (minor && room <= EVENTS_RESERVED)) {
		if (dropped++ == 0)
			say("events are full: bpslave does not take them; event %u dropped",
			    m->type);
		return;
	}
	dropped = 0;
	k = &ring[++last % EVENTS_MAX];
	memcpy(k, m, sizeof(*k));
	k->head.seq = last;
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

void events_ack(uint64_t seq)
{
	if (seq > acked && seq <= sent)
		acked = seq;
}

void events_restart(void)
{
	sent = acked;
}

int events_flush(void)
{
	static struct init_msg m;
	int e;

	while (sent < last) {
		m = (struct init_msg){0};
		memcpy(&m, &ring[(sent + 1) % EVENTS_MAX], sizeof(struct kept));
		e = pkt_send(self.slave, &m, sizeof(m), NULL, 0);
		if (e < 0)
			return e;
		sent++;
	}
	return 0;
}
