/* OpenMP: the same sums whatever the threads do in between; a line a round, at last "omp ok". */
#include <stdio.h>
#include <time.h>

int main(void)
{
	static double v[200000];
	const struct timespec ts = {.tv_nsec = 2000000};

	for (long r = 0; r < 100; r++) {
		double sum = 0;

#pragma omp parallel for schedule(dynamic, 1000) reduction(+ : sum)
		for (long i = 0; i < 200000; i++) {
			v[i] += (double)((i ^ r) % 7);
			sum += v[i];
		}
		printf("%.0f\n", sum);
		fflush(stdout);
		nanosleep(&ts, NULL);
	}
	puts("omp ok");
	return 0;
}
