/*
 * What the source of memory that follows a process sends to its pager, cut anywhere. However it
 * is cut, the same comes out, and nothing that is out of bounds.
 */
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "slaved/pager.h"

struct out {
	uint64_t sum, bytes, unasked;
	unsigned int ranges, answers, ends;
	int err;
};

static void add(struct out *o, uint64_t v)
{
	o->sum = o->sum * 33 + v;
}

static void on_ranges(void *arg, const struct lazy_range *r, uint32_t n)
{
	struct out *o = arg;

	MUST(n > 0 && n <= LAZY_RANGES_MAX && !o->ranges);
	for (uint32_t i = 0; i < n; i++) {
		MUST(r[i].start < r[i].end && r[i].end <= IMAGE_ADDR_MAX);
		MUST(i == 0 || r[i].start >= r[i - 1].end);
		add(o, r[i].start);
	}
	o->ranges++;
}

static int on_pages(void *arg, uint64_t at, const unsigned char *p, uint64_t n)
{
	struct out *o = arg;

	MUST(o->ranges && n && n % IMAGE_PAGE == 0 && at % IMAGE_PAGE == 0 &&
	     at + n <= IMAGE_ADDR_MAX);
	for (uint64_t i = 0; i < n; i++)
		add(o, at + i + p[i]);
	o->bytes += n;
	return 0;
}

static void on_answered(void *arg, uint64_t at)
{
	add(arg, at);
	((struct out *)arg)->answers++;
}

static int on_none(void *arg, uint64_t at, uint64_t n)
{
	MUST(n && at + n <= IMAGE_ADDR_MAX);
	add(arg, at + n);
	return 0;
}

static void on_unasked(void *arg, uint64_t n)
{
	((struct out *)arg)->unasked += n;
}

static void on_end(void *arg)
{
	((struct out *)arg)->ends++;
}

static struct out take(const uint8_t *p, size_t len, size_t step)
{
	static const struct pager_ops ops = {on_ranges, on_pages,   on_answered,
					     on_none,	on_unasked, on_end};
	struct pager_in in = {0};
	struct out o = {0};
	size_t from = 0, n;

	while (from < len && !o.err) {
		unsigned char *copy;

		n = step && len - from > step ? step : len - from;
		copy = malloc(n); /* of just that length: a sanitizer sees what is beyond */
		MUST(copy);
		memcpy(copy, p + from, n);
		o.err = pager_take(&in, copy, n, &ops, &o);
		free(copy);
		from += n;
		MUST(in.nrest < PAGER_REST);
	}
	return o;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct out whole, cut;

	if (len == 0)
		return 0;
	whole = take(data + 1, len - 1, 0);
	cut = take(data + 1, len - 1, 1 + data[0] * 7u);
	MUST(whole.err == cut.err && whole.sum == cut.sum && whole.bytes == cut.bytes &&
	     whole.unasked == cut.unasked && whole.answers == cut.answers &&
	     whole.ends == cut.ends && whole.ranges == cut.ranges);
	return 0;
}
