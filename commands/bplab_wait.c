/*
 * `bplab wait`: asks this machine's bpslave for the node table until nodes are
 * in a state, and tells which are not when time is over. Also run by the lab
 * itself before COMMAND.
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <sys/time.h>

#include "bplab.h"
#include "libbproc/local.h"

#define POLL_MS 5

struct want {
	int node[LAB_NODES_MAX];
	int n; /* 0: all nodes */
	const char *state;
};

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* One question to bpslave; its answer in buf, or -errno. */
static int ask(int *sock, void *buf, size_t size)
{
	struct local_hdr h = {.version = LOCAL_VERSION, .type = LOCAL_NODES, .id = 1};
	const struct local_nodes *t = (const void *)((char *)buf + sizeof(h));
	struct timeval limit = {.tv_sec = 1};
	struct sysio_pkt pkt;
	char path[128];
	int r;

	if (*sock < 0) {
		snprintf(path, sizeof(path), "%s/%s", run_dir(), LOCAL_SOCK);
		*sock = unix_connect(path);
		if (*sock < 0)
			return *sock;
		setsockopt(*sock, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	}
	r = pkt_send(*sock, &h, sizeof(h), NULL, 0);
	if (r == 0)
		r = pkt_recv(*sock, buf, size, 0, &pkt);
	if (r == 0) {
		pkt_close(&pkt);
		memcpy(&h, buf, sizeof(h));
		if (pkt.len == 0)
			r = -EPIPE;
		else if (h.err) /* with a text */
			r = -h.err;
		else if (pkt.len < sizeof(h) + sizeof(*t) ||
			 pkt.len != sizeof(h) + sizeof(*t) + t->count * sizeof(t->node[0]))
			r = -EPROTO;
	}
	if (r < 0) {
		close_fd(*sock);
		*sock = -1;
	}
	return r;
}

static const struct local_node *find(const struct local_nodes *t, int node)
{
	for (uint32_t i = 0; i < t->count; i++)
		if (t->node[i].node == node)
			return &t->node[i];
	return NULL;
}

/* Without a link to the master the table is what it was when that was lost. */
static bool is_news(const struct local_nodes *t)
{
	const struct local_node *master = find(t, -1);

	return !master || strncmp(master->status, "unreachable", sizeof(master->status)) != 0;
}

static bool all_there(const struct local_nodes *t, const struct want *w)
{
	if (!is_news(t))
		return false;
	if (w->n == 0)
		for (uint32_t i = 0; i < t->count; i++)
			if (t->node[i].node >= 0 &&
			    strncmp(t->node[i].status, w->state, sizeof(t->node[i].status)))
				return false;
	for (int i = 0; i < w->n; i++) {
		const struct local_node *n = find(t, w->node[i]);

		if (!n || strncmp(n->status, w->state, sizeof(n->status)))
			return false;
	}
	return true;
}

static void say_state(const struct local_node *n, const char *state, int wait_ms)
{
	if (strncmp(n->status, state, sizeof(n->status)))
		lab_warn("%s is '%.16s', not '%s', after %.1f s%s%.100s", lab_name(n->node),
			 n->status, state, wait_ms / 1000.0, n->reason[0] ? ": " : "", n->reason);
}

static void say_missing(const struct local_nodes *t, const struct want *w, int wait_ms)
{
	if (!is_news(t)) {
		lab_warn("this place has no link to the master after %.1f s", wait_ms / 1000.0);
		return;
	}
	for (int i = 0; i < w->n; i++) {
		const struct local_node *n = find(t, w->node[i]);

		if (n)
			say_state(n, w->state, wait_ms);
		else
			lab_warn("%s is not in the node table", lab_name(w->node[i]));
	}
	for (uint32_t i = 0; w->n == 0 && i < t->count; i++)
		if (t->node[i].node >= 0)
			say_state(&t->node[i], w->state, wait_ms);
}

static int wait_for(const struct want *w, int wait_ms)
{
	static union {
		char raw[LOCAL_MSG_MAX];
		struct {
			struct local_hdr h;
			struct local_nodes nodes;
		} a;
	} buf;
	struct timespec nap = {.tv_nsec = POLL_MS * 1000000L};
	int64_t until = now_ms() + wait_ms;
	int sock = -1, r;

	for (;;) {
		r = ask(&sock, &buf, sizeof(buf));
		if (r == 0 && all_there(&buf.a.nodes, w))
			return 0;
		if (now_ms() >= until)
			break;
		nanosleep(&nap, NULL);
	}
	if (r < 0)
		lab_warn("the bpslave of this place does not answer on %s/%s after %.1f s: %s",
			 run_dir(), LOCAL_SOCK, wait_ms / 1000.0, strerror(-r));
	else
		say_missing(&buf.a.nodes, w, wait_ms);
	return 1;
}

static int add_nodes(struct want *w, const char *arg)
{
	int node;

	if (lab_parse_node(arg, &node) < 0 || node < 0) {
		lab_warn("wait: '%s' is no node", arg);
		return -EINVAL;
	}
	if (w->n < LAB_NODES_MAX)
		w->node[w->n++] = node;
	return 0;
}

/* wait [-w SECONDS] [-s STATE] [-n COUNT | NODE...] */
int wait_main(int argc, char **argv)
{
	struct want w = {.state = "up"};
	int wait_ms = LAB_WAIT_MS, c, count = 0;
	double number;
	char buf[16];

	optind = 1;
	while ((c = getopt(argc, argv, "+w:s:n:")) >= 0) {
		if (c == '?' || (c == 'w' && lab_number(optarg, 0, 3600, &number) < 0) ||
		    (c == 'n' && lab_number(optarg, 1, LAB_NODES_MAX, &number) < 0))
			return LAB_EXIT_FAIL;
		if (c == 'w')
			wait_ms = (int)(number * 1000);
		if (c == 's')
			w.state = optarg;
		if (c == 'n')
			count = (int)number;
	}
	for (int i = 0; i < count; i++) {
		snprintf(buf, sizeof(buf), "%d", i);
		if (add_nodes(&w, buf) < 0)
			return LAB_EXIT_FAIL;
	}
	for (; optind < argc; optind++)
		if (add_nodes(&w, argv[optind]) < 0)
			return LAB_EXIT_FAIL;
	return wait_for(&w, wait_ms);
}
