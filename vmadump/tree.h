/*
 * A process and all that descend from it, stopped together: tree_collect.c stops them, tree.c
 * dumps and tree_away.c moves them, tree_share.c finds what they share. Library code, not
 * installed.
 */
#pragma once

#include "vmadump/blob/tree.h"
#include "vmadump/freeze.h"

/* One descriptor of one member. */
struct tree_open {
	uint32_t member;
	int32_t fd;
	uint64_t dev, ino, rdev;
	uint32_t mode, access; /* S_IF…; O_ACCMODE, of a pipe */
	char kind[24];	       /* of what has no inode of its own: "anon_inode:[eventpoll]" */
	uint32_t description;  /* index of the first one that shares it */
	int32_t as;	       /* the first process's number for it; -1 */
};

struct tree_member {
	struct freeze f; /* chan -1: a zombie */
	pid_t pid, pgid, sid;
	uint32_t parent, kind, status, exit_signal;
	char name[16];
	struct tree_map *map; /* malloc'd: mappings of memory that is shared */
	uint32_t nmaps;
};

struct tree_memory {
	uint64_t dev, ino, bytes;
	uint32_t mappings;		   /* how many there are */
	uint32_t object;		   /* index in the image, plus 1 */
	uint64_t covered_from, covered_to; /* pages that go with a mapping before */
	int32_t as;			   /* the first process's descriptor of it; -1 */
	int lent;			   /* as is of an empty file, which is to be it */
};

struct tree {
	struct tree_member *member; /* malloc'd */
	uint32_t n, room;
	struct tree_open *open; /* malloc'd, by member and number */
	uint32_t nopen, open_room;
	struct tree_memory *memory;
	uint32_t nmemory, memory_room, nobjects;
	int32_t lent_lo, lent_hi; /* numbers that the first is lent others' descriptors under */
	int32_t fd_base;
	int leaves, away; /* by a move; from a node, where only pipes are streams of home */
	int judged;	  /* of a move: their seccomp filters are known to allow it */
	int alone;	  /* one process, for the sake of its memory: tree_alone() */
	struct vmad_err *err;
};

int tree_fail(struct tree *t, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* realloc() to n + 1 of size bytes; -1 with err filled. */
int tree_grow(struct tree *t, void *array, uint32_t n, uint32_t *room, size_t size);

/* tree_share.c: fills open, memory and map of a tree that stands still. */
int tree_find_shared(struct tree *t);
/* What the blob of member i is to be told, as a file; -1. */
int tree_order_file(struct tree *t, uint32_t i);

struct chan_msg;
/* tree_away.c: m to member i of so many that leave, with fd, and that file if it is not alone. */
int tree_tell(struct tree *t, uint32_t i, uint32_t members, const struct chan_msg *m, int fd);

/*
 * tree_alone.c: what a process that goes by itself has to be told, if it has memory that it has
 * mapped twice, or open as well: the file, or -1. It is parked, or, of a look ahead, runs.
 */
int tree_alone(const struct freeze *f, int leaves);

/* tree_ahead.c: while it runs: 0, or refused for what others have as well. */
int tree_ahead(struct tree *t, pid_t pid);

/* tree_collect.c: NULL: it is none of them. */
struct tree_member *tree_find(const struct tree *t, pid_t pid);
/* The same: pid and all that descend from it, parked; -1: those that are in it are. */
int tree_collect(struct tree *t, pid_t pid, unsigned copy);
/*
 * What of them, who stand still, others have that are not of the tree: found for each, and how
 * many; -1. Or 0, or refused by the first.
 */
int tree_others(struct tree *t, void (*found)(uint32_t member, const char *text, void *arg),
		void *arg);
/* words: what is asked of them before others are, if there is something to ask others about. */
int tree_cut_off(struct tree *t, int (*words)(struct tree *t, void *arg), void *arg);
/* The first is lent what it does not have, and of what leaves a file for all memory that is
 * shared. */
int tree_lend(struct tree *t);
/* err says "fd 30 is …" of one that was lent: its own process and number are named. */
void tree_name_owner(struct tree *t);
void tree_free(struct tree *t);

/* tree.c */
struct pack_child;
long tree_dump(pid_t pid, int fd, unsigned copy, unsigned flags, struct pack_child *pack,
	       uint64_t *ret_us, struct vmad_err *err);

/* tree_away.c: all that are parked to leave go on where they are. */
void tree_stay(struct tree *t);
/* tree_look.c: vmad_look_pid() of a tree; away: CHAN_GO_* of one that is not at home. */
int tree_look(pid_t pid, unsigned away, int judged, void (*refused)(const char *text, void *arg),
	      void *arg, uint64_t *ret_us, struct vmad_err *err);

/* tree_revive.c: the first member of a tree is there and has said so in m; all others come. */
struct chan_msg;
int tree_revive(struct trace *first, int chan, struct chan_msg *m);
/* revive.c: what is restored and waits is taken out of the blob, and runs. */
int revive_let_go(struct trace *t, int chan, const struct chan_msg *m);
