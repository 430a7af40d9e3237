/*
 * bproc_move() and bproc_rexec() of a process that has several threads, or locks. In every process
 * that uses the library. A thread cannot park the others: so the process is moved from outside
 * (vmadump/away.c), by a helper of its own that is nobody's child when it comes to that. What
 * becomes of the move the calling thread sees in its memory, since a descriptor that it shared with
 * the helper could not go along.
 */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "bproc.h"
#include "libbproc/api.h"
#include "libbproc/err.h"
#include "libbproc/sysio.h"
#include "vmadump/carry.h"

#define LOOK_NS 1000000		 /* a process that stays looks so often whether it was refused */
#define HELPER_STACK (1ul << 20) /* of who makes the helper, and in a copy the helper's own */

/* Written by the helper from outside. */
struct word {
	uint32_t state;
	int32_t code;
	char text[BPROC_ERR_TEXT];
};
enum { WAITING, GONE, REFUSED };

/* Where to and how; what it needs lies in the memory of both. */
struct leave {
	pid_t pid;
	int node, flags;
	const void *args; /* of bproc_rexec(), len bytes; or NULL */
	size_t len;
	struct word *w;
};

bool api_has_threads(void)
{
	struct stat st;

	/* A directory for each. */
	return stat("/proc/self/task", &st) == 0 && st.st_nlink > 3;
}

static void write_there(pid_t pid, const void *what, void *to, size_t n)
{
	struct iovec l = {(void *)(uintptr_t)what, n}, r = {to, n};

	/* If it has ended there is nobody to be told. */
	if (process_vm_writev(pid, &l, 1, &r, 1, 0) < 0)
		return;
}

static int send_off(const struct leave *l, int conn, struct vmad_err *err)
{
	if (l->args)
		return vmad_leave_exec(l->pid, conn, l->node, (uint64_t)(uintptr_t)l->args, l->len,
				       err);
	return vmad_leave_marked(l->pid, conn, l->node, (unsigned)l->flags,
				 (uint64_t)(uintptr_t)&l->w->state, GONE, err);
}

/* The helper: no handler of the program runs in it, and it keeps nothing of its files open. */
static _Noreturn void help(const struct leave *l, int gate)
{
	struct vmad_err err = {0};
	struct word *w = l->w;
	pid_t self = getpid(), pid = l->pid;
	char go;
	int conn;

	dup2(gate, 3);
	syscall(SYS_close_range, 4u, ~0u, 0u);
	if (write(3, &self, sizeof(self)) != (ssize_t)sizeof(self) || read(3, &go, 1) != 0)
		_exit(1);
	close(3);
	conn = api_look_filters(pid, l->args			      ? LOCAL_LOOK_EXEC
				     : l->flags & BPROC_MOVE_LOCKS ? LOCAL_LOOK_LOCKS
								   : 0);
	if (conn == 0)
		conn = client_connect(api_err());
	if (conn >= 0 && send_off(l, conn, &err) == 0)
		_exit(0);
	if (conn >= 0)
		bproc_err_set(api_err(), err.code ? err.code : EIO, "%s", err.text);
	w->code = api_err()->code;
	memcpy(w->text, api_err()->text, sizeof(w->text));
	write_there(pid, &w->code, &w->code, sizeof(*w) - offsetof(struct word, code));
	w->state = REFUSED;
	write_there(pid, &w->state, &w->state, sizeof(w->state));
	_exit(0);
}

/* What start() shares with who is to make the helper, in its memory. */
struct maker {
	const struct leave *l;
	int gate;
	pid_t helper; /* -errno: why there is none */
};

/*
 * In our memory, while we wait for it to end. fork() as we would have called it, and so malloc()'s
 * locks and the like are as they have to be in the helper, whatever other threads do.
 */
static int make_helper(void *arg)
{
	struct maker *m = arg;

	m->helper = fork();
	if (m->helper == 0)
		help(m->l, m->gate);
	if (m->helper < 0)
		m->helper = -errno;
	return 0;
}

/*
 * A child of ours would have to be known where we go; an orphan has not. And the end of who makes
 * it is nobody's business but ours: with no exit signal the program hears of none, nor do its
 * threads that wait for any child.
 */
static int clone_maker(struct maker *m)
{
	char *stack = mmap(NULL, HELPER_STACK, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
	pid_t pid;
	int e;

	if (stack == MAP_FAILED)
		return -errno;
	pid = clone(make_helper, stack + HELPER_STACK, CLONE_VM | CLONE_VFORK, m);
	e = pid < 0 ? -errno : 0;
	/* A thread that waits for any child with __WALL may be the one to get it. */
	while (e == 0 && waitpid(pid, NULL, __WCLONE) < 0 && errno == EINTR)
		;
	munmap(stack, HELPER_STACK);
	return e < 0 ? e : m->helper < 0 ? m->helper : 0;
}

/* Its pid, and that it may begin when *ret_gate is closed. */
static pid_t start(const struct leave *l, int *ret_gate)
{
	cleanup_fd int mine = -1, its = -1;
	struct maker m = {.l = l};
	pid_t helper;
	int end[2], e;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, end) < 0)
		return bproc_err_set(api_err(), errno, "a pair of sockets: %s", strerror(errno));
	mine = end[0];
	its = m.gate = end[1];
	e = clone_maker(&m);
	if (e < 0)
		return bproc_err_set(api_err(), -e, "a process that moves this one: %s",
				     strerror(-e));
	its = close_fd(its);
	if (read_full(mine, &helper, sizeof(helper)) < 0)
		return bproc_err_set(api_err(), EAGAIN, "no process to move this one");
	*ret_gate = take_fd(mine);
	return helper;
}

static int is_it_there(int node)
{
	int now, e = api_currnode(&now);

	if (e < 0)
		return e;
	return now == node ? 0
			   : bproc_err_set(api_err(), EIO,
					   "the process that was to move this one was killed");
}

static int await(struct word *w, pid_t helper, int node)
{
	const struct timespec nap = {.tv_nsec = LOOK_NS};

	for (;;) {
		int ended = kill(helper, 0) < 0 && errno == ESRCH;
		uint32_t state = __atomic_load_n(&w->state, __ATOMIC_ACQUIRE);

		if (state == GONE || (state == WAITING && ended))
			return is_it_there(node);
		if (state == REFUSED)
			return bproc_err_set(api_err(), w->code, "%.*s", BPROC_ERR_TEXT - 1,
					     w->text);
		nanosleep(&nap, NULL);
	}
}

int api_leave_threads(int node, int flags, const void *args, size_t len)
{
	struct word w = {.state = WAITING};
	const struct leave l = {getpid(), node, flags, args, len, &w};
	sigset_t all, old;
	int gate = -1, e;
	pid_t helper;

	/* An idle connection must not be in the image. */
	client_close_all();
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old); /* the helper is born so */
	helper = start(&l, &gate);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (helper < 0)
		return helper;
	prctl(PR_SET_PTRACER, (unsigned long)helper, 0, 0, 0); /* where Yama asks for it */
	close_fd(gate);
	e = await(&w, helper, node);
	if (e < 0)
		prctl(PR_SET_PTRACER, 0ul, 0, 0, 0);
	return e;
}
