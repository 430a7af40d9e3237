/*
 * Messages out of fuzz input, by protobuf-c's own descriptors: so a decoder sees
 * well-formed messages with odd contents, which mutated bytes rarely are.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"

void fuzz_broken(const char *file, int line, const char *what)
{
	fprintf(stderr, "%s:%d: broken: %s\n", file, line, what);
	abort();
}

#define DEPTH_MAX 4
#define REPEAT_MAX 4 /* of a repeated field; one choice in 16 makes it LONG */
#define LONG 40
#define STRING_MAX 24

struct gen {
	struct fuzz_in *in;
	const struct fuzz_ids *ids;
	int depth;
};

static ProtobufCMessage *message(struct gen *g, const ProtobufCMessageDescriptor *d);

static uint64_t number(struct gen *g)
{
	uint8_t c = fuzz_u8(g->in);

	switch (c >> 5) {
	case 0:
	case 1:
	case 2:
		return c & 0x1f;
	case 3:
		return 65536ull * (c & 3) + (c >> 2 & 7); /* a pid of a node's slot */
	case 4:
		return (uint64_t) - (int64_t)(c & 0x1f);
	case 5:
		return g->ids && g->ids->n ? g->ids->id[c % g->ids->n] : c;
	case 6:
		return fuzz_u16(g->in);
	default:
		return fuzz_u64(g->in);
	}
}

static char *string(struct gen *g)
{
	static const char *const words[] = {"up", "down", "boot", "x86_64", "1.1", "unreachable"};
	size_t n = fuzz_u8(g->in) % (STRING_MAX + 1);
	const uint8_t *p;
	char *s;

	if (n < sizeof(words) / sizeof(*words))
		return strdup(words[n]);
	p = fuzz_bytes(g->in, n, &n);
	s = calloc(n + 1, 1);
	MUST(s);
	memcpy(s, p, n);
	return s;
}

/* Bytes: of the length that a record has, or of any. */
static ProtobufCBinaryData binary(struct gen *g)
{
	static const uint16_t sizes[] = {0, 15, 32, 480};
	uint8_t c = fuzz_u8(g->in);
	size_t n = c < 128 ? sizes[c & 3] : c & 0x7f, have;
	ProtobufCBinaryData b = {.len = n, .data = n ? calloc(1, n) : NULL};
	const uint8_t *p = fuzz_bytes(g->in, n, &have);

	MUST(!n || b.data);
	if (n)
		memcpy(b.data, p, have);
	return b;
}

static size_t size_of(ProtobufCType type)
{
	switch (type) {
	case PROTOBUF_C_TYPE_INT64:
	case PROTOBUF_C_TYPE_SINT64:
	case PROTOBUF_C_TYPE_UINT64:
	case PROTOBUF_C_TYPE_FIXED64:
	case PROTOBUF_C_TYPE_SFIXED64:
		return 8;
	case PROTOBUF_C_TYPE_STRING:
	case PROTOBUF_C_TYPE_MESSAGE:
		return sizeof(void *);
	case PROTOBUF_C_TYPE_BYTES:
		return sizeof(ProtobufCBinaryData);
	case PROTOBUF_C_TYPE_BOOL:
		return sizeof(protobuf_c_boolean);
	default:
		return 4;
	}
}

static void value(struct gen *g, const ProtobufCFieldDescriptor *f, void *at)
{
	uint64_t v;

	switch (f->type) {
	case PROTOBUF_C_TYPE_MESSAGE:
		*(ProtobufCMessage **)at = message(g, f->descriptor);
		return;
	case PROTOBUF_C_TYPE_STRING:
		*(char **)at = string(g);
		return;
	case PROTOBUF_C_TYPE_BYTES:
		*(ProtobufCBinaryData *)at = binary(g);
		return;
	case PROTOBUF_C_TYPE_BOOL:
		*(protobuf_c_boolean *)at = fuzz_u8(g->in) & 1;
		return;
	default:
		v = number(g);
		memcpy(at, &v, size_of(f->type)); /* little endian */
	}
}

static void repeated(struct gen *g, const ProtobufCFieldDescriptor *f, char *base)
{
	size_t size = size_of(f->type), *count = (size_t *)(void *)(base + f->quantifier_offset);
	uint8_t c = fuzz_u8(g->in);
	size_t n = c >> 4 == 15 ? LONG : c % (REPEAT_MAX + 1);
	char *p;

	if (n == 0)
		return;
	p = calloc(n, size);
	MUST(p);
	*(void **)(void *)(base + f->offset) = p;
	*count = n;
	for (size_t i = 0; i < n; i++)
		value(g, f, p + i * size);
}

static ProtobufCMessage *message(struct gen *g, const ProtobufCMessageDescriptor *d)
{
	ProtobufCMessage *m = calloc(1, d->sizeof_message);

	MUST(m);
	protobuf_c_message_init(d, m);
	if (++g->depth <= DEPTH_MAX)
		for (unsigned int i = 0; i < d->n_fields; i++) {
			const ProtobufCFieldDescriptor *f = &d->fields[i];
			char *base = (char *)m;

			if (f->label == PROTOBUF_C_LABEL_REPEATED)
				repeated(g, f, base);
			else if (f->type != PROTOBUF_C_TYPE_MESSAGE || fuzz_u8(g->in) % 8)
				value(g, f, base + f->offset);
		}
	g->depth--;
	return m;
}

ProtobufCMessage *fuzz_message(struct fuzz_in *in, const ProtobufCMessageDescriptor *d,
			       const struct fuzz_ids *ids)
{
	struct gen g = {.in = in, .ids = ids};

	return message(&g, d);
}
