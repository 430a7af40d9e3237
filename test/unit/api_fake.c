/*
 * The synthetic bpslave (api_fake.h). Runs as a child of the test.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "api_fake.h"
#include "libbproc/local.h"
#include "libbproc/sysio.h"
#include "vmadump/blob/channel.h"

#define NO_PID 5000000 /* above PID_MAX_LIMIT: bpps finds nobody of that number here */

static char dir[64];
static pid_t child = -1;
static int seen_fd = -1;
static int apart; /* no test will remove the directory */

static void saw(int fd, int what)
{
	unsigned char c = (unsigned char)what;

	if (write(fd, &c, 1) != 1)
		_exit(3);
}

static void answer(int sock, const struct local_hdr *ask, int err, const void *payload, size_t len)
{
	static char pkt[LOCAL_MSG_MAX];
	struct local_hdr h = {.version = LOCAL_VERSION,
			      .type = ask->type,
			      .id = ask->id,
			      .err = err,
			      .len = (uint32_t)len};

	memcpy(pkt, &h, sizeof(h));
	if (len > 0)
		memcpy(pkt + sizeof(h), payload, len);
	pkt_send(sock, pkt, sizeof(h) + len, NULL, 0);
}

static void refuse(int sock, const struct local_hdr *ask, const struct fake *f)
{
	char text[LOCAL_TEXT_MAX] = "";

	snprintf(text, sizeof(text), "%s", f->text ? f->text : "");
	answer(sock, ask, f->err, text, sizeof(text));
}

/* Node 0 up, 1 down, 2 up with other permissions, 3 error; further ones up. Last first. */
static size_t node_table(const struct fake *f, char *buf)
{
	static const char *const state[] = {"up", "down", "up", "error"};
	struct local_nodes *t = (struct local_nodes *)buf;
	int n = f->nnodes ? f->nnodes : 4;

	t->self = f->self;
	t->count = (uint32_t)n + 1;
	for (int i = 0; i <= n; i++) {
		struct local_node *d = &t->node[n - i];
		int k = i - 1;

		*d = (struct local_node){.node = k,
					 .mode = k == 1	  ? 0
						 : k == 2 ? 0010
							  : 0111,
					 .uid = k == 2 ? 1 : 0,
					 .gid = k == 2 ? 7 : 0,
					 .addr_be = k == 1 ? 0 : htonl(0x0a000001u + (uint32_t)k)};
		strcpy(d->status, k >= 0 && k < 4 ? state[k] : "up");
		if (k == 1)
			strcpy(d->reason, "wrong key");
	}
	return sizeof(*t) + t->count * sizeof(t->node[0]);
}

static size_t proc_page(const struct fake *f, const struct local_procs_ask *ask, char *buf)
{
	struct local_procs *t = (struct local_procs *)buf;

	t->count = 0;
	for (int i = 0; i < f->nprocs && t->count < LOCAL_PROCS_PAGE; i++) {
		struct local_proc p = {.pid = 1000 + i, .node = i % 3};

		if (p.pid > (int)ask->first && (ask->node == -4 || ask->node == p.node))
			t->proc[t->count++] = p;
	}
	return sizeof(*t) + t->count * sizeof(t->proc[0]);
}

/* Pid i of node n: 128 n + i, of users 0 and 1 in turn; two pages of node 0, one of others. */
static size_t stat_page(const struct local_stats_ask *ask, char *buf)
{
	struct local_stats *t = (struct local_stats *)buf;
	int n = ask->node == 0 ? 130 : 2;

	*t = (struct local_stats){0};
	for (int i = (int)ask->at; i < n && t->count < LOCAL_STATS_PAGE; i++) {
		struct local_stat s = {.pid = NO_PID + ask->node * 200 + 1000 + i,
				       .ppid = 1,
				       .uid = (uint32_t)i % 2,
				       .threads = 1,
				       .cpu_us = 3661500000,
				       .age_ms = 7323000,
				       .rss_kb = 1234,
				       .vsz_kb = 5678,
				       .state = 'S',
				       .comm = "na\nme"};

		t->next = (uint64_t)i + 1;
		if (ask->pid == 0 || ask->pid == s.pid)
			t->stat[t->count++] = s;
	}
	if (t->count < LOCAL_STATS_PAGE)
		t->next = 0;
	return sizeof(*t) + t->count * sizeof(t->stat[0]);
}

static void answer_move(int sock, const struct local_hdr *ask, int chan, const struct fake *f,
			int seen)
{
	struct chan_msg m;
	struct sysio_pkt pkt;

	if (f->how == FAKE_REFUSE)
		return; /* answered already */
	if (pkt_recv(chan, &m, sizeof(m), 0, &pkt) < 0 || pkt.len == 0)
		return;
	saw(seen, 0x80 | (int)m.type);
	m = (struct chan_msg){.type = f->how == FAKE_GO ? CHAN_GO : CHAN_ABORT, .err = f->err};
	snprintf(m.u.text, sizeof(m.u.text), "%s", f->text ? f->text : "");
	pkt_send(chan, &m, sizeof(m), NULL, 0);
	if (f->how == FAKE_ABORT_BOTH)
		refuse(sock, ask, f);
	while (pkt_recv(chan, &m, sizeof(m), 0, &pkt) == 0 && pkt.len > 0)
		saw(seen, 0x80 | (int)m.type);
}

static void answer_well(int sock, const struct local_hdr *ask, const char *payload,
			const struct fake *f, size_t cut)
{
	static char buf[LOCAL_MSG_MAX];
	struct local_pidnode pn = {0};
	struct local_pid pid;
	size_t len = 0;

	switch (ask->type) {
	case LOCAL_NODES:
		len = node_table(f, buf);
		break;
	case LOCAL_PROCS:
		len = proc_page(f, (const struct local_procs_ask *)payload, buf);
		break;
	case LOCAL_STATS:
		len = stat_page((const struct local_stats_ask *)payload, buf);
		break;
	case LOCAL_PIDNODE:
		memcpy(&pid, payload, sizeof(pid));
		pn.node = (pid.pid >= 1000 && pid.pid < 2000) || pid.pid > NO_PID ? 2
			  : pid.pid == 1					  ? -1
										  : -3;
		memcpy(buf, &pn, len = sizeof(pn));
		break;
	case LOCAL_VERSION_ASK:
		len = strlen(strcpy(buf, "9.8.7")) + 1;
		break;
	}
	answer(sock, ask, 0, buf, len - (len < cut ? len : cut));
}

static void remove_dir(void)
{
	char path[96];

	snprintf(path, sizeof(path), "%s/%s", dir, LOCAL_SOCK);
	unlink(path);
	rmdir(dir);
}

/* A channel whose other end has outlived a bpslave, as bpinit keeps it: for three questions. */
static void keep_channel(int fd)
{
	static int kept = -1, asked;

	if (fd >= 0)
		kept = fd;
	else if (kept >= 0 && ++asked == 3)
		close(kept);
}

/* False: this connection is over. */
static int serve_one(int sock, struct fake *f, int seen)
{
	static char buf[LOCAL_MSG_MAX];
	struct local_hdr *ask = (struct local_hdr *)buf, bad;
	struct sysio_pkt pkt;
	int hit;

	if (pkt_recv(sock, buf, sizeof(buf), 0, &pkt) < 0 || pkt.len < sizeof(*ask))
		return 0;
	saw(seen, ask->type);
	hit = f->type == 0 || f->type == ask->type;
	if (hit && f->how == FAKE_DIE) {
		if (apart)
			remove_dir();
		_exit(0);
	}
	if (hit && f->how == FAKE_DIE_ONCE) {
		f->how = FAKE_ANSWER;
		keep_channel(pkt.nfd ? pkt.fd[0] : -1);
		return 0;
	}
	if (ask->type == LOCAL_PIDNODE)
		keep_channel(-1);
	bad = *ask;
	if (hit && f->how == FAKE_REFUSE) {
		refuse(sock, ask, f);
	} else if (hit && f->how == FAKE_WRONG_VERSION) {
		bad.version = LOCAL_VERSION + 1;
		bad.len = 0;
		pkt_send(sock, &bad, sizeof(bad), NULL, 0);
	} else if (hit && f->how == FAKE_WRONG_LEN) {
		bad.len = 7;
		pkt_send(sock, &bad, sizeof(bad), NULL, 0);
	} else if (hit && f->how == FAKE_STALE_FIRST) {
		bad.id--;
		answer(sock, &bad, 42, "not for you", 12);
		answer_well(sock, ask, buf + sizeof(*ask), f, 0);
	} else if (ask->type != LOCAL_MOVE) {
		answer_well(sock, ask, buf + sizeof(*ask), f, hit && f->how == FAKE_CUT ? 3 : 0);
	}
	if (ask->type == LOCAL_MOVE && pkt.nfd == 1)
		answer_move(sock, ask, pkt.fd[0], f, seen);
	pkt_close(&pkt);
	return 1;
}

/* Ends with the process of the pidfd life, however that does. */
static _Noreturn void serve(int lsock, struct fake f, int seen, int life)
{
	struct pollfd p[64] = {{.fd = lsock, .events = POLLIN}, {.fd = life, .events = POLLIN}};
	nfds_t n = 2;

	signal(SIGPIPE, SIG_IGN);
	for (;;) {
		poll(p, n, -1);
		if (p[1].revents) {
			remove_dir();
			_exit(0);
		}
		for (nfds_t i = n - 1; i > 1; i--) {
			if (p[i].revents && !serve_one(p[i].fd, &f, seen)) {
				close(p[i].fd);
				p[i] = p[--n];
			}
		}
		if (p[0].revents && n < 64) /* the test has no more connections than that */
			p[n++] = (struct pollfd){.fd = accept(lsock, NULL, NULL), .events = POLLIN};
	}
}

void fake_run_dir(void)
{
	snprintf(dir, sizeof(dir), "/tmp/bproc-api.XXXXXX");
	if (!mkdtemp(dir))
		abort();
	chmod(dir, 0755);
	setenv("BPROC_RUN_DIR", dir, 1);
}

void fake_restart(const struct fake *f)
{
	char path[96];
	int lsock, fd[2];

	snprintf(path, sizeof(path), "%s/%s", dir, LOCAL_SOCK);
	lsock = unix_listen(path, 0666);
	if (lsock < 0 || pipe(fd) < 0)
		abort();
	child = fork();
	if (child == 0) {
		close(fd[0]);
		serve(lsock, *f, fd[1], -1);
	}
	close(lsock);
	close(fd[1]);
	close_fd(seen_fd);
	seen_fd = fd[0];
}

void fake_start(const struct fake *f)
{
	fake_run_dir();
	fake_restart(f);
}

void fake_start_apart(const struct fake *f)
{
	char path[96];
	int lsock, life;
	pid_t pid;

	fake_run_dir();
	snprintf(path, sizeof(path), "%s/%s", dir, LOCAL_SOCK);
	lsock = unix_listen(path, 0666);
	/* A pipe would be something open in the test that cannot move. */
	life = (int)syscall(SYS_pidfd_open, getpid(), 0);
	if (lsock < 0 || life < 0)
		abort();
	pid = fork();
	if (pid == 0) {
		if (fork() > 0)
			_exit(0);
		apart = 1;
		serve(lsock, *f, open("/dev/null", O_WRONLY), life);
	}
	waitpid(pid, NULL, 0);
	close(lsock);
	close(life);
}

void fake_stop(void)
{
	if (child > 0) {
		kill(child, SIGKILL);
		waitpid(child, NULL, 0);
		child = -1;
	}
	remove_dir();
}

int fake_seen(unsigned char *buf, int len)
{
	struct pollfd p = {.fd = seen_fd, .events = POLLIN};
	int n = 0;

	while (n < len && poll(&p, 1, 5000) > 0 && read(seen_fd, buf + n, 1) == 1)
		n++;
	return n;
}

int fake_wait(pid_t pid)
{
	int status;

	while (waitpid(pid, &status, 0) < 0)
		;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
