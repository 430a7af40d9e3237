/*
 * Can this machine and this process take the image? All that can be found out
 * without changing anything, and the opening of what the image refers to. Runs in
 * the blob.
 */
#include "cpu.h"
#include "lib.h"
#include "proc.h"
#include "restore.h"
#include "sys.h"

#define TYPE_MASK 0170000u
#define TYPE_DIR 0040000u
#define TYPE_REG 0100000u

static long check_need(struct restore *r)
{
	struct blob *b = r->b;
	const uint8_t *n = r->need;

	if (get32(n + NEED_ARCH) != EM_X86_64 || get32(n + NEED_PAGE) != IMAGE_PAGE)
		return blob_err_set(&b->err, ENOEXEC,
				    "the image is of architecture %u with pages of %u bytes",
				    get32(n + NEED_ARCH), get32(n + NEED_PAGE));
	if (get32(n + NEED_ABILITIES) & NEED_RSEQ && sys_rseq(NULL, 0, 0, 0) == -ENOSYS)
		return blob_err_set(&b->err, ENOEXEC, "the image needs a kernel with rseq");
	if (get32(n + NEED_ABILITIES) & NEED_SEAL && sys_mseal(NULL, 0) == -ENOSYS)
		return blob_err_set(&b->err, ENOEXEC, "the image needs a kernel with mseal");
	return cpu_check(b, n);
}

/* The image's vdso must be this kernel's: its functions are called by address. */
static long check_specials(struct restore *r)
{
	struct blob *b = r->b;
	const struct blob_env *e = &b->env;
	const uint8_t *n = r->need + NEED_SPECIALS;

	r->specials = get32(r->need + NEED_NSPECIAL);
	if (r->specials > BLOB_SPECIALS)
		return rest_bad(r, "its vdso");
	if (!r->specials)
		return 0;
	if (r->specials != e->nspecial || get64(r->need + NEED_VDSO_SUM) != e->vdso_sum)
		return rest_foreign_vdso(r);
	for (uint32_t i = 0; i < r->specials; i++, n += 24) {
		if (get32(n + 16) != e->special[i].kind || get64(n + 8) != e->special[i].len)
			return rest_foreign_vdso(r);
		if (get64(n) % IMAGE_PAGE || get64(n) > IMAGE_ADDR_MAX - get64(n + 8))
			return rest_bad(r, "the place of its vdso");
	}
	return 0;
}

/* Its memory is still where it comes from: only a move brings it. */
static long check_lazy(struct restore *r)
{
	for (uint32_t i = 0; i < r->nvmas && !r->opt->lazy_fd; i++)
		if (r->vmas[i].flags & VMA_LAZY)
			return blob_err_set(&r->b->err, EOPNOTSUPP,
					    "the image's memory at %lx was to follow it",
					    r->vmas[i].start);
	return 0;
}

static int overlaps(uint64_t a, uint64_t a_end, uint64_t b, uint64_t b_end)
{
	return a < b_end && b < a_end;
}

/* Nothing of the image may lie where the blob does, nor its vdso on its memory. */
static long check_places(struct restore *r)
{
	struct blob *b = r->b;
	uint64_t lo = blob_low(b), hi = b->arena.base + b->arena.size;

	for (uint32_t i = 0; i < r->nvmas; i++) {
		const struct rest_vma *v = &r->vmas[i];

		if (overlaps(v->start, v->end, lo, hi))
			return blob_err_set(&b->err, EBUSY,
					    "the image has memory at %lx, where its loader is",
					    v->start);
		for (uint32_t k = 0; k < r->specials; k++) {
			uint64_t at = get64(r->need + NEED_SPECIALS + 24 * k);

			if (overlaps(v->start, v->end, at, at + b->env.special[k].len))
				return rest_bad(r, "the place of its vdso");
		}
	}
	for (uint32_t k = 0; k < r->specials; k++) {
		uint64_t at = get64(r->need + NEED_SPECIALS + 24 * k);

		if (overlaps(at, at + b->env.special[k].len, lo, hi))
			return blob_err_set(&b->err, EBUSY,
					    "the image has its vdso at %lx, where its loader is",
					    at);
	}
	return 0;
}

static long stale(struct restore *r, const struct rest_file *f, const char *how)
{
	return blob_err_set(&r->b->err, ESTALE, "%s is not the file it was: %s", f->path, how);
}

static long check_identity(struct restore *r, const struct rest_file *f)
{
	uint8_t page[IMAGE_PAGE], id[FILE_ID_MAX];
	struct stat st;
	long n;

	if (f->id_kind == FILE_BUILD_ID) {
		n = sys_pread(f->fd, page, sizeof page, 0);
		n = n > 0 ? elf_build_id(page, (uint32_t)n, id) : 0;
		if (!n)
			return stale(r, f, "it has no build-id");
		if (n != f->id_len || memcmp(id, f->id, f->id_len) != 0)
			return stale(r, f, "another build-id");
		return 0;
	}
	n = sys_fstat(f->fd, &st);
	if (n < 0 || (st.st_mode & TYPE_MASK) != TYPE_REG)
		return stale(r, f, "no regular file");
	if (f->id_kind == FILE_ANY)
		return 0;
	if ((uint64_t)st.st_size != get64(f->id))
		return stale(r, f, "another size");
	if ((uint64_t)st.st_mtime != get64(f->id + 8) ||
	    (uint64_t)st.st_mtime_nsec != get64(f->id + 16))
		return stale(r, f, "another time of modification");
	return 0;
}

static long open_files(struct restore *r)
{
	for (uint32_t i = 0; i < r->nfiles; i++) {
		struct rest_file *f = &r->files[i];
		int flags = (f->flags & FILE_WRITE ? O_RDWR : O_RDONLY) | O_CLOEXEC;
		long fd;

		if (f->fd >= 0)
			continue; /* a skeleton has it open */
		fd = sys_open(f->path, flags, 0);
		if (fd < 0 && f->flags & FILE_HINT)
			continue;
		if (fd < 0)
			return blob_err_set(&r->b->err, (int)-fd, "%s: %s", f->path,
					    errno_name(fd));
		f->fd = (int32_t)fd;
		fd = check_identity(r, f);
		if (fd < 0 && f->flags & FILE_HINT) {
			sys_close(f->fd);
			f->fd = -1;
			r->b->err.code = 0;
		} else if (fd < 0) {
			return fd;
		}
	}
	return 0;
}

/* A number that no descriptor of the image has, so that what has it can stay open. */
long rest_move_up(struct restore *r, long fd)
{
	long up;

	if (fd < 0 || fd >= r->fd_base)
		return fd;
	up = sys_fcntl((int)fd, F_DUPFD_CLOEXEC, r->fd_base);
	sys_close((int)fd);
	return up;
}

static long open_fd(struct restore *r, struct rest_fd *f)
{
	struct blob *b = r->b;
	int flags = (int)(f->oflags | O_CLOEXEC | O_NOCTTY) & ~(O_CREAT | O_EXCL | O_TRUNC);
	struct stat st;
	long fd = sys_open(f->path, flags, 0);

	if (fd == -EPERM && flags & O_NOATIME)
		fd = sys_open(f->path, flags & ~O_NOATIME, 0);
	fd = rest_move_up(r, fd);
	if (fd < 0)
		return blob_err_set(&b->err, (int)-fd, "fd %d, %s: %s", f->fd, f->path,
				    errno_name(fd));
	f->opened = (int32_t)fd;
	if (f->kind == FD_DEV || f->oflags & O_PATH)
		return 0;
	if (sys_fstat((int)fd, &st) < 0 ||
	    (st.st_mode & TYPE_MASK) != (f->kind == FD_DIR ? TYPE_DIR : TYPE_REG))
		return blob_err_set(&b->err, ESTALE, "fd %d: %s is no %s here", f->fd, f->path,
				    f->kind == FD_DIR ? "directory" : "regular file");
	if (f->offset && sys_lseek((int)fd, (long)f->offset, 0 /* SEEK_SET */) < 0)
		return blob_err_set(&b->err, EIO, "fd %d: no offset %lu in %s", f->fd, f->offset,
				    f->path);
	return 0;
}

static long open_fds(struct restore *r)
{
	const char *cwd = (const char *)r->rec[TAG_CWD].p;
	long fd = sys_open(cwd, O_PATH | O_DIRECTORY | O_CLOEXEC, 0);

	if (fd < 0)
		return blob_err_set(&r->b->err, (int)-fd, "its working directory %s: %s", cwd,
				    errno_name(fd));
	r->cwd_fd = (int32_t)fd;
	for (uint32_t i = 0; i < r->nfds; i++) {
		struct rest_fd *f = &r->fds[i];

		if (f->kind == FD_STREAM || f->kind == FD_DUP ||
		    (r->opt->look && f->kind == FD_TREE))
			continue;
		fd = f->kind == FD_OBJECT ? object_open(r, f)
		     : f->kind == FD_TREE ? tree_fd_open(r, f)
					  : open_fd(r, f);
		if (fd < 0)
			return fd;
	}
	return 0;
}

/* Other threads would lose their memory under their feet. */
static long check_threads(struct restore *r)
{
	uint64_t mark = arena_mark(r->b);
	struct text t;
	char *line;
	uint64_t n = 1;
	long e = text_open(r->b, &t, "/proc/self/status");

	if (e < 0)
		return e;
	while ((line = text_line(&t)))
		if (str_starts(line, "Threads:")) {
			const char *s = line + 8;

			str_skip_spaces(&s);
			n = str_dec(&s);
		}
	text_close(&t);
	arena_release(r->b, mark);
	if (n != 1)
		return blob_err_set(&r->b->err, ENOTSUP,
				    "this process has %lu threads; it cannot become another", n);
	return 0;
}

/* A thread's id is in the locks that it holds: with a new one nothing would fit. */
static long check_pid(struct restore *r)
{
	uint32_t was = get32(r->rec[TAG_IDENT].p);

	if (r->nthreads && (uint32_t)sys_getpid() != was)
		return blob_err_set(&r->b->err, ENOTSUP,
				    "the image has %u threads: it needs its own process id, %u",
				    r->nthreads + 1, was);
	return 0;
}

long rest_check(struct restore *r)
{
	long e;

	/* What is opened from here on may get one of these numbers. */
	for (int i = 0; i < CHAN_STREAMS; i++)
		r->had |= (sys_fcntl(i, F_GETFD, 0) >= 0) << i;

	if ((e = check_need(r)) < 0 || (e = check_specials(r)) < 0 || (e = check_places(r)) < 0 ||
	    (e = check_lazy(r)) < 0)
		return e;
	if (r->opt->set_creds && ((e = check_threads(r)) < 0 || (e = check_pid(r)) < 0))
		return e;
	return open_files(r);
}

long rest_open(struct restore *r)
{
	long e;

	tree_room(r);
	e = open_fds(r);
	if (e == 0)
		rest_more_sockets(r);
	return e;
}

void rest_close(struct restore *r)
{
	for (uint32_t i = 0; r->files && i < r->nfiles; i++)
		if (r->files[i].fd >= 0)
			sys_close(r->files[i].fd);
	for (uint32_t i = 0; r->fds && i < r->nfds; i++)
		if (r->fds[i].opened >= 0 && r->fds[i].kind != FD_OBJECT)
			sys_close(r->fds[i].opened);
	objects_close(r);
	if (r->cwd_fd >= 0)
		sys_close(r->cwd_fd);
}
