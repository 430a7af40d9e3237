/*
 * An image on a descriptor -> this process; doc/image.md. Runs in the blob, in a
 * fresh clone, in a ghost that comes home, or in a process that undumps. Reads
 * from top to bottom: up to step 4 nothing is changed but what step 4 opens, and
 * that is closed again; from step 5 on there is no way back.
 */
#include "lib.h"
#include "restore.h"
#include "sys.h"

long rest_bad(struct restore *r, const char *what)
{
	return blob_err_set(&r->b->err, EBADMSG, "not an image, or damaged: %s", what);
}

/* n bytes of the stream. */
static long read_exactly(struct restore *r, void *p, uint64_t n, const char *what)
{
	struct blob *b = r->b;
	struct sys_pollfd w = {.fd = r->opt->fd, .events = POLLIN};

	if (b->ahead_len) { /* read before by whoever made this process */
		uint64_t have = MIN(n, b->ahead_len);

		memcpy(p, (void *)b->ahead, have);
		b->ahead += have;
		b->ahead_len -= have;
		p = (char *)p + have;
		n -= have;
	}
	while (n) {
		long got = sys_read(r->opt->fd, p, MIN(n, 1ul << 30));

		if (got == -EINTR)
			continue;
		if (got == -EAGAIN) {
			sys_ppoll(&w, 1, NULL, NULL);
			continue;
		}
		if (got < 0)
			return blob_err_set(&b->err, (int)-got, "reading the image's %s: %s", what,
					    errno_name(got));
		if (got == 0)
			return blob_err_set(&b->err, EBADMSG, "the image is cut short in its %s",
					    what);
		p = (char *)p + got;
		n -= (uint64_t)got;
	}
	return 0;
}

/* The dump has failed, and why is in the stream in place of an image. */
static long failure(struct restore *r, const uint8_t *first)
{
	uint8_t rec[IMAGE_FAIL_LEN];
	uint32_t code = get32(first + 8);
	long e;

	memcpy(rec, first, IMAGE_PREFIX);
	e = read_exactly(r, rec + IMAGE_PREFIX, sizeof rec - IMAGE_PREFIX, "failure");
	if (e < 0)
		return e;
	rec[IMAGE_FAIL_LEN - 1] = 0;
	if (code == 0 || code > 4095)
		code = EIO;
	return blob_err_set(&r->b->err, (int)code, "%s", (char *)rec + 16);
}

/* 1. The head: as long as program header 0 says, which is checked first. */
static long read_head(struct restore *r)
{
	uint8_t first[IMAGE_PREFIX];
	struct stat st;
	long e = read_exactly(r, first, sizeof first, "ELF header");
	uint64_t len, off;

	if (e < 0)
		return e;
	if (get64(first) == IMAGE_FAIL_MAGIC)
		return failure(r, first);
	if (memcmp(first, "\177ELF\2\1\1", 7) != 0 || get16(first + 16) != ET_CORE ||
	    get64(first + 32) != 64 || get16(first + 54) != 56 || get32(first + 64) != PT_NOTE)
		return rest_bad(r, "it does not begin as one");
	if (get16(first + 18) != EM_X86_64)
		return blob_err_set(&r->b->err, ENOEXEC,
				    "the image is of machine type %u, this is %u (x86-64)",
				    get16(first + 18), EM_X86_64);
	off = get64(first + 72);
	len = get64(first + 96);
	if (off < IMAGE_PREFIX || off > IMAGE_HEAD_MAX || len > IMAGE_HEAD_MAX ||
	    off + len > IMAGE_HEAD_MAX - IMAGE_PAGE)
		return rest_bad(r, "length of its notes");
	r->note_at = off;
	r->note_end = off + len;
	r->head_len = ROUND_UP(r->note_end, IMAGE_PAGE);
	r->head = arena_raw(r->b, r->head_len);
	if (!r->head)
		return -ENOMEM;
	memcpy(r->head, first, sizeof first);
	e = read_exactly(r, r->head + sizeof first, r->head_len - sizeof first, "notes");
	if (e < 0)
		return e;

	/* A regular file can be seen to be cut short before anything is destroyed. */
	if (sys_fstat(r->opt->fd, &st) == 0 && (st.st_mode & 0170000) == 0100000) {
		long at = sys_lseek(r->opt->fd, 0, 1 /* SEEK_CUR */);

		e = rest_parse(r);
		if (e < 0)
			return e;
		if (at >= 0 && (uint64_t)st.st_size - (uint64_t)at < r->page_bytes + IMAGE_END_NOTE)
			return blob_err_set(&r->b->err, EBADMSG,
					    "the image is cut short: %lu bytes of pages expected",
					    r->page_bytes);
		return 0;
	}
	return rest_parse(r); /* 2. */
}

/* For the skeletons to come. They look at its sum: who else writes there does no harm. */
static void leave_head(const struct restore *r)
{
	struct blob_template *t = blob_template(r->b);

	if (r->head_len > sizeof t->head)
		return;
	t->len = 0;
	memcpy(t->head, r->head, r->head_len);
	t->len = r->head_len;
}

/* One of a tree, where it should be one, and nowhere else. */
static long rest_member(struct restore *r)
{
	uint32_t one = r->rec[TAG_MEMBER].len;

	r->first = r->opt->first;
	if (r->first && (!one || r->index != r->opt->index))
		return rest_bad(r, "another process of the tree was to come");
	if (!r->first && one && !r->opt->tree)
		return blob_err_set(&r->b->err, ENOTSUP,
				    "the image is of one process of a tree, and needs the others");
	if (r->first)
		r->fd_base = MAX(r->fd_base, r->first->fd_base);
	return 0;
}

static long run_steps(struct restore *r)
{
	struct restore *warm = r->opt->warm;
	struct blob *b = r->b;
	int mapped;
	long e;

	if ((e = read_head(r)) < 0) /* 1 and 2: read, parsed, every bound checked */
		return e;
	if ((e = rest_check_live(r)) < 0)
		return e;
	mapped = warm && rest_take_warm(r, warm);
	if (r->opt->leave_head && !mapped)
		leave_head(r);
	if ((e = rest_member(r)) < 0)
		return e;
	if ((e = rest_place(r)) < 0)
		return e;
	if ((e = rest_check(r)) < 0 || (e = rest_open(r)) < 0) /* 3: this machine; files, fds */
		return e;
	if (r->opt->alone && !r->opt->look && (e = rest_clocks(r)) < 0)
		return e;
	if ((e = rest_tree(r)) < 0)
		return e;
	if (r->opt->set_creds && (e = rest_creds(r)) < 0) /* 4 */
		return e;

	r->opt->destroyed = 1; /* 5 */
	if (!mapped) {
		/* The kernel would write into memory that is about to be another's. */
		blob_rseq_off(b);
		sys_set_robust_list(NULL, 24);
		rest_clear(r);
		if ((e = rest_map(r)) < 0) /* 6 */
			return e;
	}
	if ((e = rest_fill(r)) < 0) /* 7 */
		return e;
	if ((e = rest_settle(r)) < 0) /* 8 */
		return e;
	if ((e = rest_lazy(r)) < 0)
		return e;
	if ((e = rest_mm(r)) < 0) /* 9 */
		return e;
	if ((e = rest_fds(r)) < 0) /* 10 */
		return e;
	return rest_state(r); /* 11 */
}

static struct restore *begin(struct blob *b, struct blob_restore *opt)
{
	struct restore *r;

	if (!opt->warm && !opt->first && !opt->in_place && !b->own_len) /* else that is there */
		arena_reset(b);
	r = arena_alloc(b, sizeof *r);
	if (!r)
		return NULL;
	r->b = b;
	r->opt = opt;
	r->cwd_fd = -1;
	return r;
}

/* All of it is read and nothing is done with it: is it whole, could it run here? */
static long read_through(struct restore *r)
{
	const uint64_t size = 64ul << 10;
	uint8_t *buf = arena_raw(r->b, size);
	long e = buf ? 0 : -ENOMEM;

	for (uint64_t left = r->page_bytes; e == 0 && left;) {
		uint64_t n = MIN(left, size);

		e = read_exactly(r, buf, n, "pages");
		left -= n;
	}
	if (e == 0)
		e = read_exactly(r, r->end, IMAGE_END_NOTE, "pages");
	return e < 0 ? e : rest_end(r);
}

long blob_check(struct blob *b)
{
	struct blob_restore opt = {.fd = b->fd, .stream_fd = {-1, -1, -1}, .look = 1};
	struct restore *r = begin(b, &opt);
	long e;

	if (!r)
		return -ENOMEM;
	e = blob_env_fill(b);
	if (e == 0)
		e = read_head(r);
	if (e == 0 && b->check_stream) {
		e = read_through(r);
		if (e == 0)
			e = rest_place(r);
		if (e == 0)
			e = rest_check(r);
		if (e == 0)
			e = rest_open(r);
		e = MIN(e, 0);
		rest_close(r);
	}
	b->head = (uint64_t)r->head;
	b->head_len = r->head_len;
	return e;
}

void rest_done(struct blob *b)
{
	const struct restore *r = (void *)b->restore;

	/* Else it is needed still. */
	if (!b->nthreads && !r->nplan && !r->first && !b->seccomp_len)
		arena_reset(b);
}

long blob_restore(struct blob *b, struct blob_restore *opt)
{
	struct restore *r;
	long e;

	opt->destroyed = !!opt->warm;
	r = begin(b, opt);
	if (!r)
		return -ENOMEM;
	if ((e = blob_env_fill(b)) < 0)
		return e;
	e = run_steps(r);
	b->own_len = 0;
	if (e < 0 && !opt->destroyed)
		rest_close(r);
	b->restore = (uint64_t)r;
	if (!opt->in_place)
		rest_done(b);
	return e;
}
