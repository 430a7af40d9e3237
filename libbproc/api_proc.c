/*
 * Which processes run where. Questions go to this machine's bpslave, which asks
 * the master if it does not know. In every process that uses the library;
 * bproc_proclist(3).
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bproc.h"
#include "libbproc/api.h"
#include "libbproc/client.h"

#define SETTLE_NAP_NS 2000000
#define SETTLE_NAPS 1000

/* One page of a list is appended to *list. Number of entries in it, or -errno. */
static int add_page(const struct local_procs_ask *ask, struct bproc_proc_info_t **list, int *n)
{
	struct bproc_proc_info_t *grown;
	const struct local_procs *page;
	struct client_answer ans;
	int count, e = client_ask(LOCAL_PROCS, ask, sizeof(*ask), &ans, api_err());

	if (e < 0)
		return e;
	page = (const struct local_procs *)ans.data;
	if (ans.len < sizeof(*page) || page->count > LOCAL_PROCS_PAGE ||
	    ans.len != sizeof(*page) + page->count * sizeof(page->proc[0])) {
		client_answer_free(&ans);
		return bproc_err_set(api_err(), EPROTO,
				     "process list of wrong length from bpslave");
	}
	count = (int)page->count;
	if (count > 0) {
		grown = realloc(*list, (size_t)(*n + count) * sizeof(**list));
		if (!grown) {
			client_answer_free(&ans);
			return bproc_err_set(api_err(), ENOMEM, "no memory for the process list");
		}
		*list = grown;
		for (int i = 0; i < count; i++)
			grown[(*n)++] = (struct bproc_proc_info_t){.pid = page->proc[i].pid,
								   .node = page->proc[i].node};
	}
	client_answer_free(&ans);
	return count;
}

static int by_pid(const void *a, const void *b)
{
	const struct bproc_proc_info_t *x = a, *y = b;

	return (x->pid > y->pid) - (x->pid < y->pid);
}

int bproc_proclist(int node, struct bproc_proc_info_t **list)
{
	struct local_procs_ask ask = {.node = node};
	struct bproc_proc_info_t *l = NULL;
	int e, n = 0;

	if (!list)
		return api_ret(bproc_err_set(api_err(), EINVAL, "bproc_proclist: no list"));
	if (node == BPROC_NODE_SELF) {
		e = api_currnode(&ask.node);
		if (e < 0)
			return api_ret(e);
	}
	do {
		if (n > 0)
			ask.first = (uint32_t)l[n - 1].pid;
		e = add_page(&ask, &l, &n);
		if (e < 0) {
			free(l);
			return api_ret(e);
		}
		/* Pages follow each other by pid: the last one is the highest so far. */
		if (e > 0)
			qsort(l + n - e, (size_t)e, sizeof(*l), by_pid);
	} while (e == LOCAL_PROCS_PAGE);
	*list = l;
	return n;
}

int api_ask_pid(enum local_type type, int pid, void *ret, size_t len)
{
	struct local_pid ask = {.pid = pid};
	struct client_answer ans;
	int e = client_ask(type, &ask, sizeof(ask), &ans, api_err());

	if (e < 0)
		return e;
	if (ans.len != len)
		e = bproc_err_set(api_err(), EPROTO, "answer of wrong length from bpslave");
	else
		memcpy(ret, ans.data, len);
	client_answer_free(&ans);
	return e;
}

static int ask_where(int pid, struct local_pidnode *ret)
{
	int e = api_ask_pid(LOCAL_PIDNODE, pid, ret, sizeof(*ret));

	if (e < 0)
		return e;
	if (ret->node == BPROC_NODE_NONE)
		return bproc_err_set(api_err(), BE_INVALIDPROC,
				     "pid %d: no such process in the cluster", pid);
	return 0;
}

int api_pidnode(int pid, int *ret_node)
{
	struct local_pidnode is;
	int e = ask_where(pid, &is);

	if (e < 0)
		return e;
	*ret_node = is.node;
	return 0;
}

int api_settled(int pid, int *ret_node)
{
	const struct timespec nap = {.tv_nsec = SETTLE_NAP_NS};
	struct local_pidnode is;
	int e = ask_where(pid, &is);

	for (int i = 0; e == 0 && is.settling && i < SETTLE_NAPS; i++) {
		nanosleep(&nap, NULL);
		e = ask_where(pid, &is);
	}
	if (e < 0)
		return e;
	*ret_node = is.node;
	return 0;
}

int bproc_pidnode(int pid)
{
	int node, was = errno, e = api_pidnode(pid, &node);

	if (e < 0)
		return api_ret(e);
	errno = was; /* that alone tells home's -1 from a failure */
	return node;
}

/* -- what they use up */

static int by_stat_pid(const void *a, const void *b)
{
	const struct bproc_procstat_t *x = a, *y = b;

	return (x->pid > y->pid) - (x->pid < y->pid);
}

static struct bproc_procstat_t stat_of(const struct local_stat *s, int node)
{
	struct bproc_procstat_t r = {.node = node,
				     .pid = s->pid,
				     .ppid = s->ppid,
				     .pgid = s->pgid,
				     .sid = s->sid,
				     .uid = s->uid,
				     .ruid = s->ruid,
				     .nice = s->nice,
				     .threads = s->threads,
				     .cpu_us = s->cpu_us,
				     .age_ms = s->age_ms,
				     .rss_kb = s->rss_kb,
				     .vsz_kb = s->vsz_kb,
				     .state = s->state};

	memcpy(r.comm, s->comm, sizeof(r.comm) - 1);
	return r;
}

/* One page is appended, ask->at is where the next one begins. 0 or -errno. */
static int add_stats(struct local_stats_ask *ask, struct bproc_procstat_t **list, int *n)
{
	struct bproc_procstat_t *grown;
	const struct local_stats *page;
	struct client_answer ans;
	int e = client_ask(LOCAL_STATS, ask, sizeof(*ask), &ans, api_err());

	if (e < 0)
		return e;
	page = (const struct local_stats *)ans.data;
	if (ans.len < sizeof(*page) || page->count > LOCAL_STATS_PAGE ||
	    ans.len != sizeof(*page) + page->count * sizeof(page->stat[0])) {
		client_answer_free(&ans);
		return bproc_err_set(api_err(), EPROTO,
				     "process list of wrong length from bpslave");
	}
	grown = page->count ? realloc(*list, ((size_t)*n + page->count) * sizeof(**list)) : *list;
	if (page->count && !grown) {
		client_answer_free(&ans);
		return bproc_err_set(api_err(), ENOMEM, "no memory for the process list");
	}
	*list = grown;
	for (uint32_t i = 0; i < page->count; i++)
		grown[(*n)++] = stat_of(&page->stat[i], ask->node);
	/* Pages go upwards: one that does not is not asked for again and again. */
	e = page->next > ask->at || page->next == 0;
	ask->at = page->next;
	client_answer_free(&ans);
	return e ? 0 : bproc_err_set(api_err(), EPROTO, "pages of processes that do not end");
}

int bproc_procstat(int node, int pid, struct bproc_procstat_t **list)
{
	struct local_stats_ask ask = {.node = node, .pid = pid};
	struct bproc_procstat_t *l = NULL;
	int e = 0, n = 0;

	if (!list || pid < 0)
		return api_ret(bproc_err_set(api_err(), EINVAL, "bproc_procstat: %s",
					     list ? "pid below 0" : "no list"));
	if (node == BPROC_NODE_SELF)
		e = api_currnode(&ask.node);
	do {
		if (e == 0)
			e = add_stats(&ask, &l, &n);
	} while (e == 0 && ask.at > 0);
	if (e < 0) {
		free(l);
		return api_ret(e);
	}
	if (n > 1)
		qsort(l, (size_t)n, sizeof(*l), by_stat_pid);
	*list = l;
	return n;
}
