/*
 * A program that changes its memory in every way while it is moved, and knows what has to be in
 * it: pages that are written, dropped, mapped, unmapped, moved, protected; children that see the
 * same; a second thread with pages of its own. $1: MiB. $2: MB/s that it writes. It ends with 0
 * when there is a file "stop", and says "ok" if all is as it has to be.
 */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096ul
#define WORDS (PAGE / 8)
#define PIECES 24

struct area {
	uint64_t *at;
	uint32_t *gen; /* of each page; 0: it reads as zeros */
	size_t n, room;
};

static uint64_t seed = 88172645463325252ull;
static volatile int over;

static uint64_t rnd(uint64_t *s)
{
	*s ^= *s << 13;
	*s ^= *s >> 7;
	return *s ^= *s << 17;
}

static _Noreturn void wrong(const char *what, size_t page)
{
	printf("wrong: %s, page %zu\n", what, page);
	fflush(stdout);
	_exit(1);
}

static uint64_t word(const struct area *a, size_t page, size_t k)
{
	return a->gen[page] ? a->gen[page] * 0x9e3779b97f4a7c15ull + page * 31 + k : 0;
}

static void put(struct area *a, size_t page)
{
	a->gen[page]++;
	for (size_t k = 0; k < WORDS; k += 16)
		a->at[page * WORDS + k] = word(a, page, k);
}

static void check(const struct area *a, size_t page, const char *what)
{
	for (size_t k = 0; k < WORDS; k += 16)
		if (a->at[page * WORDS + k] != word(a, page, k))
			wrong(what, page);
}

static void check_all(const struct area *a, const char *what)
{
	for (size_t i = 0; i < a->n; i++)
		check(a, i, what);
}

static void make(struct area *a, size_t n, size_t room)
{
	a->at = mmap(NULL, n * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (a->at == MAP_FAILED)
		wrong("mmap", n);
	a->gen = calloc(room, sizeof *a->gen);
	a->n = n;
	a->room = room;
}

static void drop(struct area *a)
{
	munmap(a->at, a->n * PAGE);
	free(a->gen);
	a->at = NULL;
}

static void *second(void *arg)
{
	struct area a;
	uint64_t s = 1234567;

	(void)arg;
	make(&a, 512, 512);
	for (unsigned i = 0; !over; i++) {
		size_t p = rnd(&s) % a.n;

		check(&a, p, "of the thread");
		put(&a, p);
		if (i % 256 == 0)
			usleep(2000);
	}
	check_all(&a, "of the thread, at the end");
	return NULL;
}

/* One piece is mapped, goes, grows or moves, loses pages, cannot be read for a moment. */
static void change(struct area *a, unsigned how)
{
	size_t n, from;
	void *to;

	if (!a->at) {
		make(a, 16 + rnd(&seed) % 240, 512);
		for (size_t i = 0; i < a->n; i += 1 + rnd(&seed) % 3)
			put(a, i);
		return;
	}
	check_all(a, "of a piece");
	from = rnd(&seed) % a->n;
	n = 1 + rnd(&seed) % (a->n - from);
	switch (how % 5) {
	case 0:
		drop(a);
		break;
	case 1:
		madvise(a->at + from * WORDS, n * PAGE, MADV_DONTNEED);
		memset(a->gen + from, 0, n * sizeof *a->gen);
		break;
	case 2:
		n = a->n + 1 + rnd(&seed) % 64;
		if (n > a->room)
			break;
		/* What has been written of in parts may be two mappings: then it stays. */
		to = mremap(a->at, a->n * PAGE, n * PAGE, MREMAP_MAYMOVE);
		if (to != MAP_FAILED) {
			a->at = to;
			a->n = n;
		}
		break;
	case 3:
		mprotect(a->at, a->n * PAGE, PROT_READ);
		check_all(a, "of a piece that may be read only");
		mprotect(a->at, a->n * PAGE, PROT_READ | PROT_WRITE);
		break;
	default:
		for (size_t i = from; i < from + n; i++)
			put(a, i);
	}
}

static void child(const struct area *big)
{
	pid_t p = fork();
	int status = 0;

	if (p == 0) {
		for (size_t i = 0; i < 64; i++)
			check(big, rnd(&seed) % big->n, "of a child");
		_exit(0);
	}
	if (p > 0 && (waitpid(p, &status, 0) != p || status != 0))
		wrong("a child", (size_t)status);
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
	size_t mb = argc > 1 ? strtoul(argv[1], NULL, 10) : 32;
	double rate = argc > 2 ? atof(argv[2]) : 20, since, done = 0;
	struct area big, piece[PIECES] = {{.at = NULL}};
	pthread_t t;

	make(&big, mb << 8, mb << 8);
	for (size_t i = 0; i < big.n; i++)
		if (i % 7)
			put(&big, i);
	if (pthread_create(&t, NULL, second, NULL) != 0)
		return 1;
	since = now();
	for (unsigned i = 1; access("stop", F_OK) < 0; i++) {
		while (done < (now() - since) * rate * 256) {
			size_t p = rnd(&seed) % big.n;

			check(&big, p, "of the array");
			put(&big, p);
			done++;
		}
		change(&piece[rnd(&seed) % PIECES], (unsigned)rnd(&seed));
		if (i % 50 == 0) {
			child(&big);
			printf("%u\n", i);
			fflush(stdout);
		}
		usleep(1000);
	}
	over = 1;
	pthread_join(t, NULL);
	check_all(&big, "of the array, at the end");
	for (int i = 0; i < PIECES; i++)
		if (piece[i].at)
			check_all(&piece[i], "of a piece, at the end");
	puts("ok");
	return 0;
}
