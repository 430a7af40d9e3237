/*
 * What the real processes of a node use up, as its /proc has it at the moment: asked
 * by bpps of any machine's bpslave, answered by the node's own, a page at a time so
 * that nothing else here waits long. What ps shows anybody, no more: /proc/PID/stat
 * and status, and nothing that needs the memory map of a process, for which a reader
 * can be made to wait. Runs in bpslave; doc/wire.md, section 10.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bpslave.h"
#include "include/sys/bproc_common.h"
#include "slaved/procfile.h"

#define ASKS_MAX 1024	    /* questions to other nodes that are not answered */
#define ANSWER_MS 10000	    /* a node that has not answered by then does not */
#define KTHREAD 0x00200000u /* PF_KTHREAD, include/linux/sched.h */

struct stats_ask {
	TAILQ_ENTRY(stats_ask) next;
	uint32_t req, client, id;
	struct local_stats_ask what; /* node: as the cluster counts */
	bool told;
	uint64_t due; /* ms; of one that has been told */
};
static TAILQ_HEAD(, stats_ask) asks = TAILQ_HEAD_INITIALIZER(asks);
static uint32_t nasks, last_req;
static struct event *timer; /* owned */

static union {
	struct local_stats page;
	char room[sizeof(struct local_stats) + LOCAL_STATS_PAGE * sizeof(struct local_stat)];
} out;

/* -- /proc */

/* Of the pid namespace that the cluster's processes here are in. -errno: none. */
static int open_proc(void)
{
	char path[48] = "/proc";
	int fd;

	if (slave.node != HOME_NODE && init_pid() == 0)
		return -ESRCH;
	if (slave.node != HOME_NODE)
		snprintf(path, sizeof(path), "/proc/%d/root/proc", init_pid());
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

static bool parse_stat(char *text, struct local_stat *s)
{
	char *name = strchr(text, '('), *end = strrchr(text, ')'); /* it may hold ") R 1" */
	unsigned long utime, stime;
	unsigned long long start;
	unsigned int flags;
	int64_t us = 1000000 / sysconf(_SC_CLK_TCK), age;

	if (!name || !end || end < name ||
	    sscanf(end + 1,
		   " %c %d %d %d %*d %*d %u %*u %*u %*u %*u %lu %lu %*d %*d %*d %d %u %*d %llu",
		   &s->state, &s->ppid, &s->pgid, &s->sid, &flags, &utime, &stime, &s->nice,
		   &s->threads, &start) != 10 ||
	    (flags & KTHREAD))
		return false;
	*end = '\0';
	snprintf(s->comm, sizeof(s->comm), "%.15s", name + 1);
	age = clock_ns(CLOCK_BOOTTIME) / 1000 - (int64_t)start * us;
	s->cpu_us = (utime + stime) * (uint64_t)us;
	s->age_ms = age > 0 ? (uint64_t)age / 1000 : 0;
	return true;
}

/* In KiB; 0: it has no memory any more. Exact, which that of stat is not since Linux 6.2. */
static uint64_t status_kb(const char *text, const char *name)
{
	const char *p = strstr(text, name);

	return p ? strtoull(p + strlen(name), NULL, 10) : 0;
}

/* False: it has gone, or is none of the cluster's real processes here. */
static bool read_one(int proc, int32_t pid, struct local_stat *ret)
{
	struct local_stat s = {.pid = pid};
	char text[2048];
	const char *uid;

	if (slave.node != HOME_NODE && (pid == 1 || born_is_ghost(pid)))
		return false;
	if (proc_file(proc, pid, "stat", text, sizeof(text)) <= 0 || !parse_stat(text, &s))
		return false;
	/* Just cloned by bpinit, and not yet what it is to be. */
	if (slave.node != HOME_NODE && s.ppid == 1 && strcmp(s.comm, "bpinit") == 0)
		return false;
	if (proc_file(proc, pid, "status", text, sizeof(text)) <= 0)
		return false;
	uid = strstr(text, "\nUid:");
	if (!uid || sscanf(uid + 5, "%u %u", &s.ruid, &s.uid) != 2)
		return false;
	s.vsz_kb = status_kb(text, "\nVmSize:");
	s.rss_kb = status_kb(text, "\nVmRSS:");
	*ret = s;
	return true;
}

/*
 * A page into out. The place in /proc where the next one begins is a number made of that
 * of a process (fs/proc/base.c, proc_pid_readdir), so it is good in another opening too.
 */
static int read_page(int32_t pid, uint64_t at)
{
	int fd = open_proc();
	struct dirent *e;
	DIR *d;

	out.page = (struct local_stats){0};
	if (fd < 0)
		return fd;
	if (pid > 0) {
		out.page.count = read_one(fd, pid, &out.page.stat[0]);
		close_fd(fd);
		return 0;
	}
	d = fdopendir(fd);
	if (!d) {
		close_fd(fd);
		return -ENOMEM;
	}
	if (at > 0)
		seekdir(d, (long)at);
	while (out.page.count < LOCAL_STATS_PAGE && (e = readdir(d))) {
		if (e->d_name[0] < '1' || e->d_name[0] > '9')
			continue;
		out.page.count += read_one(dirfd(d), (int32_t)strtol(e->d_name, NULL, 10),
					   &out.page.stat[out.page.count]);
		out.page.next = (uint64_t)telldir(d);
	}
	if (out.page.count < LOCAL_STATS_PAGE)
		out.page.next = 0;
	closedir(d);
	return 0;
}

/* -- the node that is asked */

static void put_stat(Bproc__Stat *m, struct local_stat *s)
{
	bproc__stat__init(m);
	m->pid = s->pid;
	m->ppid = s->ppid;
	m->pgid = s->pgid;
	m->sid = s->sid;
	m->uid = s->uid;
	m->ruid = s->ruid;
	m->nice = s->nice;
	m->threads = s->threads;
	m->cpu_us = s->cpu_us;
	m->age_ms = s->age_ms;
	m->rss_kb = s->rss_kb;
	m->vsz_kb = s->vsz_kb;
	m->state = (uint8_t)s->state;
	m->comm.data = (uint8_t *)s->comm;
	m->comm.len = strnlen(s->comm, sizeof(s->comm) - 1);
}

void stats_on_ask(const Bproc__StatsAsk *a)
{
	static Bproc__Stat stat[LOCAL_STATS_PAGE], *list[LOCAL_STATS_PAGE];
	Bproc__StatsTell t = BPROC__STATS_TELL__INIT;
	char text[LOCAL_TEXT_MAX];
	int e = read_page(a->pid, a->at);

	t.req = a->req;
	t.from = a->from;
	if (e < 0) {
		snprintf(text, sizeof(text), "node %d: its /proc: %s", slave.node, strerror(-e));
		t.err = (uint32_t)-e;
		t.text = text;
	}
	for (uint32_t i = 0; e == 0 && i < out.page.count; i++) {
		put_stat(&stat[i], &out.page.stat[i]);
		list[i] = &stat[i];
	}
	t.n_stat = e < 0 ? 0 : out.page.count;
	t.stat = list;
	t.next = out.page.next;
	master_send(&t.base);
}

/* -- the machine where it is asked */

static void answer_page(uint32_t client, uint32_t id)
{
	local_answer(client, id, LOCAL_STATS, &out,
		     sizeof(out.page) + out.page.count * sizeof(out.page.stat[0]));
}

static void end_ask(struct stats_ask *k)
{
	TAILQ_REMOVE(&asks, k, next);
	nasks--;
	free(k);
}

static void fail_ask(struct stats_ask *k, int err, const char *what)
{
	char text[LOCAL_TEXT_MAX];

	snprintf(text, sizeof(text), "node %d %s", k->what.node, what);
	local_error(k->client, k->id, LOCAL_STATS, err, text);
	end_ask(k);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct stats_ask *k;

	(void)fd;
	(void)what;
	(void)arg;
	/* All are told in the order in which they came, also those that are told again. */
	while ((k = TAILQ_FIRST(&asks)) && k->told && k->due <= now_ms())
		fail_ask(k, ETIMEDOUT, "has not answered");
	if (k && k->told)
		start_timer(timer, (uint32_t)(k->due - now_ms()) + 1);
}

static void tell(struct stats_ask *k)
{
	Bproc__StatsAsk m = BPROC__STATS_ASK__INIT;

	if (k == TAILQ_FIRST(&asks))
		start_timer(timer, ANSWER_MS);
	k->told = true;
	k->due = now_ms() + ANSWER_MS;
	m.req = k->req;
	m.node = k->what.node;
	m.pid = k->what.pid;
	m.at = k->what.at;
	master_send(&m.base);
}

static struct stats_ask *new_ask(void)
{
	struct stats_ask *k = nasks < ASKS_MAX ? calloc(1, sizeof(*k)) : NULL;

	if (!timer)
		timer = new_timer(on_timer, NULL);
	if (!k || !timer) {
		free(k);
		return NULL;
	}
	nasks++;
	TAILQ_INSERT_TAIL(&asks, k, next);
	return k;
}

void stats_ask(uint32_t client, uint32_t id, const struct local_stats_ask *ask)
{
	int32_t node = ask->node == NODE_SELF ? slave.node : ask->node;
	struct stats_ask *k;
	int e;

	if (node == slave.node) {
		e = read_page(ask->pid, ask->at);
		if (e < 0)
			local_error(client, id, LOCAL_STATS, -e, strerror(-e));
		else
			answer_page(client, id);
		return;
	}
	if (!master_may_come())
		return local_error(client, id, LOCAL_STATS, ENOTCONN, "no link to the master");
	k = new_ask();
	if (!k)
		return local_error(client, id, LOCAL_STATS, EAGAIN, "too many questions at once");
	k->req = ++last_req;
	k->client = client;
	k->id = id;
	k->what = *ask;
	k->what.node = node;
	if (master_is_up())
		tell(k);
}

static void take_stat(struct local_stat *s, const Bproc__Stat *m)
{
	*s = (struct local_stat){.pid = m->pid,
				 .ppid = m->ppid,
				 .pgid = m->pgid,
				 .sid = m->sid,
				 .uid = m->uid,
				 .ruid = m->ruid,
				 .nice = m->nice,
				 .threads = m->threads,
				 .cpu_us = m->cpu_us,
				 .age_ms = m->age_ms,
				 .rss_kb = m->rss_kb,
				 .vsz_kb = m->vsz_kb,
				 .state = (char)m->state};
	if (m->comm.len > 0 && m->comm.len < sizeof(s->comm))
		memcpy(s->comm, m->comm.data, m->comm.len);
}

void stats_on_tell(const Bproc__StatsTell *t)
{
	struct stats_ask *k;

	TAILQ_FOREACH(k, &asks, next)
	if (k->req == t->req)
		break;
	if (!k || t->n_stat > LOCAL_STATS_PAGE)
		return;
	if (t->err) {
		local_error(k->client, k->id, LOCAL_STATS, (int)t->err, t->text);
		return end_ask(k);
	}
	out.page = (struct local_stats){.count = (uint32_t)t->n_stat, .next = t->next};
	for (size_t i = 0; i < t->n_stat; i++)
		take_stat(&out.page.stat[i], t->stat[i]);
	answer_page(k->client, k->id);
	end_ask(k);
}

void stats_on_table(bool partial)
{
	const struct node_row *r;
	struct stats_ask *k, *more;

	if (partial) /* the master keeps the question for who is to come */
		return;
	for (k = TAILQ_FIRST(&asks); k; k = more) {
		more = TAILQ_NEXT(k, next);
		r = table_find(k->what.node);
		if (!r || strcmp(r->status, "down") == 0 || strcmp(r->status, "unreachable") == 0)
			fail_ask(k, BE_NODEDOWN, "was lost");
	}
}

void stats_link_lost(void)
{
	struct stats_ask *k;

	TAILQ_FOREACH(k, &asks, next)
	k->told = false;
}

void stats_ask_again(void)
{
	struct stats_ask *k;

	TAILQ_FOREACH(k, &asks, next)
	tell(k);
}

void stats_no_master(void)
{
	while (!TAILQ_EMPTY(&asks))
		fail_ask(TAILQ_FIRST(&asks), ENOTCONN, "cannot be asked: no link to the master");
}
