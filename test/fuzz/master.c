/*
 * bpmaster told anything by its slaves: all of it but the sockets. The link is
 * played here; slaves connect, say well-formed messages with odd contents (or odd
 * bytes), vanish, and time goes by. No answer is judged, but the tables must stay
 * in order and nothing may be lost or touched after its end.
 */
#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "libbproc/local.h"
#include "libbproc/log.h"
#include "masterd/master.h"

#define SLOTS 6 /* the front end, three nodes, one of them twice, a stranger */

struct link {
	const struct link_ops *ops;
	void *arg;
	struct sockaddr_in peer;
	unsigned int slot;
};

static struct link *slot[SLOTS];
static const char *const address[SLOTS] = {"127.0.0.1", "10.0.0.1", "10.0.0.2",
					   "10.0.0.3",	"10.0.0.2", "10.9.9.9"};
static unsigned int connecting;
static struct fuzz_ids ids;
static int64_t clock_now;

/* -- what stands in for link.c and the clock */

int64_t __wrap_clock_ns(int id);
int64_t __wrap_clock_ns(int id)
{
	(void)id;
	return clock_now;
}

struct link *link_accept(struct event_base *base, SSL_CTX *ctx, int fd, const struct link_ops *ops,
			 void *arg, struct bproc_err *err)
{
	struct link *l = calloc(1, sizeof(*l));

	(void)base;
	(void)ctx;
	(void)fd;
	(void)err;
	MUST(l);
	*l = (struct link){.ops = ops, .arg = arg, .slot = connecting};
	l->peer.sin_family = AF_INET;
	inet_pton(AF_INET, address[connecting], &l->peer.sin_addr);
	MUST(!slot[connecting]);
	slot[connecting] = l;
	return l;
}

void link_free(struct link *l)
{
	if (!l)
		return;
	MUST(slot[l->slot] == l);
	slot[l->slot] = NULL;
	free(l);
}

void link_finish(struct link *l)
{
	link_free(l);
}

static void note_id(uint64_t id)
{
	ids.id[ids.n < FUZZ_IDS ? ids.n++ : id % FUZZ_IDS] = id;
}

int link_send(struct link *l, const ProtobufCMessage *msg)
{
	unsigned char *buf;
	Bproc__Envelope env;
	size_t n;

	MUST(slot[l->slot] == l);
	MUST(wire_envelope(msg, &env) == 0);
	n = wire_frame_size(&env);
	if (n == 0)
		return -EMSGSIZE;
	buf = malloc(n);
	MUST(buf && wire_put_frame(&env, buf) == n);
	free(buf);
	if (msg->descriptor == &bproc__move_start__descriptor)
		note_id(((const Bproc__MoveStart *)(const void *)msg)->move);
	return 0;
}

int link_send_later(struct link *l, const ProtobufCMessage *msg)
{
	return link_send(l, msg);
}

int link_fd(const struct link *l)
{
	(void)l;
	return -1;
}
bool link_is_up(const struct link *l)
{
	(void)l;
	return true;
}
const struct sockaddr_in *link_peer(const struct link *l)
{
	return &l->peer;
}
const char *link_peer_name(const struct link *l)
{
	return address[l->slot];
}

/* -- the books */

static void check_proc(struct proc *p, void *arg)
{
	struct master *m = arg;
	uint32_t n = 0;

	MUST(p->pid > 0 && p->pid < WIRE_PID_MAX && p->state < PS_GONE);
	MUST(p->node == NODE_NONE || node_get(&m->nodes, p->node));
	MUST(p->nqueued <= PROC_QUEUE_MAX);
	for (struct queued *q = p->queue; q; q = q->next)
		n++;
	MUST(n == p->nqueued);
	if (p->move)
		MUST(move_get(&m->moves, p->move->id) == p->move && p->move->proc == p);
	else
		MUST(p->state != PS_MOVING);
}

static void check_move(struct move *mv, void *arg)
{
	struct master *m = arg;

	MUST(mv->state < MV_DONE);
	MUST(node_get(&m->nodes, mv->source) || mv->epoch != m->epoch);
	if (mv->proc)
		MUST(proc_get(&m->procs, mv->proc->pid, mv->proc->gen) == mv->proc);
}

static void check_books(struct master *m)
{
	uint32_t peers = 0;

	proc_each(&m->procs, check_proc, m);
	move_each(&m->moves, check_move, m);
	for (struct peer *p = m->peers; p; p = p->next) {
		peers++;
		MUST(p->link && slot[p->link->slot] == p->link);
	}
	MUST(peers == m->npeers);
	for (uint32_t i = 0; i < m->nodes.count; i++) {
		struct node *n = &m->nodes.node[i];

		MUST(!n->peer || n->peer->node == n);
		MUST((n->state == NS_CONNECTED) == (n->peer != NULL));
	}
}

/* -- what happens */

static void say(unsigned int s, const Bproc__Envelope *env)
{
	if (slot[s])
		slot[s]->ops->on_msg(slot[s], env, slot[s]->arg);
}

static void dial(struct master *m, unsigned int s)
{
	if (slot[s])
		return;
	connecting = s;
	peer_accept(m, -1);
	if (slot[s])
		slot[s]->ops->on_up(slot[s], slot[s]->arg);
}

/* A Hello that is right in all but what the input says, so that most runs get further. */
static void hello(unsigned int s, uint8_t c)
{
	static char id[] = "1.0";
	Bproc__Envelope env = BPROC__ENVELOPE__INIT;
	Bproc__Hello h = BPROC__HELLO__INIT;

	id[0] = (char)('0' + (c & 3));
	h.protocol = BPROC_PROTOCOL;
	h.want_node = s == 0 ? NODE_HOME : NODE_NONE;
	h.arch = (char *)"x86_64";
	h.boot_id = (char *)"boot";
	h.version = h.kernel = (char *)"";
	h.init_id = id;
	h.data_port = 2224;
	env.msg_case = BPROC__ENVELOPE__MSG_HELLO;
	env.hello = &h;
	say(s, &env);
}

/* A MoveAsk that will be granted if its node and process allow it. */
static void ask(unsigned int s, struct fuzz_in *in)
{
	unsigned char raw[WIRE_CRED_SIZE] = {0};
	Bproc__Envelope env = BPROC__ENVELOPE__INIT;
	Bproc__MoveAsk a = BPROC__MOVE_ASK__INIT;
	Bproc__Creds creds = BPROC__CREDS__INIT;
	Bproc__Chain chain = BPROC__CHAIN__INIT, *chains[] = {&chain};
	uint8_t c = fuzz_u8(in), pids = fuzz_u8(in);

	creds.raw = (ProtobufCBinaryData){.len = sizeof(raw), .data = raw};
	a.creds = &creds;
	a.kind = 1 + (c & 3);
	a.node = (c >> 2 & 3) - 1;
	a.pid = a.asker_pid = 1 + (pids & 15) + 65536 * (c >> 4 & 3);
	if (a.kind == MOVE_RFORK)
		a.asker_pid = 1 + (pids >> 4);
	chain.pid = a.ppid = 1 + (pids >> 4);
	chain.comm = (char *)"init";
	a.chain = chains;
	a.n_chain = c >> 7;
	env.msg_case = BPROC__ENVELOPE__MSG_MOVE_ASK;
	env.move_ask = &a;
	say(s, &env);
}

static void bytes(unsigned int s, struct fuzz_in *in)
{
	Bproc__Envelope *env;
	size_t n = fuzz_u8(in);
	const uint8_t *p = fuzz_bytes(in, n, &n);

	if (wire_get_envelope(p, n, &env) < 0)
		return;
	say(s, env);
	bproc__envelope__free_unpacked(env, NULL);
}

static void message(unsigned int s, struct fuzz_in *in)
{
	const ProtobufCMessageDescriptor *d = &bproc__envelope__descriptor;
	const ProtobufCFieldDescriptor *f = &d->fields[fuzz_u8(in) % d->n_fields];
	ProtobufCMessage *msg = fuzz_message(in, f->descriptor, &ids);
	Bproc__Envelope env;

	MUST(wire_envelope(msg, &env) == 0);
	say(s, &env);
	protobuf_c_message_free_unpacked(msg, NULL);
}

static void step(struct master *m, struct fuzz_in *in)
{
	uint8_t c = fuzz_u8(in);
	unsigned int s = (c >> 4) % SLOTS;

	switch (c & 15) {
	case 0:
		dial(m, s);
		break;
	case 1:
		dial(m, s);
		hello(s, fuzz_u8(in));
		break;
	case 2:
		if (slot[s])
			slot[s]->ops->on_down(slot[s], LINK_CLOSED, "closed", slot[s]->arg);
		break;
	case 3:
		clock_now += (int64_t)fuzz_u8(in) * 100000000;
		event_active(m->ping, EV_TIMEOUT, 0);
		event_base_loop(m->base, EVLOOP_NONBLOCK);
		break;
	case 4:
		bytes(s, in);
		break;
	case 5:
	case 6:
		ask(s, in);
		break;
	default:
		message(s, in);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static const char conf[] = "iprange 0 10.0.0.1 10.0.0.3\nkeyfile /key\npingtimeout 4\n";
	struct master *m = calloc(1, sizeof(*m));
	struct fuzz_in in = {data, len};
	struct bproc_err err;

	MUST(m);
	log_level(-1);
	ids.n = 0;
	clock_now = 1000000000000;
	MUST(config_parse("conf", conf, sizeof(conf) - 1, &m->conf, &err) == 0);
	m->epoch = m->moves.epoch = 7;
	m->base = event_base_new();
	MUST(m->base && node_table_init(&m->nodes, &m->conf) == 0);
	proc_table_init(&m->procs, m->nodes.count);
	MUST(table_start(m) == 0 && nodes_start(m) == 0);
	m->start_ms = now_ms();
	while (in.left) {
		step(m, &in);
		check_books(m);
	}
	nodes_end(m);
	event_free(m->tell);
	move_table_free(&m->moves);
	proc_table_free(&m->procs);
	node_table_free(&m->nodes);
	event_base_free(m->base);
	config_free(&m->conf);
	free(m);
	for (unsigned int s = 0; s < SLOTS; s++)
		MUST(!slot[s]);
	return 0;
}
