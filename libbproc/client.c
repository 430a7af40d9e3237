/*
 * Questions to this machine's bpslave (client.h, local.h). In every process that
 * uses the library; implements the asker's side of doc/local.md.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <unistd.h>

#include "libbproc/ahead.h"
#include "libbproc/client.h"
#include "libbproc/sysio.h"

#define SLOTS 8 /* connections kept; a ninth call at the same time makes one of its own */

#define REPEATS 3 /* of a query whose answer did not come */
#define REPEAT_AFTER_US 500

static struct slot {
	int fd;
	bool busy;
	ino_t ino; /* of the socket: tells ours from what has the number now */
} slots[SLOTS] = {[0 ... SLOTS - 1] = {.fd = -1}};
/* Of the process that we were forked from: only for questions without an answer. */
static struct slot inherited = {.fd = -1};
static pthread_mutex_t slots_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t atfork_once = PTHREAD_ONCE_INIT;
static pid_t owner; /* whose connections these are; 0: nobody's yet */
static uint32_t next_id;

static bool still_ours(const struct slot *s)
{
	struct stat st;

	return s->fd >= 0 && fstat(s->fd, &st) == 0 && S_ISSOCK(st.st_mode) && st.st_ino == s->ino;
}

static void slot_close(struct slot *s)
{
	if (still_ours(s))
		close_fd(s->fd);
	*s = (struct slot){.fd = -1};
}

static void close_slots(void)
{
	for (int i = 0; i < SLOTS; i++)
		slot_close(&slots[i]);
}

static void before_fork(void)
{
	pthread_mutex_lock(&slots_lock);
}

static void after_fork_parent(void)
{
	pthread_mutex_unlock(&slots_lock);
}

/*
 * Answers would go to whoever reads first: the child gets connections of its own. But
 * who asks is said with each message, so one is good enough to say where it wants to go.
 */
static void pass_on(void)
{
	for (int i = 0; i < SLOTS && inherited.fd < 0; i++) {
		if (!still_ours(&slots[i]))
			continue;
		inherited = slots[i];
		slots[i] = (struct slot){.fd = -1};
	}
	close_slots();
	owner = getpid();
}

static void after_fork_child(void)
{
	pthread_mutex_unlock(&slots_lock);
	pass_on();
}

void _bproc_cloned(void)
{
	pass_on();
}

static void install_atfork(void)
{
	pthread_atfork(before_fork, after_fork_parent, after_fork_child);
}

/* A connection of the pool for this call alone, made if need be. */
static int take_connection(struct client *c, bool fresh, struct bproc_err *err)
{
	struct timeval limit = {.tv_sec = CLIENT_TIMEOUT_S};
	struct stat st;
	int fd, i;

	pthread_once(&atfork_once, install_atfork);
	*c = (struct client){.fd = -1, .slot = -1};
	pthread_mutex_lock(&slots_lock);
	/* A child made without fork(): clone() runs no handlers. */
	if (owner != getpid()) {
		close_slots();
		owner = getpid();
	}
	for (i = 0; i < SLOTS && c->fd < 0; i++) {
		if (slots[i].busy)
			continue;
		if (fresh || !still_ours(&slots[i])) {
			slot_close(&slots[i]);
			if (c->slot < 0)
				c->slot = i;
			continue;
		}
		c->slot = i;
		c->fd = slots[i].fd;
		c->cached = 1;
	}
	if (c->slot >= 0)
		slots[c->slot].busy = true;
	pthread_mutex_unlock(&slots_lock);
	if (c->fd >= 0)
		return 0;

	fd = client_connect(err);
	if (fd < 0) {
		client_drop(c);
		return fd;
	}
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	if (c->slot >= 0 && fstat(fd, &st) == 0) {
		pthread_mutex_lock(&slots_lock);
		slots[c->slot].fd = fd;
		slots[c->slot].ino = st.st_ino;
		pthread_mutex_unlock(&slots_lock);
	}
	c->fd = fd;
	return 0;
}

static bool take_inherited(struct client *c)
{
	pthread_mutex_lock(&slots_lock);
	*c = (struct client){.fd = still_ours(&inherited) ? inherited.fd : -1, .slot = -1};
	c->cached = 1;
	inherited = (struct slot){.fd = -1};
	pthread_mutex_unlock(&slots_lock);
	return c->fd >= 0;
}

static void give_back(struct client *c)
{
	if (c->slot >= 0) {
		pthread_mutex_lock(&slots_lock);
		slots[c->slot].busy = false;
		pthread_mutex_unlock(&slots_lock);
	} else {
		close_fd(c->fd);
	}
	*c = (struct client){.fd = -1, .slot = -1};
}

void client_drop(struct client *c)
{
	if (c->slot >= 0) {
		pthread_mutex_lock(&slots_lock);
		slot_close(&slots[c->slot]);
		pthread_mutex_unlock(&slots_lock);
	} else {
		close_fd(c->fd);
	}
	*c = (struct client){.fd = -1, .slot = -1};
}

void client_answer_free(struct client_answer *ans)
{
	free(ans->heap);
	ans->heap = NULL;
}

static int gone(struct bproc_err *err)
{
	return bproc_err_set(err, ECONNRESET, "bpslave ended during the call");
}

struct question {
	struct local_hdr hdr;
	char payload[512];
};

void client_add(struct client *c, enum local_type type, const void *more, size_t len)
{
	struct question pkt = {.hdr = {.version = LOCAL_VERSION,
				       .type = (uint16_t)type,
				       .id = c->id,
				       .len = (uint32_t)len}};

	memcpy(pkt.payload, more, len);
	pkt_send(c->fd, &pkt, sizeof(pkt.hdr) + len, NULL, 0);
}

static int question(struct question *q, enum local_type type, const void *ask, size_t len,
		    struct bproc_err *err)
{
	if (len > sizeof(q->payload))
		return bproc_err_set(err, EINVAL, "question of %zu bytes", len);
	q->hdr = (struct local_hdr){
		.version = LOCAL_VERSION, .type = (uint16_t)type, .len = (uint32_t)len};
	if (len > 0)
		memcpy(q->payload, ask, len);
	return 0;
}

static int send_question(struct client *c, const struct question *q, int fd, struct bproc_err *err)
{
	size_t len = sizeof(q->hdr) + q->hdr.len;
	int e = pkt_send(c->fd, q, len, &fd, fd >= 0);

	if ((e == -EPIPE || e == -ECONNRESET || e == -ENOTCONN) && c->cached) {
		/* That bpslave has gone; the packet did not reach it, a new one may be there. */
		client_drop(c);
		e = take_connection(c, true, err);
		if (e < 0)
			return e;
		e = pkt_send(c->fd, q, len, &fd, fd >= 0);
	}
	c->id = q->hdr.id;
	if (e < 0) {
		client_drop(c);
		return e == -EPIPE || e == -ECONNRESET
			       ? gone(err)
			       : bproc_err_set(err, -e, "question to bpslave: %s", strerror(-e));
	}
	return 0;
}

int client_begin(struct client *c, enum local_type type, const void *ask, size_t len, int fd,
		 struct bproc_err *err)
{
	struct question q;
	int e = question(&q, type, ask, len, err);

	if (e == 0)
		e = take_connection(c, false, err);
	if (e < 0)
		return e;
	q.hdr.id = __atomic_add_fetch(&next_id, 1, __ATOMIC_RELAXED);
	return send_question(c, &q, fd, err);
}

int client_tell(struct client *c, enum local_type type, const void *ask, size_t len, int fd,
		struct bproc_err *err)
{
	struct question q;
	int e = question(&q, type, ask, len, err);

	if (e == 0 && !take_inherited(c))
		e = take_connection(c, false, err);
	if (e < 0)
		return e;
	q.hdr.id = 0; /* no question of anybody's */
	return send_question(c, &q, fd, err);
}

/* The size of the packet that is next, or -errno; waits for it. */
static ssize_t next_size(struct client *c, int timed, struct bproc_err *err)
{
	ssize_t n;

	for (;;) {
		n = recv(c->fd, NULL, 0, MSG_PEEK | MSG_TRUNC);
		if (n > 0)
			return n;
		if (n == 0 || errno == ECONNRESET)
			return gone(err);
		if (errno == EINTR || (errno == EAGAIN && !timed))
			continue;
		if (errno == EAGAIN)
			return bproc_err_set(err, ETIMEDOUT, "bpslave has not answered for %d s",
					     CLIENT_TIMEOUT_S);
		return bproc_err_set(err, errno, "answer of bpslave: %s", strerror(errno));
	}
}

static int read_answer(struct client *c, struct client_answer *ans, struct local_hdr *ret_hdr,
		       int timed, struct bproc_err *err)
{
	struct sysio_pkt pkt;
	char *buf;
	ssize_t n;
	int e;

	do {
		client_answer_free(ans);
		n = next_size(c, timed, err);
		if (n < 0)
			return (int)n;
		if ((size_t)n < sizeof(*ret_hdr) || n > LOCAL_MSG_MAX)
			return bproc_err_set(err, EPROTO, "answer of %zd bytes from bpslave", n);
		buf = ans->buf;
		if ((size_t)n > sizeof(ans->buf)) {
			buf = ans->heap = malloc((size_t)n);
			if (!buf)
				return bproc_err_set(err, ENOMEM, "no memory for %zd bytes", n);
		}
		e = pkt_recv(c->fd, buf, (size_t)n, 0, &pkt);
		if (e < 0)
			return bproc_err_set(err, -e, "answer of bpslave: %s", strerror(-e));
		pkt_close(&pkt); /* no answer carries any */
		memcpy(ret_hdr, buf, sizeof(*ret_hdr));
		if (ret_hdr->version != LOCAL_VERSION)
			return bproc_err_set(err, EPROTO,
					     "bpslave speaks version %u of the local protocol, "
					     "this library %u",
					     ret_hdr->version, LOCAL_VERSION);
		if (ret_hdr->len != (size_t)n - sizeof(*ret_hdr))
			return bproc_err_set(err, EPROTO, "answer of wrong length from bpslave");
	} while (ret_hdr->id != c->id); /* of a question that nobody waits for any more */
	ans->data = buf + sizeof(*ret_hdr);
	ans->len = ret_hdr->len;
	return 0;
}

int client_finish(struct client *c, struct client_answer *ans, int timed, struct bproc_err *err)
{
	struct client_answer own;
	struct local_hdr hdr;
	int e;

	own.heap = NULL;
	if (!ans)
		ans = &own;
	ans->heap = NULL;
	e = read_answer(c, ans, &hdr, timed, err);
	if (e < 0) {
		client_drop(c);
		client_answer_free(ans);
		return e;
	}
	give_back(c);
	if (hdr.err != 0) {
		e = hdr.err > 0 ? hdr.err : EPROTO;
		bproc_err_set(err, e, "%.*s", (int)strnlen(ans->data, ans->len), ans->data);
		client_answer_free(ans);
		return -e;
	}
	client_answer_free(&own);
	return 0;
}

int client_ask(enum local_type type, const void *ask, size_t len, struct client_answer *ans,
	       struct bproc_err *err)
{
	struct client c;
	int e;

	for (int tries = 0;; tries++) {
		e = client_begin(&c, type, ask, len, -1, err);
		if (e < 0)
			return e;
		e = client_finish(&c, ans, 1, err);
		if (e != -ECONNRESET || tries == REPEATS)
			return e;
		/* A daemon that ends may still let one in while it does. */
		usleep(REPEAT_AFTER_US << tries);
	}
}

void client_close_all(void)
{
	pthread_mutex_lock(&slots_lock);
	for (int i = 0; i < SLOTS; i++)
		if (!slots[i].busy)
			slot_close(&slots[i]);
	slot_close(&inherited);
	pthread_mutex_unlock(&slots_lock);
}

void client_forget(void)
{
	/* One thread is left, and its locks are as they were: free. */
	for (int i = 0; i < SLOTS; i++)
		slots[i] = (struct slot){.fd = -1};
	inherited = (struct slot){.fd = -1};
}
