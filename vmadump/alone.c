/*
 * A process that goes alone: what would be cut off from others that stay (others.c), and when that
 * is looked for. Library code; runs in whoever dumps or moves it.
 *
 * To look at everybody takes as long as there are processes, and the one that goes is not to stand
 * still for a refusal: it is looked at once before it is stopped. What is found then is looked for
 * once more, since a program that begins another has all in common with it for a moment. When it
 * stands still, only what may be otherwise by then is left to be refused.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "vmadump/chan.h"
#include "vmadump/others.h"
#include "vmadump/tree.h"

struct alone {
	struct freeze *f;
	int (*word)(struct freeze *f, void *arg);
	void *arg;
};

static void first_only(uint32_t goer, const char *text, void *arg)
{
	const struct alone *a = arg;

	(void)goer;
	freeze_first(text, &a->f->t);
}

static int before(void *arg)
{
	const struct alone *a = arg;

	return a->word && a->word(a->f, a->arg) < 0 ? -ENOTSUP : 0;
}

static unsigned memory_too(const struct freeze *f)
{
	return f->flags & FREEZE_COPIES ? 0 : OTHERS_MEMORY;
}

static int look(const struct goer *g, unsigned flags, struct alone *a)
{
	struct trace *t = &a->f->t;
	int r;

	if (t->err)
		t->err->code = 0;
	r = others_look(g, 1, flags, &(struct others_told){first_only, before, a});
	if (r == -ENOMEM)
		return trace_fail(t, ENOMEM, "%s", strerror(ENOMEM));
	if (r > 0)
		errno = ENOTSUP;
	return r ? -1 : 0;
}

int others_blob(pid_t pid)
{
	char path[40], line[512];
	unsigned long at;
	int has = 0;
	FILE *f;

	snprintf(path, sizeof path, "/proc/%d/maps", pid);
	f = fopen(path, "re");
	while (f && !has && fgets(line, sizeof line, f))
		has = sscanf(line, "%lx-", &at) == 1 && at - BLOB_ADDR < BLOB_TRIES * BLOB_APART;
	if (f)
		fclose(f);
	return has;
}

int freeze_alone_ahead(struct freeze *f)
{
	const struct goer g = {.pid = f->t.pid, .hide = {-1, -1}};

	for (int i = 0; i < 2; i++)
		if (look(&g, memory_too(f), &(struct alone){.f = f}) == 0 || errno != ENOTSUP ||
		    others_blob(g.pid))
			return 0;
	errno = ENOTSUP;
	return -1;
}

int freeze_alone(struct freeze *f, int (*word)(struct freeze *f, void *arg), void *arg)
{
	const struct goer g = {.pid = f->t.pid, .hide = {f->far, f->other}};

	return look(&g, memory_too(f), &(struct alone){f, word, arg});
}

int freeze_word_of(struct freeze *f, uint32_t how, uint32_t flags, int order)
{
	struct chan_msg m = {
		.type = CHAN_DUMP, .flags = CHAN_DUMP_LOOK | how, .u.leave.flags = flags};
	int r = order < 0 ? chan_send_with(f->chan, &m, -1)
			  : chan_send_two(f->chan, &m, order, order);

	return r < 0 ? trace_fail(&f->t, errno, "process %d: %s", f->t.pid, strerror(errno))
		     : chan_answer(&f->t, f->chan, &m);
}

/* Memory that it shares with itself alone is told of where there is some: most have none. */
int freeze_word(struct freeze *f, uint32_t how, uint32_t flags)
{
	int order, r = freeze_word_of(f, how, flags, -1);

	order = r < 0 && errno == ENOTSUP ? tree_alone(f, !!(how & CHAN_DUMP_LEAVES)) : -1;
	if (order < 0)
		return r;
	r = freeze_word_of(f, how, flags, order);
	close(order);
	return r;
}

int vmad_alone(struct vmad_err *err)
{
	struct freeze f = {.t = {.err = err}};
	const struct goer g = {.pid = getpid(), .hide = {-1, -1}};

	return look(&g, 0, &(struct alone){.f = &f});
}
