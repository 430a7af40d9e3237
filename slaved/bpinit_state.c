/*
 * bpinit: the state, as a new bpslave and a restarted master are told it after
 * INIT_HELLO: every process that a move made or left here, and every undecided move.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "slaved/bpinit.h"

/* /proc/PID/stat from behind the name, which may hold anything: " S ppid ..."; NULL: it has gone. */
static char *read_stat(int32_t pid, char *text, size_t size)
{
	char path[32], *end;
	cleanup_fd int fd = -1;
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, text, size - 1);
	if (n <= 0)
		return NULL;
	text[n] = '\0';
	end = strrchr(text, ')');
	return end ? end + 1 : NULL;
}

int32_t proc_parent(int32_t pid)
{
	char text[1024], *p = read_stat(pid, text, sizeof(text));
	int ppid = 0;

	return p && sscanf(p, " %*c %d", &ppid) == 1 ? ppid : 0;
}

/* The last field: how it ended. */
bool proc_zombie_status(int32_t pid, int *ret_status)
{
	char text[1024], *p = read_stat(pid, text, sizeof(text));

	if (!p || p[1] != 'Z')
		return false;
	*ret_status = (int)strtol(strrchr(p, ' '), NULL, 10);
	return true;
}

/* The signal of a stop that its parent has not waited for; 0: it has; -1: it is not stopped. */
int proc_stop(int32_t pid)
{
	char text[1024], *p = read_stat(pid, text, sizeof(text));

	return p && p[1] == 'T' ? (int)strtol(strrchr(p, ' '), NULL, 10) : -1;
}

/*
 * PROC_FREE: there is nothing to tell; else what it is to others. A ghost that turns back, or
 * that is being made, may be one as soon as this is told; one that asks to leave is real here
 * until the master has granted it, and then it is told with its move.
 */
static enum proc_state told_as(const struct proc *p)
{
	const struct move *m = move_of(p);

	switch (p->state) {
	case PROC_GHOST:
	case PROC_REAL:
		return p->state;
	case PROC_ARRIVING:
		return p->was_ghost ? PROC_GHOST : PROC_FREE;
	case PROC_MAKING:
		return p->id.kind == CLONE_GHOST && p->chan >= 0 ? PROC_GHOST : PROC_FREE;
	case PROC_LEAVING:
		return p->was_real && m && !m->id ? PROC_REAL : PROC_FREE;
	case PROC_FREE:
		break;
	}
	return PROC_FREE;
}

bool proc_state_msg(uint32_t *at, struct init_msg *m)
{
	for (; *at < procs_used; (*at)++) {
		const struct proc *p = &procs[*at];

		enum proc_state as = told_as(p);

		if (as == PROC_FREE)
			continue;
		(*at)++;
		m->move_id = as == PROC_REAL ? p->came : 0;
		m->pid = m->u.state.pid = p->pid;
		m->u.state.is_ghost = as == PROC_GHOST;
		m->u.state.ppid = proc_parent(p->pid);
		m->u.state.pgid = getpgid(p->pid);
		m->u.state.sid = getsid(p->pid);
		return true;
	}
	return false;
}

bool move_state_msg(uint32_t *at, struct init_msg *msg)
{
	static const uint32_t told[] = {
		[LEAVE_ASKED] = INIT_PHASE_ASKED,	  [LEAVE_EXEC] = INIT_PHASE_SENDING,
		[LEAVE_SENDING] = INIT_PHASE_SENDING,	  [LEAVE_SENT] = INIT_PHASE_SENT,
		[LEAVE_FAILED] = INIT_PHASE_FAILED,	  [LEAVE_GHOSTING] = INIT_PHASE_SENT,
		[LEAVE_ABORTING] = INIT_PHASE_FAILED,	  [ARRIVE_CHAIN] = INIT_PHASE_CHAIN,
		[ARRIVE_READY] = INIT_PHASE_READY,	  [ARRIVE_GHOST] = INIT_PHASE_ARRIVING,
		[ARRIVE_RESTORING] = INIT_PHASE_ARRIVING, [ARRIVE_DETACHING] = INIT_PHASE_ARRIVING,
		[ARRIVE_EXECING] = INIT_PHASE_ARRIVING,	  [ARRIVE_HELD] = INIT_PHASE_ARRIVING,
	};

	for (; *at < moves_used; (*at)++) {
		const struct move *m = &moves[*at];
		const struct proc *p = m->pid ? proc_find(m->pid) : NULL;

		if (m->phase == MOVE_NONE)
			continue;
		(*at)++;
		msg->move_id = m->id;
		msg->req_id = m->req_id;
		msg->pid = msg->u.state.pid = m->pid;
		msg->u.state.is_move = 1;
		msg->u.state.target = m->target;
		msg->flags = p && p->state == PROC_LEAVING && p->was_real ? EVF_MOVED : 0;
		msg->u.state.kind = m->kind;
		msg->u.state.phase = told[m->phase];
		if (m->phase == LEAVE_EXEC && !m->granted)
			msg->u.state.phase = INIT_PHASE_ASKED;
		msg->u.state.ppid = m->ppid;
		msg->u.state.pgid = m->pgid;
		msg->u.state.sid = m->sid;
		return true;
	}
	return false;
}
