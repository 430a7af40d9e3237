/*
 * Peers: the links of slaves, from accept to their end, and the dispatch of what
 * they say. Every message has a row that says when a slave may send it; anything
 * else ends the link (doc/wire.md, section 4). Runs in bpmaster.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libbproc/log.h"
#include "libbproc/sysio.h"
#include "master.h"

#define STRANGERS 64

/* What was logged last about addresses that are no node's, so that it is logged once. */
static struct {
	uint32_t addr;
	char text[NODE_REASON_MAX];
} stranger[STRANGERS];

static void stranger_log(uint32_t addr, const char *text)
{
	static unsigned int next;
	unsigned int i;

	for (i = 0; i < STRANGERS && stranger[i].addr != addr; i++)
		;
	if (i == STRANGERS)
		i = next++ % STRANGERS;
	else if (strncmp(stranger[i].text, text, NODE_REASON_MAX - 1) == 0)
		return;
	stranger[i].addr = addr;
	snprintf(stranger[i].text, sizeof(stranger[i].text), "%.*s", NODE_REASON_MAX - 1, text);
	log_stranger("refused: %s", text);
}

void node_reason(struct node *n, const char *fmt, ...)
{
	char text[NODE_REASON_MAX];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (strcmp(text, n->reason) == 0)
		return;
	strcpy(n->reason, text);
	log_stranger("node %d: %s", n->num, text);
}

/* Does this connection come from the front end itself? Its own address at both ends, or 127/8. */
static bool is_local(const struct link *l)
{
	uint32_t peer = ntohl(link_peer(l)->sin_addr.s_addr);
	struct sockaddr_in own = {0};
	socklen_t len = sizeof(own);

	if (peer >> 24 == 127)
		return true;
	return getsockname(link_fd(l), (struct sockaddr *)&own, &len) == 0 &&
	       ntohl(own.sin_addr.s_addr) == peer;
}

static void unlink_peer(struct peer *p)
{
	if (!p->at)
		return;
	*p->at = p->next;
	if (p->next)
		p->next->at = p->at;
	p->at = NULL;
	p->m->npeers--;
}

void peer_free(struct peer *p)
{
	unlink_peer(p);
	asks_forget(p);
	held_forget(p);
	if (p->node && p->node->peer == p)
		p->node->peer = NULL;
	link_free(p->link);
	free(p);
}

/* The peer is let go of; then its node hears that the link is lost. */
static void end_peer(struct peer *p, const char *reason)
{
	struct master *m = p->m;
	struct node *n = p->node && p->node->peer == p ? p->node : NULL;

	peer_free(p);
	if (n)
		nodes_link_lost(m, n, reason);
}

void peer_drop(struct peer *p, const char *fmt, ...)
{
	char text[BPROC_ERR_TEXT];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (!p->node)
		stranger_log(ntohl(link_peer(p->link)->sin_addr.s_addr), text);
	end_peer(p, text);
}

void peer_refuse(struct peer *p, struct node *n, int err, const char *fmt, ...)
{
	Bproc__Refuse r = BPROC__REFUSE__INIT;
	char text[BPROC_ERR_TEXT];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (n) {
		node_reason(n, "%s", text);
		table_changed(p->m);
	} else {
		stranger_log(ntohl(link_peer(p->link)->sin_addr.s_addr), text);
	}
	r.err = (uint32_t)err;
	r.reason = text;
	link_send(p->link, &r.base);
	link_finish(p->link);
	p->link = NULL;
	peer_free(p);
}

/* -- dispatch */

static void on_hello(struct peer *p, const Bproc__Envelope *e)
{
	const Bproc__Hello *h = e->hello;
	struct node *n;

	if (h->want_node == NODE_HOME)
		n = is_local(p->link) ? node_get(&p->m->nodes, NODE_HOME) : NULL;
	else
		n = node_by_addr(&p->m->nodes, ntohl(link_peer(p->link)->sin_addr.s_addr));
	if (!n && h->want_node == NODE_HOME)
		peer_refuse(p, NULL, EPERM, "%s: wants to be the front end's slave, from elsewhere",
			    link_peer_name(p->link));
	else if (!n)
		peer_refuse(p, NULL, ENOENT, "%s: not the address of a node",
			    link_peer_name(p->link));
	else if (h->want_node >= 0 && h->want_node != n->num)
		peer_refuse(p, n, EINVAL, "refused: wants to be node %d, its address is node %d's",
			    h->want_node, n->num);
	else if (h->protocol != BPROC_PROTOCOL)
		peer_refuse(p, n, EPROTO, "refused: bpslave %.24s speaks protocol %u, not %u",
			    h->version, h->protocol, BPROC_PROTOCOL);
	else if (strcmp(h->arch, "x86_64") != 0)
		peer_refuse(p, n, EINVAL, "refused: architecture %.24s, not x86_64", h->arch);
	else {
		p->node = n;
		nodes_hello(p, h);
	}
}

static void on_pong(struct peer *p, const Bproc__Envelope *e)
{
	(void)e;
	p->node->pong_ms = now_ms();
}

static void on_node_set(struct peer *p, const Bproc__Envelope *e)
{
	table_set(p, e->node_set);
}

static void on_pid_ask(struct peer *p, const Bproc__Envelope *e)
{
	procs_pid_ask(p, e->pid_ask);
}

static void on_procs_ask(struct peer *p, const Bproc__Envelope *e)
{
	procs_list_ask(p, e->procs_ask);
}

static void on_stats_ask(struct peer *p, const Bproc__Envelope *e)
{
	stats_ask(p, e->stats_ask);
}

static void on_stats_tell(struct peer *p, const Bproc__Envelope *e)
{
	stats_tell(p, e->stats_tell);
}

static void on_move_ask(struct peer *p, const Bproc__Envelope *e)
{
	moves_ask(p, e->move_ask);
}

static void on_move_ask_tree(struct peer *p, const Bproc__Envelope *e)
{
	tree_ask(p, e->move_ask_tree);
}

static int32_t pid_in(const Bproc__Proc *proc)
{
	return proc && wire_pid_ok(proc->pid) ? proc->pid : 0;
}

static void on_move_sent(struct peer *p, const Bproc__Envelope *e)
{
	moves_from_source(p, e->move_sent->move, ME_SENT, 0, NULL);
}

static void on_move_ran(struct peer *p, const Bproc__Envelope *e)
{
	struct move *mv = move_get(&p->m->moves, e->move_ran->move);

	if (mv && mv->target == p->node->num) {
		mv->has_exec = e->move_ran->has_exec;
		mv->left = e->move_ran->left;
	}
	/* A move that nobody asks about any more: where it went its node has said. */
	if (mv || !e->move_ran->left)
		moves_from_target(p, e->move_ran->move, ME_RAN, 0, NULL, pid_in(e->move_ran->proc));
}

static void on_move_failed(struct peer *p, const Bproc__Envelope *e)
{
	const Bproc__MoveFailed *f = e->move_failed;

	if (f->target)
		moves_from_target(p, f->move, ME_DST_FAILED, (int)f->err, f->text, 0);
	else
		moves_from_source(p, f->move, ME_SRC_FAILED, (int)f->err, f->text);
}

static void on_move_voided(struct peer *p, const Bproc__Envelope *e)
{
	moves_from_target(p, e->move_voided->move, ME_VOIDED, 0, NULL, 0);
}

static void on_move_ghosted(struct peer *p, const Bproc__Envelope *e)
{
	moves_from_source(p, e->move_ghosted->move, ME_GHOSTED, 0, NULL);
}

static void on_signal(struct peer *p, const Bproc__Envelope *e)
{
	procs_signal(p, e->signal);
}

static void on_signal_ack(struct peer *p, const Bproc__Envelope *e)
{
	procs_signal_ack(p, e->signal_ack);
}

static void on_proc_event(struct peer *p, const Bproc__Envelope *e)
{
	procs_event(p, e->proc_event);
}

static void on_mirrored(struct peer *p, const Bproc__Envelope *e)
{
	procs_mirrored(p, e->mirrored);
}

static void on_proc_state(struct peer *p, const Bproc__Envelope *e)
{
	resync_proc(p, e->proc_state);
}

static void on_move_state(struct peer *p, const Bproc__Envelope *e)
{
	resync_move(p, e->move_state);
}

static void on_proc_born(struct peer *p, const Bproc__Envelope *e)
{
	born_tell(p, e->proc_born);
}

static void on_proc_reaped(struct peer *p, const Bproc__Envelope *e)
{
	born_reaped(p, e->proc_reaped);
}

static void on_place(struct peer *p, const Bproc__Envelope *e)
{
	place_tell(p, e->place);
}

static void on_zombies(struct peer *p, const Bproc__Envelope *e)
{
	born_zombies(p, e->zombies);
}

static void on_kill(struct peer *p, const Bproc__Envelope *e)
{
	kills_ask(p, e->kill);
}

static void on_killed(struct peer *p, const Bproc__Envelope *e)
{
	kills_answer(p, e->killed);
}

static void on_fenced(struct peer *p, const Bproc__Envelope *e)
{
	(void)e;
	nodes_fenced(p);
}

static void on_state_end(struct peer *p, const Bproc__Envelope *e)
{
	(void)e;
	resync_end(p);
}

/* What a slave may say: one message before it is a node, the rest after. */
static const struct {
	Bproc__Envelope__MsgCase type;
	bool node;
	void (*fn)(struct peer *p, const Bproc__Envelope *e);
} dispatch[] = {
	{BPROC__ENVELOPE__MSG_HELLO, false, on_hello},
	{BPROC__ENVELOPE__MSG_PONG, true, on_pong},
	{BPROC__ENVELOPE__MSG_NODE_SET, true, on_node_set},
	{BPROC__ENVELOPE__MSG_PID_ASK, true, on_pid_ask},
	{BPROC__ENVELOPE__MSG_PROCS_ASK, true, on_procs_ask},
	{BPROC__ENVELOPE__MSG_STATS_ASK, true, on_stats_ask},
	{BPROC__ENVELOPE__MSG_STATS_TELL, true, on_stats_tell},
	{BPROC__ENVELOPE__MSG_MOVE_ASK, true, on_move_ask},
	{BPROC__ENVELOPE__MSG_MOVE_ASK_TREE, true, on_move_ask_tree},
	{BPROC__ENVELOPE__MSG_MOVE_SENT, true, on_move_sent},
	{BPROC__ENVELOPE__MSG_MOVE_RAN, true, on_move_ran},
	{BPROC__ENVELOPE__MSG_MOVE_FAILED, true, on_move_failed},
	{BPROC__ENVELOPE__MSG_MOVE_VOIDED, true, on_move_voided},
	{BPROC__ENVELOPE__MSG_MOVE_GHOSTED, true, on_move_ghosted},
	{BPROC__ENVELOPE__MSG_SIGNAL, true, on_signal},
	{BPROC__ENVELOPE__MSG_SIGNAL_ACK, true, on_signal_ack},
	{BPROC__ENVELOPE__MSG_PROC_EVENT, true, on_proc_event},
	{BPROC__ENVELOPE__MSG_MIRRORED, true, on_mirrored},
	{BPROC__ENVELOPE__MSG_PROC_STATE, true, on_proc_state},
	{BPROC__ENVELOPE__MSG_MOVE_STATE, true, on_move_state},
	{BPROC__ENVELOPE__MSG_STATE_END, true, on_state_end},
	{BPROC__ENVELOPE__MSG_FENCED, true, on_fenced},
	{BPROC__ENVELOPE__MSG_PROC_BORN, true, on_proc_born},
	{BPROC__ENVELOPE__MSG_PROC_REAPED, true, on_proc_reaped},
	{BPROC__ENVELOPE__MSG_PLACE, true, on_place},
	{BPROC__ENVELOPE__MSG_ZOMBIES, true, on_zombies},
	{BPROC__ENVELOPE__MSG_KILL, true, on_kill},
	{BPROC__ENVELOPE__MSG_KILLED, true, on_killed},
};

static void peer_msg(struct link *l, const Bproc__Envelope *env, void *arg)
{
	struct peer *p = arg;

	(void)l;
	for (size_t i = 0; i < sizeof(dispatch) / sizeof(*dispatch); i++) {
		if (dispatch[i].type != env->msg_case)
			continue;
		if (dispatch[i].node != (p->node != NULL))
			break;
		if (!held_wait(p, env))
			dispatch[i].fn(p, env);
		return;
	}
	peer_drop(p, "%s: protocol error: %s %s", link_peer_name(p->link), wire_name(env),
		  p->node ? "is not for a slave to send" : "before Hello");
}

void peer_said(struct peer *p, const Bproc__Envelope *env)
{
	peer_msg(p->link, env, p);
}

static void peer_up(struct link *l, void *arg)
{
	struct peer *p = arg;

	(void)l;
	p->since_ms = now_ms();
}

static void peer_down(struct link *l, enum link_why why, const char *reason, void *arg)
{
	uint32_t addr = ntohl(link_peer(l)->sin_addr.s_addr);
	char ip[INET_ADDRSTRLEN] = "";
	struct peer *p = arg;
	struct master *m = p->m;
	struct node *n;

	if (!p->node) {
		n = node_by_addr(&m->nodes, addr);
		if (!n && is_local(l))
			n = node_get(&m->nodes, NODE_HOME);
		if (!n) {
			stranger_log(addr, reason);
		} else if (why != LINK_CLOSED) {
			/* Without the port: it differs each time, and this is logged once. */
			reason = strchr(reason, ' ') ? strchr(reason, ' ') + 1 : reason;
			inet_ntop(AF_INET, &link_peer(l)->sin_addr, ip, sizeof(ip));
			node_reason(n, "refused: %s: %s", ip, reason);
			table_changed(m);
		}
	}
	end_peer(p, reason);
}

static const struct link_ops ops = {.on_up = peer_up, .on_msg = peer_msg, .on_down = peer_down};

void peer_accept(struct master *m, int fd)
{
	struct peer *p = calloc(1, sizeof(*p));
	struct bproc_err err;

	if (!p || m->npeers >= PEERS_MAX) {
		log_error("too many connections: one is closed");
		close_fd(fd);
		free(p);
		return;
	}
	p->m = m;
	p->since_ms = now_ms();
	p->link = link_accept(m->base, m->tls, fd, &ops, p, &err);
	if (!p->link) {
		log_error("%s", err.text);
		free(p);
		return;
	}
	p->next = m->peers;
	p->at = &m->peers;
	if (p->next)
		p->next->at = &p->next;
	m->peers = p;
	m->npeers++;
}

/* -- to nodes */

void node_send(struct master *m, struct node *n, const ProtobufCMessage *msg)
{
	(void)m;
	if (n->state == NS_CONNECTED && n->peer)
		link_send(n->peer->link, msg);
}

void node_send_later(struct master *m, struct node *n, const ProtobufCMessage *msg)
{
	(void)m;
	if (n->state == NS_CONNECTED && n->peer)
		link_send_later(n->peer->link, msg);
}
