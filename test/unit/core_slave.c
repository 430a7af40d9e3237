/*
 * The synthetic slave and the bpmaster it talks to (core_slave.h).
 */
#include <check.h>
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "core_slave.h"
#include "libbproc/sysio.h"

struct fake_master fm;
struct event_base *fake_base;
static SSL_CTX *ctx, *wrong_ctx;

static uint64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* -- the master */

static void path(char buf[128], const char *name)
{
	snprintf(buf, 128, "%s/%s", fm.dir, name);
}

static int free_port(void)
{
	struct sockaddr_in a = {.sin_family = AF_INET};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	socklen_t len = sizeof(a);

	ck_assert_int_eq(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&a, &len), 0);
	close(fd);
	return ntohs(a.sin_port);
}

void master_setup(const char *extra)
{
	struct cluster_key key, other = {.psk = "another"};
	struct bproc_err err;
	char name[128], keyname[128];
	FILE *f;

	signal(SIGPIPE, SIG_IGN); /* as a daemon does: the master is killed under our links */
	fm = (struct fake_master){.pid = -1};
	strcpy(fm.dir, "/tmp/bproc-master-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(fm.dir));
	fm.port = free_port();
	path(keyname, "key");
	f = fopen(keyname, "we");
	fprintf(f, "%0*d", (int)KEY_MIN, 0);
	fclose(f);
	ck_assert_int_eq(chmod(keyname, 0400), 0);
	ck_assert_int_eq(key_load(keyname, &key, &err), 0);
	path(name, "config");
	f = fopen(name, "we");
	fprintf(f, "iprange 0 127.0.1.1 127.0.1.4\nbprocport %d\ndataport %d\nkeyfile %s\n%s",
		fm.port, fm.port == 65535 ? 1 : fm.port + 1, keyname, extra);
	if (!strstr(extra, "node_up")) /* not what this machine may have */
		fprintf(f, "node_up /bin/true\n");
	fclose(f);
	ctx = link_ctx_new(&key, &err);
	wrong_ctx = link_ctx_new(&other, &err);
	fake_base = event_base_new();
}

void master_start(void)
{
	char conf[128], log[128];
	int fd;

	path(conf, "config");
	path(log, "log");
	fd = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	fm.pid = fork();
	if (fm.pid == 0) {
		setenv("BPROC_RUN_DIR", fm.dir, 1);
		dup2(fd, STDERR_FILENO);
		execl(BPMASTER, "bpmaster", "-v", "-c", conf, (char *)NULL);
		_exit(127);
	}
	close(fd);
	for (int i = 0; i < 100; i++) {
		struct sockaddr_in a = {
			.sin_family = AF_INET,
			.sin_port = htons((uint16_t)fm.port),
			.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
		};
		int s = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		int r = connect(s, (struct sockaddr *)&a, sizeof(a));

		close(s);
		if (r == 0)
			return;
		usleep(50000);
	}
	ck_abort_msg("bpmaster does not listen");
}

void master_stop(int sig)
{
	int status;

	kill(fm.pid, sig);
	ck_assert_int_eq(waitpid(fm.pid, &status, 0), fm.pid);
	if (sig == SIGTERM)
		ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "status %x", status);
	fm.pid = -1;
}

void master_cleanup(void)
{
	static const char *const names[] = {
		"key", "config", "log", "epoch", "bpmaster.pid", "node_up", "nodes",
	};
	char name[128];

	if (fm.pid > 0)
		master_stop(SIGTERM);
	event_base_free(fake_base);
	link_ctx_free(ctx);
	link_ctx_free(wrong_ctx);
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		path(name, names[i]);
		unlink(name);
	}
	ck_assert_msg(rmdir(fm.dir) == 0, "%s: %s", fm.dir, strerror(errno));
}

unsigned int master_log_count(const char *text)
{
	unsigned int n = 0;
	char name[128], line[1024];
	FILE *f;

	path(name, "log");
	f = fopen(name, "re");
	while (f && fgets(line, sizeof(line), f))
		n += strstr(line, text) != NULL;
	if (f)
		fclose(f);
	return n;
}

bool master_logged(const char *text)
{
	for (int i = 0; i < 100; i++) {
		if (master_log_count(text))
			return true;
		fake_run(50);
	}
	return false;
}

/* -- slaves */

static void on_up(struct link *l, void *arg)
{
	(void)l;
	((struct fake_slave *)arg)->up = true;
}

static Bproc__Envelope *copy_of(const Bproc__Envelope *env)
{
	size_t len = bproc__envelope__get_packed_size(env);
	unsigned char *buf = malloc(len);
	Bproc__Envelope *copy;

	bproc__envelope__pack(env, buf);
	ck_assert_int_eq(wire_get_envelope(buf, len, &copy), 0);
	free(buf);
	return copy;
}

static void on_msg(struct link *l, const Bproc__Envelope *env, void *arg)
{
	struct fake_slave *s = arg;
	Bproc__Pong pong = BPROC__PONG__INIT;

	if (env->msg_case == BPROC__ENVELOPE__MSG_PING) {
		s->pings++;
		if (!s->silent)
			link_send(l, &pong.base);
	} else if (env->msg_case == BPROC__ENVELOPE__MSG_NODE_TABLE) {
		if (s->table)
			bproc__envelope__free_unpacked(s->table, NULL);
		s->table = copy_of(env);
		s->tables++;
	} else if (env->msg_case == BPROC__ENVELOPE__MSG_BORN_ASK && s->home) {
		s->asks++; /* after each node's state */
	} else {
		ck_assert_uint_lt(s->count, QUEUE_MAX);
		s->queue[(s->first + s->count++) % QUEUE_MAX] = copy_of(env);
	}
}

static void on_down(struct link *l, enum link_why why, const char *reason, void *arg)
{
	struct fake_slave *s = arg;

	(void)reason;
	s->closed = true;
	s->why = why;
	s->link = NULL;
	link_free(l);
}

static const struct link_ops ops = {.on_up = on_up, .on_msg = on_msg, .on_down = on_down};

void fake_run(unsigned int ms)
{
	struct timeval tv = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};

	event_base_loopexit(fake_base, &tv);
	event_base_loop(fake_base, EVLOOP_NO_EXIT_ON_EMPTY);
}

struct fake_slave *slave_new(int node, bool right_key)
{
	struct sockaddr_in to = {
		.sin_family = AF_INET,
		.sin_port = htons((uint16_t)fm.port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	struct sockaddr_in from = {
		.sin_family = AF_INET,
		.sin_addr.s_addr = htonl(node < 0 ? INADDR_LOOPBACK : 0x7f000101u + (uint32_t)node),
	};
	struct fake_slave *s = calloc(1, sizeof(*s));
	struct bproc_err err;

	s->home = node < 0;
	s->link = link_connect(fake_base, right_key ? ctx : wrong_ctx, &to, &from, &ops, s, &err);
	ck_assert_ptr_nonnull(s->link);
	for (int i = 0; i < 100 && !s->up && !s->closed; i++)
		fake_run(20);
	return s;
}

void slave_free(struct fake_slave *s)
{
	link_free(s->link);
	for (; s->count; s->count--, s->first++)
		bproc__envelope__free_unpacked(s->queue[s->first % QUEUE_MAX], NULL);
	if (s->table)
		bproc__envelope__free_unpacked(s->table, NULL);
	free(s);
}

void slave_send(struct fake_slave *s, const ProtobufCMessage *msg)
{
	ck_assert_ptr_nonnull(s->link);
	ck_assert_int_ge(link_send(s->link, msg), 0);
}

void slave_ask(struct fake_slave *s, const struct slave_question *q)
{
	Bproc__MoveAsk a = BPROC__MOVE_ASK__INIT;
	Bproc__Chain chain = BPROC__CHAIN__INIT, child = chain, *list[2] = {&chain, &child};
	Bproc__Creds creds = BPROC__CREDS__INIT;
	struct chan_cred cred = {.ngroups = 0};
	unsigned char raw[WIRE_CRED_SIZE];
	char comm[] = "sh";

	wire_put_cred(&cred, raw);
	creds.raw = (ProtobufCBinaryData){.len = sizeof(raw), .data = raw};
	chain.pid = q->parent;
	child.pid = q->child;
	child.ppid = q->asker;
	child.child = true;
	child.state = q->child_state;
	chain.comm = child.comm = comm;
	a.req = 5;
	a.kind = q->kind;
	a.node = q->node;
	a.asker_pid = q->asker;
	a.pid = q->pid;
	a.ppid = q->parent;
	a.pgid = q->pgid;
	a.chain = list;
	a.n_chain = q->child ? 2 : 1;
	a.creds = &creds;
	a.uid = q->uid;
	a.again = q->again;
	slave_send(s, &a.base);
}

void slave_hello(struct fake_slave *s, int want_node, unsigned int protocol, const char *init_id)
{
	Bproc__Hello h = BPROC__HELLO__INIT;
	char version[] = "test", arch[] = "x86_64", boot[] = "boot", id[64];

	snprintf(id, sizeof(id), "%s", init_id);
	h.protocol = protocol;
	h.version = version;
	h.want_node = want_node;
	h.arch = arch;
	h.boot_id = boot;
	h.init_id = id;
	h.data_port = 2224;
	slave_send(s, &h.base);
}

struct fake_slave *slave_join(int node, const char *init_id, Bproc__Welcome *ret_welcome)
{
	struct fake_slave *s = slave_new(node, true);
	Bproc__Envelope *env;

	ck_assert(s->up);
	slave_hello(s, node < 0 ? -1 : -3, BPROC_PROTOCOL, init_id);
	env = slave_expect(s, BPROC__ENVELOPE__MSG_WELCOME);
	ck_assert_int_eq(env->welcome->node, node);
	if (ret_welcome)
		*ret_welcome = *env->welcome; /* its numbers: the strings end here */
	bproc__envelope__free_unpacked(env, NULL);
	return s;
}

struct fake_slave *slave_join_empty(int node, const char *init_id)
{
	struct fake_slave *s = slave_join(node, init_id, NULL);
	Bproc__StateEnd end = BPROC__STATE_END__INIT;

	slave_send(s, &end.base);
	return s;
}

Bproc__Envelope *slave_expect(struct fake_slave *s, Bproc__Envelope__MsgCase type)
{
	uint64_t end = now() + 10000;
	Bproc__Envelope *env;

	while (s->count == 0 && !s->closed && now() < end)
		fake_run(5);
	ck_assert_msg(s->count > 0, "no message: %s", s->closed ? "link closed" : "10 s");
	env = s->queue[s->first % QUEUE_MAX];
	s->first++;
	s->count--;
	ck_assert_msg(env->msg_case == type, "got %s, case %d, not case %d", wire_name(env),
		      env->msg_case, type);
	return env;
}

void slave_expect_nothing(struct fake_slave *s, unsigned int ms)
{
	fake_run(ms);
	ck_assert_msg(s->count == 0, "unexpected %s",
		      s->count ? wire_name(s->queue[s->first % QUEUE_MAX]) : "");
	ck_assert(!s->closed);
}

bool slave_closed(struct fake_slave *s, unsigned int ms)
{
	for (uint64_t end = now() + ms; !s->closed && now() < end;)
		fake_run(10);
	return s->closed;
}

const Bproc__Node *slave_node(struct fake_slave *s, int node)
{
	if (s->table)
		for (size_t i = 0; i < s->table->node_table->n_node; i++)
			if (s->table->node_table->node[i]->node == node)
				return s->table->node_table->node[i];
	return NULL;
}

bool slave_sees(struct fake_slave *s, int node, const char *status, unsigned int ms)
{
	const Bproc__Node *n;
	uint64_t end = now() + ms;

	do {
		n = slave_node(s, node);
		if (n && strcmp(n->status, status) == 0)
			return true;
		fake_run(10);
	} while (!s->closed && now() < end);
	return false;
}
