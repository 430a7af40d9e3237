/*
 * Forwarded stdio at home: is the node lost that is served (bpslave_stdio.h, doc/streams.md)? Then
 * no end of its streams is waited for. Runs in bpslave of the front end.
 */
#include <string.h>

#include "bpslave_stdio.h"

/* The node of what others hold there: nobody tells of its end but that node. */
int32_t stdio_rest_node(int32_t pid)
{
	return (-pid >> 16) - 1;
}

/*
 * A master that was started anew calls a node down until that is back, which it may be. Two and a
 * half ping timeouts later nothing that was there is alive (doc/wire.md, section 8).
 */
static struct {
	uint32_t epoch;
	uint64_t until_ms;
	struct event *over; /* lives as long as we */
} new_master;

static void on_over(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	(void)arg;
	new_master.until_ms = 0;
	stdio_table_changed();
}

void stdio_lost_look(void)
{
	uint32_t ms = slave.ping_timeout_ms * 5 / 2;

	if (new_master.epoch == slave.epoch)
		return;
	new_master.epoch = slave.epoch;
	if (!new_master.over)
		new_master.over = new_timer(on_over, NULL);
	new_master.until_ms = new_master.over ? now_ms() + ms : 0;
	if (new_master.over)
		start_timer(new_master.over, ms);
}

bool stdio_node_is_lost(const struct stdio *s)
{
	int32_t pid = s->proc->pid;
	const struct node_row *row = s->peer  ? table_find(peer_node(s->peer))
				     : pid < 0 ? table_find(stdio_rest_node(pid))
					       : NULL;

	if (!row || strcmp(row->status, "down") != 0)
		return false;
	/* life: of a node that this master has heard of */
	return row->life || now_ms() >= new_master.until_ms;
}

/* What had come from it is there all the same. */
bool stdio_lost_with_all(const struct stdio *s)
{
	const unsigned char *p;

	return stdio_node_is_lost(s) && stream_in_next(&s->in, &p) == 0;
}
