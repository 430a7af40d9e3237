/*
 * Proves: what an image cannot carry is refused by name, with ENOTSUP, and the
 * process goes on; once the thing is gone it can move. Open files without a path go
 * along with what is in them, but not with a child. And big or strange but
 * carriable processes do move. Lab of 2 nodes.
 */
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>

#include "check.h"

static void not_forked(int fd, const char *what)
{
	pid_t pid = bproc_rfork(0);

	CHECK(pid == -1 && errno == ENOTSUP, "rfork with %s", what);
	if (pid == 0)
		_exit(0);
	pid = waitpid(-1, NULL, WNOHANG);
	CHECK(pid == -1 && errno == ECHILD, "a child was left: %d", (int)pid);
	close(fd);
}

static void refused(int fd, const char *what)
{
	char word[32];

	MUST(fd > 2, "%s", what);
	snprintf(word, sizeof(word), "fd %d", fd);
	CHECK(bproc_move(0) == -1 && errno == ENOTSUP, "move with %s", what);
	CHECK(strstr(bproc_errtext(), word), "%s: '%s' does not name %s", what, bproc_errtext(),
	      word);
	CHECK(bproc_currnode() == -1, "where");
	not_forked(fd, what);
}

static void there_and_back(void)
{
	CHECK(bproc_move(0) == 0 && bproc_move(1) == 0 && bproc_move(-1) == 0, "there and back");
}

static void descriptors(void)
{
	struct sockaddr any = {.sa_family = AF_UNIX};
	int s = socket(AF_UNIX, SOCK_STREAM, 0);

	refused(socket(AF_INET, SOCK_DGRAM, 0), "a socket");
	MUST(bind(s, &any, sizeof(sa_family_t)) == 0 && listen(s, 1) == 0, "listen");
	refused(s, "a socket that listens");
	there_and_back();
}

static void objects(void)
{
	struct epoll_event ev = {.events = EPOLLIN, .data.u64 = 77}, seen;
	struct itimerspec soon = {.it_value.tv_nsec = 300000000};
	uint64_t n = 5;
	char buf[8] = "";
	int p[2], e = eventfd(0, 0), set = epoll_create1(0), t = timerfd_create(CLOCK_MONOTONIC, 0);

	MUST(pipe(p) == 0 && write(p[1], "inside", 7) == 7, "pipe");
	MUST(write(e, &n, sizeof(n)) == sizeof(n), "eventfd");
	MUST(epoll_ctl(set, EPOLL_CTL_ADD, t, &ev) == 0, "epoll");
	MUST(timerfd_settime(t, 0, &soon, NULL) == 0, "timerfd");
	there_and_back();
	CHECK(read(p[0], buf, sizeof(buf)) == 7 && !strcmp(buf, "inside"), "in the pipe");
	n = 0;
	CHECK(read(e, &n, sizeof(n)) == sizeof(n) && n == 5, "in the eventfd");
	CHECK(epoll_wait(set, &seen, 1, 20000) == 1 && seen.data.u64 == 77, "in the set");
	CHECK(read(t, &n, sizeof(n)) == sizeof(n) && n == 1, "of the timer");
	close(p[1]);
	not_forked(p[0], "a pipe");
	not_forked(t, "timerfd");
	not_forked(set, "epoll");
	not_forked(e, "eventfd");
}

/* Mapped twice, with a name and without one: it is one memory wherever it is. */
static void twice(void)
{
	int fd = memfd_create("twice", 0);
	char *a, *b, *c, *d;

	MUST(fd >= 0 && ftruncate(fd, 8192) == 0, "memfd");
	a = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	b = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 4096);
	c = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	d = mremap(c, 0, 8192, MREMAP_MAYMOVE);
	MUST(a != MAP_FAILED && b != MAP_FAILED && c != MAP_FAILED && d != MAP_FAILED, "mmap");
	for (int lap = 0; lap < 4; lap++) {
		strcpy(b, "before");
		CHECK(bproc_move(lap % 2 ? -1 : 0) == 0, "memory mapped twice, lap %d", lap);
		CHECK(!strcmp(a + 4096, "before"), "in it, lap %d", lap);
		strcpy(a + 4096, "memfd");
		strcpy(d, "anonymous");
		CHECK(!strcmp(b, "memfd") && !strcmp(c, "anonymous"), "one memory, lap %d", lap);
		CHECK(pwrite(fd, "M", 1, 4096) == 1 && *b == 'M', "and its file, lap %d", lap);
	}
	munmap(a, 8192);
	munmap(b, 4096);
	munmap(c, 8192);
	munmap(d, 8192);
	close(fd);
}

static void *sleeper(void *arg)
{
	for (;;)
		pause();
	return arg;
}

/* What a thread sees of itself while another one has all of them moved. */
static struct {
	pthread_mutex_t lock;
	pthread_cond_t asked, told;
	int wanted, done;
	pid_t tid;
} its = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, PTHREAD_COND_INITIALIZER, 0, 0, 0};

static void *counts(void *arg)
{
	pthread_mutex_lock(&its.lock);
	its.tid = gettid();
	while (its.wanted >= 0) {
		CHECK(gettid() == its.tid, "the thread is %d, it was %d", gettid(), its.tid);
		its.done = its.wanted;
		pthread_cond_signal(&its.told);
		pthread_cond_wait(&its.asked, &its.lock);
	}
	pthread_mutex_unlock(&its.lock);
	return arg;
}

static void ask(int n)
{
	pthread_mutex_lock(&its.lock);
	its.wanted = n;
	pthread_cond_signal(&its.asked);
	while (n >= 0 && its.done != n)
		pthread_cond_wait(&its.told, &its.lock);
	pthread_mutex_unlock(&its.lock);
}

static volatile sig_atomic_t children;

static void on_child(int sig)
{
	(void)sig;
	children++;
}

/* A thread moves all of them; what cannot go is named, and they go on. It has no child by that. */
static void threads(void)
{
	struct sigaction chld = {.sa_handler = on_child};
	pthread_t t, u;
	int fd, n = 0;

	MUST(pthread_create(&t, NULL, sleeper, NULL) == 0, "thread");
	MUST(pthread_create(&u, NULL, counts, NULL) == 0, "thread");
	ask(++n);
	fd = socket(AF_INET, SOCK_DGRAM, 0);
	refused(fd, "a socket, with threads");
	MUST(sigaction(SIGCHLD, &chld, NULL) == 0, "sigaction");
	ask(++n);
	CHECK(bproc_move(77) == -1 && errno == BE_INVALIDNODE, "to no node, with threads");
	CHECK(bproc_currnode() == -1, "where");
	for (int lap = 0; lap < 4; lap++) {
		int to = lap % 2 ? -1 : 0;

		CHECK(bproc_move(to) == 0, "lap %d with threads", lap);
		CHECK(bproc_currnode() == to, "lap %d: where", lap);
		ask(++n);
	}
	CHECK(waitpid(-1, NULL, WNOHANG | __WALL) == -1 && errno == ECHILD, "a child was left");
	CHECK(children == 0, "%d times a SIGCHLD", (int)children);
	signal(SIGCHLD, SIG_DFL);
	ask(-1);
	pthread_join(u, NULL);
	pthread_cancel(t);
	pthread_join(t, NULL);
	CHECK(bproc_move(0) == 0, "without them");
	CHECK(bproc_move(-1) == 0, "home");
}

static unsigned long sum(const unsigned long *v, size_t n)
{
	unsigned long s = 0;

	for (size_t i = 0; i < n; i++)
		s = s * 31 + v[i];
	return s;
}

static void big(void)
{
	size_t n = (200u << 20) / sizeof(unsigned long);
	unsigned long *v = mmap(NULL, n * sizeof(*v), PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
		      before;

	MUST(v != MAP_FAILED, "mmap");
	for (size_t i = 0; i < n; i++)
		v[i] = i * 2654435761u;
	before = sum(v, n);
	CHECK(bproc_move(0) == 0 && sum(v, n) == before, "200 MiB to node 0");
	CHECK(bproc_move(1) == 0 && sum(v, n) == before, "200 MiB to node 1");
	CHECK(bproc_move(-1) == 0 && sum(v, n) == before, "200 MiB home");
	munmap(v, n * sizeof(*v));
}

/* Huge and nearly all of it never touched: must cost nothing. */
static void sparse(void)
{
	size_t size = 1ul << 36;
	char *v = mmap(NULL, size, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	double t0;

	MUST(v != MAP_FAILED, "mmap");
	v[size / 2] = 'm';
	v[size - 1] = 'z';
	t0 = now_s();
	CHECK(bproc_move(1) == 0 && v[size / 2] == 'm' && v[size - 1] == 'z' && v[5] == 0, "there");
	CHECK(bproc_move(-1) == 0 && v[size / 2] == 'm' && v[size - 1] == 'z', "back");
	CHECK(now_s() - t0 < 10, "%.1f s", now_s() - t0);
	munmap(v, size);
}

static void mappings(void)
{
	enum { N = 2000 };
	char *v[N];

	for (int i = 0; i < N; i++) {
		v[i] = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		v[i][0] = (char)i;
		mprotect(v[i] + 4096, 4096, i % 2 ? PROT_NONE : PROT_READ);
	}
	CHECK(bproc_move(0) == 0, "%d mappings", N);
	for (int i = 0; i < N; i++)
		CHECK(v[i][0] == (char)i, "mapping %d", i);
	CHECK(bproc_move(-1) == 0, "home");
	for (int i = 0; i < N; i++)
		munmap(v[i], 8192);
}

static int deep(int n)
{
	char frame[4096];

	memset(frame, n & 127, sizeof(frame));
	if (n == 0)
		return bproc_move(1);
	if (deep(n - 1) != 0)
		return -1;
	return frame[0] == (n & 127) && frame[4095] == (n & 127) ? 0 : -1;
}

static void files(void)
{
	enum { N = 100 };
	char path[PATH_LEN], buf[16], want[16];
	int fd[N], app;
	struct {
		int flags;
		off_t at;
	} f[N];

	tmp_path(path, "odd");
	for (int i = 0; i < N; i++) {
		fd[i] = open(path,
			     O_RDWR | O_CREAT | (i % 3 ? 0 : O_APPEND) | (i % 2 ? O_CLOEXEC : 0),
			     0600);
		f[i].flags = fcntl(fd[i], F_GETFL);
		f[i].at = lseek(fd[i], i * 10, SEEK_SET);
	}
	MUST(fd[N - 1] >= 0, "open");
	app = dup(fd[3]);
	CHECK(bproc_move(0) == 0, "%d files", N);
	for (int i = 0; i < N; i++) {
		CHECK(fcntl(fd[i], F_GETFL) == f[i].flags, "flags of %d", i);
		CHECK(!!(fcntl(fd[i], F_GETFD) & FD_CLOEXEC) == i % 2, "close-on-exec of %d", i);
		CHECK(lseek(fd[i], 0, SEEK_CUR) == f[i].at, "offset of %d", i);
	}
	/* dup'ed: one description, one offset */
	lseek(fd[3], 77, SEEK_SET);
	CHECK(lseek(app, 0, SEEK_CUR) == 77, "two descriptors of one file came apart");
	snprintf(want, sizeof(want), "written");
	CHECK(pwrite(fd[1], want, 8, 0) == 8, "write");
	CHECK(bproc_move(-1) == 0, "home");
	CHECK(pread(fd[2], buf, 8, 0) == 8 && !strcmp(buf, want), "what was written there");
	for (int i = 0; i < N; i++)
		close(fd[i]);
	close(app);
	unlink(path);
}

/* Deleted: there is no path to open it by, so what is in it goes along. */
static void deleted(void)
{
	char path[PATH_LEN], buf[8] = "";
	int fd;

	tmp_path(path, "del");
	fd = open(path, O_RDWR | O_CREAT, 0600);
	unlink(path);
	MUST(write(fd, "content", 8) == 8, "write");
	there_and_back();
	CHECK(pread(fd, buf, 8, 0) == 8 && !strcmp(buf, "content"), "in it");
	CHECK(lseek(fd, 0, SEEK_CUR) == 8, "its offset");
	not_forked(fd, "a deleted file");
}

/* By a process that may set them: else it could say anything, and stays where it is. */
static void securebits(void)
{
	const int keep = SECBIT_NOROOT | SECBIT_NO_CAP_AMBIENT_RAISE;
	struct __user_cap_header_struct head = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct none[2] = {{0}};
	pid_t pid;

	MUST(prctl(PR_SET_SECUREBITS, keep, 0, 0, 0) == 0, "set");
	for (int node = 0; node < 3; node++) {
		CHECK(bproc_move(node < 2 ? node : -1) == 0, "move");
		CHECK(prctl(PR_GET_SECUREBITS, 0, 0, 0, 0) == keep, "%x on node %d",
		      (unsigned)prctl(PR_GET_SECUREBITS, 0, 0, 0, 0), node);
	}
	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		failures = 0;
		MUST(syscall(SYS_capset, &head, none) == 0, "no capabilities");
		CHECK(bproc_move(0) == -1 && errno == EPERM && bproc_currnode() == -1, "it stays");
		CHECK(strstr(bproc_errtext(), "securebits"), "by name");
		_exit(failures);
	}
	CHECK(wait_exit(pid) == 0, "one that may not is refused by name");
	CHECK(prctl(PR_SET_SECUREBITS, 0, 0, 0, 0) == 0, "cleared");
}

int main(void)
{
	descriptors();
	objects();
	deleted();
	twice();
	threads();
	securebits();
	files();
	mappings();
	CHECK(deep(1000) == 0, "a deep stack");
	CHECK(bproc_move(-1) == 0, "home");
	sparse();
	big();
	return finish("odd");
}
