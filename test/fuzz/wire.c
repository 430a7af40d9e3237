/*
 * Bytes of a control or peer link after TLS: length, envelope, credentials. An
 * envelope that is accepted must survive being sent again unchanged.
 */
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "libbproc/wire.h"

static void again(const Bproc__Envelope *env)
{
	size_t size = wire_frame_size(env), n;
	Bproc__Envelope *twin;
	unsigned char *buf, *buf2;
	uint32_t len;

	MUST(strcmp(wire_name(env), "nothing") != 0);
	if (size == 0)
		return; /* grown over WIRE_MAX: numbers may come in more bytes than they need */
	buf = malloc(size);
	MUST(buf);
	n = wire_put_frame(env, buf);
	MUST(n == size);
	MUST(wire_get_length(buf, &len) == 0 && len == size - WIRE_HDR);
	MUST(wire_get_envelope(buf + WIRE_HDR, len, &twin) == 0);
	MUST(twin->msg_case == env->msg_case && wire_frame_size(twin) == size);
	buf2 = malloc(size);
	MUST(buf2);
	wire_put_frame(twin, buf2);
	MUST(memcmp(buf, buf2, size) == 0);
	bproc__envelope__free_unpacked(twin, NULL);
	free(buf);
	free(buf2);
}

static void cred(const uint8_t *data, size_t len)
{
	unsigned char raw[WIRE_CRED_SIZE];
	struct chan_cred c, twin;

	if (wire_get_cred(data, len, &c) < 0)
		return;
	MUST(c.ngroups <= CHAN_NGROUPS);
	wire_put_cred(&c, raw);
	MUST(wire_get_cred(raw, sizeof(raw), &twin) == 0 && twin.ngroups == c.ngroups);
	MUST(memcmp(twin.group, c.group, c.ngroups * sizeof(*c.group)) == 0);
	MUST(memcmp(twin.rlim, c.rlim, sizeof(c.rlim)) == 0 && twin.cap_eff == c.cap_eff);
}

static void envelope(const uint8_t *data, size_t len)
{
	Bproc__Envelope *env;

	if (wire_get_envelope(data, len, &env) < 0)
		return;
	again(env);
	bproc__envelope__free_unpacked(env, NULL);
}

/* A frame that is right but for a few of its bytes. */
static void nearly(struct fuzz_in *in)
{
	const ProtobufCMessageDescriptor *d = &bproc__envelope__descriptor;
	const ProtobufCFieldDescriptor *f = &d->fields[fuzz_u8(in) % d->n_fields];
	unsigned int flips = fuzz_u8(in) % 4;
	ProtobufCMessage *msg = fuzz_message(in, f->descriptor, NULL);
	unsigned char *buf;
	Bproc__Envelope env;
	size_t n;

	MUST(wire_envelope(msg, &env) == 0);
	again(&env);
	n = wire_frame_size(&env);
	buf = malloc(n);
	MUST(buf && wire_put_frame(&env, buf) == n);
	while (flips--) {
		uint32_t at = fuzz_u16(in);

		buf[at % n] ^= fuzz_u8(in);
	}
	envelope(buf + WIRE_HDR, n - WIRE_HDR);
	free(buf);
	protobuf_c_message_free_unpacked(msg, NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct fuzz_in in = {data, len};
	uint32_t n;

	if (len < WIRE_HDR)
		return 0;
	cred(data, len);
	if (wire_get_length(data, &n) == 0)
		MUST(n > 0 && n <= WIRE_MAX);
	if (fuzz_u8(&in) & 1)
		nearly(&in);
	else
		envelope(data + WIRE_HDR, len - WIRE_HDR);
	return 0;
}
