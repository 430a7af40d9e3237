/*
 * Memory, strings, the error formatter and the arena of the blob. Runs inside
 * whatever process the blob is mapped into; compiled freestanding.
 */
#include "lib.h"
#include "sys.h"

void *memcpy(void *dst, const void *src, size_t n)
{
	void *d = dst;

	__asm__ volatile("rep movsb" : "+D"(d), "+S"(src), "+c"(n) : : "memory");
	return dst;
}

void *memmove(void *dst, const void *src, size_t n)
{
	char *d = dst;
	const char *s = src;

	if (d <= s || d >= s + n)
		return memcpy(dst, src, n);
	while (n--)
		d[n] = s[n];
	return dst;
}

void *memset(void *dst, int c, size_t n)
{
	void *d = dst;

	__asm__ volatile("rep stosb" : "+D"(d), "+c"(n) : "a"(c) : "memory");
	return dst;
}

typedef uint64_t __attribute__((may_alias, aligned(1))) word_at;

int memcmp(const void *a, const void *b, size_t n)
{
	const unsigned char *x = a, *y = b;

	/* A ghost compares all of the blob's code with a file. */
	for (; n >= 8 && *(const word_at *)x == *(const word_at *)y; n -= 8)
		x += 8, y += 8;
	for (; n; n--, x++, y++)
		if (*x != *y)
			return *x - *y;
	return 0;
}

size_t str_len(const char *s)
{
	size_t n = 0;

	while (s[n])
		n++;
	return n;
}

int str_eq(const char *a, const char *b)
{
	while (*a && *a == *b)
		a++, b++;
	return *a == *b;
}

int str_starts(const char *s, const char *prefix)
{
	while (*prefix)
		if (*s++ != *prefix++)
			return 0;
	return 1;
}

int str_ends(const char *s, const char *suffix)
{
	size_t n = str_len(s), m = str_len(suffix);

	return n >= m && memcmp(s + n - m, suffix, m) == 0;
}

size_t str_copy(char *dst, size_t size, const char *src)
{
	size_t n = 0;

	while (n + 1 < size && src[n]) {
		dst[n] = src[n];
		n++;
	}
	dst[n] = 0;
	return n;
}

uint64_t str_hex(const char **s)
{
	uint64_t v = 0;

	for (;; (*s)++) {
		char c = **s;

		if (c >= '0' && c <= '9')
			v = v << 4 | (uint64_t)(c - '0');
		else if (c >= 'a' && c <= 'f')
			v = v << 4 | (uint64_t)(c - 'a' + 10);
		else
			return v;
	}
}

uint64_t str_dec(const char **s)
{
	uint64_t v = 0;

	for (; **s >= '0' && **s <= '9'; (*s)++)
		v = v * 10 + (uint64_t)(**s - '0');
	return v;
}

void str_skip_spaces(const char **s)
{
	while (**s == ' ' || **s == '\t')
		(*s)++;
}

struct out {
	char *p, *end;
};

static void put_char(struct out *o, char c)
{
	if (o->p < o->end)
		*o->p++ = c;
}

static void put_num(struct out *o, uint64_t v, unsigned base)
{
	char buf[24];
	int n = 0;

	do {
		unsigned d = (unsigned)(v % base);

		buf[n++] = (char)(d < 10 ? '0' + d : 'a' + d - 10);
		v /= base;
	} while (v);
	while (n)
		put_char(o, buf[--n]);
}

size_t str_vformat(char *dst, size_t size, const char *fmt, va_list ap)
{
	struct out o = {dst, dst + size - 1};

	for (; *fmt; fmt++) {
		int wide = 0;
		int64_t v;

		if (*fmt != '%') {
			put_char(&o, *fmt);
			continue;
		}
		fmt++;
		if (*fmt == 'l') {
			wide = 1;
			fmt++;
		}
		switch (*fmt) {
		case 's':
			for (const char *s = va_arg(ap, const char *); *s; s++)
				put_char(&o, *s);
			break;
		case 'c':
			put_char(&o, (char)va_arg(ap, int));
			break;
		case 'd':
			v = wide ? va_arg(ap, long) : va_arg(ap, int);
			if (v < 0)
				put_char(&o, '-');
			put_num(&o, v < 0 ? -(uint64_t)v : (uint64_t)v, 10);
			break;
		case 'u':
		case 'x':
			put_num(&o, wide ? va_arg(ap, unsigned long) : va_arg(ap, unsigned),
				*fmt == 'x' ? 16 : 10);
			break;
		default:
			put_char(&o, *fmt);
		}
	}
	*o.p = 0;
	return (size_t)(o.p - dst);
}

size_t str_format(char *dst, size_t size, const char *fmt, ...)
{
	va_list ap;
	size_t n;

	va_start(ap, fmt);
	n = str_vformat(dst, size, fmt, ap);
	va_end(ap);
	return n;
}

long blob_err_set(struct blob_err *err, int code, const char *fmt, ...)
{
	va_list ap;

	err->code = code;
	va_start(ap, fmt);
	str_vformat(err->text, sizeof err->text, fmt, ap);
	va_end(ap);
	return -(long)code;
}

const char *errno_name(long code)
{
	switch (code < 0 ? -code : code) {
	case EPERM:
		return "operation not permitted";
	case ENOENT:
		return "no such file or directory";
	case EIO:
		return "input/output error";
	case ENXIO:
		return "no such device or address";
	case EBADF:
		return "bad file descriptor";
	case EAGAIN:
		return "try again";
	case ENOMEM:
		return "out of memory";
	case EACCES:
		return "permission denied";
	case EFAULT:
		return "bad address";
	case EBUSY:
		return "busy";
	case EOPNOTSUPP:
		return "operation not supported";
	case EEXIST:
		return "exists already";
	case ENOTDIR:
		return "not a directory";
	case EISDIR:
		return "is a directory";
	case EINVAL:
		return "invalid argument";
	case EMFILE:
		return "too many open files";
	case ENFILE:
		return "too many open files in the system";
	case ETXTBSY:
		return "text file busy";
	case EFBIG:
		return "file too large";
	case ENOSPC:
		return "no space left";
	case EROFS:
		return "read-only file system";
	case EPIPE:
		return "the reader has gone";
	case ENOSYS:
		return "not in this kernel";
	case ELOOP:
		return "too many symbolic links";
	case ENAMETOOLONG:
		return "name too long";
	case EOVERFLOW:
		return "value too large";
	case ECONNRESET:
		return "connection reset";
	case ETIMEDOUT:
		return "timed out";
	case EDQUOT:
		return "disk quota exceeded";
	default:
		return "failed";
	}
}

#define ARENA_MAX (1ul << 32)

/*
 * The arena starts in the blob and goes on in the addresses behind it, so that
 * one pointer serves and a small process needs no mmap at all.
 */
static int arena_extend(struct blob *b, uint64_t bytes)
{
	struct blob_arena *a = &b->arena;
	uint64_t end = a->base + a->size;
	uint64_t more = ROUND_UP(MAX(bytes, a->size), 4096);
	long r = sys_mmap((void *)end, more, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE | MAP_NORESERVE, -1, 0);

	if (r < 0) {
		blob_err_set(&b->err, ENOMEM, "vmadump: %lu bytes of working memory: %s", more,
			     errno_name(r));
		return -1;
	}
	a->size += more;
	return 0;
}

void *arena_raw(struct blob *b, uint64_t bytes)
{
	struct blob_arena *a = &b->arena;
	uint64_t at = ROUND_UP(a->used, 64);

	if (bytes > ARENA_MAX) {
		blob_err_set(&b->err, ENOMEM, "vmadump: too much to hold: %lu bytes", bytes);
		return NULL;
	}
	if (at + bytes > a->size && arena_extend(b, at + bytes - a->size) < 0)
		return NULL;
	a->used = at + bytes;
	return (void *)(a->base + at);
}

void *arena_alloc(struct blob *b, uint64_t bytes)
{
	void *p = arena_raw(b, bytes);

	return p ? memset(p, 0, bytes) : NULL;
}

int arena_grow(struct blob *b, void *last, uint64_t bytes)
{
	struct blob_arena *a = &b->arena;
	uint64_t at = (uint64_t)last - a->base;

	if (at + bytes > a->size && arena_extend(b, at + bytes - a->size) < 0)
		return -1;
	a->used = at + bytes;
	return 0;
}

void arena_shrink(struct blob *b, void *last, uint64_t bytes)
{
	b->arena.used = (uint64_t)last - b->arena.base + bytes;
}

void arena_release(struct blob *b, uint64_t mark)
{
	b->arena.used = mark;
}

void arena_reset(struct blob *b)
{
	struct blob_arena *a = &b->arena;
	uint64_t inside = BLOB_DATA - BLOB_SCRATCH;

	if (a->size > inside)
		sys_munmap((void *)(b->self + BLOB_DATA), a->size - inside);
	*a = (struct blob_arena){.base = b->self + BLOB_SCRATCH, .size = inside};
}
