/*
 * A tree of processes in one image: the records of it (doc/image.md, "Trees"), and what whoever
 * dumps it tells the blob of each member. What several of them have open, or one of
 * them has one end of, belongs to the first: it is handed the descriptors that it has not.
 */
#pragma once

#include "blob.h"
#include "image.h"

/* TAG_TREE, in the first process's image: this, then an entry for each process, that one first. */
#define TREE_HEAD 16u  /* u32 entries, u32 lowest number above all descriptors, 2 x u32 0 */
#define TREE_ENTRY 64u /* see enum tree_at */
#define TREE_MAX 4096u
#define TREE_DEPTH 24u
enum tree_at {
	TREE_PID = 0,
	TREE_PARENT = 4, /* index of its parent's entry, which is in front of it; first: ~0 */
	TREE_PGID = 8,
	TREE_SID = 12,
	TREE_KIND = 16,	       /* enum tree_kind */
	TREE_STATUS = 20,      /* of a zombie: the status word that wait() is to have */
	TREE_EXIT_SIGNAL = 24, /* what its parent is sent when it ends */
	TREE_NAME = 32,	       /* 16 bytes: of a zombie */
};
enum tree_kind { TREE_PROCESS = 1, TREE_ZOMBIE = 2 };
#define TREE_NO_PARENT 0xffffffffu

/* TAG_MEMORY, there as well: memory that mappings of several processes, or several mappings, share.
 */
#define MEMORY_LEN 24u /* u32 kind, u32 fd, u64 bytes, u64 0 */
#define MEMORY_MAX 65536u
enum memory_kind {
	MEMORY_NEW = 1, /* made anew; its pages come with the mappings */
	MEMORY_FD = 2,	/* the file that the first process has open as fd, its contents too; of a
			 * tree that moves with bytes: it is to be so long, and the pages come with
			 * the mappings */
};

/* TAG_MEMBER, in all others: u32 index of its entry, u32 pid of the first, u64 0 */
#define MEMBER_LEN 16u

/* What CHAN_DUMP's second descriptor holds: this, nmaps tree_map, nfds tree_fd by rising numbers,
 * plan, memory. */
struct tree_order {
	uint32_t index, first_pid;
	uint32_t nfds, nmaps;
	/* Contents of TAG_TREE, of the first, and of TAG_MEMORY; a move has no plan, and memory for
	 * each. */
	uint32_t plan_len, memory_len;
	uint32_t alone; /* it has no tree: nothing but its memory is told of */
	uint32_t pad;
};
#define TREE_FD_EXTRA 1u  /* handed to the first for this dump (CHAN_LEND) */
#define TREE_FD_INSIDE 2u /* its other end is in the tree: no stream of home's */
struct tree_fd {
	int32_t fd, as; /* as: the number that the first has it under; -1: its own business */
	uint32_t flags;
};
struct tree_map {
	uint64_t start;		/* of the mapping */
	uint32_t object, pages; /* index in TAG_MEMORY; 1: its pages go with this one */
};

struct dump;
/* dump_tree.c: reads the order from opt->order; then what it says. NULL: nothing. */
long tree_read(struct dump *d);
const struct tree_fd *tree_fd_of(const struct dump *d, int fd);
const struct tree_map *tree_map_at(const struct dump *d, uint64_t start);
uint64_t tree_recs_max(const struct dump *d);
uint8_t *clocks_rec(struct dump *d, uint8_t *rec);
uint8_t *vdso_rec(struct dump *d, uint8_t *rec);
uint8_t *tree_recs(struct dump *d, uint8_t *rec);
