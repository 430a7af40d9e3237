/*
 * Seccomp filters, run over the calls that the blob makes in a move (doc/move.md). Classic BPF as
 * seccomp_check_filter() of the kernel's seccomp.c lets it through: jumps go forward, so every way
 * ends; what is loaded is a word of struct seccomp_data. What is not known of a call makes a value
 * unknown, and a jump on one goes both ways. Runs in bpslave, on what a user has written: each step
 * is counted, and each index held against its bounds, though the kernel has done it before.
 */
#include <linux/audit.h>
#include <linux/seccomp.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "slaved/filter_run.h"
#include "vmadump/blob/calls.h"
#include "vmadump/blob/filters.h"

#define WAYS_MAX 512	   /* jumps of one way whose other side is still to be gone */
#define STEPS_MAX 1000000u /* of one process: some 5 ms */

struct value {
	uint32_t v;
	bool known;
};
struct way {
	uint32_t at;
	struct value a, x, mem[BPF_MEMWORDS];
};
struct run {
	const struct sock_filter *f;
	size_t n;
	const struct filter_call *call;
	uint32_t *steps;
	enum filter_verdict worst;
	size_t ways;
	struct way way[WAYS_MAX];
};

static const struct value unknown = {0, false};

static struct value known(uint32_t v)
{
	return (struct value){v, true};
}

/* A word of struct seccomp_data. */
static struct value load(const struct filter_call *c, uint32_t offset)
{
	const uint32_t args = offsetof(struct seccomp_data, args);

	if (offset == offsetof(struct seccomp_data, nr))
		return known(c->nr);
	if (offset == offsetof(struct seccomp_data, arch))
		return known(AUDIT_ARCH_X86_64);
	if (c->arg >= 0 && offset == args + 8 * (uint32_t)c->arg)
		return known((uint32_t)c->value);
	/* Ints and unsigneds: the blob extends none of them by its sign. */
	if (c->arg >= 0 && offset == args + 8 * (uint32_t)c->arg + 4)
		return known((uint32_t)(c->value >> 32));
	return unknown;
}

static bool alu(struct way *w, const struct sock_filter *f)
{
	struct value by = BPF_SRC(f->code) == BPF_X ? w->x : known(f->k);
	uint32_t v = w->a.v;

	if (BPF_OP(f->code) == BPF_NEG)
		by = known(0);
	/* Divided by nought: the kernel ends the run, and kills. */
	if (BPF_OP(f->code) == BPF_DIV && by.known && by.v == 0)
		return false;
	w->a.known &= by.known;
	if (!w->a.known)
		return BPF_OP(f->code) != BPF_DIV || by.known;
	switch (BPF_OP(f->code)) {
	case BPF_ADD:
		v += by.v;
		break;
	case BPF_SUB:
		v -= by.v;
		break;
	case BPF_MUL:
		v *= by.v;
		break;
	case BPF_DIV:
		v /= by.v;
		break;
	case BPF_OR:
		v |= by.v;
		break;
	case BPF_AND:
		v &= by.v;
		break;
	case BPF_XOR:
		v ^= by.v;
		break;
	case BPF_LSH:
		v = by.v < 32 ? v << by.v : 0;
		break;
	case BPF_RSH:
		v = by.v < 32 ? v >> by.v : 0;
		break;
	case BPF_NEG:
		v = 0 - v;
		break;
	default:
		return false;
	}
	w->a.v = v;
	return true;
}

/* 1: it jumps; 0: it does not; -1: it may. */
static int jumps(const struct way *w, const struct sock_filter *f)
{
	struct value by = BPF_SRC(f->code) == BPF_X ? w->x : known(f->k);

	if (!w->a.known || !by.known)
		return -1;
	switch (BPF_OP(f->code)) {
	case BPF_JEQ:
		return w->a.v == by.v;
	case BPF_JGT:
		return w->a.v > by.v;
	case BPF_JGE:
		return w->a.v >= by.v;
	default:
		return (w->a.v & by.v) != 0;
	}
}

static void found(struct run *r, enum filter_verdict v)
{
	if (v > r->worst)
		r->worst = v;
}

static void ends(struct run *r, struct value action)
{
	uint32_t a = action.v & SECCOMP_RET_ACTION_FULL;

	if (!action.known)
		found(r, FILTER_DENIES);
	else if (a == SECCOMP_RET_ERRNO)
		found(r, FILTER_ERRNO);
	else if (a != SECCOMP_RET_ALLOW && a != SECCOMP_RET_LOG)
		found(r, FILTER_DENIES);
}

/* The next instruction is at + k; false: this way has ended. */
static bool go(struct run *r, struct way *w, uint64_t k)
{
	if (w->at + k >= r->n) {
		found(r, FILTER_NOT_ONE);
		return false;
	}
	w->at += (uint32_t)k;
	return true;
}

static bool jump(struct run *r, struct way *w, const struct sock_filter *f)
{
	int yes;

	if (BPF_OP(f->code) == BPF_JA)
		return go(r, w, 1ull + f->k);
	yes = f->jt == f->jf ? 1 : jumps(w, f);
	if (yes < 0) {
		struct way *other;

		if (r->ways == WAYS_MAX) {
			found(r, FILTER_TOO_LONG);
			return false;
		}
		other = &r->way[r->ways];
		*other = *w;
		r->ways += go(r, other, 1ull + f->jf);
	}
	return go(r, w, 1ull + (yes ? f->jt : f->jf));
}

/* One instruction; false: this way has ended. */
static bool step(struct run *r, struct way *w)
{
	const struct sock_filter *f = &r->f[w->at];
	struct value v = unknown;

	switch (BPF_CLASS(f->code)) {
	case BPF_RET:
		ends(r, BPF_RVAL(f->code) == BPF_A ? w->a : known(f->k));
		return false;
	case BPF_JMP:
		return jump(r, w, f);
	case BPF_ALU:
		if (alu(w, f))
			break;
		found(r, FILTER_DENIES);
		return false;
	case BPF_MISC:
		if (BPF_MISCOP(f->code) == BPF_TAX)
			w->x = w->a;
		else
			w->a = w->x;
		break;
	case BPF_ST:
	case BPF_STX:
		if (f->k >= BPF_MEMWORDS)
			goto not_one;
		w->mem[f->k] = BPF_CLASS(f->code) == BPF_ST ? w->a : w->x;
		break;
	default: /* BPF_LD, BPF_LDX */
		if (BPF_MODE(f->code) == BPF_MEM) {
			if (f->k >= BPF_MEMWORDS)
				goto not_one;
			v = w->mem[f->k];
		} else if (BPF_MODE(f->code) == BPF_ABS) {
			v = load(r->call, f->k);
		} else if (BPF_MODE(f->code) == BPF_IMM) {
			v = known(f->k);
		} else if (BPF_MODE(f->code) == BPF_LEN) {
			v = known(sizeof(struct seccomp_data));
		} else {
			goto not_one;
		}
		if (BPF_CLASS(f->code) == BPF_LD)
			w->a = v;
		else
			w->x = v;
	}
	return go(r, w, 1);
not_one:
	found(r, FILTER_NOT_ONE);
	return false;
}

enum filter_verdict filter_run(const struct sock_filter *f, size_t n, const struct filter_call *c,
			       uint32_t *steps)
{
	static struct run r; /* of a loop with one thread; 80 KiB */
	struct way w;

	r.f = f;
	r.n = n;
	r.call = c;
	r.steps = steps;
	r.worst = n > 0 ? FILTER_ALLOWS : FILTER_NOT_ONE;
	r.ways = n > 0;
	/* The registers and words of memory that nobody has set are 0 (seccomp_check_filter()). */
	memset(&r.way[0], 0, sizeof(r.way[0]));
	r.way[0].a = r.way[0].x = known(0);
	for (int i = 0; i < BPF_MEMWORDS; i++)
		r.way[0].mem[i] = known(0);
	while (r.ways > 0 && r.worst < FILTER_DENIES) {
		w = r.way[--r.ways];
		do {
			if (*steps == 0)
				return FILTER_TOO_LONG;
			--*steps;
		} while (step(&r, &w));
	}
	return r.worst;
}

/* -- the table */

struct row {
	struct filter_call call;
	enum blob_call_when when;
};

#define ROW(name, when) {{#name, SYS_##name, -1, 0}, BLOB_CALL_##when},
#define ROW_OF(name, when, i, value, text) {{#name, SYS_##name, i, value}, BLOB_CALL_##when},
#ifndef SYS_mseal
#define SYS_mseal 462
#endif
static const struct row rows[] = {BLOB_CALLS(ROW, ROW_OF)};

static bool is_made(enum blob_call_when when, const struct filter_move *m)
{
	switch (when) {
	case BLOB_CALL_AHEAD:
		return m->ahead;
	case BLOB_CALL_EXEC:
		return m->exec;
	case BLOB_CALL_HAS:
		return m->objects;
	case BLOB_CALL_LOCKS:
		return m->locks;
	case BLOB_CALL_SEAL:
		return m->sealed;
	default:
		return when != BLOB_CALL_NEVER;
	}
}

/* One filter, and one call. */
static bool is_right(const uint8_t *bytes, size_t len, const struct row *row, uint32_t *steps,
		     enum filter_verdict *ret_why)
{
	const void *code = bytes + FILTER_HEAD;

	*ret_why = filter_run(code, (len - FILTER_HEAD) / sizeof(struct sock_filter), &row->call,
			      steps);
	return *ret_why == FILTER_ALLOWS ||
	       (*ret_why == FILTER_ERRNO && row->when >= BLOB_CALL_TRIED);
}

/* The next one at *at, or behind it where a thread's begin. 0: there is none. */
static size_t next_of_any(const uint8_t *bytes, size_t len, size_t *at)
{
	while (filters_of(bytes, len, *at))
		*at += FILTER_HEAD;
	return filters_next(bytes, len, *at);
}

/* Nothing is set behind it: of those that all have, only if no thread has more. */
static bool is_newest(const uint8_t *bytes, size_t len, size_t at, size_t n, size_t all)
{
	return at + n == len || (at >= all && filters_of(bytes, len, at + n));
}

const char *filters_judge(const uint8_t *bytes, size_t len, const struct filter_move *m,
			  enum filter_verdict *ret_why)
{
	uint32_t steps = STEPS_MAX;
	size_t at, n, all = 0;

	while ((n = filters_next(bytes, len, all)) > 0)
		all += n;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const struct row *row = &rows[i];

		if (!is_made(row->when, m))
			continue;
		for (at = 0; (n = next_of_any(bytes, len, &at)) > 0; at += n) {
			if (row->when == BLOB_CALL_SET && is_newest(bytes, len, at, n, all))
				continue;
			if (!is_right(bytes + at, n, row, &steps, ret_why))
				return row->call.name;
		}
	}
	return NULL;
}

bool filters_restart(const uint8_t *bytes, size_t len)
{
	const struct row row = {{"restart_syscall", SYS_restart_syscall, -1, 0}, BLOB_CALL_MUST};
	enum filter_verdict why;
	uint32_t steps = STEPS_MAX;
	size_t n;

	for (size_t at = 0; (n = next_of_any(bytes, len, &at)) > 0; at += n)
		if (!is_right(bytes + at, n, &row, &steps, &why))
			return false;
	return true;
}
