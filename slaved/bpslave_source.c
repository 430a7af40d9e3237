/*
 * Where the news of the node's processes come from: the event program in the
 * kernel (bpf/), or, where that cannot be had, /proc, looked at again and again.
 * Runs in bpslave of a node. The ring is emptied a moment after the first record
 * came, so that a storm wakes us up a few thousand times a second and no more.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "bpslave_born.h"
#include "libbproc/config.h"
#include "libbproc/log.h"
#include "vmadump/blob/blob.h"

_Static_assert(BLOB_LOW == BLOB_ADDR && BLOB_HIGH == BLOB_ADDR + BLOB_TRIES * BLOB_APART,
	       "bpf/events.h has the blob's addresses too");

#define GATHER_US 200
#define POLL_MS 25
#define POLL_SHARE 10 /* at most this part of the time goes into looking */
#define HINT_MS 2

static struct {
	bool running, bpf;
	struct event *poll;	     /* owned */
	struct event *ring, *gather; /* owned */
	int gather_fd;		     /* owned */
} src = {.gather_fd = -1};

static uint64_t now_us(void)
{
	return (uint64_t)clock_ns(CLOCK_MONOTONIC) / 1000;
}

/* -- looking at /proc */

static void on_poll(evutil_socket_t fd, short what, void *arg)
{
	uint64_t t = now_us(), ms;

	(void)fd;
	(void)what;
	(void)arg;
	init_take();
	born_scan();
	born_flush();
	ms = (now_us() - t) * POLL_SHARE / 1000;
	start_timer(src.poll, ms > POLL_MS ? (uint32_t)ms : POLL_MS);
}

void source_hint(void)
{
	if (src.poll)
		start_timer(src.poll, HINT_MS);
}

static void start_poll(const char *why)
{
	log_notice("births on this node are seen by looking at /proc each %d ms (%s): shorter "
		   "lives are not seen, and how a process ended that nobody here waited for",
		   POLL_MS, why);
	src.poll = new_timer(on_poll, NULL);
	if (src.poll)
		start_timer(src.poll, POLL_MS);
}

static void no_bpf(const char *why)
{
	if (slave.event_source == CONFIG_EVENTS_BPF)
		log_error("no event program in the kernel: %s", why);
	start_poll(why);
}

/* -- the event program */

#ifdef BPROC_BPF
#include <bpf/libbpf.h>

#include "events.skel.h"

static struct events_bpf *prog;	 /* owned */
static struct ring_buffer *ring; /* owned */
static unsigned long long dropped;

__attribute__((format(printf, 2, 0))) static int on_print(enum libbpf_print_level level,
							  const char *fmt, va_list ap)
{
	(void)level;
	(void)fmt;
	(void)ap;
	return 0; /* of another thread; the errno that comes back says enough */
}

static int on_event(void *ctx, void *data, size_t len)
{
	(void)ctx;
	if (len >= sizeof(struct event_record))
		born_record(data);
	return 0;
}

static void take(void)
{
	ring_buffer__consume(ring);
	if (prog->bss->dropped != dropped) {
		dropped = prog->bss->dropped;
		log_warn("the ring of events was full: the node's processes are looked at anew");
		born_scan();
	}
}

static void on_gathered(evutil_socket_t fd, short what, void *arg)
{
	uint64_t n;

	(void)what;
	(void)arg;
	if (read(fd, &n, sizeof(n)) < 0 && errno == EAGAIN)
		return;
	init_take(); /* that a process runs here was said before it did what it does here */
	take();
	born_flush();
	event_add(src.ring, NULL);
}

/* Not one more wake-up until it has been emptied: the kernel makes none while it is not. */
static void on_ring(evutil_socket_t fd, short what, void *arg)
{
	const struct itimerspec soon = {.it_value.tv_nsec = GATHER_US * 1000};

	(void)fd;
	(void)what;
	(void)arg;
	timerfd_settime(src.gather_fd, 0, &soon, NULL);
}

/*
 * The kernel's check of the program takes a tenth of a second: too long for the
 * loop, so this is the one thread that bpslave ever has besides it.
 */
static struct {
	pthread_t thread;
	bool running;
	uint32_t pidns;
	int err;
	int done[2];	      /* owned; its pipe's end says that it has ended */
	struct event *result; /* owned */
} loader = {.done = {-1, -1}};

static void *load(void *arg)
{
	(void)arg;
	libbpf_set_print(on_print);
	prog = events_bpf__open();
	loader.err = prog ? 0 : -errno;
	if (prog) {
		prog->rodata->pidns = loader.pidns;
		loader.err = events_bpf__load(prog);
	}
	if (loader.err == 0)
		loader.err = events_bpf__attach(prog);
	loader.done[1] = close_fd(loader.done[1]);
	return NULL;
}

static void loader_end(void)
{
	if (loader.running)
		pthread_join(loader.thread, NULL);
	loader.running = false;
	free_event(&loader.result);
	loader.done[0] = close_fd(loader.done[0]);
	loader.done[1] = close_fd(loader.done[1]);
}

static int use_ring(void)
{
	ring = ring_buffer__new(bpf_map__fd(prog->maps.ring), on_event, NULL, NULL);
	src.gather_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (!ring || src.gather_fd < 0)
		return -errno;
	dropped = 0;
	src.gather = watch_fd(src.gather_fd, EV_READ, on_gathered, NULL);
	src.ring = event_new(slave.base, ring_buffer__epoll_fd(ring), EV_READ, on_ring, NULL);
	if (!src.gather || !src.ring || event_add(src.ring, NULL) < 0)
		return -ENOMEM;
	return 0;
}

static void stop_bpf(void)
{
	loader_end();
	free_event(&src.ring);
	free_event(&src.gather);
	src.gather_fd = close_fd(src.gather_fd);
	ring_buffer__free(ring);
	ring = NULL;
	events_bpf__destroy(prog);
	prog = NULL;
}

static void on_loaded(evutil_socket_t fd, short what, void *arg)
{
	int e;

	(void)fd;
	(void)what;
	(void)arg;
	loader_end();
	e = loader.err == 0 ? use_ring() : loader.err;
	if (e < 0) {
		stop_bpf();
		no_bpf(strerror(-e));
		return;
	}
	src.bpf = true;
	log_info("births on this node are told by the kernel");
	init_take(); /* how those ended that were waited for meanwhile: a scan can only guess */
	born_scan(); /* what was born before */
	born_flush();
}

static void start_bpf(uint32_t pidns)
{
	sigset_t all, old;
	int e = 0;

	loader.pidns = pidns;
	if (pipe2(loader.done, O_CLOEXEC) < 0)
		return no_bpf(strerror(errno));
	loader.result = watch_fd(loader.done[0], EV_READ, on_loaded, NULL);
	/* Signals are the loop's. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	e = loader.result ? pthread_create(&loader.thread, NULL, load, NULL) : ENOMEM;
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	loader.running = e == 0;
	if (e != 0) {
		loader_end();
		no_bpf(strerror(e));
	}
}

#else
static void start_bpf(uint32_t pidns)
{
	(void)pidns;
	no_bpf("built without eBPF");
}
static void stop_bpf(void)
{
}
static void take(void)
{
}
#endif

void source_take(void)
{
	if (src.bpf)
		take();
	else if (src.running)
		born_scan();
}

/* bpinit has told all it holds: from here on every process of the node is known. */
void source_start(int32_t init_pid)
{
	uint32_t pidns;
	int e;

	if (slave.node == HOME_NODE || src.running)
		return;
	e = scan_open(init_pid, &pidns);
	if (e < 0) {
		log_error("/proc of the node's namespace: %s: what is born here has no ghost "
			  "at home",
			  strerror(-e));
		return;
	}
	src.running = true;
	born_scan();
	if (slave.event_source == CONFIG_EVENTS_POLL)
		start_poll("as configured");
	else
		start_bpf(pidns);
}

void source_stop(void)
{
	stop_bpf();
	free_event(&src.poll);
	src.running = src.bpf = false;
	scan_close();
	born_clear();
}
