/*
 * A process with its children is stopped: all are parked, parents first, until a look finds
 * nobody new, for who is parked forks no more. And what the first is lent of the others'
 * descriptors, so that it carries them. Library code; runs in whoever dumps or moves them.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "libbproc/local.h"
#include "vmadump/chan.h"
#include "vmadump/others.h"
#include "vmadump/tree.h"

#define PF_EXITING 0x4 /* of the kernel's include/linux/sched.h */
#define END_NAP_NS 1000000
#define END_NAPS 1000

int tree_fail(struct tree *t, int code, const char *fmt, ...)
{
	va_list ap;

	if (t->err) {
		t->err->code = code;
		va_start(ap, fmt);
		vsnprintf(t->err->text, sizeof t->err->text, fmt, ap);
		va_end(ap);
	}
	errno = code;
	return -1;
}

int tree_grow(struct tree *t, void *array, uint32_t n, uint32_t *room, size_t size)
{
	return others_grow(array, n, room, size) < 0 ? tree_fail(t, ENOMEM, "%s", strerror(ENOMEM))
						     : 0;
}

/* -- who is in it */

struct seen {
	char state, name[16];
	int pgid, sid, exit_signal, exit_code;
	int ends; /* it is in exit(2), and has no memory perhaps */
};

/* Fields 3, 5, 6, 9, 38 and 52 of proc(5)'s stat. 0: there is no such process. */
static int look_at(pid_t pid, struct seen *s)
{
	char path[40], text[2048], *p, *name;
	long field[53] = {0};
	int n = 4;
	FILE *f;
	size_t len;

	snprintf(path, sizeof path, "/proc/%d/stat", pid);
	f = fopen(path, "re");
	len = f ? fread(text, 1, sizeof text - 1, f) : 0;
	if (f)
		fclose(f);
	text[len] = 0;
	name = strchr(text, '(');
	p = strrchr(text, ')');
	if (!name || !p || p[1] != ' ')
		return 0;
	*p = 0;
	memset(s, 0, sizeof *s);
	snprintf(s->name, sizeof s->name, "%s", name + 1);
	s->state = p[2];
	for (p += 3; *p && n < 53; n++)
		field[n] = strtol(p, &p, 10);
	s->pgid = (int)field[5];
	s->sid = (int)field[6];
	s->ends = !!(field[9] & PF_EXITING);
	s->exit_signal = (int)field[38];
	s->exit_code = (int)field[52];
	return 1;
}

struct tree_member *tree_find(const struct tree *t, pid_t pid)
{
	for (uint32_t i = 0; i < t->n; i++)
		if (t->member[i].pid == pid)
			return &t->member[i];
	return NULL;
}

/* What is in the middle of its end cannot be stopped: in a moment it is a zombie. */
static void await_end(pid_t pid)
{
	const struct timespec nap = {.tv_nsec = END_NAP_NS};
	struct seen s;

	for (int i = 0; i < END_NAPS && look_at(pid, &s) && s.ends && s.state != 'Z'; i++)
		nanosleep(&nap, NULL);
}

/* 1: it is in; 0: it has ended and nobody waits for it; -1. */
static int add(struct tree *t, pid_t pid, uint32_t parent, unsigned copy)
{
	const unsigned most = t->leaves ? MOVE_TREE_MAX : TREE_MAX;
	const unsigned filters = !t->leaves ? FREEZE_FILTERS : t->judged ? FREEZE_JUDGED : 0;
	struct vmad_err why = {0};
	struct tree_member *m;
	struct seen s;
	int r = 0;

	if (t->n == most)
		return tree_fail(t, ENOTSUP, "it has more than %u descendants", most);
	if (tree_grow(t, &t->member, t->n, &t->room, sizeof *t->member) < 0)
		return -1;
	m = &t->member[t->n];
	*m = (struct tree_member){.pid = pid, .parent = parent, .kind = TREE_PROCESS};
	m->f.chan = m->f.far = m->f.other = -1;
	if (look_at(pid, &s) && s.state != 'Z')
		r = freeze_enter(&m->f, pid, copy | FREEZE_LOOKED | filters, t->leaves, &why);
	m->f.t.err = NULL;
	if (r < 0)
		await_end(pid);
	/* What ended while it was to be stopped is a zombie like others. */
	if (!look_at(pid, &s) || s.state == 'X') {
		freeze_free(&m->f);
		return parent == TREE_NO_PARENT ? tree_fail(t, ESRCH, "there is no process %d", pid)
						: 0;
	}
	if (s.state == 'Z' && parent != TREE_NO_PARENT) {
		freeze_free(&m->f);
		m->kind = TREE_ZOMBIE;
		m->status = (uint32_t)s.exit_code;
	} else if (r < 0) {
		freeze_free(&m->f);
		if (parent == TREE_NO_PARENT)
			return tree_fail(t, why.code, "%s", why.text);
		return tree_fail(t, why.code, "process %d: %.130s", pid, why.text);
	}
	m->pgid = s.pgid;
	m->sid = s.sid;
	m->exit_signal = s.exit_signal > 0 ? (uint32_t)s.exit_signal : 0;
	memcpy(m->name, s.name, sizeof m->name);
	t->n++;
	return 1;
}

/* How many children of member i were not known yet; -1. */
static int add_children(struct tree *t, uint32_t i, unsigned copy)
{
	int found = 0;

	for (uint32_t k = 0; k < t->member[i].f.t.n; k++) {
		char path[64];
		int pid, r = 0;
		FILE *f;

		snprintf(path, sizeof path, "/proc/%d/task/%d/children", t->member[i].pid,
			 t->member[i].f.t.task[k].tid);
		f = fopen(path, "re");
		if (!f)
			return tree_fail(t, ENOTSUP, "%s: %s; the kernel does not tell of children",
					 path, strerror(errno));
		while (r >= 0 && fscanf(f, "%d", &pid) == 1)
			if (!tree_find(t, pid) && (r = add(t, pid, i, copy)) > 0)
				found++;
		fclose(f);
		if (r < 0)
			return -1;
	}
	return found;
}

/* A leader that is not among them cannot be had: the number would be nobody's. */
static int check_places(struct tree *t)
{
	const struct tree_member *first = t->member;

	for (uint32_t i = 0; i < t->n; i++) {
		const struct tree_member *m = &t->member[i];
		uint32_t depth = 0;

		for (uint32_t p = i; p; p = t->member[p].parent)
			depth++;
		if (depth > TREE_DEPTH)
			return tree_fail(t, ENOTSUP, "process %d is more than %u generations away",
					 m->pid, TREE_DEPTH);
		if (m->sid != first->sid && !tree_find(t, m->sid))
			return tree_fail(t, ENOTSUP,
					 "process %d is in session %d, whose leader is gone",
					 m->pid, m->sid);
		if (m->pgid != first->pgid && !tree_find(t, m->pgid))
			return tree_fail(t, ENOTSUP,
					 "process %d is in process group %d, whose leader is gone",
					 m->pid, m->pgid);
	}
	return 0;
}

int tree_collect(struct tree *t, pid_t pid, unsigned copy)
{
	int found = 1;

	if (add(t, pid, TREE_NO_PARENT, copy) < 0)
		return -1;
	/* Who was adopted by one that had been looked at is found by the next look. */
	while (found) {
		found = 0;
		for (uint32_t i = 0; i < t->n; i++) {
			int r = add_children(t, i, copy);

			if (r < 0)
				return -1;
			found |= r > 0;
		}
	}
	/* Of what moves the leaders go along as ghosts. */
	return t->leaves ? 0 : check_places(t);
}

/* -- what somebody else has as well */

struct asked {
	void (*found)(uint32_t member, const char *text, void *arg);
	void *arg;
	struct tree *t;
	int (*words)(struct tree *t, void *arg); /* or NULL */
	void *words_arg;
	uint32_t *member; /* by the number that others.c knows it by; owned */
};

static void found_one(uint32_t goer, const char *text, void *arg)
{
	const struct asked *a = arg;

	a->found(a->member[goer], text, a->arg);
}

static int words_first(void *arg)
{
	const struct asked *a = arg;

	return a->words && a->words(a->t, a->words_arg) < 0 ? -ENOTSUP : 0;
}

static int ask_others(struct asked *a)
{
	struct tree *t = a->t;
	struct goer *goer = calloc(t->n, sizeof *goer);
	uint32_t n = 0;
	int r = -ENOMEM;

	a->member = calloc(t->n, sizeof *a->member);
	for (uint32_t i = 0; goer && a->member && i < t->n; i++) {
		const struct tree_member *m = &t->member[i];

		if (m->kind != TREE_PROCESS)
			continue;
		a->member[n] = i;
		goer[n++] = (struct goer){m->pid, {m->f.far, m->f.other}};
	}
	if (n)
		r = others_look(goer, n, OTHERS_MEMORY,
				&(struct others_told){found_one, words_first, a});
	free(goer);
	free(a->member);
	return r == -ENOMEM ? tree_fail(t, ENOMEM, "%s", strerror(ENOMEM)) : r;
}

int tree_others(struct tree *t, void (*found)(uint32_t member, const char *text, void *arg),
		void *arg)
{
	return ask_others(&(struct asked){.found = found, .arg = arg, .t = t});
}

static void keep_first(uint32_t member, const char *text, void *arg)
{
	struct tree *t = arg;

	if (!t->err || t->err->code)
		return;
	if (member)
		tree_fail(t, ENOTSUP, "process %d: %.130s", t->member[member].pid, text);
	else
		tree_fail(t, ENOTSUP, "%s", text);
}

int tree_cut_off(struct tree *t, int (*words)(struct tree *t, void *arg), void *arg)
{
	struct asked a = {keep_first, t, t, words, arg, NULL};
	int r;

	if (t->err)
		t->err->code = 0;
	r = ask_others(&a);
	if (r > 0)
		errno = ENOTSUP;
	return r ? -1 : 0;
}

/* -- what the first carries for others */

void tree_name_owner(struct tree *t)
{
	char rest[VMAD_TEXT_MAX];
	int fd, at = 0;

	if (!t->err || sscanf(t->err->text, "fd %d%n", &fd, &at) != 1 || fd < t->lent_lo ||
	    fd > t->lent_hi || !t->lent_lo)
		return;
	for (uint32_t i = 0; i < t->nopen; i++)
		if (t->open[i].as == fd) {
			memcpy(rest, t->err->text + at, sizeof rest - (size_t)at);
			snprintf(t->err->text, sizeof t->err->text, "process %d: fd %d%.120s",
				 t->member[t->open[i].member].pid, t->open[i].fd, rest);
			return;
		}
}

/* Memory that nobody has open: a file of its own, empty. Its pages go with the mappings. */
static int lend_memory(struct tree *t, struct tree_memory *m)
{
	int fd = memfd_create("shared", MFD_CLOEXEC), r;

	if (fd < 0)
		return tree_fail(t, errno, "memory: %s", strerror(errno));
	m->as = ++t->lent_hi;
	m->lent = 1;
	t->lent_lo = t->lent_lo ? t->lent_lo : m->as;
	r = chan_lend(t->member[0].f.chan, fd, m->as);
	close(fd);
	return r < 0 ? tree_fail(t, errno, "process %d: %s", t->member[0].pid, strerror(errno)) : 0;
}

static int lend_open(struct tree *t)
{
	int have = t->lent_lo;

	for (uint32_t i = 0; i < t->nopen && have <= t->lent_hi && have; i++) {
		const struct tree_open *o = &t->open[i];
		int pidfd, fd, r;

		if (o->as != have)
			continue;
		pidfd = (int)syscall(SYS_pidfd_open, t->member[o->member].pid, 0);
		fd = pidfd < 0 ? -1 : (int)syscall(SYS_pidfd_getfd, pidfd, o->fd, 0);
		if (pidfd >= 0)
			close(pidfd);
		if (fd < 0)
			return tree_fail(t, errno, "process %d: fd %d: %s",
					 t->member[o->member].pid, o->fd, strerror(errno));
		r = chan_lend(t->member[0].f.chan, fd, have);
		close(fd);
		if (r < 0)
			return tree_fail(t, errno, "process %d: %s", t->member[0].pid,
					 strerror(errno));
		have++;
		i = (uint32_t)-1; /* they are few, and in any order */
	}
	return 0;
}

int tree_lend(struct tree *t)
{
	int r = lend_open(t);

	for (uint32_t i = 0; r == 0 && t->leaves && i < t->nmemory; i++)
		if (t->memory[i].object && t->memory[i].as < 0)
			r = lend_memory(t, &t->memory[i]);
	return r;
}

void tree_free(struct tree *t)
{
	/* What each has changed of this process is put back in the order that undoes it. */
	for (uint32_t i = t->n; i-- > 0;) {
		freeze_free(&t->member[i].f);
		free(t->member[i].map);
	}
	free(t->member);
	free(t->open);
	free(t->memory);
}
