/*
 * Sets of nodes, and the text that names some of them (syntax: bpstat(1)). Local:
 * nothing is asked, except for "master". In every process that uses the library;
 * bproc_nodeset(3).
 */
#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "bproc.h"
#include "libbproc/client.h"

#define GROW_BY 64 /* nodes: most clusters need one allocation */

static int no_memory(int size)
{
	return api_ret(bproc_err_set(api_err(), ENOMEM, "no memory for %d nodes", size));
}

int bproc_nodeset_init(struct bproc_node_set_t *ns, int size)
{
	*ns = (struct bproc_node_set_t)BPROC_EMPTY_NODESET;
	if (size <= 0)
		return 0;
	ns->node = calloc((size_t)size, sizeof(*ns->node));
	if (!ns->node)
		return no_memory(size);
	ns->size = ns->alloc = size;
	return 0;
}

int bproc_nodeset_grow(struct bproc_node_set_t *ns, int size)
{
	struct bproc_node_info_t *grown;

	if (size <= ns->alloc)
		return 0;
	if (size > INT_MAX - GROW_BY)
		return no_memory(size);
	size = (size + GROW_BY - 1) / GROW_BY * GROW_BY;
	grown = realloc(ns->node, (size_t)size * sizeof(*grown));
	if (!grown)
		return no_memory(size);
	ns->node = grown;
	ns->alloc = size;
	return 0;
}

void bproc_nodeset_free(struct bproc_node_set_t *ns)
{
	free(ns->node);
	*ns = (struct bproc_node_set_t)BPROC_EMPTY_NODESET;
}

int bproc_nodeset_add(struct bproc_node_set_t *ns, struct bproc_node_info_t *n)
{
	if (ns->size == INT_MAX)
		return no_memory(ns->size);
	/* Twice as many when it is full, so that n additions cost n, not n squared. */
	if (ns->size == ns->alloc &&
	    bproc_nodeset_grow(ns, ns->size < INT_MAX / 2 ? ns->size * 2 + 1 : ns->size + 1) < 0)
		return -1;
	ns->node[ns->size++] = *n;
	return 0;
}

int bproc_nodeset_append(struct bproc_node_set_t *a, struct bproc_node_set_t *b)
{
	int n = b->size;

	if (n <= 0)
		return 0;
	if (a->size > INT_MAX - n)
		return no_memory(INT_MAX);
	if (bproc_nodeset_grow(a, a->size + n) < 0)
		return -1;
	memcpy(a->node + a->size, b->node, (size_t)n * sizeof(*a->node));
	a->size += n;
	return 0;
}

/* What one item of the list names. */
struct item {
	enum { RANGE, STATE, MASTER } kind;
	long lo, hi;
	bool invert;
	const char *state; /* not NUL-terminated */
	size_t len;
};

/* A node number with its optional n or dot; false if it is none. */
static bool number(const char **s, const char *end, long *ret)
{
	const char *p = *s;
	char *after;
	long v;

	if (p < end && (*p == 'n' || *p == '.'))
		p++;
	if (p >= end || !isdigit((unsigned char)*p))
		return false;
	errno = 0;
	v = strtol(p, &after, 0);
	if (errno || after > end)
		return false;
	*s = after;
	*ret = v;
	return true;
}

static bool is_name(const char *s, size_t len)
{
	if (len == 0 || len > BPROC_STATE_LEN || !isalpha((unsigned char)s[0]))
		return false;
	for (size_t i = 0; i < len; i++)
		if (!isalnum((unsigned char)s[i]) && s[i] != '_')
			return false;
	return true;
}

static bool drop_prefix(const char **s, const char *end, const char *prefix)
{
	size_t n = strlen(prefix);

	/* Something has to be left: "all" alone is not a prefix of a state. */
	if ((size_t)(end - *s) <= n || strncmp(*s, prefix, n) != 0)
		return false;
	*s += n;
	return true;
}

static bool parse_item(const char *s, const char *end, struct item *ret)
{
	size_t len = (size_t)(end - s);
	struct item it = {.kind = RANGE, .lo = 0, .hi = LONG_MAX};

	if (len == 3 && memcmp(s, "all", 3) == 0) {
		*ret = it;
		return true;
	}
	if ((len == 6 && memcmp(s, "master", 6) == 0) || (len == 2 && memcmp(s, "-1", 2) == 0)) {
		*ret = (struct item){.kind = MASTER};
		return true;
	}
	if (number(&s, end, &it.lo)) {
		it.hi = it.lo;
		if (s < end && *s == '-') {
			s++;
			it.hi = LONG_MAX;
			if (s < end && !number(&s, end, &it.hi))
				return false;
		}
		*ret = it;
		return s == end;
	}
	it.kind = STATE;
	drop_prefix(&s, end, "all");
	it.invert = drop_prefix(&s, end, "not");
	it.state = s;
	it.len = (size_t)(end - s);
	*ret = it;
	return is_name(it.state, it.len);
}

static bool matches(const struct item *it, const struct bproc_node_info_t *n)
{
	if (it->kind == RANGE)
		return n->node >= it->lo && n->node <= it->hi;
	return it->invert !=
	       (strlen(n->status) == it->len && memcmp(n->status, it->state, it->len) == 0);
}

static int add_item(struct bproc_node_set_t *out, const struct bproc_node_set_t *in,
		    const struct item *it)
{
	struct bproc_node_info_t master;

	if (it->kind == MASTER) {
		for (int i = 0; i < in->size; i++)
			if (in->node[i].node == BPROC_NODE_MASTER)
				return bproc_nodeset_add(out, &in->node[i]);
		if (bproc_nodeinfo(BPROC_NODE_MASTER, &master) < 0)
			return -1;
		return bproc_nodeset_add(out, &master);
	}
	for (int i = 0; i < in->size; i++)
		if (matches(it, &in->node[i]) && bproc_nodeset_add(out, &in->node[i]) < 0)
			return -1;
	return 0;
}

int bproc_nodefilter(struct bproc_node_set_t *out, struct bproc_node_set_t *in, const char *str)
{
	struct bproc_node_set_t found = BPROC_EMPTY_NODESET;
	const char *s = str, *end;
	struct item it;

	for (;;) {
		end = strchrnul(s, ',');
		if (!parse_item(s, end, &it)) {
			bproc_nodeset_free(&found);
			return api_ret(bproc_err_set(api_err(), EINVAL, "\"%.*s\" names no nodes",
						     (int)(end - s), s));
		}
		if (add_item(&found, in, &it) < 0) {
			bproc_nodeset_free(&found);
			return -1;
		}
		if (*end == '\0')
			break;
		s = end + 1;
	}
	*out = found;
	return 0;
}

int bproc_nodespec(struct bproc_node_set_t *ns, const char *str)
{
	struct bproc_node_set_t all = BPROC_EMPTY_NODESET;
	int ret;

	if (bproc_nodelist(&all) < 0)
		return -1;
	ret = bproc_nodefilter(ns, &all, str);
	bproc_nodeset_free(&all);
	return ret;
}
