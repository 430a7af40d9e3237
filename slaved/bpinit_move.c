/*
 * bpinit: the table of moves and of how they ended. The source's side of a move is
 * in bpinit_leave.c, the target's in bpinit_arrive.c.
 */
#include <errno.h>

#include "slaved/bpinit.h"

struct move moves[MOVES_MAX];
static struct {
	uint64_t id;
	enum init_type how;
	int32_t pid;
} ended[ENDED_MAX];
static uint32_t nended;
uint32_t moves_used; /* no slot at or above this was ever used: they are long */

struct move *move_find(uint64_t id)
{
	for (uint32_t i = 0; id && i < moves_used; i++)
		if (moves[i].phase != MOVE_NONE && moves[i].id == id)
			return &moves[i];
	return NULL;
}

struct move *move_new(enum move_phase phase)
{
	for (uint32_t i = 0; i < MOVES_MAX; i++) {
		if (moves[i].phase != MOVE_NONE)
			continue;
		if (i == moves_used)
			moves_used++;
		moves[i] = (struct move){.phase = phase,
					 .gen = moves[i].gen + 1,
					 .chan = -1,
					 .data = -1,
					 .stream = {-1, -1, -1}};
		return &moves[i];
	}
	return NULL;
}

void move_free(struct move *m)
{
	struct proc *p = m->pid ? proc_find(m->pid) : NULL;

	if (p && move_of(p) == m)
		p->move = 0;
	m->chan = close_fd(m->chan);
	m->data = close_fd(m->data);
	close_streams(m->stream);
	m->phase = MOVE_NONE;
	m->gen++;
}

void move_ended(uint64_t id, enum init_type how, int32_t pid)
{
	if (id == 0)
		return;
	ended[nended % ENDED_MAX].id = id;
	ended[nended % ENDED_MAX].how = how;
	ended[nended++ % ENDED_MAX].pid = pid;
}

enum init_type move_how_ended(uint64_t id, int32_t *ret_pid)
{
	for (uint32_t i = 0; i < ENDED_MAX && i < nended; i++) {
		uint32_t at = (nended - 1 - i) % ENDED_MAX;

		if (ended[at].id == id) {
			*ret_pid = ended[at].pid;
			return ended[at].how;
		}
	}
	return 0;
}

void close_streams(int fd[CHAN_STREAMS])
{
	for (int i = 0; i < CHAN_STREAMS; i++)
		fd[i] = close_fd(fd[i]);
}

/* Takes the descriptors of pkt from number from on, by the bits of mask. */
int sort_streams(struct sysio_pkt *pkt, int from, uint32_t mask, int ret[CHAN_STREAMS])
{
	for (int i = 0; i < CHAN_STREAMS; i++) {
		ret[i] = -1;
		if (!(mask & 1u << i))
			continue;
		if (from >= pkt->nfd)
			return -EPROTO;
		ret[i] = take_fd(pkt->fd[from]);
		from++;
	}
	return 0;
}

bool move_state_msg(uint32_t *at, struct init_msg *msg)
{
	static const uint32_t told[] = {
		[LEAVE_ASKED] = INIT_PHASE_ASKED,	  [LEAVE_EXEC] = INIT_PHASE_SENDING,
		[LEAVE_SENDING] = INIT_PHASE_SENDING,	  [LEAVE_SENT] = INIT_PHASE_SENT,
		[LEAVE_FAILED] = INIT_PHASE_FAILED,	  [LEAVE_GHOSTING] = INIT_PHASE_SENT,
		[LEAVE_ABORTING] = INIT_PHASE_FAILED,	  [ARRIVE_CHAIN] = INIT_PHASE_CHAIN,
		[ARRIVE_READY] = INIT_PHASE_READY,	  [ARRIVE_GHOST] = INIT_PHASE_READY,
		[ARRIVE_RESTORING] = INIT_PHASE_ARRIVING, [ARRIVE_DETACHING] = INIT_PHASE_ARRIVING,
		[ARRIVE_EXECING] = INIT_PHASE_ARRIVING,
	};

	for (; *at < moves_used; (*at)++) {
		const struct move *m = &moves[*at];

		if (m->phase == MOVE_NONE)
			continue;
		(*at)++;
		msg->move_id = m->id;
		msg->req_id = m->req_id;
		msg->pid = msg->u.state.pid = m->pid;
		msg->u.state.is_move = 1;
		msg->u.state.kind = m->kind;
		msg->u.state.phase = told[m->phase];
		msg->u.state.epoch = m->epoch;
		msg->u.state.home_here = m->phase < ARRIVE_CHAIN ? !m->away : m->home_here;
		msg->u.state.ppid = m->ppid;
		msg->u.state.pgid = m->pgid;
		msg->u.state.sid = m->sid;
		return true;
	}
	return false;
}

struct move *move_find_leaving(uint64_t id, uint32_t req_id)
{
	for (uint32_t i = 0; i < moves_used; i++) {
		struct move *m = &moves[i];

		if (m->phase == MOVE_NONE || m->phase >= ARRIVE_CHAIN)
			continue;
		if ((id && m->id == id) || (req_id && m->req_id == req_id))
			return m;
	}
	return NULL;
}
