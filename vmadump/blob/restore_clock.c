/*
 * Clocks that count from the start of the machine: of a restored process they go on, and never
 * back. Where this machine's are behind, after a restart of it, the process gets a time
 * namespace, which adds what is missing (time_namespaces(7)). Runs in the blob, in a
 * process that has one thread yet.
 */
#include "lib.h"
#include "proc.h"
#include "restore.h"
#include "sys.h"

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x80
#endif

struct lag {
	int64_t s, ns;
};

/* How far clock is behind what the image has at p; 0 where it is not. */
static struct lag lag_of(int clock, const uint8_t *p)
{
	struct timespec now = {0};
	struct lag l;

	sys_clock_gettime(clock, &now);
	l = (struct lag){(int64_t)get64(p) - now.tv_sec, (int64_t)get64(p + 8) - now.tv_nsec};
	if (l.ns < 0) {
		l.s--;
		l.ns += 1000000000;
	}
	return l.s < 0 ? (struct lag){0, 0} : l;
}

/* "monotonic  -5  7": what the namespace adds so far. */
static struct lag offset_in(const char *text, const char *key)
{
	const char *s = text;
	struct lag l = {0, 0};
	int minus;

	while (*s && !str_starts(s, key))
		s++;
	if (!*s)
		return l;
	s += str_len(key);
	str_skip_spaces(&s);
	minus = *s == '-';
	s += minus;
	l.s = (int64_t)str_dec(&s);
	l.s = minus ? -l.s : l.s;
	str_skip_spaces(&s);
	l.ns = (int64_t)str_dec(&s);
	return l;
}

static struct lag sum(struct lag a, struct lag b)
{
	struct lag l = {a.s + b.s, a.ns + b.ns};

	if (l.ns >= 1000000000) {
		l.s++;
		l.ns -= 1000000000;
	}
	return l;
}

static long enter_namespace(const struct lag *mono, const struct lag *boot)
{
	char was[256], text[160];
	struct lag m, b;
	long n, fd, e;

	n = proc_read("/proc/self/timens_offsets", was, sizeof was);
	if (n < 0)
		return n;
	m = sum(*mono, offset_in(was, "monotonic"));
	b = sum(*boot, offset_in(was, "boottime"));
	e = sys_unshare(CLONE_NEWTIME);
	if (e < 0)
		return e;
	n = (long)str_format(text, sizeof text, "monotonic %ld %ld\nboottime %ld %ld\n", m.s, m.ns,
			     b.s, b.ns);
	fd = sys_open("/proc/self/timens_offsets", O_WRONLY | O_CLOEXEC, 0);
	if (fd < 0)
		return fd;
	e = sys_write((int)fd, text, (size_t)n);
	sys_close((int)fd);
	if (e != n)
		return e < 0 ? e : -EIO;
	fd = sys_open("/proc/self/ns/time_for_children", O_RDONLY | O_CLOEXEC, 0);
	if (fd < 0)
		return fd;
	e = sys_setns((int)fd, CLONE_NEWTIME);
	sys_close((int)fd);
	return e;
}

long rest_clocks(struct restore *r)
{
	const struct rest_rec *rec = &r->rec[TAG_CLOCKS];
	struct lag mono, boot;
	long e;

	if (!rec->len)
		return 0;
	mono = lag_of(1 /* CLOCK_MONOTONIC */, rec->p);
	boot = lag_of(7 /* CLOCK_BOOTTIME */, rec->p + 16);
	if (!(mono.s | mono.ns | boot.s | boot.ns))
		return 0;
	e = enter_namespace(&mono, &boot);
	if (e < 0)
		return blob_err_set(&r->b->err, (int)-e,
				    "its clocks would go back by %ld s, and it cannot have a time "
				    "namespace: %s",
				    MAX(mono.s, boot.s), errno_name(e));
	return 0;
}
