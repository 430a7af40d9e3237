/*
 * What /proc/self/status, stat and auxv tell a dump. Runs in the blob.
 */
#include "dump.h"
#include "lib.h"
#include "proc.h"
#include "refuse.h"
#include "sys.h"

#ifndef PR_GET_AUXV
#define PR_GET_AUXV 0x41555856 /* Linux 6.4 */
#endif

static void four(const char *s, uint32_t v[4])
{
	for (int i = 0; i < 4; i++) {
		str_skip_spaces(&s);
		v[i] = (uint32_t)str_dec(&s);
	}
}

/* 0: nothing behind it is wanted. */
static int status_line(struct dump_status *st, const char *line)
{
	static const char keys[][12] = {
		"Umask:",  "Threads:", "Uid:",	  "Gid:",    "SigPnd:", "ShdPnd:", "SigIgn:",
		"SigCgt:", "CapInh:",  "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:", "NoNewPrivs:",
		"FDSize:",
	};
	const char *s = line;
	uint32_t k = 0;

	while (k < COUNT(keys) && !str_starts(line, keys[k]))
		k++;
	if (k == COUNT(keys))
		return 1;
	while (*s++ != ':')
		;
	str_skip_spaces(&s);
	switch (k) {
	case 0:
		for (; *s >= '0' && *s <= '7'; s++)
			st->umask = st->umask << 3 | (uint32_t)(*s - '0');
		break;
	case 1:
		st->threads = (uint32_t)str_dec(&s);
		break;
	case 2:
		four(s, st->uid);
		break;
	case 3:
		four(s, st->gid);
		break;
	case 4:
		st->sig_pending = str_hex(&s);
		break;
	case 5:
		st->sig_shared = str_hex(&s);
		break;
	case 6:
		st->sig_ignored = str_hex(&s);
		break;
	case 7:
		st->sig_caught = str_hex(&s);
		break;
	case 13:
		st->no_new_privs = (uint32_t)str_dec(&s);
		return 0;
	case 14:
		st->fd_size = (uint32_t)str_dec(&s);
		break;
	default:
		st->cap[k - 8] = str_hex(&s);
	}
	return 1;
}

/* Fields by their number in proc(5); comm may hold spaces and parentheses. */
static long take_stat(struct dump *d, const char *text, long len)
{
	struct dump_stat *st = &d->stat;
	const char *s = text + len, *c = text;
	uint64_t f[53] = {0};

	while (s > text && *s != ')')
		s--;
	while (*c && *c != '(')
		c++;
	if (s <= c)
		return -1;
	for (uint32_t i = 0; i + 1 < sizeof st->comm && c + 1 + i < s; i++)
		st->comm[i] = c[1 + i];
	s += 4; /* ") S " */
	for (int n = 4; n <= 52 && *s; n++) {
		int minus = *s == '-';

		s += minus;
		f[n] = str_dec(&s);
		if (minus)
			f[n] = -f[n];
		while (*s && *s++ != ' ')
			;
	}
	st->ppid = (int32_t)f[4];
	st->pgid = (int32_t)f[5];
	st->sid = (int32_t)f[6];
	st->tty = f[7];
	st->nice = (int32_t)f[19];
	st->start_code = f[26];
	st->end_code = f[27];
	st->start_stack = f[28];
	st->start_data = f[45];
	st->end_data = f[46];
	st->start_brk = f[47];
	st->arg_start = f[48];
	st->arg_end = f[49];
	st->env_start = f[50];
	st->env_end = f[51];
	return 0;
}

static long read_auxv(struct dump *d)
{
	long n = sys_prctl(PR_GET_AUXV, (unsigned long)d->auxv, sizeof d->auxv, 0, 0);

	if (n < 0 || n > (long)sizeof d->auxv) {
		long fd = sys_open("/proc/self/auxv", O_RDONLY | O_CLOEXEC, 0);

		n = fd < 0 ? fd : sys_read((int)fd, d->auxv, sizeof d->auxv);
		if (fd >= 0)
			sys_close((int)fd);
	}
	if (n < 0)
		return blob_err_set(&d->b->err, EIO, "/proc/self/auxv: %s", errno_name(n));
	/* The kernel gives the whole fixed array; what counts ends with AT_NULL. */
	for (d->auxv_len = 0; d->auxv_len + 16 <= (uint64_t)n; d->auxv_len += 16)
		if (d->auxv[d->auxv_len / 8] == AT_NULL)
			break;
	if (d->auxv_len + 16 <= (uint64_t)n)
		d->auxv_len += 16;
	return 0;
}

long dump_read_status(struct dump *d)
{
	uint64_t mark = arena_mark(d->b);
	struct text t;
	char *line;
	char path[32];
	long r;

	str_format(path, sizeof path, "/proc/%d/status", d->mem);
	r = text_open(d->b, &t, path);
	if (r < 0)
		return r;
	while ((line = text_line(&t)) && status_line(&d->status, line))
		;
	text_close(&t);
	arena_release(d->b, mark);
	return 0;
}

long dump_read_proc(struct dump *d)
{
	struct blob *b = d->b;
	uint64_t mark = arena_mark(b);
	char *buf;
	char path[32];
	long r;

	if ((r = dump_read_status(d)) < 0)
		return r;
	d->status.ngroups = (uint32_t)or_zero(sys_getgroups(0, NULL));
	if (b->nthreads && !d->opt->aside && d->status.threads != 1 + b->nthreads)
		return refuse(b, REFUSE_FIRST_THREAD);
	if (!d->opt->aside && d->status.threads != 1 + b->nthreads)
		return refuse(b, REFUSE_THREADS, (unsigned long)d->status.threads);

	buf = arena_raw(b, TEXT_BUF);
	if (!buf)
		return -ENOMEM;
	str_format(path, sizeof path, "/proc/%d/stat", d->mem);
	r = proc_read(path, buf, TEXT_BUF);
	if (r < 0 || take_stat(d, buf, r) < 0)
		return blob_err_set(&b->err, EIO, "%s: %s", path, errno_name(r));
	arena_release(b, mark);
	return read_auxv(d);
}
