/*
 * The images of a tree, one behind the other: vmad_check(), vmad_member(), and the table of
 * vmad_info(). Library code; runs in whoever asks.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmadump/blob/tree.h"
#include "vmadump/look.h"

static int fail(struct vmad_err *err, int code, const char *what)
{
	if (err) {
		err->code = code;
		snprintf(err->text, sizeof err->text, "%s", what);
	}
	errno = code;
	return -1;
}

/* What is behind the head: n bytes, to out, or nowhere (-1). */
static int pass_on(int fd, uint64_t n, int out, struct vmad_err *err)
{
	char buf[1 << 16];

	if (out < 0 && lseek(fd, (off_t)n, SEEK_CUR) >= 0)
		return 0;
	while (n) {
		ssize_t r = read(fd, buf, n < sizeof buf ? n : sizeof buf);

		if (r < 0 && errno == EINTR)
			continue;
		if (r <= 0)
			return fail(err, r ? errno : EBADMSG,
				    r ? strerror(errno) : "the image is cut short in its pages");
		for (ssize_t at = 0, w; out >= 0 && at < r; at += w) {
			w = write(out, buf + at, (size_t)(r - at));
			if (w < 0)
				return fail(err, errno, strerror(errno));
		}
		n -= (uint64_t)r;
	}
	return 0;
}

static uint64_t total(const struct image *im)
{
	return get64(im->need + NEED_TOTAL);
}

static void find(struct image *im, const struct blob *b)
{
	*im = (struct image){.head = (const uint8_t *)b->head};
	look_find_notes(im);
}

static uint32_t entries(const struct image *im)
{
	return im->rec[TAG_TREE].len ? get32(im->rec[TAG_TREE].p) : 0;
}

static const uint8_t *entry(const struct image *im, uint32_t i)
{
	return im->rec[TAG_TREE].p + TREE_HEAD + i * (uint64_t)TREE_ENTRY;
}

static void put_entry(FILE *out, const struct image *tree, uint32_t i, const struct image *im,
		      uint64_t at)
{
	const uint8_t *e = entry(tree, i);
	uint32_t parent = get32(e + TREE_PARENT);

	fprintf(out, "%-8u %-8u %-8u %-8u ", get32(e + TREE_PID),
		parent == TREE_NO_PARENT ? 0 : get32(entry(tree, parent) + TREE_PID),
		get32(e + TREE_PGID), get32(e + TREE_SID));
	if (im)
		fprintf(out, "%12" PRIu64 " %12" PRIu64 " ", at, total(im));
	else
		fprintf(out, "%12s %12s ", "-", "zombie");
	look_put_text(out, (const char *)e + TREE_NAME, 16);
	fputc('\n', out);
}

static int table(struct source *s, uint64_t head_len, const struct image *im, FILE *out,
		 struct vmad_err *err)
{
	uint64_t at = total(im), left = total(im) - head_len;

	fprintf(out,
		"processes: %u\n\nprocess  parent   group    session        offset       length "
		"name\n",
		entries(im));
	put_entry(out, im, 0, im, 0);
	for (uint32_t i = 1; i < entries(im); i++) {
		struct blob *next;
		struct image one;

		if (get32(entry(im, i) + TREE_KIND) == TREE_ZOMBIE) {
			put_entry(out, im, i, NULL, 0);
			continue;
		}
		if (pass_on(s->fd, left, -1, err) < 0 || look_at_image(s, 0, &next, err) < 0)
			return -1;
		find(&one, next);
		put_entry(out, im, i, &one, at);
		at += total(&one);
		left = total(&one) - next->head_len;
		vmad_blob_drop(next);
	}
	return 0;
}

/* There is one blob at a time: the first head is kept in memory of our own. */
int look_tree_info(struct source *s, struct blob *b, FILE *out, struct vmad_err *err)
{
	uint64_t len = b->head_len;
	uint8_t *head;
	struct image im;
	int r;

	find(&im, b);
	if (!entries(&im)) {
		vmad_blob_drop(b);
		return 0;
	}
	head = malloc(len);
	if (head)
		memcpy(head, (const void *)b->head, len);
	vmad_blob_drop(b);
	if (!head)
		return fail(err, ENOMEM, strerror(ENOMEM));
	im = (struct image){.head = head};
	look_find_notes(&im);
	r = table(s, len, &im, out, err);
	free(head);
	return r;
}

/* As vmad_check() for each of them: they are one image. */
static int check(struct source *s, struct vmad_err *err)
{
	struct blob *b;
	struct image im;
	uint32_t more = 0;

	if (look_at_image(s, 1, &b, err) < 0)
		return -1;
	find(&im, b);
	for (uint32_t i = 1; i < entries(&im); i++)
		more += get32(entry(&im, i) + TREE_KIND) == TREE_PROCESS;
	vmad_blob_drop(b);
	while (more--) {
		if (look_at_image(s, 1, &b, err) < 0)
			return -1;
		vmad_blob_drop(b);
	}
	return 0;
}

int vmad_check(int fd, struct vmad_err *err)
{
	struct trace t = {.err = err};
	struct source s;
	int r;

	if (source_open(&s, fd, &t) < 0)
		return -1;
	r = check(&s, err);
	return source_close(&s, r < 0 ? r : source_whole(&s, &t), &t);
}

static int write_head(const struct blob *b, int out, struct vmad_err *err)
{
	const uint8_t *p = (const uint8_t *)b->head, *end = p + b->head_len;

	while (p < end) {
		ssize_t w = write(out, p, (size_t)(end - p));

		if (w < 0 && errno != EINTR)
			return fail(err, errno, strerror(errno));
		p += w < 0 ? 0 : w;
	}
	return 0;
}

static int member(struct source *s, pid_t pid, int out, struct vmad_err *err)
{
	uint32_t left = 1;
	int first = 1;

	while (left--) {
		struct blob *b;
		struct image im;
		int found, r;

		if (look_at_image(s, 0, &b, err) < 0)
			return -1;
		find(&im, b);
		for (uint32_t i = 1; first && i < entries(&im); i++)
			left += get32(entry(&im, i) + TREE_KIND) == TREE_PROCESS;
		first = 0;
		found = get32(im.need + NEED_PID) == (uint32_t)pid;
		r = found ? write_head(b, out, err) : 0;
		if (r == 0)
			r = pass_on(s->fd, total(&im) - b->head_len, found ? out : -1, err);
		vmad_blob_drop(b);
		if (r < 0 || found)
			return r;
	}
	return fail(err, ESRCH, "there is no such process in the image");
}

int vmad_member(int fd, pid_t pid, int out, struct vmad_err *err)
{
	struct trace t = {.err = err};
	struct source s;

	if (source_open(&s, fd, &t) < 0)
		return -1;
	return source_close(&s, member(&s, pid, out, err), &t);
}
