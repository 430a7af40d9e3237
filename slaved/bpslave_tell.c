/*
 * When and how the master hears of what is born on this node (doc/born.md). Runs in
 * bpslave of a node. A birth is told at once as long as they come one by one; in a
 * storm it waits a moment, and if the process has ended by then nobody hears of it.
 * There is one queue, so that a parent is told before its child, and of each process
 * its birth before its end.
 */
#include <signal.h>
#include <string.h>
#include <sys/wait.h>

#include "bpslave_born.h"
#include "libbproc/log.h"

static struct born_list queue = TAILQ_HEAD_INITIALIZER(queue);
static struct event *timer; /* owned */
static uint64_t tokens_ms;  /* tokens were counted then */
static uint32_t tokens = BORN_BURST;

static struct {
	size_t n;
	Bproc__Birth birth[BORN_MESSAGE], *list[BORN_MESSAGE];
	Bproc__Proc proc[BORN_MESSAGE];
	char args[BORN_MESSAGE][CHAN_ARGS_MAX];
} out;

void tell_rest(void)
{
	Bproc__ProcBorn m = BPROC__PROC_BORN__INIT;

	if (out.n == 0)
		return;
	m.n_birth = out.n;
	m.birth = out.list;
	master_send(&m.base);
	out.n = 0;
}

static void put_birth(struct born *b)
{
	Bproc__Birth *m = &out.birth[out.n];
	PROC_OF(proc, b->pid);

	if (b->stale)
		born_read(b);
	out.list[out.n] = m;
	out.proc[out.n] = proc;
	bproc__birth__init(m);
	m->proc = &out.proc[out.n];
	m->ppid = b->ppid > 1 ? b->ppid : 0;
	m->pgid = b->pgid;
	m->sid = b->sid;
	/* One that has left is real where it went: nobody shall enter it as ours again. One that
	 * is leaving was told before it asked, and may have ended there by now. */
	m->moved = b->moved || b->away || (b->leaving && b->told);
	m->again = b->told || b->before_us;
	m->uid = b->uid;
	m->euid = b->euid;
	m->suid = b->suid;
	m->gid = b->gid;
	m->egid = b->egid;
	m->reaper = b->reaper;
	m->comm.data = (uint8_t *)(uintptr_t)b->comm;
	m->comm.len = strnlen(b->comm, sizeof(b->comm) - 1);
	m->args.data = (uint8_t *)out.args[out.n];
	m->args.len = scan_args(b->pid, out.args[out.n], CHAN_ARGS_MAX);
	log_debug("process %d, child of %d: '%s' is told", b->pid, b->ppid, b->comm);
	if (++out.n == BORN_MESSAGE)
		tell_rest();
}

static void tell(int32_t pid, uint32_t code, int32_t status, const struct chan_used *u,
		 uint64_t seq)
{
	Bproc__ProcEvent e = BPROC__PROC_EVENT__INIT;
	Bproc__Used used;
	PROC_OF(proc, pid);

	tell_rest();
	e.proc = &proc;
	e.code = code;
	e.status = status;
	e.seq = seq;
	if (u)
		e.used = used_msg(u, &used);
	master_send(&e.base);
}

/* Without EventAck: if the link breaks, what the master has not heard is told after it. */
void tell_event(const struct born *b, uint32_t code, int32_t status)
{
	tell(b->pid, code, status, NULL, 0);
}

/* What /proc does not have any more bpinit has, until EventAck. */
void tell_end(const struct chan_child *c, uint64_t seq)
{
	log_debug("process %d: code %d, status %d: told, born here", c->pid, c->code, c->status);
	tell(c->pid, (uint32_t)c->code, c->status, &c->used, seq);
}

/* Nobody keeps it: if it is lost home asks (bpslave_zombies.c). */
void tell_reaped(int32_t pid)
{
	Bproc__ProcReaped m = BPROC__PROC_REAPED__INIT;
	PROC_OF(proc, pid);
	Bproc__Proc *list[1] = {&proc};

	tell_rest();
	log_debug("process %d has been waited for: told", pid);
	m.n_proc = 1;
	m.proc = list;
	master_send(&m.base);
	gen_forget(pid);
}

void tell_never(struct born *b)
{
	if (b->queued)
		TAILQ_REMOVE(&queue, b, queue);
	b->queued = false;
}

/* It has outlived the wait, as its parent's next children may. */
static void lives_on(const struct born *b)
{
	struct born *parent = born_find(b->ppid);

	if (parent && !b->ended && now_ms() - b->since >= BORN_WAIT_MS)
		parent->brief = 0;
}

void tell_now(struct born *b)
{
	tell_never(b);
	if (b->tell && !b->told)
		lives_on(b);
	if (b->tell && (b->moved || b->told || born_room())) {
		put_birth(b);
		b->told |= !b->moved;
	}
	b->tell = false;
	if (b->end && b->told) {
		struct chan_child c = child_of(b->pid, b->status);

		c.used = b->used;

		tell_end(&c, b->seq);
	} else if (b->end) {
		init_done(b->seq); /* there was no room for it at home */
	}
	b->end = false;
	if (b->reap) {
		if (!b->silent && (b->told || b->moved))
			tell_reaped(b->pid);
		born_forget(b);
	}
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	(void)arg;
	born_flush();
}

void born_flush(void)
{
	uint64_t t = now_ms();
	struct born *b;
	int n = 0;

	if (!master_is_up())
		return; /* all is told after the next Welcome */
	while ((b = TAILQ_FIRST(&queue)) && b->due <= t && n++ < BORN_ROUND)
		tell_now(b);
	tell_rest();
	if (!b)
		return;
	if (!timer)
		timer = new_timer(on_timer, NULL);
	if (timer)
		start_timer(timer, b->due <= t ? BORN_WAIT_MS : (uint32_t)(b->due - t));
}

void tell_everything(void)
{
	while (master_is_up() && !TAILQ_EMPTY(&queue))
		tell_now(TAILQ_FIRST(&queue));
	tell_rest();
}

void tell_children(int32_t ppid)
{
	struct born *b, *more;

	if (!master_is_up())
		return; /* all is told after the next Welcome */
	for (b = TAILQ_FIRST(&queue); b; b = more) {
		more = TAILQ_NEXT(b, queue);
		if (b->ppid == ppid && b->tell && !b->told)
			tell_now(b);
	}
	tell_rest();
}

bool tell_token(void)
{
	uint64_t t = now_ms(), more = (t - tokens_ms) * BORN_RATE / 1000;

	if (more > 0) {
		tokens = more > BORN_BURST - tokens ? BORN_BURST : tokens + (uint32_t)more;
		tokens_ms = t;
	}
	if (tokens == 0)
		return false;
	tokens--;
	return true;
}

/* What is due never decreases along the queue. */
void tell_later(struct born *b, bool now)
{
	const struct born *last = TAILQ_LAST(&queue, born_list);

	if (b->queued)
		return;
	b->due = now_ms() + (now ? 0 : BORN_WAIT_MS);
	if (last && last->due > b->due)
		b->due = last->due;
	b->queued = true;
	TAILQ_INSERT_TAIL(&queue, b, queue);
}
