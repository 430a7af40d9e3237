/*
 * Which signals of ghosts have been delivered (once.h). Runs in bpinit. A stream that
 * is forgotten for want of room is taken up again at the sender's base: then a signal
 * whose acknowledgement was lost just then may act twice, and nothing worse.
 */
#include <stddef.h>

#include "slaved/once.h"

#define WAYS 8
#define BUCKETS (STREAMS_MAX / WAYS)

static struct stream {
	uint64_t id; /* 0: free */
	uint64_t upto;
	uint64_t used;
	int32_t pid;
	bool asked; /* for what comes next */
} streams[BUCKETS][WAYS];
static uint64_t uses;

/* Numbers may wrap: what counts is which of two is ahead. */
static bool before(uint64_t a, uint64_t b)
{
	return (int64_t)(a - b) < 0;
}

static struct stream *find(uint64_t id)
{
	struct stream *b = streams[id % BUCKETS];

	for (int i = 0; id && i < WAYS; i++)
		if (b[i].id == id)
			return &b[i];
	return NULL;
}

static struct stream *make(uint64_t id, int32_t pid, uint64_t upto)
{
	struct stream *b = streams[id % BUCKETS], *s = b;

	for (int i = 1; i < WAYS; i++)
		if (b[i].used < s->used)
			s = &b[i];
	*s = (struct stream){.id = id, .upto = upto, .used = ++uses, .pid = pid};
	return s;
}

enum once once_take(uint64_t stream, int32_t pid, uint64_t number, uint64_t base)
{
	struct stream *s = find(stream);

	if (!s)
		s = make(stream, pid, base - 1);
	s->used = ++uses;
	s->pid = pid;
	if (before(s->upto, base - 1))
		s->upto = base - 1;
	if (!before(s->upto, number))
		return ONCE_OLD;
	if (number != s->upto + 1) {
		if (s->asked)
			return ONCE_LATER;
		s->asked = true;
		return ONCE_AHEAD;
	}
	s->upto = number;
	s->asked = false;
	return ONCE_NEW;
}

uint64_t once_upto(uint64_t stream)
{
	const struct stream *s = find(stream);

	return s ? s->upto : 0;
}

void once_of(int32_t pid, struct data_stream ret[DATA_STREAMS])
{
	uint64_t used[DATA_STREAMS] = {0};

	for (int i = 0; i < DATA_STREAMS; i++)
		ret[i] = (struct data_stream){0};
	for (int i = 0; uses && i < BUCKETS * WAYS; i++) {
		const struct stream *s = &streams[i / WAYS][i % WAYS];
		int least = 0;

		if (!s->id || s->pid != pid)
			continue;
		for (int k = 1; k < DATA_STREAMS; k++)
			if (used[k] < used[least])
				least = k;
		if (used[least] > s->used)
			continue;
		used[least] = s->used;
		ret[least] = (struct data_stream){.id = s->id, .upto = s->upto};
	}
}

void once_put(int32_t pid, const struct data_stream v[DATA_STREAMS])
{
	for (int i = 0; i < DATA_STREAMS; i++) {
		struct stream *s = find(v[i].id);

		if (!v[i].id)
			continue;
		if (!s)
			s = make(v[i].id, pid, v[i].upto);
		if (before(s->upto, v[i].upto))
			s->upto = v[i].upto;
		s->pid = pid;
	}
}
