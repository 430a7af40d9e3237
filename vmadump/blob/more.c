/*
 * What few programs set, of descriptors and of their memory: who is sent a signal when one is
 * ready, how long a socket waits, locks on memory that is to come, barriers. Written into the
 * image, and set again. Runs in the blob.
 */
#include "dump.h"
#include "lib.h"
#include "proc.h"
#include "refuse.h"
#include "restore.h"
#include "sys.h"
#include "thread.h"

#define SET_SIG 10 /* fcntl(2) */
#define GET_SIG 11
#define SET_OWNER 15
#define GET_OWNER 16
#define O_ASYNC 020000u
#define OWNER_THREAD 0u
#define OWNER_PROCESS 1u
#define OWNER_GROUP 2u
#define SO_RCVTIMEO 20
#define SO_SNDTIMEO 21
#define SO_PEEK_OFF 42
#define LOCK_FUTURE 2 /* MCL_FUTURE */
#define LOCK_TOUCHED 4
#define BARRIER_REGISTERED (1 << 9) /* MEMBARRIER_CMD_GET_REGISTRATIONS, Linux 6.3 */
#define BARRIER_ALL 0x154u	    /* MEMBARRIER_CMD_REGISTER_* */

struct owner {
	uint32_t type;
	int32_t id;
};

struct dump_more {
	struct dump_more *next;
	uint32_t fd, what;
	uint64_t value;
};

static long add(struct dump *d, const struct dump_fd *f, uint32_t what, uint64_t value)
{
	struct dump_more *m = arena_alloc(d->b, sizeof *m);

	if (!m)
		return -ENOMEM;
	*m = (struct dump_more){.fd = (uint32_t)f->fd, .what = what, .value = value};
	if (d->last_more)
		d->last_more->next = m;
	else
		d->more = m;
	d->last_more = m;
	d->nmore++;
	return 0;
}

static int is_own(const struct dump *d, const struct owner *o)
{
	if (o->id == d->mem)
		return o->type != OWNER_GROUP || o->id == d->stat.pgid;
	for (uint32_t i = 0; o->type == OWNER_THREAD && i < d->b->nthreads; i++)
		if (thread_at(d->b, i)->tid == o->id)
			return 1;
	return o->type == OWNER_GROUP && o->id == d->stat.pgid;
}

static long more_of_owner(struct dump *d, const struct dump_fd *f)
{
	struct owner o = {0};
	long r, sig;

	if (sys_fcntl(f->fd, GET_OWNER, (long)&o) < 0 || !o.id)
		return 0;
	/* Of the caller's terminal another may be told: that is none of this one's. */
	if (!is_own(d, &o) && (f->kind == FD_STREAM || d->opt->aside))
		return 0;
	if (!is_own(d, &o))
		return refuse(d->b, REFUSE_FD_OWNER, f->fd, o.id);
	/* Who asks for that is made the owner, and nobody can ask what for. */
	if (f->kind == FD_DIR)
		return refuse(d->b, REFUSE_FD_NOTIFY, f->fd, f->path);
	r = add(d, f, MORE_OWNER, o.type | (uint64_t)(uint32_t)o.id << 32);
	sig = sys_fcntl(f->fd, GET_SIG, 0);
	if (r == 0 && sig > 0)
		r = add(d, f, MORE_SIGNAL, (uint64_t)sig);
	return r;
}

static long more_of_time(struct dump *d, const struct dump_fd *f, int name, uint32_t what)
{
	struct {
		long s, us;
	} v = {0, 0};
	int len = sizeof v;

	if (sys_getsockopt(f->fd, SYS_SOL_SOCKET, name, &v, &len) < 0 || (!v.s && !v.us))
		return 0;
	return add(d, f, what, (uint64_t)v.s * 1000000 + (uint64_t)v.us);
}

static long more_of_socket(struct dump *d, const struct dump_fd *f)
{
	int at = -1, len = sizeof at;
	long r;

	if (sys_getsockopt(f->fd, SYS_SOL_SOCKET, SO_PEEK_OFF, &at, &len) < 0)
		return 0;
	r = at >= 0 ? add(d, f, MORE_PEEK_OFF, (uint64_t)at) : 0;
	if (r == 0)
		r = more_of_time(d, f, SO_RCVTIMEO, MORE_RCVTIMEO);
	return r == 0 ? more_of_time(d, f, SO_SNDTIMEO, MORE_SNDTIMEO) : r;
}

long more_of_fd(struct dump *d, const struct dump_fd *f)
{
	long r;

	if (d->opt->for_fork || f->kind == FD_DUP || f->kind == FD_TREE || f->oflags & O_PATH)
		return 0;
	r = more_of_owner(d, f);
	if (r == 0 && sys_fcntl(f->fd, F_GETFL, 0) & (long)O_ASYNC)
		r = add(d, f, MORE_ASYNC, 1);
	return r == 0 && f->kind == FD_OBJECT ? more_of_socket(d, f) : r;
}

uint64_t more_recs_max(const struct dump *d)
{
	return d->nmore * (uint64_t)REC_MORE_LEN + d->nguards * REC_GUARD_LEN;
}

uint8_t *more_rec(struct dump *d, uint8_t *rec)
{
	uint8_t *p = rec + IMAGE_REC_HEAD;

	for (const struct dump_more *m = d->more; m; m = m->next, p += REC_MORE_LEN) {
		put32(p, m->fd);
		put32(p + 4, m->what);
		put64(p + 8, m->value);
	}
	return d->nmore ? rec_end(rec, TAG_FD_MORE, d->nmore * (uint64_t)REC_MORE_LEN) : rec;
}

void more_of_ghost(const struct dump *d)
{
	for (const struct dump_more *m = d->more; m; m = m->next)
		if (m->what == MORE_ASYNC && (m->fd > 2 || d->opt->away))
			sys_fcntl((int)m->fd, F_SETFL,
				  sys_fcntl((int)m->fd, F_GETFL, 0) & ~(long)O_ASYNC);
}

/*
 * Nobody tells whether memory to come is to be locked. But what is locked cannot be given back
 * (madvise(2)), and without MCL_ONFAULT it is all there from the start.
 */
static uint32_t locks_new(void)
{
	long at = sys_mmap(NULL, IMAGE_PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint8_t there = 0;
	uint32_t v = 0;

	if (at == -EAGAIN) /* more than it may lock */
		return PROC_LOCKS_NEW;
	if (at < 0)
		return 0;
	sys_mincore((void *)at, IMAGE_PAGE, &there);
	if (sys_madvise((void *)at, IMAGE_PAGE, MADV_DONTNEED) == -EINVAL)
		v = there & 1 ? PROC_LOCKS_NEW : PROC_LOCKS_NEW | PROC_LOCKS_TOUCHED;
	sys_munmap((void *)at, IMAGE_PAGE);
	return v;
}

static uint32_t core_filter(void)
{
	char text[16];
	const char *s = text;

	if (proc_read("/proc/self/coredump_filter", text, sizeof text) <= 0)
		return 0;
	return PROC_CORE_KNOWN | (uint32_t)str_hex(&s);
}

void more_of_proc(const struct dump *d, uint8_t *proc)
{
	long barriers = sys_membarrier(BARRIER_REGISTERED);
	uint32_t v = get32(proc + 112);

	if (barriers > 0)
		v |= (uint32_t)barriers << PROC_MEMBARRIER;
	if (!d->opt->for_fork) {
		v |= locks_new();
		put32(proc + 116, core_filter());
	}
	put32(proc + 112, v);
}

/* -- and back */

static void set_time(int fd, int name, uint64_t us)
{
	const uint64_t v[2] = {us / 1000000, us % 1000000};

	sys_setsockopt(fd, SYS_SOL_SOCKET, name, v, sizeof v);
}

void rest_more_sockets(struct restore *r)
{
	const struct rest_rec *rec = &r->rec[TAG_FD_MORE];
	uint32_t i = 0;

	for (const uint8_t *p = rec->p; p < rec->p + rec->len; p += REC_MORE_LEN) {
		uint32_t what = get32(p + 4);
		int fd, at = (int)get64(p + 8);

		if (i == r->nfds || (uint32_t)r->fds[i].fd > get32(p))
			i = 0;
		while (i < r->nfds && (uint32_t)r->fds[i].fd < get32(p))
			i++;
		fd = i < r->nfds && (uint32_t)r->fds[i].fd == get32(p) ? r->fds[i].opened : -1;
		if (fd < 0)
			continue;
		if (what == MORE_PEEK_OFF)
			sys_setsockopt(fd, SYS_SOL_SOCKET, SO_PEEK_OFF, &at, sizeof at);
		else if (what == MORE_RCVTIMEO || what == MORE_SNDTIMEO)
			set_time(fd, what == MORE_RCVTIMEO ? SO_RCVTIMEO : SO_SNDTIMEO,
				 get64(p + 8));
	}
}

static void set_owner(const struct restore *r, int fd, uint64_t value)
{
	struct owner o = {(uint32_t)value, (int32_t)(value >> 32)};

	if ((uint32_t)o.id == get32(r->rec[TAG_IDENT].p))
		o.id = (int32_t)sys_getpid();
	/* No group that is not here can be told, and it was not in the image. */
	sys_fcntl(fd, SET_OWNER, (long)&o);
}

static long lock_new(struct restore *r, uint32_t v)
{
	long e = 0;

	if (v & PROC_LOCKS_NEW)
		e = sys_mlockall(LOCK_FUTURE | (v & PROC_LOCKS_TOUCHED ? LOCK_TOUCHED : 0));
	return e < 0 ? blob_err_set(&r->b->err, (int)-e, "locking memory to come: %s",
				    errno_name(e))
		     : 0;
}

long rest_more(struct restore *r)
{
	const struct rest_rec *rec = &r->rec[TAG_FD_MORE];

	for (const uint8_t *p = rec->p; p < rec->p + rec->len; p += REC_MORE_LEN) {
		int fd = (int)get32(p);

		if (get32(p + 4) == MORE_OWNER)
			set_owner(r, fd, get64(p + 8));
		else if (get32(p + 4) == MORE_SIGNAL)
			sys_fcntl(fd, SET_SIG, (long)get64(p + 8));
		else if (get32(p + 4) == MORE_ASYNC)
			sys_fcntl(fd, F_SETFL, sys_fcntl(fd, F_GETFL, 0) | (long)O_ASYNC);
	}
	return lock_new(r, get32(r->rec[TAG_PROC].p + 112));
}

/* While it has one thread: with more a barrier that is new to it takes milliseconds. */
static void register_barriers(uint32_t want)
{
	long have = want ? sys_membarrier(BARRIER_REGISTERED) : 0;

	for (uint32_t bit = 1; bit <= want; bit <<= 1)
		if (want & BARRIER_ALL & bit && (have < 0 || !(have & bit)))
			sys_membarrier((int)bit);
}

static void set_core_filter(uint32_t want)
{
	char text[16];
	long fd, n;

	if (!(want & PROC_CORE_KNOWN) || core_filter() == want)
		return;
	fd = sys_open("/proc/self/coredump_filter", O_WRONLY | O_CLOEXEC, 0);
	if (fd < 0)
		return;
	n = (long)str_format(text, sizeof text, "0x%x", want & ~PROC_CORE_KNOWN);
	sys_write((int)fd, text, (size_t)n);
	sys_close((int)fd);
}

void rest_more_mm(struct restore *r)
{
	const uint8_t *p = r->rec[TAG_PROC].p;

	register_barriers(get32(p + 112) >> PROC_MEMBARRIER);
	set_core_filter(get32(p + 116));
}
