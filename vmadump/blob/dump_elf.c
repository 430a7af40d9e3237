/*
 * The head of the image (ELF header, program headers, notes) and the writing of
 * the whole: head, pages straight from where they are, end mark. Runs in the blob.
 */
#include "dump.h"
#include "lib.h"
#include "object.h"
#include "proc.h"
#include "refuse.h"
#include "sys.h"

#define PRPSINFO_LEN 136u
#define COPY_BUF (64u << 10)

uint64_t note_len(uint64_t name, uint64_t desc)
{
	return 12 + ROUND_UP(name, 4) + ROUND_UP(desc, 4);
}

/* Begins a note at p; the place of its desc, zeroed, is returned in ret_desc. */
static uint8_t *note(uint8_t *p, const char *name, uint32_t type, uint64_t len, uint8_t **ret_desc)
{
	uint64_t n = str_len(name) + 1, all = note_len(n, len);

	memset(p, 0, all);
	put32(p, (uint32_t)n);
	put32(p + 4, (uint32_t)len);
	put32(p + 8, type);
	memcpy(p + 12, name, n);
	*ret_desc = p + 12 + ROUND_UP(n, 4);
	return p + all;
}

uint8_t *note_prstatus(struct dump *d, uint8_t *p, int32_t tid, uint64_t mask,
		       const struct blob_regs *regs)
{
	uint8_t *at;

	p = note(p, "CORE", NT_PRSTATUS, PRSTATUS_LEN, &at);
	put64(at + 24, mask);
	put32(at + 32, (uint32_t)tid);
	put32(at + 36, (uint32_t)d->stat.ppid);
	put32(at + 40, (uint32_t)d->stat.pgid);
	put32(at + 44, (uint32_t)d->stat.sid);
	memcpy(at + 112, regs, 27 * 8);
	put32(at + 328, 1);
	return p;
}

static uint8_t *note_prpsinfo(struct dump *d, uint8_t *p)
{
	uint8_t *at;
	const struct dump_stat *s = &d->stat;
	uint64_t n = MIN(s->arg_end > s->arg_start ? s->arg_end - s->arg_start : 0, 79);
	struct iovec to, from = {(void *)s->arg_start, n};

	p = note(p, "CORE", NT_PRPSINFO, PRPSINFO_LEN, &at);
	at[1] = 'R';
	at[3] = (uint8_t)s->nice;
	put32(at + 16, d->status.uid[0]);
	put32(at + 20, d->status.gid[0]);
	put32(at + 24, (uint32_t)d->pid);
	put32(at + 28, (uint32_t)s->ppid);
	put32(at + 32, (uint32_t)s->pgid);
	put32(at + 36, (uint32_t)s->sid);
	memcpy(at + 40, s->comm, 16);
	to = (struct iovec){at + 56, n};
	if (n && sys_process_vm_readv(d->pid, &to, &from) > 0)
		for (uint64_t i = 0; i + 1 < n; i++)
			if (!at[56 + i])
				at[56 + i] = ' ';
	return p;
}

static uint64_t nt_file_len(const struct dump *d)
{
	uint64_t len = 16;

	for (const struct dump_vma *v = d->vmas; v; v = v->next)
		if (v->file)
			len += 24 + str_len(v->file->path) + 1;
	return len;
}

static uint8_t *note_file(struct dump *d, uint8_t *p)
{
	uint64_t count = 0;
	uint8_t *at, *names;

	for (const struct dump_vma *v = d->vmas; v; v = v->next)
		count += v->file != NULL;
	p = note(p, "CORE", NT_FILE, nt_file_len(d), &at);
	put64(at, count);
	put64(at + 8, IMAGE_PAGE);
	at += 16;
	names = at + 24 * count;
	for (const struct dump_vma *v = d->vmas; v; v = v->next) {
		uint64_t n;

		if (!v->file)
			continue;
		put64(at, v->start);
		put64(at + 8, v->end);
		put64(at + 16, v->off / IMAGE_PAGE);
		at += 24;
		n = str_len(v->file->path) + 1;
		memcpy(names, v->file->path, n);
		names += n;
	}
	return p;
}

uint8_t *note_fpu(struct dump *d, uint8_t *p, const uint8_t *xsave, uint64_t len)
{
	const struct blob_env *e = &d->b->env;
	uint64_t fits = 3;
	uint8_t *at;

	p = note(p, "CORE", NT_FPREGSET, FPREGS_LEN, &at);
	memcpy(at, xsave, FPREGS_LEN);
	p = note(p, "LINUX", NT_X86_XSTATE, len, &at);
	memcpy(at, xsave, len);
	/* Readers of core files take the components that are there from here. */
	for (uint32_t i = 2; i < BLOB_XCOMP_MAX; i++)
		if ((e->xcr0 >> i & 1) && e->xoff[i] + e->xlen[i] <= len)
			fits |= 1ull << i;
	put64(at + 464, fits);
	return p;
}

static uint8_t *note_need(struct dump *d, uint8_t *p, uint8_t **ret_need)
{
	const struct blob *b = d->b;
	const struct blob_env *e = &b->env;
	uint8_t *at;

	p = note(p, IMAGE_NAME, IMAGE_NOTE_NEED, IMAGE_NEED_LEN, &at);
	put32(at + NEED_VERSION, IMAGE_VERSION);
	put32(at + NEED_ARCH, EM_X86_64);
	put32(at + NEED_PAGE, IMAGE_PAGE);
	put32(at + NEED_ABILITIES, d->abilities);
	put64(at + NEED_XCR0, e->xcr0);
	put64(at + NEED_XSTATE_BV, d->xstate_bv);
	put32(at + NEED_XSAVE_LEN, (uint32_t)b->xsave_size);
	put32(at + NEED_NSPECIAL, e->nspecial);
	for (int i = 0; i < 6; i++)
		put32(at + NEED_CPUID + 4 * i, e->cpuid[i]);
	put64(at + NEED_VDSO_SUM, e->vdso_sum);
	put64(at + NEED_BLOB_AT, blob_low(b));
	put64(at + NEED_BLOB_LEN, b->base + BLOB_SIZE - blob_low(b));
	for (uint32_t i = 0; i < e->nspecial; i++) {
		put64(at + NEED_SPECIALS + 24 * i, e->special[i].start);
		put64(at + NEED_SPECIALS + 24 * i + 8, e->special[i].len);
		put32(at + NEED_SPECIALS + 24 * i + 16, e->special[i].kind);
	}
	for (uint32_t i = 0; i < BLOB_XCOMP_MAX; i++) {
		put32(at + NEED_XCOMP + 8 * i, e->xoff[i]);
		put32(at + NEED_XCOMP + 8 * i + 4, e->xlen[i]);
	}
	put64(at + NEED_PAGE_BYTES, d->page_bytes);
	put32(at + NEED_NRUNS, (uint32_t)d->nruns);
	put32(at + NEED_PID, (uint32_t)d->pid);
	*ret_need = at;
	return p;
}

static uint64_t notes_max(struct dump *d)
{
	return note_len(8, IMAGE_NEED_LEN) + note_len(5, PRSTATUS_LEN) + note_len(5, PRPSINFO_LEN) +
	       note_len(5, d->auxv_len) + note_len(5, nt_file_len(d)) + note_len(5, FPREGS_LEN) +
	       note_len(6, d->b->xsave_size) + thread_notes_max(d) +
	       note_len(8, dump_state_max(d)) + IMAGE_SUM_NOTE;
}

static uint64_t count_loads(const struct dump *d)
{
	uint64_t n = d->nruns;

	for (const struct dump_vma *v = d->vmas; v; v = v->next)
		n += !v->nruns || d->runs[v->first_run].start > v->start;
	return n;
}

static uint8_t *phdr(uint8_t *p, uint32_t type, uint32_t prot, uint64_t off, uint64_t at,
		     uint64_t in_file, uint64_t in_mem)
{
	put32(p, type);
	put32(p + 4, (prot & PROT_READ ? PF_R : 0) | (prot & PROT_WRITE ? PF_W : 0) |
			     (prot & PROT_EXEC ? PF_X : 0));
	put64(p + 8, off);
	put64(p + 16, at);
	put64(p + 24, 0);
	put64(p + 32, in_file);
	put64(p + 40, in_mem);
	put64(p + 48, type == PT_LOAD ? IMAGE_PAGE : 4);
	return p + 56;
}

static void write_loads(struct dump *d, uint8_t *p, uint64_t off)
{
	for (const struct dump_vma *v = d->vmas; v; v = v->next) {
		const struct dump_run *r = d->runs + v->first_run, *end = r + v->nruns;
		uint64_t first = v->nruns ? r->start : v->end;

		if (first > v->start)
			p = phdr(p, PT_LOAD, v->prot, off, v->start, 0, first - v->start);
		for (; r < end; r++) {
			uint64_t next = r + 1 < end ? r[1].start : v->end;

			p = phdr(p, PT_LOAD, v->prot, off, r->start, r->len, next - r->start);
			off += r->len;
		}
	}
}

static void write_ehdr(uint8_t *p, uint64_t nph)
{
	memset(p, 0, 64);
	memcpy(p, "\177ELF\2\1\1", 7);
	put16(p + 16, ET_CORE);
	put16(p + 18, EM_X86_64);
	put32(p + 20, EV_CURRENT);
	put64(p + 32, 64);
	put16(p + 52, 64);
	put16(p + 54, 56);
	put16(p + 56, (uint16_t)MIN(nph, PN_XNUM));
	if (nph < PN_XNUM)
		return;
	/* More than the header can count: the number is in section header 0. */
	put64(p + 40, 64 + 56 * nph);
	put16(p + 58, 64);
	put16(p + 60, 1);
	p += 64 + 56 * nph;
	memset(p, 0, 64);
	put32(p + 44, (uint32_t)nph);
}

long dump_head(struct dump *d)
{
	uint64_t nph = 2 + count_loads(d), at = 64 + 56 * nph + (nph < PN_XNUM ? 0 : 64);
	uint64_t mark, end;
	uint8_t *head, *p, *rec, *desc, *need;

	if (dump_strings(d) < 0)
		return -ENOMEM;
	head = arena_raw(d->b, at + notes_max(d) + IMAGE_PAGE);
	if (!head)
		return -ENOMEM;
	mark = arena_mark(d->b);
	write_ehdr(head, nph);
	p = note_need(d, head + at, &need);
	p = note_prstatus(d, p, d->tid, d->b->sigmask, &d->b->regs);
	p = note_prpsinfo(d, p);
	p = note(p, "CORE", NT_AUXV, d->auxv_len, &desc);
	memcpy(desc, d->auxv, d->auxv_len);
	p = note_file(d, p);
	p = note_fpu(d, p, d->b->xsave, d->b->xsave_size);
	p = thread_notes(d, p);
	rec = p + note_len(sizeof IMAGE_NAME, 0);
	desc = dump_state(d, rec);
	put32(p, sizeof IMAGE_NAME);
	put32(p + 4, (uint32_t)(desc - rec));
	put32(p + 8, IMAGE_NOTE_STATE);
	memcpy(p + 12, IMAGE_NAME, sizeof IMAGE_NAME);
	p = desc;
	arena_release(d->b, mark);

	end = (uint64_t)(p - head) + IMAGE_SUM_NOTE;
	d->head_len = ROUND_UP(end, IMAGE_PAGE);
	if (d->head_len > IMAGE_HEAD_MAX)
		return refuse(d->b, REFUSE_LIMIT, (unsigned long)IMAGE_HEAD_MAX, "bytes of state");
	phdr(head + 64, PT_NOTE, PROT_READ, at, 0, end - at, 0);
	phdr(head + 120, PT_NOTE, PROT_READ, d->head_len + d->page_bytes, 0, IMAGE_END_NOTE, 0);
	write_loads(d, head + 176, d->head_len);
	put64(need + NEED_TOTAL, d->head_len + d->page_bytes + IMAGE_END_NOTE);

	note(p, IMAGE_NAME, IMAGE_NOTE_SUM, 8, &desc);
	put64(desc, image_sum(0, head, (uint64_t)(p - head)));
	memset(head + end, 0, d->head_len - end);
	d->head = head;
	arena_shrink(d->b, head, d->head_len);

	note(d->end, IMAGE_NAME, IMAGE_NOTE_END, 16, &desc);
	put64(desc, d->page_bytes);
	put64(desc + 8, IMAGE_END_MAGIC);
	return 0;
}

#define SPLICE_MIN (64u << 10)

/* What is gathered for one writev(). */
struct gather {
	struct dump *d;
	struct iovec *iov; /* SYS_IOV_MAX */
	int n, not_socket, no_splice;
};

/* SIGPIPE is for the program's own writes; one that ours made must not stay pending. */
static long broken_pipe(struct gather *g)
{
	const uint64_t sigpipe = 1ull << (SIGPIPE - 1);
	const struct timespec now = {0};

	if (g->not_socket && !((g->d->status.sig_pending | g->d->status.sig_shared) & sigpipe))
		sys_sigtimedwait(&sigpipe, NULL, &now);
	return blob_err_set(&g->d->b->err, EPIPE, "writing the image: %s", errno_name(EPIPE));
}

/* Memory of the blob's own is written again before all of it is read. */
static int may_splice(struct gather *g, const struct iovec *v)
{
	const struct blob_arena *a = &g->d->b->arena;
	uint64_t at = (uint64_t)v->iov_base;

	return v->iov_len >= SPLICE_MIN && (at < a->base || at >= a->base + a->size);
}

/*
 * Into a pipe a run of pages goes by reference: one copy of two is saved. Nothing changes them
 * before they are read: this process is parked until the reader has them all, or until nobody
 * will use what was read; and who shares a page copy-on-write gets a copy while the pipe holds it.
 */
static long put_pages(struct gather *g, struct iovec *iov, int n)
{
	int fd = g->d->opt->fd, small = 0;
	long r;

	while (small < n && !may_splice(g, iov + small))
		small++;
	if (small)
		return sys_writev(fd, iov, small);
	r = sys_vmsplice(fd, iov, 1);
	if (r >= 0 || r == -EPIPE || r == -EINTR || r == -EAGAIN)
		return r;
	g->no_splice = 1; /* no pipe */
	return sys_writev(fd, iov, n);
}

static long put_some(struct gather *g, struct iovec *iov, int n)
{
	int fd = g->d->opt->fd;

	if (!g->not_socket) {
		struct sys_msghdr m = {.iov = iov, .iovlen = (size_t)n};
		long r = sys_sendmsg(fd, &m, SYS_MSG_NOSIGNAL);

		if (r != -ENOTSOCK)
			return r;
		g->not_socket = 1;
	}
	return g->no_splice ? sys_writev(fd, iov, n) : put_pages(g, iov, n);
}

static long flush(struct gather *g)
{
	struct iovec *iov = g->iov;
	struct sys_pollfd p = {.fd = g->d->opt->fd, .events = POLLOUT};

	while (g->n) {
		long r = put_some(g, iov, g->n);

		if (r == -EINTR)
			continue;
		if (r == -EAGAIN) { /* it was handed to us non-blocking */
			sys_ppoll(&p, 1, NULL, NULL);
			continue;
		}
		if (r == -EPIPE)
			return broken_pipe(g);
		if (r <= 0)
			return blob_err_set(&g->d->b->err, r ? (int)-r : EIO,
					    "writing the image: %s", errno_name(r));
		g->d->opt->bytes += (uint64_t)r;
		for (; g->n && (uint64_t)r >= iov->iov_len; g->n--, iov++)
			r -= (long)iov->iov_len;
		if (g->n) {
			iov->iov_base = (char *)iov->iov_base + r;
			iov->iov_len -= (size_t)r;
		}
	}
	return 0;
}

static long add(struct gather *g, void *p, uint64_t n)
{
	long r;

	if (g->n == SYS_IOV_MAX && (r = flush(g)) < 0)
		return r;
	g->iov[g->n++] = (struct iovec){p, n};
	return 0;
}

/* Memory that may not be read goes through /proc/self/mem, which may. */
static long add_unreadable(struct gather *g, const struct dump_run *run)
{
	struct blob *b = g->d->b;
	uint64_t mark = arena_mark(b);
	uint8_t *buf = arena_raw(b, COPY_BUF);
	long fd = sys_open("/proc/self/mem", O_RDONLY | O_CLOEXEC, 0), r = 0;

	if (!buf)
		r = -ENOMEM;
	else if (fd < 0)
		r = blob_err_set(&b->err, EIO, "/proc/self/mem: %s", errno_name(fd));
	for (uint64_t at = 0; r == 0 && at < run->len; at += COPY_BUF) {
		uint64_t n = MIN(run->len - at, COPY_BUF);
		long got = sys_pread((int)fd, buf, n, (long)(run->start + at));

		/* Behind the end of a mapped file there is nothing. */
		got = MAX(got, 0);
		memset(buf + got, 0, n - (uint64_t)got);
		if ((r = add(g, buf, n)) == 0)
			r = flush(g);
	}
	if (fd >= 0)
		sys_close((int)fd);
	arena_release(b, mark);
	return r;
}

long dump_write(struct dump *d)
{
	struct gather g = {.d = d};
	long r;

	g.iov = arena_raw(d->b, SYS_IOV_MAX * sizeof *g.iov);
	if (!g.iov)
		return -ENOMEM;
	r = add(&g, d->head, d->head_len);
	for (const struct dump_vma *v = d->vmas; r == 0 && v; v = v->next) {
		const struct dump_run *run = d->runs + v->first_run;

		for (uint64_t i = 0; r == 0 && i < v->nruns; i++, run++)
			r = v->prot & PROT_READ ? add(&g, (void *)run->start, run->len)
						: add_unreadable(&g, run);
	}
	if (r == 0 && d->opt->leaves && d->locks && (r = flush(&g)) == 0)
		r = locks_give_up(d);
	if (r == 0 && (r = add(&g, d->end, IMAGE_END_NOTE)) == 0)
		r = flush(&g);
	return r;
}
