/*
 * What opens a data connection (data_hdr) and what follows in it (frames of
 * bpdata), cut anywhere. However it is cut, the same bytes come out.
 */
#include <string.h>

#include "fuzz.h"
#include "slaved/bpdata_frame.h"
#include "slaved/bpslave.h"
#include "slaved/bpslave_data.h"

struct out {
	uint64_t sum;
	size_t bytes, stops;
	int err;
};

/* step 0: all at once. */
static struct out take(const uint8_t *p, size_t n, size_t step)
{
	struct frame_in f = {.have = 0};
	struct out o = {.sum = 5381};
	const unsigned char *bytes;
	size_t got;

	while (n && !o.err) {
		const unsigned char *at = p;
		size_t left = step && step < n ? step : n, had = left;
		int what;

		while ((what = frame_take(&f, &at, &left, &bytes, &got)) != FRAME_MORE) {
			if (what < 0) {
				o.err = what;
				break;
			}
			if (what == FRAME_STOP) {
				o.stops++;
				continue;
			}
			MUST(what == FRAME_BYTES && got > 0 && got <= FRAME_MAX);
			for (size_t i = 0; i < got; i++)
				o.sum = o.sum * 33 + bytes[i];
			o.bytes += got;
		}
		MUST(o.err || left == 0);
		p += had;
		n -= had;
	}
	return o;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct data_hdr h, want = {.pid = 0};
	struct out whole, cut;
	size_t n = len < sizeof(h) ? len : sizeof(h);

	if (data_parse_hdr(data, n, &h) == 0) {
		MUST(h.pid > 0);
		if (data_admits(&h, &want) == 0)
			MUST(h.move_id == 0 && h.epoch == 0);
		MUST(data_admits(&h, &h) == 0);
	}
	if (len == 0)
		return 0;
	whole = take(data + 1, len - 1, 0);
	cut = take(data + 1, len - 1, 1 + data[0] % 13);
	MUST(whole.err == cut.err && whole.bytes == cut.bytes && whole.stops == cut.stops &&
	     whole.sum == cut.sum);
	return 0;
}
