/*
 * Where the news of the node's processes come from: the event program in the
 * kernel (bpf/), or, where that cannot be had, /proc, looked at again and again.
 * Runs in bpslave of a node. The first record wakes us; from then on the ring is looked
 * at from time to time until nothing has come, the longer the storm the more seldom: it
 * is its processes' processor that we would take.
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

#define GATHER_US 1000 /* what follows an end, which wakes us as well, is over by then */
#define GATHER_MAX_US 2000
#define POLL_MS 25
#define POLL_SHARE 10 /* at most this part of the time goes into looking */
#define HINT_MS 2
#define LATE_MS 20    /* between looks at who is just ending, at first */
#define LATE_LOOKS 10 /* of a process without its first thread nothing tells that it is not */

static struct {
	bool running, bpf;
	bool awake;			   /* the ring will be looked at again in a moment */
	struct event *poll;		   /* owned */
	struct event *ring, *gather;	   /* owned */
	int gather_fd;			   /* owned */
	long gather_us;			   /* from one look at the ring to the next */
	unsigned long long taken, dropped; /* as the event program counts them */
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

/*
 * Who is in the midst of his end when all are looked at still lives there, and the kernel may have
 * told of that end before anybody listened, or to a full ring: he is looked at until it is over.
 */
static struct event *late; /* owned */
static int late_looks;

static void if_ending(struct born *b, void *arg)
{
	*(bool *)arg |= !b->ended && !b->away && scan_is_dying(b->pid);
}

static void scan_late(void)
{
	bool any = false;

	born_scan();
	born_each(if_ending, &any);
	if (any && late && late_looks < LATE_LOOKS)
		start_timer(late, LATE_MS << late_looks++);
}

static void on_late(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	(void)arg;
	init_take(); /* how those ended that were waited for meanwhile: a scan can only guess */
	scan_late();
	born_flush();
}

static void scan_all(void)
{
	if (!late)
		late = new_timer(on_late, NULL);
	late_looks = 0;
	scan_late();
}

/* Records that have been taken. */
static uint32_t take(void)
{
	int n = ring_buffer__consume(ring);

	if (n > 0)
		src.taken += (uint32_t)n;
	if (prog->bss->dropped != src.dropped) {
		src.dropped = prog->bss->dropped;
		log_warn("the ring of events was full: the node's processes are looked at anew");
		scan_all();
	}
	return n > 0 ? (uint32_t)n : 0;
}

/* False: a record has begun that nobody would wake us for. */
static bool fall_asleep(void)
{
	__atomic_store_n(&prog->bss->asleep, 1, __ATOMIC_SEQ_CST);
	if (__atomic_load_n(&prog->bss->begun, __ATOMIC_SEQ_CST) == src.taken)
		return true;
	__atomic_store_n(&prog->bss->asleep, 0, __ATOMIC_SEQ_CST);
	return false;
}

static void look_again(void)
{
	struct itimerspec soon = {.it_value.tv_nsec = src.gather_us * 1000};

	timerfd_settime(src.gather_fd, 0, &soon, NULL);
	src.awake = true;
	if (src.gather_us < GATHER_MAX_US)
		src.gather_us *= 2;
}

static void look_at_ring(void)
{
	uint32_t n;

	init_take(); /* that a process runs here was said before it did what it does here */
	n = take();
	if (n > 0)
		born_flush();
	if (n > 0 || !fall_asleep())
		return look_again();
	src.awake = false;
	src.gather_us = GATHER_US;
}

/*
 * The record that was to wake us may be among those that are taken out of turn: then the ring is
 * empty when its wake-up comes, which epoll does not pass on.
 */
static void take_now(void)
{
	if (take() > 0 && !src.awake)
		look_again();
}

static void on_gathered(evutil_socket_t fd, short what, void *arg)
{
	uint64_t n;

	(void)what;
	(void)arg;
	if (read(fd, &n, sizeof(n)) < 0 && errno == EAGAIN)
		return;
	look_at_ring();
}

/* Edge-triggered: only the one record that found us asleep, not that there are some again. */
static void on_ring(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	(void)arg;
	look_at_ring();
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

/*
 * Each takes milliseconds. Births come last: of one that is told by a record the end is told by one
 * too. Else who was born and had ended in between would be a zombie to the scan, and his birth,
 * which is read behind that, another's, who has no end.
 */
static int attach(void)
{
	int e = events_bpf__attach(prog);

	if (e == 0)
		prog->links.on_fork = bpf_program__attach(prog->progs.on_fork);
	return e == 0 && !prog->links.on_fork ? -errno : e;
}

static void *load(void *arg)
{
	(void)arg;
	libbpf_set_print(on_print);
	prog = events_bpf__open();
	loader.err = prog ? 0 : -errno;
	if (prog) {
		prog->rodata->pidns = loader.pidns;
		bpf_program__set_autoattach(prog->progs.on_fork, false);
		loader.err = events_bpf__load(prog);
	}
	if (loader.err == 0)
		loader.err = attach();
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
	src.taken = src.dropped = 0;
	src.awake = false;
	src.gather_us = GATHER_US;
	src.gather = watch_fd(src.gather_fd, EV_READ, on_gathered, NULL);
	src.ring = event_new(slave.base, ring_buffer__epoll_fd(ring), EV_READ | EV_PERSIST | EV_ET,
			     on_ring, NULL);
	if (!src.gather || !src.ring || event_add(src.ring, NULL) < 0)
		return -ENOMEM;
	return 0;
}

static void stop_bpf(void)
{
	loader_end();
	free_event(&src.ring);
	free_event(&src.gather);
	free_event(&late);
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
	scan_all(); /* what was born before */
	born_flush();
	look_at_ring();
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
static void take_now(void)
{
}
#endif

void source_take_events(void)
{
	if (src.bpf)
		take_now();
}

void source_take(void)
{
	if (src.bpf)
		take_now();
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
