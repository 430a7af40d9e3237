/*
 * For programs that are moved: CHECK counts, and says where on the cluster it
 * was. Output goes through the process's own stderr, wherever it is.
 */
#pragma once

#include <bproc.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int failures;

#define CHECK(cond, ...)                                                                           \
	do {                                                                                       \
		if (!(cond)) {                                                                     \
			int e_ = errno;                                                            \
			failures++;                                                                \
			fprintf(stderr, "%s:%d: NOT OK on node %d: %s: ", __FILE__, __LINE__,      \
				bproc_currnode(), #cond);                                          \
			fprintf(stderr, __VA_ARGS__);                                              \
			fprintf(stderr, " (errno %d %s; %s)\n", e_, bproc_strerror(e_),            \
				bproc_errtext());                                                  \
		}                                                                                  \
	} while (0)

/* A step that the rest hangs on. */
#define MUST(cond, ...)                                                                            \
	do {                                                                                       \
		int before_ = failures;                                                            \
		CHECK(cond, __VA_ARGS__);                                                          \
		if (failures != before_)                                                           \
			exit(1);                                                                   \
	} while (0)

/* A file of this process alone: in another lab beside this one the same number is another's. */
#define PATH_LEN 64
static inline void tmp_path(char ret[PATH_LEN], const char *name)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	snprintf(ret, PATH_LEN, "/tmp/bproc-%s.%d.%lx", name, (int)getpid(),
		 t.tv_sec * 1000000000L + t.tv_nsec);
}

static inline int wait_status(pid_t pid)
{
	int status = -1;

	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -1;
	return status;
}

/* Exit status of a child that must have exited, or -1. */
static inline int wait_exit(pid_t pid)
{
	int s = wait_status(pid);

	return s >= 0 && WIFEXITED(s) ? WEXITSTATUS(s) : -1;
}

static inline void nap_ms(int ms)
{
	struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L};

	while (nanosleep(&t, &t) < 0 && errno == EINTR)
		;
}

static inline double now_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* What one process tells another, wherever the two are. */
static inline void make_file(const char *path)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	if (fd < 0)
		_exit(90);
	close(fd);
}

static inline bool await_file(const char *path, double seconds)
{
	for (double t0 = now_s(); now_s() - t0 < seconds; nap_ms(1))
		if (access(path, F_OK) == 0)
			return true;
	return false;
}

static inline int finish(const char *name)
{
	if (failures == 0)
		printf("ok - %s\n", name);
	else
		printf("NOT OK - %s: %d failures\n", name, failures);
	return failures ? 1 : 0;
}
