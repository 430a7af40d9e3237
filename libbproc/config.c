/*
 * Parser of the configuration file (config.h, bproc.conf(5)). One table of
 * keywords, one function each; whatever is not in the table is refused. Runs in
 * bpmaster.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config.h"
#include "keyfile.h"
#include "log.h"
#include "sysio.h"

#define FILE_MAX (1u << 20)
#define LINE_MAX_BYTES 4096u
#define WORDS_MAX 256

struct parse {
	const char *path;
	unsigned int line;
	struct config c;
	int32_t next_node; /* numbering continues from the last line */
	unsigned int nodes_line;
	unsigned int alloc;
	uint32_t seen; /* bit per keyword */
	struct bproc_err *err;
};

/* The compiler is to see that it is negative. */
#define FAIL(p, ...) (fail(p, EINVAL, __VA_ARGS__), -EINVAL)
static int fail(struct parse *p, int code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
static int fail(struct parse *p, int code, const char *fmt, ...)
{
	char text[BPROC_ERR_TEXT];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	return bproc_err_set(p->err, code, "%s:%u: %s", p->path, p->line, text);
}

static int number(struct parse *p, const char *s, long min, long max, long *ret_v)
{
	char *end;
	long v;

	errno = 0;
	v = strtol(s, &end, 10);
	if (*s < '0' || *s > '9' || *end || errno || v < min || v > max)
		return FAIL(p, "'%s' is not a number from %ld to %ld", s, min, max);
	*ret_v = v;
	return 0;
}

static int yes_no(struct parse *p, const char *s, bool *ret_v)
{
	if (strcmp(s, "yes") != 0 && strcmp(s, "no") != 0)
		return FAIL(p, "'%s' is neither yes nor no", s);
	*ret_v = s[0] == 'y';
	return 0;
}

static int path(struct parse *p, const char *s, char *ret_path)
{
	if (s[0] != '/' || strlen(s) >= CONFIG_PATH_MAX)
		return FAIL(p, "'%s' is not an absolute path of less than %d bytes", s,
			    CONFIG_PATH_MAX);
	strcpy(ret_path, s);
	return 0;
}

static int address(struct parse *p, const char *s, uint32_t *ret_addr)
{
	struct in_addr a;

	if (inet_pton(AF_INET, s, &a) != 1 || a.s_addr == 0)
		return FAIL(p, "'%s' is not an IPv4 address", s);
	*ret_addr = ntohl(a.s_addr);
	return 0;
}

static int add_node(struct parse *p, int32_t node, uint32_t addr)
{
	struct config *c = &p->c;
	struct config_node *v;

	if (node > CONFIG_NODE_NUM_MAX)
		return FAIL(p, "node number %d is over %d", node, CONFIG_NODE_NUM_MAX);
	for (uint32_t i = 0; i < c->count; i++) {
		if (c->node[i].node == node)
			return FAIL(p, "node %d has an address already", node);
		if (c->node[i].addr == addr)
			return FAIL(p, "this address is node %d already", c->node[i].node);
	}
	if (c->count == CONFIG_NODES_MAX)
		return FAIL(p, "more than %d nodes", CONFIG_NODES_MAX);
	if (c->count == p->alloc) {
		v = realloc(c->node, (p->alloc + 64) * sizeof(*v));
		if (!v)
			return fail(p, ENOMEM, "no memory");
		c->node = v;
		p->alloc += 64;
	}
	c->node[c->count++] = (struct config_node){.node = node, .addr = addr};
	p->next_node = node + 1;
	return 0;
}

/* "[node]" in front of the addresses: a word without a dot. 1 if it was there. */
static int node_word(struct parse *p, const char *s)
{
	long v;
	int r;

	if (strchr(s, '.'))
		return 0;
	r = number(p, s, 0, CONFIG_NODE_NUM_MAX, &v);
	if (r < 0)
		return r;
	p->next_node = (int32_t)v;
	return 1;
}

static int kw_ip(struct parse *p, int n, char **w)
{
	int i = node_word(p, w[0]), r;
	uint32_t addr = 0;

	if (i < 0)
		return i;
	if (i == n)
		return FAIL(p, "ip: no address");
	for (; i < n; i++) {
		r = address(p, w[i], &addr);
		if (r == 0)
			r = add_node(p, p->next_node, addr);
		if (r < 0)
			return r;
	}
	return 0;
}

static int kw_iprange(struct parse *p, int n, char **w)
{
	int i = node_word(p, w[0]), r;
	uint32_t first = 0, last = 0;

	if (i < 0)
		return i;
	if (n - i != 2)
		return FAIL(p, "iprange: wants [node] first last");
	r = address(p, w[i], &first);
	if (r == 0)
		r = address(p, w[i + 1], &last);
	if (r < 0)
		return r;
	if (last < first || last - first >= CONFIG_NODES_MAX)
		return FAIL(p, "iprange: %s to %s is not a range of 1 to %d addresses", w[i],
			    w[i + 1], CONFIG_NODES_MAX);
	for (uint32_t a = first; r == 0 && a - first <= last - first; a++)
		r = add_node(p, p->next_node, a);
	return r;
}

static int kw_interface(struct parse *p, int n, char **w)
{
	(void)n;
	if (strlen(w[0]) >= sizeof(p->c.interface))
		return FAIL(p, "'%s' is not an interface name", w[0]);
	strcpy(p->c.interface, w[0]);
	return 0;
}

static int port(struct parse *p, const char *s, uint16_t *ret_port)
{
	long v;
	int r = number(p, s, 1, 65535, &v);

	if (r == 0)
		*ret_port = (uint16_t)v;
	return r;
}

static int kw_bprocport(struct parse *p, int n, char **w)
{
	(void)n;
	return port(p, w[0], &p->c.port);
}

static int kw_dataport(struct parse *p, int n, char **w)
{
	(void)n;
	return port(p, w[0], &p->c.data_port);
}

static int kw_pingtimeout(struct parse *p, int n, char **w)
{
	long v;
	int r = number(p, w[0], 2, 3600, &v);

	(void)n;
	if (r == 0)
		p->c.ping_timeout_ms = (uint32_t)v * 1000;
	return r;
}

static int kw_logfacility(struct parse *p, int n, char **w)
{
	int f = log_facility(w[0]);

	(void)n;
	if (f < 0)
		return FAIL(p, "'%s' is not a syslog facility", w[0]);
	p->c.log_facility = f;
	return 0;
}

static int kw_imageencryption(struct parse *p, int n, char **w)
{
	(void)n;
	return yes_no(p, w[0], &p->c.image_encryption);
}

static int kw_eventsource(struct parse *p, int n, char **w)
{
	static const char *const name[] = {"auto", "bpf", "poll"};

	(void)n;
	for (unsigned int i = 0; i < sizeof(name) / sizeof(*name); i++) {
		if (strcmp(w[0], name[i]) != 0)
			continue;
		p->c.event_source = (enum config_events)i;
		return 0;
	}
	return FAIL(p, "'%s' is neither auto nor bpf nor poll", w[0]);
}

static int kw_pidslot(struct parse *p, int n, char **w)
{
	(void)n;
	for (uint32_t s = CONFIG_SLOT_MIN; s <= CONFIG_SLOT_MAX; s *= 2) {
		char text[16];

		snprintf(text, sizeof(text), "%u", s);
		if (strcmp(w[0], text) != 0)
			continue;
		p->c.slot_pids = s;
		return 0;
	}
	return FAIL(p, "'%s' is no power of two from %d to %d", w[0], CONFIG_SLOT_MIN,
		    CONFIG_SLOT_MAX);
}

static int kw_killfromnodes(struct parse *p, int n, char **w)
{
	(void)n;
	return yes_no(p, w[0], &p->c.kill_from_nodes);
}

static int kw_keyfile(struct parse *p, int n, char **w)
{
	(void)n;
	return path(p, w[0], p->c.keyfile);
}

static int kw_node_up(struct parse *p, int n, char **w)
{
	(void)n;
	return path(p, w[0], p->c.node_up);
}

static int kw_statedir(struct parse *p, int n, char **w)
{
	(void)n;
	return path(p, w[0], p->c.state_dir);
}

static int kw_nodes(struct parse *p, int n, char **w)
{
	long v;
	int r = number(p, w[0], 1, CONFIG_NODE_NUM_MAX + 1, &v);

	(void)n;
	if (r == 0)
		p->c.nodes_limit = (uint32_t)v;
	p->nodes_line = p->line;
	return r;
}

/* BProc's slaves set the node's clock and mounted a tmpfs; ours do neither. */
static int kw_slave(struct parse *p, int n, char **w)
{
	bool on = false;
	int r = yes_no(p, w[1], &on);

	(void)n;
	if (r < 0)
		return r;
	if (strcmp(w[0], "timesync") != 0 && strcmp(w[0], "privatefs") != 0)
		return FAIL(p, "slave: '%s' is neither timesync nor privatefs", w[0]);
	return on ? FAIL(p, "slave %s yes: not done by this version", w[0]) : 0;
}

static const struct {
	const char *name;
	int min, max; /* words after it */
	bool many;
	int (*fn)(struct parse *p, int n, char **w);
} keyword[] = {
	{"bprocport", 1, 1, false, kw_bprocport},
	{"dataport", 1, 1, false, kw_dataport},
	{"eventsource", 1, 1, false, kw_eventsource},
	{"imageencryption", 1, 1, false, kw_imageencryption},
	{"interface", 1, 1, false, kw_interface},
	{"ip", 1, WORDS_MAX, true, kw_ip},
	{"iprange", 2, 3, true, kw_iprange},
	{"keyfile", 1, 1, false, kw_keyfile},
	{"killfromnodes", 1, 1, false, kw_killfromnodes},
	{"logfacility", 1, 1, false, kw_logfacility},
	{"node_up", 1, 1, false, kw_node_up},
	{"nodes", 1, 1, false, kw_nodes},
	{"pidslot", 1, 1, false, kw_pidslot},
	{"pingtimeout", 1, 1, false, kw_pingtimeout},
	{"slave", 2, 2, true, kw_slave},
	{"statedir", 1, 1, false, kw_statedir},
};

/* Words of BProc 4 and beoboot that an old file may have: refused with the reason. */
static const struct {
	const char *name, *why;
} old_word[] = {
	{"allowinsecureports", "not needed: slaves are admitted by the cluster key"},
	{"bootfile", "beoboot's: not part of this system"},
	{"libraries", "beoboot's: not part of this system"},
	{"librariesfrombinary", "beoboot's: not part of this system"},
	{"master", "a slave has one master in this version, its command line names it"},
	{"node", "beoboot's: not part of this system"},
	{"slavetimesync", "write: slave timesync no"},
};

static int keyword_line(struct parse *p, int n, char **w)
{
	for (size_t i = 0; i < sizeof(keyword) / sizeof(*keyword); i++) {
		if (strcmp(keyword[i].name, w[0]) != 0)
			continue;
		if (n - 1 < keyword[i].min || n - 1 > keyword[i].max)
			return FAIL(p, "%s: %d words after it, wants %s%d", w[0], n - 1,
				    keyword[i].min == keyword[i].max ? "" : "at least ",
				    keyword[i].min);
		if (!keyword[i].many && p->seen & 1u << i)
			return FAIL(p, "%s: given a second time", w[0]);
		p->seen |= 1u << i;
		return keyword[i].fn(p, n - 1, w + 1);
	}
	for (size_t i = 0; i < sizeof(old_word) / sizeof(*old_word); i++)
		if (strcmp(old_word[i].name, w[0]) == 0)
			return FAIL(p, "%s: %s", w[0], old_word[i].why);
	return FAIL(p, "unknown keyword '%s'", w[0]);
}

static int text_line(struct parse *p, char *line)
{
	char *w[WORDS_MAX + 2], *save = NULL, *s;
	int n = 0;

	s = strchr(line, '#');
	if (s)
		*s = '\0';
	for (s = strtok_r(line, " \t\r", &save); s; s = strtok_r(NULL, " \t\r", &save)) {
		if (n > WORDS_MAX)
			return FAIL(p, "more than %d words", WORDS_MAX);
		w[n++] = s;
	}
	return n > 0 ? keyword_line(p, n, w) : 0;
}

static int by_number(const void *a, const void *b)
{
	const struct config_node *x = a, *y = b;

	return (x->node > y->node) - (x->node < y->node);
}

static int finish(struct parse *p)
{
	struct config *c = &p->c;

	if (c->count > 0)
		qsort(c->node, c->count, sizeof(*c->node), by_number);
	if (c->nodes_limit && c->count > 0 &&
	    c->node[c->count - 1].node >= (int32_t)c->nodes_limit) {
		p->line = p->nodes_line;
		return FAIL(p, "nodes %u: but there is a node %d", c->nodes_limit,
			    c->node[c->count - 1].node);
	}
	if (c->port == c->data_port)
		return FAIL(p, "bprocport and dataport are both %u", c->port);
	return 0;
}

int config_parse(const char *name, const char *text, size_t len, struct config *ret_config,
		 struct bproc_err *err)
{
	struct parse p = {
		.path = name,
		.err = err,
		.c = {.port = CONFIG_PORT,
		      .data_port = CONFIG_DATA_PORT,
		      .ping_timeout_ms = 30000,
		      .slot_pids = CONFIG_SLOT_MAX,
		      .image_encryption = true,
		      .kill_from_nodes = true,
		      .log_facility = -1,
		      .keyfile = KEY_FILE_DEFAULT},
	};
	char line[LINE_MAX_BYTES + 1];
	const char *end;
	size_t n;
	int r = 0;

	while (r == 0 && len > 0) {
		p.line++;
		end = memchr(text, '\n', len);
		n = end ? (size_t)(end - text) : len;
		if (n > LINE_MAX_BYTES || memchr(text, '\0', n)) {
			r = FAIL(&p, "not a line of text of at most %u bytes", LINE_MAX_BYTES);
			break;
		}
		memcpy(line, text, n);
		line[n] = '\0';
		r = text_line(&p, line);
		text += n + (end != NULL);
		len -= n + (end != NULL);
	}
	if (r == 0)
		r = finish(&p);
	if (r < 0)
		config_free(&p.c);
	else
		*ret_config = p.c;
	return r;
}

int config_load(const char *name, struct config *ret_config, struct bproc_err *err)
{
	cleanup_fd int fd = open(name, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	struct stat st;
	char *text;
	int r;

	if (fd < 0 || fstat(fd, &st) < 0)
		return bproc_err_set(err, errno, "%s: %s", name, strerror(errno));
	if (!S_ISREG(st.st_mode) || st.st_size > (off_t)FILE_MAX)
		return bproc_err_set(err, EINVAL, "%s: not a file of at most 1 MiB", name);
	text = malloc((size_t)st.st_size + 1);
	if (!text)
		return bproc_err_set(err, ENOMEM, "%s: no memory", name);
	r = read_full(fd, text, (size_t)st.st_size);
	if (r < 0)
		bproc_err_set(err, -r, "%s: %s", name, strerror(-r));
	else
		r = config_parse(name, text, (size_t)st.st_size, ret_config, err);
	free(text);
	return r;
}

void config_free(struct config *c)
{
	free(c->node);
	c->node = NULL;
	c->count = 0;
}
