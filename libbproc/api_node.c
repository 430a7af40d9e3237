/*
 * What nodes there are, and setting what they are. Questions go to this machine's
 * bpslave, which keeps a replica of the master's node table; changes it passes on.
 * In every process that uses the library; bproc_nodelist(3), bproc_access(3).
 */
#include <errno.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bproc.h"
#include "libbproc/ahead.h"
#include "libbproc/api.h"
#include "libbproc/client.h"

static struct client ahead; /* a question that has been sent */
static pid_t ahead_of;	    /* by this process; 0: there is none */

void _bproc_ask_nodes(void)
{
	struct bproc_err err;

	if (client_begin(&ahead, LOCAL_NODES, NULL, 0, -1, &err) == 0)
		ahead_of = getpid();
}

static int ask(struct client_answer *ans)
{
	bool asked = ahead_of && ahead_of == getpid();

	if (ahead_of)
		ahead_of = 0;
	if (asked && client_finish(&ahead, ans, 1, api_err()) == 0)
		return 0;
	return client_ask(LOCAL_NODES, NULL, 0, ans, api_err());
}

/* The node table; owned by ans, which is to be freed on success. 0 or -errno. */
static int ask_nodes(struct client_answer *ans, const struct local_nodes **ret_nodes)
{
	const struct local_nodes *t;
	int e = ask(ans);

	*ret_nodes = NULL;
	if (e < 0)
		return e;
	t = (const struct local_nodes *)ans->data;
	if (ans->len < sizeof(*t) || t->count > LOCAL_NODES_MAX ||
	    ans->len != sizeof(*t) + t->count * sizeof(t->node[0])) {
		client_answer_free(ans);
		return bproc_err_set(api_err(), EPROTO, "node table of wrong length from bpslave");
	}
	*ret_nodes = t;
	return 0;
}

static int no_such_node(int node)
{
	return bproc_err_set(api_err(), BE_INVALIDNODE, "node %d: no such node", node);
}

/* One node's row, by any number a caller may use. 0 or -errno. */
static int ask_node(int node, struct local_node *ret_node)
{
	struct client_answer ans;
	const struct local_nodes *t;
	int e = ask_nodes(&ans, &t);

	if (e < 0)
		return e;
	if (node == BPROC_NODE_SELF)
		node = t->self;
	e = no_such_node(node);
	for (uint32_t i = 0; i < t->count; i++) {
		if (t->node[i].node != node)
			continue;
		*ret_node = t->node[i];
		ret_node->status[sizeof(ret_node->status) - 1] = '\0';
		ret_node->reason[sizeof(ret_node->reason) - 1] = '\0';
		e = 0;
		break;
	}
	if (e < 0 && node == BPROC_NODE_MASTER) {
		/* The front end need not be in the table: it is up while it answers. */
		*ret_node = (struct local_node){.node = node, .mode = 0111, .status = "up"};
		e = 0;
	}
	client_answer_free(&ans);
	return e;
}

static void to_info(const struct local_node *n, struct bproc_node_info_t *ret_info)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = n->addr_be};

	*ret_info = (struct bproc_node_info_t){
		.node = n->node, .mode = n->mode, .user = n->uid, .group = n->gid};
	memcpy(ret_info->status, n->status, BPROC_STATE_LEN);
	memcpy(&ret_info->addr, &a, sizeof(a));
}

int bproc_numnodes(void)
{
	struct client_answer ans;
	const struct local_nodes *t;
	int n = 0, e = ask_nodes(&ans, &t);

	if (e < 0)
		return api_ret(e);
	for (uint32_t i = 0; i < t->count; i++)
		n += t->node[i].node >= 0;
	client_answer_free(&ans);
	return n;
}

int api_currnode(int *ret_node)
{
	struct client_answer ans;
	const struct local_nodes *t;
	int e = ask_nodes(&ans, &t);

	if (e < 0)
		return e;
	*ret_node = t->self;
	client_answer_free(&ans);
	return 0;
}

int bproc_currnode(void)
{
	int node, e = api_currnode(&node);

	return e < 0 ? api_ret(e) : node;
}

int bproc_nodestatus(int node, char *status, int len)
{
	struct local_node n;
	int e, l;

	if (!status || len < 0)
		return api_ret(bproc_err_set(api_err(), EINVAL, "bproc_nodestatus: no buffer"));
	e = ask_node(node, &n);
	if (e < 0)
		return api_ret(e);
	l = (int)strlen(n.status);
	if (l > len)
		l = len;
	memcpy(status, n.status, (size_t)l);
	if (l < len)
		status[l] = '\0';
	return l;
}

int bproc_nodereason(int node, char *reason, int len)
{
	struct local_node n;
	size_t l, part;
	int e;

	if (len < 0 || (!reason && len > 0))
		return api_ret(bproc_err_set(api_err(), EINVAL, "bproc_nodereason: no buffer"));
	e = ask_node(node, &n);
	if (e < 0)
		return api_ret(e);
	l = strlen(n.reason);
	if (len > 0) {
		part = l < (size_t)len ? l : (size_t)len - 1;
		memcpy(reason, n.reason, part);
		reason[part] = '\0';
	}
	return (int)l;
}

int bproc_nodeinfo(int node, struct bproc_node_info_t *info)
{
	struct local_node n;
	int e;

	if (!info)
		return api_ret(bproc_err_set(api_err(), EINVAL, "bproc_nodeinfo: no structure"));
	e = ask_node(node, &n);
	if (e < 0)
		return api_ret(e);
	to_info(&n, info);
	return 0;
}

static int by_number(const void *a, const void *b)
{
	const struct bproc_node_info_t *x = a, *y = b;

	return (x->node > y->node) - (x->node < y->node);
}

int bproc_nodelist(struct bproc_node_set_t *ns)
{
	struct bproc_node_set_t all = BPROC_EMPTY_NODESET;
	struct client_answer ans;
	const struct local_nodes *t;
	int e;

	if (!ns)
		return api_ret(bproc_err_set(api_err(), EINVAL, "bproc_nodelist: no set"));
	e = ask_nodes(&ans, &t);
	if (e < 0)
		return api_ret(e);
	if (bproc_nodeset_grow(&all, (int)t->count) < 0) {
		client_answer_free(&ans);
		return -1;
	}
	for (uint32_t i = 0; i < t->count; i++)
		if (t->node[i].node >= 0)
			to_info(&t->node[i], &all.node[all.size++]);
	client_answer_free(&ans);
	if (all.size > 1)
		qsort(all.node, (size_t)all.size, sizeof(*all.node), by_number);
	*ns = all;
	return all.size;
}

int bproc_nodeaddr(int node, struct sockaddr *s, int *size)
{
	struct sockaddr_in a = {.sin_family = AF_INET};
	struct local_node n;
	int e;

	if (!s || !size || *size < 0)
		return api_ret(bproc_err_set(api_err(), EINVAL, "bproc_nodeaddr: no buffer"));
	e = ask_node(node, &n);
	if (e < 0)
		return api_ret(e);
	if (n.addr_be == 0)
		return api_ret(bproc_err_set(api_err(), BE_NODEDOWN, "node %d has never connected",
					     n.node));
	a.sin_addr.s_addr = n.addr_be;
	memcpy(s, &a, *size < (int)sizeof(a) ? (size_t)*size : sizeof(a));
	*size = sizeof(a);
	return 0;
}

static int in_group(gid_t gid)
{
	int n = getgroups(0, NULL), found = getegid() == gid;
	gid_t *list;

	if (found || n <= 0)
		return found;
	list = malloc((size_t)n * sizeof(*list));
	n = list ? getgroups(n, list) : 0;
	for (int i = 0; i < n; i++)
		found |= list[i] == gid;
	free(list);
	return found;
}

int bproc_access(int node, int mode)
{
	struct local_node n;
	unsigned int bit;
	int e;

	if (mode != BPROC_X_OK)
		return api_ret(bproc_err_set(api_err(), EINVAL, "bproc_access: mode %d", mode));
	e = ask_node(node, &n);
	if (e < 0)
		return api_ret(e);
	if (n.node == BPROC_NODE_MASTER)
		return 0;
	if (geteuid() == 0)
		bit = 0111;
	else if (geteuid() == n.uid)
		bit = 0100;
	else if (in_group(n.gid))
		bit = 0010;
	else
		bit = 0001;
	if (n.mode & bit)
		return 0;
	return api_ret(bproc_err_set(api_err(), EACCES, "node %d: no permission (mode %#o)", n.node,
				     n.mode));
}

static int set_node(int node, enum local_setnode_what what, uint32_t value, const char *status)
{
	struct local_setnode ask = {.node = node, .what = what, .value = value};
	struct client_answer ans;
	int e;

	if (status)
		memcpy(ask.status, status, strnlen(status, BPROC_STATE_LEN));
	if (node == BPROC_NODE_SELF) {
		e = api_currnode(&ask.node);
		if (e < 0)
			return api_ret(e);
	}
	/* Each of them sets a value: done twice is done once, so a repeat is safe. */
	e = client_ask(LOCAL_SETNODE, &ask, sizeof(ask), &ans, api_err());
	if (e < 0)
		return api_ret(e);
	client_answer_free(&ans);
	return 0;
}

int bproc_chmod(int node, int mode)
{
	if (mode & ~0111)
		return api_ret(bproc_err_set(api_err(), EINVAL,
					     "mode %#o: a node has execute bits only", mode));
	return set_node(node, SETNODE_MODE, (uint32_t)mode, NULL);
}

int bproc_chown(int node, int user)
{
	return set_node(node, SETNODE_UID, (uint32_t)user, NULL);
}

int bproc_chgrp(int node, int group)
{
	return set_node(node, SETNODE_GID, (uint32_t)group, NULL);
}

int bproc_nodesetstatus(int node, char *status)
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
	static const char more[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				   "0123456789_";

	if (!status || !*status || !strchr(letters, *status) ||
	    status[strspn(status, more)] != '\0')
		return api_ret(bproc_err_set(api_err(), EINVAL, "\"%.40s\" is no name of a state",
					     status ? status : ""));
	if (strlen(status) > BPROC_STATE_LEN)
		return api_ret(bproc_err_set(api_err(), ENOSPC,
					     "state \"%.40s\" has more than %d characters", status,
					     BPROC_STATE_LEN));
	return set_node(node, SETNODE_STATUS, 0, status);
}
