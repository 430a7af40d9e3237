/*
 * A tree of processes: the first has read its own image's head and has open what they share;
 * it clones its children, they theirs, each with the id that it had, in the session and group
 * that it was in. Then each waits for its turn to read its own image, which comes
 * next in the stream, from the descriptor that all of them have. Runs in the blob.
 *
 * They speak with whoever restores, each by its own channel (channel.h).
 */
#include "ghost.h"
#include "restore.h"
#include "tree.h"

#define P_PID_ 1
#define P_ALL_ 0

static uint32_t field(const struct restore *r, uint32_t i, enum tree_at at)
{
	return get32(tree_entry(r, i) + at);
}

static int is_leader(const struct restore *r, uint32_t i)
{
	return field(r, i, TREE_SID) == field(r, i, TREE_PID) && !(i == 0 && r->stays);
}

static int has_pid(const struct restore *r, uint32_t pid)
{
	for (uint32_t i = 0; i < r->nplan; i++)
		if (field(r, i, TREE_PID) == pid)
			return 1;
	return 0;
}

/*
 * The session that a process is to be born in: its own; of a leader, that of a child which
 * is still in the one before; 0: in any. Children come behind their parents.
 */
static long find_births(struct restore *r)
{
	r->birth = arena_alloc(r->b, r->nplan * sizeof *r->birth);
	if (!r->birth)
		return -ENOMEM;
	for (uint32_t i = r->nplan; i-- > 0;) {
		uint32_t sid = field(r, i, TREE_SID), parent = field(r, i, TREE_PARENT);

		if (sid != field(r, i, TREE_PID))
			r->birth[i] = sid;
		if (i && r->birth[i] && r->birth[i] != field(r, parent, TREE_PID) &&
		    field(r, parent, TREE_SID) == field(r, parent, TREE_PID))
			r->birth[parent] = r->birth[i];
	}
	return 0;
}

/* Is child c to be there before its parent begins a session of its own? */
static int is_early(const struct restore *r, uint32_t c)
{
	uint32_t parent = field(r, c, TREE_PARENT);

	return is_leader(r, parent) && r->birth[c] && r->birth[c] != field(r, parent, TREE_PID);
}

static void take_own_place(const struct restore *r, uint32_t me)
{
	if (is_leader(r, me))
		sys_setsid();
	else if (field(r, me, TREE_PGID) == field(r, me, TREE_PID))
		sys_setpgid(0, 0);
}

static void fail_and_end(struct blob *b)
{
	chan_fail(b, 0);
	sys_exit_group(127);
}

static __attribute__((noinline)) void await(struct blob *b, uint32_t type)
{
	struct chan_pkt p;

	do {
		if (chan_recv(b, &p, 0) <= 0)
			sys_exit_group(127);
		chan_close_fds(&p, 0);
	} while (p.m.type != type);
}

static __attribute__((noinline)) long announce(struct blob *b, uint32_t which, int far)
{
	struct chan_msg m;

	memset(&m, 0, sizeof m);
	m.type = CHAN_MEMBER;
	m.flags = which;
	return chan_send_fd(b, &m, far);
}

static __attribute__((noinline)) void say_here(struct blob *b, uint32_t type, uint32_t flags,
					       uint32_t n)
{
	struct chan_msg m;

	memset(&m, 0, sizeof m);
	m.type = type;
	m.flags = flags;
	m.stream_mask = n;
	m.u.pid = (int32_t)sys_getpid();
	chan_send(b, &m);
}

/* As it ended: by exit, or by a signal, without a core. */
static _Noreturn void end_as(const struct restore *r, uint32_t me)
{
	uint32_t status = field(r, me, TREE_STATUS), sig = status & 0x7f;
	const struct sys_rlimit none = {0, 0};
	const struct sigaction dfl = {0};
	uint64_t mask = ~0ull;

	sys_prctl(PR_SET_NAME, (unsigned long)tree_entry(r, me) + TREE_NAME, 0, 0, 0);
	if (sig) {
		sys_prlimit(0, 4 /* RLIMIT_CORE */, &none, NULL);
		sys_sigaction((int)sig, &dfl, NULL);
		mask &= ~(1ull << (sig - 1));
		sys_sigprocmask(SIG_SETMASK, &mask, NULL);
		sys_kill((int)sys_getpid(), (int)sig);
	}
	sys_exit_group(status >> 8 & 0xff);
}

static void await_zombies(const struct restore *r, uint32_t me)
{
	for (uint32_t i = me + 1; i < r->nplan; i++)
		if (field(r, i, TREE_PARENT) == me && field(r, i, TREE_KIND) == TREE_ZOMBIE)
			sys_waitid(P_PID_, (int)field(r, i, TREE_PID), NULL, WEXITED | WNOWAIT,
				   NULL);
}

static long join_group(struct restore *r, uint32_t me)
{
	uint32_t pgid = field(r, me, TREE_PGID);
	long e;

	if (pgid == field(r, me, TREE_PID) || !has_pid(r, pgid))
		return 0;
	e = sys_setpgid(0, (int)pgid);
	return e < 0 ? blob_err_set(&r->b->err, (int)-e, "process %u in the group %u: %s",
				    field(r, me, TREE_PID), pgid, errno_name(e))
		     : 0;
}

static long grow(struct restore *r, uint32_t me);

/* In the clone. r is the first's, and stays as it was. */
static _Noreturn void be_member(struct restore *r, uint32_t me)
{
	struct blob *b = r->b;
	struct blob_restore opt = {
		.fd = r->opt->fd,
		.stream_fd = {-1, -1, -1},
		.set_creds = 1,
		.alone = 1,
		.first = r,
		.index = me,
	};

	if (grow(r, me) < 0)
		fail_and_end(b);
	say_here(b, CHAN_HERE, field(r, me, TREE_KIND), 0);
	await(b, CHAN_TURN);
	if (join_group(r, me) < 0)
		fail_and_end(b);
	if (field(r, me, TREE_KIND) == TREE_ZOMBIE)
		end_as(r, me);
	await_zombies(r, me);
	if (blob_restore(b, &opt) < 0)
		fail_and_end(b);
	blob_await_release(b);
	blob_resume(b);
}

static long plant(struct restore *r, uint32_t c)
{
	struct blob *b = r->b;
	int end[2], tid = (int)field(r, c, TREE_PID);
	struct clone_args ca = {
		.exit_signal = field(r, c, TREE_EXIT_SIGNAL),
		.set_tid = (uint64_t)&tid,
		.set_tid_size = 1,
	};
	long e = sys_socketpair(SYS_AF_UNIX, SYS_SOCK_SEQPACKET | SYS_SOCK_CLOEXEC, 0, end);

	if (e < 0)
		return blob_err_set(&b->err, (int)-e, "a channel: %s", errno_name(e));
	e = announce(b, c, end[0]);
	sys_close(end[0]);
	if (e >= 0)
		e = sys_clone3(&ca, sizeof ca);
	if (e == 0) {
		sys_close(b->chan);
		b->chan = (int)rest_move_up(r, end[1]);
		be_member(r, c);
	}
	sys_close(end[1]);
	if (e == -EEXIST)
		return blob_err_set(&b->err, EEXIST, "process id %d is in use", tid);
	if (e < 0)
		return blob_err_set(&b->err, (int)-e, "a process with the id %d: %s", tid,
				    errno_name(e));
	return 0;
}

static long grow(struct restore *r, uint32_t me)
{
	long e = 0;

	for (int early = 1; e == 0 && early >= 0; early--) {
		if (!early)
			take_own_place(r, me);
		for (uint32_t c = me + 1; e == 0 && c < r->nplan; c++)
			if (field(r, c, TREE_PARENT) == me && is_early(r, c) == early)
				e = plant(r, c);
	}
	return e;
}

/* -- what they share */

static const struct rest_fd *fd_of(const struct restore *r, int fd)
{
	for (uint32_t i = 0; i < r->nfds; i++)
		if (r->fds[i].fd == fd)
			return r->fds[i].kind == FD_DUP ? fd_of(r, r->fds[i].dup_of) : &r->fds[i];
	return NULL;
}

/* Of a tree that moves: bpinit has it from the first, when that has it. */
static long borrow(struct restore *r, int number)
{
	struct blob *b = r->b;
	struct chan_msg m;
	struct chan_pkt p;
	long fd;

	memset(&m, 0, sizeof m);
	m.type = CHAN_WANT;
	m.move_id = r->opt->tree;
	m.u.status = number;
	chan_send(b, &m);
	for (;;) {
		if (chan_recv(b, &p, 0) <= 0)
			return blob_err_set(&b->err, ECONNRESET, "bpinit has ended");
		if (p.m.move_id == r->opt->tree &&
		    (p.m.type == CHAN_ABORT || p.m.type == CHAN_LENT))
			break;
		chan_close_fds(&p, 0);
	}
	fd = p.nfd == 1 ? rest_move_up(r, p.fd[0]) : -(p.m.err > 0 ? p.m.err : ECANCELED);
	if (fd < 0)
		return blob_err_set(&b->err, (int)-fd, "fd %d of the first of its tree: %s", number,
				    errno_name(fd));
	return fd;
}

void tree_keep(struct restore *r)
{
	struct blob *b = r->b;

	for (uint32_t i = 0; r->opt->tree && i < r->nfds; i++) {
		if (!r->fds[i].others)
			continue;
		b->lent_lo = b->lent_lo ? b->lent_lo : r->fds[i].fd;
		b->lent_hi = r->fds[i].fd;
		r->fds[i].others = 0;
		r->fds[i].cloexec = 1;
	}
}

long tree_fd_open(struct restore *r, struct rest_fd *f)
{
	if (r->opt->tree) {
		long got = borrow(r, f->dup_of);

		f->opened = (int32_t)got;
		return MIN(got, 0);
	}
	const struct rest_fd *o = r->first ? fd_of(r->first, f->dup_of) : NULL;
	int from = !o ? -1 : o->opened >= 0 ? o->opened : o->kind == FD_STREAM ? o->fd : -1;
	long fd;

	if (from < 0)
		return rest_bad(r, "a descriptor that the first of its tree has not");
	fd = sys_fcntl(from, F_DUPFD_CLOEXEC, r->fd_base);
	if (fd < 0)
		return blob_err_set(&r->b->err, (int)-fd, "fd %d: %s", f->fd, errno_name(fd));
	f->opened = (int32_t)fd;
	return 0;
}

/* Once more, to be mapped by whoever may write there, if somebody may. */
static long writable(struct restore *r, int fd)
{
	char link[32];
	long up;

	str_format(link, sizeof link, "/proc/self/fd/%d", fd);
	up = sys_open(link, O_RDWR | O_CLOEXEC, 0);
	if (up == -EACCES) /* nobody's who maps it, then */
		up = sys_open(link, O_RDONLY | O_CLOEXEC, 0);
	return rest_move_up(r, up);
}

static long bad_memory(struct restore *r, long e)
{
	return blob_err_set(&r->b->err, (int)-e, "its shared memory: %s", errno_name(e));
}

long tree_memory(struct restore *r, uint32_t object)
{
	struct restore *of = r->first ? r->first : r;
	long fd;

	if (!of->memory || object >= of->nmemory)
		return rest_bad(r, "memory that its tree has not");
	if (of->memory[object] >= 0)
		return of->memory[object];
	/* Of a tree that moves, and not the first. */
	fd = borrow(r, (int)get32(r->rec[TAG_MEMORY].p + object * (uint64_t)MEMORY_LEN + 4));
	if (fd < 0)
		return fd;
	fd = writable(r, (int)fd);
	of->memory[object] = (int32_t)fd;
	return fd < 0 ? bad_memory(r, fd) : fd;
}

static long open_memory(struct restore *r)
{
	r->memory = arena_alloc(r->b, (r->nmemory + 1ul) * sizeof *r->memory);
	if (!r->memory)
		return -ENOMEM;
	for (uint32_t i = 0; i < r->nmemory; i++) {
		const uint8_t *p = r->rec[TAG_MEMORY].p + i * (uint64_t)MEMORY_LEN;
		const struct rest_fd *o = fd_of(r, (int)get32(p + 4));
		long bytes = (long)get64(p + 8), fd = -1, e = 0;

		if (get32(p) == MEMORY_NEW)
			fd = rest_move_up(r, sys_memfd_create("shared", 1 /* MFD_CLOEXEC */));
		else if (!r->index)
			fd = writable(r, o ? o->opened : -1);
		if (fd >= 0 && (get32(p) == MEMORY_NEW || (r->opt->tree && bytes)))
			e = sys_ftruncate((int)fd, bytes);
		r->memory[i] = (int32_t)fd;
		if ((fd < 0 && !r->index) || e < 0)
			return bad_memory(r, MIN(fd, e));
	}
	return 0;
}

/* As many descriptors as it may have: its own limit comes when all is in place. */
void tree_room(struct restore *r)
{
	struct sys_rlimit l;

	if (r->nplan && sys_prlimit(0, 7 /* RLIMIT_NOFILE */, NULL, &l) == 0) {
		l.cur = l.max;
		sys_prlimit(0, 7, &l, NULL);
	}
}

static int has_terminal(const struct restore *r)
{
	uint8_t termios[64];

	for (uint32_t i = 0; i < r->nfds; i++)
		if (r->fds[i].kind == FD_STREAM && sys_ioctl(r->fds[i].fd, TCGETS, termios) == 0)
			return 1;
	return 0;
}

long rest_tree(struct restore *r)
{
	const struct sigaction dfl = {0};
	struct blob *b = r->b;
	long e;

	if (!r->nplan)
		return r->nmemory ? open_memory(r) : 0;
	if (!r->opt->alone || b->chan < 0)
		return blob_err_set(&b->err, ENOTSUP, "the image is of %u processes; this is one",
				    r->nplan);
	if ((uint32_t)sys_getpid() != field(r, 0, TREE_PID))
		return blob_err_set(&b->err, ENOTSUP,
				    "the image is of a tree (%u in all): they need their own ids, "
				    "the first %u",
				    r->nplan, field(r, 0, TREE_PID));
	/* Ignored it would have the kernel reap what is to stay. */
	sys_sigaction(SIGCHLD, &dfl, NULL);
	r->stays = (uint32_t)has_terminal(r);
	b->chan = (int)rest_move_up(r, b->chan);
	say_here(b, CHAN_MEMBER, 0, r->nplan);
	if ((e = open_memory(r)) < 0 || (e = find_births(r)) < 0 || (e = grow(r, 0)) < 0)
		return e;
	await(b, CHAN_TURN);
	await_zombies(r, 0);
	return 0;
}

/*
 * All of the tree is in place, those that were stopped are again: its parent has been told
 * of that before. What its children's making has left in its queue is not its own either.
 */
static void forget_children(void)
{
	const uint64_t chld = 1ull << (SIGCHLD - 1);
	const struct timespec now = {0};
	uint32_t info[32];

	for (;;) {
		info[0] = 0;
		if (sys_waitid(P_ALL_, 0, info, WSTOPPED | WNOHANG, NULL) < 0 || !info[0])
			break;
	}
	while (sys_sigtimedwait(&chld, NULL, &now) > 0)
		;
}

long tree_settle(struct blob *b)
{
	forget_children();
	return rest_late((void *)b->restore);
}
