/*
 * What a small rfork cannot do without, and nothing else: the machine's own limit, to be seen
 * beside the figure of the rfork. No daemon, no judge, no image, no registers.
 *
 *   bench_floor recv PORT        on the node
 *   bench_floor send ADDR PORT COUNT   a line each: microseconds from the call of fork() to the
 *                                copy's first instruction on the node, with a child that only
 *                                sends; and with one that first reads of itself what any dump
 *                                has to know
 *
 * The child sends as many bytes as the image of bench_rfork has over a connection that is there
 * already. Who waits for them on the node learns which number the copy is to have, clones it, and
 * the clone reads the rest into memory that it has just mapped.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "bench.h"

#define HEAD_BYTES 8192	 /* registers, mappings, descriptors */
#define PAGE_BYTES 57380 /* stack, data, heap: 14 pages and the end mark */

static char head[HEAD_BYTES], pages[PAGE_BYTES];

static int read_all(int fd, char *p, size_t n)
{
	while (n) {
		ssize_t got = read(fd, p, n);

		if (got <= 0)
			return -1;
		p += got;
		n -= (size_t)got;
	}
	return 0;
}

static void write_all(int fd, const char *p, size_t n)
{
	while (n) {
		ssize_t put = write(fd, p, n);

		if (put < 0)
			die("send");
		p += put;
		n -= (size_t)put;
	}
}

static void arrive(int fd)
{
	char *p =
		mmap(NULL, PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint64_t t;

	if (p == MAP_FAILED || read_all(fd, p, PAGE_BYTES) < 0)
		_exit(1);
	t = now_ns();
	write_all(fd, (const char *)&t, sizeof(t));
	_exit(0);
}

static void serve(int port)
{
	int one = 1, l = listen_on(port), fd;

	while ((fd = accept(l, NULL, NULL)) >= 0) {
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		while (read_all(fd, head, sizeof(head)) == 0) {
			pid_t pid = fork();

			if (pid == 0)
				arrive(fd);
			if (pid < 0 || waitpid(pid, NULL, 0) != pid)
				die("clone");
		}
		close(fd);
	}
}

static void look(const char *path)
{
	static char text[16384];
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	while (fd >= 0 && read(fd, text, sizeof(text)) > 0)
		;
	close(fd);
}

/* Which mappings, pages and descriptors it has, and who it is. */
static void look_at_self(void)
{
	char to[256];

	look("/proc/self/status");
	look("/proc/self/stat");
	look("/proc/self/smaps");
	if (readlink("/proc/self/exe", to, sizeof(to)) < 0 || !getcwd(to, sizeof(to)))
		_exit(1);
}

static double sample(int fd, int looks)
{
	uint64_t t0 = now_ns(), t = 0;
	pid_t pid = fork();
	int st;

	if (pid < 0)
		die("fork");
	if (pid == 0) {
		if (looks)
			look_at_self();
		write_all(fd, head, sizeof(head));
		write_all(fd, pages, sizeof(pages));
		_exit(0);
	}
	if (read_all(fd, (char *)&t, sizeof(t)) < 0 || waitpid(pid, &st, 0) != pid || st)
		die("no word from the copy");
	return (double)(t - t0) / 1e3;
}

int main(int argc, char **argv)
{
	struct sockaddr_in a = {.sin_family = AF_INET};
	int one = 1, fd;

	if (argc == 3 && !strcmp(argv[1], "recv")) {
		serve(atoi(argv[2]));
		return 1;
	}
	if (argc != 5 || strcmp(argv[1], "send") || inet_aton(argv[2], &a.sin_addr) == 0)
		return 2;
	a.sin_port = htons(atoi(argv[3]));
	memset(pages, 1, sizeof(pages));
	memset(head, 1, sizeof(head));
	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0)
		die("connect");
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	for (int i = atoi(argv[4]); i > 0; i--) {
		double bare = sample(fd, 0);

		printf("%.1f %.1f\n", bare, sample(fd, 1));
	}
	return 0;
}
