/*
 * The asker's side of a move (doc/move.md, steps 1 and 9): rfork, move and rexec.
 * The process itself leaves through the blob (vmadump/blob/leave.c); what is here
 * asks for leave, and tells the caller what became of it. execmove is in
 * api_exec.c. In every process that uses the library.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "bproc.h"
#include "libbproc/api.h"
#include "libbproc/client.h"
#include "libbproc/sysio.h"
#include "vmadump/blob/blob.h"
#include "vmadump/carry.h"

#define UNDECIDED_POLL_MIN_MS 10
#define LAST_WORDS_MS 1000 /* a child that was told to end says why within 0.1 ms */
#define UNDECIDED_POLL_MAX_MS 500

/* Numbers 0 to 2 are somebody's stdin, stdout, stderr, even if closed now. */
static int above_stdio(int fd)
{
	int up;

	if (fd < 0 || fd > 2)
		return fd;
	up = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	close_fd(fd);
	return up;
}

int api_start_move(enum move_kind kind, int node, int flags, struct client *c, int *ret_chan)
{
	struct local_move ask = {.kind = kind, .node = node, .flags = (uint32_t)flags};
	cleanup_fd int mine = -1, theirs = -1;
	int ch[2], e;

	if (flags & ~BPROC_DUMP_ALL)
		return bproc_err_set(api_err(), EINVAL, "flags %#x", flags);
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ch) < 0)
		return bproc_err_set(api_err(), errno, "channel: %s", strerror(errno));
	theirs = ch[1];
	mine = above_stdio(ch[0]);
	if (mine < 0)
		return bproc_err_set(api_err(), errno, "channel: %s", strerror(errno));
	e = (kind == MOVE_EXECMOVE ? client_tell : client_begin)(c, LOCAL_MOVE, &ask, sizeof(ask),
								 theirs, api_err());
	if (e < 0)
		return e;
	*ret_chan = take_fd(mine);
	return 0;
}

void api_tell_failure(int chan, uint64_t move_id)
{
	struct chan_msg m = {.type = CHAN_FAILED, .err = api_err()->code, .move_id = move_id};

	memcpy(m.u.text, api_err()->text, sizeof(m.u.text));
	pkt_send(chan, &m, sizeof(m), NULL, 0);
}

bool api_follows(int e, int pid)
{
	const struct timespec nap = {.tv_nsec = FOLLOW_NAP_MS * 1000000};

	if (e != -EINPROGRESS)
		return false;
	for (int i = 0; i < FOLLOW_WAIT_MS / FOLLOW_NAP_MS; i++) {
		/* um: a userfaultfd tells of pages that are not there. */
		if (!has_vm_flag(pid, "um"))
			return true;
		nanosleep(&nap, NULL);
	}
	return false;
}

/* Of a process on a node these may be its forwarded ones: no other program's are let go along. */
static bool has_streams(int pid)
{
	char path[40];
	struct stat st;

	for (int fd = 0; fd < 3; fd++) {
		snprintf(path, sizeof(path), "/proc/%d/fd/%d", pid, fd);
		if (stat(path, &st) == 0 && S_ISFIFO(st.st_mode))
			return true;
	}
	return false;
}

/*
 * Forwarded streams have been cut with the bpslave that carried them: whoever reads there is to see
 * that before it goes anywhere, and its caller that the move has failed.
 */
bool api_again(int e, struct client_mark *m, int pid)
{
	int self, was = errno;
	bool again = client_again(e, m) && api_currnode(&self) == 0 &&
		     (self == BPROC_NODE_MASTER || !has_streams(pid));

	errno = was;
	return again;
}

int api_leave(enum move_kind kind, int flags, int chan, int hide_fd, const void *args, size_t len)
{
	struct blob *b;
	long r;
	int e;

	if (kind != MOVE_RFORK) /* its parent has, just before the fork */
		vmad_prepare();
	b = vmad_blob_map();
	if (!b) {
		e = bproc_err_set(api_err(), errno, "no room for the blob: %s", strerror(errno));
		api_tell_failure(chan, CHAN_NO_MOVE);
		return e;
	}
	b->verb = BLOB_LEAVE;
	b->chan = chan;
	b->exec_kind = kind;
	b->exec_args = (uint64_t)(uintptr_t)args;
	b->exec_len = len;
	b->dump_flags = (uint32_t)flags;
	b->hide_fd[0] = chan;
	b->hide_fd[1] = hide_fd;
	r = vmad_blob_call(b);
	if (r > 0)
		return 0; /* the copy: its blob is unmapped, its channel was left behind */
	if (r == 0)
		r = -EPROTO;
	b->err.text[sizeof(b->err.text) - 1] = '\0';
	bproc_err_set(api_err(), (int)-r, "%s", b->err.text);
	vmad_blob_unmap(b);
	return (int)r;
}

/* -- move and rexec: the caller itself leaves */

static int leave_here(enum move_kind kind, int node, int flags, const void *args, size_t len)
{
	struct vmad_err why = {0};
	struct client c;
	sigset_t all, old;
	int chan, e;

	/* An idle connection must not be in the image; the one in use is hidden. */
	client_close_all();
	if (kind == MOVE_MOVE && vmad_alone(&why) < 0)
		return bproc_err_set(api_err(), why.code, "%s", why.text);
	/* No handler may wait for a child, or make one, when it has been asked what there are. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	e = api_start_move(kind, node, flags, &c, &chan);
	if (e < 0) {
		pthread_sigmask(SIG_SETMASK, &old, NULL);
		return e;
	}
	e = api_leave(kind, flags, chan, c.fd, args, len);
	if (e == 0) {
		/* Here is the node: neither descriptor has come along. */
		client_forget();
	} else {
		/* Why was told on the channel; no answer comes on the connection. */
		client_drop(&c);
		close_fd(chan);
	}
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return e;
}

static int leave(int node, int flags)
{
	int e = -ENOTSUP;

	if (flags & ~(BPROC_DUMP_ALL | BPROC_MOVE_LOCKS))
		return bproc_err_set(api_err(), EINVAL, "flags %#x", flags);
	/* Only from outside it shows whether somebody shares what holds a lock, and what memory is
	 * one and the same: few have that, and it is looked for when it is met. */
	if (!api_has_threads() && !(flags & BPROC_MOVE_LOCKS))
		e = leave_here(MOVE_MOVE, node, flags, NULL, 0);
	return e == -ENOTSUP ? api_leave_threads(node, flags, NULL, 0) : e;
}

int _bproc_move(int node, int flags)
{
	struct client_mark mark;
	int self, e = api_currnode(&self);

	/* As in BProc 4: without BProc, here is the front end. */
	if (node == BPROC_NODE_MASTER && e == -ENOSYS)
		return 0;
	if (e < 0)
		return api_ret(e);
	if (node == self || node == BPROC_NODE_SELF)
		return 0;
	client_mark(&mark);
	do
		e = leave(node, flags);
	while (api_follows(e, getpid()) || api_again(e, &mark, getpid()));
	if (e == -ESTALE) /* see _bproc_rfork */
		e = leave(node, flags);
	return e < 0 ? api_ret(e) : 0;
}

int bproc_move(int node)
{
	return _bproc_move(node, BPROC_DUMP_EXEC | BPROC_DUMP_OTHER);
}

/* dir\0 cmd\0 argc\0 argv..\0 envp..\0 (channel.h), on the heap. 0 or -errno. */
static int argument_block(const char *cmd, char *const argv[], char *const envp[], char **ret_block,
			  size_t *ret_len)
{
	cleanup_free char *dir = getcwd(NULL, 0), *block = NULL;
	size_t len, size;
	char count[12], *p;
	int argc = 0;

	if (!dir)
		return bproc_err_set(api_err(), errno, "current directory: %s", strerror(errno));
	while (argv[argc])
		argc++;
	snprintf(count, sizeof(count), "%d", argc);
	size = strlen(dir) + strlen(cmd) + strlen(count) + 3;
	for (char *const *s = argv; *s; s++)
		size += strlen(*s) + 1;
	for (char *const *s = envp; *s; s++)
		size += strlen(*s) + 1;
	if (size > API_ARGS_MAX)
		return bproc_err_set(api_err(), E2BIG, "%zu bytes of arguments, more than %d", size,
				     API_ARGS_MAX);
	p = block = malloc(size);
	if (!block)
		return bproc_err_set(api_err(), ENOMEM, "no memory for the arguments");
	p = stpcpy(p, dir) + 1;
	p = stpcpy(p, cmd) + 1;
	p = stpcpy(p, count) + 1;
	for (char *const *s = argv; *s; s++)
		p = stpcpy(p, *s) + 1;
	for (char *const *s = envp; *s; s++)
		p = stpcpy(p, *s) + 1;
	len = (size_t)(p - block);
	*ret_block = block;
	block = NULL;
	*ret_len = len;
	return 0;
}

int bproc_rexec(int node, const char *cmd, char *const argv[], char *const envp[])
{
	static char *const none[] = {NULL};
	struct client_mark mark;
	size_t len = 0;
	char *block = NULL;
	int e;

	if (!cmd || !argv)
		return api_ret(bproc_err_set(api_err(), EINVAL, "bproc_rexec: no command"));
	e = argument_block(cmd, argv, envp ? envp : none, &block, &len);
	client_mark(&mark);
	if (e == 0) {
		do
			e = api_has_threads() ? api_leave_threads(node, 0, block, len)
					      : leave_here(MOVE_REXEC, node, 0, block, len);
		while (api_again(e, &mark, getpid()));
	}
	free(block);
	/* To where it is already: as bproc_move(), that succeeds. */
	if (e == -BE_SAMENODE) {
		execve(cmd, argv, envp);
		e = bproc_err_set(api_err(), errno, "%s: %s", cmd, strerror(errno));
	}
	return api_ret(e);
}

/* -- rfork: a child leaves */

/* What a child that could not leave tells its parent on a pipe before it ends. */
struct failure {
	int code;
	char text[BPROC_ERR_TEXT];
};

static int rfork_child(int flags, int chan, int tell, const sigset_t *mask)
{
	struct failure f = {0};
	int e = api_leave(MOVE_RFORK, flags, chan, tell, NULL, 0);

	if (e == 0) {
		client_forget();
		pthread_sigmask(SIG_SETMASK, mask, NULL);
		return 0;
	}
	/* No child exists, so nothing of it may run: no handler, no atexit. */
	f.code = -e;
	memcpy(f.text, api_err()->text, sizeof(f.text));
	write_full(tell, &f, sizeof(f));
	_exit(0);
}

static int read_failure(int told)
{
	struct failure f;

	if (read_full(told, &f, sizeof(f)) < 0 || f.code <= 0)
		return 0;
	f.text[sizeof(f.text) - 1] = '\0';
	return bproc_err_set(api_err(), f.code, "%s", f.text);
}

/*
 * Why there will be no child, of two reasons: what it could not carry, it knows best;
 * the answer may be the target's word on half an image. But a channel that is closed
 * after an answer is no reason.
 */
static int last_words(int told, int e)
{
	struct pollfd p = {.fd = told, .events = POLLIN};
	struct bproc_err answer = *api_err();
	int its = poll(&p, 1, LAST_WORDS_MS) > 0 ? read_failure(told) : 0;

	if (its < 0 && its != -ECONNRESET)
		return its;
	*api_err() = answer;
	return e;
}

/*
 * bpslave has ended before it said what became of the move, which goes on without
 * it: bpinit and the master decide. The child says it if it could not leave;
 * otherwise the table says it, as soon as somebody can be asked again.
 * 0: it has left (or died on the way, as wait() will tell); -errno: it has not.
 */
static int outcome(pid_t child, int node, int told)
{
	struct pollfd p = {.fd = told, .events = POLLIN};
	siginfo_t si;
	int e, at;

	for (int ms = UNDECIDED_POLL_MIN_MS;; ms = ms * 2 < UNDECIDED_POLL_MAX_MS ? ms * 2 : ms) {
		if (poll(&p, 1, ms) > 0) {
			e = read_failure(told);
			if (e < 0)
				return e;
			p.fd = -1; /* end of file: the pipe has no more to say */
		}
		si.si_pid = 0;
		if (waitid(P_PID, (id_t)child, &si, WEXITED | WNOHANG | WNOWAIT) < 0 || si.si_pid)
			return 0;
		/* Not by bproc_pidnode(): its -1 is home's number as well. */
		if (api_pidnode(child, &at) == 0 && at == node)
			return 0;
	}
}

void api_reap(pid_t child)
{
	kill(child, SIGKILL);
	while (waitpid(child, NULL, 0) < 0 && errno == EINTR)
		;
}

static int rfork_once(int node, int flags)
{
	cleanup_fd int told = -1, tell = -1;
	sigset_t all, chld, old;
	struct client c;
	int chan, pipe_fd[2], e;
	pid_t child;

	if (pipe2(pipe_fd, O_CLOEXEC) < 0)
		return api_ret(bproc_err_set(api_err(), errno, "pipe: %s", strerror(errno)));
	told = pipe_fd[0];
	tell = above_stdio(pipe_fd[1]);
	e = api_start_move(MOVE_RFORK, node, flags, &c, &chan);
	if (e < 0)
		return api_ret(e);

	vmad_prepare(); /* once here instead of in every child */
	/* No handler may run in a child that may turn out not to exist. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	child = fork();
	if (child == 0) {
		told = close_fd(told);
		return rfork_child(flags, chan, take_fd(tell), &old);
	}
	if (child < 0) {
		e = bproc_err_set(api_err(), errno, "fork: %s", strerror(errno));
		api_tell_failure(chan, CHAN_NO_MOVE);
		close_fd(chan);
		client_drop(&c);
		pthread_sigmask(SIG_SETMASK, &old, NULL);
		return api_ret(e);
	}
	client_add(&c, LOCAL_MOVE_CHILD, &(struct local_pid){child}, sizeof(struct local_pid));
	close_fd(chan);
	tell = close_fd(tell);
	/* The parent serves its signals; SIGCHLD waits, since the child may be unmade. */
	chld = old;
	sigaddset(&chld, SIGCHLD);
	pthread_sigmask(SIG_SETMASK, &chld, NULL);
	e = client_finish(&c, NULL, 0, api_err());
	if (e == -ECONNRESET)
		e = outcome(child, node, told);
	if (e < 0) {
		e = last_words(told, e);
		api_reap(child);
	}
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return e < 0 ? api_ret(e) : child;
}

/*
 * ESTALE: the node had this program's file and has another one by now. The
 * daemon knows it since then; the second image holds the whole program.
 */
int _bproc_rfork(int node, int flags)
{
	struct client_mark mark;
	int r;

	client_mark(&mark);
	do
		r = rfork_once(node, flags);
	while (r < 0 && api_again(-errno, &mark, getpid()));
	return r < 0 && errno == ESTALE ? rfork_once(node, flags) : r;
}

int bproc_rfork(int node)
{
	return _bproc_rfork(node, BPROC_DUMP_EXEC | BPROC_DUMP_OTHER);
}
