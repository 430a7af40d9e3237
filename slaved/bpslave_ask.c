/*
 * Who asks to leave, read from the kernel, and the question to the master: step 2
 * of a move (doc/move.md); and what the master is told of one later. Runs in bpslave.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "bpslave_move.h"

/* In another one its capabilities count for what is there, and mean nothing to a node. */
static bool has_our_users(int32_t host_pid)
{
	static struct stat own; /* never changes */
	struct stat its;
	char path[32];

	if (!own.st_ino && stat("/proc/self/ns/user", &own) < 0)
		return false;
	snprintf(path, sizeof(path), "/proc/%d/ns/user", host_pid);
	return stat(path, &its) == 0 && its.st_ino == own.st_ino && its.st_dev == own.st_dev;
}

/* Whether it has what its real user need not have. */
static bool is_more(const struct proc_ids *ids)
{
	for (int i = 1; i < 4; i++)
		if (ids->uid[i] != ids->uid[0] || ids->gid[i] != ids->gid[0])
			return true;
	return (ids->cap_prm & ~ids->cap_amb) != 0;
}

/*
 * It arrives with what it has now, and runs what comes down its connection. Who has asked may
 * have executed a set-uid program since, whose rights are that program's alone. (One that goes on
 * from there to be another user's altogether has another real user.)
 */
static int still_itself(const struct proc_ids *ids, const struct ucred *said)
{
	struct proc_ids now;
	int raised;

	if (ids->uid[0] != said->uid || ids->gid[0] != said->gid)
		return -EPERM;
	if (said->uid == 0 || !is_more(ids))
		return 0;
	raised = exec_has_raised(ids->host_pid);
	if (raised)
		return raised < 0 ? raised : -EPERM;
	/* It may have been so when its ids were read, and not any more. */
	return proc_read_ids(ids->host_pid, &now) == 0 &&
			       memcmp(now.uid, ids->uid, sizeof(now.uid)) == 0 &&
			       memcmp(now.gid, ids->gid, sizeof(now.gid)) == 0 &&
			       now.cap_prm == ids->cap_prm
		       ? 0
		       : -EPERM;
}

int asker_identify(struct asker *a, const struct ucred *said, char text[LOCAL_TEXT_MAX])
{
	int32_t host_pid = said->pid;
	int e = proc_read_ids(host_pid, &a->ids);

	if (e < 0) {
		snprintf(text, LOCAL_TEXT_MAX, "pid %d: %s", host_pid, strerror(-e));
		return e;
	}
	if (!proc_is_cluster(&a->ids)) {
		snprintf(text, LOCAL_TEXT_MAX, "pid %d is not a process of the cluster: it is %s",
			 host_pid,
			 a->ids.ns_depth > 1 ? "in another pid namespace" : "the node's own");
		return -EPERM;
	}
	if (!has_our_users(host_pid)) {
		snprintf(text, LOCAL_TEXT_MAX,
			 "pid %d is in another user namespace; it cannot move", a->ids.pid);
		return -EPERM;
	}
	e = still_itself(&a->ids, said);
	if (e < 0)
		snprintf(text, LOCAL_TEXT_MAX,
			 "pid %d has rights of a set-uid program, or of another user since it "
			 "asked; it cannot move",
			 a->ids.pid);
	return e;
}

/*
 * A ghost that goes on is under its tracer as a stopped one is, until both have been scheduled, and
 * its parent may have seen by then that it does.
 */
static void goes_on(struct proc_chain *chain)
{
	for (int i = 0; i < chain->n; i++) {
		struct init_chain *c = &chain->member[i];

		if (c->child && (c->state == CHAIN_STOPPED || c->state == CHAIN_STOP_SEEN) &&
		    shown_of(c->pid) == CLD_CONTINUED)
			c->state = CHAIN_RUNS;
	}
}

int asker_kin(struct asker *a, uint32_t kind)
{
	/* The process itself, as the parent of what is to come; of MOVE_LIVE that is its
	 * pages, which its ghost takes in. */
	bool child = kind == MOVE_RFORK || kind == MOVE_LIVE;
	int e = proc_read_chain(&a->ids, child, &a->chain);

	if (e == 0 && !child)
		e = proc_read_children(&a->ids, &a->chain);
	if (e == 0)
		goes_on(&a->chain);
	return e;
}

int asker_read(struct asker *a, uint32_t kind, char text[LOCAL_TEXT_MAX])
{
	int e = proc_read_cred(&a->ids, &a->cred);

	if (e == 0)
		e = asker_kin(a, kind);
	if (e == -E2BIG)
		snprintf(text, LOCAL_TEXT_MAX, "pid %d: over %d groups or %d relatives", a->ids.pid,
			 CHAN_NGROUPS, INIT_CHAIN_MAX);
	else if (e < 0)
		snprintf(text, LOCAL_TEXT_MAX, "pid %d: %s", a->ids.pid, strerror(-e));
	if (e == 0 && (kind == MOVE_RFORK || kind == MOVE_MOVE || kind == MOVE_LIVE))
		exec_of(a->ids.host_pid, &a->exec);
	return e;
}

void asker_free(struct asker *a)
{
	if (a)
		free(a->filters);
	free(a);
}

void asker_put(const struct asker *a, const struct asker_of *of, struct asker_msg *q)
{
	const struct proc_chain *chain = &a->chain;
	bool fork = of->kind == MOVE_RFORK || of->kind == MOVE_LIVE;
	Bproc__MoveAsk *m = &q->m;

	bproc__move_ask__init(m);
	bproc__creds__init(&q->creds);
	bproc__exec_file__init(&q->exec);
	wire_put_cred(&a->cred, q->raw);
	q->creds.raw.data = q->raw;
	q->creds.raw.len = sizeof(q->raw);
	for (int i = 0; i < chain->n; i++) {
		chain_put(&chain->member[i], &q->link[i]);
		q->links[i] = &q->link[i];
	}
	m->req = of->req;
	m->again = of->again;
	if (of->kind == MOVE_MOVE && a->ids.threads > 1)
		m->threads = a->ids.threads;
	m->kind = of->kind;
	m->node = of->node;
	m->asker_pid = a->ids.pid;
	m->pid = of->pid;
	m->ppid = fork ? a->ids.pid : chain->ppid;
	m->pgid = a->ids.pgid;
	m->sid = a->ids.sid;
	m->n_chain = (size_t)chain->n;
	m->chain = q->links;
	m->creds = &q->creds;
	m->uid = a->ids.uid[1];
	m->gid = a->ids.gid[1];
	m->n_groups = a->cred.ngroups;
	m->groups = (uint32_t *)(uintptr_t)a->cred.group;
	q->exec.path = (char *)(uintptr_t)a->exec.path;
	q->exec.size = a->exec.size;
	q->exec.mtime_ns = a->exec.mtime_ns;
	if (a->exec.path[0])
		m->exec = &q->exec;
	m->filters.data = a->filters;
	m->filters.len = a->filters_len;
	if (!fork)
		m->after = stdio_visit(of->pid);
}

void asker_ask(const struct asker *a, const struct asker_of *of)
{
	struct asker_msg q;

	asker_put(a, of, &q);
	master_send(&q.m.base);
}

void move_tell_failed(uint64_t move, int err, const char *text, bool target)
{
	Bproc__MoveFailed m = BPROC__MOVE_FAILED__INIT;
	char copy[CHAN_TEXT_MAX];

	snprintf(copy, sizeof(copy), "%s", text);
	m.move = move;
	m.err = (uint32_t)err;
	m.text = copy;
	m.target = target;
	master_send(&m.base);
}

void move_tell_state(uint64_t move, uint32_t kind, int32_t target, int32_t pid, bool moved)
{
	Bproc__MoveState s = BPROC__MOVE_STATE__INIT;
	PROC_OF(proc, pid);

	s.move = move;
	s.kind = kind;
	s.target = target;
	s.proc = &proc;
	s.moved = moved;
	master_send(&s.base);
}
