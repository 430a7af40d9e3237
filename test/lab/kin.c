/*
 * Three generations that work together, to be moved as a tree. kin DIR MB: the first writes numbers
 * into a pipe, many at a time; its child adds one and hands them on by a socket pair; that one's
 * child adds one and writes them into a pipe back. Each has MB of memory of its own, and all write
 * a line now and then into one file, by one description, whose offset they share. Each number is
 * also in memory that its sender and its reader share: of the first and the second without a file,
 * of the second and the third in one without a name, which the third has mapped twice.
 *
 * Until there is DIR/stop; each round's count is in DIR/count. Then the first looks that no number
 * was lost or came twice, that the file has every line, whole, and how its child ended (7).
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define AHEAD 400 /* numbers on their way */
#define SLOTS 4096 /* of those shared, more than are on their way */
#define LINE 32
#define LINE_EACH 500

static _Noreturn void bad(const char *what, unsigned long a, unsigned long b)
{
	printf("kin %d: %s: %lu, not %lu\n", getpid(), what, a, b);
	fflush(stdout);
	_exit(1);
}

static unsigned char *memory;
static size_t bytes;

static unsigned char expected(size_t i, int who)
{
	return (unsigned char)((i >> 12) * 7 + (size_t)who);
}

static void fill(int who)
{
	memory = mmap(NULL, bytes + 1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	for (size_t i = 0; i < bytes; i++)
		memory[i] = expected(i, who);
}

static void look(int who)
{
	for (size_t i = 0; i < bytes; i++)
		if (memory[i] != expected(i, who))
			bad("memory", memory[i], expected(i, who));
}

static unsigned long *common; /* of the first and the second */
static unsigned long *own, *own_tail; /* of the second and the third; the second half of it */

static void *share(int fd, off_t from)
{
	void *p = mmap(NULL, SLOTS * sizeof(long) - (size_t)from, PROT_READ | PROT_WRITE,
		       MAP_SHARED | (fd < 0 ? MAP_ANONYMOUS : 0), fd, from);

	if (p == MAP_FAILED)
		bad("mmap", 0, 0);
	return p;
}

static int get(int fd, unsigned long *n)
{
	size_t at = 0;

	while (at < sizeof(*n)) {
		ssize_t r = read(fd, (char *)n + at, sizeof(*n) - at);

		if (r == 0 && at == 0)
			return 0;
		if (r <= 0)
			bad("a number cut short", at, sizeof(*n));
		at += (size_t)r;
	}
	return 1;
}

static void put(int fd, unsigned long n)
{
	if (write(fd, &n, sizeof(n)) != sizeof(n))
		bad("write", n, 0);
}

static void note(int file, int who, unsigned long n)
{
	char line[64];

	if (n % LINE_EACH != (unsigned long)who)
		return;
	snprintf(line, sizeof(line), "%d %-29lu\n", who, n);
	if (write(file, line, LINE) != LINE)
		bad("line", n, 0);
}

/* The second and the third: what comes in goes out, one more. */
static int pass(int in, int out, int file, int who)
{
	unsigned long n;

	fill(who);
	while (get(in, &n)) {
		unsigned long at = n % SLOTS;
		unsigned long shared = who == 1	   ? common[at]
				       : at < SLOTS / 2 ? own[at]
							: own_tail[at - SLOTS / 2];

		if (shared != n)
			bad("shared memory", shared, n);
		if (who == 1)
			own[(n + 1) % SLOTS] = n + 1;
		note(file, who, n);
		put(out, n + 1);
	}
	look(who);
	return 0;
}

static int second(int in, int file, int back)
{
	int pair[2], status, memfd = memfd_create("own", 0);
	pid_t pid;

	if (memfd < 0 || ftruncate(memfd, SLOTS * sizeof(long)) < 0)
		bad("memfd", 0, 0);
	own = share(memfd, 0);
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) < 0)
		bad("socketpair", 0, 0);
	pid = fork();
	if (pid == 0) {
		close(pair[0]);
		close(in);
		own_tail = share(memfd, SLOTS * sizeof(long) / 2);
		close(memfd);
		_exit(pass(pair[1], back, file, 2));
	}
	close(pair[1]);
	close(back);
	pass(in, pair[0], file, 1);
	close(pair[0]);
	if (waitpid(pid, &status, 0) != pid || status != 0)
		bad("the third ended with", (unsigned long)status, 0);
	return 7;
}

static void tell(const char *dir, unsigned long n)
{
	char path[512], next[512];
	FILE *f;

	snprintf(path, sizeof(path), "%s/count", dir);
	snprintf(next, sizeof(next), "%s/count.next", dir);
	f = fopen(next, "w");
	if (!f || fprintf(f, "%lu\n", n) < 0 || fclose(f) != 0 || rename(next, path) < 0)
		bad("count", n, 0);
}

static void check_file(const char *path, unsigned long all)
{
	unsigned long seen = 0, want = 0;
	char line[LINE + 1] = "";
	FILE *f = fopen(path, "r");

	for (unsigned long n = 0; n < all; n++)
		want += (n % LINE_EACH == 0) + (n % LINE_EACH == 1) + ((n + 1) % LINE_EACH == 2);
	while (f && fread(line, 1, LINE, f) == LINE) {
		if (line[LINE - 1] != '\n' || line[0] < '0' || line[0] > '2')
			bad("a torn line", seen, 0);
		seen++;
	}
	if (seen != want)
		bad("lines", seen, want);
}

static unsigned long run(const char *dir, int out, int in, int file)
{
	unsigned long sent = 0, came = 0, n;
	int spare = -1;
	char stop[512];

	snprintf(stop, sizeof(stop), "%s/stop", dir);
	for (;;) {
		if (access(stop, F_OK) == 0)
			break;
		while (sent < came + AHEAD) {
			note(file, 0, sent);
			common[sent % SLOTS] = sent;
			put(out, sent++);
		}
		for (int i = 0; i < AHEAD / 2; i++, came++)
			if (!get(in, &n) || n != came + 2)
				bad("number", n, came + 2);
		tell(dir, came);
		/* Not the same numbers are free each time it is stopped. */
		spare = spare < 0 ? dup(file) : close(spare) - 1;
		usleep(1000);
	}
	close(out);
	for (; get(in, &n); came++)
		if (n != came + 2)
			bad("number", n, came + 2);
	if (came != sent)
		bad("numbers", came, sent);
	return came;
}

int main(int argc, char **argv)
{
	int there[2], back[2], file, status;
	unsigned long all;
	char path[512];
	pid_t pid;

	if (argc != 3)
		return 2;
	bytes = strtoul(argv[2], NULL, 10) << 20;
	snprintf(path, sizeof(path), "%s/lines", argv[1]);
	file = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
	if (file < 0 || pipe(there) < 0 || pipe(back) < 0)
		bad("pipes", 0, 0);
	common = share(-1, 0);
	pid = fork();
	if (pid == 0) {
		close(there[1]);
		close(back[0]);
		_exit(second(there[0], file, back[1]));
	}
	close(there[0]);
	close(back[1]);
	fill(0);
	all = run(argv[1], there[1], back[0], file);
	look(0);
	if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status) || WEXITSTATUS(status) != 7)
		bad("the second ended with", (unsigned long)status, 7 << 8);
	check_file(path, all);
	printf("kin ok\n");
	return 0;
}
