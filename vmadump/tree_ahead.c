/*
 * A tree is looked at while it runs: who of those that stay has what it has open or mapped. To look
 * at everybody takes as long as there are processes, and nobody is to stand still for a refusal.
 * Library code; runs in whoever dumps or moves it.
 *
 * Who is listed may end or have children meanwhile: what others have is looked for twice, and what
 * was otherwise by then is found when all stand still, as ever (tree_cut_off()).
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "vmadump/others.h"
#include "vmadump/tree.h"

struct ahead {
	struct tree *t;
	struct goer *goer; /* malloc'd */
	uint32_t n, room;
};

static int add(struct ahead *a, pid_t pid)
{
	for (uint32_t i = 0; i < a->n; i++)
		if (a->goer[i].pid == pid)
			return 0;
	if (a->n == TREE_MAX || others_grow(&a->goer, a->n, &a->room, sizeof *a->goer) < 0)
		return -1;
	a->goer[a->n++] = (struct goer){.pid = pid, .hide = {-1, -1}};
	return 0;
}

static int add_children(struct ahead *a, pid_t pid)
{
	DIR *d = proc_dir(pid, "task");
	const char *name;
	int child, r = 0;

	while (d && r == 0 && proc_next(d, &name) >= 0) {
		char path[64];
		FILE *f;

		snprintf(path, sizeof path, "/proc/%d/task/%.12s/children", pid, name);
		f = fopen(path, "re");
		while (f && r == 0 && fscanf(f, "%d", &child) == 1)
			r = add(a, child);
		if (f)
			fclose(f);
	}
	if (d)
		closedir(d);
	return r;
}

static void found(uint32_t goer, const char *text, void *arg)
{
	const struct ahead *a = arg;

	if (a->t->err->code)
		return;
	if (goer)
		tree_fail(a->t, ENOTSUP, "process %d: %.130s", a->goer[goer].pid, text);
	else
		tree_fail(a->t, ENOTSUP, "%s", text);
}

/* 1: somebody has something of it. */
static int look(struct ahead *a, pid_t pid)
{
	a->t->err->code = 0;
	a->n = 0;
	if (add(a, pid) < 0)
		return 0;
	for (uint32_t i = 0; i < a->n; i++)
		if (add_children(a, a->goer[i].pid) < 0)
			return 0;
	if (others_look(a->goer, a->n, OTHERS_MEMORY | OTHERS_TREE,
			&(struct others_told){.found = found, .arg = a}) <= 0)
		return 0;
	for (uint32_t i = 0; i < a->n; i++)
		if (others_blob(a->goer[i].pid))
			return 0;
	return 1;
}

int tree_ahead(struct tree *t, pid_t pid)
{
	struct vmad_err scratch = {0}, *err = t->err;
	struct ahead a = {.t = t};
	int r;

	t->err = err ? err : &scratch;
	r = look(&a, pid) && look(&a, pid) ? -1 : 0;
	if (r == 0)
		*t->err = (struct vmad_err){0};
	t->err = err;
	free(a.goer);
	if (r < 0)
		errno = ENOTSUP;
	return r;
}
