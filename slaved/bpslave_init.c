/*
 * The link to bpinit: found or started, greeted, told what is for it, in order, also if it is not
 * there yet. Runs in bpslave; doc/local.md. What bpinit says itself is in bpslave_heard.c.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bpslave_heard.h"
#include "libbproc/log.h"

#define TAKE_MAX 256 /* messages of bpinit at once, before what the kernel tells */
#define AGAIN_MS 100
#define CONNECT_MS 20 /* between tries while bpinit starts */
#define CONNECT_TRIES 250
#define QUEUE_MAX 65536 /* messages that wait for a bpinit that does not read */

/* Most messages are zeros but for their first bytes, and of those are thousands in a storm. */
struct queued {
	STAILQ_ENTRY(queued) next;
	int fd[SYSIO_FDS_MAX], nfd; /* owned */
	size_t len;
	unsigned char bytes[];
};

static struct {
	int fd;					   /* owned; -1 */
	struct event *readable, *writable, *retry; /* owned */
	STAILQ_HEAD(, queued) queue;
	struct queued *greeting; /* the last message of it that is still to be sent; or NULL */
	size_t nqueue;
	bool wanted;	   /* a Welcome has come: it may be started */
	bool started;	   /* we have started one and wait for its socket */
	bool greeted;	   /* HELLO has been said on this connection */
	bool greeting_now; /* what is sent now belongs to the greeting */
	int tries;
	int64_t mono_off, boot_off;
	char over[80]; /* why it is lost: known, and not acted on yet */
} in = {.fd = -1};

/* While one starts, what is for it waits in the queue. */
bool init_is_up(void)
{
	return in.fd >= 0 || in.started;
}

bool init_is_connected(void)
{
	return in.fd >= 0;
}

int32_t init_pid(void)
{
	struct ucred c = {0};
	socklen_t len = sizeof(c);

	/* Of a connection that was accepted it is whoever called listen(). */
	if (in.fd < 0 || getsockopt(in.fd, SOL_SOCKET, SO_PEERCRED, &c, &len) < 0)
		return 0;
	return c.pid;
}

/* -- sending */

static void lost(const char *why);

static void drop_queue(void)
{
	struct queued *q;

	while ((q = STAILQ_FIRST(&in.queue))) {
		STAILQ_REMOVE_HEAD(&in.queue, next);
		for (int i = 0; i < q->nfd; i++)
			close_fd(q->fd[i]);
		free(q);
	}
	in.greeting = NULL;
	in.nqueue = 0;
}

/* Nothing is said before the greeting: what waits may have come before there was a bpinit. */
static void put(struct queued *q)
{
	if (!in.greeting_now)
		STAILQ_INSERT_TAIL(&in.queue, q, next);
	else if (in.greeting)
		STAILQ_INSERT_AFTER(&in.queue, in.greeting, q, next);
	else
		STAILQ_INSERT_HEAD(&in.queue, q, next);
	if (in.greeting_now)
		in.greeting = q;
}

static void enqueue(const struct init_msg *m, const int *fds, int nfd)
{
	const unsigned char *bytes = (const unsigned char *)m;
	size_t len = sizeof(*m);
	struct queued *q;

	while (len > 0 && bytes[len - 1] == 0)
		len--;
	q = in.nqueue < QUEUE_MAX ? calloc(1, sizeof(*q) + len) : NULL;
	if (!q) {
		log_error("bpinit does not read: message %u is lost", m->type);
		return;
	}
	q->len = len;
	memcpy(q->bytes, bytes, len);
	for (; q->nfd < nfd; q->nfd++)
		q->fd[q->nfd] = fcntl(fds[q->nfd], F_DUPFD_CLOEXEC, 3);
	put(q);
	in.nqueue++;
}

static void on_writable(evutil_socket_t fd, short what, void *arg)
{
	static struct init_msg m;
	struct queued *q;
	int e;

	(void)what;
	(void)arg;
	while ((q = STAILQ_FIRST(&in.queue))) {
		memset(&m, 0, sizeof(m));
		memcpy(&m, q->bytes, q->len);
		e = pkt_send(fd, &m, sizeof(m), q->fd, q->nfd);
		if (e == -EAGAIN)
			return;
		STAILQ_REMOVE_HEAD(&in.queue, next);
		if (q == in.greeting)
			in.greeting = NULL;
		in.nqueue--;
		for (int i = 0; i < q->nfd; i++)
			close_fd(q->fd[i]);
		free(q);
	}
	event_del(in.writable);
}

void init_send(const struct init_msg *msg, const int *fds, int nfd)
{
	int e = -EAGAIN;

	if (in.fd >= 0 && STAILQ_EMPTY(&in.queue))
		e = pkt_send(in.fd, msg, sizeof(*msg), fds, nfd);
	if (e == 0)
		return;
	if (e != -EAGAIN) {
		log_warn("bpinit: message %u: %s", msg->type, strerror(-e));
		return; /* its end is noticed by the reader */
	}
	enqueue(msg, fds, nfd);
	if (in.writable)
		event_add(in.writable, NULL);
}

/* -- receiving */

static bool is_over(const char *why)
{
	snprintf(in.over, sizeof(in.over), "%s", why);
	return false;
}

/* False: there was none, or there will be none any more. */
static bool take_one(int fd)
{
	static struct init_msg m;
	struct sysio_pkt pkt;
	int e;

	e = pkt_recv(fd, &m, sizeof(m), MSG_DONTWAIT, &pkt);
	if (e == -EAGAIN)
		return false;
	if (e < 0)
		return is_over(strerror(-e));
	pkt_close(&pkt);
	if (pkt.len == 0)
		return is_over("it has ended");
	/* Events are sent without the room for a chain that none of them has. */
	if (pkt.len < offsetof(struct init_msg, u) + sizeof(m.u.text)) {
		log_error("bpinit: a message of %zu bytes, not %zu: another version", pkt.len,
			  sizeof(m));
		return is_over("another version");
	}
	heard_message(&m);
	return true;
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
	(void)what;
	(void)arg;
	/* More than one at a time only when they come fast: the last, empty read costs a call. */
	if (!in.over[0])
		take_one(fd);
	if (in.over[0])
		lost(in.over);
}

/* Its end takes away the node's events and processes, in whose midst the caller may be: later. */
void init_take(void)
{
	for (int i = 0; i < TAKE_MAX && in.fd >= 0 && !in.over[0]; i++)
		if (!take_one(in.fd))
			break;
	if (in.over[0] && in.readable)
		event_active(in.readable, EV_READ, 0);
}

/* -- finding and starting it */

static void say_hello(void)
{
	struct init_msg m = {.type = INIT_HELLO, .version = INIT_VERSION};

	/* What is safe already need not be told again. */
	if (in.greeted)
		heard_ack();
	m.req_id = heard_hello();
	init_send(&m, NULL, 0);
	in.greeted = true;
}

static struct event *again; /* lives as long as we */

static void on_again(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	(void)arg;
	if (in.greeted && master_is_up())
		say_hello();
}

void init_tell_again(void)
{
	if (!again)
		again = new_timer(on_again, NULL);
	if (again && !event_pending(again, EV_TIMEOUT, NULL))
		start_timer(again, AGAIN_MS);
}

static void say_lease(void)
{
	struct init_msg m = {.type = INIT_LEASE};

	if (slave.lease_hi <= slave.lease_lo)
		return;
	m.u.lease.lo = slave.lease_lo;
	m.u.lease.hi = slave.lease_hi;
	m.u.lease.next = slave.lease_next;
	init_send(&m, NULL, 0);
}

/* Only to a bpinit that has no process yet does it matter: it takes the first one. What is cloned
 * before it has no filter, nor has what is cloned by that. */
static void say_filter(void)
{
	struct init_msg m = {.type = INIT_FILTER};

	if (!slave.kill_from_nodes || slave.node == HOME_NODE)
		return;
	m.u.lease.lo = slave.lease_lo;
	m.u.lease.hi = slave.lease_hi;
	init_send(&m, NULL, 0);
}

/* On a new connection: before whatever waits for one. */
static void greet(void)
{
	in.greeting_now = true;
	say_hello();
	say_lease();
	say_filter();
	in.greeting_now = false;
}

static bool found(void)
{
	char path[256];
	int fd, on = 1;

	snprintf(path, sizeof(path), "%s/" INIT_SOCK, run_dir());
	fd = unix_connect(path);
	if (fd < 0)
		return false;
	setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &(int){1 << 20}, sizeof(on));
	evutil_make_socket_nonblocking(fd);
	in.fd = fd;
	in.readable = watch_fd(fd, EV_READ, on_readable, NULL);
	in.writable = event_new(slave.base, fd, EV_WRITE | EV_PERSIST, on_writable, NULL);
	in.tries = 0;
	in.started = in.greeted = false;
	if (!STAILQ_EMPTY(&in.queue))
		event_add(in.writable, NULL);
	greet();
	return true;
}

static void seek(void)
{
	if (in.fd >= 0)
		return;
	if (found())
		return;
	if (!in.wanted)
		return;
	if (!in.started) {
		id_write();
		start_bpinit(in.mono_off, in.boot_off);
		in.started = true;
		in.tries = 0;
	} else if (++in.tries == CONNECT_TRIES) {
		/* What waits for it would wait for ever: it is as if it had ended. */
		return lost("it does not come up");
	}
	start_timer(in.retry, CONNECT_MS);
}

static void on_retry(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	(void)arg;
	seek();
}

/*
 * Its processes have ended with it, or it was told to end. A new one is another
 * one for the master too, which has to hear that before anything else.
 */
static void lost(const char *why)
{
	log_error("bpinit: %s", why);
	in.over[0] = '\0';
	free_event(&in.readable);
	free_event(&in.writable);
	in.fd = close_fd(in.fd);
	drop_queue();
	heard_lost();
	source_stop();
	move_init_lost();
	query_init_lost();
	stdio_init_lost();
	if (found())
		return;
	id_new();
	in.started = false;
	master_reconnect();
	start_timer(in.retry, CONNECT_MS);
}

void init_want(int64_t mono_off_ns, int64_t boot_off_ns)
{
	in.wanted = true;
	in.mono_off = mono_off_ns;
	in.boot_off = boot_off_ns;
	seek();
}

void init_resync(void)
{
	/* Also if an answer is on its way: what of it was read before the Welcome went nowhere. */
	if (in.fd >= 0) {
		say_hello();
		say_lease();
		say_filter();
	}
}

void init_alive(uint32_t ms)
{
	struct init_msg m = {.type = INIT_ALIVE, .u.alive.ms = ms};

	if (in.fd >= 0)
		init_send(&m, NULL, 0);
}

void init_fence(void)
{
	struct init_msg m = {.type = INIT_FENCE};

	init_send(&m, NULL, 0);
	heard_none();
}

int init_start(struct bproc_err *err)
{
	STAILQ_INIT(&in.queue);
	in.retry = new_timer(on_retry, NULL);
	if (heard_start() < 0 || !in.retry)
		return bproc_err_set(err, ENOMEM, "no memory");
	id_read();
	seek();
	if (in.fd < 0)
		id_new();
	return 0;
}

void init_stop(void)
{
	source_stop();
	heard_stop();
	free_event(&in.readable);
	free_event(&in.writable);
	free_event(&in.retry);
	in.fd = close_fd(in.fd);
	drop_queue();
}
