/*
 * The stream engine (slaved/stream.c): for random orders of reading, sending,
 * crediting, breaking links and moving on, the bytes that come out are the bytes
 * that went in, and no more than a window is ever under way.
 */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "slaved/stream.h"

static unsigned char byte_at(uint64_t offset)
{
	return (unsigned char)(offset * 2654435761u >> 13);
}

/* One assertion for all of them: each one costs Check a write. */
static void check_bytes(const unsigned char *data, uint64_t offset, size_t n)
{
	size_t bad = 0;

	for (size_t i = 0; i < n; i++)
		bad += data[i] != byte_at(offset + i);
	if (bad)
		ck_abort_msg("%zu of %zu bytes at %llu are wrong", bad, n,
			     (unsigned long long)offset);
}

/* What is on the way: data and credits, in order each; lost when the link breaks. */
struct wire_msg {
	int kind; /* 0 data, 1 end, 2 credit */
	uint64_t offset;
	size_t len;
	unsigned char *data;
};
struct wire {
	struct wire_msg q[4096];
	size_t head, tail;
};

static void put(struct wire *w, int kind, uint64_t offset, const void *data, size_t len)
{
	struct wire_msg *m = &w->q[w->tail++ % 4096];

	if (w->tail - w->head >= 4096)
		ck_abort_msg("more messages than a window can hold");
	*m = (struct wire_msg){.kind = kind, .offset = offset, .len = len};
	if (len > 0) {
		m->data = malloc(len);
		memcpy(m->data, data, len);
	}
}

static void clear(struct wire *w)
{
	for (; w->head != w->tail; w->head++)
		free(w->q[w->head % 4096].data);
}

struct pair {
	struct stream_out out;
	struct stream_in in;
	struct wire there, back;
	uint64_t produced, consumed, total;
};

static size_t rnd(size_t n)
{
	return n ? (size_t)random() % n : 0;
}

static void produce(struct pair *p)
{
	size_t room, n;
	unsigned char *to = p->produced < p->total ? stream_out_space(&p->out, &room) : NULL;

	if (to) {
		n = 1 + rnd(rnd(4) ? 500 : room);
		if (n > room)
			n = room;
		if (n > p->total - p->produced)
			n = (size_t)(p->total - p->produced);
		for (size_t i = 0; i < n; i++)
			to[i] = byte_at(p->produced + i);
		stream_out_filled(&p->out, n);
		p->produced += n;
	}
	if (p->produced == p->total)
		p->out.ended = true;
}

static void pump(struct pair *p)
{
	const unsigned char *data;
	uint64_t offset;
	size_t n;

	while (rnd(8) && (n = stream_out_next(&p->out, &offset, &data)) > 0) {
		put(&p->there, 0, offset, data, n);
		stream_out_sent(&p->out, n);
		if (p->out.sent - p->out.acked > STREAM_WINDOW)
			ck_abort_msg("more than a window is under way");
	}
	if (stream_out_take_end(&p->out))
		put(&p->there, 1, p->out.end, NULL, 0);
}

static void deliver(struct pair *p)
{
	struct wire_msg *m;

	if (p->there.head == p->there.tail)
		return;
	m = &p->there.q[p->there.head++ % 4096];
	if ((m->kind == 0 ? stream_in_data(&p->in, m->offset, m->data, m->len)
			  : stream_in_end(&p->in, m->offset)) != 0)
		ck_abort_msg("what was sent is refused");
	free(m->data);
}

static void consume(struct pair *p)
{
	const unsigned char *data;
	size_t n = stream_in_next(&p->in, &data);
	uint64_t upto;

	n = rnd(3) ? rnd(n + 1) : n;
	check_bytes(data, p->consumed, n);
	if (n > 0)
		stream_in_taken(&p->in, n);
	p->consumed += n;
	if (stream_in_credit(&p->in, stream_in_finished(&p->in), &upto))
		put(&p->back, 2, upto, NULL, 0);
}

static void credit(struct pair *p)
{
	if (p->back.head == p->back.tail)
		return;
	if (stream_out_credit(&p->out, p->back.q[p->back.head++ % 4096].offset) != 0)
		ck_abort_msg("a credit is refused");
}

static void relink(struct pair *p)
{
	uint64_t upto;

	clear(&p->there);
	clear(&p->back);
	stream_out_rewind(&p->out);
	p->in.ended = false;
	ck_assert(stream_in_credit(&p->in, true, &upto));
	put(&p->back, 2, upto, NULL, 0);
}

static void begin(struct pair *p, uint64_t total)
{
	uint64_t upto;

	memset(p, 0, sizeof(*p));
	p->total = total;
	stream_out_init(&p->out, false);
	stream_in_init(&p->in, true);
	ck_assert(stream_in_credit(&p->in, true, &upto));
	put(&p->back, 2, upto, NULL, 0);
}

static void end(struct pair *p)
{
	clear(&p->there);
	clear(&p->back);
	stream_out_free(&p->out);
	stream_in_free(&p->in);
}

static void run(struct pair *p, bool breaks)
{
	for (long step = 0; !stream_in_finished(&p->in); step++) {
		if (step == 50000000)
			ck_abort_msg("it does not end");
		switch (rnd(5)) {
		case 0:
			produce(p);
			break;
		case 1:
			pump(p);
			break;
		case 2:
			deliver(p);
			break;
		case 3:
			consume(p);
			break;
		default:
			credit(p);
		}
		if (breaks && rnd(500) == 0)
			relink(p);
	}
	ck_assert_uint_eq(p->consumed, p->total);
}

START_TEST(in_order)
{
	static struct pair p;

	for (int seed = 0; seed < 20; seed++) {
		srandom((unsigned int)seed);
		begin(&p, rnd(3u << 20));
		run(&p, false);
		end(&p);
	}
}
END_TEST

START_TEST(links_break)
{
	static struct pair p;

	for (int seed = 0; seed < 20; seed++) {
		srandom((unsigned int)seed);
		begin(&p, rnd(1u << 20));
		run(&p, true);
		end(&p);
	}
}
END_TEST

/* A reader that moves: what it had got and not used comes back, and the next one gets it. */
START_TEST(reader_moves)
{
	struct stream_out o;
	struct stream_in i;
	const unsigned char *data;
	unsigned char *to, back[5000];
	uint64_t offset, expect = 0;
	size_t room, n;

	stream_out_init(&o, true);
	for (int node = 0; node < 50; node++) {
		srandom((unsigned int)node);
		stream_in_init(&i, false);
		ck_assert_int_eq(stream_out_open(&o, STREAM_UNKNOWN), 0);
		to = stream_out_space(&o, &room);
		ck_assert_ptr_nonnull(to);
		n = room < 3000 ? room : 3000;
		for (size_t k = 0; k < n; k++)
			to[k] = byte_at(o.end + k);
		stream_out_filled(&o, n);
		while ((n = stream_out_next(&o, &offset, &data)) > 0) {
			ck_assert_int_eq(stream_in_data(&i, offset, data, n), 0);
			stream_out_sent(&o, n);
		}
		/* All of it reaches the socket, some is acknowledged, some of it is read. */
		n = stream_in_next(&i, &data);
		n = 1 + rnd(n);
		if (n > sizeof(back))
			n = sizeof(back);
		memcpy(back, data, n);
		stream_in_taken(&i, n);
		if (node % 2)
			ck_assert_int_eq(stream_out_credit(&o, i.done + STREAM_WINDOW), 0);
		size_t used = rnd(n + 1);

		check_bytes(back, expect, used);
		expect += used;
		ck_assert_int_eq(stream_out_back(&o, i.done - (n - used), back + used, n - used),
				 0);
		ck_assert_uint_eq(o.acked, expect);
		stream_in_free(&i);
	}
	stream_out_free(&o);
}
END_TEST

/* A writer that moves: the next one begins where the last one ended, unseen by the reader. */
START_TEST(writer_moves)
{
	struct stream_in i;
	const unsigned char *data;
	uint64_t upto, expect = 0;
	size_t n;

	stream_in_init(&i, true);
	for (int node = 0; node < 20; node++) {
		struct stream_out o;
		size_t room;
		unsigned char *to;
		uint64_t offset;

		stream_out_init(&o, false);
		to = stream_out_space(&o, &room);
		for (size_t k = 0; k < 1000; k++)
			to[k] = byte_at((uint64_t)node * 1000 + k);
		stream_out_filled(&o, 1000);
		o.ended = true;
		ck_assert_uint_eq(stream_out_next(&o, &offset, &data), 0);
		/* Half of the time bytes of the writer before are not handed on yet. */
		upto = stream_in_rebase(&i);
		ck_assert_int_eq(stream_out_credit(&o, upto), 0);
		n = stream_out_next(&o, &offset, &data);
		ck_assert_uint_eq(n, 1000);
		ck_assert_uint_eq(offset, (uint64_t)node * 1000);
		ck_assert_int_eq(stream_in_data(&i, offset, data, n), 0);
		stream_out_sent(&o, n);
		ck_assert(stream_out_take_end(&o));
		ck_assert(!stream_out_take_end(&o));
		ck_assert_int_eq(stream_in_end(&i, o.end), 0);
		while (node % 2 && (n = stream_in_next(&i, &data)) > 0) {
			check_bytes(data, expect, n);
			stream_in_taken(&i, n);
			expect += n;
		}
		stream_out_free(&o);
	}
	ck_assert_uint_eq(expect, 20000);
	ck_assert(stream_in_finished(&i));
	stream_in_free(&i);
}
END_TEST

/* Who begins at 0 asks nobody for the first window, also on the next link. */
START_TEST(first_window)
{
	struct stream_out o;
	struct stream_in i;
	const unsigned char *data;
	unsigned char *to;
	uint64_t offset, upto;
	size_t room, n = 0;

	stream_out_init(&o, true);
	stream_in_init(&i, true);
	for (int link = 0; link < 3; link++) {
		ck_assert_uint_eq(stream_out_reopen(&o), 0);
		ck_assert(stream_in_fresh(&i));
		while ((to = stream_out_space(&o, &room))) {
			memset(to, link, room);
			stream_out_filled(&o, room);
		}
		while ((n = stream_out_next(&o, &offset, &data)) > 0) {
			ck_assert_int_eq(stream_in_data(&i, offset, data, n), 0);
			stream_out_sent(&o, n);
		}
		ck_assert_uint_eq(o.sent, STREAM_WINDOW);
	}
	ck_assert_uint_eq(i.next, STREAM_WINDOW);
	n = stream_in_next(&i, &data);
	stream_in_taken(&i, n);
	ck_assert(stream_in_credit(&i, false, &upto));
	ck_assert(!stream_in_fresh(&i));
	ck_assert_int_eq(stream_out_credit(&o, upto), 0);
	ck_assert_uint_eq(stream_out_reopen(&o), n);
	ck_assert_uint_eq(stream_out_next(&o, &offset, &data), 0);
	stream_out_free(&o);
	stream_in_free(&i);

	/* One that was elsewhere before is told where it is. */
	stream_out_init(&o, false);
	ck_assert_uint_eq(stream_out_reopen(&o), STREAM_UNKNOWN);
	stream_out_free(&o);
}
END_TEST

START_TEST(lies)
{
	struct stream_out o;
	struct stream_in i;
	unsigned char *to, big[STREAM_WINDOW + 1] = {0};
	size_t room;

	stream_in_init(&i, true);
	ck_assert_int_eq(stream_in_data(&i, 1, "x", 1), -EPROTO);
	ck_assert_int_eq(stream_in_data(&i, UINT64_MAX - 2, "xyz", 3), -EPROTO);
	ck_assert_int_eq(stream_in_data(&i, 0, big, sizeof(big)), -EPROTO);
	ck_assert_int_eq(stream_in_data(&i, 0, big, STREAM_WINDOW), 0);
	ck_assert_int_eq(stream_in_data(&i, STREAM_WINDOW, "x", 1), -EPROTO);
	ck_assert_int_eq(stream_in_end(&i, 5), -EPROTO);
	ck_assert_int_eq(stream_in_end(&i, STREAM_WINDOW), 0);
	ck_assert_int_eq(stream_in_data(&i, STREAM_WINDOW, "x", 1), -EPROTO);
	stream_in_free(&i);

	stream_out_init(&o, true);
	to = stream_out_space(&o, &room);
	memset(to, 0, 10);
	stream_out_filled(&o, 10);
	ck_assert_int_eq(stream_out_credit(&o, 5), -EPROTO);
	ck_assert_int_eq(stream_out_credit(&o, STREAM_WINDOW + 11), -EPROTO);
	ck_assert_int_eq(stream_out_credit(&o, UINT64_MAX), -EPROTO);
	ck_assert_int_eq(stream_out_back(&o, 1, NULL, 0), -EPROTO);
	ck_assert_int_eq(stream_out_open(&o, 11), -EPROTO);
	ck_assert_int_eq(stream_out_open(&o, 10), 0);
	stream_out_free(&o);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("stream");
	TCase *t = tcase_create("stream");
	SRunner *r = srunner_create(s);
	int failed;

	tcase_set_timeout(t, 60);
	tcase_add_test(t, in_order);
	tcase_add_test(t, links_break);
	tcase_add_test(t, reader_moves);
	tcase_add_test(t, writer_moves);
	tcase_add_test(t, first_window);
	tcase_add_test(t, lies);
	suite_add_tcase(s, t);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
