/*
 * Moves as their target sees them (doc/move.md). Runs in bpslave. The image may come before the
 * master's word on it, since the two travel by different ways; it is held then, unread, a while.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bpslave.h"
#include "bpslave_data.h"
#include "libbproc/log.h"
#include "libbproc/wire.h"
#include "slaved/bpslave_filter.h"

#define IMAGE_MS 60000 /* from the announcement to the connection; many times what it takes */
#define IMAGE_VAR "BPROC_IMAGE_MS" /* another number, for tests */
#define LOOK_MS 5000

struct arriving {
	LIST_ENTRY(arriving) next;
	struct data_hdr want; /* what the header has to say; pid 0: not known yet */
	int32_t pid, ppid;
	struct stdio_of of;
	uint64_t after; /* the visit before, if its source has streams of it */
	bool lazy;	/* memory may follow the image */
	bool fresh, home_here, ready, flushing, handed_over, has_exec;
	int fd;		      /* owned: the image, if it has come before the ghosts are made */
	int back;	      /* owned: of a lazy one in TLS, by which its source is heard; -1 */
	int filters;	      /* owned: a file of its seccomp filters; -1: it has none */
	struct stdio_fds fds; /* owned */
	uint64_t since_ms;    /* the master has announced it */
	struct {	      /* it asks to leave again already */
		uint32_t client, id;
		struct local_move ask;
		struct ucred asker;
		int32_t child; /* of an rfork, once it is announced */
		int chan;	      /* owned; -1: it does not */
	} again;
};
uint32_t target_unheard;
#define IS_LIVE(a) ((a)->want.kind == MOVE_LIVE) /* pages for a ghost: no process comes by it */
static LIST_HEAD(, arriving) arrivings = LIST_HEAD_INITIALIZER(arrivings);

static struct event *looking; /* for images that do not come; lives as long as we */

static struct arriving *find(uint64_t move)
{
	struct arriving *a;

	LIST_FOREACH(a, &arrivings, next)
	if (a->want.move_id == move)
		return a;
	return NULL;
}

static void forget(struct arriving *a)
{
	LIST_REMOVE(a, next);
	target_unheard -= a->handed_over && !IS_LIVE(a);
	close_fd(a->fd);
	close_fd(a->back);
	close_fd(a->filters);
	foreign_end(a->again.chan);
	stdio_fds_close(&a->fds);
	free(a);
	born_expects_no_more();
}

bool target_expects(int32_t pid)
{
	struct arriving *a;

	LIST_FOREACH(a, &arrivings, next)
	if (a->pid == pid && !IS_LIVE(a))
		return true;
	return false;
}

bool target_defer(uint32_t client, uint32_t id, const struct local_move *ask,
		  const struct ucred *asker, int chan)
{
	struct proc_ids ids;
	struct arriving *a;

	if (LIST_EMPTY(&arrivings) || proc_read_ids(asker->pid, &ids) < 0)
		return false;
	LIST_FOREACH(a, &arrivings, next)
	if (a->pid == ids.pid && a->handed_over && a->again.chan < 0 && !IS_LIVE(a))
		break;
	if (!a)
		return false;
	a->again.client = client;
	a->again.id = id;
	a->again.ask = *ask;
	a->again.asker = *asker;
	a->again.child = 0;
	a->again.chan = chan;
	return true;
}

bool target_defer_child(uint32_t client, uint32_t id, int32_t pid)
{
	struct arriving *a;

	LIST_FOREACH(a, &arrivings, next)
	if (a->again.chan >= 0 && a->again.client == client && a->again.id == id)
		break;
	if (a)
		a->again.child = pid;
	return a != NULL;
}

/* -- no image comes */

static void void_move(uint64_t move, int32_t pid)
{
	struct init_msg m = {.type = INIT_VOID, .move_id = move, .pid = pid};

	move_after_ghost(&m);
}

static uint64_t image_ms(void)
{
	const char *s = secure_getenv(IMAGE_VAR);
	uint64_t ms = s ? strtoull(s, NULL, 10) : 0;

	return ms > 0 && ms < IMAGE_MS ? ms : IMAGE_MS;
}

/*
 * Whoever should have sent it does not, and says nothing. The same if the source never got its
 * grant and its master died.
 */
static void give_up(bool older)
{
	uint64_t now = now_ms();
	struct arriving *a, *more;

	for (a = LIST_FIRST(&arrivings); a; a = more) {
		more = LIST_NEXT(a, next);
		if (a->fd >= 0 || a->handed_over ||
		    (older ? a->want.epoch == slave.epoch : now - a->since_ms < image_ms()))
			continue;
		move_tell_failed(a->want.move_id, ETIMEDOUT, "the image has not come", true);
		void_move(a->want.move_id, a->pid);
		forget(a);
	}
}

static void start_look(void)
{
	start_timer(looking, image_ms() < LOOK_MS ? (uint32_t)image_ms() : LOOK_MS);
}

static void look(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	(void)arg;
	give_up(false);
	if (!LIST_EMPTY(&arrivings))
		start_look();
}

/*
 * The source of a move that another master granted may never have heard of it, and then nobody
 * calls it off; what was cloned for it meanwhile holds the number. All such moves are voided by
 * the new master, so nothing is lost.
 */
void target_new_epoch(void)
{
	give_up(true);
}

static void look_later(void)
{
	if (!looking)
		looking = new_timer(look, NULL);
	if (looking && !event_pending(looking, EV_TIMEOUT, NULL))
		start_look();
}

/* A bpslave before us had its token: no image can come to it any more. */
void target_on_state(const struct init_msg *m)
{
	if (m->u.state.phase != INIT_PHASE_ARRIVING && !find(m->move_id))
		void_move(m->move_id, m->pid);
}

/* -- step 4: the ghosts of its ancestors are made */

static void hand_over(struct arriving *a), take_early(struct arriving *a);

void target_on_start(const Bproc__MoveStart *s)
{
	struct init_msg m = {.type = INIT_ARRIVE, .move_id = s->move, .pid = s->pid};
	struct arriving *a;
	int e;

	if (find(s->move))
		return;
	e = s->home == HOME_NODE ? chain_take_all(s, &m) : -EINVAL;
	if (e == 0)
		e = s->creds
			    ? wire_get_cred(s->creds->raw.data, s->creds->raw.len, &m.u.arrive.cred)
			    : -EBADMSG;
	if (e == 0 && s->token.len != sizeof(a->want.token))
		e = -EBADMSG;
	if (e == 0 && !init_is_up())
		e = -ENOTCONN;
	a = e == 0 ? calloc(1, sizeof(*a)) : NULL;
	if (a && (e = filters_file(s, &a->filters)) < 0) {
		free(a);
		a = NULL;
	}
	if (!a)
		return move_tell_failed(s->move, e ? -e : ENOMEM,
					"the target cannot take the move up", true);
	a->want = (struct data_hdr){
		.move_id = s->move, .epoch = s->epoch, .kind = s->kind, .pid = s->pid};
	memcpy(a->want.token, s->token.data, sizeof(a->want.token));
	a->pid = s->pid;
	a->ppid = s->ppid;
	a->after = s->after;
	if (s->pid > 0 && !IS_LIVE(a))
		born_expect(s->pid, s->ppid, s->pgid, s->sid);
	if (s->source != HOME_NODE)
		chain_ancestors(s, &a->of);
	a->fd = a->back = a->again.chan = -1;
	a->home_here = slave.node == HOME_NODE;
	a->fresh = s->source == HOME_NODE || s->kind == MOVE_RFORK;
	a->fds = (struct stdio_fds){{-1, -1, -1}, {-1, -1, -1}};
	a->since_ms = now_ms();
	LIST_INSERT_HEAD(&arrivings, a, next);
	look_later();
	m.u.arrive.epoch = s->epoch;
	m.u.arrive.kind = s->kind;
	m.u.arrive.ppid = s->ppid;
	m.u.arrive.pgid = s->pgid;
	m.u.arrive.sid = s->sid;
	m.u.arrive.home_here = a->home_here;
	m.u.arrive.from_home = s->source == HOME_NODE;
	m.u.arrive.threads = s->threads;
	m.u.arrive.tree = s->tree;
	m.u.arrive.members = s->members;
	move_after_ghost(&m);
	a->has_exec = exec_is_here(s->exec);
	if (!a->home_here && !IS_LIVE(a))
		stdio_fds_make(&a->fds);
	take_early(a);
}

/* -- step 7: the image has come */

static void flushed(void *arg)
{
	uint64_t move = *(uint64_t *)arg;
	struct arriving *a = find(move);

	free(arg);
	if (a && a->fd >= 0)
		hand_over(a);
}

/* Its ghost restores in place here; what the process wrote away from home comes first. */
static bool wait_for_output(struct arriving *a)
{
	uint64_t *move;

	if (!a->home_here || a->want.kind == MOVE_RFORK || IS_LIVE(a) || a->flushing)
		return false;
	move = malloc(sizeof(*move));
	if (!move)
		return false;
	*move = a->want.move_id;
	a->flushing = true;
	log_debug("move %llx: the output of %d comes first", (unsigned long long)*move, a->pid);
	stdio_flush_home(a->pid, *move, a->after, flushed, move);
	return true;
}

static void hand_over(struct arriving *a)
{
	struct init_msg m = {.type = INIT_DATA, .move_id = a->want.move_id, .pid = a->pid};
	int fd[3 + CHAN_STREAMS] = {a->fd}, n = 1;

	log_debug("move %llx: the image of %d is handed over", (unsigned long long)m.move_id,
		  a->pid);
	if (!IS_LIVE(a))
		born_expect(a->pid, a->ppid, 0, 0);
	m.u.data.pid = a->pid;
	memcpy(m.u.data.streams, a->want.streams, sizeof(m.u.data.streams));
	m.u.data.used = a->want.used;
	if (a->home_here && a->want.kind != MOVE_RFORK && !IS_LIVE(a))
		stdio_homecoming(a->pid, a->fds.theirs);
	for (int i = 0; i < CHAN_STREAMS; i++) {
		if (a->fds.theirs[i] < 0)
			continue;
		m.stream_mask |= 1u << i;
		fd[n++] = a->fds.theirs[i];
	}
	m.flags = a->lazy ? INIT_DATA_LAZY : 0;
	if (a->filters >= 0) {
		m.flags |= INIT_DATA_FILTERS;
		fd[n++] = a->filters;
	}
	if (a->back >= 0)
		fd[n++] = a->back;
	init_send(&m, fd, n);
	a->handed_over = true;
	target_unheard += !IS_LIVE(a);
	a->fd = close_fd(a->fd);
	a->back = close_fd(a->back);
	a->filters = close_fd(a->filters);
	/* The process has them; with a copy here nobody would ever see an end. */
	for (int i = 0; i < CHAN_STREAMS; i++)
		a->fds.theirs[i] = close_fd(a->fds.theirs[i]);
}

static int admit(struct arriving *a, const struct data_hdr *hdr, int fd, int back)
{
	int e = data_admits(hdr, &a->want);

	if (e == 0 && (a->fd >= 0 || a->flushing || a->handed_over))
		e = -EALREADY; /* a token is good for one connection */
	if (e < 0)
		return e;
	a->pid = hdr->pid;
	memcpy(a->want.streams, hdr->streams, sizeof(a->want.streams));
	a->want.used = hdr->used;
	a->fd = fd;
	a->back = back;
	a->lazy = hdr->flags & DATA_LAZY;
	log_debug("move %llx: the image of %d comes%s", (unsigned long long)a->want.move_id, a->pid,
		  a->ready ? "" : ", its ancestors are not here yet");
	/* bpinit holds an rfork's until the chain is here: its number is new, so that nothing that
	 * was said of it waits in move_after_ghost(). */
	if ((a->ready || (a->want.kind == MOVE_RFORK && !a->home_here)) && !wait_for_output(a))
		hand_over(a);
	return 0;
}

static void take_early(struct arriving *a)
{
	struct data_hdr hdr;
	int fd, back;

	if (!early_take(&a->want, &hdr, &fd, &back) || admit(a, &hdr, fd, back) == 0)
		return;
	close_fd(fd);
	close_fd(back);
}

int move_on_data(const struct data_hdr *hdr, int fd, int back)
{
	struct arriving *a = find(hdr->move_id);

	return a ? admit(a, hdr, fd, back) : early_put(hdr, fd, back);
}

/* -- step 8: it runs, or it never will */

static void on_ready(struct arriving *a)
{
	a->ready = true;
	log_debug("move %llx: ready for %d", (unsigned long long)a->want.move_id, a->pid);
	if (a->fd >= 0 && !wait_for_output(a))
		hand_over(a);
}

static void on_ran(struct arriving *a, const struct init_msg *m)
{
	Bproc__MoveRan r = BPROC__MOVE_RAN__INIT;

	gen_forget(m->pid);
	{
		PROC_OF(proc, m->pid);
		r.move = m->move_id;
		r.proc = &proc;
		r.has_exec = a && a->has_exec;
		r.left = m->flags & EVF_LEFT;
		master_send(&r.base);
	}
	if (!a && !r.left) { /* a bpslave before us handed its image over */
		stdio_forget_home(m->pid);
		born_ran(m->pid);
	}
	if (!a)
		return;
	born_came(m->pid, a->want.kind == MOVE_REXEC);
	/* The news is on its way; now its streams. */
	if (a->home_here)
		stdio_forget_home(m->pid);
	else
		stdio_arrived(m->pid, a->fresh, a->want.kind == MOVE_RFORK,
			      &(struct stdio_visit){.move = m->move_id, .after = a->after}, &a->of,
			      &a->fds);
	if (!a->home_here)
		stdio_fds_spare();
	if (a->again.chan >= 0) {
		struct arriving copy = *a;

		a->again.chan = -1;
		forget(a);
		move_ask(copy.again.client, copy.again.id, &copy.again.ask, &copy.again.asker,
			 copy.again.chan);
		if (copy.again.child)
			move_child(copy.again.client, copy.again.id, copy.again.child);
		return;
	}
	forget(a);
}

static void on_failed(struct arriving *a, const struct init_msg *m)
{
	char text[CHAN_TEXT_MAX];

	memcpy(text, m->u.text, sizeof(text));
	text[sizeof(text) - 1] = '\0';
	move_tell_failed(m->move_id, m->err ? m->err : EIO, text, true);
	if (a)
		forget(a);
}

void target_on_void(const Bproc__MoveVoid *v)
{
	struct arriving *a = find(v->move);

	void_move(v->move, a ? a->pid : 0);
}

/*
 * Of a move that another master has granted: this one has not heard of its relatives, and their
 * ghosts may have been made since it was told what there is.
 */
static void over(const struct init_msg *m)
{
	bool decided = m->type == EV_RAN || m->type == EV_VOIDED ||
		       (m->type == EV_FAILED && m->flags & EVF_TARGET);

	if (decided && m->move_id >> 32 != slave.epoch)
		init_tell_again();
}

bool target_on_init(const struct init_msg *m)
{
	struct arriving *a = find(m->move_id);

	over(m);
	switch (m->type) {
	case EV_READY:
		if (a)
			on_ready(a);
		return a != NULL;
	case EV_RAN:
		on_ran(a, m);
		return true;
	case EV_FAILED:
		if (!(m->flags & EVF_TARGET))
			return false;
		on_failed(a, m);
		return true;
	case EV_VOIDED: {
		Bproc__MoveVoided v = BPROC__MOVE_VOIDED__INIT;

		v.move = m->move_id;
		master_send(&v.base);
		if (a)
			forget(a);
		return true;
	}
	default:
		return false;
	}
}

void target_init_lost(void)
{
	while (!LIST_EMPTY(&arrivings))
		forget(LIST_FIRST(&arrivings));
}
