/*
 * Signals from a ghost to the real process, and what bpmaster itself kills. While a move is
 * undecided they wait. Runs in bpmaster; doc/wire.md, sections 7 and 9.
 */
#include <signal.h>

#include "libbproc/log.h"
#include "master.h"

void procs_forward(struct master *m, struct proc *p, const struct queued *q, int32_t node)
{
	Bproc__Signal s = BPROC__SIGNAL__INIT;
	struct node *n = node_get(&m->nodes, node);
	Bproc__Proc proc;

	if (!n)
		return;
	proc_wire(m, p, &proc);
	s.proc = &proc;
	s.sig = q->sig;
	s.code = q->code;
	s.sender_pid = q->sender_pid;
	s.sender_uid = q->sender_uid;
	s.value = q->value;
	s.origin = q->origin;
	s.stream = q->stream;
	s.number = q->number;
	s.oldest = q->oldest;
	node_send(m, n, &s.base);
}

void procs_kill(struct master *m, struct proc *p, struct node *n)
{
	struct queued q = {.sig = SIGKILL, .code = SI_KERNEL};

	if (n->num == p->node)
		p->kill_due = true;
	procs_forward(m, p, &q, n->num);
}

void procs_keep(struct proc *p, const struct queued *q)
{
	if (proc_enqueue(p, q) < 0)
		log_warn("pid %d: signal %d is lost, %u wait for its move", p->pid, q->sig,
			 p->nqueued);
}

void procs_kill_lost(struct proc *p)
{
	procs_keep(p, &(struct queued){.sig = SIGKILL, .code = SI_KERNEL});
}

void procs_signal(struct peer *p, const Bproc__Signal *s)
{
	struct master *m = p->m;
	struct proc *t = procs_find(m, s->proc);
	struct queued q = {
		.sig = s->sig,
		.code = s->code,
		.sender_pid = s->sender_pid,
		.sender_uid = s->sender_uid,
		.value = s->value,
		.origin = s->origin,
		.stream = s->stream,
		.number = s->number,
		.oldest = s->oldest,
	};

	if (s->sig < 1 || s->sig > 64) {
		peer_drop(p, "protocol error: signal %d", s->sig);
		return;
	}
	if (!t)
		return;
	if (s->sig == SIGCONT)
		t->conted = s->origin;
	switch (proc_step(t, PE_SIGNAL)) {
	case PA_FORWARD:
		procs_forward(m, t, &q, t->node);
		break;
	case PA_QUEUE:
		procs_keep(t, &q);
		break;
	default:
		break;
	}
}

/* Passed on, to the bpinit that keeps the signals. */
void procs_signal_ack(struct peer *p, const Bproc__SignalAck *a)
{
	struct node *n = node_get(&p->m->nodes, a->origin);

	if (n)
		node_send(p->m, n, &a->base);
}
