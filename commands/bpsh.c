/*
 * bpsh: run a program on nodes. One child per node, which becomes the program by
 * bproc_execmove(). With one node and no option about output the child simply has
 * bpsh's own stdin, stdout and stderr, so that terminals and job control work as
 * for any child; otherwise pipes, served by bpsh_io.c. bpsh(1).
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/close_range.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <bproc.h>

#include "bpsh.h"
#include "libbproc/ahead.h"

extern char **environ;

static struct job *jobs;
static int njobs;
static bool file_failed; /* of -I, -O or -E; its helper has said why */
/* Shared memory: a child that could not start says so here. */
static struct failure {
	int err;
	char text[160];
} * failed;

static bool is_local(const char *spec)
{
	static const char *const names[] = {"localhost", "n-1", "-1", ".-1", "master"};
	char host[HOST_NAME_MAX + 1] = "";

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strcmp(spec, names[i]) == 0)
			return true;
	gethostname(host, sizeof(host) - 1);
	/* On a node its own name is not the master's: "n0" there means node 0. */
	return strcmp(spec, host) == 0 && bproc_currnode() == BPROC_NODE_MASTER;
}

/* The nodes that an address or a node specification names. */
static void find_nodes(const char *spec, struct bproc_node_set_t *ns)
{
	struct bproc_node_set_t all = BPROC_EMPTY_NODESET;
	struct sockaddr_in a;
	struct in_addr ip;

	if (bproc_nodelist(&all) < 0)
		die(255, bproc_errtext());
	if (inet_pton(AF_INET, spec, &ip) == 1) {
		for (int i = 0; i < all.size; i++) {
			memcpy(&a, &all.node[i].addr, sizeof(a));
			if (a.sin_addr.s_addr == ip.s_addr && bproc_nodeset_add(ns, &all.node[i]))
				die(255, bproc_errtext());
		}
		if (ns->size == 0) {
			fprintf(stderr, "bpsh: no node has the address %s\n", spec);
			exit(255);
		}
	} else if (bproc_nodefilter(ns, &all, spec) < 0) {
		die(255, bproc_errtext());
	}
	bproc_nodeset_free(&all);
	/* Nobody up is nothing to do; a number that there is not is a mistake. */
	if (ns->size == 0 && spec[strcspn(spec, "0123456789")] != '\0') {
		fprintf(stderr, "bpsh: %s: no such node\n", spec);
		exit(255);
	}
}

/* -- signals: from the terminal the children have got them as well, from kill() not */

static volatile sig_atomic_t last_signal;

static void forward(int sig, siginfo_t *si, void *context)
{
	int saved = errno;

	(void)context;
	last_signal = sig;
	if (si->si_code <= 0)
		for (int i = 0; i < njobs; i++)
			if (jobs[i].pid > 0 && !jobs[i].reaped)
				kill(jobs[i].pid, sig);
	errno = saved;
}

static const int forwarded[] = {SIGINT, SIGQUIT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2};
#define NFORWARDED (sizeof(forwarded) / sizeof(forwarded[0]))
static struct sigaction before[NFORWARDED];

static void take_signals(void)
{
	struct sigaction sa = {.sa_sigaction = forward, .sa_flags = SA_SIGINFO | SA_RESTART};

	for (size_t i = 0; i < NFORWARDED; i++) {
		sigaction(forwarded[i], NULL, &before[i]);
		/* nohup and background jobs of a plain sh want it ignored */
		if (before[i].sa_handler != SIG_IGN)
			sigaction(forwarded[i], &sa, NULL);
	}
}

static void give_signals_back(void)
{
	for (size_t i = 0; i < NFORWARDED; i++)
		sigaction(forwarded[i], &before[i], NULL);
}

/* -- starting */

static void null_stdio(int from, int to)
{
	int fd = open("/dev/null", O_RDWR | O_CLOEXEC);

	for (int i = from; i <= to && fd >= 0; i++)
		if (fd != i)
			dup2(fd, i);
}

void shut_from(int fd, unsigned int flags)
{
	syscall(SYS_close_range, fd, ~0u, flags); /* not every libc has the call */
}

/* Becomes the program; comes back if it cannot, and failed[k] says why. */
static void become(const struct options *o, int k)
{
	const char *why;
	char rank[16];

	if (o->no_stdin || o->no_io)
		null_stdio(0, o->no_io ? 2 : 0);
	/* What the shell left open could not go along, and is not meant to. */
	shut_from(3, CLOSE_RANGE_CLOEXEC);
	snprintf(rank, sizeof(rank), "%07d", k);
	setenv("BPROC_RANK", rank, 1);
	setenv("BPROC_PROGNAME", o->path, 1);
	if (jobs[k].node == BPROC_NODE_MASTER) {
		execv(o->path, o->argv);
		why = strerror(errno);
	} else {
		(jobs[k].admits ? bproc_execfirst : bproc_execmove)(jobs[k].node, o->path, o->argv,
								    environ);
		why = bproc_errtext();
	}
	failed[k].err = errno;
	snprintf(failed[k].text, sizeof(failed[k].text), "%s", *why ? why : strerror(errno));
}

static void no_start(int k, const char *what)
{
	failed[k].err = errno;
	snprintf(failed[k].text, sizeof(failed[k].text), "%s: %s", what, strerror(errno));
}

static int pipe_to(int which, int *ret_ours)
{
	int fd[2];

	if (pipe2(fd, O_CLOEXEC) < 0)
		return -1;
	*ret_ours = fd[which == 0];
	return fd[which != 0];
}

static void ended(int k, int status)
{
	jobs[k].reaped = true;
	jobs[k].status = status;
	if (failed[k].err)
		fprintf(stderr, "%d: %s\n", jobs[k].node, failed[k].text);
}

void reap(bool wait)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, wait ? 0 : WNOHANG)) != 0) {
		if (pid < 0 && errno == EINTR)
			continue;
		if (pid < 0)
			return;
		for (int i = 0; i < njobs; i++) {
			if (jobs[i].pid == pid)
				ended(i, status);
			for (int w = 0; w < 3; w++)
				if (jobs[i].helper[w] == pid && status != 0)
					file_failed = true;
		}
	}
}

/* -- the only child, if all that is left to do here is to wait for it */

static struct {
	const struct options *o;
	const sigset_t *mask;
} only;

static int only_child(void *arg)
{
	(void)arg;
	_bproc_cloned();
	give_signals_back();
	sigprocmask(SIG_SETMASK, only.mask, NULL);
	become(only.o, 0);
	_exit(1);
}

/*
 * It shares our memory until it is the program: no page is copied for what is over at once, at
 * the fork or at a write of either. Unlike vfork() it does not suspend us, who have signals to
 * forward and must be able to stop. Until it has executed or ended we only wait; the two write
 * nothing in common but errno, which is nothing to us then.
 */
static pid_t start_only(const struct options *o, const sigset_t *mask)
{
	static char stack[64 << 10] __attribute__((aligned(16)));

	only.o = o;
	only.mask = mask;
	return clone(only_child, stack + sizeof(stack), CLONE_VM | SIGCHLD, NULL);
}

static bool may_share(const struct options *o, const struct job *j, bool pipes)
{
	return njobs == 1 && !pipes && j->admits && !o->file[0] && !o->file[1] && !o->file[2];
}

/* Forks the child of job k. The descriptors it gets are closed here afterwards. */
static void start(const struct options *o, int k, bool pipes, bool pipe_in, const sigset_t *mask)
{
	struct job *j = &jobs[k];
	int io[3] = {-1, -1, -1};

	for (int i = 0; i < 3; i++) {
		if (o->no_io || (i == 0 && o->no_stdin))
			continue;
		if (o->file[i])
			io[i] = file_open(o, j, i);
		else if (i == 0 ? pipe_in : pipes)
			io[i] = pipe_to(i, i == 0 ? &j->in : &j->out[i - 1].fd);
		else
			continue;
		if (io[i] < 0)
			no_start(k, o->file[i] ? o->file[i] : "pipe");
	}
	if (failed[k].err)
		j->pid = -1;
	else
		j->pid = may_share(o, j, pipes) ? start_only(o, mask) : fork();
	if (j->pid == 0) {
		give_signals_back();
		sigprocmask(SIG_SETMASK, mask, NULL);
		for (int i = 0; i < 3; i++)
			if (io[i] >= 0)
				dup2(io[i], i);
		become(o, k);
		_exit(1);
	}
	if (j->pid < 0 && !failed[k].err)
		no_start(k, "fork");
	if (j->pid < 0)
		ended(k, 0);
	for (int i = 0; i < 3; i++)
		if (io[i] >= 0)
			close(io[i]);
}

/* A program that was ended by the signal that bpsh got too: so is bpsh, for its shell to see. */
static void die_like(int sig)
{
	struct rlimit none = {0, 0};
	sigset_t set;

	if (sig != last_signal)
		return;
	sigemptyset(&set);
	sigaddset(&set, sig);
	setrlimit(RLIMIT_CORE, &none); /* it is not bpsh that went wrong */
	signal(sig, SIG_DFL);
	sigprocmask(SIG_UNBLOCK, &set, NULL);
	raise(sig);
}

/* The largest exit status; 255 if one died of a signal, or if none ran at all. */
static int summary(void)
{
	int worst = file_failed, ran = 0, sig;

	for (int i = 0; i < njobs; i++) {
		if (failed[i].err)
			continue;
		ran++;
		if (WIFSIGNALED(jobs[i].status)) {
			sig = WTERMSIG(jobs[i].status);
			die_like(sig);
			worst = 255;
			fprintf(stderr, "%d: %s%s\n", jobs[i].node, strsignal(sig),
				WCOREDUMP(jobs[i].status) ? " (core dumped)" : "");
		} else if (WEXITSTATUS(jobs[i].status) > worst) {
			worst = WEXITSTATUS(jobs[i].status);
		}
	}
	return ran ? worst : 255;
}

static void raise_file_limit(int n)
{
	struct rlimit r;

	if (getrlimit(RLIMIT_NOFILE, &r) < 0 || r.rlim_cur >= 3 * (rlim_t)n + 32)
		return;
	r.rlim_cur = r.rlim_max < 3 * (rlim_t)n + 32 ? r.rlim_max : 3 * (rlim_t)n + 32;
	setrlimit(RLIMIT_NOFILE, &r);
}

/*
 * Will it most likely take us? Then no time is lost with waiting for the master's word. If it
 * refuses after all (the node went down just now), it is not said as well as otherwise.
 */
static bool admits(const struct bproc_node_info_t *n)
{
	if (strcmp(n->status, "up") != 0)
		return false;
	if (geteuid() == 0)
		return true;
	if (n->user == geteuid())
		return n->mode & 0100;
	return n->mode & 0001 && (n->mode & 0010 || n->group != getegid());
}

static int run(const struct options *o, const struct bproc_node_set_t *ns)
{
	bool pipes, pipe_in;
	sigset_t all, mask;

	njobs = ns->size;
	jobs = calloc((size_t)njobs, sizeof(*jobs));
	failed = mmap(NULL, (size_t)njobs * sizeof(*failed), PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (!jobs || failed == MAP_FAILED)
		die(255, "out of memory");
	for (int i = 0; i < njobs; i++) {
		jobs[i] = (struct job){
			.node = ns->node[i].node, .admits = admits(&ns->node[i]), .in = -1};
		jobs[i].out[0] = (struct output){.fd = -1, .to = 1};
		jobs[i].out[1] = (struct output){.fd = -1, .to = 2};
	}
	if (njobs == 1 && o->no_io && !o->time) {
		become(o, 0); /* no fork: nothing is left to do but to be the program */
		ended(0, 0);
		return 255;
	}
	pipes = njobs > 1 || o->lines || o->sequential;
	pipe_in = njobs > 1;
	raise_file_limit(njobs);
	/* A signal goes to all of the children or to none, and never twice. */
	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, &mask);
	take_signals();
	for (int i = 0; i < njobs; i++)
		start(o, i, pipes, pipe_in, &mask);
	sigprocmask(SIG_SETMASK, &mask, NULL);
	if (pipes && io_run(o, jobs, njobs) < 0)
		return 255;
	/* What is left, the connection to bpslave, would be closed while the shell waits. */
	shut_from(3, 0);
	reap(true);
	return summary();
}

/* A descriptor that is made must not become somebody's stdin. */
static void fill_stdio(void)
{
	int fd;

	do {
		fd = open("/dev/null", O_RDWR);
	} while (fd >= 0 && fd < 3);
	close(fd);
}

int main(int argc, char **argv)
{
	struct options o = {.buffer = 4096};
	struct bproc_node_set_t ns = BPROC_EMPTY_NODESET;
	struct timespec t0, t1;
	const char *spec;
	int status;

	clock_gettime(CLOCK_MONOTONIC, &t0);
	fill_stdio();
	spec = parse_options(argc, argv, &o);
	if (!o.argv[0])
		usage(stderr);
	_bproc_ask_nodes();
	o.path = find_program(o.argv[0]);
	if (is_local(spec)) {
		if (bproc_nodeset_init(&ns, 1) < 0)
			die(255, "out of memory");
		ns.node[0].node = BPROC_NODE_MASTER;
	} else {
		find_nodes(spec, &ns);
	}
	if (ns.size == 0) {
		fprintf(stderr, "bpsh: %s: no node is in such a state\n", spec);
		return 0;
	}
	status = run(&o, &ns);
	clock_gettime(CLOCK_MONOTONIC, &t1);
	if (o.time)
		fprintf(stderr, "%.6f\n",
			(double)(t1.tv_sec - t0.tv_sec) + (double)(t1.tv_nsec - t0.tv_nsec) / 1e9);
	return status;
}
