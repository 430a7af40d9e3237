/*
 * A program with much memory, that is moved by somebody else and says what it has seen of each
 * move: how long it did not run, until when all its memory was there, what a touch of a page
 * cost that was not; "GAP THERE FAULT", in us, a line for each move. "-" is: not looked at.
 *
 *   bench_follow gap MIB           does nothing but look at the clock, and then for its memory
 *   bench_follow faults MIB        touches random pages as soon as it runs
 *   bench_follow write MIB RATE    dirties so many MB/s all the time
 */
#include <sys/mman.h>
#include <sys/utsname.h>

#include "bench.h"

#define PAGE 4096ul
#define FAULTS 200
#define FAULT_NS 10000	 /* a page that is there takes less */
#define GAP_NS 300000	 /* what may have been a move */
#define THERE_NS 3000000 /* between two looks for what is missing: they cost 2 ms a GiB */

static volatile char *mem;
static size_t bytes;

static uint64_t missing(void)
{
	static unsigned char in[1 << 20];
	size_t most = sizeof(in) * PAGE, n = 0;

	for (size_t at = 0; at < bytes; at += most) {
		size_t len = bytes - at < most ? bytes - at : most;

		if (mincore((char *)mem + at, len, in) < 0)
			die("mincore");
		for (size_t i = 0; i < len / PAGE; i++)
			n += !(in[i] & 1);
	}
	return n;
}

static uint64_t until_there(void)
{
	const struct timespec nap = {.tv_nsec = THERE_NS};

	while (missing())
		nanosleep(&nap, NULL);
	return now_ns();
}

static int by_size(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* The median of what had to be waited for; 0: nothing had. */
static uint64_t touch(void)
{
	static uint64_t took[FAULTS];
	unsigned seed = 1;
	int n = 0;

	for (int i = 0; i < 100 * FAULTS && n < FAULTS; i++) {
		size_t at = (size_t)rand_r(&seed) % (bytes / PAGE) * PAGE;
		uint64_t from = now_ns();

		(void)mem[at];
		took[n] = now_ns() - from;
		n += took[n] > FAULT_NS;
	}
	qsort(took, (size_t)n, sizeof(*took), by_size);
	return n ? took[n / 2] : 0;
}

/* Dirties what is due by now. */
static void dirty(double rate, uint64_t since)
{
	static uint64_t done;
	uint64_t due = (uint64_t)((double)(now_ns() - since) * rate / 1e3 / (double)PAGE);

	for (int i = 0; done < due && i < 64; i++, done++)
		mem[done * 7919 % (bytes / PAGE) * PAGE]++;
}

int main(int argc, char **argv)
{
	struct utsname was, is;
	uint64_t last, now, begun;
	double rate = argc > 3 && strcmp(argv[1], "write") == 0 ? atof(argv[3]) : 0;

	bytes = argc > 2 ? (size_t)atol(argv[2]) << 20 : 0;
	if (!bytes)
		return 2;
	mem = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (mem == MAP_FAILED)
		die("memory");
	for (size_t i = 0; i < bytes; i += 64)
		mem[i] = (char)(i / 64 + 1);
	setvbuf(stdout, NULL, _IOLBF, 0);
	uname(&was);
	puts("ready");
	begun = last = now_ns();
	for (;; last = now) {
		uint64_t gap, fault = 0;

		if (rate)
			dirty(rate, begun);
		now = now_ns();
		gap = now - last;
		if (gap < GAP_NS)
			continue;
		uname(&is);
		if (strcmp(is.nodename, was.nodename) == 0)
			continue;
		was = is;
		if (strcmp(argv[1], "faults") == 0)
			fault = touch();
		printf("%.1f %.0f %.1f\n", (double)gap / 1e3,
		       rate ? 0. : (double)(until_there() - last) / 1e3, (double)fault / 1e3);
		now = now_ns();
	}
}
