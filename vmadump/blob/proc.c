/*
 * Reader of /proc/self for dump and restore; runs in the blob, in the process
 * that is read about.
 */
#include "lib.h"
#include "proc.h"
#include "sys.h"

long text_open(struct blob *b, struct text *t, const char *path)
{
	long fd;

	*t = (struct text){.fd = -1};
	t->buf = arena_raw(b, TEXT_BUF + 1);
	if (!t->buf)
		return -ENOMEM;
	fd = sys_open(path, O_RDONLY | O_CLOEXEC, 0);
	if (fd < 0)
		return blob_err_set(&b->err, EIO, "%s: %s", path, errno_name(fd));
	t->fd = (int)fd;
	return 0;
}

/* Eight bytes at a time: most of a dump's own work is on these lines. */
static uint32_t find_newline(const char *buf, uint32_t at, uint32_t len)
{
	const uint64_t ones = 0x0101010101010101ull, high = ones << 7;

	for (; at + 8 <= len; at += 8) {
		uint64_t x = get64((const uint8_t *)buf + at) ^ ones * '\n';

		x = (x - ones) & ~x & high;
		if (x)
			return at + (uint32_t)__builtin_ctzll(x) / 8;
	}
	while (at < len && buf[at] != '\n')
		at++;
	return at;
}

char *text_line(struct text *t)
{
	for (;;) {
		char *at = t->buf + t->pos;
		uint32_t i = find_newline(t->buf, t->pos, t->len);
		long n;

		if (i < t->len) {
			t->buf[i] = 0;
			t->pos = i + 1;
			return at;
		}
		if (t->eof || (t->pos == 0 && t->len == TEXT_BUF)) {
			t->buf[t->len] = 0;
			t->pos = t->len;
			return *at && t->len ? at : NULL;
		}
		memmove(t->buf, at, t->len - t->pos);
		t->len -= t->pos;
		t->pos = 0;
		n = TEXT_BUF - t->len;
		n = sys_read(t->fd, t->buf + t->len, (uint64_t)(t->most ? MIN(n, t->most) : n));
		if (n == -EINTR)
			continue;
		if (n <= 0)
			t->eof = 1;
		else
			t->len += (uint32_t)n;
		t->buf[t->len] = 0;
	}
}

void text_close(struct text *t)
{
	if (t->fd >= 0)
		sys_close(t->fd);
	t->fd = -1;
}

/* The kernel writes a newline in a path as \012 and nothing else in this way. */
static void unescape(char *s)
{
	char *d = s;

	for (; *s; s++) {
		if (s[0] == '\\' && s[1] == '0' && s[2] == '1' && s[3] == '2') {
			*d++ = '\n';
			s += 3;
		} else {
			*d++ = *s;
		}
	}
	*d = 0;
}

int map_line_parse(char *line, struct map_line *ret)
{
	const char *s = line;
	struct map_line m = {0};

	if (!((*s >= '0' && *s <= '9') || (*s >= 'a' && *s <= 'f')))
		return 0;
	m.start = str_hex(&s);
	if (*s++ != '-')
		return 0;
	m.end = str_hex(&s);
	if (*s++ != ' ')
		return 0;
	if (!s[0] || !s[1] || !s[2] || !s[3])
		return 0;
	m.prot = (s[0] == 'r' ? PROT_READ : 0u) | (s[1] == 'w' ? PROT_WRITE : 0u) |
		 (s[2] == 'x' ? PROT_EXEC : 0u);
	m.shared = s[3] == 's';
	s += 4;
	str_skip_spaces(&s);
	m.off = str_hex(&s);
	str_skip_spaces(&s);
	m.dev_major = (uint32_t)str_hex(&s);
	if (*s++ != ':')
		return 0;
	m.dev_minor = (uint32_t)str_hex(&s);
	str_skip_spaces(&s);
	m.ino = str_dec(&s);
	str_skip_spaces(&s);
	m.name = line + (s - line);
	unescape(m.name);
	*ret = m;
	return 1;
}

uint32_t special_kind(const char *name)
{
	if (name[0] != '[' || name[1] != 'v')
		return 0;
	if (str_eq(name, "[vdso]"))
		return SPECIAL_VDSO;
	if (str_eq(name, "[vvar]"))
		return SPECIAL_VVAR;
	if (str_eq(name, "[vvar_vclock]"))
		return SPECIAL_VVAR_VCLOCK;
	return 0;
}

long proc_read(const char *path, char *buf, uint64_t size)
{
	long fd = sys_open(path, O_RDONLY | O_CLOEXEC, 0), n;

	if (fd < 0)
		return fd;
	do
		n = sys_read((int)fd, buf, size - 1);
	while (n == -EINTR);
	sys_close((int)fd);
	if (n >= 0)
		buf[n] = 0;
	return n;
}

int oom_score(int32_t *ret)
{
	char text[16];
	const char *s = text;
	long n = proc_read("/proc/self/oom_score_adj", text, sizeof text);

	if (n <= 0)
		return 0;
	s += *s == '-';
	*ret = (int32_t)str_dec(&s);
	if (text[0] == '-')
		*ret = -*ret;
	return 1;
}
