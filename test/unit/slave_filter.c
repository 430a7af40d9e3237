/*
 * slaved/filter_run.c: seccomp filters, run over calls of which not all is known. Random programs
 * lie right before a page that cannot be read; where one is said to allow a call, an interpreter
 * that knows all arguments says so too, whatever they are.
 */
#include <check.h>
#include <linux/audit.h>
#include <linux/seccomp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "slaved/filter_run.h"
#include "vmadump/blob/filters.h"

#define DATA(field) ((uint32_t)offsetof(struct seccomp_data, field))
#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define ROUNDS 20000
#define LONGEST 48
#define STEPS 20000u

static const struct filter_call openat_call = {"openat", SYS_openat, -1, 0};
static const struct filter_call ioctl_call = {"ioctl", SYS_ioctl, 1, 0x5401};

static enum filter_verdict run(const struct sock_filter *f, size_t n, const struct filter_call *c)
{
	uint32_t steps = STEPS;

	return filter_run(f, n, c, &steps);
}

#define ALLOW BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)
#define ERROR BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | 1)
#define KILL BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS)
#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, DATA(field))

START_TEST(test_number)
{
	const struct sock_filter f[] = {
		LOAD(arch), BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0), KILL,
		LOAD(nr),   BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_openat, 0, 1),	  ERROR,
		ALLOW};

	ck_assert_int_eq(run(f, COUNT(f), &openat_call), FILTER_ERRNO);
	ck_assert_int_eq(run(f, COUNT(f), &ioctl_call), FILTER_ALLOWS);
	ck_assert_int_eq(run(f, COUNT(f) - 1, &ioctl_call), FILTER_NOT_ONE);
	ck_assert_int_eq(run(f, 0, &ioctl_call), FILTER_NOT_ONE);
}
END_TEST

START_TEST(test_arguments)
{
	const struct sock_filter ioctl_denied[] = {
		LOAD(args[1]), BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0x5412 /* TIOCSTI */, 0, 1),
		KILL, ALLOW};
	const struct sock_filter high[] = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, DATA(args[1]) + 4),
					   BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, 0, 0, 1), KILL,
					   ALLOW};
	/* Both ways end well, so it does not matter which is gone. */
	const struct sock_filter either[] = {LOAD(args[0]),
					     BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, 1, 0, 1),
					     BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_LOG), ALLOW};
	const struct sock_filter by_value[] = {LOAD(args[2]), BPF_STMT(BPF_RET | BPF_A, 0)};

	ck_assert_int_eq(run(ioctl_denied, 4, &ioctl_call), FILTER_ALLOWS);
	ck_assert_int_eq(run(ioctl_denied, 4, &openat_call), FILTER_DENIES);
	ck_assert_int_eq(run(high, 4, &ioctl_call), FILTER_ALLOWS);
	ck_assert_int_eq(run(high, 4, &openat_call), FILTER_DENIES);
	ck_assert_int_eq(run(either, 4, &openat_call), FILTER_ALLOWS);
	ck_assert_int_eq(run(by_value, 2, &openat_call), FILTER_DENIES);
}
END_TEST

START_TEST(test_steps)
{
	/* Each jump is on what is not known, and both ways go on: 2^40 of them. */
	struct sock_filter f[122];
	uint32_t steps = STEPS;

	for (int i = 0; i < 40; i++) {
		f[3 * i] = (struct sock_filter)LOAD(args[0]);
		f[3 * i + 1] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 7, 0, 1);
		f[3 * i + 2] = (struct sock_filter)BPF_STMT(BPF_MISC | BPF_TAX, 0);
	}
	f[120] = (struct sock_filter)ALLOW;
	f[121] = (struct sock_filter)KILL;
	ck_assert_int_eq(filter_run(f, 121, &openat_call, &steps), FILTER_TOO_LONG);
	ck_assert_uint_eq(steps, 0);
}
END_TEST

/* -- random programs */

static uint32_t arithmetic(int op, uint32_t a, uint32_t v)
{
	switch (op) {
	case BPF_ADD:
		return a + v;
	case BPF_SUB:
		return a - v;
	case BPF_AND:
		return a & v;
	case BPF_OR:
		return a | v;
	case BPF_XOR:
		return a ^ v;
	case BPF_LSH:
		return v < 32 ? a << v : 0;
	case BPF_RSH:
		return v < 32 ? a >> v : 0;
	case BPF_DIV:
		return a / v;
	default:
		return 0 - a;
	}
}

/* All is known: what the kernel does. -1: not a program. */
static int64_t concrete(const struct sock_filter *f, size_t n, const struct seccomp_data *d)
{
	uint32_t a = 0, x = 0, mem[BPF_MEMWORDS] = {0}, v, words[16];

	memcpy(words, d, sizeof(words));
	for (size_t at = 0; at < n; at++) {
		const struct sock_filter *i = &f[at];

		v = BPF_SRC(i->code) == BPF_X ? x : i->k;
		switch (BPF_CLASS(i->code)) {
		case BPF_LD:
			a = BPF_MODE(i->code) == BPF_MEM   ? mem[i->k]
			    : BPF_MODE(i->code) == BPF_IMM ? i->k
							   : words[i->k / 4];
			break;
		case BPF_LDX:
			x = BPF_MODE(i->code) == BPF_MEM ? mem[i->k] : i->k;
			break;
		case BPF_ST:
			mem[i->k] = a;
			break;
		case BPF_STX:
			mem[i->k] = x;
			break;
		case BPF_RET:
			return BPF_RVAL(i->code) == BPF_A ? a : i->k;
		case BPF_MISC:
			*(BPF_MISCOP(i->code) == BPF_TAX ? &x : &a) =
				BPF_MISCOP(i->code) == BPF_TAX ? a : x;
			break;
		case BPF_ALU:
			if (BPF_OP(i->code) == BPF_DIV && v == 0)
				return 0;
			a = arithmetic(BPF_OP(i->code), a, v);
			break;
		default:
			if (BPF_OP(i->code) == BPF_JA)
				at += i->k;
			else
				at += (BPF_OP(i->code) == BPF_JEQ   ? a == v
				       : BPF_OP(i->code) == BPF_JGT ? a > v
				       : BPF_OP(i->code) == BPF_JGE ? a >= v
								    : (a & v) != 0)
					      ? i->jt
					      : i->jf;
		}
	}
	return -1;
}

static uint32_t below(uint32_t n)
{
	return (uint32_t)random() % n;
}

static const uint16_t ops[] = {
	BPF_LD | BPF_W | BPF_ABS,
	BPF_LD | BPF_W | BPF_ABS,
	BPF_LD | BPF_W | BPF_ABS,
	BPF_LD | BPF_IMM,
	BPF_LD | BPF_MEM,
	BPF_LDX | BPF_W | BPF_MEM,
	BPF_LDX | BPF_W | BPF_IMM,
	BPF_ST,
	BPF_STX,
	BPF_MISC | BPF_TAX,
	BPF_MISC | BPF_TXA,
	BPF_ALU | BPF_ADD | BPF_K,
	BPF_ALU | BPF_AND | BPF_K,
	BPF_ALU | BPF_OR | BPF_X,
	BPF_ALU | BPF_XOR | BPF_X,
	BPF_ALU | BPF_LSH | BPF_K,
	BPF_ALU | BPF_RSH | BPF_X,
	BPF_ALU | BPF_DIV | BPF_X,
	BPF_ALU | BPF_NEG,
	BPF_ALU | BPF_SUB | BPF_X,
	BPF_JMP | BPF_JA,
	BPF_JMP | BPF_JEQ | BPF_K,
	BPF_JMP | BPF_JEQ | BPF_K,
	BPF_JMP | BPF_JGT | BPF_K,
	BPF_JMP | BPF_JGE | BPF_X,
	BPF_JMP | BPF_JSET | BPF_K,
	BPF_RET | BPF_A,
	BPF_RET | BPF_K,
};

/* As seccomp_check_filter() lets it through; small numbers, so that jumps go either way. */
static void make(struct sock_filter *f, uint32_t n)
{
	static const uint32_t ends[] = {SECCOMP_RET_ALLOW, SECCOMP_RET_ALLOW, SECCOMP_RET_ALLOW,
					SECCOMP_RET_ERRNO, SECCOMP_RET_KILL_PROCESS};

	for (uint32_t i = 0; i < n; i++) {
		uint32_t left = n - i - 1;

		f[i] = (struct sock_filter){.code = ops[below(COUNT(ops) - (below(4) != 0))],
					    .k = below(4)};
		if (BPF_CLASS(f[i].code) == BPF_LD && BPF_MODE(f[i].code) == BPF_ABS)
			f[i].k = 4 * below(16);
		if (i == n - 1 || f[i].code == (BPF_RET | BPF_K)) {
			f[i].code = BPF_RET | BPF_K;
			f[i].k = ends[below(COUNT(ends))];
		}
		if (BPF_CLASS(f[i].code) == BPF_JMP && left > 0) {
			f[i].jt = (uint8_t)below(left < 4 ? left : 4);
			f[i].jf = (uint8_t)below(left < 4 ? left : 4);
			f[i].k = BPF_OP(f[i].code) == BPF_JA ? f[i].jt : below(4);
		}
	}
}

static bool is_allowed(int64_t v)
{
	uint32_t a = (uint32_t)v & SECCOMP_RET_ACTION_FULL;

	return a == SECCOMP_RET_ALLOW || a == SECCOMP_RET_LOG;
}

START_TEST(test_random)
{
	long page = sysconf(_SC_PAGESIZE);
	char *mem = mmap(NULL, 2 * (size_t)page, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	unsigned verdicts[5] = {0}, wider = 0;

	ck_assert(mem != MAP_FAILED && mprotect(mem + page, (size_t)page, PROT_NONE) == 0);
	srandom(2617);
	for (unsigned round = 0; round < ROUNDS; round++) {
		uint32_t n = 1 + below(LONGEST);
		struct sock_filter *f = (void *)(mem + page - n * sizeof(*f));
		const struct filter_call c = {"x", below(4), (int32_t)below(7) - 1, below(4)};
		bool valid = round % 4 != 0, all = true;
		enum filter_verdict v;

		if (valid)
			make(f, n);
		else
			for (size_t i = 0; i < n * sizeof(*f); i++)
				((char *)f)[i] = (char)(below(3) ? below(256) : 0);
		v = run(f, n, &c);
		ck_assert_uint_lt(v, 5);
		verdicts[v]++;
		for (int i = 0; valid && i < 40; i++) {
			struct seccomp_data d = {.nr = (int)c.nr, .arch = AUDIT_ARCH_X86_64};

			d.instruction_pointer = below(4);
			for (int k = 0; k < 6; k++)
				d.args[k] =
					k == c.arg ? c.value : below(4) | (uint64_t)below(2) << 32;
			all &= is_allowed(concrete(f, n, &d));
		}
		ck_assert_msg(!valid || v != FILTER_NOT_ONE, "round %u is a program", round);
		ck_assert_msg(!valid || v != FILTER_ALLOWS || all, "round %u is not allowed",
			      round);
		wider += valid && all && v != FILTER_ALLOWS;
	}
	munmap(mem, 2 * (size_t)page);
	/* It can say all of them; and what it does not allow is mostly not allowed. */
	for (int i = 0; i < 5; i++)
		ck_assert_msg(verdicts[i] > 0 || i == FILTER_TOO_LONG, "verdict %d", i);
	ck_assert_uint_lt(wider, ROUNDS / 4);
}
END_TEST

/* -- the list */

static size_t put(uint8_t *to, const struct sock_filter *f, uint32_t n)
{
	const uint32_t head[2] = {0, n};

	memcpy(to, head, sizeof(head));
	memcpy(to + FILTER_HEAD, f, n * sizeof(*f));
	return FILTER_HEAD + n * sizeof(*f);
}

#define DENY(name, nr_, how)                                                                       \
	const struct sock_filter name[] = {                                                        \
		LOAD(nr), BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr_, 0, 1), how, ALLOW}

START_TEST(test_judge)
{
	static uint8_t bytes[256] __attribute__((aligned(8)));
	DENY(no_clone3, SYS_clone3, ERROR);
	DENY(no_seccomp, SYS_seccomp, KILL);
	DENY(no_inotify, SYS_inotify_init1, ERROR);
	DENY(no_timerfd, SYS_timerfd_create, KILL);
	DENY(no_uffd, SYS_userfaultfd, KILL);
	DENY(no_ptrace, SYS_ptrace, KILL);
	const struct filter_move plain = {0}, open = {.objects = true}, ahead = {.ahead = true};
	enum filter_verdict why = FILTER_ALLOWS;
	size_t len = put(bytes, no_ptrace, 4);

	ck_assert_ptr_null(filters_judge(bytes, len, &open, &why));
	ck_assert_ptr_null(filters_judge(bytes, 0, &open, &why));
	len += put(bytes + len, no_seccomp, 4);
	/* Nothing is set behind it. */
	ck_assert_ptr_null(filters_judge(bytes, len, &open, &why));
	ck_assert_str_eq(filters_judge(bytes, len + put(bytes + len, no_ptrace, 4), &open, &why),
			 "seccomp");
	len = put(bytes, no_ptrace, 4);
	len += put(bytes + len, no_clone3, 4);
	ck_assert_str_eq(filters_judge(bytes, len, &plain, &why), "clone3");
	ck_assert_int_eq(why, FILTER_ERRNO);
	len = put(bytes, no_inotify, 4);
	ck_assert_ptr_null(filters_judge(bytes, len, &open, &why));
	len = put(bytes, no_timerfd, 4);
	ck_assert_ptr_null(filters_judge(bytes, len, &plain, &why));
	ck_assert_str_eq(filters_judge(bytes, len, &open, &why), "timerfd_create");
	len = put(bytes, no_uffd, 4);
	ck_assert_ptr_null(filters_judge(bytes, len, &open, &why));
	ck_assert_str_eq(filters_judge(bytes, len, &ahead, &why), "userfaultfd");
}
END_TEST

/* Some threads have more than all have. */
START_TEST(test_judge_threads)
{
	static uint8_t bytes[512] __attribute__((aligned(8)));
	static const uint32_t one[] = {17, FILTERS_OF}, two[] = {18, FILTERS_OF};
	DENY(no_clone3, SYS_clone3, ERROR);
	DENY(no_seccomp, SYS_seccomp, KILL);
	DENY(no_ptrace, SYS_ptrace, KILL);
	const struct filter_move m = {0};
	enum filter_verdict why = FILTER_ALLOWS;
	size_t all = put(bytes, no_ptrace, 4), len = all;

	memcpy(bytes + len, one, sizeof(one));
	len += sizeof(one);
	ck_assert_uint_eq(filters_next(bytes, len, all), 0);
	ck_assert_int_eq(filters_of(bytes, len, all), 17);
	ck_assert_int_eq(filters_of(bytes, len - 1, all), 0);
	ck_assert_int_eq(filters_of(bytes, len, 0), 0);
	len += put(bytes + len, no_seccomp, 4);
	ck_assert_ptr_null(filters_judge(bytes, len, &m, &why)); /* nothing behind it */
	memcpy(bytes + len, two, sizeof(two));
	len += sizeof(two);
	len += put(bytes + len, no_seccomp, 4);
	ck_assert_ptr_null(filters_judge(bytes, len, &m, &why));
	ck_assert_str_eq(filters_judge(bytes, len + put(bytes + len, no_ptrace, 4), &m, &why),
			 "seccomp");
	put(bytes + len - 40, no_clone3, 4);
	ck_assert_str_eq(filters_judge(bytes, len, &m, &why), "clone3");
	put(bytes + len - 40, no_ptrace, 4);
	/* The newest of all, and what a thread has is set behind it. */
	put(bytes, no_seccomp, 4);
	ck_assert_str_eq(filters_judge(bytes, len, &m, &why), "seccomp");
	/* No list of another thread's, and no more than 1 as there are none. */
	ck_assert_ptr_null(filters_judge(bytes + all, sizeof(one), &m, &why));
}
END_TEST

START_TEST(test_list)
{
	DENY(one, SYS_ptrace, KILL);
	uint8_t bytes[128];
	size_t n = put(bytes, one, 4);
	uint32_t huge = 0xffffffffu, none = 0;

	for (size_t len = 0; len < n; len++)
		ck_assert_uint_eq(filters_next(bytes, len, 0), 0);
	ck_assert_uint_eq(filters_next(bytes, n, 0), n);
	ck_assert_uint_eq(filters_next(bytes, n, n), 0);
	ck_assert_uint_eq(filters_next(bytes, n, n + 1), 0);
	memcpy(bytes + 4, &huge, 4);
	ck_assert_uint_eq(filters_next(bytes, n, 0), 0);
	memcpy(bytes + 4, &none, 4);
	ck_assert_uint_eq(filters_next(bytes, n, 0), 0);
	ck_assert(filters_mix(0, bytes, n) != 0);
	ck_assert(filters_mix(0, bytes, n) != filters_mix(filters_mix(0, bytes, n), bytes, n));
}
END_TEST

int main(void)
{
	Suite *s = suite_create("slave_filter");
	TCase *t = tcase_create("all");
	SRunner *r;
	int failed;

	tcase_add_test(t, test_number);
	tcase_add_test(t, test_arguments);
	tcase_add_test(t, test_steps);
	tcase_add_test(t, test_random);
	tcase_add_test(t, test_judge);
	tcase_add_test(t, test_judge_threads);
	tcase_add_test(t, test_list);
	tcase_set_timeout(t, 60);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
