/*
 * vmad_look_pid() of a process and all that descend from it: could they leave together? Library
 * code; runs in whoever asks. They are stopped as if they were to leave (tree_away.c), each says
 * what keeps it, and all go on.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "libbproc/local.h"
#include "vmadump/chan.h"
#include "vmadump/tree.h"

struct asking {
	struct tree t;
	uint32_t members; /* without zombies */
	int nowhere;	  /* where their heads go; owned */
	unsigned away;
	void (*refused)(const char *text, void *arg);
	void *arg;
	int n;
};

/* What is in the way of member i, in whose descriptors there may be others'. */
static void tell(struct asking *a, uint32_t i, const char *text)
{
	struct vmad_err *err = a->t.err, one = {0};

	if (i)
		snprintf(one.text, sizeof one.text, "process %d: %.130s", a->t.member[i].pid, text);
	else
		snprintf(one.text, sizeof one.text, "%s", text);
	a->t.err = &one;
	if (!i)
		tree_name_owner(&a->t);
	a->t.err = err;
	a->refused(one.text, a->arg);
	a->n++;
}

static void tell_of(uint32_t i, const char *text, void *arg)
{
	tell(arg, i, text);
}

static int order_to(struct asking *a, uint32_t i)
{
	const struct chan_msg m = {.type = CHAN_LOOK, .u.leave.flags = a->away};

	return tree_tell(&a->t, i, a->members, &m, a->nowhere);
}

static int look_at(struct asking *a, uint32_t i)
{
	struct freeze *f = &a->t.member[i].f;
	struct vmad_err why = {0};
	struct chan_msg m;
	int r;

	if (order_to(a, i) < 0)
		return tree_fail(&a->t, errno, "process %d: %s", a->t.member[i].pid,
				 strerror(errno));
	f->t.err = &why;
	while ((r = chan_answer(&f->t, f->chan, &m)) == 0 && m.type == CHAN_REFUSED) {
		m.u.text[CHAN_TEXT_MAX - 1] = 0;
		tell(a, i, m.u.text);
	}
	f->t.err = NULL;
	if (r == 0)
		return 0;
	return tree_fail(&a->t, why.code, "process %d: %.130s", a->t.member[i].pid, why.text);
}

static int look_at_all(struct asking *a, pid_t pid)
{
	if (tree_collect(&a->t, pid, 0) < 0)
		return -1;
	for (uint32_t i = 0; i < a->t.n; i++)
		a->members += a->t.member[i].kind == TREE_PROCESS;
	if (a->members > MOVE_TREE_MAX)
		return tree_fail(&a->t, ENOTSUP, "it is %u processes; %u can move together",
				 a->members, MOVE_TREE_MAX);
	if (tree_others(&a->t, tell_of, a) < 0)
		return -1;
	if (a->members > 1 && (tree_find_shared(&a->t) < 0 || tree_lend(&a->t) < 0))
		return -1;
	for (uint32_t i = 0; i < a->t.n; i++)
		if (a->t.member[i].kind == TREE_PROCESS && look_at(a, i) < 0)
			return -1;
	return 0;
}

int tree_look(pid_t pid, unsigned away, int judged, void (*refused)(const char *text, void *arg),
	      void *arg, uint64_t *ret_us, struct vmad_err *err)
{
	struct vmad_err own = {0};
	struct asking a = {.t = {.leaves = 1, .away = !!away, .judged = judged, .err = &own},
			   .nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC),
			   .away = away,
			   .refused = refused,
			   .arg = arg};
	uint64_t since = freeze_now_us();
	int r = a.nowhere < 0 ? tree_fail(&a.t, errno, "/dev/null: %s", strerror(errno))
			      : look_at_all(&a, pid);

	tree_stay(&a.t);
	if (ret_us)
		*ret_us = freeze_now_us() - since;
	/* What keeps one from being stopped at all, or from sharing what it shares, keeps them. */
	if (r < 0 && own.code == ENOTSUP) {
		refused(own.text, arg);
		a.n++;
		r = 0;
	}
	if (err)
		*err = own;
	tree_free(&a.t);
	if (a.nowhere >= 0)
		close(a.nowhere);
	errno = own.code;
	return r < 0 ? -1 : a.n;
}
