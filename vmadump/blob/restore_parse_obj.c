/*
 * TAG_OBJECTS of an image, and what few have besides, taken apart and held against its limits, as
 * restore_parse.c does with all else. Runs in the blob; touches nothing but the arena.
 */
#include "lib.h"
#include "object.h"
#include "restore.h"
#include "sys.h"

/* What an object of a kind is at least long, behind its head; the rest is its contents. */
static uint32_t object_len(uint32_t kind)
{
	switch (kind) {
	case OBJECT_PIPE:
		return OBJECT_PIPE_LEN;
	case OBJECT_EVENTFD:
		return OBJECT_EVENTFD_LEN;
	case OBJECT_TIMERFD:
		return OBJECT_TIMERFD_LEN;
	case OBJECT_SIGNALFD:
		return OBJECT_SIGNALFD_LEN;
	case OBJECT_EPOLL:
		return 0;
	case OBJECT_MEMFD:
		return OBJECT_MEMFD_LEN;
	case OBJECT_SOCKET:
		return OBJECT_SOCKET_LEN;
	case OBJECT_LISTENER:
		return OBJECT_LISTENER_LEN;
	case OBJECT_INOTIFY:
		return OBJECT_INOTIFY_LEN;
	default:
		return OBJECT_FILE_LEN;
	}
}

/* What is to be read at both ends: the pieces are all there. */
static int socket_ok(const struct rest_obj *o)
{
	const uint8_t *p = o->p + OBJECT_SOCKET_LEN;
	uint64_t n = (uint64_t)get32(o->p + 20) + get32(o->p + 36);

	if (n != o->contents || get32(o->p) < 1 || get32(o->p) > 5 ||
	    get32(o->p + 16) & ~SOCKET_ALL || get32(o->p + 32) & ~SOCKET_ALL)
		return 0;
	for (int i = 0; i < 2; i++) {
		const uint8_t *end = p + get32(o->p + (i ? 36 : 20));

		while (end - p >= 4 && get32(p) <= (uint64_t)(end - p) - 4)
			p += 4 + get32(p);
		if (p != end)
			return 0;
	}
	return 1;
}

static int listener_ok(const struct rest_obj *o)
{
	return get32(o->p) >= 1 && get32(o->p) <= 5 && get32(o->p + 12) >= 1 &&
	       get32(o->p + 12) <= 108 && !o->p[16 + 108];
}

static int inotify_ok(const struct rest_obj *o)
{
	const uint8_t *p = o->p, *end = p + o->contents;

	while (end - p >= (long)INOTIFY_HEAD) {
		uint64_t n = get32(p + 8), left = (uint64_t)(end - p) - INOTIFY_HEAD;

		if (!n || n > IMAGE_PATH_MAX || ROUND_UP(n, 8) > left || p[INOTIFY_HEAD] != '/' ||
		    p[INOTIFY_HEAD + n - 1])
			return 0;
		p += INOTIFY_HEAD + ROUND_UP(n, 8);
	}
	return p == end;
}

/* A name in it ends inside its place, and a deleted file's is a whole path. */
static int object_ok(const struct rest_obj *o)
{
	uint32_t at = 16, room;

	if (o->kind == OBJECT_SOCKET)
		return socket_ok(o);
	if (o->kind == OBJECT_LISTENER)
		return listener_ok(o);
	if (o->kind == OBJECT_INOTIFY)
		return inotify_ok(o);
	if (o->kind != OBJECT_MEMFD && o->kind != OBJECT_FILE)
		return 1;
	room = object_len(o->kind) - at;
	if (o->kind == OBJECT_FILE && o->p[at] != '/')
		return 0;
	return o->p[at + room - 1] == 0;
}

long rest_parse_objects(struct restore *r)
{
	const struct rest_rec *rec = &r->rec[TAG_OBJECTS];
	const uint8_t *p = rec->p, *end = p + rec->len;
	uint32_t n = 0;

	r->objs =
		arena_alloc(r->b, (MIN(rec->len / OBJECT_HEAD, OBJECTS_MAX) + 1) * sizeof *r->objs);
	if (!r->objs)
		return -ENOMEM;
	for (; p < end; p += get32(p), n++) {
		struct rest_obj *o = &r->objs[n];
		uint64_t left = (uint64_t)(end - p), fixed;

		if (left < OBJECT_HEAD || get32(p) < OBJECT_HEAD || get32(p) % 8 ||
		    get32(p) > left || n == OBJECTS_MAX)
			return rest_bad(r, "the length of an object");
		*o = (struct rest_obj){.kind = get32(p + 4),
				       .contents = get32(p + 8),
				       .p = p + OBJECT_HEAD,
				       .len = get32(p) - OBJECT_HEAD,
				       .fd = {-1, -1}};
		if (!o->kind || o->kind >= OBJECT_KINDS)
			return rest_bad(r, "the kind of an object");
		fixed = object_len(o->kind);
		if (o->contents > OBJECT_CONTENTS_MAX || fixed + o->contents > o->len ||
		    !object_ok(o))
			return rest_bad(r, "the contents of an object");
	}
	r->nobjs = n;
	return 0;
}

/* In order, and each within one mapping. */
long rest_parse_guards(struct restore *r)
{
	const struct rest_rec *rec = &r->rec[TAG_GUARDS];
	uint64_t before = 0;
	uint32_t i = 0;

	for (const uint8_t *p = rec->p; p < rec->p + rec->len; p += REC_GUARD_LEN) {
		uint64_t start = get64(p), end = get64(p + 8);

		while (i < r->nvmas && r->vmas[i].end <= start)
			i++;
		if (start < before || start >= end || (start | end) % IMAGE_PAGE || i == r->nvmas ||
		    start < r->vmas[i].start || end > r->vmas[i].end)
			return rest_bad(r, "its guard pages");
		before = end;
	}
	return 0;
}

long rest_parse_more(struct restore *r)
{
	const struct rest_rec *rec = &r->rec[TAG_FD_MORE];

	for (const uint8_t *p = rec->p; p < rec->p + rec->len; p += REC_MORE_LEN)
		if (get32(p) >> 30 || !get32(p + 4) || get32(p + 4) > MORE_LAST)
			return rest_bad(r, "a descriptor's settings");
	return 0;
}
