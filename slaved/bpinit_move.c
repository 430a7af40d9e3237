/*
 * bpinit: the table of moves and of how they ended. The source's side of a move is
 * in bpinit_leave.c, the target's in bpinit_arrive.c
 * and bpinit_complete.c.
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "slaved/bpinit.h"
#include "slaved/once.h"

struct move moves[MOVES_MAX];
static struct {
	uint64_t id;
	enum init_type how;
	int32_t pid;
	struct chan_child life; /* EV_RAN: how it ended here; code 0: it has not */
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
					 .back = -1,
					 .filters = -1,
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
	skel_release(m);
	if (m->threads)
		lease_lower(INT32_MAX);
	m->threads = false;
	m->chan = chan_end(m->chan);
	m->data = close_fd(m->data);
	m->back = close_fd(m->back);
	m->filters = close_fd(m->filters);
	lazy_off(m);
	close_streams(m->stream);
	m->phase = MOVE_NONE;
	m->gen++;
}

void move_ended(uint64_t id, enum init_type how, int32_t pid)
{
	if (id == 0)
		return;
	if (how == EV_RAN)
		ran_put(id, pid);
	ended[nended % ENDED_MAX].life.code = 0;
	ended[nended % ENDED_MAX].id = id;
	ended[nended % ENDED_MAX].how = how;
	ended[nended++ % ENDED_MAX].pid = pid;
}

enum init_type move_how_ended(uint64_t id, int32_t *ret_pid)
{
	struct chan_child life;

	for (uint32_t i = 0; i < ENDED_MAX && i < nended; i++) {
		uint32_t at = (nended - 1 - i) % ENDED_MAX;

		if (ended[at].id == id) {
			*ret_pid = ended[at].pid;
			return ended[at].how;
		}
	}
	return ran_find(id, ret_pid, &life) ? EV_RAN : 0;
}

void move_life_ended(uint64_t id, const struct chan_child *c)
{
	ran_ended(id, c);
	for (uint32_t i = 0; id && i < ENDED_MAX && i < nended; i++) {
		uint32_t at = (nended - 1 - i) % ENDED_MAX;

		if (ended[at].id == id && ended[at].how == EV_RAN) {
			ended[at].life = *c;
			return;
		}
	}
}

/*
 * It has run here, and neither runs nor has ended here: another move has taken it on. A master that
 * was restarted must not take it for real here.
 */
bool move_went_on(uint64_t id, int32_t pid)
{
	const struct proc *p = proc_find(pid);
	struct chan_child life;

	if (p && (p->state == PROC_REAL || p->state == PROC_LEAVING) && p->came == id)
		return false;
	return ran_find(id, &pid, &life) && life.code == 0;
}

/*
 * Again the end too: if the first word on it came before the word that it ran, which was lost
 * with a link, the master could make nothing of it.
 */
void event_ran(uint64_t id, uint32_t req_id, int32_t pid)
{
	struct chan_child life = {.code = 0};

	event_move(EV_RAN, id, req_id, pid);
	ran_find(id, &pid, &life);
	for (uint32_t i = 0; i < ENDED_MAX && i < nended; i++)
		if (ended[i].id == id && ended[i].how == EV_RAN)
			life = ended[i].life; /* with what it has used up */
	if (life.code)
		event(&(struct init_msg){
			.type = EV_CHILD, .move_id = id, .pid = pid, .u.child = life});
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

/* -- the data connection of one that leaves */

int move_write_header(struct move *m)
{
	struct data_hdr h = {.magic = DATA_MAGIC,
			     .version = DATA_VERSION,
			     .move_id = m->id,
			     .epoch = m->epoch,
			     .pid = m->pid,
			     .kind = m->kind,
			     .flags = m->dump_flags & DUMP_LAZY ? DATA_LAZY : 0};

	memcpy(h.token, m->token, sizeof(h.token));
	/* Nobody can have signalled a child that is new; and what goes ahead is no process. */
	if (m->kind != MOVE_RFORK && m->kind != MOVE_LIVE) {
		const struct proc *p = proc_find(m->pid);

		once_of(m->pid, h.streams);
		h.used = m->used;
		used_add(m->pid, &h.used, p && p->came);
	}
	/* Held back, on TCP, until the process has its order: on a small machine the
	 * node's daemons would run first, and the process is what takes longest. */
	for (size_t at = 0; at < sizeof(h);) {
		ssize_t n = send(m->data, (char *)&h + at, sizeof(h) - at, MSG_MORE | MSG_NOSIGNAL);

		if (n < 0 && errno == ENOTSOCK) /* a pipe of bpdata's; SIGPIPE is blocked */
			n = write(m->data, (char *)&h + at, sizeof(h) - at);
		if (n < 0 && errno != EINTR)
			return -errno;
		at += n > 0 ? (size_t)n : 0;
	}
	return 0;
}

/* tcp(7): setting TCP_NODELAY sends what is held back. No TCP: nothing was. */
void move_push_header(const struct move *m)
{
	int on = 1;

	setsockopt(m->data, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}
