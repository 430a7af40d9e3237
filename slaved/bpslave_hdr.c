/*
 * The header that opens a data connection: read, and held against the move that
 * they name. Runs in bpslave of the target. Nothing here is trusted until the
 * token has been compared.
 */
#include <endian.h>
#include <errno.h>
#include <string.h>
#include <openssl/crypto.h>

#include "bpdata.h"
#include "bpslave.h"
#include "bpslave_data.h"

_Static_assert(sizeof(struct data_hdr) == BPDATA_HDR, "the header's length on the wire");

int data_parse_hdr(const unsigned char *buf, size_t len, struct data_hdr *ret_hdr)
{
	struct data_hdr h;

	if (len != sizeof(h))
		return -EBADMSG;
	memcpy(&h, buf, sizeof(h));
	h.magic = le32toh(h.magic);
	h.version = le32toh(h.version);
	h.move_id = le64toh(h.move_id);
	h.epoch = le32toh(h.epoch);
	h.pid = (int32_t)le32toh((uint32_t)h.pid);
	h.kind = le32toh(h.kind);
	h.flags = le32toh(h.flags);
	for (int i = 0; i < DATA_STREAMS; i++) {
		h.streams[i].id = le64toh(h.streams[i].id);
		h.streams[i].upto = le64toh(h.streams[i].upto);
	}
	h.used.utime_us = le64toh(h.used.utime_us);
	h.used.stime_us = le64toh(h.used.stime_us);
	h.used.maxrss_kb = le64toh(h.used.maxrss_kb);
	if (h.magic != DATA_MAGIC || h.version != DATA_VERSION || h.flags & ~DATA_LAZY ||
	    h.pid <= 0 || h.kind < MOVE_RFORK || h.kind > MOVE_LIVE)
		return -EBADMSG;
	*ret_hdr = h;
	return 0;
}

int data_admits(const struct data_hdr *h, const struct data_hdr *want)
{
	/* The token first, and in constant time: the rest is no secret. */
	if (CRYPTO_memcmp(h->token, want->token, sizeof(h->token)) != 0)
		return -EACCES;
	if (h->move_id != want->move_id)
		return -ENOENT;
	if (h->epoch != want->epoch)
		return -ESTALE;
	if (h->kind != want->kind || (want->pid != 0 && h->pid != want->pid))
		return -EPROTO;
	return 0;
}
