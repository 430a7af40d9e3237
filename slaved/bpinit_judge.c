/*
 * bpinit at home: kill() of a process on a node. Home has every process of the
 * cluster under its number, in its group and session and with its ids, itself or its
 * ghost, so the rule of kill(2) is applied here; the signal then goes its ordinary
 * way. A question may come again, after a link or a daemon was lost, and is done once.
 */
#include <errno.h>
#include <signal.h>
#include <string.h>

#include "slaved/bpinit_kill.h"

#define ANSWERS_MAX 4096 /* what is remembered: more than can wait on sixteen nodes */
#define DONE_MAX 32768

static struct {
	uint64_t id;
	int32_t err;
} answer[ANSWERS_MAX];
static uint32_t answers;

/* The list that comes before its question, in messages of its own. */
static struct {
	uint64_t id;
	uint32_t n;
	int32_t pid[DONE_MAX];
} done;

bool may_signal(const struct init_kill *k, const struct look *to)
{
	if (k->cap_kill || k->euid == to->suid || k->euid == to->uid || k->uid == to->suid ||
	    k->uid == to->uid || k->pid == to->tgid)
		return true;
	return k->sig == SIGCONT && k->sid == to->sid;
}

bool is_daemon(const struct look *l)
{
	static const char *const name[] = {"bpmaster", "bpslave", "bpinit", "bpdata"};

	if (l->pid <= 1 || l->pid == self.self)
		return true;
	/* Others may call themselves so; not with our uid. */
	for (size_t i = 0; i < sizeof(name) / sizeof(*name); i++)
		if (strcmp(l->comm, name[i]) == 0)
			return l->uid == geteuid() && l->euid == geteuid();
	return false;
}

void init_kill_done(const struct init_msg *m)
{
	uint32_t n = m->u.done.n <= INIT_DONE_MAX ? m->u.done.n : 0;

	if (done.id != m->u.done.id)
		done.n = 0;
	done.id = m->u.done.id;
	for (uint32_t i = 0; i < n && done.n < DONE_MAX; i++)
		done.pid[done.n++] = m->u.done.pid[i];
}

static bool is_done(const struct init_kill *k, int32_t pid)
{
	for (uint32_t i = 0; done.id == k->id && i < done.n; i++)
		if (done.pid[i] == pid)
			return true;
	return false;
}

struct verdict {
	const struct init_kill *k;
	bool ok, denied;
};

static void give(const struct look *l, void *arg)
{
	struct verdict *v = arg;
	const struct init_kill *k = v->k;
	struct init_msg m = {.type = INIT_SIGNAL};

	if (k->target < 0 && is_done(k, l->pid))
		return;
	if (k->target == -1 && (is_daemon(l) || l->pid == k->pid))
		return;
	if (!may_signal(k, l)) {
		v->denied = true;
		return;
	}
	v->ok = true;
	m.u.signal.pid = l->pid;
	m.u.signal.sig = k->sig;
	m.u.signal.code = k->code;
	m.u.signal.sender_pid = k->info_pid;
	m.u.signal.sender_uid = k->info_uid;
	m.u.signal.value = k->value;
	if (k->sig)
		deliver(&m);
}

/* One that is just being made, and looks in /proc as who makes it, or is not there yet. */
static bool is_made(const struct proc *p)
{
	return p && p->state == PROC_MAKING && !p->dying;
}

static bool look_made(const struct proc *p, struct look *ret)
{
	const struct chan_clone *id = &p->id;

	if (!is_made(p))
		return false;
	*ret = (struct look){.pid = p->pid, .tgid = p->pid, .sid = id->sid, .state = 'S'};
	ret->pgid = id->sid == id->pid ? id->pid : id->pgid;
	ret->uid = id->cred.uid[0];
	ret->euid = id->cred.uid[1];
	ret->suid = id->cred.uid[2];
	memcpy(ret->comm, id->comm, sizeof(ret->comm));
	ret->comm[sizeof(ret->comm) - 1] = '\0';
	return true;
}

static void give_there(const struct look *l, void *arg)
{
	if (!is_made(proc_find(l->pid)))
		give(l, arg);
}

static void give_all(int32_t pgid, struct verdict *v)
{
	struct look l;

	look_each(pgid, give_there, v);
	for (uint32_t i = 0; i < procs_used; i++)
		if (look_made(&procs[i], &l) && (pgid < 0 || l.pgid == pgid))
			give(&l, v);
}

static int judge(const struct init_kill *k)
{
	struct verdict v = {.k = k};
	struct look l;

	born_tick(); /* who has just been told of is in the table, too */
	if (k->target > 0) {
		const struct proc *p = proc_find(k->target);

		if (!look_made(p, &l) && look_at(k->target, &l) < 0)
			return ESRCH;
		give(&l, &v);
	} else {
		give_all(k->target == -1 ? -1 : -k->target, &v);
	}
	/* Of all there is always one, a daemon at least, and who may not be signalled is no error
	 * of theirs (kernel/signal.c, kill_something_info()). */
	if (k->target == -1)
		return 0;
	return v.ok ? 0 : v.denied ? EPERM : ESRCH;
}

void init_kill(const struct init_msg *m)
{
	struct init_msg a = {.type = EV_KILLED};
	int32_t err = -1;

	if (!self.keeper)
		return;
	for (uint32_t i = 0; i < ANSWERS_MAX; i++)
		if (answer[i].id == m->u.kill.id)
			err = answer[i].err;
	if (err < 0) {
		err = judge(&m->u.kill);
		answer[answers].id = m->u.kill.id;
		answer[answers].err = err;
		answers = (answers + 1) % ANSWERS_MAX;
	}
	done.n = 0;
	a.u.kill.id = m->u.kill.id;
	a.u.kill.node = m->u.kill.node;
	a.u.kill.err = err;
	event(&a);
}
