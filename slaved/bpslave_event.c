/*
 * One pid space: signals, exits and stops, and their mirrors, between bpinit and
 * the master, in the order they come. Runs in bpslave. The one thing that is held
 * back is an exit, here until all the process wrote has left, and at home until
 * all of it is in its ghost's hands.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "bpslave.h"
#include "libbproc/log.h"

#define HASH 1024

struct gen {
	LIST_ENTRY(gen) next;
	int32_t pid;
	uint32_t gen;
	int32_t shown; /* the last stop or continue that bpinit was told to show; 0: none */
};
static LIST_HEAD(, gen) gens[HASH];

static struct gen *find_gen(int32_t pid)
{
	struct gen *g;

	LIST_FOREACH(g, &gens[(uint32_t)pid % HASH], next)
	if (g->pid == pid)
		return g;
	return NULL;
}

uint32_t gen_of(int32_t pid)
{
	struct gen *g = find_gen(pid);

	return g ? g->gen : 0;
}

int32_t shown_of(int32_t pid)
{
	struct gen *g = find_gen(pid);

	return g ? g->shown : 0;
}

static void shown_note(int32_t pid, int32_t code)
{
	struct gen *g = find_gen(pid);

	if (g)
		g->shown = code;
}

uint64_t use_of(const Bproc__Proc *proc)
{
	return proc->gen ? (uint64_t)slave.epoch << 32 | proc->gen : 0;
}

static uint32_t gen_in(uint64_t use)
{
	return use >> 32 == slave.epoch ? (uint32_t)use : 0;
}

void gen_note(const Bproc__Proc *proc)
{
	struct gen *g = find_gen(proc->pid);

	if (!g) {
		g = calloc(1, sizeof(*g));
		if (!g)
			return;
		g->pid = proc->pid;
		LIST_INSERT_HEAD(&gens[(uint32_t)g->pid % HASH], g, next);
	}
	if (proc->gen > g->gen) /* a word on an earlier use of the number may come later */
		g->gen = proc->gen;
}

void gen_forget(int32_t pid)
{
	struct gen *g = find_gen(pid);

	if (!g)
		return;
	LIST_REMOVE(g, next);
	free(g);
}

void gen_forget_all(void)
{
	for (int i = 0; i < HASH; i++)
		while (!LIST_EMPTY(&gens[i]))
			gen_forget(LIST_FIRST(&gens[i])->pid);
}

/* -- from bpinit */

static bool flushed; /* the end that was told last */

struct child_event {
	uint64_t seq, move;
	struct chan_child child;
};

/* Acknowledged by EventAck. Without a link it stays with bpinit, which tells it again. */
static void tell_child(const struct chan_child *c, uint64_t seq, uint64_t move)
{
	Bproc__ProcEvent e = BPROC__PROC_EVENT__INIT;
	Bproc__Used used;
	PROC_OF(proc, c->pid);

	e.proc = &proc;
	e.code = (uint32_t)c->code;
	e.status = c->status;
	if (is_end(c->code))
		e.used = used_msg(&c->used, &used);
	e.seq = seq;
	e.move = move;
	e.orphaned = (uint32_t)c->orphaned;
	log_debug("process %d: code %d, status %d: told", c->pid, c->code, c->status);
	master_send(&e.base);
	if (is_end(c->code))
		gen_forget(c->pid);
}

static void exit_flushed(void *arg)
{
	struct child_event *ev = arg;

	flushed = true;
	tell_child(&ev->child, ev->seq, ev->move);
	free(ev);
}

/*
 * Its end is told again and has still to wait for its output. A new master has not heard of it, and
 * for one of whom nobody has told it would find another end.
 */
static void tell_there(const struct init_msg *m)
{
	Bproc__ProcState s = BPROC__PROC_STATE__INIT;
	PROC_OF(proc, m->u.child.pid);

	s.proc = &proc;
	s.move = m->move_id;
	master_send(&s.base);
}

static void on_child(const struct init_msg *m)
{
	static uint64_t last;
	const bool again = m->seq <= last;
	struct child_event *ev;

	if (m->flags & EVF_NATIVE) {
		if (!born_child(&m->u.child, m->seq))
			init_done(m->seq);
		return born_flush();
	}
	last = again ? last : m->seq;
	log_debug("process %d: code %d, status %d", m->u.child.pid, m->u.child.code,
		  m->u.child.status);
	if (!is_end(m->u.child.code))
		return tell_child(&m->u.child, m->seq, m->move_id);
	born_ends(m->u.child.pid);
	ev = malloc(sizeof(*ev));
	if (!ev)
		return tell_child(&m->u.child, m->seq, m->move_id);
	ev->seq = m->seq;
	ev->move = m->move_id;
	ev->child = m->u.child;
	ev->child.orphaned = born_orphaned(ev->child.pid);
	flushed = false;
	stdio_exited(ev->child.pid, exit_flushed, ev);
	if (!flushed && again && m->move_id)
		tell_there(m);
}

static void on_signal(const struct init_msg *m)
{
	Bproc__Signal s = BPROC__SIGNAL__INIT;
	PROC_OF(proc, m->u.signal.pid);

	if (gen_in(m->use))
		proc.gen = gen_in(m->use);
	s.proc = &proc;
	s.sig = m->u.signal.sig;
	s.code = m->u.signal.code;
	s.sender_pid = m->u.signal.sender_pid;
	s.sender_uid = m->u.signal.sender_uid;
	s.value = m->u.signal.value;
	s.origin = m->flags & EVF_RELAYED ? m->u.signal.origin : slave.node;
	s.stream = m->u.signal.stream;
	s.number = m->u.signal.number;
	s.oldest = m->u.signal.base;
	master_send(&s.base);
	/* Our bpinit keeps its own until they are acknowledged; the others are kept elsewhere. */
	if (m->flags & EVF_RELAYED)
		init_done(m->seq);
}

static void on_signalled(const struct init_msg *m)
{
	Bproc__SignalAck a = BPROC__SIGNAL_ACK__INIT;

	a.origin = m->u.signalled.origin;
	a.pid = m->u.signalled.pid;
	a.stream = m->u.signalled.stream;
	a.upto = m->u.signalled.upto;
	a.again = m->u.signalled.again;
	master_send(&a.base);
	init_done(m->seq); /* if it is lost the signal comes again, and this */
}

/* A stop or continue that bpinit has: it is repeated until the master knows. */
static void on_mirror_taken(const struct init_msg *m)
{
	Bproc__Mirrored r = BPROC__MIRRORED__INIT;
	PROC_OF(proc, m->pid);

	proc.gen = gen_in(m->use);
	r.proc = &proc;
	r.move = m->u.mirror.move;
	r.seq = m->u.mirror.seq;
	master_send_later(&r.base);
	init_done(m->seq);
}

static void on_mirrored(const struct init_msg *m)
{
	Bproc__Mirrored r = BPROC__MIRRORED__INIT;
	uint32_t gen = gen_in(m->use);
	PROC_OF(proc, m->pid);

	/* Unless the number is in use again. */
	if (!gen || gen >= proc.gen)
		stdio_forget_home(m->pid);
	born_is_here(m->pid); /* it was */
	r.proc = &proc;
	if (!gen || gen >= proc.gen)
		gen_forget(m->pid);
	proc.gen = gen;
	if (master_send_later(&r.base))
		init_done(m->seq);
}

void event_on_init(const struct init_msg *m)
{
	switch (m->type) {
	case EV_SIGNAL:
		return on_signal(m);
	case EV_FENCED:
		master_fenced();
		return init_done(m->seq);
	case EV_SIGNALLED:
		return on_signalled(m);
	case EV_CHILD:
		return on_child(m);
	case EV_LOST:
		log_error("the ghost of %d has died; the process itself goes on", m->pid);
		return on_mirrored(m);
	case EV_MIRRORED:
		return m->u.mirror.seq ? on_mirror_taken(m) : on_mirrored(m);
	case EV_KILL_DONE:
	case EV_KILL:
	case EV_KILLED:
	case EV_IDENTITY:
		return kill_on_init(m);
	case EV_USED:
		return query_on_used(m);
	case EV_PLACE:
		return place_on_init(m);
	default:
		log_warn("bpinit: message %u is not known", m->type);
		init_done(m->seq);
	}
}

/* -- from the master */

void event_on_signal(const Bproc__Signal *s)
{
	struct init_msg m = {.type = INIT_SIGNAL};

	if (!s->proc)
		return;
	m.pid = s->proc->pid;
	m.u.signal.pid = s->proc->pid;
	m.u.signal.sender_pid = s->sender_pid;
	m.u.signal.sender_uid = s->sender_uid;
	m.u.signal.code = s->code;
	m.u.signal.sig = s->sig;
	m.u.signal.value = s->value;
	m.u.signal.origin = s->origin;
	m.u.signal.stream = s->stream;
	m.u.signal.number = s->number;
	m.u.signal.base = s->oldest;
	init_send(&m, NULL, 0);
}

void event_on_signal_ack(const Bproc__SignalAck *a)
{
	struct init_msg m = {.type = INIT_SIGNALLED};

	m.pid = m.u.signalled.pid = a->pid;
	m.u.signalled.stream = a->stream;
	m.u.signalled.upto = a->upto;
	m.u.signalled.again = a->again;
	init_send(&m, NULL, 0);
}

void event_on_ack(const Bproc__EventAck *a)
{
	init_done(a->seq);
}

struct mirror_event {
	struct init_msg msg;
};

static void mirror_flushed(void *arg)
{
	struct mirror_event *ev = arg;

	log_debug("ghost %d: mirrored", ev->msg.pid);
	move_after_ghost(&ev->msg);
	free(ev);
}

void event_on_mirror(const Bproc__Mirror *r)
{
	struct init_msg m = {.type = INIT_MIRROR};
	struct mirror_event *ev;

	if (!r->proc)
		return;
	gen_note(r->proc);
	m.pid = r->proc->pid;
	m.use = use_of(r->proc);
	m.u.mirror.pid = r->proc->pid;
	m.u.mirror.code = (int32_t)r->code;
	m.u.mirror.status = r->status;
	m.u.mirror.move = r->move;
	m.u.mirror.seq = r->seq;
	m.u.mirror.orphaned = (int32_t)r->orphaned;
	if (r->used)
		m.u.mirror.used = (struct chan_used){r->used->utime_us, r->used->stime_us,
						     r->used->maxrss_kb};
	log_debug("ghost %d: code %d, status %d to be mirrored", m.pid, m.u.mirror.code, r->status);
	if (!is_end(m.u.mirror.code)) {
		shown_note(m.pid, m.u.mirror.code);
		born_stands(m.pid, m.u.mirror.code == CLD_STOPPED ? r->status : 0);
	}
	ev = is_end(m.u.mirror.code) ? malloc(sizeof(*ev)) : NULL;
	if (!ev)
		return move_after_ghost(&m);
	ev->msg = m;
	stdio_flush_home(m.pid, 0, r->move, mirror_flushed, ev);
}

void event_on_watch(const Bproc__Watch *w)
{
	struct init_msg m = {.type = INIT_WATCH};

	if (!w->proc)
		return;
	gen_note(w->proc);
	m.pid = w->proc->pid;
	init_send(&m, NULL, 0);
}

/* -- home: what was born on a node */

void born_on_born(const Bproc__ProcBorn *m)
{
	for (size_t i = 0; i < m->n_birth; i++) {
		const Bproc__Birth *b = m->birth[i];
		struct init_msg msg = {.type = INIT_BORN};
		struct chan_name *name = &msg.u.born.name;

		if (!b->proc)
			continue;
		gen_note(b->proc);
		msg.pid = b->proc->pid;
		msg.use = use_of(b->proc);
		msg.u.born.ppid = b->ppid;
		msg.u.born.parent_lives = b->parent_lives;
		name->pgid = b->pgid;
		name->sid = b->sid;
		name->uid = b->uid;
		name->euid = b->euid;
		name->suid = b->suid;
		name->gid = b->gid;
		name->egid = b->egid;
		name->reaper = b->reaper;
		if (b->comm.len > 0 && b->comm.len < sizeof(name->comm))
			memcpy(name->comm, b->comm.data, b->comm.len);
		name->nargs = b->args.len > CHAN_ARGS_MAX ? CHAN_ARGS_MAX : (uint32_t)b->args.len;
		if (name->nargs > 0) /* no bytes: no address either */
			memcpy(name->args, b->args.data, name->nargs);
		log_debug("ghost %d, child of %d: '%s'", msg.pid, b->ppid, name->comm);
		/* It may be a name for one that has not said yet that it is a ghost. */
		move_after_ghost(&msg);
	}
}

void born_on_reaped(const Bproc__ProcReaped *m)
{
	for (size_t i = 0; i < m->n_proc; i++) {
		struct init_msg msg = {.type = INIT_REAPED, .pid = m->proc[i]->pid};

		/* Behind its birth, which waits like that for one that is becoming a ghost. */
		move_after_ghost(&msg);
	}
}
