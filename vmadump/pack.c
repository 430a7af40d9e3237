/*
 * vmad_dump_pid() with VMAD_PACK: what the process writes goes through a pipe to a clone of the
 * caller that packs it. Library code; runs in whoever dumps, and in that clone.
 *
 * zstd packs less in a second than the process writes. So the clone takes in whatever comes and
 * keeps it until it has time, in up to half of the memory that is available: then the process
 * stands still for not much longer than without, and who packs goes on alone.
 */
#define ZSTD_STATIC_LINKING_ONLY /* contexts in memory of ours: nothing is allocated in a clone */
#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <linux/sched.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zstd.h>
#include <zstd_errors.h>

#include "vmadump/pack.h"

#define MIB (1ull << 20)
#define PIPE_BYTES (1 << 20)
#define KEEP_MIN (8 * MIB)
#define PIECE (128u << 10) /* packed at once, before it is looked whether more has come: 0.3 ms */

/* -- the process beside us */

static _Noreturn void pack_exit(int status)
{
	/* Not exit_group(2), which a strict filter does not have. */
	for (;;)
		syscall(SYS_exit, status);
}

void *pack_memory(uint64_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

static _Noreturn void be_child(struct pack_report *rep, int in, int out,
			       void (*work)(struct pack_report *), pid_t parent)
{
	sigset_t all;

	sigfillset(&all); /* no handler of the caller's runs here, and a pipe that breaks says so */
	pthread_sigmask(SIG_SETMASK, &all, NULL);
	/* Who was killed leaves nobody behind that writes a file which is never finished. */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		pack_exit(1);
	in = fcntl(in, F_DUPFD, 3);
	out = fcntl(out, F_DUPFD, 3);
	if (in < 0 || out < 0 || dup2(in, 0) < 0 || dup2(out, 1) < 0 ||
	    syscall(SYS_close_range, 2u, ~0u, 0u) < 0)
		rep->code = errno;
	else
		work(rep);
	pack_exit(0);
}

int pack_start(struct pack_child *c, int fd, int toward, uint64_t most,
	       void (*work)(struct pack_report *), struct trace *t)
{
	struct clone_args a = {0}; /* no signal for who waits for children of its own */
	struct pack_report *rep;
	pid_t us = getpid();
	int end[2];
	long r;

	rep = mmap(NULL, sizeof *rep, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (rep == MAP_FAILED)
		return trace_fail(t, errno, "memory for packing: %s", strerror(errno));
	if (pipe2(end, O_CLOEXEC) < 0) {
		munmap(rep, sizeof *rep);
		return trace_fail(t, errno, "a pipe for packing: %s", strerror(errno));
	}
	fcntl(end[1], F_SETPIPE_SZ, PIPE_BYTES); /* a user's pipes may be as many as are allowed */
	rep->most = most;
	r = syscall(SYS_clone3, &a, sizeof a);
	if (r == 0)
		be_child(rep, toward ? end[0] : fd, toward ? fd : end[1], work, us);
	close(end[!toward]);
	if (r < 0) {
		close(end[toward]);
		munmap(rep, sizeof *rep);
		return trace_fail(t, errno, "a process for packing: %s", strerror(errno));
	}
	*c = (struct pack_child){.pid = (pid_t)r, .pipe = end[toward], .report = rep};
	return 0;
}

void pack_reap(struct pack_child *c, int end)
{
	int e = errno;

	if (c->pipe >= 0)
		close(c->pipe);
	c->pipe = -1;
	if (c->pid && end)
		kill(c->pid, SIGKILL);
	while (c->pid && waitpid(c->pid, NULL, __WALL) < 0 && errno == EINTR)
		;
	c->pid = 0;
	errno = e;
}

void pack_forget(struct pack_child *c)
{
	if (c->report)
		munmap(c->report, sizeof *c->report);
	c->report = NULL;
}

/* -- packing */

struct packer {
	struct pack_report *rep;
	ZSTD_CStream *z;
	uint8_t *ring, *out;
	uint64_t size, head, tail, freed; /* bytes that have come, were packed, were given back */
	int ended;
};

static uint64_t memory_available(void)
{
	FILE *f = fopen("/proc/meminfo", "re");
	unsigned long long kb = 0;
	char line[128];

	while (f && fgets(line, sizeof line, f) && sscanf(line, "MemAvailable: %llu kB", &kb) != 1)
		;
	if (f)
		fclose(f);
	return kb * 1024;
}

static int put_out(struct packer *p, uint64_t n)
{
	for (const uint8_t *at = p->out; n;) {
		ssize_t w = write(1, at, n);

		if (w < 0 && errno == EINTR)
			continue;
		if (w < 0) {
			p->rep->code = errno;
			return -1;
		}
		at += w;
		n -= (uint64_t)w;
		p->rep->bytes += (uint64_t)w;
	}
	return 0;
}

static int pack_piece(struct packer *p, uint64_t n, ZSTD_EndDirective how)
{
	ZSTD_inBuffer in = {p->ring + p->tail % p->size, n, 0};
	size_t left;

	do {
		ZSTD_outBuffer out = {p->out, ZSTD_CStreamOutSize(), 0};

		left = ZSTD_compressStream2(p->z, &out, &in, how);
		if (ZSTD_isError(left)) {
			p->rep->zstd = (uint32_t)ZSTD_getErrorCode(left);
			p->rep->code = EIO;
			return -1;
		}
		if (put_out(p, out.pos) < 0)
			return -1;
	} while (in.pos < in.size || (how == ZSTD_e_end && left));
	p->tail += n;
	/* What is packed is nobody's any more. */
	for (; p->tail - p->freed >= MIB; p->freed += MIB)
		madvise(p->ring + p->freed % p->size, MIB, MADV_DONTNEED);
	return 0;
}

/* 1: something has come, or its end; 0: nothing is there. */
static int take_in(struct packer *p)
{
	uint64_t at = p->head % p->size, n = p->size - (p->head - p->freed);
	ssize_t r;

	if (n > p->size - at)
		n = p->size - at;
	if (n > MIB)
		n = MIB;
	if (!n || p->ended)
		return 0;
	r = read(0, p->ring + at, n);
	if (r < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (r < 0) {
		p->rep->code = errno;
		return -1;
	}
	p->head += (uint64_t)r;
	p->ended = r == 0;
	return 1;
}

static int pack_all(struct packer *p)
{
	while (!p->ended || p->tail < p->head) {
		uint64_t n = p->head - p->tail, edge = p->size - p->tail % p->size;
		struct pollfd w = {.fd = 0, .events = POLLIN};
		int r = take_in(p);

		if (r < 0)
			return -1;
		if (r > 0)
			continue;
		if (n > edge)
			n = edge;
		if (n && pack_piece(p, n < PIECE ? n : PIECE, ZSTD_e_continue) < 0)
			return -1;
		if (!n && !p->ended)
			poll(&w, 1, -1);
	}
	return pack_piece(p, 0, ZSTD_e_end);
}

static void pack_work(struct pack_report *rep)
{
	uint64_t room = ZSTD_estimateCStreamSize(PACK_LEVEL);
	struct packer p = {.rep = rep, .size = rep->most};
	void *memory = pack_memory(room);

	p.out = pack_memory(ZSTD_CStreamOutSize());
	p.ring = pack_memory(p.size);
	p.z = memory ? ZSTD_initStaticCStream(memory, room) : NULL;
	if (!p.z || !p.out || !p.ring) {
		rep->code = ENOMEM;
		return;
	}
	ZSTD_CCtx_setParameter(p.z, ZSTD_c_compressionLevel, PACK_LEVEL);
	ZSTD_CCtx_setParameter(p.z, ZSTD_c_checksumFlag, 1);
	fcntl(0, F_SETFL, O_NONBLOCK);
	rep->whole = pack_all(&p) == 0;
}

int pack_begin(struct pack_child *c, int fd, struct trace *t)
{
	uint64_t keep = memory_available() / 2 / MIB * MIB;

	keep = keep > KEEP_MIN ? keep : KEEP_MIN;
	return pack_start(c, fd, 1, keep, pack_work, t) < 0 ? -1 : c->pipe;
}

long pack_end(struct pack_child *c, long n, struct trace *t)
{
	const struct pack_report *rep = c->report;

	if (!rep)
		return n;
	/* Its own failure is why the process could not go on writing. */
	pack_reap(c, n < 0 && !rep->code);
	if (rep->code)
		n = trace_fail(t, rep->code, "writing the image: %s",
			       rep->zstd ? ZSTD_getErrorString((ZSTD_ErrorCode)rep->zstd)
					 : strerror(rep->code));
	else if (n > 0 && !rep->whole)
		n = trace_fail(t, EIO, "who packs the image has ended");
	else if (n > 0)
		n = (long)rep->bytes;
	pack_forget(c);
	return n;
}
