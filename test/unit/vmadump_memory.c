/* The victim's memory: every kind of mapping, and what is written to it. */
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "vmadump_victim.h"

#define PAGE 4096ul
#define NAME "victim's name"

static char *shared, *hidden, *sealed, *code, *dirty_file, *shared_file, *lonely, *pieces, *asked;
static char file_path[64];
static char maps_before[1 << 16], maps_after[1 << 16];

static char *map(size_t pages, int prot, int flags)
{
	char *p = mmap(NULL, pages * PAGE, prot, flags | MAP_ANONYMOUS, -1, 0);

	MUST(p != MAP_FAILED);
	return p;
}

static void shared_set(void)
{
	shared = map(64, PROT_READ | PROT_WRITE, MAP_SHARED);
	strcpy(shared, "mine");
	/* Written by another process: no page table of ours knows of it. */
	if (fork() == 0) {
		strcpy(shared + 17 * PAGE, "a child's");
		_exit(0);
	}
	MUST(wait(NULL) > 0);
	/* One object in three mappings. */
	pieces = map(3, PROT_READ | PROT_WRITE, MAP_SHARED);
	pieces[0] = pieces[PAGE] = pieces[2 * PAGE] = 'p';
	MUST(mprotect(pieces + PAGE, PAGE, PROT_READ) == 0);
}

static void shared_look(int after)
{
	(void)after;
	MUST(strcmp(shared, "mine") == 0 && strcmp(shared + 17 * PAGE, "a child's") == 0);
	MUST(pieces[0] == 'p' && pieces[PAGE] == 'p' && pieces[2 * PAGE] == 'p');
	if (fork() == 0) {
		strcpy(shared + 33 * PAGE, "still shared");
		pieces[2 * PAGE] = 'q';
		_exit(0);
	}
	MUST(wait(NULL) > 0);
	MUST(strcmp(shared + 33 * PAGE, "still shared") == 0 && pieces[2 * PAGE] == 'q');
	pieces[2 * PAGE] = 'p';
}

static void prot_set(void)
{
	static const unsigned char ret42[] = {0xb8, 42, 0, 0, 0, 0xc3};

	hidden = map(2, PROT_READ | PROT_WRITE, MAP_PRIVATE);
	strcpy(hidden + PAGE, "not to be read");
	MUST(mprotect(hidden, 2 * PAGE, PROT_NONE) == 0);
	sealed = map(1, PROT_READ | PROT_WRITE, MAP_PRIVATE);
	strcpy(sealed, "not to be written");
	MUST(mprotect(sealed, PAGE, PROT_READ) == 0);
	code = map(1, PROT_READ | PROT_WRITE, MAP_PRIVATE);
	memcpy(code, ret42, sizeof ret42);
	MUST(mprotect(code, PAGE, PROT_READ | PROT_EXEC) == 0);
	lonely = map(1024, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE);
	for (int i = 0; i < 1024; i += 2)
		lonely[(size_t)i * PAGE + 1] = (char)(i | 1);
}

static void prot_look(int after)
{
	(void)after;
	MUST(mprotect(hidden, 2 * PAGE, PROT_READ) == 0);
	MUST(strcmp(hidden + PAGE, "not to be read") == 0 && hidden[0] == 0);
	MUST(mprotect(hidden, 2 * PAGE, PROT_NONE) == 0);
	MUST(strcmp(sealed, "not to be written") == 0);
	MUST(((int (*)(void))code)() == 42);
	for (int i = 0; i < 1024; i++)
		MUST(lonely[(size_t)i * PAGE + 1] == (i % 2 ? 0 : (char)(i | 1)));
}

static void file_set(void)
{
	int fd;

	snprintf(file_path, sizeof file_path, "/tmp/vmadump-victim-%d", getpid());
	fd = open(file_path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	MUST(fd >= 0 && ftruncate(fd, 4 * PAGE + 100) == 0);
	for (int i = 0; i < 4; i++)
		MUST(pwrite(fd, "page of the file", 16, i * (off_t)PAGE) == 16);
	/* Eight pages of a file of five: reading the last three is a SIGBUS. */
	dirty_file = mmap(NULL, 8 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	MUST(dirty_file != MAP_FAILED);
	strcpy(dirty_file + PAGE, "written to");
	memset(dirty_file + 2 * PAGE, 0, PAGE);
	shared_file = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 3 * (off_t)PAGE);
	MUST(shared_file != MAP_FAILED);
	close(fd);
}

static void file_look(int after)
{
	char buf[8];
	int fd;

	MUST(strcmp(dirty_file, "page of the file") == 0);
	MUST(strcmp(dirty_file + PAGE, "written to") == 0);
	MUST(dirty_file[2 * PAGE] == 0);
	strcpy(shared_file + 20, after ? "copy" : "orig");
	fd = open(file_path, O_RDONLY | O_CLOEXEC);
	MUST(fd >= 0 && pread(fd, buf, 5, 3 * (off_t)PAGE + 20) == 5);
	MUST(strcmp(buf, after ? "copy" : "orig") == 0);
	close(fd);
	if (after)
		unlink(file_path);
}

static void advice_set(void)
{
	asked = map(4, PROT_READ | PROT_WRITE, MAP_PRIVATE);
	asked[0] = asked[2 * PAGE] = 1;
	MUST(madvise(asked, PAGE, MADV_DONTFORK) == 0);
	MUST(madvise(asked + 2 * PAGE, PAGE, MADV_WIPEONFORK) == 0);
	prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, asked, PAGE, NAME);
}

static void advice_look(int after)
{
	int status;

	(void)after;
	MUST(asked[0] == 1 && asked[2 * PAGE] == 1);
	if (fork() == 0) {
		unsigned char in;

		_exit(mincore(asked, PAGE, &in) < 0 && asked[2 * PAGE] == 0 ? 7 : 8);
	}
	MUST(wait(&status) > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 7);
}

static __attribute__((noinline)) int deep(int n)
{
	volatile char space[4096];

	space[0] = (char)n;
	return n ? deep(n - 1) + (space[0] == (char)n) : 0;
}

static char *heap_block, *brk_before;

static void heap_set(void)
{
	heap_block = malloc(300000);
	strcpy(heap_block + 200000, "in the heap");
	brk_before = sbrk(0);
}

static void heap_look(int after)
{
	char *more;

	(void)after;
	MUST(strcmp(heap_block + 200000, "in the heap") == 0);
	MUST(sbrk(0) == brk_before);
	more = sbrk(3 * (long)PAGE);
	MUST(more == brk_before);
	memset(more, 1, 3 * PAGE);
	MUST(sbrk(-3 * (long)PAGE) != (void *)-1);
	free(malloc(1 << 20));
	/* The stack grows as it did: 1 MiB of it was never touched. */
	MUST(deep(256) == 256);
}

static void clock_set(void)
{
}

static void clock_look(int after)
{
	struct timespec t;

	(void)after;
	/* By way of the vdso, at the address that libc has kept. */
	for (int i = 0; i < 1000; i++)
		MUST(clock_gettime(CLOCK_MONOTONIC, &t) == 0 && t.tv_sec > 0);
	MUST(time(NULL) > 1000000000);
}

static size_t read_maps(char *buf, size_t size)
{
	int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
	size_t n = 0;
	ssize_t r;

	MUST(fd >= 0);
	while ((r = read(fd, buf + n, size - 1 - n)) > 0)
		n += (size_t)r;
	close(fd);
	buf[n] = 0;
	return n;
}

/*
 * Inode numbers of shared anonymous memory are new ones, and the original keeps a
 * blob (at BLOB_ADDR) for its next dump; the rest is the same text.
 */
static void blank_inodes(char *s)
{
	char *blob;

	while ((blob = strncmp(s, "3000", 4) == 0 ? s : strstr(s, "\n3000")))
		memmove(blob + (blob > s), strchr(blob + 1, '\n') + 1,
			strlen(strchr(blob + 1, '\n')));
	for (char *p = s; (p = strstr(p, "/dev/zero")); p++)
		for (char *q = p - 1; q > s && *q != ':'; q--)
			*q = ' ';
}

static void maps_set(void)
{
	read_maps(maps_before, sizeof maps_before);
	blank_inodes(maps_before);
}

static void maps_look(int after)
{
	(void)after;
	read_maps(maps_after, sizeof maps_after);
	blank_inodes(maps_after);
	if (strcmp(maps_before, maps_after) != 0)
		fprintf(stderr, "before:\n%s\nafter:\n%s\n", maps_before, maps_after);
	MUST(strcmp(maps_before, maps_after) == 0);
}

/* Looked at from the last to the first: maps before anything changes the mappings. */
const struct part memory_parts[] = {
	{"shared", shared_set, shared_look}, {"prot", prot_set, prot_look},
	{"file", file_set, file_look},	     {"advice", advice_set, advice_look},
	{"heap", heap_set, heap_look},	     {"clock", clock_set, clock_look},
	{"maps", maps_set, maps_look},	     {NULL, NULL, NULL},
};
