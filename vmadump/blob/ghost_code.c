/*
 * The blob's code in a ghost: as bytes of a file that all ghosts of this machine share, in place
 * of a copy of its own. Part of the blob; runs in a ghost that was its original here.
 */
#include "ghost.h"
#include "libbproc/local.h"

/* In place of 40 KiB of its own. Only if they are the same. */
static void share_code(struct blob *b, int fd)
{
	struct stat st;
	uint64_t len;
	long at;

	if (sys_fstat(fd, &st) < 0 || st.st_size <= 0 || st.st_size > (long)BLOB_CODE_MAX)
		return;
	len = ROUND_UP((uint64_t)st.st_size, 4096);
	/* Near, so that page tables are there: it moves to its place with its pages. */
	at = sys_mmap((void *)(b->base + (1ul << 20)), len, PROT_READ | PROT_EXEC,
		      MAP_PRIVATE | MAP_POPULATE, fd, 0);
	if (at < 0)
		return;
	if (memcmp((void *)at, (void *)b->base, (size_t)st.st_size) != 0 ||
	    sys_mremap((void *)at, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, (void *)b->base) < 0)
		sys_munmap((void *)at, len);
}

void code_share(struct ghost *g)
{
	if (g->code_fd < 0)
		return;
	share_code(g->b, g->code_fd);
	sys_close(g->code_fd);
	g->code_fd = -1;
}

/*
 * To compare and to map it is a quarter of what it takes to become a ghost. That of a child of
 * rfork, or of a program that was started on a node, may not be there for long, and stands in the
 * way of the parent's next: later.
 */
void code_come(struct ghost *g, int fd)
{
	g->code_fd = fd;
	if (g->b->exec_kind != MOVE_RFORK && g->b->exec_kind != MOVE_EXECMOVE) {
		code_share(g);
	} else if (fd < 3) { /* those are relayed */
		g->code_fd = (int)sys_fcntl(fd, F_DUPFD_CLOEXEC, 3);
		sys_close(fd);
	}
}
