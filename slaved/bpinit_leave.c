/*
 * bpinit: the source's side of a move, in the order in which it happens (steps as
 * in doc/move.md).
 *
 * The process is parked by its own blob. It is traced from the moment it is here,
 * for two reasons: what kills it is known before its parent knows, and the ghost
 * that it becomes never is without its tracer.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <unistd.h>

#include "include/sys/bproc_common.h"
#include "slaved/bpinit_kill.h"
#include "slaved/bpinit_place.h"

/* -- step 2: a process has asked */

void leave_failed(struct move *m, int err, const char *text)
{
	event_failed(m->id, m->req_id, EVF_SOURCE, err, "%s", text);
	m->phase = LEAVE_FAILED;
	/* Not granted: nobody but this machine knows of it, so nobody will decide. */
	if (!m->granted && !(m->pid && proc_find(m->pid)) && m->chan < 0)
		move_free(m);
}

/*
 * Of an rfork these are not told: its pid was announced, nothing of it is to be kept
 * here, and the target's word follows in no time. Each would wake two daemons. The same
 * of an execmove; but one that leaves a node has streams there that have to be ended.
 */
static void tell_step(const struct move *m, enum init_type step)
{
	if (m->kind != MOVE_RFORK && (m->kind != MOVE_EXECMOVE || (m->away && step == EV_SENT)))
		event_move(step, m->id, m->req_id, m->pid);
}

void init_depart(const struct init_msg *msg, struct sysio_pkt *pkt)
{
	struct move *m;
	int on = 1;

	if (move_find_leaving(0, msg->req_id))
		return;
	m = pkt->nfd == 1 ? move_new(LEAVE_ASKED) : NULL;
	if (!m) {
		if (pkt->nfd == 1)
			foreign_end(take_fd(pkt->fd[0]));
		event_failed(0, msg->req_id, EVF_SOURCE, EAGAIN, "too many moves at once");
		return;
	}
	m->req_id = msg->req_id;
	m->kind = msg->u.depart.kind;
	m->dump_flags = msg->u.depart.dump_flags;
	m->away = msg->u.depart.away;
	m->asker_pid = msg->u.depart.asker_pid;
	m->chan = take_fd(pkt->fd[0]);
	setsockopt(m->chan, SOL_SOCKET, SO_PASSCRED, &on, sizeof(on));
	fcntl(m->chan, F_SETFL, O_NONBLOCK);
	/* An rfork's child may not go before the grant, and is looked for then: its word that it
	 * is here wakes nobody while the master judges. That it has ended is seen (EPOLLHUP). */
	watch_fd(m->chan, ON_MOVE, move_index(m), m->gen, m->kind == MOVE_RFORK ? 0 : EPOLLIN);
}

/* -- step 5: it is here, and may go */

uint32_t leave_go_flags(const struct move *m)
{
	return m->dump_flags << 8 | (m->away ? CHAN_GO_AWAY : 0) |
	       m->streams << CHAN_GO_STREAM_SHIFT;
}

static void go(struct move *m, struct proc *p)
{
	struct chan_msg c = {.type = CHAN_GO,
			     .move_id = m->id,
			     .flags = leave_go_flags(m),
			     .u.go.filters = m->filters_id};
	int fd[2] = {m->data, m->back}, e = move_write_header(m);

	memcpy(c.u.go.saved, m->saved, sizeof(m->saved));
	m->phase = LEAVE_SENDING;
	if (e == 0)
		e = proc_tell(p, &c, fd, m->back >= 0 ? 2 : 1);
	move_push_header(m);
	m->data = close_fd(m->data);
	m->back = close_fd(m->back);
	if (e < 0)
		leave_failed(m, -e, "the connection to the node was lost");
}

static void let_exec(struct move *m, struct proc *p)
{
	struct chan_msg c = {.type = CHAN_GO, .move_id = m->id, .flags = CHAN_GO_EXEC};

	m->phase = LEAVE_EXEC;
	if (inject_begin(p, p->inject_chan) == 0)
		proc_tell(p, &c, &self.code, 1);
}

static void may_go(struct move *m)
{
	struct proc *p = m->here && m->granted ? proc_find(m->pid) : NULL;

	if (!p || m->phase != LEAVE_ASKED || !sent_all(m->pid))
		return;
	if (m->granted_pid && m->pid != m->granted_pid) {
		leave_failed(m, EPROTO, "the child that is to leave is not the one announced");
		return;
	}
	if (m->kind != MOVE_EXECMOVE || m->loaded)
		go(m, p);
	else
		let_exec(m, p);
}

void leave_may_go(int32_t pid)
{
	struct proc *p = proc_find(pid);
	struct move *m = p && p->state == PROC_LEAVING ? move_of(p) : NULL;

	if (m)
		may_go(m);
}

static void here(struct move *m, const struct chan_msg *c, int32_t pid)
{
	struct proc *p;
	int e;

	if (pid <= 0 && m->kind != MOVE_RFORK)
		pid = m->asker_pid;
	if (pid <= 0 || (m->kind != MOVE_RFORK && m->asker_pid && pid != m->asker_pid)) {
		leave_failed(m, EPROTO, "the process that is to leave is not the one that asked");
		return;
	}
	p = proc_find(pid);
	if (p && p->state != PROC_REAL) {
		leave_failed(m, EBUSY, "another move of this process is not over");
		return;
	}
	if (!p && !(p = proc_add(pid, PROC_LEAVING))) {
		leave_failed(m, EAGAIN, "too many processes are moved");
		return;
	}
	p->was_real = p->state == PROC_REAL;
	p->state = PROC_LEAVING;
	if (self.keeper && m->kind != MOVE_RFORK)
		place_leaves(p);
	p->move = move_index(m) + 1;
	p->inject = INJECT_NO;
	p->inject_chan = c->u.exec.chan;
	p->inject_code = c->u.exec.code > STDERR_FILENO ? c->u.exec.code : -1;
	p->inject_shares = false;
	p->awake = p->nmirror = p->busy = 0;
	p->dying = p->lost = p->held_stop = p->serves = p->watch_over = false;
	m->pid = pid;
	e = trace_begin(p, m->kind == MOVE_EXECMOVE ? PTRACE_O_TRACEEXEC : 0);
	proc_set_chan(p, take_fd(m->chan));
	if (e < 0) {
		leave_failed(m, -e,
			     e == -EPERM ? "it is being traced by a debugger" : "it has ended");
		return;
	}
	m->here = true;
	tell_step(m, EV_HERE);
	if (m->kind == MOVE_EXECMOVE && c->flags & CHAN_HERE_FIRST)
		let_exec(m, p);
	else
		may_go(m);
}

void move_readable(struct move *m)
{
	struct sysio_pkt pkt;
	struct chan_msg c;
	int e = foreign_recv(m->chan, &c, sizeof(c), &pkt);

	if (e == -EAGAIN)
		return;
	foreign_pkt_close(&pkt);
	c.u.text[CHAN_TEXT_MAX - 1] = '\0';
	if (e < 0 || pkt.len == 0) {
		m->chan = chan_end(m->chan);
		if (m->phase == LEAVE_ASKED && m->kind == MOVE_LIVE)
			leave_failed(m, ECANCELED, "whoever moves it has ended");
		else if (m->phase == LEAVE_ASKED)
			leave_failed(m, ESRCH, "the process ended before it left");
		else if (m->phase == LEAVE_ABORTING || !m->granted)
			move_free(m);
		return;
	}
	if (pkt.len != sizeof(c) || m->phase != LEAVE_ASKED)
		return;
	if (c.type == CHAN_HERE && m->kind != MOVE_LIVE)
		here(m, &c, pkt.cred.pid);
	else if (c.type == CHAN_FAILED)
		leave_failed(m, c.err, c.u.text);
}

static void look_for(struct move *m)
{
	move_readable(m);
	if (m->phase == LEAVE_ASKED && !m->here)
		rewatch_fd(m->chan, ON_MOVE, move_index(m), m->gen, EPOLLIN);
}

void init_grant(const struct init_msg *msg, struct sysio_pkt *pkt)
{
	struct move *m = move_find_leaving(0, msg->req_id);

	if (!m || m->phase == LEAVE_ABORTING) {
		event_failed(msg->move_id, msg->req_id, EVF_SOURCE, ESRCH,
			     "the process ended before it left");
		return;
	}
	if (m->granted)
		return;
	m->granted = true;
	m->granted_pid = msg->pid;
	m->streams = msg->u.depart.streams & CHAN_GO_STREAM_MASK;
	/* Less than was asked for, where the node has the program. */
	m->dump_flags = msg->u.depart.dump_flags;
	m->id = msg->move_id;
	m->epoch = msg->u.depart.epoch;
	m->target = msg->u.depart.target;
	m->pgid = msg->u.depart.pgid;
	m->sid = msg->u.depart.sid;
	m->filters_id = msg->u.depart.filters;
	m->used = msg->u.depart.used;
	memcpy(m->saved, msg->u.depart.saved, sizeof(m->saved));
	memcpy(m->token, msg->u.depart.token, sizeof(m->token));
	if (pkt->nfd > 0)
		m->data = take_fd(pkt->fd[0]);
	if (pkt->nfd > 1)
		m->back = take_fd(pkt->fd[1]);
	if (m->phase == LEAVE_FAILED)
		event_failed(m->id, m->req_id, EVF_SOURCE, ESRCH, "it could not leave");
	else if (m->data < 0)
		leave_failed(m, EPROTO, "no connection to the node");
	else if (m->kind == MOVE_LIVE)
		live_granted(m);
	else if (m->here)
		may_go(m);
	else
		look_for(m);
}

/* -- steps 6 and 9: what it says */

void leave_became_ghost(struct move *m, struct proc *p)
{
	p->state = PROC_GHOST;
	p->in_place = true;
	p->move = 0;
	p->place.pgid = m->pgid;
	p->place.sid = m->sid;
	p->place.when = 0; /* what home has said it has taken along */
	event_move(EV_GHOST, m->id, m->req_id, p->pid);
	move_ended(m->id, EV_GHOST, p->pid);
	move_free(m);
	if (p->nmirror > 0 && !p->exiting)
		mirror_next(p);
	trace_held_stop(p);
	born_reap_due(p->pid);
	place_made(p->pid);
	arrive_progress();
}

static void aborted(struct proc *p);

bool leave_is_ghosting(const struct proc *p)
{
	const struct move *m = move_of(p);

	return p->state == PROC_LEAVING && m && m->phase == LEAVE_GHOSTING;
}

void leave_message(struct proc *p, const struct chan_msg *c)
{
	struct move *m = move_of(p);

	if (!m)
		return;
	switch (c->type) {
	case CHAN_HERE:
		if (c->flags != CHAN_HERE_ENTRY || !p->inject)
			break;
		p->inject = INJECT_NO;
		if (m->phase == LEAVE_ABORTING)
			trace_release(p, aborted);
		break;
	case CHAN_SENT:
		if (m->phase != LEAVE_SENDING)
			break;
		m->phase = LEAVE_SENT;
		tell_step(m, EV_SENT);
		break;
	case CHAN_FAILED:
		if (m->phase == LEAVE_EXEC || m->phase == LEAVE_ABORTING) {
			/* The exec failed, and its caller goes on by itself. */
			p->inject = INJECT_NO;
			if (m->phase == LEAVE_EXEC)
				leave_failed(m, c->err, c->u.text);
			trace_release(p, aborted);
		} else if (m->phase == LEAVE_SENDING) {
			leave_failed(m, c->err, c->u.text);
		}
		break;
	case CHAN_LOST:
		/* It stays as it is: what it has sent may have been read, and run. */
		if (m->phase == LEAVE_SENDING || m->phase == LEAVE_SENT)
			event_failed(m->id, m->req_id, EVF_SOURCE, ECONNRESET,
				     "the data connection to the node was lost");
		break;
	case CHAN_GHOST:
		if (m->phase == LEAVE_GHOSTING)
			leave_became_ghost(m, p);
		break;
	default:
		break;
	}
}

/* -- step 9: the master has decided */

static void decide_ghost(struct move *m, struct sysio_pkt *pkt, const struct init_msg *msg)
{
	struct chan_msg c = {.type = CHAN_BE_GHOST,
			     .move_id = m->id,
			     .stream_mask = msg->stream_mask,
			     .flags = m->away ? CHAN_GHOST_REAP : 0};
	struct proc *p = proc_find(m->pid);
	int fd[CHAN_STREAMS + 1], n = 0;
	struct cpu_mask cpu;

	if (m->phase == LEAVE_GHOSTING)
		return;
	if (p)
		p->use = msg->use;
	if (!p || p->state != PROC_LEAVING) {
		/* Its end came between the vote and now, and has been told. */
		event_move(EV_GHOST, m->id, m->req_id, m->pid);
		move_ended(m->id, EV_GHOST, m->pid);
		move_free(m);
		return;
	}
	if (p->exiting) {
		leave_became_ghost(m, p);
		trace_killed(p);
		return;
	}
	m->phase = LEAVE_GHOSTING;
	for (; n < pkt->nfd && n < CHAN_STREAMS; n++)
		fd[n] = pkt->fd[n];
	if (!p->inject_shares) {
		c.flags |= CHAN_GHOST_CODE;
		fd[n++] = self.code;
	}
	/* What it does now is our work: elsewhere it may be behind the very program that has
	 * just begun to run, on a small machine, and its end would wait for that. A child of
	 * rfork gives back the pages of its image, which the next one takes: where it took them. */
	cpu.set = false;
	if (m->kind != MOVE_RFORK)
		cpu = cpu_woken_here(p->pid);
	proc_tell(p, &c, fd, n);
	cpu_back(p->pid, &cpu);
}

static void abort_msg(const struct move *m, struct chan_msg *c)
{
	*c = (struct chan_msg){
		.type = CHAN_ABORT,
		.move_id = m->id,
		.err = m->abort_err,
		.flags = m->abort_err == BE_SAMENODE ? CHAN_ABORT_HERE : 0,
	};
	memcpy(c->u.text, m->abort_text, sizeof(c->u.text));
}

/* Untraced: it may thaw. */
static void aborted(struct proc *p)
{
	struct move *m = move_of(p);
	struct chan_msg c;

	if (m && m->phase == LEAVE_ABORTING) {
		abort_msg(m, &c);
		proc_tell(p, &c, NULL, 0);
		move_ended(m->id, EV_FAILED, p->pid);
		move_free(m);
	}
	p->move = 0;
	if (p->was_real) {
		proc_close_chan(p);
		p->state = PROC_REAL;
	} else {
		proc_remove(p);
	}
	arrive_progress();
}

/*
 * To one that is not here yet: it finds this when it comes. The channel is closed at once, since
 * whoever has its other end may keep that as long as he likes. Closed with something unread in
 * it, it would give an error before the message (unix_release_sock()); shut, nothing more comes.
 */
static void last_word(struct move *m, const struct chan_msg *c)
{
	if (m->chan < 0)
		return;
	pkt_send_now(m->chan, c, sizeof(*c), NULL, 0);
	m->chan = chan_end(m->chan);
}

static void decide_abort(struct move *m, int err, const char *text)
{
	struct proc *p = m->pid ? proc_find(m->pid) : NULL;
	struct chan_msg c;

	/* What was told to be a ghost does not thaw any more, whoever says so. */
	if (m->phase == LEAVE_ABORTING || (p && leave_is_ghosting(p)))
		return;
	m->phase = LEAVE_ABORTING;
	m->abort_err = err;
	memcpy(m->abort_text, text, CHAN_TEXT_MAX);
	m->abort_text[CHAN_TEXT_MAX - 1] = '\0';
	abort_msg(m, &c);
	m->data = close_fd(m->data);
	if (!p || move_of(p) != m) {
		last_word(m, &c);
		move_free(m);
		return;
	}
	if (p->exiting) {
		ptrace(PTRACE_CONT, p->pid, NULL, NULL);
		move_ended(m->id, EV_FAILED, p->pid);
		move_free(m);
		return;
	}
	if (p->inject)
		/* Between an exec and its entry: the blob finds this when it is there. */
		proc_tell(p, &c, NULL, 0);
	else
		trace_release(p, aborted);
}

void init_decide(const struct init_msg *msg, struct sysio_pkt *pkt)
{
	struct move *m = move_find_leaving(msg->move_id, msg->req_id);

	if (!m) {
		/* Said again by a bpslave that does not know that it is done. */
		if (msg->u.decide.ghost) /* nothing of it is parked here: it is done, or dead */
			event_move(EV_GHOST, msg->move_id, msg->req_id, msg->pid);
		return;
	}
	if (msg->u.decide.ghost)
		decide_ghost(m, pkt, msg);
	else
		decide_abort(m, msg->err ? msg->err : EIO, msg->u.decide.text);
}

/* Its order does not wait for its word that it is here: a wake-up less. An abort is waited with
 * until it is there. */
void leave_injected(struct proc *p)
{
	struct move *m = move_of(p);

	if (!m || m->phase != LEAVE_EXEC)
		return;
	p->inject = INJECT_NO;
	m->loaded = true;
	m->phase = LEAVE_ASKED;
	may_go(m);
}

void leave_inject_failed(struct proc *p, int err, const char *what)
{
	struct move *m = move_of(p);

	p->inject = INJECT_NO;
	if (m && m->phase == LEAVE_EXEC)
		leave_failed(m, err, what);
	trace_release(p, aborted);
}
