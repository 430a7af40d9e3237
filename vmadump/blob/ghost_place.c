/*
 * Groups and sessions of those who stand in, and of what they are the parents of. Part
 * of the blob; runs in a ghost, or in what has just been cloned.
 */
#include "ghost.h"

/*
 * A group whose leader has ended lives on in its members, and here is none yet: its number is
 * taken by one that makes the group and stays until it has been joined.
 */
static long found_group(int pid, int pgid)
{
	struct clone_args ca;
	int down[2];
	char c = 0;
	long r, e;

	e = sys_pipe2(down, 0);
	if (e < 0)
		return e;
	memset(&ca, 0, sizeof ca);
	ca.set_tid = (uint64_t)&pgid;
	ca.set_tid_size = 1;
	r = sys_clone3(&ca, sizeof ca);
	if (r == 0) {
		sys_close(down[1]);
		sys_setpgid(0, 0);
		sys_read(down[0], &c, 1);
		sys_exit_group(0);
	}
	sys_close(down[0]);
	e = r;
	if (r > 0) {
		sys_setpgid((int)r, (int)r);
		e = sys_setpgid(pid, pgid);
	}
	sys_close(down[1]);
	if (r > 0)
		sys_wait4((int)r, NULL, __WALL, NULL);
	return e;
}

/* Its place among the sessions and groups of this machine. */
void take_place(int pid, int pgid, int sid, int found)
{
	if (sid == pid)
		sys_setsid();
	else if (pgid == pid)
		sys_setpgid(0, 0);
	else if (pgid > 0 && pgid != sys_getpgid(0) && sys_setpgid(0, pgid) == -EPERM && found &&
		 (!sid || sys_getsid(0) == sid))
		found_group(0, pgid);
}

/*
 * Its own place, or, as the kernel lets a parent do, its child's group: of one that is real here
 * and whose parent has said so where that is real.
 */
void ghost_place(struct blob *b, struct chan_msg *m)
{
	int pid = m->u.place.pid, pgid = m->u.place.pgid, sid = m->u.place.sid, own;
	int is = (int)sys_getpgid(pid);
	long r = 0;

	own = pid == (int)sys_getpid();
	if (m->u.place.was && is != m->u.place.was)
		r = -EAGAIN; /* it has another one meanwhile, and that is the younger */
	else if (own && sid == pid && sys_getsid(0) != sid)
		r = sys_setsid();
	else if (is != pgid)
		r = m->u.place.found ? found_group(own ? 0 : pid, pgid)
				     : sys_setpgid(own ? 0 : pid, pgid);
	m->type = CHAN_PLACED;
	m->err = r < 0 ? (int)-r : 0;
	chan_send(b, m);
}
