/*
 * This process -> an image on a descriptor; doc/image.md. Runs in the blob,
 * inside the process, with every signal blocked. Reads from top to bottom:
 * nothing is changed in the process before step 5, and that is put back by
 * blob_thaw(); nothing is written before step 8.
 */
#include "cpu.h"
#include "dump.h"
#include "lazy_out.h"
#include "lib.h"
#include "object.h"
#include "refuse.h"
#include "sys.h"
#include "tree.h"

#define CS_64 0x33

/* 1. Registers, and what must not be there. */
static long take_registers(struct dump *d)
{
	struct blob *b = d->b;
	uint64_t shstk = 0;
	long n;

	if (!b->regs_given && cpu_area(&b->env) + 64 > BLOB_XSAVE_MAX)
		return blob_err_set(&b->err, ENOTSUP,
				    "the CPU's register area is too large: %u bytes",
				    cpu_area(&b->env));
	d->xstate_bv = cpu_xsave(b);
	if (d->xstate_bv >> 18 & 1)
		d->abilities |= NEED_AMX;
	if (b->regs.cs != CS_64)
		return refuse(b, REFUSE_32BIT);
	if (!b->regs_given) {
		sys_arch_prctl(ARCH_GET_FS, (unsigned long)&b->regs.fs_base);
		sys_arch_prctl(ARCH_GET_GS, (unsigned long)&b->regs.gs_base);
	}
	/* ARCH_SHSTK_STATUS; an error is a kernel without it */
	if (sys_arch_prctl(0x5005, (unsigned long)&shstk) == 0 && shstk)
		return refuse(b, REFUSE_SHSTK);

	/* How many bytes of it there are; an error is none, and no negative number. */
	n = sys_modify_ldt(0, &shstk, sizeof shstk);
	if (n > 0 && n <= (long)sizeof shstk)
		return refuse(b, REFUSE_LDT);
	if (rseq_find(b) < 0)
		return refuse(b, REFUSE_RSEQ);
	if (b->rseq_addr)
		d->abilities |= NEED_RSEQ;
	return 0;
}

/* Ends it with a NUL. */
static long read_link(const struct dump *d, const char *name, char *path)
{
	char link[40];
	long n;

	str_format(link, sizeof link, "/proc/%d/%s", d->mem, name);
	n = (long)or_zero(sys_readlink(link, path, IMAGE_PATH_MAX - 1));
	path[n] = 0;
	return n;
}

static long read_names(struct dump *d)
{
	struct blob *b = d->b;
	char *path = arena_raw(b, IMAGE_PATH_MAX);
	long n;

	if (!path)
		return -ENOMEM;
	n = read_link(d, "exe", path);
	d->exe = path;
	arena_shrink(b, path, (uint64_t)n + 1);
	path = arena_raw(b, IMAGE_PATH_MAX);
	if (!path)
		return -ENOMEM;
	n = d->opt->aside ? read_link(d, "cwd", path) + 1 : sys_getcwd(path, IMAGE_PATH_MAX);
	if (n > 0)
		arena_shrink(b, path, (uint64_t)n);
	d->cwd = n > 0 ? path : "";
	if (n <= 0 || path[0] != '/') /* "(unreachable)/…" */
		return refuse(b, REFUSE_CWD);
	return 0;
}

long dump_look_on(struct dump *d, long r)
{
	if (r != -ENOTSUP || !d->opt->refused)
		return r;
	d->opt->refused(d->b);
	d->b->err.code = 0;
	return 0;
}

/* All that may be refused. */
static long look_steps(struct dump *d)
{
	long r;

	cpu_fill(&d->b->env);
	if ((r = tree_read(d)) < 0)
		return r;
	if ((r = dump_look_on(d, take_registers(d))) < 0) /* 1 */
		return r;
	if ((r = dump_read_proc(d)) < 0) /* 2. what /proc says */
		return r;
	if ((r = dump_look_on(d, dump_threads(d))) < 0 ||
	    (r = dump_look_on(d, read_names(d))) < 0)
		return r;
	if (!d->opt->rest && (r = dump_vmas(d)) < 0) /* 3. mappings */
		return r;
	if (!d->opt->rest && (r = dump_fds(d)) < 0) /* 4. descriptors */
		return r;
	if ((r = dump_look_on(d, locks_are_free(d))) < 0)
		return r;
	/* A userfaultfd of its own is a descriptor, and was refused. */
	if (d->missing)
		return blob_err_set(&d->b->err, EINPROGRESS,
				    "memory at %lx has not all followed it here yet",
				    d->missing);
	/* 5. signals and timers: out, or read */
	return d->opt->for_fork ? 0 : dump_look_on(d, dump_hold(d));
}

static long last_steps(struct dump *d)
{
	long r;

	if (d->opt->only_look)
		return 0;
	if (d->opt->lazy)
		lazy_choose(d);
	if (!d->opt->refused && (r = dump_runs(d)) < 0) /* 6. which pages */
		return r;
	return dump_head(d); /* 7. all that goes before the pages */
}

long blob_dump_look(struct blob *b, struct blob_dump *opt)
{
	struct dump *d;
	long r;

	arena_reset(b);
	b->dump = 0;
	b->nlisteners = 0;
	d = arena_alloc(b, sizeof *d);
	if (!d)
		return -ENOMEM;
	d->b = b;
	d->opt = opt;
	d->pid = (int32_t)sys_getpid();
	d->tid = (int32_t)sys_gettid();
	d->mem = d->pid;
	r = look_steps(d);
	if (r < 0)
		blob_thaw(b);
	else
		b->dump = (uint64_t)d;
	return r;
}

long blob_dump_last(struct blob *b)
{
	struct dump *d = (void *)b->dump;
	long r = last_steps(d);

	live_close(d);
	if (r < 0)
		blob_thaw(b);
	return r;
}

long blob_dump_prepare(struct blob *b, struct blob_dump *opt)
{
	long r = blob_dump_look(b, opt);

	return r < 0 ? r : blob_dump_last(b);
}

void blob_dump_from(struct blob_dump *opt, uint32_t go)
{
	opt->streams = !(go & CHAN_GO_AWAY);
	opt->away = !!(go & CHAN_GO_AWAY);
	opt->away_streams = go >> CHAN_GO_STREAM_SHIFT & CHAN_GO_STREAM_MASK;
}

static void say_refused(struct blob *b)
{
	sys_write(b->chan, b->err.text, sizeof b->err.text);
}

/* What there is of it, as far as it shows: the head of its image. Its threads are given. */
static _Noreturn void tell_head(struct dump *d)
{
	struct blob *b = d->b;
	const struct blob_thread *first = (void *)(b->threads - b->thread_len);
	long r;

	b->regs_given = 1; /* from here on this is not who called */
	b->regs = first->regs;
	b->sigmask = first->sigmask;
	b->xsave_size = first->xsave_size;
	memcpy(b->xsave, first->xsave, first->xsave_size);
	d->pid = d->tid = b->look_at;
	d->opt->fd = b->fd;
	cpu_fill(&b->env);
	d->xstate_bv = cpu_xsave(b);
	r = dump_read_proc(d);
	if (r == 0)
		r = dump_head(d);
	if (r == 0)
		r = dump_write(d);
	sys_exit_group(r < 0);
}

/*
 * At another process, which runs meanwhile: its mappings, and of its descriptors the copies that
 * this one has. What shows only of one that stands still is left for then.
 */
long blob_look(struct blob *b)
{
	struct blob_dump opt = {
		.fd = -1,
		.flags = b->dump_flags,
		.objects = 1,
		.leaves = b->look_leaves,
		.aside = b->look_at,
		.refused = say_refused,
		.has_order = b->order > 0,
		.order = b->order,
	};
	struct dump d = {
		.b = b,
		.opt = &opt,
		.pid = (int32_t)sys_getpid(),
		.mem = b->look_at,
		.exe = "",
	};
	long r;

	if (b->look_leaves)
		blob_dump_from(&opt, b->look_away);
	arena_reset(b);
	if (b->fd >= 0 && (r = dump_look_on(&d, read_names(&d))) < 0)
		return r;
	r = tree_read(&d);
	if (r == 0)
		r = dump_vmas(&d);
	if (r == 0 && d.missing)
		r = -EINPROGRESS;
	if (r == 0)
		r = dump_fds(&d);
	if (r == 0)
		r = dump_look_on(&d, dump_hold_look(&d));
	if (r == 0 && b->fd >= 0)
		tell_head(&d);
	return r;
}

long blob_dump_send(struct blob *b, int fd)
{
	struct dump *d = (void *)b->dump;
	long r;

	d->opt->fd = fd;
	r = dump_write(d); /* 8 */
	if (r < 0)
		blob_thaw(b);
	return r;
}

long blob_dump(struct blob *b, struct blob_dump *opt)
{
	long r = blob_dump_prepare(b, opt);

	return r < 0 ? r : blob_dump_send(b, opt->fd);
}

long blob_write_quietly(int fd, const void *p, uint64_t n)
{
	const uint64_t sigpipe = 1ull << (SIGPIPE - 1);
	const struct timespec now = {0};
	struct iovec v = {(void *)p, n};
	struct sys_msghdr m = {.iov = &v, .iovlen = 1};
	uint64_t pending = 0;
	long r = sys_sendmsg(fd, &m, SYS_MSG_NOSIGNAL);

	if (r != -ENOTSOCK)
		return r;
	sys_sigpending(&pending);
	r = sys_write(fd, p, n);
	if (r == -EPIPE && !(pending & sigpipe))
		sys_sigtimedwait(&sigpipe, NULL, &now);
	return r;
}

void blob_send_failure(struct blob *b, int fd)
{
	uint8_t rec[IMAGE_FAIL_LEN] = {0};

	put64(rec, IMAGE_FAIL_MAGIC);
	put32(rec + 8, (uint32_t)b->err.code);
	str_copy((char *)rec + 16, IMAGE_FAIL_TEXT, b->err.text);
	/* If it cannot be sent the end of the stream tells enough. */
	blob_write_quietly(fd, rec, sizeof rec);
}
