/*
 * What an image has of the place where its process was: its root directory and its seccomp
 * filters (its cgroups: restore_group.c). Both want rights, and a process that was made for the
 * image. Runs in the blob.
 */
#include "lib.h"
#include "restore.h"
#include "sys.h"

/* One list at rec->p + at; where it ends, or 0. */
static uint32_t list_end(const struct rest_rec *rec, uint32_t at)
{
	uint32_t n;

	if (rec->len < SECCOMP_HEAD || at > rec->len - SECCOMP_HEAD)
		return 0;
	n = get32(rec->p + at + 4);
	for (at += SECCOMP_HEAD; n; n--) {
		if (rec->len - at < 8 || get32(rec->p + at + 4) > (rec->len - at - 8) / 8)
			return 0;
		at += 8 + 8 * get32(rec->p + at + 4);
	}
	return at;
}

/* As whoever takes it out of the blob by ptrace wants to find them. */
static long take_filters(struct restore *r)
{
	const struct rest_rec *rec = &r->rec[TAG_SECCOMP_EACH];
	uint32_t at = 0, each = rec->len ? SECCOMP_HEAD : 0;

	if (!each)
		rec = &r->rec[TAG_SECCOMP];
	r->b->seccomp_len = 0;
	if (!rec->len)
		return 0;
	if (rec->len > IMAGE_SECCOMP_MAX ||
	    (rec->len >= SECCOMP_HEAD && (get32(rec->p) == SECCOMP_EACH) != !!each))
		return rest_bad(r, "its seccomp filters");
	do {
		at = list_end(rec, at + (at ? each : 2 * each));
		if (!at)
			return rest_bad(r, "its seccomp filters");
	} while (each && at < rec->len);
	if (at != rec->len)
		return rest_bad(r, "its seccomp filters");
	r->b->seccomp = (uint64_t)rec->p;
	r->b->seccomp_len = rec->len;
	return 0;
}

/*
 * Its root directory, in front of everything that is opened by path; only a child that was made
 * for the image changes its own. 1: it is only looked at, and its paths lead nowhere here.
 */
long rest_place(struct restore *r)
{
	const struct rest_rec *root = &r->rec[TAG_ROOT];
	const char *path = (const char *)root->p;
	int made = r->opt->alone && r->b->chan >= 0;
	struct stat st;
	long e;

	if ((e = take_filters(r)) < 0)
		return e;
	if (root->len && (root->len > IMAGE_PATH_MAX || path[0] != '/' || path[root->len - 1]))
		return rest_bad(r, "its root directory");
	if ((root->len || r->b->seccomp_len) && !made && !r->opt->look)
		return blob_err_set(&r->b->err, ENOTSUP,
				    "the image has a %s; only a process made for it can take that",
				    root->len ? "root directory of its own" : "seccomp filter");
	if (made)
		rest_groups(r);
	if (!root->len)
		return 0;
	e = made ? sys_chroot(path) : sys_stat(path, &st);
	if (e < 0)
		return blob_err_set(&r->b->err, (int)-e, "its root directory %s: %s", path,
				    errno_name(e));
	return !made;
}
