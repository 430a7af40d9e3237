/*
 * vmad_info(): an image is looked at. Library code; runs in whoever
 * asks. The blob, mapped here, does the reading and the judging: it is the same code
 * that would restore it. What is printed has passed it.
 */
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "vmadump/blob/blob.h"
#include "vmadump/blob/image.h"
#include "vmadump/blob/object.h"
#include "vmadump/carry.h"
#include "vmadump/look.h"

int look_at_image(struct source *s, int all, struct blob **ret, struct vmad_err *err)
{
	struct blob *b = vmad_blob_map();
	long r;

	if (!b) {
		int e = errno;

		if (err) {
			err->code = e;
			snprintf(err->text, sizeof err->text, "vmadump: cannot map the blob: %s",
				 strerror(e));
		}
		errno = e;
		return -1;
	}
	b->verb = BLOB_CHECK;
	b->fd = s->fd;
	b->ahead = (uint64_t)s->first;
	b->ahead_len = s->nfirst;
	s->nfirst = 0;
	b->check_stream = (uint32_t)all;
	r = vmad_blob_call(b);
	if (r < 0) {
		if (err) {
			err->code = (int)-r;
			memcpy(err->text, b->err.text, sizeof err->text);
		}
		vmad_blob_drop(b);
		errno = (int)-r;
		return -1;
	}
	*ret = b;
	return 0;
}

static uint64_t up(uint64_t n, uint64_t to)
{
	return (n + to - 1) & ~(to - 1);
}

static void find_records(struct image *im, const uint8_t *p, uint32_t len)
{
	const uint8_t *end = p + len;

	while (end - p >= (long)IMAGE_REC_HEAD) {
		uint32_t tag = get16(p), n = get32(p + 4);

		if (tag <= TAG_LAST)
			im->rec[tag] = (struct record){p + IMAGE_REC_HEAD, n};
		p += IMAGE_REC_HEAD + up(n, 8);
	}
}

void look_find_notes(struct image *im)
{
	const uint8_t *p = im->head + get64(im->head + 72), *end = p + get64(im->head + 96);

	while (end - p >= 12) {
		uint32_t name = get32(p), len = get32(p + 4), type = get32(p + 8);
		const uint8_t *desc = p + 12 + up(name, 4);

		if (type == IMAGE_NOTE_NEED)
			im->need = desc;
		else if (type == IMAGE_NOTE_STATE)
			find_records(im, desc, len);
		else if (type == NT_PRPSINFO && len >= 136)
			im->psinfo = (struct record){desc, len};
		p = desc + up(len, 4);
	}
}

/* Text of the image: nothing of it may steer a terminal. */
void look_put_text(FILE *out, const char *s, size_t max)
{
	for (size_t i = 0; i < max && s[i]; i++)
		fputc(isprint((unsigned char)s[i]) ? s[i] : '?', out);
}

static const char *string_at(const struct image *im, uint32_t at)
{
	return at < im->rec[TAG_STRINGS].len ? (const char *)im->rec[TAG_STRINGS].p + at : "";
}

static void put_string(const struct image *im, FILE *out, uint32_t at)
{
	look_put_text(out, string_at(im, at), IMAGE_PATH_MAX);
}

static uint32_t count(const struct image *im, enum image_tag tag, uint32_t len)
{
	return im->rec[tag].len / len;
}

static void cgroups(const struct record *r, FILE *out)
{
	const char *s = (const char *)r->p, *end = s + r->len;

	for (size_t n; s < end; s += n + 1) {
		const char *nl = memchr(s, '\n', (size_t)(end - s));

		n = (size_t)((nl ? nl : end) - s);
		fprintf(out, "\ncgroup: ");
		look_put_text(out, s, n);
	}
}

static void summary(const struct image *im, FILE *out)
{
	const uint8_t *ident = im->rec[TAG_IDENT].p, *proc = im->rec[TAG_PROC].p;
	uint64_t mapped = 0;

	for (uint32_t i = 0; i < count(im, TAG_VMAS, REC_VMA_LEN); i++) {
		const uint8_t *v = im->rec[TAG_VMAS].p + i * (uint64_t)REC_VMA_LEN;

		mapped += get64(v + 8) - get64(v);
	}
	fprintf(out, "version: %u\nprocess: %u\nname: ", get32(im->need + NEED_VERSION),
		get32(ident));
	look_put_text(out, (const char *)proc, 16);
	fprintf(out, "\nprogram: ");
	put_string(im, out, get32(proc + 96));
	if (im->psinfo.p) {
		fprintf(out, "\narguments: ");
		look_put_text(out, (const char *)im->psinfo.p + 56, 80);
	}
	fprintf(out, "\ndirectory: ");
	look_put_text(out, (const char *)im->rec[TAG_CWD].p, im->rec[TAG_CWD].len);
	if (im->rec[TAG_ROOT].len) {
		fprintf(out, "\nroot: ");
		look_put_text(out, (const char *)im->rec[TAG_ROOT].p, im->rec[TAG_ROOT].len);
	}
	cgroups(&im->rec[TAG_CGROUP], out);
	if (im->rec[TAG_SECCOMP].len >= SECCOMP_HEAD)
		fprintf(out, "\nseccomp: %s, filters %u",
			get32(im->rec[TAG_SECCOMP].p) == 1 ? "strict" : "filter",
			get32(im->rec[TAG_SECCOMP].p + 4));
	if (im->rec[TAG_SECCOMP_EACH].len >= SECCOMP_HEAD)
		fprintf(out, "\nseccomp: of each thread its own");
	fprintf(out, "\nuser: %u\ngroup: %u\nthreads: %u\n", get32(ident + 8), get32(ident + 24),
		1 + count(im, TAG_THREADS, REC_THREAD_LEN));
	fprintf(out, "mapped: %" PRIu64 "\npages: %" PRIu64 "\nlength: %" PRIu64 "\n", mapped,
		get64(im->need + NEED_PAGE_BYTES), get64(im->need + NEED_TOTAL));
	fprintf(out, "mappings: %u\nfiles: %u\ndescriptors: %u\npending signals: %u\n",
		count(im, TAG_VMAS, REC_VMA_LEN), count(im, TAG_FILES, REC_FILE_LEN),
		count(im, TAG_FDS, REC_FD_LEN), count(im, TAG_PENDING, REC_PENDING_LEN));
}

static void threads(const struct image *im, FILE *out)
{
	const uint8_t *regs = im->rec[TAG_REGS].p;

	fprintf(out, "\nthread        ip name\n%-8u %12" PRIx64 " ",
		get32(im->rec[TAG_IDENT].p + 4), get64(regs + 16 * 8));
	look_put_text(out, (const char *)im->rec[TAG_PROC].p, 16);
	for (uint32_t i = 0; i < count(im, TAG_THREADS, REC_THREAD_LEN); i++) {
		const uint8_t *t = im->rec[TAG_THREADS].p + i * (uint64_t)REC_THREAD_LEN;

		fprintf(out, "\n%-8u %12" PRIx64 " ", get32(t), get64(t + 8 + 16 * 8));
		look_put_text(out, (const char *)t + 256, 16);
	}
	fputc('\n', out);
}

static void files(const struct image *im, FILE *out)
{
	fprintf(out, "\nfile identity\n");
	for (uint32_t i = 0; i < count(im, TAG_FILES, REC_FILE_LEN); i++) {
		const uint8_t *f = im->rec[TAG_FILES].p + i * (uint64_t)REC_FILE_LEN;

		fprintf(out, "%-4u ", i);
		if (get32(f) == FILE_BUILD_ID)
			for (uint32_t k = 0; k < get32(f + 12) && k < FILE_ID_MAX; k++)
				fprintf(out, "%02x", f[16 + k]);
		else if (get32(f) == FILE_SIZE_MTIME)
			fprintf(out, "%" PRIu64 " bytes", get64(f + 16));
		else
			fprintf(out, "-");
		fputc(' ', out);
		put_string(im, out, get32(f + 8));
		fputc('\n', out);
	}
}

static void mappings(const struct image *im, FILE *out)
{
	static const char *const kind[] = {"?", "private", "shared", "file", "file shared", "tree"};

	fprintf(out, "\n%12s %12s prot runs kind\n", "start", "end");
	for (uint32_t i = 0; i < count(im, TAG_VMAS, REC_VMA_LEN); i++) {
		const uint8_t *v = im->rec[TAG_VMAS].p + i * (uint64_t)REC_VMA_LEN;
		uint32_t prot = get32(v + 24), k = get32(v + 28), file = get32(v + 36);

		fprintf(out, "%12" PRIx64 " %12" PRIx64 " %c%c%c  %4u %s ", get64(v), get64(v + 8),
			prot & 1 ? 'r' : '-', prot & 2 ? 'w' : '-', prot & 4 ? 'x' : '-',
			get32(v + 44), kind[k < 6 ? k : 0]);
		if (file != VMA_NO_FILE && k != VMA_MEMORY)
			put_string(im, out,
				   get32(im->rec[TAG_FILES].p + file * (uint64_t)REC_FILE_LEN + 8));
		else
			put_string(im, out, get32(v + 40));
		fputc('\n', out);
	}
}

/* What the descriptor's object is. */
static const char *object_kind(const struct image *im, uint64_t index)
{
	static const char *const kind[OBJECT_KINDS] = {
		[OBJECT_PIPE] = "pipe",		[OBJECT_EVENTFD] = "eventfd",
		[OBJECT_TIMERFD] = "timerfd",	[OBJECT_SIGNALFD] = "signalfd",
		[OBJECT_EPOLL] = "epoll",	[OBJECT_MEMFD] = "memfd",
		[OBJECT_FILE] = "deleted",	[OBJECT_SOCKET] = "socket",
		[OBJECT_LISTENER] = "listener", [OBJECT_INOTIFY] = "inotify",
	};
	const uint8_t *p = im->rec[TAG_OBJECTS].p, *end = p + im->rec[TAG_OBJECTS].len;

	while (p && index-- > 0 && end - p > (long)OBJECT_HEAD)
		p += get32(p);
	if (!p || end - p < (long)OBJECT_HEAD || get32(p + 4) >= OBJECT_KINDS ||
	    !kind[get32(p + 4)])
		return "object";
	return kind[get32(p + 4)];
}

static void descriptors(const struct image *im, FILE *out)
{
	static const char *const kind[] = {"?",	     "file",   "directory", "device",
					   "stream", "shares", "object",    "tree"};

	fprintf(out, "\nfd   kind      offset\n");
	for (uint32_t i = 0; i < count(im, TAG_FDS, REC_FD_LEN); i++) {
		const uint8_t *f = im->rec[TAG_FDS].p + i * (uint64_t)REC_FD_LEN;
		uint32_t k = get32(f + 4);

		fprintf(out, "%-4u %-9s ", get32(f),
			k == FD_OBJECT ? object_kind(im, get64(f + 16)) : kind[k < 8 ? k : 0]);
		if (k == FD_OBJECT)
			fputc('-', out);
		else if (k == FD_DUP || k == FD_TREE)
			fprintf(out, "%u", get32(f + 28));
		else
			fprintf(out, "%" PRIu64 " ", get64(f + 16));
		put_string(im, out, get32(f + 24));
		fputc('\n', out);
	}
}

static int info(struct source *s, FILE *out, unsigned flags, struct vmad_err *err)
{
	struct image im = {0};
	struct blob *b;
	int r;

	if (look_at_image(s, 0, &b, err) < 0)
		return -1;
	im.head = (const uint8_t *)b->head;
	look_find_notes(&im);
	if (flags & VMAD_INFO_OPEN) {
		threads(&im, out);
		descriptors(&im, out);
	} else {
		summary(&im, out);
	}
	if (flags & VMAD_INFO_TABLES) {
		threads(&im, out);
		files(&im, out);
		mappings(&im, out);
		descriptors(&im, out);
	}
	r = look_tree_info(s, b, out, err);
	if (r < 0)
		return -1;
	if (fflush(out) == 0 && !ferror(out))
		return 0;
	if (err) {
		err->code = errno;
		snprintf(err->text, sizeof err->text, "writing: %s", strerror(errno));
	}
	return -1;
}

int vmad_info(int fd, FILE *out, unsigned flags, struct vmad_err *err)
{
	struct trace t = {.err = err};
	struct source s;

	if (source_open(&s, fd, &t) < 0)
		return -1;
	return source_close(&s, info(&s, out, flags, err), &t);
}
