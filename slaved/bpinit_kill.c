/*
 * bpinit of a node: kill() and its kin to what is not here, or not all here. A pid
 * that is here, really or as a ghost, is the kernel's to signal. Of a group, and of
 * "all", those that are real here get it from us, and are named to home, which gives
 * it to all others: so each has it once, wherever it moves meanwhile. The caller
 * waits in the filter until home has answered; what home is asked is kept here, and
 * asked again until then (doc/local.md, section 4).
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/random.h>
#include <sys/uio.h>
#include <unistd.h>

#include "slaved/bpinit_kill.h"

#define INFO_MS 50	/* for what a caller has written; it is there, or is fetched */
#define KILLS_MAX 256	/* callers that wait for home */
#define DONE_MAX 32768 /* processes that are named in their questions */

struct waiting {
	struct init_kill k; /* id 0: free */
	uint64_t notif;
	bool ok, denied;	/* some member here got it; some may not be signalled */
	uint32_t done, ndone; /* from done[] on */
};
static struct waiting waiting[KILLS_MAX];
static int32_t done[DONE_MAX];
static uint32_t ndone;
static uint64_t last_id;

static struct waiting *find(uint64_t id)
{
	for (uint32_t i = 0; id && i < KILLS_MAX; i++)
		if (waiting[i].k.id == id)
			return &waiting[i];
	return NULL;
}

static struct waiting *add(void)
{
	for (uint32_t i = 0; i < KILLS_MAX; i++) {
		if (waiting[i].k.id)
			continue;
		/* Home remembers what it has done by these: never those of a bpinit before us. */
		if (!last_id && getrandom(&last_id, sizeof(last_id), 0) < 0)
			last_id = (uint64_t)clock_ns(CLOCK_REALTIME);
		last_id += last_id + 1 == 0 ? 2 : 1;
		waiting[i] = (struct waiting){.k.id = last_id, .done = ndone};
		return &waiting[i];
	}
	return NULL;
}

static void drop(struct waiting *w)
{
	memmove(&done[w->done], &done[w->done + w->ndone],
		sizeof(*done) * (ndone - w->done - w->ndone));
	ndone -= w->ndone;
	for (uint32_t i = 0; i < KILLS_MAX; i++)
		if (waiting[i].k.id && waiting[i].done > w->done)
			waiting[i].done -= w->ndone;
	w->k.id = 0;
}

void kill_forget_all(void)
{
	for (uint32_t i = 0; i < KILLS_MAX; i++)
		waiting[i].k.id = 0;
	ndone = 0;
}

/* -- home is asked */

/* Message i of the question; false: there are no more. */
static bool question(const struct waiting *w, uint32_t i, struct init_msg *m)
{
	uint32_t lists = (w->ndone + INIT_DONE_MAX - 1) / INIT_DONE_MAX, at = i * INIT_DONE_MAX;

	if (i > lists)
		return false;
	*m = (struct init_msg){.type = i < lists ? EV_KILL_DONE : EV_KILL};
	if (i == lists) {
		m->u.kill = w->k;
		return true;
	}
	m->u.done.id = w->k.id;
	m->u.done.n = w->ndone - at < INIT_DONE_MAX ? w->ndone - at : INIT_DONE_MAX;
	memcpy(m->u.done.pid, &done[w->done + at], sizeof(*done) * m->u.done.n);
	return true;
}

static void ask(const struct waiting *w)
{
	static struct init_msg m;

	for (uint32_t i = 0; question(w, i, &m); i++)
		event(&m);
}

/* *at: the caller's index, and the message of its question in the lower half. */
bool kill_state_msg(uint32_t *at, struct init_msg *m)
{
	for (; *at >> 16 < KILLS_MAX; *at = ((*at >> 16) + 1) << 16) {
		const struct waiting *w = &waiting[*at >> 16];

		if (!w->k.id || !question(w, *at & 0xffff, m))
			continue;
		(*at)++;
		return true;
	}
	return false;
}

void init_kill_again(const struct init_msg *m)
{
	(void)m;
	for (uint32_t i = 0; i < KILLS_MAX; i++)
		if (waiting[i].k.id)
			ask(&waiting[i]);
}

/* As the kernel has it of a group: enough that one may be signalled. */
void init_killed(const struct init_msg *m)
{
	struct waiting *w = find(m->u.kill.id);
	int err = m->u.kill.err;

	if (!w)
		return; /* answered twice */
	if (w->ok)
		err = 0;
	else if (err && w->denied)
		err = EPERM;
	filter_answer(w->notif, err);
	drop(w);
}

/* -- what is here */

/* One that is just coming may yet not come: home knows where it is then. */
static bool is_here(int32_t pid)
{
	const struct proc *p = proc_find(pid);

	if (p && (p->state == PROC_MAKING || p->state == PROC_ARRIVING))
		return false;
	return own_kill(pid, 0) == 0 || errno != ESRCH;
}

static void member(const struct look *l, void *arg)
{
	struct waiting *w = arg;
	const struct proc *p = proc_find(l->pid);
	struct init_msg m = {.type = INIT_SIGNAL};

	/* Ghosts here, and what is on its way, are reached through home. */
	if ((p && p->state != PROC_REAL) || is_daemon(l))
		return;
	if (w->k.target == -1 && l->pid == w->k.pid)
		return;
	if (ndone == DONE_MAX)
		return;
	done[ndone++] = l->pid;
	w->ndone++;
	if (!may_signal(&w->k, l)) {
		w->denied = true;
		return;
	}
	w->ok = true;
	m.u.signal.pid = l->pid;
	m.u.signal.sig = w->k.sig;
	m.u.signal.code = w->k.code;
	m.u.signal.sender_pid = w->k.info_pid;
	m.u.signal.sender_uid = w->k.info_uid;
	m.u.signal.value = w->k.value;
	if (w->k.sig)
		deliver(&m);
}

/* -- a call */

/*
 * Its page may be one that its user lets nobody have: of a file of his own server's, or behind a
 * userfaultfd. A child waits for it, and we a little for that.
 */
static bool read_caller(const struct kill_call *c, void *ret, size_t len)
{
	struct iovec to = {ret, len}, from = {(void *)(uintptr_t)c->info, len};
	cleanup_fd int in = -1, out = -1;
	struct pollfd p = {.events = POLLIN};
	bool ok = false;
	int end[2];
	pid_t pid;

	if (pipe2(end, O_CLOEXEC) < 0)
		return false;
	in = p.fd = end[0];
	out = end[1];
	pid = fork();
	if (pid == 0) {
		ok = process_vm_readv(c->tid, &to, 1, &from, 1, 0) == (ssize_t)len;
		_exit(!ok || write_full(out, ret, len) < 0);
	}
	out = close_fd(out);
	if (pid > 0 && poll(&p, 1, INFO_MS) == 1)
		ok = read_full(in, ret, len) == 0;
	if (pid > 0)
		own_kill(pid, SIGKILL);
	return ok;
}

/* The siginfo of a 64-bit or a 32-bit program: signo, errno, code, then pid, uid, value. */
static int read_info(const struct kill_call *c, struct init_kill *k)
{
	int32_t raw[8] = {0};
	size_t len = c->compat ? 24 : 32, at = c->compat ? 3 : 4;

	if (!read_caller(c, raw, len))
		return -EFAULT;
	/* The kernel's own codes, and tgkill()'s, nobody may pretend to others. */
	if (raw[2] >= 0 || raw[2] == SI_TKILL)
		return -EPERM;
	k->code = raw[2] == SI_MESGQ ? SI_MESGQ : SI_QUEUE;
	k->info_pid = raw[at];
	k->info_uid = (uint32_t)raw[at + 1];
	memcpy(&k->value, &raw[at + 2], c->compat ? 4 : 8);
	return 0;
}

static int read_call(const struct kill_call *c, struct init_kill *k)
{
	struct look me;

	if (look_at(c->tid, &me) < 0)
		return -ESRCH;
	k->target = c->target == 0 ? -me.pgid : c->target;
	k->sig = c->sig;
	k->code = c->code;
	k->pid = k->info_pid = me.tgid;
	k->uid = k->info_uid = me.uid;
	k->euid = me.euid;
	k->sid = me.sid;
	k->cap_kill = me.cap_kill;
	if (c->sig < 0 || c->sig > SIGRTMAX)
		return -EINVAL;
	if (c->target == INT_MIN)
		return -ESRCH;
	return c->code == SI_QUEUE ? read_info(c, k) : 0;
}

void kill_called(const struct kill_call *c)
{
	struct init_kill k = {0};
	struct waiting *w;
	int e;

	if (c->target > 0 && is_here(c->target)) {
		filter_go_on(c->notif);
		return;
	}
	e = read_call(c, &k);
	w = e == 0 ? add() : NULL;
	if (e == 0 && !w)
		e = -EAGAIN;
	/* What was read is the caller's only if it still waits. */
	if (e < 0 || !filter_is_valid(c->notif)) {
		if (w)
			drop(w);
		filter_answer(c->notif, -e);
		return;
	}
	k.id = w->k.id;
	w->k = k;
	w->notif = c->notif;
	if (k.target < 0)
		look_each(k.target == -1 ? -1 : -k.target, member, w);
	ask(w);
}
