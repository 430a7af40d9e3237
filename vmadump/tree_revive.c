/*
 * vmad_restore() of a tree of processes. Library code; runs in whoever restores.
 *
 * The first process, our child, clones its children, they theirs (blob/restore_tree.c). Each
 * has a channel to us and waits: zombies are let die, then each reads its image when it is its
 * turn, for they come one after the other. When all are in place those that were stopped are
 * stopped, and all others go on.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "vmadump/chan.h"
#include "vmadump/pack.h"
#include "vmadump/tree.h"

#define STOP_TRIES 2000 /* of 1 ms */

struct sprout {
	struct trace t;
	int chan; /* -1: not announced yet, or done */
	int here, gone;
	uint32_t kind;
	struct chan_msg said; /* what it said when it was in place */
};

struct grove {
	struct trace *first;
	struct sprout *s; /* malloc'd, room for TREE_MAX */
	uint32_t n;	  /* how many there will be; 0: not known yet */
	uint32_t announced, here;
};

/* One packet, with the descriptor that came along or -1. */
static int take(struct grove *g, uint32_t i, struct chan_msg *m, int *fd)
{
	if (!chan_take(g->s[i].chan, m, fd, 1))
		return trace_fail(g->first, ESRCH, "a process of the tree has ended");
	if (m->type != CHAN_FAILED)
		return 0;
	return trace_fail(g->first, m->err > 0 ? m->err : EIO, "%s", m->u.text);
}

static int heed(struct grove *g, uint32_t i, const struct chan_msg *m, int fd)
{
	struct sprout *s = &g->s[m->flags < TREE_MAX ? m->flags : 0];

	if (m->type == CHAN_HERE && !g->s[i].here) {
		g->s[i].here = 1;
		g->s[i].kind = m->flags;
		g->s[i].t.pid = m->u.pid;
		g->here++;
	} else if (m->type == CHAN_MEMBER && fd < 0 && i == 0 && m->stream_mask <= TREE_MAX) {
		g->n = m->stream_mask;
	} else if (m->type == CHAN_MEMBER && fd >= 0 && m->flags < TREE_MAX && s->chan < 0) {
		s->chan = fd;
		g->announced = m->flags >= g->announced ? m->flags + 1 : g->announced;
	} else {
		return trace_fail(g->first, EIO, "a process of the tree says what it should not");
	}
	return 0;
}

/* Until all of them are there. */
static int gather(struct grove *g)
{
	struct pollfd *p = calloc(TREE_MAX, sizeof *p);
	int r = p ? 0 : trace_fail(g->first, ENOMEM, "%s", strerror(ENOMEM));

	while (r == 0 && (!g->n || g->here + 1 < g->n)) {
		uint32_t n = g->announced;

		for (uint32_t i = 0; i < n; i++)
			p[i] = (struct pollfd){.fd = g->s[i].chan, .events = POLLIN};
		if (poll(p, n, -1) < 0 && errno != EINTR)
			r = trace_fail(g->first, errno, "poll: %s", strerror(errno));
		for (uint32_t i = 0; r == 0 && i < n; i++) {
			struct chan_msg m;
			int fd;

			if (!p[i].revents)
				continue;
			r = take(g, i, &m, &fd) < 0 ? -1 : heed(g, i, &m, fd);
		}
	}
	free(p);
	return r;
}

/* One order, and what it must be answered by. */
static int ask(struct grove *g, uint32_t i, uint32_t order, uint32_t answer)
{
	int fd;

	if (chan_order(g->s[i].chan, order, -1) < 0)
		return trace_fail(g->first, errno, "process %d: %s", g->s[i].t.pid,
				  strerror(errno));
	if (answer && take(g, i, &g->s[i].said, &fd) < 0)
		return -1;
	return !answer || g->s[i].said.type == answer
		       ? 0
		       : trace_fail(g->first, EIO, "process %d", g->s[i].t.pid);
}

static int restore_each(struct grove *g)
{
	for (uint32_t i = 1; i < g->n; i++)
		if (g->s[i].kind == TREE_ZOMBIE && ask(g, i, CHAN_TURN, 0) < 0)
			return -1;
	for (uint32_t i = 0; i < g->n; i++)
		if (g->s[i].kind != TREE_ZOMBIE && ask(g, i, CHAN_TURN, CHAN_RESTORED) < 0)
			return -1;
	return 0;
}

/* Its parent is to be told of the stop while it is parked, and forgets it. */
static int await_stop(struct grove *g, pid_t pid)
{
	char path[40], text[512], *p;
	const struct timespec nap = {.tv_nsec = 1000000};

	snprintf(path, sizeof path, "/proc/%d/stat", pid);
	for (int i = 0; i < STOP_TRIES; i++) {
		FILE *f = fopen(path, "re");
		size_t n = f ? fread(text, 1, sizeof text - 1, f) : 0;

		if (f)
			fclose(f);
		text[n] = 0;
		p = strrchr(text, ')');
		if (!p || p[2] == 'T')
			return 0;
		nanosleep(&nap, NULL);
	}
	return trace_fail(g->first, EBUSY, "process %d does not stop", pid);
}

static int let_go(struct grove *g, uint32_t i, const struct chan_msg *m)
{
	g->s[i].gone = 1;
	return revive_let_go(&g->s[i].t, g->s[i].chan, m);
}

static int release(struct grove *g)
{
	for (uint32_t i = g->n; i-- > 0;) {
		struct chan_msg restored = g->s[i].said;

		if (g->s[i].kind == TREE_ZOMBIE)
			continue;
		if (ask(g, i, CHAN_SETTLE, CHAN_SETTLED) < 0)
			return -1;
		g->s[i].said = restored;
		if (restored.flags &&
		    (let_go(g, i, &restored) < 0 || await_stop(g, g->s[i].t.pid) < 0))
			return -1;
	}
	for (uint32_t i = g->n; i-- > 0;)
		if (g->s[i].kind != TREE_ZOMBIE && !g->s[i].gone && let_go(g, i, &g->s[i].said) < 0)
			return -1;
	return 0;
}

/* The first is its parent's to end. */
static void end_all(struct grove *g)
{
	for (uint32_t i = 1; i < TREE_MAX && i < g->announced; i++)
		if (g->s[i].t.pid > 0)
			kill(g->s[i].t.pid, SIGKILL);
}

int tree_revive(struct trace *first, int chan, struct chan_msg *m)
{
	struct grove g = {.first = first, .announced = 1};
	int r, e;

	g.s = calloc(TREE_MAX, sizeof *g.s);
	if (!g.s)
		return trace_fail(first, ENOMEM, "%s", strerror(ENOMEM));
	for (uint32_t i = 0; i < TREE_MAX; i++) {
		g.s[i].chan = -1;
		g.s[i].t.err = first->err;
	}
	g.s[0].chan = chan;
	g.s[0].kind = TREE_PROCESS;
	g.s[0].t.pid = first->pid;
	r = heed(&g, 0, m, -1);
	if (r == 0 && (gather(&g) < 0 || restore_each(&g) < 0 ||
		       source_whole(first->source, first) < 0 || release(&g) < 0))
		r = -1;
	e = errno;
	if (r < 0)
		end_all(&g);
	for (uint32_t i = 1; i < TREE_MAX; i++)
		if (g.s[i].chan >= 0)
			close(g.s[i].chan);
	for (uint32_t i = 0; i < TREE_MAX; i++)
		trace_free(&g.s[i].t);
	free(g.s);
	errno = e;
	return r;
}
