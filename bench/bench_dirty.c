/*
 * Memory for bench_dump.sh:
 *
 *   bench_dirty hold MIB         dirties that much and sleeps
 *   bench_dirty write MIB FILE   dirties it, and says how fast it is written, in GB/s
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}

static int write_all(const char *file, const char *p, size_t n)
{
	double from = now();
	size_t done = 0;
	int fd = open(file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	while (fd >= 0 && done < n) {
		ssize_t r = write(fd, p + done, n - done);

		if (r <= 0)
			return 1;
		done += (size_t)r;
	}
	printf("%.4f\n", (double)n / (now() - from) * 1e-9);
	return fd < 0;
}

int main(int argc, char **argv)
{
	size_t n = argc > 2 ? (size_t)atol(argv[2]) << 20 : 0;
	char *p;

	if (!n)
		return 2;
	p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		return 1;
	for (size_t i = 0; i < n; i += 64)
		p[i] = (char)(i / 64 + 1);
	if (strcmp(argv[1], "write") == 0 && argc > 3)
		return write_all(argv[3], p, n);
	for (;;)
		pause();
}
