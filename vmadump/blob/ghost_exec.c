/*
 * The arrival of a MOVE_REXEC: no image, but a block of arguments (channel.h) on
 * the data connection; the program is this node's. Success is the end of the
 * channel, which is close-on-exec; failure is told on it.
 */
#include "ghost.h"

#define ARGS_MAX (4ul << 20)
#define STRINGS_MAX 200000
#define DEFAULT_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

struct exec_args {
	const char *dir, *cmd;
	char **argv, **envp;
};

static long read_all(struct blob *b, int fd, void *to, uint64_t n)
{
	char *at = to;

	while (n) {
		long r = sys_read(fd, at, n);

		if (r == -EINTR)
			continue;
		if (r <= 0)
			return blob_err_set(&b->err, r < 0 ? (int)-r : EBADMSG,
					    "arguments were cut short");
		at += r;
		n -= (uint64_t)r;
	}
	return 0;
}

static char *next_string(char **at, const char *end)
{
	char *s = *at, *p = s;

	while (p < end && *p)
		p++;
	if (p >= end)
		return NULL;
	*at = p + 1;
	return s;
}

/* Splits the block, which comes from a peer: nothing in it is believed. */
static long split(struct blob *b, char *block, uint64_t len, struct exec_args *ret)
{
	char *at = block, *end = block + len, *count;
	const char *digits;
	uint64_t argc, n = 0;
	char **v;

	ret->dir = next_string(&at, end);
	ret->cmd = next_string(&at, end);
	count = next_string(&at, end);
	if (!ret->dir || !ret->cmd || !count || !*count)
		return blob_err_set(&b->err, EBADMSG, "arguments are damaged");
	digits = count;
	argc = str_dec(&digits);
	for (char *p = at; p < end; p++)
		n += *p == 0;
	if (*digits || argc > n || n > STRINGS_MAX || (at < end && end[-1]))
		return blob_err_set(&b->err, EBADMSG, "arguments are damaged");
	v = arena_alloc(b, (n + 2) * sizeof *v);
	if (!v)
		return -ENOMEM;
	ret->argv = v;
	for (uint64_t i = 0; i < argc; i++)
		*v++ = next_string(&at, end);
	*v++ = NULL;
	ret->envp = v;
	for (uint64_t i = argc; i < n; i++)
		*v++ = next_string(&at, end);
	return 0;
}

/* Stream i becomes descriptor i; where there is none, /dev/null. */
static void set_streams(struct blob *b, struct chan_pkt *p)
{
	int sock[CHAN_STREAMS];

	chan_streams(p, 1, sock);
	/* Descriptors 0..2 were closed: the kernel may have put ours there. */
	for (int i = 0; i < CHAN_STREAMS; i++)
		if (sock[i] >= 0 && sock[i] < CHAN_STREAMS)
			sock[i] = (int)sys_fcntl(sock[i], F_DUPFD_CLOEXEC, CHAN_STREAMS);
	if (b->chan < CHAN_STREAMS)
		b->chan = (int)sys_fcntl(b->chan, F_DUPFD_CLOEXEC, CHAN_STREAMS);
	for (int i = 0; i < CHAN_STREAMS; i++) {
		int fd = sock[i];

		if (fd < 0 && (p->m.flags & CHAN_ARRIVE_HOME))
			continue; /* its parent's */
		if (fd < 0)
			fd = (int)sys_open("/dev/null", O_RDWR, 0);
		if (fd >= 0 && fd != i) {
			sys_dup3(fd, i, 0);
			sys_close(fd);
		}
	}
	int keep[] = {0, 1, 2, b->chan};

	close_all_but(keep, COUNT(keep));
}

static const char *path_of(char **envp)
{
	for (; *envp; envp++)
		if (str_starts(*envp, "PATH="))
			return *envp + 5;
	return DEFAULT_PATH;
}

/* As execvp(3): the first one that is there decides, but for those we may not run. */
static long exec_by_path(const struct exec_args *a)
{
	const char *path = path_of(a->envp);
	char file[4096];
	long err = -ENOENT;

	while (*path) {
		size_t n = 0;

		while (path[n] && path[n] != ':')
			n++;
		if (n + str_len(a->cmd) + 2 < sizeof file) {
			memcpy(file, path, n);
			str_format(file + n, sizeof file - n, "%s%s", n ? "/" : "./", a->cmd);
			long r = sys_execve(file, a->argv, a->envp);

			if (r == -EACCES)
				err = r;
			else if (r != -ENOENT && r != -ENOTDIR)
				return r;
		}
		path += n + (path[n] == ':');
	}
	return err;
}

/* The block, split, and the directory entered. 0 or -errno with err filled. */
static long read_args(struct blob *b, int fd, struct exec_args *ret)
{
	uint64_t len = 0;
	char *block;
	long r;

	if (read_all(b, fd, &len, sizeof len) < 0)
		return -1;
	if (len == 0 || len > ARGS_MAX)
		return blob_err_set(&b->err, E2BIG, "%lu bytes of arguments", len);
	block = arena_alloc(b, len);
	if (!block || read_all(b, fd, block, len) < 0 || split(b, block, len, ret) < 0)
		return -1;
	r = *ret->dir ? sys_chdir(ret->dir) : 0;
	return r < 0 ? blob_err_set(&b->err, (int)-r, "%s: %s", ret->dir, errno_name(r)) : 0;
}

static long exec(const struct exec_args *a)
{
	for (const char *s = a->cmd; *s; s++)
		if (*s == '/')
			return sys_execve(a->cmd, a->argv, a->envp);
	return *a->cmd ? exec_by_path(a) : -ENOENT;
}

void arrive_exec(struct blob *b, struct chan_pkt *p, struct ghost *g)
{
	struct exec_args a = {NULL, NULL, NULL, NULL};
	struct input in = {.file = -1, .far = -1, .orig = -1, .in = -1, .out = -1};
	int home = g && (p->m.flags & CHAN_ARRIVE_HOME), fd[CHAN_STREAMS];
	uint64_t none = 0;
	long r = 0;

	if (read_args(b, p->fd[0], &a) < 0) {
		chan_fail(b, p->m.move_id);
		return;
	}
	if (home) {
		chan_streams(p, 1, fd);
		in.file = fd[0];
		in.far = fd[1];
		p->nfd = 1;
		r = input_prepare(g, &in);
	} else {
		set_streams(b, p);
		p->nfd = 0;
	}
	if (r < 0) {
		blob_err_set(&b->err, (int)-r, "its stdin: %s", errno_name(r));
		chan_fail(b, p->m.move_id);
	}
	if (r < 0 || !wait_run(b, p->m.move_id)) {
		input_close(&in);
		return;
	}
	/* What the node wrote before goes out before what the program writes. */
	if (g) {
		if (in.in >= 0)
			sys_dup3(in.in, 0, 0);
		input_run(g, &in);
		relay_drain(g);
	}
	sys_sigprocmask(SIG_SETMASK, &none, NULL);
	r = exec(&a);
	blob_err_set(&b->err, (int)-r, "%s: %s", a.cmd, errno_name(r));
	chan_fail(b, p->m.move_id);
}
