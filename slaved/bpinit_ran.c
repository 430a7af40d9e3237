/*
 * bpinit: which moves to here have run, for as long as the master may ask. That is longer than
 * bpinit_move.c remembers by their number: a source that is cut off is heard of again, or is
 * dead, two and a half ping timeouts later, and a thousand moves may be over by then. Who was
 * told that such a move never ran would let its original go on, beside the copy or after it.
 *
 * A record is kept KEEP_TIMEOUTS of them; where there is no room for one the move is refused before
 * it begins (RAN_MAX records, more moves than that in this time).
 */
#include <signal.h>
#include <time.h>

#include "slaved/bpinit.h"

#define RAN_WAYS 4
#define RAN_MAX 131072 /* touched only as far as it is used */
#define KEEP_TIMEOUTS 3

static struct ran {
	uint64_t id; /* 0: none */
	int32_t pid, code, status; /* code 0: it has not ended here */
	uint32_t since;		   /* s */
} table[RAN_MAX / RAN_WAYS][RAN_WAYS];
static uint32_t keep_s = 90;

static uint32_t now_s(void)
{
	return (uint32_t)(clock_ns(CLOCK_BOOTTIME) / 1000000000);
}

void ran_keep(uint32_t ping_timeout_ms)
{
	keep_s = ping_timeout_ms * KEEP_TIMEOUTS / 1000 + 1;
}

/* Numbers of moves follow each other, and begin anew with each master's epoch in the upper half. */
static struct ran *ways(uint64_t id)
{
	uint64_t h = (id & UINT32_MAX) + (id >> 32) * 0x9e3779b1u;

	return table[h % (RAN_MAX / RAN_WAYS)];
}

static struct ran *find(uint64_t id)
{
	struct ran *r = ways(id);

	for (int i = 0; id && i < RAN_WAYS; i++)
		if (r[i].id == id)
			return &r[i];
	return NULL;
}

static struct ran *room(uint64_t id)
{
	struct ran *r = ways(id);
	uint32_t now = now_s();

	for (int i = 0; i < RAN_WAYS; i++)
		if (r[i].id == 0 || r[i].id == id || now - r[i].since > keep_s)
			return &r[i];
	return NULL;
}

bool ran_has_room(uint64_t id)
{
	return room(id) != NULL;
}

void ran_put(uint64_t id, int32_t pid)
{
	struct ran *r = room(id);

	if (r)
		*r = (struct ran){.id = id, .pid = pid, .since = now_s()};
}

void ran_ended(uint64_t id, const struct chan_child *c)
{
	struct ran *r = find(id);

	if (!r)
		return;
	r->code = c->code;
	r->status = c->status;
}

bool ran_find(uint64_t id, int32_t *ret_pid, struct chan_child *ret_life)
{
	const struct ran *r = find(id);

	if (!r)
		return false;
	*ret_pid = r->pid;
	*ret_life = (struct chan_child){.pid = r->pid, .code = r->code, .status = r->status};
	return true;
}
