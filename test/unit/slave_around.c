/*
 * What a bpslave has around its births that the tests of these have no use for: nobody is in the
 * midst of his end, no timer runs by itself, and the master is there.
 */
#include <errno.h>

#include "slaved/bpslave_born.h"

int scan_ids(int32_t pid, struct scan_proc *ret)
{
	return scan_stat(pid, ret);
}

bool scan_is_dying(int32_t pid)
{
	(void)pid;
	return false;
}

size_t scan_args(int32_t pid, char *buf, size_t size)
{
	(void)pid;
	(void)buf;
	(void)size;
	return 0;
}

bool master_is_up(void)
{
	return true;
}

struct event *new_timer(event_callback_fn fn, void *arg)
{
	(void)fn;
	(void)arg;
	return NULL;
}

void start_timer(struct event *ev, uint32_t ms)
{
	(void)ev;
	(void)ms;
}

void init_take(void)
{
}

uint32_t gen_of(int32_t pid)
{
	(void)pid;
	return 0;
}

void gen_forget(int32_t pid)
{
	(void)pid;
}

void move_after_ghost(const struct init_msg *m)
{
	(void)m;
}

int proc_read_leader(int32_t pid, struct init_chain *ret)
{
	(void)pid;
	(void)ret;
	return -ENOENT;
}

void source_hint(void)
{
}
