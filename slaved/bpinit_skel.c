/*
 * bpinit: skeletons, warm children of the ghosts whose originals were rforked from
 * (vmadump/blob/ghost_skeleton.c). One is made when a child of rfork runs, for the next
 * one of the same parent with the same credentials; an arrival without one is made as any
 * other. Also the words by which their arrivals commit (doc/local.md).
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "slaved/bpinit.h"

#define SKELS_MAX 64
#define SKEL_LATE_MS 20	   /* hundreds of times what a clone takes */
#define SKEL_IDLE_MS 10000 /* then its memory is of more use elsewhere */

enum skel_state { SKEL_FREE, SKEL_WANTED, SKEL_MAKING, SKEL_WARM, SKEL_USED };

static struct skel {
	enum skel_state state;
	int32_t parent, pid;
	int chan; /* owned until it is used */
	uint32_t gen;
	struct chan_cred cred;
	uint64_t since_ms;
} skels[SKELS_MAX];
static uint32_t nused;	  /* slots that are not free */
static int words_fd = -1; /* a page each */
static char *words;
static int late = -1; /* a descriptor whose closing has time */

static uint64_t *word_of(uint32_t i)
{
	return (uint64_t *)(words + (size_t)i * CHAN_WORD_BYTES);
}

int skel_prepare(void)
{
	const size_t len = (size_t)SKELS_MAX * CHAN_WORD_BYTES;

	if (self.keeper)
		return 0;
	words_fd = memfd_create("bproc-words", MFD_CLOEXEC);
	if (words_fd < 0 || ftruncate(words_fd, (off_t)len) < 0)
		return -errno;
	words = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, words_fd, 0);
	return words == MAP_FAILED ? -errno : 0;
}

static void skel_free(struct skel *s)
{
	s->chan = chan_end(s->chan);
	s->gen++;
	s->state = SKEL_FREE;
	nused--;
}

void skel_drop(int32_t parent)
{
	for (uint32_t i = 0; nused && i < SKELS_MAX; i++)
		if (skels[i].state != SKEL_FREE && skels[i].state != SKEL_USED &&
		    skels[i].parent == parent)
			skel_free(&skels[i]);
}

/* -- making one */

void skel_want(const struct move *m)
{
	struct skel *s = NULL;

	if (m->kind != MOVE_RFORK || self.keeper || !proc_can_clone(proc_find(m->ppid)))
		return;
	for (uint32_t i = 0; i < SKELS_MAX; i++) {
		struct skel *o = &skels[i];

		if (o->state == SKEL_FREE) {
			s = s ? s : o;
		} else if (o->state != SKEL_USED && o->parent == m->ppid) {
			if (memcmp(&o->cred, &m->cred, sizeof(o->cred)) == 0)
				return;
			skel_free(o);
			s = o;
		}
	}
	if (!s)
		return;
	s->state = SKEL_WANTED;
	s->parent = m->ppid;
	s->chan = -1;
	s->cred = m->cred;
	nused++;
}

static int make(struct skel *s)
{
	struct proc *parent = proc_find(s->parent);
	const uint32_t i = (uint32_t)(s - skels);
	struct chan_msg who = {.type = CHAN_CLONE,
			       .flags = CHAN_CLONE_TEMPLATE,
			       .stream_mask = i,
			       .u.clone = {.kind = CLONE_SKELETON, .cred = s->cred}};
	cleanup_fd int theirs = -1;
	int pair[2], e;

	/* One that is stopped makes it when it goes on: that may be long. */
	if (!proc_can_clone(parent) || parent->stopped)
		return -ESRCH;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return -errno;
	s->chan = pair[0];
	theirs = pair[1];
	fcntl(s->chan, F_SETFL, O_NONBLOCK);
	s->state = SKEL_MAKING;
	s->since_ms = clock_ms();
	__atomic_store_n(word_of(i), 0, __ATOMIC_SEQ_CST);
	e = watch_fd(s->chan, ON_SKEL, i, s->gen, EPOLLIN);
	if (e == 0)
		e = pkt_send_now(s->chan, &who, sizeof(who), &words_fd, 1);
	return e < 0 ? e : proc_tell(parent, &who, &theirs, 1);
}

void skel_work(void)
{
	late = close_fd(late);
	for (uint32_t i = 0; nused && i < SKELS_MAX; i++)
		if (skels[i].state == SKEL_WANTED && make(&skels[i]) < 0)
			skel_free(&skels[i]);
}

/* Its channel: it is warm, or it has ended. */
void skel_readable(uint32_t index, uint32_t gen)
{
	struct skel *s = &skels[index];
	struct sysio_pkt pkt;
	struct chan_msg c;
	int e;

	if (s->gen != gen)
		return;
	e = foreign_recv(s->chan, &c, sizeof(c), &pkt);
	if (e == -EAGAIN)
		return;
	foreign_pkt_close(&pkt);
	if (e < 0 || pkt.len == 0) {
		skel_free(s);
	} else if (pkt.len == sizeof(c) && c.type == CHAN_WARM && s->state == SKEL_MAKING) {
		s->pid = c.u.pid;
		s->state = SKEL_WARM;
	}
}

/*
 * It may have been stopped with all of its user's. To send each a SIGCONT would be news for the
 * node's event source every time, so only one that is late is looked at, and if it is stopped.
 */
static void wake_stopped(struct skel *s)
{
	char path[32], text[64], *p;
	cleanup_fd int fd = -1;
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d/stat", s->pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? 0 : read(fd, text, sizeof(text) - 1);
	text[n > 0 ? n : 0] = '\0';
	p = strstr(text, "(" CHAN_SKELETON_NAME ") T");
	if (p)
		own_kill(s->pid, SIGCONT);
}

int skel_tick(int ms)
{
	uint64_t now;

	if (!nused)
		return ms;
	now = clock_ms();
	for (uint32_t i = 0; i < SKELS_MAX; i++)
		if ((skels[i].state == SKEL_MAKING || skels[i].state == SKEL_WARM) &&
		    (now - skels[i].since_ms > SKEL_IDLE_MS ||
		     !proc_can_clone(proc_find(skels[i].parent))))
			skel_free(&skels[i]);
	for (uint32_t i = 0; i < SKELS_MAX; i++) {
		struct skel *s = &skels[i];

		if (s->state != SKEL_USED || !s->since_ms)
			continue;
		if (now - s->since_ms >= SKEL_LATE_MS) {
			wake_stopped(s);
			s->since_ms = 0;
		} else if (ms < 0 || ms > SKEL_LATE_MS) {
			ms = SKEL_LATE_MS;
		}
	}
	return ms < 0 || ms > SKEL_IDLE_MS / 4 ? SKEL_IDLE_MS / 4 : ms;
}

/* -- an arrival from one */

static struct skel *skel_for(const struct move *m)
{
	if (m->kind != MOVE_RFORK || !nused || lease_is_beyond(m->pid))
		return NULL;
	for (uint32_t i = 0; i < SKELS_MAX; i++)
		if (skels[i].state == SKEL_WARM && skels[i].parent == m->ppid &&
		    memcmp(&skels[i].cred, &m->cred, sizeof(m->cred)) == 0)
			return &skels[i];
	return NULL;
}

bool skel_take(struct move *m, const struct chan_clone *id)
{
	struct chan_msg who = {.type = CHAN_CLONE, .move_id = m->id, .u.clone = *id};
	struct skel *s = skel_for(m);
	struct proc *p;

	p = s ? proc_add(id->pid, PROC_ARRIVING) : NULL;
	if (!p)
		return false;
	p->id = *id;
	p->move = move_index(m) + 1;
	s->state = SKEL_USED;
	s->gen++;
	m->skel = (uint32_t)(s - skels) + 1;
	s->since_ms = clock_ms();
	if (proc_set_chan(p, take_fd(s->chan)) == 0 && proc_tell(p, &who, NULL, 0) == 0)
		return true;
	skel_release(m);
	proc_remove(p);
	return false;
}

void skel_release(struct move *m)
{
	if (m->skel)
		skel_free(&skels[m->skel - 1]);
	m->skel = 0;
}

/* -- the word */

void skel_arm(const struct move *m)
{
	if (m->skel)
		__atomic_store_n(word_of(m->skel - 1), m->id, __ATOMIC_SEQ_CST);
}

bool skel_ran(const struct move *m)
{
	return m->skel &&
	       __atomic_load_n(word_of(m->skel - 1), __ATOMIC_SEQ_CST) == CHAN_WORD_RAN(m->id);
}

bool skel_off(const struct move *m)
{
	uint64_t want = m->id;

	if (!m->skel)
		return true;
	/* 0: not armed yet, and it is not going to be. */
	return __atomic_compare_exchange_n(word_of(m->skel - 1), &want, 0, 0, __ATOMIC_SEQ_CST,
					   __ATOMIC_SEQ_CST) ||
	       want == 0;
}

void skel_close_later(int fd)
{
	close_fd(late);
	late = fd;
}
