/*
 * Which of those that have ended were waited for, when that is lost (doc/wire.md, section 9).
 * ProcReaped has no acknowledgement: nothing of a process is left where it was waited for, so
 * nobody there could keep the word. At home a zombie is left, and as long as it is there it is
 * asked about whenever somebody was away; the node where its parent is real answers by its /proc.
 * Runs in bpslave, of home and of a node.
 */
#include <string.h>

#include "bpslave_born.h"
#include "libbproc/log.h"

#define ZOMBIES_ONCE 256 /* in one message */

/* The mirrors of ends come after whoever was away; a parent may be moving. */
static const uint32_t look_ms[] = {100, 1000, 3000, 10000, 30000, 100000};
#define LOOKS (sizeof(look_ms) / sizeof(*look_ms))

static struct event *timer; /* owned */
static size_t looks;

/* -- home */

static struct {
	size_t n;
	Bproc__Zombie zombie[ZOMBIES_ONCE], *list[ZOMBIES_ONCE];
} out;

static void send_them(void)
{
	Bproc__Zombies m = BPROC__ZOMBIES__INIT;

	if (out.n == 0)
		return;
	m.n_zombie = out.n;
	m.zombie = out.list;
	master_send(&m.base);
	out.n = 0;
}

/* Whose child it is the master knows: only those of processes that are away are of interest. */
static void seen(const struct scan_proc *p, void *arg)
{
	Bproc__Zombie *z = &out.zombie[out.n];

	(void)arg;
	if (p->state != 'Z' || p->ppid <= 1)
		return;
	bproc__zombie__init(z);
	z->pid = p->pid;
	z->ppid = p->ppid;
	out.list[out.n++] = z;
	if (out.n == ZOMBIES_ONCE)
		send_them();
}

static void on_look(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	(void)arg;
	/* Without a master it is asked again when there is one. */
	if (!master_is_up() || scan_open_home() < 0)
		return;
	scan_each(seen, NULL);
	scan_close();
	send_them();
	if (++looks < LOOKS)
		start_timer(timer, look_ms[looks]);
}

void zombies_ask(void)
{
	if (slave.node != HOME_NODE)
		return;
	if (!timer)
		timer = new_timer(on_look, NULL);
	looks = 0;
	if (timer)
		start_timer(timer, look_ms[0]);
}

/* -- the node */

/*
 * If its parent runs here and has no such child, it has waited for it. While it leaves, or is a
 * ghost, that is for another node to say. What was born here since, under the same number, is told
 * before this, or is there.
 */
static bool was_waited_for(const Bproc__Zombie *z)
{
	const struct born *parent = born_find(z->ppid);
	struct scan_proc p;

	if (!parent || parent->away || parent->leaving || parent->parked || parent->ended)
		return false;
	return !born_find(z->pid) && scan_stat(z->ppid, &p) == 0 && p.state != 'Z' &&
	       scan_stat(z->pid, &p) < 0;
}

void zombies_on_tell(const Bproc__Zombies *m)
{
	if (slave.node == HOME_NODE)
		return;
	init_take();
	source_take();
	born_flush();
	for (size_t i = 0; i < m->n_zombie; i++) {
		struct born *b = born_find(m->zombie[i]->pid);

		/* It has ended and gone, and that news is still on its way to here. */
		if (b && b->ended && !b->reap) {
			look_free(b);
			continue;
		}
		if (was_waited_for(m->zombie[i])) {
			log_debug("process %d has been waited for: told again", m->zombie[i]->pid);
			tell_reaped(m->zombie[i]->pid);
		}
	}
}
