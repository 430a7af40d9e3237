/*
 * The rig of the bpinit tests (bpinit_rig.h). Everything happens in a pid and
 * mount namespace that the test makes for itself, so that nothing of it outlives
 * a test that dies.
 */
#include <errno.h>
#include <linux/sockios.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bpinit_rig.h"
#include "libbproc/local.h"
#include "libbproc/sysio.h"
#include "vmadump/carry.h"

#define KEPT_MAX 64

struct side home = {.sock = -1}, node = {.sock = -1};
static struct {
	struct init_msg m[KEPT_MAX];
	int n;
} kept[2];
static char top[64];
static pid_t rig_pid;

void check_failed(const char *file, int line, const char *what)
{
	fprintf(stderr, "%s:%d: failed: %s (errno %s)\n", file, line, what, strerror(errno));
	_exit(1);
}

static _Noreturn void skip(const char *why)
{
	printf("skipped: %s: %s\n", why, strerror(errno));
	exit(77);
}

static void start_side(struct side *s, const char *name, const char *role)
{
	const char *bpinit = getenv("BPINIT");
	int status;
	pid_t pid;

	snprintf(s->dir, sizeof(s->dir), "%s/%s", top, name);
	CHECK(mkdir(s->dir, 0700) == 0);
	CHECK(bpinit);
	pid = fork();
	if (pid == 0) {
		execl(bpinit, "bpinit", role, "--run-dir", s->dir, NULL);
		_exit(127);
	}
	CHECK(waitpid(pid, &status, 0) == pid);
	CHECK(status == 0);
	side_connect(s);
}

/* The namespace's pid 1 reaps nothing but its child, the test, and ends with it. */
static void enter_namespace(void)
{
	int status;
	pid_t pid;

	if (unshare(CLONE_NEWPID | CLONE_NEWNS) < 0)
		skip("unshare of a pid namespace");
	pid = fork();
	CHECK(pid >= 0);
	if (pid > 0) {
		while (waitpid(pid, &status, 0) < 0)
			;
		exit(WIFEXITED(status) ? WEXITSTATUS(status) : 1);
	}
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	/* The session's leader, so that the test's own group is not an orphaned one. */
	setsid();
	pid = fork();
	CHECK(pid >= 0);
	if (pid > 0) {
		pid_t p;

		while ((p = wait(&status)) != pid)
			if (p < 0 && errno == ECHILD)
				break;
		_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 1);
	}
	CHECK(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0);
	CHECK(mount("proc", "/proc", "proc", 0, NULL) == 0);
}

void rig_start(void)
{
	int empty[2];

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (geteuid() != 0)
		skip("not root");
	close_range(3, ~0u, 0); /* whatever started us: a pipe cannot move */
	enter_namespace();
	/* Something that is forwarded, whatever stdin was: an empty pipe. */
	CHECK(pipe(empty) == 0 && dup2(empty[0], 0) == 0);
	close(empty[0]);
	close(empty[1]);
	rig_pid = getpid();
	setpgid(0, 0);
	strcpy(top, "/tmp/bpinit-XXXXXX");
	CHECK(mkdtemp(top));
	start_side(&home, "home", "--keeper");
	start_side(&node, "node", "--node");
	tell(&node, &(struct init_msg){.type = INIT_LEASE, .u.lease = {.lo = 65536, .hi = 131072}},
	     NULL, 0);
	vmad_prepare();
}

void rig_stop(void)
{
	char cmd[128];

	if (getpid() != rig_pid)
		return;
	snprintf(cmd, sizeof(cmd), "rm -rf %s", top);
	if (system(cmd) != 0)
		printf("%s stays\n", top);
}

void side_connect(struct side *s)
{
	struct init_msg m = {.type = INIT_HELLO, .version = INIT_VERSION};
	char path[128];

	snprintf(path, sizeof(path), "%s/" INIT_SOCK, s->dir);
	s->sock = unix_connect(path);
	CHECK(s->sock >= 0);
	tell(s, &m, NULL, 0);
}

/* What was told before has been read: else it would be lost with the connection. */
void side_drop(struct side *s)
{
	int unread = 1;

	for (int ms = 0; unread && ms < 5000; ms++, usleep(1000))
		CHECK(ioctl(s->sock, SIOCOUTQ, &unread) == 0);
	CHECK(unread == 0);
	s->sock = close_fd(s->sock);
	kept[s == &node].n = 0;
}

void side_forget(struct side *s)
{
	kept[s == &node].n = 0;
}

void tell(struct side *s, const struct init_msg *m, const int *fds, int nfd)
{
	int e = pkt_send(s->sock, m, sizeof(*m), fds, nfd);

	errno = -e;
	CHECK(e == 0);
}

void tell_ack(struct side *s, uint64_t seq)
{
	struct init_msg m = {.type = INIT_ACK};

	m.u.ack.n = 1;
	m.u.ack.seq[0] = seq;
	tell(s, &m, NULL, 0);
}

static bool next_event(struct side *s, struct init_msg *ret, int64_t until)
{
	struct pollfd p = {.fd = s->sock, .events = POLLIN};
	struct sysio_pkt pkt;
	int64_t left = until - now_ms();

	if (poll(&p, 1, left > 0 ? (int)left : 0) <= 0)
		return false;
	CHECK(pkt_recv(s->sock, ret, sizeof(*ret), 0, &pkt) == 0);
	CHECK(pkt.len == sizeof(*ret) && pkt.nfd == 0);
	if (ret->seq) {
		/* What was not acknowledged comes again: not that it is ahead, but for those that
		 * come before the state. */
		if (s->seq > 0 && ret->seq > s->seq + 1 && ret->flags & EVF_NATIVE) {
			s->ahead++;
			return true;
		}
		CHECK(s->seq == 0 || ret->seq <= s->seq + 1 + s->ahead);
		s->seq = ret->seq > s->seq ? ret->seq : s->seq;
	}
	return true;
}

static bool matches(const struct init_msg *m, enum init_type type, int32_t pid)
{
	return m->type == type && (pid == 0 || m->pid == pid);
}

/* One that has come again is the same. */
static void keep(int which, const struct init_msg *m)
{
	for (int i = 0; i < kept[which].n; i++)
		if (m->seq && kept[which].m[i].seq == m->seq)
			return;
	CHECK(kept[which].n < KEPT_MAX);
	kept[which].m[kept[which].n++] = *m;
}

struct init_msg want_at(int line, struct side *s, enum init_type type, int32_t pid)
{
	int64_t until = now_ms() + PATIENCE_MS;
	int which = s == &node;
	struct init_msg m;

	for (int i = 0; i < kept[which].n; i++) {
		if (!matches(&kept[which].m[i], type, pid))
			continue;
		m = kept[which].m[i];
		memmove(&kept[which].m[i], &kept[which].m[i + 1],
			sizeof(m) * (size_t)(--kept[which].n - i));
		return m;
	}
	while (next_event(s, &m, until)) {
		if (matches(&m, type, pid))
			return m;
		if (m.type == EV_FAILED)
			printf("%s: EV_FAILED %d: %s\n", which ? "node" : "home", m.err, m.u.text);
		keep(which, &m);
	}
	printf("%s: no event %d for pid %d; kept:", which ? "node" : "home", type, pid);
	for (int i = 0; i < kept[which].n; i++)
		printf(" %u/%d", kept[which].m[i].type, kept[which].m[i].pid);
	printf("\n");
	check_failed("wanted at", line, "event in time");
}

void want_none_of(struct side *s, enum init_type type, int32_t pid, int ms)
{
	int64_t until = now_ms() + ms;
	int which = s == &node;
	struct init_msg m;

	for (int i = 0; i < kept[which].n; i++)
		CHECK(!matches(&kept[which].m[i], type, pid));
	while (next_event(s, &m, until)) {
		CHECK(!matches(&m, type, pid));
		keep(which, &m);
	}
}
