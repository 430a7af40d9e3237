/*
 * Would the seccomp filters of a process keep it from moving, and of those that are to go with
 * it? Asked before anybody is stopped, of this machine's bpslave, which alone may read them
 * (doc/move.md). In every process that uses the library.
 */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "libbproc/api.h"
#include "libbproc/local.h"
#include "libbproc/sysio.h"

int api_look_filters(int pid, unsigned flags)
{
	const struct local_look ask = {.flags = flags};
	cleanup_fd int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	struct client c;
	int e;

	if (pidfd < 0)
		return 0; /* whoever looks at it will say why */
	e = client_begin(&c, LOCAL_LOOK, &ask, sizeof(ask), pidfd, api_err());
	return e < 0 ? e : client_finish(&c, NULL, 1, api_err());
}

struct family {
	int pid[MOVE_TREE_MAX], n;
};

/* More than can move together are whoever stops them to find. */
static void add(struct family *f, int pid)
{
	if (f->n < MOVE_TREE_MAX)
		f->pid[f->n++] = pid;
}

/* Of all its threads. */
static void add_children(struct family *f, int pid)
{
	char path[64];
	struct dirent *e;
	DIR *dir;
	int child;

	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	dir = opendir(path);
	while (dir && (e = readdir(dir))) {
		FILE *in;

		if (e->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "/proc/%d/task/%.12s/children", pid, e->d_name);
		in = fopen(path, "re");
		while (in && fscanf(in, "%d", &child) == 1)
			add(f, child);
		if (in)
			fclose(in);
	}
	if (dir)
		closedir(dir);
}

/* It has ended: what it had is nobody's any more. */
static bool is_gone(int pid)
{
	char path[40], text[512], *at;
	size_t n;
	FILE *in;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	in = fopen(path, "re");
	n = in ? fread(text, 1, sizeof(text) - 1, in) : 0;
	if (in)
		fclose(in);
	text[n] = '\0';
	at = strrchr(text, ')');
	return !at || at[1] != ' ' || at[2] == 'Z' || at[2] == 'X';
}

/* Who is forked meanwhile has what its parent has. */
int api_look_tree(int pid, unsigned flags)
{
	struct family f = {{pid}, 1};
	struct bproc_err why;
	int e;

	for (int i = 0; i < f.n; i++) {
		e = api_look_filters(f.pid[i], flags);
		if (e < 0 && i == 0)
			return e;
		why = *api_err();
		if (e < 0 && !is_gone(f.pid[i]))
			return bproc_err_set(api_err(), -e, "process %d: %.130s", f.pid[i],
					     why.text);
		add_children(&f, f.pid[i]);
	}
	return 0;
}
