/*
 * vmad_leave_tree(): a process and all that descend from it are told to leave this machine
 * together. Library code; runs in whoever moves them. All are parked, what they share is found,
 * and each is told to leave as if it went alone (away.c), with the number of those that go with
 * it: bpslave asks for leave for all of them or for none (doc/move.md).
 *
 * All ask on one connection. When that is closed before the last of them has asked, as it is when
 * one cannot go, or when we are gone, nobody goes.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "libbproc/local.h"
#include "vmadump/carry.h"
#include "vmadump/chan.h"
#include "vmadump/others.h"
#include "vmadump/tree.h"

/* What of an error is only that another could not go. */
#define FOLLOWS ECANCELED

struct leaving {
	struct tree t;
	uint32_t members; /* processes, without zombies */
	uint32_t told;	  /* members that have their order, from the first on */
	int left, conn;	  /* conn: owned; -1: closed, so that nobody who waits for others goes */
};

static int is_process(const struct tree_member *m)
{
	return m->kind == TREE_PROCESS;
}

/* What the blob in each of them would be refused for. */
static int words(struct tree *t, void *arg)
{
	const unsigned flags = *(const unsigned *)arg;

	for (uint32_t i = 0; i < t->n; i++) {
		struct tree_member *m = &t->member[i];
		struct vmad_err why = {0};
		int order = is_process(m) ? tree_order_file(t, i) : -1, r;

		if (!is_process(m))
			continue;
		if (order < 0)
			return -1;
		m->f.t.err = &why;
		r = freeze_word_of(&m->f, CHAN_DUMP_LEAVES, flags, order);
		m->f.t.err = NULL;
		close(order);
		if (r == 0)
			continue;
		if (i)
			return tree_fail(t, why.code, "process %d: %.130s", m->pid, why.text);
		*t->err = why;
		tree_name_owner(t);
		return -1;
	}
	return 0;
}

static int word_of_first(struct tree *t, void *arg)
{
	struct freeze *f = &t->member[0].f;
	int r;

	f->t.err = t->err;
	r = freeze_word(f, CHAN_DUMP_LEAVES, *(const unsigned *)arg);
	f->t.err = NULL;
	return r;
}

static int count(struct leaving *l, unsigned flags)
{
	for (uint32_t i = 0; i < l->t.n; i++)
		l->members += is_process(&l->t.member[i]);
	if (l->members > MOVE_TREE_MAX)
		return tree_fail(&l->t, E2BIG, "it is %u processes; %u can move together",
				 l->members, MOVE_TREE_MAX);
	if (l->members == 1)
		return tree_cut_off(&l->t, word_of_first, &flags);
	if (tree_find_shared(&l->t) < 0 || tree_lend(&l->t) < 0)
		return -1;
	return tree_cut_off(&l->t, words, &flags);
}

int tree_tell(struct tree *t, uint32_t i, uint32_t members, const struct chan_msg *m, int fd)
{
	const struct freeze *f = &t->member[i].f;
	int chan = f->chan, order, r;

	order = members == 1 ? tree_alone(f, 1) : tree_order_file(t, i);
	if (order < 0)
		return members == 1 ? chan_send_with(chan, m, fd) : -1;
	r = chan_send_two(chan, m, fd, order);
	close(order);
	return r;
}

/* Those that go with it may have the descriptions that hold its locks, nobody else. */
static int look_at_locks(struct leaving *l)
{
	int r = 0;

	for (uint32_t i = 0; r == 0 && i < l->t.n; i++) {
		struct freeze *f = &l->t.member[i].f;
		struct vmad_err why = {0};

		if (!is_process(&l->t.member[i]))
			continue;
		f->t.err = &why;
		r = freeze_look_at_locks(f, &l->t);
		f->t.err = NULL;
		if (r < 0 && i)
			tree_fail(&l->t, why.code, "process %d: %.130s", f->t.pid, why.text);
		else if (r < 0)
			*l->t.err = why;
	}
	return r;
}

static int tell(struct leaving *l, uint32_t i, uint32_t index, int node, unsigned flags)
{
	struct chan_msg m = {.type = CHAN_LEAVE,
			     .u.leave = {.node = node,
					 .flags = flags,
					 .members = (uint16_t)l->members,
					 .index = (uint16_t)index}};

	if (l->members == 1)
		m.u.leave.members = 0;
	return tree_tell(&l->t, i, l->members, &m, l->conn);
}

static int tell_all(struct leaving *l, int node, unsigned flags)
{
	uint32_t index = 0;

	for (uint32_t i = 0; i < l->t.n; i++) {
		if (!is_process(&l->t.member[i]))
			continue;
		if (tell(l, i, index++, node, flags) < 0)
			return tree_fail(&l->t, errno, "process %d: %s", l->t.member[i].pid,
					 strerror(errno));
		l->told = i + 1;
	}
	return 0;
}

static void stop_asking(struct leaving *l)
{
	if (l->conn >= 0)
		close(l->conn);
	l->conn = -1;
}

/* Why one of them has not left. What comes of another's failure is no news. */
static void failed(struct leaving *l, uint32_t i, const struct vmad_err *why)
{
	struct vmad_err *err = l->t.err;

	if (err->code && (err->code != FOLLOWS || why->code == FOLLOWS))
		return;
	if (i) {
		tree_fail(&l->t, why->code, "process %d: %s", l->t.member[i].pid, why->text);
	} else {
		*err = *why;
		tree_name_owner(&l->t);
	}
}

/* Of each its word: it has left, or is parked as before. */
static int hear_all(struct leaving *l)
{
	struct pollfd p[MOVE_TREE_MAX];
	uint32_t at[MOVE_TREE_MAX], waits = 0, i;

	for (i = 0; i < l->told; i++) {
		if (!is_process(&l->t.member[i]))
			continue;
		p[waits] = (struct pollfd){.fd = l->t.member[i].f.chan, .events = POLLIN};
		at[waits++] = i;
	}
	for (uint32_t due = waits; due > 0;) {
		if (poll(p, waits, -1) < 0 && errno != EINTR)
			return tree_fail(&l->t, errno, "poll: %s", strerror(errno));
		for (i = 0; i < waits; i++) {
			struct freeze *f = &l->t.member[at[i]].f;
			struct vmad_err why = {0};
			struct chan_msg m;

			if (p[i].fd < 0 || !p[i].revents)
				continue;
			f->t.err = &why;
			if (chan_answer(&f->t, f->chan, &m) == 0) {
				l->left++;
			} else {
				failed(l, at[i], &why);
				stop_asking(l);
			}
			f->t.err = NULL;
			p[i].fd = -1;
			due--;
		}
	}
	return l->t.err->code ? -1 : 0;
}

/* Nobody traces them: each is again, and goes on where it was. Children first. */
void tree_stay(struct tree *t)
{
	struct vmad_err unused;
	int e = errno;

	for (uint32_t i = t->n; i-- > 0;) {
		struct freeze *f = &t->member[i].f;

		if (!is_process(&t->member[i]))
			continue;
		f->t.err = &unused;
		if (freeze_again(f) < 0 || freeze_leave(f) < 0)
			chan_order(f->chan, CHAN_RESUME, -1);
	}
	errno = e;
}

static void stop_again(struct leaving *l)
{
	for (uint32_t i = 0; i < l->t.n; i++) {
		const struct trace *t = &l->t.member[i].f.t;

		if (is_process(&l->t.member[i]) && t->stop_after)
			kill(t->pid, (int)t->stop_after);
	}
}

int vmad_leave_tree(pid_t pid, int conn, int node, unsigned flags, unsigned how, uint64_t *ret_us,
		    struct vmad_err *err)
{
	struct vmad_err scratch = {0};
	struct leaving l = {.t = {.leaves = 1, .away = !!(how & VMAD_AWAY), .judged = 1},
			    .conn = conn};
	uint64_t since;
	int r, e;

	l.t.err = err ? err : &scratch;
	*l.t.err = scratch;
	r = tree_ahead(&l.t, pid);
	since = freeze_now_us();
	if (r == 0)
		r = tree_collect(&l.t, pid, flags);
	if (r == 0 && flags & DUMP_LOCKS) {
		flags |= DUMP_FLOCKS;
		r = look_at_locks(&l); /* before any of them is lent what another has */
	}
	if (r == 0)
		r = count(&l, flags);
	if (r == 0 && tell_all(&l, node, flags) < 0) {
		r = -1;
		stop_asking(&l);
	}
	if (l.told && hear_all(&l) < 0)
		r = -1;
	if (l.left == 0 && r < 0)
		tree_stay(&l.t);
	else
		stop_again(&l);
	if (ret_us)
		*ret_us = freeze_now_us() - since;
	if (r < 0)
		others_name_peer(pid, l.t.err->text);
	e = l.t.err->code;
	stop_asking(&l);
	tree_free(&l.t);
	errno = e;
	return r < 0 && l.left == 0 ? -1 : (int)l.members;
}
