/*
 * A program that is moved with bpmove --lazy, and looks at its memory the moment it is
 * elsewhere: at random places, from four threads, from a child that it forks, by system calls;
 * drops, moves and unmaps some of what has not come. Says "N NODE ok" for each node that it
 * comes to, or what is wrong, and ends by that. lazy.sh moves it.
 *
 *	lazy all MIB		the above
 *	lazy wait MIB		touches nothing but a few pages
 */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096ul
#define WORDS (PAGE / 8)
#define SIDE (8ul << 20) /* bytes of what is dropped, moved, unmapped */
#define LOOKS 400
#define THREADS 4

static uint64_t *main_mem, *drop_mem, *move_mem, *cut_mem, *wipe_mem, *own_mem;
static size_t main_pages;
static unsigned int lap;

#define MUST(cond)                                                                                 \
	do {                                                                                       \
		if (!(cond)) {                                                                     \
			printf("wrong in lap %u, line %d: %s\n", lap, __LINE__, #cond);            \
			fflush(stdout);                                                            \
			_exit(1);                                                                  \
		}                                                                                  \
	} while (0)

static uint64_t *map(size_t n)
{
	/* Alone, so that it is no part of another mapping. */
	char *p = mmap(NULL, n + 2 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	MUST(p != MAP_FAILED && mprotect(p + PAGE, n, PROT_READ | PROT_WRITE) == 0);
	return (uint64_t *)(p + PAGE);
}

static uint64_t value(uint64_t page, uint64_t salt)
{
	return (page + 1) * 0x9e3779b97f4a7c15ull ^ salt << 56;
}

static void fill(uint64_t *m, size_t pages, uint64_t salt)
{
	for (size_t i = 0; i < pages; i++)
		m[i * WORDS] = m[i * WORDS + WORDS - 1] = value(i, salt);
}

static void look_from(int line, const uint64_t *m, size_t i, uint64_t salt)
{
	uint64_t first = m[i * WORDS], last = m[i * WORDS + WORDS - 1];

	if (first == value(i, salt) && last == value(i, salt))
		return;
	printf("wrong in lap %u, line %d: page %zu of %lx has %lx, %lx, and not %lx; then %lx\n", lap,
	       line, i, salt, first, last, value(i, salt),
	       *(volatile const uint64_t *)&m[i * WORDS]);
	fflush(stdout);
	_exit(1);
}
#define look(m, i, salt) look_from(__LINE__, m, i, salt)

static void look_around(unsigned int seed)
{
	for (int i = 0; i < LOOKS; i++)
		look(main_mem, (size_t)rand_r(&seed) % main_pages, 1);
}

static void *in_thread(void *arg)
{
	look_around((unsigned int)(uintptr_t)arg + lap * 100);
	return NULL;
}

static void by_threads(void)
{
	pthread_t t[THREADS];

	for (uintptr_t i = 0; i < THREADS; i++)
		MUST(pthread_create(&t[i], NULL, in_thread, (void *)i) == 0);
	for (int i = 0; i < THREADS; i++)
		pthread_join(t[i], NULL);
}

/* It misses what we miss, and what it writes is its own. */
static pid_t by_child(void)
{
	pid_t pid;

	fflush(stdout);
	pid = fork();
	MUST(pid >= 0);
	if (pid > 0)
		return pid;
	look_around(lap + 7);
	main_mem[(main_pages - 1) * WORDS] = 1;
	for (size_t i = 0; i < main_pages - 1; i++)
		look(main_mem, i, 1);
	MUST(madvise(main_mem, SIDE, MADV_DONTNEED) == 0 && main_mem[0] == 0);
	/* What fork(2) does with these is told by flags of theirs that have come along. */
	for (size_t i = 0; i < SIDE / PAGE; i++)
		MUST(wipe_mem[i * WORDS] == 0);
	MUST(msync(own_mem, SIDE, MS_ASYNC) < 0);
	_exit(0);
}

static void by_calls(void)
{
	size_t at = main_pages / 2 * WORDS, n = 2 * PAGE;
	uint64_t copy[2 * WORDS];
	int end[2];

	MUST(pipe(end) == 0 && write(end[1], main_mem + at, n) == (ssize_t)n);
	MUST(read(end[0], copy, n) == (ssize_t)n && memcmp(copy, main_mem + at, n) == 0);
	memset(copy, 0x5a, n);
	MUST(write(end[1], copy, n) == (ssize_t)n);
	/* Into pages of which the second half stays as it is. */
	MUST(read(end[0], (char *)cut_mem + SIDE - 3 * PAGE - 100, n) == (ssize_t)n);
	MUST(memcmp((char *)cut_mem + SIDE - 3 * PAGE - 100, copy, n) == 0);
	look(cut_mem, SIDE / PAGE - 5, 4);
	close(end[0]);
	close(end[1]);
}

/* What is dropped is zeros for ever, whatever is on its way. */
static void drop_some(void)
{
	size_t half = SIDE / 2;

	MUST(madvise((char *)drop_mem + half / 2, half, MADV_DONTNEED) == 0);
	for (size_t i = half / 2 / PAGE; i < (half / 2 + half) / PAGE; i += 3)
		MUST(drop_mem[i * WORDS] == 0);
	look(drop_mem, 0, 2);
	look(drop_mem, SIDE / PAGE - 1, 2);
	drop_mem[SIDE / 2 / PAGE * WORDS] = 77;
}

static void see_dropped(void)
{
	size_t half = SIDE / 2;

	for (size_t i = 0; i < SIDE / PAGE; i++) {
		int dropped = i >= half / 2 / PAGE && i < (half / 2 + half) / PAGE;

		if (i == SIDE / 2 / PAGE)
			MUST(drop_mem[i * WORDS] == 77);
		else if (dropped)
			MUST(drop_mem[i * WORDS] == 0);
		else
			look(drop_mem, i, 2);
	}
}

static void move_some(void)
{
	uint64_t *to = map(SIDE);

	MUST(mremap(move_mem, SIDE, SIDE, MREMAP_MAYMOVE | MREMAP_FIXED, to) == to);
	move_mem = to;
	look(move_mem, lap % (SIDE / PAGE), 3);
}

static void unmap_some(void)
{
	char *at = (char *)cut_mem;
	uint64_t *fresh;

	MUST(munmap(at, SIDE / 2) == 0);
	fresh = mmap(at, SIDE / 2, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	MUST(fresh == cut_mem && fresh[0] == 0 && fresh[SIDE / 4 / 8] == 0);
	MUST(mprotect(at + SIDE / 2 + 8 * PAGE, PAGE, PROT_READ) == 0);
	look(cut_mem, SIDE / 2 / PAGE + 8, 4);
	MUST(mprotect(at + SIDE / 2 + 8 * PAGE, PAGE, PROT_READ | PROT_WRITE) == 0);
}

static void see_all(void)
{
	for (size_t i = 0; i < main_pages; i++)
		look(main_mem, i, 1);
	for (size_t i = 0; i < SIDE / PAGE; i++)
		look(move_mem, i, 3);
	for (size_t i = 0; i < SIDE / PAGE; i++) {
		look(wipe_mem, i, 5);
		look(own_mem, i, 6);
	}
	for (size_t i = 0; i < SIDE / 2 / PAGE; i++)
		MUST(cut_mem[i * WORDS] == 0);
	see_dropped();
}

static void anew(void)
{
	fill(drop_mem, SIDE / PAGE, 2);
	fill(cut_mem, SIDE / PAGE, 4);
}

static void come_to(int all)
{
	pid_t child;
	int status;

	look_around(lap);
	if (!all)
		return;
	child = by_child();
	drop_some();
	move_some();
	by_calls();
	unmap_some();
	by_threads();
	see_all();
	MUST(waitpid(child, &status, 0) == child && status == 0);
	anew();
}

int main(int argc, char **argv)
{
	struct utsname was, is;
	int all = argc == 3 && strcmp(argv[1], "all") == 0;

	if (argc != 3)
		return 2;
	main_pages = (strtoul(argv[2], NULL, 10) << 20) / PAGE;
	main_mem = map(main_pages * PAGE);
	drop_mem = map(SIDE);
	move_mem = map(SIDE);
	cut_mem = map(SIDE);
	wipe_mem = map(SIDE);
	own_mem = map(SIDE);
	MUST(madvise(wipe_mem, SIDE, MADV_WIPEONFORK) == 0);
	MUST(madvise(own_mem, SIDE, MADV_DONTFORK) == 0);
	fill(wipe_mem, SIDE / PAGE, 5);
	fill(own_mem, SIDE / PAGE, 6);
	fill(main_mem, main_pages, 1);
	fill(move_mem, SIDE / PAGE, 3);
	anew();
	setvbuf(stdout, NULL, _IOLBF, 0);
	uname(&was);
	puts("ready");
	for (;;) {
		usleep(all ? 200 : 1000);
		uname(&is);
		if (strcmp(is.nodename, was.nodename) == 0)
			continue;
		was = is;
		lap++;
		if (all)
			come_to(1);
		else
			look(main_mem, lap % 16, 1);
		printf("%u %s ok\n", lap, is.nodename);
	}
}
