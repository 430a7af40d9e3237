/*
 * bpslave: which nodes have the file that a process executes. BProc copies the
 * program with every move, so that nothing need be installed on a node; where the
 * very file is there all the same, its clean pages are not sent again. A target
 * says so with MoveRan; the source keeps the last answers, and drops one when a
 * restore there found another file (ESTALE).
 */
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bpslave.h"

#define KNOWN_MAX 256

struct known {
	int32_t node;
	bool used;
	struct exec_file file;
};
static struct known known[KNOWN_MAX];
static unsigned next_known;

static bool same_file(const struct exec_file *a, const struct exec_file *b)
{
	return a->size == b->size && a->mtime_ns == b->mtime_ns && strcmp(a->path, b->path) == 0;
}

static bool look(const char *path, struct exec_file *ret_file)
{
	struct stat st;

	if (stat(path, &st) < 0 || !S_ISREG(st.st_mode))
		return false;
	ret_file->size = (uint64_t)st.st_size;
	ret_file->mtime_ns = st.st_mtim.tv_sec * 1000000000ll + st.st_mtim.tv_nsec;
	return true;
}

void exec_of(int32_t host_pid, struct exec_file *ret_file)
{
	char link[32];
	ssize_t n;

	*ret_file = (struct exec_file){0};
	snprintf(link, sizeof(link), "/proc/%d/exe", host_pid);
	n = readlink(link, ret_file->path, sizeof(ret_file->path));
	/* What the link leads to is asked, not its text: that may name another file by now. */
	if (n <= 0 || n == (ssize_t)sizeof(ret_file->path) || !look(link, ret_file))
		ret_file->path[0] = '\0';
}

bool exec_is_here(const Bproc__ExecFile *file)
{
	struct exec_file f;

	return file && file->path[0] == '/' && look(file->path, &f) && f.size == file->size &&
	       f.mtime_ns == file->mtime_ns;
}

static struct known *find(int32_t node, const struct exec_file *file)
{
	for (int i = 0; i < KNOWN_MAX; i++)
		if (known[i].used && known[i].node == node && same_file(&known[i].file, file))
			return &known[i];
	return NULL;
}

bool exec_is_on(int32_t node, const struct exec_file *file)
{
	return file->path[0] && find(node, file);
}

void exec_note(int32_t node, const struct exec_file *file, bool has_it)
{
	struct known *k = file->path[0] ? find(node, file) : NULL;

	if (k && !has_it)
		k->used = false;
	if (k || !has_it || !file->path[0])
		return;
	known[next_known++ % KNOWN_MAX] = (struct known){.node = node, .used = true, .file = *file};
}
