/*
 * An image that may be packed, read: restore, check, info. Library code; runs in whoever reads,
 * and in a clone of it that unpacks.
 *
 * What it is, its first four bytes say. The clone that unpacks has the rights of who reads, and
 * before it sees a byte of what may be hostile it gives all of them up: it can read its input,
 * write its output and exit (SECCOMP_MODE_STRICT), in memory that it has already.
 */
#define ZSTD_STATIC_LINKING_ONLY
#include <errno.h>
#include <linux/seccomp.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/sysinfo.h>
#include <unistd.h>
#include <zstd.h>
#include <zstd_errors.h>

#include "vmadump/blob/image.h"
#include "vmadump/pack.h"

/* So many bytes, less at the end of what there is; -1. */
static ssize_t read_some(int fd, uint8_t *p, size_t n)
{
	size_t at = 0;

	while (at < n) {
		ssize_t r = read(fd, p + at, n - at);

		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0)
			return -1;
		if (r == 0)
			break;
		at += (size_t)r;
	}
	return (ssize_t)at;
}

static int fail(struct pack_report *rep, int code, int reading)
{
	rep->code = code;
	rep->reading = (uint32_t)reading;
	return -1;
}

static int put_out(struct pack_report *rep, const uint8_t *p, size_t n)
{
	rep->bytes += n;
	if (rep->bytes > rep->most)
		return fail(rep, ENOMEM, 0);
	while (n) {
		ssize_t w = write(1, p, n);

		if (w < 0 && errno == EINTR)
			continue;
		if (w < 0)
			return fail(rep, errno, 0);
		p += w;
		n -= (size_t)w;
	}
	return 0;
}

/*
 * zstd says how much of its input it can make use of; no more is read, so that what follows the
 * frame stays where it is.
 */
static int unpack_all(struct pack_report *rep, ZSTD_DStream *z, uint8_t *in, uint8_t *out)
{
	static const uint8_t magic[4] = {PACK_MAGIC & 0xff, PACK_MAGIC >> 8 & 0xff,
					 PACK_MAGIC >> 16 & 0xff, PACK_MAGIC >> 24};
	size_t want = sizeof magic, room = ZSTD_DStreamInSize();
	ZSTD_inBuffer src = {magic, sizeof magic, 0};

	while (want) {
		ZSTD_outBuffer dst = {out, ZSTD_DStreamOutSize(), 0};

		want = ZSTD_decompressStream(z, &dst, &src);
		if (ZSTD_isError(want)) {
			rep->zstd = (uint32_t)ZSTD_getErrorCode(want);
			return fail(rep, EBADMSG, 0);
		}
		if (put_out(rep, out, dst.pos) < 0)
			return -1;
		if (want && src.pos == src.size && dst.pos < dst.size) {
			ssize_t n = read_some(0, in, want < room ? want : room);

			if (n <= 0)
				return fail(rep, n ? errno : EBADMSG, 1);
			src = (ZSTD_inBuffer){in, (size_t)n, 0};
		}
	}
	return 0;
}

static void unpack_work(struct pack_report *rep)
{
	uint64_t room = ZSTD_estimateDStreamSize((size_t)1 << PACK_WINDOW_LOG_MAX);
	void *memory = pack_memory(room);
	uint8_t *in = pack_memory(ZSTD_DStreamInSize());
	uint8_t *out = pack_memory(ZSTD_DStreamOutSize());
	ZSTD_DStream *z = memory ? ZSTD_initStaticDStream(memory, room) : NULL;

	if (!z || !in || !out) {
		fail(rep, ENOMEM, 0);
		return;
	}
	ZSTD_DCtx_setParameter(z, ZSTD_d_windowLogMax, PACK_WINDOW_LOG_MAX);
	/* A kernel without it unpacks with the rights of who reads, as all else is read. */
	prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT);
	rep->whole = unpack_all(rep, z, in, out) == 0;
}

int source_open(struct source *s, int fd, struct trace *t)
{
	uint64_t most;
	struct sysinfo si = {0};
	ssize_t n;

	*s = (struct source){.fd = fd, .c = {.pipe = -1}};
	n = read_some(fd, s->first, sizeof s->first);
	if (n < 0)
		return trace_fail(t, errno, "reading the image: %s", strerror(errno));
	s->nfirst = (uint32_t)n;
	if (n < (ssize_t)sizeof s->first || get32(s->first) != PACK_MAGIC)
		return 0;
	s->nfirst = 0;
	/* What is in an image is memory of who is restored. */
	sysinfo(&si);
	most = IMAGE_HEAD_MAX + (uint64_t)(si.totalram + si.totalswap) * si.mem_unit;
	if (pack_start(&s->c, fd, 0, most, unpack_work, t) < 0)
		return -1;
	s->fd = s->c.pipe;
	return 0;
}

static int tell(const struct pack_report *rep, struct trace *t)
{
	if (rep->zstd)
		return trace_fail(t, rep->code, "not an image, or damaged: unpacking: %s",
				  ZSTD_getErrorString((ZSTD_ErrorCode)rep->zstd));
	if (rep->code == EBADMSG)
		return trace_fail(t, EBADMSG, "the packed image is cut short");
	if (rep->reading)
		return trace_fail(t, rep->code, "reading the image: %s", strerror(rep->code));
	if (rep->bytes > rep->most)
		return trace_fail(t, ENOMEM,
				  "the image unpacks to more than this machine's memory");
	return trace_fail(t, rep->code, "unpacking the image: %s", strerror(rep->code));
}

int source_whole(struct source *s, struct trace *t)
{
	uint8_t more;
	ssize_t n;

	if (!s->c.report)
		return 0;
	n = read_some(s->fd, &more, 1);
	if (n)
		return trace_fail(t, EBADMSG, "not an image, or damaged: more is packed than it");
	pack_reap(&s->c, 0);
	if (s->c.report->whole)
		return 0;
	return s->c.report->code ? tell(s->c.report, t)
				 : trace_fail(t, EIO, "who unpacks the image has ended");
}

int source_close(struct source *s, int r, struct trace *t)
{
	const struct pack_report *rep = s->c.report;
	int e = errno;

	if (!rep)
		return r;
	/* One that has ended keeps what it has said; EPIPE is who reads having enough. */
	pack_reap(&s->c, 1);
	if (r < 0 && rep->code && rep->code != EPIPE) {
		tell(rep, t);
		e = errno;
	}
	pack_forget(&s->c);
	errno = e;
	return r;
}
