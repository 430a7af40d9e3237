/*
 * primes [LIMIT [WORKERS_A_NODE]]: counts the primes up to LIMIT on all nodes.
 *
 * The range is cut into parts; each part is counted by a child that is rforked
 * onto a node, takes the table of small primes with it (it is simply there, in
 * its memory), and comes home with its result to write it down. So nothing
 * needs a shared file system, a socket or a message library.
 *
 *	cc -O2 primes.c $(pkg-config --cflags --libs bproc) -lm -o primes && ./primes 1000000000
 */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/bproc.h>
#include <sys/wait.h>
#include <unistd.h>

#define SEGMENT (1u << 18) /* odd numbers sieved at once: fits a core's cache */

struct result {
	int node;
	int worker;
	uint64_t primes;
};

static uint32_t *small_prime; /* the odd ones up to sqrt(LIMIT) */
static unsigned n_small;

static void find_small(uint32_t limit)
{
	char *composite = calloc(limit + 1, 1);

	small_prime = calloc(limit / 2 + 1, sizeof(*small_prime));
	if (!composite || !small_prime) {
		perror("primes");
		exit(1);
	}
	for (uint32_t i = 3; i <= limit; i += 2) {
		if (composite[i])
			continue;
		small_prime[n_small++] = i;
		for (uint64_t j = (uint64_t)i * i; j <= limit; j += 2 * i)
			composite[j] = 1;
	}
	free(composite);
}

/* Odd primes p with lo <= p < hi; lo is odd. */
static uint64_t count_segment(uint64_t lo, uint64_t hi, unsigned char *composite)
{
	uint64_t n = (hi - lo + 1) / 2, count = 0;

	memset(composite, 0, n);
	for (unsigned i = 0; i < n_small; i++) {
		uint64_t p = small_prime[i], first = p * p;

		if (first >= hi)
			break;
		if (first < lo) {
			first = (lo + p - 1) / p * p;
			if (first % 2 == 0)
				first += p;
		}
		for (uint64_t j = (first - lo) / 2; j < n; j += p)
			composite[j] = 1;
	}
	for (uint64_t j = 0; j < n; j++)
		count += !composite[j];
	return count;
}

/* Primes p with lo <= p < hi. */
static uint64_t count_primes(uint64_t lo, uint64_t hi)
{
	static unsigned char composite[SEGMENT];
	uint64_t count = lo <= 2 && hi > 2;

	if (lo < 3)
		lo = 3;
	for (lo |= 1; lo < hi; lo += 2 * SEGMENT)
		count +=
			count_segment(lo, lo + 2 * SEGMENT < hi ? lo + 2 * SEGMENT : hi, composite);
	return count;
}

/* The child: counts on its node, comes home, and leaves its result in the file. */
static int work(int worker, uint64_t lo, uint64_t hi, const char *path)
{
	struct result r = {.node = bproc_currnode(), .worker = worker};
	int fd;

	r.primes = count_primes(lo, hi);
	if (bproc_move(BPROC_NODE_MASTER) < 0) {
		fprintf(stderr, "primes: coming home from node %d: %s\n", r.node,
			bproc_strerror(errno));
		return 1;
	}
	fd = open(path, O_WRONLY | O_APPEND);
	if (fd < 0 || write(fd, &r, sizeof(r)) != sizeof(r)) {
		fprintf(stderr, "primes: %s: %s\n", path, strerror(errno));
		return 1;
	}
	return 0;
}

/* The count for powers of ten from 10 on, or 0 if not known here. */
static uint64_t known(uint64_t limit)
{
	static const uint64_t pi[] = {4,      25,      168,	 1229,	    9592,      78498,
				      664579, 5761455, 50847534, 455052511, 4118054813};
	uint64_t p = 10;

	for (size_t i = 0; i < sizeof(pi) / sizeof(*pi); i++, p *= 10)
		if (p == limit)
			return pi[i];
	return 0;
}

static int up_nodes(int *node, int max)
{
	struct bproc_node_set_t set = BPROC_EMPTY_NODESET;
	int n = 0;

	if (bproc_nodelist(&set) < 0)
		return -1;
	for (int i = 0; i < set.size && n < max; i++)
		if (!strcmp(bproc_node_set_node(&set, i)->status, "up"))
			node[n++] = bproc_node_set_node(&set, i)->node;
	bproc_nodeset_free(&set);
	return n;
}

/* Sums up what the workers have brought home. */
static int report(const char *path, uint64_t limit, int workers)
{
	FILE *f = fopen(path, "r");
	struct result r;
	uint64_t sum = 0;
	int n = 0;

	while (f && fread(&r, sizeof(r), 1, f) == 1) {
		printf("  part %2d, from node %d: %9llu primes\n", r.worker, r.node,
		       (unsigned long long)r.primes);
		sum += r.primes;
		n++;
	}
	if (f)
		fclose(f);
	printf("%llu primes up to %llu", (unsigned long long)sum, (unsigned long long)limit);
	if (n != workers) {
		printf(": WRONG, only %d of %d parts came home\n", n, workers);
		return 1;
	}
	if (!known(limit)) {
		printf(" (no known value to check against: take a power of ten)\n");
		return 0;
	}
	printf(", %s\n", sum == known(limit) ? "which is right" : "which is WRONG");
	return sum != known(limit);
}

int main(int argc, char **argv)
{
	uint64_t limit = argc > 1 ? strtoull(argv[1], NULL, 10) : 1000000000, part;
	int per_node = argc > 2 ? atoi(argv[2]) : 1, node[1024], workers, bad = 0, status, fd;
	char path[] = "/tmp/primes.XXXXXX";

	workers = up_nodes(node, 1024);
	if (workers < 1 || per_node < 1 || limit < 2) {
		fprintf(stderr, "primes: %s\n",
			workers < 0 ? bproc_strerror(errno)
			: workers   ? "usage: primes [LIMIT [WORKERS_A_NODE]]"
				    : "no node is up");
		return 1;
	}
	find_small((uint32_t)sqrt((double)limit) + 1);
	fd = mkstemp(path);
	if (fd < 0) {
		perror(path);
		return 1;
	}
	close(fd);
	part = limit / ((unsigned)workers * (unsigned)per_node) + 1;
	for (int w = 0; w < workers * per_node; w++) {
		uint64_t lo = part * (unsigned)w, hi = lo + part;
		int pid = bproc_rfork(node[w % workers]);

		if (pid == 0)
			_exit(work(w, lo, hi < limit + 1 ? hi : limit + 1, path));
		if (pid < 0) {
			fprintf(stderr, "primes: node %d: %s\n", node[w % workers],
				bproc_strerror(errno));
			bad = 1;
		}
	}
	while (wait(&status) > 0 || errno == EINTR)
		bad |= status != 0;
	bad |= report(path, limit, workers * per_node);
	unlink(path);
	return bad;
}
