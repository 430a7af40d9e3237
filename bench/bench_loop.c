/*
 * CPU time of a compute loop and of a file-writing loop, here and moved: nothing
 * of ours may be on a moved program's path.
 *
 *   bench_loop NODE|here   one line: seconds of CPU for compute, for writing
 */
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <bproc.h>

#include "bench.h"

static double cpu(void)
{
	struct rusage u;

	getrusage(RUSAGE_SELF, &u);
	return u.ru_utime.tv_sec + u.ru_stime.tv_sec +
	       (u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static void work(void)
{
	char buf[4096] = {1}, line[80];
	volatile uint64_t x = 1;
	double a, b, c;
	int fd, n;

	a = cpu();
	for (int i = 0; i < 1000000000; i++)
		x = x * 6364136223846793005u + 1442695040888963407u;
	b = cpu();
	fd = open("/dev/shm", O_TMPFILE | O_RDWR, 0600);
	if (fd < 0)
		fd = open("/tmp", O_TMPFILE | O_RDWR, 0600);
	for (int i = 0; i < 2000000; i++)
		if (pwrite(fd, buf, sizeof(buf), (off_t)(i % 256) * 4096) != sizeof(buf))
			_exit(3);
	c = cpu();
	n = snprintf(line, sizeof(line), "%.3f %.3f\n", b - a, c - b);
	_exit(write(1, line, n) == n ? 0 : 4);
}

int main(int argc, char **argv)
{
	int st, pid = argc > 1 && strcmp(argv[1], "here") ? bproc_rfork(atoi(argv[1])) : fork();

	if (pid == 0)
		work();
	if (pid < 0 || waitpid(pid, &st, 0) != pid || st)
		die("worker");
	return 0;
}
