/*
 * The arithmetic of a forwarded stream. First byte even: both ends by themselves,
 * told anything; their books must stay in order. Odd: a writer and a reader over
 * a link that breaks; what comes out must be what went in, whole and once.
 */
#include "fuzz.h"
#include "slaved/stream.h"

/* The byte at an offset of every stream. */
static unsigned char pattern(uint64_t at)
{
	return (unsigned char)((at * 2654435761u) >> 13);
}

static void check_out(const struct stream_out *o)
{
	MUST(o->acked <= o->sent && o->sent <= o->end);
	MUST(o->ring.len == o->end - o->acked && o->ring.len <= o->ring.size);
}

static void check_in(const struct stream_in *i)
{
	MUST(i->done <= i->next && i->ring.len == i->next - i->done);
	/* A writer that begins anew is given a window beside what is left of the last one. */
	MUST(i->ring.len <= i->ring.size && i->ring.size <= 2 * STREAM_WINDOW);
	MUST(!i->based || i->next <= i->told);
}

static void fill(struct stream_out *o, size_t want)
{
	size_t room;
	unsigned char *p = stream_out_space(o, &room);

	if (!p)
		return;
	MUST(room > 0);
	if (want < room)
		room = want;
	for (size_t i = 0; i < room; i++)
		p[i] = pattern(o->end + i);
	stream_out_filled(o, room);
}

/* -- told anything */

static uint64_t any_offset(struct fuzz_in *in, uint64_t near)
{
	uint8_t c = fuzz_u8(in);

	if (c < 128)
		return near + (uint64_t)(int64_t)(int8_t)(c << 1);
	return c < 192 ? near + fuzz_u16(in) * 16ull : fuzz_u64(in);
}

static void tell_out(struct stream_out *o, struct fuzz_in *in)
{
	static unsigned char bytes[2 * STREAM_WINDOW];
	const unsigned char *p;
	uint64_t at;
	size_t n;

	switch (fuzz_u8(in) % 8) {
	case 0:
		fill(o, fuzz_u16(in));
		break;
	case 1:
		n = stream_out_next(o, &at, &p);
		if (n) {
			MUST(at == o->sent && at + n <= o->limit && p[n - 1] == p[n - 1]);
			stream_out_sent(o, n);
		}
		break;
	case 2:
		stream_out_credit(o, any_offset(in, o->acked + STREAM_WINDOW));
		break;
	case 3:
		at = any_offset(in, o->acked);
		stream_out_back(o, at, bytes, fuzz_u16(in) * 8);
		break;
	case 4:
		stream_out_open(o, any_offset(in, o->acked));
		break;
	case 5:
		stream_out_rewind(o);
		break;
	case 6:
		stream_out_reopen(o);
		break;
	default:
		o->ended = true;
		stream_out_take_end(o);
	}
	check_out(o);
}

static void tell_in(struct stream_in *i, struct fuzz_in *in)
{
	static unsigned char bytes[2 * STREAM_WINDOW];
	const unsigned char *p;
	uint64_t at;
	size_t n;

	switch (fuzz_u8(in) % 5) {
	case 0:
		at = any_offset(in, i->next);
		stream_in_data(i, at, bytes, fuzz_u16(in) * 8);
		break;
	case 1:
		stream_in_end(i, any_offset(in, i->next));
		break;
	case 2:
		n = stream_in_next(i, &p);
		if (n > 1 && fuzz_u8(in) & 1)
			n /= 2;
		if (n)
			stream_in_taken(i, n);
		break;
	case 3:
		if (stream_in_credit(i, fuzz_u8(in) & 1, &at))
			MUST(at >= i->done);
		break;
	default:
		stream_in_rebase(i);
	}
	check_in(i);
}

static void anything(struct fuzz_in *in)
{
	struct stream_out out;
	struct stream_in i;

	stream_out_init(&out, fuzz_u8(in) & 1);
	stream_in_init(&i, fuzz_u8(in) & 1);
	while (in->left) {
		if (fuzz_u8(in) & 1)
			tell_out(&out, in);
		else
			tell_in(&i, in);
	}
	stream_out_free(&out);
	stream_in_free(&i);
}

/* -- a pair */

struct pair {
	struct stream_out out;
	struct stream_in in;
	uint64_t got; /* bytes that the reader has handed on */
};

static void carry(struct pair *p, bool lost)
{
	const unsigned char *bytes;
	uint64_t at;
	size_t n = stream_out_next(&p->out, &at, &bytes);

	if (n) {
		if (!lost)
			MUST(stream_in_data(&p->in, at, bytes, n) == 0);
		stream_out_sent(&p->out, n);
	} else if (stream_out_take_end(&p->out) && !lost) {
		MUST(stream_in_end(&p->in, p->out.end) == 0);
	}
}

static void hand_on(struct pair *p, size_t want)
{
	const unsigned char *bytes;
	size_t n = stream_in_next(&p->in, &bytes);

	if (n > want)
		n = want;
	for (size_t k = 0; k < n; k++)
		MUST(bytes[k] == pattern(p->got + k));
	stream_in_taken(&p->in, n);
	p->got += n;
}

static void credit(struct pair *p, bool now)
{
	uint64_t upto;

	if (stream_in_credit(&p->in, now, &upto))
		MUST(stream_out_credit(&p->out, upto) == 0);
}

/* What is under way is lost; the writer begins again where the reader last said it was. */
static void relink(struct pair *p)
{
	stream_out_reopen(&p->out);
	credit(p, true);
}

static void step(struct pair *p, struct fuzz_in *in)
{
	uint8_t c = fuzz_u8(in);

	switch (c & 7) {
	case 0:
	case 1:
		fill(&p->out, fuzz_u16(in));
		break;
	case 2:
	case 3:
		carry(p, false);
		break;
	case 4:
		carry(p, true); /* a link loses nothing unless it breaks */
		relink(p);
		break;
	case 5:
		hand_on(p, fuzz_u16(in));
		break;
	case 6:
		credit(p, c & 8);
		break;
	default:
		if (c & 8)
			relink(p);
		if (c == 0xff)
			p->out.ended = true;
	}
	check_out(&p->out);
	check_in(&p->in);
}

static void pair(struct fuzz_in *in)
{
	struct pair p = {.got = 0};

	stream_out_init(&p.out, true);
	stream_in_init(&p.in, true);
	relink(&p);
	while (in->left)
		step(&p, in);
	p.out.ended = true;
	for (int i = 0; i < 64 && !stream_in_finished(&p.in); i++) {
		carry(&p, false);
		hand_on(&p, SIZE_MAX);
		credit(&p, true);
	}
	MUST(stream_in_finished(&p.in) && p.got == p.out.end);
	stream_out_free(&p.out);
	stream_in_free(&p.in);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct fuzz_in in = {data, len};

	if (fuzz_u8(&in) & 1)
		pair(&in);
	else
		anything(&in);
	return 0;
}
