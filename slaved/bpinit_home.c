/*
 * bpinit: what was born on a node comes home: into its ghost, or, of a child of rfork that nobody
 * has told of here, as a child of its parent's. Where neither is here, what was told of them was
 * lost with a bpslave; it is told again.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "slaved/bpinit.h"

static int64_t look_at_ms; /* when the first of them has waited long enough; 0: none waits */

void born_stdio(int32_t pid, int ret_fd[CHAN_STREAMS])
{
	struct proc *p = proc_find(pid);
	cleanup_fd int pidfd = -1;

	while (p && !p->in_place)
		p = proc_find(proc_parent(p->pid));
	if (p)
		pidfd = (int)syscall(SYS_pidfd_open, p->pid, 0);
	for (int i = 0; i < CHAN_STREAMS; i++) {
		ret_fd[i] = pidfd < 0 ? -1 : (int)syscall(SYS_pidfd_getfd, pidfd, i, 0);
		if (ret_fd[i] < 0)
			ret_fd[i] = open("/dev/null", O_RDWR | O_CLOEXEC);
	}
}

/* Nobody is left here whose child it would be. */
static bool is_orphan(const struct move *m)
{
	return m->ppid <= 1 || (!proc_find(m->ppid) && own_kill(m->ppid, 0) < 0 && errno == ESRCH);
}

/* Its ghost, which it would have had; it then arrives in that. */
static bool make_ghost(const struct move *m)
{
	struct chan_clone id = {.kind = CLONE_GHOST, .pid = m->pid, .pgid = m->pgid, .sid = m->sid};

	memcpy(id.cred.uid, m->cred.uid, sizeof(id.cred.uid));
	memcpy(id.cred.gid, m->cred.gid, sizeof(id.cred.gid));
	return proc_make(NULL, 0, &id, PROC_MAKING) == 0;
}

/*
 * The master passes on nothing that is told of a birth whose process is on its way here: it may
 * have run and ended before that. Its parent's comes again. But that may have ended meanwhile.
 */
bool home_waits(struct move *m)
{
	int64_t now = clock_ms();

	if (proc_can_clone(proc_find(m->ppid)))
		return false;
	if (!m->untold)
		m->untold = now + UNTOLD_MS;
	if (m->ppid > 1 && now < m->untold) {
		if (!look_at_ms || look_at_ms > m->untold)
			look_at_ms = m->untold;
		return true;
	}
	return is_orphan(m) && make_ghost(m);
}

int home_tick(int ms)
{
	int64_t now;
	int left;

	if (!look_at_ms)
		return ms;
	now = clock_ms();
	if (look_at_ms <= now) {
		look_at_ms = 0;
		arrive_progress(); /* who still waits says so again */
	}
	left = look_at_ms ? (int)(look_at_ms - now) + 1 : -1;
	return left < 0 ? ms : ms < 0 || ms > left ? left : ms;
}
