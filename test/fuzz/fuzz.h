/*
 * What the fuzz targets share. Each target is one file with LLVMFuzzerTestOneInput:
 * linked with libFuzzer by ./dev fuzz, and with replay.c as a unit test over the
 * inputs that are kept in corpus/.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <google/protobuf-c/protobuf-c.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

/*
 * A promise of the decoder that must hold whatever the input; assert() has no words. No header of
 * libc is used here: the blob's are not to be had beside them.
 */
_Noreturn void fuzz_broken(const char *file, int line, const char *what);
#define MUST(cond)                                                                                 \
	do {                                                                                       \
		if (!(cond))                                                                       \
			fuzz_broken(__FILE__, __LINE__, #cond);                                    \
	} while (0)

/* The rest of an input; what is taken beyond its end is 0. */
struct fuzz_in {
	const uint8_t *p;
	size_t left;
};

static inline uint8_t fuzz_u8(struct fuzz_in *in)
{
	if (in->left == 0)
		return 0;
	in->left--;
	return *in->p++;
}

static inline uint32_t fuzz_u16(struct fuzz_in *in)
{
	uint32_t lo = fuzz_u8(in);

	return lo | (uint32_t)fuzz_u8(in) << 8;
}

static inline uint64_t fuzz_u64(struct fuzz_in *in)
{
	uint64_t v = 0;

	for (int i = 0; i < 8; i++)
		v |= (uint64_t)fuzz_u8(in) << 8 * i;
	return v;
}

/* Up to max bytes, in place. */
static inline const uint8_t *fuzz_bytes(struct fuzz_in *in, size_t max, size_t *ret_len)
{
	const uint8_t *at = in->p;
	size_t n = max < in->left ? max : in->left;

	in->p += n;
	in->left -= n;
	*ret_len = n;
	return at;
}

/*
 * A message of type d with fields from the input: message.c. Numbers are mostly small, since
 * most fields are pids, nodes and codes; ids, if not NULL, are numbers that a 64-bit field may
 * get (moves that exist). Free it with protobuf_c_message_free_unpacked().
 */
#define FUZZ_IDS 16
struct fuzz_ids {
	uint64_t id[FUZZ_IDS];
	unsigned int n;
};
ProtobufCMessage *fuzz_message(struct fuzz_in *in, const ProtobufCMessageDescriptor *d,
			       const struct fuzz_ids *ids);
