/*
 * A move that was granted gets its connection for the image: step 5 of doc/move.md, at
 * the source. Runs in bpslave.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "bpslave_move.h"
#include "slaved/bpslave_data.h"
#include "include/sys/bproc.h"
#include "vmadump/blob/blob.h"

#define TABLE_MS 20 /* between looks at the table; five times what the master waits in all */
#define TABLE_TRIES 12

static void have_connection(int fd, void *arg)
{
	struct leaving *v = arg;
	struct init_msg m = {
		.type = INIT_GRANT, .move_id = v->move, .req_id = v->req, .pid = v->pid};
	char text[CHAN_TEXT_MAX];
	int back;

	v->ticket = 0;
	if (fd < 0) {
		snprintf(text, sizeof(text), "node %d: no data connection: %s", v->node,
			 strerror(-fd));
		/* The process is still ours to abort, but only the master may say so. */
		move_tell_failed(v->move, EHOSTUNREACH, text, false);
		return;
	}
	data_carries(v->move);
	m.u.depart.kind = v->kind;
	m.u.depart.dump_flags = v->flags;
	if (exec_is_on(v->node, &v->exec))
		m.u.depart.dump_flags &= ~(uint32_t)BPROC_DUMP_EXEC;
	m.u.depart.epoch = v->epoch;
	m.u.depart.target = v->node;
	m.u.depart.pgid = v->pgid;
	m.u.depart.sid = v->sid;
	m.u.depart.filters = v->filters;
	m.u.depart.used = v->used;
	m.u.depart.away = slave.node != HOME_NODE;
	if (m.u.depart.away)
		stdio_streams_of(v->host_pid, &m.u.depart.streams, m.u.depart.saved);
	memcpy(m.u.depart.token, v->token, sizeof(v->token));
	back = v->flags & DUMP_LAZY ? data_back() : -1;
	init_send(&m, (const int[]){fd, back}, back >= 0 ? 2 : 1);
	close_fd(fd);
	close_fd(back);
}

static void try_later(evutil_socket_t fd, short what, void *arg);

/*
 * The master gathers changes of the table: a node that has just come may not be in ours, or as it
 * was before it was started anew, and what is kept warm to that one leads nowhere. And what this
 * node's streams have to say to home must be on its way before the process is: from the next node
 * it would overtake them, and home would wait for a writer whose end it has heard. One whose parent
 * has just come may be here before the word that the parent runs, and its streams are.
 */
static bool is_ready(const struct leaving *v, const struct node_row *row)
{
	int32_t saved[CHAN_STREAMS];
	uint32_t streams;

	if (!row || !row->data_port || row->life != v->life)
		return false;
	if (slave.node == HOME_NODE)
		return true;
	if (target_unheard)
		init_take();
	return peer_home() && (stdio_streams_of(v->host_pid, &streams, saved) || !target_unheard);
}

void grant_connect(struct leaving *v)
{
	const struct node_row *row = table_find(v->node);
	uint32_t ticket;

	if (!is_ready(v, row) && v->tries++ < TABLE_TRIES) {
		if (!v->later)
			v->later = new_timer(try_later, v);
		if (v->later)
			return start_timer(v->later, TABLE_MS);
	}
	/* Warm: have_connection has run before this returns, and its ticket is spent. */
	v->ticket = UINT32_MAX;
	ticket = data_take(v->node, have_connection, v);
	if (v->ticket)
		v->ticket = ticket;
}

static void try_later(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	grant_connect(arg);
}
