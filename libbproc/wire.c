/*
 * Frames and credentials of the wire (wire.h, doc/wire.md sections 1 and 5).
 * Runs in bpmaster and bpslave. No I/O: link.c moves the bytes.
 */
#include <errno.h>
#include <string.h>

#include "wire.h"

/* The oneof's members are pointers of one size in a union; hello stands for any. */
_Static_assert(sizeof(((Bproc__Envelope *)0)->hello) == sizeof(void *), "oneof of pointers");

int wire_envelope(const ProtobufCMessage *msg, Bproc__Envelope *ret_env)
{
	const ProtobufCMessageDescriptor *d = &bproc__envelope__descriptor;

	for (unsigned int i = 0; i < d->n_fields; i++) {
		if (d->fields[i].descriptor != msg->descriptor)
			continue;
		bproc__envelope__init(ret_env);
		ret_env->msg_case = (Bproc__Envelope__MsgCase)d->fields[i].id;
		ret_env->hello = (Bproc__Hello *)(uintptr_t)msg;
		return 0;
	}
	return -EINVAL;
}

size_t wire_frame_size(const Bproc__Envelope *env)
{
	size_t n = bproc__envelope__get_packed_size(env);

	return n > WIRE_MAX ? 0 : n + WIRE_HDR;
}

static void put32be(unsigned char *p, uint32_t v)
{
	p[0] = (unsigned char)(v >> 24);
	p[1] = (unsigned char)(v >> 16);
	p[2] = (unsigned char)(v >> 8);
	p[3] = (unsigned char)v;
}

size_t wire_put_frame(const Bproc__Envelope *env, unsigned char *buf)
{
	size_t n = bproc__envelope__pack(env, buf + WIRE_HDR);

	put32be(buf, (uint32_t)n);
	return n + WIRE_HDR;
}

int wire_get_length(const unsigned char hdr[WIRE_HDR], uint32_t *ret_len)
{
	uint32_t n =
		(uint32_t)hdr[0] << 24 | (uint32_t)hdr[1] << 16 | (uint32_t)hdr[2] << 8 | hdr[3];

	if (n > WIRE_MAX)
		return -EMSGSIZE;
	if (n == 0)
		return -EBADMSG;
	*ret_len = n;
	return 0;
}

/* In it or in what it holds, of which none is nested deeper than Envelope's types are. */
static bool has_unknown(const ProtobufCMessage *m)
{
	const ProtobufCMessageDescriptor *d = m->descriptor;
	const ProtobufCFieldDescriptor *f;
	ProtobufCMessage *const *one;
	const char *at = (const char *)m;
	size_t n;

	if (m->n_unknown_fields > 0)
		return true;
	for (unsigned int i = 0; i < d->n_fields; i++) {
		f = &d->fields[i];
		if (f->type != PROTOBUF_C_TYPE_MESSAGE)
			continue;
		n = 1;
		one = (ProtobufCMessage *const *)(at + f->offset);
		if (f->label == PROTOBUF_C_LABEL_REPEATED) {
			n = *(const size_t *)(at + f->quantifier_offset);
			one = *(ProtobufCMessage *const *const *)one;
		} else if (f->flags & PROTOBUF_C_FIELD_FLAG_ONEOF &&
			   *(const uint32_t *)(at + f->quantifier_offset) != f->id) {
			continue;
		}
		for (size_t k = 0; k < n; k++)
			if (one[k] && has_unknown(one[k]))
				return true;
	}
	return false;
}

int wire_get_envelope(const unsigned char *buf, size_t len, Bproc__Envelope **ret_env)
{
	Bproc__Envelope *env = bproc__envelope__unpack(NULL, len, buf);

	if (!env)
		return -EBADMSG;
	/* Both ends have the same protocol number: what is not known here is an error. */
	if (env->msg_case == BPROC__ENVELOPE__MSG__NOT_SET || has_unknown(&env->base)) {
		bproc__envelope__free_unpacked(env, NULL);
		return -EBADMSG;
	}
	*ret_env = env;
	return 0;
}

const char *wire_name(const Bproc__Envelope *env)
{
	const ProtobufCFieldDescriptor *f;
	const ProtobufCMessageDescriptor *d;

	f = protobuf_c_message_descriptor_get_field(&bproc__envelope__descriptor, env->msg_case);
	if (!f)
		return "nothing";
	d = f->descriptor;
	return d->short_name;
}

static unsigned char *put32(unsigned char *p, uint32_t v)
{
	for (int i = 0; i < 4; i++)
		*p++ = (unsigned char)(v >> (8 * i));
	return p;
}

static unsigned char *put64(unsigned char *p, uint64_t v)
{
	p = put32(p, (uint32_t)v);
	return put32(p, (uint32_t)(v >> 32));
}

static const unsigned char *get32(const unsigned char *p, uint32_t *ret_v)
{
	*ret_v = (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
	return p + 4;
}

static const unsigned char *get64(const unsigned char *p, uint64_t *ret_v)
{
	uint32_t lo, hi;

	p = get32(p, &lo);
	p = get32(p, &hi);
	*ret_v = (uint64_t)hi << 32 | lo;
	return p;
}

void wire_put_cred(const struct chan_cred *cred, unsigned char buf[WIRE_CRED_SIZE])
{
	unsigned char *p = buf;

	for (int i = 0; i < 4; i++)
		p = put32(p, cred->uid[i]);
	for (int i = 0; i < 4; i++)
		p = put32(p, cred->gid[i]);
	p = put32(p, cred->ngroups);
	for (unsigned int i = 0; i < CHAN_NGROUPS; i++)
		p = put32(p, i < cred->ngroups ? cred->group[i] : 0);
	p = put32(p, 0);
	p = put64(p, cred->cap_inh);
	p = put64(p, cred->cap_prm);
	p = put64(p, cred->cap_eff);
	p = put64(p, cred->cap_bnd);
	p = put64(p, cred->cap_amb);
	p = put32(p, cred->securebits);
	p = put32(p, cred->no_new_privs);
	p = put32(p, (uint32_t)cred->nice);
	p = put32(p, 0);
	for (int i = 0; i < 16; i++) {
		p = put64(p, cred->rlim[i][0]);
		p = put64(p, cred->rlim[i][1]);
	}
}

int wire_get_cred(const void *buf, size_t len, struct chan_cred *ret_cred)
{
	const unsigned char *p = buf;
	struct chan_cred c = {0};
	uint32_t pad, nice, zero;

	if (len != WIRE_CRED_SIZE)
		return -EBADMSG;
	for (int i = 0; i < 4; i++)
		p = get32(p, &c.uid[i]);
	for (int i = 0; i < 4; i++)
		p = get32(p, &c.gid[i]);
	p = get32(p, &c.ngroups);
	for (int i = 0; i < CHAN_NGROUPS; i++)
		p = get32(p, &c.group[i]);
	p = get32(p, &pad);
	p = get64(p, &c.cap_inh);
	p = get64(p, &c.cap_prm);
	p = get64(p, &c.cap_eff);
	p = get64(p, &c.cap_bnd);
	p = get64(p, &c.cap_amb);
	p = get32(p, &c.securebits);
	p = get32(p, &c.no_new_privs);
	p = get32(p, &nice);
	p = get32(p, &zero);
	c.nice = (int32_t)nice;
	for (int i = 0; i < 16; i++) {
		p = get64(p, &c.rlim[i][0]);
		p = get64(p, &c.rlim[i][1]);
	}
	if (c.ngroups > CHAN_NGROUPS || pad != 0 || zero != 0)
		return -EBADMSG;
	*ret_cred = c;
	return 0;
}
