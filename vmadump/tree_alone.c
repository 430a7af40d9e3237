/*
 * Memory that one process has mapped twice, or mapped and open: it is told what it shares with
 * itself, as one of a tree is what it shares with the others (tree_share.c). Library code; runs in
 * whoever dumps or moves it. Only where the process itself could not go without, or is looked at
 * ahead: to find it is to read /proc.
 */
#include <errno.h>
#include <stdlib.h>

#include "vmadump/tree.h"

int tree_alone(const struct freeze *f, int leaves)
{
	struct vmad_err unused;
	struct tree_member one = {
		.f = {.far = f->far, .other = f->other},
		.pid = f->t.pid,
		.parent = TREE_NO_PARENT,
		.kind = TREE_PROCESS,
	};
	struct tree t = {
		.member = &one, .n = 1, .leaves = leaves, .alone = 1, .err = &unused};
	int fd = -1, e = errno;

	if (tree_find_shared(&t) == 0 && t.nobjects)
		fd = tree_order_file(&t, 0);
	free(one.map);
	free(t.open);
	free(t.memory);
	errno = e;
	return fd;
}
