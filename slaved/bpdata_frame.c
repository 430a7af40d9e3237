/*
 * The frames of a TLS data connection: doc/streams.md, section 3. Runs in bpdata;
 * what is read here comes from whoever has the cluster key, and is checked as if
 * it came from anybody.
 */
#include <endian.h>
#include <errno.h>
#include <string.h>

#include "slaved/bpdata_frame.h"

void frame_put(unsigned char *to, uint32_t type, uint32_t len)
{
	uint32_t w[2] = {htole32(type), htole32(len)};

	memcpy(to, w, sizeof(w));
}

/* The head is whole. 0: bytes follow; 1: the image ends; -EBADMSG. */
static int read_head(struct frame_in *f)
{
	uint32_t w[2];

	memcpy(w, f->head, sizeof(w));
	f->have = 0;
	if (le32toh(w[0]) == FRAME_END && w[1] == 0)
		return 1;
	f->left = le32toh(w[1]);
	if (le32toh(w[0]) != FRAME_DATA || f->left == 0 || f->left > FRAME_MAX)
		return -EBADMSG;
	return 0;
}

int frame_from_server(const unsigned char *p)
{
	uint32_t w[2];

	memcpy(w, p, sizeof(w));
	w[0] = le32toh(w[0]);
	w[1] = le32toh(w[1]);
	if (w[0] == FRAME_DONE && w[1] == 0)
		return 0;
	if (w[0] == FRAME_BACK && w[1] > 0 && w[1] <= FRAME_BACK_MAX)
		return (int)w[1];
	return -EBADMSG;
}

int frame_take(struct frame_in *f, const unsigned char **p, size_t *n,
	       const unsigned char **ret_data, size_t *ret_len)
{
	size_t take;
	int r;

	while (!f->left) {
		take = FRAME_HEAD - f->have < *n ? FRAME_HEAD - f->have : *n;
		memcpy(f->head + f->have, *p, take);
		f->have += (unsigned int)take;
		*p += take;
		*n -= take;
		if (f->have < FRAME_HEAD)
			return FRAME_MORE;
		r = read_head(f);
		if (r)
			return r < 0 ? r : FRAME_STOP;
	}
	if (!*n)
		return FRAME_MORE;
	take = f->left < *n ? f->left : *n;
	*ret_data = *p;
	*ret_len = take;
	f->left -= (uint32_t)take;
	*p += take;
	*n -= take;
	return FRAME_BYTES;
}
