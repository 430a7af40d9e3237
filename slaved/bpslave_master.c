/*
 * The link to bpmaster: greeting, back-off, both ends' pings, the fence, the
 * replica of the node table, and who gets which message. Runs in bpslave;
 * doc/wire.md. A message that this end may not get in this state ends the link.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "bpslave.h"
#include "bpslave_data.h"
#include "libbproc/daemon.h"
#include "libbproc/log.h"
#include "libbproc/wire.h"

#define RETRY_MIN_MS 100

static struct {
	struct link *link; /* owned */
	bool up;	   /* Welcome has come */
	bool ready_told;
	struct sockaddr_in addr;
	uint32_t retry_ms;
	uint64_t heard_ms; /* last message of the master */
	uint64_t alone_ms; /* since when there is no master; 0: there is one */
	bool fenced;
	char last_reason[BPROC_ERR_TEXT]; /* logged once, not at each try */
	struct event *retry, *watch;	  /* owned */
} m;

bool master_is_up(void)
{
	return m.up;
}

/*
 * A master that is started again is back within the ping timeout, as a rule. A bpslave that is
 * started again finds a bpinit, which an earlier one had started when it had a master.
 */
static bool is_waited_for(void)
{
	return (m.ready_told || init_is_connected()) && m.alone_ms &&
	       now_ms() - m.alone_ms <= slave.ping_timeout_ms;
}

bool master_may_come(void)
{
	return m.up || is_waited_for();
}

uint32_t master_addr(void)
{
	return ntohl(m.addr.sin_addr.s_addr);
}

bool master_send(const void *msg)
{
	if (!m.up)
		return false;
	return link_send(m.link, msg) >= 0;
}

bool master_send_later(const void *msg)
{
	if (!m.up)
		return false;
	return link_send_later(m.link, msg) >= 0;
}

const struct node_row *table_find(int32_t node)
{
	for (size_t i = 0; i < slave.ntable; i++)
		if (slave.table[i].node == node)
			return &slave.table[i];
	return NULL;
}

/* -- up and down */

static void lost(void)
{
	struct link *l = m.link;
	uint32_t jitter = 0;

	m.link = NULL;
	link_free(l);
	if (m.up) {
		m.up = false;
		m.alone_ms = now_ms();
		stats_link_lost();
		move_link_lost();
	}
	/* Half of the pause is random, so that a rack does not come back in one instant. */
	if (getrandom(&jitter, sizeof(jitter), GRND_NONBLOCK) < 0)
		jitter = 0;
	start_timer(m.retry, m.retry_ms / 2 + jitter % (m.retry_ms / 2 + 1));
	m.retry_ms = m.retry_ms * 2 > WIRE_RETRY_MAX_MS ? WIRE_RETRY_MAX_MS : m.retry_ms * 2;
}

static void log_once(const char *reason)
{
	if (strcmp(m.last_reason, reason) == 0)
		return;
	snprintf(m.last_reason, sizeof(m.last_reason), "%s", reason);
	log_warn("no link to the master: %s; trying on", reason);
}

static void boot_id(char ret[64])
{
	FILE *f = fopen("/proc/sys/kernel/random/boot_id", "re");

	if (!f || !fgets(ret, 64, f))
		strcpy(ret, "unknown");
	ret[strcspn(ret, "\n")] = '\0';
	if (f)
		fclose(f);
}

static void say_hello(void)
{
	Bproc__Hello h = BPROC__HELLO__INIT;
	char boot[64], version[] = BPROC_VERSION;
	char id[64];
	struct utsname u = {0};

	boot_id(boot);
	uname(&u);
	snprintf(id, sizeof(id), "%s", init_id());
	h.protocol = BPROC_PROTOCOL;
	h.version = version;
	h.want_node = slave.opt.front_end ? NODE_MASTER : NODE_NONE;
	h.arch = u.machine;
	h.boot_id = boot;
	h.data_port = slave.opt.data_port;
	h.kernel = u.release;
	h.init_id = id;
	link_send(m.link, &h.base);
}

static void on_welcome(const Bproc__Welcome *w)
{
	int64_t mono = 0, boot = 0;
	bool another = slave.epoch != w->epoch;
	char id[64];

	boot_id(id);
	if (strcmp(id, w->boot_id) != 0) {
		mono = w->clock_monotonic_ns - clock_ns(CLOCK_MONOTONIC);
		boot = w->clock_boottime_ns - clock_ns(CLOCK_BOOTTIME);
	}
	if (slave.node != w->node || another || m.last_reason[0])
		log_notice("node %d of the master at %s, epoch %u", w->node, link_peer_name(m.link),
			   w->epoch);
	slave.node = w->node;
	if (another)
		gen_forget_all();
	slave.epoch = w->epoch;
	slave.encrypt = w->image_encryption;
	if (w->ping_timeout_ms > 0)
		slave.ping_timeout_ms = w->ping_timeout_ms;
	slave.lease_lo = w->lease_lo;
	slave.lease_hi = w->lease_hi;
	slave.lease_next = w->lease_next;
	slave.event_source = w->event_source;
	slave.kill_from_nodes = w->kill_from_nodes;
	m.up = true;
	m.retry_ms = RETRY_MIN_MS;
	m.alone_ms = 0;
	m.fenced = false;
	m.last_reason[0] = '\0';
	start_timer(m.watch, slave.ping_timeout_ms / 4);
	if (w->fence && slave.node != HOME_NODE)
		init_fence();
	init_want(mono, boot);
	if (another)
		target_new_epoch();
	init_resync();
	init_alive(slave.ping_timeout_ms);
	if (!m.ready_told)
		daemon_notify("READY=1");
	m.ready_told = true;
	query_ask_again();
	stats_ask_again();
	data_refresh();
}

/*
 * A master that has just been started has a node as down that has not come back to it yet. What
 * the last one said of it holds until this one knows better.
 */
static const struct node_row *known_better(const Bproc__NodeTable *t, const Bproc__Node *n)
{
	const struct node_row *was = t->partial ? table_find(n->node) : NULL;

	return was && strcmp(n->status, "down") == 0 ? was : NULL;
}

static void on_table(const Bproc__NodeTable *t)
{
	struct node_row *rows = calloc(t->n_node + 1, sizeof(*rows));

	if (!rows || t->n_node > LOCAL_NODES_MAX) {
		free(rows);
		return;
	}
	for (size_t i = 0; i < t->n_node; i++) {
		const Bproc__Node *n = t->node[i];
		const struct node_row *was = known_better(t, n);

		if (was) {
			rows[i] = *was;
			continue;
		}
		rows[i] = (struct node_row){.node = n->node,
					    .mode = n->mode,
					    .uid = n->uid,
					    .gid = n->gid,
					    .addr = n->addr,
					    .life = n->life,
					    .data_port = (uint16_t)n->data_port};
		snprintf(rows[i].status, sizeof(rows[i].status), "%s", n->status);
		snprintf(rows[i].reason, sizeof(rows[i].reason), "%s", n->reason);
	}
	free(slave.table);
	slave.table = rows;
	slave.ntable = t->n_node;
	slave.table_whole |= !t->partial;
	query_on_table();
	stats_on_table(t->partial);
	stdio_table_changed();
	peer_refresh();
	data_refresh();
}

static void on_refuse(const Bproc__Refuse *r)
{
	char text[BPROC_ERR_TEXT];

	snprintf(text, sizeof(text), "%s%s",
		 strncmp(r->reason, "refused: ", 9) == 0 ? "" : "refused: ", r->reason);
	log_once(text);
	m.retry_ms = WIRE_RETRY_MAX_MS;
	if (r->err == ESHUTDOWN && slave.node != HOME_NODE) {
		/* Set down: our processes have been declared dead this moment. */
		m.fenced = true;
		init_fence();
	}
	lost();
}

static void on_fence(void)
{
	if (slave.node == HOME_NODE)
		return;
	log_notice("the node is set down: its processes are killed");
	if (init_is_up())
		init_fence();
	else
		master_fenced();
}

void master_fenced(void)
{
	Bproc__Fenced f = BPROC__FENCED__INIT;

	master_send(&f.base);
}

/* -- messages */

static void answer_ping(void)
{
	Bproc__Pong pong = BPROC__PONG__INIT;

	link_send(m.link, &pong.base);
}

static void misplaced(const Bproc__Envelope *env)
{
	char text[BPROC_ERR_TEXT];

	snprintf(text, sizeof(text), "the master sent %s, which it may not now", wire_name(env));
	log_once(text);
	lost();
}

/* False: it is not of a move. */
static bool of_move(const Bproc__Envelope *env)
{
	switch (env->msg_case) {
	case BPROC__ENVELOPE__MSG_MOVE_START:
		target_on_start(env->move_start);
		return true;
	case BPROC__ENVELOPE__MSG_MOVE_GRANT:
		move_on_grant(env->move_grant);
		return true;
	case BPROC__ENVELOPE__MSG_MOVE_DENY:
		move_on_deny(env->move_deny);
		return true;
	case BPROC__ENVELOPE__MSG_MOVE_VOID:
		target_on_void(env->move_void);
		return true;
	case BPROC__ENVELOPE__MSG_MOVE_COMMIT:
		move_on_commit(env->move_commit);
		return true;
	case BPROC__ENVELOPE__MSG_MOVE_ABORT:
		move_on_abort(env->move_abort);
		return true;
	default:
		return false;
	}
}

static void dispatch(const Bproc__Envelope *env)
{
	switch (env->msg_case) {
	case BPROC__ENVELOPE__MSG_NODE_TABLE:
		return on_table(env->node_table);
	case BPROC__ENVELOPE__MSG_ANSWER:
		return query_on_answer(env->answer);
	case BPROC__ENVELOPE__MSG_PROCS_TELL:
		return query_on_procs(env->procs_tell);
	case BPROC__ENVELOPE__MSG_STATS_ASK:
		return stats_on_ask(env->stats_ask);
	case BPROC__ENVELOPE__MSG_STATS_TELL:
		return stats_on_tell(env->stats_tell);
	case BPROC__ENVELOPE__MSG_FENCE:
		return on_fence();
	case BPROC__ENVELOPE__MSG_SIGNAL:
		return event_on_signal(env->signal);
	case BPROC__ENVELOPE__MSG_SIGNAL_ACK:
		return event_on_signal_ack(env->signal_ack);
	case BPROC__ENVELOPE__MSG_EVENT_ACK:
		return event_on_ack(env->event_ack);
	case BPROC__ENVELOPE__MSG_MIRROR:
		return event_on_mirror(env->mirror);
	case BPROC__ENVELOPE__MSG_WATCH:
		return event_on_watch(env->watch);
	case BPROC__ENVELOPE__MSG_PROC_BORN:
		return born_on_born(env->proc_born);
	case BPROC__ENVELOPE__MSG_PROC_REAPED:
		return born_on_reaped(env->proc_reaped);
	case BPROC__ENVELOPE__MSG_ZOMBIES:
		return zombies_on_tell(env->zombies);
	case BPROC__ENVELOPE__MSG_BORN_ASK:
		born_tell_all();
		place_again();
		zombies_ask();
		return kill_again();
	case BPROC__ENVELOPE__MSG_PLACE:
		return place_on_place(env->place);
	case BPROC__ENVELOPE__MSG_KILL:
		return kill_on_kill(env->kill);
	case BPROC__ENVELOPE__MSG_KILLED:
		return kill_on_killed(env->killed);
	case BPROC__ENVELOPE__MSG_REFUSE:
		return on_refuse(env->refuse); /* the node was set down */
	case BPROC__ENVELOPE__MSG_PING:
		return answer_ping();
	case BPROC__ENVELOPE__MSG_PONG:
		return;
	default:
		if (!of_move(env))
			misplaced(env);
	}
}

static void on_msg(struct link *l, const Bproc__Envelope *env, void *arg)
{
	(void)l;
	(void)arg;
	m.heard_ms = now_ms();
	if (m.up)
		dispatch(env);
	else if (env->msg_case == BPROC__ENVELOPE__MSG_WELCOME)
		on_welcome(env->welcome);
	else if (env->msg_case == BPROC__ENVELOPE__MSG_REFUSE)
		on_refuse(env->refuse);
	else if (env->msg_case == BPROC__ENVELOPE__MSG_NODE_TABLE)
		on_table(env->node_table);
	else
		misplaced(env);
}

static void on_up(struct link *l, void *arg)
{
	(void)l;
	(void)arg;
	m.heard_ms = now_ms();
	say_hello();
}

static void on_down(struct link *l, enum link_why why, const char *reason, void *arg)
{
	(void)l;
	(void)why;
	(void)arg;
	log_once(reason);
	lost();
}

static const struct link_ops ops = {.on_up = on_up, .on_msg = on_msg, .on_down = on_down};

/* -- time */

static void try_connect(evutil_socket_t fd, short what, void *arg)
{
	struct sockaddr_in from = {.sin_family = AF_INET, .sin_addr = slave.opt.local_addr};
	bool bound = from.sin_addr.s_addr != 0;
	struct bproc_err err = {0};

	(void)fd;
	(void)what;
	(void)arg;
	m.link = link_connect(slave.base, slave.ctx, &m.addr, bound ? &from : NULL, &ops, NULL,
			      &err);
	if (!m.link) {
		log_once(err.text);
		lost();
	}
}

static void on_watch(evutil_socket_t fd, short what, void *arg)
{
	uint64_t now = now_ms();

	(void)fd;
	(void)what;
	(void)arg;
	start_timer(m.watch, slave.ping_timeout_ms / 4);
	if (m.up && now - m.heard_ms > slave.ping_timeout_ms) {
		log_once("the master has not been heard for the ping timeout");
		lost();
	}
	/* Before the master may say that what is here is dead, it is. Home has no such limit. */
	now = now_ms(); /* alone_ms may be younger than the first reading */
	if (m.alone_ms && !m.fenced && slave.node != HOME_NODE &&
	    now - m.alone_ms > (uint64_t)slave.ping_timeout_ms * 8 / 10) {
		m.fenced = true;
		if (init_has_processes())
			log_error("no master for %u ms: the processes here are killed",
				  slave.ping_timeout_ms * 8 / 10);
		/* Also when there are none: one may be on its way here, and must not run. */
		init_fence();
	}
	if (!master_may_come()) {
		move_no_master();
		query_no_master();
		stats_no_master();
	}
	/* Should we die or hang, bpinit does the same by itself. */
	if (m.up)
		init_alive(slave.ping_timeout_ms);
}

void master_reconnect(void)
{
	if (!m.link)
		return;
	m.retry_ms = RETRY_MIN_MS;
	lost();
}

static int resolve(struct bproc_err *err)
{
	struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM}, *list;
	int e = getaddrinfo(slave.opt.master, NULL, &hints, &list);

	if (e != 0)
		return bproc_err_set(err, EINVAL, "%s: %s", slave.opt.master, gai_strerror(e));
	m.addr = *(struct sockaddr_in *)(void *)list->ai_addr;
	m.addr.sin_port = htons(slave.opt.port);
	freeaddrinfo(list);
	return 0;
}

int master_start(struct bproc_err *err)
{
	int e = resolve(err);

	if (e < 0)
		return e;
	m.retry_ms = RETRY_MIN_MS;
	m.alone_ms = now_ms();
	m.retry = new_timer(try_connect, NULL);
	m.watch = new_timer(on_watch, NULL);
	if (!m.retry || !m.watch)
		return bproc_err_set(err, ENOMEM, "no memory");
	start_timer(m.watch, slave.ping_timeout_ms / 4);
	try_connect(-1, 0, NULL);
	return 0;
}

void master_stop(void)
{
	/* What is queued goes out first; the loop has ended, so it is given here. */
	if (m.link)
		link_free(m.link);
	m.link = NULL;
	m.up = false;
	free_event(&m.retry);
	free_event(&m.watch);
}
