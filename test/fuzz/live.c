/*
 * Pages that go ahead of an image, as the ghost takes them in (vmadump/blob/live_take.c): a stream
 * made from the input, cut anywhere. However it is cut the same comes out; it writes into what it
 * has had mapped itself, in its window, and nowhere else; and dropped, all of it is gone, and what
 * was in the window before is not.
 */
#include "fuzz.h"
#include "vmadump/blob/image.h"
#include "vmadump/blob/lib.h"
#include "vmadump/blob/live.h"
#include "vmadump/blob/sys.h"

#define STREAM_MAX (1u << 20)
#define PIECE_MOST 65536 /* that a pair of sockets holds */
#define OWN_BYTE 0xa5

/* Not where a sanitizer has its shadow. */
static const uint64_t window[] = {0x180000000000, 0x200000000000, 0x400000000000};
/* Somebody else's: a page here and there in the first window, behind the table and far up. */
static const uint64_t own[] = {0x180000000000 + LIVE_TABLE + 64 * IMAGE_PAGE,
			       0x180000000000 + 5 * LIVE_ALIGN,
			       0x180000000000 + LIVE_WINDOW - IMAGE_PAGE};

struct stream {
	uint8_t *at;
	size_t len;
};

static uint8_t *room(struct stream *s, size_t n)
{
	uint8_t *p = s->at + s->len;

	if (STREAM_MAX - s->len < n)
		return NULL;
	s->len += n;
	return p;
}

static void add_frame(struct stream *s, uint32_t type, uint32_t flags, uint64_t a, uint64_t b,
		      uint64_t c)
{
	uint8_t *h = room(s, LIVE_FRAME);

	if (!h)
		return;
	put32(h, type);
	put32(h + 4, flags);
	put64(h + 8, a);
	put64(h + 16, b);
	put64(h + 24, c);
}

static void add_bytes(struct stream *s, size_t n, uint8_t seed)
{
	uint8_t *p = room(s, n);

	for (size_t i = 0; p && i < n; i++)
		p[i] = (uint8_t)(seed + i * 7 + (i >> 8));
}

/* Places close to each other, so that they meet: a few regions, a few pages. */
static uint64_t some_place(struct fuzz_in *in)
{
	uint8_t c = fuzz_u8(in);

	return 0x10000000ul * (1 + (c >> 6)) + (uint64_t)(c & 63) * IMAGE_PAGE;
}

static uint64_t some_length(struct fuzz_in *in)
{
	uint8_t c = fuzz_u8(in);

	if (c < 0xe0)
		return (uint64_t)(c % 20) * IMAGE_PAGE;
	return c < 0xf0 ? fuzz_u64(in) : (uint64_t)c * LIVE_ALIGN;
}

static void add_map(struct stream *s, struct fuzz_in *in, uint64_t lo)
{
	uint64_t start = some_place(in), len = some_length(in);
	uint8_t c = fuzz_u8(in);
	/* Where it has to lie modulo the alignment; c 0xff: anywhere. */
	uint64_t at = lo + (uint64_t)(c & 15) * LIVE_ALIGN + start % LIVE_ALIGN;

	if (c == 0xff)
		at = fuzz_u64(in);
	else if (c >= 0xf0)
		at = lo + LIVE_WINDOW - LIVE_ALIGN + start % LIVE_ALIGN;
	add_frame(s, LIVE_MAP, c & 16 ? LIVE_NORESERVE : 0, start, len, at);
}

static void make(struct stream *s, struct fuzz_in *in)
{
	uint64_t lo = window[0], bytes = 0, start, len;
	const uint8_t *p;
	uint8_t c, *to;
	size_t n;

	while (in->left) {
		switch (fuzz_u8(in) % 7) {
		case 0:
			c = fuzz_u8(in);
			lo = c == 0xff ? fuzz_u64(in) : window[c % COUNT(window)];
			add_frame(s, LIVE_HELLO, LIVE_VERSION, LIVE_MAGIC, 1 + c, lo);
			break;
		case 1:
		case 2:
			add_map(s, in, lo);
			break;
		case 3:
		case 4:
			start = some_place(in);
			len = some_length(in);
			add_frame(s, LIVE_PAGES, 0, start, len, 0);
			if (len <= STREAM_MAX)
				add_bytes(s, len, fuzz_u8(in));
			bytes += len;
			break;
		case 5:
			c = fuzz_u8(in);
			add_frame(s, LIVE_END, 0, c < 0xf0 ? bytes : c, 0, 0);
			break;
		default:
			p = fuzz_bytes(in, LIVE_FRAME, &n);
			to = room(s, n);
			if (to)
				memcpy(to, p, n);
		}
	}
}

struct out {
	uint64_t sum, bytes;
	uint32_t n, whole;
};

static int is_free(uint64_t at)
{
	unsigned char there;

	/* mincore(2): ENOMEM for what is not mapped. */
	return sys3(__NR_mincore, (long)at, IMAGE_PAGE, (long)&there) == -ENOMEM;
}

static void look(const struct blob *b, const struct live_in *in)
{
	MUST(b->aside_lo == in->lo && b->aside_hi <= in->hi && in->n <= LIVE_MAPS_MAX);
	MUST(in->left <= LIVE_PIECE_MAX);
	for (uint32_t i = 0; i < in->n; i++) {
		const struct live_map *m = &in->map[i];
		uint64_t len = m->end - m->start;

		MUST(m->start < m->end && m->end <= IMAGE_ADDR_MAX);
		MUST(m->at >= in->lo + LIVE_TABLE && m->at + len <= b->aside_hi);
		for (uint32_t k = 0; k < i; k++) {
			const struct live_map *o = &in->map[k];

			MUST(m->end <= o->start || o->end <= m->start);
			MUST(m->at + len <= o->at || o->at + (o->end - o->start) <= m->at);
		}
	}
}

/* What is there of each, where anything may have been written. */
static uint64_t sum_of(const struct live_in *in)
{
	uint64_t sum = in->n;

	for (uint32_t i = 0; i < in->n; i++) {
		const struct live_map *m = &in->map[i];
		uint64_t most = MIN(m->end - m->start, 128 * IMAGE_PAGE);

		sum = sum * 33 + m->start + (m->at ^ m->end);
		for (uint64_t at = m->at; at < m->at + most; at += 64)
			sum = sum * 33 + *(const volatile uint64_t *)at;
	}
	return sum;
}

static void check_own(void)
{
	for (unsigned int i = 0; i < COUNT(own); i++)
		for (uint64_t k = 0; k < IMAGE_PAGE; k += 64)
			MUST(((const volatile uint8_t *)own[i])[k] == OWN_BYTE);
}

static struct out take(const struct stream *st, size_t step)
{
	static struct blob b;
	static struct live_map were[LIVE_MAPS_MAX];
	struct live_stream s = {.fd = -1};
	struct out o = {0};
	uint64_t lo = 0;
	int end[2];

	MUST(sys_socketpair(1 /* AF_UNIX */, 1 /* SOCK_STREAM */, 0, end) == 0);
	live_start(&b, &s, end[0]);
	for (size_t at = 0, n; at < st->len && s.fd >= 0; at += n) {
		n = MIN(step, st->len - at);
		MUST(sys_write(end[1], st->at + at, n) == (long)n);
		for (int there = 1; s.fd >= 0 && there > 0;) {
			live_some(&b, &s);
			if (s.fd < 0 || sys_ioctl(s.fd, FIONREAD, &there) < 0)
				break;
		}
		if (s.in)
			look(&b, s.in);
	}
	sys_close(end[1]);
	o.whole = (uint32_t)live_all(&b, &s);
	if (s.in) {
		MUST(o.whole && s.in->ended);
		o.n = s.in->n;
		o.bytes = s.in->bytes;
		o.sum = sum_of(s.in);
		lo = s.in->lo;
		memcpy(were, s.in->map, o.n * sizeof(were[0]));
	}
	live_drop(&b, &s);
	MUST(s.fd < 0 && !s.in && !b.aside_hi);
	MUST(!lo || is_free(lo));
	for (uint32_t i = 0; i < o.n; i++)
		MUST(is_free(were[i].at) &&
		     is_free(were[i].at + (were[i].end - were[i].start) - IMAGE_PAGE));
	check_own();
	return o;
}

static void prepare(struct stream *s)
{
	static uint8_t *buf;

	for (unsigned int i = 0; !buf && i < COUNT(own); i++) {
		MUST(sys_mmap((void *)own[i], IMAGE_PAGE, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1,
			      0) == (long)own[i]);
		__builtin_memset((void *)own[i], OWN_BYTE, IMAGE_PAGE);
	}
	if (!buf)
		buf = __builtin_malloc(STREAM_MAX);
	MUST(buf);
	s->at = buf;
	s->len = 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct fuzz_in in = {data, len};
	struct out whole, cut;
	struct stream s;
	size_t step = 1 + fuzz_u8(&in) * 97u;

	prepare(&s);
	make(&s, &in);
	whole = take(&s, PIECE_MOST);
	cut = take(&s, step < 32 && s.len > 65536 ? 4099 : step);
	MUST(whole.whole == cut.whole && whole.n == cut.n && whole.bytes == cut.bytes &&
	     whole.sum == cut.sum);
	return 0;
}
